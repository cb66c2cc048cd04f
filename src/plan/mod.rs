//! Measures a data set once and decides spacing, patch, batch, network shape and normalisation from it.
//!
//! The rules are those published with nnU-Net (Isensee et al., Nature Methods 2021), as its version 2.8.1 applies
//! them; with [`CpuBudget::Off`] the decisions are the same numbers. A processor budget then makes the network
//! and the patch small enough that a training step stays short on the machine at hand.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::DiceReduction;
use crate::data::dataset::Dataset;
use crate::network::{DeepMedicShape, UNetShape};
use crate::prepare::{Normalisation, Recipe};
use crate::{Error, Result, files};

mod cost;
mod decide;
mod deepmedic;
mod describe;
mod measure;
mod overrides;
mod topology;

/// What one training step may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Memory that nnU-Net's rule for patch and batch may fill, bytes; 8 GiB is the rule's reference.
    pub memory_bytes: u64,
    /// Whether and how far a slow processor makes the network smaller.
    pub cpu: CpuBudget,
}

/// How long a training step may take on the processor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CpuBudget {
    /// nnU-Net's choices as they are, for a graphics card or a patient user.
    Off,
    /// Reduce batch, features and patch, in this order, until a step is predicted to stay under the limit.
    Step {
        /// The limit, seconds.
        seconds: f64,
        /// What the machine really reaches in training, in 1e9 floating point operations a second.
        gflops: f64,
    },
}

impl Budget {
    /// nnU-Net's own reference: 8 GiB and no limit on time.
    pub const NNUNET: Self = Self { memory_bytes: 8 << 30, cpu: CpuBudget::Off };

    /// For training on this many processor cores: at most 0.45 seconds a step, at 75 GFLOP/s a core.
    pub fn processor(cores: usize) -> Self {
        const STEP_SECONDS: f64 = 0.45;
        const GFLOPS_PER_CORE: f64 = 75.0;
        let gflops = GFLOPS_PER_CORE * cores.max(1) as f64;
        Self { cpu: CpuBudget::Step { seconds: STEP_SECONDS, gflops }, ..Self::NNUNET }
    }
}

/// One decision in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The field of [`Plan`] it is about.
    pub field: String,
    /// Why the value is what it is, as a sentence for a person.
    pub text: String,
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
    /// Shape of the U-Net that these numbers were planned for.
    pub unet: UNetShape,
    /// Shape of DeepMedic where it is trained instead; `patch` is then the full-resolution input in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deepmedic: Option<DeepMedicShape>,
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
    /// Cases that have a region of interest.
    #[serde(default)]
    pub masked_cases: usize,
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

impl Plan {
    /// What samples are prepared by.
    pub fn recipe(&self) -> Recipe<'_> {
        Recipe {
            spacing: self.spacing,
            normalisation: &self.normalisation,
            channels: self.channels,
            classes: self.classes,
        }
    }

    /// Reads a plan that [`Plan::to_json`] gave.
    pub fn load(path: &Path) -> Result<Self> {
        const FIX: &str = "make it again with `segen plan DATASET -o FILE`";
        let plan: Self = files::read_json(path, FIX)?;
        match plan.problems() {
            problems if problems.is_empty() => Ok(plan),
            problems => Err(Error::invalid(path, "plan", problems.join("; "), FIX)),
        }
    }

    /// What no plan can hold, in words.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, wanted: &str| {
            if !holds {
                problems.push(wanted.to_owned());
            }
        };
        let edges = |edges: &[usize; 3], most: usize| edges.iter().all(|edge| (1..=most).contains(edge));
        demand(
            self.spacing.iter().all(|edge| (1e-3..=1e3).contains(edge)),
            "`spacing` must be three lengths from 0.001 to 1000 mm",
        );
        demand(edges(&self.patch, 4096), "`patch` must be three edges from 1 to 4096 voxels");
        demand((1..=65_536).contains(&self.batch), "`batch` must be from 1 to 65536");
        demand((1..=1024).contains(&self.channels), "`channels` must be from 1 to 1024");
        demand((2..=255).contains(&self.classes), "`classes` must be from 2 to 255");
        demand(
            self.normalisation.len() == self.channels,
            "`normalisation` must have one entry for each channel",
        );
        let unet = &self.unet;
        let stages = unet.features.len();
        demand(
            (1..=16).contains(&stages) && unet.strides.len() == stages && unet.kernels.len() == stages,
            "`unet` must have features, strides and kernels for each of 1 to 16 stages",
        );
        demand(
            unet.features.iter().all(|features| (1..=4096).contains(features)),
            "`unet.features` must be from 1 to 4096",
        );
        demand(unet.strides.iter().all(|stride| edges(stride, 2)), "`unet.strides` must be 1 or 2");
        demand(
            unet.kernels.iter().flatten().all(|&edge| edge == 1 || edge == 3),
            "`unet.kernels` must be 1 or 3",
        );
        demand((1..=16).contains(&unet.convolutions), "`unet.convolutions` must be from 1 to 16");
        if self.deepmedic.is_none() && problems.is_empty() {
            let strides = (0..3).map(|axis| unet.strides.iter().map(|s| s[axis]).product::<usize>());
            if strides.zip(self.patch).any(|(stride, edge)| edge % stride != 0) {
                problems
                    .push("`patch` must be a multiple of the product of the strides along every axis".into());
            }
        }
        if let Some(shape) = &self.deepmedic {
            let maps = shape.features.iter().chain(&shape.hidden);
            if maps.chain(&shape.inference_segment).chain(&shape.scales).any(|&number| number > 4096) {
                problems.push("no number of `deepmedic` may be above 4096".to_owned());
            } else if let Err(error) = shape.check().and_then(|()| shape.field(self.patch)) {
                problems.push(error.to_string());
            }
        }
        problems
    }

    /// The plan as the text of a JSON file.
    ///
    /// # Errors
    /// Where a number is not finite.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| {
            Error::config("plan", error.to_string(), "a plan holds only finite numbers; measure it again")
        })?;
        text.push('\n');
        Ok(text)
    }
}

/// Entries of `labels` in `dataset.json`: background, classes or regions, and `ignore`. nnU-Net's estimate of
/// memory counts one output channel for each.
fn label_entries(dataset: &Dataset) -> usize {
    1 + dataset.labels.regions.len() + usize::from(dataset.labels.ignore.is_some())
}

/// The number with 12 significant digits. Numbers of up to 15 digits come back from JSON exactly, so that a plan
/// that was saved and loaded is the same plan.
fn rounded(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}
