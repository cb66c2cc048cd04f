//! 3x3x3 convolution of stride 1 by Winograd's minimal filtering F(2x2x2, 3x3x3).
//!
//! Outputs are computed in tiles of 2x2x2 from 4x4x4 inputs. Along each axis, input, weight and output are transformed
//! so that four products replace six; in three dimensions 64 replace 216, and each of the 64 "frequencies" is a matrix
//! product of its own, (tiles x channels in) by (channels in x channels out). The same transforms serve the weight
//! gradient. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016):
//!
//! - input `B^T d`: (d0 - d2, d1 + d2, d2 - d1, d1 - d3)
//! - weight `G g`: (g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2)
//! - output `A^T m`: (m0 + m1 + m2, m1 - m2 - m3)
#![expect(clippy::needless_range_loop, reason = "the indices are frequencies, and several arrays share them")]

use super::buffer::{Buffer, Shared};
use super::correlate::Source;
use super::simd::{Vector, for_each_path};
use super::tile::{Blocking, Segment, Start, Tile, split};
use super::vectorise;
use crate::Path;
use crate::threads::parallel;

/// Products per tile.
const FREQUENCIES: usize = 64;

/// Below this, transforming the weights costs more than the filtering saves.
const FEWEST_OUTPUTS: usize = 800;

/// Whether the minimal filtering is faster than the plain sum over taps for these sizes. It is exact algebra, and in
/// f32 its rounding errors are of the same size.
pub(crate) fn suits(source: &Source<'_>, columns: usize) -> bool {
    let three = source.axes.iter().all(|axis| axis.taps == 3 && axis.step == 1);
    let outputs: usize = source.axes.iter().map(|axis| axis.count).product();
    let tiled: usize = source.axes.iter().map(|axis| axis.count.next_multiple_of(2)).product();
    three
        && source.channels >= 8
        && columns >= 8
        && 2 * outputs >= tiled
        && source.batch * tiled >= FEWEST_OUTPUTS
}

/// Whether the weight gradient is better computed so, too: it needs sums for all frequencies per chunk.
pub(crate) fn suits_gradient(source: &Source<'_>, columns: usize) -> bool {
    suits(source, columns) && chunks(source) >= 2
}

fn chunks(source: &Source<'_>) -> usize {
    let positions: usize = source.axes.iter().map(|axis| axis.count).product();
    (source.batch * positions / POSITIONS_PER_CHUNK).min(MOST_CHUNKS)
}

const POSITIONS_PER_CHUNK: usize = 4096;
const MOST_CHUNKS: usize = 8;
/// Values of transformed input that a task holds at a time: 128 KiB.
const VALUES_PER_BLOCK: usize = 32 * 1024;

/// Transformed weights: `[frequency][group][channel in][column of group]`.
pub(crate) struct Transformed {
    values: Buffer,
    vectors: usize,
    columns: usize,
    blocking: Blocking,
}

impl Transformed {
    /// Transforms `weight(tap, channel in, column)`.
    pub(crate) fn new(
        path: Path,
        channels: usize,
        columns: usize,
        weight: impl Fn([usize; 3], usize, usize) -> f32 + Sync,
    ) -> Self {
        let blocking = Blocking::new(path);
        let vectors = blocking.vectors(usize::MAX, columns);
        let group = vectors * blocking.lanes;
        let groups = columns.div_ceil(group);
        let frequency = groups * channels * group;
        let mut values = Buffer::new(FREQUENCIES * frequency);
        let shared = Shared::new(&mut values);
        parallel(groups * channels, |index| {
            let (first, channel) = (index / channels * group, index % channels);
            let mut taps = [[0.0_f32; MOST_COLUMNS]; 27];
            for (tap, row) in taps.iter_mut().enumerate() {
                for (j, value) in row[..group.min(columns - first)].iter_mut().enumerate() {
                    *value = weight([tap / 9, tap / 3 % 3, tap % 3], channel, first + j);
                }
            }
            vectorise(path, || {
                let mut x = [[0.0; MOST_COLUMNS]; 36];
                let mut y = [[0.0; MOST_COLUMNS]; 48];
                for i in 0..9 {
                    widen(&mut x, [i, 9 + i, 18 + i, 27 + i], &taps, [i, 9 + i, 18 + i]);
                }
                for i in 0..12 {
                    let (fx, z) = (i / 3, i % 3);
                    let from = [9 * fx + z, 9 * fx + 3 + z, 9 * fx + 6 + z];
                    let to = [12 * fx + z, 12 * fx + 3 + z, 12 * fx + 6 + z, 12 * fx + 9 + z];
                    widen(&mut y, to, &x, from);
                }
                let mut out = [[0.0; MOST_COLUMNS]; FREQUENCIES];
                for i in 0..16 {
                    widen(
                        &mut out,
                        [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3],
                        &y,
                        [3 * i, 3 * i + 1, 3 * i + 2],
                    );
                }
                for (f, row) in out.iter().enumerate() {
                    // SAFETY: every index has its own row of each frequency.
                    unsafe { shared.part(f * frequency + index * group, group) }
                        .copy_from_slice(&row[..group]);
                }
            });
        });
        Self { values, vectors, columns, blocking }
    }
}

const MOST_COLUMNS: usize = 64;

/// `G g` on rows.
#[inline(always)]
fn widen<const M: usize, const N: usize>(
    to: &mut [[f32; MOST_COLUMNS]; N],
    [t0, t1, t2, t3]: [usize; 4],
    from: &[[f32; MOST_COLUMNS]; M],
    [f0, f1, f2]: [usize; 3],
) {
    for j in 0..MOST_COLUMNS {
        let (g0, g1, g2) = (from[f0][j], from[f1][j], from[f2][j]);
        to[t0][j] = g0;
        to[t1][j] = 0.5 * (g0 + g2 + g1);
        to[t2][j] = 0.5 * (g0 + g2 - g1);
        to[t3][j] = g2;
    }
}

/// How the outputs are cut into rows of tiles along z.
#[derive(Clone, Copy)]
struct Rows<'a> {
    source: Source<'a>,
    tiles: [usize; 3],
    /// Channels filled up to whole vectors.
    padded: usize,
}

impl<'a> Rows<'a> {
    fn new(source: &Source<'a>, lanes: usize) -> Self {
        let tiles = source.axes.map(|axis| axis.count.div_ceil(2));
        Self { source: *source, tiles, padded: source.channels.next_multiple_of(lanes) }
    }

    fn count(&self) -> usize {
        self.source.batch * self.tiles[0] * self.tiles[1]
    }

    /// (n, first output x, first output y) of a row.
    fn place(&self, row: usize) -> [usize; 3] {
        let [tx, ty, _] = self.tiles;
        [row / (tx * ty), row / ty % tx * 2, row % ty * 2]
    }

    /// Rows per block, so that a block's transformed values of `padded` channels stay in cache.
    fn per_block(&self, padded: usize) -> usize {
        let tiles = (VALUES_PER_BLOCK / (FREQUENCIES * padded)).max(14);
        (tiles / self.tiles[2]).max(1)
    }

    /// Transforms the inputs of one row of tiles: writes `[frequency][tile][channel]`, `frequency` apart.
    fn transform(
        &self,
        path: Path,
        row: usize,
        scratch: &mut [f32],
        out: Shared<f32>,
        first: usize,
        frequency: usize,
    ) {
        let [n, x, y] = self.place(row);
        let [ax, ay, az] = self.source.axes;
        let channels = self.source.channels;
        let line = az.source * self.padded;
        let (zeros, scratch) = scratch.split_at_mut(line);
        zeros.fill(0.0);
        let mut lines = [zeros.as_ptr(); 16];
        for (index, pointer) in lines.iter_mut().enumerate() {
            // The last tile of an odd size reads beyond what its outputs need; zeros do there.
            let (i, j) = (index / 4, index % 4);
            let at = |axis: super::correlate::Axis, place: isize| {
                usize::try_from(axis.first + place).ok().filter(|&place| place < axis.source)
            };
            let (Some(x), Some(y)) = (at(ax, (x + i) as isize), at(ay, (y + j) as isize)) else { continue };
            let from = &self.source.values[((n * ax.source + x) * ay.source + y) * az.source * channels..]
                [..az.source * channels];
            *pointer = if self.padded == channels {
                from.as_ptr()
            } else {
                let copy = &mut scratch[index * line..][..line];
                for (to, from) in copy.chunks_exact_mut(self.padded).zip(from.chunks_exact(channels)) {
                    to[..channels].copy_from_slice(from);
                    to[channels..].fill(0.0);
                }
                copy.as_ptr()
            };
        }
        let last = first + (FREQUENCIES - 1) * frequency + self.tiles[2] * self.padded;
        out.at(last);
        // SAFETY: every line has `az.source` positions of `padded` channels; the last place written was
        // checked above.
        unsafe {
            transform_input(
                path,
                &lines,
                self.padded,
                az.first,
                az.source,
                self.tiles[2],
                out.at(first),
                frequency,
            );
        }
    }

    /// Values of scratch that [`Self::transform`] needs.
    fn scratch(&self) -> usize {
        let lines = if self.padded == self.source.channels { 1 } else { 17 };
        lines * self.source.axes[2].source * self.padded
    }
}

/// `B^T d`.
#[inline(always)]
unsafe fn input_1d<V: Vector>([d0, d1, d2, d3]: [V; 4]) -> [V; 4] {
    // SAFETY: the caller has the instructions.
    unsafe { [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)] }
}

/// Where [`transform_input_body`] reads.
struct Slice<'a> {
    lines: &'a [*const f32; 16],
    channels: usize,
    channel: usize,
    first: isize,
    size: usize,
}

impl Slice<'_> {
    /// The 4x4 inputs at one position along z, transformed along x and y.
    #[inline(always)]
    unsafe fn at<V: Vector>(&self, position: usize) -> [V; 16] {
        // SAFETY: the caller has the instructions, and the lines have `size` positions.
        unsafe {
            let mut values = [V::zero(); 16];
            let z = self.first + position as isize;
            if z < 0 || z as usize >= self.size {
                return values;
            }
            for (value, line) in values.iter_mut().zip(self.lines) {
                *value = V::load(line.add(z as usize * self.channels + self.channel));
            }
            for y in 0..4 {
                [values[y], values[4 + y], values[8 + y], values[12 + y]] =
                    input_1d([values[y], values[4 + y], values[8 + y], values[12 + y]]);
            }
            for x in 0..4 {
                [values[4 * x], values[4 * x + 1], values[4 * x + 2], values[4 * x + 3]] =
                    input_1d([values[4 * x], values[4 * x + 1], values[4 * x + 2], values[4 * x + 3]]);
            }
            values
        }
    }
}

for_each_path!(
    transform_input,
    transform_input_body,
    (lines: &[*const f32; 16], channels: usize, first: isize, size: usize, tiles: usize, out: *mut f32, frequency: usize)
);

/// Transforms 4x4 lines along z. Positions before 0 and from `size` on are zeros.
///
/// # Safety
/// Lines of `size * channels` values, `channels` whole vectors, and room for all values written.
#[inline(always)]
unsafe fn transform_input_body<V: Vector>(
    lines: &[*const f32; 16],
    channels: usize,
    first: isize,
    size: usize,
    tiles: usize,
    out: *mut f32,
    frequency: usize,
) {
    // SAFETY: all addresses are inside the lines or the output, by the caller's promise.
    unsafe {
        for channel in (0..channels).step_by(V::LANES) {
            // Slices of four successive positions along z, transformed along x and y.
            let mut slices = [[V::zero(); 16]; 4];
            let slice = Slice { lines, channels, channel, first, size };
            slices[0] = slice.at(0);
            slices[1] = slice.at(1);
            for tile in 0..tiles {
                let new = 2 * (tile + 1);
                slices[new % 4] = slice.at(new);
                slices[new % 4 + 1] = slice.at(new + 1);
                let old = (new + 2) % 4;
                let to = out.add(tile * channels + channel);
                for k in 0..16 {
                    let values =
                        [slices[old][k], slices[old + 1][k], slices[new % 4][k], slices[new % 4 + 1][k]];
                    for (z, value) in input_1d(values).into_iter().enumerate() {
                        value.store(to.add((4 * k + z) * frequency));
                    }
                }
            }
        }
    }
}

for_each_path!(
    transform_output,
    transform_output_body,
    (from: *const f32, frequency: usize, bias: *const f32, columns: usize, out: &[*mut f32; 8])
);

/// Transforms the products of one tile: `out[4 x + 2 y + z]` gets the columns of bias + `A^T m A`, unless it is null.
///
/// # Safety
/// `columns` whole vectors at every address that is not null.
#[inline(always)]
unsafe fn transform_output_body<V: Vector>(
    from: *const f32,
    frequency: usize,
    bias: *const f32,
    columns: usize,
    out: &[*mut f32; 8],
) {
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        for column in (0..columns).step_by(V::LANES) {
            let start = V::load(bias.add(column));
            let mut sums = [start; 8];
            for fx in 0..4 {
                // Transformed along y and z.
                let mut plane = [V::zero(); 4];
                for fy in 0..4 {
                    let from = from.add((fx * 4 + fy) * 4 * frequency + column);
                    let (m1, m2) = (V::load(from.add(frequency)), V::load(from.add(2 * frequency)));
                    let z0 = V::load(from).add(m1).add(m2);
                    let z1 = m1.sub(m2).sub(V::load(from.add(3 * frequency)));
                    match fy {
                        0 => plane = [z0, z1, V::zero(), V::zero()],
                        1 => plane = [plane[0].add(z0), plane[1].add(z1), z0, z1],
                        2 => plane = [plane[0].add(z0), plane[1].add(z1), plane[2].sub(z0), plane[3].sub(z1)],
                        _ => plane = [plane[0], plane[1], plane[2].sub(z0), plane[3].sub(z1)],
                    }
                }
                for (i, value) in plane.into_iter().enumerate() {
                    if fx < 3 {
                        sums[i] = sums[i].add(value);
                    }
                    if fx == 1 {
                        sums[4 + i] = sums[4 + i].add(value);
                    }
                    if fx > 1 {
                        sums[4 + i] = sums[4 + i].sub(value);
                    }
                }
            }
            for (to, sum) in out.iter().zip(sums) {
                if !to.is_null() {
                    sum.store(to.add(column));
                }
            }
        }
    }
}

/// `A y`.
#[inline(always)]
unsafe fn wide<V: Vector>(y0: V, y1: V) -> [V; 4] {
    // SAFETY: the caller has the instructions.
    unsafe { [y0, y0.add(y1), y0.sub(y1), V::zero().sub(y1)] }
}

for_each_path!(
    transform_gradient,
    transform_gradient_body,
    (lines: &[*const f32; 8], columns: usize, out: *mut f32, frequency: usize)
);

/// Transforms the gradient of one tile's outputs, `A y A^T` with `A y` = (y0, y0 + y1, y0 - y1, -y1); null places are
/// zeros.
///
/// # Safety
/// `columns` whole vectors at every address that is not null.
#[inline(always)]
unsafe fn transform_gradient_body<V: Vector>(
    lines: &[*const f32; 8],
    columns: usize,
    out: *mut f32,
    frequency: usize,
) {
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        for column in (0..columns).step_by(V::LANES) {
            let mut values = [V::zero(); 8];
            for (value, line) in values.iter_mut().zip(lines) {
                if !line.is_null() {
                    *value = V::load(line.add(column));
                }
            }
            let mut along_x = [[V::zero(); 4]; 4];
            for (i, to) in along_x.iter_mut().enumerate() {
                *to = wide(values[i], values[4 + i]);
            }
            for fx in 0..4 {
                let even = wide(along_x[0][fx], along_x[2][fx]);
                let odd = wide(along_x[1][fx], along_x[3][fx]);
                for fy in 0..4 {
                    for (fz, value) in wide(even[fy], odd[fy]).into_iter().enumerate() {
                        value.store(out.add(((fx * 4 + fy) * 4 + fz) * frequency + column));
                    }
                }
            }
        }
    }
}

/// As [`super::correlate::correlate`], for outputs that fill `out`.
pub(crate) fn correlate(
    path: Path,
    source: &Source<'_>,
    weights: &Transformed,
    bias: &[f32],
    out: Shared<f32>,
) {
    let Transformed { vectors, columns, blocking, .. } = *weights;
    let group = vectors * blocking.lanes;
    let groups = columns.div_ceil(group);
    let padded_columns = columns.next_multiple_of(blocking.lanes);
    let mut padded_bias = bias.to_vec();
    padded_bias.resize(padded_columns, 0.0);
    let rows = Rows::new(source, blocking.lanes);
    let [cx, cy, cz] = source.axes.map(|axis| axis.count);
    let channels = source.channels;
    let block = rows.per_block(rows.padded.max(padded_columns));
    parallel(rows.count().div_ceil(block), |task| {
        let first_row = task * block;
        let block = block.min(rows.count() - first_row);
        let tiles = block * rows.tiles[2];
        // A line more than needed keeps the frequencies from falling on the same cache set.
        let (input_frequency, output_frequency) = (tiles * rows.padded + 16, tiles * padded_columns + 16);
        let mut input = Buffer::new(FREQUENCIES * input_frequency);
        let mut products = Buffer::new(FREQUENCIES * output_frequency);
        let mut scratch = Buffer::new(rows.scratch());
        let shared_input = Shared::new(&mut input);
        for row in 0..block {
            let first = row * rows.tiles[2] * rows.padded;
            rows.transform(path, first_row + row, &mut scratch, shared_input, first, input_frequency);
        }
        let shared_products = Shared::new(&mut products);
        for f in 0..FREQUENCIES {
            for index in 0..groups {
                let first = index * group;
                let width = group.min(padded_columns - first);
                let weights = &weights.values[(f * groups + index) * channels * group..][..channels * group];
                let zeros = [0.0; MOST_COLUMNS];
                split(tiles, blocking.most_rows(vectors), |tile, count| {
                    let tile = Tile {
                        a: input[f * input_frequency + tile * rows.padded..].as_ptr(),
                        a_row: rows.padded,
                        a_term: 1,
                        b: weights.as_ptr(),
                        b_term: group,
                        segments: &[Segment { a: 0, b: 0 }],
                        terms: channels,
                        start: Start::Columns(zeros.as_ptr()),
                        out: shared_products.at(f * output_frequency + tile * padded_columns + first),
                        out_row: padded_columns,
                        columns: width,
                    };
                    // SAFETY: `count` tiles of `channels` values, `channels` rows of weights, room for the products.
                    unsafe { blocking.function(count, vectors)(&tile) };
                });
            }
        }
        let whole = padded_columns == columns;
        let mut values = Buffer::new(if whole { 0 } else { 8 * padded_columns });
        for row in 0..block {
            let [n, x, y] = rows.place(first_row + row);
            for tile in 0..rows.tiles[2] {
                let from = &products[(row * rows.tiles[2] + tile) * padded_columns..];
                let mut places = [None; 8];
                let mut to = [std::ptr::null_mut(); 8];
                for (i, (place, to)) in places.iter_mut().zip(&mut to).enumerate() {
                    let (x, y, z) = (x + i / 4, y + i / 2 % 2, 2 * tile + i % 2);
                    if x < cx && y < cy && z < cz {
                        let first = (((n * cx + x) * cy + y) * cz + z) * columns;
                        *place = Some(first);
                        // SAFETY: every output belongs to one tile.
                        let out = unsafe { out.part(first, columns) };
                        *to =
                            if whole { out.as_mut_ptr() } else { values[i * padded_columns..].as_mut_ptr() };
                    }
                }
                // SAFETY: all frequencies of this tile are there, and outputs that are not null have room.
                unsafe {
                    transform_output(
                        path,
                        from.as_ptr(),
                        output_frequency,
                        padded_bias.as_ptr(),
                        padded_columns,
                        &to,
                    );
                }
                if !whole {
                    for (place, values) in places.into_iter().zip(values.chunks_exact(padded_columns)) {
                        if let Some(first) = place {
                            // SAFETY: as above.
                            unsafe { out.part(first, columns) }.copy_from_slice(&values[..columns]);
                        }
                    }
                }
            }
        }
    });
}

/// As [`super::correlate::correlate_gradient`].
pub(crate) fn correlate_gradient(
    path: Path,
    source: &Source<'_>,
    gradient: &[f32],
    columns: usize,
    write: impl Fn([usize; 3], usize, usize, &[f32]) + Sync,
) {
    let blocking = Blocking::new(path);
    let padded_columns = columns.next_multiple_of(blocking.lanes);
    let rows = Rows::new(source, blocking.lanes);
    let [cx, cy, cz] = source.axes.map(|axis| axis.count);
    let channels = source.channels;
    let chunks = chunks(source).clamp(1, rows.count());
    let frequency_sums = channels * padded_columns;
    let mut sums = Buffer::new(chunks * FREQUENCIES * frequency_sums);
    let shared_sums = Shared::new(&mut sums);
    let block = rows.per_block(rows.padded.max(padded_columns));
    let vectors = blocking.vectors(channels, columns);
    parallel(chunks, |chunk| {
        let base = chunk * FREQUENCIES * frequency_sums;
        // SAFETY: every chunk has its own sums.
        unsafe { shared_sums.part(base, FREQUENCIES * frequency_sums) }.fill(0.0);
        let end = rows.count() * (chunk + 1) / chunks;
        let tiles = block * rows.tiles[2];
        let (input_frequency, gradient_frequency) = (tiles * rows.padded + 16, tiles * padded_columns + 16);
        let mut input = Buffer::new(FREQUENCIES * input_frequency);
        let mut transformed = Buffer::new(FREQUENCIES * gradient_frequency);
        let mut scratch = Buffer::new(rows.scratch());
        let mut padding = Buffer::new(if padded_columns == columns { 0 } else { 8 * padded_columns });
        let shared_input = Shared::new(&mut input);
        let shared_gradient = Shared::new(&mut transformed);
        for first_row in (rows.count() * chunk / chunks..end).step_by(block) {
            let block = block.min(end - first_row);
            for row in 0..block {
                let first = row * rows.tiles[2] * rows.padded;
                rows.transform(path, first_row + row, &mut scratch, shared_input, first, input_frequency);
                let [n, x, y] = rows.place(first_row + row);
                for tile in 0..rows.tiles[2] {
                    let mut lines = [std::ptr::null(); 8];
                    for (i, line) in lines.iter_mut().enumerate() {
                        let (x, y, z) = (x + i / 4, y + i / 2 % 2, 2 * tile + i % 2);
                        if x < cx && y < cy && z < cz {
                            let values = &gradient[(((n * cx + x) * cy + y) * cz + z) * columns..][..columns];
                            *line = if padding.is_empty() {
                                values.as_ptr()
                            } else {
                                let copy = &mut padding[i * padded_columns..][..padded_columns];
                                copy[..columns].copy_from_slice(values);
                                copy[columns..].fill(0.0);
                                copy.as_ptr()
                            };
                        }
                    }
                    let first = (row * rows.tiles[2] + tile) * padded_columns;
                    shared_gradient.at(first + (FREQUENCIES - 1) * gradient_frequency + padded_columns);
                    // SAFETY: the lines are null or whole; the last place written was checked above.
                    unsafe {
                        transform_gradient(
                            path,
                            &lines,
                            padded_columns,
                            shared_gradient.at(first),
                            gradient_frequency,
                        );
                    }
                }
            }
            for f in 0..FREQUENCIES {
                let mut first = 0;
                while first < padded_columns {
                    let left = (padded_columns - first) / blocking.lanes;
                    let vectors = if left >= vectors { vectors } else { left.min(2) };
                    split(channels, blocking.most_rows(vectors), |channel, count| {
                        let tile = Tile {
                            a: shared_input.at(f * input_frequency + channel),
                            a_row: 1,
                            a_term: rows.padded,
                            b: shared_gradient.at(f * gradient_frequency + first),
                            b_term: padded_columns,
                            segments: &[Segment { a: 0, b: 0 }],
                            terms: block * rows.tiles[2],
                            start: Start::Out,
                            out: shared_sums.at(base + f * frequency_sums + channel * padded_columns + first),
                            out_row: padded_columns,
                            columns: vectors * blocking.lanes,
                        };
                        // SAFETY: all tiles of the block are transformed; the sums belong to this chunk.
                        unsafe { blocking.function(count, vectors)(&tile) };
                    });
                    first += vectors * blocking.lanes;
                }
            }
        }
    });
    parallel(channels, |channel| {
        let mut all = vec![[0.0_f32; MOST_COLUMNS]; FREQUENCIES];
        for first in (0..columns).step_by(MOST_COLUMNS) {
            let width = MOST_COLUMNS.min(columns - first);
            vectorise(path, || {
                for (f, total) in all.iter_mut().enumerate() {
                    total.fill(0.0);
                    for chunk in 0..chunks {
                        let from =
                            &sums[(chunk * FREQUENCIES + f) * frequency_sums + channel * padded_columns..];
                        for (total, value) in total.iter_mut().zip(&from[first..first + width]) {
                            *total += value;
                        }
                    }
                }
                // G^T along z, y, x, in place: frequencies 0, 1, 2 of each axis become its taps.
                for i in 0..16 {
                    narrow(&mut all, [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3]);
                }
                for i in (0..16).filter(|i| i % 4 < 3) {
                    let at = i / 4 * 16 + i % 4;
                    narrow(&mut all, [at, at + 4, at + 8, at + 12]);
                }
                for at in 0..16 {
                    narrow(&mut all, [at, at + 16, at + 32, at + 48]);
                }
            });
            for tap in (0..27).map(|tap| [tap / 9, tap / 3 % 3, tap % 3]) {
                let values = &all[(tap[0] * 4 + tap[1]) * 4 + tap[2]][..width];
                write(tap, channel, first, values);
            }
        }
    });
}

/// `G^T u` on rows: the first three of four become (u0 + (u1 + u2) / 2, (u1 - u2) / 2, (u1 + u2) / 2 + u3).
#[inline(always)]
fn narrow(rows: &mut [[f32; MOST_COLUMNS]], [r0, r1, r2, r3]: [usize; 4]) {
    for j in 0..MOST_COLUMNS {
        let (u0, u1, u2, u3) = (rows[r0][j], rows[r1][j], rows[r2][j], rows[r3][j]);
        rows[r0][j] = u0 + 0.5 * (u1 + u2);
        rows[r1][j] = 0.5 * (u1 - u2);
        rows[r2][j] = 0.5 * (u1 + u2) + u3;
    }
}
