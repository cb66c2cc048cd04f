//! Which cases are trained on, what is segmented in them, and where patches are cut.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::{Error, Result};

/// A fold as it is asked for: `0`, `1`, ... or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum FoldChoice {
    /// A fold by its number, counted from 0.
    Number(usize),
    /// Every case is trained on and validated on.
    All,
}

impl FromStr for FoldChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Self::All),
            number => number.parse().map(Self::Number).map_err(|_| {
                Error::config("fold", format!("`{text}` is no fold"), "give 0, 1, 2, 3, 4 or `all`")
            }),
        }
    }
}

/// A fold in a configuration file: `fold = 0` and `fold = "0"` mean the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(usize),
    Text(String),
}

impl TryFrom<Written> for FoldChoice {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        match written {
            Written::Number(number) => Ok(Self::Number(number)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<FoldChoice> for String {
    fn from(choice: FoldChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for FoldChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::All => out.write_str("all"),
        }
    }
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

/// What is segmented.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// Classes and regions of the data set, by name, that are trained and scored; of overlapping ones a later
    /// one lies on top. All other voxels are background. Empty: as the data set has them.
    pub classes: Vec<String>,
}

/// Where patches are cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Which patches of a batch are centred on foreground.
    pub rule: SamplingRule,
    /// The probability of [`SamplingRule::Probability`] and [`SamplingRule::Centred`].
    pub foreground_share: f64,
}

/// See [`Sampling::rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplingRule {
    /// nnU-Net's: the last third of every batch, at least one patch, is centred on a foreground voxel.
    LastThird,
    /// Each patch is, with probability `foreground_share`.
    Probability,
    /// DeepMedic's: every patch is centred exactly, with probability `foreground_share` on foreground, else on
    /// background.
    Centred,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { rule: SamplingRule::LastThird, foreground_share: 0.5 }
    }
}

impl Sampling {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.demand(
            (0.0..=1.0).contains(&self.foreground_share),
            "sampling.foreground_share",
            "between 0 and 1",
        );
    }
}
