//! Lets a policy learn beside the training loop: when it is updated, on which batches, and what a resume needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::{PolicyState, Snapshot};
use super::meta::{LookAhead, Meta};
use super::objective::Gradient;
use crate::Result;
use crate::augment::Augmentation;
use crate::batch::loader::{Batch, Loader};
use crate::batch::sampler::{Sampler, Share};
use crate::batch::source::SampleSource;
use crate::config::Conventions;
use crate::config::policy::Learning;
use crate::network::Weights;
use crate::policy::learn::{Drawn, Learner, decay, gradient};
use crate::policy::{Policy, Timeline};
use crate::rng::generator;

/// A policy while it learns.
#[derive(Debug)]
pub struct Tutor<'a> {
    learning: &'a Learning,
    conventions: Conventions,
    seed: u64,
    planned: u64,
    /// The policy as it is now.
    policy: Policy,
    learner: Learner,
    timeline: Timeline,
    /// Batches of the policy's validation cases, one per update.
    loader: Loader,
    adapt: fn(Batch) -> Batch,
}

/// What an update did.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The policy after it.
    pub policy: Policy,
    /// Loss of the validation batch after the look-ahead step.
    pub validation_loss: f64,
    /// Updates so far.
    pub updates: u64,
}

/// The run that a policy learns in.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// How it learns.
    pub learning: &'a Learning,
    /// Details that the published program has otherwise.
    pub conventions: Conventions,
    /// Seed of the run.
    pub seed: u64,
    /// Steps of the whole run.
    pub planned: u64,
    /// Steps done.
    pub step: u64,
    /// Makes of the loader's batches what the network takes.
    pub adapt: fn(Batch) -> Batch,
}

impl<'a> Tutor<'a> {
    /// Starts with `policy`, or goes on from `state`. `source` holds the policy's validation cases, `sampler` is
    /// that of training.
    pub fn new(
        lesson: Lesson<'a>,
        policy: &Policy,
        state: Option<PolicyState>,
        source: Arc<SampleSource>,
        sampler: &Sampler,
    ) -> Self {
        let Lesson { learning, conventions, seed, planned, step, adapt } = lesson;
        let state = state.unwrap_or_else(|| {
            let learner = Learner::new(policy);
            PolicyState { snapshots: vec![Snapshot { since: 0, logits: learner.logits.clone() }], learner }
        });
        let snapshots = state.snapshots.iter().map(|s| (s.since, policy.with_logits(&s.logits))).collect();
        let updates = learning.updates(planned);
        let updates = updates.start.max(step.div_ceil(learning.every))..updates.end;
        // Another seed than that of training: the places of patches must not go together.
        let loader = Loader::start(
            source,
            validation_sampler(sampler, learning),
            Augmentation::none(),
            seed ^ VALIDATION,
            updates,
            1,
            2,
        );
        Self {
            learning,
            conventions,
            seed,
            planned,
            policy: policy.with_logits(&state.learner.logits),
            timeline: Timeline::learning(learning.delay, step, snapshots),
            learner: state.learner,
            loader,
            adapt,
        }
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
        meta: &Meta<'_>,
        weights: &Weights,
        batch: &Batch,
        result: &Gradient,
        rate: f64,
    ) -> Result<Option<Update>> {
        let updates = self.learning.updates(self.planned);
        if !batch.step.is_multiple_of(self.learning.every)
            || !updates.contains(&(batch.step / self.learning.every))
        {
            return Ok(None);
        }
        let validation = (self.adapt)(self.loader.next()?);
        let LookAhead { alignments, validation_loss } =
            meta.look_ahead(weights, batch, result, rate, &validation)?;
        let Some(alignments) = alignments else { return Ok(None) };
        let drawn: Vec<Drawn> = batch
            .chosen
            .iter()
            .zip(&batch.centre_classes)
            .map(|(chosen, &centre_class)| Drawn { chosen: chosen.clone(), centre_class })
            .collect();
        let centred = self.learner.centre(&alignments, &drawn);
        let mut random = generator(self.seed, &["policy update", &batch.step.to_string()]);
        let slope = gradient(&self.policy, &drawn, &centred, &self.conventions, &mut random);
        let first = self.learning.step_size(updates.end - updates.start);
        let done = batch.step as f64 / self.planned.max(1) as f64;
        self.learner.step(&slope, first * decay(done));
        self.policy = self.policy.with_logits(&self.learner.logits);
        let updates = self.learner.updates;
        Ok(Some(Update { policy: self.policy.clone(), validation_loss, updates }))
    }

    /// How long an update takes, on a batch of any step; the policy stays as it is.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn time(
        &mut self,
        meta: &Meta<'_>,
        weights: &Weights,
        batch: &Batch,
        result: &Gradient,
    ) -> Result<Duration> {
        let validation = (self.adapt)(self.loader.next()?);
        let timer = Instant::now();
        meta.look_ahead(weights, batch, result, 0.0, &validation)?;
        Ok(timer.elapsed())
    }

    /// Takes note that `steps_done` steps are done, and of the policy's change at the last of them, for itself and
    /// for the loader of training.
    pub fn publish(&mut self, steps_done: u64, changed: Option<Policy>, training: &Loader) {
        training.publish(steps_done, changed.clone());
        self.timeline.publish(steps_done, changed);
    }
}

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
