//! One affine map per patch: where each of its voxels lies in the sample.
//!
//! Coordinates are fixed-point numbers with 32 fractional bits: exact for every integer position, so that a
//! draw without interpolation copies voxels, and the same wherever a window of the sample begins.

use std::ops::Range;

use crate::network::Grid;

/// Voxels per unit of a fixed-point coordinate.
pub(super) const ONE: i64 = 1 << 32;

/// A linear map from offsets about the patch centre to offsets in the sample, in voxels; a matrix of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine(pub [[f64; 3]; 3]);

impl Affine {
    /// Leaves every voxel where it is.
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    /// The map of two operations applied to an image, `self` first and then `next`: the result looks up
    /// `next`'s position and asks `self` what lies there, hence the product `self * next`.
    pub fn then(&self, next: &Self) -> Self {
        Self(std::array::from_fn(|row| {
            std::array::from_fn(|column| (0..3).map(|k| self.0[row][k] * next.0[k][column]).sum())
        }))
    }

    /// Rz * Ry * Rx for right-handed rotations of the coordinates about x, y and z, in degrees.
    pub fn rotation(degrees: [f64; 3]) -> Self {
        let [(sx, cx), (sy, cy), (sz, cz)] = degrees.map(|angle| angle.to_radians().sin_cos());
        let about_x = Self([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]]);
        let about_y = Self([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]]);
        let about_z = Self([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]]);
        about_z.then(&about_y).then(&about_x)
    }

    /// Multiplies coordinates by a factor each: above 1 makes objects smaller.
    pub fn scaling(factors: [f64; 3]) -> Self {
        let mut matrix = Self::IDENTITY;
        for (axis, factor) in factors.into_iter().enumerate() {
            matrix.0[axis][axis] = factor;
        }
        matrix
    }

    /// The map back; `None` of a map that loses a direction.
    pub fn inverse(&self) -> Option<Self> {
        let m = &self.0;
        // Adjugate over determinant: of turns by right angles and mirror images it is exact.
        let minor = |row: usize, column: usize| {
            let [r, s] = [(row + 1) % 3, (row + 2) % 3];
            let [c, d] = [(column + 1) % 3, (column + 2) % 3];
            m[r][c] * m[s][d] - m[r][d] * m[s][c]
        };
        let determinant: f64 = (0..3).map(|column| m[0][column] * minor(0, column)).sum();
        let inverse =
            std::array::from_fn(|row| std::array::from_fn(|column| minor(column, row) / determinant));
        (determinant.abs() > 1e-9).then_some(Self(inverse))
    }

    /// Reverses the marked axes.
    pub fn mirror(axes: [bool; 3]) -> Self {
        Self::scaling(axes.map(|mirrored| if mirrored { -1.0 } else { 1.0 }))
    }
}

/// Where each voxel of one patch lies in the sample, in fixed point.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) patch: [usize; 3],
    /// Coordinates of patch voxel (0, 0, 0).
    pub(super) base: [i64; 3],
    /// `step[e]`: how the coordinates change from one patch voxel to the next along patch axis `e`.
    pub(super) step: [[i64; 3]; 3],
}

impl Map {
    pub(super) fn new(affine: &Affine, shift: [f64; 3], start: [i64; 3], patch: [usize; 3]) -> Self {
        let step: [[i64; 3]; 3] = std::array::from_fn(|e| {
            std::array::from_fn(|axis| (affine.0[axis][e] * ONE as f64).round() as i64)
        });
        let base = std::array::from_fn(|axis| {
            let extent = |e: usize| patch[e] as i64 - 1;
            let swept: i64 = (0..3).map(|e| step[e][axis] * extent(e)).sum();
            let shift = (shift[axis] * ONE as f64).round() as i64;
            start[axis] * ONE + ((extent(axis) * ONE - swept) >> 1) + shift
        });
        Self { patch, base, step }
    }

    /// The same map for the voxels of a grid about the patch: where both have a voxel, the same coordinates.
    pub(super) fn on(&self, grid: &Grid) -> Self {
        let base = std::array::from_fn(|axis| {
            self.base[axis] + (0..3).map(|e| self.step[e][axis] * grid.start[e]).sum::<i64>()
        });
        let step = std::array::from_fn(|e| self.step[e].map(|step| step * grid.stride[e] as i64));
        Self { patch: grid.shape, base, step }
    }

    /// Coordinates of the first voxel of patch row (i, j).
    pub(super) fn row(&self, i: usize, j: usize) -> [i64; 3] {
        let [i, j] = [i as i64, j as i64];
        std::array::from_fn(|axis| self.base[axis] + i * self.step[0][axis] + j * self.step[1][axis])
    }

    /// Whether every patch voxel falls onto a voxel position: then nothing is interpolated.
    pub(super) fn is_lattice(&self) -> bool {
        let whole = |coordinate: &i64| coordinate % ONE == 0;
        self.base.iter().all(whole) && self.step.iter().flatten().all(whole)
    }

    /// First voxel, and the one after the last, that the patch sees along each axis. An identity map sees no voxel
    /// that it does not copy.
    pub(super) fn bounds(&self) -> [[i64; 3]; 2] {
        // A linear map takes its extremes at corners, and each axis of the patch moves them by itself.
        let (mut low, mut high) = (self.base, self.base);
        for axis in 0..3 {
            for e in 0..3 {
                let swept = self.step[e][axis] * (self.patch[e] as i64 - 1);
                low[axis] += swept.min(0);
                high[axis] += swept.max(0);
            }
        }
        [low.map(|at| at >> 32), high.map(|at| ((at + ONE - 1) >> 32) + 1)]
    }

    /// The same map for a block that begins at voxel `start`.
    pub(super) fn moved(&self, start: [usize; 3]) -> Self {
        Self { base: std::array::from_fn(|axis| self.base[axis] - start[axis] as i64 * ONE), ..self.clone() }
    }

    /// Whether every sample axis depends on the patch axis of the same name alone.
    pub(super) fn is_diagonal(&self) -> bool {
        (0..3).all(|e| (0..3).all(|axis| e == axis || self.step[e][axis] == 0))
    }

    /// Which voxels k of a row have `low <= coordinate + k * step < high` on all axes.
    pub(super) fn span(&self, row: [i64; 3], bounds: impl Fn(usize) -> Range<i64>) -> Range<usize> {
        let mut span = 0..self.patch[2] as i64;
        for axis in 0..3 {
            let Range { start: low, end: high } = bounds(axis);
            let (first, step) = (row[axis], self.step[2][axis]);
            let inside = match step {
                0 if (low..high).contains(&first) => continue,
                0 => return 0..0,
                // k >= ceil((low - first) / step) and k < ceil((high - first) / step)
                1.. => ceil_div(low - first, step)..ceil_div(high - first, step),
                // Mirrored: k > (high - first) / step and k <= (low - first) / step
                _ => ceil_div(first - high + 1, -step)..ceil_div(first - low + 1, -step),
            };
            span = span.start.max(inside.start)..span.end.min(inside.end);
        }
        if span.is_empty() { 0..0 } else { span.start as usize..span.end as usize }
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    -((-a).div_euclid(b))
}
