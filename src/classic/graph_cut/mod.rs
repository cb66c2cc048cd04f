//! Graph cut: the labelling of least energy, by alpha-expansion over maximum flows.
//!
//! Boykov, Veksler and Zabih, *Fast Approximate Energy Minimization via Graph Cuts*, TPAMI 23(11), 2001. The energy is
//! that of [`energy`]: a voxel's cost is `-log P(class) - likelihood * log p(intensities | class)`, at most 20 above its
//! cheapest class; a pair of neighbours of different classes costs `lambda / distance`, less across edges where
//! `contrast` is set. Two classes are one cut, and its labelling is the best there is. More are expanded in turn until
//! none lowers the energy: within a factor of two of the best, in practice far closer.

pub mod energy;
pub mod max_flow;
mod reduce;

use ndarray::{Array3, Array4, ArrayView4, Axis};

use super::intensity::is_constant;
use super::resolve::{said_of, with_largest};
use super::{Region, Segmented};
use crate::config::classical::GraphCut;
use energy::{ALL, Energy, FACES, Penalty};
use max_flow::LARGEST_CAPACITY;

/// Costs are whole thousandths of a nat.
const UNIT: f64 = 1000.0;

/// How much more than its cheapest class a voxel's class can cost, nats. Beyond it probabilities mean nothing.
const LARGEST_COST: f64 = 20.0;

/// Rounds over all classes, at most.
const CYCLES: usize = 5;

/// Segments a region: the labelling, and for each voxel the probabilities of its classes given its neighbours.
pub fn segment(region: &Region<'_>, settings: &GraphCut) -> Segmented {
    let mut notes = Vec::new();
    let likelihood = if is_constant(region.images, &mut notes) { 0.0 } else { settings.likelihood.value() };
    let energy = Energy {
        shape: shape(region.images),
        lines: if settings.neighbours == 26 { &ALL } else { &FACES },
        data: data(region, likelihood),
        penalty: penalty(region, settings),
    };
    let labels = minimise(&energy);
    let costs = energy.conditional(&labels);
    let (classes, nx, ny, nz) = region.prior.dim();
    let labels = Array3::from_shape_vec((nx, ny, nz), labels);
    let labels = labels.unwrap_or_else(|_| panic!("as many labels as voxels"));
    let mut probabilities = Array4::zeros((classes, nx, ny, nz));
    for (voxel, mut lane) in probabilities.lanes_mut(Axis(0)).into_iter().enumerate() {
        let least = costs.iter().map(|costs| costs[voxel]).min().unwrap_or(0);
        for (probability, costs) in lane.iter_mut().zip(&costs) {
            *probability = (-f64::from(costs[voxel] - least) / UNIT).exp() as f32;
        }
        let sum: f32 = lane.sum();
        lane.mapv_inplace(|probability| probability / sum);
    }
    with_largest(probabilities.view_mut(), labels.view());
    notes.extend(said_of(labels.view()));
    Segmented { probabilities, notes }
}

/// The labelling of least energy that expansions reach from the cheapest class of every voxel, classes in their order,
/// until a whole round moves nothing. With two classes the best of all.
pub fn minimise(energy: &Energy) -> Vec<u8> {
    let classes = energy.data.len();
    if classes == 2 {
        let mut labels = vec![0; energy.shape.iter().product()];
        energy.expand(&mut labels, 1);
        return labels;
    }
    let mut labels = energy.cheapest();
    let mut value = energy.value(&labels);
    for _ in 0..CYCLES {
        let before = value;
        for class in 0..classes {
            if energy.expand(&mut labels, class as u8) {
                let after = energy.value(&labels);
                debug_assert!(after < value, "an expansion raised the energy from {value} to {after}");
                value = after;
            }
        }
        if value == before {
            break;
        }
    }
    labels
}

fn shape(images: ArrayView4<'_, f32>) -> [usize; 3] {
    let (_, nx, ny, nz) = images.dim();
    [nx, ny, nz]
}

/// Costs of classes, class by class, voxels with z fastest.
fn data(region: &Region<'_>, likelihood: f64) -> Vec<Vec<i32>> {
    let nats = |(&prior, &intensity): (&f32, &f32)| {
        let intensity = if likelihood == 0.0 { 0.0 } else { likelihood * f64::from(intensity) };
        -f64::from(prior).ln() - intensity
    };
    let classes = region.prior.outer_iter().zip(region.likelihood.outer_iter());
    let costs = classes.map(|(prior, densities)| prior.into_iter().zip(densities).map(nats));
    let mut least = vec![f64::INFINITY; region.prior.len() / region.prior.dim().0.max(1)];
    for costs in costs.clone() {
        least.iter_mut().zip(costs).for_each(|(least, cost)| *least = least.min(cost));
    }
    let above = |(cost, &least): (f64, &f64)| {
        // Where no class has a density, all cost the same.
        let more = cost - least;
        let more = if more.is_nan() { LARGEST_COST } else { more.min(LARGEST_COST) };
        (more * UNIT).round() as i32
    };
    costs.map(|costs| costs.zip(&least).map(above).collect()).collect()
}

/// Cost of a pair: `lambda / distance`, times the share of axes among all lines. So a surface costs the same with 6 and
/// with 26 neighbours on the average over its directions (Boykov and Kolmogorov, ICCV 2003): its area over the volume
/// of a voxel.
fn penalty(region: &Region<'_>, settings: &GraphCut) -> Penalty {
    let shape = shape(region.images);
    let lines: &[[i32; 3]] = if settings.neighbours == 26 { &ALL } else { &FACES };
    let inside = |line: &&[i32; 3]| (0..3).all(|a| line[a] == 0 || shape[a] > 1);
    let share =
        FACES.iter().filter(inside).count() as f64 / lines.iter().filter(inside).count().max(1) as f64;
    let length = |line: &[i32; 3]| {
        (0..3).map(|a| (f64::from(line[a]) * region.spacing[a]).powi(2)).sum::<f64>().sqrt()
    };
    let weights: Vec<f64> =
        lines.iter().map(|line| settings.lambda.value() * share / length(line) * UNIT).collect();
    let whole = |cost: f64| cost.round().min(f64::from(LARGEST_CAPACITY)) as i32;
    if !settings.contrast.value() {
        return Penalty::Even(weights.into_iter().map(whole).collect());
    }
    let squares: Vec<Vec<f32>> = lines.iter().map(|line| differences(region.images, *line)).collect();
    let count = squares.iter().flatten().filter(|square| square.is_finite()).count().max(1);
    let sum: f64 = squares.iter().flatten().filter(|s| s.is_finite()).map(|&s| f64::from(s)).sum();
    let twice = (2.0 * sum / count as f64).max(f64::MIN_POSITIVE);
    let costs = squares.into_iter().zip(weights).map(|(squares, weight)| {
        squares.into_iter().map(|square| whole(weight * (-f64::from(square) / twice).exp())).collect()
    });
    Penalty::Each(costs.collect())
}

/// Squared differences to the neighbours along a line, the mean over channels; infinite where there is none.
fn differences(images: ArrayView4<'_, f32>, line: [i32; 3]) -> Vec<f32> {
    let (channels, nx, ny, nz) = images.dim();
    let mut squares = Vec::with_capacity(nx * ny * nz);
    for ((x, y), z) in
        (0..nx).flat_map(|x| (0..ny).map(move |y| (x, y))).flat_map(|p| (0..nz).map(move |z| (p, z)))
    {
        let to = [(x, nx, line[0]), (y, ny, line[1]), (z, nz, line[2])]
            .map(|(i, n, d)| i.checked_add_signed(d as isize).filter(|&i| i < n));
        squares.push(match to {
            [Some(u), Some(v), Some(w)] => {
                let square = |c| (images[[c, x, y, z]] - images[[c, u, v, w]]).powi(2);
                (0..channels).map(square).sum::<f32>() / channels as f32
            }
            _ => f32::INFINITY,
        });
    }
    squares
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;
    use crate::classic::resolve::labels;
    use crate::config::classical::Tuned;

    /// A step along x with a dent, noise, and a prior that leans towards the right sides.
    fn case() -> (Array4<f32>, Array4<f32>, Array4<f32>) {
        let inside = |x: usize, y: usize| x >= 4 && !(x == 4 && y == 3);
        let noise = |x: usize, y: usize, z: usize| ((x * 37 + y * 101 + z * 53) % 17) as f32 / 17.0 - 0.5;
        let images = Array4::from_shape_fn((1, 9, 7, 5), |(_, x, y, z)| {
            f32::from(u8::from(inside(x, y))) + 0.8 * noise(x, y, z)
        });
        let prior = Array4::from_shape_fn((3, 9, 7, 5), |(k, x, _, z)| {
            let shares = if x >= 4 { [0.3, 0.4, 0.3] } else { [0.5, 0.3, 0.2] };
            if z == 0 { [0.2, 0.1, 0.7][k] } else { shares[k] }
        });
        let likelihood = Array4::from_shape_fn((3, 9, 7, 5), |(k, x, y, z)| {
            -4.0 * (images[[0, x, y, z]] - [0.0, 1.0, 0.5][k]).powi(2)
        });
        (images, prior, likelihood)
    }

    fn segmented(
        parts: &(Array4<f32>, Array4<f32>, Array4<f32>),
        spacing: [f64; 3],
        settings: &GraphCut,
    ) -> Array4<f32> {
        let (images, prior, likelihood) = parts;
        let region =
            Region { images: images.view(), prior: prior.view(), likelihood: likelihood.view(), spacing };
        segment(&region, settings).probabilities
    }

    fn settings(lambda: f64, contrast: bool, neighbours: usize) -> GraphCut {
        GraphCut {
            lambda: Tuned::One(lambda),
            likelihood: Tuned::One(1.0),
            contrast: Tuned::One(contrast),
            neighbours,
        }
    }

    #[test]
    fn flips_and_turns_of_the_axes_turn_the_result() {
        let parts = case();
        for (contrast, neighbours) in [(false, 6), (true, 6), (true, 26)] {
            let settings = settings(0.6, contrast, neighbours);
            let found = segmented(&parts, [1.0, 1.5, 2.0], &settings);
            let flip = |a: &Array4<f32>| a.slice(s![.., ..;-1, .., ..;-1]).to_owned();
            let flipped =
                segmented(&(flip(&parts.0), flip(&parts.1), flip(&parts.2)), [1.0, 1.5, 2.0], &settings);
            assert_eq!(labels(flip(&flipped).view()), labels(found.view()), "{neighbours}");
            let turn = |a: &Array4<f32>| a.clone().permuted_axes([0, 3, 1, 2]);
            let turned =
                segmented(&(turn(&parts.0), turn(&parts.1), turn(&parts.2)), [2.0, 1.0, 1.5], &settings);
            assert_eq!(
                labels(turned.permuted_axes([0, 2, 3, 1]).view()),
                labels(found.view()),
                "{neighbours}"
            );
        }
    }

    #[test]
    fn lengths_may_be_in_any_unit() {
        let parts = case();
        let found = segmented(&parts, [1.0, 1.5, 2.0], &settings(0.6, true, 6));
        assert_eq!(segmented(&parts, [0.25, 0.375, 0.5], &settings(0.15, true, 6)), found);
    }

    #[test]
    fn labels_follow_costs_alone_without_a_penalty_and_one_class_with_a_large_one() {
        let parts = case();
        let free = segmented(&parts, [1.0; 3], &settings(0.0, false, 6));
        let mut best = parts.1.mapv(f32::ln) + &parts.2;
        best.mapv_inplace(f32::exp);
        assert_eq!(labels(free.view()), labels(best.view()));
        let stiff = labels(segmented(&parts, [1.0; 3], &settings(1e9, false, 26)).view());
        assert!(stiff.iter().all(|&label| label == stiff[[0, 0, 0]]));
    }

    #[test]
    fn the_smallest_cases_have_a_result() {
        for shape in [(1, 1, 1), (1, 5, 4), (4, 1, 1)] {
            let prior = Array4::from_shape_fn((2, shape.0, shape.1, shape.2), |(k, ..)| [0.4, 0.6][k]);
            let parts = (Array4::zeros((1, shape.0, shape.1, shape.2)), prior.clone(), prior.mapv(f32::ln));
            for neighbours in [6, 26] {
                let (images, prior, likelihood) = (&parts.0, &parts.1, &parts.2);
                let region = Region {
                    images: images.view(),
                    prior: prior.view(),
                    likelihood: likelihood.view(),
                    spacing: [1.0; 3],
                };
                let found = segment(&region, &settings(1.0, true, neighbours));
                assert!(labels(found.probabilities.view()).iter().all(|&label| label == 1));
                assert!(found.probabilities.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
                assert_eq!(found.notes, ["channel 0 is constant: only the prior was used"]);
            }
        }
    }

    #[test]
    fn an_empty_foreground_is_told_and_a_class_without_density_is_no_trouble() {
        let prior = Array4::from_shape_fn((3, 3, 3, 3), |(k, ..)| [0.9998, 1e-4, 1e-4][k]);
        let likelihood = Array4::from_shape_fn((3, 3, 3, 3), |(k, ..)| [-1.0, -1.0, f32::NEG_INFINITY][k]);
        let images = Array4::from_shape_fn((1, 3, 3, 3), |(_, x, ..)| x as f32);
        let found = segmented(
            &(images.clone(), prior.clone(), likelihood.clone()),
            [1.0; 3],
            &settings(0.3, false, 6),
        );
        assert!(labels(found.view()).iter().all(|&label| label == 0));
        let region = Region {
            images: images.view(),
            prior: prior.view(),
            likelihood: likelihood.view(),
            spacing: [1.0; 3],
        };
        assert_eq!(segment(&region, &GraphCut::default()).notes, ["no voxel of any class was found"]);
    }
}
