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
use crate::settings::Settings;

/// The gradient of the outputs, (batch, x, y, z, column).
struct Outputs<'a> {
    gradient: &'a [f32],
    columns: usize,
    /// Columns filled up to whole vectors.
    padded: usize,
}

impl Outputs<'_> {
    /// Transforms one row of tiles; `padding` is scratch where the columns are no whole vectors.
    fn transform(&self, rows: &Rows<'_>, row: usize, padding: &mut [f32], out: Target<'_>) {
        let Self { columns, padded, .. } = *self;
        let [cx, cy, cz] = rows.source.axes.map(|axis| axis.count);
        let [n, x, y] = rows.place(row);
        let flat = rows.filtered != Filtered::Volume;
        for tile in 0..rows.tiles[2] {
            let mut copies = padding.chunks_exact_mut(padded);
            let mut lines = [None; 8];
            for (i, line) in lines[..rows.outputs()].iter_mut().enumerate() {
                let (x, y, z) = (x + i / 4, y + i / 2 % 2, 2 * tile + i % 2);
                if x < cx && y < cy && z < cz {
                    let values = &self.gradient[(((n * cx + x) * cy + y) * cz + z) * columns..][..columns];
                    *line = Some(match copies.next() {
                        None => values,
                        Some(copy) => {
                            copy[..columns].copy_from_slice(values);
                            copy[columns..].fill(0.0);
                            &*copy
                        }
                    });
                }
            }
            let layout = rows.blocking.operands.along_positions();
            let out = Target { tile: out.tile + tile, ..out };
            // SAFETY: the lines are whole vectors; the caller has room for all tiles of the row.
            unsafe { transform_gradient(rows.blocking.path, layout, flat, &lines, padded, out) };
        }
    }

    /// Values of scratch that [`Self::transform`] needs.
    fn scratch(&self) -> usize {
        if self.padded == self.columns { 0 } else { 8 * self.padded }
    }
}

/// The rows of tiles cut into fixed chunks, each with sums of its own that are combined in order: so that the result does
/// not depend on the number of threads.
struct Gradient<'a> {
    rows: Rows<'a>,
    outputs: Outputs<'a>,
    chunks: usize,
    /// Rows of tiles that are treated together.
    block: usize,
}

/// As [`super::super::correlate::correlate_gradient`].
pub(crate) fn correlate_gradient(
    settings: &Settings,
    source: &Source<'_>,
    gradient: &[f32],
    columns: usize,
    write: impl Fn([usize; 3], usize, usize, &[f32]) + Sync,
) {
    let rows = Rows::new(source, Blocking::new(settings), Filtered::most(source));
    let padded = columns.next_multiple_of(rows.blocking.lanes);
    let outputs = Outputs { gradient, columns, padded };
    let chunks = chunks(source).clamp(1, rows.count());
    // As in the forward direction, but the sums are both read and written.
    let block = rows.per_block(rows.padded.max(padded), padded / 2);
    let job = Gradient { rows, outputs, chunks, block };
    let mut sums = Buffer::new(chunks * job.chunk_sums());
    let shared = Shared::new(&mut sums);
    settings.parallel(chunks, |chunk| {
        // SAFETY: every chunk has its own sums.
        job.sum(chunk, unsafe { shared.part(chunk * job.chunk_sums(), job.chunk_sums()) });
    });
    settings.parallel(source.channels, |channel| {
        job.combine(&sums, channel, |tap, first, values| write(tap, channel, first, values));
    });
}

impl Gradient<'_> {
    /// Values of the sums of a chunk, (frequency, channel, padded column).
    fn chunk_sums(&self) -> usize {
        self.rows.frequencies() * self.frequency_sums()
    }

    fn frequency_sums(&self) -> usize {
        self.rows.source.channels * self.outputs.padded
    }

    /// Computes the sums of one chunk.
    fn sum(&self, chunk: usize, sums: &mut [f32]) {
        let Self { rows, outputs, .. } = self;
        let tiles = rows.tiles[2];
        let layout = rows.blocking.operands.along_positions();
        // A line more than needed keeps the frequencies from falling on the same cache set.
        let [input_frequency, gradient_frequency] =
            [rows.padded, outputs.padded].map(|width| layout.words(self.block * tiles, width) + 16);
        let mut input = Buffer::new(rows.frequencies() * input_frequency);
        let mut transformed = Buffer::new(rows.frequencies() * gradient_frequency);
        let mut scratch = Buffer::new(rows.scratch());
        let mut padding = Buffer::new(outputs.scratch());
        sums.fill(0.0);
        let end = rows.count() * (chunk + 1) / self.chunks;
        for first_row in (rows.count() * chunk / self.chunks..end).step_by(self.block) {
            let block = self.block.min(end - first_row);
            let (to_input, to_gradient) = (Shared::new(&mut input), Shared::new(&mut transformed));
            for row in 0..block {
                let tile = row * tiles;
                let out = Target { values: to_input, frequency: input_frequency, tile };
                rows.transform(layout, rows.place(first_row + row), &mut scratch, out);
                let out = Target { values: to_gradient, frequency: gradient_frequency, tile };
                outputs.transform(rows, first_row + row, &mut padding, out);
            }
            let operands = [(&*input, input_frequency), (&*transformed, gradient_frequency)];
            self.multiply(operands, block * tiles, sums);
        }
    }

    /// Adds the products of the transformed inputs and gradients of `tiles` tiles to the sums of a chunk; arrays come with
    /// the distance between their frequencies.
    fn multiply(
        &self,
        [(input, input_frequency), (gradient, gradient_frequency)]: [(&[f32], usize); 2],
        tiles: usize,
        sums: &mut [f32],
    ) {
        let Rows { blocking, source, .. } = self.rows;
        let padded_columns = self.outputs.padded;
        let most_vectors = blocking.vectors(source.channels, self.outputs.columns);
        let sums = Shared::new(sums);
        let mut products = blocking.products();
        for f in 0..self.rows.frequencies() {
            let mut first = 0;
            while first < padded_columns {
                let left = (padded_columns - first) / blocking.lanes;
                // A tile has one, two or four vectors: three are left as two and one.
                let vectors = if left >= most_vectors { most_vectors } else { left.min(2) };
                split(source.channels, blocking.most_rows(vectors), |channel, count, repeat| {
                    let tile = Tile {
                        a: input,
                        a_first: (f * input_frequency + channel) as isize,
                        a_row: 1,
                        a_term: self.rows.padded,
                        b: &gradient[f * gradient_frequency + first..],
                        b_term: padded_columns,
                        segments: &[Segment { a: 0, b: 0 }],
                        terms: blocking.operands.words(tiles),
                        start: Start::Out,
                        out: sums,
                        out_first: f * self.frequency_sums() + channel * padded_columns + first,
                        out_row: padded_columns,
                        columns: vectors * blocking.lanes,
                        repeat,
                    };
                    // SAFETY: all tiles are transformed; the sums belong to this chunk.
                    unsafe { products.compute(count, vectors, &tile) };
                });
                first += vectors * blocking.lanes;
            }
        }
    }

    /// Combines the sums of all chunks for one channel and transforms them back: calls `write(tap, first column, values of
    /// columns)`.
    fn combine(&self, sums: &[f32], channel: usize, write: impl Fn([usize; 3], usize, &[f32])) {
        let Outputs { columns, padded, .. } = self.outputs;
        let frequencies = self.rows.frequencies();
        let flat = self.rows.filtered != Filtered::Volume;
        let mut all = vec![[0.0_f32; MOST_COLUMNS]; MOST_FREQUENCIES];
        for first in (0..columns).step_by(MOST_COLUMNS) {
            let width = MOST_COLUMNS.min(columns - first);
            vectorise(self.rows.blocking.path, || {
                for (f, total) in all[..frequencies].iter_mut().enumerate() {
                    total.fill(0.0);
                    for chunk in 0..self.chunks {
                        let from = (chunk * frequencies + f) * self.frequency_sums() + channel * padded;
                        for (total, value) in total.iter_mut().zip(&sums[from..][first..first + width]) {
                            *total += value;
                        }
                    }
                }
                if flat { narrow_weights::<1>(&mut all) } else { narrow_weights::<4>(&mut all) }
            });
            let taps = if flat { 9 } else { 27 };
            for tap in (0..taps).map(|tap| [tap / 9, tap / 3 % 3, tap % 3]) {
                // The taps are in the places of the first three frequencies of each axis.
                write(tap, first, &all[(tap[0] * 4 + tap[1]) * 4 + tap[2]][..width]);
            }
        }
    }
}
