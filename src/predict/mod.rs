//! From a prepared sample to the classes of its voxels.

pub mod forms;
pub(crate) mod voxels;
pub mod windows;
