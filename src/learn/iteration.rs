//! One iteration: the clean pass and the passes that a method adds, each followed by its optimiser step.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::loss::LossValue;
use super::method::Method;
use super::objective::{Gradient, Objective};
use super::optimiser::{self, OptimiserState};
use super::passes::{Pass, PassGradient};
use crate::Result;
use crate::batch::Batch;
use crate::config::Optimiser;
use crate::network::{Statistics, Weights};
use crate::rng::generator;
use crate::run::events::Strength;

/// How an iteration moves weights.
#[derive(Debug)]
pub struct Iteration<'a> {
    /// What the passes minimise.
    pub objective: Objective<'a>,
    /// Which passes there are.
    pub method: &'a Method,
    /// The rule of the steps.
    pub optimiser: &'a Optimiser,
    /// Share of the steps that have each of the further passes.
    pub pass_share: f64,
}

/// Losses of an iteration, and what it took.
#[derive(Clone, Debug, Default)]
pub struct IterationReport {
    /// Loss of the clean pass.
    pub clean: LossValue,
    /// The further passes, in their order.
    pub passes: Vec<PassReport>,
    /// L2 norm of the gradient of the first step, before it was shortened.
    pub gradient_norm: Option<f64>,
    /// Time of the forward passes.
    pub forward: Duration,
    /// Time of the backward passes.
    pub backward: Duration,
    /// Time of the optimiser steps.
    pub update: Duration,
}

/// Loss of a further pass.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// Which pass.
    pub pass: Pass,
    /// Its loss.
    pub loss: f64,
    /// Its other numbers, by name.
    pub numbers: Vec<(&'static str, f64)>,
}

/// The weights of an iteration and what moves them.
struct Stepper<'a> {
    optimiser: &'a Optimiser,
    weights: &'a mut Weights,
    state: &'a mut OptimiserState,
    rate: f64,
    report: IterationReport,
}

impl Iteration<'_> {
    /// Sets how strongly methods that follow a gap act.
    pub fn steer(&mut self, strength: &Strength) {
        self.objective.loss.voxel = self.method.voxel_loss_at(strength);
        self.pass_share = strength.passes;
    }

    /// Whether a step has a pass; drawn by the step, so that no other draw moves.
    fn has(&self, pass: Pass, step: u64) -> bool {
        let drawn =
            || generator(self.objective.seed, &["pass", pass.name(), &step.to_string()]).random::<f64>();
        self.pass_share >= 1.0 || (self.pass_share > 0.0 && drawn() < self.pass_share)
    }

    /// Finishes an iteration whose clean pass gave the batch its gradient: the clean step, then every further pass
    /// on `extra`, each at the weights where the step before left them, with its own step. Only the clean pass moves
    /// running statistics: the others see inputs that no scan has.
    ///
    /// # Errors
    /// Where a number is no longer finite; weights may then have moved.
    pub fn run(
        &self,
        weights: &mut Weights,
        state: &mut OptimiserState,
        (batch, clean): (&Batch, Gradient),
        extra: &Batch,
        rate: f64,
    ) -> Result<IterationReport> {
        let report = IterationReport { clean: clean.value.clone(), ..IterationReport::default() };
        let mut stepper = Stepper { optimiser: self.optimiser, weights, state, rate, report };
        let statistics = stepper.step(clean);
        stepper.weights.follow(&statistics, batch.step);
        for pass in self.method.passes().into_iter().filter(|pass| self.has(*pass, batch.step)) {
            let PassGradient { gradient, numbers } =
                pass.gradient(&self.objective, self.method, stepper.weights, extra)?;
            stepper.report.passes.push(PassReport { pass, loss: gradient.value.total, numbers });
            stepper.step(gradient);
        }
        Ok(stepper.report)
    }
}

impl Stepper<'_> {
    /// Moves the weights along a gradient. Returns what its pass measured.
    fn step(&mut self, gradient: Gradient) -> Vec<Statistics> {
        self.report.forward += gradient.forward;
        self.report.backward += gradient.backward;
        let timer = Instant::now();
        let mut gradients = gradient.gradients;
        let norm = optimiser::clip(&mut gradients, self.optimiser.clip_norm);
        self.report.gradient_norm.get_or_insert(norm);
        optimiser::step(self.optimiser, self.state, self.weights, &gradients, self.rate);
        self.report.update += timer.elapsed();
        gradient.statistics
    }
}
