//! How much each sample of a training batch helps on held-out cases: the gradient that a policy learns from.
//!
//! With theta' = theta - alpha g, g the gradient of the batch's mean loss, and v = grad L_val(theta') on a batch of
//! the policy's validation cases, sample b has the alignment S_b = v . grad l_b(theta) (see
//! [`crate::policy::learn`]). It needs no second derivative and no backward pass per sample: the per-sample losses
//! at weights displaced along v differ by it,
//!
//! ```text
//! S_b = |v| (l_b(theta + r v/|v|) - l_b(theta)) / r                  one-sided, error O(r), one forward pass
//! S_b = |v| (l_b(theta + r v/|v|) - l_b(theta - r v/|v|)) / (2 r)    central, error O(r^2), two
//! ```
//!
//! Displaced passes see the same batch with the same dropout masks; normalisation statistics are left as they
//! are; weights are displaced copies, so that theta stays what it was, bit for bit. The look-ahead step is plain
//! gradient descent with the model's rate, its gradient not clipped.

mod tutor;

use rayon::prelude::*;
use segen_kernels::Precision;

use crate::Result;
use crate::loader::Batch;
use crate::network::Weights;
use crate::policy::learn::alignments;
use crate::policy::settings::{Difference, Learning};
use crate::step::{Gradient, Objective};

pub use tutor::{Lesson, Tutor, Update};

/// How alignments are computed.
#[derive(Debug)]
pub struct Meta<'a> {
    /// What training minimises: a mean over samples.
    pub training: &'a Objective<'a>,
    /// What the policy minimises.
    pub validation: &'a Objective<'a>,
    /// Length of the displacement.
    pub displacement: f64,
    /// One-sided or central.
    pub difference: Difference,
}

/// What [`Meta::look_ahead`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct LookAhead {
    /// S_b for every sample of the training batch; `None` where the validation gradient is 0.
    pub alignments: Option<Vec<f64>>,
    /// Loss of the validation batch after the look-ahead step.
    pub validation_loss: f64,
}

impl<'a> Meta<'a> {
    /// As configured.
    pub fn new(training: &'a Objective<'a>, validation: &'a Objective<'a>, learning: &Learning) -> Self {
        let Learning { displacement, difference, .. } = *learning;
        Self { training, validation, displacement, difference }
    }

    /// Alignments of the samples of `batch`, whose loss and gradient at `weights` are `gradient`.
    ///
    /// # Errors
    /// Where a loss or gradient is not finite.
    pub fn look_ahead(
        &self,
        weights: &Weights,
        batch: &Batch,
        gradient: &Gradient,
        rate: f64,
        validation: &Batch,
    ) -> Result<LookAhead> {
        let precise = Precise::begin();
        let ahead = moved(weights, &gradient.gradients, -rate);
        let seen = self.validation.validation_gradient(&ahead, validation)?;
        let norm = norm(&seen.gradients);
        let validation_loss = seen.value.total;
        if norm == 0.0 {
            return Ok(LookAhead { alignments: None, validation_loss });
        }
        let r = self.displacement;
        let losses = |way: f64| self.training.losses(&moved(weights, &seen.gradients, way * r / norm), batch);
        let above = losses(1.0)?;
        let alignments = match self.difference {
            // The training pass gave the losses at the weights themselves, unless it rounded.
            Difference::OneSided if precise.before == Precision::F32 => {
                alignments(&above, &gradient.value.per_sample, r, norm)
            }
            Difference::OneSided => alignments(&above, &losses(0.0)?, r, norm),
            Difference::Central => alignments(&above, &losses(-1.0)?, 2.0 * r, norm),
        };
        Ok(LookAhead { alignments: Some(alignments), validation_loss })
    }
}

/// Convolutions in f32 while it lives: displaced losses differ from the third digit on at most, which bf16 loses.
struct Precise {
    before: Precision,
}

impl Precise {
    fn begin() -> Self {
        let before = segen_kernels::precision();
        segen_kernels::set_precision(Precision::F32);
        Self { before }
    }
}

impl Drop for Precise {
    fn drop(&mut self) {
        segen_kernels::set_precision(self.before);
    }
}

/// A copy of the weights, moved by `factor` times `direction`.
fn moved(weights: &Weights, direction: &[Vec<f32>], factor: f64) -> Weights {
    let mut copy = weights.clone();
    copy.parameters.par_iter_mut().zip(direction).for_each(|(parameter, direction)| {
        for (w, d) in parameter.values.iter_mut().zip(direction) {
            *w = (f64::from(*w) + factor * f64::from(*d)) as f32;
        }
    });
    copy
}

/// L2 norm over all parameters, summed in module order.
fn norm(gradients: &[Vec<f32>]) -> f64 {
    let squares: Vec<f64> =
        gradients.par_iter().map(|g| g.iter().map(|&v| f64::from(v) * f64::from(v)).sum()).collect();
    squares.iter().sum::<f64>().sqrt()
}
