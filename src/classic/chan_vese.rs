//! Region-based level set: inside and outside differ in their intensities, edges or not.
//!
//! Chan and Vese, *Active Contours Without Edges*, IEEE TIP 10(2), 2001; several channels as in Chan, Sandberg and Vese,
//! JVCIR 11, 2000. phi is above 0 inside. The published force is
//!
//! ```text
//! -(I - mean inside)^2 + (I - mean outside)^2
//! ```
//!
//! for intensities of 0 to 1; on scans, which hold more than two of them, it can be given the prior's odds beside, or be
//! replaced by half the odds of the class by its intensities in training cases and the prior (region competition, Zhu
//! and Yuille, TPAMI 18(9), 1996). Each class evolves by itself from its prior, near where it starts.

use ndarray::{ArrayView4, Axis};
use rayon::prelude::*;

use super::edges::quantile;
use super::intensity::is_constant;
use super::resolve::{Parts, labels, resolve, said_of, signed_distance, start};
use super::stencil::{Grid, flat, unit, volume};
use super::{Region, Segmented};
use crate::config::classical::{ChanVese, RegionTerm};
use crate::image::vectorised::vectorised;

/// Step of an iteration.
pub const STEP: f64 = 0.5;

/// How far from its start a class may go, mm.
const DOMAIN: f64 = 6.0;

/// Largest phi at the start and largest odds, to either side.
const LARGEST: f64 = 2.0;

/// Weight of the prior's log-odds beside means.
const PRIOR: f64 = 0.2;

/// An evolution ends after so many iterations without a voxel that changes sides.
const PATIENCE: usize = 10;

/// Segments a region. `parts` counts from the background.
pub fn segment(region: &Region<'_>, settings: &ChanVese, parts: &[Parts]) -> Segmented {
    let mut notes = Vec::new();
    let constant = is_constant(region.images, &mut notes);
    let h = unit(region.spacing);
    let (classes, nx, ny, nz) = region.prior.dim();
    let shape = [nx, ny, nz];
    let grid = Grid::new(shape, region.spacing.map(|s| s / h));
    let images: Vec<Vec<f64>> = region.images.outer_iter().map(|image| scaled(flat(image))).collect();
    let depths = (1..classes).map(|class| {
        let of = parts.get(class).copied().unwrap_or(Parts::Any);
        let start = start(region.prior, class, region.spacing, of, &mut notes);
        let away = signed_distance(&start, region.spacing);
        let phi = away.iter().map(|mm| (mm / h).clamp(-LARGEST, LARGEST)).collect();
        let domain = away.iter().map(|mm| mm.abs() <= DOMAIN).collect();
        let start = flat(start.view());
        let mut surface = Surface { grid: &grid, phi, domain };
        if !constant {
            let evidence = Evidence::of(region, class, settings.region.value(), &images);
            surface.run(&evidence, settings);
        }
        let inside = || surface.phi.iter().map(|&phi| phi > 0.0);
        if start.contains(&true) && !inside().any(|inside| inside) {
            notes.push(format!("the surface of class {class} vanished; its start was kept"));
            let side = |&inside: &bool| if inside { LARGEST } else { -LARGEST };
            return volume(start.iter().map(side).map(|phi| phi as f32).collect(), shape);
        }
        if grid.reaches_border(inside()) && !grid.reaches_border(start.iter().copied()) {
            notes.push(format!("class {class} grew to the edge of its region (leak)"));
        }
        volume(surface.phi.iter().map(|&phi| phi as f32).collect(), shape)
    });
    let depths: Vec<_> = depths.collect();
    let probabilities = resolve(&depths, parts, shape);
    notes.extend(said_of(labels(probabilities.view()).view()));
    Segmented { probabilities, notes }
}

/// From 0 at the first percentile to 1 at the last.
fn scaled(image: Vec<f32>) -> Vec<f64> {
    let end = |share| f64::from(quantile(image.iter().copied(), share));
    let (low, high) = (end(0.01), end(0.99));
    let range = (high - low).max(f64::MIN_POSITIVE);
    image.iter().map(|&y| ((f64::from(y) - low) / range).clamp(0.0, 1.0)).collect()
}

/// What draws voxels inside.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Channels from 0 to 1 whose means inside and outside are compared; none for no such comparison.
    pub images: &'a [Vec<f64>],
    /// What does not change as the surface moves.
    pub fixed: Option<Vec<f64>>,
}

impl<'a> Evidence<'a> {
    fn of(region: &Region<'_>, class: usize, term: RegionTerm, images: &'a [Vec<f64>]) -> Self {
        match term {
            RegionTerm::Mean => Self { images, fixed: None },
            RegionTerm::MeanPrior => {
                let odds = |&p: &f32| PRIOR * f64::from(p / (1.0 - p).max(1e-6)).ln();
                let prior = region.prior.index_axis(Axis(0), class);
                Self { images, fixed: Some(prior.iter().map(odds).collect()) }
            }
            RegionTerm::Likelihood => {
                let odds = log_odds(region.prior, region.likelihood, class);
                let half = |odds: f32| (0.5 * f64::from(odds)).clamp(-LARGEST, LARGEST);
                Self { images: &[], fixed: Some(odds.into_iter().map(half).collect()) }
            }
        }
    }
}

/// log of P p(intensities) of a class over the sum of those of all others, voxels with z fastest.
pub fn log_odds(prior: ArrayView4<'_, f32>, likelihood: ArrayView4<'_, f32>, class: usize) -> Vec<f32> {
    let lanes = prior.lanes(Axis(0)).into_iter().zip(likelihood.lanes(Axis(0)));
    let odds = lanes.map(|(prior, likelihood)| {
        let log = |l: usize| prior[l].ln() + likelihood[l];
        let others = || (0..prior.len()).filter(|&l| l != class).map(log);
        let largest = others().fold(f32::NEG_INFINITY, f32::max);
        let sum = others().map(|log| (log - largest).exp()).sum::<f32>().ln();
        let odds = log(class) - largest - sum;
        if odds.is_nan() { 0.0 } else { odds }
    });
    odds.collect()
}

/// The surface of one class.
#[derive(Debug)]
pub struct Surface<'a> {
    /// In units of its smallest spacing.
    pub grid: &'a Grid,
    /// Above 0 inside.
    pub phi: Vec<f64>,
    /// The voxels that may change.
    pub domain: Vec<bool>,
}

impl Surface<'_> {
    fn run(&mut self, evidence: &Evidence<'_>, settings: &ChanVese) {
        let mut still = 0;
        for _ in 0..settings.iterations {
            still = if self.evolve(evidence, settings.mu).0 { 0 } else { still + 1 };
            if still == PATIENCE {
                break;
            }
        }
    }

    /// One iteration, with the length implicit in each voxel; returns whether a voxel changed sides, and the means inside
    /// and outside of each channel before.
    pub fn evolve(&mut self, evidence: &Evidence<'_>, mu: f64) -> (bool, Vec<[f64; 2]>) {
        let means: Vec<[f64; 2]> = evidence.images.iter().map(|image| self.means(image)).collect();
        // Rows along the last axis that has more than one voxel.
        let [nx, ny, nz] = self.grid.shape;
        let (rows, length) = if nz > 1 { ([nx, ny], nz) } else { ([1, nx], ny) };
        if self.phi.is_empty() {
            return (false, means);
        }
        let row = Row::new(self.grid, mu);
        let phi = &self.phi;
        let mut next = vec![0.0; phi.len()];
        let plane = rows[1] * length;
        let changed = next.par_chunks_mut(plane).enumerate().map_init(
            || (vec![0.0; length], vec![0.0; length + 2]),
            |(force, own), (x, next)| {
                let mut changed = false;
                for (y, next) in next.chunks_mut(length).enumerate() {
                    let first = x * plane + y * length;
                    let at = |x: usize, y: usize| &phi[x * plane + y * length..][..length];
                    let now = at(x, y);
                    let domain = &self.domain[first..first + length];
                    if !domain.contains(&true) {
                        next.copy_from_slice(now);
                        continue;
                    }
                    let beside = [
                        at(x.saturating_sub(1), y),
                        at((x + 1).min(rows[0] - 1), y),
                        at(x, y.saturating_sub(1)),
                        at(x, (y + 1).min(rows[1] - 1)),
                    ];
                    own[1..=length].copy_from_slice(now);
                    (own[0], own[length + 1]) = (now[0], now[length - 1]);
                    force_of(evidence, &means, first, force);
                    let (own, force) = (&own[..], &force[..]);
                    if rows[0] == 1 {
                        vectorised(|| row.advance::<1>(&mut *next, own, beside, force));
                    } else {
                        vectorised(|| row.advance::<0>(&mut *next, own, beside, force));
                    }
                    for ((next, &now), &free) in next.iter_mut().zip(now).zip(domain) {
                        *next = if free { *next } else { now };
                        changed |= (*next > 0.0) != (now > 0.0);
                    }
                }
                changed
            },
        );
        let changed = changed.reduce(|| false, |a, b| a | b);
        self.phi = next;
        (changed, means)
    }

    /// Means of an image over the domain inside and outside the surface; 0 where there is nothing.
    fn means(&self, image: &[f64]) -> [f64; 2] {
        let run = 1 << 14;
        let parts = image.par_chunks(run).zip(self.phi.par_chunks(run)).zip(self.domain.par_chunks(run));
        let sums: Vec<[f64; 4]> = parts
            .map(|((image, phi), domain)| {
                let mut sums = [0.0; 4];
                for ((&y, &phi), &free) in image.iter().zip(phi).zip(domain) {
                    let (inside, outside) =
                        (f64::from(u8::from(free & (phi > 0.0))), f64::from(u8::from(free & (phi <= 0.0))));
                    sums[0] += inside * y;
                    sums[1] += inside;
                    sums[2] += outside * y;
                    sums[3] += outside;
                }
                sums
            })
            .collect();
        let sum = |k: usize| sums.iter().map(|sums| sums[k]).sum::<f64>();
        [sum(0) / sum(1).max(1.0), sum(2) / sum(3).max(1.0)]
    }
}

/// What draws the voxels of a row inside.
fn force_of(evidence: &Evidence<'_>, means: &[[f64; 2]], first: usize, force: &mut [f64]) {
    let row = first..first + force.len();
    match &evidence.fixed {
        Some(fixed) => force.copy_from_slice(&fixed[row.clone()]),
        None => force.fill(0.0),
    }
    let share = 1.0 / means.len().max(1) as f64;
    for (image, &[inside, outside]) in evidence.images.iter().zip(means) {
        for (force, y) in force.iter_mut().zip(&image[row.clone()]) {
            *force += share * ((y - outside) * (y - outside) - (y - inside) * (y - inside));
        }
    }
}

/// How the voxels of a row advance. Axes are those of the rows: two beside, one along.
#[derive(Clone, Copy, Debug)]
struct Row {
    mu: f64,
    /// 1 / spacing.
    per: [f64; 3],
    /// 1 / spacing^2; 0 for an axis of one voxel.
    per_square: [f64; 3],
}

impl Row {
    fn new(grid: &Grid, mu: f64) -> Self {
        let axes = if grid.shape[2] > 1 { [0, 1, 2] } else { [2, 0, 1] };
        let per = axes.map(|a| 1.0 / grid.spacing[a]);
        let square = |a: usize| if grid.shape[a] > 1 { grid.spacing[a].powi(-2) } else { 0.0 };
        Self { mu, per, per_square: axes.map(square) }
    }

    /// `own` has one voxel more at each end. Axes before `FIRST` have one voxel.
    #[inline(always)]
    fn advance<const FIRST: usize>(self, next: &mut [f64], own: &[f64], beside: [&[f64]; 4], force: &[f64]) {
        let n = next.len();
        let [a, b, c, d] = beside.map(|row| &row[..n]);
        let (behind, here, ahead, force) = (&own[..n], &own[1..n + 1], &own[2..n + 2], &force[..n]);
        for z in 0..n {
            let phi = here[z];
            let pairs = [(a[z], b[z]), (c[z], d[z]), (behind[z], ahead[z])];
            let mut squares = [0.0; 3];
            for axis in FIRST..3 {
                let slope = (pairs[axis].1 - pairs[axis].0) * (0.5 * self.per[axis]);
                squares[axis] = slope * slope;
            }
            let (mut pull, mut weight) = (0.0, 0.0);
            for axis in FIRST..3 {
                let others = 1e-16 + squares[(axis + 1) % 3] + squares[(axis + 2) % 3];
                let (behind, ahead) = pairs[axis];
                let (back, forth) = ((phi - behind) * self.per[axis], (ahead - phi) * self.per[axis]);
                // One division for both: 1 / a = b / (a b).
                let (a, b) = ((others + back * back).sqrt(), (others + forth * forth).sqrt());
                let share = self.per_square[axis] / (a * b);
                let (back, forth) = (share * b, share * a);
                pull += behind * back + ahead * forth;
                weight += back + forth;
            }
            let rate = STEP / (1.0 + phi * phi);
            next[z] = (phi + rate * (self.mu * pull + force[z])) / (1.0 + self.mu * rate * weight);
        }
    }
}
