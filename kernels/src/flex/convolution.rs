//! Convolution and transposed convolution.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};

use super::tensors::{contiguous, dimensions, tensor, values};
use crate::cpu::convolution::{Convolution, Transposed, sum_per_channel};
use crate::settings::Settings;

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

fn convolution(x: &FlexTensor, weight: &FlexTensor, stride: [usize; 3], padding: [usize; 3]) -> Convolution {
    let [batch, size @ .., input] = dimensions::<5>(x);
    let [output, _, kernel @ ..] = dimensions::<5>(weight);
    Convolution { batch, size, input, output, kernel, stride, padding }
}

fn transposed(x: &FlexTensor, weight: &FlexTensor) -> Transposed {
    let [batch, size @ .., input] = dimensions::<5>(x);
    let [_, output, kernel @ ..] = dimensions::<5>(weight);
    Transposed { batch, size, input, output, kernel }
}

pub(super) fn conv3d(
    settings: &Settings,
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    stride: [usize; 3],
    padding: [usize; 3],
) -> FlexTensor {
    let (x, weight, bias) = (contiguous(&x), contiguous(&weight), contiguous(&bias));
    let sizes = convolution(&x, &weight, stride, padding);
    let [ox, oy, oz] = sizes.output_size();
    let out = sizes.forward(settings, values(&x), values(&weight), values(&bias));
    tensor(out, &[sizes.batch, ox, oy, oz, sizes.output])
}

pub(super) fn tracked_conv3d<C: CheckpointStrategy>(
    settings: Settings,
    [x, weight, bias]: [Tracked<C>; 3],
    stride: [usize; 3],
    padding: [usize; 3],
) -> Tracked<C> {
    let nodes = [x.node(), weight.node(), bias.node()];
    let (x, weight) = (contiguous(x.primitive()), contiguous(weight.primitive()));
    let y = conv3d(&settings, x.clone(), weight.clone(), bias.into_primitive(), stride, padding);
    match ConvolutionBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, x, weight, stride, padding), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

pub(super) fn conv_transpose3d(
    settings: &Settings,
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
) -> FlexTensor {
    let (x, weight, bias) = (contiguous(&x), contiguous(&weight), contiguous(&bias));
    let sizes = transposed(&x, &weight);
    let [ox, oy, oz] = sizes.output_size();
    let out = sizes.forward(settings, values(&x), values(&weight), values(&bias));
    tensor(out, &[sizes.batch, ox, oy, oz, sizes.output])
}

pub(super) fn tracked_conv_transpose3d<C: CheckpointStrategy>(
    settings: Settings,
    [x, weight, bias]: [Tracked<C>; 3],
) -> Tracked<C> {
    let nodes = [x.node(), weight.node(), bias.node()];
    let (x, weight) = (contiguous(x.primitive()), contiguous(weight.primitive()));
    let y = conv_transpose3d(&settings, x.clone(), weight.clone(), bias.into_primitive());
    match TransposedBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, x, weight), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Flex, 3> for ConvolutionBackward {
    type State = (Settings, FlexTensor, FlexTensor, [usize; 3], [usize; 3]);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, x, weight, stride, padding) = ops.state;
        let sizes = convolution(&x, &weight, stride, padding);
        let [to_x, to_weight, to_bias] = ops.parents;
        if let Some(node) = to_weight {
            let result = sizes.weight_gradient(&settings, values(&x), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&weight)));
        }
        if let Some(node) = to_bias {
            let result = sum_per_channel(&settings, values(&gradient), sizes.output);
            gradients.register::<Flex>(node.id, tensor(result, &[sizes.output]));
        }
        if let Some(node) = to_x {
            let result = sizes.input_gradient(&settings, values(&weight), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&x)));
        }
    }
}

#[derive(Debug)]
struct TransposedBackward;

impl Backward<Flex, 3> for TransposedBackward {
    type State = (Settings, FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, x, weight) = ops.state;
        let sizes = transposed(&x, &weight);
        let [to_x, to_weight, to_bias] = ops.parents;
        if let Some(node) = to_weight {
            let result = sizes.weight_gradient(&settings, values(&x), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&weight)));
        }
        if let Some(node) = to_bias {
            let result = sum_per_channel(&settings, values(&gradient), sizes.output);
            gradients.register::<Flex>(node.id, tensor(result, &[sizes.output]));
        }
        if let Some(node) = to_x {
            let result = sizes.input_gradient(&settings, values(&weight), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&x)));
        }
    }
}
