//! Softmax and the sums of which segmentation losses are made.

use crate::array::{Activation, Array};
use crate::cpu::loss::{self, Rule, Sums};
use crate::settings::Settings;
use crate::tape::record;
use crate::voxel_loss::{Target, UNLABELLED, VoxelLoss};

/// Softmax over the channels. Not differentiable: losses are made of [`segmentation_sums`].
pub fn softmax(logits: &Activation) -> Activation {
    let [.., classes] = logits.shape();
    let out = loss::softmax(&Settings::current(), logits.values(), classes);
    Activation(Array::of(out, logits.0.shape()))
}

/// Sums per sample from which softmax cross-entropy and soft Dice losses are made.
///
/// # Shapes
/// - `logits`: (batch, x, y, z, class)
/// - `target`: class numbers; [`crate::IGNORED`] voxels have no part in any column, [`crate::UNLABELLED`] ones in the
///   number of voxels only
/// - output: (batch, 2 + 4 classes), columns: the cross-entropy, see [`VoxelLoss`]; TP per class, the sum of `q y`; FP
///   per class, the sum of `q (1 - y)`; FN per class, the sum of `(1 - q) y`; the number of voxels; the attenuated FN
///   per class, the sum of `(1 - q) y (1 - q)^focal`. Every column but the number of voxels is differentiable with
///   respect to the logits.
///
/// # Panics
/// Sizes that do not match, an exponent between 0 and 1, or a class number that is none.
pub fn segmentation_sums(logits: Activation, target: Target, loss: &VoxelLoss) -> Array {
    let [batch, size @ .., classes] = logits.shape();
    assert_eq!(logits.shape()[..4], target.shape, "segmentation_sums: logits and target must have one size");
    let labels = target.labels;
    for &class in labels.first.iter().chain(labels.second.iter().flatten()) {
        assert!(
            usize::from(class) < classes || usize::from(class) >= UNLABELLED,
            "segmentation_sums: the target holds {class}, which is not one of {classes} classes"
        );
    }
    for list in [&loss.margin, &loss.focal, &loss.weight] {
        assert!(
            list.is_empty() || list.len() == classes,
            "segmentation_sums: {} values for {classes} classes",
            list.len()
        );
    }
    assert!(
        loss.focal.iter().all(|exponent| *exponent >= 0.0 && exponent.is_finite()),
        "segmentation_sums: a focal exponent is 0 or more"
    );
    let settings = Settings::current();
    let sizes = Sums { batch, voxels: size.iter().product(), classes };
    let rule = Rule::new(loss, classes);
    let (sums, probabilities) = sizes.forward(&settings, logits.values(), &labels, &rule);
    let sums = Array::of(sums, &[batch, sizes.columns()]);
    record([Some(&logits.0)], sums, move |gradient, _| {
        [Some(sizes.backward(&settings, &probabilities, &labels, &rule, gradient).into())]
    })
}
