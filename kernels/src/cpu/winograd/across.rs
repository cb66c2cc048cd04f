//! Filtering across x and y alone, for few channels: F(2, 3) along these two axes, while the taps along z are summed.
//!
//! Lines along z stay what they are: the transforms are sums of whole lines, which fill vectors whatever the channels are,
//! and the products run over (tap z, channel). For 2 x 2 lines of outputs 16 products of lines replace 36. Filtering z as
//! well would save more products, but with few channels its transforms cost more than that.

mod gradient;
mod lines;

pub(crate) use gradient::correlate_gradient;

use super::super::blocking::{Blocking, split};
use super::super::buffer::{Buffer, Shared};
use super::super::correlate::{Axis, Source};
use super::super::operands::Operands;
use super::super::tile::{Segment, Start, Tile};
use crate::settings::Settings;
use lines::{add_lines, transform_lines};

const FREQUENCIES: usize = 16;

/// Values of transformed lines that a task holds at a time: 64 KiB.
const VALUES_PER_BLOCK: usize = 16 * 1024;

/// `G`: the weights of frequencies as sums of taps.
const WIDEN: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// Channels in or out up to which this is faster than filtering all axes.
const MOST_CHANNELS: usize = 8;

/// Whether this way is fastest for a source and its columns, which are those of `places` neighbouring outputs. A kernel that is
/// flat along z has no axis more to filter.
pub(crate) fn suits(settings: &Settings, source: &Source<'_>, columns: usize, places: usize) -> bool {
    let [x, y, z] = source.axes;
    let three = |axis: Axis| axis.taps == 3 && axis.step == 1 && axis.count >= 2;
    let lanes = settings.path().lanes();
    let (flat, few) = (z.taps == places, source.channels.min(columns / places) <= MOST_CHANNELS);
    Operands::of(settings) == Operands::Single
        && three(x)
        && three(y)
        && z.count >= 1
        // Without a stride all of a line is read, which is a vector or more.
        && z.step == places
        && (flat || (z.taps == places + 2 && few))
        && [lanes, 2 * lanes, 4 * lanes].contains(&columns)
        && (4..=4 * columns).contains(&source.channels)
        && z.source * source.channels >= lanes
}

/// The lines of outputs in tiles of 2 x 2 along x and y.
struct Tiles<'a> {
    source: Source<'a>,
    columns: usize,
    blocking: Blocking,
    /// Tiles along x and y.
    number: [usize; 2],
    /// Outputs of a line and as many more as its padding holds, so that the outputs of neighbouring lines are equally far
    /// apart.
    rows: usize,
    /// Values of a transformed line.
    line: usize,
    /// Tiles along y that are treated together.
    block: usize,
}

impl<'a> Tiles<'a> {
    fn new(settings: &Settings, source: &Source<'a>, columns: usize) -> Self {
        let [x, y, z] = source.axes;
        let rows = z.count + z.taps.saturating_sub(z.step).div_ceil(z.step);
        let line = rows * z.step * source.channels;
        let number = [x, y].map(|axis| axis.count.div_ceil(2));
        let values = FREQUENCIES * (line + rows * columns);
        Self {
            source: *source,
            columns,
            blocking: Blocking::new(settings),
            number,
            rows,
            line,
            block: (VALUES_PER_BLOCK / values).clamp(1, number[1]),
        }
    }

    /// Strips of tiles along y, of the whole batch.
    fn strips(&self) -> usize {
        self.source.batch * self.number[0]
    }

    /// Values of the lines of a block for one frequency. The last outputs, in the padding, read beyond the last line.
    fn input_frequency(&self) -> usize {
        self.block * self.line + self.source.axes[2].taps * self.source.channels
    }

    fn output_frequency(&self) -> usize {
        self.block * self.rows * self.columns
    }

    fn terms(&self) -> usize {
        self.source.axes[2].taps * self.source.channels
    }

    /// Transforms the inputs of `count` tiles from (strip, y) on, as (frequency, tile, position, channel).
    fn transform(&self, (strip, y0): (usize, usize), count: usize, zeros: &[f32], out: &mut [f32]) {
        let [ax, ay, az] = self.source.axes;
        let channels = self.source.channels;
        let (n, tile_x) = (strip / self.number[0], strip % self.number[0]);
        let before = az.first.min(0).unsigned_abs();
        let from = az.first.max(0) as usize;
        let span = (az.count - 1) * az.step + az.taps;
        let inside = span.saturating_sub(before).min(az.source.saturating_sub(from)) * channels;
        let before = before * channels;
        for frequency in out.chunks_exact_mut(self.input_frequency()) {
            for line in frequency.chunks_exact_mut(self.line).take(count) {
                line[..before].fill(0.0);
                line[before + inside..].fill(0.0);
            }
            frequency[count * self.line..].fill(0.0);
        }
        let lines: Vec<[&[f32]; 4]> = (0..2 * count + 2)
            .map(|line_y| {
                std::array::from_fn(|line_x| {
                    let place = |axis: Axis, at: usize| {
                        let place = axis.first + at as isize;
                        usize::try_from(place).ok().filter(|&place| place < axis.source)
                    };
                    match (place(ax, 2 * tile_x + line_x), place(ay, 2 * y0 + line_y)) {
                        (Some(x), Some(y)) => {
                            &self.source.values[self.source.offset(n, x, y, from)..][..inside]
                        }
                        _ => &zeros[..inside],
                    }
                })
            })
            .collect();
        let apart = [self.line, self.input_frequency()];
        // SAFETY: every line has `inside` values, for which there is room in the lines of each frequency.
        unsafe { transform_lines(self.blocking.path, &lines, inside, Shared::new(out), before, apart) };
    }

    /// The four lines of values of a tile's outputs in an array of all outputs; none are those outside.
    fn output_lines(&self, (strip, tile_y): (usize, usize)) -> [Option<usize>; 4] {
        let [cx, cy, cz] = self.source.axes.map(|axis| axis.count);
        let (n, tile_x) = (strip / self.number[0], strip % self.number[0]);
        std::array::from_fn(|index| {
            let (x, y) = (2 * tile_x + index / 2, 2 * tile_y + index % 2);
            (x < cx && y < cy).then(|| ((n * cx + x) * cy + y) * cz * self.columns)
        })
    }

    /// A line of zeros in place of those outside.
    fn zeros(&self) -> Buffer {
        Buffer::zeros(self.source.axes[2].source * self.source.channels)
    }

    /// The blocks of a strip: (strip, first tile along y, tiles).
    fn blocks(&self, strip: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (number, block) = (self.number[1], self.block);
        (0..number).step_by(block).map(move |first| (strip, first, block.min(number - first)))
    }
}

/// As [`super::super::correlate::correlate`], for outputs that fill `out`.
pub(crate) fn correlate(
    settings: &Settings,
    source: &Source<'_>,
    columns: usize,
    weight: impl Fn([usize; 3], usize, usize) -> f32,
    bias: &[f32],
    out: Shared<'_, f32>,
) {
    let tiles = Tiles::new(settings, source, columns);
    let weights = transformed_weights(&tiles, weight);
    let vectors = columns / tiles.blocking.lanes;
    let start = vec![0.0; columns];
    let length = source.axes[2].count * columns;
    let slab = tiles.terms() * columns;
    settings.parallel(tiles.strips(), |strip| {
        let zeros = tiles.zeros();
        let mut input = Buffer::new(FREQUENCIES * tiles.input_frequency());
        let mut products = Buffer::new(FREQUENCIES * tiles.output_frequency());
        let mut tile_products = tiles.blocking.products();
        for (strip, first, count) in tiles.blocks(strip) {
            tiles.transform((strip, first), count, &zeros, &mut input);
            let shared = Shared::new(&mut products);
            for f in 0..FREQUENCIES {
                split(count * tiles.rows, tiles.blocking.most_rows(vectors), |row, rows, repeat| {
                    let step = source.axes[2].step * source.channels;
                    let tile = Tile {
                        a: &input,
                        a_first: (f * tiles.input_frequency() + row * step) as isize,
                        a_row: step,
                        a_term: 1,
                        b: &weights[f * slab..][..slab],
                        b_term: columns,
                        segments: &[Segment { a: 0, b: 0 }],
                        terms: tiles.terms(),
                        start: Start::Columns(&start),
                        out: shared,
                        out_first: f * tiles.output_frequency() + row * columns,
                        out_row: columns,
                        columns,
                        repeat,
                    };
                    // SAFETY: all lines are transformed, with room for what the last outputs read; the products are this
                    // task's.
                    unsafe { tile_products.compute(rows, vectors, &tile) };
                });
            }
            for tile in 0..count {
                // SAFETY: every line of outputs belongs to one tile.
                let line = |first| unsafe { out.part(first, length) };
                let lines = tiles.output_lines((strip, first + tile)).map(|first| first.map(line));
                let from = &products[tile * tiles.rows * columns..];
                // SAFETY: 16 lines of products; `columns` are whole vectors.
                unsafe {
                    add_lines(tiles.blocking.path, from, tiles.output_frequency(), bias, length, lines);
                }
            }
        }
    });
}

/// The weights of all frequencies, (frequency, tap z, channel, column).
fn transformed_weights(tiles: &Tiles<'_>, weight: impl Fn([usize; 3], usize, usize) -> f32) -> Buffer {
    let (terms, columns, channels) = (tiles.terms(), tiles.columns, tiles.source.channels);
    let mut out = Buffer::new(FREQUENCIES * terms * columns);
    for (term, column) in (0..terms).flat_map(|term| (0..columns).map(move |column| (term, column))) {
        let (z, channel) = (term / channels, term % channels);
        let taps: [f64; 9] =
            std::array::from_fn(|tap| f64::from(weight([tap / 3, tap % 3, z], channel, column)));
        for f in 0..FREQUENCIES {
            let of_tap = |(tap, value): (usize, &f64)| WIDEN[f / 4][tap / 3] * WIDEN[f % 4][tap % 3] * value;
            out[(f * terms + term) * columns + column] =
                taps.iter().enumerate().map(of_tap).sum::<f64>() as f32;
        }
    }
    out
}
