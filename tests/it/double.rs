//! The small U-Net of `meta.rs` in double precision by plain loops, its losses and their gradients by hand: what the
//! program's operators compute in f32, with nothing of theirs.

use segen::batch::Batch;
use segen::config::DiceReduction;
use segen::learn::loss::DICE_SMOOTH;
use segen::learn::meta::Losses;

/// Which input and which weight every output is a product of: (output, input, weight).
type Products = Vec<(usize, usize, usize)>;

/// A volume, (batch, channel, x, y, z) with one edge for all three.
#[derive(Clone)]
struct Volume {
    channels: usize,
    edge: usize,
    values: Vec<f64>,
}

impl Volume {
    fn zeros(batch: usize, channels: usize, edge: usize) -> Self {
        Self { channels, edge, values: vec![0.0; batch * channels * edge.pow(3)] }
    }

    fn voxels(&self) -> usize {
        self.edge.pow(3)
    }

    fn batch(&self) -> usize {
        self.values.len() / (self.channels * self.voxels())
    }
}

/// Places of a cube.
fn places(edge: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..edge.pow(3)).map(move |i| [i / (edge * edge), i / edge % edge, i % edge])
}

fn index(place: [usize; 3], edge: usize) -> usize {
    (place[0] * edge + place[1]) * edge + place[2]
}

/// A convolution of `kernel` with padding kernel / 2, weights (out, in, kernel).
fn convolution(x: &Volume, out: usize, kernel: usize, stride: usize) -> (Products, usize) {
    let to = (x.edge - 1) / stride + 1;
    let (input, pad) = (x.channels, kernel / 2);
    let mut products = vec![];
    for place in places(to) {
        for (tap, offset) in places(kernel).enumerate() {
            let from: [usize; 3] =
                std::array::from_fn(|axis| (place[axis] * stride + offset[axis]).wrapping_sub(pad));
            if from.iter().any(|&v| v >= x.edge) {
                continue;
            }
            for n in 0..x.batch() {
                for o in 0..out {
                    let y = (n * out + o) * to.pow(3) + index(place, to);
                    for i in 0..input {
                        let x = (n * input + i) * x.voxels() + index(from, x.edge);
                        products.push((y, x, (o * input + i) * kernel.pow(3) + tap));
                    }
                }
            }
        }
    }
    (products, to)
}

/// A transposed convolution of kernel and stride 2, weights (in, out, kernel).
fn transposed(x: &Volume, out: usize) -> (Products, usize) {
    let to = 2 * x.edge;
    let mut products = vec![];
    for place in places(to) {
        let tap = index(place.map(|v| v % 2), 2);
        let from = index(place.map(|v| v / 2), x.edge);
        for n in 0..x.batch() {
            for o in 0..out {
                let y = (n * out + o) * to.pow(3) + index(place, to);
                for i in 0..x.channels {
                    products.push((y, (n * x.channels + i) * x.voxels() + from, (i * out + o) * 8 + tap));
                }
            }
        }
    }
    (products, to)
}

/// A linear layer: its products, and what it has seen.
struct Linear {
    products: Products,
    x: Volume,
    weight: usize,
}

/// Normalisation per sample and channel and leaky ReLU: normal values, what they were divided by, values before the ReLU.
struct Normal {
    normal: Vec<f64>,
    deviation: Vec<f64>,
    before: Volume,
    weight: usize,
}

const SLOPE: f64 = 0.01;

/// A forward pass over weights by their number; weight and bias of a layer follow one another.
struct Pass<'a> {
    weights: &'a [Vec<f64>],
}

impl Pass<'_> {
    fn linear(&self, (products, edge): (Products, usize), x: Volume, weight: usize) -> (Volume, Linear) {
        let (w, bias) = (&self.weights[weight], &self.weights[weight + 1]);
        let mut y = Volume::zeros(x.batch(), bias.len(), edge);
        let voxels = y.voxels();
        for (plane, values) in y.values.chunks_exact_mut(voxels).enumerate() {
            values.fill(bias[plane % bias.len()]);
        }
        for &(to, from, tap) in &products {
            y.values[to] += x.values[from] * w[tap];
        }
        (y, Linear { products, x, weight })
    }

    fn linear_back(&self, layer: &Linear, gradient: &Volume, found: &mut [Vec<f64>]) -> Volume {
        let mut back = Volume { values: vec![0.0; layer.x.values.len()], ..layer.x };
        for &(to, from, tap) in &layer.products {
            back.values[from] += gradient.values[to] * self.weights[layer.weight][tap];
            found[layer.weight][tap] += gradient.values[to] * layer.x.values[from];
        }
        for (plane, values) in gradient.values.chunks_exact(gradient.voxels()).enumerate() {
            found[layer.weight + 1][plane % gradient.channels] += values.iter().sum::<f64>();
        }
        back
    }

    fn normal(&self, x: Volume, weight: usize) -> (Volume, Normal) {
        let (voxels, channels) = (x.voxels(), x.channels);
        let (mut normal, mut deviation) = (x.values.clone(), vec![]);
        let mut before = x;
        for (plane, values) in normal.chunks_exact_mut(voxels).enumerate() {
            let mean = values.iter().sum::<f64>() / voxels as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / voxels as f64;
            deviation.push((variance + 1e-5).sqrt());
            values.iter_mut().for_each(|v| *v = (*v - mean) / deviation[plane]);
            let [scale, shift] = [0, 1].map(|i| self.weights[weight + i][plane % channels]);
            for (to, v) in before.values[plane * voxels..].iter_mut().zip(&*values) {
                *to = v * scale + shift;
            }
        }
        let mut y = before.clone();
        y.values.iter_mut().filter(|v| **v < 0.0).for_each(|v| *v *= SLOPE);
        (y, Normal { normal, deviation, before, weight })
    }

    fn normal_back(&self, layer: &Normal, gradient: &Volume, found: &mut [Vec<f64>]) -> Volume {
        let mut back = gradient.clone();
        let voxels = gradient.voxels();
        for (plane, values) in back.values.chunks_exact_mut(voxels).enumerate() {
            let channel = plane % gradient.channels;
            let part = plane * voxels..(plane + 1) * voxels;
            let normal = &layer.normal[part.clone()];
            for (v, before) in values.iter_mut().zip(&layer.before.values[part]) {
                *v *= if *before < 0.0 { SLOPE } else { 1.0 };
            }
            let sum: f64 = values.iter().sum();
            let product: f64 = values.iter().zip(normal).map(|(g, n)| g * n).sum();
            found[layer.weight][channel] += product;
            found[layer.weight + 1][channel] += sum;
            let scale = self.weights[layer.weight][channel] / layer.deviation[plane];
            for (v, n) in values.iter_mut().zip(normal) {
                *v = scale * (*v - sum / voxels as f64 - n * product / voxels as f64);
            }
        }
        back
    }
}

/// Values of two volumes, sample by sample.
fn joined(a: &Volume, b: &Volume) -> Volume {
    let mut joined = Volume { channels: a.channels + b.channels, edge: a.edge, values: vec![] };
    for n in 0..a.batch() {
        for one in [a, b] {
            let length = one.channels * one.voxels();
            joined.values.extend(&one.values[n * length..(n + 1) * length]);
        }
    }
    joined
}

fn parted(joined: &Volume, channels: usize) -> [Volume; 2] {
    let (voxels, rest) = (joined.voxels(), joined.channels - channels);
    let mut parts = [channels, rest].map(|channels| Volume { channels, edge: joined.edge, values: vec![] });
    for sample in joined.values.chunks_exact(joined.channels * voxels) {
        let (first, second) = sample.split_at(channels * voxels);
        parts[0].values.extend(first);
        parts[1].values.extend(second);
    }
    parts
}

/// The network with two batches, whose weights lie in the order of their use.
pub(crate) struct Double {
    /// Names of the weights, in their order.
    pub(crate) names: Vec<String>,
    pub(crate) training: Batch,
    pub(crate) held_out: Batch,
}

impl Double {
    fn number(&self, name: &str) -> usize {
        self.names.iter().position(|one| one == name).unwrap()
    }

    /// Loss of every sample, cross-entropy and 1 - Dice, whose sums run over the sample or over the batch; and the gradient
    /// of their mean.
    pub(crate) fn losses(
        &self,
        weights: &[Vec<f64>],
        batch: &Batch,
        reduction: DiceReduction,
    ) -> (Vec<f64>, Vec<Vec<f64>>) {
        let [_, channels, edge, ..] = batch.inputs[0].shape;
        let values = batch.inputs[0].values.iter().map(|v| f64::from(*v)).collect();
        let (x, pass) = (Volume { channels, edge, values }, Pass { weights });
        let block = |x: Volume, name: &str, stride| {
            let (conv, norm) =
                (self.number(&format!("{name}.conv.weight")), self.number(&format!("{name}.norm.weight")));
            let (y, linear) = pass.linear(convolution(&x, weights[conv + 1].len(), 3, stride), x, conv);
            let (y, normal) = pass.normal(y, norm);
            (y, (linear, normal))
        };
        let (skip, first) = block(x, "encoder.0.0", 1);
        let (low, second) = block(skip.clone(), "encoder.1.0", 2);
        let up = self.number("decoder.0.up.weight");
        let (up, third) = pass.linear(transposed(&low, weights[up + 1].len()), low, up);
        let split = up.channels;
        let (x, fourth) = block(joined(&up, &skip), "decoder.0.0", 1);
        let head = self.number("head.0.weight");
        let (logits, fifth) = pass.linear(convolution(&x, weights[head + 1].len(), 1, 1), x, head);
        let (losses, gradient) = loss(&logits, &batch.labels, reduction);
        let mut found: Vec<Vec<f64>> = weights.iter().map(|w| vec![0.0; w.len()]).collect();
        let back = |(linear, normal): &(Linear, Normal), gradient: &Volume, found: &mut [Vec<f64>]| {
            let gradient = pass.normal_back(normal, gradient, found);
            pass.linear_back(linear, &gradient, found)
        };
        let gradient = pass.linear_back(&fifth, &gradient, &mut found);
        let [to_up, mut to_skip] = parted(&back(&fourth, &gradient, &mut found), split);
        let gradient = pass.linear_back(&third, &to_up, &mut found);
        let other = back(&second, &gradient, &mut found);
        to_skip.values.iter_mut().zip(&other.values).for_each(|(sum, v)| *sum += v);
        back(&first, &to_skip, &mut found);
        (losses, found)
    }
}

/// Losses of the samples, and the gradient of their mean with respect to the logits. Every class occurs in every sample
/// here, so that no class leaves the mean of the Dice.
fn loss(logits: &Volume, labels: &[u8], reduction: DiceReduction) -> (Vec<f64>, Volume) {
    let (batch, classes, voxels) = (logits.batch(), logits.channels, logits.voxels());
    let at = |n: usize, class: usize, v: usize| (n * classes + class) * voxels + v;
    let mut p = logits.values.clone();
    let mut entropy = vec![0.0; batch];
    for n in 0..batch {
        for v in 0..voxels {
            let z: Vec<f64> = (0..classes).map(|class| logits.values[at(n, class, v)]).collect();
            let sum = z.iter().map(|z| z.exp()).sum::<f64>();
            z.iter().enumerate().for_each(|(class, z)| p[at(n, class, v)] = z.exp() / sum);
            entropy[n] -= p[at(n, usize::from(labels[n * voxels + v]), v)].ln() / voxels as f64;
        }
    }
    let y =
        |n: usize, class: usize, v: usize| f64::from(u8::from(usize::from(labels[n * voxels + v]) == class));
    let groups: Vec<Vec<usize>> = match reduction {
        DiceReduction::Sample => (0..batch).map(|n| vec![n]).collect(),
        DiceReduction::Batch => vec![(0..batch).collect()],
    };
    let mut losses = entropy;
    // Of the mean of the losses with respect to the probabilities, of the Dice alone.
    let mut slope = vec![0.0; p.len()];
    let foreground = (classes - 1) as f64;
    for group in groups {
        for class in 1..classes {
            let sum = |of: &dyn Fn(usize, usize) -> f64| {
                group
                    .iter()
                    .flat_map(|&n| (0..voxels).map(move |v| (n, v)))
                    .map(|(n, v)| of(n, v))
                    .sum::<f64>()
            };
            let top = 2.0 * sum(&|n, v| p[at(n, class, v)] * y(n, class, v)) + DICE_SMOOTH;
            let all = sum(&|n, v| p[at(n, class, v)] + y(n, class, v)) + DICE_SMOOTH;
            for &n in &group {
                losses[n] -= top / all / foreground;
                // A Dice over the batch is part of the loss of every sample.
                let share = group.len() as f64 / (batch as f64 * foreground);
                for v in 0..voxels {
                    slope[at(n, class, v)] = -share * (2.0 * y(n, class, v) / all - top / (all * all));
                }
            }
        }
    }
    losses.iter_mut().for_each(|loss| *loss += 1.0);
    let mut gradient = logits.clone();
    for n in 0..batch {
        for v in 0..voxels {
            let mean: f64 = (0..classes).map(|c| slope[at(n, c, v)] * p[at(n, c, v)]).sum();
            for c in 0..classes {
                let (p, shown) = (p[at(n, c, v)], y(n, c, v));
                gradient.values[at(n, c, v)] =
                    p * (slope[at(n, c, v)] - mean) + (p - shown) / (voxels * batch) as f64;
            }
        }
    }
    (losses, gradient)
}

impl Losses for Double {
    type Weights = Vec<Vec<f64>>;
    type Direction = Vec<Vec<f64>>;

    fn held_out(&self, weights: &Vec<Vec<f64>>) -> segen::Result<(f64, Vec<Vec<f64>>)> {
        let (losses, gradient) = self.losses(weights, &self.held_out, DiceReduction::Batch);
        Ok((losses.iter().sum::<f64>() / losses.len() as f64, gradient))
    }

    fn samples(&self, weights: &Vec<Vec<f64>>) -> segen::Result<Vec<f64>> {
        Ok(self.losses(weights, &self.training, DiceReduction::Sample).0)
    }

    fn moved(&self, weights: &Vec<Vec<f64>>, direction: &Vec<Vec<f64>>, factor: f64) -> Vec<Vec<f64>> {
        let part = |(w, d): (&Vec<f64>, &Vec<f64>)| w.iter().zip(d).map(|(w, d)| w + factor * d).collect();
        weights.iter().zip(direction).map(part).collect()
    }

    fn norm(&self, direction: &Vec<Vec<f64>>) -> f64 {
        direction.iter().flatten().map(|v| v * v).sum::<f64>().sqrt()
    }
}
