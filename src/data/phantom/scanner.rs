//! From tissues to voxels as a scanner would give them.

use ndarray::{Array3, Zip};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::Split;
use super::field::{Domain, blur, smooth};

/// One magnetic resonance scanner and the day it had: training cases come from one kind, test cases from another
/// with other contrast, more noise and a stronger bias field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Magnet {
    /// Intensity of normal white matter is multiplied by this.
    gain: f32,
    /// Factor on the difference of a tissue from the mean of all.
    contrast: f32,
    /// Exponent on intensities relative to white matter.
    gamma: f32,
    /// Spread of a tissue's intensity between patients, relative.
    tissue: f32,
    /// Standard deviation of the logarithm of the bias field.
    bias: f32,
    /// Standard deviation of the noise in each of the two receiver channels, relative to white matter.
    noise: f32,
    /// Standard deviation of the blur, voxels.
    sharpness: f32,
    /// Standard deviation of intensities within a tissue, relative.
    texture: f32,
}

/// Intensity of white matter before gain in the tissue tables.
const REFERENCE: f32 = 100.0;

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    rng.sample::<f32, _>(StandardNormal).clamp(-3.0, 3.0)
}

impl Magnet {
    pub(super) fn draw(split: Split, rng: &mut ChaCha8Rng) -> Self {
        let gain = 6.0 * (0.2 * normal(rng)).exp();
        match split {
            Split::Training => Self {
                gain,
                contrast: 1.0 + 0.05 * normal(rng),
                gamma: 1.0 + 0.04 * normal(rng),
                tissue: 0.025,
                bias: rng.random_range(0.04..0.12),
                noise: rng.random_range(0.015..0.04),
                sharpness: rng.random_range(0.35..0.55),
                texture: 0.025,
            },
            Split::Test => Self {
                gain: 0.6 * gain,
                contrast: 0.85 + 0.07 * normal(rng),
                gamma: 1.12 + 0.08 * normal(rng),
                tissue: 0.04,
                bias: rng.random_range(0.10..0.22),
                noise: rng.random_range(0.035..0.07),
                sharpness: rng.random_range(0.5..0.8),
                texture: 0.035,
            },
        }
    }

    /// The intensities of tissues on this scanner, from typical ones (white matter in T1 about 100).
    pub(super) fn tissues<const N: usize>(&self, typical: &[f32; N], rng: &mut ChaCha8Rng) -> [f32; N] {
        typical.map(|value| {
            let value = 0.7 * REFERENCE + self.contrast * (value - 0.7 * REFERENCE);
            let relative = (value / REFERENCE).max(0.01).powf(self.gamma);
            REFERENCE * relative * (1.0 + self.tissue * normal(rng))
        })
    }

    /// The texture and the bias field that all channels of a case share.
    pub(super) fn shared(&self, domain: &Domain, rng: &mut ChaCha8Rng) -> (Array3<f32>, Array3<f32>) {
        (smooth(domain, 2.5 * domain.voxel(), rng), smooth(domain, 0.45 * longest(domain), rng))
    }

    /// Turns ideal intensities into measured ones: texture, bias field, blur, Rician noise, whole numbers.
    pub(super) fn measure(
        &self,
        domain: &Domain,
        mut ideal: Array3<f32>,
        shared: &(Array3<f32>, Array3<f32>),
        rng: &mut ChaCha8Rng,
    ) -> Array3<f32> {
        let own = smooth(domain, 0.45 * longest(domain), rng);
        Zip::from(&mut ideal).and(&shared.0).and(&shared.1).and(&own).for_each(
            |value, texture, bias, own| {
                let field = (self.bias * (0.8 * bias + 0.6 * own).clamp(-2.5, 2.5)).exp();
                *value *= (1.0 + self.texture * texture) * field * self.gain;
            },
        );
        blur(&mut ideal, [self.sharpness; 3]);
        let deviation = self.noise * REFERENCE * self.gain;
        ideal.mapv_inplace(|value| {
            let real = value + deviation * rng.sample::<f32, _>(StandardNormal);
            let imaginary = deviation * rng.sample::<f32, _>(StandardNormal);
            (real * real + imaginary * imaginary).sqrt().round()
        });
        ideal
    }
}

/// A CT scanner: Hounsfield units are absolute, so that shifts are of contrast phase, noise and sharpness alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tomograph {
    /// Hounsfield units.
    noise: f32,
    sharpness: f32,
    /// Standard deviation of the filter that makes noise grainy, voxels.
    grain: f32,
}

impl Tomograph {
    pub(super) fn draw(split: Split, rng: &mut ChaCha8Rng) -> Self {
        match split {
            Split::Training => Self {
                noise: rng.random_range(8.0..20.0),
                sharpness: rng.random_range(0.35..0.6),
                grain: rng.random_range(0.3..0.5),
            },
            Split::Test => Self {
                noise: rng.random_range(16.0..32.0),
                sharpness: rng.random_range(0.3..0.8),
                grain: rng.random_range(0.4..0.7),
            },
        }
    }

    /// Blur, grainy Gaussian noise, whole Hounsfield units from -1024 on.
    pub(super) fn measure(
        &self,
        domain: &Domain,
        mut ideal: Array3<f32>,
        rng: &mut ChaCha8Rng,
    ) -> Array3<f32> {
        blur(&mut ideal, [self.sharpness; 3]);
        let mut noise = Array3::from_shape_simple_fn(domain.shape, || rng.sample::<f32, _>(StandardNormal));
        blur(&mut noise, [self.grain; 3]);
        let deviation =
            (noise.iter().map(|v| f64::from(v * v)).sum::<f64>() / domain.len() as f64).sqrt() as f32;
        let factor = self.noise / deviation.max(1e-3);
        ideal.zip_mut_with(&noise, |value, noise| {
            *value = (*value + factor * noise).round().clamp(-1024.0, 3071.0)
        });
        ideal
    }
}

fn longest(domain: &Domain) -> f32 {
    domain.extent().into_iter().fold(0.0, f32::max)
}
