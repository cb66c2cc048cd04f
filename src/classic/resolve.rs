//! From regions of single classes to one label map, and where such regions start.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, ArrayViewMut4, Axis, Zip};

use super::stencil::unit;
use crate::image::components::{Connectivity, components, fill_holes};
use crate::image::distance::distance;

/// What training cases say of the parts of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Any number of them.
    Any,
    /// Always one, without holes.
    One,
    /// Lesions: each part that is more likely than not is a start, small ones left out.
    Lesions,
}

/// Voxels of the smallest lesion that is a start of its own.
const LESION_VOXELS: u64 = 10;

/// Its volume, cubic millimetres.
const LESION_VOLUME: f64 = 20.0;

/// Lesions that are starts, at most.
const LESIONS: usize = 100;

/// Where a class starts: the voxels where its prior is the largest of all, the smaller class on ties. Of lesions, the
/// 26-connected parts where it is above one half, the largest ones. What was left out is told.
pub fn start(
    prior: ArrayView4<'_, f32>,
    class: usize,
    spacing: [f64; 3],
    parts: Parts,
    notes: &mut Vec<String>,
) -> Array3<bool> {
    if parts != Parts::Lesions {
        let (_, nx, ny, nz) = prior.dim();
        let mut inside = Array3::from_elem((nx, ny, nz), true);
        let own = prior.index_axis(Axis(0), class);
        for (other, prior) in prior.outer_iter().enumerate().filter(|(other, _)| *other != class) {
            Zip::from(&mut inside).and(own).and(prior).for_each(|inside, own, prior| {
                *inside &= own > prior || (own == prior && class < other);
            });
        }
        return inside;
    }
    let likely = prior.index_axis(Axis(0), class).mapv(|prior| prior > 0.5);
    let found = components(likely.view(), Connectivity::TwentySix);
    let volume = spacing.iter().product::<f64>();
    let large = |&size: &u64| size >= LESION_VOXELS && size as f64 * volume >= LESION_VOLUME;
    let mut kept: Vec<usize> = (0..found.sizes.len()).filter(|&part| large(&found.sizes[part])).collect();
    kept.sort_by_key(|&part| (std::cmp::Reverse(found.sizes[part]), part));
    if kept.len() > LESIONS {
        let more = kept.len() - LESIONS;
        notes.push(format!(
            "class {class} starts from its {LESIONS} largest parts, {more} smaller ones were left out"
        ));
        kept.truncate(LESIONS);
    }
    let mut is_kept = vec![false; found.sizes.len() + 1];
    kept.into_iter().for_each(|part| is_kept[part + 1] = true);
    found.labels.mapv(|part| is_kept[part as usize])
}

/// Distance to the faces between voxels inside and outside, mm, above 0 inside; infinite where there are none.
pub fn signed_distance(inside: &Array3<bool>, spacing: [f64; 3]) -> Vec<f64> {
    let outside = inside.mapv(|inside| !inside);
    let (to_inside, to_outside) = (distance(inside.view(), spacing), distance(outside.view(), spacing));
    let half = 0.5 * unit(spacing);
    let signed = to_outside.iter().zip(&to_inside);
    signed.map(|(outside, inside)| if *inside == 0.0 { outside - half } else { half - inside }).collect()
}

/// One label map from the depths of the foreground classes, above 0 inside, in smallest spacings; and probabilities in
/// which its labels are the largest.
///
/// A voxel inside several classes takes the deepest, the smaller on ties. Of a class that always has one part the
/// largest is kept and its holes are filled. A class has the probability 1 / (1 + exp(-2 depth)), the background what
/// the likeliest class leaves, and all are brought to the sum 1. `parts` counts from the background, as classes do; a
/// class that it does not name may have any.
pub fn resolve(depths: &[Array3<f32>], parts: &[Parts], shape: [usize; 3]) -> Array4<f32> {
    let [nx, ny, nz] = shape;
    let mut labels = Array3::<u8>::zeros((nx, ny, nz));
    let mut deepest = Array3::<f32>::zeros((nx, ny, nz));
    for (index, depth) in depths.iter().enumerate() {
        Zip::from(&mut labels).and(&mut deepest).and(depth).for_each(|label, deepest, &depth| {
            if depth > *deepest {
                (*label, *deepest) = (index as u8 + 1, depth);
            }
        });
    }
    for class in 1..=depths.len() {
        if parts.get(class) == Some(&Parts::One) {
            keep_one_part(&mut labels, class as u8);
        }
    }
    let mut probabilities = Array4::zeros((depths.len() + 1, nx, ny, nz));
    for (index, depth) in depths.iter().enumerate() {
        let mut plane = probabilities.index_axis_mut(Axis(0), index + 1);
        Zip::from(&mut plane).and(depth).for_each(|p, &depth| *p = 1.0 / (1.0 + (-2.0 * depth).exp()));
    }
    for mut lane in probabilities.lanes_mut(Axis(0)) {
        lane[0] = 1.0 - lane.iter().copied().fold(0.0, f32::max);
        let sum = lane.sum();
        lane.mapv_inplace(|p| p / sum);
    }
    with_largest(probabilities.view_mut(), labels.view());
    probabilities
}

/// The label of each voxel: its likeliest class, the smaller on ties.
pub fn labels(probabilities: ArrayView4<'_, f32>) -> Array3<u8> {
    let (_, nx, ny, nz) = probabilities.dim();
    let mut labels = Array3::zeros((nx, ny, nz));
    Zip::from(&mut labels).and(probabilities.lanes(Axis(0))).for_each(|label, lane| {
        let better = |best: usize, class: usize| if lane[class] > lane[best] { class } else { best };
        *label = (1..lane.len()).fold(0, better) as u8;
    });
    labels
}

fn keep_one_part(labels: &mut Array3<u8>, class: u8) {
    let found = components(labels.mapv(|label| label == class).view(), Connectivity::TwentySix);
    // The first of the largest.
    let largest = (0..found.sizes.len()).rev().max_by_key(|&part| found.sizes[part]);
    let Some(largest) = largest.map(|part| part as u32 + 1) else { return };
    let filled = fill_holes(found.labels.mapv(|part| part == largest).view());
    Zip::from(labels).and(&found.labels).and(&filled).for_each(|label, &part, &inside| {
        if part != 0 && part != largest {
            *label = 0;
        }
        if inside && *label == 0 {
            *label = class;
        }
    });
}

/// Makes every voxel's label its likeliest class, where that is not so by itself: it changes places with the one that
/// is, and wins ties.
pub fn with_largest(mut probabilities: ArrayViewMut4<'_, f32>, labels: ArrayView3<'_, u8>) {
    /// Share that goes to the label of a tie.
    const TIE: f32 = 1e-3;
    Zip::from(probabilities.lanes_mut(Axis(0))).and(labels).for_each(|mut lane, &label| {
        let label = usize::from(label);
        let best =
            (0..lane.len()).fold(label, |best, class| if lane[class] > lane[best] { class } else { best });
        lane.swap(label, best);
        if (0..label).any(|class| lane[class] == lane[label]) {
            lane.mapv_inplace(|p| p * (1.0 - TIE));
            lane[label] += TIE;
        }
    });
}

/// What a user is to know of a label map without foreground.
pub fn said_of(labels: ArrayView3<'_, u8>) -> Option<String> {
    labels.iter().all(|&label| label == 0).then(|| "no voxel of any class was found".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_class_wins_and_one_part_without_holes_is_kept() {
        let mut first = Array3::from_elem((7, 7, 7), -1.0_f32);
        let mut second = first.clone();
        // A shell with a hole, a speck far off, and a second class over one of its sides.
        first.slice_mut(ndarray::s![1..5, 1..5, 1..5]).fill(1.0);
        first[[2, 2, 2]] = -1.0;
        first[[6, 6, 6]] = 2.0;
        second.slice_mut(ndarray::s![4..6, 1..5, 1..5]).fill(1.5);
        let any = labels(resolve(&[first.clone(), second.clone()], &[], [7; 3]).view());
        assert_eq!((any[[2, 2, 2]], any[[6, 6, 6]], any[[4, 2, 2]], any[[3, 2, 2]]), (0, 1, 2, 1));
        let probabilities = resolve(&[first, second], &[Parts::Any, Parts::One, Parts::Any], [7; 3]);
        let one = labels(probabilities.view());
        assert_eq!((one[[2, 2, 2]], one[[6, 6, 6]], one[[4, 2, 2]], one[[3, 2, 2]]), (1, 0, 2, 1));
        assert!(probabilities.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }

    #[test]
    fn lesions_start_from_parts_that_are_large_enough() {
        let mut prior = Array4::from_elem((2, 60, 12, 12), 0.1_f32);
        for (place, size) in [(0, 3), (10, 2), (20, 4)] {
            prior.slice_mut(ndarray::s![1, place..place + size, 0..size, 0..size]).fill(0.6);
        }
        let mut notes = Vec::new();
        let found = start(prior.view(), 1, [1.0; 3], Parts::Lesions, &mut notes);
        assert_eq!(found.iter().filter(|inside| **inside).count(), 27 + 64);
        let thin = start(prior.view(), 1, [1.0, 1.0, 0.5], Parts::Lesions, &mut notes);
        assert_eq!(thin.iter().filter(|inside| **inside).count(), 64);
        assert!(notes.is_empty());
        let mut many = Array4::from_elem((2, 60, 12, 24), 0.1_f32);
        for (x, y, z) in (0..15).flat_map(|x| (0..3).flat_map(move |y| (0..6).map(move |z| (x, y, z)))) {
            let part = ndarray::s![1, 4 * x..4 * x + 3, 4 * y..4 * y + 3, 4 * z..4 * z + 3];
            many.slice_mut(part).fill(0.6);
        }
        let found = start(many.view(), 1, [1.0; 3], Parts::Lesions, &mut notes);
        assert_eq!(found.iter().filter(|inside| **inside).count(), 2700);
        assert_eq!(notes, ["class 1 starts from its 100 largest parts, 170 smaller ones were left out"]);
    }

    #[test]
    fn a_label_becomes_the_likeliest_class_whatever_it_was() {
        let mut probabilities = Array4::from_shape_fn((3, 1, 1, 3), |(k, .., z)| {
            [[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]][z][k]
        });
        let wanted = Array3::from_shape_fn((1, 1, 3), |(.., z)| [2_u8, 1, 2][z]);
        with_largest(probabilities.view_mut(), wanted.view());
        assert_eq!(labels(probabilities.view()), wanted);
        assert_eq!(probabilities[[0, 0, 0, 0]], 0.2);
        assert!(probabilities.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-6));
    }
}
