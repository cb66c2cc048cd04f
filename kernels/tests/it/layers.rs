//! Batch norm, nonlinearities, upsampling and the like on every path: results and gradients against f64.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::network::{Network, compare};
use crate::operator::{Kind, Operator};
use crate::support::*;

/// A size at which batch statistics mean something.
fn norm_size() -> impl Strategy<Value = [usize; 3]> {
    size().prop_filter("too few voxels", |size| size.iter().product::<usize>() >= 4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn batch_norm_agrees_with_f64(
        size in norm_size(), channels in channels(), batch in 1..4_usize, seed in 0..1000_u64, kind in 0..4_usize,
    ) {
        let [sx, sy, sz] = size;
        let kind = Kind::ALL[kind];
        let mut random = Random::new(seed);
        let x = random.tensor(&[batch, sx, sy, sz, channels]).map(|value| 3.0 * value + 1.0);
        let [weight, bias, slopes, mean, variance] = [(); 5].map(|()| random.tensor(&[channels]));
        let variance = variance.map(|value| value.abs() + 0.1);
        let with_slopes = |mut inputs: Vec<Tensor>| {
            inputs.extend(matches!(kind, Kind::PRelu).then(|| slopes.clone()));
            inputs
        };
        let inputs = with_slopes(vec![x.clone(), weight.clone(), bias.clone()]);
        compare(Operator::BatchNorm(1e-5, kind), &inputs, 1e-5, &mut random);
        let inputs = with_slopes(vec![x.clone(), weight, bias.clone(), mean, variance]);
        compare(Operator::BatchNormFixed(1e-5, kind), &inputs, 1e-6, &mut random);
        compare(Operator::BiasNonlinearity(kind), &with_slopes(vec![x, bias]), 1e-6, &mut random);
    }

    #[test]
    fn moved_voxels_agree_with_f64(
        size in size(), channels in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        factor in prop::array::uniform3(1..4_usize),
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let x = random.tensor(&[batch, sx, sy, sz, channels]);
        let repeated: [usize; 3] = std::array::from_fn(|i| size[i] * factor[i] - (factor[i] - 1) * (seed % 2) as usize);
        for (operator, tolerance) in [
            (Operator::PadReplicate(factor.map(|factor| factor - 1)), 5e-7),
            (Operator::UpsampleRepeat { factor, size: repeated }, 5e-7),
            (Operator::GlobalAverage, 1e-6),
            (Operator::FromChannelsFirst, 0.0),
            (Operator::IntoChannelsFirst, 0.0),
            (Operator::Reshape(vec![sx * sy, batch, sz * channels]), 0.0),
            (Operator::Scale(-0.3), 0.0),
        ] {
            compare(operator, std::slice::from_ref(&x), tolerance, &mut random);
        }
    }

    #[test]
    fn sums_and_masks_are_exact(
        size in size(), channels in channels(), fewer in 0..3_usize, batch in 1..4_usize, seed in 0..1000_u64,
        margin in prop::array::uniform3(0..4_usize), broadcast in prop::array::uniform5(any::<bool>()),
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let shape = [batch, sx, sy, sz, channels];
        let [rx, ry, rz] = std::array::from_fn(|i| size[i] + margin[i]);
        let (x, other) = (random.tensor(&shape), random.tensor(&shape));
        let residual = random.tensor(&[batch, rx, ry, rz, channels.saturating_sub(fewer).max(1)]);
        compare(Operator::AddCropped, &[x.clone(), residual], 0.0, &mut random);
        compare(Operator::Add, &[x.clone(), other], 0.0, &mut random);
        let lengths: [usize; 5] = std::array::from_fn(|i| if broadcast[i] { 1 } else { shape[i] });
        let mask = random.tensor(&lengths);
        compare(Operator::MultiplyMask, &[x, mask], 0.0, &mut random);
    }

    #[test]
    fn flat_convolution_agrees_with_f64(
        sx in 1..20_usize, sy in 1..20_usize, input in channels(), output in channels(), batch in 1..4_usize,
        seed in 0..1000_u64, stride in 1..3_usize, pointwise in any::<bool>(),
    ) {
        let mut random = Random::new(seed);
        let kernel = if pointwise { 1 } else { 3 };
        let padding = [kernel / 2, kernel / 2, 0];
        let x = random.tensor(&[batch, sx, sy, 1, input]);
        let (weight, bias) = (random.tensor(&[output, input, kernel, kernel, 1]), random.tensor(&[output]));
        let operator = Operator::Conv3d { stride: [stride, stride, 1], padding };
        compare(operator, &[x, weight, bias], 2e-6, &mut random);
    }
}

/// All operators of this file joined, large enough for several chunks and tasks of each.
pub(crate) fn all_operators() -> Network {
    let mut random = Random::new(3);
    let mut network = Network::default();
    let x = network.leaf(random.tensor(&[2, 21, 18, 22, 5]));
    let conv = network.leaf(random.tensor(&[20, 5, 3, 3, 3]));
    let flat = network.leaf(random.tensor(&[20, 20, 3, 3, 1]));
    let [weight, bias, slopes] = [(); 3].map(|()| network.leaf(random.tensor(&[20])));
    let y = network.apply(Operator::Conv3d { stride: [1; 3], padding: [0; 3] }, &[x, conv]);
    let y = network.apply(Operator::BatchNorm(1e-5, Kind::PRelu), &[y, weight, bias, slopes]);
    let y = network.apply(Operator::AddCropped, &[y, x]);
    let padded = network.apply(Operator::PadReplicate([1; 3]), &[y]);
    let small = network.apply(Operator::Conv3d { stride: [2; 3], padding: [0; 3] }, &[padded, flat]);
    let size = [1, 2, 3].map(|axis| network.shape(y)[axis]);
    let wide = network.apply(Operator::UpsampleRepeat { factor: [2, 2, 3], size }, &[small]);
    let y = network.apply(Operator::Add, &[y, wide]);
    let y = network.apply(Operator::Conv3d { stride: [1; 3], padding: [1, 1, 0] }, &[y, flat]);
    let y = network.apply(Operator::BiasNonlinearity(Kind::Relu), &[y, bias]);
    let mask = network.constant(random.tensor(&[2, 1, 1, 1, 20]));
    let masked = network.apply(Operator::MultiplyMask, &[y, mask]);
    let y = network.apply(Operator::ConcatAll, &[y, masked, y]);
    let y = network.apply(Operator::GlobalAverage, &[y]);
    let matrix = network.constant(random.tensor(&[3, 60]));
    network.apply(Operator::Linear, &[y, matrix]);
    network.ended(&mut random)
}

#[test]
fn all_operators_agree_with_f64() {
    all_operators().compare("all operators", 1e-5);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let network = all_operators();
    for path in paths() {
        let runs = [1, 2, 3].map(|threads| on(path).with_threads(threads).scoped(|| network.run()));
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path}: results depend on the number of threads");
    }
}
