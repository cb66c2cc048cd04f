//! The columns of the segmentation losses by their formulas, their gradients by central differences.

use segen_kernels::{IGNORED, UNLABELLED, VoxelLoss};

use super::Exact;
use crate::operator::Labels;

pub(crate) fn softmax(logits: &Exact) -> Vec<f64> {
    let mut values = vec![];
    for voxel in logits.values.chunks(logits.shape[4]) {
        let largest = voxel.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = voxel.iter().map(|z| (z - largest).exp()).sum();
        values.extend(voxel.iter().map(|z| (z - largest).exp() / sum));
    }
    values
}

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

/// What a voxel adds to the sums.
enum Shows {
    Nothing,
    /// The number of voxels alone.
    Count,
    /// One share per class.
    Classes(Vec<f64>),
}

fn shows(labels: &Labels, voxel: usize, classes: usize) -> Shows {
    let first = usize::from(labels.first[voxel]);
    let (second, share) = match &labels.second {
        Some((second, share)) => (usize::from(second[voxel]), f64::from(*share)),
        None => (first, 1.0),
    };
    if [first, second].contains(&IGNORED) {
        return Shows::Nothing;
    }
    if [first, second].contains(&UNLABELLED) {
        return Shows::Count;
    }
    let mut y = vec![0.0; classes];
    y[first] += share;
    y[second] += 1.0 - share;
    Shows::Classes(y)
}

pub(crate) fn sums(logits: &Exact, labels: &Labels, loss: &VoxelLoss) -> Vec<f64> {
    let classes = logits.shape[4];
    let width = 2 + 4 * classes;
    let voxels: usize = logits.shape[1..4].iter().product();
    let mut sums = vec![0.0; logits.shape[0] * width];
    for (i, logits) in logits.values.chunks(classes).enumerate() {
        let sums = &mut sums[i / voxels * width..][..width];
        match shows(labels, i, classes) {
            Shows::Nothing => {}
            Shows::Count => sums[1 + 3 * classes] += 1.0,
            Shows::Classes(y) => {
                sums.iter_mut().zip(voxel(logits, &y, loss)).for_each(|(sum, column)| *sum += column);
            }
        }
    }
    sums
}

pub(crate) fn gradient(logits: &Exact, labels: &Labels, loss: &VoxelLoss, slopes: &[f64]) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let classes = logits.shape[4];
    let width = 2 + 4 * classes;
    let voxels: usize = logits.shape[1..4].iter().product();
    let mut gradient = vec![0.0; logits.values.len()];
    for (i, logits) in logits.values.chunks(classes).enumerate() {
        let Shows::Classes(y) = shows(labels, i, classes) else { continue };
        let slopes = &slopes[i / voxels * width..][..width];
        for class in 0..classes {
            let at = |step: f64| {
                let mut moved = logits.to_vec();
                moved[class] += step;
                voxel(&moved, &y, loss).iter().zip(slopes).map(|(column, slope)| column * slope).sum::<f64>()
            };
            gradient[i * classes + class] = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        }
    }
    gradient
}
