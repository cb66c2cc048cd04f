//! The operators on burn's CPU backend: the kernels of this crate, and for autodiff what they keep and how they send
//! gradients back.

mod norm;
mod spatial;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, IntDType, Shape, TensorData};

use crate::cpu::buffer::Buffer;
use crate::cpu::channels;
use crate::cpu::convolution::{Convolution, Transposed, sum_per_channel};
use crate::cpu::loss::{self, Labels, Rule, Sums};
use crate::resample::AxisMap;
use crate::{NetworkOps, Path, UNLABELLED, VoxelLoss, selected, stock};

/// The values of a tensor in order, copied only if the tensor is a view that is not.
fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    assert_eq!(tensor.dtype(), DType::F32, "the kernels take f32");
    tensor.to_contiguous()
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor was made contiguous")
}

fn tensor(values: Buffer, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::from_bytes(values.into(), Shape::from(shape.to_vec()), DType::F32))
}

fn dimensions<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    std::array::from_fn(|axis| tensor.layout().shape()[axis])
}

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

fn sums(logits: &FlexTensor) -> Sums {
    let [batch, size @ .., classes] = dimensions::<5>(logits);
    Sums { batch, voxels: size.iter().product(), classes }
}

fn concat(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    let (a, b) = (contiguous(&a), contiguous(&b));
    let [batch, x, y, z, a_channels] = dimensions::<5>(&a);
    let [.., b_channels] = dimensions::<5>(&b);
    let out = channels::concat(values(&a), a_channels, values(&b), b_channels);
    tensor(out, &[batch, x, y, z, a_channels + b_channels])
}

impl NetworkOps for Flex {
    fn network_conv3d(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::conv3d::<Self>(x, weight, bias, stride, padding);
        }
        let (x, weight, bias) = (contiguous(&x), contiguous(&weight), contiguous(&bias));
        let sizes = convolution(&x, &weight, stride, padding);
        let [ox, oy, oz] = sizes.output_size();
        let out = sizes.forward(selected(), values(&x), values(&weight), values(&bias));
        tensor(out, &[sizes.batch, ox, oy, oz, sizes.output])
    }

    fn network_conv_transpose3d(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::conv_transpose3d::<Self>(x, weight, bias);
        }
        let (x, weight, bias) = (contiguous(&x), contiguous(&weight), contiguous(&bias));
        let sizes = transposed(&x, &weight);
        let [ox, oy, oz] = sizes.output_size();
        let out = sizes.forward(selected(), values(&x), values(&weight), values(&bias));
        tensor(out, &[sizes.batch, ox, oy, oz, sizes.output])
    }

    fn network_instance_norm_leaky_relu(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        epsilon: f64,
        slope: f64,
    ) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::instance_norm_leaky_relu::<Self>(x, weight, bias, epsilon, slope);
        }
        norm::instance_norm([x, weight, bias], epsilon, slope)
    }

    fn network_concat(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::concat::<Self>(a, b);
        }
        concat(a, b)
    }

    fn network_softmax(logits: FlexTensor) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::softmax::<Self>(logits);
        }
        let logits = contiguous(&logits);
        let shape = dimensions::<5>(&logits);
        tensor(loss::softmax(selected(), values(&logits), shape[4]), &shape)
    }

    fn network_segmentation_sums(
        logits: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        share: f32,
        loss: VoxelLoss,
    ) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::segmentation_sums::<Self>(logits, first, second, share, &loss);
        }
        let logits = contiguous(&logits);
        let sizes = sums(&logits);
        let labels = labels(first, second, share, sizes.classes);
        let rule = Rule::new(&loss, sizes.classes);
        let (sums, _) = sizes.forward(selected(), values(&logits), &labels, &rule);
        FlexTensor::from_data(TensorData::new(sums, [sizes.batch, sizes.columns()]))
    }

    fn network_batch_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        slope: FlexTensor,
        epsilon: f64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        if selected() == Path::Stock {
            return stock::batch_norm::<Self>(x, weight, bias, slope, epsilon);
        }
        norm::batch_norm([x, weight, bias, slope], epsilon)
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
        if selected() == Path::Stock {
            return stock::batch_norm_fixed::<Self>(x, weight, bias, mean, variance, slope, epsilon);
        }
        norm::batch_norm_fixed([x, weight, bias, slope], [mean, variance], epsilon)
    }

    fn network_resample(x: FlexTensor, maps: [AxisMap; 3]) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::resample::<Self>(x, &maps);
        }
        spatial::resample(x, &maps)
    }

    fn network_add_cropped(x: FlexTensor, residual: FlexTensor) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::add_cropped::<Self>(x, residual);
        }
        spatial::add_cropped(x, residual)
    }

    fn network_max_pool3d(x: FlexTensor, kernel: [usize; 3], stride: [usize; 3]) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::max_pool3d::<Self>(x, kernel, stride);
        }
        spatial::max_pool3d(x, kernel, stride)
    }

    fn network_multiply_mask(x: FlexTensor, mask: FlexTensor) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::multiply_mask::<Self>(x, mask);
        }
        spatial::multiply_mask(x, &contiguous(&mask))
    }

    fn network_global_average(x: FlexTensor) -> FlexTensor {
        if selected() == Path::Stock {
            return stock::global_average::<Self>(x);
        }
        spatial::global_average(x)
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
        if selected() == Path::Stock {
            return stock::conv3d::<Self>(x, weight, bias, stride, padding);
        }
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight) = (contiguous(x.primitive()), contiguous(weight.primitive()));
        let y = Flex::network_conv3d(x.clone(), weight.clone(), bias.into_primitive(), stride, padding);
        match ConvolutionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, weight, stride, padding), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn network_conv_transpose3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::conv_transpose3d::<Self>(x, weight, bias);
        }
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight) = (contiguous(x.primitive()), contiguous(weight.primitive()));
        let y = Flex::network_conv_transpose3d(x.clone(), weight.clone(), bias.into_primitive());
        match TransposedBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, weight), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn network_instance_norm_leaky_relu(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        slope: f64,
    ) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::instance_norm_leaky_relu::<Self>(x, weight, bias, epsilon, slope);
        }
        norm::tracked_instance_norm::<C>([x, weight, bias], epsilon, slope)
    }

    fn network_concat(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::concat::<Self>(a, b);
        }
        let nodes = [a.node(), b.node()];
        let (a, b) = (a.into_primitive(), b.into_primitive());
        let shapes = [dimensions::<5>(&a), dimensions::<5>(&b)];
        let y = concat(a, b);
        match ConcatBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(shapes, y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn network_segmentation_sums(
        logits: FloatTensor<Self>,
        first: IntTensor<Self>,
        second: IntTensor<Self>,
        share: f32,
        loss: VoxelLoss,
    ) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::segmentation_sums::<Self>(logits, first, second, share, &loss);
        }
        let nodes = [logits.node()];
        let logits = contiguous(&logits.into_primitive());
        let sizes = sums(&logits);
        let labels = labels(first, second, share, sizes.classes);
        let rule = Rule::new(&loss, sizes.classes);
        let (out, probabilities) = sizes.forward(selected(), values(&logits), &labels, &rule);
        let out = FlexTensor::from_data(TensorData::new(out, [sizes.batch, sizes.columns()]));
        match SumsBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let probabilities = tensor(probabilities, &dimensions::<5>(&logits));
                prepared.finish((sizes, probabilities, labels, rule), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn network_batch_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if selected() == Path::Stock {
            return stock::batch_norm::<Self>(x, weight, bias, slope, epsilon);
        }
        norm::tracked_batch_norm::<C>([x, weight, bias, slope], epsilon)
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
        if selected() == Path::Stock {
            return stock::batch_norm_fixed::<Self>(x, weight, bias, mean, variance, slope, epsilon);
        }
        norm::tracked_batch_norm_fixed::<C>([x, weight, bias, slope], [mean, variance], epsilon)
    }

    fn network_resample(x: FloatTensor<Self>, maps: [AxisMap; 3]) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::resample::<Self>(x, &maps);
        }
        spatial::tracked_resample::<C>(x, &maps)
    }

    fn network_add_cropped(x: FloatTensor<Self>, residual: FloatTensor<Self>) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::add_cropped::<Self>(x, residual);
        }
        spatial::tracked_add_cropped::<C>(x, residual)
    }

    fn network_max_pool3d(x: FloatTensor<Self>, kernel: [usize; 3], stride: [usize; 3]) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::max_pool3d::<Self>(x, kernel, stride);
        }
        spatial::tracked_max_pool3d::<C>(x, kernel, stride)
    }

    fn network_multiply_mask(x: FloatTensor<Self>, mask: FloatTensor<Self>) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::multiply_mask::<Self>(x, mask);
        }
        spatial::tracked_multiply_mask::<C>(x, mask)
    }

    fn network_global_average(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if selected() == Path::Stock {
            return stock::global_average::<Self>(x);
        }
        spatial::tracked_global_average::<C>(x)
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Flex, 3> for ConvolutionBackward {
    type State = (FlexTensor, FlexTensor, [usize; 3], [usize; 3]);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (x, weight, stride, padding) = ops.state;
        let sizes = convolution(&x, &weight, stride, padding);
        let [to_x, to_weight, to_bias] = ops.parents;
        if let Some(node) = to_weight {
            let result = sizes.weight_gradient(selected(), values(&x), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&weight)));
        }
        if let Some(node) = to_bias {
            let result = sum_per_channel(selected(), values(&gradient), sizes.output);
            gradients.register::<Flex>(node.id, tensor(result, &[sizes.output]));
        }
        if let Some(node) = to_x {
            let result = sizes.input_gradient(selected(), values(&weight), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&x)));
        }
    }
}

#[derive(Debug)]
struct TransposedBackward;

impl Backward<Flex, 3> for TransposedBackward {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (x, weight) = ops.state;
        let sizes = transposed(&x, &weight);
        let [to_x, to_weight, to_bias] = ops.parents;
        if let Some(node) = to_weight {
            let result = sizes.weight_gradient(selected(), values(&x), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&weight)));
        }
        if let Some(node) = to_bias {
            let result = sum_per_channel(selected(), values(&gradient), sizes.output);
            gradients.register::<Flex>(node.id, tensor(result, &[sizes.output]));
        }
        if let Some(node) = to_x {
            let result = sizes.input_gradient(selected(), values(&weight), values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&x)));
        }
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

#[derive(Debug)]
struct SumsBackward;

impl Backward<Flex, 1> for SumsBackward {
    type State = (Sums, FlexTensor, Labels, Rule);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(&gradients.consume::<Flex>(&ops.node));
        let (sizes, probabilities, labels, rule) = ops.state;
        if let [Some(node)] = ops.parents {
            let result =
                sizes.backward(selected(), values(&probabilities), &labels, &rule, values(&gradient));
            gradients.register::<Flex>(node.id, tensor(result, &dimensions::<5>(&probabilities)));
        }
    }
}
