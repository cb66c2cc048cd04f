//! Scores of a segmentation against its reference.
//!
//! Per case and region: overlap (Dice, IoU, sensitivity, precision), surfaces (HD95, normalised surface Dice),
//! volumes, and lesions found and invented. Overlap counts and their means equal nnU-Net's evaluator; HD95 and
//! surface Dice equal MONAI's `compute_hausdorff_distance(percentile=95)` and `compute_surface_dice` with their
//! default `use_subvoxels=False` and the scan's `spacing`. Only voxels that count are looked at: those inside
//! the mask, where there is one, and not marked `ignore` in the reference. All others are background in both
//! segmentations, also for surfaces and lesions.
//!
//! ```text
//! Labels, Labels -> score -> Scores (per region) -> Summary -> summary.json, table
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod folder;
mod lesions;
mod nearest;
pub mod operating;
mod overlap;
mod read;
mod scores;
pub mod statistics;
mod summary;
mod surface;
mod table;

pub(crate) use folder::mask_of;
pub use folder::{evaluate, find_description, find_scheme, inputs};
pub use overlap::score;
pub use read::{ScoredCase, ScoredFolder};
pub use scores::{Metric, Scores};
pub use summary::{Average, CaseScores, Summary, scores_file};

/// How cases are scored. The defaults are nnU-Net's conventions where it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreOptions {
    /// What an undefined score becomes.
    pub empty: EmptyRule,
    /// Distance in millimetres up to which two surfaces agree (normalised surface Dice). Distances that exceed
    /// it by less than a millionth agree too: spacings are stored in single precision.
    pub tolerance_millimetres: f64,
    /// What HD95 is where a lesion was missed or invented altogether.
    pub hd95_miss: MissRule,
    /// Smallest share of a lesion's voxels that the other segmentation must cover for the lesion to count as
    /// found, 0 to 1. At 0, the default, one voxel is enough.
    pub lesion_overlap: f64,
    /// What [`evaluate`] does with references that have no prediction.
    pub missing: MissingRule,
    /// Where [`evaluate`] finds the masks that limit scoring to their inside.
    pub masks: Masks,
}

/// What becomes of a score that is undefined because there is nothing to divide by: Dice and IoU where both
/// segmentations are empty, sensitivity where the reference is, precision where the prediction is (likewise
/// for lesions). Undefined scores are counted beside the means under every rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptyRule {
    /// `null`, left out of means (nnU-Net).
    #[default]
    Skip,
    /// Where both segmentations are empty the best value: 1, and an HD95 of 0 mm (BraTS). Where only one is,
    /// 0: an invented lesion earns nothing.
    One,
    /// 0. HD95 stays `null` where both are empty: there is no worst distance.
    Zero,
}

/// HD95 where exactly one segmentation is empty. No distance is defined there; leaving the case out would
/// reward missing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissRule {
    /// The image's diagonal in millimetres (number of voxels times spacing, as BraTS does: 373 mm for its
    /// 240 x 240 x 155 mm). Such cases are counted in `n_hd95_penalised`.
    #[default]
    Diagonal,
    /// `null`, left out of means and counted in `n_undefined`.
    Null,
}

/// What [`evaluate`] does with references that have no prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingRule {
    /// An error that lists them.
    #[default]
    Refuse,
    /// They are left out and counted (nnU-Net's `--chill`).
    Skip,
}

/// Where [`evaluate`] finds the mask of a case: a file of the case's name; voxels other than 0 are inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Masks {
    /// In `masksTr` beside `labelsTr`, or `masksTs` beside `labelsTs`, where that folder is there.
    #[default]
    Beside,
    /// Every voxel counts.
    None,
    /// In this folder, one for every case.
    Folder(PathBuf),
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            empty: EmptyRule::Skip,
            tolerance_millimetres: 1.0,
            hd95_miss: MissRule::Diagonal,
            lesion_overlap: 0.0,
            missing: MissingRule::Refuse,
            masks: Masks::Beside,
        }
    }
}

impl ScoreOptions {
    /// Whether every option can be used.
    pub fn check(&self) -> crate::Result<()> {
        let wrong = |field: &str, value: f64, range: &str| {
            Err(crate::Error::config(
                field,
                format!("{value} is not {range}"),
                "choose a value in that range",
            ))
        };
        if !(self.tolerance_millimetres.is_finite() && self.tolerance_millimetres >= 0.0) {
            return wrong("tolerance", self.tolerance_millimetres, "a distance in mm, 0 or more");
        }
        if !(0.0..=1.0).contains(&self.lesion_overlap) {
            return wrong("lesion overlap", self.lesion_overlap, "a share from 0 to 1");
        }
        Ok(())
    }
}
