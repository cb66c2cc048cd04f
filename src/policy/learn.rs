//! From alignments of samples to a step of the policy: pure functions, no network.
//!
//! A training step's loss is the mean of w_b l_b over the samples b of its batch, all weights being 1. After a
//! plain gradient step with rate alpha, theta' = theta - alpha g, the loss of a validation batch changes with a
//! weight by
//!
//! ```text
//! dL_val(theta') / dw_b = -(alpha / B) S_b,   S_b = v . grad l_b(theta),   v = grad L_val(theta')
//! ```
//!
//! S_b, the alignment, says how much the step of sample b helps on the validation batch. It is differenced from
//! losses at displaced weights (`crate::learn::meta`). Here it is centred, weighted and carried to the logits.

use std::ops::Range;

use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::gumbel::{conditional, score_function, straight_through};
use super::structure::Structure;
use super::{Chosen, Policy};
use crate::config::Conventions;
use crate::config::policy::Learning;
use crate::config::published::{Estimator, Repeats};

/// The moving state of a policy: its logits, in the order of [`Policy::flat`], and what its steps remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    /// Updates made.
    pub updates: u64,
    /// Logits.
    pub logits: Vec<f64>,
    /// Mean gradient (Adam), by the coordinates of its [`Structure`].
    pub first: Vec<f64>,
    /// Mean squared gradient (Adam).
    pub second: Vec<f64>,
    /// Running mean alignment of samples centred on background and on foreground, once there was one.
    pub means: Vec<f64>,
    /// How many updates each of `means` has seen.
    pub seen: Vec<u64>,
}

/// What an update knows of one sample of a training batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// What the policy chose for it.
    pub chosen: Chosen,
    /// Class of the patch's centre voxel before augmentation.
    pub centre_class: u8,
}

const ADAM_BETAS: [f64; 2] = [0.9, 0.999];
const ADAM_EPSILON: f64 = 1e-8;
/// How much of a running mean an update keeps.
const KEPT: f64 = 0.9;

impl Learner {
    /// Before the first update, of a policy that is learned logit by logit.
    pub fn new(policy: &Policy) -> Self {
        Self::structured(policy, &Structure::free(policy.len()))
    }

    /// Before the first update.
    pub fn structured(policy: &Policy, structure: &Structure) -> Self {
        let zeros = vec![0.0; structure.len()];
        Self {
            updates: 0,
            logits: policy.flat(),
            first: zeros.clone(),
            second: zeros,
            means: vec![0.0; 2],
            seen: vec![0; 2],
        }
    }

    /// One step of Adam downhill along `gradient` with this step size, logit by logit.
    pub fn step(&mut self, gradient: &[f64], rate: f64) {
        self.structured_step(&Structure::free(self.logits.len()), gradient, rate, 0.0);
    }

    /// One step of Adam downhill in the coordinates of a structure. `gradient` is with respect to the logits. The
    /// penalty on differences of neighbours has a step of its own: Adam would undo its size.
    pub fn structured_step(&mut self, structure: &Structure, gradient: &[f64], rate: f64, penalty: f64) {
        self.updates += 1;
        let [b1, b2] = ADAM_BETAS;
        let correction = |beta: f64| 1.0 - beta.powf(self.updates as f64);
        let (scale, root) = (rate / correction(b1), correction(b2).sqrt());
        let moves = structure.gradient(gradient).into_iter().zip(&mut self.first).zip(&mut self.second);
        let moves = moves.map(|((g, m), a)| {
            *m = b1 * *m + (1.0 - b1) * g;
            *a = b2 * *a + (1.0 - b2) * g * g;
            -scale * *m / (a.sqrt() / root + ADAM_EPSILON)
        });
        structure.step(&mut self.logits, &moves.collect::<Vec<f64>>(), penalty);
    }

    /// Takes from each alignment the mean of its kind: samples centred on background, and samples centred on
    /// foreground.
    ///
    /// Without it, straight-through weights would push up whatever is likely already. The mean is that of the
    /// batch where it holds two or more of the kind; of a single one it would leave nothing, so then it is the
    /// running mean of earlier updates, and at the first one the sample itself.
    pub fn centre(&mut self, alignments: &[f64], drawn: &[Drawn]) -> Vec<f64> {
        let kind = |drawn: &Drawn| usize::from(drawn.centre_class != 0);
        let mut centred = alignments.to_vec();
        for which in 0..2 {
            let members: Vec<usize> = (0..drawn.len()).filter(|b| kind(&drawn[*b]) == which).collect();
            if members.is_empty() {
                continue;
            }
            let mean = members.iter().map(|b| alignments[*b]).sum::<f64>() / members.len() as f64;
            let baseline = if members.len() > 1 || self.seen[which] == 0 { mean } else { self.means[which] };
            members.iter().for_each(|b| centred[*b] -= baseline);
            let kept = if self.seen[which] == 0 { 0.0 } else { KEPT };
            self.means[which] = kept * self.means[which] + (1.0 - kept) * mean;
            self.seen[which] += 1;
        }
        centred
    }
}

impl Learning {
    /// The first step size on the logits of a run with so many updates.
    ///
    /// Where none is given it is 1 / sqrt(updates). Adam moves a logit by about one step size an update, in a
    /// direction that is mostly chance: a gradient's mean over its deviation is some 0.1. After T updates that fall
    /// to 0, chance has moved it by 0.6 rate sqrt(T) and a signal to noise of s by 0.5 rate s T. So every length of
    /// run has the same wandering, 0.6, and a signal that grows with the root of the number of updates.
    pub fn step_size(&self, updates: u64) -> f64 {
        self.rate.unwrap_or_else(|| (updates.max(1) as f64).sqrt().recip())
    }

    /// The updates of a training of so many steps; update `u` follows step `u * every`.
    pub fn updates(&self, planned: u64, conventions: &Conventions) -> Range<u64> {
        let every = self.every(conventions);
        let first = self.warm_up * planned as f64 / every as f64;
        first as u64..planned.div_ceil(every)
    }
}

/// What is left of the first step size after this share of a training.
pub fn decay(done: f64) -> f64 {
    const POWER: f64 = 0.9;
    (1.0 - done).max(0.0).powf(POWER)
}

/// Takes from each alignment the mean of the other draws for the same patch; they come draw by draw, each for so many
/// patches. What all draws of a patch have in common, which is most, is gone; and since no draw is compared with
/// itself, the gradient stays unbiased.
pub fn leave_one_out(alignments: &[f64], patches: usize) -> Vec<f64> {
    let others = (alignments.len() / patches.max(1)).saturating_sub(1).max(1) as f64;
    let sum = |b: usize| alignments.iter().skip(b).step_by(patches).sum::<f64>();
    let sums: Vec<f64> = (0..patches).map(sum).collect();
    alignments.iter().enumerate().map(|(at, own)| own - (sums[at % patches] - own) / others).collect()
}

/// Gradient of the validation loss with respect to every logit, in the order of [`Policy::flat`].
///
/// `alignments` are centred. The gradient is in units of alpha, the step size of the look-ahead step, which Adam
/// would not see. The policy is taken as it is now, whatever it was when the samples were drawn; see [`conditional`].
pub fn gradient(
    policy: &Policy,
    drawn: &[Drawn],
    alignments: &[f64],
    conventions: &Conventions,
    random: &mut ChaCha8Rng,
) -> Vec<f64> {
    let mut gradient = vec![0.0; policy.len()];
    let sizes: Vec<usize> = policy.groups.iter().map(|group| group.choices.len()).collect();
    let width: usize = sizes.iter().sum();
    for (sample, &alignment) in drawn.iter().zip(alignments) {
        let target = sample.chosen.target;
        let slope = -1.0 / drawn.len() as f64 * alignment;
        let mut first = target * width;
        for (group, &chosen) in sample.chosen.choices.iter().enumerate() {
            let logits = policy.logits(target, group);
            let weight = match conventions.estimator {
                Estimator::StraightThrough => straight_through(&conditional(&logits, chosen, random), chosen),
                Estimator::Score => score_function(&logits, chosen),
            };
            let alike = match conventions.repeats {
                Repeats::Counted => 1.0,
                Repeats::Divided => {
                    let same = |other: &&Drawn| {
                        other.chosen.target == target && other.chosen.choices[group] == chosen
                    };
                    drawn.iter().filter(same).count() as f64
                }
            };
            for (sum, w) in gradient[first..first + sizes[group]].iter_mut().zip(weight) {
                *sum += slope / alike * w;
            }
            first += sizes[group];
        }
    }
    gradient
}

/// Alignments from per-sample losses at weights displaced by `displacement` (length) along the validation
/// gradient of norm `norm`: (above - below) / distance, times the norm that the unit direction lacks.
///
/// `below` are the losses at the displacement's start: at `-displacement` for the central difference (`distance` =
/// 2 displacement), at the weights themselves for the one-sided one (`distance` = displacement).
pub fn alignments(above: &[f64], below: &[f64], distance: f64, norm: f64) -> Vec<f64> {
    above.iter().zip(below).map(|(a, b)| (a - b) / distance * norm).collect()
}
