//! The training loop.
//!
//! A step is: batch, gradient, a policy's look-ahead, the passes with their optimiser steps, the record. Everything
//! drawn is keyed by (seed, purpose, step), so a training that was stopped anywhere goes on from its last checkpoint
//! to the same bytes as one that never stopped.

use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, Pointer};
use super::epoch::Clock;
use super::iteration::{Iteration, IterationReport};
use super::optimiser::LearningRate;
use super::policy::{PolicyLearner, PolicyUpdate};
use crate::Result;
use crate::batch::Batch;
use crate::batch::loader::Loader;
use crate::config::CheckpointConfig;
use crate::network::Weights;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::run::Run;
use crate::run::events::{Event, Events, PolicyEvent, StepEvent, StepSeconds};

/// A training that is ready to begin or to go on.
#[derive(Debug)]
pub struct Training<'a> {
    /// Where it stands: step, weights, optimiser, and how many steps are planned.
    pub state: Checkpoint,
    /// How a batch moves the weights.
    pub iteration: Iteration<'a>,
    /// How far.
    pub rate: LearningRate<'a>,
    /// The batches from the state's step on.
    pub batches: Batches,
    /// The policy, where it learns.
    pub learner: Option<PolicyLearner<'a>>,
    /// What is done after every epoch.
    pub epochs: &'a mut dyn Epochs,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Ends the training after so many epochs without a better score.
    pub patience: Option<u64>,
    /// When checkpoints are written beside those of best epochs and of the end.
    pub checkpoint: &'a CheckpointConfig,
    /// Names of the classes, background first, where events are written for TensorBoard too.
    pub tensorboard: Option<&'a [String]>,
    /// Where results go; already set up.
    pub run: &'a Run,
}

/// Where batches come from.
#[derive(Debug)]
pub struct Batches {
    /// Those of the clean pass.
    pub clean: Loader,
    /// Those of the further passes, where they have batches of their own.
    pub independent: Option<Loader>,
}

/// The batches of one step.
pub(super) struct StepBatches {
    pub(super) clean: Batch,
    independent: Option<Batch>,
}

/// What is done after an epoch, by the kind of training.
pub trait Epochs: std::fmt::Debug {
    /// Judges the weights and records what it finds. Keeps `state.history` of scores. Returns whether this epoch is
    /// better than all before it.
    ///
    /// # Errors
    /// Where a case cannot be read or a file cannot be written.
    fn end(
        &mut self,
        epoch: &EpochEnd<'_>,
        state: &mut Checkpoint,
        events: &mut Events,
        progress: &dyn Progress,
    ) -> Result<bool>;
}

/// An epoch that is over.
#[derive(Debug)]
pub struct EpochEnd<'a> {
    /// Its number, from 0.
    pub number: u64,
    /// Mean loss of its steps.
    pub loss: f64,
    /// What its steps took.
    pub clock: &'a Clock,
    /// The policy as it is now, where it learns.
    pub policy: Option<&'a Policy>,
}

/// How training ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The last weights; none where a method was fitted that has none.
    pub weights: Weights,
    /// Steps done.
    pub steps: u64,
    /// Steps planned.
    pub planned_steps: u64,
    /// Seconds of training over all sessions.
    pub train_seconds: f64,
    /// Why it ended.
    pub ending: Ending,
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The last planned step is done.
    Planned,
    /// There was no better epoch for as long as `patience` waits.
    Patience,
    /// The user asked to stop; the last checkpoint is of this step.
    Asked,
}

/// Every so many updates the policy is recorded.
const POLICY_EVENTS: u64 = 10;

impl Training<'_> {
    /// Trains to the last planned step, or until there has been no better epoch for long enough.
    ///
    /// # Errors
    /// Where a case cannot be read, a file cannot be written, or a number is no longer finite.
    pub fn run(mut self, progress: &dyn Progress) -> Result<Outcome> {
        let planned = self.state.history.planned_steps;
        let mut events = Events::open(self.run, self.state.step)?;
        if let Some(classes) = self.tensorboard {
            events = events.with_tensorboard(self.run, classes)?;
        }
        let mut session = Session::begin(&self.state);
        self.steer();
        let mut clock = Clock::default();
        let mut patient = !self.out_of_patience();
        let mut asked = false;
        progress.begin("training", planned);
        progress.skip(self.state.step);
        while self.state.step < planned && patient && !asked {
            let step = self.state.step;
            let rate = self.rate.at(step, planned);
            let (batches, wait) = timed(|| self.batches.next())?;
            let batch = &batches.clean;
            let clean = self.iteration.objective.gradient(&self.state.weights, batch)?;

            // The policy looks ahead from the weights that the gradient belongs to, so before they move.
            let (update, learning) = timed(|| match &mut self.learner {
                Some(learner) => learner.update(&self.state.weights, batch, &clean, rate),
                None => Ok(None),
            })?;

            let Checkpoint { weights, optimiser, history, .. } = &mut self.state;
            let report = self.iteration.run(weights, optimiser, (batch, clean), batches.extra(), rate)?;
            history.count(batch, report.clean.total);
            clock.add(wait, &report, learning);
            events.record(&step_event(step, rate, &report, [wait, learning]))?;

            self.state.step += 1;
            if let Some(learner) = &mut self.learner {
                if let Some(update) = &update
                    && (update.updates % POLICY_EVENTS == 1 || step + learner.every() >= planned)
                {
                    events.record(&policy_event(step, update))?;
                }
                learner.publish(self.state.step, update.map(|update| update.policy), &self.batches.clean);
            }
            progress.advance(1);

            let mut pointers = Vec::new();
            if self.state.step.is_multiple_of(self.steps_per_epoch) || self.state.step == planned {
                if self.end_epoch(&clock, &mut events, progress)? {
                    pointers.push(Pointer::Best);
                }
                clock = Clock::default();
                patient = !self.out_of_patience();
            }
            asked = progress.is_stopped();
            let last = self.state.step == planned || !patient || asked;
            if last || !pointers.is_empty() || session.is_checkpoint_due(self.checkpoint, self.state.step) {
                pointers.push(Pointer::Latest);
                self.save(&mut session, &pointers)?;
            }
        }
        progress.end();
        Ok(Outcome {
            ending: match (self.state.step < planned, patient) {
                (false, _) => Ending::Planned,
                (true, false) => Ending::Patience,
                (true, true) => Ending::Asked,
            },
            steps: self.state.step,
            planned_steps: planned,
            train_seconds: self.state.history.train_seconds,
            weights: self.state.weights,
        })
    }

    fn end_epoch(&mut self, clock: &Clock, events: &mut Events, progress: &dyn Progress) -> Result<bool> {
        let last = self.state.step - 1;
        // The last epoch may be cut short by the end of the training.
        let steps = last % self.steps_per_epoch + 1;
        let loss = self.state.history.epoch_loss_sum / steps as f64;
        if steps == self.steps_per_epoch {
            // An epoch that is cut short by the end goes on where the training is lengthened.
            self.state.history.epoch_loss_sum = 0.0;
        }
        let policy = self.learner.as_ref().map(PolicyLearner::policy);
        let epoch = EpochEnd { number: last / self.steps_per_epoch, loss, clock, policy };
        let better = self.epochs.end(&epoch, &mut self.state, events, progress)?;
        self.steer();
        Ok(better)
    }

    /// Methods that follow a gap act as strongly as the last epoch found.
    fn steer(&mut self) {
        if let Some(control) = &self.state.history.control {
            self.iteration.steer(&control.strength);
        }
    }

    fn out_of_patience(&self) -> bool {
        self.patience.is_some_and(|patience| self.state.history.epochs_without_better >= patience)
    }

    fn save(&mut self, session: &mut Session, pointers: &[Pointer]) -> Result<()> {
        let history = &mut self.state.history;
        history.policy = self.learner.as_ref().map_or(String::new(), |learner| learner.state().to_toml());
        history.train_seconds = session.train_seconds();
        self.state.write(&self.run.checkpoints(), pointers)?;
        session.saved = Instant::now();
        Ok(())
    }
}

impl Batches {
    /// The batches of the next step.
    pub(super) fn next(&mut self) -> Result<StepBatches> {
        let clean = self.clean.next()?;
        let independent = self.independent.as_mut().map(Loader::next).transpose()?;
        Ok(StepBatches { clean, independent })
    }
}

impl StepBatches {
    /// What the further passes work on: other patches, or the same without augmentation, where there are such.
    pub(super) fn extra(&self) -> &Batch {
        self.independent.as_ref().or(self.clean.twin.as_deref()).unwrap_or(&self.clean)
    }
}

/// The clock of one session of a run, which may have had others before.
struct Session {
    began: Instant,
    saved: Instant,
    /// Seconds of training in earlier sessions.
    before: f64,
}

impl Session {
    fn begin(state: &Checkpoint) -> Self {
        let now = Instant::now();
        Self { began: now, saved: now, before: state.history.train_seconds }
    }

    fn train_seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    fn is_checkpoint_due(&self, rule: &CheckpointConfig, step: u64) -> bool {
        self.saved.elapsed().as_secs_f64() >= rule.every_seconds
            || (rule.every_steps > 0 && step.is_multiple_of(rule.every_steps))
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let timer = Instant::now();
    Ok((work()?, timer.elapsed()))
}

fn step_event(step: u64, learning_rate: f64, report: &IterationReport, other: [Duration; 2]) -> Event {
    let [wait, policy] = other.map(|duration| duration.as_secs_f64());
    let mut passes = std::collections::BTreeMap::new();
    for pass in &report.passes {
        let numbers = std::iter::once(("loss", pass.loss)).chain(pass.numbers.iter().copied());
        passes.extend(numbers.map(|(what, value)| (format!("{}_{what}", pass.pass.name()), Some(value))));
    }
    Event::Step(StepEvent {
        step,
        loss: report.clean.total,
        cross_entropy: report.clean.cross_entropy,
        dice_loss: report.clean.dice,
        learning_rate,
        gradient_norm: report.gradient_norm,
        passes,
        seconds: StepSeconds {
            wait,
            forward: report.forward.as_secs_f64(),
            backward: report.backward.as_secs_f64(),
            update: report.update.as_secs_f64(),
            policy,
        },
    })
}

/// A policy after an update; probabilities to six digits, which is all that a chart shows.
fn policy_event(step: u64, update: &PolicyUpdate) -> Event {
    let policy = &update.policy;
    let groups = 0..policy.groups.len();
    let all = (0..policy.targets.len())
        .flat_map(|target| groups.clone().flat_map(move |group| policy.probabilities(target, group)));
    Event::Policy(PolicyEvent {
        step,
        updates: update.updates,
        validation_loss: update.validation_loss,
        probabilities: all.map(|p| (p * 1e6).round() / 1e6).collect(),
    })
}
