//! Convolution of stride 1 with kernels of 3x3x3 or 1x3x3 by Winograd's minimal filtering, F(2, 3) along each axis of 3
//! taps.
//!
//! Outputs are computed in tiles of 2x2x2 from 4x4x4 inputs. Along each axis, input, weight and output are transformed
//! so that four products replace six; in three dimensions 64 replace 216, and each of the 64 "frequencies" is a matrix
//! product of its own, (tiles x channels in) by (channels in x channels out). The same transforms serve the weight
//! gradient. Where only y and z are filtered, tiles are 1x2x2 with 16 frequencies, and the products of the taps along x
//! are summed. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016):
//!
//! - input `B^T d`: (d0 - d2, d1 + d2, d2 - d1, d1 - d3)
//! - weight `G g`: (g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2)
//! - output `A^T m`: (m0 + m1 + m2, m1 - m2 - m3)
//!
//! In bf16 it is the transformed inputs and weights that are rounded; the transforms are f32. Every axis that is
//! filtered multiplies the variance of these rounding errors by 5/3, so that in bf16 the activations, whose errors reach
//! every gradient of the network, are filtered along y and z only.

mod gradient;
mod transforms;

pub(crate) use gradient::correlate_gradient;

use super::bf16::{Layout, Operands, store_weight};
use super::buffer::{Buffer, Shared};
use super::correlate::{Axis, Source};
use super::tile::{Blocking, Segment, Start, Tile, split};
use super::vectorise;
use crate::Path;
use crate::threads::parallel;
use transforms::{Lines, OutputLines, Target, transform_input, transform_output, transform_weights};

/// Products per tile of a volume, and of a plane of y and z.
const MOST_FREQUENCIES: usize = 64;
const PLANE_FREQUENCIES: usize = 16;

/// Columns of the widest tile of products.
const MOST_COLUMNS: usize = 64;

/// Below this, transforming the weights costs more than the filtering saves.
const FEWEST_OUTPUTS: usize = 800;

/// The axes along which a kernel is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filtered {
    /// All three.
    Volume,
    /// y and z; along x the kernel has so many taps that are summed.
    Plane { taps: usize },
}

impl Filtered {
    fn frequencies(self) -> usize {
        if self == Self::Volume { MOST_FREQUENCIES } else { PLANE_FREQUENCIES }
    }

    /// Taps along x that are summed.
    fn taps(self) -> usize {
        match self {
            Self::Volume => 1,
            Self::Plane { taps } => taps,
        }
    }

    /// All axes that can be: fastest.
    pub(crate) fn most(source: &Source<'_>) -> Self {
        match source.axes[0].taps {
            1 => Self::Plane { taps: 1 },
            _ => Self::Volume,
        }
    }

    /// What suits activations, whose rounding errors go through all layers that follow, and back.
    pub(crate) fn of_activations(source: &Source<'_>, path: Path) -> Self {
        match Operands::of(path) {
            Operands::Single => Self::most(source),
            Operands::Rounded | Operands::Pairs => Self::Plane { taps: source.axes[0].taps },
        }
    }
}

/// Whether the minimal filtering is faster than the plain sum over taps for these sizes. It is exact algebra, and in
/// f32 its rounding errors are of the same size. Matrix tiles multiply faster than it transforms.
pub(crate) fn suits(path: Path, source: &Source<'_>, columns: usize) -> bool {
    let [ax, ay, az] = source.axes;
    let three = |axis: Axis| axis.taps == 3 && axis.step == 1;
    let kernel = three(ay) && three(az) && (three(ax) || (ax.taps == 1 && ax.step == 1));
    let outputs: usize = source.axes.iter().map(|axis| axis.count).product();
    let tiled_x = if ax.taps == 1 { ax.count } else { ax.count.next_multiple_of(2) };
    let tiled = tiled_x * ay.count.next_multiple_of(2) * az.count.next_multiple_of(2);
    kernel
        && !Blocking::of_neighbours(path).has_matrix_tiles()
        && source.channels >= 8
        && columns >= 8
        && 2 * outputs >= tiled
        && source.batch * tiled >= FEWEST_OUTPUTS
}

/// Whether the weight gradient is better computed so, too: it needs sums for all frequencies per chunk.
pub(crate) fn suits_gradient(path: Path, source: &Source<'_>, columns: usize) -> bool {
    suits(path, source, columns) && chunks(source) >= 2
}

fn chunks(source: &Source<'_>) -> usize {
    let positions: usize = source.axes.iter().map(|axis| axis.count).product();
    (source.batch * positions / POSITIONS_PER_CHUNK).min(MOST_CHUNKS)
}

const POSITIONS_PER_CHUNK: usize = 4096;
const MOST_CHUNKS: usize = 8;
/// Values of transformed input that a task holds at a time: 128 KiB.
const VALUES_PER_BLOCK: usize = 32 * 1024;

/// Transformed weights: `[frequency][group][tap x that is summed][channel in][column of group]`, in bf16 two channels
/// to a word.
pub(crate) struct Transformed {
    values: Buffer,
    filtered: Filtered,
    vectors: usize,
    columns: usize,
    blocking: Blocking,
}

impl Transformed {
    /// Transforms `weight(tap, channel in, column)` for a source.
    pub(crate) fn new(
        path: Path,
        source: &Source<'_>,
        filtered: Filtered,
        columns: usize,
        weight: impl Fn([usize; 3], usize, usize) -> f32 + Sync,
    ) -> Self {
        let channels = source.channels;
        let blocking = Blocking::of_neighbours(path);
        let (frequencies, summed) = (filtered.frequencies(), filtered.taps());
        let vectors = blocking.vectors(usize::MAX, columns);
        let group = vectors * blocking.lanes;
        let groups = columns.div_ceil(group);
        let rows = blocking.operands.words(channels);
        let frequency = groups * summed * rows * group;
        let odd = blocking.operands == Operands::Pairs && channels % 2 == 1;
        let length = frequencies * frequency;
        let mut values = if odd { Buffer::zeros(length) } else { Buffer::new(length) };
        let shared = Shared::new(&mut values);
        let planes = source.axes[0].taps / summed;
        parallel(groups * summed * channels, |index| {
            let (slab, channel) = (index / channels, index % channels);
            let (first, x) = (slab / summed * group, slab % summed);
            let mut from = [[0.0_f32; MOST_COLUMNS]; 27];
            for (tap, row) in from[..9 * planes].iter_mut().enumerate() {
                for (j, value) in row[..group.min(columns - first)].iter_mut().enumerate() {
                    *value = weight([x + tap / 9, tap / 3 % 3, tap % 3], channel, first + j);
                }
            }
            let mut out = [[0.0; MOST_COLUMNS]; MOST_FREQUENCIES];
            vectorise(path, || {
                match filtered {
                    Filtered::Volume => transform_weights::<4>(&from, &mut out),
                    Filtered::Plane { .. } => transform_weights::<1>(&from, &mut out),
                }
                for (f, row) in out[..frequencies].iter().enumerate() {
                    let to = shared.at(f * frequency + slab * rows * group);
                    for (j, value) in row[..group].iter().enumerate() {
                        // SAFETY: every index has its own row, or half of the words of a row, of each frequency.
                        unsafe { store_weight(blocking.operands, to, (channel, j, group), *value) };
                    }
                }
            });
        });
        Self { values, filtered, vectors, columns, blocking }
    }
}

/// How the outputs are cut into rows of tiles along z.
#[derive(Clone, Copy)]
struct Rows<'a> {
    source: Source<'a>,
    blocking: Blocking,
    filtered: Filtered,
    tiles: [usize; 3],
    /// Channels filled up to whole vectors.
    padded: usize,
}

impl<'a> Rows<'a> {
    fn new(source: &Source<'a>, blocking: Blocking, filtered: Filtered) -> Self {
        let mut tiles = source.axes.map(|axis| axis.count.div_ceil(2));
        if filtered != Filtered::Volume {
            tiles[0] = source.axes[0].count;
        }
        let padded = source.channels.next_multiple_of(blocking.lanes);
        Self { source: *source, blocking, filtered, tiles, padded }
    }

    fn frequencies(&self) -> usize {
        self.filtered.frequencies()
    }

    fn count(&self) -> usize {
        self.source.batch * self.tiles[0] * self.tiles[1]
    }

    /// Outputs of a tile.
    fn outputs(&self) -> usize {
        if self.filtered == Filtered::Volume { 8 } else { 4 }
    }

    /// (n, first output x, first output y) of a row. Neighbouring rows are neighbours along x.
    fn place(&self, row: usize) -> [usize; 3] {
        let [tx, ty, _] = self.tiles;
        let step_x = if self.filtered == Filtered::Volume { 2 } else { 1 };
        [row / (tx * ty), row % tx * step_x, row / tx % ty * 2]
    }

    /// Rows per block, so that a block's transformed values of `padded` channels stay in cache; but no fewer than
    /// `fewest` tiles, where every block passes over all weights or all of their sums.
    fn per_block(&self, padded: usize, fewest: usize) -> usize {
        let tiles = (VALUES_PER_BLOCK / (self.frequencies() * padded)).max(fewest).max(14);
        let rows = (tiles / self.tiles[2]).max(1);
        // The inputs that successive blocks share are copied.
        if self.filtered.taps() > 1 { 2 * rows } else { rows }
    }

    /// Transforms the inputs of the row of tiles at a place. `out` has room for them.
    fn transform(&self, layout: Layout, [n, x, y]: [usize; 3], scratch: &mut [f32], out: Target) {
        let [ax, ay, az] = self.source.axes;
        let channels = self.source.channels;
        let line = az.source * self.padded;
        let (zeros, scratch) = scratch.split_at_mut(line);
        zeros.fill(0.0);
        let mut lines = [zeros.as_ptr(); 16];
        let flat = self.filtered != Filtered::Volume;
        let count = if flat { 4 } else { 16 };
        for (index, pointer) in lines[..count].iter_mut().enumerate() {
            // The last tile of an odd size reads beyond what its outputs need; zeros do there.
            let (i, j) = (index / 4, index % 4);
            let at = |axis: Axis, place: isize| {
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
        let lines = Lines { lines: &lines, channels: self.padded, first: az.first, size: az.source };
        // SAFETY: every line has `az.source` positions of `padded` channels; the caller has room for the tiles.
        unsafe { transform_input(self.blocking.path, layout, flat, &lines, self.tiles[2], out) };
    }

    /// Values of scratch that [`Self::transform`] needs.
    fn scratch(&self) -> usize {
        let lines = if self.padded == self.source.channels { 1 } else { 17 };
        lines * self.source.axes[2].source * self.padded
    }
}

/// As [`super::correlate::correlate`], for outputs that fill `out`.
pub(crate) fn correlate(source: &Source<'_>, weights: &Transformed, bias: &[f32], out: Shared<'_, f32>) {
    let Transformed { filtered, vectors, columns, blocking, .. } = *weights;
    let group = vectors * blocking.lanes;
    let padded_columns = columns.next_multiple_of(blocking.lanes);
    let mut padded_bias = bias.to_vec();
    padded_bias.resize(padded_columns, 0.0);
    let rows = Rows::new(source, blocking, filtered);
    let (frequencies, taps) = (rows.frequencies(), filtered.taps());
    let layout = blocking.operands.along_channels();
    let channels = source.channels;
    let terms = blocking.operands.words(channels);
    // From here on reading the weights costs less than writing and reading the transformed values.
    let block = rows.per_block(rows.padded.max(padded_columns), padded_columns / 4);
    // Where the taps along x find their inputs, and their weights.
    let row_words = layout.words(rows.tiles[2], rows.padded);
    let segment = |tap| Segment { a: tap * row_words, b: tap * terms * group };
    let segments = (0..taps).map(segment).collect::<Vec<_>>();
    let shared = taps - 1;
    // Rows that share inputs are one task.
    let per_task = if shared == 0 { block } else { rows.tiles[0] };
    parallel(rows.count().div_ceil(per_task), |task| {
        let end = ((task + 1) * per_task).min(rows.count());
        let block = block.min(end - task * per_task);
        // A line more than needed keeps the frequencies from falling on the same cache set.
        let input_frequency = (block + shared) * row_words + 16;
        let output_frequency = block * rows.tiles[2] * padded_columns + 16;
        let mut input = Buffer::new(frequencies * input_frequency);
        let mut products = Buffer::new(frequencies * output_frequency);
        let mut scratch = Buffer::new(rows.scratch());
        let mut values = Buffer::new(if padded_columns == columns { 0 } else { 8 * padded_columns });
        for first_row in (task * per_task..end).step_by(block) {
            let count = block.min(end - first_row);
            let known = if first_row == task * per_task { 0 } else { shared };
            for frequency in input.chunks_exact_mut(input_frequency) {
                frequency.copy_within(block * row_words..(block + known) * row_words, 0);
            }
            let start = Shared::new(&mut input).at(0);
            let [n, x, y] = rows.place(first_row);
            for row in known..count + shared {
                let out = Target { start, frequency: input_frequency, tile: row * rows.tiles[2] };
                let place = if shared == 0 { rows.place(first_row + row) } else { [n, x + row, y] };
                rows.transform(layout, place, &mut scratch, out);
            }
            multiply(
                &rows,
                weights,
                (&input, input_frequency),
                &segments,
                count,
                (&mut products, output_frequency),
            );
            for row in 0..count {
                let products = (&products[row * rows.tiles[2] * padded_columns..], output_frequency);
                write_row(&rows, first_row + row, products, (&padded_bias, columns), &mut values, out);
            }
        }
    });
}

/// Products of `count` rows of tiles with the weights, all frequencies, as (tile, column); arrays come with the distance
/// between their frequencies.
fn multiply(
    rows: &Rows<'_>,
    weights: &Transformed,
    (input, input_frequency): (&[f32], usize),
    segments: &[Segment],
    count: usize,
    (products, output_frequency): (&mut [f32], usize),
) {
    let Transformed { vectors, columns, blocking, .. } = *weights;
    let group = vectors * blocking.lanes;
    let groups = columns.div_ceil(group);
    let padded_columns = columns.next_multiple_of(blocking.lanes);
    let terms = blocking.operands.words(rows.source.channels);
    let a_row = blocking.operands.along_channels().words(1, rows.padded);
    let slab = segments.len() * terms * group;
    let products = Shared::new(products);
    let zeros = [0.0; MOST_COLUMNS];
    for f in 0..rows.frequencies() {
        for index in 0..groups {
            let first = index * group;
            let width = group.min(padded_columns - first);
            let weights = &weights.values[(f * groups + index) * slab..][..slab];
            split(count * rows.tiles[2], blocking.most_rows(vectors), |tile, count, repeat| {
                let tile = Tile {
                    a: input[f * input_frequency + tile * a_row..].as_ptr(),
                    a_row,
                    a_term: 1,
                    b: weights.as_ptr(),
                    b_term: group,
                    segments,
                    terms,
                    start: Start::Columns(zeros.as_ptr()),
                    out: products.at(f * output_frequency + tile * padded_columns + first),
                    out_row: padded_columns,
                    columns: width,
                    repeat,
                };
                // SAFETY: `count` tiles of `channels` values for each segment, `channels` rows of weights, room for
                // the products.
                unsafe { blocking.function(count, vectors)(&tile) };
            });
        }
    }
}

/// Transforms the products of one row of tiles and writes its outputs; `values` is scratch where the columns are no whole
/// vectors.
fn write_row(
    rows: &Rows<'_>,
    row: usize,
    (products, frequency): (&[f32], usize),
    (padded_bias, columns): (&[f32], usize),
    values: &mut [f32],
    out: Shared<'_, f32>,
) {
    let [cx, cy, cz] = rows.source.axes.map(|axis| axis.count);
    let padded = padded_bias.len();
    let [n, x, y] = rows.place(row);
    let path = rows.blocking.path;
    let flat = rows.filtered != Filtered::Volume;
    let mut lines = [std::ptr::null_mut(); 4];
    for (i, line) in lines[..rows.outputs() / 2].iter_mut().enumerate() {
        let (x, y) = (x + i / 2, y + i % 2);
        if x < cx && y < cy {
            // SAFETY: every output belongs to one row.
            *line = unsafe { out.part(((n * cx + x) * cy + y) * cz * columns, cz * columns) }.as_mut_ptr();
        }
    }
    let tiles = rows.tiles[2];
    if padded == columns {
        let out = OutputLines { lines, columns, size: cz };
        // SAFETY: all frequencies of this row are there; outputs outside are null or beyond the size.
        unsafe {
            transform_output(path, flat, products.as_ptr(), frequency, padded_bias.as_ptr(), tiles, &out)
        };
        return;
    }
    let mut parts = values.chunks_exact_mut(2 * padded);
    let parts = std::array::from_fn(|_| parts.next().map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr));
    let part = OutputLines { lines: parts, columns: padded, size: 2 };
    for tile in 0..tiles {
        let from = products[tile * padded..].as_ptr();
        // SAFETY: as above, for one tile; the scratch has room for its eight outputs.
        unsafe { transform_output(path, flat, from, frequency, padded_bias.as_ptr(), 1, &part) };
        for (line, part) in lines.into_iter().zip(parts).filter(|(line, _)| !line.is_null()) {
            for z in 2 * tile..cz.min(2 * tile + 2) {
                // SAFETY: the position is inside the line, and its values were just written.
                unsafe {
                    std::ptr::copy_nonoverlapping(part.add(z % 2 * padded), line.add(z * columns), columns)
                };
            }
        }
    }
}
