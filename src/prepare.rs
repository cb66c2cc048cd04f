//! From a case on disk to a sample that can be trained on, and from a prediction back onto the case's own grid.

use ndarray::{Array3, Array4};

use crate::volume::{Grid, Orientation};

/// How a prepared sample came from its scan; enough to go back.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Geometry {
    /// The scan's own grid, as in the file.
    pub original: Grid,
    /// The lossless turn to the nearest RAS+ axes.
    pub orientation: Orientation,
    /// First voxel of the crop box, on the oriented grid.
    pub crop_start: [usize; 3],
    /// Shape of the crop box, on the oriented grid, before resampling.
    pub crop_shape: [usize; 3],
    /// Shape after resampling to the plan's spacing.
    pub shape: [usize; 3],
}

/// One case, prepared: oriented, cropped, resampled, normalised.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The case's name.
    pub id: String,
    /// (channel, x, y, z), standard (row-major) layout.
    pub images: Array4<f32>,
    /// Class per voxel, standard layout; [`IGNORE`] where nothing is trained or scored (the data set's ignore
    /// value is mapped to it). `None` for cases without a reference.
    pub labels: Option<Array3<u8>>,
    /// 1 inside the region of interest, where the data set has masks.
    pub mask: Option<Array3<u8>>,
    /// The way back.
    pub geometry: Geometry,
    /// For each class, positions of up to [`MAX_POSITIONS`] of its voxels (inside the mask), drawn with a fixed
    /// seed; and how many there really are.
    pub classes: Vec<ClassVoxels>,
}

/// Where the voxels of one class are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassVoxels {
    /// Number of voxels of the class inside the mask.
    pub count: u64,
    /// Positions (x, y, z) of some or all of them.
    pub positions: Vec<[u32; 3]>,
}

/// Label of a voxel that is neither trained on nor scored.
pub const IGNORE: u8 = 255;
/// How many positions per class a sample keeps.
pub const MAX_POSITIONS: usize = 10_000;
