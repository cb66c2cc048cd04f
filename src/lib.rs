//! Trains, examines and applies 3-D medical image segmentation networks that keep finding the rare class on
//! scans they have never seen.
//!
//! The folders below are floors: each uses only those above it in the list.
//!
//! ```text
//! data set -> plan -> prepared samples -> (sampler, policy) -> batches -> network -> loss -> step
//!                                                                            |
//!      run folder <- scores <- restored labels <- prediction <- checkpoint <-+
//! ```
//!
//! Arrays are (x, y, z) as in the file, prepared samples (channel, x, y, z) along the nearest RAS+ axes,
//! activations (batch, x, y, z, channel). Geometry and metrics are `f64`, voxels `f32`, labels `u8`.

// The ground: imported by everyone, importing no floor.
pub mod error;
pub mod files;
pub mod machine;
pub mod progress;
pub mod rng;

// The floors. A folder uses only those above it; `tests/it/floors.rs` watches over that.
pub mod config;
pub mod image;
pub mod picture;
pub mod data;
pub mod score;
pub mod prepare;
pub mod network;
pub mod plan;
pub mod augment;
pub mod policy;
pub mod run;
pub mod batch;
pub mod predict;
pub mod classic;
pub mod learn;
pub mod sweep;
pub mod examine;
pub mod commands;

pub use error::{Error, Result};
