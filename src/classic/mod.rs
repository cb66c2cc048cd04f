//! Segmentation without a network: the classical methods, fitted to training cases.
//!
//! ```text
//! prepared case -> template, prior (atlas or forest) -> Region -> a method -> class probabilities
//! ```
//!
//! Every method is one file or folder with one function from a [`Region`] and its settings to probabilities. Formulas
//! and defaults are those of the papers that each file names; what is chosen on training cases is chosen by the fit.

mod arrays;
mod atlas;
pub mod chan_vese;
pub mod edges;
pub mod features;
pub mod fit;
pub mod fitted;
pub mod forest;
pub mod fusion;
pub mod graph_cut;
pub mod intensity;
pub mod level_set;
mod library;
pub mod mrf;
mod points;
pub mod prior;
pub mod resolve;
pub mod snake;
pub mod sparse;
pub mod stencil;
pub mod store;
pub mod tune;

use ndarray::{Array4, ArrayView4};

/// The part of a prepared case that a method works on: a box of its voxels, outside of which all is background.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    /// Normalised images, (channel, x, y, z).
    pub images: ArrayView4<'a, f32>,
    /// Probability of each class before the case was looked at, (class, x, y, z); sums to 1 over classes and is never 0.
    pub prior: ArrayView4<'a, f32>,
    /// log p(intensities | class), (class, x, y, z), of the classes in training cases.
    pub likelihood: ArrayView4<'a, f32>,
    /// Distance between voxels, millimetres.
    pub spacing: [f64; 3],
}

/// What a method makes of a region.
#[derive(Clone, Debug)]
pub struct Segmented {
    /// Probabilities, (class, x, y, z); they sum to 1 over classes.
    pub probabilities: Array4<f32>,
    /// What the user is to know of this case, without its name: a surface vanished, a class leaked.
    pub notes: Vec<String>,
}
