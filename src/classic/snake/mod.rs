//! Deformable surface in a gradient vector flow.
//!
//! Kass, Witkin and Terzopoulos, *Snakes: Active Contour Models*, IJCV 1, 1988, as a closed surface of triangles that is
//! drawn by the flow of Xu and Prince (IEEE TIP 7(3), 1998) and filled and extracted again as it moves (after McInerney
//! and Terzopoulos, Medical Image Analysis 1(2), 1996), so that it may split and merge. A step is
//!
//! ```text
//! (I + alpha L + beta L^2) X' = X + edge F(X) + region w(X) n
//! ```
//!
//! with the surface's graph Laplacian L, the flow F of length 1 away from edges, the log-odds w of the class by its
//! intensities and the prior, and the outward normal n; lengths are smallest spacings. Each class moves by itself from its
//! prior.

pub mod fill;
pub mod flow;
pub mod mesh;
pub mod surface;

use ndarray::{Array4, Axis};

use super::chan_vese::log_odds;
use super::edges::{edges, quantile};
use super::intensity::is_constant;
use super::resolve::{Parts, labels, resolve, said_of, signed_distance, start};
use super::stencil::{Grid, flat, unit, volume};
use super::{Region, Segmented};
use crate::config::classical::Snake;
use crate::image::gaussian::gaussian;
use fill::fill;
use flow::flow;
use mesh::{Springs, minus, product};
use surface::{Mesh, surface};

/// Steps at most, and after how many the surface is extracted again.
const STEPS: usize = 200;
const RENEWAL: usize = 25;

/// A surface whose vertices move by less than this on the average, over so many steps, has settled.
const SETTLED: f64 = 0.01;
const PATIENCE: usize = 10;

/// The largest log-odds, to either side.
const LARGEST_ODDS: f32 = 2.0;

/// The longest motion by forces, and the longest that makes up for shrinking.
const LONGEST: f64 = 0.5;
const LONGEST_GROWTH: f64 = 0.2;

/// Share of the largest flow below which forces fade, so that vertices settle on edges.
const FADE: f32 = 0.05;

/// Width of the Gaussian on a filled surface before it is extracted.
const SMOOTH: f64 = 0.7;

/// Segments a region. `parts` counts from the background.
pub fn segment(region: &Region<'_>, settings: &Snake, parts: &[Parts]) -> Segmented {
    let mut notes = Vec::new();
    let constant = is_constant(region.images, &mut notes);
    let h = unit(region.spacing);
    let (classes, nx, ny, nz) = region.prior.dim();
    let shape = [nx, ny, nz];
    let grid = Grid::new(shape, region.spacing.map(|s| s / h));
    let drawn = draw(region, &grid, settings.mu);
    let flat_likelihood;
    let likelihood = if constant {
        flat_likelihood = Array4::zeros(region.likelihood.dim());
        flat_likelihood.view()
    } else {
        region.likelihood
    };
    let depths = (1..classes).map(|class| {
        let of = parts.get(class).copied().unwrap_or(Parts::Any);
        let start = start(region.prior, class, region.spacing, of, &mut notes);
        let mut odds = log_odds(region.prior, likelihood, class);
        odds.iter_mut().for_each(|odds| *odds = odds.clamp(-LARGEST_ODDS, LARGEST_ODDS));
        let began = flat(start.view());
        let forces = Forces { grid: &grid, drawn: &drawn, odds: &odds, settings };
        let mut inside = forces.run(&depth_of_prior(region, class, &began));
        if began.contains(&true) && !inside.contains(&true) {
            notes.push(format!("the surface of class {class} vanished; its start was kept"));
            inside.clone_from(&began);
        } else if grid.reaches_border(inside.iter().copied()) && !grid.reaches_border(began.iter().copied()) {
            notes.push(format!("class {class} grew to the edge of its region (leak)"));
        }
        let away = signed_distance(&volume(inside, shape), region.spacing);
        volume(away.into_iter().map(|mm| (mm / h).clamp(-1e3, 1e3) as f32).collect(), shape)
    });
    let depths: Vec<_> = depths.collect();
    let probabilities = resolve(&depths, parts, shape);
    notes.extend(said_of(labels(probabilities.view()).view()));
    Segmented { probabilities, notes }
}

/// The flow to the region's edges, of length 1 where it is not near an edge.
fn draw(region: &Region<'_>, grid: &Grid, mu: f64) -> [Vec<f32>; 3] {
    let edges = edges(region.images, grid.spacing, 1.0);
    let strong = quantile(edges.iter().copied(), 0.99).max(f32::MIN_POSITIVE);
    let edge: Vec<f32> = edges.iter().map(|edge| (edge / strong).min(1.0)).collect();
    let mut drawn = flow(&edge, grid, mu);
    let squares: Vec<f32> = (0..grid.len()).map(|i| drawn.iter().map(|v| v[i] * v[i]).sum::<f32>()).collect();
    let fade = FADE * FADE * squares.iter().copied().fold(0.0, f32::max);
    for component in &mut drawn {
        component.iter_mut().zip(&squares).for_each(|(v, square)| *v /= (square + fade).sqrt().max(1e-20));
    }
    drawn
}

/// How much likelier a class is than the next by the prior, above 0 at its start and nowhere else.
fn depth_of_prior(region: &Region<'_>, class: usize, began: &[bool]) -> Vec<f32> {
    let lanes = region.prior.lanes(Axis(0));
    let depth = |(lane, &inside): (ndarray::ArrayView1<'_, f32>, &bool)| {
        let others = (0..lane.len()).filter(|&l| l != class).map(|l| lane[l]).fold(0.0, f32::max);
        let odds = (lane[class] / others.max(f32::MIN_POSITIVE)).ln();
        if inside { odds.max(1e-3) } else { odds.min(-1e-3) }
    };
    lanes.into_iter().zip(began).map(depth).collect()
}

/// What moves the surface of one class.
struct Forces<'a> {
    grid: &'a Grid,
    drawn: &'a [Vec<f32>; 3],
    odds: &'a [f32],
    settings: &'a Snake,
}

impl Forces<'_> {
    /// Moves the surface around the voxels where `depth` is above 0; returns the voxels inside it at the end.
    fn run(&self, depth: &[f32]) -> Vec<bool> {
        let mut mesh = surface(depth, self.grid);
        let mut motions: Vec<f64> = Vec::new();
        for renewal in (0..STEPS).step_by(RENEWAL) {
            if renewal > 0 {
                mesh = self.renewed(&mesh);
            }
            if mesh.triangles.is_empty() {
                break;
            }
            let springs = Springs::of(&mesh);
            for _ in 0..RENEWAL {
                motions.push(self.step(&mut mesh, &springs));
                let last = &motions[motions.len().saturating_sub(PATIENCE)..];
                if last.len() == PATIENCE && last.iter().sum::<f64>() < SETTLED * PATIENCE as f64 {
                    return fill(&mesh, self.grid);
                }
            }
        }
        fill(&mesh, self.grid)
    }

    /// One step; returns the mean motion of the vertices.
    fn step(&self, mesh: &mut Mesh, springs: &Springs) -> f64 {
        let before = mesh.vertices.clone();
        let normals = mesh.normals();
        let (edge, region) = (self.settings.edge.value(), self.settings.region.value());
        for (point, normal) in mesh.vertices.iter_mut().zip(&normals) {
            let at = Place::of(*point, self.grid);
            let odds = region * at.sample(self.odds);
            let force: [f64; 3] =
                std::array::from_fn(|a| edge * at.sample(&self.drawn[a]) + odds * normal[a]);
            let length = product(force, force).sqrt();
            let share = if length > LONGEST { LONGEST / length } else { 1.0 };
            (0..3).for_each(|a| point[a] += share * force[a]);
        }
        let wanted = mesh.vertices.clone();
        let volume = mesh.volume();
        springs.relax(&mut mesh.vertices, &wanted, 1.0, self.settings.alpha, self.settings.beta);
        // Tension shrinks; what it took is given back, and its smoothing kept.
        let area = mesh.area();
        if area > 0.0 {
            let growth = ((volume - mesh.volume()) / area).clamp(-LONGEST_GROWTH, LONGEST_GROWTH);
            let normals = mesh.normals();
            for (point, normal) in mesh.vertices.iter_mut().zip(normals) {
                (0..3).for_each(|a| point[a] += growth * normal[a]);
            }
        }
        let motion = |(a, b): (&[f64; 3], &[f64; 3])| product(minus(*a, *b), minus(*a, *b)).sqrt();
        let sum: f64 = mesh.vertices.iter().zip(&before).map(motion).sum();
        sum / before.len().max(1) as f64
    }

    /// The surface extracted again from what it encloses, without the parts that crossed others or turned inside out.
    fn renewed(&self, mesh: &Mesh) -> Mesh {
        let inside = fill(mesh, self.grid);
        let share =
            volume(inside.into_iter().map(|inside| f32::from(u8::from(inside))).collect(), self.grid.shape);
        let smooth = gaussian(share.view(), self.grid.spacing, SMOOTH, [0; 3]);
        let field: Vec<f32> = smooth.iter().map(|share| share - 0.5).collect();
        surface(&field, self.grid)
    }
}

/// A point between voxels.
struct Place {
    voxels: [usize; 8],
    weights: [f64; 8],
}

impl Place {
    /// Beyond the outer voxels' centres these are repeated.
    fn of(point: [f64; 3], grid: &Grid) -> Self {
        let along = |a: usize| {
            let last = (grid.shape[a] - 1) as f64;
            let at = (point[a] / grid.spacing[a]).clamp(0.0, last);
            let low = at.floor().min((last - 1.0).max(0.0));
            (low as usize, at - low, usize::from(grid.shape[a] > 1))
        };
        let axes: [(usize, f64, usize); 3] = std::array::from_fn(along);
        let corner = |bits: usize, a: usize| axes[a].0 + (bits >> a & 1) * axes[a].2;
        let share = |bits: usize, a: usize| if bits >> a & 1 == 1 { axes[a].1 } else { 1.0 - axes[a].1 };
        Self {
            voxels: std::array::from_fn(|bits| (0..3).map(|a| corner(bits, a) * grid.steps[a]).sum()),
            weights: std::array::from_fn(|bits| (0..3).map(|a| share(bits, a)).product()),
        }
    }

    fn sample(&self, field: &[f32]) -> f64 {
        self.voxels.iter().zip(self.weights).map(|(&i, weight)| weight * f64::from(field[i])).sum()
    }
}
