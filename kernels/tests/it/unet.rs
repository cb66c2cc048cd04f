//! Gradients of a whole small U-Net against PyTorch in f64 (`reference/make_unet.py`), no farther off than PyTorch's own
//! in the same precision.

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use kernels::{Activation, Precision};
use segen_kernels as kernels;
use serde_json::Value;

use crate::support::{alone, paths, vector};

const BATCH: usize = 2;
const SIZE: usize = 16;
const CHANNELS: usize = 2;
const FEATURES: [usize; 2] = [8, 16];
const CLASSES: usize = 3;

/// A tensor of fewer values is right by luck, PyTorch's as ours: the median of all of these is compared.
const FEW: usize = 100;

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
    gradients: Vec<Box<GradientOf>>,
}

impl Parameters {
    fn add<const D: usize>(&mut self, shape: [usize; D], scale: f64, shift: f64) -> Tensor<D> {
        let tensor = numbers(&self.device, shape, self.gradients.len() + 10, scale, shift).require_grad();
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

/// The loss and the gradients of all parameters.
fn network(device: &Device) -> (f32, Vec<Vec<f32>>) {
    let mut parameters = Parameters { device: device.clone(), gradients: vec![] };
    let [shallow, deep] = FEATURES;
    let x =
        Activation::from_channels_first(numbers(device, [BATCH, CHANNELS, SIZE, SIZE, SIZE], 1, 1.0, 0.0));
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

#[test]
fn gradients_are_no_farther_off_than_those_of_pytorch() {
    let reference: Value = serde_json::from_str(include_str!("../data/unet.json")).unwrap();
    let tensors = reference["tensors"].as_array().unwrap();
    let expected_loss = reference["loss"].as_f64().unwrap();
    let _alone = alone();
    let mut problems = vec![];
    for path in paths() {
        kernels::select(Some(path)).unwrap();
        for (precision, loss_bound) in [(Precision::F32, 1e-6), (Precision::Bf16, 1e-2)] {
            kernels::set_precision(precision);
            let (loss, gradients) = network(&Device::flex().autodiff());
            let error = (f64::from(loss) / expected_loss - 1.0).abs();
            assert!(error <= loss_bound, "{path}, {precision}: the loss {loss} is off by {error:.1e}");
            assert_eq!(gradients.len(), tensors.len());
            let mut vectors = vec![];
            for (gradient, tensor) in gradients.iter().zip(tensors) {
                let name = tensor["name"].as_str().unwrap();
                if name.ends_with(".bias") && !name.starts_with("up") && !name.starts_with("head") {
                    // It feeds a norm: the true gradient is 0.
                    continue;
                }
                let expected = tensor["gradient"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
                let (mut difference, mut norm) = (0.0, 0.0);
                assert_eq!(gradient.len(), expected.len());
                for (value, expected) in gradient.iter().zip(expected) {
                    difference += (f64::from(*value) - expected).powi(2);
                    norm += expected * expected;
                }
                let error = (difference / norm).sqrt();
                let theirs = tensor["error"][precision.to_string()].as_f64().unwrap();
                println!("{path}, {precision}: {name}: {error:.2e}, PyTorch {theirs:.2e}");
                if gradient.len() < FEW {
                    vectors.push([error, theirs]);
                } else if error > 1.5 * theirs {
                    problems.push(format!("{path}, {precision}: {name}: {error:.2e}, PyTorch {theirs:.2e}"));
                }
            }
            let [ours, theirs] = [0, 1].map(|whose| {
                let mut errors: Vec<f64> = vectors.iter().map(|errors| errors[whose]).collect();
                errors.sort_by(f64::total_cmp);
                errors[errors.len() / 2]
            });
            if ours > 1.5 * theirs {
                problems.push(format!("{path}, {precision}: median {ours:.2e}, PyTorch {theirs:.2e}"));
            }
        }
    }
    kernels::set_precision(Precision::F32);
    kernels::select(None).unwrap();
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
    let _alone = alone();
    let (expected_loss, expected) = network(&Device::flex().autodiff());
    let (loss, gradients) = network(&gpu.autodiff());
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
