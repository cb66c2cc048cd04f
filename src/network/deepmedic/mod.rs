//! DeepMedic (Kamnitsas et al., Medical Image Analysis 36, 2017) with the layers and sizes of its released code.
//!
//! Several pathways, each of valid 3x3x3 convolutions, see the same place on grids of different resolutions. The
//! outputs of the coarser ones are repeated to full resolution, cut off at the end, and all are joined; hidden
//! layers of a 3x3x3 convolution on edge-replicated padding and of 1x1x1 convolutions follow.
//!
//! Every layer is: batch norm, nonlinearity, dropout, convolution without bias; the first of each pathway has a
//! learned bias on the raw input instead of norm and nonlinearity, and the classifier's output a bias. With
//! residuals, the outputs of a pathway's layers 4, 6 and 8 add the input of the layer before, cropped and with
//! zeros for the channels that are missing; the second hidden layer adds the joined maps in the same way.
//!
//! Choices: batch norm adds 1e-5 to variances (the released code adds none) and evaluates by running statistics
//! of an exponential mean (see [`super::Weights::follow`]), where the released code keeps the last 60 batches.

use segen_kernels as kernels;
use segen_kernels::{Activation, Nonlinearity};

use super::layers::Layers;
use super::{Architecture, Bound, Field, Initial, Mode, Output, Specification};
use crate::Result;

mod shape;

pub use shape::{Activations, DeepMedicShape};

/// DeepMedic; holds no weights.
#[derive(Clone, Debug, PartialEq)]
pub struct DeepMedic {
    /// Input channels.
    pub channels: usize,
    /// Output classes.
    pub classes: usize,
    /// Pathways, feature maps, dropout.
    pub shape: DeepMedicShape,
}

const INITIAL_SLOPE: f32 = 0.01;
/// Padding of the first hidden layer on each side, by the nearest voxel.
const HIDDEN_PADDING: usize = 1;

/// A convolution and what goes before it.
struct Layer {
    name: String,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    /// Whether it takes the raw image.
    first: bool,
    /// Share of its input that is dropped.
    dropped: f64,
}

impl Architecture for DeepMedic {
    fn channels(&self) -> usize {
        self.channels
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn field(&self, segment: [usize; 3]) -> Result<Field> {
        self.shape.field(segment)
    }

    /// A convolution `LAYER.conv` has the kernel `LAYER.conv.weight`; before
    /// it stand `LAYER.norm.weight`, `LAYER.norm.bias` and, for PReLU, `LAYER.slope`, or `LAYER.bias` where it
    /// takes the image.
    fn specifications(&self) -> Vec<Specification> {
        let mut all = Vec::new();
        let mut add = |name: String, shape: Vec<usize>, initial| {
            all.push(Specification { name, shape, initial });
        };
        for layer in self.layers() {
            let Layer { name, inputs, outputs, kernel, .. } = &layer;
            if layer.first {
                add(format!("{name}.bias"), vec![*inputs], Initial::Zeros);
            } else {
                add(format!("{name}.norm.weight"), vec![*inputs], Initial::Ones);
                add(format!("{name}.norm.bias"), vec![*inputs], Initial::Zeros);
                if self.shape.activations == Activations::PRelu {
                    add(format!("{name}.slope"), vec![*inputs], Initial::Constant(INITIAL_SLOPE));
                }
            }
            add(
                format!("{name}.conv.weight"),
                vec![*outputs, *inputs, *kernel, *kernel, *kernel],
                Initial::He { fan: inputs * kernel.pow(3) },
            );
        }
        add("classifier.bias".to_owned(), vec![self.classes], Initial::Zeros);
        all
    }

    fn normalised_layers(&self) -> Vec<(String, usize)> {
        let layers = self.layers().into_iter().filter(|layer| !layer.first);
        layers.map(|layer| (format!("{}.norm", layer.name), layer.inputs)).collect()
    }

    /// Logits (batch, x, y, z, class) of the voxels that [`DeepMedicShape::field`] says, from one input per
    /// pathway.
    fn forward_observed(
        &self,
        weights: &Bound,
        inputs: Vec<Activation>,
        mode: Mode,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Output {
        let scales = &self.shape.scales;
        assert_eq!(inputs.len(), scales.len(), "DeepMedic has one input per pathway");
        let mut pass = Layers::new(weights, mode, observe);
        let layers = self.layers();
        let (pathways, hidden) = layers.split_at(scales.len() * self.shape.features.len());
        let mut joined: Vec<Activation> = Vec::new();
        let pathways = pathways.chunks(self.shape.features.len());
        for ((input, &scale), layers) in inputs.into_iter().zip(scales).zip(pathways) {
            let y = self.pathway(&mut pass, layers, input);
            joined.push(match joined.first() {
                None => y,
                Some(first) => {
                    let [_, size @ .., _] = first.shape();
                    kernels::upsample_repeat(y, [scale; 3], size)
                }
            });
        }
        let joined = kernels::concat_all(joined);
        pass.show("joined", &joined);
        let mut x = joined.clone();
        for (number, layer) in hidden.iter().enumerate() {
            x = self.normalise(&mut pass, layer, x);
            if layer.kernel > 1 {
                x = kernels::pad_replicate(x, [HIDDEN_PADDING; 3]);
            }
            x = pass.conv(&format!("{}.conv", layer.name), x, layer.dropped);
            if number == 1 && self.shape.residual && hidden.len() > 2 {
                x = kernels::add_cropped(x, joined.clone());
            }
        }
        let bias = weights.get("classifier.bias");
        let logits = kernels::bias_nonlinearity(x, bias, Nonlinearity::None);
        pass.show("classifier", &logits);
        Output { logits: vec![logits], statistics: pass.statistics }
    }
}

impl DeepMedic {
    fn pathway(&self, pass: &mut Layers<'_>, layers: &[Layer], x: Activation) -> Activation {
        let mut x = x;
        // The input of the layer before.
        let mut before: Option<Activation> = None;
        for (number, layer) in layers.iter().enumerate() {
            let input = x.clone();
            x = self.normalise(pass, layer, x);
            x = pass.conv(&format!("{}.conv", layer.name), x, layer.dropped);
            if let (Some(before), true) = (before.take(), self.shape.has_residual(number)) {
                x = kernels::add_cropped(x, before);
                pass.show(&layer.name, &x);
            }
            before = Some(input);
        }
        x
    }

    fn normalise(&self, pass: &mut Layers<'_>, layer: &Layer, x: Activation) -> Activation {
        let name = &layer.name;
        if layer.first {
            let bias = pass.weights.get(&format!("{name}.bias"));
            return kernels::bias_nonlinearity(x, bias, Nonlinearity::None);
        }
        let nonlinearity = match self.shape.activations {
            Activations::Relu => Nonlinearity::Relu,
            Activations::PRelu => Nonlinearity::PRelu(pass.weights.get(&format!("{name}.slope"))),
        };
        pass.batch_norm(&format!("{name}.norm"), x, nonlinearity)
    }

    /// The pathways' layers, then the hidden ones, then the classifier.
    fn layers(&self) -> Vec<Layer> {
        let shape = &self.shape;
        let mut layers = Vec::new();
        for pathway in 0..shape.scales.len() {
            let mut inputs = self.channels;
            for (number, &outputs) in shape.features.iter().enumerate() {
                let name = format!("pathway.{pathway}.{number}");
                layers.push(Layer { name, inputs, outputs, kernel: 3, first: number == 0, dropped: 0.0 });
                inputs = outputs;
            }
        }
        let mut inputs = shape.joined_maps();
        for (number, &outputs) in shape.hidden.iter().chain([&self.classes]).enumerate() {
            let name = match number == shape.hidden.len() {
                true => "classifier".to_owned(),
                false => format!("hidden.{number}"),
            };
            let kernel = if number == 0 && !shape.hidden.is_empty() { 1 + 2 * HIDDEN_PADDING } else { 1 };
            let dropped = shape.dropout.get(number).copied().unwrap_or(0.0);
            layers.push(Layer { name, inputs, outputs, kernel, first: false, dropped });
            inputs = outputs;
        }
        layers
    }
}
