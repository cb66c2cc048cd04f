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
use crate::resample::AxisMap;
use crate::settings::Settings;

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

pub(super) fn resample(settings: &Settings, x: FlexTensor, maps: &[AxisMap; 3]) -> FlexTensor {
    let x = contiguous(&x);
    let [batch, .., channels] = dimensions::<5>(&x);
    let [sx, sy, sz] = [0, 1, 2].map(|axis| maps[axis].outputs());
    let out = resample::resample(settings, values(&x), dimensions(&x), maps);
    tensor(out, &[batch, sx, sy, sz, channels])
}

pub(super) fn tracked_resample<C: CheckpointStrategy>(
    settings: Settings,
    x: Tracked<C>,
    maps: &[AxisMap; 3],
) -> Tracked<C> {
    let node = x.node();
    let y = resample(&settings, x.into_primitive(), maps);
    match ResampleBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let transposed = maps.each_ref().map(AxisMap::transposed);
            prepared.finish((settings, transposed), y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The state has the transposed maps.
#[derive(Debug)]
struct ResampleBackward;

impl Backward<Flex, 1> for ResampleBackward {
    type State = (Settings, [AxisMap; 3]);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let [Some(node)] = ops.parents {
            let (settings, maps) = ops.state;
            gradients.register::<Flex>(node.id, resample(&settings, gradient, &maps));
        }
    }
}

pub(super) fn add_cropped(settings: &Settings, x: FlexTensor, residual: FlexTensor) -> FlexTensor {
    let (x, residual) = (contiguous(&x), contiguous(&residual));
    let (shape, residual_shape) = (dimensions::<5>(&x), dimensions::<5>(&residual));
    let out = resample::add_cropped(settings, (values(&x), shape), (values(&residual), residual_shape));
    tensor(out, &shape)
}

pub(super) fn tracked_add_cropped<C: CheckpointStrategy>(
    settings: Settings,
    x: Tracked<C>,
    residual: Tracked<C>,
) -> Tracked<C> {
    let nodes = [x.node(), residual.node()];
    let residual = residual.into_primitive();
    let shape = dimensions::<5>(&residual);
    let y = add_cropped(&settings, x.into_primitive(), residual);
    match AddBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, shape), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The state has the shape of the residual.
#[derive(Debug)]
struct AddBackward;

impl Backward<Flex, 2> for AddBackward {
    type State = (Settings, [usize; 5]);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, residual_shape) = ops.state;
        let shape = dimensions::<5>(&gradient);
        let [to_x, to_residual] = ops.parents;
        if let Some(node) = to_residual {
            let result = if shape == residual_shape {
                gradient.clone()
            } else {
                let result =
                    resample::add_cropped_gradient(&settings, values(&gradient), shape, residual_shape);
                tensor(result, &residual_shape)
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
fn pooled(settings: &Settings, x: &FlexTensor, sizes: MaxPool) -> (FlexTensor, Vec<u32>) {
    let [ox, oy, oz] = sizes.output_size();
    let (out, taps) = sizes.forward(settings, values(x));
    (tensor(out, &[sizes.batch, ox, oy, oz, sizes.channels]), taps)
}

pub(super) fn max_pool3d(
    settings: &Settings,
    x: FlexTensor,
    kernel: [usize; 3],
    stride: [usize; 3],
) -> FlexTensor {
    let x = contiguous(&x);
    pooled(settings, &x, pool(&x, kernel, stride)).0
}

pub(super) fn tracked_max_pool3d<C: CheckpointStrategy>(
    settings: Settings,
    x: Tracked<C>,
    kernel: [usize; 3],
    stride: [usize; 3],
) -> Tracked<C> {
    let node = x.node();
    let x = contiguous(&x.into_primitive());
    let sizes = pool(&x, kernel, stride);
    let (y, taps) = pooled(&settings, &x, sizes);
    match MaxPoolBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, sizes, taps), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct MaxPoolBackward;

impl Backward<Flex, 1> for MaxPoolBackward {
    type State = (Settings, MaxPool, Vec<u32>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, sizes, taps) = ops.state;
        if let [Some(node)] = ops.parents {
            let result = sizes.backward(&settings, &taps, values(&gradient));
            let [sx, sy, sz] = sizes.size;
            let shape = [sizes.batch, sx, sy, sz, sizes.channels];
            gradients.register::<Flex>(node.id, tensor(result, &shape));
        }
    }
}

/// `mask` is in order in memory.
pub(super) fn multiply_mask(settings: &Settings, x: FlexTensor, mask: &FlexTensor) -> FlexTensor {
    let x = contiguous(&x);
    let shape = dimensions::<5>(&x);
    tensor(resample::multiply(settings, (values(&x), shape), (values(mask), dimensions(mask))), &shape)
}

pub(super) fn tracked_multiply_mask<C: CheckpointStrategy>(
    settings: Settings,
    x: Tracked<C>,
    mask: Tracked<C>,
) -> Tracked<C> {
    let node = x.node();
    let mask = contiguous(&mask.into_primitive());
    let y = multiply_mask(&settings, x.into_primitive(), &mask);
    match MaskBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, mask), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct MaskBackward;

impl Backward<Flex, 1> for MaskBackward {
    type State = (Settings, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let [Some(node)] = ops.parents {
            let (settings, mask) = ops.state;
            gradients.register::<Flex>(node.id, multiply_mask(&settings, gradient, &mask));
        }
    }
}

pub(super) fn global_average(settings: &Settings, x: FlexTensor) -> FlexTensor {
    let x = contiguous(&x);
    let [batch, size @ .., channels] = dimensions::<5>(&x);
    let norm = Norm { batch, positions: size.iter().product(), channels, epsilon: 0.0 };
    tensor(norm.means(settings, values(&x)), &[batch, channels])
}

pub(super) fn tracked_global_average<C: CheckpointStrategy>(settings: Settings, x: Tracked<C>) -> Tracked<C> {
    let node = x.node();
    let x = x.into_primitive();
    let shape = dimensions::<5>(&x);
    let y = global_average(&settings, x);
    match AverageBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, shape), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

/// The state has the shape of the input.
#[derive(Debug)]
struct AverageBackward;

impl Backward<Flex, 1> for AverageBackward {
    type State = (Settings, [usize; 5]);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, shape) = ops.state;
        let [_, size @ .., channels] = shape;
        if let [Some(node)] = ops.parents {
            let result = spread(&settings, values(&gradient), channels, size.iter().product());
            gradients.register::<Flex>(node.id, tensor(result, &shape));
        }
    }
}

pub(super) fn concat(settings: &Settings, a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let (a, b) = (contiguous(&a), contiguous(&b));
    let [batch, x, y, z, a_channels] = dimensions::<5>(&a);
    let [.., b_channels] = dimensions::<5>(&b);
    let out = channels::concat(settings, values(&a), a_channels, values(&b), b_channels);
    tensor(out, &[batch, x, y, z, a_channels + b_channels])
}

pub(super) fn tracked_concat<C: CheckpointStrategy>(
    settings: Settings,
    a: Tracked<C>,
    b: Tracked<C>,
) -> Tracked<C> {
    let nodes = [a.node(), b.node()];
    let (a, b) = (a.into_primitive(), b.into_primitive());
    let shapes = [dimensions::<5>(&a), dimensions::<5>(&b)];
    let y = concat(&settings, a, b);
    match ConcatBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((settings, shapes), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }
}

#[derive(Debug)]
struct ConcatBackward;

impl Backward<Flex, 2> for ConcatBackward {
    type State = (Settings, [[usize; 5]; 2]);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (settings, [a, b]) = ops.state;
        let (to_a, to_b) = channels::split(&settings, values(&gradient), a[4], b[4]);
        for (node, values, shape) in
            ops.parents.into_iter().zip([(to_a, a), (to_b, b)]).map(|(n, (v, s))| (n, v, s))
        {
            if let Some(node) = node {
                gradients.register::<Flex>(node.id, tensor(values, &shape));
            }
        }
    }
}
