//! Which training cases serve a case as atlases: those that look most like it in the space of the template.
//!
//! Aljabar et al., *Multi-atlas based segmentation of brain images: atlas selection and its effect on accuracy*,
//! NeuroImage 46(3), 2009.

use ndarray::{Array3, Array4, ArrayView2, ArrayView3, ArrayView4, Axis, Zip, s};
use rand::seq::SliceRandom;

use crate::config::classical::Selection;
use crate::image::distance::distance;
use crate::image::gaussian::gaussian;
use crate::rng::generator;

/// Bins of an image's intensities for mutual information.
const BINS: usize = 16;

/// Images as they are compared, from (channel, x, y, z): smoothed by 1 mm.
pub fn smoothed(images: ArrayView4<'_, f32>, spacing: [f64; 3]) -> Array4<f32> {
    let mut smoothed = images.to_owned();
    for mut channel in smoothed.outer_iter_mut() {
        let new = gaussian(channel.view(), spacing, 1.0, [0; 3]);
        channel.assign(&new);
    }
    smoothed
}

/// Where images are compared: within 2 mm of voxels that are foreground with a probability above 0.02. `prior` is
/// (class, x, y, z). Everywhere, where there are none.
pub fn place(prior: ArrayView4<'_, f32>, spacing: [f64; 3]) -> Array3<bool> {
    let foreground = prior.slice(s![1.., .., .., ..]).sum_axis(Axis(0)).mapv(|p| p > 0.02);
    match foreground.iter().any(|&is| is) {
        true => distance(foreground.view(), spacing).mapv(|millimetres| millimetres <= 2.0),
        false => Array3::from_elem(foreground.dim(), true),
    }
}

/// How alike two cases are within `place`: the mean over channels of the measure. The control, which draws atlases,
/// has no similarity: 0.
pub fn similarity(
    case: ArrayView4<'_, f32>,
    atlas: ArrayView4<'_, f32>,
    place: ArrayView3<'_, bool>,
    measure: Selection,
) -> f64 {
    let of = |(case, atlas): (ArrayView3<'_, f32>, ArrayView3<'_, f32>)| {
        let mut pairs = Vec::new();
        Zip::from(case).and(atlas).and(place).for_each(|&a, &b, &inside| {
            if inside {
                pairs.push((f64::from(a), f64::from(b)));
            }
        });
        match measure {
            Selection::Ncc => correlation(&pairs),
            Selection::Nmi => mutual_information(&pairs),
            Selection::Random => 0.0,
        }
    };
    let channels = case.len_of(Axis(0)).max(1) as f64;
    case.outer_iter().zip(atlas.outer_iter()).map(of).sum::<f64>() / channels
}

/// Normalised cross-correlation; 0 where one side is constant.
fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len().max(1) as f64;
    let (a_mean, b_mean) = pairs.iter().fold((0.0, 0.0), |(a, b), pair| (a + pair.0 / n, b + pair.1 / n));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (a, b) in pairs {
        let (a, b) = (a - a_mean, b - b_mean);
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let scale = (aa * bb).sqrt();
    if scale > 0.0 { ab / scale } else { 0.0 }
}

/// (H(a) + H(b)) / H(a, b) over equal bins from minimum to maximum; 1, the least, where one side is constant.
fn mutual_information(pairs: &[(f64, f64)]) -> f64 {
    let binned = |of: fn(&(f64, f64)) -> f64| -> Vec<usize> {
        let (low, high) = pairs
            .iter()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let scale = if high > low { BINS as f64 / (high - low) } else { 0.0 };
        pairs.iter().map(|pair| (((of(pair) - low) * scale) as usize).min(BINS - 1)).collect()
    };
    let (a, b) = (binned(|pair| pair.0), binned(|pair| pair.1));
    let mut joint = vec![0.0; BINS * BINS];
    a.iter().zip(&b).for_each(|(a, b)| joint[a * BINS + b] += 1.0 / pairs.len() as f64);
    let entropy = |shares: &[f64]| -> f64 { shares.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum() };
    let rows: Vec<f64> = joint.chunks_exact(BINS).map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..BINS).map(|column| joint.iter().skip(column).step_by(BINS).sum()).collect();
    let both = entropy(&joint);
    if both > 0.0 { (entropy(&rows) + entropy(&columns)) / both } else { 1.0 }
}

/// The `count` training cases with the largest similarities, the most alike first and of equal ones the first; all of
/// them where there are not more.
pub fn most_similar(similarities: &[f64], count: usize) -> Vec<usize> {
    let known =
        |case: usize| if similarities[case].is_nan() { f64::NEG_INFINITY } else { similarities[case] };
    let mut order: Vec<usize> = (0..similarities.len()).collect();
    order.sort_by(|&a, &b| known(b).total_cmp(&known(a)));
    order.truncate(count);
    order
}

/// As many training cases by lot, for the case of this name.
pub fn drawn(cases: usize, count: usize, seed: u64, name: &str) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cases).collect();
    order.shuffle(&mut generator(seed, &["atlases", name]));
    order.truncate(count);
    order
}

/// `keep` cases that stand for all of them: the one most like the others first, then always the one least like those
/// kept. `similarities` is (case, case).
pub fn farthest_first(similarities: ArrayView2<'_, f64>, keep: usize) -> Vec<usize> {
    let cases = similarities.nrows();
    let mut nearest = vec![f64::NEG_INFINITY; cases];
    let mut kept: Vec<usize> = Vec::new();
    while kept.len() < keep.min(cases) {
        let rest = (0..cases).filter(|case| !kept.contains(case));
        let next = match kept.is_empty() {
            true => rest.max_by(|&a, &b| {
                similarities.row(a).sum().total_cmp(&similarities.row(b).sum()).then(b.cmp(&a))
            }),
            false => rest.min_by(|&a, &b| nearest[a].total_cmp(&nearest[b]).then(a.cmp(&b))),
        };
        let Some(next) = next else { break };
        kept.push(next);
        for (case, nearest) in nearest.iter_mut().enumerate() {
            *nearest = nearest.max(similarities[(next, case)]);
        }
    }
    kept
}
