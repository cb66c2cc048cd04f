//! The sums of a weight gradient by vectors: terms are positions any distance apart.

use super::super::blocking::{Blocking, Products, split};
use super::super::buffer::{Buffer, Shared};
use super::super::lines::line_of_columns;
use super::super::operands::Operands;
use super::super::tile::{Segment, Start, Tile};
use super::chunks::{Chunks, Outputs};
use super::source::{Rows, Source, Terms, row_block};

/// How the sums are shared out: a task has those of one chunk, one tap along x and one group of columns.
pub(super) struct VectorSums<'a> {
    blocking: Blocking,
    source: &'a Source<'a>,
    outputs: Outputs<'a>,
    chunks: &'a Chunks,
    /// Columns of a task, and number of such groups.
    group: usize,
    groups: usize,
    /// Output rows that are treated together.
    block: usize,
    /// Terms of a row of outputs, and their distance in the rows of the source.
    terms: usize,
    a_term: usize,
    /// Values of a block of outputs as operands; 0 where the gradient is an operand as it is.
    copy: usize,
}

/// The sums of a task: those of the taps along x and y begin at `base`, its columns at `first`.
#[derive(Clone, Copy)]
struct Sums<'a> {
    values: Shared<'a, f32>,
    base: usize,
    first: usize,
    width: usize,
}

impl<'a> VectorSums<'a> {
    pub(super) fn new(
        blocking: Blocking,
        source: &'a Source<'a>,
        outputs: Outputs<'a>,
        chunks: &'a Chunks,
    ) -> Self {
        let az = source.axes[2];
        let padded = chunks.padded;
        let group = blocking.vectors(chunks.rows, outputs.columns) * blocking.lanes;
        let block = row_block(source, 1);
        // In bf16 each term is two successive positions.
        let (terms, step) = match blocking.operands {
            Operands::Pairs => (az.count.div_ceil(2), 2 * az.step),
            _ => (az.count, az.step),
        };
        let as_it_is = padded == outputs.columns && blocking.operands == Operands::Single;
        Self {
            blocking,
            source,
            outputs,
            chunks,
            group,
            groups: padded.div_ceil(group),
            block,
            terms,
            a_term: step * source.channels,
            copy: if as_it_is { 0 } else { block * az.count * padded },
        }
    }

    pub(super) fn tasks(&self) -> usize {
        self.chunks.number * self.source.axes[0].taps * self.groups
    }

    /// Computes the sums of one task in the sums of all, (chunk, tap x, tap y, row, padded column).
    pub(super) fn run(&self, task: usize, sums: Shared<'_, f32>) {
        let [ax, ay, _] = self.source.axes;
        let Chunks { rows, padded, slab, .. } = *self.chunks;
        let (chunk, rest) = (task / (ax.taps * self.groups), task % (ax.taps * self.groups));
        let (tx, first) = (rest / self.groups, rest % self.groups * self.group);
        let width = self.group.min(padded - first);
        let base = (chunk * ax.taps + tx) * slab;
        for row in 0..ay.taps * rows {
            // SAFETY: these columns of this slab belong to this task alone.
            unsafe { sums.part(base + row * padded + first, width) }.fill(0.0);
        }
        let sums = Sums { values: sums, base, first, width };
        let mut scratch = Buffer::new(self.source.scratch(self.blocking.operands, 1, self.block) + self.copy);
        let (copy, scratch) = scratch.split_at_mut(self.copy);
        let mut segments = Vec::with_capacity(self.block);
        let mut products = self.blocking.products();
        for plane in self.chunks.planes(chunk) {
            let (n, x) = (plane / ax.count, plane % ax.count);
            // In the padding the source is zero: nothing to add.
            if ax.reads(x, tx).is_none() {
                continue;
            }
            for y0 in (0..ay.count).step_by(self.block) {
                let lines = self.block.min(ay.count - y0);
                let how = (self.blocking, Terms::Positions);
                let source_rows = self.source.rows(scratch, [n, x, y0], lines, (tx, 1), how);
                let columns = self.columns(plane * ay.count + y0, lines, copy);
                for ty in 0..ay.taps {
                    segments.clear();
                    let reads = |line: &usize| ay.reads(y0 + line, ty).is_some();
                    segments.extend((0..lines).filter(reads).map(|line| Segment {
                        a: (line * ay.step + ty) * source_rows.row,
                        b: line * self.terms * padded + first,
                    }));
                    self.add(&mut products, &source_rows, columns, &segments, ty, sums);
                }
            }
        }
    }

    /// The gradient of `lines` rows of outputs from row `row` on, as (row, term, padded column).
    fn columns<'b>(&self, row: usize, lines: usize, copy: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let Outputs { gradient, columns } = self.outputs;
        let line = self.source.axes[2].count * columns;
        let values = &gradient[row * line..][..lines * line];
        if self.copy == 0 {
            return values;
        }
        let padded = self.chunks.padded;
        for (to, from) in copy.chunks_exact_mut(self.terms * padded).zip(values.chunks_exact(line)) {
            line_of_columns((self.blocking.path, self.blocking.operands), from, (columns, padded), to);
        }
        copy
    }

    /// Adds the products of the segments to the sums of the tap `ty`.
    fn add(
        &self,
        products: &mut Products,
        source_rows: &Rows<'_>,
        columns: &[f32],
        segments: &[Segment],
        ty: usize,
        sums: Sums<'_>,
    ) {
        let Chunks { rows, padded, .. } = *self.chunks;
        // A tile has one, two or four vectors: a last group of three is one of two and one of one.
        let pieces: &[(usize, usize)] = match sums.width / self.blocking.lanes {
            3 => &[(0, 2), (2, 1)],
            2 => &[(0, 2)],
            1 => &[(0, 1)],
            _ => &[(0, 4)],
        };
        for &(vector, vectors) in pieces {
            split(rows, self.blocking.most_rows(vectors), |row, count, repeat| {
                let column = vector * self.blocking.lanes;
                let tile = Tile {
                    a: source_rows.values,
                    a_first: source_rows.first + row as isize,
                    a_row: 1,
                    a_term: self.a_term,
                    b: &columns[column..],
                    b_term: padded,
                    segments,
                    terms: self.terms,
                    start: Start::Out,
                    out: sums.values,
                    out_first: sums.base + (ty * rows + row) * padded + sums.first + column,
                    out_row: padded,
                    columns: vectors * self.blocking.lanes,
                    repeat,
                };
                // SAFETY: the segments name rows that exist, there are whole vectors of columns, and those of the sums
                // belong to this task alone.
                unsafe { products.compute(count, vectors, &tile) };
            });
        }
    }
}
