//! Filtering across x and y alone, for few channels: F(2, 3) along these two axes, while the taps along z are summed.
//!
//! Lines along z stay what they are: the transforms are sums of whole lines, which fill vectors whatever the channels are,
//! and the products run over (tap z, channel). For 2 x 2 lines of outputs 16 products of lines replace 36. Filtering z as
//! well would save more products, but with few channels its transforms cost more than that.
#![expect(clippy::needless_range_loop, reason = "the indices are frequencies, and several arrays share them")]

use super::super::blocking::{Blocking, split};
use super::super::buffer::{Buffer, Shared};
use super::super::correlate::{Axis, Source};
use super::super::operands::Operands;
use super::super::simd::{Vector, for_each_path};
use super::super::tile::{Segment, Start, Tile};
use super::transforms::{input_1d, wide};
use crate::settings::Settings;

const FREQUENCIES: usize = 16;

/// Values of transformed lines that a task holds at a time: 64 KiB.
const VALUES_PER_BLOCK: usize = 16 * 1024;

/// Sums of a weight gradient that are kept apart: fixed, so that results do not depend on the number of threads.
const MOST_CHUNKS: usize = 16;

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

    /// Rows of tiles along y, of the whole batch.
    fn lanes(&self) -> usize {
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

    /// Transforms the inputs of `count` tiles from (lane, y) on, as (frequency, tile, position, channel).
    fn transform(&self, (lane, y0): (usize, usize), count: usize, zeros: &[f32], out: &mut [f32]) {
        let [ax, ay, az] = self.source.axes;
        let channels = self.source.channels;
        let (n, tile_x) = (lane / self.number[0], lane % self.number[0]);
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
    fn output_lines(&self, (lane, tile_y): (usize, usize)) -> [Option<usize>; 4] {
        let [cx, cy, cz] = self.source.axes.map(|axis| axis.count);
        let (n, tile_x) = (lane / self.number[0], lane % self.number[0]);
        std::array::from_fn(|index| {
            let (x, y) = (2 * tile_x + index / 2, 2 * tile_y + index % 2);
            (x < cx && y < cy).then(|| ((n * cx + x) * cy + y) * cz * self.columns)
        })
    }

    /// A line of zeros in place of those outside.
    fn zeros(&self) -> Buffer {
        Buffer::zeros(self.source.axes[2].source * self.source.channels)
    }

    /// What transforms, products and their like of one block read and write, by (lane, first tile along y, tiles).
    fn blocks(&self, lane: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (number, block) = (self.number[1], self.block);
        (0..number).step_by(block).map(move |first| (lane, first, block.min(number - first)))
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
    settings.parallel(tiles.lanes(), |lane| {
        let zeros = tiles.zeros();
        let mut input = Buffer::new(FREQUENCIES * tiles.input_frequency());
        let mut products = Buffer::new(FREQUENCIES * tiles.output_frequency());
        let mut tile_products = tiles.blocking.products();
        for (lane, first, count) in tiles.blocks(lane) {
            tiles.transform((lane, first), count, &zeros, &mut input);
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
                let lines = tiles.output_lines((lane, first + tile)).map(|first| first.map(line));
                let from = &products[tile * tiles.rows * columns..];
                // SAFETY: 16 lines of products; `columns` are whole vectors.
                unsafe {
                    add_lines(tiles.blocking.path, from, tiles.output_frequency(), bias, length, lines);
                }
            }
        }
    });
}

/// As [`super::super::correlate::correlate_gradient`].
pub(crate) fn correlate_gradient(
    settings: &Settings,
    source: &Source<'_>,
    gradient: &[f32],
    columns: usize,
    write: impl Fn([usize; 3], usize, usize, &[f32]),
) {
    let tiles = Tiles::new(settings, source, columns);
    let vectors = columns / tiles.blocking.lanes;
    let (terms, slab) = (tiles.terms(), tiles.terms() * columns);
    let length = source.axes[2].count * columns;
    let chunks = tiles.lanes().min(MOST_CHUNKS);
    let mut sums = Buffer::zeros(chunks * FREQUENCIES * slab);
    let all = Shared::new(&mut sums);
    settings.parallel(chunks, |chunk| {
        let zeros = tiles.zeros();
        let no_outputs = Buffer::zeros(length);
        let mut input = Buffer::new(FREQUENCIES * tiles.input_frequency());
        let mut outputs = Buffer::new(FREQUENCIES * tiles.output_frequency());
        let mut tile_products = tiles.blocking.products();
        // SAFETY: every chunk has its own sums.
        let sums = Shared::new(unsafe { all.part(chunk * FREQUENCIES * slab, FREQUENCIES * slab) });
        let lanes = tiles.lanes() * chunk / chunks..tiles.lanes() * (chunk + 1) / chunks;
        for (lane, first, count) in lanes.flat_map(|lane| tiles.blocks(lane)) {
            tiles.transform((lane, first), count, &zeros, &mut input);
            for frequency in outputs.chunks_exact_mut(tiles.output_frequency()) {
                for line in frequency.chunks_exact_mut(tiles.rows * columns).take(count) {
                    line[length..].fill(0.0);
                }
            }
            let shared = Shared::new(&mut outputs);
            for tile in 0..count {
                let lines = tiles.output_lines((lane, first + tile));
                let lines =
                    lines.map(|first| first.map_or(&no_outputs[..], |first| &gradient[first..][..length]));
                let at = tile * tiles.rows * columns;
                // SAFETY: four lines of `length` values, for which there is room in a line of each frequency.
                unsafe {
                    transform_gradients(
                        tiles.blocking.path,
                        &lines,
                        length,
                        shared,
                        at,
                        tiles.output_frequency(),
                    );
                }
            }
            for f in 0..FREQUENCIES {
                split(terms, tiles.blocking.most_rows(vectors), |row, rows, repeat| {
                    let tile = Tile {
                        a: &input,
                        a_first: (f * tiles.input_frequency() + row) as isize,
                        a_row: 1,
                        a_term: source.axes[2].step * source.channels,
                        b: &outputs[f * tiles.output_frequency()..],
                        b_term: columns,
                        segments: &[Segment { a: 0, b: 0 }],
                        terms: count * tiles.rows,
                        start: Start::Out,
                        out: sums,
                        out_first: f * slab + row * columns,
                        out_row: columns,
                        columns,
                        repeat,
                    };
                    // SAFETY: all lines are transformed, and zeros where there are no outputs; the sums are the chunk's.
                    unsafe { tile_products.compute(rows, vectors, &tile) };
                });
            }
        }
    });
    let mut values = vec![0.0_f32; columns];
    let mut of_taps = vec![[0.0_f64; 9]; columns];
    for term in 0..terms {
        of_taps.fill([0.0; 9]);
        for f in 0..FREQUENCIES {
            for (column, of_taps) in of_taps.iter_mut().enumerate() {
                let of_chunk = |chunk: usize| {
                    f64::from(sums[(chunk * FREQUENCIES + f) * slab + term * columns + column])
                };
                let sum: f64 = (0..chunks).map(of_chunk).sum();
                for (tap, of_tap) in of_taps.iter_mut().enumerate() {
                    *of_tap += WIDEN[f / 4][tap / 3] * WIDEN[f % 4][tap % 3] * sum;
                }
            }
        }
        for tap in 0..9 {
            values.iter_mut().zip(&of_taps).for_each(|(value, of_taps)| *value = of_taps[tap] as f32);
            write([tap / 3, tap % 3, term / source.channels], term % source.channels, 0, &values);
        }
    }
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

/// The first values of the vectors that cover `length` values, the last two of which may share some.
#[inline(always)]
fn steps<V: Vector>(length: usize) -> impl Iterator<Item = usize> {
    debug_assert!(length == 0 || length >= V::LANES);
    (0..length).step_by(V::LANES).map(move |at| at.min(length - V::LANES))
}

for_each_path!(
    transform_lines,
    transform_lines_body,
    (lines: &[[&[f32]; 4]], length: usize, out: Shared<'_, f32>, first: usize, apart: [usize; 2])
);

/// `B^T d B` of the 4 x 4 lines of each of several tiles along y: four lines along x for each of y, of which neighbouring
/// tiles share two. Tiles and frequencies are so far `apart` in `out`.
///
/// # Safety
/// Lines of `length` values, at least a vector of them, and room for as many of each tile and frequency from `first` on.
#[inline(always)]
unsafe fn transform_lines_body<V: Vector>(
    lines: &[[&[f32]; 4]],
    length: usize,
    out: Shared<'_, f32>,
    first: usize,
    [tile, frequency]: [usize; 2],
) {
    let tiles = lines.len() / 2 - 1;
    debug_assert!(lines.iter().flatten().all(|line| line.len() == length));
    debug_assert!(first + (tiles - 1) * tile + (FREQUENCIES - 1) * frequency + length <= out.len());
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        let out = out.at(first);
        for at in steps::<V>(length) {
            let mut known: [[V; 4]; 2] = [along_x(&lines[0], at), along_x(&lines[1], at)];
            for number in 0..tiles {
                let next = [along_x(&lines[2 * number + 2], at), along_x(&lines[2 * number + 3], at)];
                for x in 0..4 {
                    let values = [known[0][x], known[1][x], next[0][x], next[1][x]];
                    for (y, value) in input_1d(values).into_iter().enumerate() {
                        value.store(out.add(number * tile + (4 * x + y) * frequency + at));
                    }
                }
                known = next;
            }
        }
    }
}

/// `B^T d` of four lines. No closure: compiled for itself it would lack the instructions of the vector.
#[inline(always)]
unsafe fn along_x<V: Vector>([d0, d1, d2, d3]: &[&[f32]; 4], at: usize) -> [V; 4] {
    // SAFETY: the lines have a vector at `at`, and the caller has the instructions.
    unsafe {
        input_1d([
            V::load(d0.as_ptr().add(at)),
            V::load(d1.as_ptr().add(at)),
            V::load(d2.as_ptr().add(at)),
            V::load(d3.as_ptr().add(at)),
        ])
    }
}

for_each_path!(
    transform_gradients,
    transform_gradients_body,
    (lines: &[&[f32]; 4], length: usize, out: Shared<'_, f32>, first: usize, frequency: usize)
);

/// `A y A^T` of 2 x 2 lines.
///
/// # Safety
/// As [`transform_lines_body`].
#[inline(always)]
unsafe fn transform_gradients_body<V: Vector>(
    lines: &[&[f32]; 4],
    length: usize,
    out: Shared<'_, f32>,
    first: usize,
    frequency: usize,
) {
    debug_assert!(lines.iter().all(|line| line.len() == length));
    debug_assert!(first + (FREQUENCIES - 1) * frequency + length <= out.len());
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        let out = out.at(first);
        for at in steps::<V>(length) {
            let mut along_x = [[V::zero(); 4]; 2];
            for y in 0..2 {
                let (first, second) = (lines[y].as_ptr().add(at), lines[2 + y].as_ptr().add(at));
                along_x[y] = wide(V::load(first), V::load(second));
            }
            for x in 0..4 {
                for (y, value) in wide(along_x[0][x], along_x[1][x]).into_iter().enumerate() {
                    value.store(out.add((4 * x + y) * frequency + at));
                }
            }
        }
    }
}

for_each_path!(
    add_lines,
    add_lines_body,
    (from: &[f32], frequency: usize, bias: &[f32], length: usize, out: [Option<&mut [f32]>; 4])
);

/// 2 x 2 lines of `bias + A^T m A`.
///
/// # Safety
/// 16 lines of `length` values of which the first begins `from`, `frequency` apart; the columns of `bias` are whole vectors,
/// and `length` is a multiple of them.
#[inline(always)]
unsafe fn add_lines_body<V: Vector>(
    from: &[f32],
    frequency: usize,
    bias: &[f32],
    length: usize,
    mut out: [Option<&mut [f32]>; 4],
) {
    debug_assert!((FREQUENCIES - 1) * frequency + length <= from.len());
    debug_assert!(bias.len().is_multiple_of(V::LANES) && length.is_multiple_of(bias.len()));
    debug_assert!(out.iter().flatten().all(|line| line.len() == length));
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        for row in (0..length).step_by(bias.len()) {
            for column in (0..bias.len()).step_by(V::LANES) {
                let (at, start) = (row + column, V::load(bias.as_ptr().add(column)));
                let mut along_y = [[V::zero(); 2]; 4];
                for x in 0..4 {
                    let mut m = [V::zero(); 4];
                    for y in 0..4 {
                        m[y] = V::load(from.as_ptr().add((4 * x + y) * frequency + at));
                    }
                    along_y[x] = narrow(m);
                }
                for y in 0..2 {
                    let sums = narrow([along_y[0][y], along_y[1][y], along_y[2][y], along_y[3][y]]);
                    for (x, sum) in sums.into_iter().enumerate() {
                        if let Some(line) = &mut out[2 * x + y] {
                            start.add(sum).store(line.as_mut_ptr().add(at));
                        }
                    }
                }
            }
        }
    }
}

/// `A^T m`.
#[inline(always)]
unsafe fn narrow<V: Vector>([m0, m1, m2, m3]: [V; 4]) -> [V; 2] {
    // SAFETY: the caller has the instructions.
    unsafe { [m0.add(m1).add(m2), m1.sub(m2).sub(m3)] }
}
