//! The weights of a network: how they start, how they lie in memory, and how they get onto a device.

use std::collections::HashMap;

use rand_distr::{Distribution, StandardNormal};
use segen_kernels::{Array, Device, Recording};

use super::Statistics;
use crate::rng::generator;

/// One named array of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Path of the layer and the kind of weight, for example `encoder.0.0.conv.weight`.
    pub name: String,
    /// Axis lengths, in PyTorch's order for the kind of layer.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// All weights of a network, in the order in which the layers are first used.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// In module order; sums over parameters run in this order.
    pub parameters: Vec<Parameter>,
    /// Running statistics of batch norms: not trained, not clipped; they follow the batches
    /// ([`Self::follow`]) and are what a forward pass in [`Mode::Evaluation`] normalises with.
    pub buffers: Vec<Parameter>,
}

/// Batches over which running statistics average: an exponential mean of the same mean age as the plain mean of
/// DeepMedic's last 60 batches.
const AVERAGED_BATCHES: f64 = 60.0;
pub(super) const RUNNING_MEAN: &str = "running_mean";
pub(super) const RUNNING_VARIANCE: &str = "running_variance";

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// Kaiming normal for leaky ReLU of slope 0.01: standard deviation `sqrt(2 / (1 + 0.01^2) / fan_in)`.
    Kaiming {
        /// Inputs that one output sums over, as PyTorch counts them.
        fan_in: usize,
    },
    /// Normal of standard deviation `sqrt(2 / fan)` (He et al., ICCV 2015).
    He {
        /// Fan-in or fan-out.
        fan: usize,
    },
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// All the same.
    Constant(f32),
}

/// Name, shape and start of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Specification {
    /// See [`Parameter::name`].
    pub name: String,
    /// See [`Parameter::shape`].
    pub shape: Vec<usize>,
    /// How it starts.
    pub initial: Initial,
}

/// Weights on a device, ready for a forward pass.
#[derive(Debug)]
pub struct Bound {
    device: Device,
    arrays: HashMap<String, Array>,
}

impl Weights {
    /// Draws initial weights. Each parameter has a generator of its own, keyed by (seed, name): adding a layer
    /// does not change the others.
    pub fn initialise(specifications: &[Specification], seed: u64) -> Self {
        let parameters = specifications
            .iter()
            .map(|specification| {
                let length = specification.shape.iter().product();
                let normal = |deviation: f64| -> Vec<f32> {
                    let mut rng = generator(seed, &["initial weights", &specification.name]);
                    let draw = || {
                        let z: f64 = StandardNormal.sample(&mut rng);
                        (z * deviation) as f32
                    };
                    std::iter::repeat_with(draw).take(length).collect()
                };
                let values = match specification.initial {
                    Initial::Zeros => vec![0.0; length],
                    Initial::Ones => vec![1.0; length],
                    Initial::Constant(value) => vec![value; length],
                    Initial::Kaiming { fan_in } => normal((2.0 / (1.0 + 1e-4) / fan_in as f64).sqrt()),
                    Initial::He { fan } => normal((2.0 / fan as f64).sqrt()),
                };
                Parameter { name: specification.name.clone(), shape: specification.shape.clone(), values }
            })
            .collect();
        Self { parameters, buffers: Vec::new() }
    }

    /// Lets the running statistics follow what the batch norms measured on the batch of step `step`. Each moves
    /// by a share of 2 / 61 towards the batch's (by 1 / (step + 1) in the first steps, which makes the start a
    /// plain mean); variances are unbiased, as DeepMedic keeps them.
    pub fn follow(&mut self, statistics: &[Statistics], step: u64) {
        let share = (2.0 / (AVERAGED_BATCHES + 1.0)).max(1.0 / (step as f64 + 1.0));
        for measured in statistics {
            let unbiased = measured.count as f64 / (measured.count.max(2) - 1) as f64;
            for (what, values, factor) in
                [(RUNNING_MEAN, &measured.mean, 1.0), (RUNNING_VARIANCE, &measured.variance, unbiased)]
            {
                let name = format!("{}.{what}", measured.layer);
                let Some(buffer) = self.buffers.iter_mut().find(|buffer| buffer.name == name) else {
                    panic!("the network keeps no `{name}`")
                };
                for (kept, &value) in buffer.values.iter_mut().zip(values) {
                    let old = f64::from(*kept);
                    *kept = (old + share * (f64::from(value) * factor - old)) as f32;
                }
            }
        }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.parameters.iter().map(|p| p.values.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the weights onto a device, as constants.
    pub fn bind(&self, device: &Device) -> Bound {
        self.bind_as(device, |constant| constant)
    }

    /// Copies the weights onto a device, as leaves of a recording in the order of [`Self::parameters`]. Running statistics
    /// are constants.
    pub fn bind_leaves(&self, device: &Device, recording: &Recording) -> Bound {
        self.bind_as(device, |constant| recording.leaf(constant))
    }

    fn bind_as(&self, device: &Device, parameter: impl Fn(Array) -> Array) -> Bound {
        let constant = |one: &Parameter| Array::from_host(one.values.clone(), &one.shape, device);
        let parameters = self.parameters.iter().map(|one| (one.name.clone(), parameter(constant(one))));
        let buffers = self.buffers.iter().map(|one| (one.name.clone(), constant(one)));
        Bound { device: *device, arrays: parameters.chain(buffers).collect() }
    }
}

impl Bound {
    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A parameter in its own shape. Asking for a name that the network does not have is a bug.
    pub fn get(&self, name: &str) -> Array {
        match self.arrays.get(name) {
            Some(array) => array.clone(),
            None => panic!("the network has no parameter `{name}`"),
        }
    }

    /// Running mean and variance of a layer.
    pub(super) fn running(&self, layer: &str) -> [Array; 2] {
        [RUNNING_MEAN, RUNNING_VARIANCE].map(|what| self.get(&format!("{layer}.{what}")))
    }
}
