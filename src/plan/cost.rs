//! What a training step costs: operations, seconds, bytes.

use super::Plan;
use crate::network::{NetworkShape, Shape};

/// Times that a step reads or writes each feature map outside of its convolutions: normalisation and activation
/// forward and backward, joining the skip connections.
const ACTIVATION_PASSES: f64 = 8.0;
/// What memory-bound operators reach, bytes a second.
const MEMORY_BANDWIDTH: f64 = 15e9;
/// Copies of each feature map that are held at the peak of a step: output of the convolution, output of the
/// activation, and the gradients that are on their way.
const ACTIVATION_COPIES: f64 = 2.8;
/// Values held for every weight: itself, gradient, momentum, and a packed copy for the kernels.
const WEIGHT_COPIES: f64 = 4.0;
/// Feature maps that the kernels work on at once: fewer take as long.
const VECTOR_CHANNELS: usize = 16;
/// Batches that wait in the loader's queue or are being made.
const QUEUED_BATCHES: f64 = 6.0;
/// The program itself, bytes, and what the allocator keeps between buffers.
const PROGRAM_BYTES: f64 = 90e6;
/// Bytes that the sampler holds for every case, where its voxels are kept in memory: up to 10000 positions of 12
/// bytes for each class, twice.
const POSITION_BYTES: f64 = 2.0 * 12.0;
/// See [`POSITION_BYTES`].
const POSITIONS: f64 = 10_000.0;
/// Part of a measured convolution speed that the convolutions of a whole network reach: their maps are smaller, and
/// their channels fewer, than those of the measured one.
const NETWORK_SHARE: f64 = 0.75;

impl Plan {
    /// Floating point operations of one training step: twice the multiply-adds of the convolutions, forward and
    /// backward (towards weights and inputs), for the whole batch.
    pub fn step_flops(&self) -> f64 {
        self.step_flops_of(&self.shape)
    }

    fn step_flops_of(&self, shape: &Shape) -> f64 {
        shape.kind().step_flops(self.patch, self.channels, self.classes) * self.batch as f64
    }

    /// Bytes of the feature maps of one batch in `f32`: every convolution, every upsampling and the output.
    pub fn activation_bytes(&self) -> f64 {
        activation_bytes(self.shape.kind(), self.patch, self.classes) * self.batch as f64
    }

    /// Trained numbers: weights and biases of the convolutions, scale and shift of the normalisations.
    pub fn parameters(&self) -> usize {
        self.shape.parameters(self.channels, self.classes)
    }

    /// How long a training step should take on a machine that reaches this many 1e9 operations a second.
    pub fn predicted_step_seconds(&self, gflops: f64) -> f64 {
        let shape = self.shape.kind().in_whole_vectors(VECTOR_CHANNELS);
        seconds(self.step_flops_of(&shape), self.activation_bytes(), gflops)
    }

    /// How long a training step should take on this machine, from the speed of one convolution on it
    /// (`segen_kernels::convolution_speed`, 1e9 operations a second).
    pub fn predicted_step_seconds_here(&self, convolution_gflops: f64) -> f64 {
        self.predicted_step_seconds(NETWORK_SHARE * convolution_gflops)
    }

    /// How much memory training on all cases should need at its peak, bytes, without what the operating system caches.
    /// `kept_gib` (`loader.memory_gib`) bounds the prepared cases that are kept in memory, GiB.
    pub fn predicted_peak_bytes(&self, kept_gib: f64) -> u64 {
        let voxels = self.patch.iter().product::<usize>() as f64;
        let sample = 4.0 * self.channels as f64 + 2.0;
        let cases: f64 = self
            .prepared_voxels()
            .map(|voxels| {
                let positions = POSITIONS.min(voxels / self.classes as f64) * self.classes as f64;
                voxels * (4.0 * self.channels as f64 + 1.0) + POSITION_BYTES * positions
            })
            .sum();
        let cases = cases.min(kept_gib * f64::from(1u32 << 30));
        let queue = QUEUED_BATCHES * self.batch as f64 * voxels * sample;
        let weights = WEIGHT_COPIES * 4.0 * self.parameters() as f64;
        (PROGRAM_BYTES + ACTIVATION_COPIES * self.activation_bytes() + weights + queue + cases) as u64
    }

    /// Bytes of the prepared samples of all cases on disk.
    pub fn prepared_bytes(&self) -> u64 {
        let voxel = 4.0 * self.channels as f64 + 1.0 + f64::from(self.fingerprint.masked_cases > 0);
        (voxel * self.prepared_voxels().sum::<f64>()) as u64
    }

    /// Voxels of every case at the plan's spacing.
    fn prepared_voxels(&self) -> impl Iterator<Item = f64> {
        let cases = self.fingerprint.shapes.iter().zip(&self.fingerprint.spacings);
        cases.map(|(shape, spacing)| {
            (0..3).map(|a| shape[a] as f64 * spacing[a] / self.spacing[a]).product::<f64>()
        })
    }
}

/// Seconds for that many operations and bytes of feature maps.
pub(super) fn seconds(flops: f64, activation_bytes: f64, gflops: f64) -> f64 {
    flops / (gflops * 1e9) + ACTIVATION_PASSES * activation_bytes / MEMORY_BANDWIDTH
}

/// Bytes of the feature maps of one sample.
pub(super) fn activation_bytes(shape: &dyn NetworkShape, patch: [usize; 3], classes: usize) -> f64 {
    4.0 * shape.feature_values(patch, classes)
}
