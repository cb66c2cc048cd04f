//! How weights move.

use serde::{Deserialize, Serialize};

use super::Problems;

/// How weights move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimiser {
    /// Rule.
    pub kind: OptimiserKind,
    /// Learning rate at step 0.
    pub learning_rate: f64,
    /// Learning rate at step t is `learning_rate * (1 - t / steps)^poly_power`; 0 keeps it constant.
    pub poly_power: f64,
    /// SGD and RMSProp: momentum, Nesterov's form.
    pub momentum: f64,
    /// L2 penalty added to the gradient, as in PyTorch's `weight_decay`.
    pub weight_decay: f64,
    /// Gradients longer than this (L2 norm over all parameters) are shortened to it.
    pub clip_norm: f64,
    /// Shares of the run after each of which the learning rate is halved, ascending in (0, 1).
    pub halve_at: Vec<f64>,
    /// DeepMedic's penalty `l1 sum |w| + l2 sum w^2` over the kernels of convolutions alone. Its gradient joins
    /// that of the loss after clipping, in every pass that moves the weights; the reported loss is without it.
    pub l1: f64,
    /// See `l1`.
    pub l2: f64,
}

/// Optimiser rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserKind {
    /// Stochastic gradient descent with Nesterov momentum.
    Sgd,
    /// Adam, betas 0.9 and 0.999, epsilon 1e-8.
    Adam,
    /// RMSProp, rho 0.9, epsilon 1e-4 inside the root, Nesterov momentum (DeepMedic's).
    RmsProp,
}

impl Default for Optimiser {
    fn default() -> Self {
        Self {
            kind: OptimiserKind::Sgd,
            learning_rate: 0.01,
            poly_power: 0.9,
            momentum: 0.99,
            weight_decay: 3e-5,
            clip_norm: 12.0,
            halve_at: Vec::new(),
            l1: 0.0,
            l2: 0.0,
        }
    }
}

impl Optimiser {
    pub(super) fn check(&self, problems: &mut Problems) {
        let at_least_0 = |value: f64| value >= 0.0 && value.is_finite();
        problems.demand(
            self.learning_rate > 0.0 && self.learning_rate.is_finite(),
            "optimiser.learning_rate",
            "a number above 0",
        );
        problems.demand(at_least_0(self.poly_power), "optimiser.poly_power", "0 or more");
        problems.demand((0.0..1.0).contains(&self.momentum), "optimiser.momentum", "at least 0 and below 1");
        problems.demand(at_least_0(self.weight_decay), "optimiser.weight_decay", "0 or more");
        problems.demand(self.clip_norm > 0.0, "optimiser.clip_norm", "above 0");
        problems.demand(
            self.halve_at.iter().all(|&share| share > 0.0 && share < 1.0)
                && self.halve_at.is_sorted_by(|a, b| a < b),
            "optimiser.halve_at",
            "an ascending list of shares above 0 and below 1",
        );
        problems.demand(at_least_0(self.l1), "optimiser.l1", "0 or more");
        problems.demand(at_least_0(self.l2), "optimiser.l2", "0 or more");
    }
}
