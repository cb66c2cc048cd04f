//! Convolutions.

use crate::array::{Activation, Array};
use crate::cpu::buffer::Buffer;
use crate::cpu::convolution::{Convolution, Transposed, sum_per_channel};
use crate::settings::Settings;
use crate::tape::record;

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
    weight: Array,
    bias: Option<Array>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> Activation {
    let [out, channels, kernel @ ..] = weight.sizes::<5>();
    let [batch, size @ .., input] = x.shape();
    assert_eq!(input, channels, "conv3d: the input has {input} channels, the weight takes {channels}");
    if let Some(bias) = &bias {
        assert_eq!(bias.shape(), [out], "conv3d: the bias must have one value per output channel");
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
    let settings = Settings::current();
    let sizes = Convolution { batch, size, input, output: out, kernel, stride, padding };
    let [ox, oy, oz] = sizes.output_size();
    let none = vec![0.0; out];
    let offsets = bias.as_ref().map_or(&none[..], |bias| bias.values());
    let y = sizes.forward(&settings, x.values(), weight.values(), offsets);
    let y = Array::of(y, &[batch, ox, oy, oz, out]);
    let to_weight = move |s: &Settings, x: &[f32], gradient: &[f32]| sizes.weight_gradient(s, x, gradient);
    let to_x =
        move |s: &Settings, weight: &[f32], gradient: &[f32]| sizes.input_gradient(s, weight, gradient);
    recorded(settings, (x, weight, bias), y, to_weight, to_x)
}

/// `x weight^T + bias`.
///
/// # Shapes
/// - `x`: (batch, in), `weight`: (out, in), `bias`: (out)
/// - output: (batch, out)
///
/// # Panics
/// Sizes that do not match.
pub fn linear(x: Array, weight: Array, bias: Option<Array>) -> Array {
    let ([batch, input], [out, channels]) = (x.sizes(), weight.sizes());
    assert_eq!(input, channels, "linear: the input has {input} values, the weight takes {channels}");
    // A convolution of one voxel per sample, the samples in a row.
    let x = Activation(x.reshape(&[1, 1, 1, batch, input]));
    conv3d(x, weight.reshape(&[out, input, 1, 1, 1]), bias, [1; 3], [0; 3]).0.reshape(&[batch, out])
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
pub fn conv_transpose3d(x: Activation, weight: Array, bias: Option<Array>) -> Activation {
    let [channels, out, kernel @ ..] = weight.sizes::<5>();
    let [batch, size @ .., input] = x.shape();
    assert_eq!(
        input, channels,
        "conv_transpose3d: the input has {input} channels, the weight takes {channels}"
    );
    if let Some(bias) = &bias {
        assert_eq!(bias.shape(), [out], "conv_transpose3d: the bias must have one value per output channel");
    }
    let settings = Settings::current();
    let sizes = Transposed { batch, size, input, output: out, kernel };
    let [ox, oy, oz] = sizes.output_size();
    let none = vec![0.0; out];
    let offsets = bias.as_ref().map_or(&none[..], |bias| bias.values());
    let y = sizes.forward(&settings, x.values(), weight.values(), offsets);
    let y = Array::of(y, &[batch, ox, oy, oz, out]);
    let to_weight = move |s: &Settings, x: &[f32], gradient: &[f32]| sizes.weight_gradient(s, x, gradient);
    let to_x =
        move |s: &Settings, weight: &[f32], gradient: &[f32]| sizes.input_gradient(s, weight, gradient);
    recorded(settings, (x, weight, bias), y, to_weight, to_x)
}

/// The output `y` of a convolution of either kind: gradients go to the weight, from input and gradient; to the bias; and to
/// the input, from weight and gradient.
fn recorded(
    settings: Settings,
    (x, weight, bias): (Activation, Array, Option<Array>),
    y: Array,
    weight_gradient: impl Fn(&Settings, &[f32], &[f32]) -> Buffer + Send + 'static,
    input_gradient: impl Fn(&Settings, &[f32], &[f32]) -> Buffer + Send + 'static,
) -> Activation {
    let [.., out] = y.sizes::<5>();
    let kept = [x.values().clone(), weight.values().clone()];
    let inputs = [Some(&x.0), Some(&weight), bias.as_ref()];
    Activation(record(inputs, y, move |gradient, [to_x, to_weight, to_bias]| {
        let [x, weight] = &kept;
        let to_weight = to_weight.then(|| weight_gradient(&settings, x, gradient).into());
        let to_bias = to_bias.then(|| sum_per_channel(&settings, gradient, out).into());
        let to_x = to_x.then(|| input_gradient(&settings, weight, gradient).into());
        [to_x, to_weight, to_bias]
    }))
}
