//! What is minimised.

use serde::{Deserialize, Serialize};

use super::Problems;

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
    /// Factors of the cross-entropy: `equal`, `frequency` (inverse, by batch), or one number per class.
    pub class_weights: ClassWeights,
    /// First and last epoch between which these factors go linearly to 1; they stay when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights_relax: Option<[u64; 2]>,
}

/// Over what the soft Dice sums are taken before the quotient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiceReduction {
    /// Each sample has its own Dice.
    Sample,
    /// One Dice for the whole batch.
    Batch,
}

/// Factors of the cross-entropy per class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "write `equal`, `frequency` or one number of 0 or more per class")]
pub enum ClassWeights {
    /// By a rule.
    Rule(WeightRule),
    /// One per class, background first.
    Given(Vec<f64>),
}

/// See [`ClassWeights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightRule {
    /// All 1.
    Equal,
    /// Voxels of the batch / (classes x voxels of the class in the batch).
    Frequency,
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self::Rule(WeightRule::Equal)
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            cross_entropy: 1.0,
            dice: 1.0,
            beta: 1.0,
            dice_reduction: None,
            class_weights: ClassWeights::default(),
            class_weights_relax: None,
        }
    }
}

impl LossConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        let at_least_0 = |value: f64| value >= 0.0 && value.is_finite();
        problems.demand(at_least_0(self.cross_entropy), "loss.cross_entropy", "0 or more");
        problems.demand(at_least_0(self.dice), "loss.dice", "0 or more");
        problems.demand(self.cross_entropy + self.dice > 0.0, "loss.cross_entropy + loss.dice", "above 0");
        problems.demand(self.beta > 0.0 && self.beta.is_finite(), "loss.beta", "above 0");
        problems.demand(
            match &self.class_weights {
                ClassWeights::Rule(_) => true,
                ClassWeights::Given(weights) => weights.iter().all(|&weight| at_least_0(weight)),
            },
            "loss.class_weights",
            "`equal`, `frequency` or one number of 0 or more per class",
        );
        problems.demand(
            self.class_weights_relax.is_none_or(|[first, last]| first < last),
            "loss.class_weights_relax",
            "two epochs, the first before the last",
        );
    }
}
