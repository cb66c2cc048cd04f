//! Label fusion: several atlases, each registered to a case, say what a voxel is; from that, one answer.
//!
//! ```text
//! training cases -> select -> registration (elsewhere) -> atlases on the case's grid -> fuse -> probabilities
//! ```
//!
//! Iglesias & Sabuncu, *Multi-atlas segmentation of biomedical images: a survey*, Medical Image Analysis 24(1), 2015.

use ndarray::{Array4, ArrayView4, Axis};

mod joint;
mod local;
pub(super) mod patch;
pub mod select;
mod staple;

pub use staple::{Consensus, consensus};

/// What of the probability of a class counts as certain.
const CERTAIN: f32 = 0.999;

/// A training case on the grid of the case that is to be segmented.
#[derive(Clone, Copy, Debug)]
pub struct Atlas<'a> {
    /// Normalised images, (channel, x, y, z).
    pub images: ArrayView4<'a, f32>,
    /// Share of each class in a voxel, (class, x, y, z): they sum to 1.
    pub labels: ArrayView4<'a, f32>,
}

/// How atlases become one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fusion {
    /// The mean of their labels.
    Majority,
    /// The mean weighted by how well patches around the voxel agree.
    Local(Local),
    /// Weights that allow for atlases which err alike.
    Joint(Joint),
    /// Expectation-maximisation of each atlas' confusions.
    Staple(Staple),
}

/// Settings of local weights: exp(-d / (2 `bandwidth`)), d the mean squared difference of normalised patches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Local {
    /// Radius of the patches, voxels.
    pub radius: usize,
    /// Squared difference that lowers a weight to 0.61.
    pub bandwidth: f64,
}

/// Settings of joint label fusion (Wang et al., IEEE TPAMI 35(3), 2013).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Joint {
    /// Radius of the patches, voxels.
    pub radius: usize,
    /// How far around the voxel an atlas is searched for the best patch, voxels.
    pub search: usize,
    /// Added to the diagonal of the expected products of errors.
    pub ridge: f64,
    /// From products of intensity differences to products of label errors.
    pub power: f64,
}

/// Settings of STAPLE (Warfield et al., IEEE TMI 23(7), 2004).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Staple {
    /// Over all voxels as published, instead of over those where atlases differ.
    pub everywhere: bool,
    /// Largest change of a confusion at which it has converged.
    pub tolerance: f64,
    /// Rounds at most.
    pub rounds: usize,
}

impl Default for Local {
    fn default() -> Self {
        Self { radius: 2, bandwidth: 0.1 }
    }
}

impl Default for Joint {
    fn default() -> Self {
        Self { radius: 2, search: 1, ridge: 0.1, power: 2.0 }
    }
}

impl Default for Staple {
    fn default() -> Self {
        Self { everywhere: false, tolerance: 1e-5, rounds: 100 }
    }
}

/// Class probabilities of a case, (class, x, y, z), from its images, (channel, x, y, z), and at least one atlas. They sum
/// to 1. The result does not depend on the number of threads.
///
/// # Panics
/// Without an atlas, or where shapes differ: mistakes of the caller.
pub fn fuse(target: ArrayView4<'_, f32>, atlases: &[Atlas<'_>], fusion: Fusion) -> Array4<f32> {
    let first = atlases.first().unwrap_or_else(|| panic!("fusion needs an atlas"));
    for atlas in atlases {
        assert_eq!(atlas.images.dim(), target.dim(), "an atlas has the channels and the grid of the case");
        assert_eq!(atlas.labels.dim(), first.labels.dim(), "atlases have the same classes");
    }
    assert_eq!(target.shape()[1..], first.labels.shape()[1..], "labels lie on the grid of the case");
    match fusion {
        Fusion::Majority => majority(atlases),
        Fusion::Local(settings) => local::fuse(target, atlases, settings),
        Fusion::Joint(settings) => joint::fuse(target, atlases, settings),
        Fusion::Staple(settings) => {
            let hard: Vec<_> = atlases.iter().map(|atlas| staple::hard(atlas.labels)).collect();
            consensus(&hard, first.labels.len_of(Axis(0)), settings).probabilities
        }
    }
}

/// The mean of the atlases' labels.
fn majority(atlases: &[Atlas<'_>]) -> Array4<f32> {
    let mut mean = atlases[0].labels.to_owned();
    atlases[1..].iter().for_each(|atlas| mean += &atlas.labels);
    mean.mapv_inplace(|sum| sum / atlases.len() as f32);
    mean
}

/// Voxels where not every atlas is certain of the same class, in memory order.
fn disputed(atlases: &[Atlas<'_>]) -> Vec<[usize; 3]> {
    let (classes, nx, ny, nz) = atlases[0].labels.dim();
    let mut found = Vec::new();
    for x in 0..nx {
        for y in 0..ny {
            for z in 0..nz {
                let sure = |class| atlases.iter().all(|atlas| atlas.labels[[class, x, y, z]] > CERTAIN);
                if !(0..classes).any(sure) {
                    found.push([x, y, z]);
                }
            }
        }
    }
    found
}
