//! The weight gradient of a sum over taps.

use super::super::blocking::{Blocking, split, whole_steps};
use super::super::buffer::{Buffer, Shared};
use super::super::lines::line_of_columns;
use super::super::operands::Operands;
use super::super::tile::{Segment, Start, Tile};
use super::super::transpose::side_by_side;
use super::source::{Source, Terms, row_block};
use crate::path::Path;
use crate::threads::parallel;

/// Enough work to outweigh the zeroing and combining of a chunk's sums.
const POSITIONS_PER_CHUNK: usize = 4096;
const MOST_CHUNKS: usize = 8;
/// Values that the sums of all chunks may have: 2 MiB.
const VALUES_OF_CHUNKS: usize = 512 * 1024;
/// Values of operands that a task of matrix tiles holds at a time: half of the second-level cache of processors that have
/// them.
const VALUES_IN_CACHE: usize = 256 * 1024;

/// The outputs are cut into fixed chunks of planes, each with sums of its own, which are combined in order: so that the
/// result does not depend on the number of threads.
struct Chunks {
    number: usize,
    /// Planes of outputs, of the whole batch.
    planes: usize,
    /// Rows of sums for each tap along x and y: (tap z, channel).
    rows: usize,
    /// Columns filled up to whole vectors.
    padded: usize,
    /// Values of the sums of one chunk and tap along x, (tap y, row, padded column).
    slab: usize,
}

impl Chunks {
    fn new(source: &Source<'_>, padded: usize) -> Self {
        let [ax, ay, az] = source.axes;
        let rows = az.taps * source.channels;
        let planes = source.batch * ax.count;
        let slab = ay.taps * rows * padded;
        // Few weights have many chunks: short sums in f32 are exact ones.
        let most = (VALUES_OF_CHUNKS / (ax.taps * slab)).clamp(MOST_CHUNKS, 8 * MOST_CHUNKS);
        let fewest_positions = POSITIONS_PER_CHUNK * MOST_CHUNKS / most;
        let number = (planes * ay.count * az.count / fewest_positions).clamp(1, most.min(planes.max(1)));
        Self { number, planes, rows, padded, slab }
    }

    /// The planes of a chunk.
    fn planes(&self, chunk: usize) -> std::ops::Range<usize> {
        self.planes * chunk / self.number..self.planes * (chunk + 1) / self.number
    }
}

/// Gradient of the weights of [`super::correlate`]: `[tap x][tap y][tap z][channel][column]`, the sum over all outputs of
/// source times `gradient`, where `gradient` is (batch, x, y, z, column) over the outputs. Calls
/// `write(tap, channel, first column, values of columns)` until all are written, from several threads.
pub(crate) fn correlate_gradient(
    path: Path,
    source: &Source<'_>,
    gradient: &[f32],
    columns: usize,
    write: impl Fn([usize; 3], usize, usize, &[f32]) + Sync,
) {
    let blocking = Blocking::of_neighbours(path);
    let [ax, ay, _] = source.axes;
    let chunks = Chunks::new(source, columns.next_multiple_of(blocking.lanes));
    let Chunks { number, rows, padded, slab, .. } = chunks;
    let mut partial = Buffer::new(number * ax.taps * slab);
    let shared = Shared::new(&mut partial);
    if blocking.has_matrix_tiles() {
        by_matrix_tiles(blocking, source, (gradient, columns), &chunks, shared);
    } else {
        by_vectors(Blocking::new(path), source, (gradient, columns), &chunks, shared);
    }
    parallel(ax.taps * ay.taps, |tap| {
        let (tx, ty) = (tap / ay.taps, tap % ay.taps);
        let (mut sums, mut values) = (vec![0.0_f64; columns], vec![0.0; columns]);
        for row in 0..rows {
            sums.fill(0.0);
            for chunk in 0..number {
                let from = &partial[(chunk * ax.taps + tx) * slab + (ty * rows + row) * padded..][..columns];
                for (sum, value) in sums.iter_mut().zip(from) {
                    *sum += f64::from(*value);
                }
            }
            values.iter_mut().zip(&sums).for_each(|(value, sum)| *value = *sum as f32);
            write([tx, ty, row / source.channels], row % source.channels, 0, &values);
        }
    });
}

/// The sums of all chunks, by products whose terms are positions any distance apart.
fn by_vectors(
    blocking: Blocking,
    source: &Source<'_>,
    (gradient, columns): (&[f32], usize),
    chunks: &Chunks,
    sums: Shared<'_, f32>,
) {
    let [ax, ay, az] = source.axes;
    let channels = source.channels;
    let Chunks { number, rows, padded, slab, .. } = *chunks;
    let most_vectors = blocking.vectors(rows, columns);
    let group = most_vectors * blocking.lanes;
    let groups = padded.div_ceil(group);
    let block = row_block(source, 1);
    let whole = padded == columns && blocking.operands == Operands::Single;
    let column_copy = if whole { 0 } else { block * az.count * padded };
    // In bf16 each term is two successive positions.
    let (terms, step) = match blocking.operands {
        Operands::Pairs => (az.count.div_ceil(2), 2 * az.step),
        _ => (az.count, az.step),
    };
    parallel(number * ax.taps * groups, |task| {
        let (chunk, rest) = (task / (ax.taps * groups), task % (ax.taps * groups));
        let (tx, first) = (rest / groups, rest % groups * group);
        let width = group.min(padded - first);
        // A last group of three vectors is one of two and one of one.
        let pieces: &[(usize, usize)] = match width / blocking.lanes {
            3 => &[(0, 2), (2, 1)],
            2 => &[(0, 2)],
            1 => &[(0, 1)],
            _ => &[(0, 4)],
        };
        let base = (chunk * ax.taps + tx) * slab;
        for row in 0..ay.taps * rows {
            // SAFETY: these columns of this slab belong to this task alone.
            unsafe { sums.part(base + row * padded + first, width) }.fill(0.0);
        }
        let mut scratch = Buffer::new(source.scratch(blocking.operands, 1, block) + column_copy);

        let (column_scratch, scratch) = scratch.split_at_mut(column_copy);
        let mut segments = Vec::with_capacity(block);
        for plane in chunks.planes(chunk) {
            let (n, x) = (plane / ax.count, plane % ax.count);
            if ax.reads(x, tx).is_none() {
                continue;
            }
            for y0 in (0..ay.count).step_by(block) {
                let lines = block.min(ay.count - y0);
                let how = (blocking, Terms::Positions);
                let source_rows = source.rows(scratch, [n, x, y0], lines, (tx, 1), how);
                let position = (plane * ay.count + y0) * az.count;
                let values = &gradient[position * columns..][..lines * az.count * columns];
                let b = if column_copy == 0 {
                    values.as_ptr()
                } else {
                    let lines = values.chunks_exact(az.count * columns);
                    for (to, from) in column_scratch.chunks_exact_mut(terms * padded).zip(lines) {
                        let how = (blocking.path, blocking.operands);
                        line_of_columns(how, from, (columns, padded), to);
                    }
                    column_scratch.as_ptr()
                };
                for ty in 0..ay.taps {
                    segments.clear();
                    for line in 0..lines {
                        if ay.reads(y0 + line, ty).is_some() {
                            segments.push(Segment {
                                a: (line * ay.step + ty) * source_rows.row,
                                b: line * terms * padded + first,
                            });
                        }
                    }
                    for &(vector, vectors) in pieces {
                        split(rows, blocking.most_rows(vectors), |row, count, repeat| {
                            let column = vector * blocking.lanes;
                            let tile = Tile {
                                a: source_rows.start.wrapping_add(row),
                                a_row: 1,
                                a_term: step * channels,
                                b: b.wrapping_add(column),
                                b_term: padded,
                                segments: &segments,
                                terms,
                                start: Start::Out,
                                out: sums.at(base + (ty * rows + row) * padded + first + column),
                                out_row: padded,
                                columns: vectors * blocking.lanes,
                                repeat,
                            };
                            // SAFETY: the segments name rows that exist, `b` has whole vectors of columns, the
                            // columns of `out` belong to this task alone.
                            unsafe { blocking.function(count, vectors)(&tile) };
                        });
                    }
                }
            }
        }
    });
}

/// The same by matrix tiles, whose terms lie side by side: the lines of the source are transposed.
fn by_matrix_tiles(
    blocking: Blocking,
    source: &Source<'_>,
    (gradient, columns): (&[f32], usize),
    chunks: &Chunks,
    sums: Shared<'_, f32>,
) {
    let [ax, ay, az] = source.axes;
    let channels = source.channels;
    let Chunks { number, rows, padded, slab, .. } = *chunks;
    let group = blocking.vectors(rows, columns) * blocking.lanes;
    let groups = padded.div_ceil(group);
    // Few chunks are shared out by columns, at the price of converting their operands more often.
    let parts = if number < MOST_CHUNKS { groups } else { 1 };
    // A line of the source is (tap z, channel, word of two positions), one of the gradient (word, column). Words beyond the
    // outputs are zeros in both.
    let filled = az.count.div_ceil(2);
    let words = whole_steps(filled);
    let (source_line, gradient_line) = (rows * words, words * padded);
    let lines = VALUES_IN_CACHE / (ax.taps * ay.step * source_line + gradient_line);
    let block = lines.saturating_sub(ay.taps).clamp(1, ay.count.max(1));
    let plane_values = ay.span(block) * source_line;
    parallel(number * parts, |task| {
        let (chunk, part) = (task / parts, task % parts);
        let first_column = groups * part / parts * group;
        let end_column = (groups * (part + 1) / parts * group).min(padded);
        let base = chunk * ax.taps * slab;
        for row in 0..ax.taps * ay.taps * rows {
            // SAFETY: these columns of the chunk belong to this task alone.
            unsafe { sums.part(base + row * padded + first_column, end_column - first_column) }.fill(0.0);
        }
        let mut scratch = Buffer::new(ax.taps * plane_values + block * gradient_line);
        let (planes, gradients) = scratch.split_at_mut(ax.taps * plane_values);
        let mut segments = Vec::with_capacity(block);
        for y0 in (0..ay.count).step_by(block) {
            let lines = block.min(ay.count - y0);
            // The planes of the source that are held; neighbouring planes of outputs share them.
            let mut held = vec![None; ax.taps];
            for plane in chunks.planes(chunk) {
                let (n, x) = (plane / ax.count, plane % ax.count);
                let from = &gradient[(plane * ay.count + y0) * az.count * columns..];
                let from = from.chunks_exact(az.count * columns);
                for (to, from) in gradients.chunks_exact_mut(gradient_line).zip(from).take(lines) {
                    let (to, rest) = to.split_at_mut(filled * padded);
                    line_of_columns((blocking.path, blocking.operands), from, (columns, padded), to);
                    rest.fill(0.0);
                }
                for tx in 0..ax.taps {
                    let Some(source_x) = ax.reads(x, tx) else { continue };
                    let slot = source_x % ax.taps;
                    let operands = &mut planes[slot * plane_values..][..plane_values];
                    if held[slot].replace((n, source_x)) != Some((n, source_x)) {
                        for (line, to) in
                            operands.chunks_exact_mut(source_line).take(ay.span(lines)).enumerate()
                        {
                            let Some(source_y) = ay.reads(y0, line) else { continue };
                            let from = &source.values[source.offset(n, source_x, source_y, 0)..]
                                [..az.source * channels];
                            for (tz, to) in to.chunks_exact_mut(channels * words).enumerate() {
                                side_by_side(from, channels, (az.first + tz as isize, az.step), words, to);
                            }
                        }
                    }
                    for ty in 0..ay.taps {
                        let reads = |line: &usize| ay.reads(y0 + line, ty).is_some();
                        segments.clear();
                        segments.extend((0..lines).filter(reads).map(|line| Segment {
                            a: (line * ay.step + ty) * source_line,
                            b: line * gradient_line,
                        }));
                        for first in (first_column..end_column).step_by(group) {
                            let width = group.min(end_column - first);
                            let vectors = width / blocking.lanes;
                            split(rows, blocking.most_rows(vectors), |row, count, repeat| {
                                let tile = Tile {
                                    a: operands[row * words..].as_ptr(),
                                    a_row: words,
                                    a_term: 1,
                                    b: gradients[first..].as_ptr(),
                                    b_term: padded,
                                    segments: &segments,
                                    terms: words,
                                    start: Start::Out,
                                    out: sums.at(base + tx * slab + (ty * rows + row) * padded + first),
                                    out_row: padded,
                                    columns: width,
                                    repeat,
                                };
                                // SAFETY: the segments name lines that were converted, and the columns of the sums
                                // belong to this task alone.
                                unsafe { blocking.function(count, vectors)(&tile) };
                            });
                        }
                    }
                }
            }
        }
    });
}
