//! Network options that the plan leaves open.

use serde::{Deserialize, Serialize};

use super::Problems;

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

/// The shapes of DeepMedic that have a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Residuals, dropout and PReLU (`modelConfig1in.cfg` of the published code; its ATLAS experiments).
    #[default]
    Default,
    /// ReLU, no residuals, no dropout (`modelConfigbasic.cfg`; its BRATS experiments).
    Basic,
    /// `default` with half the maps in the pathways and 150 in the hidden layers.
    Small,
    /// `basic` with the maps of `small`.
    BasicSmall,
}

impl NetworkConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.demand(
            !(self.deep_supervision && self.kind == NetworkKind::DeepMedic),
            "network.deep_supervision",
            "false for DeepMedic, which has logits at one resolution only",
        );
    }
}
