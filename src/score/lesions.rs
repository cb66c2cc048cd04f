//! Lesion-wise scores: a lesion is a 26-connected component.

use ndarray::Array3;

use super::ScoreOptions;
use super::scores::{Scores, share};
use crate::image::components::{Connectivity, overlaps};

/// Adds the lesion-wise scores of two masks of the same shape.
pub(super) fn add(
    scores: &mut Scores,
    prediction: &Array3<bool>,
    reference: &Array3<bool>,
    options: &ScoreOptions,
) {
    let (found, lesions) = covered(reference, prediction, options.lesion_overlap);
    let (right, predicted) = covered(prediction, reference, options.lesion_overlap);
    scores.lesions_reference = lesions;
    scores.lesions_prediction = predicted;
    let both_empty = lesions + predicted == 0;
    scores.lesion_sensitivity = share(found, lesions, both_empty, options.empty);
    scores.lesion_precision = share(right, predicted, both_empty, options.empty);
}

/// How many components of `mask` have at least one voxel and at least `least` (0 to 1) of their voxels in
/// `other`, and how many there are.
fn covered(mask: &Array3<bool>, other: &Array3<bool>, least: f64) -> (u64, u64) {
    let lesions = overlaps(mask.view(), other.view(), Connectivity::TwentySix);
    // The slack keeps a share that rounding put a hair above a whole number from asking for one voxel more.
    let enough = |size: u64| least * size as f64 - 1e-9;
    let found = lesions.iter().filter(|&&(size, shared)| shared > 0 && shared as f64 >= enough(size));
    (found.count() as u64, lesions.len() as u64)
}
