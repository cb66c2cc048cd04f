//! Operators that are sums of products of an input and a weight: which output, input and weight the products are of.

use super::{Exact, index, places, zeros};
use crate::operator::Operator;

pub(super) fn shape(operator: &Operator, shapes: &[&[usize]]) -> Vec<usize> {
    let (x, weight) = (shapes[0], shapes[1]);
    match operator {
        Operator::Conv3d { stride, padding } => {
            // As many places as the kernel has when it moves by the stride within the padded input.
            let along = |axis: usize| {
                let last = x[axis + 1] + 2 * padding[axis] - weight[axis + 2];
                (0..=last).step_by(stride[axis]).count()
            };
            vec![x[0], along(0), along(1), along(2), weight[0]]
        }
        Operator::ConvTranspose3d => {
            vec![x[0], x[1] * weight[2], x[2] * weight[3], x[3] * weight[4], weight[1]]
        }
        _ => vec![x[0], weight[0]],
    }
}

/// Calls `each(output, input, weight)`, indices, for all products.
fn products(operator: &Operator, inputs: &[&Exact], mut each: impl FnMut(usize, usize, usize)) {
    let (from, weight) = (&inputs[0].shape[..], &inputs[1].shape[..]);
    let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.shape[..]).collect();
    let to = &operator.shape(&shapes)[..];
    match operator {
        Operator::Conv3d { stride, padding } => {
            let [out, channels, kernel @ ..] = [0, 1, 2, 3, 4].map(|axis| weight[axis]);
            for [n, x, y, z, tap] in places(&[to[0], to[1], to[2], to[3], kernel.iter().product()]) {
                let taps = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
                // Moved by the padding, so that nothing is negative.
                let moved: [usize; 3] = std::array::from_fn(|i| [x, y, z][i] * stride[i] + taps[i]);
                if (0..3).any(|i| moved[i] < padding[i] || moved[i] - padding[i] >= from[i + 1]) {
                    continue;
                }
                let [a, b, c] = std::array::from_fn(|i| moved[i] - padding[i]);
                let (input, output) = (index(from, [n, a, b, c, 0]), index(to, [n, x, y, z, 0]));
                for k in 0..out {
                    for channel in 0..channels {
                        let weight = index(weight, [k, channel, taps[0], taps[1], taps[2]]);
                        each(output + k, input + channel, weight);
                    }
                }
            }
        }
        Operator::ConvTranspose3d => {
            for [channel, k, a, b, c] in places(weight) {
                for [n, x, y, z, _] in places(&[from[0], from[1], from[2], from[3], 1]) {
                    let place = [n, x * weight[2] + a, y * weight[3] + b, z * weight[4] + c, k];
                    let weight = index(weight, [channel, k, a, b, c]);
                    each(index(to, place), index(from, [n, x, y, z, channel]), weight);
                }
            }
        }
        Operator::Linear => {
            let [out, channels] = [weight[0], weight[1]];
            for (n, k, channel) in (0..from[0])
                .flat_map(|n| (0..out).flat_map(move |k| (0..channels).map(move |channel| (n, k, channel))))
            {
                each(n * out + k, n * channels + channel, k * channels + channel);
            }
        }
        Operator::MultiplyMask => {
            for (output, place) in places(to).enumerate() {
                // An axis of length 1 is repeated.
                let place = std::array::from_fn(|axis| place[axis].min(weight[axis] - 1));
                each(output, output, index(weight, place));
            }
        }
        _ => panic!("{operator:?} is no product"),
    }
}

pub(super) fn output(operator: &Operator, inputs: &[&Exact]) -> Vec<f64> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.shape[..]).collect();
    let mut values = zeros(&operator.shape(&shapes));
    if let Some(bias) = inputs.get(2) {
        let columns = bias.values.len();
        values.iter_mut().enumerate().for_each(|(i, value)| *value = bias.values[i % columns]);
    }
    let (x, weights) = (&inputs[0].values, &inputs[1].values);
    products(operator, inputs, |output, input, weight| values[output] += x[input] * weights[weight]);
    values
}

pub(super) fn gradients(operator: &Operator, inputs: &[&Exact], gradient: &[f64]) -> Vec<Vec<f64>> {
    let mut gradients: Vec<Vec<f64>> = inputs.iter().map(|input| zeros(&input.shape)).collect();
    if let Some(to_bias) = gradients.get_mut(2) {
        let columns = to_bias.len();
        gradient.iter().enumerate().for_each(|(i, gradient)| to_bias[i % columns] += gradient);
    }
    let (x, weights) = (&inputs[0].values, &inputs[1].values);
    let [to_x, to_weights, ..] = &mut gradients[..] else { panic!("an input and a weight") };
    products(operator, inputs, |output, input, weight| {
        to_x[input] += gradient[output] * weights[weight];
        to_weights[weight] += gradient[output] * x[input];
    });
    if matches!(operator, Operator::MultiplyMask) {
        to_weights.fill(0.0);
    }
    gradients
}
