//! Gradients of a whole small U-Net against PyTorch in f64 (`reference/make_unet.py`), no farther off than PyTorch's own
//! in the same precision.

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use kernels::{Activation, Precision, Settings};
use segen_kernels as kernels;
use serde_json::Value;

use crate::support::{in_bf16, on, paths, vector};

const BATCH: usize = 2;
const SIZE: usize = 16;
const CHANNELS: usize = 2;
const FEATURES: [usize; 2] = [8, 16];
const CLASSES: usize = 3;

/// The numbers of places `0..` that the reference is made of.
fn numbers<const D: usize>(
    device: &Device,
    shape: [usize; D],
    salt: usize,
    scale: f64,
    shift: f64,
) -> Tensor<D> {
    let number = |i: usize| {
        let hash = (i * i * 31 + i * 7919 + salt * 104_729) % 251;
        ((hash as f64 - 125.0) / 128.0 * scale + shift) as f32
    };
    let values = (0..shape.iter().product()).map(number).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, shape), device)
}

type GradientOf = dyn Fn(&Gradients) -> Vec<f32>;

/// The parameters in the order of use; how to get their gradients.
struct Parameters {
    device: Device,
    draw: usize,
    gradients: Vec<Box<GradientOf>>,
}

impl Parameters {
    fn add<const D: usize>(&mut self, shape: [usize; D], scale: f64, shift: f64) -> Tensor<D> {
        let tensor = numbers(&self.device, shape, 100 * self.draw + self.gradients.len() + 10, scale, shift)
            .require_grad();
        let leaf = tensor.clone();
        self.gradients.push(Box::new(move |gradients| vector(leaf.grad(gradients).unwrap())));
        tensor
    }

    fn block(&mut self, x: Activation, output: usize, stride: usize) -> Activation {
        let [.., input] = x.shape();
        let scale = 2.0_f64.powf(-((9.0 * input as f64).sqrt().log2().round()));
        let weight = self.add([output, input, 3, 3, 3], scale, 0.0);
        let bias = self.add([output], 0.25, 0.0);
        let x = kernels::conv3d(x, weight, Some(bias), [stride; 3], [1; 3]);
        let (scale, shift) = (self.add([output], 0.25, 1.0), self.add([output], 0.25, 0.0));
        kernels::instance_norm_leaky_relu(x, scale, shift, 1e-5, 0.01)
    }
}

/// The loss and the gradients of all parameters, for one of the reference's draws of numbers.
fn network(device: &Device, draw: usize) -> (f32, Vec<Vec<f32>>) {
    let mut parameters = Parameters { device: device.clone(), draw, gradients: vec![] };
    let [shallow, deep] = FEATURES;
    let x = numbers(device, [BATCH, CHANNELS, SIZE, SIZE, SIZE], 100 * draw + 1, 1.0, 0.0);
    let x = Activation::from_channels_first(x);
    let voxels = BATCH * SIZE.pow(3);
    let target = (0..voxels).map(|i| ((i * i * 13 + i * 5) % 101 % CLASSES) as i32).collect::<Vec<_>>();
    let target = TensorData::new(target, [BATCH, SIZE, SIZE, SIZE]);
    let target = Tensor::<4, Int>::from_data(target, device);

    let x = parameters.block(x, shallow, 1);
    let skip = parameters.block(x, shallow, 1);
    let x = parameters.block(skip.clone(), deep, 2);
    let x = parameters.block(x, deep, 1);
    let weight = parameters.add([deep, shallow, 2, 2, 2], 0.25, 0.0);
    let bias = parameters.add([shallow], 0.25, 0.0);
    let x = kernels::concat(kernels::conv_transpose3d(x, weight, Some(bias)), skip);
    let x = parameters.block(x, shallow, 1);
    let x = parameters.block(x, shallow, 1);
    let weight = parameters.add([CLASSES, shallow, 1, 1, 1], 0.5, 0.0);
    let bias = parameters.add([CLASSES], 0.25, 0.0);
    let logits = kernels::conv3d(x, weight, Some(bias), [1; 3], [0; 3]);
    let sums = kernels::segmentation_sums(logits, target, &kernels::VoxelLoss::default());
    let loss = sums.slice([0..BATCH, 0..1]).sum() / voxels as f64;
    let gradients = loss.backward();
    let gradients = parameters.gradients.iter().map(|gradient| gradient(&gradients)).collect();
    (loss.into_scalar::<f32>(), gradients)
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
            let (loss, gradients) = network(&Device::flex().autodiff(), draw);
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

#[test]
#[cfg(feature = "vulkan")]
fn a_step_on_a_gpu_agrees_with_the_processor() {
    use burn::tensor::DeviceType;

    let Some(gpu) = Device::enumerate(DeviceType::Vulkan).into_iter().next() else {
        println!("skipped: no Vulkan device");
        return;
    };
    let (expected_loss, expected) = network(&Device::flex().autodiff(), 0);
    let (loss, gradients) = network(&gpu.autodiff(), 0);
    assert!((loss / expected_loss - 1.0).abs() <= 1e-4, "loss {loss}, on the processor {expected_loss}");
    let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    for (index, (gradient, expected)) in gradients.iter().zip(&expected).enumerate() {
        let difference: Vec<f32> = gradient.iter().zip(expected).map(|(a, b)| a - b).collect();
        // Biases that feed a norm have no gradient but rounding errors.
        assert!(
            norm(&difference) <= 1e-3 * norm(expected).max(1e-3),
            "the gradient of parameter {index} differs"
        );
    }
}
