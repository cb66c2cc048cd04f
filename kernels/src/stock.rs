//! The operators as compositions of burn's own: what devices without kernels of ours use, and what the kernels are
//! compared with. All activations are channels-last, (batch, x, y, z, channel).

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{FloatDType, Shape, Slice, TensorData};

use crate::resample::AxisMap;
use crate::voxel_loss::{IGNORED, UNLABELLED, VoxelLoss};

const TO_CHANNELS_FIRST: [usize; 5] = [0, 4, 1, 2, 3];
const TO_CHANNELS_LAST: [usize; 5] = [0, 2, 3, 4, 1];

pub(crate) fn conv3d<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    stride: [usize; 3],
    padding: [usize; 3],
) -> FloatTensor<B> {
    let x = B::float_permute(x, &TO_CHANNELS_FIRST);
    let y = B::conv3d(x, weight, Some(bias), ConvOptions::new(stride, padding, [1; 3], 1));
    B::float_permute(y, &TO_CHANNELS_LAST)
}

/// As a product of matrices whose columns are then moved to their voxels: exact, and on GPU devices much faster than
/// burn's transposed convolution.
pub(crate) fn conv_transpose3d<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let (shape, kernel) = (x.shape(), weight.shape());
    let [batch, sx, sy, sz, input] = std::array::from_fn(|axis| shape[axis]);
    let [_, output, kx, ky, kz] = std::array::from_fn(|axis| kernel[axis]);
    let positions = batch * sx * sy * sz;
    let weight = B::float_permute(weight, &[0, 2, 3, 4, 1]);
    let weight = B::float_reshape(weight, Shape::new([input, kx * ky * kz * output]));
    let columns = B::float_matmul(B::float_reshape(x, Shape::new([positions, input])), weight);
    // (batch, x) and (kernel z, channel) stay neighbours: six axes do.
    let blocks = B::float_reshape(columns, Shape::new([batch * sx, sy, sz, kx, ky, kz * output]));
    let blocks = B::float_permute(blocks, &[0, 3, 1, 4, 2, 5]);
    let y = B::float_reshape(blocks, Shape::new([batch, sx * kx, sy * ky, sz * kz, output]));
    B::float_add(y, B::float_reshape(bias, Shape::new([1, 1, 1, 1, output])))
}

pub(crate) fn instance_norm_leaky_relu<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    epsilon: f64,
    slope: f64,
) -> FloatTensor<B> {
    let shape = x.shape();
    let (batch, channels) = (shape[0], shape[4]);
    let flat = B::float_reshape(x, Shape::new([batch, shape[1] * shape[2] * shape[3], channels]));
    let centred = B::float_sub(flat.clone(), B::float_mean_dim(flat, 1));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
    let per_channel = |tensor| B::float_reshape(tensor, Shape::new([1, 1, channels]));
    let scaled = B::float_mul(B::float_div(centred, deviation), per_channel(weight));
    let y = B::leaky_relu(B::float_add(scaled, per_channel(bias)), slope.into());
    B::float_reshape(y, shape)
}

pub(crate) fn concat<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_cat(vec![a, b], 4)
}

pub(crate) fn softmax<B: Backend>(logits: FloatTensor<B>) -> FloatTensor<B> {
    B::softmax(logits, 4)
}

pub(crate) fn segmentation_sums<B: Backend>(
    logits: FloatTensor<B>,
    first: IntTensor<B>,
    second: IntTensor<B>,
    share: f32,
    loss: &VoxelLoss,
) -> FloatTensor<B> {
    let shape = logits.shape();
    let (batch, classes) = (shape[0], shape[4]);
    let voxels = shape[1] * shape[2] * shape[3];
    let device = logits.device();
    let logits = B::float_reshape(logits, Shape::new([batch, voxels, classes]));
    let flat = |labels| B::int_reshape(labels, Shape::new([batch, voxels, 1]));
    let (first, second) = (flat(first), flat(second));
    let bool_dtype = get_or_init_device_settings::<B>(&device).bool_dtype;
    let is = |labels: &IntTensor<B>, class: usize| {
        let mask = B::int_equal_elem(labels.clone(), (class as i64).into(), bool_dtype);
        B::bool_into_float(mask, FloatDType::F32)
    };
    let not = |tensor| B::float_add_scalar(B::float_neg(tensor), 1.0.into());
    let neither = |class| B::float_mul(not(is(&first, class)), not(is(&second, class)));
    let per_class =
        |values: &[f32]| B::float_from_data(TensorData::new(values.to_vec(), [1, 1, values.len()]), &device);

    // Masks of 1 and 0: what they leave out adds nothing to any sum.
    let counted = neither(IGNORED);
    let valid = B::float_mul(counted.clone(), neither(UNLABELLED));
    let columns = (0..classes).map(|class| match share {
        1.0 => is(&first, class),
        _ => B::float_add(
            B::float_mul_scalar(is(&first, class), share.into()),
            B::float_mul_scalar(is(&second, class), (1.0 - share).into()),
        ),
    });
    let y = B::float_mul(B::float_cat(columns.collect(), 2), valid.clone());
    let shifted = match loss.margin.is_empty() {
        true => logits,
        false => B::float_sub(logits, B::float_mul(y.clone(), per_class(&loss.margin))),
    };
    let log_q = B::log_softmax(shifted, 2);
    let q = B::float_exp(log_q.clone());
    // Rounding may leave a q above 1, whose power would be no number.
    let rest = B::float_clamp_min(not(q.clone()), 0.0.into());
    let log = match loss.epsilon {
        0.0 => log_q,
        epsilon => B::float_log(B::float_add_scalar(q.clone(), epsilon.into())),
    };
    let missed = B::float_mul(rest.clone(), y.clone());
    let mut shown = y.clone();
    let mut attenuated = missed.clone();
    if loss.focal.iter().any(|exponent| *exponent != 0.0) {
        let attenuation = loss.focal.iter().enumerate().map(|(class, &exponent)| {
            let slice = [Slice::full(), Slice::full(), Slice::from(class..class + 1)];
            let base = B::float_add_scalar(B::float_slice(rest.clone(), &slice), loss.epsilon.into());
            match exponent {
                // The derivative of a power 0 at 0 would be no number.
                0.0 => B::float_add_scalar(B::float_mul_scalar(base, 0.0.into()), 1.0.into()),
                _ => B::float_powf_scalar(base, exponent.into()),
            }
        });
        let attenuation = B::float_cat(attenuation.collect(), 2);
        shown = B::float_mul(shown, attenuation.clone());
        attenuated = B::float_mul(attenuated, attenuation);
    }
    if !loss.weight.is_empty() {
        shown = B::float_mul(shown, per_class(&loss.weight));
    }

    let sum = |tensor: FloatTensor<B>| {
        let columns = tensor.shape()[2];
        B::float_reshape(B::float_sum_dim(tensor, 1), Shape::new([batch, columns]))
    };
    let cross_entropy = B::float_neg(B::float_sum_dim(B::float_mul(shown, log), 2));
    let elsewhere = B::float_sub(valid, y.clone());
    let sums =
        [cross_entropy, B::float_mul(q.clone(), y), B::float_mul(q, elsewhere), missed, counted, attenuated];
    B::float_cat(sums.into_iter().map(sum).collect(), 1)
}

/// `values` where positive, else `slope * values`, one slope per channel.
fn leaky<B: Backend>(values: FloatTensor<B>, slope: FloatTensor<B>) -> FloatTensor<B> {
    let shape = values.shape();
    let channels = shape[shape.num_dims() - 1];
    let bool_dtype = get_or_init_device_settings::<B>(&values.device()).bool_dtype;
    let positive =
        B::bool_into_float(B::float_greater_elem(values.clone(), 0.0.into(), bool_dtype), FloatDType::F32);
    let other = B::float_add_scalar(B::float_neg(positive.clone()), 1.0.into());
    let mut row = vec![1; shape.num_dims()];
    row[shape.num_dims() - 1] = channels;
    let slopes = B::float_mul(other, B::float_reshape(slope, Shape::from(row)));
    B::float_mul(values, B::float_add(positive, slopes))
}

/// Normalises (batch, positions, channels) by mean and variance, (1 or batch, 1, channels).
fn normalise<B: Backend>(
    [x, mean, variance]: [FloatTensor<B>; 3],
    [weight, bias, slope]: [FloatTensor<B>; 3],
    epsilon: f64,
) -> FloatTensor<B> {
    let channels = weight.shape()[0];
    let per_channel = |tensor| B::float_reshape(tensor, Shape::new([1, 1, channels]));
    let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
    let scaled = B::float_mul(B::float_div(B::float_sub(x, mean), deviation), per_channel(weight));
    leaky::<B>(B::float_add(scaled, per_channel(bias)), slope)
}

/// One sample of all positions, (1, batch * positions, channels).
fn flat<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let positions = shape[0] * shape[1] * shape[2] * shape[3];
    B::float_reshape(x, Shape::new([1, positions, shape[4]]))
}

pub(crate) fn batch_norm<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    slope: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let x = flat::<B>(x);
    let mean = B::float_mean_dim(x.clone(), 1);
    let centred = B::float_sub(x.clone(), mean.clone());
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred), 1);
    let y = normalise::<B>([x, mean.clone(), variance.clone()], [weight, bias, slope], epsilon);
    let vector = |tensor| B::float_detach(B::float_reshape(tensor, Shape::new([shape[4]])));
    let (mean, variance) = (vector(mean), vector(variance));
    (B::float_reshape(y, shape), mean, variance)
}

pub(crate) fn batch_norm_fixed<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    slope: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let shape = x.shape();
    let row = |tensor| B::float_reshape(B::float_detach(tensor), Shape::new([1, 1, shape[4]]));
    let (mean, variance) = (row(mean), row(variance));
    let y = normalise::<B>([flat::<B>(x), mean, variance], [weight, bias, slope], epsilon);
    B::float_reshape(y, shape)
}

pub(crate) fn resample<B: Backend>(mut x: FloatTensor<B>, maps: &[AxisMap; 3]) -> FloatTensor<B> {
    let device = x.device();
    for (axis, map) in (1..).zip(maps) {
        if map.is_identity() {
            continue;
        }
        if let Some(indices) = map.copied() {
            let int_dtype = get_or_init_device_settings::<B>(&device).int_dtype;
            let indices = indices.into_iter().map(|index| index as i32).collect::<Vec<_>>();
            let count = indices.len();
            let indices = TensorData::new(indices, [count]).convert_dtype(int_dtype.into());
            x = B::float_select(x, axis, B::int_from_data(indices, &device));
            continue;
        }
        // As a product with a matrix: (output, input) by (batch, before, input, after).
        let mut shape = x.shape();
        let before = (1..axis).map(|axis| shape[axis]).product::<usize>() * shape[0];
        let after = (axis + 1..5).map(|axis| shape[axis]).product();
        let (outputs, inputs) = (map.outputs(), shape[axis]);
        let matrix = TensorData::new(map.matrix(), [1, outputs, inputs]);
        let matrix = B::float_from_data(matrix, &device);
        let flat = B::float_reshape(x, Shape::new([before, inputs, after]));
        let matrix = B::float_expand(matrix, Shape::new([before, outputs, inputs]));
        shape[axis] = outputs;
        x = B::float_reshape(B::float_matmul(matrix, flat), shape);
    }
    x
}

pub(crate) fn add_cropped<B: Backend>(x: FloatTensor<B>, residual: FloatTensor<B>) -> FloatTensor<B> {
    let (shape, from) = (x.shape(), residual.shape());
    let mut slices = vec![Slice::full(); 5];
    for axis in 1..4 {
        let margin = (from[axis] - shape[axis]) / 2;
        slices[axis] = Slice::from(margin..margin + shape[axis]);
    }
    let mut residual = if from[1..4] == shape[1..4] { residual } else { B::float_slice(residual, &slices) };
    if from[4] < shape[4] {
        let mut zeros = shape.clone();
        zeros[4] = shape[4] - from[4];
        let zeros = B::float_zeros(zeros, &x.device(), FloatDType::F32);
        residual = B::float_cat(vec![residual, zeros], 4);
    }
    B::float_add(x, residual)
}

pub(crate) fn max_pool3d<B: Backend>(
    x: FloatTensor<B>,
    kernel: [usize; 3],
    stride: [usize; 3],
) -> FloatTensor<B> {
    let shape = x.shape();
    let bool_dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let [kx, ky, kz] = kernel;
    let tap = |tap: usize| {
        let offsets = [tap / (ky * kz), tap / kz % ky, tap % kz];
        let mut slices = vec![Slice::full(); 5];
        for axis in 0..3 {
            let outputs = (shape[axis + 1] - kernel[axis]) / stride[axis] + 1;
            let (first, last) = (offsets[axis], offsets[axis] + (outputs - 1) * stride[axis] + 1);
            slices[axis + 1] = Slice::from_range_stepped(first..last, stride[axis] as isize);
        }
        B::float_slice(x.clone(), &slices)
    };
    (1..kx * ky * kz).fold(tap(0), |best, index| {
        let value = tap(index);
        let larger = B::float_greater(value.clone(), best.clone(), bool_dtype);
        B::float_mask_where(best, larger, value)
    })
}

pub(crate) fn multiply_mask<B: Backend>(x: FloatTensor<B>, mask: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(x, B::float_detach(mask))
}

pub(crate) fn global_average<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let flat = B::float_reshape(x, Shape::new([shape[0], shape[1] * shape[2] * shape[3], shape[4]]));
    B::float_reshape(B::float_mean_dim(flat, 1), Shape::new([shape[0], shape[4]]))
}
