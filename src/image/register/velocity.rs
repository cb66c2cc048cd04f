//! Deformable registration by a stationary velocity field: the map is its exponential, so it is smooth and its
//! inverse is the exponential of the negative.
//!
//! Ascent of the similarity as in log-demons (Vercauteren, Pennec, Perchant, Ayache, MICCAI 2008): the force is
//! smoothed (the fluid part), added, and the sum is smoothed again (the diffusive part).

use rayon::prelude::*;

use super::ascent::Level;
use super::exponential::{Vectors, exponential_into, smallest_determinant};
use super::map::{Map, Step, Velocity};
use super::pyramid::{factors, shrunk};
use super::sample::Lattice;
use super::{Affine, Frame, Images};
use crate::image::gaussian::smooth_vectors;

/// What is maximised, as a mean over channels and voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VelocitySimilarity {
    /// Squared correlation in windows of `2 radius + 1` voxels per axis.
    Local {
        /// In voxels of a level.
        radius: usize,
    },
    /// Minus the mean squared difference of images of mean 0 and variance 1.
    MeanSquare,
}

/// How a deformation is sought.
#[derive(Clone, Debug, PartialEq)]
pub struct VelocityOptions {
    /// What is maximised.
    pub similarity: VelocitySimilarity,
    /// Iterations per level, coarse to fine; with fewer levels the last ones count, with more the first is repeated.
    pub iterations: Vec<usize>,
    /// Sigma of the Gaussian that smooths forces, in voxels of the level's finest axis.
    pub fluid: f64,
    /// Sigma of the Gaussian that smooths the velocity, likewise.
    pub diffusion: f64,
    /// The longest motion of an iteration, likewise.
    pub step: f64,
    /// Whether both images are treated alike: twice the work, for comparing sizes rather than carrying labels.
    pub symmetric: bool,
}

impl Default for VelocityOptions {
    fn default() -> Self {
        Self {
            similarity: VelocitySimilarity::Local { radius: 2 },
            iterations: vec![40, 25, 20],
            fluid: 1.5,
            diffusion: 0.7,
            step: 0.5,
            symmetric: false,
        }
    }
}

impl VelocityOptions {
    /// Parts of the work of [`deform_watched`] with a fixed image in this box.
    pub fn parts(&self, fixed: Frame) -> u64 {
        let factors = factors(fixed);
        let of = |(index, &factor): (usize, &[usize; 3])| {
            let iterations = iterations(&self.iterations, factors.len(), index).unwrap_or_default();
            iterations as u64 * weight(shrunk(fixed, factor))
        };
        factors.iter().enumerate().map(of).sum()
    }
}

/// The parts of an iteration: one per thousand voxels.
fn weight(frame: Frame) -> u64 {
    frame.voxels().div_ceil(1000) as u64
}

/// A deformable registration.
#[derive(Clone, Debug)]
pub struct Deformed {
    /// From the fixed image to the moving one: the deformation, then the affine.
    pub map: Map,
    /// The similarity of the affine alone on the finest level.
    pub before: f64,
    /// The similarity at the start of every level and after every accepted iteration; the last is what was reached.
    pub similarity: Vec<f64>,
    /// The smallest determinant of the deformation's derivative on the fixed grid.
    pub smallest_jacobian: f64,
    /// The share of voxels where it is not above 0: where the deformation folds.
    pub folded: f64,
}

/// The deformation that brings `moving` onto `fixed` after `start`, an affine from fixed to moving points.
///
/// Both have the same number of channels. Where the result folds, the finest level is repeated with 1.5 times the
/// diffusion, twice at most. Panics where the numbers of channels differ (a bug of the caller).
pub fn deform(fixed: &Images, moving: &Images, start: &Affine, options: &VelocityOptions) -> Deformed {
    deform_watched(fixed, moving, start, options, &mut |_| {})
}

/// As [`deform`]; `advance` is called with parts of [`VelocityOptions::parts`] as they are done.
pub fn deform_watched(
    fixed: &Images,
    moving: &Images,
    start: &Affine,
    options: &VelocityOptions,
    advance: &mut dyn FnMut(u64),
) -> Deformed {
    assert_eq!(fixed.len(), moving.len(), "as many channels in either image");
    let frame = fixed.frame();
    let factors = factors(frame);
    let mut similarity = Vec::new();
    let mut velocity = Vec::new();
    let mut from = frame;
    let mut before = 0.0;
    let mut diffusion = options.diffusion;
    let mut check = (1.0, 0.0);
    for (index, &factor) in factors.iter().enumerate() {
        let Some(iterations) = iterations(&options.iterations, factors.len(), index) else { continue };
        let mut level = Level::new(fixed, moving, factor, start, options);
        velocity = if velocity.is_empty() {
            vec![[0.0; 4]; level.frame.voxels()]
        } else {
            refined(&velocity, from, level.frame)
        };
        from = level.frame;
        let weight = weight(level.frame);
        let mut left = weight * iterations as u64;
        level.ascend(&mut velocity, iterations, diffusion, &mut similarity, &mut || {
            left -= weight;
            advance(weight);
        });
        // A level that ends early counts as done.
        advance(left);
        if index + 1 < factors.len() {
            continue;
        }
        before = level.unmoved();
        for repeat in 0.. {
            let (mut field, mut scratch) = (Vec::new(), Vec::new());
            exponential_into(&velocity, frame.shape, None, 1.0, &mut field, &mut scratch);
            check = smallest_determinant(&field, frame.shape);
            if check.0 > 0.0 || repeat == 2 {
                break;
            }
            diffusion *= 1.5;
            // Once at once: a level that ends early would otherwise keep its folds.
            smooth_vectors(&mut velocity, &mut scratch, frame.shape, level.sigmas(diffusion));
            level.ascend(&mut velocity, iterations, diffusion, &mut similarity, &mut || {});
        }
    }
    if velocity.is_empty() {
        velocity = vec![[0.0; 4]; frame.voxels()];
        from = frame;
    }
    let velocity = Velocity::of_voxels(&refined(&velocity, from, frame), frame);
    let map = Map {
        fixed: frame,
        moving: moving.frame(),
        steps: vec![Step::Velocity(velocity), Step::Affine(*start)],
    };
    Deformed { map, before, similarity, smallest_jacobian: check.0, folded: check.1 }
}

/// The iterations of level `index` of `levels`; `None` for none.
fn iterations(all: &[usize], levels: usize, index: usize) -> Option<usize> {
    let place = (all.len() + index).saturating_sub(levels);
    all.get(place).copied().filter(|&iterations| iterations > 0)
}

/// A velocity in voxels of one frame, on another about the same centre.
fn refined(velocity: &[[f32; 4]], from: Frame, to: Frame) -> Vectors {
    if from == to {
        return velocity.to_vec();
    }
    let lattice = Lattice::new(from.shape);
    let ratio: [f32; 3] = std::array::from_fn(|axis| (from.spacing[axis] / to.spacing[axis]) as f32);
    let (into, plane) = (from.to_voxels(), to.shape[1] * to.shape[2]);
    let mut out = vec![[0.0; 4]; to.voxels()];
    out.par_chunks_mut(plane).enumerate().for_each(|(x, out)| {
        for (at, out) in out.iter_mut().enumerate() {
            let point = to.point([x as f64, (at / to.shape[2]) as f64, (at % to.shape[2]) as f64]);
            let vector = lattice.corner(into.apply(point).map(|value| value as f32)).vector(velocity);
            *out = [vector[0] * ratio[0], vector[1] * ratio[1], vector[2] * ratio[2], 0.0];
        }
    });
    out
}
