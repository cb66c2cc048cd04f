//! Resampling between voxel grids of one extent: images by cubic B-splines, labels without inventing any.
//!
//! The convention is nnU-Net's: both grids cover the same box, so output voxel `j` of `m` lies at input
//! coordinate `(j + 1/2) n / m - 1/2` of `n`; outside the first and last centre the edge value goes on for ever.
//! No smoothing precedes down-sampling, and images are clipped to the range that they had. Where one axis is
//! more than three times as coarse as the finest one (`separate_axis`), slices are interpolated in their plane
//! only and the nearest slice is taken across.

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, Axis, Zip};

mod spline;
mod taps;

pub(crate) use taps::{Taps, linear, nearest};

/// How much coarser than the finest axis the coarsest must be to be resampled by itself (nnU-Net).
pub const ANISOTROPY: f64 = 3.0;

/// The axis across which slices are not interpolated: the coarsest axis of `from`, or else of `to`, where that
/// grid is anisotropic by more than [`ANISOTROPY`] and the axis is the only one as coarse. Millimetres.
pub fn separate_axis(from: [f64; 3], to: [f64; 3]) -> Option<usize> {
    let anisotropic = |spacing: &[f64; 3]| largest(spacing) / smallest(spacing) > ANISOTROPY;
    let spacing = [from, to].into_iter().find(anisotropic)?;
    let coarsest: Vec<usize> = (0..3).filter(|&axis| largest(&spacing) / spacing[axis] == 1.0).collect();
    match coarsest[..] {
        [axis] => Some(axis),
        _ => None,
    }
}

/// The number of voxels that cover the same box at another spacing; at least one along each axis.
pub fn resampled_shape(shape: [usize; 3], from: [f64; 3], to: [f64; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| {
        ((from[axis] / to[axis] * shape[axis] as f64).round_ties_even() as usize).max(1)
    })
}

/// Cubic B-spline interpolation onto `shape` voxels of the same box; standard layout.
///
/// With `separate_axis`, cubic in the plane of the slices, nearest across. Values are clipped to the range of
/// the input (of each slice, with `separate_axis`). Where the shape is the same, the input is copied unchanged.
/// Equal for any number of threads.
pub fn resample_image(
    voxels: ArrayView3<'_, f32>,
    shape: [usize; 3],
    separate_axis: Option<usize>,
) -> Array3<f32> {
    let from: [usize; 3] = voxels.dim().into();
    let mut axes: Vec<usize> =
        (0..3).filter(|&axis| shape[axis] != from[axis] && Some(axis) != separate_axis).collect();
    // The axis that shrinks most comes first, so that the later passes have less to do.
    let growth = |axis: usize| shape[axis] as f64 / from[axis] as f64;
    axes.sort_by(|&a, &b| growth(a).total_cmp(&growth(b)));

    let mut result: Option<Array3<f32>> = None;
    for &axis in &axes {
        let source = result.as_ref().map_or(voxels, |array| array.view());
        result = Some(spline::resample_axis(source, axis, shape[axis]));
    }
    if let Some(result) = &mut result {
        clip(result, voxels, separate_axis);
    }
    match separate_axis {
        Some(axis) if shape[axis] != from[axis] => {
            let slices = nearest(from[axis], shape[axis]);
            result.as_ref().map_or(voxels, |array| array.view()).select(Axis(axis), &slices)
        }
        _ => result.unwrap_or_else(|| voxels.as_standard_layout().into_owned()),
    }
}

/// Labels on `shape` voxels of the same box; standard layout. No value appears that is not there.
///
/// Every voxel takes the label whose indicator, interpolated linearly, is largest there. Where several are
/// equally large it is the label of the nearest voxel if that is one of them, otherwise the smallest of them.
pub fn resample_labels(
    voxels: ArrayView3<'_, u8>,
    shape: [usize; 3],
    separate_axis: Option<usize>,
) -> Array3<u8> {
    let from: [usize; 3] = voxels.dim().into();
    if from == shape {
        return voxels.as_standard_layout().into_owned();
    }
    let taps: [Taps; 3] = std::array::from_fn(|axis| {
        if Some(axis) == separate_axis {
            Taps::nearest(from[axis], shape[axis])
        } else {
            linear(from[axis], shape[axis])
        }
    });
    let source = voxels.as_standard_layout();
    let mut result = Array3::zeros(shape);
    result.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(x, mut plane)| {
        for y in 0..shape[1] {
            let rows = [0, 1, 2, 3].map(|corner| {
                let (x, y) = (taps[0].index(x, corner >> 1), taps[1].index(y, corner & 1));
                source.slice(ndarray::s![x, y, ..])
            });
            let weights =
                [0, 1, 2, 3].map(|corner| taps[0].weight(x, corner >> 1) * taps[1].weight(y, corner & 1));
            for z in 0..shape[2] {
                let (lower, upper) = (taps[2].index(z, 0), taps[2].index(z, 1));
                let first = rows[0][lower];
                if rows.iter().all(|row| row[lower] == first && row[upper] == first) {
                    plane[[y, z]] = first;
                    continue;
                }
                let mut votes = Votes::default();
                for (row, weight) in rows.iter().zip(weights) {
                    votes.add(row[lower], weight * taps[2].weight(z, 0));
                    votes.add(row[upper], weight * taps[2].weight(z, 1));
                }
                let nearest = source[[taps[0].nearest[x], taps[1].nearest[y], taps[2].nearest[z]]];
                plane[[y, z]] = votes.winner(nearest);
            }
        }
    });
    result
}

/// The interpolated indicators of the at most eight labels around a point.
#[derive(Default)]
struct Votes {
    labels: [u8; 8],
    scores: [f64; 8],
    count: usize,
}

impl Votes {
    fn add(&mut self, label: u8, weight: f64) {
        let seen = self.labels[..self.count].iter().position(|&other| other == label);
        let place = seen.unwrap_or(self.count);
        self.count = self.count.max(place + 1);
        self.labels[place] = label;
        self.scores[place] += weight;
    }

    fn winner(&self, nearest: u8) -> u8 {
        // Scores are sums of at most eight products: rounding stays far below this, real differences above.
        const EQUAL: f64 = 1e-9;
        let votes = || self.labels.iter().zip(&self.scores).take(self.count);
        let best = votes().map(|(_, &score)| score).fold(0.0, f64::max);
        let leading = || votes().filter(|&(_, &score)| score > best - EQUAL).map(|(&label, _)| label);
        if leading().any(|label| label == nearest) { nearest } else { leading().min().unwrap_or(nearest) }
    }
}

fn clip(result: &mut Array3<f32>, source: ArrayView3<'_, f32>, separate_axis: Option<usize>) {
    let range = |values: &mut dyn Iterator<Item = f32>| {
        values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    match separate_axis {
        Some(axis) => {
            Zip::from(result.axis_iter_mut(Axis(axis))).and(source.axis_iter(Axis(axis))).par_for_each(
                |mut slice, source| {
                    let (low, high) = range(&mut source.iter().copied());
                    slice.mapv_inplace(|v| v.clamp(low, high));
                },
            );
        }
        None => {
            let (low, high) = source
                .axis_iter(Axis(0))
                .into_par_iter()
                .map(|plane| range(&mut plane.iter().copied()))
                .reduce(|| (f32::INFINITY, f32::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)));
            result.par_mapv_inplace(|v| v.clamp(low, high));
        }
    }
}

fn largest(values: &[f64; 3]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn smallest(values: &[f64; 3]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
