//! What is timed: the same networks as in `opponent.py`, written on the operators.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use segen_kernels::{self as kernels, Activation, Nonlinearity};

/// Initial weights and inputs.
pub(crate) struct Random {
    generator: ChaCha8Rng,
    device: Device,
}

impl Random {
    pub(crate) fn new(device: Device) -> Self {
        Self { generator: ChaCha8Rng::seed_from_u64(0), device }
    }

    /// Uniform values of magnitude `bound`.
    pub(crate) fn tensor<const D: usize>(&mut self, shape: [usize; D], bound: f32) -> Tensor<D> {
        let count = shape.iter().product();
        let values = (0..count).map(|_| self.generator.random_range(-bound..bound)).collect::<Vec<f32>>();
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    pub(crate) fn labels(&mut self, shape: [usize; 4], classes: i32) -> Tensor<4, Int> {
        let count = shape.iter().product();
        let values = (0..count).map(|_| self.generator.random_range(0..classes)).collect::<Vec<i32>>();
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// Zeros and ones with equal probability.
    fn mask(&mut self, shape: [usize; 5]) -> Tensor<5> {
        let count = shape.iter().product();
        let values =
            (0..count).map(|_| f32::from(u8::from(self.generator.random::<bool>()))).collect::<Vec<f32>>();
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }
}

/// The parameters of a network in the order of their use: made when first asked for, the same ones from then on.
pub(crate) struct Model {
    pub(crate) random: Random,
    volumes: Vec<Tensor<5>>,
    vectors: Vec<Tensor<1>>,
    momenta: (Vec<Option<Tensor<5>>>, Vec<Option<Tensor<1>>>),
    /// How many of each kind the forward pass has used.
    used: (usize, usize),
}

impl Model {
    pub(crate) fn new(device: Device) -> Self {
        let random = Random::new(device);
        Self { random, volumes: vec![], vectors: vec![], momenta: (vec![], vec![]), used: (0, 0) }
    }

    /// To be called before each forward pass.
    pub(crate) fn begin(&mut self) {
        self.used = (0, 0);
    }

    fn volume(&mut self, shape: [usize; 5], bound: f32) -> Tensor<5> {
        if self.used.0 == self.volumes.len() {
            self.volumes.push(tracked(self.random.tensor(shape, bound)));
            self.momenta.0.push(None);
        }
        self.used.0 += 1;
        self.volumes[self.used.0 - 1].clone()
    }

    fn vector(&mut self, count: usize, value: f32) -> Tensor<1> {
        if self.used.1 == self.vectors.len() {
            self.vectors.push(tracked(Tensor::full([count], value, &self.random.device)));
            self.momenta.1.push(None);
        }
        self.used.1 += 1;
        self.vectors[self.used.1 - 1].clone()
    }

    /// Gradients of `loss`, then a step of stochastic gradient descent with momentum 0.9.
    pub(crate) fn step(&mut self, loss: &Tensor<1>, rate: f64) {
        let gradients = loss.backward();
        update(&mut self.volumes, &mut self.momenta.0, rate, |tensor| tensor.grad(&gradients));
        update(&mut self.vectors, &mut self.momenta.1, rate, |tensor| tensor.grad(&gradients));
    }

    /// A convolution without bias; padded by `padding`.
    fn convolution(
        &mut self,
        x: Activation,
        output: usize,
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> Activation {
        let weight = self.kernel(&x, output, kernel);
        kernels::conv3d(x, weight, None, stride, padding)
    }

    /// A convolution with bias.
    fn biased(&mut self, x: Activation, output: usize, kernel: usize, stride: usize) -> Activation {
        let weight = self.kernel(&x, output, [kernel; 3]);
        let bias = self.vector(output, 0.0);
        kernels::conv3d(x, weight, Some(bias), [stride; 3], [kernel / 2; 3])
    }

    fn kernel(&mut self, x: &Activation, output: usize, [kx, ky, kz]: [usize; 3]) -> Tensor<5> {
        let [.., input] = x.shape();
        let bound = (3.0 / (kx * ky * kz * input) as f32).sqrt();
        self.volume([output, input, kx, ky, kz], bound)
    }

    fn batch_norm(&mut self, x: Activation, nonlinearity: Nonlinearity) -> Activation {
        let [.., channels] = x.shape();
        let (weight, bias) = (self.vector(channels, 1.0), self.vector(channels, 0.0));
        kernels::batch_norm(x, weight, bias, 1e-5, nonlinearity).0
    }
}

/// Requires a gradient where the device records one.
fn tracked<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.require_grad() } else { tensor }
}

fn update<const D: usize>(
    parameters: &mut [Tensor<D>],
    momenta: &mut [Option<Tensor<D>>],
    rate: f64,
    gradient: impl Fn(&Tensor<D>) -> Option<Tensor<D>>,
) {
    for (parameter, momentum) in parameters.iter_mut().zip(momenta) {
        let Some(gradient) = gradient(parameter) else { continue };
        let next = match momentum.take() {
            Some(momentum) => momentum * 0.9 + gradient,
            None => gradient,
        };
        *parameter = Tensor::from_inner(parameter.clone().inner() - next.clone() * rate).require_grad();
        *momentum = Some(next);
    }
}

const FEATURES: [usize; 4] = [16, 32, 64, 128];
pub(crate) const CLASSES: usize = 4;

/// A small 3-D U-Net: two convolutions with instance norm and leaky ReLU per level, transposed convolutions up.
pub(crate) fn unet(model: &mut Model, x: Tensor<5>) -> Activation {
    model.begin();
    let block = |model: &mut Model, x: Activation, output: usize, stride: usize| {
        let x = model.biased(x, output, 3, stride);
        let (weight, bias) = (model.vector(output, 1.0), model.vector(output, 0.0));
        kernels::instance_norm_leaky_relu(x, weight, bias, 1e-5, 0.01)
    };
    let mut x = Activation::from_channels_first(x);
    let mut skips = vec![];
    for (level, features) in FEATURES.into_iter().enumerate() {
        x = block(model, x, features, if level == 0 { 1 } else { 2 });
        x = block(model, x, features, 1);
        skips.push(x.clone());
    }
    skips.pop();
    for skip in skips.into_iter().rev() {
        let ([.., input], [.., features]) = (x.shape(), skip.shape());
        let weight = model.volume([input, features, 2, 2, 2], 1.0 / (8.0 * features as f32).sqrt());
        let bias = model.vector(features, 0.0);
        x = kernels::concat(kernels::conv_transpose3d(x, weight, Some(bias)), skip);
        x = block(model, x, features, 1);
        x = block(model, x, features, 1);
    }
    model.biased(x, CLASSES, 1, 1)
}

/// Sizes of DeepMedic's pathways: of the input, and how often it is subsampled.
pub(crate) const PATHWAYS: [(usize, usize); 3] = [(37, 1), (23, 3), (21, 5)];
pub(crate) const SEGMENTS: usize = 10;
const MAPS: [usize; 8] = [30, 30, 40, 40, 40, 40, 50, 50];

/// DeepMedic as published with its residual connections, dropout and PReLU: inputs of the three pathways, (batch,
/// channel, x, y, z).
pub(crate) fn deepmedic(model: &mut Model, inputs: &[Tensor<5>; 3]) -> Activation {
    model.begin();
    let activate = |model: &mut Model, x: Activation| {
        let slopes = model.vector(x.shape()[4], 0.01);
        model.batch_norm(x, Nonlinearity::PRelu(slopes))
    };
    let mut joined: Vec<Activation> = vec![];
    for (input, (_, factor)) in inputs.iter().zip(PATHWAYS) {
        let x = Activation::from_channels_first(input.clone());
        let bias = model.vector(x.shape()[4], 0.0);
        let mut x = kernels::bias_nonlinearity(x, bias, Nonlinearity::None);
        let mut residual = None;
        for (layer, maps) in (1..).zip(MAPS) {
            if layer > 1 {
                x = activate(model, x);
            }
            x = model.convolution(x, maps, [3; 3], [1; 3], [0; 3]);
            if layer % 2 == 0 {
                if let Some(residual) = residual.take() {
                    x = kernels::add_cropped(x, residual);
                }
                residual = Some(x.clone());
            }
        }
        if let Some(first) = joined.first() {
            let [_, sx, sy, sz, _] = first.shape();
            x = kernels::upsample_repeat(x, [factor; 3], [sx, sy, sz]);
        }
        joined.push(x);
    }
    let joined = kernels::concat_all(joined);
    let x = kernels::pad_replicate(activate(model, joined.clone()), [1; 3]);
    let x = model.convolution(x, 250, [3; 3], [1; 3], [0; 3]);
    let drop = |model: &mut Model, x: Activation| {
        let [batch, .., channels] = x.shape();
        let mask = model.random.mask([batch, 1, 1, 1, channels]);
        kernels::multiply_mask(x, mask)
    };
    let x = activate(model, x);
    let x = drop(model, x);
    let x = kernels::add_cropped(model.convolution(x, 250, [1; 3], [1; 3], [0; 3]), joined);
    let x = activate(model, x);
    let x = drop(model, x);
    model.biased(x, 2, 1, 1)
}

pub(crate) const IMAGES: usize = 128;

/// A wide residual network of 16 layers, widened 4 times, for 32x32 images: (batch, channel, x, y, 1).
pub(crate) fn wide_resnet(model: &mut Model, x: Tensor<5>) -> Activation {
    model.begin();
    let mut x = model.convolution(Activation::from_channels_first(x), 16, [3, 3, 1], [1; 3], [1, 1, 0]);
    for (width, stride) in [(64, 1), (128, 2), (256, 2)] {
        for (block, stride) in [stride, 1].into_iter().enumerate() {
            let stride = [stride, stride, 1];
            let active = model.batch_norm(x.clone(), Nonlinearity::Relu);
            let shortcut =
                if block == 0 { model.convolution(active.clone(), width, [1; 3], stride, [0; 3]) } else { x };
            let y = model.convolution(active, width, [3, 3, 1], stride, [1, 1, 0]);
            let y = model.batch_norm(y, Nonlinearity::Relu);
            x = kernels::add(model.convolution(y, width, [3, 3, 1], [1; 3], [1, 1, 0]), shortcut);
        }
    }
    let x = kernels::global_average(model.batch_norm(x, Nonlinearity::Relu));
    let [images, channels] = x.dims();
    // A matrix is a volume of one voxel per image.
    model.biased(Activation::from_channels_last(x.reshape([images, 1, 1, 1, channels])), 10, 1, 1)
}

/// Mean cross-entropy.
pub(crate) fn loss(logits: Activation, target: Tensor<4, Int>) -> Tensor<1> {
    let voxels = target.shape().num_elements();
    let sums = kernels::segmentation_sums(logits, target, &kernels::VoxelLoss::default());
    let batch = sums.dims()[0];
    sums.slice([0..batch, 0..1]).sum() / voxels as f64
}
