//! One-step adversarial training: inputs moved by a fixed length along the gradient of the supervised loss.
//!
//! It is neither the fast gradient sign method (no sign) nor virtual adversarial training (the true labels are
//! used). The perturbation is a constant: no gradient flows through it.

use segen_kernels::UNLABELLED;

use super::PassGradient;
use crate::Result;
use crate::batch::Batch;
use crate::config::DiceReduction;
use crate::config::method::Mode;
use crate::config::published::DirectionLoss;
use crate::learn::loss::Loss;
use crate::learn::method::Method;
use crate::learn::objective::{InputGradient, Objective};
use crate::network::Weights;
use crate::prepare::IGNORE;

/// Loss and gradient on the perturbed batch. The direction is that of these weights, which the clean step of the
/// same iteration has moved already.
///
/// # Errors
/// Where a number is not finite.
pub(super) fn gradient(
    objective: &Objective<'_>,
    method: &Method,
    weights: &Weights,
    batch: &Batch,
) -> Result<PassGradient> {
    let direction = direction(objective, method, weights, batch)?;
    let perturbed = perturb(method, batch, &direction.gradients);
    let mut gradient = objective.gradient(weights, &perturbed)?;
    gradient.forward += direction.forward;
    gradient.backward += direction.backward;
    Ok(PassGradient { gradient, numbers: Vec::new() })
}

/// How far samples with so many values in each input are moved, in words.
pub(super) fn describe(method: &Method, values: &[usize]) -> String {
    let norms: Vec<f64> = values.iter().map(|&count| norm(method, count)).collect();
    let inputs: Vec<String> = values
        .iter()
        .zip(&norms)
        .map(|(&count, norm)| {
            let rms = norm / (count as f64).sqrt();
            format!("{norm:.3} ({rms:.4} root mean square over {count} values)")
        })
        .collect();
    let total = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
    let total = if norms.len() > 1 { format!("; {total:.3} over all pathways") } else { String::new() };
    format!("adversarial perturbations of a sample have the L2 norm {}{total}", inputs.join(", "))
}

/// Gradient, with respect to every input, of the loss that the perturbation is to increase. In asymmetric mode
/// only voxels of rare classes have part in it, while all count in its mean.
pub fn direction(
    objective: &Objective<'_>,
    method: &Method,
    weights: &Weights,
    batch: &Batch,
) -> Result<InputGradient> {
    let dice = match method.conventions.direction {
        DirectionLoss::CrossEntropy => 0.0,
        DirectionLoss::CrossEntropyDice => 1.0,
    };
    let voxel = segen_kernels::VoxelLoss { epsilon: objective.loss.voxel.epsilon, ..Default::default() };
    let loss = Loss { dice, reduction: DiceReduction::Batch, voxel, ..Loss::default() };
    let direction = Objective { loss, ..*objective };
    match method.config.adversarial.mode {
        Mode::Asymmetric => {
            let mut rare = batch.clone();
            for label in &mut rare.labels {
                if *label != IGNORE && !method.rare[usize::from(*label)] {
                    *label = UNLABELLED as u8;
                }
            }
            direction.input_gradient(weights, &rare)
        }
        Mode::Off | Mode::Symmetric => direction.input_gradient(weights, batch),
    }
}

/// The batch with every input moved along its gradient, each sample and pathway by its own full length. In
/// asymmetric mode samples without a voxel of a rare class stay where they are: with batch norm their gradient is
/// not quite zero, only because other samples share their statistics.
pub fn perturb(method: &Method, batch: &Batch, gradients: &[Vec<f32>]) -> Batch {
    let mut moved = batch.clone();
    let adversarial = &method.config.adversarial;
    let samples = batch.label_shape[0];
    let voxels = batch.labels.len() / samples;
    let moves: Vec<bool> = batch
        .labels
        .chunks_exact(voxels)
        .map(|labels| {
            adversarial.mode != Mode::Asymmetric
                || labels.iter().any(|&label| label != IGNORE && method.rare[usize::from(label)])
        })
        .collect();
    for (input, gradient) in moved.inputs.iter_mut().zip(gradients) {
        let length = input.values.len() / samples;
        let reach = norm(method, length);
        let pieces = input.values.chunks_exact_mut(length).zip(gradient.chunks_exact(length));
        for ((values, gradient), _) in pieces.zip(&moves).filter(|(_, moves)| **moves) {
            for (value, direction) in values.iter_mut().zip(normalised(gradient)) {
                *value += (reach * direction) as f32;
            }
        }
    }
    moved
}

/// `v / max|v|`, then divided by its L2 norm; zeros stay zeros.
pub fn normalised(v: &[f32]) -> impl Iterator<Item = f64> + '_ {
    let largest = 1e-12 + v.iter().fold(0.0_f64, |largest, &v| largest.max(f64::from(v).abs()));
    let square: f64 = v.iter().map(|&v| (f64::from(v) / largest).powi(2)).sum();
    let length = (1e-6 + square).sqrt();
    v.iter().map(move |&v| f64::from(v) / largest / length)
}

/// L2 norm of the perturbation of `values` values.
pub fn norm(method: &Method, values: usize) -> f64 {
    let by_value = method.config.adversarial.eps_rms * (values as f64).sqrt();
    method.conventions.adversarial_norm.unwrap_or(by_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_of_the_normalisation() {
        let found: Vec<f64> = normalised(&[3.0, -4.0, 0.0, 1.0]).collect();
        for (found, expected) in found.iter().zip([0.588_348, -0.784_464, 0.0, 0.196_116]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        // Only the largest magnitude counts, so that the sign never turns; zeros stay where they are.
        assert!(normalised(&[-1.0, -2.0]).all(|v| v < 0.0));
        assert!(normalised(&[0.0; 3]).all(|v| v == 0.0));
    }
}
