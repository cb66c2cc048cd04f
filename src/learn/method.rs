//! The methods against overfitting under class imbalance, as data, and by name.
//!
//! Every method has a symmetric form, which treats all classes alike, and an asymmetric one, which treats the
//! *rare* classes differently (Li et al., MICCAI 2019 and IEEE TMI 2020):
//!
//! | method | symmetric | asymmetric |
//! |---|---|---|
//! | margin | a margin is taken off the logit of every true class | only off that of rare classes |
//! | focal | the loss of every class is attenuated | that of rare classes is not |
//! | adversarial | the direction increases the loss of all voxels | only that of rare voxels |
//! | mixup | soft labels | a mixture with enough of a rare class is that class; other mixtures are ignored |
//! | augmentation | every patch is augmented | patches not centred on a rare class only sometimes |
//!
//! Which classes are rare is one list for all of them.

use segen_kernels::VoxelLoss;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The section `method` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MethodConfig {
    /// One of [`NAMES`], whose settings the other values start from; left out, everything starts off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of the rare classes; every foreground class when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rare: Option<Vec<String>>,
    /// What the adversarial and mixup passes work on.
    pub aux_batch: AuxBatch,
    /// How the passes of an iteration move the weights.
    pub steps: Steps,
    /// Large margin.
    pub margin: Margin,
    /// Focal loss.
    pub focal: Focal,
    /// Adversarial training.
    pub adversarial: Adversarial,
    /// Mixup.
    pub mixup: Mixup,
    /// Augmentation by the class of the patch's centre.
    pub augmentation: GatedAugmentation,
}

/// Whether a method is on, and whether it treats rare classes differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Not used.
    #[default]
    Off,
    /// All classes alike.
    Symmetric,
    /// Rare classes differently.
    Asymmetric,
}

/// What the adversarial and mixup passes work on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuxBatch {
    /// The batch of the clean pass.
    Same,
    /// The same patches without augmentation.
    #[default]
    RawTwin,
    /// Other patches, drawn by the same rules, without augmentation.
    RawIndependent,
}

/// How the passes of an iteration move the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steps {
    /// Each pass by an optimiser step of its own: clean, adversarial, mixup.
    #[default]
    Sequential,
    /// One step along the sum of their gradients.
    Sum,
}

/// Large margin: `softmax(z - value y)` in training, the plain softmax otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Margin {
    /// Off, for all classes, or for rare ones.
    pub mode: Mode,
    /// Taken off the logit of the true class.
    pub value: f64,
}

/// Focal loss: `(1 - q)^gamma` times the cross-entropy of a voxel whose class has probability q.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Focal {
    /// Off, for all classes, or for all but the rare ones.
    pub mode: Mode,
    /// The exponent, at least 1.
    pub gamma: f64,
}

/// One-step adversarial training with an L2-normalised gradient of the supervised loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adversarial {
    /// Off, or which voxels' loss the perturbation increases.
    pub mode: Mode,
    /// Root mean square of the perturbation over the values of a sample (of each input pathway).
    pub eps_rms: f64,
    /// Its L2 norm instead, as published code has it (10); goes before `eps_rms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps_l2: Option<f64>,
    /// Which loss the perturbation increases.
    pub direction: DirectionLoss,
}

/// Which loss an adversarial perturbation increases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectionLoss {
    /// The cross-entropy.
    #[default]
    CrossEntropy,
    /// The cross-entropy plus the batch's soft Dice over the same voxels.
    CrossEntropyDice,
}

/// Mixup: an extra pass on convex combinations of pairs of patches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixup {
    /// Off, soft labels, or the asymmetric rule.
    pub mode: Mode,
    /// The share of the first patch is drawn from Beta(alpha, alpha).
    pub alpha: f64,
    /// Asymmetric: more than this share of a rare class makes a voxel rare. Shares are scaled by 1 - margin.
    pub margin: f64,
    /// Which patch is mixed with which.
    pub partner: Partner,
}

/// Which patch of a batch is mixed with which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partner {
    /// By a random permutation.
    #[default]
    Permutation,
    /// The first with the last and so on, as in the published PyTorch code.
    Flip,
}

/// Augmentation by the class of the patch's centre.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatedAugmentation {
    /// Off and symmetric: every patch is augmented. Asymmetric: patches centred on a rare class always, others
    /// with `background_probability`.
    pub mode: Mode,
    /// See `mode`.
    pub background_probability: f64,
}

impl Default for MethodConfig {
    fn default() -> Self {
        Self {
            name: None,
            rare: None,
            aux_batch: AuxBatch::default(),
            steps: Steps::default(),
            margin: Margin { mode: Mode::Off, value: 1.0 },
            focal: Focal { mode: Mode::Off, gamma: 4.0 },
            adversarial: Adversarial {
                mode: Mode::Off,
                eps_rms: 0.022,
                eps_l2: None,
                direction: DirectionLoss::default(),
            },
            mixup: Mixup { mode: Mode::Off, alpha: 1.0, margin: 0.2, partner: Partner::default() },
            augmentation: GatedAugmentation { mode: Mode::Off, background_probability: 0.5 },
        }
    }
}

macro_rules! default_of_section {
    ($($section:ty => $field:ident),*) => {
        $(impl Default for $section {
            fn default() -> Self {
                MethodConfig::default().$field
            }
        })*
    };
}
default_of_section!(
    Margin => margin, Focal => focal, Adversarial => adversarial, Mixup => mixup,
    GatedAugmentation => augmentation
);

/// Whether patches are augmented at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchAugmentation {
    /// They are used as they are.
    None,
    /// A policy that stays as it is changes them.
    Fixed,
    /// A policy that learns from what they drew changes them.
    Learned,
}

impl MethodConfig {
    /// What is wrong with the values, each with its field and how to mend it.
    pub fn problems(&self, augmentation: PatchAugmentation) -> Vec<String> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, text: &str| {
            if !holds {
                problems.push(text.to_owned());
            }
        };
        let within = |value: f64, low: f64| value >= low && value.is_finite();
        demand(within(self.margin.value, 0.0), "`method.margin.value` must be 0 or more (0.2 to 2 is usual)");
        demand(within(self.focal.gamma, 1.0), "`method.focal.gamma` must be at least 1 (2 to 6 is usual)");
        demand(
            within(self.adversarial.eps_rms, 0.0)
                && self.adversarial.eps_l2.is_none_or(|eps| within(eps, 0.0)),
            "`method.adversarial.eps_rms` and `eps_l2` must be 0 or more",
        );
        demand(
            self.mixup.alpha > 0.0 && self.mixup.alpha.is_finite(),
            "`method.mixup.alpha` must be above 0 (use `method.mixup.mode = \"off\"` to turn mixup off)",
        );
        demand(
            (0.0..1.0).contains(&self.mixup.margin),
            "`method.mixup.margin` must be at least 0 and below 1",
        );
        demand(
            (0.0..=1.0).contains(&self.augmentation.background_probability),
            "`method.augmentation.background_probability` must be between 0 and 1",
        );
        demand(
            self.augmentation.mode != Mode::Asymmetric || augmentation != PatchAugmentation::None,
            "`method.augmentation.mode` must not be `asymmetric` where patches are not augmented: it leaves out part \
             of the augmentation that is on, and none is (choose a policy other than `none`, or another method)",
        );
        demand(
            self.augmentation.mode != Mode::Asymmetric || augmentation != PatchAugmentation::Learned,
            "`method.augmentation.mode` must not be `asymmetric` with a policy that learns: patches without the \
             augmentation that they drew would teach it the wrong thing (choose another policy or method; a policy \
             with `policy.targets = \"by-centre\"` learns to treat background differently)",
        );
        problems
    }

    /// Whether any method treats rare classes differently.
    fn is_asymmetric(&self) -> bool {
        [self.margin.mode, self.focal.mode, self.adversarial.mode, self.mixup.mode, self.augmentation.mode]
            .contains(&Mode::Asymmetric)
    }
}

/// Methods for a data set: settings, and which of its classes are rare.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// The settings.
    pub config: MethodConfig,
    /// One per class, background first.
    pub rare: Vec<bool>,
}

impl Method {
    /// Finds the rare classes among `classes` (names, background first).
    ///
    /// # Errors
    /// Where `rare` names an unknown class or the background, or none although a method is asymmetric.
    pub fn resolve(config: &MethodConfig, classes: &[String]) -> Result<Self> {
        let field = "method.rare";
        let rare = match &config.rare {
            None => (0..classes.len()).map(|class| class > 0).collect(),
            Some(names) => {
                let mut rare = vec![false; classes.len()];
                for name in names {
                    let foreground =
                        classes.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join("`, `");
                    match classes.iter().position(|class| class == name) {
                        Some(0) => {
                            return Err(Error::config(
                                field,
                                format!("`{name}` is the background, which is never rare"),
                                format!("name foreground classes: `{foreground}`"),
                            ));
                        }
                        Some(class) => rare[class] = true,
                        None => {
                            return Err(Error::config(
                                field,
                                format!("the data set has no class `{name}`"),
                                format!("its foreground classes are `{foreground}`"),
                            ));
                        }
                    }
                }
                rare
            }
        };
        if config.is_asymmetric() && !rare.contains(&true) {
            return Err(Error::config(
                field,
                "no class is rare, but a method is asymmetric",
                "name at least one foreground class, or leave `method.rare` out for all of them",
            ));
        }
        Ok(Self { config: config.clone(), rare })
    }

    /// No method, for `classes` classes.
    pub fn none(classes: usize) -> Self {
        Self { config: MethodConfig::default(), rare: (0..classes).map(|class| class > 0).collect() }
    }

    /// Margin and focal exponent per class.
    pub fn voxel_loss(&self, epsilon: f64) -> VoxelLoss {
        let (margin, focal) = (self.config.margin, self.config.focal);
        let list = |mode: Mode, value: f64, when_rare: bool| match mode {
            Mode::Off => Vec::new(),
            Mode::Symmetric => vec![value as f32; self.rare.len()],
            Mode::Asymmetric => {
                self.rare.iter().map(|&rare| if rare == when_rare { value as f32 } else { 0.0 }).collect()
            }
        };
        VoxelLoss {
            margin: list(margin.mode, margin.value, true),
            focal: list(focal.mode, focal.gamma, false),
            weight: Vec::new(),
            epsilon: epsilon as f32,
        }
    }

    /// Whether an iteration has passes beside the clean one.
    pub fn has_extra_passes(&self) -> bool {
        self.config.adversarial.mode != Mode::Off || self.config.mixup.mode != Mode::Off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_classes_are_found_by_name() {
        let classes = ["background", "kidney", "tumour"].map(str::to_owned);
        let config = |rare: &[&str]| MethodConfig {
            rare: Some(rare.iter().map(|&name| name.to_owned()).collect()),
            margin: Margin { mode: Mode::Asymmetric, value: 1.0 },
            focal: Focal { mode: Mode::Asymmetric, gamma: 2.0 },
            ..MethodConfig::default()
        };
        let method = Method::resolve(&config(&["tumour"]), &classes).unwrap();
        assert_eq!(method.rare, [false, false, true]);
        assert_eq!(method.voxel_loss(0.0).margin, [0.0, 0.0, 1.0]);
        assert_eq!(method.voxel_loss(0.0).focal, [2.0, 2.0, 0.0]);
        assert_eq!(Method::resolve(&MethodConfig::default(), &classes).unwrap().rare, [false, true, true]);
        for (names, wanted) in [
            (vec!["tumor"], "`kidney`, `tumour`"),
            (vec!["background"], "never rare"),
            (vec![], "no class is rare"),
        ] {
            let error = Method::resolve(&config(&names), &classes).unwrap_err().to_string();
            assert!(error.contains("method.rare") && error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn the_forms_meet_where_every_class_is_rare() {
        let with = |mode: Mode| {
            let mut method = Method::none(3);
            method.rare = vec![true; 3];
            method.config.margin.mode = mode;
            method.config.focal.mode = mode;
            method.voxel_loss(0.0)
        };
        let (symmetric, asymmetric) = (with(Mode::Symmetric), with(Mode::Asymmetric));
        assert_eq!(asymmetric.margin, symmetric.margin);
        assert_eq!(symmetric.focal, [4.0; 3]);
        assert_eq!(asymmetric.focal, [0.0; 3], "focal loss that spares every class is cross-entropy");
    }
}
