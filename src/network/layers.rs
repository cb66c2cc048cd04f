//! Layers that behave differently in training: batch norm and dropout.

use rand::Rng;
use rayon::prelude::*;
use segen_kernels as kernels;
use segen_kernels::{Activation, Array, Device, Nonlinearity};

use super::{Bound, Mode, Statistics};
use crate::rng::generator;

/// Added to variances; PyTorch's default. (DeepMedic adds the smallest normal number, that is none.)
const EPSILON: f64 = 1e-5;

/// One forward pass: its weights, its mode, and what its batch norms measure.
pub(super) struct Layers<'a> {
    pub(super) weights: &'a Bound,
    mode: Mode,
    observe: &'a mut dyn FnMut(&str, &Activation),
    pub(super) statistics: Vec<Statistics>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(weights: &'a Bound, mode: Mode, observe: &'a mut dyn FnMut(&str, &Activation)) -> Self {
        Self { weights, mode, observe, statistics: Vec::new() }
    }

    /// Batch norm by the parameters `NAME.weight` and `NAME.bias`, then the nonlinearity.
    pub(super) fn batch_norm(&mut self, name: &str, x: Activation, nonlinearity: Nonlinearity) -> Activation {
        let weight = self.weights.get(&format!("{name}.weight"));
        let bias = self.weights.get(&format!("{name}.bias"));
        let y = match self.mode {
            Mode::Training { .. } | Mode::BatchStatistics => {
                let (y, measured) = kernels::batch_norm(x, weight, bias, EPSILON, nonlinearity);
                self.statistics.push(Statistics {
                    layer: name.to_owned(),
                    mean: measured.mean,
                    variance: measured.variance,
                    count: measured.count,
                });
                y
            }
            Mode::Evaluation | Mode::Frozen { .. } => {
                let [mean, variance] = self.weights.running(name);
                kernels::batch_norm_fixed(x, weight, bias, mean, variance, EPSILON, nonlinearity)
            }
        };
        (self.observe)(name, &y);
        y
    }

    /// Valid convolution by the kernel `NAME.weight` of what is left of `x` when the share `dropped` of its
    /// values is set to 0. As in DeepMedic the values that stay are not enlarged in training; instead all are
    /// multiplied by `1 - dropped` in evaluation, here by way of the kernel.
    pub(super) fn conv(&mut self, name: &str, x: Activation, dropped: f64) -> Activation {
        let mut weight = self.weights.get(&format!("{name}.weight"));
        let mut x = x;
        if dropped > 0.0 {
            match self.mode {
                Mode::Training { seed, step } | Mode::Frozen { seed, step } => {
                    let mask = mask(x.shape(), dropped, seed, name, step, self.weights.device());
                    x = kernels::multiply_mask(x, &mask);
                }
                Mode::Evaluation | Mode::BatchStatistics => weight = weight.scale((1.0 - dropped) as f32),
            }
        }
        let y = kernels::conv3d(x, weight, None, [1; 3], [0; 3]);
        (self.observe)(name, &y);
        y
    }

    /// Shows a layer's output to whoever watches.
    pub(super) fn show(&mut self, name: &str, x: &Activation) {
        (self.observe)(name, x);
    }
}

/// Zeros with probability `dropped`, else ones; every sample has a generator of its own, keyed by (seed, layer,
/// step, sample).
fn mask(shape: [usize; 5], dropped: f64, seed: u64, layer: &str, step: u64, device: &Device) -> Array {
    const RANGE: f64 = 65_536.0;
    const CHUNK: usize = 2048;
    // A share of 1 would need 17 bits; it keeps one value in 65536.
    let threshold = (dropped * RANGE).round().min(RANGE - 1.0) as u16;
    let sample: usize = shape[1..].iter().product();
    let mut values = vec![0.0_f32; shape[0] * sample];
    values.par_chunks_mut(sample.max(1)).enumerate().for_each(|(index, values)| {
        let mut random = generator(seed, &["dropout", layer, &step.to_string(), &index.to_string()]);
        let mut bytes = [0; 2 * CHUNK];
        for values in values.chunks_mut(CHUNK) {
            random.fill_bytes(&mut bytes);
            for (value, pair) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f32::from(u8::from(u16::from_le_bytes([pair[0], pair[1]]) >= threshold));
            }
        }
    });
    Array::from_host(values, &shape, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_depend_on_layer_step_and_sample_and_keep_the_right_share() {
        let shape = [2, 10, 10, 10, 20];
        let draw =
            |dropped, layer: &str, step| mask(shape, dropped, 7, layer, step, &Device::Cpu).into_host();
        let kept = draw(0.3, "a", 3);
        assert!(kept.iter().all(|&v| v == 0.0 || v == 1.0));
        let share = kept.iter().sum::<f32>() / kept.len() as f32;
        // 40000 values: the deviation of the share is 0.0023.
        assert!((share - 0.7).abs() < 0.01, "{share}");
        assert_eq!(kept, draw(0.3, "a", 3));
        let half = kept.len() / 2;
        for other in [&kept[half..], &draw(0.3, "b", 3)[..half], &draw(0.3, "a", 4)[..half]] {
            let equal = kept[..half].iter().zip(other).filter(|(a, b)| a == b).count() as f64 / half as f64;
            // Independent masks agree with probability 0.7^2 + 0.3^2 = 0.58.
            assert!((equal - 0.58).abs() < 0.02, "{equal}");
        }
    }
}
