//! Convolutions, instance norm, concatenation and losses on every path: results and gradients against f64.

use kernels::VoxelLoss;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::RngExt;
use segen_kernels as kernels;

use crate::network::{Network, compare};
use crate::operator::{Labels, Operator};
use crate::support::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn convolution_agrees_with_f64(
        size in size(), input in channels(), output in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        three in prop::array::uniform3(any::<bool>()), two in prop::array::uniform3(any::<bool>()),
        padded in any::<bool>(),
    ) {
        let kernel = std::array::from_fn(|i| if three[i] && (padded || size[i] >= 3) { 3 } else { 1 });
        let stride = two.map(|two| if two { 2 } else { 1 });
        let padding = kernel.map(|kernel| if padded { kernel / 2 } else { 0 });
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        let [kx, ky, kz] = kernel;
        let x = random.tensor(&[batch, sx, sy, sz, input]);
        let (weight, bias) = (random.tensor(&[output, input, kx, ky, kz]), random.tensor(&[output]));
        compare(Operator::Conv3d { stride, padding }, &[x, weight, bias], CONVOLUTION, &mut random);
    }

    #[test]
    fn transposed_convolution_agrees_with_f64(
        size in size(), input in channels(), output in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        kernel in prop::array::uniform3(1..3_usize),
    ) {
        let mut random = Random::new(seed);
        let [sx, sy, sz] = size;
        let [kx, ky, kz] = kernel;
        let x = random.tensor(&[batch, sx, sy, sz, input]);
        let (weight, bias) = (random.tensor(&[input, output, kx, ky, kz]), random.tensor(&[output]));
        compare(Operator::ConvTranspose3d, &[x, weight, bias], CONVOLUTION, &mut random);
    }

    #[test]
    fn linear_agrees_with_f64(
        batch in 1..40_usize, input in channels(), output in channels(), seed in 0..1000_u64,
        biased in any::<bool>(),
    ) {
        let mut random = Random::new(seed);
        let mut inputs = vec![random.tensor(&[batch, input]), random.tensor(&[output, input])];
        inputs.extend(biased.then(|| random.tensor(&[output])));
        compare(Operator::Linear, &inputs, CONVOLUTION, &mut random);
    }

    #[test]
    fn norm_agrees_with_f64(size in size(), channels in channels(), batch in 1..4_usize, seed in 0..1000_u64) {
        let [sx, sy, sz] = size;
        prop_assume!(sx * sy * sz >= 4);
        let mut random = Random::new(seed);
        let x = random.tensor(&[batch, sx, sy, sz, channels]).map(|value| 3.0 * value + 1.0);
        let (weight, bias) = (random.tensor(&[channels]), random.tensor(&[channels]));
        let operator = Operator::InstanceNormLeakyRelu { epsilon: 1e-5, slope: 0.01 };
        compare(operator, &[x, weight, bias], 2e-5, &mut random);
    }

    #[test]
    fn concatenation_is_exact(
        size in size(), a in channels(), b in channels(), batch in 1..4_usize, seed in 0..1000_u64,
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let [first, second] = [a, b].map(|channels| random.tensor(&[batch, sx, sy, sz, channels]));
        compare(Operator::ConcatAll, &[second.clone(), first.clone(), second.clone()], 0.0, &mut random);
        compare(Operator::Concat, &[first, second], 0.0, &mut random);
    }

    #[test]
    fn sums_agree_with_f64(size in size(), classes in 2..6_usize, batch in 1..4_usize, seed in 0..1000_u64) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let logits = random.tensor(&[batch, sx, sy, sz, classes]).map(|value| 4.0 * value);
        let label = |_| match random.0.random_range(0..=classes) {
            class if class == classes => kernels::IGNORED as u8,
            class => class as u8,
        };
        let first = (0..batch * sx * sy * sz).map(label).collect();
        let operator = Operator::SegmentationSums(Labels { first, second: None }, VoxelLoss::default());
        compare(operator, std::slice::from_ref(&logits), 1e-6, &mut random);
        compare(Operator::Softmax, &[logits], 1e-6, &mut random);
    }
}

const CONVOLUTION: f64 = 2e-6;

/// A step of a small network, all operators joined.
pub(crate) fn small_network() -> Network {
    let mut random = Random::new(7);
    let mut network = Network::default();
    let x = network.constant(random.tensor(&[2, 2, 22, 18, 26]));
    let labels = Labels { first: random.labels(2 * 22 * 18 * 26, 3), second: None };
    let shapes =
        [[16, 2, 3, 3, 3], [32, 16, 3, 3, 3], [32, 16, 2, 2, 2], [20, 32, 3, 3, 3], [3, 20, 1, 1, 1]];
    let [w1, w2, up, w3, head] =
        shapes.map(|shape| network.leaf(random.tensor(&shape).map(|value| 0.2 * value)));
    let scale = network.leaf(random.tensor(&[16]).map(|value| value + 1.5));
    let shift = network.leaf(random.tensor(&[16]));
    let padded = |stride: usize| Operator::Conv3d { stride: [stride; 3], padding: [1; 3] };
    let x = network.apply(Operator::FromChannelsFirst, &[x]);
    let x = network.apply(padded(1), &[x, w1]);
    let norm = Operator::InstanceNormLeakyRelu { epsilon: 1e-5, slope: 0.01 };
    let skip = network.apply(norm, &[x, scale, shift]);
    let x = network.apply(padded(2), &[skip, w2]);
    let x = network.apply(Operator::ConvTranspose3d, &[x, up]);
    let x = network.apply(Operator::Concat, &[x, skip]);
    let x = network.apply(padded(1), &[x, w3]);
    let logits = network.apply(Operator::Conv3d { stride: [1; 3], padding: [0; 3] }, &[x, head]);
    network.apply(Operator::SegmentationSums(labels, VoxelLoss::default()), &[logits]);
    network.ended(&mut random)
}

#[test]
fn a_network_agrees_with_f64() {
    small_network().compare("network", 5e-6);
}

#[test]
fn padding_beside_an_axis_of_one_tap_agrees_with_f64() {
    // The taps of the first outputs lie in front of the source, and no copy of it with zeros around is made.
    for (kernel, size) in
        [([3, 3, 1], [2, 3, 5]), ([3, 1, 1], [1, 4, 20]), ([1, 3, 1], [3, 1, 33]), ([3, 3, 1], [1; 3])]
    {
        let padding = kernel.map(|kernel| kernel / 2);
        let ([sx, sy, sz], [kx, ky, kz]) = (size, kernel);
        let mut random = Random::new(11);
        let x = random.tensor(&[2, sx, sy, sz, 5]);
        let (weight, bias) = (random.tensor(&[18, 5, kx, ky, kz]), random.tensor(&[18]));
        let operator = Operator::Conv3d { stride: [1; 3], padding };
        compare(operator, &[x, weight, bias], CONVOLUTION, &mut random);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let network = small_network();
    for path in paths() {
        let runs = [1, 2, 3].map(|threads| on(path).with_threads(threads).scoped(|| network.run()));
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path}: results depend on the number of threads");
    }
}

#[test]
#[should_panic(expected = "not one of 2 classes")]
fn a_class_beyond_the_logits_is_refused() {
    let operator =
        Operator::SegmentationSums(Labels { first: vec![0, 2], second: None }, VoxelLoss::default());
    operator.run(&[Tensor::full(0.0, &[1, 1, 1, 2, 2]).array()], &mut vec![]);
}

#[test]
fn large_convolutions_agree_with_f64() {
    // Large enough for every algorithm; odd sizes, channels that are no whole vectors, one voxel along an axis.
    for (shape, output) in [
        ([2, 16, 17, 19, 16], 32),
        ([1, 21, 20, 23, 20], 9),
        ([2, 5, 7, 5, 48], 64),
        ([1, 30, 1, 31, 8], 24),
        ([3, 4, 9, 6, 1], 16),
    ] {
        let mut random = Random::new(11);
        let x = random.tensor(&shape);
        let (weight, bias) = (random.tensor(&[output, shape[4], 3, 3, 3]), random.tensor(&[output]));
        let operator = Operator::Conv3d { stride: [1; 3], padding: [1; 3] };
        compare(operator, &[x, weight, bias], CONVOLUTION, &mut random);
    }
}

#[test]
fn convolutions_of_few_channels_agree_with_f64_for_any_number_of_threads() {
    // Several outputs in one vector, lines filtered across x and y: even and odd sizes, lines without a whole run, the last
    // tiles half outside, more rows of tiles than chunks of sums, strides, no padding.
    let cases: [([usize; 5], usize, [usize; 3], usize); 12] = [
        ([2, 12, 9, 12, 8], 8, [1; 3], 1),
        ([1, 5, 8, 7, 8], 8, [1; 3], 1),
        ([3, 13, 6, 10, 16], 8, [1; 3], 1),
        ([1, 9, 7, 14, 8], 16, [1; 3], 1),
        ([2, 6, 7, 12, 8], 8, [1; 3], 0),
        ([1, 8, 6, 12, 5], 4, [1; 3], 1),
        ([1, 6, 6, 16, 1], 8, [1; 3], 1),
        ([2, 7, 8, 12, 8], 16, [2; 3], 1),
        ([1, 8, 8, 8, 4], 8, [2, 2, 1], 1),
        ([1, 6, 5, 9, 3], 3, [1, 1, 2], 1),
        ([1, 3, 4, 16, 2], 1, [1; 3], 1),
        ([1, 6, 8, 24, 32], 8, [1; 3], 1),
    ];
    // Kernels that are flat along z, of many channels too.
    let flat: [([usize; 5], usize, [usize; 3], usize); 8] = [
        // The part of a line that is read is shorter than a vector.
        ([1, 6, 6, 2, 8], 16, [1, 1, 2], 1),
        ([1, 6, 5, 3, 8], 16, [1, 1, 2], 1),
        ([2, 12, 9, 12, 8], 8, [1; 3], 1),
        ([1, 7, 10, 5, 16], 8, [1; 3], 1),
        ([2, 6, 7, 3, 32], 64, [1; 3], 1),
        ([1, 9, 6, 4, 24], 32, [1; 3], 0),
        ([1, 8, 7, 6, 8], 16, [2, 2, 1], 1),
        ([1, 6, 9, 7, 48], 16, [1; 3], 1),
    ];
    let cases = cases.into_iter().map(|case| (case, 3)).chain(flat.into_iter().map(|case| (case, 1)));
    for (number, ((shape, output, stride, padding), taps)) in cases.enumerate() {
        let mut random = Random::new(13 + number as u64);
        let mut network = Network::default();
        let x = network.leaf(random.tensor(&shape));
        let weight = network.leaf(random.tensor(&[output, shape[4], 3, 3, taps]));
        let bias = network.leaf(random.tensor(&[output]));
        let padding = [padding, padding, padding * (taps / 2)];
        network.apply(Operator::Conv3d { stride, padding }, &[x, weight, bias]);
        let network = network.ended(&mut random);
        network.compare(&format!("{shape:?} to {output}, {taps} taps along z"), CONVOLUTION);
        for path in paths() {
            let runs = [1, 3].map(|threads| on(path).with_threads(threads).scoped(|| network.run()));
            assert!(runs[0] == runs[1], "{path}, {shape:?}: results depend on the number of threads");
        }
    }
}
