//! From prepared samples to the batches of a training.

mod cut;
pub mod loader;
pub mod sampler;
pub mod source;
