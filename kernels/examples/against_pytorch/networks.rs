//! What is timed: the same networks as in `opponent.py`, written on the operators.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use segen_kernels::{self as kernels, Activation, Array, Device, Nonlinearity, Recording, Target, VoxelLoss};

/// Initial weights and inputs.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new() -> Self {
        Self(ChaCha8Rng::seed_from_u64(0))
    }

    /// Uniform values of magnitude `bound`.
    pub(crate) fn values(&mut self, count: usize, bound: f32) -> Vec<f32> {
        (0..count).map(|_| self.0.random_range(-bound..bound)).collect()
    }

    /// A constant of such values.
    pub(crate) fn array(&mut self, shape: &[usize], bound: f32) -> Array {
        Array::from_host(self.values(shape.iter().product(), bound), shape, &Device::Cpu)
    }

    pub(crate) fn labels(&mut self, shape: [usize; 4], classes: u8) -> Target {
        let count = shape.iter().product();
        Target::new((0..count).map(|_| self.0.random_range(0..classes)).collect(), shape)
    }

    /// Zeros and ones with equal probability.
    fn mask(&mut self, shape: &[usize]) -> Array {
        let count = shape.iter().product();
        let values = (0..count).map(|_| f32::from(u8::from(self.0.random::<bool>()))).collect();
        Array::from_host(values, shape, &Device::Cpu)
    }
}

/// A parameter between two steps.
struct Parameter {
    values: Vec<f32>,
    shape: Vec<usize>,
    momentum: Vec<f32>,
}

/// The parameters of a network in the order of their use: made when first asked for, the same ones from then on.
pub(crate) struct Model {
    pub(crate) random: Random,
    parameters: Vec<Parameter>,
    /// Of the pass that runs, if it is to have gradients.
    recording: Option<Recording>,
    /// How many parameters the forward pass has used.
    used: usize,
    trained: bool,
}

impl Model {
    /// For training, or for forward passes alone.
    pub(crate) fn new(trained: bool) -> Self {
        Self { random: Random::new(), parameters: vec![], recording: None, used: 0, trained }
    }

    /// To be called before each forward pass.
    pub(crate) fn begin(&mut self) {
        self.recording = self.trained.then(Recording::new);
        self.used = 0;
    }

    /// The next parameter, of the values that `initial` makes if it is new.
    fn parameter(&mut self, shape: &[usize], initial: impl FnOnce(&mut Random, usize) -> Vec<f32>) -> Array {
        if self.used == self.parameters.len() {
            let values = initial(&mut self.random, shape.iter().product());
            self.parameters.push(Parameter { values, shape: shape.to_vec(), momentum: vec![] });
        }
        let parameter = &self.parameters[self.used];
        self.used += 1;
        let array = Array::from_host(parameter.values.clone(), &parameter.shape, &Device::Cpu);
        match &self.recording {
            Some(recording) => recording.leaf(array),
            None => array,
        }
    }

    fn volume(&mut self, shape: [usize; 5], bound: f32) -> Array {
        self.parameter(&shape, |random, count| random.values(count, bound))
    }

    fn vector(&mut self, count: usize, value: f32) -> Array {
        self.parameter(&[count], |_, count| vec![value; count])
    }

    /// Gradients of `end`, whose slopes are given, then a step of stochastic gradient descent with momentum 0.9.
    pub(crate) fn step(&mut self, end: Array, slopes: Vec<f32>, rate: f32) {
        let Some(recording) = self.recording.take() else { return };
        let gradients = recording.backward(vec![(end, slopes)]);
        for (parameter, gradient) in self.parameters.iter_mut().zip(gradients) {
            match parameter.momentum.is_empty() {
                true => parameter.momentum = gradient,
                false => parameter
                    .momentum
                    .iter_mut()
                    .zip(gradient)
                    .for_each(|(momentum, gradient)| *momentum = *momentum * 0.9 + gradient),
            }
            parameter
                .values
                .iter_mut()
                .zip(&parameter.momentum)
                .for_each(|(value, momentum)| *value -= momentum * rate);
        }
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

    fn kernel(&mut self, x: &Activation, output: usize, [kx, ky, kz]: [usize; 3]) -> Array {
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

/// Sizes of a U-Net: feature maps of its levels, and classes.
pub(crate) struct UNet {
    features: [usize; 4],
    pub(crate) classes: usize,
}

pub(crate) const UNET: UNet = UNet { features: [16, 32, 64, 128], classes: 4 };
/// As in comparisons of hundreds of trainings.
pub(crate) const SMALL_UNET: UNet = UNet { features: [8, 16, 32, 64], classes: 2 };

/// A 3-D U-Net: two convolutions with instance norm and leaky ReLU per level, transposed convolutions up.
pub(crate) fn unet(model: &mut Model, x: Array, sizes: &UNet) -> Activation {
    model.begin();
    let block = |model: &mut Model, x: Activation, output: usize, stride: usize| {
        let x = model.biased(x, output, 3, stride);
        let (weight, bias) = (model.vector(output, 1.0), model.vector(output, 0.0));
        kernels::instance_norm_leaky_relu(x, weight, bias, 1e-5, 0.01)
    };
    let mut x = Activation::from_channels_first(x);
    let mut skips = vec![];
    for (level, features) in sizes.features.into_iter().enumerate() {
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
    model.biased(x, sizes.classes, 1, 1)
}

/// Sizes of DeepMedic's pathways: of the input, and how often it is subsampled.
pub(crate) const PATHWAYS: [(usize, usize); 3] = [(37, 1), (23, 3), (21, 5)];
pub(crate) const SEGMENTS: usize = 10;
const MAPS: [usize; 8] = [30, 30, 40, 40, 40, 40, 50, 50];

/// DeepMedic as published with its residual connections, dropout and PReLU: inputs of the three pathways, (batch,
/// channel, x, y, z).
pub(crate) fn deepmedic(model: &mut Model, inputs: &[Array; 3]) -> Activation {
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
        let mask = model.random.mask(&[batch, 1, 1, 1, channels]);
        kernels::multiply_mask(x, &mask)
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
pub(crate) fn wide_resnet(model: &mut Model, x: Array) -> Activation {
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
    let [images, channels] = x.sizes();
    // A matrix is a volume of one voxel per image.
    model.biased(Activation::from_channels_last(x.reshape(&[images, 1, 1, 1, channels])), 10, 1, 1)
}

/// The sums of a loss, and the slopes of its mean cross-entropy: one over the voxels in the first column.
pub(crate) fn loss(logits: Activation, target: Target) -> (Array, Vec<f32>) {
    let [batch, x, y, z, _] = logits.shape();
    let sums = kernels::segmentation_sums(logits, target, &VoxelLoss::default());
    let columns = sums.shape()[1];
    let share = 1.0 / (batch * x * y * z) as f32;
    let slopes = (0..batch * columns).map(|i| if i % columns == 0 { share } else { 0.0 }).collect();
    (sums, slopes)
}
