//! Joint label fusion: weights that minimise the expected error where atlases may err alike.
//!
//! Around a voxel, e_n is the absolute difference between the normalised patches of the case and of atlas n. The
//! expected product of two atlases' label errors is M_nm = (e_n . e_m / (size - 1))^power, and the weights that minimise
//! w' M w with sum 1 are proportional to (M + ridge I)^-1 1. Wang et al., IEEE TPAMI 35(3), 2013. Instead of voting with
//! whole patches, weights are averaged over neighbours.

use ndarray::{Array3, Array4, ArrayView4};
use rayon::prelude::*;

use super::local::{answer, write};
use super::patch::{Images, Window, dot, moved, offsets};
use super::{Atlas, Joint, disputed, majority};

/// Voxels that one thread takes at a time.
const PART: usize = 256;

/// No weight was found at a voxel.
const NONE: u32 = u32::MAX;

pub(super) fn fuse(target: ArrayView4<'_, f32>, atlases: &[Atlas<'_>], settings: Joint) -> Array4<f32> {
    let case = Images::new(target);
    let images: Vec<Images<'_>> = atlases.iter().map(|atlas| Images::new(atlas.images)).collect();
    let offsets = offsets(settings.search);
    let voxels = disputed(atlases);
    let found: Vec<Vec<Found>> = voxels
        .par_chunks(PART)
        .map(|part| {
            let mut search = Search::new(&case, &images, settings, &offsets);
            part.iter().flat_map(|&voxel| search.weigh(voxel)).collect()
        })
        .collect();
    let found = found.concat();
    let mut index = Array3::from_elem(case.shape(), NONE);
    voxels.iter().enumerate().for_each(|(at, voxel)| index[*voxel] = at as u32);
    let mut fused = majority(atlases);
    let (classes, n) = (fused.dim().0, atlases.len());
    let answers: Vec<Vec<f32>> = voxels
        .par_chunks(PART)
        .enumerate()
        .map(|(part, voxels)| {
            let mut answers = Vec::with_capacity(voxels.len() * classes);
            for (at, &voxel) in voxels.iter().enumerate() {
                let own = &found[(part * PART + at) * n..][..n];
                let place =
                    |atlas: usize| moved(voxel, offsets[usize::from(own[atlas].offset)], case.shape());
                answer(atlases, &smoothed(&found, &index, voxel, n), place, classes, &mut answers);
            }
            answers
        })
        .collect();
    write(&mut fused, &voxels, answers.iter().flatten().copied());
    fused
}

/// What was found for one atlas at one voxel.
#[derive(Clone, Copy, Debug)]
struct Found {
    weight: f32,
    /// Of its best patch, a place in the list of offsets.
    offset: u16,
}

/// Memory of one thread.
struct Search<'a> {
    case: &'a Images<'a>,
    images: &'a [Images<'a>],
    settings: Joint,
    offsets: &'a [[isize; 3]],
    own: Vec<f32>,
    other: Vec<f32>,
    best: Vec<f32>,
    /// Absolute differences, (atlas, voxel of the patch).
    errors: Vec<f32>,
    matrix: Vec<f64>,
    weights: Vec<f64>,
}

impl<'a> Search<'a> {
    fn new(
        case: &'a Images<'a>,
        images: &'a [Images<'a>],
        settings: Joint,
        offsets: &'a [[isize; 3]],
    ) -> Self {
        let (own, other, best, errors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (matrix, weights) = (Vec::new(), Vec::new());
        Self { case, images, settings, offsets, own, other, best, errors, matrix, weights }
    }

    fn weigh(&mut self, voxel: [usize; 3]) -> Vec<Found> {
        let window = Window::around(voxel, [self.settings.radius; 3], self.case.shape());
        self.case.normalised(window, [0; 3], &mut self.own);
        self.errors.clear();
        let mut found = Vec::with_capacity(self.images.len());
        for images in self.images {
            let mut highest = (f32::NEG_INFINITY, 0);
            for (at, &offset) in self.offsets.iter().enumerate() {
                images.normalised(window, offset, &mut self.other);
                // A hair more is rounding, and the nearer patch stays.
                let similarity = dot(&self.own, &self.other);
                if similarity > highest.0 + 1e-4 * self.own.len() as f32 || at == 0 {
                    highest = (similarity, at);
                    std::mem::swap(&mut self.best, &mut self.other);
                }
            }
            self.errors.extend(self.own.iter().zip(&self.best).map(|(a, b)| (a - b).abs()));
            found.push(Found { weight: 0.0, offset: highest.1 as u16 });
        }
        products(&self.errors, found.len(), self.settings.power, &mut self.matrix);
        solve(&mut self.matrix, self.settings.ridge, &mut self.weights, found.len());
        let sum: f64 = self.weights.iter().map(|weight| weight.max(0.0)).sum();
        for (found, weight) in found.iter_mut().zip(&self.weights) {
            found.weight = (weight.max(0.0) / sum) as f32;
        }
        found
    }
}

/// The lower triangle of M, (atlas, atlas).
fn products(errors: &[f32], atlases: usize, power: f64, matrix: &mut Vec<f64>) {
    let size = errors.len() / atlases;
    let scale = 1.0 / (size.max(2) - 1) as f64;
    matrix.clear();
    matrix.resize(atlases * atlases, 0.0);
    for n in 0..atlases {
        for m in 0..=n {
            let both = dot(&errors[n * size..(n + 1) * size], &errors[m * size..(m + 1) * size]);
            let mean = f64::from(both) * scale;
            matrix[n * atlases + m] = if power == 2.0 { mean * mean } else { mean.powf(power) };
        }
    }
}

/// Weights with sum 1 that are proportional to (M + ridge I)^-1 1, some of them below 0 perhaps; equal ones where that
/// matrix is singular. `matrix` holds the lower triangle of M, and its Cholesky factor afterwards.
fn solve(matrix: &mut [f64], ridge: f64, weights: &mut Vec<f64>, n: usize) {
    weights.clear();
    weights.resize(n, 1.0);
    for column in 0..n {
        let mut diagonal = matrix[column * n + column] + ridge;
        for k in 0..column {
            diagonal -= matrix[column * n + k] * matrix[column * n + k];
        }
        if diagonal.is_nan() || diagonal <= 1e-12 {
            weights.fill(1.0 / n as f64);
            return;
        }
        let diagonal = diagonal.sqrt();
        matrix[column * n + column] = diagonal;
        for row in column + 1..n {
            let mut value = matrix[row * n + column];
            for k in 0..column {
                value -= matrix[row * n + k] * matrix[column * n + k];
            }
            matrix[row * n + column] = value / diagonal;
        }
    }
    for row in 0..n {
        let known: f64 = (0..row).map(|k| matrix[row * n + k] * weights[k]).sum();
        weights[row] = (weights[row] - known) / matrix[row * n + row];
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| matrix[k * n + row] * weights[k]).sum();
        weights[row] = (weights[row] - known) / matrix[row * n + row];
    }
    // 1' (M + ridge I)^-1 1 is above 0: the matrix is positive definite.
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
}

/// Mean of the weights at a voxel and its neighbours, by a Gaussian of one voxel.
fn smoothed(found: &[Found], index: &Array3<u32>, voxel: [usize; 3], atlases: usize) -> Vec<f64> {
    let window: [std::ops::Range<usize>; 3] =
        std::array::from_fn(|axis| voxel[axis].saturating_sub(1)..(voxel[axis] + 2).min(index.shape()[axis]));
    let [xs, ys, zs] = window;
    let mut weights = vec![0.0; atlases];
    for x in xs {
        for y in ys.clone() {
            for z in zs.clone() {
                let at = index[[x, y, z]];
                if at == NONE {
                    continue;
                }
                let steps = [x, y, z].iter().zip(&voxel).filter(|(a, b)| a != b).count();
                let share = (-0.5 * steps as f64).exp();
                let found = &found[at as usize * atlases..][..atlases];
                weights
                    .iter_mut()
                    .zip(found)
                    .for_each(|(sum, found)| *sum += share * f64::from(found.weight));
            }
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_solve_the_system_and_a_singular_one_gives_equal_weights() {
        // M of three atlases whose patches mix the target's with noise; weights by NumPy.
        let lower = [
            0.0171982150745,
            0.0,
            0.0,
            0.0159078475225,
            0.0360676412613,
            0.0,
            0.118850211837,
            0.189020642917,
            3.23342825415,
        ];
        for (ridge, expected) in [
            (0.1, [0.548472862324, 0.477524870339, -0.0259977326627]),
            (0.01, [0.689365427495, 0.350261173985, -0.0396266014798]),
        ] {
            let mut weights = Vec::new();
            solve(&mut lower.clone(), ridge, &mut weights, 3);
            assert!(weights.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{weights:?}");
        }
        let mut weights = Vec::new();
        solve(&mut [1.0, 0.0, 1.0, 1.0], 0.0, &mut weights, 2);
        assert_eq!(weights, [0.5, 0.5]);
    }

    #[test]
    fn products_are_means_raised_to_the_power() {
        let mut matrix = Vec::new();
        products(&[1.0, 2.0, 3.0, 0.0, 1.0, 0.0], 2, 2.0, &mut matrix);
        assert_eq!(matrix, [49.0, 0.0, 1.0, 0.25]);
        products(&[1.0, 2.0, 3.0, 0.0, 1.0, 0.0], 2, 1.0, &mut matrix);
        assert_eq!(matrix, [7.0, 0.0, 1.0, 0.5]);
    }
}
