//! What each operator costs: `cargo bench -p segen-kernels [-- PART OF A NAME]`. Milliseconds forward, and forward with
//! backward, the least of the runs that fit into half a second, on the fastest path of this processor and all threads.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use segen_kernels::{
    self as kernels, Activation, Array, Device, Nonlinearity, Precision, Recording, Settings, Target,
};

fn main() {
    let settings = Settings::current();
    println!("path {}; milliseconds forward, and with backward", settings.path());
    for precision in [Precision::F32, Precision::Bf16] {
        let settings = settings.clone().with_precision(precision);
        println!("{precision}: {}", settings.arithmetic());
        settings.scoped(convolutions);
    }
    println!("other operators, f32");
    let volume = values(&[2, 64, 64, 64, 32]);
    let [weight, bias, slope] = [1.0, 0.1, 0.01].map(|value| Array::full(value, &[32], &Device::Cpu));
    report("instance norm, leaky ReLU, 32 @ 64^3", &[&volume, &weight, &bias], |[x, weight, bias]| {
        let x = Activation::from_channels_last(x);
        kernels::instance_norm_leaky_relu(x, weight, bias, 1e-5, 0.01).into_channels_last()
    });
    let inputs = [&volume, &weight, &bias, &slope];
    report("batch norm, PReLU, 32 @ 64^3", &inputs, |[x, weight, bias, slope]| {
        let (x, nonlinearity) = (Activation::from_channels_last(x), Nonlinearity::PRelu(slope));
        kernels::batch_norm(x, weight, bias, 1e-5, nonlinearity).0.into_channels_last()
    });
    report("bias, ReLU, 32 @ 64^3", &[&volume, &bias], |[x, bias]| {
        let x = Activation::from_channels_last(x);
        kernels::bias_nonlinearity(x, bias, Nonlinearity::Relu).into_channels_last()
    });
    of_one("concatenation, 32 + 32 @ 64^3", &volume, |x| kernels::concat(x.clone(), x));
    let inner = values(&[2, 60, 60, 60, 32]);
    report("sum, cropped, 32 @ 64^3 to 60^3", &[&inner, &volume], |arrays| {
        let [x, residual] = arrays.map(Activation::from_channels_last);
        kernels::add_cropped(x, residual).into_channels_last()
    });
    of_one("edge padding by 1, 32 @ 64^3", &volume, |x| kernels::pad_replicate(x, [1; 3]));
    let mask = Array::full(1.0, &[2, 1, 1, 1, 32], &Device::Cpu);
    of_one("mask, 32 @ 64^3", &volume, |x| kernels::multiply_mask(x, &mask));
    let coarse = values(&[2, 32, 32, 32, 32]);
    of_one("repeated upsampling 2^3, 32 @ 32^3", &coarse, |x| kernels::upsample_repeat(x, [2; 3], [64; 3]));
    let (matrix, offsets) = (values(&[10, 256]), Array::full(0.0, &[10], &Device::Cpu));
    let inputs = [&values(&[128, 8, 8, 1, 256]), &matrix, &offsets];
    report("global average and linear, 128 x 8^2 x 256 to 10", &inputs, |[x, matrix, offsets]| {
        let x = Activation::from_channels_last(x);
        kernels::linear(kernels::global_average(x), matrix, Some(offsets))
    });
    let target = Target::new((0..2 * 64 * 64 * 64).map(|i| (i % 4) as u8).collect(), [2, 64, 64, 64]);
    report("segmentation sums, 4 classes @ 64^3", &[&values(&[2, 64, 64, 64, 4])], |[x]| {
        let x = Activation::from_channels_last(x);
        kernels::segmentation_sums(x, target.clone(), &kernels::VoxelLoss::default())
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
        let (x, weight) = (values(&shape), values(&[output, shape[4], kx, ky, kz]));
        let stride = kernel.map(|kernel| if kernel == 1 { 1 } else { stride });
        report(name, &[&x, &weight], |[x, weight]| {
            let x = Activation::from_channels_last(x);
            kernels::conv3d(x, weight, None, stride, padding).into_channels_last()
        });
    }
    let (x, weight) = (values(&[2, 32, 32, 32, 64]), values(&[64, 32, 2, 2, 2]));
    report("transposed 2^3, 64 to 32 @ 32^3", &[&x, &weight], |[x, weight]| {
        let x = Activation::from_channels_last(x);
        kernels::conv_transpose3d(x, weight, None).into_channels_last()
    });
}

/// Values in (-1, 1) that look random.
fn values(shape: &[usize]) -> Array {
    let values = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 1009) as f32 / 505.0 - 0.999);
    Array::from_host(values.collect(), shape, &Device::Cpu)
}

/// As [`report`], of one activation.
fn of_one(name: &str, x: &Array, run: impl Fn(Activation) -> Activation) {
    report(name, &[x], |[x]| run(Activation::from_channels_last(x)).into_channels_last());
}

/// Times an operator, whose inputs are all leaves.
fn report<const N: usize>(name: &str, inputs: &[&Array; N], run: impl Fn([Array; N]) -> Array) {
    // As in other benchmarks, an argument picks those whose name holds it.
    let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    if wanted.next().is_some_and(|part| !name.contains(&part)) {
        return;
    }
    let forward = || {
        let recording = Recording::new();
        let y = run(inputs.map(|input| recording.leaf(input.clone())));
        (recording, y)
    };
    let backward = || {
        let (recording, y) = forward();
        let slopes = vec![1.0; y.shape().iter().product()];
        recording.backward(vec![(y, slopes)])
    };
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
    let both = least(&|| drop(backward()));
    println!("  {name}: {once:.2} {both:.2}");
}
