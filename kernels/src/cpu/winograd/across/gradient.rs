//! The weight gradient of lines filtered across x and y.

use super::super::super::blocking::{Products, split};
use super::super::super::buffer::{Buffer, Shared};
use super::super::super::correlate::Source;
use super::super::super::tile::{Segment, Start, Tile};
use super::lines::transform_gradients;
use super::{FREQUENCIES, Tiles, WIDEN};
use crate::settings::Settings;

/// Sums that are kept apart: fixed, so that results do not depend on the number of threads.
const MOST_CHUNKS: usize = 16;

/// As [`super::super::super::correlate::correlate_gradient`].
pub(crate) fn correlate_gradient(
    settings: &Settings,
    source: &Source<'_>,
    gradient: &[f32],
    columns: usize,
    write: impl Fn([usize; 3], usize, usize, &[f32]) + Sync,
) {
    let tiles = Tiles::new(settings, source, columns);
    let chunks = tiles.strips().min(MOST_CHUNKS);
    let chunk_sums = FREQUENCIES * tiles.terms() * columns;
    let mut sums = Buffer::zeros(chunks * chunk_sums);
    let all = Shared::new(&mut sums);
    settings.parallel(chunks, |chunk| {
        let zeros = tiles.zeros();
        let mut input = Buffer::new(FREQUENCIES * tiles.input_frequency());
        let mut outputs = Buffer::new(FREQUENCIES * tiles.output_frequency());
        let mut products = tiles.blocking.products();
        // SAFETY: every chunk has its own sums.
        let sums = Shared::new(unsafe { all.part(chunk * chunk_sums, chunk_sums) });
        let strips = tiles.strips() * chunk / chunks..tiles.strips() * (chunk + 1) / chunks;
        for (strip, first, count) in strips.flat_map(|strip| tiles.blocks(strip)) {
            tiles.transform((strip, first), count, &zeros, &mut input);
            tiles.transform_outputs((strip, first), count, gradient, &mut outputs);
            tiles.add(&mut products, (&input, &outputs), count, sums);
        }
    });
    settings.parallel(tiles.terms(), |term| {
        let of_taps = tiles.combine(&sums, chunks, term);
        let (z, channel) = (term / source.channels, term % source.channels);
        for (tap, values) in of_taps.iter().enumerate() {
            write([tap / 3, tap % 3, z], channel, 0, values);
        }
    });
}

impl Tiles<'_> {
    /// Transforms the gradient of the outputs of `count` tiles from (strip, y) on, as (frequency, tile, row, column); zeros in
    /// the padding.
    fn transform_outputs(
        &self,
        (strip, first): (usize, usize),
        count: usize,
        gradient: &[f32],
        out: &mut [f32],
    ) {
        let length = self.source.axes[2].count * self.columns;
        let line = self.rows * self.columns;
        let frequency = self.output_frequency();
        for frequency in out.chunks_exact_mut(frequency) {
            frequency.chunks_exact_mut(line).take(count).for_each(|line| line[length..].fill(0.0));
        }
        let no_outputs = Buffer::zeros(length);
        let out = Shared::new(out);
        for tile in 0..count {
            let lines = self.output_lines((strip, first + tile));
            let lines =
                lines.map(|first| first.map_or(&no_outputs[..], |first| &gradient[first..][..length]));
            // SAFETY: four lines of `length` values, for which there is room in a line of each frequency.
            unsafe { transform_gradients(self.blocking.path, &lines, length, out, tile * line, frequency) };
        }
    }

    /// Adds the products of transformed inputs and gradients of `count` tiles to sums (frequency, term, column).
    fn add(
        &self,
        products: &mut Products,
        (input, outputs): (&[f32], &[f32]),
        count: usize,
        sums: Shared<'_, f32>,
    ) {
        let (columns, terms) = (self.columns, self.terms());
        let vectors = columns / self.blocking.lanes;
        for f in 0..FREQUENCIES {
            split(terms, self.blocking.most_rows(vectors), |row, rows, repeat| {
                let tile = Tile {
                    a: input,
                    a_first: (f * self.input_frequency() + row) as isize,
                    a_row: 1,
                    a_term: self.source.axes[2].step * self.source.channels,
                    b: &outputs[f * self.output_frequency()..],
                    b_term: columns,
                    segments: &[Segment { a: 0, b: 0 }],
                    terms: count * self.rows,
                    start: Start::Out,
                    out: sums,
                    out_first: (f * terms + row) * columns,
                    out_row: columns,
                    columns,
                    repeat,
                };
                // SAFETY: all lines are transformed, and zeros where there are no outputs; the sums are the caller's.
                unsafe { products.compute(rows, vectors, &tile) };
            });
        }
    }

    /// Adds the sums of all chunks for one term and transforms them back, `G^T u G`: the columns of each tap along x and y.
    fn combine(&self, sums: &[f32], chunks: usize, term: usize) -> [Vec<f32>; 9] {
        let mut of_taps = [(); 9].map(|()| vec![0.0_f64; self.columns]);
        for f in 0..FREQUENCIES {
            for column in 0..self.columns {
                let of_chunk = |chunk: usize| {
                    f64::from(sums[((chunk * FREQUENCIES + f) * self.terms() + term) * self.columns + column])
                };
                let sum: f64 = (0..chunks).map(of_chunk).sum();
                for (tap, of_tap) in of_taps.iter_mut().enumerate() {
                    of_tap[column] += WIDEN[f / 4][tap / 3] * WIDEN[f % 4][tap % 3] * sum;
                }
            }
        }
        of_taps.map(|values| values.into_iter().map(|value| value as f32).collect())
    }
}
