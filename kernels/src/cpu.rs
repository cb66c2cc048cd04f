//! The kernels of the CPU, on slices.

#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod arithmetic;
pub(crate) mod blocking;
pub(crate) mod buffer;
pub(crate) mod channels;
pub(crate) mod convolution;
mod correlate;
mod lines;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod operands;
pub(crate) mod pool;
pub(crate) mod resample;
mod simd;
mod store;
mod tile;
mod transpose;
mod vector_tiles;
mod winograd;
