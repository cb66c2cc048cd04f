//! The methods against overfitting under class imbalance, as data. What they do stands in `learn/method.rs`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Problems;
pub use super::names::MethodName;

/// The section `method` of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MethodConfig {
    /// The method whose settings the other values start from; left out, everything starts off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<MethodName>,
    /// Names of the rare classes; every foreground class when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rare: Option<Vec<String>>,
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
    /// Strengths that follow a measured gap.
    pub auto: Auto,
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

/// Methods that act as strongly as the rare classes are learned by heart: see `learn/control.rs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auto {
    /// Whether the asymmetric methods that are on follow the gap; `method.margin.value` and `method.focal.gamma` are
    /// then their greatest strengths.
    pub on: bool,
    /// By how much the crossing rate of unseen voxels may exceed that of seen ones before it counts.
    pub threshold: f64,
    /// What the smoothed gap keeps of itself from one epoch to the next.
    pub smoothing: f64,
    /// Smoothed gap from which on methods act with their full strength.
    pub full: f64,
    /// A run whose schedule is replayed, instead of a measurement on set-aside cases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

impl Default for Margin {
    fn default() -> Self {
        Self { mode: Mode::Off, value: 1.0 }
    }
}

impl Default for Focal {
    fn default() -> Self {
        Self { mode: Mode::Off, gamma: 4.0 }
    }
}

impl Default for Adversarial {
    fn default() -> Self {
        Self { mode: Mode::Off, eps_rms: 0.022 }
    }
}

impl Default for Mixup {
    fn default() -> Self {
        Self { mode: Mode::Off, alpha: 1.0, margin: 0.2 }
    }
}

impl Default for GatedAugmentation {
    fn default() -> Self {
        Self { mode: Mode::Off, background_probability: 0.5 }
    }
}

impl Default for Auto {
    fn default() -> Self {
        Self { on: false, threshold: 0.05, smoothing: 0.7, full: 0.5, from: None }
    }
}

impl Auto {
    /// Whether the gap is measured, which takes set-aside cases.
    pub fn measures(&self) -> bool {
        self.on && self.from.is_none()
    }

    fn check(&self, augmentation: PatchAugmentation, demand: &mut dyn FnMut(bool, &str, &str)) {
        demand((0.0..=1.0).contains(&self.threshold), "method.auto.threshold", "between 0 and 1");
        demand((0.0..1.0).contains(&self.smoothing), "method.auto.smoothing", "at least 0 and below 1");
        demand(self.full > 0.0 && self.full <= 1.0, "method.auto.full", "above 0 and at most 1");
        demand(
            self.on || self.from.is_none(),
            "method.auto.from",
            "left out where no method follows a gap (choose the method of the run that is named, `auto-margin` for \
             example)",
        );
        demand(
            !(self.on && augmentation == PatchAugmentation::Learned),
            "method.auto.on",
            "false with a policy that learns: the policy learns from the very cases whose gap is measured, which are \
             then no longer unseen, and compares losses that change their form between two epochs",
        );
    }
}

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
    /// Whether any method treats rare classes differently.
    pub fn is_asymmetric(&self) -> bool {
        let Self { name: _, rare: _, margin, focal, adversarial, mixup, augmentation, auto: _ } = self;
        [margin.mode, focal.mode, adversarial.mode, mixup.mode, augmentation.mode].contains(&Mode::Asymmetric)
    }

    pub(super) fn check(&self, augmentation: PatchAugmentation, problems: &mut Problems) {
        let within = |value: f64, low: f64| value >= low && value.is_finite();
        let mut demand = |holds, field: &str, wanted: &str| problems.demand(holds, field, wanted);
        self.auto.check(augmentation, &mut demand);
        let modes = [self.margin.mode, self.focal.mode, self.adversarial.mode, self.mixup.mode];
        demand(
            !self.auto.on || (modes.contains(&Mode::Asymmetric) && !modes.contains(&Mode::Symmetric)),
            "method.auto.on",
            "false unless margin, focal, adversarial or mixup is `asymmetric`, and none of them `symmetric`: a gap is \
             measured for rare classes",
        );
        demand(within(self.margin.value, 0.0), "method.margin.value", "0 or more (0.2 to 2 is usual)");
        demand(within(self.focal.gamma, 1.0), "method.focal.gamma", "at least 1 (2 to 6 is usual)");
        demand(within(self.adversarial.eps_rms, 0.0), "method.adversarial.eps_rms", "0 or more");
        demand(
            self.mixup.alpha > 0.0 && self.mixup.alpha.is_finite(),
            "method.mixup.alpha",
            "above 0 (use `method.mixup.mode = \"off\"` to turn mixup off)",
        );
        demand((0.0..1.0).contains(&self.mixup.margin), "method.mixup.margin", "at least 0 and below 1");
        demand(
            (0.0..=1.0).contains(&self.augmentation.background_probability),
            "method.augmentation.background_probability",
            "between 0 and 1",
        );
        let gated = self.augmentation.mode == Mode::Asymmetric;
        demand(
            !(gated && augmentation == PatchAugmentation::None),
            "method.augmentation.mode",
            "`off` or `symmetric` where patches are not augmented: `asymmetric` leaves out part of the augmentation \
             that is on, and none is (choose a policy other than `none`, or another method)",
        );
        demand(
            !(gated && augmentation == PatchAugmentation::Learned),
            "method.augmentation.mode",
            "`off` or `symmetric` with a policy that learns: patches without the augmentation that they drew would \
             teach it the wrong thing (choose another policy or method; a policy with \
             `policy.targets = \"by-centre\"` learns to treat background differently)",
        );
    }
}
