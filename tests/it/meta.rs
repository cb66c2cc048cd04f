//! Tests of `segen::learn::meta` against automatic differentiation; see tests/reference/make_meta.py.

use burn::tensor::activation::{leaky_relu, log_softmax};
use burn::tensor::module::{conv_transpose3d, conv3d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Device, Tensor, TensorData};
use segen::batch::{Batch, Input};
use segen::config::DiceReduction;
use segen::config::published::Difference;
use segen::learn::loss::{DICE_SMOOTH, Loss};
use segen::learn::meta::{Displacement, Losses, Meta, look_ahead};
use segen::learn::objective::Objective;
use segen::network::UNetShape;
use segen::network::{Network, UNet};

use crate::networks::{filled, uniform, weights};
use crate::support;

const EDGE: usize = 8;

pub(crate) fn network() -> Network {
    let shape = UNetShape {
        features: vec![4, 6],
        strides: vec![[1; 3], [2; 3]],
        kernels: vec![[3; 3]; 2],
        convolutions: 1,
    };
    Network::UNet(UNet { channels: 2, classes: 3, shape, deep_supervision: false })
}

fn batch(size: usize, stream: u32) -> Batch {
    let voxels = EDGE.pow(3);
    let labels = uniform(size * voxels, stream + 1);
    let label = |u: &f64| if *u < 0.2 { 0 } else { 1 + u8::from(*u >= 0.7) };
    Batch {
        step: 0,
        inputs: vec![Input {
            values: filled(size * 2 * voxels, stream, 3f64.sqrt(), 0.0),
            shape: [size, 2, EDGE, EDGE, EDGE],
        }],
        labels: labels.iter().map(label).collect(),
        label_shape: [size, EDGE, EDGE, EDGE],
        cases: vec!["case".to_owned(); size],
        centre_classes: vec![0; size],
        sought: vec![None; size],
        chosen: vec![],
        mixture: None,
        twin: None,
        class_voxels: vec![0; 3],
        seconds: 0.0,
    }
}

fn objective<'a>(network: &'a Network, device: &'a Device, reduction: DiceReduction) -> Objective<'a> {
    let loss = Loss { cross_entropy: 1.0, dice: 1.0, reduction, ..Loss::default() };
    Objective { network, loss, device, seed: 0 }
}

/// PyTorch's values.
struct Reference(serde_json::Value);

impl Reference {
    fn read() -> Self {
        let text = std::fs::read_to_string(support::data("meta.json")).unwrap();
        Self(serde_json::from_str(&text).unwrap())
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.0[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn number(&self, key: &str) -> f64 {
        self.0[key].as_f64().unwrap()
    }

    /// How far dL_val / dw_b = -rate / B S_b are from the reference, relative to its norm.
    fn error(&self, alignments: &[f64]) -> f64 {
        let theirs = self.numbers("weight_gradient");
        assert_eq!(alignments.len(), theirs.len());
        let scale = -self.number("rate") / theirs.len() as f64;
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        norm(&mut alignments.iter().zip(&theirs).map(|(s, t)| scale * s - t))
            / norm(&mut theirs.iter().copied())
    }
}

/// Alignments by the program's own operators, in f32.
fn alignments(difference: Difference, displacement: f64, reference: &Reference) -> Vec<f64> {
    let rate = reference.number("rate");
    let (network, device) = (network(), Device::flex());
    let weights = weights(&network);
    let training = objective(&network, &device, DiceReduction::Sample);
    let validation = objective(&network, &device, DiceReduction::Batch);
    let meta = Meta { training: &training, validation: &validation, displacement, difference };
    let (seen, held_out) = (batch(5, 40_000), batch(3, 50_000));
    let result = training.gradient(&weights, &seen).unwrap();
    for (ours, theirs) in result.value.per_sample.iter().zip(reference.numbers("training_losses")) {
        assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
    }
    assert_eq!(training.losses(&weights, &seen).unwrap(), result.value.per_sample, "the same pass");
    let before = weights.clone();
    let found = meta.look_ahead(&weights, &seen, &result, rate, &held_out).unwrap();
    assert_eq!(weights, before, "the weights stay what they were");
    assert!((found.validation_loss - reference.number("validation_loss")).abs() < 1e-5);
    found.alignments.unwrap()
}

#[test]
fn the_meta_gradient_is_that_of_the_unrolled_step() {
    let reference = Reference::read();
    // In f32 the rounding of a loss, some 1e-7, is divided by the displacement; the one-sided difference has an
    // error proportional to the displacement besides.
    for (difference, displacement) in [(Difference::Central, 1e-2), (Difference::OneSided, 1e-3)] {
        let error = reference.error(&alignments(difference, displacement, &reference));
        assert!(error < 2e-2, "{difference:?}: relative error {error:.2e}");
    }
}

/// The network of [`network`], its losses and their gradients in burn's own operators and double precision.
struct Double {
    device: Device,
    /// Names and shapes of the weights, in their order.
    layers: Vec<(String, Vec<usize>)>,
    training: Batch,
    held_out: Batch,
}

impl Double {
    fn tensor<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, DType::F64))
    }

    fn leaves(&self, weights: &[Vec<f64>]) -> Vec<Tensor<1>> {
        weights.iter().map(|w| self.tensor(w.clone(), [w.len()]).require_grad()).collect()
    }

    /// A weight by its name, in its shape.
    fn weight<const D: usize>(&self, leaves: &[Tensor<1>], name: &str) -> Tensor<D> {
        let at = self.layers.iter().position(|(layer, _)| layer == name).unwrap();
        let shape: [usize; D] = self.layers[at].1.as_slice().try_into().unwrap();
        leaves[at].clone().reshape(shape)
    }

    /// Convolution, instance norm, leaky ReLU.
    fn block(&self, leaves: &[Tensor<1>], name: &str, x: Tensor<5>, stride: usize) -> Tensor<5> {
        let get = |part: &str| self.weight::<1>(leaves, &format!("{name}.{part}"));
        let weight = self.weight::<5>(leaves, &format!("{name}.conv.weight"));
        let options = ConvOptions::new([stride; 3], [1; 3], [1; 3], 1);
        let y = conv3d(x, weight, Some(get("conv.bias")), options);
        let shape = y.dims();
        let flat = y.reshape([shape[0], shape[1], shape[2] * shape[3] * shape[4]]);
        let centred = flat.clone() - flat.mean_dim(2);
        let variance = (centred.clone() * centred.clone()).mean_dim(2);
        let per_channel = |part: &str| get(part).reshape([1, shape[1], 1]);
        let normal = centred / (variance + 1e-5).sqrt();
        leaky_relu(normal * per_channel("norm.weight") + per_channel("norm.bias"), 0.01).reshape(shape)
    }

    /// Loss of every sample; the Dice sums run over the sample, or over the batch.
    fn losses(&self, leaves: &[Tensor<1>], batch: &Batch, reduction: DiceReduction) -> Tensor<1> {
        let shape = batch.inputs[0].shape;
        let values = batch.inputs[0].values.iter().map(|v| f64::from(*v)).collect();
        let skip = self.block(leaves, "encoder.0.0", self.tensor(values, shape), 1);
        let low = self.block(leaves, "encoder.1.0", skip.clone(), 2);
        let up = conv_transpose3d(
            low,
            self.weight(leaves, "decoder.0.up.weight"),
            Some(self.weight(leaves, "decoder.0.up.bias")),
            ConvTransposeOptions::new([2; 3], [0; 3], [0; 3], [1; 3], 1),
        );
        let x = self.block(leaves, "decoder.0.0", Tensor::cat(vec![up, skip], 1), 1);
        let head = self.weight(leaves, "head.0.weight");
        let options = ConvOptions::new([1; 3], [0; 3], [1; 3], 1);
        let logits = conv3d(x, head, Some(self.weight(leaves, "head.0.bias")), options);
        let ([size, classes, ..], voxels) = (logits.dims(), EDGE.pow(3));
        let mut labels = vec![0.0; size * classes * voxels];
        for (at, label) in batch.labels.iter().enumerate() {
            labels[(at / voxels * classes + usize::from(*label)) * voxels + at % voxels] = 1.0;
        }
        let labels = self.tensor(labels, [size, classes, voxels]);
        let log = log_softmax(logits.reshape([size, classes, voxels]), 1);
        let cross_entropy = (log.clone() * labels.clone()).sum_dim(1).mean_dim(2).reshape([size]).neg();
        let p = log.exp();
        // Every class occurs in every sample here, so that no class leaves the mean.
        let sums = |of: Tensor<3>| match reduction {
            DiceReduction::Sample => of.sum_dim(2),
            DiceReduction::Batch => of.sum_dim(2).sum_dim(0),
        };
        let overlap = sums(p.clone() * labels.clone()) * 2.0;
        let all = sums(p) + sums(labels);
        let dice = (overlap + DICE_SMOOTH) / (all + DICE_SMOOTH);
        let foreground = dice.narrow(1, 1, classes - 1).mean_dim(1);
        let rows = foreground.dims()[0];
        cross_entropy + (foreground.reshape([rows]).neg() + 1.0)
    }

    fn values(tensor: Tensor<1>) -> Vec<f64> {
        tensor.into_data().try_into_vec::<f64>().unwrap()
    }
}

impl Losses for Double {
    type Weights = Vec<Vec<f64>>;
    type Direction = Vec<Vec<f64>>;

    fn held_out(&self, weights: &Vec<Vec<f64>>) -> segen::Result<(f64, Vec<Vec<f64>>)> {
        let leaves = self.leaves(weights);
        let loss = self.losses(&leaves, &self.held_out, DiceReduction::Batch).mean();
        let gradients = loss.backward();
        let slopes = leaves.iter().map(|leaf| Self::values(leaf.grad(&gradients).unwrap())).collect();
        Ok((Self::values(loss)[0], slopes))
    }

    fn samples(&self, weights: &Vec<Vec<f64>>) -> segen::Result<Vec<f64>> {
        Ok(Self::values(self.losses(&self.leaves(weights), &self.training, DiceReduction::Sample)))
    }

    fn moved(&self, weights: &Vec<Vec<f64>>, direction: &Vec<Vec<f64>>, factor: f64) -> Vec<Vec<f64>> {
        let part = |(w, d): (&Vec<f64>, &Vec<f64>)| w.iter().zip(d).map(|(w, d)| w + factor * d).collect();
        weights.iter().zip(direction).map(part).collect()
    }

    fn norm(&self, direction: &Vec<Vec<f64>>) -> f64 {
        direction.iter().flatten().map(|v| v * v).sum::<f64>().sqrt()
    }
}

#[test]
fn in_double_precision_only_the_error_of_the_difference_is_left() {
    let reference = Reference::read();
    let parameters = weights(&network()).parameters;
    let double = Double {
        device: Device::flex().autodiff(),
        layers: parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect(),
        training: batch(5, 40_000),
        held_out: batch(3, 50_000),
    };
    let start: Vec<Vec<f64>> =
        parameters.iter().map(|p| p.values.iter().map(|v| f64::from(*v)).collect()).collect();
    let leaves = double.leaves(&start);
    let losses = double.losses(&leaves, &double.training, DiceReduction::Sample);
    let gradients = losses.clone().mean().backward();
    let gradient: Vec<Vec<f64>> =
        leaves.iter().map(|leaf| Double::values(leaf.grad(&gradients).unwrap())).collect();
    let known = Double::values(losses);
    for (ours, theirs) in known.iter().zip(reference.numbers("training_losses")) {
        assert!((ours - theirs).abs() < 1e-12, "{ours} instead of {theirs}");
    }
    let rate = reference.number("rate");
    let error = |difference, length| {
        let displacement = Displacement { difference, length };
        let found = look_ahead(&double, &start, (&gradient, rate), Some(&known), displacement).unwrap();
        assert!((found.validation_loss - reference.number("validation_loss")).abs() < 1e-12);
        reference.error(&found.alignments.unwrap())
    };
    let [central, one_sided] = [Difference::Central, Difference::OneSided].map(|way| error(way, 1e-3));
    assert!(central < 1e-3, "central: {central:.2e}");
    assert!(one_sided < 1e-2, "one-sided: {one_sided:.2e}");
    // What is left falls with the displacement.
    let [finer, halved] = [error(Difference::Central, 1e-4), error(Difference::OneSided, 5e-4)];
    assert!(finer < central, "{central:.2e} and {finer:.2e}");
    assert!((one_sided / halved - 2.0).abs() < 0.2, "{one_sided:.2e} and {halved:.2e}");
}
