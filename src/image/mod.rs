//! A scan: its voxels and where they lie.

pub mod components;
pub mod distance;
pub mod nifti;
pub mod resample;
pub mod volume;
