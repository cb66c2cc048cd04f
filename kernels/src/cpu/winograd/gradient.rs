//! The weight gradient by Winograd's filtering: inputs and output gradients are transformed, multiplied and summed over
//! all tiles per frequency, and the sums transformed back.

use super::super::blocking::{Blocking, split};
use super::super::buffer::{Buffer, Shared};
use super::super::correlate::Source;
use super::super::simd::vectorise;
use super::super::tile::{Segment, Start, Tile};
use super::filter::{Filtered, chunks};
use super::rows::Rows;
use super::transforms::{MOST_COLUMNS, MOST_FREQUENCIES, Target, narrow_weights, transform_gradient};
use crate::path::Path;
use crate::threads::parallel;

/// The gradient of the outputs, (batch, x, y, z, column).
struct Outputs<'a> {
    gradient: &'a [f32],
    columns: usize,
    /// Columns filled up to whole vectors.
    padded: usize,
}

impl Outputs<'_> {
    /// Transforms one row of tiles; `padding` is scratch where the columns are no whole vectors.
    fn transform(&self, rows: &Rows<'_>, row: usize, padding: &mut [f32], out: Target) {
        let Self { columns, padded, .. } = *self;
        let [cx, cy, cz] = rows.source.axes.map(|axis| axis.count);
        let [n, x, y] = rows.place(row);
        let flat = rows.filtered != Filtered::Volume;
        for tile in 0..rows.tiles[2] {
            let mut lines = [std::ptr::null(); 8];
            for (i, line) in lines[..rows.outputs()].iter_mut().enumerate() {
                let (x, y, z) = (x + i / 4, y + i / 2 % 2, 2 * tile + i % 2);
                if x < cx && y < cy && z < cz {
                    let values = &self.gradient[(((n * cx + x) * cy + y) * cz + z) * columns..][..columns];
                    *line = if padding.is_empty() {
                        values.as_ptr()
                    } else {
                        let copy = &mut padding[i * padded..][..padded];
                        copy[..columns].copy_from_slice(values);
                        copy[columns..].fill(0.0);
                        copy.as_ptr()
                    };
                }
            }
            let layout = rows.blocking.operands.along_positions();
            let out = Target { tile: out.tile + tile, ..out };
            // SAFETY: the lines are null or whole; the caller has room for all tiles of the row.
            unsafe { transform_gradient(rows.blocking.path, layout, flat, &lines, padded, out) };
        }
    }
}

/// As [`super::super::correlate::correlate_gradient`].
pub(crate) fn correlate_gradient(
    path: Path,
    source: &Source<'_>,
    gradient: &[f32],
    columns: usize,
    write: impl Fn([usize; 3], usize, usize, &[f32]) + Sync,
) {
    let rows = Rows::new(source, Blocking::new(path), Filtered::most(source));
    let (blocking, frequencies) = (rows.blocking, rows.frequencies());
    let flat = rows.filtered != Filtered::Volume;
    let layout = blocking.operands.along_positions();
    let padded_columns = columns.next_multiple_of(blocking.lanes);
    let outputs = Outputs { gradient, columns, padded: padded_columns };
    let channels = source.channels;
    let chunks = chunks(source).clamp(1, rows.count());
    let frequency_sums = channels * padded_columns;
    let mut sums = Buffer::new(chunks * frequencies * frequency_sums);
    let shared_sums = Shared::new(&mut sums);
    // As in the forward direction, but the sums are both read and written.
    let block = rows.per_block(rows.padded.max(padded_columns), padded_columns / 2);
    let vectors = blocking.vectors(channels, columns);
    parallel(chunks, |chunk| {
        let base = chunk * frequencies * frequency_sums;
        // SAFETY: every chunk has its own sums.
        unsafe { shared_sums.part(base, frequencies * frequency_sums) }.fill(0.0);
        let end = rows.count() * (chunk + 1) / chunks;
        let tiles = block * rows.tiles[2];
        // A line more than needed keeps the frequencies from falling on the same cache set.
        let [input_frequency, gradient_frequency] =
            [rows.padded, padded_columns].map(|width| layout.words(tiles, width) + 16);
        let mut input = Buffer::new(frequencies * input_frequency);
        let mut transformed = Buffer::new(frequencies * gradient_frequency);
        let mut scratch = Buffer::new(rows.scratch());
        let mut padding = Buffer::new(if padded_columns == columns { 0 } else { 8 * padded_columns });
        let shared_input = Shared::new(&mut input);
        let shared_gradient = Shared::new(&mut transformed);
        for first_row in (rows.count() * chunk / chunks..end).step_by(block) {
            let block = block.min(end - first_row);
            for row in 0..block {
                let tile = row * rows.tiles[2];
                let out = Target { start: shared_input.at(0), frequency: input_frequency, tile };
                rows.transform(layout, rows.place(first_row + row), &mut scratch, out);
                let out = Target { start: shared_gradient.at(0), frequency: gradient_frequency, tile };
                outputs.transform(&rows, first_row + row, &mut padding, out);
            }
            for f in 0..frequencies {
                let mut first = 0;
                while first < padded_columns {
                    let left = (padded_columns - first) / blocking.lanes;
                    let vectors = if left >= vectors { vectors } else { left.min(2) };
                    split(channels, blocking.most_rows(vectors), |channel, count, repeat| {
                        let tile = Tile {
                            a: shared_input.at(f * input_frequency + channel),
                            a_row: 1,
                            a_term: rows.padded,
                            b: shared_gradient.at(f * gradient_frequency + first),
                            b_term: padded_columns,
                            segments: &[Segment { a: 0, b: 0 }],
                            terms: blocking.operands.words(block * rows.tiles[2]),
                            start: Start::Out,
                            out: shared_sums.at(base + f * frequency_sums + channel * padded_columns + first),
                            out_row: padded_columns,
                            columns: vectors * blocking.lanes,
                            repeat,
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
        let mut all = vec![[0.0_f32; MOST_COLUMNS]; MOST_FREQUENCIES];
        for first in (0..columns).step_by(MOST_COLUMNS) {
            let width = MOST_COLUMNS.min(columns - first);
            vectorise(path, || {
                for (f, total) in all[..frequencies].iter_mut().enumerate() {
                    total.fill(0.0);
                    for chunk in 0..chunks {
                        let from =
                            &sums[(chunk * frequencies + f) * frequency_sums + channel * padded_columns..];
                        for (total, value) in total.iter_mut().zip(&from[first..first + width]) {
                            *total += value;
                        }
                    }
                }
                if flat { narrow_weights::<1>(&mut all) } else { narrow_weights::<4>(&mut all) }
            });
            let taps = if flat { 9 } else { 27 };
            for tap in (0..taps).map(|tap| [tap / 9, tap / 3 % 3, tap % 3]) {
                let values = &all[(tap[0] * 4 + tap[1]) * 4 + tap[2]][..width];
                write(tap, channel, first, values);
            }
        }
    });
}
