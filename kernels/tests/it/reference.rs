//! The operators and their gradients in f64, by plain loops: what the kernels are compared with. Nothing of the kernels is
//! used.

mod bilinear;
mod linear;
pub(crate) mod loss;
mod norm;

use crate::operator::Operator;
use crate::support::Tensor;

/// f64 values, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Exact {
    pub(crate) values: Vec<f64>,
    pub(crate) shape: Vec<usize>,
}

impl From<&Tensor> for Exact {
    fn from(tensor: &Tensor) -> Self {
        let values = tensor.values.iter().map(|value| f64::from(*value)).collect();
        Self { values, shape: tensor.shape.clone() }
    }
}

fn zeros(shape: &[usize]) -> Vec<f64> {
    vec![0.0; shape.iter().product()]
}

fn index(shape: &[usize], place: [usize; 5]) -> usize {
    place.iter().zip(shape).fold(0, |index, (place, length)| index * length + place)
}

/// All places of a shape of five axes, in order.
fn places(shape: &[usize]) -> impl Iterator<Item = [usize; 5]> {
    let shape: [usize; 5] = shape.try_into().unwrap();
    (0..shape.iter().product()).map(move |mut index| {
        let mut place = [0; 5];
        for axis in (0..5).rev() {
            place[axis] = index % shape[axis];
            index /= shape[axis];
        }
        place
    })
}

impl Operator {
    /// The shape of the output, of those of the inputs.
    pub(crate) fn shape(&self, shapes: &[&[usize]]) -> Vec<usize> {
        match self {
            Self::Conv3d { .. } | Self::ConvTranspose3d | Self::Linear => bilinear::shape(self, shapes),
            Self::SegmentationSums(..) => vec![shapes[0][0], 2 + 4 * shapes[0][4]],
            _ => linear::shape(self, shapes).unwrap_or_else(|| shapes[0].to_vec()),
        }
    }

    /// The output.
    pub(crate) fn exact(&self, inputs: &[&Exact]) -> Exact {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.shape[..]).collect();
        let values = match self {
            Self::Conv3d { .. } | Self::ConvTranspose3d | Self::Linear | Self::MultiplyMask => {
                bilinear::output(self, inputs)
            }
            Self::InstanceNormLeakyRelu { .. }
            | Self::BatchNorm(..)
            | Self::BatchNormFixed(..)
            | Self::BiasNonlinearity(..) => norm::output(self, inputs),
            Self::Softmax => loss::softmax(inputs[0]),
            Self::SegmentationSums(labels, loss) => loss::sums(inputs[0], labels, loss),
            _ => linear::output(self, inputs),
        };
        Exact { values, shape: self.shape(&shapes) }
    }

    /// From the gradient of the output to those of all inputs; zeros of those that have none.
    pub(crate) fn exact_gradients(&self, inputs: &[&Exact], gradient: &[f64]) -> Vec<Vec<f64>> {
        match self {
            Self::Conv3d { .. } | Self::ConvTranspose3d | Self::Linear | Self::MultiplyMask => {
                bilinear::gradients(self, inputs, gradient)
            }
            Self::InstanceNormLeakyRelu { .. }
            | Self::BatchNorm(..)
            | Self::BatchNormFixed(..)
            | Self::BiasNonlinearity(..) => norm::gradients(self, inputs, gradient),
            Self::Softmax => vec![zeros(&inputs[0].shape)],
            Self::SegmentationSums(labels, loss) => {
                vec![loss::gradient(inputs[0], labels, loss, gradient)]
            }
            _ => linear::gradients(self, inputs, gradient),
        }
    }

    /// The statistics that a batch norm hands out: means and variances.
    pub(crate) fn measured(&self, inputs: &[&Exact]) -> Vec<Vec<f64>> {
        match self {
            Self::BatchNorm(..) => norm::batch_statistics(inputs[0]).into(),
            _ => vec![],
        }
    }
}
