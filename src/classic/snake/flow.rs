//! The field of forces that draws a surface to edges, from afar too.
//!
//! Gradient vector flow (Xu and Prince, *Snakes, Shapes, and Gradient Vector Flow*, IEEE TIP 7(3), 1998): the field V of
//! least
//!
//! ```text
//! sum over voxels of mu sum_k |grad V_k|^2 + |grad f|^2 |V - grad f|^2
//! ```
//!
//! Its equations, `(b - mu Laplacian) V_k = b D_k f` with `b = |grad f|^2`, are solved as the linear systems that they
//! are, by conjugate gradients, so that the result does not hang on a step or a number of iterations.

use rayon::prelude::*;

use crate::classic::stencil::Grid;

/// Residual at which a solution is good, as a share of the right-hand side.
const TOLERANCE: f64 = 1e-4;

/// Iterations at most.
const ITERATIONS: usize = 300;

/// Voxels whose products are summed together, so that sums do not depend on the threads.
const RUN: usize = 1 << 12;

/// The flow of an edge map of 0 to 1, one field an axis; 0 everywhere where the map is flat.
pub fn flow(edge: &[f32], grid: &Grid, mu: f64) -> [Vec<f32>; 3] {
    let slopes: Vec<[f32; 3]> = (0..grid.len()).into_par_iter().map(|i| grid.gradient(edge, i)).collect();
    let pull: Vec<f32> = slopes.par_iter().map(|d| d.iter().map(|d| d * d).sum()).collect();
    std::array::from_fn(|axis| {
        let slope: Vec<f32> = slopes.iter().map(|d| d[axis]).collect();
        let wanted: Vec<f32> = slope.iter().zip(&pull).map(|(d, b)| d * b).collect();
        solve(grid, &pull, mu as f32, &wanted, slope)
    })
}

/// Solves `(pull - mu Laplacian) V = wanted` from a first guess, with a diagonal preconditioner.
fn solve(grid: &Grid, pull: &[f32], mu: f32, wanted: &[f32], guess: Vec<f32>) -> Vec<f32> {
    let good = TOLERANCE * dot(wanted, wanted).sqrt();
    if good <= 0.0 {
        return vec![0.0; grid.len()];
    }
    let apply = |field: &[f32]| -> Vec<f32> {
        let at = |i: usize| pull[i] * field[i] - mu * grid.laplacian(field, i);
        (0..grid.len()).into_par_iter().map(at).collect()
    };
    let stiffness = 2.0 * mu * grid.stiffness() as f32;
    let easier = |residual: &[f32]| -> Vec<f32> {
        residual.iter().zip(pull).map(|(r, b)| r / (b + stiffness)).collect()
    };
    let mut field = guess;
    let mut residual: Vec<f32> = wanted.iter().zip(apply(&field)).map(|(b, a)| b - a).collect();
    let mut eased = easier(&residual);
    let mut direction = eased.clone();
    let mut height = dot(&residual, &eased);
    for _ in 0..ITERATIONS {
        if dot(&residual, &residual).sqrt() <= good {
            break;
        }
        let image = apply(&direction);
        let curvature = dot(&direction, &image);
        if curvature <= 0.0 {
            break;
        }
        let step = (height / curvature) as f32;
        field.par_iter_mut().zip(&direction).for_each(|(v, d)| *v += step * d);
        residual.par_iter_mut().zip(&image).for_each(|(r, a)| *r -= step * a);
        eased = easier(&residual);
        let next = dot(&residual, &eased);
        let turn = (next / height) as f32;
        height = next;
        direction.par_iter_mut().zip(&eased).for_each(|(d, z)| *d = z + turn * *d);
    }
    field
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let parts = a.par_chunks(RUN).zip(b.par_chunks(RUN));
    let sum = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let sums: Vec<f64> = parts.map(sum).collect();
    sums.iter().sum()
}
