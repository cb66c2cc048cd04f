//! What the operators take and give.

use burn::tensor::Tensor;

/// A channels-last activation, (batch, x, y, z, channel), f32.
#[derive(Clone, Debug)]
pub struct Activation(pub(crate) Tensor<5>);

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
