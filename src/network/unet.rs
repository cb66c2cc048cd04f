//! The 3-D U-Net that the plan describes: nnU-Net's plain convolutional one (Isensee et al., Nature Methods
//! 2021; Ronneberger et al., MICCAI 2015).
//!
//! Encoder stage: `convolutions` x (3x3x3 convolution with bias, instance norm, leaky ReLU 0.01), the first of
//! a stage strided. Decoder: transposed convolution with kernel = stride, concatenation with the skip, the
//! same convolutions. A 1x1x1 convolution gives the logits.

use segen_kernels as kernels;
use segen_kernels::Activation;
use serde::{Deserialize, Serialize};

use super::{Bound, Initial, Specification};

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

    /// Product of strides per axis: patch edges are multiples of it.
    pub fn total_stride(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.shape.strides.iter().map(|s| s[axis]).product())
    }

    /// Strides from full resolution to the resolution of each output of [`Self::forward_observed`].
    pub fn output_strides(&self) -> Vec<[usize; 3]> {
        (0..self.heads())
            .map(|head| {
                std::array::from_fn(|axis| self.shape.strides[..=head].iter().map(|s| s[axis]).product())
            })
            .collect()
    }

    /// Every parameter, in the order of use.
    pub fn specifications(&self) -> Vec<Specification> {
        let mut all = Vec::new();
        let features = &self.shape.features;
        let mut block = |name: String, inputs: usize, outputs: usize, kernel: [usize; 3]| {
            let volume: usize = kernel.iter().product();
            all.extend([
                Specification {
                    name: format!("{name}.conv.weight"),
                    shape: vec![outputs, inputs, kernel[0], kernel[1], kernel[2]],
                    initial: Initial::Kaiming { fan_in: inputs * volume },
                },
                Specification {
                    name: format!("{name}.conv.bias"),
                    shape: vec![outputs],
                    initial: Initial::Zeros,
                },
                Specification {
                    name: format!("{name}.norm.weight"),
                    shape: vec![outputs],
                    initial: Initial::Ones,
                },
                Specification {
                    name: format!("{name}.norm.bias"),
                    shape: vec![outputs],
                    initial: Initial::Zeros,
                },
            ]);
        };
        let mut inputs = self.channels;
        for stage in 0..self.stages() {
            for convolution in 0..self.shape.convolutions {
                block(
                    format!("encoder.{stage}.{convolution}"),
                    inputs,
                    features[stage],
                    self.shape.kernels[stage],
                );
                inputs = features[stage];
            }
        }
        for stage in (0..self.stages() - 1).rev() {
            for convolution in 0..self.shape.convolutions {
                let inputs = if convolution == 0 { 2 * features[stage] } else { features[stage] };
                block(
                    format!("decoder.{stage}.{convolution}"),
                    inputs,
                    features[stage],
                    self.shape.kernels[stage],
                );
            }
        }
        for stage in (0..self.stages() - 1).rev() {
            let stride = self.shape.strides[stage + 1];
            let volume: usize = stride.iter().product();
            all.push(Specification {
                name: format!("decoder.{stage}.up.weight"),
                shape: vec![features[stage + 1], features[stage], stride[0], stride[1], stride[2]],
                // PyTorch's fan-in of a transposed convolution counts its output channels.
                initial: Initial::Kaiming { fan_in: features[stage] * volume },
            });
            all.push(Specification {
                name: format!("decoder.{stage}.up.bias"),
                shape: vec![features[stage]],
                initial: Initial::Zeros,
            });
        }
        for head in 0..self.heads() {
            all.push(Specification {
                name: format!("head.{head}.weight"),
                shape: vec![self.classes, features[head], 1, 1, 1],
                initial: Initial::Kaiming { fan_in: features[head] },
            });
            all.push(Specification {
                name: format!("head.{head}.bias"),
                shape: vec![self.classes],
                initial: Initial::Zeros,
            });
        }
        all
    }

    /// Logits (batch, x, y, z, class) at full resolution, then, with deep supervision, at every further
    /// decoder resolution. `x` is (batch, x, y, z, channel); its edges are multiples of [`Self::total_stride`].
    /// Every layer's output is shown to `observe` with the layer's name.
    pub fn forward_observed(
        &self,
        weights: &Bound,
        x: Activation,
        observe: &mut dyn FnMut(&str, &Activation),
    ) -> Vec<Activation> {
        let mut block = |name: &str, x: Activation, stride: [usize; 3]| {
            let weight = weights.get::<5>(&format!("{name}.conv.weight"));
            let [_, _, kx, ky, kz] = weight.dims();
            let bias = weights.get::<1>(&format!("{name}.conv.bias"));
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
            let up = weights.get::<5>(&format!("decoder.{stage}.up.weight"));
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
        let weight = weights.get::<5>(&format!("head.{head}.weight"));
        kernels::conv3d(x, weight, Some(weights.get(&format!("head.{head}.bias"))), [1; 3], [0; 3])
    }
}
