//! What is timed: the same operators and the same U-Net as in `opponent.py`.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use segen_kernels::{self as kernels, Activation};

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
}

/// The parameters of a network, a list in the order of use, and their momenta.
pub(crate) struct Parameters {
    pub(crate) volumes: Vec<Tensor<5>>,
    pub(crate) vectors: Vec<Tensor<1>>,
    momenta: (Vec<Option<Tensor<5>>>, Vec<Option<Tensor<1>>>),
}

impl Parameters {
    pub(crate) fn new(volumes: Vec<Tensor<5>>, vectors: Vec<Tensor<1>>) -> Self {
        let momenta = (vec![None; volumes.len()], vec![None; vectors.len()]);
        Self {
            volumes: volumes.into_iter().map(tracked).collect(),
            vectors: vectors.into_iter().map(tracked).collect(),
            momenta,
        }
    }

    /// Gradients of `loss`, then a step of stochastic gradient descent with momentum 0.9.
    pub(crate) fn step(&mut self, loss: &Tensor<1>, rate: f64) {
        let gradients = loss.backward();
        update(&mut self.volumes, &mut self.momenta.0, rate, |tensor| tensor.grad(&gradients));
        update(&mut self.vectors, &mut self.momenta.1, rate, |tensor| tensor.grad(&gradients));
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

/// A small 3-D U-Net: two convolutions with instance norm and leaky ReLU per level, transposed convolutions up.
pub(crate) struct UNet {
    pub(crate) parameters: Parameters,
}

const FEATURES: [usize; 4] = [16, 32, 64, 128];
const CHANNELS: usize = 4;
pub(crate) const CLASSES: usize = 4;

impl UNet {
    pub(crate) fn new(random: &mut Random) -> Self {
        let (mut volumes, mut vectors) = (vec![], vec![]);
        let mut block = |random: &mut Random, input: usize, output: usize, volumes: &mut Vec<Tensor<5>>| {
            let bound = 1.0 / (27.0 * input as f32).sqrt();
            volumes.push(random.tensor([output, input, 3, 3, 3], bound));
            vectors.push(random.tensor([output], bound));
            vectors.push(Tensor::ones([output], &random.device));
            vectors.push(Tensor::zeros([output], &random.device));
        };
        let mut input = CHANNELS;
        for output in FEATURES {
            block(random, input, output, &mut volumes);
            block(random, output, output, &mut volumes);
            input = output;
        }
        let mut ups = vec![];
        for pair in FEATURES.windows(2).rev() {
            let [output, input] = [pair[0], pair[1]];
            let bound = 1.0 / (8.0 * output as f32).sqrt();
            ups.push(random.tensor([input, output, 2, 2, 2], bound));
            block(random, 2 * output, output, &mut volumes);
            block(random, output, output, &mut volumes);
            ups.push(random.tensor([output, 1, 1, 1, 1], bound));
        }
        for pair in ups.chunks_exact(2) {
            volumes.push(pair[0].clone());
            vectors.push(pair[1].clone().reshape([pair[1].dims()[0]]));
        }
        volumes.push(random.tensor([CLASSES, FEATURES[0], 1, 1, 1], 0.25));
        vectors.push(random.tensor([CLASSES], 0.25));
        Self { parameters: Parameters::new(volumes, vectors) }
    }

    pub(crate) fn forward(&self, x: Tensor<5>) -> Activation {
        let levels = FEATURES.len();
        let Parameters { volumes, vectors, .. } = &self.parameters;
        let block = |index: usize, x: Activation, stride: usize| {
            let bias = Some(vectors[3 * index].clone());
            let x = kernels::conv3d(x, volumes[index].clone(), bias, [stride; 3], [1; 3]);
            let (weight, bias) = (vectors[3 * index + 1].clone(), vectors[3 * index + 2].clone());
            kernels::instance_norm_leaky_relu(x, weight, bias, 1e-5, 0.01)
        };
        let blocks = 4 * levels - 2;
        let mut x = Activation::from_channels_first(x);
        let mut skips = vec![];
        for level in 0..levels {
            x = block(2 * level, x, if level == 0 { 1 } else { 2 });
            x = block(2 * level + 1, x, 1);
            skips.push(x.clone());
        }
        skips.pop();
        for (up, skip) in skips.into_iter().rev().enumerate() {
            let bias = Some(vectors[3 * blocks + up].clone());
            x = kernels::concat(kernels::conv_transpose3d(x, volumes[blocks + up].clone(), bias), skip);
            x = block(2 * levels + 2 * up, x, 1);
            x = block(2 * levels + 2 * up + 1, x, 1);
        }
        let (head, bias) = (volumes.last(), vectors.last());
        kernels::conv3d(x, head.cloned().expect("a head"), bias.cloned(), [1; 3], [0; 3])
    }
}

/// Mean cross-entropy.
pub(crate) fn loss(logits: Activation, target: Tensor<4, Int>) -> Tensor<1> {
    let voxels = target.shape().num_elements();
    let sums = kernels::segmentation_sums(logits, target, &kernels::VoxelLoss::default());
    let batch = sums.dims()[0];
    sums.slice([0..batch, 0..1]).sum() / voxels as f64
}
