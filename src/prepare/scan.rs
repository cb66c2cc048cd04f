//! The images of one case, read or given, and checked against each other.

use std::path::{Path, PathBuf};

use ndarray::Array3;
use rayon::prelude::*;

use super::IGNORE;
use crate::data::dataset::LabelScheme;
use crate::image::volume::Grid;
use crate::image::volume::{Fit, Image, Labels};
use crate::image::{self, ENDING, channel_name};
use crate::{Error, Result};

/// The images of one case, all on one grid, from files or from memory.
#[derive(Clone, Debug)]
pub struct Scan {
    /// One array per channel, (x, y, z) as in the file.
    pub(crate) images: Vec<Array3<f32>>,
    /// 1 inside the region of interest, else 0.
    pub(crate) mask: Option<Array3<u8>>,
    /// Where the voxels lie.
    pub(crate) grid: Grid,
    /// What each channel is called in messages: the file that it came from.
    pub(super) names: Vec<PathBuf>,
}

impl Scan {
    /// A scan whose channels are in memory, and where it has one its region of interest (voxels other than 0).
    /// Everything that files would have to fulfil these must as well.
    ///
    /// # Errors
    /// Where there is no channel, grids differ by more than half a voxel, or a voxel is not finite.
    pub fn of_volumes(images: Vec<Image>, mask: Option<Labels>) -> Result<Self> {
        let names = (0..images.len()).map(|channel| PathBuf::from(format!("channel {channel}"))).collect();
        Self::new(images, names, mask.map(|mask| (mask, Path::new("mask"))))
    }

    /// Reads `channels` images, one per file or all from one file, and the mask.
    ///
    /// # Errors
    /// Those of [`Self::of_volumes`], and where the number of channels is another or a file cannot be read.
    pub(crate) fn read(images: &[PathBuf], mask: Option<&Path>, channels: usize) -> Result<Self> {
        let first = images.first().ok_or_else(no_image)?;
        let read = if images.len() == 1 && channels > 1 {
            image::read_channels(first)?.0
        } else {
            images.par_iter().map(|path| Ok(image::read_image(path)?.0)).collect::<Result<Vec<_>>>()?
        };
        if read.len() != channels {
            return Err(Error::invalid(
                first,
                "channels",
                format!("the case has {} of them, the data set {channels}", read.len()),
                format!(
                    "give one file per channel ({} to {}), or one file with all channels along the fourth dimension",
                    channel_name("CASE", 0, ENDING),
                    channel_name("CASE", channels - 1, ENDING)
                ),
            ));
        }
        let names = (0..channels).map(|channel| images.get(channel).unwrap_or(first).clone()).collect();
        let mask = mask.map(|path| Ok((image::read_labels(path)?.0, path))).transpose()?;
        Self::new(read, names, mask)
    }

    fn new(images: Vec<Image>, names: Vec<PathBuf>, mask: Option<(Labels, &Path)>) -> Result<Self> {
        let grid = images.first().ok_or_else(no_image)?.grid.clone();
        for (image, name) in images.iter().zip(&names) {
            same_place(&grid, &image.grid, &names[0], name)?;
            finite(image.voxels.view(), name)?;
        }
        let mask = match mask {
            None => None,
            Some((mut mask, path)) => {
                same_place(&grid, &mask.grid, &names[0], path)?;
                mask.voxels.mapv_inplace(|v| u8::from(v != 0));
                Some(mask.voxels)
            }
        };
        Ok(Self { images: images.into_iter().map(|image| image.voxels).collect(), mask, grid, names })
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.images.len()
    }

    /// What a channel is called in messages.
    pub(crate) fn name(&self, channel: usize) -> &Path {
        &self.names[channel]
    }
}

fn no_image() -> Error {
    Error::config("images", "the case has no image", "every case needs one file per channel")
}

/// The classes of a label file, or of labels in memory that go by the name `path`, for a case whose images are
/// `scan`; in the order of the scan's voxels. The ignore value becomes [`IGNORE`].
///
/// # Errors
/// Where the labels lie elsewhere, or a value is neither a class nor the ignore value.
pub(crate) fn to_classes(
    mut labels: Labels,
    path: &Path,
    scan: &Scan,
    scheme: &LabelScheme,
) -> Result<Array3<u8>> {
    same_place(&scan.grid, &labels.grid, scan.name(0), path)?;
    let mut counts = [0u64; 256];
    labels.voxels.iter().for_each(|&value| counts[usize::from(value)] += 1);
    let unknown =
        (scheme.values()..256).find(|&value| counts[value] > 0 && scheme.ignore != Some(value as u8));
    if let Some(value) = unknown {
        return Err(Error::invalid(
            path,
            "labels",
            format!("{} voxels have the value {value}, which `dataset.json` does not define", counts[value]),
            "add the label to `dataset.json`, or correct the file; `segen check` lists all such files",
        ));
    }
    let classes = scheme.class_of_value();
    if classes.is_some() || scheme.ignore.is_some_and(|ignore| ignore != IGNORE) {
        let class = |value: u8| classes.as_ref().map_or(value, |classes| classes[usize::from(value)]);
        labels.voxels.mapv_inplace(|value| if scheme.ignore == Some(value) { IGNORE } else { class(value) });
    }
    Ok(labels.voxels)
}

/// [`to_classes`] of a file.
///
/// # Errors
/// Those of [`to_classes`], and where the file cannot be read.
pub(crate) fn read_classes(path: &Path, scan: &Scan, scheme: &LabelScheme) -> Result<Array3<u8>> {
    to_classes(image::read_labels(path)?.0, path, scan, scheme)
}

/// Whether a file of a case lies where the first one does.
///
/// # Errors
/// Where it does not.
pub(crate) fn same_place(grid: &Grid, other: &Grid, first: &Path, path: &Path) -> Result<()> {
    const MEND: &str = "all files of a case must lie on one grid; `segen check` lists every difference";
    if grid.fit(other) <= Fit::Off {
        return Ok(());
    }
    let Some(distance) = grid.displacement(other) else {
        return Err(Error::invalid(
            path,
            "dim",
            format!("{:?} voxels, but `{}` has {:?}", other.shape, first.display(), grid.shape),
            MEND,
        ));
    };
    Err(Error::invalid(
        path,
        "affine",
        format!(
            "lies up to {distance:.3} mm away from `{}`, {:.1} voxels",
            first.display(),
            grid.voxels_apart(other).unwrap_or(f64::NAN)
        ),
        MEND,
    ))
}

fn finite(voxels: ndarray::ArrayView3<'_, f32>, path: &Path) -> Result<()> {
    let not_finite = |value: &&f32| !value.is_finite();
    let count = match voxels.as_slice_memory_order() {
        Some(values) => values.iter().filter(not_finite).count(),
        None => voxels.iter().filter(not_finite).count(),
    };
    if count == 0 {
        return Ok(());
    }
    let first = voxels.indexed_iter().find(|(_, value)| !value.is_finite()).map(|((x, y, z), _)| [x, y, z]);
    Err(Error::invalid(
        path,
        "voxels",
        format!(
            "{count} of {} are NaN or infinite, the first at {:?}",
            voxels.len(),
            first.unwrap_or_default()
        ),
        "replace them, for example by the background value, in the program that wrote the file",
    ))
}
