//! bf16: operands rounded to 8 significant bits, sums in f32.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use segen_kernels::{Precision, Settings};

use crate::network::Network;
use crate::operator::Operator;
use crate::operators::small_network;
use crate::support::*;

/// The nearest bf16, as f32.
fn rounded(tensor: &Tensor) -> Tensor {
    tensor.clone().map(|value| {
        let bits = value.to_bits();
        f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
    })
}

/// Whether no path filters the operands before it rounds them: filtering takes two axes of three taps side by side.
fn is_plain(operator: &Operator, weight: &Tensor) -> bool {
    let Operator::Conv3d { stride, .. } = operator else { return true };
    (0..3).filter(|axis| weight.shape[axis + 2] == 3 && stride[*axis] == 1).count() < 2
}

/// Runs an operator of input, weight and bias in bf16 on every path, for a gradient of its output: all results are within
/// the bound of bf16 of f64. Plain sums over taps, as those of matrix tiles, are also within the bound of f32 of f64 on
/// rounded operands; all others are that near each other, because they round the same (filtered) operands.
fn compare_rounded(operator: &Operator, [x, weight, bias]: [&Tensor; 3], slopes: &Tensor) {
    let what = format!("{operator:?} of {:?} by {:?}", x.shape, weight.shape);
    let network = Network::of(operator.clone(), &[x.clone(), weight.clone(), bias.clone()], slopes);
    let expected = network.exact();
    let operands = [rounded(x), rounded(weight), bias.clone()];
    let plain = Network::of(operator.clone(), &operands, &rounded(slopes)).exact();
    let results = in_bf16(|| network.run());
    let first = in_f64(&results[0].1);
    for (path, result) in &results {
        assert_close(path, &what, result, &expected, 1e-2);
        // The gradient of the bias has no product and is not rounded.
        assert_close(path, &what, &result[3..], &expected[3..], 2e-6);
        if path.contains("tiles") || is_plain(operator, weight) {
            assert_close(path, &what, &result[..3], &plain[..3], 2e-6);
        }
        if !path.contains("tiles") {
            assert_close(path, &what, result, &first, 2e-6);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn convolution_is_within_the_bound(
        size in size(), input in channels(), output in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        three in prop::array::uniform3(prop::bool::weighted(0.8)), two in prop::array::uniform3(prop::bool::weighted(0.2)),
        padded in any::<bool>(),
    ) {
        let kernel = std::array::from_fn(|i| if three[i] && (padded || size[i] >= 3) { 3 } else { 1 });
        let stride = two.map(|two| if two { 2 } else { 1 });
        let padding = kernel.map(|kernel| if padded { kernel / 2 } else { 0 });
        let operator = Operator::Conv3d { stride, padding };
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        let [kx, ky, kz] = kernel;
        // Values of one sign, so that no result is a sum of terms that cancel.
        let x = random.tensor(&[batch, sx, sy, sz, input]).map(|value| value + 1.5);
        let weight = random.tensor(&[output, input, kx, ky, kz]).map(|value| value + 1.5);
        let bias = random.tensor(&[output]);
        let slopes = random.tensor(&operator.shape(&[&x.shape, &weight.shape])).map(|value| value + 1.5);
        compare_rounded(&operator, [&x, &weight, &bias], &slopes);
    }

    #[test]
    fn transposed_convolution_is_within_the_bound(
        size in size(), input in channels(), output in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        kernel in prop::array::uniform3(1..3_usize),
    ) {
        let operator = Operator::ConvTranspose3d;
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        let [kx, ky, kz] = kernel;
        let x = random.tensor(&[batch, sx, sy, sz, input]).map(|value| value + 1.5);
        let weight = random.tensor(&[input, output, kx, ky, kz]).map(|value| value + 1.5);
        let bias = random.tensor(&[output]);
        let slopes = random.tensor(&operator.shape(&[&x.shape, &weight.shape])).map(|value| value + 1.5);
        compare_rounded(&operator, [&x, &weight, &bias], &slopes);
    }

    #[test]
    fn linear_is_within_the_bound(
        batch in 1..40_usize, input in channels(), output in channels(), seed in 0..1000_u64,
    ) {
        let mut random = Random::new(seed);
        let [x, weight, slopes] = [[batch, input], [output, input], [batch, output]]
            .map(|shape| random.tensor(&shape).map(|value| value + 1.5));
        compare_rounded(&Operator::Linear, [&x, &weight, &random.tensor(&[output])], &slopes);
    }
}

#[test]
fn large_convolutions_of_values_that_cancel_are_within_the_bound() {
    for (shape, output, kernel) in [
        ([2, 16, 17, 19, 16], 32, [3; 3]),
        ([1, 21, 20, 23, 20], 9, [3; 3]),
        ([2, 33, 34, 1, 24], 40, [3, 3, 1]),
        ([2, 10, 11, 12, 30], 40, [1; 3]),
        ([1, 9, 30, 70, 33], 20, [3; 3]),
        ([2, 1, 4, 20, 6], 18, [3, 3, 1]),
        ([2, 3, 1, 33, 5], 9, [3, 1, 1]),
    ] {
        let mut random = Random::new(5);
        let operator = Operator::Conv3d { stride: [1; 3], padding: kernel.map(|kernel| kernel / 2) };
        let [kx, ky, kz] = kernel;
        let (x, bias) = (random.tensor(&shape), random.tensor(&[output]));
        let weight = random.tensor(&[output, shape[4], kx, ky, kz]);
        let slopes = random.tensor(&[shape[0], shape[1], shape[2], shape[3], output]);
        compare_rounded(&operator, [&x, &weight, &bias], &slopes);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads_and_are_rounded() {
    let network = small_network();
    let results = in_bf16(|| {
        let settings = Settings::current();
        assert!(settings.arithmetic().contains("bf16"), "{}", settings.arithmetic());
        let runs = [1, 2, 3].map(|threads| settings.clone().with_threads(threads).scoped(|| network.run()));
        let single = settings.with_precision(Precision::F32);
        assert_eq!(single.arithmetic(), "f32 arithmetic");
        (runs, single.scoped(|| network.run()))
    });
    for (path, (runs, single)) in results {
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path}: results depend on the number of threads");
        assert!(runs[0] != single, "{path}: bf16 changed nothing");
    }
}
