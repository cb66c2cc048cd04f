//! Sums over taps of a channels-last array: what convolution, its input gradient and transposed convolution have in
//! common, and the weight gradient of all three.

mod gradient;

pub(crate) use gradient::correlate_gradient;

use super::bf16::{Operands, line_along_channels, line_with_next, store_weight};
use super::buffer::{Buffer, Shared};
use super::tile::{Blocking, Segment, Start, Tile, split};
use crate::Path;
use crate::threads::parallel;

/// How the outputs of one axis read the source: output `i` reads `first + i step ..` and on, `taps` neighbours, of
/// which those outside the source count as zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) taps: usize,
    pub(crate) first: isize,
    pub(crate) step: usize,
    /// Size of the source.
    pub(crate) source: usize,
    /// Number of outputs.
    pub(crate) count: usize,
}

impl Axis {
    /// Index into the source that `tap` of output `index` reads, if it lies inside.
    fn reads(self, index: usize, tap: usize) -> Option<usize> {
        let place = self.first + (index * self.step + tap) as isize;
        usize::try_from(place).ok().filter(|&place| place < self.source)
    }

    /// Length of the part of the source that `count` neighbouring outputs read.
    fn span(self, count: usize) -> usize {
        (count - 1) * self.step + self.taps
    }

    /// Whether no output reads beyond the source.
    fn stays_inside(self) -> bool {
        self.first >= 0 && self.first as usize + self.span(self.count) <= self.source
    }
}

/// Where the outputs of one axis lie in the array that is written: at `first + i step` of `size`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) size: usize,
}

/// The source of a sum over taps: a channels-last array and how it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) axes: [Axis; 3],
}

/// Rows of the source as the tiles read them: the source itself, or a copy with zeros around it, in the operands of the
/// product.
struct Rows {
    start: *const f32,
    /// Distance between successive values of the tap along x, and between rows along y.
    plane: usize,
    row: usize,
}

/// What a product sums over: neighbouring channels, or successive positions along z.
#[derive(Clone, Copy)]
enum Terms {
    Channels,
    Positions,
}

impl Terms {
    /// Words per position of the rows.
    fn width(self, operands: Operands, channels: usize) -> usize {
        match self {
            Self::Channels => operands.words(channels),
            Self::Positions => channels,
        }
    }
}

impl Source<'_> {
    fn needs_copy(&self, operands: Operands) -> bool {
        operands != Operands::Single || !self.axes[2].stays_inside()
    }

    /// Values of scratch that `rows` output rows of one output plane need for `planes` taps along x: the rows, and a
    /// line that is not converted yet.
    fn scratch(&self, operands: Operands, planes: usize, rows: usize) -> usize {
        if self.needs_copy(operands) {
            let [_, y, z] = self.axes;
            (planes * y.span(rows) + 1) * z.span(z.count) * self.channels
        } else {
            0
        }
    }

    /// Offset of the source value (n, x, y, z).
    fn offset(&self, n: usize, x: usize, y: usize, z: usize) -> usize {
        let [ax, ay, az] = self.axes;
        (((n * ax.source + x) * ay.source + y) * az.source + z) * self.channels
    }

    /// Makes readable what `rows` output rows from (n, x, y) need of the taps `tap..tap + planes` along x.
    fn rows(
        &self,
        scratch: &mut [f32],
        [n, x, y]: [usize; 3],
        rows: usize,
        (tap, planes): (usize, usize),
        (blocking, terms): (Blocking, Terms),
    ) -> Rows {
        let [ax, ay, az] = self.axes;
        if !self.needs_copy(blocking.operands) {
            // Rows outside are never read, so that the address may lie outside as well.
            let corner = ((n * ax.source) as isize + ax.first + (x * ax.step + tap) as isize)
                * ay.source as isize
                + ay.first
                + (y * ay.step) as isize;
            let offset = (corner * az.source as isize + az.first) * self.channels as isize;
            return Rows {
                start: self.values.as_ptr().wrapping_offset(offset),
                plane: ay.source * az.source * self.channels,
                row: az.source * self.channels,
            };
        }
        let span = az.span(az.count);
        let length = span * self.channels;
        let row = span * terms.width(blocking.operands, self.channels);
        let before = az.first.min(0).unsigned_abs();
        let from = az.first.max(0) as usize;
        let inside = span.saturating_sub(before).min(az.source.saturating_sub(from));
        let copied = before * self.channels..(before + inside) * self.channels;
        let lines = ay.span(rows);
        let (scratch, unconverted) = scratch.split_at_mut(scratch.len() - length);
        let how = (blocking.path, blocking.operands);
        for plane in 0..planes {
            let Some(source_x) = ax.reads(x, tap + plane) else { continue };
            for line in 0..lines {
                let Some(source_y) = ay.reads(y, line) else { continue };
                let to = &mut scratch[(plane * lines + line) * row..][..row];
                let offset = self.offset(n, source_x, source_y, from.min(az.source - 1));
                let single = blocking.operands == Operands::Single;
                if let (Operands::Pairs | Operands::Rounded, Terms::Channels) = (blocking.operands, terms) {
                    let width = terms.width(blocking.operands, self.channels);
                    let (inner, end) = (before * width, (before + inside) * width);
                    to[..inner].fill(0.0);
                    let line = &self.values[offset..offset + copied.len()];
                    line_along_channels(how, line, self.channels, &mut to[inner..end]);
                    to[end..].fill(0.0);
                    continue;
                }
                let padded = if single { &mut *to } else { &mut *unconverted };
                padded[..copied.start].fill(0.0);
                padded[copied.clone()].copy_from_slice(&self.values[offset..offset + copied.len()]);
                padded[copied.end..].fill(0.0);
                if !single {
                    line_with_next(how, unconverted, (self.channels, az.step), to);
                }
            }
        }
        Rows { start: scratch.as_ptr(), plane: lines * row, row }
    }
}

/// Weights of a sum over taps, as the tiles read them: `[group][tap x][tap y][tap z][channel in][column of group]`
/// (in bf16 two channels to a word), a group being the columns of one tile, filled up with zeros.
pub(crate) struct Packed {
    values: Buffer,
    vectors: usize,
    group: usize,
    columns: usize,
    blocking: Blocking,
}

impl Packed {
    /// Packs `weight(tap, channel in, column)`.
    pub(crate) fn new(
        path: Path,
        rows: usize,
        taps: [usize; 3],
        channels: usize,
        columns: usize,
        weight: impl Fn([usize; 3], usize, usize) -> f32 + Sync,
    ) -> Self {
        let blocking = Blocking::of_neighbours(path);
        let vectors = blocking.vectors(rows, columns);
        let group = vectors * blocking.lanes;
        let groups = columns.div_ceil(group);
        let [tx, ty, tz] = taps;
        let words = blocking.operands.words(channels);
        let slab = ty * tz * words * group;
        let mut values = Buffer::new(groups * tx * slab);
        let shared = Shared::new(&mut values);
        parallel(groups * tx, |index| {
            let (first, x) = (index / tx * group, index % tx);
            // SAFETY: every index has its own slab.
            let slab = unsafe { shared.part(index * slab, slab) };
            slab.fill(0.0);
            for (tap, rows) in slab.chunks_exact_mut(words * group).enumerate() {
                for (channel, j) in
                    (0..channels).flat_map(|c| (0..group.min(columns - first)).map(move |j| (c, j)))
                {
                    let weight = weight([x, tap / tz, tap % tz], channel, first + j);
                    // SAFETY: every weight has its own place.
                    unsafe {
                        store_weight(blocking.operands, rows.as_mut_ptr(), (channel, j, group), weight)
                    };
                }
            }
        });
        Self { values, vectors, group, columns, blocking }
    }
}

/// Bytes of source rows that a task holds at a time: half of a small second-level cache.
const ROWS_IN_CACHE: usize = 192 * 1024;

/// Output rows that a task treats together.
fn row_block(source: &Source<'_>, planes: usize) -> usize {
    let [_, y, z] = source.axes;
    let line = planes * z.span(z.count) * source.channels * size_of::<f32>();
    let lines = (ROWS_IN_CACHE / line.max(1)).clamp(y.taps, y.span(y.count).max(y.taps));
    ((lines - y.taps) / y.step + 1).clamp(1, y.count.max(1))
}

/// Writes `out[place] = bias + sum over taps and channels of source * weights` for all outputs of the source's axes.
/// `out` is (batch, place x, place y, place z, column).
pub(crate) fn correlate(
    source: &Source<'_>,
    weights: &Packed,
    bias: &[f32],
    out: Shared<'_, f32>,
    places: [Place; 3],
) {
    let [ax, ay, az] = source.axes;
    let channels = source.channels;
    let columns = weights.columns;
    let mut padded_bias = bias.to_vec();
    padded_bias.resize(columns.next_multiple_of(weights.group), 0.0);
    let block = row_block(source, ax.taps);
    let blocks = ay.count.div_ceil(block);
    let Packed { vectors, group, blocking, .. } = *weights;
    let [px, py, pz] = places;
    let width = blocking.operands.words(channels);
    parallel(source.batch * ax.count * blocks, |task| {
        let (plane, y0) = (task / blocks, task % blocks * block);
        let (n, x) = (plane / ax.count, plane % ax.count);
        let lines = block.min(ay.count - y0);
        let mut scratch = Buffer::new(source.scratch(blocking.operands, ax.taps, lines));

        let how = (blocking, Terms::Channels);
        let rows = source.rows(&mut scratch, [n, x, y0], lines, (0, ax.taps), how);
        let mut segments = Vec::with_capacity(ax.taps * ay.taps);
        for (index, first) in (0..columns).step_by(group).enumerate() {
            let slab = &weights.values[index * ax.taps * ay.taps * az.taps * width * group..];
            for line in 0..lines {
                segments.clear();
                for (tx, ty) in (0..ax.taps).flat_map(|tx| (0..ay.taps).map(move |ty| (tx, ty))) {
                    if ax.reads(x, tx).is_some() && ay.reads(y0 + line, ty).is_some() {
                        segments.push(Segment {
                            a: tx * rows.plane + (line * ay.step + ty) * rows.row,
                            b: (tx * ay.taps + ty) * az.taps * width * group,
                        });
                    }
                }
                let line_out =
                    ((n * px.size + px.first + x * px.step) * py.size + py.first + (y0 + line) * py.step)
                        * pz.size
                        + pz.first;
                split(az.count, blocking.most_rows(vectors), |z, count, repeat| {
                    let tile = Tile {
                        a: rows.start.wrapping_add(z * az.step * width),
                        a_row: az.step * width,
                        a_term: 1,
                        b: slab.as_ptr(),
                        b_term: group,
                        segments: &segments,
                        terms: az.taps * width,
                        start: Start::Columns(padded_bias[first..].as_ptr()),
                        out: out.at((line_out + z * pz.step) * columns + first),
                        out_row: pz.step * columns,
                        columns: columns - first,
                        repeat,
                    };
                    // SAFETY: the segments name rows that exist, `slab` has group columns per term, the outputs
                    // of this line belong to this task alone.
                    unsafe { blocking.function(count, vectors)(&tile) };
                });
            }
        }
    });
}
