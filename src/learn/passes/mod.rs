//! Passes that a method adds to an iteration: each looks at a batch in a way of its own and gives a gradient.
//!
//! A pass is a file here, a variant of [`Pass`] with an arm in each of its methods, and a section of
//! [`MethodConfig`](crate::config::method::MethodConfig) that turns it on.

use super::method::Method;
use super::objective::{Gradient, Objective};
use crate::batch::Batch;
use crate::config::method::Mode;
use crate::network::Weights;
use crate::{Error, Result};

pub mod adversarial;
pub mod mixup;

/// A pass beside the clean one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// On perturbed inputs.
    Adversarial,
    /// On mixtures of pairs of patches.
    Mixup,
}

/// What a pass found.
#[derive(Clone, Debug)]
pub struct PassGradient {
    /// Loss and gradient with respect to the weights, and the time that all of the pass took.
    pub gradient: Gradient,
    /// Numbers to record beside the loss, by name.
    pub numbers: Vec<(&'static str, f64)>,
}

impl Method {
    /// The passes of an iteration beside the clean one, in their order.
    pub fn passes(&self) -> Vec<Pass> {
        let on = |mode: Mode, pass: Pass| (mode != Mode::Off).then_some(pass);
        let config = &self.config;
        let all = [on(config.adversarial.mode, Pass::Adversarial), on(config.mixup.mode, Pass::Mixup)];
        all.into_iter().flatten().collect()
    }
}

impl Pass {
    /// What it is called in events and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adversarial => "adversarial",
            Self::Mixup => "mixup",
        }
    }

    /// What training with it should know before the first step, in words; `batch` is the number of patches in a
    /// batch, `values` that of one sample's values in each input of the network.
    ///
    /// # Errors
    /// Where the pass cannot work on such batches.
    pub fn check(self, method: &Method, batch: usize, values: &[usize]) -> Result<Option<String>> {
        match self {
            Self::Adversarial => Ok(Some(adversarial::describe(method, values))),
            Self::Mixup => mixup::check(batch).map(|()| None),
        }
    }

    /// The gradient of the pass at `weights`, on a batch that is not augmented unless the method says so.
    ///
    /// # Errors
    /// Where a number is not finite; the error names the pass.
    pub fn gradient(
        self,
        objective: &Objective<'_>,
        method: &Method,
        weights: &Weights,
        batch: &Batch,
    ) -> Result<PassGradient> {
        let found = match self {
            Self::Adversarial => adversarial::gradient(objective, method, weights, batch),
            Self::Mixup => mixup::gradient(objective, method, weights, batch),
        };
        found.map_err(|error| match error {
            Error::Diverged { step, what, mend } => {
                Error::Diverged { step, what: format!("{what}, in the {} pass", self.name()), mend }
            }
            other => other,
        })
    }
}
