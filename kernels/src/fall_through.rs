//! The compositions that other devices use, run on burn's NdArray backend, which has no kernels of ours.
#![expect(deprecated, reason = "there is no other synchronous backend without kernels of ours")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex, TensorMetadata};
use burn::tensor::{IntDType, TensorData};
use burn_ndarray::NdArray;

use crate::ops::NetworkOps;
use crate::resample::AxisMap;
use crate::voxel_loss::VoxelLoss;

impl NetworkOps for NdArray {}
impl<C: CheckpointStrategy> NetworkOps for Autodiff<NdArray, C> {}

/// Values in (-1, 1) that look random.
fn values(shape: &[usize], salt: usize) -> TensorData {
    let value = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 505.0 - 0.999;
    TensorData::new((0..shape.iter().product()).map(value).collect::<Vec<_>>(), shape.to_vec())
}

/// The values of a tensor of a backend that computes at once.
fn read<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
    let mut future = pin!(B::float_into_data(tensor));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(data) => data.expect("readable").try_into_vec().expect("f32"),
        Poll::Pending => panic!("the backend is not synchronous"),
    }
}

/// Every operator in turn: outputs, and the gradients of all inputs.
fn all_operators<B: NetworkOps + AutodiffBackend>() -> Vec<Vec<f32>> {
    let device = B::Device::default();
    let mut leaves = vec![];
    let mut leaf = |shape: &[usize]| {
        let tensor = B::float_from_data(values(shape, leaves.len()), &device);
        let tensor = B::float_set_require_grad(tensor, true);
        leaves.push(tensor.clone());
        tensor
    };
    let x = leaf(&[2, 9, 6, 8, 5]);
    let [c, c1, c2, c3, c4] = [(); 5].map(|()| leaf(&[18]));
    let y = B::network_conv3d(x.clone(), leaf(&[18, 5, 3, 3, 3]), leaf(&[18]), [1; 3], [1; 3]);
    let skip = B::network_instance_norm_leaky_relu(y, c.clone(), c1.clone(), 1e-5, 0.01);
    let down = B::network_conv3d(skip.clone(), leaf(&[18, 18, 3, 1, 3]), leaf(&[18]), [2, 1, 2], [1, 0, 1]);
    let (down, mean, variance) = B::network_batch_norm(down, c2.clone(), c3.clone(), c4.clone(), 1e-5);
    let up = B::network_conv_transpose3d(down.clone(), leaf(&[18, 7, 2, 1, 2]), leaf(&[7]));
    let repeat = |inputs: usize, count| AxisMap::repeat(inputs, 2, count);
    let wide =
        B::network_resample(down.clone(), [repeat(5, 9), AxisMap::replicate(6, 0), AxisMap::linear(4, 2)]);
    let fixed = B::network_batch_norm_fixed(wide, c, c1, mean.clone(), variance.clone(), c4, 1e-5);
    let crop = [AxisMap::crop(10, 1, 9), AxisMap::replicate(6, 0), AxisMap::replicate(8, 0)];
    let joined = B::network_concat(B::network_resample(up, crop), skip);
    let summed = B::network_add_cropped(joined, fixed);
    let mask = B::float_from_data(values(&[2, 1, 1, 1, 25], 50), &device);
    let masked = B::network_multiply_mask(summed, mask);
    let pooled = B::network_max_pool3d(masked, [2, 3, 2], [2, 1, 2]);
    let average = [AxisMap::average(4, 2, 1), AxisMap::average(4, 2, 2), AxisMap::replicate(4, 1)];
    let logits = B::network_resample(pooled, average);
    let shape = logits.shape();
    let target = (0..shape[0] * shape[1] * shape[2] * shape[3]).map(|i| (i % 25) as i32).collect::<Vec<_>>();
    let target = B::int_from_data(TensorData::new(target, shape.as_slice()[..4].to_vec()), &device);
    let target = B::int_cast(target, IntDType::I32);
    let sums =
        B::network_segmentation_sums(logits.clone(), target.clone(), target, 1.0, VoxelLoss::default());
    let mean_logits = B::network_global_average(logits.clone());
    let outputs =
        [B::network_softmax(B::float_detach(logits)), sums.clone(), mean_logits.clone(), mean, variance];
    let weighted = |tensor: FloatTensor<B>, salt| {
        let factor = B::float_from_data(values(tensor.shape().as_slice(), salt), &device);
        B::float_sum(B::float_mul(tensor, factor))
    };
    let gradients = B::backward(B::float_add(weighted(sums, 60), weighted(mean_logits, 61)));
    let mut results = outputs.map(|tensor| read::<B>(tensor)).to_vec();
    for leaf in leaves {
        let gradient = B::grad(&leaf, &gradients).expect("every input has a gradient");
        results.push(read::<B::InnerBackend>(gradient));
    }
    results
}

#[test]
fn compositions_and_kernels_agree() {
    let expected = all_operators::<Autodiff<NdArray>>();
    let results = all_operators::<Autodiff<Flex>>();
    assert_eq!(results.len(), 5 + 12);
    for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
        assert_eq!(result.len(), expected.len());
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let norm = square(&mut expected.iter().map(|v| f64::from(*v)));
        let difference = square(&mut result.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
        // Biases that feed a norm have no gradient but rounding errors.
        let error = (difference / norm.max(1e-3)).sqrt();
        assert!(error <= 1e-4, "result {index} differs by {error:.2e} of its norm {norm:.2e}");
    }
}
