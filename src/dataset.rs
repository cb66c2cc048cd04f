//! A folder of annotated scans in nnU-Net v2 layout (MSD's `dataset.json` is read as well).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One patient or scan: its files, nothing read yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Name, as in the file names without channel and ending.
    pub id: String,
    /// One file per channel, in channel order. (A single 4-D file of an MSD folder stands once.)
    pub images: Vec<PathBuf>,
    /// The reference segmentation, where there is one.
    pub labels: Option<PathBuf>,
    /// Region of interest (`masksTr`, `masksTs`): normalisation, sampling and scoring stay inside it.
    pub mask: Option<PathBuf>,
}

/// A set of label values that is scored under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Name in `dataset.json`.
    pub name: String,
    /// The label values it joins; one for an ordinary class.
    pub values: Vec<u8>,
}

/// The meaning of label values. Value 0 is background; classes are 0, 1, ..., n - 1 without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelScheme {
    /// Names of the trained classes by label value; `names[0]` is the background.
    pub names: Vec<String>,
    /// What is scored: every foreground class by itself, or the regions that `dataset.json` defines.
    pub regions: Vec<Region>,
    /// Value that marks voxels which are neither trained on nor scored.
    pub ignore: Option<u8>,
    /// Whether `dataset.json` defines overlapping regions, and in which order they are painted.
    pub regions_class_order: Option<Vec<u8>>,
}

impl LabelScheme {
    /// Number of trained classes, background included, `ignore` not.
    pub fn classes(&self) -> usize {
        self.names.len()
    }
}

/// A data set: who is in it and what the numbers mean. Voxels stay on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// The folder that holds `dataset.json`.
    pub folder: PathBuf,
    /// Name of the set.
    pub name: String,
    /// Channel names in channel order; `CT` selects CT normalisation.
    pub channels: Vec<String>,
    /// The meaning of label values.
    pub labels: LabelScheme,
    /// Ending of every file, with its dot: `.nii.gz` or `.nii`.
    pub file_ending: String,
    /// Annotated cases, sorted by name.
    pub training: Vec<Case>,
    /// Test cases, sorted by name; their `labels` may be there (`labelsTs`).
    pub test: Vec<Case>,
}
