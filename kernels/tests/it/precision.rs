//! bf16: operands rounded to 8 significant bits, sums in f32.

use kernels::{Activation, Path, Precision};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use segen_kernels as kernels;

use crate::operators::small_network;
use crate::support::*;

/// Runs `operator` in f32 on stock and in bf16 on every path: each within the bound of bf16, and all paths within that
/// of f32 of each other, because they round the same operands.
fn compare_rounded(what: &str, operator: impl Fn() -> Vec<Vec<f32>>) {
    let _alone = alone();
    kernels::select(Some(Path::Stock)).unwrap();
    let expected = operator();
    kernels::set_precision(Precision::Bf16);
    let results: Vec<_> = paths()
        .into_iter()
        .map(|path| {
            kernels::select(Some(path)).unwrap();
            (path, operator())
        })
        .collect();
    kernels::set_precision(Precision::F32);
    kernels::select(None).unwrap();
    for (path, result) in &results {
        assert_close(*path, what, result, &expected, 2e-2);
        assert_close(*path, what, result, &results[0].1, 1e-5);
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
        compare_rounded(&format!("{size:?} {kernel:?} {stride:?} {padding:?}, {input} to {output}"), || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let y = kernels::conv3d(
                Activation::from_channels_last(x.clone()), weight.clone(), Some(bias.clone()), stride, padding,
            );
            gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
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
        compare_rounded(&format!("{size:?} {kernel:?}, {input} to {output}"), || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let y = kernels::conv_transpose3d(
                Activation::from_channels_last(x.clone()), weight.clone(), Some(bias.clone()),
            );
            gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
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
    ] {
        let mut random = Random::new(5);
        let padding = kernel.map(|kernel| kernel / 2);
        let [kx, ky, kz] = kernel;
        let (x, bias) = (random.tensor(shape), random.tensor([output]));
        let weight = random.tensor([output, shape[4], kx, ky, kz]);
        let factor = random.tensor([shape[0], shape[1], shape[2], shape[3], output]);
        compare_rounded(&format!("{shape:?} to {output}"), || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let activation = Activation::from_channels_last(x.clone());
            let y = kernels::conv3d(activation, weight.clone(), Some(bias.clone()), [1; 3], padding);
            gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
        });
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads_and_are_rounded() {
    let _alone = alone();
    for path in paths() {
        kernels::select(Some(path)).unwrap();
        let single = small_network();
        kernels::set_precision(Precision::Bf16);
        let note = kernels::precision_note();
        assert!(note.contains("bf16"), "{path}: {note}");
        let runs = [1, 2, 3].map(|threads| {
            kernels::set_threads(threads);
            small_network()
        });
        kernels::set_precision(Precision::F32);
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path}: results depend on the number of threads");
        assert!(runs[0] != single, "{path}: bf16 changed nothing");
        assert_eq!(kernels::precision_note(), "f32 arithmetic");
    }
    kernels::select(None).unwrap();
}
