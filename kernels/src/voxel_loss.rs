//! What losses are asked of: the labels of voxels, and how the cross-entropy of a voxel is taken.

use crate::cpu::loss::Labels;

/// The class number of voxels that have no part in the loss.
pub const IGNORED: usize = 255;

/// The class number of voxels without a label that are nevertheless counted among the voxels of a sample: their
/// row of the one-hot labels is all zeros.
pub const UNLABELLED: usize = 254;

/// What the voxels show, (batch, x, y, z): class numbers, [`IGNORED`] or [`UNLABELLED`].
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) labels: Labels,
    pub(crate) shape: [usize; 4],
}

impl Target {
    /// One class per voxel.
    ///
    /// # Panics
    /// Labels of another number than `shape` has.
    pub fn new(labels: Vec<u8>, shape: [usize; 4]) -> Self {
        Self::mixture(labels, None, shape)
    }

    /// Where there is `other` with a share: soft labels `share onehot(labels) + (1 - share) onehot(other)`; a voxel that
    /// either leaves out is left out.
    ///
    /// # Panics
    /// Labels of another number than `shape` has.
    pub fn mixture(labels: Vec<u8>, other: Option<(Vec<u8>, f32)>, shape: [usize; 4]) -> Self {
        let voxels: usize = shape.iter().product();
        let (second, share) = match other {
            // A share of 1 is no mixture.
            Some((other, share)) if share != 1.0 => (Some(other), share),
            _ => (None, 1.0),
        };
        for list in [Some(&labels), second.as_ref()].into_iter().flatten() {
            assert_eq!(list.len(), voxels, "a target of shape {shape:?} from {} labels", list.len());
        }
        Self { labels: Labels { first: labels, second, share }, shape }
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
    /// Exponent of the attenuation, 0 (plain cross-entropy) or more.
    pub focal: Vec<f32>,
    /// Factor of the cross-entropy.
    pub weight: Vec<f32>,
    /// Added inside the logarithm and to the base of the attenuation. 0 is exact; 1e-6 is what published code has.
    pub epsilon: f32,
}
