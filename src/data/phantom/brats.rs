//! Skull-stripped heads with gliomas in four correlated channels, as in BraTS.

use ndarray::Array3;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::field::{Domain, smooth};
use super::head::{FLUID, GREY, Head, TISSUES};
use super::lesion::{Blob, lowest, pick, split};
use super::scanner::Magnet;
use super::{Made, Split, Streams};

/// Channels in their order.
pub(super) const CHANNELS: [&str; 4] = ["FLAIR", "T1ce", "T1", "T2"];

/// Label values as in nnU-Net's conversion of BraTS, so that whole tumour, core and enhancing part are nested.
pub(super) const OEDEMA: u8 = 1;
pub(super) const NECROSIS: u8 = 2;
pub(super) const ENHANCING: u8 = 3;

/// Air, bone, marrow, fat, muscle, fluid, grey, white, deep grey, vessel, changed white matter; per channel.
const TYPICAL: [[f32; TISSUES]; 4] = [
    [1.0, 12.0, 70.0, 110.0, 60.0, 20.0, 100.0, 84.0, 92.0, 50.0, 140.0],
    [1.0, 14.0, 80.0, 135.0, 60.0, 26.0, 72.0, 103.0, 86.0, 175.0, 84.0],
    [1.0, 14.0, 75.0, 135.0, 55.0, 24.0, 68.0, 104.0, 84.0, 62.0, 82.0],
    [1.0, 10.0, 80.0, 95.0, 45.0, 185.0, 98.0, 72.0, 82.0, 40.0, 118.0],
];

pub(super) fn make(domain: &Domain, source: Split, voxels: usize, streams: &mut Streams) -> Made {
    let head = Head::new(domain, &mut streams.anatomy);
    let magnet = Magnet::draw(source, &mut streams.scanner);
    let tables = TYPICAL.map(|typical| magnet.tissues(&typical, &mut streams.scanner));
    let mut ideal = tables.map(|table| head.tissues.mapv(|mixture| mixture.mean(&table)));
    let mut labels = Array3::<u8>::zeros(domain.shape);
    if voxels > 0 {
        let parts = if streams.lesions.random_bool(0.2) { 2 } else { 1 };
        for size in split(voxels, parts, &mut streams.lesions) {
            let look = Look::draw(source, &mut streams.lesions);
            glioma(domain, &head, size, &look, &mut ideal, &mut labels, &mut streams.lesions);
        }
    }
    let mask = head.brain.mapv(|share| u8::from(share >= 0.5));
    let shared = magnet.shared(domain, &mut streams.scanner);
    let channels = ideal
        .into_iter()
        .map(|channel| {
            let mut measured = magnet.measure(domain, channel, &shared, &mut streams.scanner);
            // Stripped of everything but the brain, where no voxel is 0.
            measured.zip_mut_with(&mask, |value, inside| {
                *value = if *inside == 1 { value.max(1.0) } else { 0.0 };
            });
            measured
        })
        .collect();
    Made { channels, labels, mask: Some(mask) }
}

/// What one tumour consists of and how its parts look in each channel (white matter in T1 about 100).
struct Look {
    /// Share of the tumour that is core, and of the core that is dead or does not enhance.
    core: f32,
    dead: f32,
    oedema: [f32; 4],
    necrosis: [f32; 4],
    enhancing: [f32; 4],
}

impl Look {
    /// Tumours with an enhancing ring, solidly enhancing ones, and low-grade ones that hardly enhance. The last
    /// kind is twice as frequent in the test set.
    fn draw(source: Split, rng: &mut ChaCha8Rng) -> Self {
        let (ring, solid) = match source {
            Split::Training => (0.55, 0.80),
            Split::Test => (0.35, 0.55),
        };
        let kind: f32 = rng.random_range(0.0..1.0);
        let mut between = |low: f32, high: f32| rng.random_range(low..high);
        // How strongly the parts differ from brain, from hardly to very: shared by the channels.
        let (swelling, uptake) = (between(0.25, 1.0), between(0.12, 1.0));
        let oedema = [
            100.0 + 80.0 * swelling,
            90.0 - 22.0 * swelling,
            88.0 - 22.0 * swelling,
            105.0 + 60.0 * swelling,
        ];
        let enhancing =
            [between(105.0, 140.0), 95.0 + 95.0 * uptake, between(66.0, 84.0), between(105.0, 140.0)];
        let fluid = [between(55.0, 115.0), between(38.0, 58.0), between(36.0, 58.0), between(140.0, 185.0)];
        let firm = [105.0 + 65.0 * swelling, between(58.0, 76.0), between(56.0, 74.0), between(125.0, 170.0)];
        if kind < ring {
            Self { core: between(0.25, 0.6), dead: between(0.2, 0.6), oedema, necrosis: fluid, enhancing }
        } else if kind < solid {
            Self { core: between(0.15, 0.4), dead: between(0.0, 0.12), oedema, necrosis: fluid, enhancing }
        } else {
            // Half of them do not enhance at all.
            let dead = between(0.8, 1.2).min(1.0);
            Self { core: between(0.4, 0.85), dead, oedema, necrosis: firm, enhancing }
        }
    }
}

fn glioma(
    domain: &Domain,
    head: &Head,
    voxels: usize,
    look: &Look,
    ideal: &mut [Array3<f32>; 4],
    labels: &mut Array3<u8>,
    rng: &mut ChaCha8Rng,
) {
    let free = |labels: &Array3<u8>, i: [usize; 3]| {
        head.parenchyma(i) >= 0.25 && head.brain[i] >= 0.5 && labels[i] == 0
    };
    let Some(seed) =
        pick(domain, rng, |i| free(labels, i) && head.tissues[i].0[GREY] < 0.3 && head.brain[i] > 0.99)
    else {
        return;
    };
    let middle = domain.position(seed);
    // Oedema spreads along white matter and stops at the cortex.
    let whole = Blob::new(domain, middle, voxels, rng.random_range(0.25..0.45), rng);
    let spread = |i: [usize; 3]| {
        let shares = &head.tissues[i].0;
        whole.score(domain, i) + 0.4 * shares[GREY] + 0.6 * shares[FLUID]
    };
    let (inside, rim) = lowest(domain, voxels, |i| free(labels, i).then(|| spread(i)));
    for index in &inside {
        labels[*index] = OEDEMA;
    }
    let count = |share: f32, of: usize| (share * of as f32).round() as usize;
    let size = count(look.core, inside.len());
    let blob = Blob::new(domain, middle, size.max(1), rng.random_range(0.15..0.35), rng);
    // Of this tumour alone: an earlier one's voxels were not free.
    let mut own = Array3::from_elem(domain.shape, false);
    inside.iter().for_each(|index| own[*index] = true);
    let (core, _) = lowest(domain, size, |i| own[i].then(|| blob.score(domain, i)));
    core.iter().for_each(|index| labels[*index] = ENHANCING);
    let size = count(look.dead, core.len());
    let off = domain.voxel() * rng.random_range(-1.0..1.0);
    let blob = Blob::new(domain, middle.map(|v| v + off), size.max(1), rng.random_range(0.2..0.4), rng);
    let (dead, _) =
        lowest(domain, size, |i| (own[i] && labels[i] == ENHANCING).then(|| blob.score(domain, i)));
    dead.iter().for_each(|index| labels[*index] = NECROSIS);
    let uneven = smooth(domain, (0.4 * whole.radius()).max(1.5 * domain.voxel()), rng);
    for (c, channel) in ideal.iter_mut().enumerate() {
        for ((x, y, z), value) in channel.indexed_iter_mut() {
            let index = [x, y, z];
            let depth = (rim - spread(index)) * whole.radius() / domain.voxel();
            if depth <= -1.0 {
                continue;
            }
            let target = match labels[index] {
                NECROSIS => look.necrosis[c],
                ENHANCING => look.enhancing[c],
                _ => look.oedema[c],
            };
            // Oedema fades out over two voxels; the core has a sharp edge.
            let share = if labels[index] > OEDEMA { 1.0 } else { (0.5 + 0.5 * depth).min(1.0) };
            let target = target * (1.0 + 0.07 * uneven[index]);
            *value += share * head.parenchyma(index).min(1.0) * (target - *value);
        }
    }
}
