//! Normalisation, bias and nonlinearity per channel.

use crate::array::{Activation, Array, Values};
use crate::cpu::norm::{Norm, Origin, Parameters, Statistics};
use crate::settings::Settings;
use crate::tape::record;

/// What follows a normalisation or a bias, `f(v) = v` for positive v.
#[derive(Clone, Debug)]
pub enum Nonlinearity {
    /// `f(v) = v`.
    None,
    /// `f(v) = 0` for v <= 0.
    Relu,
    /// `f(v) = slope v` for v <= 0.
    LeakyRelu(f64),
    /// `f(v) = slope v` for v <= 0, one slope per channel, (channel); differentiable.
    PRelu(Array),
}

impl Nonlinearity {
    /// One slope per channel.
    fn slopes(self, x: &Activation) -> Array {
        let [.., channels] = x.shape();
        let constant = |slope: f64| Array::of(vec![slope as f32; channels], &[channels]);
        match self {
            Self::None => constant(1.0),
            Self::Relu => constant(0.0),
            Self::LeakyRelu(slope) => constant(slope),
            Self::PRelu(slopes) => {
                assert_eq!(slopes.shape(), [channels], "PReLU: one slope per channel is needed");
                slopes
            }
        }
    }
}

/// What batch norm measured of one batch, one value per channel each. Not part of the gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// Mean over batch and voxels.
    pub mean: Vec<f32>,
    /// Biased variance (divided by `count`).
    pub variance: Vec<f32>,
    /// Number of values per channel, batch times voxels. The unbiased variance is `variance * count / (count - 1)`.
    pub count: usize,
}

/// Batch norm in training, followed by a nonlinearity: statistics over batch, x, y and z, with the biased variance.
///
/// `y = f((x - mean) / sqrt(variance + epsilon) * weight + bias)`. The gradient passes through the statistics. They
/// are sums over fixed chunks, combined in order in f64: the same bits for any number of threads.
///
/// # Shapes
/// - `weight`, `bias`: (channel)
///
/// # Panics
/// Channels that do not match.
pub fn batch_norm(
    x: Activation,
    weight: Array,
    bias: Array,
    epsilon: f64,
    nonlinearity: Nonlinearity,
) -> (Activation, BatchStatistics) {
    let [batch, sx, sy, sz, channels] = x.shape();
    assert_eq!(weight.shape(), [channels], "batch_norm: the weight must have one value per channel");
    assert_eq!(bias.shape(), [channels], "batch_norm: the bias must have one value per channel");
    let norm = over_batch(&x, epsilon);
    let settings = Settings::current();
    let statistics = norm.statistics(&settings, x.values());
    let count = batch * sx * sy * sz;
    let measured =
        BatchStatistics { mean: statistics.mean.clone(), variance: statistics.variance.clone(), count };
    let slopes = nonlinearity.slopes(&x);
    (normalised(settings, norm, (statistics, Origin::Input), [x.0, weight, bias, slopes]), measured)
}

/// Batch norm with given statistics (prediction), followed by a nonlinearity. Differentiable with respect to `x`,
/// `weight`, `bias` and the slope, not the statistics.
///
/// # Shapes
/// - `weight`, `bias`, `mean`, `variance`: (channel)
///
/// # Panics
/// Channels that do not match.
pub fn batch_norm_fixed(
    x: Activation,
    weight: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    epsilon: f64,
    nonlinearity: Nonlinearity,
) -> Activation {
    let [.., channels] = x.shape();
    for (name, tensor) in [("weight", &weight), ("bias", &bias), ("mean", &mean), ("variance", &variance)] {
        assert_eq!(
            tensor.shape(),
            [channels],
            "batch_norm_fixed: the {name} must have one value per channel"
        );
    }
    let norm = over_batch(&x, epsilon);
    let statistics = norm.given(mean.values(), variance.values());
    let slopes = nonlinearity.slopes(&x);
    normalised(Settings::current(), norm, (statistics, Origin::Given), [x.0, weight, bias, slopes])
}

/// `f(x + bias)`.
///
/// # Shapes
/// - `bias`: (channel)
///
/// # Panics
/// Channels that do not match.
pub fn bias_nonlinearity(x: Activation, bias: Array, nonlinearity: Nonlinearity) -> Activation {
    let [.., channels] = x.shape();
    assert_eq!(bias.shape(), [channels], "bias_nonlinearity: the bias must have one value per channel");
    // Weight 1, mean 0, variance 1: multiplying by 1 and subtracting 0 is exact.
    let [zeros, ones] = [0.0, 1.0].map(|value| Array::of(vec![value; channels], &[channels]));
    batch_norm_fixed(x, ones.clone(), bias, zeros, ones, 0.0, nonlinearity)
}

/// Instance norm followed by leaky ReLU: per sample and channel over x, y, z, with the biased variance.
///
/// `y = f((x - mean) / sqrt(variance + epsilon) * weight + bias)`, `f(v) = v > 0 ? v : slope * v`.
///
/// # Shapes
/// - `weight`, `bias`: (channel)
///
/// # Panics
/// Channels that do not match.
pub fn instance_norm_leaky_relu(
    x: Activation,
    weight: Array,
    bias: Array,
    epsilon: f64,
    slope: f64,
) -> Activation {
    let [.., channels] = x.shape();
    assert_eq!(
        weight.shape(),
        [channels],
        "instance_norm_leaky_relu: the weight must have one value per channel"
    );
    assert_eq!(
        bias.shape(),
        [channels],
        "instance_norm_leaky_relu: the bias must have one value per channel"
    );
    let norm = over_sample(&x, epsilon);
    let settings = Settings::current();
    let statistics = norm.statistics(&settings, x.values());
    let slopes = Nonlinearity::LeakyRelu(slope).slopes(&x);
    normalised(settings, norm, (statistics, Origin::Input), [x.0, weight, bias, slopes])
}

/// Every sample with statistics of its own.
fn over_sample(x: &Activation, epsilon: f64) -> Norm {
    let [batch, size @ .., channels] = x.shape();
    Norm { batch, positions: size.iter().product(), channels, epsilon }
}

/// The whole batch as one sample.
fn over_batch(x: &Activation, epsilon: f64) -> Norm {
    let norm = over_sample(x, epsilon);
    Norm { batch: 1, positions: norm.batch * norm.positions, ..norm }
}

fn parameters([_, weight, bias, slope]: &[Values; 4]) -> Parameters<'_> {
    Parameters { weight, bias, slope }
}

/// The operator that all of these are, of input, weight, bias and slopes.
fn normalised(
    settings: Settings,
    norm: Norm,
    (statistics, origin): (Statistics, Origin),
    inputs: [Array; 4],
) -> Activation {
    let kept = inputs.each_ref().map(|input| input.values().clone());
    let y = norm.forward(&settings, &kept[0], parameters(&kept), &statistics);
    let y = Array::of(y, inputs[0].shape());
    Activation(record(inputs.each_ref().map(Some), y, move |gradient, _| {
        let result = norm.backward(&settings, &kept[0], parameters(&kept), (&statistics, origin), gradient);
        [result.x, result.weight, result.bias, result.slope].map(|values| Some(values.into()))
    }))
}
