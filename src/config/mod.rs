//! Every knob of a run, its default and its unit, in one place.
//!
//! A configuration is read from TOML over the defaults, changed by `--set section.key=value`, checked as a
//! whole and written back, resolved, into the run folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::dataset::FoldChoice;
use crate::learn::loss::{AbsentClasses, ClassWeights, DiceMean};
use crate::learn::method::{MethodConfig, PatchAugmentation};
use crate::network::Variant;
use crate::plan::{Budget, CpuBudget, DiceReduction, Plan, Reason};
use crate::policy::resolve::PolicyConfig;
use crate::{Error, Result};

pub mod names;
pub mod preset;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seed of everything that is drawn: initial weights, patches, augmentation, fractions.
    pub seed: u64,
    /// Which fold to hold out; a number, or `all` to train and validate on everything.
    pub fold: FoldChoice,
    /// Share of the fold's training cases to train on, in (0, 1].
    pub fraction: f64,
    /// How the cases of a fraction are chosen.
    pub fraction_mode: FractionMode,
    /// How long to train.
    pub schedule: Schedule,
    /// How weights move.
    pub optimiser: Optimiser,
    /// What is minimised.
    pub loss: LossConfig,
    /// What counters overfitting to rare classes.
    pub method: MethodConfig,
    /// Where patches are cut.
    pub sampling: Sampling,
    /// How patches are augmented.
    pub policy: PolicyConfig,
    /// What is segmented.
    pub task: TaskConfig,
    /// Network options that the plan leaves open.
    pub network: NetworkConfig,
    /// Values that replace the plan's.
    pub plan: PlanOverrides,
    /// Validation while training.
    pub validation: Validation,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// Threads that make batches and how many batches wait ready.
    pub loader: LoaderConfig,
    /// CPU operators.
    pub kernels: Kernels,
}

/// How the training cases of a fraction are chosen. Either way each fraction is contained in the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FractionMode {
    /// By the run's seed.
    #[default]
    Random,
    /// The first ones by name, as in the published experiments.
    Prefix,
}

/// How long to train. Exactly one of `steps`, `epochs` and `time_budget_seconds` rules; the first that is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Optimiser steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Epochs of `steps_per_epoch` steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Seconds from the command's start to the last step, the final validation not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_budget_seconds: Option<f64>,
    /// Steps between two validations.
    pub steps_per_epoch: u64,
    /// Stop after this many epochs without a better validation score; off when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

impl Schedule {
    /// About how many steps a training has where a step takes `step_seconds`.
    pub fn expected_steps(&self, step_seconds: impl FnOnce() -> f64) -> u64 {
        match (self.steps, self.time_budget_seconds) {
            (Some(steps), _) => steps,
            (None, Some(budget)) => (budget / step_seconds()) as u64,
            (None, None) => self.epochs.unwrap_or(DEFAULT_EPOCHS) * self.steps_per_epoch,
        }
    }
}

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

/// What is minimised: a weighted sum of cross-entropy and soft Dice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Weight of the cross-entropy.
    pub cross_entropy: f64,
    /// Weight of 1 - soft Dice (or F-beta), mean over the foreground classes that occur in the labels.
    pub dice: f64,
    /// How many times more than a false voxel a missed one weighs in the Dice term, as a square root: 1 is Dice,
    /// 2, 4, 8 are F2, F4, F8.
    pub beta: f64,
    /// What the Dice sums run over; the plan's choice when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dice_reduction: Option<DiceReduction>,
    /// `foreground` or `all-classes`: over which classes the Dice term is averaged.
    pub dice_mean: DiceMean,
    /// `leave`, `stay` or `constant`: what classes that the labels do not contain do to the Dice term.
    pub dice_absent: AbsentClasses,
    /// Added inside the logarithm and to the base of the focal loss. 0 is exact; published code has 1e-6.
    pub epsilon: f64,
    /// Factors of the cross-entropy: `equal`, `frequency` (inverse, by batch), or one number per class.
    pub class_weights: ClassWeights,
    /// First and last epoch between which these factors go linearly to 1; they stay when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights_relax: Option<[u64; 2]>,
}

/// Where patches are cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// `last-third`: as nnU-Net, the last third of every batch (at least one patch) is centred on a foreground
    /// voxel; `probability`: every patch is, with probability `foreground_share`; `centred`: DeepMedic's, every
    /// patch is centred exactly, with probability `foreground_share` on foreground, else on background.
    pub rule: SamplingRule,
    /// See `rule`.
    pub foreground_share: f64,
}

/// See [`Sampling::rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplingRule {
    /// The last patches of each batch.
    LastThird,
    /// Each patch by chance.
    Probability,
    /// Each patch by chance on foreground or on background.
    Centred,
}

/// What is segmented.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// Classes and regions of the data set, by name, that are trained and scored; of overlapping ones a later
    /// one lies on top. All other voxels are background. Empty: as the data set has them.
    pub classes: Vec<String>,
}

/// Network options that the plan leaves open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// `unet`: the 3-D U-Net that the plan describes; `deepmedic`: DeepMedic.
    pub kind: NetworkKind,
    /// DeepMedic's shape by name: `default`, `basic`, `small`, `basic-small`.
    pub variant: Variant,
    /// Also compute the loss at the lower resolutions of the decoder, weights 1, 1/2, 1/4, ... (the coarsest
    /// left out), normalised to sum 1.
    pub deep_supervision: bool,
}

/// See [`NetworkConfig::kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// 3-D U-Net.
    #[default]
    UNet,
    /// DeepMedic.
    DeepMedic,
}

/// Values that replace the plan's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanOverrides {
    /// Voxel spacing after preparation, millimetres, (x, y, z) along the nearest RAS+ axes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<[f64; 3]>,
    /// Patch edges, voxels; for the U-Net each a multiple of its total stride along its axis, for DeepMedic the
    /// full-resolution input in training, at least 17.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<[usize; 3]>,
    /// DeepMedic: edges of the full-resolution input in prediction, voxels; at least 17.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_patch: Option<[usize; 3]>,
    /// Patches in a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// U-Net: feature maps of the first stage; they double at every further stage up to 320.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_features: Option<usize>,
    /// Memory that training may take, GiB, as the planner sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<f64>,
    /// Seconds that one training step should take at most on a processor of a nominal 150 GFLOP/s (two cores with
    /// AVX-512); 0 plans without regard to speed, as nnU-Net does. The nominal speed keeps plans the same on every
    /// machine and for any number of threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_seconds: Option<f64>,
}

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

/// CPU operators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernels {
    /// `stock`, `portable`, `avx2` or `avx512`; the fastest that the processor has when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
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

/// See [`Kernels::precision`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not rounded.
    #[default]
    F32,
    /// bf16: the exponent of f32 with 8 significant bits.
    Bf16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            fold: FoldChoice::Number(0),
            fraction: 1.0,
            fraction_mode: FractionMode::Random,
            schedule: Schedule::default(),
            optimiser: Optimiser::default(),
            loss: LossConfig::default(),
            method: MethodConfig::default(),
            sampling: Sampling::default(),
            policy: PolicyConfig::default(),
            task: TaskConfig::default(),
            network: NetworkConfig::default(),
            plan: PlanOverrides::default(),
            validation: Validation::default(),
            checkpoint: CheckpointConfig::default(),
            loader: LoaderConfig::default(),
            kernels: Kernels::default(),
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { steps: None, epochs: None, time_budget_seconds: None, steps_per_epoch: 250, patience: None }
    }
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

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            cross_entropy: 1.0,
            dice: 1.0,
            beta: 1.0,
            dice_reduction: None,
            dice_mean: DiceMean::default(),
            dice_absent: AbsentClasses::default(),
            epsilon: 0.0,
            class_weights: ClassWeights::default(),
            class_weights_relax: None,
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { rule: SamplingRule::LastThird, foreground_share: 0.5 }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { cases_per_epoch: 4, logit_windows: 8, step: 0.5, train_cases: 0 }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_seconds: 300.0, every_steps: 0 }
    }
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self { threads: 1, queue: 4, memory_gib: 2.0 }
    }
}

/// Epochs that are trained when the schedule says nothing.
pub const DEFAULT_EPOCHS: u64 = 1000;

impl PlanOverrides {
    /// Cores of the nominal processor.
    const NOMINAL_CORES: usize = 2;

    /// What the planner may spend.
    pub fn budget(&self) -> Budget {
        let mut budget = Budget::processor(Self::NOMINAL_CORES);
        match (self.step_seconds, &mut budget.cpu) {
            (Some(0.0), cpu) => *cpu = CpuBudget::Off,
            (Some(limit), CpuBudget::Step { seconds, .. }) => *seconds = limit,
            _ => {}
        }
        if let Some(gib) = self.memory_gib {
            budget.memory_bytes = (gib * (1u64 << 30) as f64) as u64;
        }
        budget
    }

    /// Replaces what the planner decided by what is set here.
    ///
    /// # Errors
    /// Where the network cannot take the patch, or a value is set that it does not have.
    pub fn apply(&self, plan: &mut Plan) -> Result<()> {
        self.check_kind(plan)?;
        let mut explain = |field: &str| {
            plan.reasons.retain(|reason| reason.field != field);
            let text = format!("Set in the configuration (`plan.{field}`).");
            plan.reasons.push(Reason { field: field.to_owned(), text });
        };
        if self.patch.is_some() {
            explain("patch");
        }
        if self.spacing.is_some() {
            explain("spacing");
        }
        if self.batch.is_some() {
            explain("batch");
        }
        if self.base_features.is_some() {
            explain("base_features");
        }
        plan.batch = self.batch.unwrap_or(plan.batch);
        plan.spacing = self.spacing.unwrap_or(plan.spacing);
        if let Some(shape) = &mut plan.deepmedic {
            shape.inference_segment = self.inference_patch.unwrap_or(shape.inference_segment);
            plan.patch = self.patch.unwrap_or(plan.patch);
            shape.field(plan.patch)?;
            return shape.check();
        }
        if let Some(base) = self.base_features {
            const MOST: usize = 320;
            plan.unet.features =
                (0..plan.unet.features.len()).map(|stage| (base << stage).min(MOST)).collect();
        }
        if let Some(patch) = self.patch {
            let stride: [usize; 3] =
                std::array::from_fn(|axis| plan.unet.strides.iter().map(|s| s[axis]).product());
            if (0..3).any(|axis| !patch[axis].is_multiple_of(stride[axis])) {
                return Err(Error::config(
                    "plan.patch",
                    format!("{patch:?} is not divisible by the network's strides {stride:?}"),
                    "round every edge to a multiple of the stride along its axis",
                ));
            }
            plan.patch = patch;
        }
        Ok(())
    }

    /// Refuses values that the plan's network does not have.
    fn check_kind(&self, plan: &Plan) -> Result<()> {
        let (field, network) = match &plan.deepmedic {
            Some(_) if self.base_features.is_some() => ("plan.base_features", "DeepMedic"),
            None if self.inference_patch.is_some() => ("plan.inference_patch", "the U-Net"),
            _ => return Ok(()),
        };
        let mend = "leave it out, or change `network.kind`; DeepMedic's maps are set by `network.variant`";
        Err(Error::config(field, format!("{network} has no such value"), mend))
    }
}

impl NetworkConfig {
    /// Makes a plan one for the network that is asked for.
    ///
    /// # Errors
    /// Where options exclude each other.
    pub fn apply(&self, plan: &mut Plan) -> Result<()> {
        match self.kind {
            NetworkKind::UNet => Ok(()),
            NetworkKind::DeepMedic => plan.for_deepmedic(self.variant.shape()),
        }
    }
}

impl Config {
    /// Defaults, then the file where there is one, then every `section.key=value` of `sets` in order.
    pub fn resolve(file: Option<&Path>, sets: &[String]) -> Result<Self> {
        Self::resolve_preset(None, file, sets)
    }

    /// As [`Self::resolve`], with a preset ([`preset::names`]) between the defaults and the file.
    pub fn resolve_preset(preset: Option<&str>, file: Option<&Path>, sets: &[String]) -> Result<Self> {
        let mut table = preset.map(preset::table).transpose()?.unwrap_or_default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
            let read = text.parse::<toml::Table>().map_err(|e| {
                Error::invalid(path, "TOML", e.to_string(), "mend the line that the message points at")
            })?;
            // What the file says beside a method's name goes over what the name stands for.
            if let Some(name) = read.get("method").and_then(|m| m.get("name")).and_then(toml::Value::as_str) {
                names::apply_named(&mut table, name)?;
            }
            preset::overlay(&mut table, read);
        }
        for set in sets {
            apply(&mut table, set)?;
        }
        let config: Self = toml::Value::Table(table).try_into().map_err(|e: toml::de::Error| {
            let place = file.map_or("--set".to_owned(), |path| path.display().to_string());
            Error::config(
                place,
                e.message().to_owned(),
                "see docs/configuration.md for every key and its type",
            )
        })?;
        config.check()?;
        Ok(config)
    }

    /// Reads a resolved configuration back.
    pub fn read(path: &Path) -> Result<Self> {
        Self::resolve(Some(path), &[])
    }

    /// The configuration as TOML with every value.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| unreachable!("a Config is plain data: {error}"))
    }

    /// All that is wrong with the values, in one error.
    pub fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, field: &str, wanted: &str| {
            if !holds {
                problems.push(format!("`{field}` must be {wanted}"));
            }
        };
        demand(self.fraction > 0.0 && self.fraction <= 1.0, "fraction", "above 0 and at most 1");
        demand(self.schedule.steps_per_epoch > 0, "schedule.steps_per_epoch", "at least 1");
        demand(self.schedule.steps != Some(0), "schedule.steps", "at least 1");
        demand(self.schedule.epochs != Some(0), "schedule.epochs", "at least 1");
        demand(self.schedule.patience != Some(0), "schedule.patience", "at least 1");
        demand(
            self.schedule.time_budget_seconds.is_none_or(|s| s > 0.0),
            "schedule.time_budget_seconds",
            "above 0",
        );
        let optimiser = &self.optimiser;
        demand(
            optimiser.learning_rate > 0.0 && optimiser.learning_rate.is_finite(),
            "optimiser.learning_rate",
            "a number above 0",
        );
        demand(optimiser.poly_power >= 0.0, "optimiser.poly_power", "0 or more");
        demand((0.0..1.0).contains(&optimiser.momentum), "optimiser.momentum", "at least 0 and below 1");
        demand(optimiser.weight_decay >= 0.0, "optimiser.weight_decay", "0 or more");
        demand(optimiser.clip_norm > 0.0, "optimiser.clip_norm", "above 0");
        demand(
            optimiser.halve_at.iter().all(|&share| share > 0.0 && share < 1.0)
                && optimiser.halve_at.is_sorted_by(|a, b| a < b),
            "optimiser.halve_at",
            "an ascending list of shares above 0 and below 1",
        );
        demand(optimiser.l1 >= 0.0 && optimiser.l2 >= 0.0, "optimiser.l1 and optimiser.l2", "0 or more");
        let loss = &self.loss;
        demand(
            loss.cross_entropy >= 0.0 && loss.dice >= 0.0,
            "loss.cross_entropy and loss.dice",
            "0 or more",
        );
        demand(loss.cross_entropy + loss.dice > 0.0, "loss.cross_entropy + loss.dice", "above 0");
        demand(loss.beta > 0.0 && loss.beta.is_finite(), "loss.beta", "above 0");
        demand(
            (0.0..0.1).contains(&loss.epsilon),
            "loss.epsilon",
            "at least 0 and below 0.1 (1e-6 is usual)",
        );
        demand(
            match &loss.class_weights {
                ClassWeights::Rule(_) => true,
                ClassWeights::Given(weights) => weights.iter().all(|w| *w >= 0.0 && w.is_finite()),
            },
            "loss.class_weights",
            "`equal`, `frequency` or one number of 0 or more per class",
        );
        demand(
            loss.class_weights_relax.is_none_or(|[first, last]| first < last),
            "loss.class_weights_relax",
            "two epochs, the first before the last",
        );
        demand(
            (0.0..=1.0).contains(&self.sampling.foreground_share),
            "sampling.foreground_share",
            "between 0 and 1",
        );
        demand(self.plan.batch.is_none_or(|n| (1..=65_536).contains(&n)), "plan.batch", "from 1 to 65536");
        demand(
            self.plan.base_features.is_none_or(|n| (1..=4096).contains(&n)),
            "plan.base_features",
            "from 1 to 4096",
        );
        demand(
            self.plan.patch.is_none_or(|p| p.iter().all(|n| (1..=4096).contains(n))),
            "plan.patch",
            "three edges from 1 to 4096 voxels",
        );
        demand(
            self.plan.spacing.is_none_or(|s| s.iter().all(|&edge| edge > 0.0 && edge.is_finite())),
            "plan.spacing",
            "three lengths above 0, in millimetres",
        );
        demand(
            !(self.network.deep_supervision && self.network.kind == NetworkKind::DeepMedic),
            "network.deep_supervision",
            "false for DeepMedic, which has logits at one resolution only",
        );
        demand(self.plan.memory_gib.is_none_or(|g| g > 0.0), "plan.memory_gib", "above 0");
        demand(self.plan.step_seconds.is_none_or(|s| s >= 0.0), "plan.step_seconds", "0 or more");
        demand((0.05..=1.0).contains(&self.validation.step), "validation.step", "from 0.05 to 1");
        demand(self.checkpoint.every_seconds > 0.0, "checkpoint.every_seconds", "above 0");
        demand((1..=1024).contains(&self.loader.threads), "loader.threads", "from 1 to 1024");
        demand((1..=4096).contains(&self.loader.queue), "loader.queue", "from 1 to 4096");
        demand(self.loader.memory_gib >= 0.0, "loader.memory_gib", "0 or more");
        problems.extend(self.policy.problems());
        problems.extend(self.method.problems(match (self.policy.name.as_str(), self.policy.learns()) {
            ("none", _) => PatchAugmentation::None,
            (_, true) => PatchAugmentation::Learned,
            (_, false) => PatchAugmentation::Fixed,
        }));
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::config("configuration", problems.join("; "), "change these values"))
    }
}

/// Puts one `a.b=v` into the table. The value is TOML where it parses as such, otherwise a string.
fn apply(table: &mut toml::Table, set: &str) -> Result<()> {
    let Some((path, text)) = set.split_once('=') else {
        return Err(Error::config(set, "there is no `=`", "write it as section.key=value"));
    };
    let value = match format!("v = {text}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("v").unwrap_or_else(|| toml::Value::String(text.to_owned())),
        Err(_) => toml::Value::String(text.to_owned()),
    };
    if path.trim() == "method.name"
        && let Some(name) = value.as_str()
    {
        // A name stands for settings; those that are set after it go before them.
        return names::apply_named(table, name);
    }
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut place = table;
    for key in keys {
        let entry = place.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        match entry {
            toml::Value::Table(inner) => place = inner,
            _ => {
                return Err(Error::config(
                    path,
                    format!("`{key}` is a value, not a section"),
                    "leave out what follows it",
                ));
            }
        }
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(list: &[&str]) -> Vec<String> {
        list.iter().map(|&s| s.to_owned()).collect()
    }

    #[test]
    fn a_resolved_configuration_reads_back_equal() {
        let config =
            Config::resolve(None, &sets(&["schedule.steps=7", "fold=all", "plan.patch=[8, 16, 24]"]))
                .unwrap();
        assert_eq!(config.schedule.steps, Some(7));
        assert_eq!(config.fold, FoldChoice::All);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml()).unwrap();
        assert_eq!(Config::read(&path).unwrap(), config);
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        let unknown = Config::resolve(None, &sets(&["optimiser.lr=1"])).unwrap_err().to_string();
        assert!(unknown.contains("lr"), "{unknown}");
        let bad = Config::resolve(None, &sets(&["optimiser.momentum=1.5", "fraction=0.0"]))
            .unwrap_err()
            .to_string();
        assert!(bad.contains("optimiser.momentum") && bad.contains("fraction"), "{bad}");
        assert!(
            Config::resolve(None, &sets(&["seed"])).unwrap_err().to_string().contains("section.key=value")
        );
    }
}
