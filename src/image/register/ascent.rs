//! The ascent of a level: warps, measures, moves, smooths.

use rayon::prelude::*;

use super::exponential::{Vectors, exponential_into};
use super::local::{Floor, Local, Sums};
use super::pyramid::{level, matching};
use super::sample::Lattice;
use super::velocity::{VelocityOptions, VelocitySimilarity};
use super::{Affine, Frame, Images};
use crate::image::gaussian::smooth_vectors;
use crate::image::vectorised::vectorised;

/// Below this share of a voxel the step of an iteration is not halved any more.
const SHORTEST: f64 = 0.1;
/// A level ends when so many iterations together gain less than the second number.
const PATIENCE: (usize, f64) = (5, 1e-4);
/// Channels have variance 1.
const FLOOR: Floor = Floor::Voxel(1e-3);

/// One image that is warped onto another at a level.
struct Side {
    /// Per channel.
    targets: Vec<Target>,
    /// Per channel, z fastest.
    sources: Vec<Vec<f32>>,
    lattice: Lattice,
    /// From voxels of the target to voxels of the source, without the deformation.
    affine: Affine,
    /// 1, or -1 for the side that is warped by the inverse.
    direction: f32,
}

enum Target {
    Local(Local),
    MeanSquare(Vec<f32>),
}

/// The images of a level and the memory for its iterations.
pub(super) struct Level {
    pub(super) frame: Frame,
    sides: Vec<Side>,
    memory: Memory,
    options: VelocityOptions,
}

#[derive(Default)]
struct Memory {
    field: Vectors,
    scratch: Vectors,
    warped: Vec<Vec<f32>>,
    derivative: Vec<f32>,
    sums: Sums,
}

impl Level {
    pub(super) fn new(
        fixed: &Images,
        moving: &Images,
        factor: [usize; 3],
        start: &Affine,
        options: &VelocityOptions,
    ) -> Self {
        let fixed = level(fixed, factor);
        let frame = fixed.frame();
        let moving = level(moving, matching(moving.frame(), frame.finest()));
        let affine = frame.to_points().then(start).then(&moving.frame().to_voxels());
        let mut sides = vec![Side::new(&fixed, &moving, affine, 1.0, options.similarity)];
        if options.symmetric {
            let mut warped = Vec::new();
            sides[0].warp(&vec![[0.0; 4]; frame.voxels()], frame.shape, &mut warped);
            let [x, y, z] = frame.shape;
            let channels = ndarray::Array4::from_shape_vec((warped.len(), x, y, z), warped.concat());
            let channels = channels.unwrap_or_else(|_| panic!("as many voxels as the frame has"));
            let there = Images { channels, spacing: frame.spacing };
            sides.push(Side::new(&there, &fixed, Affine::IDENTITY, -1.0, options.similarity));
        }
        Self { frame, sides, memory: Memory::default(), options: options.clone() }
    }

    /// A sigma in voxels of the finest axis, in voxels of each.
    pub(super) fn sigmas(&self, sigma: f64) -> [f64; 3] {
        self.frame.spacing.map(|spacing| sigma * self.frame.finest() / spacing)
    }

    /// Changes `velocity` (voxels of the level) for at most `iterations`.
    pub(super) fn ascend(
        &mut self,
        velocity: &mut Vectors,
        iterations: usize,
        diffusion: f64,
        similarity: &mut Vec<f64>,
        advance: &mut dyn FnMut(),
    ) {
        let shape = self.frame.shape;
        let (fluid, diffusion) = (self.sigmas(self.options.fluid), self.sigmas(diffusion));
        let mut force = vec![[0.0; 4]; velocity.len()];
        let mut direction = force.clone();
        let mut candidate = velocity.clone();
        let mut best = self.evaluate(velocity, &mut direction);
        smooth_vectors(&mut direction, &mut self.memory.scratch, shape, fluid);
        let mut reached = vec![best];
        let mut step = self.options.step;
        for _ in 0..iterations {
            let longest = self.longest(&direction);
            if longest <= 0.0 || !longest.is_finite() {
                break;
            }
            let scale = (step * self.frame.finest() / longest) as f32;
            add_scaled(&mut candidate, velocity, &direction, scale);
            smooth_vectors(&mut candidate, &mut self.memory.scratch, shape, diffusion);
            let value = self.evaluate(&candidate, &mut force);
            advance();
            if value < best {
                if step <= SHORTEST {
                    break;
                }
                step = (step / 2.0).max(SHORTEST);
                continue;
            }
            best = value;
            std::mem::swap(velocity, &mut candidate);
            std::mem::swap(&mut direction, &mut force);
            smooth_vectors(&mut direction, &mut self.memory.scratch, shape, fluid);
            reached.push(best);
            if reached.len() > PATIENCE.0 && best - reached[reached.len() - 1 - PATIENCE.0] < PATIENCE.1 {
                break;
            }
        }
        similarity.extend(reached);
    }

    /// The similarity without any deformation.
    pub(super) fn unmoved(&mut self) -> f64 {
        let still = vec![[0.0; 4]; self.frame.voxels()];
        self.evaluate(&still, &mut still.clone())
    }

    /// The longest vector in mm.
    fn longest(&self, field: &[[f32; 4]]) -> f64 {
        let [x, y, z] = self.frame.spacing.map(|spacing| spacing as f32);
        let square = |v: &[f32; 4]| (v[0] * x).powi(2) + (v[1] * y).powi(2) + (v[2] * z).powi(2);
        f64::from(field.iter().map(square).fold(0.0, f32::max)).sqrt()
    }

    /// The similarity at `velocity`, and the force on every voxel.
    fn evaluate(&mut self, velocity: &[[f32; 4]], force: &mut [[f32; 4]]) -> f64 {
        let memory = &mut self.memory;
        force.fill([0.0; 4]);
        memory.scratch.resize(velocity.len(), [0.0; 4]);
        memory.derivative.resize(velocity.len(), 0.0);
        let mut value = 0.0;
        for side in &self.sides {
            let (field, scratch) = (&mut memory.field, &mut memory.scratch);
            exponential_into(velocity, self.frame.shape, None, side.direction, field, scratch);
            side.warp(field, self.frame.shape, &mut memory.warped);
            let share = 1.0 / (self.sides.len() * side.targets.len()) as f64;
            for (target, warped) in side.targets.iter().zip(&memory.warped) {
                value += share * target.evaluate(warped, &mut memory.sums, &mut memory.derivative);
                let weight = side.direction * share as f32;
                pull(warped, &memory.derivative, self.frame, weight, force);
            }
        }
        value
    }
}

impl Side {
    fn new(
        fixed: &Images,
        moving: &Images,
        affine: Affine,
        direction: f32,
        similarity: VelocitySimilarity,
    ) -> Self {
        let (shape, channels) = (fixed.frame().shape, 0..fixed.len());
        let values = |images: &Images, channel| images.channel(channel).iter().copied().collect::<Vec<f32>>();
        let target = |channel| match similarity {
            VelocitySimilarity::Local { radius } => {
                Target::Local(Local::new(values(fixed, channel), shape, radius, FLOOR))
            }
            VelocitySimilarity::MeanSquare => Target::MeanSquare(values(fixed, channel)),
        };
        Self {
            targets: channels.clone().map(target).collect(),
            sources: channels.map(|channel| values(moving, channel)).collect(),
            lattice: Lattice::new(moving.frame().shape),
            affine,
            direction,
        }
    }

    /// Reads every channel at `affine(x + field(x))`.
    fn warp(&self, field: &[[f32; 4]], shape: [usize; 3], warped: &mut Vec<Vec<f32>>) {
        warped.resize(self.sources.len(), Vec::new());
        let [_, ny, nz] = shape;
        let matrix = self.affine.matrix.map(|row| row.map(|value| value as f32));
        for (out, source) in warped.iter_mut().zip(&self.sources) {
            out.resize(field.len(), 0.0);
            out.par_chunks_mut(ny * nz).zip(field.par_chunks(ny * nz)).enumerate().for_each(
                |(x, (out, field))| {
                    vectorised(
                        #[inline(always)]
                        || {
                            let rows = out.chunks_exact_mut(nz).zip(field.chunks_exact(nz)).enumerate();
                            for (y, (out, field)) in rows {
                                let base = self.affine.apply([x as f64, y as f64, 0.0]);
                                let base = base.map(|value| value as f32);
                                for (z, (out, u)) in out.iter_mut().zip(field).enumerate() {
                                    let mut position = base;
                                    for axis in 0..3 {
                                        let row = &matrix[axis];
                                        position[axis] +=
                                            row[0] * u[0] + row[1] * u[1] + row[2] * (z as f32 + u[2]);
                                    }
                                    *out = self.lattice.corner(position).value(source);
                                }
                            }
                        },
                    );
                },
            );
        }
    }
}

impl Target {
    fn evaluate(&self, warped: &[f32], sums: &mut Sums, derivative: &mut [f32]) -> f64 {
        match self {
            Self::Local(local) => local.evaluate(warped, sums, derivative),
            Self::MeanSquare(fixed) => {
                let scale = 2.0 / fixed.len() as f32;
                for (out, (f, m)) in derivative.iter_mut().zip(fixed.iter().zip(warped)) {
                    *out = scale * (f - m);
                }
                -super::similarity::mean_square(fixed, warped)
            }
        }
    }
}

/// `out = velocity + scale * direction`.
fn add_scaled(out: &mut [[f32; 4]], velocity: &[[f32; 4]], direction: &[[f32; 4]], scale: f32) {
    let (out, velocity, direction) =
        (out.as_flattened_mut(), velocity.as_flattened(), direction.as_flattened());
    vectorised(
        #[inline(always)]
        || {
            for (out, (v, d)) in out.iter_mut().zip(velocity.iter().zip(direction)) {
                *out = v + scale * d;
            }
        },
    );
}

/// Adds `weight` times derivative times gradient of the warped image: the force per mm, as a motion in voxels.
fn pull(warped: &[f32], derivative: &[f32], frame: Frame, weight: f32, force: &mut [[f32; 4]]) {
    let [nx, ny, nz] = frame.shape;
    let plane = ny * nz;
    // Half of a central difference per mm, as voxels.
    let scale: [f32; 3] = frame.spacing.map(|spacing| 0.5 * weight / (spacing * spacing) as f32);
    force.par_chunks_mut(plane).enumerate().for_each(|(x, force)| {
        let (behind, ahead) = (x.saturating_sub(1), (x + 1).min(nx - 1));
        vectorised(
            #[inline(always)]
            || {
                for (y, force) in force.chunks_exact_mut(nz).enumerate() {
                    let row = |x: usize, y: usize| &warped[x * plane + y * nz..][..nz];
                    let (left, right) = (row(behind, y), row(ahead, y));
                    let (front, back) = (row(x, y.saturating_sub(1)), row(x, (y + 1).min(ny - 1)));
                    let here = row(x, y);
                    let slope = &derivative[x * plane + y * nz..][..nz];
                    for (z, force) in force.iter_mut().enumerate() {
                        let (below, above) = (here[z.saturating_sub(1)], here[(z + 1).min(nz - 1)]);
                        force[0] += slope[z] * (right[z] - left[z]) * scale[0];
                        force[1] += slope[z] * (back[z] - front[z]) * scale[1];
                        force[2] += slope[z] * (above - below) * scale[2];
                    }
                }
            },
        );
    });
}
