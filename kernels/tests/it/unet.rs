//! Gradients of a whole small U-Net against PyTorch in f64 (`reference/make_unet.py`), no farther off than PyTorch's own
//! in the same precision.

use kernels::{Activation, Array, Precision, Recording, Settings, Target, VoxelLoss};
use segen_kernels as kernels;
use serde_json::Value;

use crate::support::{Tensor, in_bf16, on, paths};

const BATCH: usize = 2;
const SIZE: usize = 16;
const CHANNELS: usize = 2;
const FEATURES: [usize; 2] = [8, 16];
const CLASSES: usize = 3;

/// The numbers of places `0..` that the reference is made of.
fn numbers(shape: &[usize], salt: usize, scale: f64, shift: f64) -> Array {
    let number = |i: usize| {
        let hash = (i * i * 31 + i * 7919 + salt * 104_729) % 251;
        ((hash as f64 - 125.0) / 128.0 * scale + shift) as f32
    };
    Tensor::new((0..shape.iter().product()).map(number).collect(), shape).array()
}

/// Makes the parameters in the order of use.
struct Parameters<'a> {
    recording: &'a Recording,
    draw: usize,
    made: usize,
}

impl Parameters<'_> {
    fn add(&mut self, shape: &[usize], scale: f64, shift: f64) -> Array {
        self.made += 1;
        self.recording.leaf(numbers(shape, 100 * self.draw + self.made + 9, scale, shift))
    }

    fn block(&mut self, x: Activation, output: usize, stride: usize) -> Activation {
        let [.., input] = x.shape();
        let scale = 2.0_f64.powf(-((9.0 * input as f64).sqrt().log2().round()));
        let weight = self.add(&[output, input, 3, 3, 3], scale, 0.0);
        let bias = self.add(&[output], 0.25, 0.0);
        let x = kernels::conv3d(x, weight, Some(bias), [stride; 3], [1; 3]);
        let (scale, shift) = (self.add(&[output], 0.25, 1.0), self.add(&[output], 0.25, 0.0));
        kernels::instance_norm_leaky_relu(x, scale, shift, 1e-5, 0.01)
    }
}

/// The loss and the gradients of all parameters, for one of the reference's draws of numbers.
fn network(draw: usize) -> (f32, Vec<Vec<f32>>) {
    let recording = Recording::new();
    let mut parameters = Parameters { recording: &recording, draw, made: 0 };
    let [shallow, deep] = FEATURES;
    let x = numbers(&[BATCH, CHANNELS, SIZE, SIZE, SIZE], 100 * draw + 1, 1.0, 0.0);
    let x = Activation::from_channels_first(x);
    let voxels = BATCH * SIZE.pow(3);
    let target = (0..voxels).map(|i| ((i * i * 13 + i * 5) % 101 % CLASSES) as u8).collect();
    let target = Target::new(target, [BATCH, SIZE, SIZE, SIZE]);

    let x = parameters.block(x, shallow, 1);
    let skip = parameters.block(x, shallow, 1);
    let x = parameters.block(skip.clone(), deep, 2);
    let x = parameters.block(x, deep, 1);
    let weight = parameters.add(&[deep, shallow, 2, 2, 2], 0.25, 0.0);
    let bias = parameters.add(&[shallow], 0.25, 0.0);
    let x = kernels::concat(kernels::conv_transpose3d(x, weight, Some(bias)), skip);
    let x = parameters.block(x, shallow, 1);
    let x = parameters.block(x, shallow, 1);
    let weight = parameters.add(&[CLASSES, shallow, 1, 1, 1], 0.5, 0.0);
    let bias = parameters.add(&[CLASSES], 0.25, 0.0);
    let logits = kernels::conv3d(x, weight, Some(bias), [1; 3], [0; 3]);
    let sums = kernels::segmentation_sums(logits, target, &VoxelLoss::default());
    // The mean over the voxels of the first column of every sample.
    let width = 2 + 4 * CLASSES;
    let share = 1.0 / voxels as f32;
    let loss = sums.to_host().iter().step_by(width).sum::<f32>() * share;
    let slopes = (0..BATCH * width).map(|i| if i % width == 0 { share } else { 0.0 }).collect();
    (loss, recording.backward(vec![(sums, slopes)]))
}

/// |a - b|^2 / |b|^2 over the values that the reference has.
fn squared_error(gradient: &[f32], expected: &Value) -> f64 {
    let expected = expected.as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
    let (mut difference, mut norm) = (0.0, 0.0);
    for (value, expected) in gradient.iter().zip(expected) {
        difference += (f64::from(*value) - expected).powi(2);
        norm += expected * expected;
    }
    difference / norm
}

#[test]
fn gradients_are_no_farther_off_than_those_of_pytorch() {
    let reference: Value = serde_json::from_str(include_str!("../data/unet.json")).unwrap();
    let tensors = reference["tensors"].as_array().unwrap();
    let [draws, losses] = ["draws", "losses"].map(|key| reference[key].as_array().unwrap());
    // The root of the mean squared error of each tensor.
    let errors = |loss_bound: f64| {
        let mut errors = vec![0.0; tensors.len()];
        for (index, (draw, expected)) in draws.iter().zip(losses).enumerate() {
            let draw = draw.as_u64().unwrap() as usize;
            let (loss, gradients) = network(draw);
            let off = (f64::from(loss) / expected.as_f64().unwrap() - 1.0).abs();
            let path = Settings::current().path();
            assert!(off <= loss_bound, "{path}: the loss {loss} is off by {off:.1e}");
            assert_eq!(gradients.len(), tensors.len());
            for ((error, gradient), tensor) in errors.iter_mut().zip(&gradients).zip(tensors) {
                *error += squared_error(gradient, &tensor["gradients"][index]) / losses.len() as f64;
            }
        }
        errors.into_iter().map(f64::sqrt).collect::<Vec<_>>()
    };
    let mut results = vec![];
    for path in paths() {
        results.push((Precision::F32, path.to_string(), on(path).scoped(|| errors(1e-6))));
    }
    results
        .extend(in_bf16(|| errors(1e-2)).into_iter().map(|(path, errors)| (Precision::Bf16, path, errors)));
    let mut problems = vec![];
    for (precision, path, errors) in results {
        for (error, tensor) in errors.into_iter().zip(tensors) {
            let name = tensor["name"].as_str().unwrap();
            if name.ends_with(".bias") && !name.starts_with("up") && !name.starts_with("head") {
                // It feeds a norm: the true gradient is 0.
                continue;
            }
            let theirs = tensor["error"][precision.to_string()].as_f64().unwrap();
            let line = format!(
                "{path}, {precision}: {name}: {error:.2e}, PyTorch {theirs:.2e}: {:.2}",
                error / theirs
            );
            println!("{line}");
            if error > 1.5 * theirs {
                problems.push(line);
            }
        }
    }
    assert!(problems.is_empty(), "farther off than 1.5 times PyTorch:\n{}", problems.join("\n"));
}
