//! What the tests share: settings, random arrays, comparisons.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use segen_kernels::{Array, Device, Path, Precision, Settings};

/// The settings in force, on a path that this processor has.
pub(crate) fn on(path: Path) -> Settings {
    Settings::current().with_path(Some(path)).unwrap()
}

/// The paths that this processor has; says which it lacks.
pub(crate) fn paths() -> Vec<Path> {
    for path in Path::ALL.into_iter().filter(|path| !path.is_available()) {
        println!("skipped: this processor lacks the path {path}");
    }
    Path::ALL.into_iter().filter(|path| path.is_available()).collect()
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

/// Values on the host with their shape.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) values: Vec<f32>,
    pub(crate) shape: Vec<usize>,
}

impl Tensor {
    pub(crate) fn new(values: Vec<f32>, shape: &[usize]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        Self { values, shape: shape.to_vec() }
    }

    pub(crate) fn full(value: f32, shape: &[usize]) -> Self {
        Self { values: vec![value; shape.iter().product()], shape: shape.to_vec() }
    }

    pub(crate) fn map(mut self, function: impl Fn(f32) -> f32) -> Self {
        self.values.iter_mut().for_each(|value| *value = function(*value));
        self
    }

    /// A constant of the kernels.
    pub(crate) fn array(&self) -> Array {
        Array::from_host(self.values.clone(), &self.shape, &Device::Cpu)
    }
}

pub(crate) struct Random(pub(crate) ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Values in (-1, 1).
    pub(crate) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let values = (0..shape.iter().product()).map(|_| self.0.random_range(-1.0..1.0_f32)).collect();
        Tensor::new(values, shape)
    }

    /// Slopes of an output: mostly positive, so that no gradient is a sum of terms that cancel.
    pub(crate) fn slopes(&mut self, shape: &[usize]) -> Tensor {
        self.tensor(shape).map(|value| value + 0.5)
    }

    /// Class numbers below `classes`.
    pub(crate) fn labels(&mut self, count: usize, classes: usize) -> Vec<u8> {
        (0..count).map(|_| self.0.random_range(0..classes as u8)).collect()
    }
}

/// The norm of the difference over that of what is expected.
pub(crate) fn relative(result: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(result.len(), expected.len());
    let difference: f64 = result.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|v| v * v).sum();
    (difference / norm.max(1e-12)).sqrt()
}

/// Compares results one by one. A tolerance of 0 asks for the f32 next to what is expected.
pub(crate) fn assert_close(
    path: impl std::fmt::Display,
    what: &str,
    results: &[Vec<f32>],
    expected: &[Vec<f64>],
    tolerance: f64,
) {
    assert_eq!(results.len(), expected.len(), "{what}: the number of results");
    for (index, (result, expected)) in results.iter().zip(expected).enumerate() {
        if tolerance == 0.0 {
            let rounded = expected.iter().map(|value| *value as f32);
            assert!(result.iter().copied().eq(rounded), "{path}: {what}: result {index} is not exact");
            continue;
        }
        let error = relative(result, expected);
        assert!(error <= tolerance, "{path}: {what}: result {index} differs by {error:.2e} of its norm");
    }
}

pub(crate) fn in_f64(results: &[Vec<f32>]) -> Vec<Vec<f64>> {
    results.iter().map(|values| values.iter().map(|value| f64::from(*value)).collect()).collect()
}

pub(crate) fn size() -> impl Strategy<Value = [usize; 3]> {
    (1..7_usize, 1..7_usize, prop_oneof![1..8_usize, 13..40_usize]).prop_map(|(x, y, z)| [x, y, z])
}

pub(crate) fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![1..6_usize, Just(16_usize), Just(32), 15..50_usize, Just(64)]
}
