//! One iteration: the clean pass and the passes that a method adds, each followed by its optimiser step.

use std::time::{Duration, Instant};

use super::loss::LossValue;
use super::method::Method;
use super::objective::{Gradient, Objective};
use super::optimiser::{self, OptimiserState};
use super::{adversarial, mixup};
use crate::batch::loader::Batch;
use crate::config::Optimiser;
use crate::config::method::Mode;
use crate::network::{Statistics, Weights};
use crate::{Error, Result};

/// How an iteration moves weights.
#[derive(Debug)]
pub struct Iteration<'a> {
    /// What the passes minimise.
    pub objective: Objective<'a>,
    /// Which passes there are.
    pub method: &'a Method,
    /// The rule of the steps.
    pub optimiser: &'a Optimiser,
}

/// What an iteration saw.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Loss of the clean pass.
    pub clean: LossValue,
    /// Loss on perturbed inputs.
    pub adversarial: Option<f64>,
    /// Loss on mixed inputs, and the share of the first patches.
    pub mixup: Option<(f64, f64)>,
    /// L2 norm of the gradient of the first step, before it was shortened.
    pub gradient_norm: Option<f64>,
    /// Time of the forward passes.
    pub forward: Duration,
    /// Time of the backward passes.
    pub backward: Duration,
    /// Time of the optimiser steps.
    pub update: Duration,
}

/// Weights on their way through an iteration.
struct Moving<'a> {
    weights: &'a mut Weights,
    state: &'a mut OptimiserState,
    rate: f64,
    passed: Passed,
}

impl Iteration<'_> {
    /// Finishes an iteration whose clean pass gave the batch its gradient: the clean step, then the adversarial
    /// pass (its direction at the weights after the clean step) and the mixup pass with their steps. `extra` is
    /// what the latter two work on. Only the clean pass moves running statistics.
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
    ) -> Result<Passed> {
        let mut moving = Moving { weights, state, rate, passed: Passed::default() };
        moving.passed.clean = clean.value.clone();
        let statistics = self.advance(&mut moving, clean);
        moving.weights.follow(&statistics, batch.step);
        if self.method.config.adversarial.mode != Mode::Off {
            let pass = |error| named("adversarial", error);
            let direction = adversarial::direction(&self.objective, self.method, moving.weights, extra);
            let direction = direction.map_err(pass)?;
            moving.passed.forward += direction.forward;
            moving.passed.backward += direction.backward;
            let moved = adversarial::perturb(self.method, extra, &direction.gradients);
            let result = self.objective.gradient(moving.weights, &moved).map_err(pass)?;
            moving.passed.adversarial = Some(result.value.total);
            self.advance(&mut moving, result);
        }
        if self.method.config.mixup.mode != Mode::Off {
            let mixed = mixup::mix(self.method, extra, self.objective.seed)?;
            let result = self.objective.gradient(moving.weights, &mixed.batch);
            let result = result.map_err(|error| named("mixup", error))?;
            moving.passed.mixup = Some((result.value.total, mixed.share));
            self.advance(&mut moving, result);
        }
        Ok(moving.passed)
    }

    /// Takes a step along a gradient. Returns what the pass measured.
    fn advance(&self, moving: &mut Moving<'_>, result: Gradient) -> Vec<Statistics> {
        moving.passed.forward += result.forward;
        moving.passed.backward += result.backward;
        self.step(moving, result.gradients);
        result.statistics
    }

    fn step(&self, moving: &mut Moving<'_>, mut gradients: Vec<Vec<f32>>) {
        let timer = Instant::now();
        let norm = optimiser::clip(&mut gradients, self.optimiser.clip_norm);
        moving.passed.gradient_norm.get_or_insert(norm);
        optimiser::step(self.optimiser, moving.state, moving.weights, &gradients, moving.rate);
        moving.passed.update += timer.elapsed();
    }
}

/// Says in which pass training diverged.
fn named(pass: &str, error: Error) -> Error {
    match error {
        Error::Diverged { step, what, mend } => {
            Error::Diverged { step, what: format!("{what}, in the {pass} pass"), mend }
        }
        other => other,
    }
}
