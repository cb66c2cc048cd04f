//! The `[policy]` table of a run's configuration, and the policy that it names.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::operations::{Context, Start, composed, single};
use super::{Policy, Targets};
use crate::augment::Augmentation;
use crate::plan::Plan;
use crate::{Error, Result};

/// How patches are augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// `none`, `heuristic` (DeepMedic's), `heuristic-nnunet`, `random`, `learned`, a policy file, or `auto`: `random` in
    /// trainings of fewer than [`LONG_TRAINING`] steps and `heuristic-nnunet` in longer ones.
    pub name: String,
    /// Which operations `random` and `learned` draw from.
    pub form: Form,
    /// Whether patches centred on foreground have a policy of their own.
    pub targets: Targets,
    /// Where `learned` begins: `uniform`, `half-identity`, `nnunet` or `deepmedic` (the latter two composed only),
    /// or a policy file.
    pub start: String,
    /// Share of the fold's training cases that is set aside for a policy to learn from, before `fraction`; a fifth
    /// for `learned` and none for others when left out. Arms of a comparison set aside the same cases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_share: Option<f64>,
    /// How `learned` learns.
    pub learning: Learning,
}

/// An operation set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// One of 44 operations per patch.
    #[default]
    Single,
    /// One of every of 15 groups.
    Composed,
}

/// How a policy learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    /// Step size on the logits; see [`Self::step_size`] where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The step size falls as `(1 - t / steps)^poly_power`.
    pub poly_power: f64,
    /// Rule of the steps.
    pub optimiser: Steps,
    /// Training steps from one update to the next.
    pub every: u64,
    /// Share of the training steps before the first update: an untrained network tells nothing about operations.
    pub warm_up: f64,
    /// The batch of step t is drawn with the policy as of step t - delay.
    pub delay: u64,
    /// Patches in a batch of the policy's validation cases; 0 takes half a training batch, rounded up.
    pub validation_batch: usize,
    /// Length (L2) of the displacement of the weights by which losses are differenced.
    pub displacement: f64,
    /// How they are differenced.
    pub difference: Difference,
    /// How the gradient reaches the logits.
    pub estimator: Estimator,
    /// Whether patches that drew the same choice share one vote.
    pub repeats: Repeats,
}

/// How the policy's logits move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steps {
    /// Adam, betas 0.9 and 0.999, epsilon 1e-8.
    #[default]
    Adam,
    /// Plain gradient descent.
    Sgd,
}

/// How a sample's loss is differenced along the validation gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// Forward difference from the training loss, which is there already: one pass.
    #[default]
    OneSided,
    /// Central difference: two passes.
    Central,
}

/// How the gradient of a sample's weight reaches the logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// Log-derivative of the probability: unbiased, and the least noisy.
    #[default]
    Score,
    /// Through the softmax of the perturbed logits, as published.
    StraightThrough,
}

/// What patches of a batch count that drew the same choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeats {
    /// One each.
    #[default]
    Counted,
    /// One together: frequent choices do not dominate.
    Divided,
}

/// Names of the policies that need no file.
pub const NAMES: [&str; 6] = ["auto", "none", "heuristic", "heuristic-nnunet", "random", "learned"];

/// Trainings of fewer steps do not reach what nnU-Net's list costs them: it loses 0.03 to 0.05 Dice in 800 to 2400 steps
/// (docs/results.md).
pub const LONG_TRAINING: u64 = 5000;

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            name: "auto".to_owned(),
            form: Form::Single,
            targets: Targets::All,
            start: "uniform".to_owned(),
            validation_share: None,
            learning: Learning::default(),
        }
    }
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            rate: None,
            poly_power: 0.9,
            optimiser: Steps::Adam,
            every: 4,
            warm_up: 0.1,
            delay: 8,
            validation_batch: 0,
            displacement: 1e-3,
            difference: Difference::OneSided,
            estimator: Estimator::Score,
            repeats: Repeats::Counted,
        }
    }
}

impl Learning {
    /// The first step size on the logits of a run with so many updates.
    ///
    /// Where none is given it is 1 / sqrt(updates). Adam moves a logit by about one step size an update, in a
    /// direction that is mostly chance: a gradient's mean over its deviation is some 0.1. After T updates that fall
    /// to 0, chance has moved it by 0.6 rate sqrt(T) and a signal to noise of s by 0.5 rate s T. So every length of
    /// run has the same wandering, 0.6, and a signal that grows with the root of the number of updates.
    pub fn step_size(&self, updates: u64) -> f64 {
        self.rate.unwrap_or_else(|| (updates.max(1) as f64).sqrt().recip())
    }

    /// The updates of a training of so many steps; update `u` follows step `u * every`.
    pub fn updates(&self, planned: u64) -> Range<u64> {
        let first = self.warm_up * planned as f64 / self.every as f64;
        first as u64..planned.div_ceil(self.every)
    }

    /// Fields that cannot be used as they are, and what each must be.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let demands = [
            (self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), ("rate", "a number above 0")),
            (self.poly_power >= 0.0, ("poly_power", "0 or more")),
            (self.every > 0, ("every", "at least 1")),
            ((0.0..1.0).contains(&self.warm_up), ("warm_up", "at least 0 and below 1")),
            (
                self.displacement > 0.0 && self.displacement <= 0.1,
                ("displacement", "above 0 and at most 0.1"),
            ),
        ];
        demands.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect()
    }
}

impl PolicyConfig {
    /// Whether the policy changes while the network trains.
    pub fn learns(&self) -> bool {
        self.name == "learned"
    }

    /// See the field of the same name.
    pub fn validation_share(&self) -> f64 {
        self.validation_share.unwrap_or(if self.learns() { 0.2 } else { 0.0 })
    }

    /// The policy that a training of `steps` steps begins with.
    ///
    /// # Errors
    /// Where a file cannot be read, or a name is not known or does not go with the form.
    pub fn resolve<S: AsRef<str>>(&self, plan: &Plan, label_names: &[S], steps: u64) -> Result<Policy> {
        let context = Context::of(plan, label_names);
        let name = match self.name.as_str() {
            "auto" if steps < LONG_TRAINING => "random",
            "auto" => "heuristic-nnunet",
            name => name,
        };
        let mut policy = match name {
            "none" => Policy::fixed("none", Augmentation::none()),
            "heuristic" => {
                let mut list = Augmentation::deepmedic(label_names);
                list.rules.extend(context.after.rules);
                Policy::fixed("heuristic", list)
            }
            "heuristic-nnunet" => {
                Policy::fixed("heuristic-nnunet", Augmentation::for_plan(plan, label_names))
            }
            "random" => self.uniform(&context, Start::Uniform).for_targets(self.targets),
            "learned" => self.start(&context, plan.channels)?,
            file => return read("policy.name", file, &NAMES, plan.channels),
        };
        name.clone_into(&mut policy.name);
        Ok(policy)
    }

    fn start(&self, context: &Context, channels: usize) -> Result<Policy> {
        let start = match self.start.as_str() {
            "uniform" => Start::Uniform,
            "half-identity" => Start::HalfIdentity,
            "nnunet" if self.form == Form::Composed => Start::NnUNet,
            "deepmedic" if self.form == Form::Composed => Start::DeepMedic,
            "nnunet" | "deepmedic" => {
                return Err(Error::config(
                    "policy.start",
                    format!(
                        "`{}` says how likely each group acts, but `policy.form` is `single`",
                        self.start
                    ),
                    "set policy.form=composed, or start from uniform or half-identity",
                ));
            }
            file => {
                let names = ["uniform", "half-identity", "nnunet", "deepmedic"];
                let policy = read("policy.start", file, &names, channels)?;
                if policy.is_empty() {
                    return Err(Error::config(
                        "policy.start",
                        format!("`{file}` has no group of choices, so that there is nothing to learn"),
                        "name a random or learned policy",
                    ));
                }
                return Ok(match policy.targets == self.targets {
                    true => policy,
                    false => policy.for_targets(self.targets),
                });
            }
        };
        Ok(self.uniform(context, start).for_targets(self.targets))
    }

    fn uniform(&self, context: &Context, start: Start) -> Policy {
        match self.form {
            Form::Single => single(context, start),
            Form::Composed => composed(context, start),
        }
    }

    /// What is wrong with the values.
    pub fn problems(&self) -> Vec<String> {
        let share = self.validation_share();
        let demands = [
            ((0.0..1.0).contains(&share), "policy.validation_share", "at least 0 and below 1"),
            (!self.learns() || share > 0.0, "policy.validation_share", "above 0 for a policy that learns"),
        ];
        let failed = demands.into_iter().filter(|(holds, _, _)| !holds);
        let own = failed.map(|(_, field, wanted)| format!("`{field}` must be {wanted}"));
        let learning = self.learning.faults();
        let learning =
            learning.iter().map(|(key, wanted)| format!("`policy.learning.{key}` must be {wanted}"));
        own.chain(learning).collect()
    }
}

/// Reads a policy for data of `channels` channels where `file` looks like a file; else says which names there are.
fn read(field: &str, file: &str, names: &[&str], channels: usize) -> Result<Policy> {
    if file.ends_with(".toml") || Path::new(file).is_file() {
        let path = Path::new(file);
        let policy = Policy::read(path)?;
        let checked = policy.check_channels(channels);
        checked.map_err(|e| {
            Error::invalid(path, field, e.to_string(), "mend the file, or choose another policy")
        })?;
        return Ok(policy);
    }
    Err(Error::config(
        field,
        format!("`{file}` is neither a name nor a policy file"),
        format!("use {}, or a file that ends in .toml", names.join(", ")),
    ))
}
