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

pub(crate) mod across;
mod filter;
mod gradient;
mod rows;
mod transforms;
mod weights;

pub(crate) use filter::{Filtered, suits, suits_gradient};
pub(crate) use gradient::correlate_gradient;
pub(crate) use weights::Transformed;

use super::blocking::split;
use super::buffer::{Buffer, Shared};
use super::correlate::Source;
use super::tile::{Segment, Start, Tile};
use crate::settings::Settings;
use rows::Rows;
use transforms::{MOST_COLUMNS, OutputLines, Target, transform_output};

/// As [`super::correlate::correlate`], for outputs that fill `out`.
pub(crate) fn correlate(
    settings: &Settings,
    source: &Source<'_>,
    weights: &Transformed,
    bias: &[f32],
    out: Shared<'_, f32>,
) {
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
    settings.parallel(rows.count().div_ceil(per_task), |task| {
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
            // The last rows of the block before are the first of this one.
            for frequency in input.chunks_exact_mut(input_frequency) {
                frequency.copy_within(block * row_words..(block + known) * row_words, 0);
            }
            let transformed = Shared::new(&mut input);
            let [n, x, y] = rows.place(first_row);
            for row in known..count + shared {
                let tile = row * rows.tiles[2];
                let out = Target { values: transformed, frequency: input_frequency, tile };
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
    (out, output_frequency): (&mut [f32], usize),
) {
    let Transformed { vectors, columns, blocking, .. } = *weights;
    let group = vectors * blocking.lanes;
    let groups = columns.div_ceil(group);
    let padded_columns = columns.next_multiple_of(blocking.lanes);
    let terms = blocking.operands.words(rows.source.channels);
    let a_row = blocking.operands.along_channels().words(1, rows.padded);
    let slab = segments.len() * terms * group;
    let out = Shared::new(out);
    let mut products = blocking.products();
    let zeros = [0.0; MOST_COLUMNS];
    for f in 0..rows.frequencies() {
        for index in 0..groups {
            let first = index * group;
            let width = group.min(padded_columns - first);
            let weights = &weights.values[(f * groups + index) * slab..][..slab];
            split(count * rows.tiles[2], blocking.most_rows(vectors), |tile, count, repeat| {
                let tile = Tile {
                    a: input,
                    a_first: (f * input_frequency + tile * a_row) as isize,
                    a_row,
                    a_term: 1,
                    b: weights,
                    b_term: group,
                    segments,
                    terms,
                    start: Start::Columns(&zeros),
                    out,
                    out_first: f * output_frequency + tile * padded_columns + first,
                    out_row: padded_columns,
                    columns: width,
                    repeat,
                };
                // SAFETY: `count` tiles of `channels` values for each segment, `channels` rows of weights, room for
                // the products.
                unsafe { products.compute(count, vectors, &tile) };
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
    let mut lines = [None; 4];
    for (i, line) in lines[..rows.outputs() / 2].iter_mut().enumerate() {
        let (x, y) = (x + i / 2, y + i % 2);
        // The last tile of an odd size has lines outside.
        if x < cx && y < cy {
            // SAFETY: every output belongs to one row.
            let values = unsafe { out.part(((n * cx + x) * cy + y) * cz * columns, cz * columns) };
            *line = Some(Shared::new(values));
        }
    }
    let tiles = rows.tiles[2];
    if padded == columns {
        let out = OutputLines { lines, columns, size: cz };
        // SAFETY: all frequencies of this row are there, and columns are whole vectors.
        unsafe { transform_output(path, flat, products, frequency, padded_bias, tiles, &out) };
        return;
    }
    // Vectors beyond the columns would overwrite the next position, which another vector has written already: tiles go
    // to scratch first, one at a time.
    let mut parts = values.chunks_exact_mut(2 * padded);
    let parts = std::array::from_fn(|_| parts.next().map(Shared::new));
    let part = OutputLines { lines: parts, columns: padded, size: 2 };
    for tile in 0..tiles {
        let from = &products[tile * padded..];
        // SAFETY: as above, for one tile; the scratch has room for its outputs.
        unsafe { transform_output(path, flat, from, frequency, padded_bias, 1, &part) };
        for (line, part) in lines.into_iter().zip(parts).filter_map(|(line, part)| line.zip(part)) {
            for z in 2 * tile..cz.min(2 * tile + 2) {
                // SAFETY: the parts are those of one position in two arrays, which nobody else has in use.
                let (to, from) =
                    unsafe { (line.part(z * columns, columns), part.part(z % 2 * padded, columns)) };
                to.copy_from_slice(from);
            }
        }
    }
}
