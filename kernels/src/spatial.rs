//! Operators that move, combine or pool voxels.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::activation::Activation;
use crate::ops::NetworkOps;
use crate::resample::AxisMap;

fn resample(x: Activation, maps: [AxisMap; 3]) -> Activation {
    if maps.iter().all(AxisMap::is_identity) {
        return x;
    }
    Activation(Tensor::from_dispatch(Dispatch::network_resample(x.0.into_dispatch(), maps)))
}

fn size(x: &Activation) -> [usize; 3] {
    let [_, size @ .., _] = x.shape();
    size
}

/// The voxels `start .. start + size` of each axis.
///
/// # Panics
/// Voxels that do not exist.
pub fn crop(x: Activation, start: [usize; 3], size: [usize; 3]) -> Activation {
    let inputs = self::size(&x);
    for axis in 0..3 {
        assert!(
            start[axis] + size[axis] <= inputs[axis],
            "crop: axis {axis}: {} voxels from {} of {}",
            size[axis],
            start[axis],
            inputs[axis]
        );
    }
    resample(x, std::array::from_fn(|axis| AxisMap::crop(inputs[axis], start[axis], size[axis])))
}

/// The edge voxels of each axis repeated `pad` times on both sides.
pub fn pad_replicate(x: Activation, pad: [usize; 3]) -> Activation {
    let inputs = size(&x);
    resample(x, std::array::from_fn(|axis| AxisMap::replicate(inputs[axis], pad[axis])))
}

/// Nearest-neighbour upsampling: every voxel repeated `factor` times, then cropped at the end of each axis to `size`.
///
/// # Panics
/// A size larger than what repetition gives.
pub fn upsample_repeat(x: Activation, factor: [usize; 3], size: [usize; 3]) -> Activation {
    let inputs = self::size(&x);
    for axis in 0..3 {
        assert!(
            size[axis] <= inputs[axis] * factor[axis],
            "upsample_repeat: axis {axis}: {} voxels from {} repeated {} times",
            size[axis],
            inputs[axis],
            factor[axis]
        );
    }
    resample(x, std::array::from_fn(|axis| AxisMap::repeat(inputs[axis], factor[axis], size[axis])))
}

/// Trilinear upsampling by whole factors; voxel centres keep their place in space (PyTorch's `align_corners = False`).
///
/// # Panics
/// A factor of 0.
pub fn upsample_trilinear(x: Activation, factor: [usize; 3]) -> Activation {
    let inputs = size(&x);
    assert!(factor.iter().all(|&factor| factor > 0), "upsample_trilinear: a factor of 0");
    resample(x, std::array::from_fn(|axis| AxisMap::linear(inputs[axis], factor[axis])))
}

/// Means over windows of `kernel` voxels, `stride` apart, without padding: (n - kernel) / stride + 1 per axis, rounded
/// down.
///
/// # Panics
/// A kernel larger than the input, or a kernel or stride of 0.
pub fn avg_pool3d(x: Activation, kernel: [usize; 3], stride: [usize; 3]) -> Activation {
    let inputs = size(&x);
    assert_pool("avg_pool3d", inputs, kernel, stride);
    resample(x, std::array::from_fn(|axis| AxisMap::average(inputs[axis], kernel[axis], stride[axis])))
}

/// Maxima over windows of `kernel` voxels, `stride` apart, without padding: (n - kernel) / stride + 1 per axis, rounded
/// down. The gradient goes to the first of equal maxima.
///
/// # Panics
/// A kernel larger than the input, or a kernel or stride of 0.
pub fn max_pool3d(x: Activation, kernel: [usize; 3], stride: [usize; 3]) -> Activation {
    assert_pool("max_pool3d", size(&x), kernel, stride);
    Activation(Tensor::from_dispatch(Dispatch::network_max_pool3d(x.0.into_dispatch(), kernel, stride)))
}

fn assert_pool(name: &str, inputs: [usize; 3], kernel: [usize; 3], stride: [usize; 3]) {
    for axis in 0..3 {
        assert!(
            (1..=inputs[axis]).contains(&kernel[axis]) && stride[axis] > 0,
            "{name}: axis {axis}: kernel {} and stride {} for {} voxels",
            kernel[axis],
            stride[axis],
            inputs[axis]
        );
    }
}

/// `a + b`.
///
/// # Panics
/// Shapes that differ.
pub fn add(a: Activation, b: Activation) -> Activation {
    assert_eq!(a.shape(), b.shape(), "add: the shapes must agree");
    add_cropped(a, b)
}

/// `x` plus the centre of `residual`: cropped to x's size, (n - m) / 2 rounded down from the start of each axis, and
/// filled up with channels of zeros to x's.
///
/// # Panics
/// A residual of another batch size, with fewer voxels or with more channels than x.
pub fn add_cropped(x: Activation, residual: Activation) -> Activation {
    let ([batch, to @ .., channels], [residual_batch, from @ .., residual_channels]) =
        (x.shape(), residual.shape());
    assert_eq!(batch, residual_batch, "add_cropped: the batch sizes must agree");
    assert!(
        (0..3).all(|axis| to[axis] <= from[axis]),
        "add_cropped: {from:?} voxels cannot be cropped to {to:?}"
    );
    assert!(
        residual_channels <= channels,
        "add_cropped: the residual has {residual_channels} channels, more than the {channels} of x"
    );
    Activation(Tensor::from_dispatch(Dispatch::network_add_cropped(
        x.0.into_dispatch(),
        residual.0.into_dispatch(),
    )))
}

/// `x` times a mask, as for dropout. No gradient goes to the mask.
///
/// # Shapes
/// - `mask`: (batch, x, y, z, channel), each the size of x's axis or 1, along which the mask is repeated
///
/// # Panics
/// Sizes that are neither.
pub fn multiply_mask(x: Activation, mask: Tensor<5>) -> Activation {
    let (shape, masks) = (x.shape(), mask.dims());
    assert!(
        shape.iter().zip(masks).all(|(&size, mask)| mask == size || mask == 1),
        "multiply_mask: a mask {masks:?} does not fit {shape:?}"
    );
    Activation(Tensor::from_dispatch(Dispatch::network_multiply_mask(
        x.0.into_dispatch(),
        mask.into_dispatch(),
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

/// Concatenation along the channels, in the order given.
///
/// # Panics
/// None given, or batch or spatial sizes that differ.
pub fn concat_all(activations: Vec<Activation>) -> Activation {
    activations.into_iter().reduce(concat).expect("concat_all: there must be at least one activation")
}

/// Mean over all voxels, (batch, channel). On the CPU sums over fixed chunks, combined in order in f64.
pub fn global_average(x: Activation) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::network_global_average(x.0.into_dispatch()))
}
