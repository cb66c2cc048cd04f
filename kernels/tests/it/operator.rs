//! The operators as values, so that one table of cases runs them on the kernels and in f64.

use kernels::{Activation, Array, Nonlinearity, Target, VoxelLoss};
use segen_kernels as kernels;

/// An operator with all that is not an array; the names are those of the functions.
#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// x, weight and possibly bias, as the next two.
    Conv3d {
        stride: [usize; 3],
        padding: [usize; 3],
    },
    ConvTranspose3d,
    Linear,
    /// x, weight, bias.
    InstanceNormLeakyRelu {
        epsilon: f64,
        slope: f64,
    },
    /// x, weight, bias and the slopes of a PReLU.
    BatchNorm(f64, Kind),
    /// x, weight, bias, mean, variance and the slopes of a PReLU.
    BatchNormFixed(f64, Kind),
    /// x, bias and the slopes of a PReLU.
    BiasNonlinearity(Kind),
    PadReplicate([usize; 3]),
    UpsampleRepeat {
        factor: [usize; 3],
        size: [usize; 3],
    },
    Add,
    AddCropped,
    /// x and the mask, to which no gradient goes.
    MultiplyMask,
    Concat,
    /// Any number of inputs.
    ConcatAll,
    GlobalAverage,
    Softmax,
    SegmentationSums(Labels, VoxelLoss),
    Scale(f32),
    Reshape(Vec<usize>),
    FromChannelsFirst,
    IntoChannelsFirst,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    None,
    Relu,
    Leaky(f64),
    /// The last input has the slopes.
    PRelu,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Relu, Self::Leaky(0.2), Self::PRelu];

    fn nonlinearity(self, inputs: &[Array]) -> Nonlinearity {
        match self {
            Self::None => Nonlinearity::None,
            Self::Relu => Nonlinearity::Relu,
            Self::Leaky(slope) => Nonlinearity::LeakyRelu(slope),
            Self::PRelu => Nonlinearity::PRelu(inputs.last().unwrap().clone()),
        }
    }
}

/// What the voxels show: first labels, and second ones with the share of the first.
#[derive(Clone)]
pub(crate) struct Labels {
    pub(crate) first: Vec<u8>,
    pub(crate) second: Option<(Vec<u8>, f32)>,
}

/// Of the labels themselves a failing test prints nothing.
impl std::fmt::Debug for Labels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} labels, mixed: {}", self.first.len(), self.second.is_some())
    }
}

impl Operator {
    /// The name of the function: that of the variant in the other spelling.
    pub(crate) fn name(&self) -> String {
        let text = format!("{self:?}");
        let variant = text.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let mut name = String::new();
        for letter in variant.chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }

    /// Runs the function of the kernels. What a batch norm measured is added to `measured`.
    pub(crate) fn run(&self, inputs: &[Array], measured: &mut Vec<Vec<f32>>) -> Array {
        let array = |i: usize| inputs[i].clone();
        let volume = |i: usize| Activation::from_channels_last(array(i));
        let bias = || inputs.get(2).cloned();
        let y = match self {
            Self::Linear => return kernels::linear(array(0), array(1), bias()),
            Self::GlobalAverage => return kernels::global_average(volume(0)),
            Self::Scale(factor) => return array(0).scale(*factor),
            Self::Reshape(shape) => return array(0).reshape(shape),
            Self::IntoChannelsFirst => return volume(0).into_channels_first(),
            Self::SegmentationSums(labels, loss) => {
                let [shape @ .., _] = volume(0).shape();
                let target = Target::mixture(labels.first.clone(), labels.second.clone(), shape);
                return kernels::segmentation_sums(volume(0), target, loss);
            }
            Self::Conv3d { stride, padding } => {
                kernels::conv3d(volume(0), array(1), bias(), *stride, *padding)
            }
            Self::ConvTranspose3d => kernels::conv_transpose3d(volume(0), array(1), bias()),
            Self::InstanceNormLeakyRelu { epsilon, slope } => {
                kernels::instance_norm_leaky_relu(volume(0), array(1), array(2), *epsilon, *slope)
            }
            Self::BatchNorm(epsilon, kind) => {
                let f = kind.nonlinearity(inputs);
                let (y, statistics) = kernels::batch_norm(volume(0), array(1), array(2), *epsilon, f);
                assert_eq!(statistics.count, y.shape()[..4].iter().product::<usize>());
                measured.extend([statistics.mean, statistics.variance]);
                y
            }
            Self::BatchNormFixed(epsilon, kind) => {
                let f = kind.nonlinearity(inputs);
                kernels::batch_norm_fixed(volume(0), array(1), array(2), array(3), array(4), *epsilon, f)
            }
            Self::BiasNonlinearity(kind) => {
                kernels::bias_nonlinearity(volume(0), array(1), kind.nonlinearity(inputs))
            }
            Self::PadReplicate(pad) => kernels::pad_replicate(volume(0), *pad),
            Self::UpsampleRepeat { factor, size } => kernels::upsample_repeat(volume(0), *factor, *size),
            Self::Add => kernels::add(volume(0), volume(1)),
            Self::AddCropped => kernels::add_cropped(volume(0), volume(1)),
            Self::MultiplyMask => kernels::multiply_mask(volume(0), &inputs[1]),
            Self::Concat => kernels::concat(volume(0), volume(1)),
            Self::ConcatAll => kernels::concat_all((0..inputs.len()).map(volume).collect()),
            Self::Softmax => kernels::softmax(&volume(0)),
            Self::FromChannelsFirst => Activation::from_channels_first(array(0)),
        };
        y.into_channels_last()
    }
}
