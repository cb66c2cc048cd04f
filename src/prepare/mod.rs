//! From a case on disk to a sample that can be trained on, and from a prediction back onto the case's own grid.
//!
//! A case is turned to the nearest RAS+ axes without touching a voxel, cropped to the box of its non-zero voxels
//! (or of its region of interest), normalised, and resampled to the plan's spacing where that differs: images by
//! cubic splines, labels without inventing any. nnU-Net's order, with three choices of our own:
//!
//! - Voxels outside the non-zero region keep label 0; nnU-Net marks them -1 for a while and trains them as 0 too.
//! - With a region of interest the box is the region's, statistics come from its inside, and outside every image
//!   is 0, the mean of a normalised image. `Sample::mask` keeps the region for sampling and scoring.
//! - A voxel that is not a finite number is an error that names the file, never a value.

use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4};

use crate::Result;
use crate::data::dataset::{Case, Dataset, LabelScheme};
use crate::image::volume::{Grid, Labels, Orientation};

mod cache;
mod case;
mod classes;
pub(crate) mod crop;
mod file;
mod normalise;
mod restore;
pub(crate) mod scan;
pub(crate) mod stamp;
pub mod window;
mod place;
pub(crate) mod workers;

pub(crate) use case::crop_box;

use case::Input;
use scan::{read_classes, to_classes};

pub(crate) use cache::make_cache;
pub use cache::{cache_folder, prepare_all, refuse_inside};
pub use file::{PreparedCase, Window};
pub use normalise::Normalisation;
pub use place::Placement;
pub use restore::Restorer;
pub use scan::Scan;

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
    /// The plan's spacing, millimetres, oriented.
    pub spacing: [f64; 3],
}

/// One case, prepared: oriented, cropped, resampled, normalised.
#[derive(Clone, Debug, PartialEq)]
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
    /// seed, in the order of the voxels; and how many there really are. Empty for cases without a reference.
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

impl Geometry {
    /// Spacing of the scan along the RAS+ axes, millimetres.
    pub fn original_spacing(&self) -> [f64; 3] {
        self.original.oriented(&self.orientation).spacing()
    }
}

/// What a prepared sample is made by.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// Voxel spacing after preparation along the RAS+ axes, millimetres.
    pub spacing: [f64; 3],
    /// One entry per channel.
    pub normalisation: &'a [Normalisation],
    /// Number of channels.
    pub channels: usize,
    /// Number of trained classes, background included.
    pub classes: usize,
}

impl Recipe<'_> {
    /// Prepares one case of a data set, with labels and mask where it has them.
    ///
    /// # Errors
    /// Where a file cannot be read, files of the case differ in shape or place, a voxel is not finite, a label is
    /// not of the data set, or nothing is left after cropping.
    pub fn prepare(&self, dataset: &Dataset, case: &Case) -> Result<Sample> {
        let scan = Scan::read(&case.images, case.mask.as_deref(), self.channels)?;
        let classes =
            case.labels.as_deref().map(|path| read_classes(path, &scan, &dataset.labels)).transpose()?;
        case::prepare(self, case.id.clone(), Input { scan, classes })
    }

    /// Prepares the channels of one scan for prediction: no labels. Its name is that of the first file without
    /// ending and channel number.
    ///
    /// # Errors
    /// As [`Recipe::prepare`].
    pub fn prepare_images(&self, images: &[PathBuf], mask: Option<&Path>) -> Result<Sample> {
        let scan = Scan::read(images, mask, self.channels)?;
        case::prepare(self, case::name(scan.name(0)), Input { scan, classes: None })
    }

    /// Prepares a scan that lies in memory, with its label map where there is one; the same sample as from files
    /// with these voxels.
    ///
    /// # Errors
    /// As [`Recipe::prepare`]; also where the scan has other channels than the plan.
    pub fn prepare_scan(
        &self,
        id: &str,
        scan: Scan,
        labels: Option<(Labels, &LabelScheme)>,
    ) -> Result<Sample> {
        let labels = labels.map(|(labels, scheme)| to_classes(labels, Path::new("labels"), &scan, scheme));
        let classes = labels.transpose()?;
        case::prepare(self, id.to_owned(), Input { scan, classes })
    }
}
