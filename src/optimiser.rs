//! How weights move: SGD with Nesterov momentum, Adam, RMSProp; gradient clipping; the poly schedule.
//!
//! Element by element in host memory, so a step is the same for any number of threads and its whole state is a
//! list of arrays that a checkpoint keeps bit for bit.

use rayon::prelude::*;

use crate::config::{Optimiser, OptimiserKind};
use crate::network::Weights;

/// The moving state of an optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimiserState {
    /// Steps taken.
    pub steps: u64,
    /// First array per parameter: momentum (SGD, RMSProp) or mean gradient (Adam).
    pub first: Vec<Vec<f32>>,
    /// Second array per parameter: mean squared gradient (Adam, RMSProp); empty for SGD.
    pub second: Vec<Vec<f32>>,
}

const ADAM_BETAS: (f64, f64) = (0.9, 0.999);
const ADAM_EPSILON: f32 = 1e-8;
const RMSPROP_RHO: f32 = 0.9;
const RMSPROP_EPSILON: f32 = 1e-4;

impl OptimiserState {
    /// Before the first step.
    pub fn new(kind: OptimiserKind, weights: &Weights) -> Self {
        let zeros = || weights.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect::<Vec<_>>();
        let second = if kind == OptimiserKind::Sgd { Vec::new() } else { zeros() };
        Self { steps: 0, first: zeros(), second }
    }
}

/// The learning rate of step `step` out of `steps`.
pub fn learning_rate(optimiser: &Optimiser, step: u64, steps: u64) -> f64 {
    let left = 1.0 - step as f64 / steps.max(1) as f64;
    optimiser.learning_rate * left.max(0.0).powf(optimiser.poly_power)
}

/// Shortens the gradients to `norm` where they are longer (L2 over all parameters, summed in module order) and
/// returns their length before.
pub fn clip(gradients: &mut [Vec<f32>], norm: f64) -> f64 {
    let squares: Vec<f64> =
        gradients.par_iter().map(|g| g.iter().map(|&v| f64::from(v) * f64::from(v)).sum()).collect();
    let length = squares.iter().sum::<f64>().sqrt();
    if length > norm {
        let factor = (norm / (length + 1e-6)) as f32;
        gradients.par_iter_mut().for_each(|g| g.iter_mut().for_each(|v| *v *= factor));
    }
    length
}

/// One step downhill.
///
/// - SGD as PyTorch's `SGD(nesterov=True)`: g += decay w; v = m v + g; w -= rate (g + m v).
/// - Adam as PyTorch's `Adam`, the decay added to the gradient.
/// - RMSProp as DeepMedic's: a = 0.9 a + 0.1 g^2; s = rate g / sqrt(a + 1e-4); v = m v - s; w += m v - s.
pub fn step(
    optimiser: &Optimiser,
    state: &mut OptimiserState,
    weights: &mut Weights,
    gradients: &[Vec<f32>],
    rate: f64,
) {
    state.steps += 1;
    let (rate32, momentum, decay) = (rate as f32, optimiser.momentum as f32, optimiser.weight_decay as f32);
    let parameters = weights.parameters.par_iter_mut().zip(gradients);
    match optimiser.kind {
        OptimiserKind::Sgd => {
            parameters.zip(&mut state.first).for_each(|((parameter, gradient), velocity)| {
                for ((w, &g), v) in parameter.values.iter_mut().zip(gradient).zip(velocity) {
                    let g = g + decay * *w;
                    *v = momentum * *v + g;
                    *w -= rate32 * (g + momentum * *v);
                }
            })
        }
        OptimiserKind::Adam => {
            let (b1, b2) = ADAM_BETAS;
            let correction = |beta: f64| 1.0 - beta.powf(state.steps as f64);
            let (scale, root) = ((rate / correction(b1)) as f32, correction(b2).sqrt() as f32);
            let (b1, b2) = (b1 as f32, b2 as f32);
            parameters.zip(&mut state.first).zip(&mut state.second).for_each(
                |(((parameter, gradient), m), a)| {
                    for (((w, &g), m), a) in parameter.values.iter_mut().zip(gradient).zip(m).zip(a) {
                        let g = g + decay * *w;
                        *m = b1 * *m + (1.0 - b1) * g;
                        *a = b2 * *a + (1.0 - b2) * g * g;
                        *w -= scale * *m / (a.sqrt() / root + ADAM_EPSILON);
                    }
                },
            );
        }
        OptimiserKind::RmsProp => {
            parameters.zip(&mut state.first).zip(&mut state.second).for_each(
                |(((parameter, gradient), v), a)| {
                    for (((w, &g), v), a) in parameter.values.iter_mut().zip(gradient).zip(v).zip(a) {
                        let g = g + decay * *w;
                        *a = RMSPROP_RHO * *a + (1.0 - RMSPROP_RHO) * g * g;
                        let s = rate32 * g / (*a + RMSPROP_EPSILON).sqrt();
                        *v = momentum * *v - s;
                        *w += momentum * *v - s;
                    }
                },
            );
        }
    }
}
