//! Operators for 3-D convolutional networks as an extension of burn.
//!
//! Activations are channels-last, (batch, x, y, z, channel), and of their own type, [`Activation`], so that a network
//! converts its input once, runs on the operators here, and converts its output once. On the CPU device
//! (`Device::flex()`) the operators are kernels of this crate ([`Path`], [`Settings`]); on every other device they are compositions
//! of burn's own operators. Each is differentiable on a device with autodiff (`Device::flex().autodiff()`).
//!
//! # What to know about burn 0.22
//! - `Tensor::<5>::from_data(TensorData::new(vec, [n, c, x, y, z]), &device)` makes a tensor of a `Vec` without a
//!   copy; `tensor.into_data().try_into_vec::<f32>()` is the way back.
//! - Parameters are `Tensor::from_data(.., &device.clone().autodiff()).require_grad()`; `loss.backward()` gives
//!   `Gradients`, `parameter.grad(&gradients)` the gradient, `tensor.inner()` the tensor without autodiff. Without a
//!   parameter that requires a gradient, or on the plain device, nothing is recorded.
//! - The integers of `Device::flex()` are i32 unless asked otherwise.

mod arithmetic;
mod cpu;
#[cfg(test)]
mod fall_through;
mod flex;
#[cfg(any(feature = "vulkan", feature = "cuda"))]
mod gpu;
mod memory;
mod norm;
mod ops;
mod path;
mod precision;
mod resample;
mod settings;
mod spatial;
mod speed;
mod stock;
mod threads;

pub use norm::{BatchStatistics, Nonlinearity, batch_norm, batch_norm_fixed, bias_nonlinearity};
pub use ops::NetworkOps;
pub use path::Path;
pub use precision::Precision;
pub use resample::AxisMap;
pub use settings::Settings;
pub use spatial::{
    add, add_cropped, avg_pool3d, concat_all, crop, global_average, max_pool3d, multiply_mask, pad_replicate,
    upsample_repeat, upsample_trilinear,
};
pub use speed::convolution_speed;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

/// The class number of voxels that have no part in the loss.
pub const IGNORED: usize = 255;

/// The class number of voxels without a label that are nevertheless counted among the voxels of a sample: their
/// row of the one-hot labels is all zeros.
pub const UNLABELLED: usize = 254;

/// A channels-last activation, (batch, x, y, z, channel), f32.
#[derive(Clone, Debug)]
pub struct Activation(Tensor<5>);

impl Activation {
    /// From (batch, channel, x, y, z). Differentiable.
    pub fn from_channels_first(tensor: Tensor<5>) -> Self {
        Self(tensor.permute([0, 2, 3, 4, 1]))
    }

    /// To (batch, channel, x, y, z). Differentiable.
    pub fn into_channels_first(self) -> Tensor<5> {
        self.0.permute([0, 4, 1, 2, 3])
    }

    /// From (batch, x, y, z, channel), without a copy.
    pub fn from_channels_last(tensor: Tensor<5>) -> Self {
        Self(tensor)
    }

    /// To (batch, x, y, z, channel), without a copy.
    pub fn into_channels_last(self) -> Tensor<5> {
        self.0
    }

    /// (batch, x, y, z, channel).
    pub fn shape(&self) -> [usize; 5] {
        self.0.dims()
    }
}

/// 3-D convolution (cross-correlation, as in PyTorch).
///
/// # Shapes
/// - `weight`: (channel out, channel in, kernel x, kernel y, kernel z); kernels of 1 or 3, also mixed
/// - `bias`: (channel out)
/// - `stride`: 1 or 2 per axis; `padding`: zeros on both sides, less than the kernel
/// - output: (n + 2 padding - kernel) / stride + 1 per axis, rounded down
///
/// # Panics
/// Channels that do not match, or a kernel larger than the padded input.
pub fn conv3d(
    x: Activation,
    weight: Tensor<5>,
    bias: Option<Tensor<1>>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Activation {
    let [out, channels, kernel @ ..] = weight.dims();
    let [_, size @ .., input] = x.shape();
    assert_eq!(input, channels, "conv3d: the input has {input} channels, the weight takes {channels}");
    if let Some(bias) = &bias {
        assert_eq!(bias.dims(), [out], "conv3d: the bias must have one value per output channel");
    }
    for axis in 0..3 {
        let (kernel, padding) = (kernel[axis], padding[axis]);
        assert!(
            padding < kernel,
            "conv3d: axis {axis}: the padding {padding} must be less than the kernel {kernel}"
        );
        let padded = size[axis] + 2 * padding;
        assert!(
            padded >= kernel,
            "conv3d: axis {axis}: the padded size {padded} is less than the kernel {kernel}"
        );
        assert!(stride[axis] >= 1, "conv3d: axis {axis}: the stride must be at least 1");
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([out], &x.0.device()));
    Activation(Tensor::from_dispatch(Dispatch::network_conv3d(
        x.0.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        stride,
        padding,
    )))
}

/// `x weight^T + bias`.
///
/// # Shapes
/// - `x`: (batch, in), `weight`: (out, in), `bias`: (out)
/// - output: (batch, out)
///
/// # Panics
/// Sizes that do not match.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let ([batch, input], [out, channels]) = (x.dims(), weight.dims());
    assert_eq!(input, channels, "linear: the input has {input} values, the weight takes {channels}");
    // A convolution of one voxel per sample, the samples in a row.
    let x = Activation(x.reshape([1, 1, 1, batch, input]));
    conv3d(x, weight.reshape([out, input, 1, 1, 1]), bias, [1; 3], [0; 3]).0.reshape([batch, out])
}

/// Transposed 3-D convolution whose stride is its kernel: every input voxel becomes a block of output voxels.
///
/// # Shapes
/// - `weight`: (channel in, channel out, kernel x, kernel y, kernel z); 1 or 2 per axis
/// - `bias`: (channel out)
/// - output: n kernel per axis
///
/// # Panics
/// Channels that do not match.
pub fn conv_transpose3d(x: Activation, weight: Tensor<5>, bias: Option<Tensor<1>>) -> Activation {
    let [channels, out, ..] = weight.dims();
    let [.., input] = x.shape();
    assert_eq!(
        input, channels,
        "conv_transpose3d: the input has {input} channels, the weight takes {channels}"
    );
    if let Some(bias) = &bias {
        assert_eq!(bias.dims(), [out], "conv_transpose3d: the bias must have one value per output channel");
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([out], &x.0.device()));
    Activation(Tensor::from_dispatch(Dispatch::network_conv_transpose3d(
        x.0.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    )))
}

/// Instance norm followed by leaky ReLU: per sample and channel over x, y, z, with the biased variance.
///
/// `y = f((x - mean) / sqrt(variance + epsilon) * weight + bias)`, `f(v) = v > 0 ? v : slope * v`.
///
/// # Shapes
/// - `weight`, `bias`: (channel)
///
/// # Panics
/// Channels that do not match.
pub fn instance_norm_leaky_relu(
    x: Activation,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    slope: f64,
) -> Activation {
    let [.., channels] = x.shape();
    assert_eq!(
        weight.dims(),
        [channels],
        "instance_norm_leaky_relu: the weight must have one value per channel"
    );
    assert_eq!(bias.dims(), [channels], "instance_norm_leaky_relu: the bias must have one value per channel");
    Activation(Tensor::from_dispatch(Dispatch::network_instance_norm_leaky_relu(
        x.0.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        epsilon,
        slope,
    )))
}

/// Concatenation along the channels: those of `a`, then those of `b`.
///
/// # Panics
/// Batch or spatial sizes that differ.
pub fn concat(a: Activation, b: Activation) -> Activation {
    assert_eq!(a.shape()[..4], b.shape()[..4], "concat: batch and spatial sizes must agree");
    Activation(Tensor::from_dispatch(Dispatch::network_concat(a.0.into_dispatch(), b.0.into_dispatch())))
}

/// Softmax over the channels.
pub fn softmax(logits: Activation) -> Activation {
    Activation(Tensor::from_dispatch(Dispatch::network_softmax(logits.0.into_dispatch())))
}

/// What the voxels show, (batch, x, y, z): class numbers, [`IGNORED`] or [`UNLABELLED`].
#[derive(Clone, Debug)]
pub struct Target {
    labels: Tensor<4, Int>,
    other: Option<(Tensor<4, Int>, f32)>,
}

impl From<Tensor<4, Int>> for Target {
    fn from(labels: Tensor<4, Int>) -> Self {
        Self { labels, other: None }
    }
}

impl Target {
    /// Soft labels `share onehot(labels) + (1 - share) onehot(other)`; a voxel that either leaves out is left out.
    pub fn mixture(labels: Tensor<4, Int>, other: Tensor<4, Int>, share: f32) -> Self {
        assert_eq!(labels.dims(), other.dims(), "a mixture is of labels of one size");
        Self { labels, other: Some((other, share)) }
    }
}

/// How the cross-entropy of a voxel is taken. With y the label (one-hot, or a mixture), z the logits and
/// `q = softmax(z - margin y)`, it is the sum over the classes of `-weight y (1 - q)^focal log q`.
///
/// Every list has one value per class, or none: then margins and exponents are 0 and weights 1. The gradient flows
/// through the attenuation `(1 - q)^focal`; the margin is a constant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VoxelLoss {
    /// Taken off the logit of the class that a voxel shows.
    pub margin: Vec<f32>,
    /// Exponent of the attenuation; 0 (plain cross-entropy) or at least 1.
    pub focal: Vec<f32>,
    /// Factor of the cross-entropy.
    pub weight: Vec<f32>,
    /// Added inside the logarithm and to the base of the attenuation. 0 is exact; 1e-6 is what published code has.
    pub epsilon: f32,
}

/// Sums per sample from which softmax cross-entropy and soft Dice losses are made.
///
/// # Shapes
/// - `logits`: (batch, x, y, z, class)
/// - `target`: (batch, x, y, z), class numbers; [`IGNORED`] voxels have no part in any column, [`UNLABELLED`] ones in
///   the number of voxels only
/// - output: (batch, 2 + 4 classes), columns: the cross-entropy, see [`VoxelLoss`]; TP per class, the sum of `q y`; FP
///   per class, the sum of `q (1 - y)`; FN per class, the sum of `(1 - q) y`; the number of voxels; the attenuated FN
///   per class, the sum of `(1 - q) y (1 - q)^focal`. Every column but the number of voxels is differentiable with
///   respect to the logits.
///
/// # Panics
/// Sizes that do not match, an exponent between 0 and 1, or, where the kernels run, a class number that is none.
pub fn segmentation_sums(logits: Activation, target: impl Into<Target>, loss: &VoxelLoss) -> Tensor<2> {
    let Target { labels, other } = target.into();
    assert_eq!(logits.shape()[..4], labels.dims(), "segmentation_sums: logits and target must have one size");
    let [.., classes] = logits.shape();
    for list in [&loss.margin, &loss.focal, &loss.weight] {
        assert!(
            list.is_empty() || list.len() == classes,
            "segmentation_sums: {} values for {classes} classes",
            list.len()
        );
    }
    assert!(
        loss.focal.iter().all(|exponent| *exponent == 0.0 || *exponent >= 1.0),
        "segmentation_sums: a focal exponent is 0 or at least 1"
    );
    let (other, share) = other.unwrap_or_else(|| (labels.clone(), 1.0));
    Tensor::from_dispatch(Dispatch::network_segmentation_sums(
        logits.0.into_dispatch(),
        labels.into_dispatch(),
        other.into_dispatch(),
        share,
        loss.clone(),
    ))
}
