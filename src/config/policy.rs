//! How patches are augmented, as data. The policy that is meant is found in `policy/resolve.rs`.

use serde::{Deserialize, Serialize};

use super::Problems;
use super::named::{NameOrFile, named};
use super::published::{Conventions, Estimator};

/// How patches are augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// The policy, by name or as a file.
    pub name: NameOrFile<PolicyName>,
    /// Which operations `random` and `learned` draw from.
    pub form: Form,
    /// Whether patches centred on foreground have a policy of their own.
    pub targets: Targets,
    /// Where `learned` begins: probabilities by name, or a policy file.
    pub start: NameOrFile<Start>,
    /// Share of the cases that `fraction` chose that is set aside for a policy to learn from, or a method to measure
    /// on; see [`Config::validation_share`](super::Config::validation_share) for when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_share: Option<f64>,
    /// How `learned` learns.
    pub learning: Learning,
}

/// Default of [`PolicyConfig::validation_share`] for whoever needs such cases.
pub(super) const VALIDATION_SHARE: f64 = 0.2;

named! {
    /// The policies that need no file.
    pub enum PolicyName for "policy.name" {
        /// `random` in short trainings, `heuristic-nnunet` in long ones.
        Auto = "auto",
        /// Patches stay as they are.
        None = "none",
        /// DeepMedic's default.
        Heuristic = "heuristic",
        /// nnU-Net's default list.
        HeuristicNnUNet = "heuristic-nnunet",
        /// Operations drawn uniformly.
        Random = "random",
        /// Operations drawn with probabilities that are learned while the network trains.
        Learned = "learned",
    }
}

named! {
    /// How probable choices are before anything was learned.
    pub enum Start for "policy.start" {
        /// All choices of a group alike.
        Uniform = "uniform",
        /// The identity has probability 1/2 in every group.
        HalfIdentity = "half-identity",
        /// Probabilities like those of nnU-Net's list; composed form only.
        NnUNet = "nnunet",
        /// Probabilities like those of DeepMedic's augmentation; composed form only.
        DeepMedic = "deepmedic",
    }
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

/// Whom a policy's logits are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    /// Every patch.
    #[default]
    All,
    /// Patches centred on background, and patches centred on any foreground class.
    ByCentre,
}

/// How a policy learns. Its logits move by Adam, with a step size that falls as `(1 - t / steps)^0.9`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    /// Step size on the logits; by the number of updates when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Training steps from one update to the next; 8 for `leave-one-out`, 4 for `batch` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Share of the training steps before the first update: an untrained network tells nothing about operations.
    pub warm_up: f64,
    /// The batch of step t is drawn with the policy as of step t - delay.
    pub delay: u64,
    /// Patches in a batch of the policy's validation cases; 0 takes half a training batch, rounded up.
    pub validation_batch: usize,
    /// Length (L2) of the displacement of the weights by which losses are differenced.
    pub displacement: f64,
    /// What a patch's alignment is compared with; as published with `published = true`, else `leave-one-out`, when
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimator: Option<Comparison>,
    /// How often the policy is drawn from for one patch; `leave-one-out` only.
    pub draws: usize,
    /// Patches of the training batch that are drawn for again; 0 takes half of them, rounded up; `leave-one-out` only.
    pub patches: usize,
    /// Whether magnitudes of one operation learn from each other.
    pub structure: bool,
}

named! {
    /// What a patch's alignment is compared with.
    pub enum Comparison for "policy.learning.estimator" {
        /// The mean of the other draws for the same patch.
        LeaveOneOut = "leave-one-out",
        /// The mean of the training batch, which is looked at as it was drawn.
        Batch = "batch",
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            name: NameOrFile::Name(PolicyName::Auto),
            form: Form::Single,
            targets: Targets::All,
            start: NameOrFile::Name(Start::Uniform),
            validation_share: None,
            learning: Learning::default(),
        }
    }
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            rate: None,
            every: None,
            warm_up: 0.1,
            delay: 8,
            validation_batch: 0,
            displacement: 1e-3,
            estimator: None,
            draws: 4,
            patches: 0,
            structure: true,
        }
    }
}

impl PolicyConfig {
    /// Whether the policy changes while the network trains.
    pub fn learns(&self) -> bool {
        self.name == NameOrFile::Name(PolicyName::Learned)
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        for (key, wanted) in self.learning.faults() {
            problems.demand(false, &format!("policy.learning.{key}"), wanted);
        }
    }
}

impl Learning {
    /// Whether magnitudes of one operation learn from each other; never as published.
    pub fn structured(&self, conventions: &Conventions) -> bool {
        self.structure && conventions.estimator == Estimator::Score
    }

    /// Training steps from one update to the next. Where it is left out, learning takes about a fifth of the time that
    /// training takes: an update of `leave-one-out` costs twice what one of `batch` does.
    pub fn every(&self, conventions: &Conventions) -> u64 {
        self.every.unwrap_or(match self.comparison(conventions) {
            Comparison::LeaveOneOut => 8,
            Comparison::Batch => 4,
        })
    }

    /// What alignments are compared with, by what is configured and what the conventions are.
    pub fn comparison(&self, conventions: &Conventions) -> Comparison {
        self.estimator.unwrap_or(match conventions.estimator {
            Estimator::Score => Comparison::LeaveOneOut,
            Estimator::StraightThrough => Comparison::Batch,
        })
    }

    /// Keys whose values cannot be used, and what each must be.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let demands = [
            (self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), ("rate", "a number above 0")),
            (self.every != Some(0), ("every", "at least 1")),
            ((0.0..1.0).contains(&self.warm_up), ("warm_up", "at least 0 and below 1")),
            (
                self.displacement > 0.0 && self.displacement <= 0.1,
                ("displacement", "above 0 and at most 0.1"),
            ),
            ((2..=64).contains(&self.draws), ("draws", "2 to 64")),
        ];
        demands.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect()
    }
}
