//! Softmax and the sums of which segmentation losses are made.

use super::buffer::{Buffer, Shared};
use super::vectorise;
use crate::threads::parallel;
use crate::{IGNORED, Path};

/// Sizes: logits (batch, voxels, classes), target (batch, voxels), sums (batch, [`Self::columns`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(crate) batch: usize,
    pub(crate) voxels: usize,
    pub(crate) classes: usize,
}

/// Voxels per chunk of a sum: fixed, so that results do not depend on the number of threads.
const CHUNK: usize = 8192;

impl Sums {
    pub(crate) fn columns(&self) -> usize {
        2 + 3 * self.classes
    }

    fn chunks(&self) -> usize {
        self.voxels.div_ceil(CHUNK)
    }

    /// Returns the sums and the probabilities, of which the gradient is made.
    pub(crate) fn forward(&self, path: Path, logits: &[f32], target: &[u8]) -> (Vec<f32>, Buffer) {
        let (classes, columns, chunks) = (self.classes, self.columns(), self.chunks());
        let mut probabilities = Buffer::new(logits.len());
        let shared = Shared::new(&mut probabilities);
        let mut partial = vec![0.0_f64; self.batch * chunks * columns];
        let shared_partial = Shared::new(&mut partial);
        parallel(self.batch * chunks, |index| {
            let (n, chunk) = (index / chunks, index % chunks);
            let first = n * self.voxels + chunk * CHUNK;
            let count = CHUNK.min(self.voxels - chunk * CHUNK);
            let mut sums = vec![0.0_f64; columns];
            // SAFETY: the chunks do not overlap.
            let p = unsafe { shared.part(first * classes, count * classes) };
            vectorise(path, || {
                for (voxel, p) in p.chunks_exact_mut(classes).enumerate() {
                    let logits = &logits[(first + voxel) * classes..][..classes];
                    let log_sum = softmax_of(logits, p);
                    let class = usize::from(target[first + voxel]);
                    if class == IGNORED {
                        continue;
                    }
                    sums[0] += f64::from(log_sum) - f64::from(logits[class]);
                    for (c, p) in p.iter().enumerate() {
                        let p = f64::from(*p);
                        // TP and FN of the voxel's own class, FP of the others.
                        if c == class {
                            sums[1 + c] += p;
                            sums[1 + 2 * classes + c] += 1.0 - p;
                        } else {
                            sums[1 + classes + c] += p;
                        }
                    }
                    sums[1 + 3 * classes] += 1.0;
                }
            });
            // SAFETY: every chunk has its own part.
            unsafe { shared_partial.part(index * columns, columns) }.copy_from_slice(&sums);
        });
        let mut sums = vec![0.0_f64; self.batch * columns];
        for (index, chunk) in partial.chunks_exact(columns).enumerate() {
            for (sum, value) in sums[index / chunks * columns..].iter_mut().zip(chunk) {
                *sum += value;
            }
        }
        (sums.into_iter().map(|sum| sum as f32).collect(), probabilities)
    }

    /// Gradient of the logits, from the probabilities and the gradient of the sums.
    pub(crate) fn backward(
        &self,
        path: Path,
        probabilities: &[f32],
        target: &[u8],
        gradient: &[f32],
    ) -> Buffer {
        let (classes, columns, chunks) = (self.classes, self.columns(), self.chunks());
        let mut out = Buffer::new(probabilities.len());
        let shared = Shared::new(&mut out);
        parallel(self.batch * chunks, |index| {
            let (n, chunk) = (index / chunks, index % chunks);
            let first = n * self.voxels + chunk * CHUNK;
            let count = CHUNK.min(self.voxels - chunk * CHUNK);
            let gradient = &gradient[n * columns..][..columns];
            let (cross_entropy, rest) = (gradient[0], &gradient[1..]);
            let (true_positive, rest) = rest.split_at(classes);
            let (false_positive, false_negative) = rest.split_at(classes);
            // SAFETY: the chunks do not overlap.
            let out = unsafe { shared.part(first * classes, count * classes) };
            vectorise(path, || {
                for (voxel, out) in out.chunks_exact_mut(classes).enumerate() {
                    let p = &probabilities[(first + voxel) * classes..][..classes];
                    let class = usize::from(target[first + voxel]);
                    if class == IGNORED {
                        out.fill(0.0);
                        continue;
                    }
                    // Gradient of the probabilities, then through the softmax.
                    out.copy_from_slice(false_positive);
                    out[class] = true_positive[class] - false_negative[class];
                    let mean: f32 = out.iter().zip(p).map(|(g, p)| g * p).sum();
                    for (g, p) in out.iter_mut().zip(p) {
                        *g = p * (*g - mean + cross_entropy);
                    }
                    out[class] -= cross_entropy;
                }
            });
        });
        out
    }
}

/// Softmax of every run of `classes` values.
pub(crate) fn softmax(path: Path, logits: &[f32], classes: usize) -> Buffer {
    let mut out = Buffer::new(logits.len());
    let shared = Shared::new(&mut out);
    let voxels = logits.len() / classes.max(1);
    parallel(voxels.div_ceil(CHUNK), |chunk| {
        let first = chunk * CHUNK * classes;
        let length = CHUNK.min(voxels - chunk * CHUNK) * classes;
        // SAFETY: the chunks do not overlap.
        let out = unsafe { shared.part(first, length) };
        vectorise(path, || {
            for (p, logits) in out.chunks_exact_mut(classes).zip(logits[first..].chunks_exact(classes)) {
                softmax_of(logits, p);
            }
        });
    });
    out
}

/// Writes the softmax of one voxel; returns log(sum(exp(logits))).
#[inline(always)]
fn softmax_of(logits: &[f32], p: &mut [f32]) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (p, logit) in p.iter_mut().zip(logits) {
        *p = (logit - largest).exp();
        sum += *p;
    }
    for p in p.iter_mut() {
        *p /= sum;
    }
    largest + sum.ln()
}
