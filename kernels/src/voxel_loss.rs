//! What losses are asked of: the labels of voxels, and how the cross-entropy of a voxel is taken.

use burn::tensor::{Int, Tensor};

/// The class number of voxels that have no part in the loss.
pub const IGNORED: usize = 255;

/// The class number of voxels without a label that are nevertheless counted among the voxels of a sample: their
/// row of the one-hot labels is all zeros.
pub const UNLABELLED: usize = 254;

/// What the voxels show, (batch, x, y, z): class numbers, [`IGNORED`] or [`UNLABELLED`].
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) labels: Tensor<4, Int>,
    pub(crate) other: Option<(Tensor<4, Int>, f32)>,
}

impl From<Tensor<4, Int>> for Target {
    fn from(labels: Tensor<4, Int>) -> Self {
        Self { labels, other: None }
    }
}

impl Target {
    /// Soft labels `share onehot(labels) + (1 - share) onehot(other)`; a voxel that either leaves out is left out.
    pub fn mixture(labels: Tensor<4, Int>, other: Tensor<4, Int>, share: f32) -> Self {
        assert_eq!(labels.dims(), other.dims(), "a mixture is of labels of one size");
        Self { labels, other: Some((other, share)) }
    }
}

/// How the cross-entropy of a voxel is taken. With y the label (one-hot, or a mixture), z the logits and
/// `q = softmax(z - margin y)`, it is the sum over the classes of `-weight y (1 - q)^focal log q`.
///
/// Every list has one value per class, or none: then margins and exponents are 0 and weights 1. The gradient flows
/// through the attenuation `(1 - q)^focal`; the margin is a constant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VoxelLoss {
    /// Taken off the logit of the class that a voxel shows.
    pub margin: Vec<f32>,
    /// Exponent of the attenuation; 0 (plain cross-entropy) or at least 1.
    pub focal: Vec<f32>,
    /// Factor of the cross-entropy.
    pub weight: Vec<f32>,
    /// Added inside the logarithm and to the base of the attenuation. 0 is exact; 1e-6 is what published code has.
    pub epsilon: f32,
}
