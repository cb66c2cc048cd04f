//! How many steps a training has: as configured, or as many as fit into a time budget.

use std::sync::Arc;
use std::time::Instant;

use super::epoch::Validation;
use super::iteration::Iteration;
use super::job::Job;
use super::optimiser::OptimiserState;
use super::policy::Span;
use super::train::Batches;
use crate::Result;
use crate::batch::source::SampleSource;
use crate::config::Length;
use crate::network::{Network, Weights};
use crate::policy::Timeline;
use crate::progress::Progress;

/// Steps before the clock starts: they fill caches and the loader's queue.
const WARM_UP: u64 = 2;
/// Steps that are timed.
const TIMED: u64 = 6;
/// So small that the copy of the weights stays where the first steps of the training will be.
const RATE: f64 = 1e-6;

impl Job<'_> {
    /// The number of steps of the whole run. It is fixed once, before the first step: the learning rate falls with
    /// it, so that a resumed run must have the same.
    pub(super) fn planned_steps(
        &self,
        network: &Network,
        weights: &Weights,
        source: &Arc<SampleSource>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let schedule = &self.config.schedule;
        let budget = match schedule.length {
            Length::Steps(steps) => return Ok(steps),
            Length::Epochs(epochs) => return Ok(epochs * schedule.steps_per_epoch),
            Length::Seconds(budget) => budget,
        };
        let step = self.step_seconds(network, weights, source)?;
        let epoch = Validation::without_shift(self, network).time(weights)?.as_secs_f64();
        // Preparing the data and the timing itself came out of the budget already.
        let left = budget - self.started.elapsed().as_secs_f64();
        let with_validation = step + epoch / schedule.steps_per_epoch as f64;
        let steps = (left / with_validation).floor().max(1.0) as u64;
        progress.note(&format!(
            "{:.0} ms a step: {steps} steps fit into the {left:.0} s left of the time budget",
            1e3 * step
        ));
        Ok(steps)
    }

    /// Seconds of one step, with its share of the policy's updates: that of the first steps, which are done on a
    /// copy of the weights and thrown away.
    fn step_seconds(&self, network: &Network, weights: &Weights, source: &Arc<SampleSource>) -> Result<f64> {
        let steps = 0..WARM_UP + TIMED;
        // With every pass: a method that follows a gap may come to need them.
        let iteration = Iteration { pass_share: 1.0, ..self.iteration(network) };
        let mut batches = Batches {
            clean: self.loader(source, Timeline::fixed(self.policy.clone()), steps.clone()),
            independent: self.independent_loader(source, steps.clone()),
        };
        let mut copy = weights.clone();
        let mut optimiser = OptimiserState::new(self.config.optimiser.kind, weights);
        let mut timer = Instant::now();
        let mut last = None;
        for step in steps {
            if step == WARM_UP {
                timer = Instant::now();
            }
            let batches = batches.next()?;
            let clean = iteration.objective.gradient(&copy, &batches.clean)?;
            let kept = self.config.policy.learns().then(|| clean.clone());
            iteration.run(&mut copy, &mut optimiser, (&batches.clean, clean), batches.extra(), RATE)?;
            last = kept.map(|clean| (batches.clean, clean));
        }
        drop(batches);
        let mut seconds = timer.elapsed().as_secs_f64() / TIMED as f64;
        if let Some((batch, gradient)) = last {
            let every = self.config.policy.learning.every(&self.method.conventions);
            let policy_objective = self.policy_objective(network);
            let span = Span { seed: self.config.seed, step: 0, planned: every };
            let objectives = (&iteration.objective, &policy_objective);
            let mut learner = self.policy_learner(objectives, span, None, source)?;
            seconds += learner.time(&copy, &batch, &gradient)?.as_secs_f64() / every as f64;
        }
        Ok(seconds)
    }
}
