//! Networks as plain functions of their weights.
//!
//! Weights live in host memory, named and in a fixed order, so that initialisation, clipping, optimiser,
//! checkpoints and look-ahead steps are exact and the same on every device. [`Weights::bind`] puts them on a
//! device for one forward (and backward) pass.

use std::collections::HashMap;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand_distr::{Distribution, StandardNormal};
use segen_kernels::Activation;

use crate::rng::generator;
use crate::{Error, Result};

mod deepmedic;
mod field;
mod layers;
mod unet;
mod wide_resnet;

pub use deepmedic::{Activations, DeepMedic, DeepMedicShape};
pub use field::{Field, Grid, Padding, Pathway};
pub use unet::{UNet, UNetShape};
pub use wide_resnet::WideResNet;

/// How a forward pass treats the layers that behave differently in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No dropout; batch norm uses its running statistics.
    Evaluation,
    /// Batch norm uses the batch's statistics. Dropout masks are drawn for (seed, layer name, step): passes of
    /// the same step use the same masks.
    Training {
        /// Seed of the run.
        seed: u64,
        /// Step of the batch.
        step: u64,
    },
    /// No dropout; batch norm uses the batch's statistics: how a policy's look-ahead step is judged.
    BatchStatistics,
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Output {
    /// (batch, x, y, z, class): at the labels' resolution first, then, with deep supervision, further ones.
    pub logits: Vec<Activation>,
    /// What batch norms measured in a pass in training mode; the caller decides whether the running statistics
    /// follow them.
    pub statistics: Vec<Statistics>,
}

/// Mean and variance of one layer's input over a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Name of the layer.
    pub layer: String,
    /// Per channel.
    pub mean: Vec<f32>,
    /// Per channel, biased.
    pub variance: Vec<f32>,
    /// Values per channel.
    pub count: usize,
}

/// A network of any kind; holds no weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// 3-D U-Net.
    UNet(UNet),
    /// DeepMedic.
    DeepMedic(DeepMedic),
    /// Wide residual network, which classifies whole pictures.
    WideResNet(WideResNet),
}

impl Network {
    /// Input channels.
    pub fn channels(&self) -> usize {
        match self {
            Self::UNet(network) => network.channels,
            Self::DeepMedic(network) => network.channels,
            Self::WideResNet(network) => network.channels,
        }
    }

    /// Output classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::UNet(network) => network.classes,
            Self::DeepMedic(network) => network.classes,
            Self::WideResNet(network) => network.classes,
        }
    }

    /// Every parameter, in the order of use.
    pub fn specifications(&self) -> Vec<Specification> {
        match self {
            Self::UNet(network) => network.specifications(),
            Self::DeepMedic(network) => network.specifications(),
            Self::WideResNet(network) => network.specifications(),
        }
    }

    /// The layers that keep running statistics, with their number of channels, in the order of use.
    pub fn normalised_layers(&self) -> Vec<(String, usize)> {
        match self {
            Self::UNet(_) => Vec::new(),
            Self::DeepMedic(network) => network.normalised_layers(),
            Self::WideResNet(network) => network.normalised_layers(),
        }
    }

    /// Initial weights; running statistics of mean 0 and variance 1.
    pub fn initialise(&self, seed: u64) -> Weights {
        let mut weights = Weights::initialise(&self.specifications(), seed);
        for (layer, channels) in self.normalised_layers() {
            for (what, value) in [(RUNNING_MEAN, 0.0), (RUNNING_VARIANCE, 1.0)] {
                weights.buffers.push(Parameter {
                    name: format!("{layer}.{what}"),
                    shape: vec![channels],
                    values: vec![value; channels],
                });
            }
        }
        weights
    }

    /// Whether weights, from a file perhaps, are those of this network: names, shapes and order.
    pub fn fits(&self, weights: &Weights) -> bool {
        let expected = self.specifications();
        let buffers = self.normalised_layers().into_iter().flat_map(|(layer, channels)| {
            [RUNNING_MEAN, RUNNING_VARIANCE].map(|what| (format!("{layer}.{what}"), vec![channels]))
        });
        expected.len() == weights.parameters.len()
            && expected.iter().zip(&weights.parameters).all(|(s, p)| s.name == p.name && s.shape == p.shape)
            && buffers.eq(weights.buffers.iter().map(|b| (b.name.clone(), b.shape.clone())))
    }

    /// What the network sees and labels where its full-resolution input has edges `segment`.
    ///
    /// # Errors
    /// Where the network cannot take such an input.
    pub fn field(&self, segment: [usize; 3]) -> Result<Field> {
        match self {
            Self::UNet(_) => Ok(Field::same(segment)),
            Self::DeepMedic(network) => network.shape.field(segment),
            Self::WideResNet(_) => Err(Error::config(
                "network.kind",
                "a wide residual network classifies pictures and has no labels per voxel",
                "use `unet` or `deepmedic` to segment",
            )),
        }
    }

    /// Strides from the labels' resolution to that of each output of [`Self::forward`].
    pub fn output_strides(&self) -> Vec<[usize; 3]> {
        match self {
            Self::UNet(network) => network.output_strides(),
            Self::DeepMedic(_) | Self::WideResNet(_) => vec![[1; 3]],
        }
    }

    /// Logits of `inputs`, one (batch, x, y, z, channel) per pathway.
    pub fn forward(&self, weights: &Bound, inputs: Vec<Activation>, mode: Mode) -> Output {
        self.forward_observed(weights, inputs, mode, &mut |_, _| {})
    }

    /// As [`Self::forward`], showing every layer's output to `observe` with the layer's name.
    pub fn forward_observed(
        &self,
        weights: &Bound,
        mut inputs: Vec<Activation>,
        mode: Mode,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Output {
        match self {
            Self::UNet(network) => {
                assert_eq!(inputs.len(), 1, "a U-Net has one input");
                let logits = network.forward_observed(weights, inputs.swap_remove(0), observe);
                Output { logits, statistics: Vec::new() }
            }
            Self::DeepMedic(network) => network.forward_observed(weights, inputs, mode, observe),
            Self::WideResNet(network) => {
                assert_eq!(inputs.len(), 1, "a wide residual network has one input");
                network.forward_observed(weights, inputs.swap_remove(0), mode, observe)
            }
        }
    }
}

/// One named array of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Path of the layer and the kind of weight, for example `encoder.0.0.conv.weight`.
    pub name: String,
    /// Axis lengths, in PyTorch's order for the kind of layer.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// All weights of a network, in the order in which the layers are first used.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// In module order; sums over parameters run in this order.
    pub parameters: Vec<Parameter>,
    /// Running statistics of batch norms: not trained, not clipped; they follow the batches
    /// ([`Self::follow`]) and are what a forward pass in [`Mode::Evaluation`] normalises with.
    pub buffers: Vec<Parameter>,
}

/// Batches over which running statistics average: an exponential mean of the same mean age as the plain mean of
/// DeepMedic's last 60 batches.
const AVERAGED_BATCHES: f64 = 60.0;
const RUNNING_MEAN: &str = "running_mean";
const RUNNING_VARIANCE: &str = "running_variance";

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// Kaiming normal for leaky ReLU of slope 0.01: standard deviation `sqrt(2 / (1 + 0.01^2) / fan_in)`.
    Kaiming {
        /// Inputs that one output sums over, as PyTorch counts them.
        fan_in: usize,
    },
    /// Normal of standard deviation `sqrt(2 / fan)` (He et al., ICCV 2015).
    He {
        /// Fan-in or fan-out.
        fan: usize,
    },
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// All the same.
    Constant(f32),
}

/// Name, shape and start of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Specification {
    /// See [`Parameter::name`].
    pub name: String,
    /// See [`Parameter::shape`].
    pub shape: Vec<usize>,
    /// How it starts.
    pub initial: Initial,
}

/// Weights on a device, ready for a forward pass.
#[derive(Debug)]
pub struct Bound {
    tensors: Vec<Tensor<1>>,
    shapes: Vec<Vec<usize>>,
    positions: HashMap<String, usize>,
    buffers: HashMap<String, Tensor<1>>,
}

/// Whether a forward pass records what a backward pass needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Forward only.
    Inference,
    /// Gradients with respect to the weights will be asked for.
    Training,
    /// Gradients with respect to the inputs will be asked for.
    Inputs,
}

impl Weights {
    /// Draws initial weights. Each parameter has a generator of its own, keyed by (seed, name): adding a layer
    /// does not change the others.
    pub fn initialise(specifications: &[Specification], seed: u64) -> Self {
        let parameters = specifications
            .iter()
            .map(|specification| {
                let length = specification.shape.iter().product();
                let normal = |deviation: f64| -> Vec<f32> {
                    let mut rng = generator(seed, &["initial weights", &specification.name]);
                    let draw = || {
                        let z: f64 = StandardNormal.sample(&mut rng);
                        (z * deviation) as f32
                    };
                    std::iter::repeat_with(draw).take(length).collect()
                };
                let values = match specification.initial {
                    Initial::Zeros => vec![0.0; length],
                    Initial::Ones => vec![1.0; length],
                    Initial::Constant(value) => vec![value; length],
                    Initial::Kaiming { fan_in } => normal((2.0 / (1.0 + 1e-4) / fan_in as f64).sqrt()),
                    Initial::He { fan } => normal((2.0 / fan as f64).sqrt()),
                };
                Parameter { name: specification.name.clone(), shape: specification.shape.clone(), values }
            })
            .collect();
        Self { parameters, buffers: Vec::new() }
    }

    /// Lets the running statistics follow what the batch norms measured on the batch of step `step`. Each moves
    /// by a share of 2 / 61 towards the batch's (by 1 / (step + 1) in the first steps, which makes the start a
    /// plain mean); variances are unbiased, as DeepMedic keeps them.
    pub fn follow(&mut self, statistics: &[Statistics], step: u64) {
        let share = (2.0 / (AVERAGED_BATCHES + 1.0)).max(1.0 / (step as f64 + 1.0));
        for measured in statistics {
            let unbiased = measured.count as f64 / (measured.count.max(2) - 1) as f64;
            for (what, values, factor) in
                [(RUNNING_MEAN, &measured.mean, 1.0), (RUNNING_VARIANCE, &measured.variance, unbiased)]
            {
                let name = format!("{}.{what}", measured.layer);
                let Some(buffer) = self.buffers.iter_mut().find(|buffer| buffer.name == name) else {
                    panic!("the network keeps no `{name}`")
                };
                for (kept, &value) in buffer.values.iter_mut().zip(values) {
                    let old = f64::from(*kept);
                    *kept = (old + share * (f64::from(value) * factor - old)) as f32;
                }
            }
        }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.parameters.iter().map(|p| p.values.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the weights onto a device.
    pub fn bind(&self, device: &Device, pass: Pass) -> Bound {
        let device = match pass {
            Pass::Training | Pass::Inputs => device.clone().autodiff(),
            Pass::Inference => device.clone(),
        };
        let constant = |parameter: &Parameter| {
            let data = TensorData::new(parameter.values.clone(), [parameter.values.len()]);
            Tensor::<1>::from_data(data, &device)
        };
        let tensor = |parameter: &Parameter| match pass {
            Pass::Training => constant(parameter).require_grad(),
            Pass::Inference | Pass::Inputs => constant(parameter),
        };
        Bound {
            tensors: self.parameters.iter().map(tensor).collect(),
            shapes: self.parameters.iter().map(|p| p.shape.clone()).collect(),
            positions: self.parameters.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect(),
            buffers: self.buffers.iter().map(|b| (b.name.clone(), constant(b))).collect(),
        }
    }
}

impl Bound {
    /// A parameter in its own shape. Asking for a name or rank that the network does not have is a bug.
    pub fn get<const D: usize>(&self, name: &str) -> Tensor<D> {
        let Some(&position) = self.positions.get(name) else {
            panic!("the network has no parameter `{name}`")
        };
        let shape: [usize; D] = match self.shapes[position].as_slice().try_into() {
            Ok(shape) => shape,
            Err(_) => panic!("`{name}` has rank {}, not {D}", self.shapes[position].len()),
        };
        self.tensors[position].clone().reshape(shape)
    }

    /// Running mean and variance of a layer.
    fn running(&self, layer: &str) -> [Tensor<1>; 2] {
        [RUNNING_MEAN, RUNNING_VARIANCE].map(|what| match self.buffers.get(&format!("{layer}.{what}")) {
            Some(buffer) => buffer.clone(),
            None => panic!("the network keeps no `{layer}.{what}`"),
        })
    }

    /// Gradients in the order of [`Weights::parameters`]; zeros where the loss does not depend on a parameter.
    pub fn gradients(&self, mut gradients: Gradients) -> Vec<Vec<f32>> {
        self.tensors
            .iter()
            .map(|tensor| match tensor.grad_remove(&mut gradients) {
                Some(gradient) => values(gradient),
                None => vec![0.0; tensor.dims()[0]],
            })
            .collect()
    }
}

/// The values of a tensor, row-major.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    match tensor.into_data().try_into_vec::<f32>() {
        Ok(values) => values,
        Err(error) => panic!("activations are f32: {error:?}"),
    }
}
