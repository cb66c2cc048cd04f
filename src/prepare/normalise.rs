//! Brings the intensities of one channel to a common scale.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the intensities of one channel are brought to a common scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Normalisation {
    /// Subtract mean and divide by standard deviation of the case: over the whole volume, or over the region
    /// of interest / the non-zero voxels where `masked`.
    ZScore {
        /// Statistics from, and applied to, the voxels inside the mask only; outside becomes 0.
        masked: bool,
    },
    /// CT: clip to the data set's foreground percentiles, subtract its foreground mean, divide by its
    /// foreground standard deviation.
    Ct {
        /// 0.5th percentile of foreground voxels, Hounsfield units.
        lower: f64,
        /// 99.5th percentile.
        upper: f64,
        /// Mean of foreground voxels.
        mean: f64,
        /// Standard deviation of foreground voxels.
        std: f64,
    },
    /// Divide by 255; for photographs and microscopy with values in 0..=255 (channel name `rgb_to_0_1`).
    Rgb,
    /// Shift and scale the case to the range 0..=1 (channel name `rescale_to_0_1`).
    Rescale,
    /// Leave the values as they are (channel name `noNorm`).
    None,
}

/// Sums are taken over pieces of this size and joined in order, so that they are equal for any number of threads.
const CHUNK: usize = 1 << 16;
/// A standard deviation is never taken to be smaller, so that a constant image becomes 0.
const SMALLEST_STD: f64 = 1e-8;

/// Normalises `values` in place. `inside` marks the voxels (not 0) from which a masked z-score, or any z-score
/// where `region` is given, takes its statistics.
///
/// # Errors
/// Where values cannot be what the scheme says.
pub(super) fn normalise(
    values: &mut [f32],
    scheme: &Normalisation,
    nonzero: Option<&[u8]>,
    region: Option<&[u8]>,
    path: &Path,
) -> Result<()> {
    match scheme {
        Normalisation::ZScore { masked } => {
            let inside = region.or(if *masked { nonzero } else { None });
            let (mean, std) = moments(values, inside);
            shift_and_scale(values, inside, mean, std);
        }
        Normalisation::Ct { lower, upper, mean, std } => {
            values.par_chunks_mut(CHUNK).for_each(|chunk| {
                chunk.iter_mut().for_each(|v| *v = v.clamp(*lower as f32, *upper as f32));
            });
            shift_and_scale(values, None, *mean, *std);
        }
        Normalisation::Rescale => {
            let (low, high) = range(values, region);
            shift_and_scale(values, None, f64::from(low), f64::from(high - low));
        }
        Normalisation::Rgb => {
            let (low, high) = range(values, None);
            if low < 0.0 || high > 255.0 {
                return Err(Error::invalid(
                    path,
                    "voxels",
                    format!("values from {low} to {high} in a channel that is normalised as RGB"),
                    "such a channel holds 0..=255; give it another name than `rgb_to_0_1` in dataset.json, or set \
                     `plan.normalisation`",
                ));
            }
            shift_and_scale(values, None, 0.0, 255.0);
        }
        Normalisation::None => {}
    }
    if let Some(region) = region {
        for (value, inside) in values.iter_mut().zip(region) {
            if *inside == 0 {
                *value = 0.0;
            }
        }
    }
    Ok(())
}

fn shift_and_scale(values: &mut [f32], inside: Option<&[u8]>, mean: f64, std: f64) {
    let (mean, scale) = (mean as f32, (1.0 / std.max(SMALLEST_STD)) as f32);
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(number, chunk)| match inside {
        None => chunk.iter_mut().for_each(|v| *v = (*v - mean) * scale),
        Some(inside) => {
            for (v, inside) in chunk.iter_mut().zip(&inside[number * CHUNK..]) {
                if *inside != 0 {
                    *v = (*v - mean) * scale;
                }
            }
        }
    });
}

/// Mean and population standard deviation.
fn moments(values: &[f32], inside: Option<&[u8]>) -> (f64, f64) {
    let sum = |of: &(dyn Fn(f32) -> f64 + Sync)| -> (f64, u64) {
        let chunks: Vec<(f64, u64)> = values
            .par_chunks(CHUNK)
            .enumerate()
            .map(|(number, chunk)| match inside {
                None => (chunk.iter().map(|&v| of(v)).sum(), chunk.len() as u64),
                Some(inside) => chunk
                    .iter()
                    .zip(&inside[number * CHUNK..])
                    .filter(|(_, inside)| **inside != 0)
                    .fold((0.0, 0), |(sum, count), (&v, _)| (sum + of(v), count + 1)),
            })
            .collect();
        chunks.into_iter().fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    };
    let (total, count) = sum(&f64::from);
    let mean = total / count.max(1) as f64;
    let (squares, _) = sum(&|v| (f64::from(v) - mean).powi(2));
    (mean, (squares / count.max(1) as f64).sqrt())
}

fn range(values: &[f32], inside: Option<&[u8]>) -> (f32, f32) {
    let join = |(low, high): (f32, f32), &v: &f32| (low.min(v), high.max(v));
    let start = (f32::INFINITY, f32::NEG_INFINITY);
    match inside {
        None => values.iter().fold(start, join),
        Some(inside) => values.iter().zip(inside).filter(|(_, i)| **i != 0).map(|(v, _)| v).fold(start, join),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: &[f32], scheme: Normalisation, nonzero: Option<&[u8]>, region: Option<&[u8]>) -> Vec<f32> {
        let mut values = values.to_vec();
        normalise(&mut values, &scheme, nonzero, region, Path::new("a.nii")).expect("normalises");
        values
    }

    #[test]
    fn z_scores_have_mean_zero_and_deviation_one() {
        let values = [1.0, 2.0, 3.0, 6.0];
        let (mean, std) = (3.0f32, 3.5f32.sqrt());
        let expected: Vec<f32> = values.iter().map(|v| (v - mean) / std).collect();
        let ours = run(&values, Normalisation::ZScore { masked: false }, Some(&[1, 1, 0, 0]), None);
        assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?}");
    }

    #[test]
    fn a_mask_limits_the_statistics_and_a_region_also_clears_its_outside() {
        let values = [1.0, 3.0, 0.0, 50.0];
        let masked = Normalisation::ZScore { masked: true };
        assert_eq!(run(&values, masked.clone(), Some(&[1, 1, 0, 0]), None), [-1.0, 1.0, 0.0, 50.0]);
        assert_eq!(run(&values, masked, None, Some(&[1, 1, 0, 0])), [-1.0, 1.0, 0.0, 0.0]);
        let unmasked = Normalisation::ZScore { masked: false };
        assert_eq!(run(&values, unmasked, None, Some(&[1, 1, 0, 0])), [-1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn ct_is_clipped_before_it_is_scaled() {
        let ct = Normalisation::Ct { lower: -100.0, upper: 300.0, mean: 100.0, std: 200.0 };
        assert_eq!(run(&[-1000.0, 0.0, 900.0], ct, None, None), [-1.0, -0.5, 1.0]);
    }

    #[test]
    fn constants_become_zero_and_named_ranges_are_kept() {
        assert_eq!(run(&[5.0; 3], Normalisation::ZScore { masked: false }, None, None), [0.0; 3]);
        assert_eq!(run(&[-1.0, 0.0, 3.0], Normalisation::Rescale, None, None), [0.0, 0.25, 1.0]);
        assert_eq!(run(&[0.0, 255.0], Normalisation::Rgb, None, None), [0.0, 1.0]);
        assert_eq!(run(&[7.0, -7.0], Normalisation::None, None, None), [7.0, -7.0]);
        let error = normalise(&mut [256.0], &Normalisation::Rgb, None, None, Path::new("photo.nii"));
        assert!(error.is_err_and(|e| e.to_string().contains("photo.nii")));
    }
}
