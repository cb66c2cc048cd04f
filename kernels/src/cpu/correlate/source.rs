//! The source of a sum over taps, and its rows as operands of products.

use super::super::blocking::Blocking;
use super::super::lines::{line_along_channels, line_with_next};
use super::super::operands::Operands;

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
    pub(super) fn reads(self, index: usize, tap: usize) -> Option<usize> {
        let place = self.first + (index * self.step + tap) as isize;
        usize::try_from(place).ok().filter(|&place| place < self.source)
    }

    /// Length of the part of the source that `count` neighbouring outputs read.
    pub(super) fn span(self, count: usize) -> usize {
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
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    /// Index of the first tap of the first output; outside of the values where that tap lies in the padding.
    pub(super) first: isize,
    /// Distance between successive values of the tap along x, and between rows along y.
    pub(super) plane: usize,
    pub(super) row: usize,
}

/// What a product sums over: neighbouring channels, or successive positions along z.
#[derive(Clone, Copy)]
pub(super) enum Terms {
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
    pub(super) fn scratch(&self, operands: Operands, planes: usize, rows: usize) -> usize {
        if self.needs_copy(operands) {
            let [_, y, z] = self.axes;
            (planes * y.span(rows) + 1) * z.span(z.count) * self.channels
        } else {
            0
        }
    }

    /// Offset of the source value (n, x, y, z).
    pub(crate) fn offset(&self, n: usize, x: usize, y: usize, z: usize) -> usize {
        let [ax, ay, az] = self.axes;
        (((n * ax.source + x) * ay.source + y) * az.source + z) * self.channels
    }

    /// Makes readable what `rows` output rows from (n, x, y) need of the taps `tap..tap + planes` along x.
    pub(super) fn rows<'b>(
        &'b self,
        scratch: &'b mut [f32],
        [n, x, y]: [usize; 3],
        rows: usize,
        (tap, planes): (usize, usize),
        (blocking, terms): (Blocking, Terms),
    ) -> Rows<'b> {
        let [ax, ay, az] = self.axes;
        if !self.needs_copy(blocking.operands) {
            // Rows outside are never read, so that the index may lie outside as well.
            let corner = ((n * ax.source) as isize + ax.first + (x * ax.step + tap) as isize)
                * ay.source as isize
                + ay.first
                + (y * ay.step) as isize;
            return Rows {
                values: self.values,
                first: (corner * az.source as isize + az.first) * self.channels as isize,
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
        Rows { values: scratch, first: 0, plane: lines * row, row }
    }
}

/// Bytes of source rows that a task holds at a time: half of a small second-level cache.
const ROWS_IN_CACHE: usize = 192 * 1024;

/// Output rows that a task treats together.
pub(super) fn row_block(source: &Source<'_>, planes: usize) -> usize {
    let [_, y, z] = source.axes;
    let line = planes * z.span(z.count) * source.channels * size_of::<f32>();
    let lines = (ROWS_IN_CACHE / line.max(1)).clamp(y.taps, y.span(y.count).max(y.taps));
    ((lines - y.taps) / y.step + 1).clamp(1, y.count.max(1))
}
