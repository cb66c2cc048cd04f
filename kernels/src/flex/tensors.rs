//! burn's tensors as the slices that the kernels take, and back.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Shape, TensorData};

use crate::cpu::buffer::Buffer;

/// The values of a tensor in order, copied only if the tensor is a view that is not.
pub(super) fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    assert_eq!(tensor.dtype(), DType::F32, "the kernels take f32");
    tensor.to_contiguous()
}

pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor was made contiguous")
}

pub(super) fn tensor(values: Buffer, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::from_bytes(values.into(), Shape::from(shape.to_vec()), DType::F32))
}

pub(super) fn dimensions<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    std::array::from_fn(|axis| tensor.layout().shape()[axis])
}
