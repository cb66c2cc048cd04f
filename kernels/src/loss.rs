//! Softmax and the sums of which segmentation losses are made.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::activation::Activation;
use crate::ops::NetworkOps;
use crate::voxel_loss::{Target, VoxelLoss};

/// Softmax over the channels.
pub fn softmax(logits: Activation) -> Activation {
    Activation(Tensor::from_dispatch(Dispatch::network_softmax(logits.0.into_dispatch())))
}

/// Sums per sample from which softmax cross-entropy and soft Dice losses are made.
///
/// # Shapes
/// - `logits`: (batch, x, y, z, class)
/// - `target`: (batch, x, y, z), class numbers; [`crate::IGNORED`] voxels have no part in any column,
///   [`crate::UNLABELLED`] ones in the number of voxels only
/// - output: (batch, 2 + 4 classes), columns: the cross-entropy, see [`VoxelLoss`]; TP per class, the sum of `q y`; FP
///   per class, the sum of `q (1 - y)`; FN per class, the sum of `(1 - q) y`; the number of voxels; the attenuated FN
///   per class, the sum of `(1 - q) y (1 - q)^focal`. Every column but the number of voxels is differentiable with
///   respect to the logits.
///
/// # Panics
/// Sizes that do not match, an exponent between 0 and 1, or, where the kernels run, a class number that is none.
pub fn segmentation_sums(logits: Activation, target: impl Into<Target>, loss: &VoxelLoss) -> Tensor<2> {
    let Target { labels, other } = target.into();
    assert_eq!(logits.shape()[..4], labels.dims(), "segmentation_sums: logits and target must have one size");
    let [.., classes] = logits.shape();
    for list in [&loss.margin, &loss.focal, &loss.weight] {
        assert!(
            list.is_empty() || list.len() == classes,
            "segmentation_sums: {} values for {classes} classes",
            list.len()
        );
    }
    assert!(
        loss.focal.iter().all(|exponent| *exponent == 0.0 || *exponent >= 1.0),
        "segmentation_sums: a focal exponent is 0 or at least 1"
    );
    let (other, share) = other.unwrap_or_else(|| (labels.clone(), 1.0));
    Tensor::from_dispatch(Dispatch::network_segmentation_sums(
        logits.0.into_dispatch(),
        labels.into_dispatch(),
        other.into_dispatch(),
        share,
        loss.clone(),
    ))
}
