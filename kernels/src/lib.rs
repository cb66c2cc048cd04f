//! Operators for 3-D convolutional networks, and the tape by which their gradients go back.
//!
//! Activations are channels-last, (batch, x, y, z, channel), and of their own type, [`Activation`]; all else is an
//! [`Array`]. Both hold f32 on a [`Device`]. An operator is a function here, in one file with what it keeps and how it sends
//! gradients back; its loops stand in `cpu/` and run as [`Settings`] say. It is differentiable with respect to those inputs
//! that come from a [`Recording`]; of constants alone nothing is kept.

mod arithmetic;
mod array;
mod convolution;
mod cpu;
mod device;
mod loss;
mod norm;
mod path;
mod precision;
mod resample;
mod settings;
mod spatial;
mod speed;
mod tape;
mod threads;
mod voxel_loss;

pub use array::{Activation, Array};
pub use convolution::{conv_transpose3d, conv3d, linear};
pub use device::Device;
pub use loss::{segmentation_sums, softmax};
pub use norm::{
    BatchStatistics, Nonlinearity, batch_norm, batch_norm_fixed, bias_nonlinearity, instance_norm_leaky_relu,
};
pub use path::Path;
pub use precision::Precision;
pub use settings::Settings;
pub use spatial::{
    add, add_cropped, concat, concat_all, global_average, multiply_mask, pad_replicate, upsample_repeat,
};
pub use speed::convolution_speed;
pub use tape::Recording;
pub use voxel_loss::{IGNORED, Target, UNLABELLED, VoxelLoss};
