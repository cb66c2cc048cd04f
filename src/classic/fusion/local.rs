//! Weights by local similarity: around each voxel, an atlas counts as its patch resembles the case's.

use ndarray::{Array4, ArrayView4};
use rayon::prelude::*;

use super::patch::{Images, Window};
use super::{Atlas, Local, disputed, majority};

/// Voxels that one thread takes at a time.
const PART: usize = 256;

pub(super) fn fuse(target: ArrayView4<'_, f32>, atlases: &[Atlas<'_>], settings: Local) -> Array4<f32> {
    let case = Images::new(target);
    let images: Vec<Images<'_>> = atlases.iter().map(|atlas| Images::new(atlas.images)).collect();
    let mut fused = majority(atlases);
    let disputed = disputed(atlases);
    let classes = fused.dim().0;
    let answers: Vec<Vec<f32>> = disputed
        .par_chunks(PART)
        .map(|voxels| {
            let (mut own, mut other, mut answers) = (Vec::new(), Vec::new(), Vec::new());
            for &voxel in voxels {
                let window = Window::around(voxel, [settings.radius; 3], case.shape());
                case.normalised(window, [0; 3], &mut own);
                let mut weight = |images: &Images<'_>| {
                    images.normalised(window, [0; 3], &mut other);
                    let squares: f32 = own.iter().zip(&other).map(|(a, b)| (a - b) * (a - b)).sum();
                    (-f64::from(squares) / own.len() as f64 / (2.0 * settings.bandwidth)).exp()
                };
                let weights: Vec<f64> = images.iter().map(&mut weight).collect();
                answer(atlases, &weights, |_| voxel, classes, &mut answers);
            }
            answers
        })
        .collect();
    write(&mut fused, &disputed, answers.iter().flatten().copied());
    fused
}

/// Appends the mean of the atlases' labels with these weights, each read at its own place.
pub(super) fn answer(
    atlases: &[Atlas<'_>],
    weights: &[f64],
    place: impl Fn(usize) -> [usize; 3],
    classes: usize,
    answers: &mut Vec<f32>,
) {
    let sum: f64 = weights.iter().sum();
    let even = 1.0 / weights.len() as f64;
    for class in 0..classes {
        let of = |(n, weight): (usize, &f64)| {
            let [x, y, z] = place(n);
            let weight = if sum > 0.0 { weight / sum } else { even };
            weight * f64::from(atlases[n].labels[[class, x, y, z]])
        };
        answers.push(weights.iter().enumerate().map(of).sum::<f64>() as f32);
    }
}

/// Writes answers, (voxel, class), to their voxels.
pub(super) fn write(fused: &mut Array4<f32>, voxels: &[[usize; 3]], mut answers: impl Iterator<Item = f32>) {
    for &[x, y, z] in voxels {
        for class in 0..fused.dim().0 {
            fused[[class, x, y, z]] = answers.next().unwrap_or_default();
        }
    }
}
