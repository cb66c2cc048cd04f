//! The files of one case, read and checked against each other.

use std::path::{Path, PathBuf};

use ndarray::Array3;
use rayon::prelude::*;

use super::IGNORE;
use crate::data::dataset::LabelScheme;
use crate::image::nifti;
use crate::image::volume::Grid;
use crate::{Error, Result};

/// Files of one case may lie this share of a voxel apart, as headers rounded by different programs do.
const TOLERATED_DISPLACEMENT: f64 = 0.5;

/// The images of one case in file order, all on one grid.
pub(crate) struct Scan {
    pub(crate) images: Vec<Array3<f32>>,
    /// 1 inside the region of interest, else 0.
    pub(crate) mask: Option<Array3<u8>>,
    pub(crate) grid: Grid,
}

impl Scan {
    /// Reads `channels` images, one per file or all from one 4-D file, and the mask.
    ///
    /// # Errors
    /// Also where the number of channels is another, grids differ, or a voxel is not finite.
    pub(crate) fn read(images: &[PathBuf], mask: Option<&Path>, channels: usize) -> Result<Self> {
        let first = images.first().ok_or_else(|| {
            Error::config("images", "the case has no image", "every case needs one file per channel")
        })?;
        let read = if images.len() == 1 && channels > 1 {
            nifti::read_channels(first)?.0
        } else {
            images.par_iter().map(|path| Ok(nifti::read_image(path)?.0)).collect::<Result<Vec<_>>>()?
        };
        if read.len() != channels {
            return Err(Error::invalid(
                first,
                "channels",
                format!("the case has {} channels, the data set {channels}", read.len()),
                "give one file per channel, or one file with all channels along the fourth dimension",
            ));
        }
        let grid = read[0].grid.clone();
        for (number, image) in read.iter().enumerate() {
            let path = images.get(number).unwrap_or(first);
            same_place(&grid, &image.grid, first, path)?;
            finite(image.voxels.view(), path)?;
        }
        let mask = match mask {
            None => None,
            Some(path) => {
                let mut mask = nifti::read_labels(path)?.0;
                same_place(&grid, &mask.grid, first, path)?;
                mask.voxels.mapv_inplace(|v| u8::from(v != 0));
                Some(mask.voxels)
            }
        };
        Ok(Self { images: read.into_iter().map(|image| image.voxels).collect(), mask, grid })
    }
}

/// The classes of a case whose images lie on `grid`, in file order; the ignore value becomes [`IGNORE`].
///
/// # Errors
/// Also where the grid is another, or a value is neither a class nor the ignore value.
pub(crate) fn read_labels(
    path: &Path,
    grid: &Grid,
    image: &Path,
    scheme: &LabelScheme,
) -> Result<Array3<u8>> {
    let mut labels = nifti::read_labels(path)?.0;
    same_place(grid, &labels.grid, image, path)?;
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

fn same_place(grid: &Grid, other: &Grid, first: &Path, path: &Path) -> Result<()> {
    const MEND: &str = "all files of a case must lie on one grid; `segen check` lists every difference";
    let Some(distance) = grid.displacement(other) else {
        return Err(Error::invalid(
            path,
            "dim",
            format!("{:?} voxels, but `{}` has {:?}", other.shape, first.display(), grid.shape),
            MEND,
        ));
    };
    let smallest = grid.spacing().into_iter().fold(f64::INFINITY, f64::min);
    if distance <= TOLERATED_DISPLACEMENT * smallest {
        return Ok(());
    }
    Err(Error::invalid(
        path,
        "affine",
        format!("lies up to {distance:.3} mm away from `{}`", first.display()),
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
