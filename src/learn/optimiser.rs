//! How weights move: SGD with Nesterov momentum, Adam, RMSProp; gradient clipping; the schedules.
//!
//! Element by element in host memory, so a step is the same for any number of threads and its whole state is a
//! list of arrays that a checkpoint keeps bit for bit.

use rayon::prelude::*;

use crate::config::{Optimiser, OptimiserKind};
use crate::network::{Parameter, Weights};

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

/// How the learning rate falls.
#[derive(Clone, Copy, Debug)]
pub enum LearningRate<'a> {
    /// By a power of what is left, and halved at certain shares of the training.
    Polynomial(&'a Optimiser),
    /// As a half cosine, from this value to 0.
    HalfCosine(f64),
}

impl LearningRate<'_> {
    /// The learning rate of step `step` out of `steps`.
    pub fn at(&self, step: u64, steps: u64) -> f64 {
        let done = step as f64 / steps.max(1) as f64;
        match self {
            Self::Polynomial(optimiser) => {
                let halvings = optimiser.halve_at.iter().filter(|&&share| share <= done).count();
                let power = (1.0 - done).max(0.0).powf(optimiser.poly_power);
                optimiser.learning_rate * power * 0.5f64.powi(halvings as i32)
            }
            Self::HalfCosine(start) => {
                let turn = std::f64::consts::PI * step as f64 / steps.max(1) as f64;
                start * 0.5 * (1.0 + turn.cos())
            }
        }
    }
}

/// L2 norm over all parameters. Each is summed by itself and the sums in module order, so that it does not depend on
/// the number of threads.
pub fn norm(gradients: &[Vec<f32>]) -> f64 {
    let squares: Vec<f64> =
        gradients.par_iter().map(|g| g.iter().map(|&v| f64::from(v) * f64::from(v)).sum()).collect();
    squares.iter().sum::<f64>().sqrt()
}

/// Shortens the gradients to the norm `longest` where theirs is larger, and returns what it was.
pub fn clip(gradients: &mut [Vec<f32>], longest: f64) -> f64 {
    let length = norm(gradients);
    if length > longest {
        // As PyTorch's `clip_grad_norm_`, which keeps the quotient defined.
        let factor = (longest / (length + 1e-6)) as f32;
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
    let penalised;
    let gradients = match optimiser.l1 > 0.0 || optimiser.l2 > 0.0 {
        true => {
            penalised = with_penalty(optimiser, weights, gradients);
            &penalised
        }
        false => gradients,
    };
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

/// The gradients plus that of `l1 sum |w| + l2 sum w^2` over the kernels of convolutions.
fn with_penalty(optimiser: &Optimiser, weights: &Weights, gradients: &[Vec<f32>]) -> Vec<Vec<f32>> {
    const KERNEL_RANK: usize = 5;
    let (l1, l2) = (optimiser.l1 as f32, 2.0 * optimiser.l2 as f32);
    let slope = |w: f32| if w == 0.0 { 0.0 } else { l1.copysign(w) + l2 * w };
    let add = |(gradient, parameter): (&Vec<f32>, &Parameter)| match parameter.shape.len() {
        KERNEL_RANK => gradient.iter().zip(&parameter.values).map(|(g, &w)| g + slope(w)).collect(),
        _ => gradient.clone(),
    };
    gradients.par_iter().zip(&weights.parameters).map(add).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(shape: Vec<usize>, values: Vec<f32>) -> Weights {
        let parameters = vec![Parameter { name: "w".to_owned(), shape, values }];
        Weights { parameters, buffers: Vec::new() }
    }

    #[test]
    fn rmsprop_is_that_of_deepmedic() {
        let optimiser = Optimiser {
            kind: OptimiserKind::RmsProp,
            momentum: 0.6,
            weight_decay: 0.0,
            ..Optimiser::default()
        };
        let mut weights = weights(vec![1], vec![1.0]);
        let mut state = OptimiserState::new(optimiser.kind, &weights);
        let (mut theta, mut square, mut velocity) = (1.0f64, 0.0f64, 0.0f64);
        for gradient in [0.5, -0.25, 2.0, 0.01] {
            step(&optimiser, &mut state, &mut weights, &[vec![gradient as f32]], 1e-3);
            square = 0.9 * square + 0.1 * gradient * gradient;
            let slope = 1e-3 * gradient / (square + 1e-4).sqrt();
            velocity = 0.6 * velocity - slope;
            theta += 0.6 * velocity - slope;
            assert!((f64::from(weights.parameters[0].values[0]) - theta).abs() < 1e-6);
        }
    }

    #[test]
    fn the_rate_is_halved_where_deepmedic_halves_it() {
        let optimiser = Optimiser {
            learning_rate: 1e-3,
            poly_power: 0.0,
            halve_at: [17.0, 22.0, 27.0, 30.0, 33.0].map(|epoch: f64| epoch / 35.0).to_vec(),
            ..Optimiser::default()
        };
        // 35 epochs of 2000 steps.
        let rate = |epoch: u64| LearningRate::Polynomial(&optimiser).at(epoch * 2000, 70_000) / 1e-3;
        assert_eq!(
            [0, 16, 17, 21, 22, 27, 30, 33, 34].map(rate),
            [1.0, 1.0, 0.5, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125]
        );
    }

    #[test]
    fn the_penalty_pulls_at_kernels_alone() {
        let optimiser =
            Optimiser { momentum: 0.0, weight_decay: 0.0, l1: 0.01, l2: 0.1, ..Optimiser::default() };
        let run = |shape: Vec<usize>| {
            let mut weights = weights(shape, vec![0.5, -0.5, 0.0]);
            let mut state = OptimiserState::new(optimiser.kind, &weights);
            step(&optimiser, &mut state, &mut weights, &[vec![0.0; 3]], 1.0);
            weights.parameters.swap_remove(0).values
        };
        assert_eq!(run(vec![3]), [0.5, -0.5, 0.0]);
        // 0.01 sign(w) + 2 x 0.1 w = 0.11.
        for (value, expected) in run(vec![3, 1, 1, 1, 1]).into_iter().zip([0.39, -0.39, 0.0]) {
            assert!((value - expected).abs() < 1e-7, "{value}");
        }
    }
}
