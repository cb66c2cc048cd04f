//! The steps from files to a sample.

use std::path::Path;

use ndarray::{Array3, Array4, Axis};

use super::classes::class_voxels;
use super::crop::{CropBox, copy_blocked, fill_holes};
use super::normalise::normalise;
use super::scan::Scan;
use super::{Geometry, Normalisation, Recipe, Sample};
use crate::image::resample::{resample_image, resample_labels, resampled_shape, separate_axis};
use crate::image::volume::Orientation;
use crate::image::{split_channel, stem};
use crate::{Error, Result};

/// A scan and, where it has one, its reference as classes.
pub(super) struct Input {
    pub(super) scan: Scan,
    pub(super) classes: Option<Array3<u8>>,
}

/// See [`Recipe::prepare`].
pub(super) fn prepare(recipe: &Recipe<'_>, id: String, input: Input) -> Result<Sample> {
    let Input { scan, classes: labels } = input;
    if scan.channels() != recipe.channels {
        let problem = format!("the scan has {}, the plan {}", scan.channels(), recipe.channels);
        return Err(Error::config("channels", problem, "give the channels that the plan was made for"));
    }
    let orientation = scan.grid.orientation();
    let crop = crop_box(&scan, &orientation)?;
    let cut = |voxels: &Array3<u8>| cut(&crop, &orientation, voxels);

    let spacing = scan.grid.oriented(&orientation).spacing();
    let shape = resampled_shape(crop.shape, spacing, recipe.spacing);
    check_size(scan.name(0), crop.shape, spacing, shape, recipe.spacing)?;
    let separate = separate_axis(spacing, recipe.spacing);
    let geometry = Geometry {
        original: scan.grid.clone(),
        orientation,
        crop_start: crop.start,
        crop_shape: crop.shape,
        shape,
        spacing: recipe.spacing,
    };

    let labels = labels.as_ref().map(cut);
    let region = scan.mask.as_ref().map(cut);
    let nonzero = (region.is_none()
        && recipe.normalisation.contains(&Normalisation::ZScore { masked: true }))
    .then(|| nonzero(&scan.images, &crop, &orientation));

    let mut prepared = Array4::zeros((recipe.channels, shape[0], shape[1], shape[2]));
    let Scan { images, names, .. } = scan;
    let channels = images.into_iter().zip(&names).zip(recipe.normalisation);
    for (number, ((voxels, path), scheme)) in channels.enumerate() {
        let mut target = prepared.index_axis_mut(Axis(0), number);
        let run = |values: Option<&mut [f32]>| match values {
            Some(values) => normalise(values, scheme, slice(&nonzero), slice(&region), path),
            None => Ok(()),
        };
        let source = crop.view(orientation.apply(voxels.view()));
        if shape == crop.shape {
            copy_blocked(source, target.view_mut());
            run(target.as_slice_mut())?;
        } else {
            let mut cropped = Array3::zeros(crop.shape);
            copy_blocked(source, cropped.view_mut());
            drop(voxels);
            run(cropped.as_slice_mut())?;
            target.assign(&resample_image(cropped.view(), shape, separate));
        }
    }
    let labels = labels.map(|labels| resample_labels(labels.view(), shape, separate));
    let mask = region.map(|region| resample_labels(region.view(), shape, separate));
    let classes = match &labels {
        None => Vec::new(),
        Some(labels) => class_voxels(labels, mask.as_ref(), recipe.classes),
    };
    Ok(Sample { id, images: prepared, labels, mask, geometry, classes })
}

/// The name of a case from its first file: without folder, ending and channel number.
pub(super) fn name(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let stem = stem(&name);
    split_channel(stem).map_or(stem, |(case, _)| case).to_owned()
}

/// The box of the region of interest, else of the voxels that are not zero in some channel; oriented.
pub(crate) fn crop_box(scan: &Scan, orientation: &Orientation) -> Result<CropBox> {
    let found = match &scan.mask {
        Some(mask) => CropBox::around(orientation.apply(mask.view()), |v| *v != 0),
        None => scan
            .images
            .iter()
            .filter_map(|image| CropBox::around(orientation.apply(image.view()), |v| *v != 0.0))
            .reduce(CropBox::union),
    };
    found.ok_or_else(|| {
        let (problem, mend) = match scan.mask {
            Some(_) => ("the region of interest is empty", "fix or remove the mask of this case"),
            None => ("every voxel of every channel is 0", "remove the case, or export the scan again"),
        };
        Error::invalid(scan.name(0), "voxels", problem, mend)
    })
}

fn cut(crop: &CropBox, orientation: &Orientation, voxels: &Array3<u8>) -> Array3<u8> {
    let mut target = Array3::zeros(crop.shape);
    copy_blocked(crop.view(orientation.apply(voxels.view())), target.view_mut());
    target
}

/// 1 where some channel is not zero, holes filled.
fn nonzero(images: &[Array3<f32>], crop: &CropBox, orientation: &Orientation) -> Array3<u8> {
    let mut mask = Array3::zeros(crop.shape);
    for image in images {
        let view = crop.view(orientation.apply(image.view()));
        ndarray::Zip::from(&mut mask).and(view).for_each(|inside, v| *inside |= u8::from(*v != 0.0));
    }
    fill_holes(&mut mask);
    mask
}

fn slice(mask: &Option<Array3<u8>>) -> Option<&[u8]> {
    mask.as_ref().and_then(|mask| mask.as_slice())
}

/// Refuses scans that would become larger or smaller out of all proportion: then their spacing or the plan's is
/// wrong, most often by a factor of 1000 between units.
fn check_size(
    path: &Path,
    shape: [usize; 3],
    spacing: [f64; 3],
    resampled: [usize; 3],
    planned: [f64; 3],
) -> Result<()> {
    /// Voxels this much larger or smaller than the plan's along every axis are of another unit.
    const OTHER_UNIT: f64 = 50.0;
    /// Voxels that any scan may have after resampling.
    const ALWAYS: f64 = (1u64 << 27) as f64;
    /// Voxels for each of its own that a larger one may have.
    const GROWTH: f64 = 64.0;
    let voxels = |shape: [usize; 3]| shape.iter().map(|&edge| edge as f64).product::<f64>();
    let ratios: [f64; 3] = std::array::from_fn(|axis| spacing[axis] / planned[axis]);
    let other_unit = ratios.iter().all(|ratio| *ratio > OTHER_UNIT)
        || ratios.iter().all(|ratio| *ratio < 1.0 / OTHER_UNIT);
    if !other_unit && voxels(resampled) <= ALWAYS.max(GROWTH * voxels(shape)) {
        return Ok(());
    }
    Err(Error::invalid(
        path,
        "spacing",
        format!("{shape:?} voxels of {spacing:?} mm would become {resampled:?} at the plan's {planned:?} mm"),
        "correct the header: its voxel sizes, or the unit that it states for them (xyzt_units in NIfTI: 1 metres, 2 \
         millimetres, 3 micrometres); or plan with another spacing (plan.spacing)",
    ))
}
