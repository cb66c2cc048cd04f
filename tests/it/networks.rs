//! Tests of `segen::network` against PyTorch; see tests/reference/make_networks.py.

use segen::config::Variant;
use segen::network::{
    Activations, DeepMedic, DeepMedicShape, Mode, Network, Statistics, Weights, WideResNet,
};
use segen_kernels::{Activation, Array, Device, Recording};
use serde_json::Value;

use crate::support;

/// The script's numbers in [-1, 1): a hash of (stream, index).
pub(crate) fn uniform(length: usize, stream: u32) -> Vec<f64> {
    (1..=length as u32)
        .map(|index| {
            let mut u =
                index.wrapping_mul(2_654_435_761).wrapping_add((stream + 1).wrapping_mul(2_246_822_519));
            for _ in 0..2 {
                u ^= u >> 16;
                u = u.wrapping_mul(0x045d_9f3b);
            }
            u ^= u >> 16;
            f64::from(u) / f64::from(1_u32 << 31) - 1.0
        })
        .collect()
}

pub(crate) fn filled(length: usize, stream: u32, scale: f64, shift: f64) -> Vec<f32> {
    uniform(length, stream).into_iter().map(|u| (u * scale + shift) as f32).collect()
}

/// The script's weights.
pub(crate) fn weights(network: &Network) -> Weights {
    let mut weights = network.initialise(0);
    for (stream, parameter) in (0..).zip(&mut weights.parameters) {
        let fan: usize = parameter.shape[1..].iter().product();
        let (scale, shift) = match parameter.name.as_str() {
            _ if parameter.shape.len() > 1 => ((6.0 / fan as f64).sqrt(), 0.0),
            name if name.ends_with("weight") => (0.3, 1.0),
            name if name.ends_with("slope") => (0.1, 0.2),
            _ => (0.3, 0.0),
        };
        parameter.values = filled(parameter.values.len(), stream, scale, shift);
    }
    for (stream, buffer) in (10_000..).zip(&mut weights.buffers) {
        let (scale, shift) = if buffer.name.ends_with("running_mean") { (0.3, 0.0) } else { (0.5, 1.0) };
        buffer.values = filled(buffer.values.len(), stream, scale, shift);
    }
    weights
}

/// The script's inputs: values in the order (batch, channel, x, y, z).
fn input(shape: [usize; 5], stream: u32) -> Activation {
    let values = filled(shape.iter().product(), stream, 3f64.sqrt(), 0.0);
    Activation::from_channels_first(Array::from_host(values, &shape, &Device::Cpu))
}

fn list<T>(value: &Value, each: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(each).collect()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// Largest difference relative to the largest reference value.
fn difference(ours: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let scale = reference.iter().fold(1e-6, |most: f64, v| most.max(v.abs()));
    ours.iter().zip(reference).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs())) / scale
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Network and input shapes of a case.
fn case(case: &Value) -> (Network, Vec<[usize; 5]>) {
    if case["kind"] == "wide-resnet" {
        let (blocks, width) = (size(&case["blocks"]), size(&case["width"]));
        let network = WideResNet::new(6 * blocks + 4, width, 3, 10);
        return (Network::WideResNet(network), vec![[4, 3, 16, 20, 1]]);
    }
    let of = &case["shape_of"];
    let shape = DeepMedicShape {
        scales: vec![1, 3, 5],
        features: list(&of["features"], size),
        hidden: list(&of["hidden"], size),
        // The script drops nothing in training.
        dropout: match case["training"] == true {
            true => vec![0.0; 3],
            false => list(&of["dropout"], |v| v.as_f64().unwrap()),
        },
        residual: of["residual"] == true,
        activations: if of["prelu"] == true { Activations::PRelu } else { Activations::Relu },
        inference_segment: [45; 3],
    };
    shape.check().unwrap();
    let channels = size(&case["channels"]);
    let segment: Vec<usize> = list(&case["segment"], size);
    let field = shape.field([segment[0], segment[1], segment[2]]).unwrap();
    let inputs = field.pathways.iter().map(|p| [2, channels, p.size[0], p.size[1], p.size[2]]).collect();
    (Network::DeepMedic(DeepMedic { channels, classes: size(&case["classes"]), shape }), inputs)
}

#[test]
fn outputs_and_gradients_are_those_of_pytorch() {
    const TOLERANCE: f64 = 1e-4;
    let text = std::fs::read_to_string(support::data("networks.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    for (name, reference) in cases.as_object().unwrap() {
        let (network, shapes) = case(reference);
        let weights = weights(&network);
        let training = reference["training"] == true;
        let inputs = (40_000..).zip(&shapes).map(|(stream, &shape)| input(shape, stream)).collect();
        let recording = Recording::new();
        let (bound, mode) = match training {
            true => (weights.bind_leaves(&Device::Cpu, &recording), Mode::Training { seed: 1, step: 0 }),
            false => (weights.bind(&Device::Cpu), Mode::Evaluation),
        };
        let mut output = network.forward(&bound, inputs, mode);
        assert_eq!(output.statistics.len(), if training { weights.buffers.len() / 2 } else { 0 }, "{name}");
        let logits = output.logits.swap_remove(0).into_channels_last();
        let shape = logits.shape();
        let wanted: Vec<usize> = list(&reference["shape"], size);
        assert_eq!(shape.iter().filter(|&&n| n > 1).count(), wanted.iter().filter(|&&n| n > 1).count());
        assert_eq!(shape.iter().product::<usize>(), wanted.iter().product::<usize>(), "{name}");
        let ours: Vec<f64> = logits.to_host().into_iter().map(f64::from).collect();
        let some: Vec<f64> = ours.iter().copied().step_by(size(&reference["stride"])).collect();
        let off = difference(&some, &list(&reference["logits"], |v| v.as_f64().unwrap()));
        assert!(off < TOLERANCE, "{name}: logits differ by {off}");
        let norm = reference["norm"].as_f64().unwrap();
        assert!((dot(&ours, &ours).sqrt() / norm - 1.0).abs() < TOLERANCE, "{name}");
        let projection = dot(&ours, &uniform(ours.len(), 30_000));
        assert!((projection - reference["projection"].as_f64().unwrap()).abs() < TOLERANCE * norm, "{name}");
        if !training {
            continue;
        }
        let factor = filled(ours.len(), 20_000, 1.0, 0.0);
        let gradients = recording.backward(vec![(logits, factor)]);
        let references = reference["gradients"].as_object().unwrap();
        assert_eq!(references.len(), gradients.len(), "{name}");
        // The bias on the raw image has gradient 0, because a batch norm takes away what it adds: compare what is
        // that small with the largest gradient.
        let norms = references.values().map(|reference| reference["norm"].as_f64().unwrap());
        let floor = 1e-3 * norms.fold(0.0, f64::max);
        for (parameter, gradient) in weights.parameters.iter().zip(gradients) {
            let reference = &references[&parameter.name];
            let gradient: Vec<f64> = gradient.into_iter().map(f64::from).collect();
            let norm = reference["norm"].as_f64().unwrap();
            let close = |ours: f64, theirs: f64| (ours - theirs).abs() < TOLERANCE * norm.max(floor);
            let at = &parameter.name;
            let ours = dot(&gradient, &gradient).sqrt();
            assert!(close(ours, norm), "{name}: the norm of {at} is {ours} instead of {norm}");
            let projection = dot(&gradient, &uniform(gradient.len(), 30_000));
            let theirs = reference["projection"].as_f64().unwrap();
            assert!(close(projection, theirs), "{name}: {at} projects to {projection} instead of {theirs}");
            let stride = (gradient.len() / 8).max(1);
            let some = gradient.iter().step_by(stride).take(8);
            for (&ours, theirs) in some.zip(list(&reference["values"], |v| v.as_f64().unwrap())) {
                assert!(close(ours, theirs), "{name}: {at}: {ours} instead of {theirs}");
            }
        }
    }
}

fn small() -> Network {
    let shape = DeepMedicShape {
        features: vec![4, 4, 6, 6, 6, 6, 8, 8],
        hidden: vec![24, 24],
        ..Variant::Default.shape()
    };
    Network::DeepMedic(DeepMedic { channels: 1, classes: 2, shape })
}

fn logits(network: &Network, weights: &Weights, mode: Mode) -> (Vec<f32>, Vec<Statistics>) {
    let field = network.field([19; 3]).unwrap();
    let inputs =
        (0..).zip(&field.pathways).map(|(stream, p)| input([2, 1, p.size[0], p.size[1], p.size[2]], stream));
    let bound = weights.bind(&Device::Cpu);
    let mut output = network.forward(&bound, inputs.collect(), mode);
    (output.logits.swap_remove(0).into_channels_last().into_host(), output.statistics)
}

#[test]
fn dropout_is_the_same_within_a_step_and_another_in_the_next() {
    let (network, training) = (small(), |step| Mode::Training { seed: 5, step });
    let weights = network.initialise(3);
    let first = logits(&network, &weights, training(7));
    assert_eq!(first, logits(&network, &weights, training(7)));
    assert_ne!(first.0, logits(&network, &weights, training(8)).0);
    assert_ne!(first.0, logits(&network, &weights, Mode::Training { seed: 6, step: 7 }).0);
    assert!(logits(&network, &weights, Mode::Evaluation).1.is_empty());
    let frozen = |step| logits(&network, &weights, Mode::Frozen { seed: 5, step });
    assert_eq!(frozen(7), frozen(7));
    assert_ne!(frozen(7).0, frozen(8).0);
    assert!(frozen(7).1.is_empty());
}

#[test]
fn running_statistics_follow_the_batches() {
    let network = small();
    let mut weights = network.initialise(3);
    let measured = |value: f32| Statistics {
        layer: "hidden.0.norm".to_owned(),
        mean: vec![value; 24],
        variance: vec![2.0 * value; 24],
        count: 5,
    };
    let kept = |weights: &Weights, what: &str| {
        let name = format!("hidden.0.norm.{what}");
        weights.buffers.iter().find(|buffer| buffer.name == name).unwrap().values[0]
    };
    // The first batches are averaged plainly: 1, then (1 + 3) / 2; variances are made unbiased by 5 / 4.
    weights.follow(&[measured(1.0)], 0);
    assert_eq!((kept(&weights, "running_mean"), kept(&weights, "running_variance")), (1.0, 2.5));
    weights.follow(&[measured(3.0)], 1);
    assert_eq!((kept(&weights, "running_mean"), kept(&weights, "running_variance")), (2.0, 5.0));
    // Later ones count 2 / 61.
    weights.follow(&[measured(63.0)], 1000);
    assert!((kept(&weights, "running_mean") - 4.0).abs() < 1e-5);
}

#[test]
fn evaluation_uses_the_running_statistics_and_they_make_it_agree_with_training() {
    let shape = DeepMedicShape { dropout: vec![0.0; 3], ..Variant::BasicSmall.shape() };
    let network = Network::DeepMedic(DeepMedic { channels: 1, classes: 2, shape });
    let mut weights = network.initialise(3);
    let before = logits(&network, &weights, Mode::Evaluation).0;
    let (trained, mut statistics) = logits(&network, &weights, Mode::Training { seed: 0, step: 0 });
    // With the very statistics of the batch (biased) both modes are one function.
    statistics.iter_mut().for_each(|layer| layer.count = 1 << 40);
    weights.follow(&statistics, 0);
    let after = logits(&network, &weights, Mode::Evaluation).0;
    assert_ne!(before, after);
    // Frozen, dropout is that of the step and batch norm that of evaluation.
    assert_eq!(after, logits(&network, &weights, Mode::Frozen { seed: 0, step: 0 }).0);
    let of = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    assert!(difference(&of(&after), &of(&trained)) < 1e-4);
}
