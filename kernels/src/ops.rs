//! The operators as an extension of burn, on any device.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use crate::resample::AxisMap;
use crate::stock;
use crate::voxel_loss::VoxelLoss;

/// The operators on tensors of a backend. The default bodies are compositions of burn's own operators.
#[backend_extension(Flex, Cube: cfg(any(feature = "vulkan", feature = "cuda")), Autodiff)]
pub trait NetworkOps: Backend {
    /// See [`crate::conv3d`].
    fn network_conv3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> FloatTensor<Self> {
        stock::conv3d::<Self>(x, weight, bias, stride, padding)
    }

    /// See [`crate::conv_transpose3d`].
    fn network_conv_transpose3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        stock::conv_transpose3d::<Self>(x, weight, bias)
    }

    /// See [`crate::instance_norm_leaky_relu`].
    fn network_instance_norm_leaky_relu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        slope: f64,
    ) -> FloatTensor<Self> {
        stock::instance_norm_leaky_relu::<Self>(x, weight, bias, epsilon, slope)
    }

    /// See [`crate::concat`].
    fn network_concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::concat::<Self>(a, b)
    }

    /// See [`crate::softmax`].
    fn network_softmax(logits: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::softmax::<Self>(logits)
    }

    /// See [`crate::segmentation_sums`]; the labels are `share` of `first` and the rest of `second`.
    fn network_segmentation_sums(
        logits: FloatTensor<Self>,
        first: IntTensor<Self>,
        second: IntTensor<Self>,
        share: f32,
        loss: VoxelLoss,
    ) -> FloatTensor<Self> {
        stock::segmentation_sums::<Self>(logits, first, second, share, &loss)
    }

    /// See [`crate::batch_norm`]; `slope` is one value per channel. Returns the output, mean and variance, the latter
    /// two without gradient.
    fn network_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        stock::batch_norm::<Self>(x, weight, bias, slope, epsilon)
    }

    /// See [`crate::batch_norm_fixed`]; `slope` is one value per channel.
    fn network_batch_norm_fixed(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        stock::batch_norm_fixed::<Self>(x, weight, bias, mean, variance, slope, epsilon)
    }

    /// One linear map per spatial axis: see [`crate::crop`], [`crate::pad_replicate`], [`crate::upsample_repeat`],
    /// [`crate::upsample_trilinear`], [`crate::avg_pool3d`].
    fn network_resample(x: FloatTensor<Self>, maps: [AxisMap; 3]) -> FloatTensor<Self> {
        stock::resample::<Self>(x, &maps)
    }

    /// See [`crate::add_cropped`].
    fn network_add_cropped(x: FloatTensor<Self>, residual: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::add_cropped::<Self>(x, residual)
    }

    /// See [`crate::max_pool3d`].
    fn network_max_pool3d(x: FloatTensor<Self>, kernel: [usize; 3], stride: [usize; 3]) -> FloatTensor<Self> {
        stock::max_pool3d::<Self>(x, kernel, stride)
    }

    /// See [`crate::multiply_mask`].
    fn network_multiply_mask(x: FloatTensor<Self>, mask: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::multiply_mask::<Self>(x, mask)
    }

    /// See [`crate::global_average`].
    fn network_global_average(x: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::global_average::<Self>(x)
    }
}
