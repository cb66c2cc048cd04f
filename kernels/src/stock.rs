//! The operators as compositions of burn's own: what devices without kernels of ours use, and what the kernels are
//! compared with. All activations are channels-last, (batch, x, y, z, channel).

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{FloatDType, Shape, Slice};

use crate::IGNORED;

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

pub(crate) fn conv_transpose3d<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = weight.shape();
    let stride = [shape[2], shape[3], shape[4]];
    let x = B::float_permute(x, &TO_CHANNELS_FIRST);
    let options = ConvTransposeOptions::new(stride, [0; 3], [0; 3], [1; 3], 1);
    B::float_permute(B::conv_transpose3d(x, weight, Some(bias), options), &TO_CHANNELS_LAST)
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

pub(crate) fn segmentation_sums<B: Backend>(logits: FloatTensor<B>, target: IntTensor<B>) -> FloatTensor<B> {
    let shape = logits.shape();
    let (batch, classes) = (shape[0], shape[4]);
    let voxels = shape[1] * shape[2] * shape[3];
    let logits = B::float_reshape(logits, Shape::new([batch, voxels, classes]));
    let target = B::int_reshape(target, Shape::new([batch, voxels, 1]));
    let bool_dtype = get_or_init_device_settings::<B>(&logits.device()).bool_dtype;
    let log_p = B::log_softmax(logits, 2);
    let p = B::float_exp(log_p.clone());

    let sum = |tensor| B::float_reshape(B::float_sum_dim(tensor, 1), Shape::new([batch, 1]));
    let is = |class: usize| {
        let mask = B::int_equal_elem(target.clone(), (class as i64).into(), bool_dtype);
        B::bool_into_float(mask, FloatDType::F32)
    };
    let column = |tensor: &FloatTensor<B>, class: usize| {
        B::float_slice(tensor.clone(), &[Slice::full(), Slice::full(), Slice::from(class..class + 1)])
    };
    let valid = B::float_add_scalar(B::float_neg(is(IGNORED)), 1.0.into());

    let mut cross_entropy = B::float_mul_scalar(valid.clone(), 0.0.into());
    let (mut true_positives, mut false_positives, mut false_negatives) = (vec![], vec![], vec![]);
    for class in 0..classes {
        let here = is(class);
        let p = column(&p, class);
        cross_entropy = B::float_sub(cross_entropy, B::float_mul(column(&log_p, class), here.clone()));
        let true_positive = B::float_mul(p.clone(), here.clone());
        let elsewhere = B::float_sub(valid.clone(), here.clone());
        false_positives.push(sum(B::float_mul(p, elsewhere)));
        false_negatives.push(sum(B::float_sub(here, true_positive.clone())));
        true_positives.push(sum(true_positive));
    }
    let mut columns = vec![sum(cross_entropy)];
    columns.append(&mut true_positives);
    columns.append(&mut false_positives);
    columns.append(&mut false_negatives);
    columns.push(sum(valid));
    B::float_cat(columns, 1)
}
