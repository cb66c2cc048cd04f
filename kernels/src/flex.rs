//! The operators on burn's CPU backend: the kernels of this crate, and for autodiff what they keep and how they send
//! gradients back.

mod convolution;
mod loss;
mod norm;
mod spatial;
mod tensors;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Flex};

use tensors::contiguous;

use crate::ops::NetworkOps;
use crate::path::Path;
use crate::resample::AxisMap;
use crate::settings::Settings;
use crate::stock;
use crate::voxel_loss::VoxelLoss;

impl NetworkOps for Flex {
    fn network_conv3d(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::conv3d::<Self>(x, weight, bias, stride, padding);
        }
        convolution::conv3d(&settings, x, weight, bias, stride, padding)
    }

    fn network_conv_transpose3d(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::conv_transpose3d::<Self>(x, weight, bias);
        }
        convolution::conv_transpose3d(&settings, x, weight, bias)
    }

    fn network_instance_norm_leaky_relu(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        epsilon: f64,
        slope: f64,
    ) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::instance_norm_leaky_relu::<Self>(x, weight, bias, epsilon, slope);
        }
        norm::instance_norm(&settings, [x, weight, bias], epsilon, slope)
    }

    fn network_concat(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::concat::<Self>(a, b);
        }
        spatial::concat(&settings, a, b)
    }

    fn network_softmax(logits: FlexTensor) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::softmax::<Self>(logits);
        }
        self::loss::softmax(&settings, logits)
    }

    fn network_segmentation_sums(
        logits: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        share: f32,
        loss: VoxelLoss,
    ) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::segmentation_sums::<Self>(logits, first, second, share, &loss);
        }
        self::loss::segmentation_sums(&settings, logits, [first, second], share, &loss)
    }

    fn network_batch_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        slope: FlexTensor,
        epsilon: f64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::batch_norm::<Self>(x, weight, bias, slope, epsilon);
        }
        norm::batch_norm(&settings, [x, weight, bias, slope], epsilon)
    }

    fn network_batch_norm_fixed(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        slope: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::batch_norm_fixed::<Self>(x, weight, bias, mean, variance, slope, epsilon);
        }
        norm::batch_norm_fixed(&settings, [x, weight, bias, slope], [mean, variance], epsilon)
    }

    fn network_resample(x: FlexTensor, maps: [AxisMap; 3]) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::resample::<Self>(x, &maps);
        }
        spatial::resample(&settings, x, &maps)
    }

    fn network_add_cropped(x: FlexTensor, residual: FlexTensor) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::add_cropped::<Self>(x, residual);
        }
        spatial::add_cropped(&settings, x, residual)
    }

    fn network_max_pool3d(x: FlexTensor, kernel: [usize; 3], stride: [usize; 3]) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::max_pool3d::<Self>(x, kernel, stride);
        }
        spatial::max_pool3d(&settings, x, kernel, stride)
    }

    fn network_multiply_mask(x: FlexTensor, mask: FlexTensor) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::multiply_mask::<Self>(x, mask);
        }
        spatial::multiply_mask(&settings, x, &tensors::contiguous(&mask))
    }

    fn network_global_average(x: FlexTensor) -> FlexTensor {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::global_average::<Self>(x);
        }
        spatial::global_average(&settings, x)
    }
}

impl<C: CheckpointStrategy> NetworkOps for Autodiff<Flex, C> {
    fn network_conv3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::conv3d::<Self>(x, weight, bias, stride, padding);
        }
        convolution::tracked_conv3d::<C>(settings, [x, weight, bias], stride, padding)
    }

    fn network_conv_transpose3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::conv_transpose3d::<Self>(x, weight, bias);
        }
        convolution::tracked_conv_transpose3d::<C>(settings, [x, weight, bias])
    }

    fn network_instance_norm_leaky_relu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        slope: f64,
    ) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::instance_norm_leaky_relu::<Self>(x, weight, bias, epsilon, slope);
        }
        norm::tracked_instance_norm::<C>(settings, [x, weight, bias], epsilon, slope)
    }

    fn network_concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::concat::<Self>(a, b);
        }
        spatial::tracked_concat::<C>(settings, a, b)
    }

    fn network_segmentation_sums(
        logits: FloatTensor<Self>,
        first: IntTensor<Self>,
        second: IntTensor<Self>,
        share: f32,
        loss: VoxelLoss,
    ) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::segmentation_sums::<Self>(logits, first, second, share, &loss);
        }
        self::loss::tracked_segmentation_sums::<C>(settings, logits, [first, second], share, &loss)
    }

    fn network_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::batch_norm::<Self>(x, weight, bias, slope, epsilon);
        }
        norm::tracked_batch_norm::<C>(settings, [x, weight, bias, slope], epsilon)
    }

    fn network_batch_norm_fixed(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::batch_norm_fixed::<Self>(x, weight, bias, mean, variance, slope, epsilon);
        }
        norm::tracked_batch_norm_fixed::<C>(settings, [x, weight, bias, slope], [mean, variance], epsilon)
    }

    fn network_resample(x: FloatTensor<Self>, maps: [AxisMap; 3]) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::resample::<Self>(x, &maps);
        }
        spatial::tracked_resample::<C>(settings, x, &maps)
    }

    fn network_add_cropped(x: FloatTensor<Self>, residual: FloatTensor<Self>) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::add_cropped::<Self>(x, residual);
        }
        spatial::tracked_add_cropped::<C>(settings, x, residual)
    }

    fn network_max_pool3d(x: FloatTensor<Self>, kernel: [usize; 3], stride: [usize; 3]) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::max_pool3d::<Self>(x, kernel, stride);
        }
        spatial::tracked_max_pool3d::<C>(settings, x, kernel, stride)
    }

    fn network_multiply_mask(x: FloatTensor<Self>, mask: FloatTensor<Self>) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::multiply_mask::<Self>(x, mask);
        }
        spatial::tracked_multiply_mask::<C>(settings, x, mask)
    }

    fn network_global_average(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let settings = Settings::current();
        if settings.path() == Path::Stock {
            return stock::global_average::<Self>(x);
        }
        spatial::tracked_global_average::<C>(settings, x)
    }
}
