//! Tests of `segen::meta` against automatic differentiation; see tests/reference/make_meta.py.

use burn::tensor::Device;
use segen::loader::{Batch, Input};
use segen::loss::Loss;
use segen::meta::Meta;
use segen::network::{Network, UNet, Weights};
use segen::plan::{DiceReduction, UNetShape};
use segen::policy::settings::Difference;
use segen::step::Objective;

use crate::networks::{filled, uniform, weights};
use crate::support;

const EDGE: usize = 8;

fn network() -> Network {
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

/// dL_val / dw_b for every sample, ours and PyTorch's.
fn gradients(difference: Difference, displacement: f64) -> (Vec<f64>, Vec<f64>, Weights) {
    let text = std::fs::read_to_string(support::data("meta.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&text).unwrap();
    let numbers = |key: &str| -> Vec<f64> {
        reference[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let rate = reference["rate"].as_f64().unwrap();
    let (network, device) = (network(), Device::flex());
    let weights = weights(&network);
    let training = objective(&network, &device, DiceReduction::Sample);
    let validation = objective(&network, &device, DiceReduction::Batch);
    let meta = Meta { training: &training, validation: &validation, displacement, difference };
    let (seen, held_out) = (batch(5, 40_000), batch(3, 50_000));
    let result = training.gradient(&weights, &seen).unwrap();
    for (ours, theirs) in result.value.per_sample.iter().zip(numbers("training_losses")) {
        assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
    }
    assert_eq!(training.losses(&weights, &seen).unwrap(), result.value.per_sample, "the same pass");
    let before = weights.clone();
    let found = meta.look_ahead(&weights, &seen, &result, rate, &held_out).unwrap();
    assert_eq!(weights, before, "the weights stay what they were");
    assert!((found.validation_loss - reference["validation_loss"].as_f64().unwrap()).abs() < 1e-5);
    let slopes = found.alignments.unwrap().iter().map(|s| -rate / 5.0 * s).collect();
    (slopes, numbers("weight_gradient"), weights)
}

#[test]
fn the_meta_gradient_is_that_of_the_unrolled_step() {
    // In f32 the rounding of a loss, some 1e-7, is divided by the displacement; the one-sided difference has an
    // error proportional to the displacement besides.
    for (difference, displacement) in [(Difference::Central, 1e-2), (Difference::OneSided, 1e-3)] {
        let (ours, theirs, _) = gradients(difference, displacement);
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let apart: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        let error = norm(&apart) / norm(&theirs);
        assert!(error < 2e-2, "{difference:?}: relative error {error:.2e}, {ours:?} instead of {theirs:?}");
    }
}
