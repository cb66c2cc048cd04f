//! Networks as plain functions of their weights.
//!
//! Weights live in host memory, named and in a fixed order, so that initialisation, clipping, optimiser,
//! checkpoints and look-ahead steps are exact and the same on every device. [`Weights::bind`] puts them on a
//! device for one forward (and backward) pass.

use segen_kernels::Activation;

use crate::Result;

mod deepmedic;
mod field;
mod layers;
mod shape;
pub mod transfer;
mod unet;
mod weights;
mod wide_resnet;

pub use deepmedic::{Activations, DeepMedic, DeepMedicShape};
pub use field::{Field, Grid, Padding, Pathway};
pub use shape::{NetworkShape, Recommended, Shape};
pub use unet::{UNet, UNetShape};
pub use weights::{Bound, Initial, Parameter, Specification, Weights};
pub use wide_resnet::WideResNet;

use weights::{RUNNING_MEAN, RUNNING_VARIANCE};

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
    /// Dropout masks as in [`Self::Training`]; batch norm uses its running statistics, so that no sample of a batch
    /// changes another's loss: how the draws of a policy are compared.
    Frozen {
        /// Seed of the run.
        seed: u64,
        /// Step whose masks are used.
        step: u64,
    },
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

/// What every kind of network says of itself. A kind is a file of this folder; [`Network`] passes on to it.
trait Architecture {
    /// Input channels.
    fn channels(&self) -> usize;

    /// Output classes.
    fn classes(&self) -> usize;

    /// Every parameter, in the order of use.
    fn specifications(&self) -> Vec<Specification>;

    /// The layers that keep running statistics, with their number of channels, in the order of use.
    fn normalised_layers(&self) -> Vec<(String, usize)> {
        Vec::new()
    }

    /// See [`Network::field`].
    fn field(&self, segment: [usize; 3]) -> Result<Field>;

    /// See [`Network::output_strides`].
    fn output_strides(&self) -> Vec<[usize; 3]> {
        vec![[1; 3]]
    }

    /// See [`Network::forward_observed`].
    fn forward_observed(
        &self,
        weights: &Bound,
        inputs: Vec<Activation>,
        mode: Mode,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Output;
}

impl Network {
    fn kind(&self) -> &dyn Architecture {
        match self {
            Self::UNet(network) => network,
            Self::DeepMedic(network) => network,
            Self::WideResNet(network) => network,
        }
    }

    /// Input channels.
    pub fn channels(&self) -> usize {
        self.kind().channels()
    }

    /// Output classes.
    pub fn classes(&self) -> usize {
        self.kind().classes()
    }

    /// Every parameter, in the order of use.
    pub fn specifications(&self) -> Vec<Specification> {
        self.kind().specifications()
    }

    /// The layers that keep running statistics, with their number of channels, in the order of use.
    pub fn normalised_layers(&self) -> Vec<(String, usize)> {
        self.kind().normalised_layers()
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
        self.kind().field(segment)
    }

    /// Strides from the labels' resolution to that of each output of [`Self::forward`].
    pub fn output_strides(&self) -> Vec<[usize; 3]> {
        self.kind().output_strides()
    }

    /// Logits of `inputs`, one (batch, x, y, z, channel) per pathway.
    pub fn forward(&self, weights: &Bound, inputs: Vec<Activation>, mode: Mode) -> Output {
        self.forward_observed(weights, inputs, mode, &mut |_, _| {})
    }

    /// As [`Self::forward`], showing every layer's output to `observe` with the layer's name.
    pub fn forward_observed(
        &self,
        weights: &Bound,
        inputs: Vec<Activation>,
        mode: Mode,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Output {
        self.kind().forward_observed(weights, inputs, mode, observe)
    }
}

/// The input of a network that has one.
fn only(mut inputs: Vec<Activation>) -> Activation {
    assert_eq!(inputs.len(), 1, "this kind of network has one input");
    inputs.swap_remove(0)
}
