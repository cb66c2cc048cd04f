//! Trains, examines and applies 3-D medical image segmentation networks that keep finding the rare class on
//! scans they have never seen.
//!
//! The modules stand in the order in which the data flows; arrows go one way:
//!
//! ```text
//! io -> dataset -> check | plan -> prepare -> sampler, augment -> loader -> network -> loss -> train
//!                                                                              |
//!      run folder <- metrics <- predict (restored labels) <- checkpoint <------+
//! ```
//!
//! Arrays are (x, y, z) as in the file, prepared samples (channel, x, y, z) along the nearest RAS+ axes,
//! activations (batch, x, y, z, channel). Geometry and metrics are `f64`, voxels `f32`, labels `u8`.

pub mod config;
pub mod error;
pub mod files;
pub mod preset;
pub mod rng;
pub mod volume;

pub mod io;

pub mod dataset;

pub mod check;
pub mod import;

pub mod plan;
pub mod prepare;
pub mod resample;

pub mod augment;
pub mod loader;
pub mod policy;
pub mod sampler;

pub mod loss;
pub mod meta;
pub mod method;
pub mod network;
pub mod optimiser;

pub mod checkpoint;
pub mod run;
pub mod step;
pub mod train;

pub mod infer;
pub mod logits;
pub mod predict;
pub mod session;
pub mod test_time;

pub mod metrics;
pub mod regions;
pub mod statistics;

pub mod phantom;
pub mod picture;

pub mod progress;

pub mod report;
pub mod sweep;

pub mod cifar;
pub mod demo;

pub use error::{Error, Result};
