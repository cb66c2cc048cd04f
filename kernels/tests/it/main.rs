//! The operators on every path, forced, against f64.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod coverage;
mod layers;
#[cfg(target_arch = "x86_64")]
mod matrix_tiles;
mod network;
mod operator;
mod operators;
mod precision;
mod pytorch;
mod reference;
mod settings;
mod support;
mod tape;
mod unet;
mod voxel_loss;
