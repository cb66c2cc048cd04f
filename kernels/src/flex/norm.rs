//! Instance norm, batch norm and bias with a nonlinearity.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::TensorData;

use super::tensors::{contiguous, dimensions, tensor, values};
use crate::cpu::norm::{Norm, Origin, Parameters, Statistics};
use crate::settings::Settings;

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

/// Input, weight, bias and slope, in order in memory.
type Inputs = [FlexTensor; 4];

fn instance(x: &FlexTensor, epsilon: f64) -> Norm {
    let [batch, size @ .., channels] = dimensions::<5>(x);
    Norm { batch, positions: size.iter().product(), channels, epsilon }
}

/// The whole batch as one sample.
fn batch(x: &FlexTensor, epsilon: f64) -> Norm {
    let norm = instance(x, epsilon);
    Norm { batch: 1, positions: norm.batch * norm.positions, ..norm }
}

fn parameters([_, weight, bias, slope]: &Inputs) -> Parameters<'_> {
    Parameters { weight: values(weight), bias: values(bias), slope: values(slope) }
}

fn forward(settings: &Settings, norm: Norm, inputs: &Inputs, statistics: &Statistics) -> FlexTensor {
    let x = &inputs[0];
    tensor(norm.forward(settings, values(x), parameters(inputs), statistics), &dimensions::<5>(x))
}

fn vector(values: &[f32]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values.to_vec(), [values.len()]))
}

/// The inputs of an instance norm with one slope for all channels.
fn with_slope([x, weight, bias]: [FlexTensor; 3], slope: f64) -> Inputs {
    let [.., channels] = dimensions::<5>(&x);
    [contiguous(&x), contiguous(&weight), contiguous(&bias), vector(&vec![slope as f32; channels])]
}

pub(super) fn instance_norm(
    settings: &Settings,
    inputs: [FlexTensor; 3],
    epsilon: f64,
    slope: f64,
) -> FlexTensor {
    let inputs = with_slope(inputs, slope);
    let norm = instance(&inputs[0], epsilon);
    forward(settings, norm, &inputs, &norm.statistics(settings, values(&inputs[0])))
}

pub(super) fn tracked_instance_norm<C: CheckpointStrategy>(
    settings: Settings,
    inputs: [Tracked<C>; 3],
    epsilon: f64,
    slope: f64,
) -> Tracked<C> {
    let nodes = inputs.each_ref().map(Tracked::<C>::node);
    let inputs = with_slope(inputs.map(Tracked::<C>::into_primitive), slope);
    let norm = instance(&inputs[0], epsilon);
    let statistics = norm.statistics(&settings, values(&inputs[0]));
    let y = forward(&settings, norm, &inputs, &statistics);
    match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, norm, inputs, statistics, Origin::Input), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// Output, mean and variance.
pub(super) fn batch_norm(
    settings: &Settings,
    inputs: Inputs,
    epsilon: f64,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let inputs = inputs.map(|tensor| contiguous(&tensor));
    let norm = batch(&inputs[0], epsilon);
    let statistics = norm.statistics(settings, values(&inputs[0]));
    (forward(settings, norm, &inputs, &statistics), vector(&statistics.mean), vector(&statistics.variance))
}

pub(super) fn tracked_batch_norm<C: CheckpointStrategy>(
    settings: Settings,
    inputs: [Tracked<C>; 4],
    epsilon: f64,
) -> (Tracked<C>, Tracked<C>, Tracked<C>) {
    let nodes = inputs.each_ref().map(Tracked::<C>::node);
    let inputs = inputs.map(|tensor| contiguous(&tensor.into_primitive()));
    let norm = batch(&inputs[0], epsilon);
    let statistics = norm.statistics(&settings, values(&inputs[0]));
    let y = forward(&settings, norm, &inputs, &statistics);
    let [mean, variance] =
        [&statistics.mean, &statistics.variance].map(|values| Tracked::<C>::new(vector(values)));
    let y = match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, norm, inputs, statistics, Origin::Input), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    };
    (y, mean, variance)
}

fn given(norm: &Norm, statistics: [FlexTensor; 2]) -> Statistics {
    let [mean, variance] = statistics.map(|tensor| contiguous(&tensor));
    norm.given(values(&mean), values(&variance))
}

pub(super) fn batch_norm_fixed(
    settings: &Settings,
    inputs: Inputs,
    statistics: [FlexTensor; 2],
    epsilon: f64,
) -> FlexTensor {
    let inputs = inputs.map(|tensor| contiguous(&tensor));
    let norm = batch(&inputs[0], epsilon);
    forward(settings, norm, &inputs, &given(&norm, statistics))
}

pub(super) fn tracked_batch_norm_fixed<C: CheckpointStrategy>(
    settings: Settings,
    inputs: [Tracked<C>; 4],
    statistics: [Tracked<C>; 2],
    epsilon: f64,
) -> Tracked<C> {
    let nodes = inputs.each_ref().map(Tracked::<C>::node);
    let inputs = inputs.map(|tensor| contiguous(&tensor.into_primitive()));
    let norm = batch(&inputs[0], epsilon);
    let statistics = given(&norm, statistics.map(Tracked::<C>::into_primitive));
    let y = forward(&settings, norm, &inputs, &statistics);
    match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, norm, inputs, statistics, Origin::Given), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// For the input and as many of weight, bias and slope as are differentiable.
#[derive(Debug)]
struct NormBackward;

impl<const N: usize> Backward<Flex, N> for NormBackward {
    type State = (Settings, Norm, Inputs, Statistics, Origin);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, norm, inputs, statistics, origin) = ops.state;
        let x = &inputs[0];
        let result = norm.backward(
            &settings,
            values(x),
            parameters(&inputs),
            (&statistics, origin),
            values(&gradient),
        );
        let results = [result.x, result.weight, result.bias, result.slope];
        for (index, (node, values)) in ops.parents.into_iter().zip(results).enumerate() {
            if let Some(node) = node {
                let shape = if index == 0 { dimensions::<5>(x).to_vec() } else { vec![norm.channels] };
                gradients.register::<Flex>(node.id, tensor(values, &shape));
            }
        }
    }
}
