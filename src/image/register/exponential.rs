//! The exponential of a stationary velocity field, by scaling and squaring.
//!
//! Arsigny, Commowick, Pennec, Ayache, *A Log-Euclidean Framework for Statistics on Diffeomorphisms*, MICCAI 2006.

use rayon::prelude::*;

use super::sample::Lattice;
use crate::image::vectorised::vectorised;

/// A vector in voxels per voxel; the fourth number is unused and makes a vector as wide as a register.
pub(super) type Vectors = Vec<[f32; 4]>;

/// Longest motion, in voxels along one axis, that may be taken as one step.
const LONGEST: f32 = 0.5;

/// The displacement `u` in voxels with `x + u(x) = exp(velocity)(x)`, on the same grid (x, y, z; z fastest).
///
/// `velocity` is in voxels; beyond the grid its edge values go on. It is halved `squarings` times, or, where that is
/// `None`, until no vector is longer than half a voxel along any axis.
pub fn exponential(velocity: &[[f32; 4]], shape: [usize; 3], squarings: Option<u32>) -> Vec<[f32; 4]> {
    let mut out = Vec::new();
    exponential_into(velocity, shape, squarings, 1.0, &mut out, &mut Vec::new());
    out
}

/// The same for `factor * velocity`, in memory that is used again.
pub(super) fn exponential_into(
    velocity: &[[f32; 4]],
    shape: [usize; 3],
    squarings: Option<u32>,
    factor: f32,
    out: &mut Vectors,
    scratch: &mut Vectors,
) {
    let squarings = squarings.unwrap_or_else(|| {
        let longest = longest(velocity) * factor.abs();
        // 30 halvings of a field that is no number or infinite change nothing either.
        (0..30).find(|&n| longest / (1u32 << n) as f32 <= LONGEST).unwrap_or(30)
    });
    let scale = factor / (1u32 << squarings) as f32;
    out.clear();
    out.extend(velocity.iter().map(|vector| vector.map(|value| value * scale)));
    scratch.resize(out.len(), [0.0; 4]);
    for _ in 0..squarings {
        compose(out, out, shape, scratch);
        std::mem::swap(out, scratch);
    }
}

/// The largest absolute component.
pub(super) fn longest(field: &[[f32; 4]]) -> f32 {
    field.iter().flatten().fold(0.0, |longest: f32, value| longest.max(value.abs()))
}

/// `out(x) = first(x) + second(x + first(x))`: first one displacement, then the other, all in voxels of one grid.
pub(super) fn compose(first: &[[f32; 4]], second: &[[f32; 4]], shape: [usize; 3], out: &mut [[f32; 4]]) {
    let lattice = Lattice::new(shape);
    let plane = shape[1] * shape[2];
    out.par_chunks_mut(plane).zip(first.par_chunks(plane)).enumerate().for_each(|(x, (out, first))| {
        vectorised(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(shape[2]).zip(first.chunks_exact(shape[2]));
                for (y, (out, first)) in rows.enumerate() {
                    for (z, (out, u)) in out.iter_mut().zip(first).enumerate() {
                        let corner = lattice.corner([x as f32 + u[0], y as f32 + u[1], z as f32 + u[2]]);
                        let there = corner.vector(second);
                        for lane in 0..4 {
                            out[lane] = u[lane] + there[lane];
                        }
                    }
                }
            },
        );
    });
}

/// The smallest determinant of `I + grad u` for a displacement in voxels, and the share of voxels where it is not
/// above 0. Differences are central, at the edge one-sided.
pub(super) fn smallest_determinant(field: &[[f32; 4]], shape: [usize; 3]) -> (f64, f64) {
    let determinants = determinants(field, shape, [1.0; 3]);
    let smallest = determinants.iter().copied().fold(f32::INFINITY, f32::min);
    let folded = determinants.iter().filter(|&&value| value <= 0.0).count();
    (f64::from(smallest), folded as f64 / determinants.len().max(1) as f64)
}

/// The determinant of the derivative of `x + u(x)` at every voxel; `u` and `spacing` in the same unit.
pub(super) fn determinants(field: &[[f32; 4]], shape: [usize; 3], spacing: [f64; 3]) -> Vec<f32> {
    let strides = [shape[1] * shape[2], shape[2], 1];
    let mut out = vec![0.0; field.len()];
    out.par_chunks_mut(strides[0]).enumerate().for_each(|(x, out)| {
        for (at, out) in out.iter_mut().enumerate() {
            let index = [x, at / shape[2], at % shape[2]];
            let here = x * strides[0] + at;
            let mut rows = [[0.0; 3]; 3];
            for axis in 0..3 {
                let below = if index[axis] > 0 { here - strides[axis] } else { here };
                let above = if index[axis] + 1 < shape[axis] { here + strides[axis] } else { here };
                let distance = ((above - below) / strides[axis]) as f64 * spacing[axis];
                for component in 0..3 {
                    let difference = f64::from(field[above][component]) - f64::from(field[below][component]);
                    rows[component][axis] = if distance > 0.0 { difference / distance } else { 0.0 };
                }
                rows[axis][axis] += 1.0;
            }
            *out = super::matrix::determinant(&rows) as f32;
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_nothing_and_shifts_add_up() {
        let shape = [4, 1, 3];
        assert!(exponential(&[[0.0; 4]; 12], shape, None).iter().flatten().all(|&value| value == 0.0));
        let shift = [[1.75, 0.0, -0.5, 0.0]; 12];
        assert_eq!(exponential(&shift, shape, None), shift);
        assert_eq!(smallest_determinant(&shift, shape), (1.0, 0.0));
    }

    #[test]
    fn a_folded_field_is_seen() {
        let field: Vec<[f32; 4]> = (0..5).map(|x| [-1.5 * x as f32, 0.0, 0.0, 0.0]).collect();
        let (smallest, folded) = smallest_determinant(&field, [5, 1, 1]);
        assert!((smallest + 0.5).abs() < 1e-6 && folded == 1.0);
    }
}
