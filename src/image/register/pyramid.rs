//! The coarser levels of an image.

use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

use super::{Frame, Images};
use crate::image::gaussian::smooth;

/// At most so many levels.
const LEVELS: usize = 3;
/// An axis is not made shorter than so many voxels.
const SHORTEST: usize = 16;

/// By how much each axis is shrunk at each level, the coarsest first; the last are all 1.
///
/// Each coarser level halves every axis whose spacing is at most 1.5 times the smallest of the level below and that
/// keeps 16 voxels.
pub(super) fn factors(frame: Frame) -> Vec<[usize; 3]> {
    let mut levels = vec![[1; 3]];
    while levels.len() < LEVELS {
        let last = levels[0];
        let below = shrunk(frame, last);
        let finest = below.finest();
        let next: [usize; 3] = std::array::from_fn(|axis| {
            let near = below.spacing[axis] <= 1.5 * finest;
            let long = below.shape[axis].div_ceil(2) >= SHORTEST;
            if near && long { last[axis] * 2 } else { last[axis] }
        });
        if next == last {
            break;
        }
        levels.insert(0, next);
    }
    levels
}

/// The box at a level: spacing times the factor, about the same centre.
pub(super) fn shrunk(frame: Frame, factor: [usize; 3]) -> Frame {
    Frame {
        shape: std::array::from_fn(|axis| frame.shape[axis].div_ceil(factor[axis])),
        spacing: std::array::from_fn(|axis| frame.spacing[axis] * factor[axis] as f64),
    }
}

/// The factors by which `moving` is shrunk to match a fixed image at a level of `finest` mm: powers of 2, and never
/// coarser than the fixed one.
pub(super) fn matching(moving: Frame, finest: f64) -> [usize; 3] {
    std::array::from_fn(|axis| {
        let mut factor = 1;
        while factor < 1 << (LEVELS - 1)
            && moving.spacing[axis] * (2 * factor) as f64 <= 1.2 * finest
            && moving.shape[axis].div_ceil(2 * factor) >= 2
        {
            factor *= 2;
        }
        factor
    })
}

/// One level: every channel is smoothed by a Gaussian of half the factor in voxels along the axes that are shrunk,
/// read linearly at the centres of the coarser voxels, and brought to mean 0 and variance 1 (constants to 0).
pub(super) fn level(images: &Images, factor: [usize; 3]) -> Images {
    let frame = shrunk(images.frame(), factor);
    let [x, y, z] = frame.shape;
    let mut channels = ndarray::Array4::zeros((images.len(), x, y, z));
    for (channel, mut out) in channels.outer_iter_mut().enumerate() {
        let mut small = shrink(images.channel(channel), factor, frame.shape);
        standardise(&mut small);
        out.assign(&small);
    }
    Images { channels, spacing: frame.spacing }
}

fn shrink(volume: ArrayView3<'_, f32>, factor: [usize; 3], shape: [usize; 3]) -> Array3<f32> {
    if factor == [1; 3] {
        return volume.as_standard_layout().into_owned();
    }
    let (nx, ny, nz) = volume.dim();
    let sigma = factor.map(|factor| if factor > 1 { 0.5 * factor as f64 } else { 0.0 });
    let smoothed = smooth(volume, sigma);
    // Where the centres of coarse voxels lie among the fine ones: two neighbours and the weight of the second.
    let [along_x, along_y, along_z]: [Vec<(usize, usize, f32)>; 3] = std::array::from_fn(|axis| {
        let fine = [nx, ny, nz][axis];
        (0..shape[axis])
            .map(|at| {
                let middle = (at as f64 - (shape[axis] as f64 - 1.0) / 2.0) * factor[axis] as f64;
                let at = (middle + (fine as f64 - 1.0) / 2.0).clamp(0.0, fine as f64 - 1.0);
                let below = at.floor() as usize;
                (below, (below + 1).min(fine - 1), (at - at.floor()) as f32)
            })
            .collect()
    });
    let mut out = Array3::zeros((shape[0], shape[1], shape[2]));
    let lerp = |a: f32, b: f32, w: f32| a + (b - a) * w;
    for ((x, y, z), value) in out.indexed_iter_mut() {
        let (x0, x1, wx) = along_x[x];
        let (y0, y1, wy) = along_y[y];
        let (z0, z1, wz) = along_z[z];
        let line = |x: usize, y: usize| lerp(smoothed[[x, y, z0]], smoothed[[x, y, z1]], wz);
        *value = lerp(lerp(line(x0, y0), line(x0, y1), wy), lerp(line(x1, y0), line(x1, y1), wy), wx);
    }
    out
}

/// To mean 0 and variance 1; a constant becomes 0.
fn standardise(volume: &mut Array3<f32>) {
    let plane = volume.len() / volume.dim().0.max(1);
    let Some(values) = volume.as_slice_mut().filter(|values| !values.is_empty()) else {
        return;
    };
    // Sums of planes, added in their order: the same for any number of threads.
    let sums: Vec<f64> =
        values.par_chunks(plane).map(|plane| plane.iter().map(|&v| f64::from(v)).sum()).collect();
    let mean = sums.iter().sum::<f64>() / values.len() as f64;
    let squares: Vec<f64> = values
        .par_chunks(plane)
        .map(|plane| plane.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum())
        .collect();
    let deviation = (squares.iter().sum::<f64>() / values.len() as f64).sqrt();
    // What is smaller than the rounding of the values is no contrast.
    let scale = if deviation > 1e-6 * mean.abs() { 1.0 / deviation } else { 0.0 };
    values.par_chunks_mut(plane).for_each(|plane| {
        for value in plane {
            *value = ((f64::from(*value) - mean) * scale) as f32;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_halve_the_fine_axes_alone() {
        let of = |shape, spacing| factors(Frame { shape, spacing });
        assert_eq!(of([36, 50, 36], [1.0; 3]), [[2; 3], [1; 3]]);
        assert_eq!(of([128; 3], [1.0; 3]), [[4; 3], [2; 3], [1; 3]]);
        assert_eq!(of([240, 240, 30], [1.0, 1.0, 5.0]), [[4, 4, 1], [2, 2, 1], [1, 1, 1]]);
        assert_eq!(of([1, 1, 1], [1.0; 3]), [[1; 3]]);
        assert_eq!(of([64, 64, 1], [1.0, 1.0, 0.1]), [[4, 4, 1], [2, 2, 1], [1, 1, 1]]);
    }

    #[test]
    fn a_ramp_keeps_its_centre_and_slope() {
        for edge in [32, 33, 35] {
            let channels =
                ndarray::Array4::from_shape_fn((1, edge, edge, 3), |(_, x, y, _)| 2.0 * x as f32 - y as f32);
            let small = shrink(
                channels.index_axis(ndarray::Axis(0), 0),
                [4, 4, 1],
                [edge.div_ceil(4), edge.div_ceil(4), 3],
            );
            let middle = edge.div_ceil(4) / 2;
            let point =
                (middle as f64 - (edge.div_ceil(4) as f64 - 1.0) / 2.0) * 4.0 + (edge as f64 - 1.0) / 2.0;
            assert!((f64::from(small[[middle, middle, 1]]) - point).abs() < 0.02, "edge {edge}");
            assert!((small[[middle, middle, 1]] - small[[middle - 1, middle, 1]] - 8.0).abs() < 0.05);
        }
    }

    #[test]
    fn constants_become_zero_and_others_have_variance_one() {
        let constant = Images { channels: ndarray::Array4::from_elem((1, 5, 4, 3), 1e4), spacing: [1.0; 3] };
        assert!(level(&constant, [1; 3]).channels.iter().all(|&value| value == 0.0));
        let ramp = Images {
            channels: ndarray::Array4::from_shape_fn((1, 5, 4, 3), |(_, x, _, _)| 1000.0 + x as f32),
            spacing: [1.0; 3],
        };
        let values = level(&ramp, [1; 3]).channels;
        assert!(values.sum().abs() < 1e-3 && (values.mapv(|v| v * v).sum() / 60.0 - 1.0).abs() < 1e-4);
    }
}
