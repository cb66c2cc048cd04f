//! Softmax and the sums of which losses are made.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Flex};
use burn::tensor::{IntDType, TensorData};

use super::tensors::{contiguous, dimensions, tensor, values};
use crate::cpu::loss::{self, Labels, Rule, Sums};
use crate::settings::Settings;
use crate::voxel_loss::{UNLABELLED, VoxelLoss};

/// Class numbers as bytes.
fn class_numbers(target: FlexTensor, classes: usize) -> Vec<u8> {
    let target = Flex::int_cast(target, IntDType::I32).to_contiguous();
    let numbers: &[i32] = target.as_slice().expect("the tensor was made contiguous");
    let number = |&number: &i32| match u8::try_from(number) {
        Ok(class) if usize::from(class) < classes || usize::from(class) >= UNLABELLED => class,
        _ => panic!("segmentation_sums: the target holds {number}, which is not one of {classes} classes"),
    };
    numbers.iter().map(number).collect()
}

/// Labels as the kernels take them; a share of 1 is no mixture.
fn labels(first: FlexTensor, second: FlexTensor, share: f32, classes: usize) -> Labels {
    let second = (share != 1.0).then(|| class_numbers(second, classes));
    Labels { first: class_numbers(first, classes), second, share }
}

fn sums(logits: &FlexTensor) -> Sums {
    let [batch, size @ .., classes] = dimensions::<5>(logits);
    Sums { batch, voxels: size.iter().product(), classes }
}

pub(super) fn softmax(settings: &Settings, logits: FlexTensor) -> FlexTensor {
    let logits = contiguous(&logits);
    let shape = dimensions::<5>(&logits);
    tensor(loss::softmax(settings, values(&logits), shape[4]), &shape)
}

pub(super) fn segmentation_sums(
    settings: &Settings,
    logits: FlexTensor,
    [first, second]: [FlexTensor; 2],
    share: f32,
    loss: &VoxelLoss,
) -> FlexTensor {
    let logits = contiguous(&logits);
    let sizes = sums(&logits);
    let labels = labels(first, second, share, sizes.classes);
    let rule = Rule::new(loss, sizes.classes);
    let (sums, _) = sizes.forward(settings, values(&logits), &labels, &rule);
    FlexTensor::from_data(TensorData::new(sums, [sizes.batch, sizes.columns()]))
}

pub(super) fn tracked_segmentation_sums<C: CheckpointStrategy>(
    settings: Settings,
    logits: FloatTensor<Autodiff<Flex, C>>,
    [first, second]: [IntTensor<Autodiff<Flex, C>>; 2],
    share: f32,
    loss: &VoxelLoss,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = [logits.node()];
    let logits = contiguous(&logits.into_primitive());
    let sizes = sums(&logits);
    let labels = labels(first, second, share, sizes.classes);
    let rule = Rule::new(loss, sizes.classes);
    let (out, probabilities) = sizes.forward(&settings, values(&logits), &labels, &rule);
    let out = FlexTensor::from_data(TensorData::new(out, [sizes.batch, sizes.columns()]));
    match SumsBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let probabilities = tensor(probabilities, &dimensions::<5>(&logits));
            prepared.finish((settings, sizes, probabilities, labels, rule), out)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    }
}

#[derive(Debug)]
struct SumsBackward;

impl Backward<Flex, 1> for SumsBackward {
    type State = (Settings, Sums, FlexTensor, Labels, Rule);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, sizes, probabilities, labels, rule) = ops.state;
        if let [Some(node)] = ops.parents {
            let result = sizes.backward(&settings, values(&probabilities), &labels, &rule, values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&probabilities)));
        }
    }
}
