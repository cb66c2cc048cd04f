//! The 3-D U-Net that the plan describes: nnU-Net's plain convolutional one (Isensee et al., Nature Methods
//! 2021; Ronneberger et al., MICCAI 2015).
//!
//! Encoder stage: `convolutions` x (3x3x3 convolution with bias, instance norm, leaky ReLU 0.01), the first of
//! a stage strided. Decoder: transposed convolution with kernel = stride, concatenation with the skip, the
//! same convolutions. A 1x1x1 convolution gives the logits.

use segen_kernels as kernels;
use segen_kernels::Activation;
use serde::{Deserialize, Serialize};

use super::shape::{dashed, times};
use super::{
    Architecture, Bound, Field, Initial, Mode, Network, NetworkShape, Output, Shape, Specification, only,
};
use crate::config::{NetworkConfig, PlanOverrides};
use crate::{Error, Result};

/// The shape of the 3-D U-Net. Stage 0 works at full resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UNetShape {
    /// Feature maps per stage.
    pub features: Vec<usize>,
    /// Stride of the first convolution of each stage; `[1, 1, 1]` for stage 0, otherwise 1 or 2 per axis.
    pub strides: Vec<[usize; 3]>,
    /// Convolution kernel per stage, 1 or 3 per axis.
    pub kernels: Vec<[usize; 3]>,
    /// Convolutions per stage, encoder and decoder.
    pub convolutions: usize,
}

/// Shape of a U-Net; holds no weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UNet {
    /// Input channels.
    pub channels: usize,
    /// Output classes.
    pub classes: usize,
    /// Stages, strides, kernels, features.
    pub shape: UNetShape,
    /// Whether the lower decoder stages have logits too.
    pub deep_supervision: bool,
}

const NORM_EPSILON: f64 = 1e-5;
const SLOPE: f64 = 0.01;

impl UNet {
    fn stages(&self) -> usize {
        self.shape.features.len()
    }

    /// Decoder stages with logits, finest first.
    fn heads(&self) -> usize {
        // The coarsest decoder output has weight 0 in nnU-Net's scheme, so it gets no head, unless it is the
        // only one.
        if self.deep_supervision { (self.stages() - 1).saturating_sub(1).max(1) } else { 1 }
    }

    /// A stage's convolutions with their names, inputs and outputs: those of the encoder, or those of the decoder.
    fn blocks(&self, part: &str, stage: usize) -> Vec<(String, usize, usize)> {
        let features = &self.shape.features;
        let first = match (part, stage) {
            ("decoder", _) => 2 * features[stage],
            (_, 0) => self.channels,
            _ => features[stage - 1],
        };
        (0..self.shape.convolutions)
            .map(|convolution| {
                let inputs = if convolution == 0 { first } else { features[stage] };
                (format!("{part}.{stage}.{convolution}"), inputs, features[stage])
            })
            .collect()
    }

    /// Logits (batch, x, y, z, class) at full resolution, then, with deep supervision, at every further
    /// decoder resolution. `x` is (batch, x, y, z, channel); its edges are multiples of
    /// [`UNetShape::total_stride`].
    /// Every layer's output is shown to `observe` with the layer's name.
    fn logits(
        &self,
        weights: &Bound,
        x: Activation,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Vec<Activation> {
        let mut block = |name: &str, x: Activation, stride: [usize; 3]| {
            let weight = weights.get(&format!("{name}.conv.weight"));
            let [_, _, kx, ky, kz] = weight.sizes();
            let bias = weights.get(&format!("{name}.conv.bias"));
            let x = kernels::conv3d(x, weight, Some(bias), stride, [kx / 2, ky / 2, kz / 2]);
            observe(&format!("{name}.conv"), &x);
            let (scale, shift) =
                (weights.get(&format!("{name}.norm.weight")), weights.get(&format!("{name}.norm.bias")));
            let x = kernels::instance_norm_leaky_relu(x, scale, shift, NORM_EPSILON, SLOPE);
            observe(&format!("{name}.norm"), &x);
            x
        };
        let mut x = x;
        let mut skips = Vec::new();
        for stage in 0..self.stages() {
            for convolution in 0..self.shape.convolutions {
                let stride = if convolution == 0 { self.shape.strides[stage] } else { [1; 3] };
                x = block(&format!("encoder.{stage}.{convolution}"), x, stride);
            }
            skips.push(x.clone());
        }
        skips.pop();
        let mut outputs = Vec::new();
        for stage in (0..self.stages() - 1).rev() {
            let up = weights.get(&format!("decoder.{stage}.up.weight"));
            let up = kernels::conv_transpose3d(x, up, Some(weights.get(&format!("decoder.{stage}.up.bias"))));
            let Some(skip) = skips.pop() else { unreachable!("one skip per decoder stage") };
            x = kernels::concat(up, skip);
            for convolution in 0..self.shape.convolutions {
                x = block(&format!("decoder.{stage}.{convolution}"), x, [1; 3]);
            }
            if stage < self.heads() {
                outputs.push(self.head(weights, stage, x.clone()));
            }
        }
        if self.stages() == 1 {
            outputs.push(self.head(weights, 0, x));
        }
        outputs.reverse();
        outputs
    }

    fn head(&self, weights: &Bound, head: usize, x: Activation) -> Activation {
        let weight = weights.get(&format!("head.{head}.weight"));
        kernels::conv3d(x, weight, Some(weights.get(&format!("head.{head}.bias"))), [1; 3], [0; 3])
    }
}

impl Architecture for UNet {
    fn channels(&self) -> usize {
        self.channels
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn specifications(&self) -> Vec<Specification> {
        let mut all = Vec::new();
        let mut add = |name: String, shape: Vec<usize>, initial| {
            all.push(Specification { name, shape, initial });
        };
        let UNetShape { features, kernels, strides, .. } = &self.shape;
        let decoder = || (0..self.stages() - 1).rev();
        // Encoder before decoder, then what joins and ends them: the order in which gradients are summed.
        let encoder = (0..self.stages()).map(|stage| ("encoder", stage));
        for (part, stage) in encoder.chain(decoder().map(|stage| ("decoder", stage))) {
            let [x, y, z] = kernels[stage];
            for (name, inputs, outputs) in self.blocks(part, stage) {
                let start = Initial::Kaiming { fan_in: inputs * x * y * z };
                add(format!("{name}.conv.weight"), vec![outputs, inputs, x, y, z], start);
                add(format!("{name}.conv.bias"), vec![outputs], Initial::Zeros);
                add(format!("{name}.norm.weight"), vec![outputs], Initial::Ones);
                add(format!("{name}.norm.bias"), vec![outputs], Initial::Zeros);
            }
        }
        for stage in decoder() {
            let [x, y, z] = strides[stage + 1];
            // PyTorch's fan-in of a transposed convolution counts its output channels.
            let start = Initial::Kaiming { fan_in: features[stage] * x * y * z };
            add(
                format!("decoder.{stage}.up.weight"),
                vec![features[stage + 1], features[stage], x, y, z],
                start,
            );
            add(format!("decoder.{stage}.up.bias"), vec![features[stage]], Initial::Zeros);
        }
        for head in 0..self.heads() {
            let start = Initial::Kaiming { fan_in: features[head] };
            add(format!("head.{head}.weight"), vec![self.classes, features[head], 1, 1, 1], start);
            add(format!("head.{head}.bias"), vec![self.classes], Initial::Zeros);
        }
        all
    }

    fn field(&self, segment: [usize; 3]) -> Result<Field> {
        Ok(Field::same(segment))
    }

    fn output_strides(&self) -> Vec<[usize; 3]> {
        let product =
            |head: usize, axis: usize| self.shape.strides[..=head].iter().map(|s| s[axis]).product();
        (0..self.heads()).map(|head| std::array::from_fn(|axis| product(head, axis))).collect()
    }

    fn forward_observed(
        &self,
        weights: &Bound,
        inputs: Vec<Activation>,
        _: Mode,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Output {
        Output { logits: self.logits(weights, only(inputs), observe), statistics: Vec::new() }
    }
}

impl UNetShape {
    /// No stage has more feature maps where a configuration sets those of the first.
    const MOST_FEATURES: usize = 320;

    /// Product of strides along each axis: patch edges are multiples of it.
    pub fn total_stride(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.strides.iter().map(|s| s[axis]).product())
    }

    /// Voxels of a patch at every stage.
    fn stage_voxels(&self, patch: [usize; 3]) -> Vec<usize> {
        let mut size = patch;
        let halve = |stride: &[usize; 3]| {
            size = std::array::from_fn(|axis| size[axis] / stride[axis]);
            size.iter().product()
        };
        self.strides.iter().map(halve).collect()
    }
}

impl NetworkShape for UNetShape {
    fn network(&self, channels: usize, classes: usize, config: &NetworkConfig) -> Network {
        let (shape, deep_supervision) = (self.clone(), config.deep_supervision);
        Network::UNet(UNet { channels, classes, shape, deep_supervision })
    }

    fn field(&self, segment: [usize; 3]) -> Result<Field> {
        Ok(Field::same(segment))
    }

    fn problems(&self, patch: [usize; 3]) -> Vec<String> {
        let Self { features, strides, kernels, convolutions } = self;
        let stages = features.len();
        let within = |number: usize, most: usize| (1..=most).contains(&number);
        let demands = [
            (
                within(stages, 16) && strides.len() == stages && kernels.len() == stages,
                "`unet` must have features, strides and kernels for each of 1 to 16 stages",
            ),
            (features.iter().all(|&maps| within(maps, 4096)), "`unet.features` must be from 1 to 4096"),
            (strides.iter().flatten().all(|&edge| within(edge, 2)), "`unet.strides` must be 1 or 2"),
            (kernels.iter().flatten().all(|&edge| edge == 1 || edge == 3), "`unet.kernels` must be 1 or 3"),
            (within(*convolutions, 16), "`unet.convolutions` must be from 1 to 16"),
        ];
        let mut problems: Vec<String> =
            demands.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| text.to_owned()).collect();
        if problems.is_empty()
            && self.total_stride().into_iter().zip(patch).any(|(stride, edge)| edge % stride != 0)
        {
            problems
                .push("`patch` must be a multiple of the product of the strides along every axis".to_owned());
        }
        problems
    }

    fn step_flops(&self, patch: [usize; 3], channels: usize, classes: usize) -> f64 {
        let sizes = self.stage_voxels(patch);
        let mut forward = 0.0;
        for (stage, (&features, kernel)) in self.features.iter().zip(&self.kernels).enumerate() {
            let convolution = |inputs: usize| {
                (inputs * features * kernel.iter().product::<usize>()) as f64 * sizes[stage] as f64
            };
            let further = (self.convolutions - 1) as f64 * convolution(features);
            forward += convolution(if stage == 0 { channels } else { self.features[stage - 1] }) + further;
            if let Some(below) = self.features.get(stage + 1) {
                let upsampling = (below * features) as f64 * sizes[stage] as f64;
                forward += upsampling + convolution(2 * features) + further;
            }
        }
        let output = (self.features[0] * classes) as f64 * sizes[0] as f64;
        // Forward, gradient of the weights, gradient of the inputs; the image needs no gradient.
        let image =
            (channels * self.features[0] * self.kernels[0].iter().product::<usize>() * sizes[0]) as f64;
        2.0 * (3.0 * (forward + output) - image)
    }

    fn feature_values(&self, patch: [usize; 3], classes: usize) -> f64 {
        let sizes = self.stage_voxels(patch);
        let maps = self.features.iter().zip(&sizes);
        let encoder: usize = maps.clone().map(|(f, v)| self.convolutions * f * v).sum();
        let decoder: usize = maps.rev().skip(1).map(|(f, v)| (self.convolutions + 1) * f * v).sum();
        (encoder + decoder + classes * sizes[0]) as f64
    }

    fn in_whole_vectors(&self, lanes: usize) -> Shape {
        let features = self.features.iter().map(|&maps| maps.max(lanes)).collect();
        Shape::UNet(Self { features, ..self.clone() })
    }

    fn override_by(&mut self, overrides: &PlanOverrides, patch: [usize; 3]) -> Result<()> {
        if overrides.inference_patch.is_some() {
            return Err(Error::config(
                "plan.inference_patch",
                "the U-Net has no such value: it predicts patches of the size that it is trained with",
                "leave it out, or set `network.kind = \"deepmedic\"`",
            ));
        }
        if let Some(base) = overrides.base_features {
            let stages = 0..self.features.len();
            self.features = stages.map(|stage| (base << stage).min(Self::MOST_FEATURES)).collect();
        }
        let stride = self.total_stride();
        if (0..3).any(|axis| !patch[axis].is_multiple_of(stride[axis])) {
            return Err(Error::config(
                "plan.patch",
                format!("{patch:?} is not divisible by the network's strides {stride:?}"),
                "round every edge to a multiple of the stride along its axis",
            ));
        }
        Ok(())
    }

    fn describe(&self) -> Vec<(&'static str, String)> {
        let triples = |list: &[[usize; 3]]| list.iter().map(times).collect::<Vec<_>>().join(" ");
        vec![
            ("features", dashed(&self.features)),
            ("strides", triples(&self.strides)),
            ("kernels", triples(&self.kernels)),
        ]
    }
}
