//! Operators for 3-D convolutional networks as an extension of burn.
//!
//! Activations are channels-last, (batch, x, y, z, channel), and of their own type, [`Activation`], so that a network
//! converts its input once, runs on the operators here, and converts its output once. On the CPU device
//! (`Device::flex()`) the operators are kernels of this crate ([`Path`], [`Settings`]); on every other device they are
//! compositions of burn's own operators. Each is differentiable on a device with autodiff
//! (`Device::flex().autodiff()`).
//!
//! # What to know about burn 0.22
//! - `Tensor::<5>::from_data(TensorData::new(vec, [n, c, x, y, z]), &device)` makes a tensor of a `Vec` without a
//!   copy; `tensor.into_data().try_into_vec::<f32>()` is the way back.
//! - Parameters are `Tensor::from_data(.., &device.clone().autodiff()).require_grad()`; `loss.backward()` gives
//!   `Gradients`, `parameter.grad(&gradients)` the gradient, `tensor.inner()` the tensor without autodiff. Without a
//!   parameter that requires a gradient, or on the plain device, nothing is recorded.
//! - The integers of `Device::flex()` are i32 unless asked otherwise.

mod activation;
mod arithmetic;
mod convolution;
mod cpu;
#[cfg(test)]
mod fall_through;
mod flex;
#[cfg(any(feature = "vulkan", feature = "cuda"))]
mod gpu;
mod loss;
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
mod voxel_loss;

pub use activation::Activation;
pub use convolution::{conv_transpose3d, conv3d, linear};
pub use loss::{segmentation_sums, softmax};
pub use norm::{
    BatchStatistics, Nonlinearity, batch_norm, batch_norm_fixed, bias_nonlinearity, instance_norm_leaky_relu,
};
pub use ops::NetworkOps;
pub use path::Path;
pub use precision::Precision;
pub use resample::AxisMap;
pub use settings::Settings;
pub use spatial::{
    add, add_cropped, avg_pool3d, concat, concat_all, crop, global_average, max_pool3d, multiply_mask,
    pad_replicate, upsample_repeat, upsample_trilinear,
};
pub use speed::convolution_speed;
pub use voxel_loss::{IGNORED, Target, UNLABELLED, VoxelLoss};
