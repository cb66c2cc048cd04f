//! Linear operators: which inputs an output is the sum of, and with which coefficients.

use super::{Exact, index, places, zeros};
use crate::operator::Operator;

/// The shape of the output, for operators that change it.
pub(super) fn shape(operator: &Operator, shapes: &[&[usize]]) -> Option<Vec<usize>> {
    let &[batch, x, y, z, channels] = shapes[0] else {
        let Operator::Reshape(shape) = operator else { return None };
        return Some(shape.clone());
    };
    let size = |[x, y, z]: [usize; 3]| Some(vec![batch, x, y, z, channels]);
    match operator {
        Operator::Reshape(shape) => Some(shape.clone()),
        Operator::FromChannelsFirst => Some(vec![batch, y, z, channels, x]),
        Operator::IntoChannelsFirst => Some(vec![batch, channels, x, y, z]),
        Operator::GlobalAverage => Some(vec![batch, channels]),
        Operator::Concat | Operator::ConcatAll => {
            Some(vec![batch, x, y, z, shapes.iter().map(|shape| shape[4]).sum()])
        }
        Operator::UpsampleRepeat { size: count, .. } => size(*count),
        Operator::PadReplicate(pad) => size([x + 2 * pad[0], y + 2 * pad[1], z + 2 * pad[2]]),
        _ => None,
    }
}

/// Which of `inputs` voxels in a row the output voxels of an axis are copies of.
fn along_axis(operator: &Operator, axis: usize, inputs: usize) -> Option<Vec<usize>> {
    Some(match operator {
        Operator::PadReplicate(pad) => {
            let pad = pad[axis];
            (0..inputs + 2 * pad).map(|output| output.clamp(pad, pad + inputs - 1) - pad).collect()
        }
        Operator::UpsampleRepeat { factor, size } => {
            (0..size[axis]).map(|output| output / factor[axis]).collect()
        }
        _ => return None,
    })
}

/// Calls `each(output, which input, index in it, coefficient)` for all terms.
fn terms(operator: &Operator, inputs: &[&Exact], mut each: impl FnMut(usize, usize, usize, f64)) {
    let from = &inputs[0].shape[..];
    let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.shape[..]).collect();
    let to = &operator.shape(&shapes)[..];
    match operator {
        Operator::Scale(factor) => {
            (0..inputs[0].values.len()).for_each(|i| each(i, 0, i, f64::from(*factor)));
        }
        Operator::Reshape(_) => (0..inputs[0].values.len()).for_each(|i| each(i, 0, i, 1.0)),
        Operator::FromChannelsFirst => {
            for [n, x, y, z, c] in places(to) {
                each(index(to, [n, x, y, z, c]), 0, index(from, [n, c, x, y, z]), 1.0);
            }
        }
        Operator::IntoChannelsFirst => {
            for [n, c, x, y, z] in places(to) {
                each(index(to, [n, c, x, y, z]), 0, index(from, [n, x, y, z, c]), 1.0);
            }
        }
        Operator::GlobalAverage => {
            let share = 1.0 / from[1..4].iter().product::<usize>() as f64;
            for place @ [n, .., c] in places(from) {
                each(n * from[4] + c, 0, index(from, place), share);
            }
        }
        Operator::Concat | Operator::ConcatAll => {
            let mut before = 0;
            for (which, shape) in shapes.iter().enumerate() {
                for place @ [n, x, y, z, c] in places(shape) {
                    each(index(to, [n, x, y, z, before + c]), which, index(shape, place), 1.0);
                }
                before += shape[4];
            }
        }
        Operator::Add | Operator::AddCropped => {
            let residual = shapes[1];
            let margin = |axis: usize| (residual[axis] - to[axis]) / 2;
            for (output, [n, x, y, z, c]) in places(to).enumerate() {
                each(output, 0, output, 1.0);
                if c < residual[4] {
                    let place = [n, x + margin(1), y + margin(2), z + margin(3), c];
                    each(output, 1, index(residual, place), 1.0);
                }
            }
        }
        _ => {
            let axes: [_; 3] = std::array::from_fn(|i| along_axis(operator, i, from[i + 1]).unwrap());
            for (output, [n, x, y, z, c]) in places(to).enumerate() {
                let place = [n, axes[0][x], axes[1][y], axes[2][z], c];
                each(output, 0, index(from, place), 1.0);
            }
        }
    }
}

pub(super) fn output(operator: &Operator, inputs: &[&Exact]) -> Vec<f64> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.shape[..]).collect();
    let mut values = zeros(&operator.shape(&shapes));
    terms(operator, inputs, |output, which, from, coefficient| {
        values[output] += coefficient * inputs[which].values[from];
    });
    values
}

pub(super) fn gradients(operator: &Operator, inputs: &[&Exact], gradient: &[f64]) -> Vec<Vec<f64>> {
    let mut gradients: Vec<Vec<f64>> = inputs.iter().map(|input| zeros(&input.shape)).collect();
    terms(operator, inputs, |output, which, from, coefficient| {
        gradients[which][from] += coefficient * gradient[output];
    });
    gradients
}
