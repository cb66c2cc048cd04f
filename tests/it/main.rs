//! One integration binary, so that everything links once. References under `tests/data/` were made by the
//! scripts in `tests/reference/`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod augment;
mod check;
mod cifar;
mod classical_energy;
mod classical_surfaces;
mod class_specific;
mod classical_learned;
mod config;
mod control;
mod dataset;
mod deepmedic;
mod double;
mod floors;
mod import;
mod inputs;
mod loader;
mod logits;
mod loss;
mod meta;
mod method;
mod metrics;
mod networks;
mod nifti;
mod pairing;
mod phantom;
mod plan;
mod plant;
mod policy;
mod prepare;
mod register;
mod regions;
mod resample;
mod sampler;
mod statistics;
mod support;
mod sweep;
mod test_time;
