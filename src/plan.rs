//! Measures a data set once and decides spacing, patch, batch, network shape and normalisation from it.

use serde::{Deserialize, Serialize};

/// How the intensities of one channel are brought to a common scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Normalisation {
    /// Subtract mean and divide by standard deviation of the case: over the whole volume, or over the region
    /// of interest / the non-zero voxels where `masked`.
    ZScore {
        /// Statistics from, and applied to, the voxels inside the mask only; outside becomes 0.
        masked: bool,
    },
    /// CT: clip to the data set's foreground percentiles, subtract its foreground mean, divide by its
    /// foreground standard deviation.
    Ct {
        /// 0.5th percentile of foreground voxels, Hounsfield units.
        lower: f64,
        /// 99.5th percentile.
        upper: f64,
        /// Mean of foreground voxels.
        mean: f64,
        /// Standard deviation of foreground voxels.
        std: f64,
    },
    /// Leave the values as they are.
    None,
}

/// Over what the soft Dice sums are taken before the quotient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiceReduction {
    /// Each sample has its own Dice.
    Sample,
    /// One Dice for the whole batch.
    Batch,
}

/// One decision in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The field of [`Plan`] it is about.
    pub field: String,
    /// Why the value is what it is, as a sentence for a person.
    pub text: String,
}

/// The shape of the 3-D U-Net. Stage 0 works at full resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UNetShape {
    /// Feature maps per stage.
    pub features: Vec<usize>,
    /// Stride of the first convolution of each stage; `[1, 1, 1]` for stage 0, otherwise 1 or 2 per axis.
    pub strides: Vec<[usize; 3]>,
    /// Convolution kernel per stage, 1 or 3 per axis.
    pub kernels: Vec<[usize; 3]>,
    /// Convolutions per stage, encoder and decoder.
    pub convolutions: usize,
}

/// What is known of the data set and what was decided from it. Axis order is (x, y, z) along the nearest RAS+
/// axes, everywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Always `"RAS+ x y z"`: the axis order of every triple in this file.
    pub axis_order: String,
    /// Name of the data set.
    pub dataset: String,
    /// Voxel spacing after preparation, millimetres.
    pub spacing: [f64; 3],
    /// Patch edges, voxels.
    pub patch: [usize; 3],
    /// Patches in a batch.
    pub batch: usize,
    /// Number of input channels.
    pub channels: usize,
    /// Number of trained classes, background included.
    pub classes: usize,
    /// One entry per channel.
    pub normalisation: Vec<Normalisation>,
    /// Default Dice reduction.
    pub dice: DiceReduction,
    /// Network shape.
    pub unet: UNetShape,
    /// Why, in words, one or more per field.
    pub reasons: Vec<Reason>,
    /// The measurements behind the decisions.
    pub fingerprint: Fingerprint,
}

/// What was measured on the training cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Spacing of every case, oriented, millimetres.
    pub spacings: Vec<[f64; 3]>,
    /// Shape of every case after cropping to its non-zero box, oriented, at its own spacing.
    pub shapes: Vec<[usize; 3]>,
    /// Median over cases of cropped volume / original volume.
    pub relative_size_after_cropping: f64,
    /// Foreground intensities, one entry per channel.
    pub intensities: Vec<Intensities>,
    /// Voxels of each class over all cases, at their own spacing.
    pub class_voxels: Vec<u64>,
}

/// Foreground intensities of one channel, pooled over cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intensities {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Standard deviation.
    pub std: f64,
    /// Minimum.
    pub min: f64,
    /// Maximum.
    pub max: f64,
    /// 0.5th percentile.
    pub percentile_00_5: f64,
    /// 99.5th percentile.
    pub percentile_99_5: f64,
}
