//! Maximum pooling and the spreading of means.

use super::buffer::{Buffer, Shared};
use super::simd::vectorise;
use crate::settings::Settings;

/// Sizes of a maximum pooling without padding: input (batch, size, channels).
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxPool {
    pub(crate) batch: usize,
    pub(crate) size: [usize; 3],
    pub(crate) channels: usize,
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
}

impl MaxPool {
    pub(crate) fn output_size(&self) -> [usize; 3] {
        std::array::from_fn(|i| (self.size[i] - self.kernel[i]) / self.stride[i] + 1)
    }

    /// Returns the maxima, and for each the number of its tap: the first of equal ones. A value that is not a number
    /// counts as the largest, so that it is not lost.
    pub(crate) fn forward(&self, settings: &Settings, x: &[f32]) -> (Buffer, Vec<u32>) {
        let [ox, oy, oz] = self.output_size();
        let [sx, sy, sz] = self.size;
        let [kx, ky, kz] = self.kernel;
        let channels = self.channels;
        let length = self.batch * ox * oy * oz * channels;
        let (mut out, mut taps) = (Buffer::new(length), vec![0_u32; length]);
        let (shared, shared_taps) = (Shared::new(&mut out), Shared::new(&mut taps));
        settings.parallel(self.batch * ox, |task| {
            let (n, i) = (task / ox, task % ox);
            let plane = oy * oz * channels;
            // SAFETY: every task has its own plane.
            let (out, taps) =
                unsafe { (shared.part(task * plane, plane), shared_taps.part(task * plane, plane)) };
            vectorise(settings.path(), || {
                let voxels = out.chunks_exact_mut(channels).zip(taps.chunks_exact_mut(channels));
                for (index, (best, best_tap)) in voxels.enumerate() {
                    let corner = [i, index / oz, index % oz];
                    let [cx, cy, cz]: [usize; 3] =
                        std::array::from_fn(|axis| corner[axis] * self.stride[axis]);
                    for tap in 0..kx * ky * kz {
                        let [x_, y, z] = [cx + tap / (ky * kz), cy + tap / kz % ky, cz + tap % kz];
                        let from = &x[(((n * sx + x_) * sy + y) * sz + z) * channels..][..channels];
                        if tap == 0 {
                            best.copy_from_slice(from);
                            best_tap.fill(0);
                            continue;
                        }
                        for ((best, best_tap), value) in best.iter_mut().zip(&mut *best_tap).zip(from) {
                            let larger = *value > *best || value.is_nan();
                            *best = if larger { *value } else { *best };
                            *best_tap = if larger { tap as u32 } else { *best_tap };
                        }
                    }
                }
            });
        });
        (out, taps)
    }

    /// Gradient of the input: every input gathers from the windows in which it was the maximum, in a fixed order.
    pub(crate) fn backward(&self, settings: &Settings, taps: &[u32], gradient: &[f32]) -> Buffer {
        let [ox, oy, oz] = self.output_size();
        let [sx, sy, sz] = self.size;
        let [_, ky, kz] = self.kernel;
        let channels = self.channels;
        let mut out = Buffer::new(self.batch * sx * sy * sz * channels);
        let shared = Shared::new(&mut out);
        // The windows of one axis that hold a place.
        let windows = |axis: usize, place: usize, outputs: usize| {
            let first = (place + 1).saturating_sub(self.kernel[axis]).div_ceil(self.stride[axis]);
            first..(place / self.stride[axis] + 1).min(outputs)
        };
        settings.parallel(self.batch * sx, |task| {
            let (n, x) = (task / sx, task % sx);
            let plane = sy * sz * channels;
            // SAFETY: every task has its own plane.
            let out = unsafe { shared.part(task * plane, plane) };
            out.fill(0.0);
            vectorise(settings.path(), || {
                for (index, to) in out.chunks_exact_mut(channels).enumerate() {
                    let (y, z) = (index / sz, index % sz);
                    for i in windows(0, x, ox) {
                        for j in windows(1, y, oy) {
                            for k in windows(2, z, oz) {
                                let [dx, dy, dz] =
                                    [x - i * self.stride[0], y - j * self.stride[1], z - k * self.stride[2]];
                                let tap = ((dx * ky + dy) * kz + dz) as u32;
                                let from = (((n * ox + i) * oy + j) * oz + k) * channels;
                                let (taps, gradient) =
                                    (&taps[from..][..channels], &gradient[from..][..channels]);
                                for ((to, best), gradient) in to.iter_mut().zip(taps).zip(gradient) {
                                    *to += if *best == tap { *gradient } else { 0.0 };
                                }
                            }
                        }
                    }
                }
            });
        });
        out
    }
}

/// Gradient of means over `positions`: every position of sample n gets `gradient[n] / positions`.
pub(crate) fn spread(settings: &Settings, gradient: &[f32], channels: usize, positions: usize) -> Buffer {
    let mut out = Buffer::new(gradient.len() * positions);
    let shared = Shared::new(&mut out);
    settings.parallel(gradient.len() / channels, |n| {
        let share: Vec<f32> =
            gradient[n * channels..][..channels].iter().map(|value| value / positions as f32).collect();
        // SAFETY: every sample has its own part.
        let part = unsafe { shared.part(n * channels * positions, channels * positions) };
        part.chunks_exact_mut(channels).for_each(|to| to.copy_from_slice(&share));
    });
    out
}
