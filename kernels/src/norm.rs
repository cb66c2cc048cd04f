//! Normalisation, bias and nonlinearity per channel.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::activation::Activation;
use crate::ops::NetworkOps;

/// What follows a normalisation or a bias, `f(v) = v` for positive v.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "short-lived, one per layer")]
pub enum Nonlinearity {
    /// `f(v) = v`.
    None,
    /// `f(v) = 0` for v <= 0.
    Relu,
    /// `f(v) = slope v` for v <= 0.
    LeakyRelu(f64),
    /// `f(v) = slope v` for v <= 0, one slope per channel, (channel); differentiable.
    PRelu(Tensor<1>),
}

impl Nonlinearity {
    /// One slope per channel.
    fn slopes(self, x: &Activation) -> Tensor<1> {
        let [.., channels] = x.shape();
        let constant = |slope: f64| Tensor::full([channels], slope, &x.0.device());
        match self {
            Self::None => constant(1.0),
            Self::Relu => constant(0.0),
            Self::LeakyRelu(slope) => constant(slope),
            Self::PRelu(slopes) => {
                assert_eq!(slopes.dims(), [channels], "PReLU: one slope per channel is needed");
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
/// `y = f((x - mean) / sqrt(variance + epsilon) * weight + bias)`. The gradient passes through the statistics. On the
/// CPU they are sums over fixed chunks, combined in order in f64: the same bits for any number of threads.
///
/// # Shapes
/// - `weight`, `bias`: (channel)
///
/// # Panics
/// Channels that do not match.
pub fn batch_norm(
    x: Activation,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    nonlinearity: Nonlinearity,
) -> (Activation, BatchStatistics) {
    let [batch, sx, sy, sz, channels] = x.shape();
    assert_eq!(weight.dims(), [channels], "batch_norm: the weight must have one value per channel");
    assert_eq!(bias.dims(), [channels], "batch_norm: the bias must have one value per channel");
    let slopes = nonlinearity.slopes(&x);
    let (y, mean, variance) = Dispatch::network_batch_norm(
        x.0.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        slopes.into_dispatch(),
        epsilon,
    );
    let values = |tensor| {
        let data = Tensor::<1>::from_dispatch(tensor).into_data();
        data.try_into_vec::<f32>().expect("statistics are f32 as the input is")
    };
    let count = batch * sx * sy * sz;
    let statistics = BatchStatistics { mean: values(mean), variance: values(variance), count };
    (Activation(Tensor::from_dispatch(y)), statistics)
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
    weight: Tensor<1>,
    bias: Tensor<1>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    epsilon: f64,
    nonlinearity: Nonlinearity,
) -> Activation {
    let [.., channels] = x.shape();
    for (name, tensor) in [("weight", &weight), ("bias", &bias), ("mean", &mean), ("variance", &variance)] {
        assert_eq!(tensor.dims(), [channels], "batch_norm_fixed: the {name} must have one value per channel");
    }
    let slopes = nonlinearity.slopes(&x);
    Activation(Tensor::from_dispatch(Dispatch::network_batch_norm_fixed(
        x.0.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        slopes.into_dispatch(),
        epsilon,
    )))
}

/// `f(x + bias)`.
///
/// # Shapes
/// - `bias`: (channel)
///
/// # Panics
/// Channels that do not match.
pub fn bias_nonlinearity(x: Activation, bias: Tensor<1>, nonlinearity: Nonlinearity) -> Activation {
    let [.., channels] = x.shape();
    assert_eq!(bias.dims(), [channels], "bias_nonlinearity: the bias must have one value per channel");
    let device = x.0.device();
    // Weight 1, mean 0, variance 1: multiplying by 1 and subtracting 0 is exact.
    let (zeros, ones) = (Tensor::zeros([channels], &device), Tensor::ones([channels], &device));
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
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    slope: f64,
) -> Activation {
    let [.., channels] = x.shape();
    assert_eq!(
        weight.dims(),
        [channels],
        "instance_norm_leaky_relu: the weight must have one value per channel"
    );
    assert_eq!(bias.dims(), [channels], "instance_norm_leaky_relu: the bias must have one value per channel");
    Activation(Tensor::from_dispatch(Dispatch::network_instance_norm_leaky_relu(
        x.0.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        epsilon,
        slope,
    )))
}
