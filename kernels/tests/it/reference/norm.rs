//! Norms, biases and nonlinearities by their formulas: `y = f(u weight + bias)`, `u = (x - mean) / deviation`.

use super::Exact;
use crate::operator::{Kind, Operator};

/// Mean and biased variance per channel over batch and voxels.
pub(super) fn batch_statistics(x: &Exact) -> [Vec<f64>; 2] {
    statistics(&x.values, x.shape[4])
}

fn statistics(values: &[f64], channels: usize) -> [Vec<f64>; 2] {
    let count = (values.len() / channels) as f64;
    let mut mean = vec![0.0; channels];
    values.iter().enumerate().for_each(|(i, value)| mean[i % channels] += value / count);
    let mut variance = vec![0.0; channels];
    let square = |i: usize, value: &f64| (value - mean[i % channels]).powi(2) / count;
    values.iter().enumerate().for_each(|(i, value)| variance[i % channels] += square(i, value));
    [mean, variance]
}

/// What all of these operators are made of, for one group of values: a sample or the batch.
struct Group {
    /// Normalised values.
    u: Vec<f64>,
    deviation: Vec<f64>,
    /// Whether mean and deviation are those of the values, so that gradients go through them.
    measured: bool,
}

/// Weight, bias and slopes of a nonlinearity, one per channel.
struct Parameters {
    weight: Vec<f64>,
    bias: Vec<f64>,
    slopes: Vec<f64>,
}

fn parameters(operator: &Operator, inputs: &[&Exact]) -> Parameters {
    let channels = inputs[0].shape[4];
    let kind = match operator {
        Operator::InstanceNormLeakyRelu { slope, .. } => Kind::Leaky(*slope),
        Operator::BatchNorm(_, kind)
        | Operator::BatchNormFixed(_, kind)
        | Operator::BiasNonlinearity(kind) => *kind,
        _ => panic!("{operator:?} is no norm"),
    };
    let slopes = match kind {
        Kind::None => vec![1.0; channels],
        Kind::Relu => vec![0.0; channels],
        Kind::Leaky(slope) => vec![slope; channels],
        Kind::PRelu => inputs.last().unwrap().values.clone(),
    };
    match operator {
        Operator::BiasNonlinearity(_) => {
            Parameters { weight: vec![1.0; channels], bias: inputs[1].values.clone(), slopes }
        }
        _ => Parameters { weight: inputs[1].values.clone(), bias: inputs[2].values.clone(), slopes },
    }
}

fn groups(operator: &Operator, inputs: &[&Exact]) -> Vec<Group> {
    let x = inputs[0];
    let channels = x.shape[4];
    let group = |values: &[f64], [mean, variance]: [Vec<f64>; 2], epsilon: f64, measured: bool| {
        let deviation: Vec<f64> = variance.iter().map(|variance| (variance + epsilon).sqrt()).collect();
        let u = |(i, value): (usize, &f64)| (value - mean[i % channels]) / deviation[i % channels];
        Group { u: values.iter().enumerate().map(u).collect(), deviation, measured }
    };
    match operator {
        Operator::InstanceNormLeakyRelu { epsilon, .. } => x
            .values
            .chunks(x.values.len() / x.shape[0])
            .map(|sample| group(sample, statistics(sample, channels), *epsilon, true))
            .collect(),
        Operator::BatchNorm(epsilon, _) => {
            vec![group(&x.values, batch_statistics(x), *epsilon, true)]
        }
        Operator::BatchNormFixed(epsilon, _) => {
            let given = [inputs[3].values.clone(), inputs[4].values.clone()];
            vec![group(&x.values, given, *epsilon, false)]
        }
        _ => vec![group(&x.values, [vec![0.0; channels], vec![1.0; channels]], 0.0, false)],
    }
}

pub(super) fn output(operator: &Operator, inputs: &[&Exact]) -> Vec<f64> {
    let Parameters { weight, bias, slopes } = parameters(operator, inputs);
    let mut values = vec![];
    for group in groups(operator, inputs) {
        values.extend(group.u.iter().enumerate().map(|(i, u)| {
            let c = i % weight.len();
            let v = u * weight[c] + bias[c];
            if v > 0.0 { v } else { slopes[c] * v }
        }));
    }
    values
}

/// Of x, then of the parameters in the order of the inputs.
pub(super) fn gradients(operator: &Operator, inputs: &[&Exact], gradient: &[f64]) -> Vec<Vec<f64>> {
    let Parameters { weight, bias, slopes } = parameters(operator, inputs);
    let channels = weight.len();
    let [mut to_weight, mut to_bias, mut to_slopes] = [(); 3].map(|()| vec![0.0; channels]);
    let mut to_x = vec![];
    let mut start = 0;
    for group in groups(operator, inputs) {
        let count = (group.u.len() / channels) as f64;
        let mut to_u = vec![0.0; group.u.len()];
        // The means of the gradient of u, and of its product with u.
        let [mut plain, mut along] = [(); 2].map(|()| vec![0.0; channels]);
        for (i, u) in group.u.iter().enumerate() {
            let c = i % channels;
            let v = u * weight[c] + bias[c];
            let g = gradient[start + i];
            if v <= 0.0 {
                to_slopes[c] += g * v;
            }
            let g = if v > 0.0 { g } else { g * slopes[c] };
            to_weight[c] += g * u;
            to_bias[c] += g;
            to_u[i] = g * weight[c];
            plain[c] += to_u[i] / count;
            along[c] += to_u[i] * u / count;
        }
        to_x.extend(to_u.iter().enumerate().map(|(i, to_u)| {
            let c = i % channels;
            let through = if group.measured { plain[c] + group.u[i] * along[c] } else { 0.0 };
            (to_u - through) / group.deviation[c]
        }));
        start += group.u.len();
    }
    let mut results = match operator {
        Operator::BiasNonlinearity(_) => vec![to_x, to_bias],
        // No gradient goes to given statistics.
        Operator::BatchNormFixed(..) => {
            vec![to_x, to_weight, to_bias, vec![0.0; channels], vec![0.0; channels]]
        }
        _ => vec![to_x, to_weight, to_bias],
    };
    if results.len() < inputs.len() {
        results.push(to_slopes);
    }
    results
}
