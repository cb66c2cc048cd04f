//! The operators against references.

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use segen_kernels as kernels;
use segen_kernels::Activation;

#[test]
fn a_small_network_learns() {
    let device = Device::flex().autodiff();
    let x = Tensor::<5>::random([2, 2, 6, 5, 7], Distribution::Default, &device);
    let target =
        Tensor::<4, Int>::from_data(TensorData::new(vec![1_i32; 2 * 6 * 5 * 7], [2, 6, 5, 7]), &device);
    let random = |shape: [usize; 5]| {
        Tensor::<5>::random(shape, Distribution::Normal(0.0, 0.3), &device).require_grad()
    };
    let (w1, w2) = (random([4, 2, 3, 3, 3]), random([3, 4, 1, 1, 1]));
    let (scale, shift) =
        (Tensor::<1>::ones([4], &device).require_grad(), Tensor::<1>::zeros([4], &device).require_grad());
    let y = kernels::conv3d(Activation::from_channels_first(x), w1.clone(), None, [1; 3], [1; 3]);
    let y = kernels::instance_norm_leaky_relu(y, scale.clone(), shift.clone(), 1e-5, 0.01);
    let logits = kernels::conv3d(y, w2.clone(), None, [1; 3], [0; 3]);
    let sums = kernels::segmentation_sums(logits, target);
    assert_eq!(sums.dims(), [2, 11]);
    let loss = sums.clone().slice([0..2, 0..1]).sum();
    let gradients = loss.backward();
    assert!(
        w1.grad(&gradients).is_some() && scale.grad(&gradients).is_some() && shift.grad(&gradients).is_some()
    );
    let valid = sums.inner().slice([0..2, 10..11]).into_data().try_into_vec::<f32>().unwrap();
    assert_eq!(valid, vec![210.0, 210.0]);
}
