//! The operators on every path: results and gradients against compositions of burn's own operators.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{Activation, VoxelLoss};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::RngExt;
use segen_kernels as kernels;

use crate::support::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn convolution_agrees_with_stock(
        size in size(), input in channels(), output in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        three in prop::array::uniform3(any::<bool>()), two in prop::array::uniform3(any::<bool>()),
        padded in any::<bool>(),
    ) {
        let kernel = std::array::from_fn(|i| if three[i] && (padded || size[i] >= 3) { 3 } else { 1 });
        let stride = two.map(|two| if two { 2 } else { 1 });
        let padding = kernel.map(|kernel| if padded { kernel / 2 } else { 0 });
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        let x = random.tensor([batch, sx, sy, sz, input]);
        let [kx, ky, kz] = kernel;
        let weight = random.tensor([output, input, kx, ky, kz]);
        let bias = random.tensor([output]);
        let [ox, oy, oz] = std::array::from_fn(|i| (size[i] + 2 * padding[i] - kernel[i]) / stride[i] + 1);
        let factor = random.factor([batch, ox, oy, oz, output]);
        compare(&format!("{size:?} {kernel:?} {stride:?} {padding:?}"), 5e-6, || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let y = kernels::conv3d(
                Activation::from_channels_last(x.clone()), weight.clone(), Some(bias.clone()), stride, padding,
            );
            gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
        });
    }

    #[test]
    fn transposed_convolution_agrees_with_stock(
        size in size(), input in channels(), output in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        kernel in prop::array::uniform3(1..3_usize),
    ) {
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        let [kx, ky, kz] = kernel;
        let x = random.tensor([batch, sx, sy, sz, input]);
        let weight = random.tensor([input, output, kx, ky, kz]);
        let bias = random.tensor([output]);
        let factor = random.factor([batch, sx * kx, sy * ky, sz * kz, output]);
        compare(&format!("{size:?} {kernel:?}"), 5e-6, || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let y = kernels::conv_transpose3d(
                Activation::from_channels_last(x.clone()), weight.clone(), Some(bias.clone()),
            );
            gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
        });
    }

    #[test]
    fn norm_agrees_with_stock(size in size(), channels in channels(), batch in 1..4_usize, seed in 0..1000_u64) {
        let [sx, sy, sz] = size;
        prop_assume!(sx * sy * sz >= 4);
        let mut random = Random::new(seed);
        let x = random.tensor([batch, sx, sy, sz, channels]) * 3.0 + 1.0;
        let (weight, bias) = (random.tensor([channels]), random.tensor([channels]));
        let factor = random.factor([batch, sx, sy, sz, channels]);
        compare(&format!("{size:?} x {channels}"), 2e-5, || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let y = kernels::instance_norm_leaky_relu(
                Activation::from_channels_last(x.clone()), weight.clone(), bias.clone(), 1e-5, 0.01,
            );
            gradients(y.into_channels_last(), &factor, &[x], &[weight, bias])
        });
    }

    #[test]
    fn concatenation_agrees_with_stock(
        size in size(), a in channels(), b in channels(), batch in 1..4_usize, seed in 0..1000_u64,
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let (first, second) = (random.tensor([batch, sx, sy, sz, a]), random.tensor([batch, sx, sy, sz, b]));
        let factor = random.factor([batch, sx, sy, sz, a + b]);
        compare(&format!("{size:?}"), 0.0, || {
            let (first, second) = (leaf(&first), leaf(&second));
            let y = kernels::concat(
                Activation::from_channels_last(first.clone()), Activation::from_channels_last(second.clone()),
            );
            gradients::<5, 1>(y.into_channels_last(), &factor, &[first, second], &[])
        });
    }

    #[test]
    fn sums_agree_with_stock(size in size(), classes in 2..6_usize, batch in 1..4_usize, seed in 0..1000_u64) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let logits = random.tensor([batch, sx, sy, sz, classes]) * 4.0;
        let target: Vec<i32> = (0..batch * sx * sy * sz)
            .map(|_| match random.0.random_range(0..=classes as i32) {
                class if class == classes as i32 => kernels::IGNORED as i32,
                class => class,
            })
            .collect();
        let factor = random.factor([batch, 2 + 4 * classes]);
        compare(&format!("{size:?}"), 1e-5, || {
            let logits = leaf(&logits);
            let data = TensorData::new(target.clone(), [batch, sx, sy, sz]);
            let target = Tensor::<4, Int>::from_data(data, &Device::flex().autodiff());
            let sums = kernels::segmentation_sums(
                Activation::from_channels_last(logits.clone()), target, &VoxelLoss::default(),
            );
            let probabilities = kernels::softmax(Activation::from_channels_last(logits.clone().inner()));
            let mut results = gradients::<2, 1>(sums, &factor, &[logits], &[]);
            results.push(vector(probabilities.into_channels_last()));
            results
        });
    }
}

/// A step of a small network, all operators joined: bytes of the loss and of all gradients.
pub(crate) fn small_network() -> Vec<Vec<f32>> {
    let mut random = Random::new(7);
    let x = Tensor::from_data(random.tensor([2, 2, 22, 18, 26]).into_data(), &Device::flex().autodiff());
    let target = (0..2 * 22 * 18 * 26).map(|_| random.0.random_range(0..3_i32)).collect::<Vec<_>>();
    let target = TensorData::new(target, [2, 22, 18, 26]);
    let target = Tensor::<4, Int>::from_data(target, &Device::flex().autodiff());
    let shapes =
        [[16, 2, 3, 3, 3], [32, 16, 3, 3, 3], [32, 16, 2, 2, 2], [20, 32, 3, 3, 3], [3, 20, 1, 1, 1]];
    let weights = shapes.map(|shape| leaf(&(random.tensor(shape) * 0.2)));
    let (scale, shift) = (leaf(&(random.tensor([16]) + 1.5)), leaf(&random.tensor([16])));
    let [w1, w2, up, w3, head] = weights.clone();
    let x = kernels::conv3d(Activation::from_channels_first(x), w1, None, [1; 3], [1; 3]);
    let skip = kernels::instance_norm_leaky_relu(x, scale.clone(), shift.clone(), 1e-5, 0.01);
    let x = kernels::conv3d(skip.clone(), w2, None, [2; 3], [1; 3]);
    let x = kernels::concat(kernels::conv_transpose3d(x, up, None), skip);
    let logits = kernels::conv3d(kernels::conv3d(x, w3, None, [1; 3], [1; 3]), head, None, [1; 3], [0; 3]);
    let sums = kernels::segmentation_sums(logits, target, &VoxelLoss::default());
    let factor = random.factor([2, 14]);
    gradients(sums, &factor, &weights, &[scale, shift])
}

#[test]
fn a_network_agrees_with_stock() {
    compare("network", 5e-5, small_network);
}

#[test]
fn padding_beside_an_axis_of_one_tap_agrees_with_stock() {
    // The taps of the first outputs lie in front of the source, and no copy of it with zeros around is made.
    for (kernel, size) in
        [([3, 3, 1], [2, 3, 5]), ([3, 1, 1], [1, 4, 20]), ([1, 3, 1], [3, 1, 33]), ([3, 3, 1], [1; 3])]
    {
        let padding = kernel.map(|kernel| kernel / 2);
        let ([sx, sy, sz], [kx, ky, kz]) = (size, kernel);
        let mut random = Random::new(11);
        let x = random.tensor([2, sx, sy, sz, 5]);
        let (weight, bias) = (random.tensor([18, 5, kx, ky, kz]), random.tensor([18]));
        let factor = random.factor([2, sx, sy, sz, 18]);
        compare(&format!("{size:?} {kernel:?}"), 5e-6, || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let activation = Activation::from_channels_last(x.clone());
            let y = kernels::conv3d(activation, weight.clone(), Some(bias.clone()), [1; 3], padding);
            gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
        });
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for path in paths() {
        let runs = [1, 2, 3].map(|threads| on(path).with_threads(threads).scoped(small_network));
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path}: results depend on the number of threads");
    }
}

#[test]
#[should_panic(expected = "not one of 2 classes")]
fn a_class_beyond_the_logits_is_refused() {
    let device = Device::flex();
    let logits = Activation::from_channels_last(Tensor::zeros([1, 1, 1, 2, 2], &device));
    let target = Tensor::<4, Int>::from_data(TensorData::new(vec![0, 2], [1, 1, 1, 2]), &device);
    kernels::segmentation_sums(logits, target, &VoxelLoss::default());
}

/// A padded 3x3x3 convolution of stride 1 and its gradients in f64: output, then gradients of x, weight and bias.
fn reference(
    [batch, sx, sy, sz, input]: [usize; 5],
    output: usize,
    [x, weight, bias, factor]: [&[f32]; 4],
) -> [Vec<f64>; 4] {
    let mut results =
        [batch * sx * sy * sz * output, x.len(), weight.len(), output].map(|length| vec![0.0_f64; length]);
    let [y, dx, dw, db] = &mut results;
    let size = [sx, sy, sz];
    for position in 0..batch * sx * sy * sz {
        let place = [position / (sy * sz) % sx, position / sz % sy, position % sz];
        for out in 0..output {
            let index = position * output + out;
            let gradient = f64::from(factor[index]);
            y[index] = f64::from(bias[out]);
            db[out] += gradient;
            for tap in 0..27 {
                let offsets = [tap / 9, tap / 3 % 3, tap % 3];
                let from: [usize; 3] = std::array::from_fn(|i| (place[i] + offsets[i]).wrapping_sub(1));
                if (0..3).any(|i| from[i] >= size[i]) {
                    continue;
                }
                let n = position / (sx * sy * sz);
                let from = (((n * sx + from[0]) * sy + from[1]) * sz + from[2]) * input;
                for channel in 0..input {
                    let w = (out * input + channel) * 27 + tap;
                    y[index] += f64::from(x[from + channel]) * f64::from(weight[w]);
                    dx[from + channel] += gradient * f64::from(weight[w]);
                    dw[w] += gradient * f64::from(x[from + channel]);
                }
            }
        }
    }
    results
}

#[test]
fn convolution_and_its_gradients_agree_with_f64() {
    // Large enough for every algorithm; odd sizes, channels that are no whole vectors, one voxel along an axis.
    for (shape, output) in [
        ([2, 16, 17, 19, 16], 32),
        ([1, 21, 20, 23, 20], 9),
        ([2, 5, 7, 5, 48], 64),
        ([1, 30, 1, 31, 8], 24),
        ([3, 4, 9, 6, 1], 16),
    ] {
        let mut random = Random::new(11);
        let input = shape[4];
        let x = random.tensor(shape);
        let (weight, bias) = (random.tensor([output, input, 3, 3, 3]), random.tensor([output]));
        let factor = random.factor([shape[0], shape[1], shape[2], shape[3], output]);
        let [x_values, weight_values, factor_values] = [&x, &weight, &factor].map(|t| vector(t.clone()));
        let expected =
            reference(shape, output, [&x_values, &weight_values, &vector(bias.clone()), &factor_values]);
        for path in paths() {
            let results = on(path).scoped(|| {
                let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
                let activation = Activation::from_channels_last(x.clone());
                let y = kernels::conv3d(activation, weight.clone(), Some(bias.clone()), [1; 3], [1; 3]);
                gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
            });
            for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
                let difference: f64 =
                    result.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
                let error = (difference / expected.iter().map(|v| v * v).sum::<f64>()).sqrt();
                assert!(
                    error <= 1e-5,
                    "{path}: {shape:?}: result {index} differs by {error:.2e} of its norm"
                );
            }
        }
    }
}
