//! What the tests share: settings, random tensors, gradients, comparisons.

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use segen_kernels::{Path, Precision, Settings};

/// The settings in force, on a path that this processor has.
pub(crate) fn on(path: Path) -> Settings {
    Settings::current().with_path(Some(path)).unwrap()
}

/// The paths of this processor that have kernels; says which it lacks.
pub(crate) fn paths() -> Vec<Path> {
    let paths = [Path::Portable, Path::Avx2, Path::Avx512];
    for path in paths.into_iter().filter(|path| !path.is_available()) {
        println!("skipped: this processor lacks the path {path}");
    }
    paths.into_iter().filter(|path| path.is_available()).collect()
}

/// What `work` gives in bf16 on every path, and once more with matrix tiles where the processor has them.
pub(crate) fn in_bf16<R>(work: impl Fn() -> R) -> Vec<(String, R)> {
    let mut results = vec![];
    for path in paths() {
        let settings = on(path).with_precision(Precision::Bf16);
        results.push((path.to_string(), settings.clone().with_matrix_tiles(false).scoped(&work)));
        if settings.arithmetic().contains("matrix tiles") {
            results.push((format!("{path} with matrix tiles"), settings.scoped(&work)));
        }
    }
    results
}

pub(crate) struct Random(pub(crate) ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn tensor<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let values =
            (0..shape.iter().product()).map(|_| self.0.random_range(-1.0..1.0_f32)).collect::<Vec<_>>();
        Tensor::<D>::from_data(TensorData::new(values, shape), &Device::flex())
    }

    /// A factor of the output: mostly positive, so that no gradient is a sum of terms that cancel.
    pub(crate) fn factor<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        self.tensor(shape) + 0.5
    }
}

pub(crate) fn vector<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Differentiable copy of a tensor.
pub(crate) fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(tensor.clone().into_data(), &Device::flex().autodiff()).require_grad()
}

/// The output, then the gradients of `sum(output * factor)` with respect to the leaves.
pub(crate) fn gradients<const D: usize, const E: usize>(
    output: Tensor<D>,
    factor: &Tensor<D>,
    volumes: &[Tensor<5>],
    vectors: &[Tensor<E>],
) -> Vec<Vec<f32>> {
    let factor = Tensor::from_data(factor.clone().into_data(), &Device::flex().autodiff());
    let mut gradients = (output.clone() * factor).sum().backward();
    let mut results = vec![vector(output.inner())];
    results.extend(volumes.iter().map(|leaf| vector(leaf.grad_remove(&mut gradients).unwrap())));
    results.extend(vectors.iter().map(|leaf| vector(leaf.grad_remove(&mut gradients).unwrap())));
    results
}

pub(crate) fn assert_close(
    path: impl std::fmt::Display,
    what: &str,
    results: &[Vec<f32>],
    expected: &[Vec<f32>],
    tolerance: f64,
) {
    assert_eq!(results.len(), expected.len());
    for (index, (result, expected)) in results.iter().zip(expected).enumerate() {
        assert_eq!(result.len(), expected.len());
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let norm = square(&mut expected.iter().map(|v| f64::from(*v)));
        let difference = square(&mut result.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let error = (difference / norm.max(1e-12)).sqrt();
        assert!(error <= tolerance, "{path}: {what}: result {index} differs by {error:.2e} of its norm");
    }
}

/// Runs `operator` on stock and on every path and compares all results.
pub(crate) fn compare(what: &str, tolerance: f64, operator: impl Fn() -> Vec<Vec<f32>>) {
    let expected = on(Path::Stock).scoped(&operator);
    for path in paths() {
        assert_close(path, what, &on(path).scoped(&operator), &expected, tolerance);
    }
}

pub(crate) fn size() -> impl Strategy<Value = [usize; 3]> {
    (1..7_usize, 1..7_usize, prop_oneof![1..8_usize, 13..40_usize]).prop_map(|(x, y, z)| [x, y, z])
}

pub(crate) fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![1..6_usize, Just(16_usize), Just(32), 15..50_usize, Just(64)]
}
