//! One pass of a batch through the network: loss and gradients.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Int, Tensor, TensorData};
use segen_kernels::Activation;

use crate::loader::Batch;
use crate::loss::{Loss, LossValue};
use crate::network::{Mode, Network, Output, Pass, Statistics, Weights, values};
use crate::{Error, Result};

/// What is minimised, on which network, where.
#[derive(Debug)]
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

impl Objective<'_> {
    fn mode(&self, batch: &Batch) -> Mode {
        Mode::Training { seed: self.seed, step: batch.step }
    }

    /// Loss and gradients of one batch.
    pub fn gradient(&self, weights: &Weights, batch: &Batch) -> Result<Gradient> {
        let network = self.network;
        let timer = Instant::now();
        let device = self.device.clone().autodiff();
        let bound = weights.bind(self.device, Pass::Training);
        let mode = self.mode(batch);
        let Output { logits: outputs, statistics } = network.forward(&bound, inputs(batch, &device), mode);
        let scales = supervision_weights(outputs.len());
        let mut value = LossValue::default();
        let mut objective: Option<Tensor<1>> = None;
        for (i, ((logits, stride), scale)) in
            outputs.into_iter().zip(network.output_strides()).zip(scales).enumerate()
        {
            let target = self.target(batch, stride);
            let sums = segen_kernels::segmentation_sums(logits, target);
            let numbers: Vec<f64> = values(sums.clone()).into_iter().map(f64::from).collect();
            let (part, mut slope) = self.loss.evaluate(&numbers, network.classes());
            slope.iter_mut().for_each(|s| *s *= scale);
            value.add(&part, scale, i == 0);
            // The gradient of this linear form is `slope`, so the backward pass starts from exact numbers.
            let slope: Vec<f32> = slope.into_iter().map(|s| s as f32).collect();
            let slope = Tensor::<2>::from_data(TensorData::new(slope, sums.dims()), &device);
            let part = (sums * slope).flatten::<1>(0, 1).sum_dim(0);
            objective = Some(match objective {
                Some(sum) => sum + part,
                None => part,
            });
        }
        let forward = timer.elapsed();
        if !value.total.is_finite() {
            return Err(self.divergence(weights, batch, &value));
        }
        let timer = Instant::now();
        let Some(objective) = objective else { unreachable!("a network has at least one output") };
        let gradients = bound.gradients(objective.backward());
        if let Some(bad) = gradients.iter().position(|g| g.iter().any(|v| !v.is_finite())) {
            let name = &weights.parameters[bad].name;
            return Err(diverged(batch, format!("the gradient of `{name}` is not finite")));
        }
        Ok(Gradient { value, gradients, statistics, forward, backward: timer.elapsed() })
    }

    /// Labels of a batch on the grid of an output: every `stride`-th voxel.
    fn target(&self, batch: &Batch, stride: [usize; 3]) -> Tensor<4, Int> {
        let [size, x, y, z] = batch.label_shape;
        let shape = [x / stride[0], y / stride[1], z / stride[2]];
        let mut labels = Vec::with_capacity(size * shape.iter().product::<usize>());
        for b in 0..size {
            for i in 0..shape[0] {
                for j in 0..shape[1] {
                    let row = ((b * x + i * stride[0]) * y + j * stride[1]) * z;
                    labels
                        .extend(batch.labels[row..row + z].iter().step_by(stride[2]).map(|&l| i32::from(l)));
                }
            }
        }
        Tensor::from_data(TensorData::new(labels, [size, shape[0], shape[1], shape[2]]), self.device)
    }

    /// Finds where numbers stopped being finite: the first layer, and the cases whose loss is not.
    fn divergence(&self, weights: &Weights, batch: &Batch, value: &LossValue) -> Error {
        let bound = weights.bind(self.device, Pass::Inference);
        let mut layer = None;
        let inputs = inputs(batch, self.device);
        self.network.forward_observed(&bound, inputs, self.mode(batch), &mut |name, activation| {
            if layer.is_none()
                && values(activation.clone().into_channels_last()).iter().any(|v| !v.is_finite())
            {
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

/// The inputs of a batch on a device, one per pathway.
fn inputs(batch: &Batch, device: &Device) -> Vec<Activation> {
    let input = |input: &crate::loader::Input| {
        let data = TensorData::new(input.values.clone(), input.shape);
        Activation::from_channels_first(Tensor::from_data(data, device))
    };
    batch.inputs.iter().map(input).collect()
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
