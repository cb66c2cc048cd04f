//! The rows of tiles of a filtered convolution, and the transform of their inputs.

use super::super::blocking::Blocking;
use super::super::correlate::{Axis, Source};
use super::super::operands::Layout;
use super::filter::Filtered;
use super::transforms::{Lines, Target, transform_input};

/// Values of transformed input that a task holds at a time: 128 KiB.
const VALUES_PER_BLOCK: usize = 32 * 1024;

/// How the outputs are cut into rows of tiles along z.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) source: Source<'a>,
    pub(super) blocking: Blocking,
    pub(super) filtered: Filtered,
    pub(super) tiles: [usize; 3],
    /// Channels filled up to whole vectors.
    pub(super) padded: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(source: &Source<'a>, blocking: Blocking, filtered: Filtered) -> Self {
        let mut tiles = source.axes.map(|axis| axis.count.div_ceil(2));
        if filtered != Filtered::Volume {
            tiles[0] = source.axes[0].count;
        }
        let padded = source.channels.next_multiple_of(blocking.lanes);
        Self { source: *source, blocking, filtered, tiles, padded }
    }

    pub(super) fn frequencies(&self) -> usize {
        self.filtered.frequencies()
    }

    pub(super) fn count(&self) -> usize {
        self.source.batch * self.tiles[0] * self.tiles[1]
    }

    /// Outputs of a tile.
    pub(super) fn outputs(&self) -> usize {
        if self.filtered == Filtered::Volume { 8 } else { 4 }
    }

    /// (n, first output x, first output y) of a row. Neighbouring rows are neighbours along x.
    pub(super) fn place(&self, row: usize) -> [usize; 3] {
        let [tx, ty, _] = self.tiles;
        let step_x = if self.filtered == Filtered::Volume { 2 } else { 1 };
        [row / (tx * ty), row % tx * step_x, row / tx % ty * 2]
    }

    /// Rows per block, so that a block's transformed values of `padded` channels stay in cache; but no fewer than
    /// `fewest` tiles, where every block passes over all weights or all of their sums.
    pub(super) fn per_block(&self, padded: usize, fewest: usize) -> usize {
        let tiles = (VALUES_PER_BLOCK / (self.frequencies() * padded)).max(fewest).max(14);
        let rows = (tiles / self.tiles[2]).max(1);
        // The inputs that successive blocks share are copied.
        if self.filtered.taps() > 1 { 2 * rows } else { rows }
    }

    /// Transforms the inputs of the row of tiles at a place. `out` has room for them.
    pub(super) fn transform(
        &self,
        layout: Layout,
        [n, x, y]: [usize; 3],
        scratch: &mut [f32],
        out: Target<'_>,
    ) {
        let [ax, ay, az] = self.source.axes;
        let channels = self.source.channels;
        let line = az.source * self.padded;
        let (zeros, scratch) = scratch.split_at_mut(line);
        zeros.fill(0.0);
        let mut lines = [&*zeros; 16];
        let mut copies = scratch.chunks_exact_mut(line);
        let flat = self.filtered != Filtered::Volume;
        let count = if flat { 4 } else { 16 };
        for (index, to) in lines[..count].iter_mut().enumerate() {
            // The last tile of an odd size reads beyond what its outputs need; zeros do there.
            let (i, j) = (index / 4, index % 4);
            let at = |axis: Axis, place: isize| {
                usize::try_from(axis.first + place).ok().filter(|&place| place < axis.source)
            };
            let (Some(x), Some(y)) = (at(ax, (x + i) as isize), at(ay, (y + j) as isize)) else { continue };
            let from = &self.source.values[((n * ax.source + x) * ay.source + y) * az.source * channels..]
                [..az.source * channels];
            *to = if self.padded == channels {
                from
            } else {
                let copy = copies.next().expect("the scratch has room for all lines of a tile");
                for (to, from) in copy.chunks_exact_mut(self.padded).zip(from.chunks_exact(channels)) {
                    to[..channels].copy_from_slice(from);
                    to[channels..].fill(0.0);
                }
                copy
            };
        }
        let lines = Lines { lines: &lines, channels: self.padded, first: az.first, size: az.source };
        // SAFETY: every line has `az.source` positions of `padded` channels; the caller has room for the tiles.
        unsafe { transform_input(self.blocking.path, layout, flat, &lines, self.tiles[2], out) };
    }

    /// Values of scratch that [`Self::transform`] needs.
    pub(super) fn scratch(&self) -> usize {
        let lines = if self.padded == self.source.channels { 1 } else { 17 };
        lines * self.source.axes[2].source * self.padded
    }
}
