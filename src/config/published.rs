//! Details in which the programs released with the papers differ from this one: `published = true` takes theirs.
//!
//! | detail | here | DeepMedic's program (TensorFlow) | the U-Net's program (PyTorch) |
//! |---|---|---|---|
//! | logarithm | exact | epsilon 1e-6 | epsilon 1e-6 |
//! | Dice mean over | foreground | all classes | foreground |
//! | classes that the labels lack | leave the mean | stay in it | add a constant 1 |
//! | length of adversarial moves | by value | L2 norm 10 | L2 norm 10 |
//! | loss that they increase | cross-entropy | cross-entropy | cross-entropy and Dice |
//! | pairs of mixup | random | random | first with last |
//! | batch of extra passes | raw twin | the same | other raw patches |
//!
//! A learned policy takes central differences, straight-through weights and shared votes of the training batch, and
//! learns every logit by itself, whatever the network.

use serde::{Deserialize, Serialize};

use super::network::NetworkKind;

/// See the module's table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conventions {
    /// Added inside the logarithm and to the base of the focal loss.
    pub epsilon: f64,
    /// Over which classes the Dice term is averaged.
    pub dice_mean: DiceMean,
    /// What becomes of classes that the labels do not contain.
    pub dice_absent: AbsentClasses,
    /// L2 norm of an adversarial perturbation of a sample and input pathway; by `method.adversarial.eps_rms` where
    /// `None`.
    pub adversarial_norm: Option<f64>,
    /// Which loss the perturbation increases.
    pub direction: DirectionLoss,
    /// Which patch is mixed with which.
    pub partner: Partner,
    /// What the adversarial and mixup passes work on.
    pub aux_batch: AuxBatch,
    /// How a sample's loss is differenced along the validation gradient.
    pub difference: Difference,
    /// How the gradient of a sample's weight reaches the policy's logits.
    pub estimator: Estimator,
    /// What patches of a batch count that drew the same choice.
    pub repeats: Repeats,
}

/// Over which classes the Dice term is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiceMean {
    /// All but the background.
    Foreground,
    /// All.
    AllClasses,
}

/// What becomes, in the Dice term, of classes that the labels do not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsentClasses {
    /// They leave the mean.
    Leave,
    /// They stay in it: 0 where nothing is predicted, nearly 1 otherwise.
    Stay,
    /// They add a constant 1: the smoothing term stands in the numerator of every class.
    Constant,
}

/// Which loss an adversarial perturbation increases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectionLoss {
    /// The cross-entropy.
    CrossEntropy,
    /// The cross-entropy plus the batch's soft Dice over the same voxels.
    CrossEntropyDice,
}

/// Which patch of a batch is mixed with which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partner {
    /// By a random permutation.
    Permutation,
    /// The first with the last and so on.
    Flip,
}

/// What the adversarial and mixup passes work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuxBatch {
    /// The batch of the clean pass.
    Same,
    /// The same patches without augmentation.
    RawTwin,
    /// Other patches, drawn by the same rules, without augmentation.
    RawIndependent,
}

/// How a sample's loss is differenced along the validation gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Forward difference from the training loss, which is there already: one pass.
    OneSided,
    /// Central difference: two passes, for an error that falls with the square.
    Central,
}

/// How the gradient of a sample's weight reaches the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// Log-derivative of the probability: unbiased, and the least noisy.
    Score,
    /// Through the softmax of the perturbed logits.
    StraightThrough,
}

/// What patches of a batch count that drew the same choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// One each.
    Counted,
    /// One together: frequent choices do not dominate.
    Divided,
}

impl Conventions {
    /// This program's own.
    pub const OWN: Self = Self {
        epsilon: 0.0,
        dice_mean: DiceMean::Foreground,
        dice_absent: AbsentClasses::Leave,
        adversarial_norm: None,
        direction: DirectionLoss::CrossEntropy,
        partner: Partner::Permutation,
        aux_batch: AuxBatch::RawTwin,
        difference: Difference::OneSided,
        estimator: Estimator::Score,
        repeats: Repeats::Counted,
    };

    /// Those of the program that was released for a network.
    pub const fn published(network: NetworkKind) -> Self {
        let both = Self {
            epsilon: 1e-6,
            adversarial_norm: Some(10.0),
            difference: Difference::Central,
            estimator: Estimator::StraightThrough,
            repeats: Repeats::Divided,
            ..Self::OWN
        };
        match network {
            NetworkKind::DeepMedic => Self {
                dice_mean: DiceMean::AllClasses,
                dice_absent: AbsentClasses::Stay,
                aux_batch: AuxBatch::Same,
                ..both
            },
            // Networks without a released program take the U-Net's.
            _ => Self {
                dice_absent: AbsentClasses::Constant,
                direction: DirectionLoss::CrossEntropyDice,
                partner: Partner::Flip,
                aux_batch: AuxBatch::RawIndependent,
                ..both
            },
        }
    }
}
