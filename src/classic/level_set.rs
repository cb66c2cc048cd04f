//! Edge-based level set that keeps itself a distance: no re-initialisation.
//!
//! Li, Xu, Gui and Fox, *Distance Regularized Level Set Evolution and Its Application to Image Segmentation*, IEEE TIP
//! 19(12), 2010. With phi below 0 inside, in units of the smallest spacing,
//!
//! ```text
//! phi' = mu div(d(|grad phi|) grad phi) + lambda delta(phi) div(g grad phi / |grad phi|) + nu g delta(phi)
//! d(t) = sin(2 pi t) / (2 pi t) up to t = 1, then 1 - 1 / t
//! g    = 1 / (1 + (edge / k)^2)
//! ```
//!
//! where k is the 60th percentile of the region's edges, since a fixed one leaks or sticks as the contrast changes.
//! Each class evolves by itself from its prior, within three voxels of its surface.

use rayon::prelude::*;

use super::edges::{edges, quantile};
use super::intensity::is_constant;
use super::resolve::{Parts, labels, resolve, said_of, start};
use super::stencil::{Grid, flat, unit, volume};
use super::{Region, Segmented};
use crate::config::classical::LevelSet;

/// Half the width of the smeared delta function.
const EPSILON: f32 = 1.5;

/// What phi is away from the surface, by its side.
const FAR: f32 = 2.0;

/// Voxels to either side of the surface that evolve.
pub const BAND: usize = 3;

/// Width of the Gaussian that edges are measured at, smallest spacings.
const SCALE: f64 = 0.7;

/// Share of voxels with edges weaker than k.
const WEAK: f64 = 0.6;

/// An evolution ends after so many steps without a voxel that changes sides.
const PATIENCE: usize = 10;

/// Segments a region. `parts` counts from the background.
pub fn segment(region: &Region<'_>, settings: &LevelSet, parts: &[Parts]) -> Segmented {
    let mut notes = Vec::new();
    let constant = is_constant(region.images, &mut notes);
    let h = unit(region.spacing);
    let (classes, nx, ny, nz) = region.prior.dim();
    let shape = [nx, ny, nz];
    let grid = Grid::new(shape, region.spacing.map(|s| s / h));
    let stop = if constant { vec![1.0; grid.len()] } else { stop(region, grid.spacing) };
    let depths = (1..classes).map(|class| {
        let of = parts.get(class).copied().unwrap_or(Parts::Any);
        let start = flat(start(region.prior, class, region.spacing, of, &mut notes).view());
        let mut front = Front::new(&grid, &stop, &start, Some(BAND));
        if !constant {
            front.run(settings);
        }
        let inside = || front.phi.iter().map(|&phi| phi < 0.0);
        if start.contains(&true) && !inside().any(|inside| inside) {
            notes.push(format!("the surface of class {class} vanished; its start was kept"));
            return volume(start.iter().map(|&inside| if inside { FAR } else { -FAR }).collect(), shape);
        }
        if grid.reaches_border(inside()) && !grid.reaches_border(start.iter().copied()) {
            notes.push(format!("class {class} grew to the edge of its region (leak)"));
        }
        volume(front.phi.iter().map(|phi| -phi).collect(), shape)
    });
    let depths: Vec<_> = depths.collect();
    let probabilities = resolve(&depths, parts, shape);
    notes.extend(said_of(labels(probabilities.view()).view()));
    Segmented { probabilities, notes }
}

/// g at each voxel: 1 where there is no edge.
fn stop(region: &Region<'_>, spacing: [f64; 3]) -> Vec<f32> {
    let edges = edges(region.images, spacing, SCALE);
    let k = quantile(edges.iter().copied(), WEAK).max(1e-6);
    edges.iter().map(|edge| 1.0 / (1.0 + (edge / k).powi(2))).collect()
}

/// The surface of one class.
#[derive(Debug)]
pub struct Front<'a> {
    grid: &'a Grid,
    stop: &'a [f32],
    /// Below 0 inside.
    pub phi: Vec<f32>,
    /// Voxels to either side of the surface that evolve; all where there is none.
    radius: Option<usize>,
    /// The voxels that evolve.
    band: Vec<u32>,
    /// These and their neighbours.
    wide: Vec<u32>,
    /// Where a voxel stands in `wide`.
    slot: Vec<u32>,
}

/// The vectors whose divergence moves the surface.
#[derive(Clone, Copy, Debug, Default)]
struct Flux {
    /// (d - 1) grad phi.
    keep: [f32; 3],
    /// grad phi over its length.
    normal: [f32; 3],
}

impl<'a> Front<'a> {
    /// A surface around the voxels inside, on a grid in units of its smallest spacing.
    pub fn new(grid: &'a Grid, stop: &'a [f32], inside: &[bool], radius: Option<usize>) -> Self {
        let phi = inside.iter().map(|&inside| if inside { -FAR } else { FAR }).collect();
        let slot = vec![0; grid.len()];
        let mut front = Self { grid, stop, phi, radius, band: Vec::new(), wide: Vec::new(), slot };
        front.find_band();
        front
    }

    /// Evolves until nothing changes sides or the steps are used up.
    fn run(&mut self, settings: &LevelSet) {
        let (mu, lambda, nu) = (settings.mu, settings.lambda, settings.nu.value());
        let step = self.step(mu, lambda, nu);
        let mut still = 0;
        for _ in 0..settings.iterations {
            still = if self.evolve(step, mu, lambda, nu) { 0 } else { still + 1 };
            if still == PATIENCE {
                break;
            }
        }
    }

    /// The longest step at which diffusion is stable and the front moves by less than half a voxel.
    pub fn step(&self, mu: f64, lambda: f64, nu: f64) -> f64 {
        let stiffness = self.grid.stiffness();
        let epsilon = f64::from(EPSILON);
        let diffusion = 2.0 * mu * stiffness + 0.5 * lambda / epsilon * stiffness;
        let slope = |i| self.grid.gradient(self.stop, i).iter().map(|d| d * d).sum::<f32>();
        let steepest = (0..self.grid.len()).into_par_iter().map(slope).reduce(|| 0.0, f32::max).sqrt();
        let front = (nu.abs() + lambda * f64::from(steepest)) / epsilon;
        // An axis-free grid of one voxel has no bound.
        (0.9 / diffusion.max(f64::MIN_POSITIVE)).min(0.5 / front.max(f64::MIN_POSITIVE)).min(1e3)
    }

    /// One step; returns whether a voxel changed sides.
    pub fn evolve(&mut self, step: f64, mu: f64, lambda: f64, nu: f64) -> bool {
        let (grid, phi) = (self.grid, &self.phi);
        let flux: Vec<Flux> = self.wide.par_iter().map(|&i| flux(grid.gradient(phi, i as usize))).collect();
        let [step, mu, lambda, nu] = [step, mu, lambda, nu].map(|value| value as f32);
        let moved = |&i: &u32| {
            let i = i as usize;
            let (mut keep, mut curvature) = (0.0, 0.0);
            for axis in 0..3 {
                let (behind, ahead) = grid.around(i, axis);
                let (behind, ahead) = (self.slot[behind] as usize, self.slot[ahead] as usize);
                let per = (0.5 / grid.spacing[axis]) as f32;
                keep += (flux[ahead].keep[axis] - flux[behind].keep[axis]) * per;
                curvature += (flux[ahead].normal[axis] - flux[behind].normal[axis]) * per;
            }
            let regular = keep + grid.laplacian(phi, i);
            let delta = delta(phi[i]);
            let mut force = 0.0;
            if delta > 0.0 {
                let normal = flux[self.slot[i] as usize].normal;
                let slope = grid.gradient(self.stop, i);
                let along: f32 = slope.iter().zip(normal).map(|(slope, normal)| slope * normal).sum();
                force = delta * (lambda * (along + self.stop[i] * curvature) + nu * self.stop[i]);
            }
            phi[i] + step * (mu * regular + force)
        };
        let values: Vec<f32> = self.band.par_iter().map(moved).collect();
        let mut changed = false;
        for (&i, value) in self.band.iter().zip(values) {
            changed |= (value < 0.0) != (self.phi[i as usize] < 0.0);
            self.phi[i as usize] = value;
        }
        if changed && self.radius.is_some() {
            self.find_band();
        }
        changed
    }

    /// Finds the voxels near the surface and sets all others to their side.
    fn find_band(&mut self) {
        let Some(radius) = self.radius else {
            self.band = (0..self.grid.len() as u32).collect();
            self.wide = self.band.clone();
            self.slot = self.band.clone();
            return;
        };
        let inside: Vec<bool> = self.phi.iter().map(|&phi| phi < 0.0).collect();
        let band = self.grid.band(&inside, radius);
        for &i in &self.band {
            self.slot[i as usize] = u32::MAX;
        }
        for &i in &band {
            self.slot[i as usize] = 0;
        }
        // What was in the band and is no more is set to its side.
        for &i in self.band.iter().filter(|&&i| self.slot[i as usize] == u32::MAX) {
            self.phi[i as usize] = if inside[i as usize] { -FAR } else { FAR };
        }
        self.band = band;
        self.wide = self.grid.band(&inside, radius + 1);
        for (slot, &i) in self.wide.iter().enumerate() {
            self.slot[i as usize] = slot as u32;
        }
    }
}

#[inline(always)]
fn flux(gradient: [f32; 3]) -> Flux {
    let length = gradient.iter().map(|d| d * d).sum::<f32>().sqrt();
    let turn = std::f32::consts::TAU * length;
    let well = if length > 1.0 {
        1.0 - 1.0 / length
    } else if length > 0.0 {
        turn.sin() / turn
    } else {
        1.0
    };
    Flux { keep: gradient.map(|d| (well - 1.0) * d), normal: gradient.map(|d| d / (length + 1e-10)) }
}

#[inline(always)]
fn delta(phi: f32) -> f32 {
    if phi.abs() <= EPSILON {
        (1.0 + (std::f32::consts::PI * phi / EPSILON).cos()) / (2.0 * EPSILON)
    } else {
        0.0
    }
}
