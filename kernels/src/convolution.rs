//! Convolutions.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::activation::Activation;
use crate::ops::NetworkOps;

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
