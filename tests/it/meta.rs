//! Tests of `segen::learn::meta` against automatic differentiation; see tests/reference/make_meta.py.

use segen::batch::{Batch, Input};
use segen::config::DiceReduction;
use segen::config::published::Difference;
use segen::learn::loss::Loss;
use segen::learn::meta::{Displacement, Meta, look_ahead};
use segen::learn::objective::Objective;
use segen::network::UNetShape;
use segen::network::{Network, UNet};
use segen_kernels::Device;

use crate::double::Double;
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
    let (network, device) = (network(), Device::Cpu);
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
    if difference == Difference::OneSided {
        // Without batch norm or dropout a patch that is drawn again as it was has the same alignment, every time.
        let again = [seen.clone(), seen.clone()];
        let often = meta.look_again(&weights, &again, &result, rate, &held_out).unwrap();
        let once = found.alignments.as_ref().unwrap();
        assert_eq!(often.alignments.unwrap(), [once.as_slice(), once].concat());
    }
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

#[test]
fn in_double_precision_only_the_error_of_the_difference_is_left() {
    let reference = Reference::read();
    let parameters = weights(&network()).parameters;
    let double = Double {
        names: parameters.iter().map(|p| p.name.clone()).collect(),
        training: batch(5, 40_000),
        held_out: batch(3, 50_000),
    };
    let start: Vec<Vec<f64>> =
        parameters.iter().map(|p| p.values.iter().map(|v| f64::from(*v)).collect()).collect();
    let (known, gradient) = double.losses(&start, &double.training, DiceReduction::Sample);
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
