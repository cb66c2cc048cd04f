//! What is measured on the training cases.

use ndarray::Array3;

use super::decide::percentile;
use super::{Fingerprint, Intensities, Plan, rounded};
use crate::data::dataset::{Case, Dataset};
use crate::prepare::crop::CropBox;
use crate::prepare::scan::{Scan, read_classes};
use crate::prepare::workers::for_each_case;
use crate::prepare::{IGNORE, crop_box};
use crate::progress::Progress;
use crate::{Error, Result};

/// Order statistics kept of each case and channel.
const QUANTILES: usize = 10_001;

impl Plan {
    /// Measures training cases in parallel, as many at once as there are threads.
    ///
    /// Intensities are those of foreground voxels (neither background nor ignored, inside the region of
    /// interest), pooled so that each case that has foreground counts the same, as nnU-Net samples them. Moments and
    /// extremes are exact; percentiles come from 10,001 order statistics a case.
    ///
    /// # Errors
    /// As [`Plan::prepare`], and where a case has no labels or no case has foreground.
    pub fn measure(dataset: &Dataset, cases: &[&Case], progress: &dyn Progress) -> Result<Fingerprint> {
        let measured = for_each_case(cases, "measuring cases", progress, |case| Measured::of(dataset, case))?;
        let foreground: Vec<&Measured> = measured.iter().filter(|case| !case.channels.is_empty()).collect();
        if foreground.is_empty() {
            return Err(Error::config(
                "labels",
                format!("none of the {} training cases has a foreground voxel", cases.len()),
                "look at the label files with `segen check`",
            ));
        }
        let intensities = (0..dataset.channels.len())
            .map(|channel| pool(foreground.iter().map(|case| &case.channels[channel])))
            .collect();
        let class_voxels = (0..dataset.labels.classes())
            .map(|class| measured.iter().map(|case| case.class_voxels[class]).sum())
            .collect();
        Ok(Fingerprint {
            spacings: measured.iter().map(|case| case.spacing).collect(),
            shapes: measured.iter().map(|case| case.shape).collect(),
            relative_size_after_cropping: rounded(percentile(measured.iter().map(|case| case.kept), 50.0)),
            intensities,
            class_voxels,
            masked_cases: measured.iter().filter(|case| case.masked).count(),
        })
    }
}

/// One case.
struct Measured {
    spacing: [f64; 3],
    shape: [usize; 3],
    /// Cropped volume / whole volume.
    kept: f64,
    class_voxels: Vec<u64>,
    /// Whether it has a region of interest.
    masked: bool,
    /// Foreground intensities of each channel; empty where there is no foreground.
    channels: Vec<Foreground>,
}

/// Foreground intensities of one channel of one case.
struct Foreground {
    mean: f64,
    /// Mean of squares.
    square: f64,
    /// Ascending; evenly spaced in rank from the smallest to the largest value.
    quantiles: Vec<f32>,
}

impl Measured {
    fn of(dataset: &Dataset, case: &Case) -> Result<Self> {
        let path = case.labels.as_ref().ok_or_else(|| {
            Error::config("labels", format!("case `{}` has none", case.id), "plan from annotated cases only")
        })?;
        let scan = Scan::read(&case.images, case.mask.as_deref(), dataset.channels.len())?;
        let labels = read_classes(path, &scan, &dataset.labels)?;
        let orientation = scan.grid.orientation();
        let crop = crop_box(&scan, &orientation)?;
        let oriented = scan.grid.oriented(&orientation);
        let counted = |view: &Array3<u8>| crop.view(orientation.apply(view.view())).to_owned();
        let mut labels = counted(&labels);
        if let Some(mask) = scan.mask.as_ref().map(counted) {
            labels.zip_mut_with(&mask, |label, inside| *label = if *inside == 0 { IGNORE } else { *label });
        }
        let mut class_voxels = vec![0; dataset.labels.classes()];
        for &label in labels.iter().filter(|label| **label != IGNORE) {
            class_voxels[usize::from(label)] += 1;
        }
        let some = class_voxels[1..].iter().any(|&count| count > 0);
        let foreground = |image: &Array3<f32>| {
            let image = crop.view(orientation.apply(image.view()));
            let inside = |label: u8| label != 0 && label != IGNORE;
            let values = image.iter().zip(&labels).filter(|(_, label)| inside(**label));
            Foreground::of(values.map(|(value, _)| *value).collect())
        };
        Ok(Self {
            spacing: oriented.spacing().map(rounded),
            shape: crop.shape,
            kept: share(&crop, oriented.shape),
            class_voxels,
            masked: scan.mask.is_some(),
            channels: if some { scan.images.iter().map(foreground).collect() } else { Vec::new() },
        })
    }
}

impl Foreground {
    fn of(mut values: Vec<f32>) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count;
        values.sort_unstable_by(f32::total_cmp);
        if values.len() > QUANTILES {
            let last = values.len() - 1;
            values = (0..QUANTILES).map(|k| values[(k * last + QUANTILES / 2) / (QUANTILES - 1)]).collect();
        }
        Self { mean, square, quantiles: values }
    }
}

/// Joins the cases with equal weight.
fn pool<'a>(cases: impl Iterator<Item = &'a Foreground>) -> Intensities {
    let (mut mean, mut square, mut count) = (0.0, 0.0, 0.0);
    let mut values: Vec<(f32, f64)> = Vec::new();
    for case in cases {
        mean += case.mean;
        square += case.square;
        count += 1.0;
        let weight = 1.0 / case.quantiles.len() as f64;
        values.extend(case.quantiles.iter().map(|&value| (value, weight)));
    }
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mean, square) = (mean / count, square / count);
    let quantile = |share: f64| {
        let mut before = 0.0;
        let reached = |(_, weight): &&(f32, f64)| {
            before += weight;
            before >= share * count
        };
        f64::from(values.iter().find(reached).or(values.last()).map_or(0.0, |(value, _)| *value))
    };
    Intensities {
        mean: rounded(mean),
        median: rounded(quantile(0.5)),
        std: rounded((square - mean * mean).max(0.0).sqrt()),
        min: rounded(quantile(0.0)),
        max: rounded(quantile(1.0)),
        percentile_00_5: rounded(quantile(0.005)),
        percentile_99_5: rounded(quantile(0.995)),
    }
}

fn share(crop: &CropBox, shape: [usize; 3]) -> f64 {
    crop.shape.iter().product::<usize>() as f64 / shape.iter().product::<usize>() as f64
}
