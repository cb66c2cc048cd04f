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
//! [`look_ahead`] is this algorithm for anything that has such losses; [`Meta`] asks a network for them. Its
//! displaced passes see the same batch with the same dropout masks; normalisation statistics are left as they
//! are; weights are displaced copies, so that theta stays what it was, bit for bit. The look-ahead step is plain
//! gradient descent with the model's rate, its gradient not clipped.

use rayon::prelude::*;
use segen_kernels::{Precision, Settings};

use super::objective::{Gradient, Objective};
use super::optimiser;
use crate::Result;
use crate::batch::Batch;
use crate::config::Conventions;
use crate::config::policy::Learning;
use crate::config::published::Difference;
use crate::network::Weights;
use crate::policy::learn::alignments;

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

/// What a look-ahead asks of a model.
pub trait Losses {
    /// Its weights.
    type Weights;
    /// A gradient with respect to them.
    type Direction;

    /// Loss of the held-out samples, and its gradient.
    ///
    /// # Errors
    /// Where one is not finite.
    fn held_out(&self, weights: &Self::Weights) -> Result<(f64, Self::Direction)>;

    /// Loss of each sample of the training batch.
    ///
    /// # Errors
    /// Where one is not finite.
    fn samples(&self, weights: &Self::Weights) -> Result<Vec<f64>>;

    /// A copy of the weights, moved by `factor` times a direction.
    fn moved(&self, weights: &Self::Weights, direction: &Self::Direction, factor: f64) -> Self::Weights;

    /// L2 norm over all weights.
    fn norm(&self, direction: &Self::Direction) -> f64;
}

/// How samples' losses are differenced: which way, and how long the displacement of the weights is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Displacement {
    /// One-sided or central.
    pub difference: Difference,
    /// Its length.
    pub length: f64,
}

/// Alignments of the samples of a training batch with the held-out samples, after a plain step of size `rate` down
/// `gradient`. `known` are the samples' losses at the weights, where they are known already.
///
/// # Errors
/// Where a loss or gradient is not finite.
pub fn look_ahead<L: Losses>(
    losses: &L,
    weights: &L::Weights,
    (gradient, rate): (&L::Direction, f64),
    known: Option<&[f64]>,
    displacement: Displacement,
) -> Result<LookAhead> {
    let ahead = losses.moved(weights, gradient, -rate);
    let (validation_loss, seen) = losses.held_out(&ahead)?;
    let norm = losses.norm(&seen);
    if norm == 0.0 {
        return Ok(LookAhead { alignments: None, validation_loss });
    }
    let r = displacement.length;
    let at = |way: f64| losses.samples(&losses.moved(weights, &seen, way * r / norm));
    let above = at(1.0)?;
    let alignments = match (displacement.difference, known) {
        (Difference::Central, _) => alignments(&above, &at(-1.0)?, 2.0 * r, norm),
        (Difference::OneSided, Some(known)) => alignments(&above, known, r, norm),
        (Difference::OneSided, None) => alignments(&above, &losses.samples(weights)?, r, norm),
    };
    Ok(LookAhead { alignments: Some(alignments), validation_loss })
}

/// What [`look_ahead`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct LookAhead {
    /// S_b for every sample of the training batch; `None` where the validation gradient is 0.
    pub alignments: Option<Vec<f64>>,
    /// Loss of the validation batch after the look-ahead step.
    pub validation_loss: f64,
}

impl<'a> Meta<'a> {
    /// As configured.
    pub fn new(
        training: &'a Objective<'a>,
        validation: &'a Objective<'a>,
        learning: &Learning,
        conventions: &Conventions,
    ) -> Self {
        let (displacement, difference) = (learning.displacement, conventions.difference);
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
        // The training pass gave the losses at the weights themselves, unless it rounded.
        let known = Some(gradient.value.per_sample.as_slice());
        let known = known.filter(|_| Settings::current().precision() == Precision::F32);
        let batches = Batches { meta: self, samples: Samples::Trained(batch), validation };
        self.scoped(|displacement| {
            look_ahead(&batches, weights, (&gradient.gradients, rate), known, displacement)
        })
    }

    /// Alignments of the samples of `redraws`, batch by batch, after the step down a training batch's `gradient`.
    /// Running statistics normalise them, so that each sample's is its own.
    ///
    /// # Errors
    /// As [`Self::look_ahead`].
    pub fn look_again(
        &self,
        weights: &Weights,
        redraws: &[Batch],
        gradient: &Gradient,
        rate: f64,
        validation: &Batch,
    ) -> Result<LookAhead> {
        let batches = Batches { meta: self, samples: Samples::Redrawn(redraws), validation };
        self.scoped(|displacement| {
            look_ahead(&batches, weights, (&gradient.gradients, rate), None, displacement)
        })
    }

    /// In f32: displaced losses differ from the third digit on at most, which bf16 loses.
    fn scoped<T>(&self, look: impl FnOnce(Displacement) -> T) -> T {
        let displacement = Displacement { difference: self.difference, length: self.displacement };
        Settings::current().with_precision(Precision::F32).scoped(|| look(displacement))
    }
}

/// A network's losses on samples of training cases and on a held-out batch.
struct Batches<'a> {
    meta: &'a Meta<'a>,
    samples: Samples<'a>,
    validation: &'a Batch,
}

/// Samples whose alignments are asked for.
enum Samples<'a> {
    /// Those of the training batch, as it was trained on.
    Trained(&'a Batch),
    /// The same patches, drawn for again, a batch for each draw.
    Redrawn(&'a [Batch]),
}

impl Losses for Batches<'_> {
    type Weights = Weights;
    type Direction = Vec<Vec<f32>>;

    fn held_out(&self, weights: &Weights) -> Result<(f64, Vec<Vec<f32>>)> {
        let seen = self.meta.validation.validation_gradient(weights, self.validation)?;
        Ok((seen.value.total, seen.gradients))
    }

    fn samples(&self, weights: &Weights) -> Result<Vec<f64>> {
        let training = self.meta.training;
        match self.samples {
            Samples::Trained(batch) => training.losses(weights, batch),
            Samples::Redrawn(batches) => {
                let mut losses = Vec::new();
                for batch in batches {
                    losses.extend(training.frozen_losses(weights, batch)?);
                }
                Ok(losses)
            }
        }
    }

    fn moved(&self, weights: &Weights, direction: &Vec<Vec<f32>>, factor: f64) -> Weights {
        moved(weights, direction, factor)
    }

    fn norm(&self, direction: &Vec<Vec<f32>>) -> f64 {
        optimiser::norm(direction)
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
