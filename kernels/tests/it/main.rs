//! The operators on every path, forced, against references.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod layers;
#[cfg(target_arch = "x86_64")]
mod matrix_tiles;
mod operators;
mod precision;
mod pytorch;
mod settings;
mod support;
mod unet;
mod voxel_loss;
