//! Wide residual networks for pictures (Zagoruyko & Komodakis, BMVC 2016), WRN-d-k.
//!
//! Pictures are volumes of one slice, (batch, x, y, 1, channel), and the logits (batch, 1, 1, 1, class), so that
//! everything that works on segmentations works on them.

use segen_kernels as kernels;
use segen_kernels::{Activation, Nonlinearity};

use super::layers::Layers;
use super::{Architecture, Bound, Field, Initial, Mode, Output, Specification, only};
use crate::{Error, Result};

/// WRN-d-k; holds no weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WideResNet {
    /// Input channels.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
    /// Blocks in each of the three groups: (depth - 4) / 6.
    pub blocks: usize,
    /// The groups have 16, 32 and 64 times so many maps.
    pub width: usize,
}

const STEM: usize = 16;
const STRIDES: [usize; 3] = [1, 2, 2];

/// A residual block: norm, ReLU, strided convolution, norm, ReLU, convolution; added to its input, or, where the
/// widths differ, to a 1x1 convolution of its normalised input.
struct Block {
    name: String,
    inputs: usize,
    outputs: usize,
    stride: usize,
}

impl WideResNet {
    /// WRN-`depth`-`width`.
    ///
    /// # Panics
    /// Where the depth is not 6 n + 4 for some n of at least 1, or the width is 0.
    pub fn new(depth: usize, width: usize, channels: usize, classes: usize) -> Self {
        assert!(depth >= 10 && (depth - 4).is_multiple_of(6) && width > 0, "no WRN-{depth}-{width}");
        Self { channels, classes, blocks: (depth - 4) / 6, width }
    }

    fn maps(&self, group: usize) -> usize {
        (STEM * self.width) << group
    }

    fn layout(&self) -> Vec<Block> {
        let mut inputs = STEM;
        let mut blocks = Vec::new();
        for (group, stride) in STRIDES.into_iter().enumerate() {
            for block in 0..self.blocks {
                let outputs = self.maps(group);
                let stride = if block == 0 { stride } else { 1 };
                blocks.push(Block { name: format!("group.{group}.{block}"), inputs, outputs, stride });
                inputs = outputs;
            }
        }
        blocks
    }
}

impl Architecture for WideResNet {
    fn channels(&self) -> usize {
        self.channels
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn field(&self, _: [usize; 3]) -> Result<Field> {
        Err(Error::config(
            "network.kind",
            "a wide residual network classifies pictures and has no labels per voxel",
            "use `unet` or `deepmedic` to segment",
        ))
    }

    fn specifications(&self) -> Vec<Specification> {
        let mut all = Vec::new();
        let norm = |all: &mut Vec<Specification>, name: String, maps: usize| {
            for (kind, initial) in [("weight", Initial::Ones), ("bias", Initial::Zeros)] {
                all.push(Specification { name: format!("{name}.{kind}"), shape: vec![maps], initial });
            }
        };
        let conv = |all: &mut Vec<Specification>, name: String, inputs, outputs: usize, kernel: usize| {
            all.push(Specification {
                name: format!("{name}.weight"),
                shape: vec![outputs, inputs, kernel, kernel, 1],
                // Fan-out for convolutions, fan-in for the classifier: there are few classes.
                initial: Initial::He { fan: outputs * kernel * kernel },
            });
        };
        conv(&mut all, "stem".to_owned(), self.channels, STEM, 3);
        for Block { name, inputs, outputs, .. } in self.layout() {
            norm(&mut all, format!("{name}.norm.0"), inputs);
            conv(&mut all, format!("{name}.conv.0"), inputs, outputs, 3);
            norm(&mut all, format!("{name}.norm.1"), outputs);
            conv(&mut all, format!("{name}.conv.1"), outputs, outputs, 3);
            if inputs != outputs {
                conv(&mut all, format!("{name}.shortcut"), inputs, outputs, 1);
            }
        }
        let last = self.maps(2);
        norm(&mut all, "norm".to_owned(), last);
        all.push(Specification {
            name: "linear.weight".to_owned(),
            shape: vec![self.classes, last],
            initial: Initial::He { fan: last },
        });
        all.push(Specification {
            name: "linear.bias".to_owned(),
            shape: vec![self.classes],
            initial: Initial::Zeros,
        });
        all
    }

    fn normalised_layers(&self) -> Vec<(String, usize)> {
        let mut layers = Vec::new();
        for Block { name, inputs, outputs, .. } in self.layout() {
            layers.push((format!("{name}.norm.0"), inputs));
            layers.push((format!("{name}.norm.1"), outputs));
        }
        layers.push(("norm".to_owned(), self.maps(2)));
        layers
    }

    /// Logits (batch, 1, 1, 1, class) of pictures (batch, x, y, 1, channel). Every layer's output is shown to
    /// `observe` with the layer's name.
    fn forward_observed(
        &self,
        weights: &Bound,
        inputs: Vec<Activation>,
        mode: Mode,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Output {
        let mut pass = Layers::new(weights, mode, observe);
        let conv = |pass: &mut Layers<'_>, name: &str, x: Activation, stride: usize| {
            let weight = weights.get(&format!("{name}.weight"));
            let padding = weight.shape()[2] / 2;
            let y = kernels::conv3d(x, weight, None, [stride, stride, 1], [padding, padding, 0]);
            pass.show(name, &y);
            y
        };
        let mut x = conv(&mut pass, "stem", only(inputs), 1);
        for Block { name, inputs, outputs, stride } in self.layout() {
            let normal = pass.batch_norm(&format!("{name}.norm.0"), x.clone(), Nonlinearity::Relu);
            let y = conv(&mut pass, &format!("{name}.conv.0"), normal.clone(), stride);
            let y = pass.batch_norm(&format!("{name}.norm.1"), y, Nonlinearity::Relu);
            let y = conv(&mut pass, &format!("{name}.conv.1"), y, 1);
            let shortcut = match inputs == outputs {
                true => x,
                false => conv(&mut pass, &format!("{name}.shortcut"), normal, stride),
            };
            x = kernels::add(y, shortcut);
        }
        let x = pass.batch_norm("norm", x, Nonlinearity::Relu);
        let pooled = kernels::global_average(x);
        let logits = kernels::linear(pooled, weights.get("linear.weight"), Some(weights.get("linear.bias")));
        let [batch, classes] = logits.sizes();
        let logits = Activation::from_channels_last(logits.reshape(&[batch, 1, 1, 1, classes]));
        pass.show("linear", &logits);
        Output { logits: vec![logits], statistics: pass.statistics }
    }
}
