//! Tests of `segen::learn::loss` with the sums of the kernels: PyTorch's values (see
//! tests/reference/make_methods.py) and worked examples.

use segen::config::ClassWeights;
use segen::learn::loss::Loss;
use segen_kernels::{Activation, Array, Device, IGNORED, Recording, Target, VoxelLoss, segmentation_sums};
use serde_json::Value;

use crate::networks::{filled, uniform};
use crate::support;

const BATCH: usize = 2;
const EDGES: [usize; 3] = [2, 3, 4];

/// Labels of the script: class numbers from a hash, one class of five absent.
fn labels(classes: usize, stream: u32) -> Vec<u8> {
    let voxels = BATCH * EDGES.iter().product::<usize>();
    let class = |u: f64| ((((u + 1.0) / 2.0) * classes as f64) as u8).min(classes as u8 - 1);
    let drawn = uniform(voxels, stream).into_iter().map(class);
    drawn.map(|class| if classes == 5 && class == 3 { 0 } else { class }).collect()
}

/// Value and gradient with respect to the logits, (batch, class, x, y, z).
fn evaluate(loss: &Loss, logits: Array, target: Target, voxels: &[f64]) -> (f64, Vec<f32>) {
    let recording = Recording::new();
    let classes = logits.shape()[1];
    let activation = Activation::from_channels_first(recording.leaf(logits));
    let sums = segmentation_sums(activation, target, &loss.voxel_loss(0, voxels));
    let numbers: Vec<f64> = sums.to_host().into_iter().map(f64::from).collect();
    let (value, slope) = loss.evaluate(&numbers, classes);
    let slope = slope.into_iter().map(|s| s as f32).collect();
    (value.total, recording.backward(vec![(sums, slope)]).swap_remove(0))
}

fn relative(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let apart: f64 = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (apart / expected.iter().map(|v| v * v).sum::<f64>()).sqrt()
}

#[test]
fn losses_and_gradients_agree_with_pytorch() {
    let text = std::fs::read_to_string(support::data("methods.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let cases = reference["losses"].as_array().unwrap();
    assert_eq!(cases.len(), 42);
    for case in cases {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let stream = case["stream"].as_u64().unwrap() as u32;
        let number = |key: &str| case[key].as_f64().unwrap();
        let list = |key: &str| -> Vec<f32> {
            case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let [x, y, z] = EDGES;
        let values = filled(BATCH * classes * x * y * z, stream, 4.0, 0.0);
        let logits = Array::from_host(values, &[BATCH, classes, x, y, z], &Device::Cpu);
        let mut first = labels(classes, stream + 1);
        if case["ignored"].as_bool().unwrap() {
            first.iter_mut().step_by(7).for_each(|label| *label = IGNORED as u8);
        }
        let other = case["share"].as_f64().map(|share| (labels(classes, stream + 2), share as f32));
        let target = Target::mixture(first, other, [BATCH, x, y, z]);
        let weights: Vec<f64> = list("weight").into_iter().map(f64::from).collect();
        let loss = Loss {
            cross_entropy: number("cross_entropy"),
            dice: number("dice"),
            beta: number("beta"),
            reduction: serde_json::from_value(case["reduction"].clone()).unwrap(),
            mean: serde_json::from_value(case["mean"].clone()).unwrap(),
            absent: serde_json::from_value(case["absent"].clone()).unwrap(),
            weights: if weights.is_empty() { ClassWeights::default() } else { ClassWeights::Given(weights) },
            relax: None,
            voxel: VoxelLoss {
                margin: list("margin"),
                focal: list("focal"),
                weight: Vec::new(),
                epsilon: number("epsilon") as f32,
            },
        };
        let (value, gradient) = evaluate(&loss, logits, target, &[1.0; 5][..classes]);
        let expected: Vec<f64> =
            case["gradient"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let error = relative(&gradient, &expected);
        assert!((value - number("loss")).abs() < 1e-5 * number("loss").max(1.0), "{case}: {value}");
        assert!(error < 1e-5, "{classes} classes, {case}: gradient differs by {error:.1e} of its norm");
    }
}

/// Loss and gradient of one voxel.
fn voxel(logits: &[f32], label: u8, voxel: VoxelLoss) -> (f64, Vec<f32>) {
    let classes = logits.len();
    let logits = Array::from_host(logits.to_vec(), &[1, classes, 1, 1, 1], &Device::Cpu);
    let loss = Loss { dice: 0.0, voxel, ..Loss::default() };
    evaluate(&loss, logits, Target::new(vec![label], [1; 4]), &vec![0.0; classes])
}

/// With margins, exponents and epsilon.
fn settings(margin: &[f32], focal: &[f32], epsilon: f32) -> VoxelLoss {
    VoxelLoss { margin: margin.to_vec(), focal: focal.to_vec(), weight: Vec::new(), epsilon }
}

#[track_caller]
fn expect(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1.1e-6, "{found} instead of {expected}");
}

#[test]
fn the_worked_examples_of_one_voxel() {
    let two = [1.0, 0.5];
    let three = [1.0, 0.2, -0.5];
    let of = |logits: &[f32], label, margin: &[f32], focal: &[f32], epsilon| {
        voxel(logits, label, settings(margin, focal, epsilon)).0
    };
    // Exact.
    for (label, plain, margin) in [(0, 0.474_077, 0.554_355), (1, 0.974_077, 1.103_186)] {
        expect(of(&two, label, &[], &[], 0.0), plain);
        expect(of(&two, label, &[0.2, 0.2], &[], 0.0), margin);
    }
    expect(of(&two, 1, &[0.0, 1.0], &[], 0.0), 1.701_413);
    expect(of(&two, 0, &[], &[2.0, 2.0], 0.0), 0.067_573);
    expect(of(&two, 1, &[], &[2.0, 2.0], 0.0), 0.377_412);
    expect(of(&two, 0, &[], &[4.0, 0.0], 0.0), 0.009_632);
    for (label, plain, margin, focal) in [
        (0, 0.514_295, 0.514_295, 0.013_442),
        (1, 1.314_295, 2.128_173, 0.375_977),
        (2, 2.014_295, 2.926_191, 1.135_975),
    ] {
        expect(of(&three, label, &[], &[], 0.0), plain);
        expect(of(&three, label, &[0.0, 1.0, 1.0], &[], 0.0), margin);
        expect(of(&three, label, &[], &[4.0; 3], 0.0), focal);
    }
    // With the published epsilon.
    let e = 1e-6;
    for (label, plain, margin) in [(0, 0.474_075, 0.554_354), (1, 0.974_074, 1.103_183)] {
        expect(of(&two, label, &[], &[], e), plain);
        expect(of(&two, label, &[0.2, 0.2], &[], e), margin);
    }
    expect(of(&two, 0, &[0.0, 0.2], &[], e), 0.474_075);
    expect(of(&two, 1, &[0.0, 1.0], &[], e), 1.701_408);
    expect(of(&two, 0, &[], &[2.0, 2.0], e), 0.067_574);
    expect(of(&two, 1, &[], &[2.0, 2.0], e), 0.377_412);
    expect(of(&two, 0, &[], &[4.0, 0.0], e), 0.009_632);
    expect(of(&two, 1, &[], &[4.0, 0.0], e), 0.974_074);
    expect(of(&two, 0, &[0.0, 0.2], &[2.0, 0.0], e), 0.067_574);
    expect(of(&two, 1, &[0.0, 0.2], &[2.0, 0.0], e), 1.103_183);
    for (label, plain, margin, both_rare, focal, one_rare) in [
        (0, 0.514_293, 0.514_293, 0.013_442, 0.013_442, 0.013_442),
        (1, 1.314_291, 1.314_291, 1.314_291, 0.375_978, 0.375_978),
        (2, 2.014_288, 2.926_173, 2.014_288, 1.135_976, 2.014_288),
    ] {
        expect(of(&three, label, &[], &[], e), plain);
        expect(of(&three, label, &[0.0, 0.0, 1.0], &[], e), margin);
        expect(of(&three, label, &[], &[4.0, 0.0, 0.0], e), both_rare);
        expect(of(&three, label, &[], &[4.0; 3], e), focal);
        expect(of(&three, label, &[], &[4.0, 4.0, 0.0], e), one_rare);
    }
}

#[test]
fn the_worked_gradients_of_one_voxel() {
    let gradient = |logits: &[f32], label, margin: &[f32], focal: &[f32], epsilon| {
        voxel(logits, label, settings(margin, focal, epsilon)).1
    };
    let check = |found: Vec<f32>, expected: &[f64]| {
        found.iter().zip(expected).for_each(|(found, expected)| expect(f64::from(*found), *expected));
    };
    let two = [1.0, 0.5];
    let e = 1e-6;
    check(gradient(&two, 0, &[], &[], e), &[-0.377_540, 0.377_540]);
    check(gradient(&two, 1, &[], &[], e), &[0.622_458, -0.622_458]);
    check(gradient(&two, 0, &[0.2, 0.2], &[], e), &[-0.425_557, 0.425_557]);
    check(gradient(&two, 1, &[0.2, 0.2], &[], e), &[0.668_186, -0.668_186]);
    check(gradient(&two, 1, &[0.0, 1.0], &[], e), &[0.817_570, -0.817_570]);
    check(gradient(&two, 0, &[], &[2.0, 2.0], e), &[-0.137_937, 0.137_937]);
    check(gradient(&two, 1, &[], &[2.0, 2.0], e), &[0.526_152, -0.526_152]);
    check(gradient(&two, 0, &[], &[4.0, 0.0], e), &[-0.031_652, 0.031_652]);
    let three = [1.0, 0.2, -0.5];
    check(gradient(&three, 2, &[0.0, 0.0, 1.0], &[], e), &[0.652_979, 0.293_402, -0.946_382]);
    check(gradient(&three, 2, &[0.0, 1.0, 1.0], &[], 0.0), &[0.652_991, 0.293_408, -0.946_399]);
    check(gradient(&three, 2, &[], &[4.0; 3], e), &[0.755_479, 0.339_458, -1.094_937]);
}

#[test]
fn soft_labels_and_the_largest_loss() {
    let loss = |epsilon: f32| Loss {
        dice: 0.0,
        voxel: VoxelLoss { epsilon, ..VoxelLoss::default() },
        ..Loss::default()
    };
    for (epsilon, expected) in [(0.0, 0.824_077), (1e-6, 0.824_075)] {
        let logits = Array::from_host(vec![1.0, 0.5], &[1, 2, 1, 1, 1], &Device::Cpu);
        let target = Target::mixture(vec![0], Some((vec![1], 0.3)), [1; 4]);
        expect(evaluate(&loss(epsilon), logits, target, &[0.0; 2]).0, expected);
    }
    // Published code cannot see more than -log 1e-6; the exact loss grows with the logits.
    expect(voxel(&[100.0, -100.0], 1, settings(&[], &[], 1e-6)).0, 13.815_511);
    expect(voxel(&[100.0, -100.0], 1, settings(&[], &[], 0.0)).0, 200.0);
}

#[test]
fn what_is_off_changes_no_bit() {
    let plain = voxel(&[0.3, -1.0, 2.0], 1, VoxelLoss::default());
    for (margin, focal) in [(vec![0.0; 3], vec![]), (vec![], vec![0.0; 3]), (vec![0.0; 3], vec![0.0; 3])] {
        assert_eq!(voxel(&[0.3, -1.0, 2.0], 1, settings(&margin, &focal, 0.0)), plain);
    }
}
