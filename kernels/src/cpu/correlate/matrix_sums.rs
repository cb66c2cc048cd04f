//! The sums of a weight gradient by matrix tiles, whose terms lie side by side: the lines of the source are transposed.

use super::super::blocking::{Blocking, Products, split, whole_steps};
use super::super::buffer::{Buffer, Shared};
use super::super::lines::line_of_columns;
use super::super::tile::{Segment, Start, Tile};
use super::super::transpose::side_by_side;
use super::chunks::{Chunks, MOST_CHUNKS, Outputs};
use super::source::Source;

/// Values of operands that a task holds at a time: half of the second-level cache of processors that have matrix tiles.
const VALUES_IN_CACHE: usize = 256 * 1024;

/// How the sums are shared out: a task has those of one chunk and one part of the columns.
///
/// A line of the source is (tap z, channel, word of two positions), one of the gradient (word, padded column).
pub(super) struct MatrixSums<'a> {
    blocking: Blocking,
    source: &'a Source<'a>,
    outputs: Outputs<'a>,
    chunks: &'a Chunks,
    /// Columns of a product, and number of such groups.
    group: usize,
    groups: usize,
    /// Tasks that share a chunk.
    parts: usize,
    /// Words of a line, of which those from `filled` on are beyond the outputs: zeros in both operands.
    words: usize,
    filled: usize,
    /// Values of a line of the source and of the gradient.
    source_line: usize,
    gradient_line: usize,
    /// Output rows that are treated together, and values of the lines of one plane of the source that they read.
    block: usize,
    plane: usize,
}

impl<'a> MatrixSums<'a> {
    pub(super) fn new(
        blocking: Blocking,
        source: &'a Source<'a>,
        outputs: Outputs<'a>,
        chunks: &'a Chunks,
    ) -> Self {
        let [ax, ay, az] = source.axes;
        let Chunks { number, rows, padded, .. } = *chunks;
        let group = blocking.vectors(rows, outputs.columns) * blocking.lanes;
        let groups = padded.div_ceil(group);
        let filled = az.count.div_ceil(2);
        // A number of words without divisors would go through the tiles one by one.
        let words = whole_steps(filled);
        let (source_line, gradient_line) = (rows * words, words * padded);
        let lines = VALUES_IN_CACHE / (ax.taps * ay.step * source_line + gradient_line);
        let block = lines.saturating_sub(ay.taps).clamp(1, ay.count.max(1));
        Self {
            blocking,
            source,
            outputs,
            chunks,
            group,
            groups,
            // Few chunks are shared out by columns, at the price of converting their operands more often.
            parts: if number < MOST_CHUNKS { groups } else { 1 },
            words,
            filled,
            source_line,
            gradient_line,
            block,
            plane: ay.span(block) * source_line,
        }
    }

    pub(super) fn tasks(&self) -> usize {
        self.chunks.number * self.parts
    }

    /// Computes the sums of one task in the sums of all, (chunk, tap x, tap y, row, padded column).
    pub(super) fn run(&self, task: usize, sums: Shared<'_, f32>) {
        let [ax, ay, _] = self.source.axes;
        let Chunks { rows, padded, slab, .. } = *self.chunks;
        let (chunk, part) = (task / self.parts, task % self.parts);
        let first_column = self.groups * part / self.parts * self.group;
        let end_column = (self.groups * (part + 1) / self.parts * self.group).min(padded);
        let base = chunk * ax.taps * slab;
        for row in 0..ax.taps * ay.taps * rows {
            // SAFETY: these columns of the chunk belong to this task alone.
            unsafe { sums.part(base + row * padded + first_column, end_column - first_column) }.fill(0.0);
        }
        let mut scratch = Buffer::new(ax.taps * self.plane + self.block * self.gradient_line);
        let (planes, gradients) = scratch.split_at_mut(ax.taps * self.plane);
        let mut segments = Vec::with_capacity(self.block);
        let mut products = self.blocking.products();
        for y0 in (0..ay.count).step_by(self.block) {
            let lines = self.block.min(ay.count - y0);
            // Neighbouring planes of outputs read the same planes of the source: those converted are kept, each in the
            // slot of its number modulo the taps, and here is which they are.
            let mut held = vec![None; ax.taps];
            for plane in self.chunks.planes(chunk) {
                let (n, x) = (plane / ax.count, plane % ax.count);
                self.convert_gradient(plane * ay.count + y0, lines, gradients);
                for tx in 0..ax.taps {
                    let Some(source_x) = ax.reads(x, tx) else { continue };
                    let slot = source_x % ax.taps;
                    let operands = &mut planes[slot * self.plane..][..self.plane];
                    if held[slot].replace((n, source_x)) != Some((n, source_x)) {
                        self.convert_source([n, source_x, y0], lines, operands);
                    }
                    for ty in 0..ay.taps {
                        let reads = |line: &usize| ay.reads(y0 + line, ty).is_some();
                        segments.clear();
                        segments.extend((0..lines).filter(reads).map(|line| Segment {
                            a: (line * ay.step + ty) * self.source_line,
                            b: line * self.gradient_line,
                        }));
                        let first = base + tx * slab + ty * rows * padded;
                        for column in (first_column..end_column).step_by(self.group) {
                            let columns = (column, self.group.min(end_column - column));
                            let operands = (&*operands, &*gradients);
                            self.add(&mut products, operands, &segments, columns, (sums, first));
                        }
                    }
                }
            }
        }
    }

    /// Converts `lines` rows of the outputs' gradient from row `row` on.
    fn convert_gradient(&self, row: usize, lines: usize, to: &mut [f32]) {
        let Outputs { gradient, columns } = self.outputs;
        let padded = self.chunks.padded;
        let line = self.source.axes[2].count * columns;
        let from = gradient[row * line..].chunks_exact(line).take(lines);
        for (to, from) in to.chunks_exact_mut(self.gradient_line).zip(from) {
            let (to, beyond) = to.split_at_mut(self.filled * padded);
            line_of_columns((self.blocking.path, self.blocking.operands), from, (columns, padded), to);
            beyond.fill(0.0);
        }
    }

    /// Converts the lines of the source's plane (n, x) that `lines` rows of outputs from row `y0` on read.
    fn convert_source(&self, [n, x, y0]: [usize; 3], lines: usize, to: &mut [f32]) {
        let [_, ay, az] = self.source.axes;
        let channels = self.source.channels;
        for (line, to) in to.chunks_exact_mut(self.source_line).take(ay.span(lines)).enumerate() {
            let Some(y) = ay.reads(y0, line) else { continue };
            let from = &self.source.values[self.source.offset(n, x, y, 0)..][..az.source * channels];
            // Each tap along z has a copy of its own, shifted by a position: a word holds two positions, so that no tap
            // could read another's.
            for (tz, to) in to.chunks_exact_mut(channels * self.words).enumerate() {
                side_by_side(from, channels, (az.first + tz as isize, az.step), self.words, to);
            }
        }
    }

    /// Adds the products of the segments to the sums that begin at `first`, of `width` columns from `column` on.
    fn add(
        &self,
        products: &mut Products,
        (operands, gradients): (&[f32], &[f32]),
        segments: &[Segment],
        (column, width): (usize, usize),
        (sums, first): (Shared<'_, f32>, usize),
    ) {
        let Chunks { rows, padded, .. } = *self.chunks;
        let vectors = width / self.blocking.lanes;
        split(rows, self.blocking.most_rows(vectors), |row, count, repeat| {
            let tile = Tile {
                a: operands,
                a_first: (row * self.words) as isize,
                a_row: self.words,
                a_term: 1,
                b: &gradients[column..],
                b_term: padded,
                segments,
                terms: self.words,
                start: Start::Out,
                out: sums,
                out_first: first + row * padded + column,
                out_row: padded,
                columns: width,
                repeat,
            };
            // SAFETY: the segments name lines that were converted, and the columns of the sums belong to this task alone.
            unsafe { products.compute(count, vectors, &tile) };
        });
    }
}
