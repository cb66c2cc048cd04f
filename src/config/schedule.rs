//! How long to train, when to validate and to write checkpoints, and what the machine gives for it.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::Problems;
use super::named::named;

/// How long to train. In files exactly one of the keys `steps`, `epochs` and `time_budget_seconds` gives `length`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Schedule {
    /// The length of the training.
    pub length: Length,
    /// Steps between two validations, and the length of an epoch.
    pub steps_per_epoch: u64,
    /// Stop after this many epochs without a better validation score; off when left out.
    pub patience: Option<u64>,
}

/// The length of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Optimiser steps (`steps`).
    Steps(u64),
    /// Epochs of `steps_per_epoch` steps (`epochs`).
    Epochs(u64),
    /// Seconds from the command's start to the last step, the final validation not counted
    /// (`time_budget_seconds`).
    Seconds(f64),
}

/// The section as it stands in files.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epochs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_budget_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps_per_epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patience: Option<u64>,
}

/// The keys of `schedule` that exclude each other.
pub(super) const LENGTHS: [&str; 3] = ["steps", "epochs", "time_budget_seconds"];

impl TryFrom<Written> for Schedule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let length = match (written.steps, written.epochs, written.time_budget_seconds) {
            (None, None, None) => Self::default().length,
            (Some(steps), None, None) => Length::Steps(steps),
            (None, Some(epochs), None) => Length::Epochs(epochs),
            (None, None, Some(seconds)) => Length::Seconds(seconds),
            _ => return Err(format!("set one of {}", LENGTHS.join(", "))),
        };
        Ok(Self {
            length,
            steps_per_epoch: written.steps_per_epoch.unwrap_or(Self::default().steps_per_epoch),
            patience: written.patience,
        })
    }
}

impl From<Schedule> for Written {
    fn from(schedule: Schedule) -> Self {
        let mut written = Self {
            steps_per_epoch: Some(schedule.steps_per_epoch),
            patience: schedule.patience,
            ..Self::default()
        };
        match schedule.length {
            Length::Steps(steps) => written.steps = Some(steps),
            Length::Epochs(epochs) => written.epochs = Some(epochs),
            Length::Seconds(seconds) => written.time_budget_seconds = Some(seconds),
        }
        written
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { length: Length::Epochs(1000), steps_per_epoch: 250, patience: None }
    }
}

impl Schedule {
    /// About how many steps a training has where a step takes `step_seconds`.
    pub fn expected_steps(&self, step_seconds: impl FnOnce() -> f64) -> u64 {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => epochs * self.steps_per_epoch,
            Length::Seconds(budget) => (budget / step_seconds()) as u64,
        }
    }

    /// How many steps a training has, where its length says so and not its speed.
    pub fn fixed_steps(&self) -> Option<u64> {
        match self.length {
            Length::Steps(steps) => Some(steps),
            Length::Epochs(epochs) => Some(epochs * self.steps_per_epoch),
            Length::Seconds(_) => None,
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        // So many steps of a millisecond take centuries; more would overflow where epochs are multiplied.
        const MOST: u64 = 1 << 40;
        let possible = |number: u64| (1..=MOST).contains(&number);
        problems.demand(possible(self.steps_per_epoch), "schedule.steps_per_epoch", "at least 1");
        problems.demand(self.patience != Some(0), "schedule.patience", "at least 1");
        match self.length {
            Length::Steps(steps) => problems.demand(possible(steps), "schedule.steps", "at least 1"),
            Length::Epochs(epochs) => problems.demand(
                possible(epochs) && epochs.checked_mul(self.steps_per_epoch).is_some_and(possible),
                "schedule.epochs",
                "at least 1",
            ),
            Length::Seconds(seconds) => problems.demand(
                seconds > 0.0 && seconds.is_finite(),
                "schedule.time_budget_seconds",
                "above 0",
            ),
        }
    }
}

/// The shares of a window's edge by which sliding windows may step.
pub const WINDOW_STEPS: RangeInclusive<f64> = 0.05..=1.0;

/// Validation while training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Validation cases that are predicted after every epoch (evenly spread over the sorted list). All are
    /// predicted at the end.
    pub cases_per_epoch: usize,
    /// Windows of training cases, and as many of validation cases, in which the shift of the logits is measured
    /// after every epoch; 0 turns it off. Never so many that they would take more than about 2 % of an epoch.
    pub logit_windows: usize,
    /// Share of a window's edge by which sliding windows step.
    pub step: f64,
    /// Training cases (evenly spread over the sorted list) that are also predicted and scored at the end, into the
    /// run's folder `train`; their scores minus those of the validation cases are the generalisation gap.
    pub train_cases: usize,
    /// Whether steps after a prediction are chosen on the validation cases.
    pub post: PostMode,
}

/// Whether the label maps of predictions are changed by the steps that gain on held-out cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostMode {
    /// By those that gain.
    #[default]
    Auto,
    /// Never.
    Off,
}

impl Default for Validation {
    fn default() -> Self {
        Self { cases_per_epoch: 4, logit_windows: 8, step: 0.5, train_cases: 0, post: PostMode::Auto }
    }
}

impl Validation {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.demand(WINDOW_STEPS.contains(&self.step), "validation.step", "from 0.05 to 1");
    }
}

/// Checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Longest time between two checkpoints, seconds. One is also written at the end of every epoch that is
    /// best so far, and after the last step.
    pub every_seconds: f64,
    /// Also write one every so many steps; 0 leaves it to the clock.
    pub every_steps: u64,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_seconds: 300.0, every_steps: 0 }
    }
}

impl CheckpointConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.demand(self.every_seconds > 0.0, "checkpoint.every_seconds", "above 0");
    }
}

/// Threads that make batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderConfig {
    /// Threads; results do not depend on it.
    pub threads: usize,
    /// Batches that wait ready at most.
    pub queue: usize,
    /// Prepared samples are kept in memory up to this many GiB; beyond it they are read again from the cache.
    pub memory_gib: f64,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self { threads: 1, queue: 4, memory_gib: 2.0 }
    }
}

impl LoaderConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.demand((1..=1024).contains(&self.threads), "loader.threads", "from 1 to 1024");
        problems.demand((1..=4096).contains(&self.queue), "loader.queue", "from 1 to 4096");
        problems.demand(self.memory_gib >= 0.0, "loader.memory_gib", "0 or more");
    }
}

/// CPU operators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernels {
    /// Instructions that they use; the fastest that the processor has when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<KernelPath>,
    /// What the operands of convolutions are rounded to; sums and weights are f32 always.
    pub precision: Precision,
    /// Whether bf16 may use the processor's matrix tiles (AMX).
    pub matrix_tiles: bool,
}

impl Default for Kernels {
    fn default() -> Self {
        Self { path: None, precision: Precision::F32, matrix_tiles: true }
    }
}

named! {
    /// See [`Kernels::path`].
    pub enum KernelPath for "kernels.path" {
        /// Plain Rust.
        Portable = "portable",
        /// AVX2 and FMA.
        Avx2 = "avx2",
        /// AVX-512.
        Avx512 = "avx512",
    }
}

named! {
    /// See [`Kernels::precision`].
    pub enum Precision for "kernels.precision" {
        /// Not rounded.
        F32 = "f32",
        /// bf16: the exponent of f32 with 8 significant bits.
        Bf16 = "bf16",
    }
}
