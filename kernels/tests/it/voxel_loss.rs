//! The sums of voxel losses and their gradients against formulas in f64 with central differences.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{Activation, IGNORED, Path, Target, UNLABELLED, VoxelLoss};
use rand::RngExt;
use segen_kernels as kernels;

use crate::support::*;

/// A small batch: logits (batch, x, y, z, class), labels, the second labels of a mixture and its share.
struct Scene {
    classes: usize,
    logits: Vec<f32>,
    first: Vec<i32>,
    second: Option<(Vec<i32>, f32)>,
}

const EDGES: [usize; 4] = [2, 3, 4, 5];
const VOXELS: usize = 60;

/// The columns of one voxel.
fn voxel(logits: &[f64], y: &[f64], loss: &VoxelLoss) -> Vec<f64> {
    let value = |list: &[f32], class: usize, default: f64| list.get(class).map_or(default, |v| f64::from(*v));
    let classes = logits.len();
    let z: Vec<f64> = (0..classes).map(|c| logits[c] - value(&loss.margin, c, 0.0) * y[c]).collect();
    let largest = z.iter().copied().fold(f64::MIN, f64::max);
    let log_sum = largest + z.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
    let q: Vec<f64> = z.iter().map(|z| (z - log_sum).exp()).collect();
    let epsilon = f64::from(loss.epsilon);
    let mut columns = vec![0.0; 2 + 4 * classes];
    columns[1 + 3 * classes] = 1.0;
    for c in 0..classes {
        let rest: f64 = (0..classes).filter(|other| *other != c).map(|other| q[other]).sum();
        let exponent = value(&loss.focal, c, 0.0);
        let a = if exponent == 0.0 { 1.0 } else { (rest + epsilon).powf(exponent) };
        let log = if epsilon == 0.0 { z[c] - log_sum } else { (q[c] + epsilon).ln() };
        columns[0] -= value(&loss.weight, c, 1.0) * y[c] * a * log;
        columns[1 + c] = q[c] * y[c];
        columns[1 + classes + c] = q[c] * (1.0 - y[c]);
        columns[1 + 2 * classes + c] = rest * y[c];
        columns[2 + 3 * classes + c] = rest * y[c] * a;
    }
    columns
}

/// Sums and, for a factor of the sums, the gradient of the logits.
fn reference(scene: &Scene, loss: &VoxelLoss, factor: &[f32]) -> [Vec<f64>; 2] {
    let width = 2 + 4 * scene.classes;
    let mut sums = vec![0.0; EDGES[0] * width];
    let mut gradient = vec![0.0; scene.logits.len()];
    for i in 0..EDGES[0] * VOXELS {
        let sample = i / VOXELS * width..(i / VOXELS + 1) * width;
        let labels = [scene.first[i], scene.second.as_ref().map_or(scene.first[i], |(second, _)| second[i])];
        if labels.contains(&(IGNORED as i32)) {
            continue;
        }
        if labels.contains(&(UNLABELLED as i32)) {
            sums[sample.start + 1 + 3 * scene.classes] += 1.0;
            continue;
        }
        let share = scene.second.as_ref().map_or(1.0, |(_, share)| f64::from(*share));
        let mut y = vec![0.0; scene.classes];
        y[labels[0] as usize] += share;
        y[labels[1] as usize] += 1.0 - share;
        let logits: Vec<f64> =
            scene.logits[i * scene.classes..][..scene.classes].iter().map(|v| f64::from(*v)).collect();
        for (sum, column) in sums[sample.clone()].iter_mut().zip(voxel(&logits, &y, loss)) {
            *sum += column;
        }
        for class in 0..scene.classes {
            let at = |step: f64| {
                let mut moved = logits.clone();
                moved[class] += step;
                let columns = voxel(&moved, &y, loss);
                columns.iter().zip(&factor[sample.clone()]).map(|(c, f)| c * f64::from(*f)).sum::<f64>()
            };
            gradient[i * scene.classes + class] = (at(1e-5) - at(-1e-5)) / 2e-5;
        }
    }
    [sums, gradient]
}

fn run(scene: &Scene, loss: &VoxelLoss, factor: &[f32]) -> Vec<Vec<f32>> {
    let [batch, x, y, z] = EDGES;
    let logits = leaf(&Tensor::from_data(
        TensorData::new(scene.logits.clone(), [batch, x, y, z, scene.classes]),
        &Device::flex(),
    ));
    let tensor = |labels: &[i32]| {
        let data = TensorData::new(labels.to_vec(), EDGES);
        Tensor::<4, Int>::from_data(data, &Device::flex().autodiff())
    };
    let target = match &scene.second {
        None => Target::from(tensor(&scene.first)),
        Some((second, share)) => Target::mixture(tensor(&scene.first), tensor(second), *share),
    };
    let sums = kernels::segmentation_sums(Activation::from_channels_last(logits.clone()), target, loss);
    let factor = Tensor::from_data(TensorData::new(factor.to_vec(), sums.dims()), &Device::flex());
    gradients::<2, 1>(sums, &factor, &[logits], &[])
}

fn scenes(classes: usize, random: &mut Random) -> Vec<Scene> {
    let count = EDGES[0] * VOXELS;
    let mut logits = |scale: f32| -> Vec<f32> {
        (0..count * classes).map(|_| scale * random.0.random_range(-1.0..1.0_f32)).collect()
    };
    let (plain, mut extreme) = (logits(5.0), logits(5.0));
    for (i, logit) in extreme.iter_mut().enumerate().filter(|(i, _)| (i / classes).is_multiple_of(5)) {
        *logit = if (i / classes + i % classes).is_multiple_of(2) { 100.0 } else { -100.0 };
    }
    let mut labels =
        |classes: i32| -> Vec<i32> { (0..count).map(|_| random.0.random_range(0..classes)).collect() };
    // The last class is absent from the first scene; the second is background alone.
    let (most, all, other) = (labels(classes as i32 - 1), labels(classes as i32), labels(classes as i32));
    let mut holes = all.clone();
    holes.iter_mut().step_by(7).for_each(|label| *label = IGNORED as i32);
    holes.iter_mut().step_by(9).for_each(|label| *label = UNLABELLED as i32);
    vec![
        Scene { classes, logits: plain.clone(), first: most, second: None },
        Scene { classes, logits: extreme.clone(), first: vec![0; count], second: None },
        Scene { classes, logits: extreme, first: all, second: None },
        Scene { classes, logits: plain.clone(), first: holes.clone(), second: None },
        Scene { classes, logits: plain, first: holes, second: Some((other, 0.3)) },
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
        VoxelLoss { focal: common, margin: rare, epsilon: 1e-6, ..none },
    ]
}

fn relative(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let apart: f64 = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (apart / expected.iter().map(|v| v * v).sum::<f64>().max(1e-12)).sqrt()
}

#[test]
fn sums_and_gradients_agree_with_f64() {
    let mut random = Random::new(23);
    for classes in [2, 3, 5] {
        for (number, scene) in scenes(classes, &mut random).iter().enumerate() {
            for loss in losses(classes) {
                let factor = vector(random.factor([EDGES[0], 2 + 4 * classes]));
                let [sums, gradient] = reference(scene, &loss, &factor);
                for path in paths().into_iter().chain([Path::Stock]) {
                    let results = on(path).scoped(|| run(scene, &loss, &factor));
                    assert!(
                        results.iter().flatten().all(|v| v.is_finite()),
                        "{path}: scene {number} {loss:?}"
                    );
                    let errors = [relative(&results[0], &sums), relative(&results[1], &gradient)];
                    assert!(
                        errors[0] < 1e-5 && errors[1] < 2e-5,
                        "{path}: {classes} classes, scene {number}, {loss:?}: {errors:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let mut random = Random::new(5);
    let shape = [2, 30, 31, 29, 3];
    let logits = random.tensor(shape) * 6.0;
    let count = 2 * 30 * 31 * 29;
    let mut labels = || -> Vec<i32> { (0..count).map(|_| random.0.random_range(0..3)).collect() };
    let labels = [labels(), labels()];
    let loss = losses(3).pop().unwrap();
    for path in paths() {
        let step = || {
            let [first, second] = labels.clone().map(|labels| {
                Tensor::<4, Int>::from_data(TensorData::new(labels, [2, 30, 31, 29]), &Device::flex())
            });
            let logits = leaf(&logits);
            let target = Target::mixture(first, second, 0.6);
            let sums =
                kernels::segmentation_sums(Activation::from_channels_last(logits.clone()), target, &loss);
            let factor = Tensor::from_data(TensorData::new(vec![0.5_f32; 28], [2, 14]), &Device::flex());
            gradients::<2, 1>(sums, &factor, &[logits], &[])
        };
        let runs = [1, 2].map(|threads| on(path).with_threads(threads).scoped(step));
        assert!(runs[0] == runs[1], "{path}: results depend on the number of threads");
    }
}
