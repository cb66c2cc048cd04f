//! What each operator costs: `cargo bench -p segen-kernels [-- PART OF A NAME]`. Milliseconds forward, and forward with
//! backward, the least of the runs that fit into half a second, on the fastest path of this processor and all threads.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use burn::tensor::{Device, Int, Tensor, TensorData};
use segen_kernels::{self as kernels, Activation, Nonlinearity, Precision, Settings};

fn main() {
    let settings = Settings::current();
    println!("path {}; milliseconds forward, and with backward", settings.path());
    for precision in [Precision::F32, Precision::Bf16] {
        let settings = settings.clone().with_precision(precision);
        println!("{precision}: {}", settings.arithmetic());
        settings.scoped(convolutions);
    }
    println!("other operators, f32");
    let volume = leaf([2, 64, 64, 64, 32]);
    let [weight, bias, slope] = [1.0, 0.1, 0.01].map(|value| vector(32, value));
    report("instance norm, leaky ReLU, 32 @ 64^3", &volume, |x| {
        kernels::instance_norm_leaky_relu(x, weight.clone(), bias.clone(), 1e-5, 0.01)
    });
    report("batch norm, PReLU, 32 @ 64^3", &volume, |x| {
        let nonlinearity = Nonlinearity::PRelu(slope.clone());
        kernels::batch_norm(x, weight.clone(), bias.clone(), 1e-5, nonlinearity).0
    });
    report("bias, ReLU, 32 @ 64^3", &volume, |x| {
        kernels::bias_nonlinearity(x, bias.clone(), Nonlinearity::Relu)
    });
    report("concatenation, 32 + 32 @ 64^3", &volume, |x| kernels::concat(x.clone(), x));
    report("sum, cropped, 32 @ 64^3 to 60^3", &volume, |x| {
        kernels::add_cropped(kernels::crop(x.clone(), [0; 3], [60; 3]), x)
    });
    report("maximum pooling 2^3, 32 @ 64^3", &volume, |x| kernels::max_pool3d(x, [2; 3], [2; 3]));
    report("average pooling 2^3, 32 @ 64^3", &volume, |x| kernels::avg_pool3d(x, [2; 3], [2; 3]));
    report("edge padding by 1, 32 @ 64^3", &volume, |x| kernels::pad_replicate(x, [1; 3]));
    let mask = vector(64, 1.0).detach().reshape([2, 1, 1, 1, 32]);
    report("mask, 32 @ 64^3", &volume, |x| kernels::multiply_mask(x, mask.clone()));
    let coarse = leaf([2, 32, 32, 32, 32]);
    report("repeated upsampling 2^3, 32 @ 32^3", &coarse, |x| kernels::upsample_repeat(x, [2; 3], [64; 3]));
    report("trilinear upsampling 2^3, 32 @ 32^3", &coarse, |x| kernels::upsample_trilinear(x, [2; 3]));
    let images = leaf([128, 8, 8, 1, 256]);
    let (matrix, offsets) = (leaf([10, 256, 1, 1, 1]).reshape([10, 256]), vector(10, 0.0));
    report("global average and linear, 128 x 8^2 x 256 to 10", &images, |x| {
        let y = kernels::linear(kernels::global_average(x), matrix.clone(), Some(offsets.clone()));
        Activation::from_channels_last(y.reshape([128, 1, 1, 1, 10]))
    });
    let logits = leaf([2, 64, 64, 64, 4]);
    let target = (0..2 * 64 * 64 * 64).map(|i| i % 4).collect::<Vec<i32>>();
    let target = Tensor::<4, Int>::from_data(TensorData::new(target, [2, 64, 64, 64]), &device());
    report("segmentation sums, 4 classes @ 64^3", &logits, |x| {
        let sums = kernels::segmentation_sums(x, target.clone(), &kernels::VoxelLoss::default());
        Activation::from_channels_last(sums.reshape([2, 1, 1, 1, 18]))
    });
}

fn convolutions() {
    for (name, shape, output, kernel, stride, padding) in [
        ("3^3, 32 to 32 @ 64^3", [2, 64, 64, 64, 32], 32, [3; 3], 1, [1; 3]),
        ("3^3, 64 to 64 @ 32^3", [2, 32, 32, 32, 64], 64, [3; 3], 1, [1; 3]),
        ("3^3, 128 to 128 @ 16^3", [2, 16, 16, 16, 128], 128, [3; 3], 1, [1; 3]),
        ("3^3, 4 to 32 @ 64^3", [2, 64, 64, 64, 4], 32, [3; 3], 1, [1; 3]),
        ("3^3, stride 2, 32 to 64 @ 64^3", [2, 64, 64, 64, 32], 64, [3; 3], 2, [1; 3]),
        ("3^3, valid, 40 to 50 @ 27^3", [10, 27, 27, 27, 40], 50, [3; 3], 1, [0; 3]),
        ("1^3, 150 to 250 @ 21^3", [10, 21, 21, 21, 150], 250, [1; 3], 1, [0; 3]),
        ("3^2, 64 to 64 @ 32^2", [128, 32, 32, 1, 64], 64, [3, 3, 1], 1, [1, 1, 0]),
        ("3^2, 256 to 256 @ 8^2", [128, 8, 8, 1, 256], 256, [3, 3, 1], 1, [1, 1, 0]),
    ] {
        let [kx, ky, kz] = kernel;
        let (x, weight) = (leaf(shape), leaf([output, shape[4], kx, ky, kz]));
        let stride = kernel.map(|kernel| if kernel == 1 { 1 } else { stride });
        report(name, &x, |x| kernels::conv3d(x, weight.clone(), None, stride, padding));
    }
    let (x, weight) = (leaf([2, 32, 32, 32, 64]), leaf([64, 32, 2, 2, 2]));
    report("transposed 2^3, 64 to 32 @ 32^3", &x, |x| kernels::conv_transpose3d(x, weight.clone(), None));
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// Values in (-1, 1) that look random.
fn leaf(shape: [usize; 5]) -> Tensor<5> {
    let values = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 1009) as f32 / 505.0 - 0.999);
    Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), &device()).require_grad()
}

fn vector(count: usize, value: f32) -> Tensor<1> {
    Tensor::full([count], value, &device()).require_grad()
}

fn report(name: &str, x: &Tensor<5>, run: impl Fn(Activation) -> Activation) {
    // As in other benchmarks, an argument picks those whose name holds it.
    let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    if wanted.next().is_some_and(|part| !name.contains(&part)) {
        return;
    }
    let forward = || run(Activation::from_channels_last(x.clone())).into_channels_last();
    let least = |work: &dyn Fn()| {
        let (start, mut best) = (Instant::now(), Duration::MAX);
        work();
        while start.elapsed() < Duration::from_millis(500) {
            let begin = Instant::now();
            work();
            best = best.min(begin.elapsed());
        }
        if best == Duration::MAX { start.elapsed() } else { best }.as_secs_f64() * 1e3
    };
    let once = least(&|| drop(forward()));
    let both = least(&|| drop(forward().backward()));
    println!("  {name}: {once:.2} {both:.2}");
}
