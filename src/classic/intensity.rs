//! What intensities say of a class: one mixture of Gaussians over the channels for each, fitted to training cases.
//!
//! `p(y | class) = sum_m weight_m N(y; mean_m, covariance_m)`, by expectation-maximisation from a k-means++ start that
//! is drawn by the class alone. The background has three components, since scans hold more than one kind of it.

use ndarray::{Array4, ArrayView3, ArrayView4, Axis};
use rand::{Rng, RngExt};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::rng;

/// Voxels of a class that its mixture is fitted to, at most.
pub const SAMPLES: usize = 20_000;

/// Components of the background and of another class, where there are voxels enough.
const COMPONENTS: [usize; 2] = [3, 2];

/// Below this number of voxels a class has one component.
const FEW: usize = 500;

/// Iterations at most, and the gain in mean log-likelihood below which they end.
const ITERATIONS: usize = 100;
const GAIN: f64 = 1e-5;

/// Share of the variance of all samples that is added to every covariance, so that each can be inverted.
const RIDGE: f64 = 1e-3;

/// A component of less weight is dropped.
const LIGHTEST: f64 = 0.01;

/// Mixtures of all classes, background first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intensity {
    /// One for each class.
    pub classes: Vec<Mixture>,
    /// Variance of each channel over the samples of all classes.
    pub variance: Vec<f64>,
}

/// A mixture of Gaussians. Without components, of a class that no sample had, it gives every intensity density 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixture {
    /// Its parts; their weights sum to 1.
    pub components: Vec<Component>,
}

/// A weighted Gaussian.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Share of its mixture.
    pub weight: f64,
    /// Of each channel.
    pub mean: Vec<f64>,
    /// Row by row.
    pub covariance: Vec<f64>,
}

/// Sums over weighted samples, about a fixed point.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Sum of weights.
    pub weight: f64,
    /// Sum of weight times offset.
    pub first: Vec<f64>,
    /// Sum of weight times products of offsets, row by row.
    pub second: Vec<f64>,
}

impl Moments {
    /// Of no samples.
    pub fn none(channels: usize) -> Self {
        Self { weight: 0.0, first: vec![0.0; channels], second: vec![0.0; channels * channels] }
    }

    /// Adds a sample.
    #[inline]
    pub fn add(&mut self, weight: f64, offset: &[f64]) {
        let channels = offset.len();
        self.weight += weight;
        for a in 0..channels {
            self.first[a] += weight * offset[a];
            for b in 0..channels {
                self.second[a * channels + b] += weight * offset[a] * offset[b];
            }
        }
    }

    /// Adds the sums of other samples about the same point.
    pub fn join(&mut self, other: &Self) {
        self.weight += other.weight;
        self.first.iter_mut().zip(&other.first).for_each(|(sum, more)| *sum += more);
        self.second.iter_mut().zip(&other.second).for_each(|(sum, more)| *sum += more);
    }
}

impl Component {
    /// Mean and covariance of the samples of `moments`, which are about `self.mean`, and of `strength` more that are
    /// spread as in `before`. The covariance is about the new mean. `None` where there are no samples at all.
    pub fn updated(&self, moments: &Moments, before: &Self, strength: f64) -> Option<Self> {
        let channels = self.mean.len();
        let total = moments.weight + strength;
        if total.is_nan() || total <= 0.0 {
            return None;
        }
        let away: Vec<f64> = (0..channels).map(|c| before.mean[c] - self.mean[c]).collect();
        let shift: Vec<f64> =
            (0..channels).map(|c| (moments.first[c] + strength * away[c]) / total).collect();
        let covariance = |i: usize| {
            let (a, b) = (i / channels, i % channels);
            let prior = before.covariance[i] + away[a] * away[b];
            (moments.second[i] + strength * prior) / total - shift[a] * shift[b]
        };
        Some(Self {
            weight: self.weight,
            covariance: (0..channels * channels).map(covariance).collect(),
            mean: self.mean.iter().zip(&shift).map(|(mean, shift)| mean + shift).collect(),
        })
    }

    /// Adds to the variances.
    pub fn widen(&mut self, variance: &[f64]) {
        let channels = self.mean.len();
        for (c, variance) in variance.iter().enumerate() {
            self.covariance[c * channels + c] += RIDGE * variance.max(1e-6);
        }
    }
}

/// A component ready to be evaluated.
#[derive(Debug)]
struct Gaussian {
    mean: Vec<f64>,
    /// The inverse of the covariance's lower Cholesky factor, row by row.
    whiten: Vec<f64>,
    /// Logarithm of weight over normalisation.
    height: f64,
}

impl Gaussian {
    fn of(component: &Component) -> Self {
        let n = component.mean.len();
        let mut factor = vec![0.0; n * n];
        let mut height = component.weight.ln() - 0.5 * n as f64 * std::f64::consts::TAU.ln();
        for a in 0..n {
            for b in 0..=a {
                let dot: f64 = (0..b).map(|c| factor[a * n + c] * factor[b * n + c]).sum();
                let rest = component.covariance[a * n + b] - dot;
                factor[a * n + b] =
                    if a == b { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / factor[b * n + b] };
            }
            height -= factor[a * n + a].ln();
        }
        let mut whiten = vec![0.0; n * n];
        for b in 0..n {
            for a in b..n {
                let dot: f64 = (b..a).map(|c| factor[a * n + c] * whiten[c * n + b]).sum();
                whiten[a * n + b] = (f64::from(u8::from(a == b)) - dot) / factor[a * n + a];
            }
        }
        Self { mean: component.mean.clone(), whiten, height }
    }

    #[inline]
    fn log(&self, y: &[f64]) -> f64 {
        let n = self.mean.len();
        let mut square = 0.0;
        for a in 0..n {
            let z: f64 = (0..=a).map(|b| self.whiten[a * n + b] * (y[b] - self.mean[b])).sum();
            square += z * z;
        }
        self.height - 0.5 * square
    }
}

/// A mixture ready to be evaluated.
#[derive(Debug)]
pub struct Density(Vec<Gaussian>);

impl Density {
    /// `log p(y)`.
    #[inline]
    pub fn log(&self, y: &[f64]) -> f64 {
        match self.0.as_slice() {
            [one] => one.log(y),
            several => log_sum(several.iter().map(|gaussian| gaussian.log(y))),
        }
    }

    /// `log p(y)`, and in `shares` how much of it each component has.
    #[inline]
    pub fn shares(&self, y: &[f64], shares: &mut [f64]) -> f64 {
        if let [one] = self.0.as_slice() {
            shares[0] = 1.0;
            return one.log(y);
        }
        shares.iter_mut().zip(&self.0).for_each(|(share, gaussian)| *share = gaussian.log(y));
        let sum = log_sum(shares.iter().copied());
        shares.iter_mut().for_each(|share| *share = (*share - sum).exp());
        sum
    }
}

/// log sum exp.
fn log_sum(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_finite() {
        largest + logs.map(|log| (log - largest).exp()).sum::<f64>().ln()
    } else {
        largest
    }
}

impl Mixture {
    /// Prepares it for evaluation.
    pub fn density(&self) -> Density {
        Density(self.components.iter().map(Gaussian::of).collect())
    }

    /// Fits `count` components, fewer where some have hardly a sample, to samples of `variance.len()` channels each.
    fn fit(samples: &[f64], variance: &[f64], count: usize, generator: &mut impl Rng) -> Self {
        let mut mixture = Self::start(samples, variance, count, generator);
        let mut before = f64::NEG_INFINITY;
        for _ in 0..ITERATIONS {
            let after = mixture.improve(samples, variance);
            if after - before < GAIN {
                break;
            }
            before = after;
        }
        mixture
    }

    /// Each sample belongs to the nearest of centres that were drawn far apart (k-means++).
    fn start(samples: &[f64], variance: &[f64], count: usize, generator: &mut impl Rng) -> Self {
        let channels = variance.len();
        let voxels = samples.len() / channels.max(1);
        if voxels == 0 {
            return Self { components: Vec::new() };
        }
        let sample = |i: usize| &samples[i * channels..(i + 1) * channels];
        let square = |a: &[f64], b: &[f64]| {
            let terms = a.iter().zip(b).zip(variance);
            terms.map(|((a, b), variance)| (a - b).powi(2) / variance.max(1e-6)).sum::<f64>()
        };
        let mut owner = vec![0; voxels];
        let mut nearest = vec![f64::INFINITY; voxels];
        let mut centre = generator.random_range(0..voxels);
        let mut centres = 0;
        loop {
            for i in 0..voxels {
                let away = square(sample(i), sample(centre));
                if away < nearest[i] {
                    (nearest[i], owner[i]) = (away, centres);
                }
            }
            centres += 1;
            let sum: f64 = nearest.iter().sum();
            if centres == count || sum <= 0.0 {
                break;
            }
            let mut left = generator.random::<f64>() * sum;
            let drawn = nearest.iter().position(|away| {
                left -= away;
                left < 0.0
            });
            let farthest = || (0..voxels).fold(0, |far, i| if nearest[i] > nearest[far] { i } else { far });
            centre = drawn.unwrap_or_else(farthest);
        }
        let mut moments = vec![Moments::none(channels); centres];
        for i in 0..voxels {
            moments[owner[i]].add(1.0, sample(i));
        }
        let origin =
            Component { weight: 1.0, mean: vec![0.0; channels], covariance: vec![0.0; channels * channels] };
        Self { components: vec![origin; centres] }.renewed(&moments, variance)
    }

    /// One iteration; returns the mean log-likelihood before it.
    fn improve(&mut self, samples: &[f64], variance: &[f64]) -> f64 {
        let channels = variance.len();
        let density = self.density();
        let mut moments = vec![Moments::none(channels); self.components.len()];
        let (mut shares, mut offset) = (vec![0.0; self.components.len()], vec![0.0; channels]);
        let mut sum = 0.0;
        for y in samples.chunks_exact(channels) {
            sum += density.shares(y, &mut shares);
            for ((component, moments), &share) in self.components.iter().zip(&mut moments).zip(&shares) {
                offset.iter_mut().zip(y).zip(&component.mean).for_each(|((o, y), mean)| *o = y - mean);
                moments.add(share, &offset);
            }
        }
        *self = std::mem::replace(self, Self { components: Vec::new() }).renewed(&moments, variance);
        sum / (samples.len() / channels).max(1) as f64
    }

    /// The components that the samples of each one's moments make, light ones left out.
    fn renewed(self, moments: &[Moments], variance: &[f64]) -> Self {
        let total: f64 = moments.iter().map(|moments| moments.weight).sum();
        let mut components = Vec::new();
        for (component, moments) in self.components.iter().zip(moments) {
            let weight = moments.weight / total;
            if weight < LIGHTEST {
                continue;
            }
            if let Some(mut updated) = component.updated(moments, component, 0.0) {
                updated.weight = weight;
                updated.widen(variance);
                components.push(updated);
            }
        }
        let total: f64 = components.iter().map(|component| component.weight).sum();
        components.iter_mut().for_each(|component| component.weight /= total);
        Self { components }
    }
}

impl Intensity {
    /// Fits a mixture to the samples of each class, `channels` numbers a sample.
    ///
    /// Same samples, same mixtures.
    pub fn fit(samples: &[Vec<f32>], channels: usize) -> Self {
        let variance: Vec<f64> = (0..channels).map(|c| variance(samples, channels, c)).collect();
        let fit = |(class, samples): (usize, &Vec<f32>)| {
            let samples: Vec<f64> = samples.iter().map(|&y| f64::from(y)).collect();
            let few = samples.len() < FEW * channels;
            let count = if few { 1 } else { COMPONENTS[class.min(1)] };
            let mut generator = rng::generator(0, &["intensity", &class.to_string()]);
            Mixture::fit(&samples, &variance, count, &mut generator)
        };
        Self { classes: samples.par_iter().enumerate().map(fit).collect(), variance }
    }

    /// log p(intensities | class), (class, x, y, z), of images (channel, x, y, z).
    pub fn log_likelihood(&self, images: ArrayView4<'_, f32>) -> Array4<f32> {
        let (channels, nx, ny, nz) = images.dim();
        let mut logs = Array4::zeros((self.classes.len(), nx, ny, nz));
        for (mixture, mut plane) in self.classes.iter().zip(logs.outer_iter_mut()) {
            let density = mixture.density();
            plane.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(x, mut slab)| {
                let mut intensities = vec![0.0; channels];
                for ((y, z), log) in slab.indexed_iter_mut() {
                    (0..channels).for_each(|c| intensities[c] = f64::from(images[[c, x, y, z]]));
                    *log = density.log(&intensities) as f32;
                }
            });
        }
        logs
    }
}

/// Intensities of at most `count` voxels of a class in a case, spread evenly over it, all channels of a voxel beside each
/// other. `images` are (channel, x, y, z).
pub fn draw(images: ArrayView4<'_, f32>, labels: ArrayView3<'_, u8>, class: u8, count: usize) -> Vec<f32> {
    let voxels: Vec<_> =
        labels.indexed_iter().filter(|(_, label)| **label == class).map(|(p, _)| p).collect();
    let taken = count.min(voxels.len());
    let mut generator = rng::generator(0, &["intensity", &class.to_string(), "voxels"]);
    let mut samples = Vec::with_capacity(taken * images.dim().0);
    for k in 0..taken {
        // One of each run of voxels.
        let (first, end) = (k * voxels.len() / taken, (k + 1) * voxels.len() / taken);
        let (x, y, z) = voxels[generator.random_range(first..end)];
        samples.extend((0..images.dim().0).map(|c| images[[c, x, y, z]]));
    }
    samples
}

fn variance(samples: &[Vec<f32>], channels: usize, channel: usize) -> f64 {
    let values = || samples.iter().flat_map(|class| class.iter().skip(channel).step_by(channels));
    let count = values().count().max(1) as f64;
    let mean = values().map(|&y| f64::from(y)).sum::<f64>() / count;
    values().map(|&y| (f64::from(y) - mean).powi(2)).sum::<f64>() / count
}

/// Whether no channel of a region tells its voxels apart; constant channels are told.
pub fn is_constant(images: ArrayView4<'_, f32>, notes: &mut Vec<String>) -> bool {
    let is_constant = |channel: ndarray::ArrayView3<'_, f32>| {
        let first = channel.first().copied();
        channel.iter().all(|&y| Some(y) == first)
    };
    let constant: Vec<usize> = images
        .outer_iter()
        .enumerate()
        .filter(|(_, image)| is_constant(image.view()))
        .map(|(c, _)| c)
        .collect();
    let all = constant.len() == images.dim().0;
    for channel in constant {
        let used = if all { ": only the prior was used" } else { "" };
        notes.push(format!("channel {channel} is constant{used}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(i: usize) -> f32 {
        // A sum of uniform draws is nearly a Gaussian of variance 1.
        let mut n = i as u64 * 12 + 1;
        let mut draw = || {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (n >> 40) as f32 / (1_u64 << 24) as f32
        };
        // The first draws still show how close the seeds are.
        let _early: f32 = (0..20).map(|_| draw()).sum();
        (0..12).map(|_| draw()).sum::<f32>() - 6.0
    }

    #[test]
    fn two_heaps_of_a_class_become_two_components() {
        let background: Vec<f32> = (0..6000).map(|i| noise(i) * 0.5).collect();
        let heaps = |i: usize| if i.is_multiple_of(4) { 8.0 + noise(i) } else { 3.0 + 0.5 * noise(i) };
        let foreground: Vec<f32> = (0..4000).map(heaps).collect();
        let intensity = Intensity::fit(&[background, foreground], 1);
        let mut found = intensity.classes[1].components.clone();
        found.sort_by(|a, b| a.mean[0].total_cmp(&b.mean[0]));
        assert_eq!(found.len(), 2);
        for (component, (weight, mean, deviation)) in found.iter().zip([(0.75, 3.0, 0.5), (0.25, 8.0, 1.0)]) {
            assert!((component.weight - weight).abs() < 0.02, "{component:?}");
            assert!((component.mean[0] - mean).abs() < 0.1, "{component:?}");
            assert!((component.covariance[0].sqrt() - deviation).abs() < 0.1, "{component:?}");
        }
        let text = serde_json::to_string(&intensity).unwrap();
        let read: Intensity = serde_json::from_str(&text).unwrap();
        assert!(
            (read.classes[1].components[0].mean[0] - intensity.classes[1].components[0].mean[0]).abs()
                < 1e-12
        );
    }

    #[test]
    fn a_gaussian_of_two_channels_has_the_density_of_the_formula() {
        let component =
            Component { weight: 1.0, mean: vec![1.0, -2.0], covariance: vec![2.0, 0.6, 0.6, 1.0] };
        let density = Mixture { components: vec![component] }.density();
        // determinant 1.64; offset (1, 1): (1 * 1 - 2 * 0.6 + 2 * 1) / 1.64
        let expected = -0.5 * (1.8 / 1.64) - 0.5 * 1.64_f64.ln() - std::f64::consts::TAU.ln();
        assert!((density.log(&[2.0, -1.0]) - expected).abs() < 1e-12);
        let mut share = [0.0];
        assert_eq!(density.shares(&[2.0, -1.0], &mut share), density.log(&[2.0, -1.0]));
        assert_eq!(share, [1.0]);
    }

    #[test]
    fn few_equal_and_missing_samples_are_no_trouble() {
        let intensity = Intensity::fit(&[vec![1.0; 2000], vec![2.0], vec![]], 1);
        assert_eq!(intensity.classes.iter().map(|m| m.components.len()).collect::<Vec<_>>(), [1, 1, 0]);
        let images = Array4::from_shape_fn((1, 1, 1, 2), |(.., z)| [1.0, 2.0][z]);
        let logs = intensity.log_likelihood(images.view());
        assert!(logs[[0, 0, 0, 0]] > logs[[1, 0, 0, 0]] && logs[[1, 0, 0, 1]] > logs[[0, 0, 0, 1]]);
        assert!(logs.index_axis(Axis(0), 2).iter().all(|&log| log == f32::NEG_INFINITY));
    }

    #[test]
    fn samples_are_spread_over_a_class_and_always_the_same() {
        let images =
            Array4::from_shape_fn((2, 10, 10, 10), |(c, x, y, z)| (1000 * c + 100 * x + 10 * y + z) as f32);
        let labels = ndarray::Array3::from_shape_fn((10, 10, 10), |(x, ..)| u8::from(x >= 5));
        let drawn = draw(images.view(), labels.view(), 1, 50);
        assert_eq!(drawn, draw(images.view(), labels.view(), 1, 50));
        assert_eq!(drawn.len(), 100);
        for (k, pair) in drawn.chunks(2).enumerate() {
            assert!((500 + 10 * k..510 + 10 * k).contains(&(pair[0] as usize)), "{k}: {pair:?}");
            assert_eq!(pair[1], pair[0] + 1000.0);
        }
        assert_eq!(draw(images.view(), labels.view(), 1, 9999).len(), 1000);
        assert!(draw(images.view(), labels.view(), 2, 50).is_empty());
    }
}
