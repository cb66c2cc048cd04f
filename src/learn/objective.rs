//! One pass of a batch through the network: loss and gradients, of the weights or of the inputs.

use std::time::{Duration, Instant};

use segen_kernels::{Activation, Array, Device, Recording, Target};

use super::loss::{Loss, LossValue};
use crate::batch::Batch;
use crate::network::{Bound, Mode, Network, Output, Statistics, Weights};
use crate::{Error, Result};

/// What is minimised, on which network, where.
#[derive(Clone, Debug)]
pub struct Objective<'a> {
    /// The network.
    pub network: &'a Network,
    /// The loss.
    pub loss: Loss,
    /// Where to compute.
    pub device: &'a Device,
    /// Seed of the run.
    pub seed: u64,
}

/// One pass's result, before the optimiser.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The loss.
    pub value: LossValue,
    /// In the order of [`Weights::parameters`].
    pub gradients: Vec<Vec<f32>>,
    /// What batch norms measured.
    pub statistics: Vec<Statistics>,
    /// Time of the forward pass and the loss.
    pub forward: Duration,
    /// Time of the backward pass.
    pub backward: Duration,
}

/// Gradients with respect to what the network takes.
#[derive(Clone, Debug)]
pub struct InputGradient {
    /// The loss.
    pub value: LossValue,
    /// As [`Batch::inputs`].
    pub gradients: Vec<Vec<f32>>,
    /// Time of the forward pass and the loss.
    pub forward: Duration,
    /// Time of the backward pass.
    pub backward: Duration,
}

/// A forward pass.
struct Forward {
    value: LossValue,
    /// The sums of every output and the slopes of the loss with respect to them: where its gradient begins.
    ends: Vec<(Array, Vec<f32>)>,
    statistics: Vec<Statistics>,
}

impl Objective<'_> {
    fn mode(&self, batch: &Batch) -> Mode {
        Mode::Training { seed: self.seed, step: batch.step }
    }

    /// Loss and gradients of one batch.
    ///
    /// # Errors
    /// Where the loss or a gradient is not finite.
    pub fn gradient(&self, weights: &Weights, batch: &Batch) -> Result<Gradient> {
        self.gradient_in(weights, batch, self.mode(batch))
    }

    /// The same without dropout, normalised by the batch's statistics.
    pub fn validation_gradient(&self, weights: &Weights, batch: &Batch) -> Result<Gradient> {
        self.gradient_in(weights, batch, Mode::BatchStatistics)
    }

    fn gradient_in(&self, weights: &Weights, batch: &Batch, mode: Mode) -> Result<Gradient> {
        let timer = Instant::now();
        let recording = Recording::new();
        let bound = weights.bind_leaves(self.device, &recording);
        let inputs = inputs(batch, self.device).into_iter().map(Activation::from_channels_first).collect();
        let Forward { value, ends, statistics } = self.forward(&bound, inputs, batch, mode);
        let forward = timer.elapsed();
        if !value.total.is_finite() {
            return Err(self.divergence(weights, batch, &value));
        }
        let timer = Instant::now();
        let gradients = recording.backward(ends);
        if let Some(bad) = gradients.iter().position(|g| g.iter().any(|v| !v.is_finite())) {
            let name = &weights.parameters[bad].name;
            return Err(diverged(batch, format!("the gradient of `{name}` is not finite")));
        }
        Ok(Gradient { value, gradients, statistics, forward, backward: timer.elapsed() })
    }

    /// Loss of every sample of a batch, in training mode (batch statistics, the step's dropout masks) but without
    /// gradients; with a Dice over the batch it is part of each.
    ///
    /// # Errors
    /// Where a loss is not finite.
    pub fn losses(&self, weights: &Weights, batch: &Batch) -> Result<Vec<f64>> {
        self.losses_in(weights, batch, self.mode(batch))
    }

    /// The same with the running statistics of batch norms, so that a sample's loss is its own.
    pub fn frozen_losses(&self, weights: &Weights, batch: &Batch) -> Result<Vec<f64>> {
        self.losses_in(weights, batch, Mode::Frozen { seed: self.seed, step: batch.step })
    }

    fn losses_in(&self, weights: &Weights, batch: &Batch, mode: Mode) -> Result<Vec<f64>> {
        let bound = weights.bind(self.device);
        let inputs = inputs(batch, self.device).into_iter().map(Activation::from_channels_first).collect();
        let value = self.forward(&bound, inputs, batch, mode).value;
        if !value.total.is_finite() {
            return Err(self.divergence(weights, batch, &value));
        }
        Ok(value.per_sample)
    }

    /// Loss and its gradients with respect to the inputs; the weights are constants.
    ///
    /// # Errors
    /// Where the loss or a gradient is not finite.
    pub fn input_gradient(&self, weights: &Weights, batch: &Batch) -> Result<InputGradient> {
        let timer = Instant::now();
        let recording = Recording::new();
        let bound = weights.bind(self.device);
        let leaf = |input| Activation::from_channels_first(recording.leaf(input));
        let leaves = inputs(batch, self.device).into_iter().map(leaf).collect();
        let Forward { value, ends, .. } = self.forward(&bound, leaves, batch, self.mode(batch));
        let forward = timer.elapsed();
        if !value.total.is_finite() {
            return Err(self.divergence(weights, batch, &value));
        }
        let timer = Instant::now();
        let gradients = recording.backward(ends);
        if gradients.iter().flatten().any(|v| !v.is_finite()) {
            return Err(diverged(batch, "the gradient of the inputs is not finite".to_owned()));
        }
        Ok(InputGradient { value, gradients, forward, backward: timer.elapsed() })
    }

    /// The network's outputs and their loss.
    fn forward(&self, bound: &Bound, inputs: Vec<Activation>, batch: &Batch, mode: Mode) -> Forward {
        let network = self.network;
        let Output { logits: outputs, statistics } = network.forward(bound, inputs, mode);
        let scales = supervision_weights(outputs.len());
        let mut value = LossValue::default();
        let mut ends = Vec::new();
        for (i, ((logits, stride), scale)) in
            outputs.into_iter().zip(network.output_strides()).zip(scales).enumerate()
        {
            let labels = strided(&batch.labels, batch.label_shape, stride);
            let other =
                batch.mixture.as_ref().map(|m| (strided(&m.labels, batch.label_shape, stride), m.share));
            let voxel =
                self.loss.voxel_loss(batch.step, &amounts(&labels, other.as_ref(), network.classes()));
            let [size, edges @ ..] = batch.label_shape;
            let shape = [size, edges[0] / stride[0], edges[1] / stride[1], edges[2] / stride[2]];
            let target = Target::mixture(labels, other, shape);
            let sums = segen_kernels::segmentation_sums(logits, target, &voxel);
            let numbers: Vec<f64> = sums.to_host().into_iter().map(f64::from).collect();
            let (part, mut slope) = self.loss.evaluate(&numbers, network.classes());
            slope.iter_mut().for_each(|s| *s *= scale);
            value.add(&part, scale, i == 0);
            ends.push((sums, slope.into_iter().map(|s| s as f32).collect()));
        }
        Forward { value, ends, statistics }
    }

    /// Finds where numbers stopped being finite: the first layer, and the cases whose loss is not.
    fn divergence(&self, weights: &Weights, batch: &Batch, value: &LossValue) -> Error {
        let bound = weights.bind(self.device);
        let mut layer = None;
        let inputs = inputs(batch, self.device).into_iter().map(Activation::from_channels_first).collect();
        self.network.forward_observed(&bound, inputs, self.mode(batch), &mut |name, activation| {
            let values = || activation.clone().into_channels_last().into_host();
            if layer.is_none() && values().iter().any(|v| !v.is_finite()) {
                layer = Some(name.to_owned());
            }
        });
        let bad: Vec<&str> = batch
            .cases
            .iter()
            .zip(&value.per_sample)
            .filter(|(_, loss)| !loss.is_finite())
            .map(|(case, _)| case.as_str())
            .collect();
        let layer = layer.map_or("in the loss itself".to_owned(), |name| format!("first in layer `{name}`"));
        diverged(batch, format!("the loss of case {} is not finite, {layer}", bad.join(", ")))
    }
}

impl LossValue {
    /// Adds `scale` times another value; the parts that people read come from the full resolution alone.
    fn add(&mut self, other: &Self, scale: f64, full_resolution: bool) {
        if full_resolution {
            self.cross_entropy = other.cross_entropy;
            self.dice = other.dice;
            self.per_sample = vec![0.0; other.per_sample.len()];
        }
        self.total += scale * other.total;
        self.per_sample.iter_mut().zip(&other.per_sample).for_each(|(sum, v)| *sum += scale * v);
    }
}

/// The inputs of a batch on a device, (batch, channel, x, y, z), one per pathway.
fn inputs(batch: &Batch, device: &Device) -> Vec<Array> {
    let input = |input: &crate::batch::Input| Array::from_host(input.values.clone(), &input.shape, device);
    batch.inputs.iter().map(input).collect()
}

/// Labels on the grid of an output: every `stride`-th voxel.
fn strided(labels: &[u8], [size, x, y, z]: [usize; 4], stride: [usize; 3]) -> Vec<u8> {
    let shape = [x / stride[0], y / stride[1], z / stride[2]];
    let mut out = Vec::with_capacity(size * shape.iter().product::<usize>());
    for b in 0..size {
        for i in 0..shape[0] {
            for j in 0..shape[1] {
                let row = ((b * x + i * stride[0]) * y + j * stride[1]) * z;
                out.extend(labels[row..row + z].iter().step_by(stride[2]));
            }
        }
    }
    out
}

/// Voxels of each class, mixed ones in parts.
fn amounts(labels: &[u8], other: Option<&(Vec<u8>, f32)>, classes: usize) -> Vec<f64> {
    let mut amounts = vec![0.0; classes];
    let mut add = |labels: &[u8], share: f64| {
        for &label in labels {
            if let Some(amount) = amounts.get_mut(usize::from(label)) {
                *amount += share;
            }
        }
    };
    match other {
        None => add(labels, 1.0),
        Some((other, share)) => {
            add(labels, f64::from(*share));
            add(other, 1.0 - f64::from(*share));
        }
    }
    amounts
}

/// Weights of the losses at each resolution: 1, 1/2, 1/4, ..., normalised to sum 1.
fn supervision_weights(outputs: usize) -> Vec<f64> {
    let raw: Vec<f64> = (0..outputs).map(|i| 0.5f64.powi(i as i32)).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|w| w / sum).collect()
}

fn diverged(batch: &Batch, what: String) -> Error {
    Error::Diverged {
        step: batch.step,
        what: format!("{what} (batch of {})", batch.cases.join(", ")),
        mend: "look at these cases with `segen check`; a lower `optimiser.learning_rate` or `optimiser.clip_norm` \
               keeps steps small"
            .to_owned(),
    }
}
