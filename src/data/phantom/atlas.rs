//! T1-weighted heads with chronic strokes, as in ATLAS: one channel, one class, and masks of the brain.

use ndarray::Array3;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::field::{Domain, smooth};
use super::head::{FLUID, Head, TISSUES, WHITE};
use super::lesion::{Blob, lowest, pick, split};
use super::scanner::Magnet;
use super::{Made, Split, Streams};

/// Air, bone, marrow, fat, muscle, fluid, grey, white, deep grey, vessel, changed white matter.
const T1: [f32; TISSUES] = [1.0, 14.0, 75.0, 135.0, 55.0, 24.0, 68.0, 104.0, 84.0, 60.0, 84.0];

pub(super) fn make(domain: &Domain, source: Split, voxels: usize, streams: &mut Streams) -> Made {
    let head = Head::new(domain, &mut streams.anatomy);
    let magnet = Magnet::draw(source, &mut streams.scanner);
    let table = magnet.tissues(&T1, &mut streams.scanner);
    let mut ideal = head.tissues.mapv(|mixture| mixture.mean(&table));
    let mut labels = Array3::<u8>::zeros(domain.shape);
    if voxels > 0 {
        let parts = [1, 1, 1, 2, 2, 3][streams.lesions.random_range(0..6)];
        for size in split(voxels, parts, &mut streams.lesions) {
            let look = Look::draw(source, &table, &mut streams.lesions);
            stroke(domain, &head, size, look, &mut ideal, &mut labels, &mut streams.lesions);
        }
    }
    let shared = magnet.shared(domain, &mut streams.scanner);
    let channel = magnet.measure(domain, ideal, &shared, &mut streams.scanner);
    // Where a brain extraction would find the brain, with its lesions.
    let mut mask = head.brain.mapv(|share| u8::from(share >= 0.5));
    mask.zip_mut_with(&labels, |inside, label| *inside |= *label);
    Made { channels: vec![channel], labels, mask: Some(mask) }
}

/// How one stroke looks: tissue is moved by `strength` towards `target`.
#[derive(Clone, Copy)]
struct Look {
    target: f32,
    strength: f32,
}

impl Look {
    /// A broad mixture: bright (bled) ones, signal voids (iron of old bleedings), scars and holes filled with fluid,
    /// which look like the fluid around the brain. In the test set the latter are more frequent.
    fn draw(source: Split, table: &[f32; TISSUES], rng: &mut ChaCha8Rng) -> Self {
        let until = match source {
            Split::Training => [0.45, 0.80, 0.92],
            Split::Test => [0.40, 0.75, 0.90],
        };
        let kind: f32 = rng.random_range(0.0..1.0);
        let fluid = table[FLUID];
        if kind < until[0] {
            Self { target: table[WHITE] * rng.random_range(1.7..2.4), strength: rng.random_range(0.5..1.0) }
        } else if kind < until[1] {
            Self { target: 0.1 * fluid, strength: rng.random_range(0.85..1.0) }
        } else if kind < until[2] {
            Self { target: fluid, strength: rng.random_range(0.4..0.75) }
        } else {
            Self { target: fluid, strength: rng.random_range(0.75..1.0) }
        }
    }
}

fn stroke(
    domain: &Domain,
    head: &Head,
    voxels: usize,
    look: Look,
    ideal: &mut Array3<f32>,
    labels: &mut Array3<u8>,
    rng: &mut ChaCha8Rng,
) {
    let free = |labels: &Array3<u8>, i: [usize; 3]| head.parenchyma(i) >= 0.25 && labels[i] == 0;
    let seed = pick(domain, rng, |i| free(labels, i) && head.parenchyma(i) > 0.7 && head.brain[i] > 0.95);
    let Some(seed) = seed else { return };
    let roughness = rng.random_range(0.25..0.5);
    let blob = Blob::new(domain, domain.position(seed), voxels, roughness, rng);
    let score = |i: [usize; 3]| blob.score(domain, i) + 0.4 * (1.0 - head.parenchyma(i));
    let (inside, rim) = lowest(domain, voxels, |i| free(labels, i).then(|| score(i)));
    for index in inside {
        labels[index] = 1;
    }
    let uneven = smooth(domain, (0.5 * blob.radius()).max(1.5 * domain.voxel()), rng);
    for ((x, y, z), value) in ideal.indexed_iter_mut() {
        let index = [x, y, z];
        // In voxels from the rim; scars surround a hole, so the middle is changed most.
        let depth = (rim - score(index)) * blob.radius() / domain.voxel();
        if depth > -0.5 {
            let share = (depth + 0.5).min(1.0) * (0.7 + 0.15 * depth).min(1.0);
            let strength = (look.strength * (1.0 + 0.2 * uneven[index])).clamp(0.0, 1.0);
            *value += share * strength * head.parenchyma(index).min(1.0) * (look.target - *value);
        }
    }
}
