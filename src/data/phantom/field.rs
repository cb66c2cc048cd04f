//! Smooth random fields and blur on a voxel grid.

use ndarray::{Array3, ArrayView3, Axis, Zip};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::StandardNormal;

/// The grid of a phantom: its middle is the origin, axes run right, front, top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Domain {
    pub(super) shape: [usize; 3],
    /// Millimetres.
    pub(super) spacing: [f32; 3],
}

impl Domain {
    /// Millimetres from the middle of the grid.
    pub(super) fn position(&self, index: [usize; 3]) -> [f32; 3] {
        std::array::from_fn(|axis| {
            (index[axis] as f32 - 0.5 * (self.shape[axis] as f32 - 1.0)) * self.spacing[axis]
        })
    }

    /// Edge lengths in millimetres.
    pub(super) fn extent(&self) -> [f32; 3] {
        std::array::from_fn(|axis| self.shape[axis] as f32 * self.spacing[axis])
    }

    /// Edge of a cube as large as a voxel, millimetres.
    pub(super) fn voxel(&self) -> f32 {
        self.spacing.iter().product::<f32>().cbrt()
    }

    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// A value per voxel from its index.
    pub(super) fn map<T>(&self, mut value: impl FnMut([usize; 3]) -> T) -> Array3<T> {
        Array3::from_shape_fn(self.shape, |(x, y, z)| value([x, y, z]))
    }
}

/// A random field that varies over about twice `lattice` millimetres, with mean 0 and variance about 1: a uniform
/// cubic B-spline over normally distributed control values.
pub(super) fn smooth(domain: &Domain, lattice: f32, rng: &mut ChaCha8Rng) -> Array3<f32> {
    let controls: [usize; 3] = std::array::from_fn(|axis| {
        ((domain.shape[axis] - 1) as f32 * domain.spacing[axis] / lattice) as usize + 4
    });
    let mut field = Array3::from_shape_simple_fn(controls, || rng.sample::<f32, _>(StandardNormal));
    // The last axis first, while the others are still short.
    for axis in [2, 1, 0] {
        field = expand(field.view(), axis, domain.shape[axis], domain.spacing[axis] / lattice);
    }
    // The squares of the four weights add up to 0.48 on average, once per axis.
    field *= 0.48f32.powi(3).sqrt().recip();
    field
}

/// Spline values at 0, `step`, 2 `step`, ... along one axis.
fn expand(controls: ArrayView3<'_, f32>, axis: usize, size: usize, step: f32) -> Array3<f32> {
    let mut shape = [controls.dim().0, controls.dim().1, controls.dim().2];
    let last = shape[axis] - 4;
    shape[axis] = size;
    let mut out = Array3::zeros(shape);
    for (i, target) in out.axis_iter_mut(Axis(axis)).enumerate() {
        let at = i as f32 * step;
        let first = (at as usize).min(last);
        let t = at - first as f32;
        let s = 1.0 - t;
        let weights = [
            s * s * s / 6.0,
            (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
            (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
            t * t * t / 6.0,
        ];
        let control = |k: usize| controls.index_axis(Axis(axis), first + k);
        Zip::from(target)
            .and(control(0))
            .and(control(1))
            .and(control(2))
            .and(control(3))
            .for_each(|o, a, b, c, d| *o = weights[0] * a + weights[1] * b + weights[2] * c + weights[3] * d);
    }
    out
}

/// Convolves with a Gaussian of `sigma` voxels (at most 1.5) along each axis; the border is continued.
pub(super) fn blur(image: &mut Array3<f32>, sigma: [f32; 3]) {
    for (axis, sigma) in sigma.into_iter().enumerate() {
        if sigma < 0.05 {
            continue;
        }
        let radius = (3.0 * sigma).ceil() as usize;
        let kernel: Vec<f32> = (0..=radius).map(|k| (-0.5 * (k as f32 / sigma).powi(2)).exp()).collect();
        let sum = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
        let source = image.clone();
        let last = source.len_of(Axis(axis)) - 1;
        for (i, mut target) in image.axis_iter_mut(Axis(axis)).enumerate() {
            target *= kernel[0] / sum;
            for (k, weight) in kernel.iter().enumerate().skip(1) {
                target.scaled_add(weight / sum, &source.index_axis(Axis(axis), i.saturating_sub(k)));
                target.scaled_add(weight / sum, &source.index_axis(Axis(axis), (i + k).min(last)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const DOMAIN: Domain = Domain { shape: [40, 36, 30], spacing: [2.0, 2.0, 3.0] };

    #[test]
    fn a_field_is_smooth_with_about_unit_variance() {
        let (mut mean, mut variance, mut step) = (0.0, 0.0, 0.0);
        for seed in 0..20 {
            let field = smooth(&DOMAIN, 12.0, &mut ChaCha8Rng::seed_from_u64(seed));
            assert_eq!(field.dim(), (40, 36, 30));
            mean += field.mean().unwrap() / 20.0;
            variance += field.mapv(|v| v * v).mean().unwrap() / 20.0;
            let differences = Zip::from(field.slice(ndarray::s![1.., .., ..]))
                .and(field.slice(ndarray::s![..-1, .., ..]))
                .fold(0f32, |largest, a, b| largest.max((a - b).abs()));
            step += differences / 20.0;
        }
        assert!(mean.abs() < 0.1 && (variance - 1.0).abs() < 0.15, "{mean} {variance}");
        assert!(step < 1.2, "neighbours differ by up to {step}");
    }

    #[test]
    fn a_spline_over_equal_controls_is_flat() {
        let flat = expand(Array3::from_elem((9, 2, 2), 2.5).view(), 0, 17, 0.3);
        assert!(flat.iter().all(|v| (v - 2.5).abs() < 1e-5));
    }

    #[test]
    fn blur_keeps_the_sum_and_spreads_a_point() {
        let mut image = Array3::zeros((15, 15, 15));
        image[[7, 7, 7]] = 1.0;
        blur(&mut image, [0.7, 0.7, 0.0]);
        assert!((image.sum() - 1.0).abs() < 1e-5);
        assert_eq!(image[[7, 7, 8]], 0.0);
        assert!(image[[8, 7, 7]] > 0.05 && (image[[8, 7, 7]] - image[[7, 6, 7]]).abs() < 1e-7);
    }
}
