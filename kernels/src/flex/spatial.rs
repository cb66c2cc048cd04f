//! Operators that move, combine or pool voxels.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};

use super::tensors::{contiguous, dimensions, tensor, values};
use crate::cpu::channels;
use crate::cpu::norm::Norm;
use crate::cpu::pool::{MaxPool, spread};
use crate::cpu::resample;
use crate::path::selected;
use crate::resample::AxisMap;

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

pub(super) fn resample(x: FlexTensor, maps: &[AxisMap; 3]) -> FlexTensor {
    let x = contiguous(&x);
    let [batch, .., channels] = dimensions::<5>(&x);
    let [sx, sy, sz] = [0, 1, 2].map(|axis| maps[axis].outputs());
    let out = resample::resample(selected(), values(&x), dimensions(&x), maps);
    tensor(out, &[batch, sx, sy, sz, channels])
}

pub(super) fn tracked_resample<C: CheckpointStrategy>(x: Tracked<C>, maps: &[AxisMap; 3]) -> Tracked<C> {
    let node = x.node();
    let y = resample(x.into_primitive(), maps);
    match ResampleBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(maps.each_ref().map(AxisMap::transposed), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The state are the transposed maps.
#[derive(Debug)]
struct ResampleBackward;

impl Backward<Flex, 1> for ResampleBackward {
    type State = [AxisMap; 3];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let [Some(node)] = ops.parents {
            gradients.register::<Flex>(node.id, resample(gradient, &ops.state));
        }
    }
}

pub(super) fn add_cropped(x: FlexTensor, residual: FlexTensor) -> FlexTensor {
    let (x, residual) = (contiguous(&x), contiguous(&residual));
    let (shape, residual_shape) = (dimensions::<5>(&x), dimensions::<5>(&residual));
    let out = resample::add_cropped(selected(), (values(&x), shape), (values(&residual), residual_shape));
    tensor(out, &shape)
}

pub(super) fn tracked_add_cropped<C: CheckpointStrategy>(x: Tracked<C>, residual: Tracked<C>) -> Tracked<C> {
    let nodes = [x.node(), residual.node()];
    let residual = residual.into_primitive();
    let shape = dimensions::<5>(&residual);
    let y = add_cropped(x.into_primitive(), residual);
    match AddBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(shape, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The state is the shape of the residual.
#[derive(Debug)]
struct AddBackward;

impl Backward<Flex, 2> for AddBackward {
    type State = [usize; 5];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let shape = dimensions::<5>(&gradient);
        let [to_x, to_residual] = ops.parents;
        if let Some(node) = to_residual {
            let result = if shape == ops.state {
                gradient.clone()
            } else {
                tensor(resample::add_cropped_gradient(values(&gradient), shape, ops.state), &ops.state)
            };
            gradients.register::<Flex>(node.id, result);
        }
        if let Some(node) = to_x {
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}

fn pool(x: &FlexTensor, kernel: [usize; 3], stride: [usize; 3]) -> MaxPool {
    let [batch, size @ .., channels] = dimensions::<5>(x);
    MaxPool { batch, size, channels, kernel, stride }
}

/// Maxima and the number of the tap of each.
fn pooled(x: &FlexTensor, sizes: MaxPool) -> (FlexTensor, Vec<u32>) {
    let [ox, oy, oz] = sizes.output_size();
    let (out, taps) = sizes.forward(selected(), values(x));
    (tensor(out, &[sizes.batch, ox, oy, oz, sizes.channels]), taps)
}

pub(super) fn max_pool3d(x: FlexTensor, kernel: [usize; 3], stride: [usize; 3]) -> FlexTensor {
    let x = contiguous(&x);
    pooled(&x, pool(&x, kernel, stride)).0
}

pub(super) fn tracked_max_pool3d<C: CheckpointStrategy>(
    x: Tracked<C>,
    kernel: [usize; 3],
    stride: [usize; 3],
) -> Tracked<C> {
    let node = x.node();
    let x = contiguous(&x.into_primitive());
    let sizes = pool(&x, kernel, stride);
    let (y, taps) = pooled(&x, sizes);
    match MaxPoolBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((sizes, taps), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct MaxPoolBackward;

impl Backward<Flex, 1> for MaxPoolBackward {
    type State = (MaxPool, Vec<u32>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (sizes, taps) = ops.state;
        if let [Some(node)] = ops.parents {
            let result = sizes.backward(selected(), &taps, values(&gradient));
            let [sx, sy, sz] = sizes.size;
            let shape = [sizes.batch, sx, sy, sz, sizes.channels];
            gradients.register::<Flex>(node.id, tensor(result, &shape));
        }
    }
}

/// `mask` is in order in memory.
pub(super) fn multiply_mask(x: FlexTensor, mask: &FlexTensor) -> FlexTensor {
    let x = contiguous(&x);
    let shape = dimensions::<5>(&x);
    tensor(resample::multiply(selected(), (values(&x), shape), (values(mask), dimensions(mask))), &shape)
}

pub(super) fn tracked_multiply_mask<C: CheckpointStrategy>(x: Tracked<C>, mask: Tracked<C>) -> Tracked<C> {
    let node = x.node();
    let mask = contiguous(&mask.into_primitive());
    let y = multiply_mask(x.into_primitive(), &mask);
    match MaskBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(mask, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct MaskBackward;

impl Backward<Flex, 1> for MaskBackward {
    type State = FlexTensor;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let [Some(node)] = ops.parents {
            gradients.register::<Flex>(node.id, multiply_mask(gradient, &ops.state));
        }
    }
}

pub(super) fn global_average(x: FlexTensor) -> FlexTensor {
    let x = contiguous(&x);
    let [batch, size @ .., channels] = dimensions::<5>(&x);
    let norm = Norm { batch, positions: size.iter().product(), channels, epsilon: 0.0 };
    tensor(norm.means(selected(), values(&x)), &[batch, channels])
}

pub(super) fn tracked_global_average<C: CheckpointStrategy>(x: Tracked<C>) -> Tracked<C> {
    let node = x.node();
    let x = x.into_primitive();
    let shape = dimensions::<5>(&x);
    let y = global_average(x);
    match AverageBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(shape, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The state is the shape of the input.
#[derive(Debug)]
struct AverageBackward;

impl Backward<Flex, 1> for AverageBackward {
    type State = [usize; 5];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let [_, size @ .., channels] = ops.state;
        if let [Some(node)] = ops.parents {
            let result = spread(values(&gradient), channels, size.iter().product());
            gradients.register::<Flex>(node.id, tensor(result, &ops.state));
        }
    }
}

pub(super) fn concat(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let (a, b) = (contiguous(&a), contiguous(&b));
    let [batch, x, y, z, a_channels] = dimensions::<5>(&a);
    let [.., b_channels] = dimensions::<5>(&b);
    let out = channels::concat(values(&a), a_channels, values(&b), b_channels);
    tensor(out, &[batch, x, y, z, a_channels + b_channels])
}

pub(super) fn tracked_concat<C: CheckpointStrategy>(a: Tracked<C>, b: Tracked<C>) -> Tracked<C> {
    let nodes = [a.node(), b.node()];
    let (a, b) = (a.into_primitive(), b.into_primitive());
    let shapes = [dimensions::<5>(&a), dimensions::<5>(&b)];
    let y = concat(a, b);
    match ConcatBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(shapes, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct ConcatBackward;

impl Backward<Flex, 2> for ConcatBackward {
    type State = [[usize; 5]; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let [a, b] = ops.state;
        let (to_a, to_b) = channels::split(values(&gradient), a[4], b[4]);
        for (node, values, shape) in
            ops.parents.into_iter().zip([(to_a, a), (to_b, b)]).map(|(n, (v, s))| (n, v, s))
        {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, tensor(values, &shape));
            }
        }
    }
}
