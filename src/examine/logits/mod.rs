//! What a network says of voxels that it was trained on and of voxels that it never saw.
//!
//! Under class imbalance a network overfits the rare class first: its voxels of unseen scans move towards, and
//! across, the decision boundary, while those of the background stay. Precision holds, sensitivity falls. Here the
//! logits (values before the softmax) of single voxels are collected on both sides, the shift is measured per
//! class and drawn.
//!
//! For each origin (seen: training cases; unseen: validation cases; test: test cases with labels) and each class
//! K voxels are drawn, case-balanced: first a case that has the class, uniformly, then one of its voxels inside
//! the mask, uniformly, both with replacement. The network is in inference mode; no augmentation, no margin, no
//! mirroring and no averaging over windows touches the logits.
//!
//! Reference: Li, Kamnitsas, Glocker, Overfitting of neural nets under class imbalance, MICCAI 2019 and
//! IEEE TMI 2020.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::run::Run;

pub mod collect;
mod figures;
pub mod file;
pub mod shift;

pub use collect::{CollectOptions, collect};
pub use figures::{FIGURES, draw};
pub(crate) use figures::{densities, origins, scatter};
pub use shift::{ClassShift, Shifts, margins, shifts, table};

/// Where a voxel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A case that was trained on.
    Seen,
    /// A case of the held-out fold.
    Unseen,
    /// A test case.
    Test,
}

impl Origin {
    /// All, in the order of figures and tables.
    pub const ALL: [Self; 3] = [Self::Seen, Self::Unseen, Self::Test];

    /// The word used in files, tables and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Unseen => "unseen",
            Self::Test => "test",
        }
    }
}

/// Voxels of one origin and true class.
#[derive(Clone, Debug, PartialEq)]
pub struct Cloud {
    /// Where they come from.
    pub origin: Origin,
    /// Their true class.
    pub class: usize,
    /// Of each voxel, the case: index into [`Collection::cases`].
    pub cases: Vec<u32>,
    /// Of each voxel, its place (x, y, z) on the grid of the prepared sample.
    pub positions: Vec<[u32; 3]>,
    /// Of each voxel, one value per class.
    pub logits: Vec<f32>,
}

/// All voxels collected for one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Names of the classes, background first.
    pub classes: Vec<String>,
    /// Names of the cases.
    pub cases: Vec<String>,
    /// By origin, then class; a class that occurs nowhere in an origin has no cloud there.
    pub clouds: Vec<Cloud>,
}

impl Collection {
    /// The cloud of an origin and class.
    pub fn cloud(&self, origin: Origin, class: usize) -> Option<&Cloud> {
        self.clouds.iter().find(|cloud| cloud.origin == origin && cloud.class == class)
    }
}

impl Cloud {
    /// One row of logits per voxel.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        let classes = self.logits.len() / self.positions.len().max(1);
        self.logits.chunks_exact(classes.max(1))
    }

    /// Mean logits.
    pub fn mean(&self) -> Vec<f64> {
        let count = self.positions.len().max(1);
        let mut sums = vec![0.0; self.logits.len() / count];
        for row in self.rows() {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        sums.iter().map(|sum| sum / count as f64).collect()
    }
}

/// `logits/summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogitSummary {
    /// Folder of the run.
    pub run: PathBuf,
    /// Optimiser steps of the weights.
    pub steps: u64,
    /// Voxels drawn per origin and class.
    pub voxels_per_class: usize,
    /// Names of the classes, background first.
    pub classes: Vec<String>,
    /// Cases of each origin.
    pub cases: Vec<(Origin, usize)>,
    /// S1 to S6.
    pub shifts: Shifts,
}

/// Reads what `segen logits` wrote.
///
/// # Errors
/// Where there is nothing, or it is damaged.
pub fn read(run: &Run) -> Result<(LogitSummary, Collection)> {
    Ok((run.read_json("logits/summary.json")?, file::read(&run.path("logits/logits.safetensors"))?))
}
