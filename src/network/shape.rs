//! What a plan says of its network: which kind, how large, and what it costs.

use serde::{Deserialize, Serialize};

use super::{DeepMedicShape, Field, Network, UNetShape};
use crate::Result;
use crate::config::{NetworkConfig, NetworkKind, PlanOverrides};

/// The network of a plan. In JSON it is one key, named after the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// 3-D U-Net.
    UNet(UNetShape),
    /// DeepMedic.
    DeepMedic(DeepMedicShape),
}

/// What a plan asks of a kind of network. Costs are those of one sample whose full-resolution input in training has
/// edges `patch`, voxels.
pub trait NetworkShape {
    /// The network for so many channels and classes.
    fn network(&self, channels: usize, classes: usize, config: &NetworkConfig) -> Network;

    /// What is seen and labelled where the full-resolution input has edges `segment`.
    ///
    /// # Errors
    /// Where it cannot take such an input.
    fn field(&self, segment: [usize; 3]) -> Result<Field>;

    /// What cannot be built or trained on such patches, in words.
    fn problems(&self, patch: [usize; 3]) -> Vec<String>;

    /// Multiply-adds of a training step, forward and backward towards weights and inputs, times two.
    fn step_flops(&self, patch: [usize; 3], channels: usize, classes: usize) -> f64;

    /// Values in the feature maps.
    fn feature_values(&self, patch: [usize; 3], classes: usize) -> f64;

    /// A network that takes as long, where operators work on `lanes` feature maps at once.
    fn in_whole_vectors(&self, lanes: usize) -> Shape;

    /// Takes over what a configuration sets of it. `patch` is that of training.
    ///
    /// # Errors
    /// Where a value is set that this kind of network does not have, or it does not go with the patch.
    fn override_by(&mut self, overrides: &PlanOverrides, patch: [usize; 3]) -> Result<()>;

    /// Its choices for a person, as rows of name and value.
    fn describe(&self) -> Vec<(&'static str, String)>;

    /// Patch and batch that it is trained with whatever the planner would choose.
    fn recommended(&self) -> Option<Recommended> {
        None
    }

    /// Edges of the full-resolution input in prediction.
    fn inference_segment(&self, patch: [usize; 3]) -> [usize; 3] {
        patch
    }

    /// How many forms of a scan a test-time policy averages where nothing is said.
    fn test_time_forms(&self) -> usize {
        8
    }
}

/// See [`NetworkShape::recommended`].
#[derive(Clone, Debug)]
pub struct Recommended {
    /// Edges of the full-resolution input in training, voxels.
    pub patch: [usize; 3],
    /// Samples in a batch.
    pub batch: usize,
    /// Its name in a plan, and what it is in a few words.
    pub network: (&'static str, String),
    /// Why these, for the fields of a plan: name and sentence.
    pub reasons: Vec<(&'static str, String)>,
}

impl Shape {
    /// The keys of the kinds in JSON.
    pub const KEYS: [&str; 2] = ["unet", "deepmedic"];

    /// The network that a configuration asks for, where it is not the one that the planner shapes.
    pub fn configured(config: &NetworkConfig) -> Option<Self> {
        match config.kind {
            NetworkKind::UNet => None,
            NetworkKind::DeepMedic => Some(Self::DeepMedic(config.variant.shape())),
        }
    }

    /// What its kind says of it.
    pub fn kind(&self) -> &dyn NetworkShape {
        match self {
            Self::UNet(shape) => shape,
            Self::DeepMedic(shape) => shape,
        }
    }

    /// As [`Self::kind`], to change it.
    pub fn kind_mut(&mut self) -> &mut dyn NetworkShape {
        match self {
            Self::UNet(shape) => shape,
            Self::DeepMedic(shape) => shape,
        }
    }

    /// Numbers that are trained: weights and biases of convolutions, scale and shift of normalisations.
    pub fn parameters(&self, channels: usize, classes: usize) -> usize {
        let network = self.kind().network(channels, classes, &NetworkConfig::default());
        network.specifications().iter().map(|s| s.shape.iter().product::<usize>()).sum()
    }
}

/// Numbers joined by dashes.
pub(super) fn dashed(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join("-")
}

/// Edges joined by crosses.
pub(super) fn times(edges: &[usize; 3]) -> String {
    edges.map(|edge| edge.to_string()).join("x")
}
