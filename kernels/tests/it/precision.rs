//! bf16: operands rounded to 8 significant bits, sums in f32.

use burn::tensor::{Tensor, TensorData};
use kernels::{Activation, Path, Precision, Settings};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use segen_kernels as kernels;

use crate::operators::small_network;
use crate::support::*;

/// The nearest bf16, as f32.
fn rounded(tensor: &Tensor<5>) -> Tensor<5> {
    let round = |value: f32| {
        let bits = value.to_bits();
        f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
    };
    let values = vector(tensor.clone()).into_iter().map(round).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
}

/// Runs `operator` on an input, a weight and the gradient of its output, in f32 on stock and in bf16 on every path: all
/// results are within the bound of bf16. Those of matrix tiles, plain sums over taps, are also within the bound of f32 of
/// stock on rounded operands; all others are that near each other, because they round the same (filtered) operands.
fn compare_rounded(
    what: &str,
    [x, weight, factor]: [&Tensor<5>; 3],
    operator: impl Fn(&Tensor<5>, &Tensor<5>, &Tensor<5>) -> Vec<Vec<f32>>,
) {
    let stock = on(Path::Stock);
    let expected = stock.scoped(|| operator(x, weight, factor));
    let plain = stock.scoped(|| operator(&rounded(x), &rounded(weight), &rounded(factor)));
    let results = in_bf16(|| operator(x, weight, factor));
    for (path, result) in &results {
        assert_close(path, what, result, &expected, 2e-2);
        if path.contains("tiles") {
            // All but the gradient of the bias, which has no product.
            assert_close(path, what, &result[..3], &plain[..3], 1e-5);
        } else {
            assert_close(path, what, result, &results[0].1, 1e-5);
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
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        // Values of one sign, so that no result is a sum of terms that cancel.
        let x = random.tensor([batch, sx, sy, sz, input]) + 1.5;
        let [kx, ky, kz] = kernel;
        let weight = random.tensor([output, input, kx, ky, kz]) + 1.5;
        let bias = random.tensor([output]);
        let [ox, oy, oz] = std::array::from_fn(|i| (size[i] + 2 * padding[i] - kernel[i]) / stride[i] + 1);
        let factor = random.tensor([batch, ox, oy, oz, output]) + 1.5;
        let what = format!("{size:?} {kernel:?} {stride:?} {padding:?}, {input} to {output}");
        compare_rounded(&what, [&x, &weight, &factor], |x, weight, factor| {
            let (x, weight, bias) = (leaf(x), leaf(weight), leaf(&bias));
            let y = kernels::conv3d(
                Activation::from_channels_last(x.clone()), weight.clone(), Some(bias.clone()), stride, padding,
            );
            gradients(y.into_channels_last(), factor, &[x, weight], &[bias])
        });
    }

    #[test]
    fn transposed_convolution_is_within_the_bound(
        size in size(), input in channels(), output in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        kernel in prop::array::uniform3(1..3_usize),
    ) {
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        let [kx, ky, kz] = kernel;
        let x = random.tensor([batch, sx, sy, sz, input]) + 1.5;
        let weight = random.tensor([input, output, kx, ky, kz]) + 1.5;
        let bias = random.tensor([output]);
        let factor = random.tensor([batch, sx * kx, sy * ky, sz * kz, output]) + 1.5;
        let what = format!("{size:?} {kernel:?}, {input} to {output}");
        compare_rounded(&what, [&x, &weight, &factor], |x, weight, factor| {
            let (x, weight, bias) = (leaf(x), leaf(weight), leaf(&bias));
            let y = kernels::conv_transpose3d(
                Activation::from_channels_last(x.clone()), weight.clone(), Some(bias.clone()),
            );
            gradients(y.into_channels_last(), factor, &[x, weight], &[bias])
        });
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
        let padding = kernel.map(|kernel| kernel / 2);
        let [kx, ky, kz] = kernel;
        let (x, bias) = (random.tensor(shape), random.tensor([output]));
        let weight = random.tensor([output, shape[4], kx, ky, kz]);
        let factor = random.tensor([shape[0], shape[1], shape[2], shape[3], output]);
        compare_rounded(&format!("{shape:?} to {output}"), [&x, &weight, &factor], |x, weight, factor| {
            let (x, weight, bias) = (leaf(x), leaf(weight), leaf(&bias));
            let activation = Activation::from_channels_last(x.clone());
            let y = kernels::conv3d(activation, weight.clone(), Some(bias.clone()), [1; 3], padding);
            gradients(y.into_channels_last(), factor, &[x, weight], &[bias])
        });
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads_and_are_rounded() {
    let results = in_bf16(|| {
        let settings = Settings::current();
        assert!(settings.arithmetic().contains("bf16"), "{}", settings.arithmetic());
        let runs = [1, 2, 3].map(|threads| settings.clone().with_threads(threads).scoped(small_network));
        let single = settings.with_precision(Precision::F32);
        assert_eq!(single.arithmetic(), "f32 arithmetic");
        (runs, single.scoped(small_network))
    });
    for (path, (runs, single)) in results {
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path}: results depend on the number of threads");
        assert!(runs[0] != single, "{path}: bf16 changed nothing");
    }
}
