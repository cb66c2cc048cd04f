//! Cubic B-spline interpolation along one axis (Unser, IEEE Signal Processing Magazine 1999).
//!
//! Interpolation needs the spline coefficients `c` with `(c[k-1] + 4 c[k] + c[k+1]) / 6 = x[k]`. They follow from
//! one pass up and one pass down each line with the pole `z = sqrt(3) - 2`. The signal goes on for ever with its
//! edge values; the geometric series that this starts on both ends are summed in closed form, so nothing is
//! padded.

use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis, Zip};

use super::taps::coordinate;

/// Lines that are filtered together: neighbours in memory, one SIMD lane each.
const LANES: usize = 32;
/// Coefficients kept beyond either end of a line, as far as the four-point support reaches.
const MARGIN: usize = 2;
const POLE: f32 = -0.267_949_2;
const GAIN: f32 = 6.0;

type Lanes = [f32; LANES];

/// `voxels` with `to` voxels along `axis`.
pub(super) fn resample_axis(voxels: ArrayView3<'_, f32>, axis: usize, to: usize) -> Array3<f32> {
    let weights = weights(voxels.len_of(Axis(axis)), to);
    let mut shape: [usize; 3] = voxels.dim().into();
    shape[axis] = to;
    let mut result = Array3::zeros(shape);
    let across = Axis(usize::from(axis == 0));
    Zip::from(voxels.axis_iter(across)).and(result.axis_iter_mut(across)).par_for_each(|source, target| {
        if axis == 2 {
            resample_lines(source.reversed_axes(), target.reversed_axes(), &weights);
        } else {
            resample_lines(source, target, &weights);
        }
    });
    result
}

/// First coefficient (counted from `-MARGIN`) and the four weights for every output voxel.
fn weights(from: usize, to: usize) -> Vec<(usize, [f32; 4])> {
    let place = |j| {
        let at = coordinate(j, from, to);
        let floor = at.floor();
        let (f, g) = (at - floor, 1.0 - (at - floor));
        let weights = [
            g * g * g / 6.0,
            (4.0 - 6.0 * f * f + 3.0 * f * f * f) / 6.0,
            (4.0 - 6.0 * g * g + 3.0 * g * g * g) / 6.0,
            f * f * f / 6.0,
        ];
        ((floor as isize - 1 + MARGIN as isize) as usize, weights.map(|w| w as f32))
    };
    (0..to).map(place).collect()
}

/// Resamples the columns of `source` (lines run along axis 0) into `target`.
fn resample_lines(
    source: ArrayView2<'_, f32>,
    mut target: ArrayViewMut2<'_, f32>,
    weights: &[(usize, [f32; 4])],
) {
    let (from, lines) = source.dim();
    let mut coefficients = vec![[0.0; LANES]; from + 2 * MARGIN];
    for start in (0..lines).step_by(LANES) {
        let count = LANES.min(lines - start);
        for (row, coefficient) in source.rows().into_iter().zip(&mut coefficients[MARGIN..]) {
            let row = row.slice_move(ndarray::s![start..start + count]);
            for (lane, &value) in coefficient.iter_mut().zip(row) {
                *lane = GAIN * value;
            }
        }
        prefilter(&mut coefficients);
        for (&(first, weights), row) in weights.iter().zip(target.rows_mut()) {
            let support = &coefficients[first..first + 4];
            let value: Lanes = std::array::from_fn(|lane| {
                weights[0] * support[0][lane]
                    + weights[1] * support[1][lane]
                    + weights[2] * support[2][lane]
                    + weights[3] * support[3][lane]
            });
            for (out, value) in row.slice_move(ndarray::s![start..start + count]).into_iter().zip(value) {
                *out = value;
            }
        }
    }
}

/// Turns samples (times [`GAIN`], at `[MARGIN..len - MARGIN]`) into coefficients, margins included.
fn prefilter(line: &mut [Lanes]) {
    let z = POLE;
    let (first, last) = (MARGIN, line.len() - MARGIN - 1);
    let edge = line[last];
    // Upwards: u[k] = x[k] + z u[k-1], which settles to x / (1 - z) in front of the first sample.
    let before: Lanes = line[first].map(|x| x / (1.0 - z));
    line[first] = before;
    for k in first + 1..=last {
        let (done, rest) = line.split_at_mut(k);
        for (value, previous) in rest[0].iter_mut().zip(&done[k - 1]) {
            *value += z * previous;
        }
    }
    // Downwards: c[k] = z (c[k+1] - u[k]). Behind the last sample u[last + m] = s + z^m d with the settled value
    // s and the distance d to it, hence c[last + m] = -z (s / (1 - z) + z^m d / (1 - z^2)).
    let settled: Lanes = edge.map(|x| x / (1.0 - z));
    let distance: Lanes = std::array::from_fn(|lane| line[last][lane] - settled[lane]);
    for m in 0..=MARGIN {
        let power = z.powi(m as i32);
        line[last + m] = std::array::from_fn(|lane| {
            -z * (settled[lane] / (1.0 - z) + power * distance[lane] / (1.0 - z * z))
        });
    }
    for k in (0..last).rev() {
        let (rest, done) = line.split_at_mut(k + 1);
        let up = if k >= first { rest[k] } else { before };
        rest[k] = std::array::from_fn(|lane| z * (done[0][lane] - up[lane]));
    }
}
