//! Markov random field: labels that like their neighbours, and intensities that are learned again on the case.
//!
//! Zhang, Brady and Smith, *Segmentation of Brain MR Images Through a Hidden Markov Random Field Model and the
//! Expectation-Maximization Algorithm*, IEEE TMI 20(1), 2001; the prior as an external field as in Van Leemput et al.,
//! IEEE TMI 18(10), 1999. A labelling costs
//!
//! ```text
//! sum_i -log p(y_i | x_i) - log P_i(x_i) + beta sum_{i, j share a face} [x_i != x_j] / distance
//! ```
//!
//! A cycle lowers it by single voxels, weighs classes given the neighbours, and moves the Gaussians by those weights,
//! which `strength` voxels at the training cases' values hold back.

mod field;

use ndarray::ArrayView4;
use rayon::prelude::*;

use super::intensity::{Density, Intensity, Mixture, Moments, is_constant};
use super::resolve::{said_of, with_largest};
use super::{Region, Segmented};
use crate::config::classical::Mrf;
use crate::image::gaussian::gaussian;
pub use field::Field;

/// Cycles at most.
const CYCLES: usize = 10;

/// Sweeps over all voxels in a cycle, at most.
const SWEEPS: usize = 20;

/// Means that move by less than this many standard deviations have settled.
const SETTLED: f64 = 1e-3;

/// Width of the bias field, mm.
const BIAS_WIDTH: f64 = 20.0;

/// Segments a region by the mixtures of training cases: the labelling, and for each voxel the probabilities of its
/// classes given its neighbours.
///
/// `intensity` has one mixture for each class. A bias field, where asked for, is taken as added to the normalised
/// intensities.
pub fn segment(region: &Region<'_>, settings: &Mrf, intensity: &Intensity) -> Segmented {
    let mut notes = Vec::new();
    let constant = is_constant(region.images, &mut notes);
    let strength = if constant { f64::INFINITY } else { settings.strength.value() };
    let bias = settings.bias && !constant;
    let mut model = Model::new(region, intensity.clone(), strength);
    let mut field = Field::new(shape(region), region.spacing, settings.beta.value(), intensity.classes.len());
    if constant {
        model.prior_alone(&mut field);
    } else {
        model.costs(&mut field);
    }
    field.cheapest();
    for cycle in 0..CYCLES {
        if cycle > 0 {
            model.costs(&mut field);
        }
        field.settle(SWEEPS);
        if (strength.is_infinite() && !bias) || cycle + 1 == CYCLES {
            break;
        }
        // The last cycle's costs stay, for the probabilities.
        let settled = model.learn(&field);
        if bias {
            model.correct(&field, region.spacing);
        } else if settled {
            break;
        }
    }
    let mut probabilities = field.probabilities();
    with_largest(probabilities.view_mut(), field.labels());
    notes.extend(said_of(field.labels()));
    Segmented { probabilities, notes }
}

fn shape(region: &Region<'_>) -> [usize; 3] {
    let (_, nx, ny, nz) = region.images.dim();
    [nx, ny, nz]
}

/// The Gaussians of all classes, and what they are learned from.
#[derive(Debug)]
pub struct Model {
    /// Intensities of a voxel beside each other, without the bias.
    images: Vec<f32>,
    /// As they came.
    raw: Vec<f32>,
    /// -log P, class by class.
    prior: Vec<Vec<f32>>,
    before: Intensity,
    /// In force.
    pub intensity: Intensity,
    /// Voxels that the training cases' values count for.
    strength: f64,
}

impl Model {
    /// The training cases' Gaussians, on a region.
    pub fn new(region: &Region<'_>, intensity: Intensity, strength: f64) -> Self {
        let images: Vec<f32> = interleaved(region.images);
        let cost = |prior: &f32| -prior.ln();
        let prior = region.prior.outer_iter().map(|prior| prior.iter().map(cost).collect()).collect();
        Self { raw: images.clone(), images, prior, before: intensity.clone(), intensity, strength }
    }

    fn channels(&self) -> usize {
        self.intensity.variance.len()
    }

    /// Sets a field's costs to those of the prior.
    fn prior_alone(&self, field: &mut Field) {
        field.costs.iter_mut().zip(&self.prior).for_each(|(costs, prior)| costs.copy_from_slice(prior));
    }

    /// Sets a field's costs to those of the prior and of the Gaussians in force.
    pub fn costs(&self, field: &mut Field) {
        let channels = self.channels();
        let classes = self.intensity.classes.iter().zip(&self.prior);
        for (costs, (mixture, prior)) in field.costs.iter_mut().zip(classes) {
            let density = mixture.density();
            let run = 4096;
            let voxels = self.images.par_chunks(run * channels).zip(prior.par_chunks(run));
            costs.par_chunks_mut(run).zip(voxels).for_each(|(costs, (images, prior))| {
                let mut y = vec![0.0; channels];
                for ((cost, image), prior) in costs.iter_mut().zip(images.chunks_exact(channels)).zip(prior) {
                    y.iter_mut().zip(image).for_each(|(y, &image)| *y = f64::from(image));
                    // A class without any density must not make sums of infinities.
                    *cost = (prior - density.log(&y) as f32).min(1e30);
                }
            });
        }
    }

    /// Moves the Gaussians to the voxels of their classes; returns whether they hardly moved.
    pub fn learn(&mut self, field: &Field) -> bool {
        let channels = self.channels();
        let densities = self.densities();
        let none = || -> Vec<Vec<Moments>> {
            let classes = self.intensity.classes.iter();
            classes.map(|mixture| vec![Moments::none(channels); mixture.components.len()]).collect()
        };
        let new = || (none(), vec![0.0; channels], vec![0.0; channels], Vec::new());
        let planes = field.fold(new, |(moments, y, offset, shares), voxel, weights| {
            let image = &self.images[voxel * channels..(voxel + 1) * channels];
            y.iter_mut().zip(image).for_each(|(y, &image)| *y = f64::from(image));
            for (class, &weight) in weights.iter().enumerate() {
                let components = &self.intensity.classes[class].components;
                if weight == 0.0 || components.is_empty() {
                    continue;
                }
                shares.resize(components.len(), 0.0);
                densities[class].shares(y, shares);
                for ((component, moments), share) in components.iter().zip(&mut moments[class]).zip(&*shares)
                {
                    offset.iter_mut().zip(&*y).zip(&component.mean).for_each(|((o, y), mean)| *o = y - mean);
                    moments.add(f64::from(weight) * share, offset);
                }
            }
        });
        let mut sums = none();
        for (plane, ..) in &planes {
            let components = sums.iter_mut().flatten().zip(plane.iter().flatten());
            components.for_each(|(sum, more)| sum.join(more));
        }
        self.update(&sums)
    }

    fn densities(&self) -> Vec<Density> {
        self.intensity.classes.iter().map(Mixture::density).collect()
    }

    fn update(&mut self, moments: &[Vec<Moments>]) -> bool {
        let channels = self.channels();
        let mut settled = true;
        for (class, moments) in moments.iter().enumerate() {
            for (m, moments) in moments.iter().enumerate() {
                let component = &self.intensity.classes[class].components[m];
                let before = &self.before.classes[class].components[m];
                let strength = self.strength * before.weight;
                if strength.is_infinite() {
                    continue;
                }
                let Some(mut updated) = component.updated(moments, before, strength) else { continue };
                for c in 0..channels {
                    let variance = &mut updated.covariance[c * channels + c];
                    // Voxels of one intensity alone would make a class infinitely sure of itself.
                    *variance = variance.max(1e-6 * self.intensity.variance[c].max(1e-6));
                    let moved = (updated.mean[c] - component.mean[c]).abs();
                    settled &= moved < SETTLED * variance.sqrt();
                }
                self.intensity.classes[class].components[m] = updated;
            }
        }
        settled
    }

    /// Estimates the bias as the smooth part of what the Gaussians leave unexplained, each channel by itself, and takes
    /// it from the intensities.
    fn correct(&mut self, field: &Field, spacing: [f64; 3]) {
        let channels = self.channels();
        let densities = self.densities();
        for c in 0..channels {
            let slabs = field.fold(Vec::new, |sums: &mut Vec<[f32; 2]>, voxel, weights| {
                let at = voxel * channels;
                let y: Vec<f64> = self.images[at..at + channels].iter().map(|&y| f64::from(y)).collect();
                let raw = f64::from(self.raw[at + c]);
                let (mut residual, mut precision) = (0.0, 0.0);
                for (class, &weight) in weights.iter().enumerate() {
                    let components = &self.intensity.classes[class].components;
                    if components.is_empty() {
                        continue;
                    }
                    let mut shares = vec![0.0; components.len()];
                    densities[class].shares(&y, &mut shares);
                    for (component, share) in components.iter().zip(shares) {
                        let sure = f64::from(weight) * share / component.covariance[c * channels + c];
                        residual += sure * (raw - component.mean[c]);
                        precision += sure;
                    }
                }
                sums.push([residual as f32, precision as f32]);
            });
            let sums: Vec<[f32; 2]> = slabs.into_iter().flatten().collect();
            let smooth = |part: usize| {
                let part = sums.iter().map(|sum| sum[part]).collect();
                gaussian(field.shaped(part).view(), spacing, BIAS_WIDTH, [0; 3])
            };
            let (residual, precision) = (smooth(0), smooth(1));
            for (voxel, (residual, precision)) in residual.iter().zip(&precision).enumerate() {
                let at = voxel * channels + c;
                self.images[at] = self.raw[at] - residual / precision.max(f32::MIN_POSITIVE);
            }
        }
    }
}

/// All channels of a voxel beside each other, voxels with z fastest.
fn interleaved(images: ArrayView4<'_, f32>) -> Vec<f32> {
    let mut voxels = images;
    voxels.swap_axes(0, 1);
    voxels.swap_axes(1, 2);
    voxels.swap_axes(2, 3);
    voxels.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array4, Axis};

    use super::*;
    use crate::classic::intensity::Component;
    use crate::classic::resolve::labels;
    use crate::config::classical::Tuned;

    /// Three bands along x whose intensities overlap, in two channels, and a prior that knows the middle only.
    fn case() -> (Array4<f32>, Array4<f32>, Intensity) {
        let noise = |x: usize, y: usize, z: usize| ((x * 37 + y * 101 + z * 53) % 19) as f32 / 19.0 - 0.5;
        let band = |x: usize| x / 4;
        let images = Array4::from_shape_fn((2, 12, 7, 5), |(c, x, y, z)| {
            let bright = [0.0, 1.0, 2.0][(band(x) + c) % 3];
            bright + 2.0 * noise(x + 5 * c, y, z)
        });
        let prior =
            Array4::from_shape_fn((3, 12, 7, 5), |(k, x, ..)| if k == band(x) && k == 1 { 0.5 } else { 0.3 });
        let sums = prior.sum_axis(Axis(0));
        let component = |k: usize| Component {
            weight: 0.5,
            mean: vec![[0.1, 0.9, 2.2][k], [0.9, 2.1, 0.1][k]],
            covariance: vec![0.4, 0.05, 0.05, 0.5],
        };
        let other = |k: usize| Component { mean: vec![3.0 - k as f64; 2], ..component(k) };
        let mixture = |k| Mixture { components: vec![component(k), other(k)] };
        (images, prior / sums, Intensity { classes: (0..3).map(mixture).collect(), variance: vec![1.0; 2] })
    }

    fn segmented(
        images: &Array4<f32>,
        prior: &Array4<f32>,
        spacing: [f64; 3],
        settings: &Mrf,
    ) -> Array4<f32> {
        let likelihood = Array4::zeros(prior.dim());
        let region =
            Region { images: images.view(), prior: prior.view(), likelihood: likelihood.view(), spacing };
        let found = segment(&region, settings, &case().2);
        assert!(found.notes.is_empty(), "{:?}", found.notes);
        found.probabilities
    }

    fn settings(beta: f64, strength: f64) -> Mrf {
        Mrf { beta: Tuned::One(beta), strength: Tuned::One(strength), bias: false }
    }

    #[test]
    fn sweeps_never_raise_the_energy_and_all_threads_agree() {
        let (images, prior, intensity) = case();
        let likelihood = Array4::zeros(prior.dim());
        let spacing = [1.0, 0.7, 2.0];
        let region =
            Region { images: images.view(), prior: prior.view(), likelihood: likelihood.view(), spacing };
        let model = Model::new(&region, intensity, 0.0);
        let mut field = Field::new(shape(&region), spacing, 0.8, 3);
        model.costs(&mut field);
        field.cheapest();
        let mut before = field.energy();
        let mut sweeps = 0;
        while field.settle(1) == 1 && sweeps < 30 {
            let after = field.energy();
            assert!(after <= before + 1e-4, "{before} to {after}");
            sweeps += 1;
            if after == before {
                break;
            }
            before = after;
        }
        assert!((2..30).contains(&sweeps), "{sweeps}");
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| segmented(&images, &prior, spacing, &settings(0.5, 20.0)))
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn flips_and_turns_of_the_axes_turn_the_result_and_units_do_not_matter() {
        let (images, prior, _) = case();
        for strength in [f64::INFINITY, 30.0] {
            let found = segmented(&images, &prior, [1.0, 1.5, 2.0], &settings(0.6, strength));
            let found = labels(found.view());
            let flip = |a: &Array4<f32>| a.slice(ndarray::s![.., ..;-1, ..;-1, ..;-1]).to_owned();
            let flipped = segmented(&flip(&images), &flip(&prior), [1.0, 1.5, 2.0], &settings(0.6, strength));
            assert_eq!(labels(flip(&flipped).view()), found);
            let turn = |a: &Array4<f32>| a.clone().permuted_axes([0, 3, 1, 2]);
            let turned = segmented(&turn(&images), &turn(&prior), [2.0, 1.0, 1.5], &settings(0.6, strength));
            assert_eq!(labels(turned.permuted_axes([0, 2, 3, 1]).view()), found);
            let scaled = segmented(&images, &prior, [0.5, 0.75, 1.0], &settings(0.3, strength));
            assert_eq!(labels(scaled.view()), found);
        }
    }

    #[test]
    fn a_bias_field_that_was_added_is_found() {
        let noise = |x: usize, y: usize, z: usize| ((x * 37 + y * 101 + z * 53) % 19) as f32 / 19.0 - 0.5;
        // Blocks of two voxels a side, so that the field is smoother than the classes.
        let truth = |x: usize, y: usize, z: usize| (x / 2 * 5 + y / 2 * 3 + z / 2 * 7) % 3 % 2;
        let image = |x: usize, y: usize, z: usize| {
            truth(x, y, z) as f32 + 0.6 * noise(x, y, z) + 0.12 * (x as f32 - 7.5)
        };
        let images = Array4::from_shape_fn((1, 16, 12, 10), |(_, x, y, z)| image(x, y, z));
        let prior = Array4::from_elem((2, 16, 12, 10), 0.5_f32);
        let class = |mean: f64| Mixture {
            components: vec![Component { weight: 1.0, mean: vec![mean], covariance: vec![0.1] }],
        };
        let intensity = Intensity { classes: vec![class(0.0), class(1.0)], variance: vec![0.5] };
        let region = Region {
            images: images.view(),
            prior: prior.view(),
            likelihood: prior.view(),
            spacing: [8.0; 3],
        };
        let wrong = |bias: bool| {
            let settings = Mrf { bias, ..settings(0.5, f64::INFINITY) };
            let found = segment(&region, &settings, &intensity).probabilities;
            let found = labels(found.view());
            found
                .indexed_iter()
                .filter(|((x, y, z), label)| usize::from(**label) != truth(*x, *y, *z))
                .count()
        };
        let (without, with) = (wrong(false), wrong(true));
        assert!(with * 4 < without, "{with} of 1920 wrong with the field, {without} without");
    }

    #[test]
    fn the_smallest_cases_have_a_result() {
        for shape in [(1, 1, 1), (1, 5, 4), (4, 1, 1)] {
            let prior = Array4::from_shape_fn((3, shape.0, shape.1, shape.2), |(k, ..)| [0.2, 0.7, 0.1][k]);
            let images = Array4::zeros((2, shape.0, shape.1, shape.2));
            let (likelihood, spacing) = (prior.mapv(f32::ln), [1.0; 3]);
            let region =
                Region { images: images.view(), prior: prior.view(), likelihood: likelihood.view(), spacing };
            let found = segment(&region, &settings(0.3, 0.0), &case().2);
            assert!(labels(found.probabilities.view()).iter().all(|&label| label == 1));
            assert_eq!(found.notes[0], "channel 0 is constant: only the prior was used");
        }
    }
}
