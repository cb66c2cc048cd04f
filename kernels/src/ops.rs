//! The operators as an extension of burn, on any device.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use crate::{VoxelLoss, stock};

/// The operators on tensors of a backend. The default bodies are compositions of burn's own operators.
#[backend_extension(Flex, Autodiff)]
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
}
