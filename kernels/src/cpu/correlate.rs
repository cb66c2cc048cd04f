//! Sums over taps of a channels-last array: what convolution, its input gradient and transposed convolution have in
//! common, and the weight gradient of all three.

mod chunks;
mod gradient;
mod matrix_sums;
mod run;
mod source;
mod vector_sums;
mod weights;

pub(crate) use gradient::correlate_gradient;
pub(crate) use run::Run;
pub(crate) use source::{Axis, Place, Source};
pub(crate) use weights::Packed;

use super::blocking::split;
use super::buffer::{Buffer, Shared};
use super::tile::{Segment, Start, Tile};
use crate::settings::Settings;
use source::{Terms, row_block};

/// Writes `out[place] = bias + sum over taps and channels of source * weights` for all outputs of the source's axes.
/// `out` is (batch, place x, place y, place z, column).
pub(crate) fn correlate(
    settings: &Settings,
    source: &Source<'_>,
    weights: &Packed,
    bias: &[f32],
    out: Shared<'_, f32>,
    places: [Place; 3],
) {
    let [ax, ay, az] = source.axes;
    let channels = source.channels;
    let columns = weights.columns;
    let mut padded_bias = bias.to_vec();
    padded_bias.resize(columns.next_multiple_of(weights.group), 0.0);
    let block = row_block(source, ax.taps);
    let blocks = ay.count.div_ceil(block);
    let Packed { vectors, group, blocking, .. } = *weights;
    let [px, py, pz] = places;
    let width = blocking.operands.words(channels);
    settings.parallel(source.batch * ax.count * blocks, |task| {
        let (plane, y0) = (task / blocks, task % blocks * block);
        let (n, x) = (plane / ax.count, plane % ax.count);
        let lines = block.min(ay.count - y0);
        let mut scratch = Buffer::new(source.scratch(blocking.operands, ax.taps, lines));

        let how = (blocking, Terms::Channels);
        let rows = source.rows(&mut scratch, [n, x, y0], lines, (0, ax.taps), how);
        // One segment for each tap along x and y whose row is inside; along z the taps and their channels lie side by side,
        // so that they are terms of one run.
        let mut segments = Vec::with_capacity(ax.taps * ay.taps);
        let mut products = blocking.products();
        for (index, first) in (0..columns).step_by(group).enumerate() {
            let slab = &weights.values[index * ax.taps * ay.taps * az.taps * width * group..];
            for line in 0..lines {
                segments.clear();
                for (tx, ty) in (0..ax.taps).flat_map(|tx| (0..ay.taps).map(move |ty| (tx, ty))) {
                    if ax.reads(x, tx).is_some() && ay.reads(y0 + line, ty).is_some() {
                        segments.push(Segment {
                            a: tx * rows.plane + (line * ay.step + ty) * rows.row,
                            b: (tx * ay.taps + ty) * az.taps * width * group,
                        });
                    }
                }
                let line_out =
                    ((n * px.size + px.first + x * px.step) * py.size + py.first + (y0 + line) * py.step)
                        * pz.size
                        + pz.first;
                split(az.count, blocking.most_rows(vectors), |z, count, repeat| {
                    let tile = Tile {
                        a: rows.values,
                        a_first: rows.first + (z * az.step * width) as isize,
                        a_row: az.step * width,
                        a_term: 1,
                        b: slab,
                        b_term: group,
                        segments: &segments,
                        terms: az.taps * width,
                        start: Start::Columns(&padded_bias[first..]),
                        out,
                        out_first: (line_out + z * pz.step) * columns + first,
                        out_row: pz.step * columns,
                        columns: columns - first,
                        repeat,
                    };
                    // SAFETY: the segments name rows that exist, `slab` has group columns per term, the outputs
                    // of this line belong to this task alone.
                    unsafe { products.compute(count, vectors, &tile) };
                });
            }
        }
    });
}
