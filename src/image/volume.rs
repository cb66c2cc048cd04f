//! Voxels and where they lie.
//!
//! Axis order is fixed here, once: arrays are (x, y, z) as in the file, and the affine maps voxel indices to
//! world millimetres with x to the right, y to the front and z to the top of the patient (RAS+, as in NIfTI).

use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};

/// Shape and position of a voxel grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Number of voxels along x, y, z.
    pub shape: [usize; 3],
    /// First three rows of the matrix from voxel index (i, j, k, 1) to world millimetres (RAS+).
    pub affine: [[f64; 4]; 3],
}

/// How two grids lie to each other, by [`Grid::fit`]; later ones fit worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// In the same place, up to a thousandth of a voxel: the rounding of headers.
    Same,
    /// Up to a tenth of a voxel apart: programs round differently, and nothing that is measured would change.
    Near,
    /// Up to half a voxel apart: each voxel still is the nearest to its counterpart, but something was shifted.
    Off,
    /// Farther apart, or of different shapes.
    Elsewhere,
}

/// A scalar per voxel of a [`Grid`]. The array may be in any memory order; readers keep the file's (x fastest).
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<T> {
    /// Indexed `[[x, y, z]]`.
    pub voxels: Array3<T>,
    /// Where the voxels lie; `grid.shape` equals `voxels.dim()`.
    pub grid: Grid,
}

/// Intensities of one channel.
pub type Image = Volume<f32>;
/// Class numbers.
pub type Labels = Volume<u8>;

/// How the axes of a grid lie in the patient: which array axis runs closest to each world axis, and whether
/// backwards. Every value is a signed permutation, so reorienting never changes a voxel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orientation {
    /// `axes[w]` is the array axis that runs along world axis `w` (0 right, 1 front, 2 top).
    pub axes: [usize; 3],
    /// `flipped[w]`: that array axis runs against world axis `w`.
    pub flipped: [bool; 3],
}

impl Grid {
    /// A grid at the world origin with the given spacing in millimetres and axes along the world's.
    pub fn with_spacing(shape: [usize; 3], spacing: [f64; 3]) -> Self {
        let mut affine = [[0.0; 4]; 3];
        for axis in 0..3 {
            affine[axis][axis] = spacing[axis];
        }
        Self { shape, affine }
    }

    /// Distance between neighbouring voxel centres along each array axis, in millimetres.
    pub fn spacing(&self) -> [f64; 3] {
        std::array::from_fn(|axis| self.affine.iter().map(|row| row[axis] * row[axis]).sum::<f64>().sqrt())
    }

    /// Volume of a voxel in cubic millimetres.
    pub fn voxel_volume(&self) -> f64 {
        let a = &self.affine;
        let minor = |i: usize, j: usize| a[1][i] * a[2][j] - a[1][j] * a[2][i];
        (a[0][0] * minor(1, 2) - a[0][1] * minor(0, 2) + a[0][2] * minor(0, 1)).abs()
    }

    /// World position in millimetres of a (fractional) voxel index.
    pub fn world(&self, index: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|row| {
            let r = &self.affine[row];
            r[0] * index[0] + r[1] * index[1] + r[2] * index[2] + r[3]
        })
    }

    /// Number of voxels.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the grid has no voxel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest distance in millimetres between corresponding corners of two grids of the same shape: how
    /// far apart the two place any voxel. `None` where the shapes differ.
    pub fn displacement(&self, other: &Self) -> Option<f64> {
        if self.shape != other.shape {
            return None;
        }
        let corner = |bits: usize| {
            std::array::from_fn(|axis| {
                if bits >> axis & 1 == 1 { self.shape[axis].saturating_sub(1) as f64 } else { 0.0 }
            })
        };
        let distance = |bits| {
            let (a, b) = (self.world(corner(bits)), other.world(corner(bits)));
            a.iter().zip(b).map(|(p, q)| (p - q) * (p - q)).sum::<f64>().sqrt()
        };
        Some((0..8).map(distance).fold(0.0, f64::max))
    }

    /// The same distance in voxels: as a share of the smallest spacing of the two grids.
    pub fn voxels_apart(&self, other: &Self) -> Option<f64> {
        let finest = self.spacing().into_iter().chain(other.spacing()).fold(f64::INFINITY, f64::min);
        self.displacement(other).map(|distance| if distance == 0.0 { 0.0 } else { distance / finest })
    }

    /// How well two grids of one scan fit. The only tolerances of geometry there are, in shares of a voxel, so that
    /// they hold for a whole body as for a micro-CT.
    pub fn fit(&self, other: &Self) -> Fit {
        // A distance that is not a number fits nowhere.
        match self.voxels_apart(other) {
            Some(voxels) if voxels <= 1e-3 => Fit::Same,
            Some(voxels) if voxels <= 0.1 => Fit::Near,
            Some(voxels) if voxels <= 0.5 => Fit::Off,
            _ => Fit::Elsewhere,
        }
    }

    /// The signed permutation closest to the grid's axes.
    ///
    /// Of the six assignments of array axes to world axes the one with the largest sum of absolute direction
    /// cosines is taken (the first in lexicographic order where two are equal, as at exactly 45 degrees), so
    /// that an oblique grid never assigns two array axes to one world axis.
    pub fn orientation(&self) -> Orientation {
        const PERMUTATIONS: [[usize; 3]; 6] =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let spacing = self.spacing();
        let cosine = |world: usize, axis: usize| {
            if spacing[axis] > 0.0 { self.affine[world][axis] / spacing[axis] } else { 0.0 }
        };
        let score = |axes: &[usize; 3]| (0..3).map(|world| cosine(world, axes[world]).abs()).sum::<f64>();
        let mut best = PERMUTATIONS[0];
        for axes in PERMUTATIONS {
            if score(&axes) > score(&best) + 1e-9 {
                best = axes;
            }
        }
        Orientation { axes: best, flipped: std::array::from_fn(|world| cosine(world, best[world]) < 0.0) }
    }

    /// The same voxels seen along the world's axes: shape and affine after [`Orientation::apply`].
    pub fn oriented(&self, orientation: &Orientation) -> Self {
        let shape = orientation.axes.map(|axis| self.shape[axis]);
        let mut affine = [[0.0; 4]; 3];
        for (out, row) in affine.iter_mut().zip(&self.affine) {
            out[3] = row[3];
            for world in 0..3 {
                let column = row[orientation.axes[world]];
                if orientation.flipped[world] {
                    out[world] = -column;
                    out[3] += column * (shape[world] as f64 - 1.0);
                } else {
                    out[world] = column;
                }
            }
        }
        Self { shape, affine }
    }
}

impl Orientation {
    /// The orientation of a grid that already runs right, front, top.
    pub const RAS: Self = Self { axes: [0, 1, 2], flipped: [false; 3] };

    /// A view of file-ordered voxels along the world's axes. Nothing is copied.
    pub fn apply<'a, T>(&self, voxels: ArrayView3<'a, T>) -> ArrayView3<'a, T> {
        let mut view = voxels.permuted_axes(self.axes);
        for world in 0..3 {
            if self.flipped[world] {
                view.invert_axis(ndarray::Axis(world));
            }
        }
        view
    }

    /// The inverse of [`Self::apply`]: from the world's axes back to the file's.
    pub fn undo<'a, T>(&self, mut voxels: ArrayView3<'a, T>) -> ArrayView3<'a, T> {
        for world in 0..3 {
            if self.flipped[world] {
                voxels.invert_axis(ndarray::Axis(world));
            }
        }
        let mut inverse = [0; 3];
        for world in 0..3 {
            inverse[self.axes[world]] = world;
        }
        voxels.permuted_axes(inverse)
    }

    /// The usual three letters, for example `RAS` or `LPI`.
    pub fn letters(&self) -> String {
        // Letters are given per array axis: the direction in which its index grows.
        let mut letters = ['?'; 3];
        for world in 0..3 {
            letters[self.axes[world]] =
                [['R', 'L'], ['A', 'P'], ['S', 'I']][world][usize::from(self.flipped[world])];
        }
        letters.iter().collect()
    }
}

impl<T> Volume<T> {
    /// Joins voxels and grid; panics where their shapes differ (a bug of the caller).
    pub fn new(voxels: Array3<T>, grid: Grid) -> Self {
        assert_eq!(
            voxels.dim(),
            (grid.shape[0], grid.shape[1], grid.shape[2]),
            "voxels and grid differ in shape"
        );
        Self { voxels, grid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 48 signed permutations.
    fn orientations() -> Vec<Orientation> {
        let mut all = Vec::new();
        for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for bits in 0..8 {
                all.push(Orientation { axes, flipped: std::array::from_fn(|w| bits >> w & 1 == 1) });
            }
        }
        all
    }

    #[test]
    fn every_orientation_is_recognised_and_undone() {
        let world = Grid {
            shape: [3, 4, 5],
            affine: [[0.9, 0.1, 0.0, -7.0], [-0.1, 1.1, 0.2, 3.0], [0.0, -0.2, 2.0, 1.0]],
        };
        let voxels = Array3::from_shape_fn((3, 4, 5), |(x, y, z)| (x * 100 + y * 10 + z) as u16);
        for orientation in orientations() {
            // A file stored in this orientation: undo() takes world-axis voxels to file axes.
            let stored = orientation.undo(voxels.view()).to_owned();
            let mut grid =
                Grid { shape: [stored.dim().0, stored.dim().1, stored.dim().2], affine: [[0.0; 4]; 3] };
            for row in 0..3 {
                grid.affine[row][3] = world.affine[row][3];
                for w in 0..3 {
                    let column = world.affine[row][w];
                    let axis = orientation.axes[w];
                    grid.affine[row][axis] = if orientation.flipped[w] { -column } else { column };
                    if orientation.flipped[w] {
                        grid.affine[row][3] += column * (world.shape[w] as f64 - 1.0);
                    }
                }
            }
            assert_eq!(grid.orientation(), orientation);
            assert_eq!(orientation.apply(stored.view()), voxels);
            assert!(grid.oriented(&orientation).displacement(&world).expect("same shape") < 1e-12);
        }
    }

    #[test]
    fn letters_name_the_direction_of_each_array_axis() {
        assert_eq!(Orientation::RAS.letters(), "RAS");
        let grid = Grid {
            shape: [2, 2, 2],
            affine: [[0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]],
        };
        assert_eq!(grid.orientation().letters(), "AIL");
    }
}
