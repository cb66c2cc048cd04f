//! The sums of voxel losses and their gradients against formulas in f64 with central differences.

use rand::RngExt;
use segen_kernels::{IGNORED, UNLABELLED, VoxelLoss};

use crate::network::Network;
use crate::operator::{Labels, Operator};
use crate::support::*;

/// A small batch: logits (batch, x, y, z, class) and labels.
struct Scene {
    classes: usize,
    logits: Vec<f32>,
    labels: Labels,
}

const EDGES: [usize; 4] = [2, 3, 4, 5];
const VOXELS: usize = 60;

fn scenes(classes: usize, random: &mut Random) -> Vec<Scene> {
    let count = EDGES[0] * VOXELS;
    let mut logits = |scale: f32| -> Vec<f32> {
        (0..count * classes).map(|_| scale * random.0.random_range(-1.0..1.0_f32)).collect()
    };
    let (plain, mut extreme) = (logits(5.0), logits(5.0));
    for (i, logit) in extreme.iter_mut().enumerate().filter(|(i, _)| (i / classes).is_multiple_of(5)) {
        *logit = if (i / classes + i % classes).is_multiple_of(2) { 100.0 } else { -100.0 };
    }
    let mut labels = |classes: usize| random.labels(count, classes);
    // The last class is absent from the first scene; the second is background alone.
    let (most, all, other) = (labels(classes - 1), labels(classes), labels(classes));
    let mut holes = all.clone();
    holes.iter_mut().step_by(7).for_each(|label| *label = IGNORED as u8);
    holes.iter_mut().step_by(9).for_each(|label| *label = UNLABELLED as u8);
    let scene = |logits: &[f32], first: Vec<u8>, second: Option<(Vec<u8>, f32)>| {
        let labels = Labels { first, second };
        Scene { classes, logits: logits.to_vec(), labels }
    };
    vec![
        scene(&plain, most, None),
        scene(&extreme, vec![0; count], None),
        scene(&extreme, all, None),
        scene(&plain, holes.clone(), None),
        scene(&plain, holes, Some((other, 0.3))),
    ]
}

fn losses(classes: usize) -> Vec<VoxelLoss> {
    let rare: Vec<f32> = (0..classes).map(|class| if class + 1 == classes { 1.0 } else { 0.0 }).collect();
    let common: Vec<f32> = rare.iter().map(|rare| 4.0 * (1.0 - rare)).collect();
    let none = VoxelLoss::default();
    vec![
        none.clone(),
        VoxelLoss { margin: vec![1.0; classes], ..none.clone() },
        VoxelLoss { margin: rare.clone(), focal: common.clone(), ..none.clone() },
        VoxelLoss { focal: vec![2.0; classes], epsilon: 1e-6, ..none.clone() },
        VoxelLoss {
            focal: vec![1.0; classes],
            weight: rare.iter().map(|r| 0.5 + r).collect(),
            ..none.clone()
        },
        VoxelLoss {
            focal: common.iter().map(|c| 0.1 * c).collect(),
            margin: rare.iter().map(|r| 0.3 * r).collect(),
            ..none.clone()
        },
        VoxelLoss { focal: vec![0.05; classes], epsilon: 1e-6, ..none.clone() },
        VoxelLoss { focal: common, margin: rare, epsilon: 1e-6, ..none },
    ]
}

#[test]
fn sums_and_gradients_agree_with_f64() {
    let [batch, x, y, z] = EDGES;
    let mut random = Random::new(23);
    for classes in [2, 3, 5] {
        for (number, scene) in scenes(classes, &mut random).iter().enumerate() {
            for loss in losses(classes) {
                let logits = Tensor::new(scene.logits.clone(), &[batch, x, y, z, scene.classes]);
                let operator = Operator::SegmentationSums(scene.labels.clone(), loss.clone());
                let network = Network::random(operator, &[logits], &mut random);
                let expected = network.exact();
                for path in paths() {
                    let what = format!("{path}: {classes} classes, scene {number}, {loss:?}");
                    let results = on(path).scoped(|| network.run());
                    assert!(results.iter().flatten().all(|v| v.is_finite()), "{what}");
                    let errors = [0, 1].map(|i| relative(&results[i], &expected[i]));
                    assert!(errors[0] < 1e-5 && errors[1] < 2e-5, "{what}: {errors:?}");
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let mut random = Random::new(5);
    let logits = random.tensor(&[2, 30, 31, 29, 3]).map(|value| 6.0 * value);
    let [first, second] = [(); 2].map(|()| random.labels(2 * 30 * 31 * 29, 3));
    let labels = Labels { first, second: Some((second, 0.6)) };
    let operator = Operator::SegmentationSums(labels, losses(3).pop().unwrap());
    let network = Network::of(operator, &[logits], &Tensor::full(0.5, &[2, 14]));
    for path in paths() {
        let runs = [1, 2].map(|threads| on(path).with_threads(threads).scoped(|| network.run()));
        assert!(runs[0] == runs[1], "{path}: results depend on the number of threads");
    }
}
