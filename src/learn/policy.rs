//! Lets a policy learn beside the training loop: when it is updated, on which batches, and what a resume needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::{PolicyState, Snapshot};
use super::meta::{LookAhead, Meta};
use super::objective::Gradient;
use crate::Result;
use crate::augment::Augmentation;
use crate::batch::Batch;
use crate::batch::loader::Loader;
use crate::batch::sampler::{Sampler, Share};
use crate::batch::source::SampleSource;
use crate::config::Conventions;
use crate::config::policy::Learning;
use crate::network::Weights;
use crate::policy::learn::{Drawn, Learner, decay, gradient};
use crate::policy::{Policy, Timeline};
use crate::rng::generator;

/// A policy that learns beside the training loop.
#[derive(Debug)]
pub struct PolicyLearner<'a> {
    meta: Meta<'a>,
    learning: &'a Learning,
    conventions: Conventions,
    span: Span,
    /// The policy as it is now.
    policy: Policy,
    learner: Learner,
    timeline: Timeline,
    /// Batches of the policy's validation cases, one per update.
    loader: Loader,
}

/// The part of a training that is still to come.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Seed of the run.
    pub seed: u64,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub planned: u64,
}

/// What an update did.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyUpdate {
    /// The policy after it.
    pub policy: Policy,
    /// Loss of the validation batch after the look-ahead step.
    pub validation_loss: f64,
    /// Updates so far.
    pub updates: u64,
}

impl<'a> PolicyLearner<'a> {
    /// Starts with `policy`, or goes on from `state`. `source` holds the policy's validation cases, `sampler` is
    /// that of training.
    pub fn new(
        meta: Meta<'a>,
        (learning, conventions): (&'a Learning, Conventions),
        span: Span,
        (policy, state): (&Policy, Option<PolicyState>),
        source: Arc<SampleSource>,
        sampler: &Sampler,
    ) -> Self {
        let state = state.unwrap_or_else(|| {
            let learner = Learner::new(policy);
            PolicyState { snapshots: vec![Snapshot { since: 0, logits: learner.logits.clone() }], learner }
        });
        let snapshots = state.snapshots.iter().map(|s| (s.since, policy.with_logits(&s.logits))).collect();
        let updates = learning.updates(span.planned);
        let updates = updates.start.max(span.step.div_ceil(learning.every))..updates.end;
        // Another seed than that of training: the places of patches must not go together.
        let loader = Loader::start(
            source,
            validation_sampler(sampler, learning),
            Augmentation::none(),
            span.seed ^ VALIDATION,
            updates,
            1,
            2,
        );
        Self {
            meta,
            learning,
            conventions,
            span,
            policy: policy.with_logits(&state.learner.logits),
            timeline: Timeline::learning(learning.delay, span.step, snapshots),
            learner: state.learner,
            loader,
        }
    }

    /// Training steps from one update to the next.
    pub fn every(&self) -> u64 {
        self.learning.every
    }

    /// The policy as it is now.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Which policies batches are drawn with, from the next step on.
    pub fn timeline(&self) -> Timeline {
        self.timeline.clone()
    }

    /// What a checkpoint keeps.
    pub fn state(&self) -> PolicyState {
        let snapshots = self.timeline.snapshots();
        PolicyState {
            learner: self.learner.clone(),
            snapshots: snapshots.map(|(since, policy)| Snapshot { since, logits: policy.flat() }).collect(),
        }
    }

    /// Updates the policy at the steps at which it is due, from the batch of the step and its gradient at the
    /// weights before the step; `rate` is the model's.
    ///
    /// # Errors
    /// Where a loss is not finite or a validation case cannot be read.
    pub fn update(
        &mut self,
        weights: &Weights,
        batch: &Batch,
        result: &Gradient,
        rate: f64,
    ) -> Result<Option<PolicyUpdate>> {
        let updates = self.learning.updates(self.span.planned);
        if !batch.step.is_multiple_of(self.learning.every)
            || !updates.contains(&(batch.step / self.learning.every))
        {
            return Ok(None);
        }
        let validation = self.loader.next()?;
        let LookAhead { alignments, validation_loss } =
            self.meta.look_ahead(weights, batch, result, rate, &validation)?;
        // Without a gradient on the validation batch no sample has helped or harmed.
        let Some(alignments) = alignments else { return Ok(None) };
        let drawn: Vec<Drawn> = batch
            .chosen
            .iter()
            .zip(&batch.centre_classes)
            .map(|(chosen, &centre_class)| Drawn { chosen: chosen.clone(), centre_class })
            .collect();
        let centred = self.learner.centre(&alignments, &drawn);
        let mut random = generator(self.span.seed, &["policy update", &batch.step.to_string()]);
        let slope = gradient(&self.policy, &drawn, &centred, &self.conventions, &mut random);
        let first = self.learning.step_size(updates.end - updates.start);
        let done = batch.step as f64 / self.span.planned.max(1) as f64;
        self.learner.step(&slope, first * decay(done));
        self.policy = self.policy.with_logits(&self.learner.logits);
        let updates = self.learner.updates;
        Ok(Some(PolicyUpdate { policy: self.policy.clone(), validation_loss, updates }))
    }

    /// How long an update takes, on a batch of any step; the policy stays as it is.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn time(&mut self, weights: &Weights, batch: &Batch, result: &Gradient) -> Result<Duration> {
        let validation = self.loader.next()?;
        let timer = Instant::now();
        self.meta.look_ahead(weights, batch, result, 0.0, &validation)?;
        Ok(timer.elapsed())
    }

    /// Takes note that `steps_done` steps are done, and of the policy's change at the last of them, for itself and
    /// for the loader of training.
    pub fn publish(&mut self, steps_done: u64, changed: Option<Policy>, training: &Loader) {
        training.publish(steps_done, changed.clone());
        self.timeline.publish(steps_done, changed);
    }
}

/// Joins the seed of the run for the batches that a policy learns from.
const VALIDATION: u64 = 0x706f_6c69_6379;

/// A sampler like that of training for batches of the policy's own size. In so small a batch every patch is
/// centred on foreground by chance, as often as patches of a training batch are.
fn validation_sampler(training: &Sampler, learning: &Learning) -> Sampler {
    let mut sampler = training.clone();
    sampler.batch = match learning.validation_batch {
        0 => training.batch.div_ceil(2),
        size => size,
    };
    if training.share == Share::LastThird {
        let first = (training.batch as f64 * (1.0 - 0.33)).round_ties_even();
        let share = (training.batch as f64 - first) / training.batch as f64;
        sampler.share = Share::Probability(if share > 0.0 { share } else { 1.0 / 3.0 });
    }
    sampler
}
