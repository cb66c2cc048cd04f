//! Batch norm, nonlinearities, pooling, upsampling and the like on every path: results and gradients against
//! compositions of burn's own operators.

use burn::tensor::Tensor;
use kernels::{Activation, Nonlinearity};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use segen_kernels as kernels;

use crate::support::*;

fn volume(x: &Tensor<5>) -> Activation {
    Activation::from_channels_last(x.clone())
}

/// The nonlinearity number `kind`; the last has slopes that are differentiable.
fn nonlinearity(kind: usize, slope: &Tensor<1>) -> Nonlinearity {
    match kind {
        0 => Nonlinearity::None,
        1 => Nonlinearity::Relu,
        2 => Nonlinearity::LeakyRelu(0.2),
        _ => Nonlinearity::PRelu(slope.clone()),
    }
}

/// A size at which batch statistics mean something.
fn norm_size() -> impl Strategy<Value = [usize; 3]> {
    size().prop_filter("too few voxels", |size| size.iter().product::<usize>() >= 4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn batch_norm_agrees_with_stock(
        size in norm_size(), channels in channels(), batch in 1..4_usize, seed in 0..1000_u64, kind in 0..4_usize,
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let x = random.tensor([batch, sx, sy, sz, channels]) * 3.0 + 1.0;
        let vectors = [(); 5].map(|()| random.tensor([channels]));
        let factor = random.factor([batch, sx, sy, sz, channels]);
        compare(&format!("{size:?} x {channels}, nonlinearity {kind}"), 1e-4, || {
            let x = leaf(&x);
            let [weight, bias, slope, ..] = vectors.each_ref().map(leaf);
            let f = nonlinearity(kind, &slope);
            let (y, statistics) = kernels::batch_norm(volume(&x), weight.clone(), bias.clone(), 1e-5, f);
            let mut leaves = vec![weight, bias];
            leaves.extend((kind == 3).then_some(slope));
            let mut results = gradients(y.into_channels_last(), &factor, &[x], &leaves);
            results.extend([statistics.mean, statistics.variance]);
            results
        });
        compare(&format!("{size:?} x {channels}, nonlinearity {kind}, given"), 5e-6, || {
            let x = leaf(&x);
            let [weight, bias, slope, mean, variance] = vectors.each_ref().map(leaf);
            let (mean, variance) = (mean.detach(), variance.detach().abs() + 0.1);
            let f = nonlinearity(kind, &slope);
            let y = kernels::batch_norm_fixed(volume(&x), weight.clone(), bias.clone(), mean, variance, 1e-5, f);
            let mut leaves = vec![weight, bias];
            leaves.extend((kind == 3).then_some(slope));
            gradients(y.into_channels_last(), &factor, &[x], &leaves)
        });
        compare(&format!("{size:?} x {channels}, nonlinearity {kind}, bias"), 5e-6, || {
            let x = leaf(&x);
            let [_, bias, slope, ..] = vectors.each_ref().map(leaf);
            let y = kernels::bias_nonlinearity(volume(&x), bias.clone(), nonlinearity(kind, &slope));
            let mut leaves = vec![bias];
            leaves.extend((kind == 3).then_some(slope));
            gradients(y.into_channels_last(), &factor, &[x], &leaves)
        });
    }

    #[test]
    fn moved_voxels_agree_with_stock(
        size in size(), channels in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        shares in prop::array::uniform3((0.0..1.0_f64, 0.0..1.0_f64)), factor in prop::array::uniform3(1..4_usize),
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let x = random.tensor([batch, sx, sy, sz, channels]);
        let start: [usize; 3] = std::array::from_fn(|i| (shares[i].0 * size[i] as f64) as usize);
        let count: [usize; 3] = std::array::from_fn(|i| {
            let most = size[i] - start[i];
            (1 + (shares[i].1 * most as f64) as usize).min(most)
        });
        let repeated: [usize; 3] = std::array::from_fn(|i| size[i] * factor[i] - (factor[i] - 1) * (seed % 2) as usize);
        let operators: [(&str, &dyn Fn(Activation) -> Activation); 4] = [
            ("crop", &|x| kernels::crop(x, start, count)),
            ("pad", &|x| kernels::pad_replicate(x, factor.map(|factor| factor - 1))),
            ("repeat", &|x| kernels::upsample_repeat(x, factor, repeated)),
            ("trilinear", &|x| kernels::upsample_trilinear(x, factor)),
        ];
        for (name, operator) in operators {
            let factor = random.factor(operator(volume(&x)).shape());
            compare(&format!("{name} {size:?}, {start:?}, {count:?}, {factor:?}"), 1e-6, || {
                let x = leaf(&x);
                gradients::<5, 1>(operator(volume(&x)).into_channels_last(), &factor, &[x], &[])
            });
        }
    }

    #[test]
    fn pooling_agrees_with_stock(
        size in size(), channels in channels(), batch in 1..4_usize, seed in 0..1000_u64,
        kernel in prop::array::uniform3(1..4_usize), stride in prop::array::uniform3(1..4_usize),
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let kernel: [usize; 3] = std::array::from_fn(|i| kernel[i].min(size[i]));
        // Few values, so that maxima tie.
        let x = (random.tensor([batch, sx, sy, sz, channels]) * 4.0).round();
        let operators: [(&str, &dyn Fn(Activation) -> Activation); 2] = [
            ("max", &|x| kernels::max_pool3d(x, kernel, stride)),
            ("average", &|x| kernels::avg_pool3d(x, kernel, stride)),
        ];
        for (name, operator) in operators {
            let factor = random.factor(operator(volume(&x)).shape());
            compare(&format!("{name} {size:?}, {kernel:?}, {stride:?}"), 2e-6, || {
                let x = leaf(&x);
                gradients::<5, 1>(operator(volume(&x)).into_channels_last(), &factor, &[x], &[])
            });
        }
        let factor = random.factor([batch, channels]);
        compare(&format!("global average {size:?}"), 5e-6, || {
            let x = leaf(&x);
            gradients::<2, 1>(kernels::global_average(volume(&x)), &factor, &[x], &[])
        });
    }

    #[test]
    fn sums_and_masks_agree_with_stock(
        size in size(), channels in channels(), fewer in 0..3_usize, batch in 1..4_usize, seed in 0..1000_u64,
        margin in prop::array::uniform3(0..4_usize), broadcast in prop::array::uniform5(any::<bool>()),
    ) {
        let [sx, sy, sz] = size;
        let mut random = Random::new(seed);
        let shape = [batch, sx, sy, sz, channels];
        let [rx, ry, rz] = std::array::from_fn(|i| size[i] + margin[i]);
        let (x, factor) = (random.tensor(shape), random.factor(shape));
        let residual = random.tensor([batch, rx, ry, rz, channels.saturating_sub(fewer).max(1)]);
        compare(&format!("add {shape:?}, {margin:?}"), 0.0, || {
            let (x, residual) = (leaf(&x), leaf(&residual));
            let y = kernels::add_cropped(volume(&x), volume(&residual));
            gradients::<5, 1>(y.into_channels_last(), &factor, &[x, residual], &[])
        });
        let mask = random.tensor(std::array::from_fn(|i| if broadcast[i] { 1 } else { shape[i] }));
        compare(&format!("mask {shape:?}, {broadcast:?}"), 0.0, || {
            let x = leaf(&x);
            let y = kernels::multiply_mask(volume(&x), leaf(&mask));
            gradients::<5, 1>(y.into_channels_last(), &factor, &[x], &[])
        });
    }

    #[test]
    fn flat_convolution_agrees_with_stock(
        sx in 1..20_usize, sy in 1..20_usize, input in channels(), output in channels(), batch in 1..4_usize,
        seed in 0..1000_u64, stride in 1..3_usize, pointwise in any::<bool>(),
    ) {
        let mut random = Random::new(seed);
        let kernel = if pointwise { 1 } else { 3 };
        let padding = [kernel / 2, kernel / 2, 0];
        let x = random.tensor([batch, sx, sy, 1, input]);
        let (weight, bias) = (random.tensor([output, input, kernel, kernel, 1]), random.tensor([output]));
        let factor = random.factor([batch, (sx - 1) / stride + 1, (sy - 1) / stride + 1, 1, output]);
        compare(&format!("{sx} x {sy}, {input} to {output}, stride {stride}, kernel {kernel}"), 5e-6, || {
            let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
            let stride = [stride, stride, 1];
            let y = kernels::conv3d(volume(&x), weight.clone(), Some(bias.clone()), stride, padding);
            gradients(y.into_channels_last(), &factor, &[x, weight], &[bias])
        });
    }
}

/// All operators of this file joined, large enough for several chunks and tasks of each.
fn all_operators() -> Vec<Vec<f32>> {
    let mut random = Random::new(3);
    let x = leaf(&random.tensor([2, 21, 18, 22, 5]));
    let conv = leaf(&random.tensor([20, 5, 3, 3, 3]));
    let flat = leaf(&random.tensor([20, 20, 3, 3, 1]));
    let [weight, bias, slope] = [(); 3].map(|()| leaf(&random.tensor([20])));
    let y = kernels::conv3d(volume(&x), conv.clone(), None, [1; 3], [0; 3]);
    let (y, statistics) =
        kernels::batch_norm(y, weight.clone(), bias.clone(), 1e-5, Nonlinearity::PRelu(slope.clone()));
    let y = kernels::add_cropped(y, volume(&x));
    let small = kernels::max_pool3d(kernels::pad_replicate(y.clone(), [1; 3]), [3; 3], [2; 3]);
    let [_, sx, sy, sz, _] = y.shape();
    let wide = kernels::upsample_repeat(small.clone(), [2, 2, 3], [sx, sy, sz]);
    let smooth = kernels::crop(kernels::upsample_trilinear(small, [2; 3]), [0; 3], [sx, sy, sz]);
    let y = kernels::add(kernels::add(y, wide), smooth);
    let y = kernels::conv3d(y, flat.clone(), None, [1; 3], [1, 1, 0]);
    let y = kernels::avg_pool3d(y, [2, 2, 1], [2, 2, 1]);
    let y = kernels::bias_nonlinearity(y, bias.clone(), Nonlinearity::Relu);
    let mask = leaf(&random.tensor([2, 1, 1, 1, 20])).detach();
    let y = kernels::concat_all(vec![y.clone(), kernels::multiply_mask(y.clone(), mask), y]);
    let y = kernels::linear(kernels::global_average(y), leaf(&random.tensor([3, 60])).detach(), None);
    let factor = random.factor([2, 3]);
    let mut results = gradients(y, &factor, &[x, conv, flat], &[weight, bias, slope]);
    results.extend([statistics.mean, statistics.variance]);
    results
}

#[test]
fn all_operators_agree_with_stock() {
    compare("all operators", 1e-4, all_operators);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for path in paths() {
        let runs = [1, 2, 3].map(|threads| on(path).with_threads(threads).scoped(all_operators));
        assert!(runs[0] == runs[1] && runs[0] == runs[2], "{path}: results depend on the number of threads");
    }
}
