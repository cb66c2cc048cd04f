//! How the outputs are cut into chunks for a weight gradient.

use std::ops::Range;

use super::source::Source;

/// Enough work to outweigh the zeroing and combining of a chunk's sums.
const POSITIONS_PER_CHUNK: usize = 4096;
pub(super) const MOST_CHUNKS: usize = 8;
/// Values that the sums of all chunks may have: 2 MiB.
const VALUES_OF_CHUNKS: usize = 512 * 1024;

/// The gradient of the outputs, (batch, x, y, z, column).
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub(super) gradient: &'a [f32],
    pub(super) columns: usize,
}

/// The outputs are cut into fixed chunks of planes, each with sums of its own, which are combined in order: so that the
/// result does not depend on the number of threads.
pub(super) struct Chunks {
    pub(super) number: usize,
    /// Planes of outputs, of the whole batch.
    planes: usize,
    /// Rows of sums for each tap along x and y: (tap z, channel).
    pub(super) rows: usize,
    /// Columns filled up to whole vectors.
    pub(super) padded: usize,
    /// Values of the sums of one chunk and tap along x, (tap y, row, padded column).
    pub(super) slab: usize,
}

impl Chunks {
    pub(super) fn new(source: &Source<'_>, padded: usize) -> Self {
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
    pub(super) fn planes(&self, chunk: usize) -> Range<usize> {
        self.planes * chunk / self.number..self.planes * (chunk + 1) / self.number
    }
}
