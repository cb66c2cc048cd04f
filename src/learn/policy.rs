//! Lets a policy learn beside the training loop: when it is updated, on which batches, and what a resume needs.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::meta::{LookAhead, Meta};
use super::objective::Gradient;
use crate::augment::Augmentation;
use crate::batch::Batch;
use crate::batch::loader::Loader;
use crate::batch::sampler::{Redraws, Sampler, Share};
use crate::batch::source::SampleSource;
use crate::config::Conventions;
use crate::config::policy::{Comparison, Learning};
use crate::network::Weights;
use crate::policy::learn::{Drawn, Learner, decay, gradient, leave_one_out};
use crate::policy::structure::Structure;
use crate::policy::{Policy, Timeline};
use crate::rng::generator;
use crate::{Error, Result};

/// The part of the state that belongs to a policy that learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    /// How it was learned; earlier versions knew one way only and did not say.
    #[serde(default = "earlier")]
    pub estimator: Comparison,
    /// Logits and what their steps remember.
    pub learner: Learner,
    /// The logits that batches still to be drawn need.
    pub snapshots: Vec<Snapshot>,
}

fn earlier() -> Comparison {
    Comparison::Batch
}

/// Logits of a policy, in the order of [`Policy::flat`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Steps done when they came into force.
    pub since: u64,
    /// The logits.
    pub logits: Vec<f64>,
}

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
    /// What the choices have in common.
    structure: Structure,
    timeline: Timeline,
    /// Batches of the policy's validation cases, one per update.
    loader: Loader,
    /// The patches of the training batch, drawn for again, so many batches per update; none where a policy learns from
    /// the training batch as it was drawn.
    redraws: Option<Loader>,
}

/// What a policy that learns looks at.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Training cases.
    pub training: Arc<SampleSource>,
    /// The policy's validation cases.
    pub set_aside: Arc<SampleSource>,
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
    /// Starts with `policy`, or goes on from `state`. `sampler` is that of training.
    ///
    /// # Errors
    /// Where `state` was learned in another way than is configured.
    pub fn new(
        meta: Meta<'a>,
        (learning, conventions): (&'a Learning, Conventions),
        span: Span,
        (policy, state): (&Policy, Option<PolicyState>),
        sources: Sources,
        sampler: &Sampler,
    ) -> Result<Self> {
        let estimator = learning.comparison(&conventions);
        let structure = match learning.structured(&conventions) {
            true => Structure::of(policy),
            false => Structure::free(policy.len()),
        };
        let state = state.unwrap_or_else(|| {
            let learner = Learner::structured(policy, &structure);
            let snapshots = vec![Snapshot { since: 0, logits: learner.logits.clone() }];
            PolicyState { estimator, snapshots, learner }
        });
        state.check(estimator, &structure)?;
        let snapshots = state.snapshots.iter().map(|s| (s.since, policy.with_logits(&s.logits))).collect();
        let every = learning.every(&conventions);
        let updates = learning.updates(span.planned, &conventions);
        let updates = updates.start.max(span.step.div_ceil(every))..updates.end;
        // Another seed than that of training: the places of patches must not go together.
        let loader = Loader::start(
            sources.set_aside,
            validation_sampler(sampler, learning),
            Augmentation::none(),
            span.seed ^ VALIDATION,
            updates.clone(),
            1,
            2,
        );
        let now = policy.with_logits(&state.learner.logits);
        let redraws = (estimator == Comparison::LeaveOneOut).then(|| {
            redraws((learning, every), (sources.training, sampler), span.seed, updates, now.clone())
        });
        Ok(Self {
            meta,
            learning,
            conventions,
            span,
            policy: now,
            structure,
            timeline: Timeline::learning(learning.delay, span.step, snapshots),
            learner: state.learner,
            loader,
            redraws,
        })
    }

    /// Training steps from one update to the next.
    pub fn every(&self) -> u64 {
        self.learning.every(&self.conventions)
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
            estimator: self.learning.comparison(&self.conventions),
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
        let every = self.every();
        let updates = self.learning.updates(self.span.planned, &self.conventions);
        if !batch.step.is_multiple_of(every) || !updates.contains(&(batch.step / every)) {
            return Ok(None);
        }
        let (LookAhead { alignments, validation_loss }, drawn) = self.look(weights, batch, result, rate)?;
        // Without a gradient on the validation batch no sample has helped or harmed.
        if let Some(alignments) = &alignments {
            let centred = match self.redraws {
                Some(_) => leave_one_out(alignments, drawn.len() / self.learning.draws),
                None => self.learner.centre(alignments, &drawn),
            };
            let mut random = generator(self.span.seed, &["policy update", &batch.step.to_string()]);
            let slope = gradient(&self.policy, &drawn, &centred, &self.conventions, &mut random);
            let planned = updates.end - updates.start;
            let done = batch.step as f64 / self.span.planned.max(1) as f64;
            let rate = self.learning.step_size(planned) * decay(done);
            self.learner.structured_step(&self.structure, &slope, rate, 1.0 / planned as f64);
            self.policy = self.policy.with_logits(&self.learner.logits);
        }
        if let Some(redraws) = &self.redraws {
            redraws.publish(batch.step + every, Some(self.policy.clone()));
        }
        let (policy, updates) = (self.policy.clone(), self.learner.updates);
        Ok(alignments.map(|_| PolicyUpdate { policy, validation_loss, updates }))
    }

    /// Alignments of what the policy chose, and what that was.
    fn look(
        &mut self,
        weights: &Weights,
        batch: &Batch,
        result: &Gradient,
        rate: f64,
    ) -> Result<(LookAhead, Vec<Drawn>)> {
        let validation = self.loader.next()?;
        let Some(loader) = &mut self.redraws else {
            let found = self.meta.look_ahead(weights, batch, result, rate, &validation)?;
            return Ok((found, drawn(batch).collect()));
        };
        let redraws = (0..self.learning.draws).map(|_| loader.next()).collect::<Result<Vec<Batch>>>()?;
        let found = self.meta.look_again(weights, &redraws, result, rate, &validation)?;
        Ok((found, redraws.iter().flat_map(drawn).collect()))
    }

    /// How long an update takes, on a batch of any step; the policy stays as it is.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn time(&mut self, weights: &Weights, batch: &Batch, result: &Gradient) -> Result<Duration> {
        let timer = Instant::now();
        self.look(weights, batch, result, 0.0)?;
        Ok(timer.elapsed())
    }

    /// Takes note that `steps_done` steps are done, and of the policy's change at the last of them, for itself and
    /// for the loader of training.
    pub fn publish(&mut self, steps_done: u64, changed: Option<Policy>, training: &Loader) {
        training.publish(steps_done, changed.clone());
        self.timeline.publish(steps_done, changed);
    }
}

impl PolicyState {
    /// As [`super::checkpoint::History::policy`] keeps it.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| unreachable!("a policy's state is plain data: {error}"))
    }

    /// Refuses a state that another configuration would go on from.
    fn check(&self, estimator: Comparison, structure: &Structure) -> Result<()> {
        let refuse = |key: &str, problem: String, mend: &str| {
            let mend = format!("go on with `policy.learning.{key} = {mend}`, or train anew");
            Err(Error::config(format!("checkpoint: policy.learning.{key}"), problem, mend))
        };
        if self.estimator != estimator {
            let problem = format!("the policy was learned by `{}`, not `{estimator}`", self.estimator);
            return refuse("estimator", problem, &format!("\"{}\"", self.estimator));
        }
        let moments = self.learner.first.len();
        if moments != structure.len() {
            let problem = format!("the policy was learned in {moments} coordinates, not {}", structure.len());
            let mend = if moments == self.learner.logits.len() { "false" } else { "true" };
            return refuse("structure", problem, mend);
        }
        Ok(())
    }
}

/// What the policy chose for the patches of a batch.
fn drawn(batch: &Batch) -> impl Iterator<Item = Drawn> {
    let patches = batch.chosen.iter().zip(&batch.centre_classes);
    patches.map(|(chosen, &centre_class)| Drawn { chosen: chosen.clone(), centre_class })
}

/// Makes the batches of the training steps at which `updates` are due again, with the places of training. The policy
/// of an update is known once the one before is done.
fn redraws(
    (learning, every): (&Learning, u64),
    (source, training): (Arc<SampleSource>, &Sampler),
    seed: u64,
    updates: Range<u64>,
    policy: Policy,
) -> Loader {
    let mut sampler = training.clone();
    let draws = learning.draws as u64;
    let patches = if learning.patches == 0 { training.batch.div_ceil(2) } else { learning.patches };
    sampler.redraws = Some(Redraws { every, draws, patches });
    let first = updates.start * every;
    let timeline = Timeline::learning(0, first, vec![(first, policy)]);
    let numbers = updates.start * draws..updates.end * draws;
    Loader::start(source, sampler, timeline, seed, numbers, 1, learning.draws)
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
