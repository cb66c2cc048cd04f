//! Brings one image onto another: affine registration, diffeomorphic registration by stationary velocity fields,
//! and mean templates of many images.
//!
//! Points are millimetres from the centre of an image's box, along its array axes. A [`Map`] takes points of the fixed
//! image to points of the moving one, and images and labels are pulled through it. Nothing here knows of classes
//! beyond their number, of files or of worlds; results do not depend on the number of threads.

mod affine;
mod ascent;
mod exponential;
mod local;
mod map;
mod matrix;
mod normal;
mod pyramid;
mod sample;
pub mod similarity;
mod template;
mod velocity;

pub use affine::{AffineOptions, Aligned, Start, Transform, affine};
pub use exponential::exponential;
pub use local::{Floor, LocalCorrelation, local_correlation};
pub use map::{Map, Step, Velocity};
pub use template::{Template, TemplateOptions, template};
pub use velocity::{Deformed, VelocityOptions, VelocitySimilarity, deform, deform_watched};

use ndarray::{Array4, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use super::volume::Grid;

/// Channels on one grid.
#[derive(Clone, Debug)]
pub struct Images {
    /// (channel, x, y, z), at least one channel and one voxel, every value finite.
    pub channels: Array4<f32>,
    /// Distance of neighbouring voxels along x, y, z in mm, above zero.
    pub spacing: [f64; 3],
}

/// The box of voxels in which an image lies; its centre is the origin of the image's points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Voxels along x, y, z.
    pub shape: [usize; 3],
    /// Their distances in mm.
    pub spacing: [f64; 3],
}

/// `point -> matrix point + shift`, in mm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Affine {
    /// Row by row.
    pub matrix: [[f64; 3]; 3],
    /// In mm.
    pub shift: [f64; 3],
}

impl Images {
    /// The box of the voxels.
    pub fn frame(&self) -> Frame {
        let (_, x, y, z) = self.channels.dim();
        Frame { shape: [x, y, z], spacing: self.spacing }
    }

    /// The images with no more than `most` voxels: the finest axes are halved as often as it takes, about the same
    /// centre, and channels then have mean 0 and variance 1.
    pub fn at_most(self, most: usize) -> Self {
        let mut factor = [1; 3];
        let mut frame = self.frame();
        while frame.voxels() > most.max(1) {
            let finest = frame.finest();
            for axis in 0..3 {
                if frame.shape[axis] > 1 && frame.spacing[axis] <= 1.5 * finest {
                    factor[axis] *= 2;
                }
            }
            frame = pyramid::shrunk(self.frame(), factor);
        }
        if factor == [1; 3] { self } else { pyramid::level(&self, factor) }
    }

    /// One channel.
    pub fn channel(&self, channel: usize) -> ArrayView3<'_, f32> {
        self.channels.index_axis(Axis(0), channel)
    }

    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.channels.dim().0
    }

    /// Whether there is no channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame {
    /// The box of a scan, its axes as they lie in the file.
    pub fn of(grid: &Grid) -> Self {
        Self { shape: grid.shape, spacing: grid.spacing() }
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// The voxel index of the box's centre: the origin of points.
    pub fn centre(&self) -> [f64; 3] {
        self.shape.map(|edge| (edge as f64 - 1.0) / 2.0)
    }

    /// Edges of the box in mm, from face to face.
    pub fn edges(&self) -> [f64; 3] {
        std::array::from_fn(|axis| self.shape[axis] as f64 * self.spacing[axis])
    }

    /// The point of a (fractional) voxel index.
    pub fn point(&self, index: [f64; 3]) -> [f64; 3] {
        let centre = self.centre();
        std::array::from_fn(|axis| (index[axis] - centre[axis]) * self.spacing[axis])
    }

    /// The eight corners of the box, as points.
    pub(crate) fn corners(&self) -> [[f64; 3]; 8] {
        let edges = self.edges();
        std::array::from_fn(|corner| {
            std::array::from_fn(|axis| edges[axis] * if corner >> axis & 1 == 1 { 0.5 } else { -0.5 })
        })
    }

    /// The smallest distance of neighbouring voxels, among axes with more than one voxel.
    pub(crate) fn finest(&self) -> f64 {
        let several = (0..3).filter(|&axis| self.shape[axis] > 1).map(|axis| self.spacing[axis]);
        let finest = several.fold(f64::INFINITY, f64::min);
        if finest.is_finite() { finest } else { self.spacing.into_iter().fold(f64::INFINITY, f64::min) }
    }

    /// From voxel indices of this frame to points.
    pub(crate) fn to_points(self) -> Affine {
        let mut matrix = [[0.0; 3]; 3];
        for axis in 0..3 {
            matrix[axis][axis] = self.spacing[axis];
        }
        Affine { matrix, shift: self.point([0.0; 3]) }
    }

    /// From points to voxel indices of this frame.
    pub(crate) fn to_voxels(self) -> Affine {
        let mut matrix = [[0.0; 3]; 3];
        for axis in 0..3 {
            matrix[axis][axis] = 1.0 / self.spacing[axis];
        }
        Affine { matrix, shift: self.centre() }
    }
}

impl Affine {
    /// Leaves every point where it is.
    pub const IDENTITY: Self =
        Self { matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], shift: [0.0; 3] };

    /// A shift alone.
    pub fn translation(shift: [f64; 3]) -> Self {
        Self { shift, ..Self::IDENTITY }
    }

    /// From points of a scan's [`Frame`] to world millimetres, however its axes lie.
    pub fn to_world(grid: &Grid) -> Self {
        let frame = Frame::of(grid);
        let matrix = grid.affine.map(|row| std::array::from_fn(|axis| row[axis] / frame.spacing[axis]));
        Self { matrix, shift: grid.world(frame.centre()) }
    }

    /// Where a point goes.
    pub fn apply(&self, point: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|row| {
            let r = &self.matrix[row];
            r[0] * point[0] + r[1] * point[1] + r[2] * point[2] + self.shift[row]
        })
    }

    /// First this, then `next`.
    pub fn then(&self, next: &Self) -> Self {
        Self { matrix: matrix::product(&next.matrix, &self.matrix), shift: next.apply(self.shift) }
    }

    /// The way back; `None` where the determinant is 0 or no number.
    pub fn inverse(&self) -> Option<Self> {
        let matrix = matrix::inverse(&self.matrix)?;
        let back = Self { matrix, shift: [0.0; 3] };
        Some(Self { matrix, shift: back.apply(self.shift).map(|value| -value) })
    }

    /// The determinant: how many times larger a volume becomes.
    pub fn determinant(&self) -> f64 {
        matrix::determinant(&self.matrix)
    }

    /// The farthest that any of `points` lies apart under two affines, in mm.
    pub(crate) fn apart(&self, other: &Self, points: &[[f64; 3]]) -> f64 {
        let apart = |point: &[f64; 3]| {
            let (a, b) = (self.apply(*point), other.apply(*point));
            (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f64>().sqrt()
        };
        points.iter().map(apart).fold(0.0, f64::max)
    }

    /// The affine that in the logarithm is the mean of `affines` (Arsigny et al., *Log-Euclidean polyaffine
    /// transformations*, 2009); the identity where a logarithm does not exist.
    pub fn mean(affines: &[Self]) -> Self {
        let mut sum = [[0.0; 4]; 4];
        for affine in affines {
            let Some(logarithm) = matrix::logarithm(&matrix::homogeneous(affine)) else {
                return Self::IDENTITY;
            };
            matrix::add(&mut sum, &logarithm, 1.0 / affines.len() as f64);
        }
        matrix::affine_of(&matrix::exponential(&sum))
    }
}
