//! Measures a data set once and decides spacing, patch, batch, network shape and normalisation from it.
//!
//! The rules are those published with nnU-Net (Isensee et al., Nature Methods 2021), as its version 2.8.1 applies
//! them; with [`CpuBudget::Off`] the decisions are the same numbers. A processor budget then makes the network
//! and the patch small enough that a training step stays short on the machine at hand.

use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::{DiceReduction, NetworkConfig};
use crate::data::dataset::Dataset;
use crate::network::{Field, Network, Shape};
use crate::prepare::{Normalisation, Recipe};
use crate::{Error, Result, files};

mod cost;
mod decide;
mod describe;
mod forecast;
mod measure;
mod overrides;
mod topology;
mod transfer;

pub use transfer::same_names;

pub(crate) use describe::normalisation_name;
pub(crate) use forecast::size;
pub use forecast::{CaseCounts, Forecast};

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
    /// Their names; none in plans of versions that did not write them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel_names: Vec<String>,
    /// Number of trained classes, background included.
    pub classes: usize,
    /// One entry per channel.
    pub normalisation: Vec<Normalisation>,
    /// Default Dice reduction.
    pub dice: DiceReduction,
    /// The network; in JSON the key `unet` or `deepmedic`.
    #[serde(flatten, deserialize_with = "shape")]
    pub shape: Shape,
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

/// Reads the network's key. Plans of earlier versions hold the U-Net that was planned beside any other network that is
/// trained in its place.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Shape, D::Error> {
    let mut keys = serde_json::Map::deserialize(deserializer)?;
    keys.retain(|key, _| Shape::KEYS.contains(&key.as_str()));
    if keys.len() > 1 {
        keys.shift_remove("unet");
    }
    if keys.is_empty() {
        return Err(D::Error::custom(format!("there is no network: none of `{}`", Shape::KEYS.join("`, `"))));
    }
    serde_json::from_value(serde_json::Value::Object(keys)).map_err(D::Error::custom)
}

impl Plan {
    /// The network for the data of this plan.
    pub fn network(&self, config: &NetworkConfig) -> Network {
        self.shape.kind().network(self.channels, self.classes, config)
    }

    /// What is seen and labelled in training.
    ///
    /// # Errors
    /// Where the network cannot take the patch.
    pub fn field(&self) -> Result<Field> {
        self.shape.kind().field(self.patch)
    }

    /// Edges of the full-resolution input in prediction, voxels.
    pub fn inference_segment(&self) -> [usize; 3] {
        self.shape.kind().inference_segment(self.patch)
    }

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
        demand(
            self.channel_names.is_empty() || self.channel_names.len() == self.channels,
            "`channel_names` must name each channel",
        );
        demand((2..=255).contains(&self.classes), "`classes` must be from 2 to 255");
        demand(
            self.normalisation.len() == self.channels,
            "`normalisation` must have one entry for each channel",
        );
        if problems.is_empty() {
            problems = self.shape.kind().problems(self.patch);
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
