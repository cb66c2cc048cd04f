//! The weight gradient of a sum over taps.

use super::super::blocking::Blocking;
use super::super::buffer::{Buffer, Shared};
use super::chunks::{Chunks, Outputs};
use super::matrix_sums::MatrixSums;
use super::source::Source;
use super::vector_sums::VectorSums;
use crate::settings::Settings;

/// Gradient of the weights of [`super::correlate`]: `[tap x][tap y][tap z][channel][column]`, the sum over all outputs of
/// source times `gradient`, where `gradient` is (batch, x, y, z, column) over the outputs. Calls
/// `write(tap, channel, first column, values of columns)` until all are written, from several threads.
pub(crate) fn correlate_gradient(
    settings: &Settings,
    source: &Source<'_>,
    gradient: &[f32],
    columns: usize,
    write: impl Fn([usize; 3], usize, usize, &[f32]) + Sync,
) {
    let blocking = Blocking::of_neighbours(settings);
    let [ax, ay, _] = source.axes;
    let outputs = Outputs { gradient, columns };
    let chunks = Chunks::new(source, columns.next_multiple_of(blocking.lanes));
    let Chunks { number, rows, padded, slab, .. } = chunks;
    let mut partial = Buffer::new(number * ax.taps * slab);
    let sums = Shared::new(&mut partial);
    if blocking.has_matrix_tiles() {
        let job = MatrixSums::new(blocking, source, outputs, &chunks);
        settings.parallel(job.tasks(), |task| job.run(task, sums));
    } else {
        let job = VectorSums::new(Blocking::new(settings), source, outputs, &chunks);
        settings.parallel(job.tasks(), |task| job.run(task, sums));
    }
    settings.parallel(ax.taps * ay.taps, |tap| {
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
