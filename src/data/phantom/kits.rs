//! Abdominal CT with kidney tumours, as in KiTS19: kidney 1, tumour 2.

use ndarray::Array3;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::abdomen::{Abdomen, CORTICAL, LIVER, SPLEEN, SPONGY, TISSUES};
use super::field::{Domain, smooth};
use super::lesion::{Blob, lowest, pick, split};
use super::scanner::Tomograph;
use super::{Made, Split, Streams};

pub(super) const KIDNEY: u8 = 1;
pub(super) const TUMOUR: u8 = 2;

pub(super) fn make(domain: &Domain, source: Split, voxels: usize, streams: &mut Streams) -> Made {
    let abdomen = Abdomen::new(domain, &mut streams.anatomy);
    let tomograph = Tomograph::draw(source, &mut streams.scanner);
    let table = phase(source, &mut streams.scanner);
    let mut ideal = abdomen.tissues.mapv(|mixture| mixture.mean(&table));
    let texture = smooth(domain, 2.0 * domain.voxel(), &mut streams.scanner);
    ideal.zip_mut_with(&texture, |value, texture| {
        *value += if *value > -50.0 { 4.0 * texture } else { 2.0 * texture }
    });
    let mut labels = abdomen.kidney.mapv(|share| if share >= 0.5 { KIDNEY } else { 0 });
    if voxels > 0 {
        let parts = if streams.lesions.random_bool(0.15) { 2 } else { 1 };
        for size in split(voxels, parts, &mut streams.lesions) {
            tumour(domain, &abdomen, source, size, &mut ideal, &mut labels, &mut streams.lesions);
        }
    }
    Made { channels: vec![tomograph.measure(domain, ideal, &mut streams.scanner)], labels, mask: None }
}

/// Hounsfield units of all tissues at a moment after the contrast agent was given. Early, arteries and renal
/// cortex are bright; later they fade while veins and medulla catch up. Test scans are later on average.
fn phase(source: Split, rng: &mut ChaCha8Rng) -> [f32; TISSUES] {
    let late: f32 = match source {
        Split::Training => rng.random_range(0.0..0.6),
        Split::Test => rng.random_range(0.35..1.0),
    };
    let dose = rng.random_range(0.85..1.15);
    let mut jitter = |value: f32, spread: f32| value + spread * rng.random_range(-1.0..1.0);
    let artery = (300.0 - 190.0 * late) * dose;
    let vein = (110.0 + 80.0 * late * (1.6 - late)) * dose;
    let cortex = (205.0 - 50.0 * late) * dose;
    let medulla = (110.0 + 45.0 * late) * dose;
    [
        -1000.0,
        jitter(-100.0, 8.0),
        jitter(58.0, 6.0),
        jitter(520.0, 60.0),
        jitter(190.0, 40.0),
        jitter(85.0 + 25.0 * late, 12.0),
        jitter(120.0, 12.0),
        jitter(55.0, 15.0),
        jitter(12.0, 8.0),
        artery,
        vein,
        cortex,
        medulla,
        jitter(8.0, 7.0),
        jitter(62.0, 18.0),
    ]
}

/// Density of a tumour: clear-cell ones take up much contrast agent, papillary ones little, and some are close to
/// the kidney around them. The last two are more frequent in the test set.
fn density(source: Split, rng: &mut ChaCha8Rng) -> f32 {
    let (clear, papillary) = match source {
        Split::Training => (0.55, 0.85),
        Split::Test => (0.35, 0.75),
    };
    let kind: f32 = rng.random_range(0.0..1.0);
    if kind < clear {
        rng.random_range(75.0..125.0)
    } else if kind < papillary {
        rng.random_range(35.0..75.0)
    } else {
        rng.random_range(125.0..165.0)
    }
}

fn tumour(
    domain: &Domain,
    abdomen: &Abdomen,
    source: Split,
    voxels: usize,
    ideal: &mut Array3<f32>,
    labels: &mut Array3<u8>,
    rng: &mut ChaCha8Rng,
) {
    let Some(seed) = pick(domain, rng, |i| labels[i] == KIDNEY) else { return };
    let blob = Blob::new(domain, domain.position(seed), voxels, rng.random_range(0.06..0.22), rng);
    // Tumours grow out of the kidney into the fat around it and push other organs away; bone stays.
    let score = |i: [usize; 3]| {
        let shares = &abdomen.tissues[i].0;
        let organs = shares[LIVER] + shares[SPLEEN] + 2.0 * (shares[CORTICAL] + shares[SPONGY]);
        blob.score(domain, i) + 0.12 * (1.0 - abdomen.kidney[i]) + organs
    };
    let (inside, rim) = lowest(domain, voxels, |i| (labels[i] != TUMOUR).then(|| score(i)));
    for index in inside {
        labels[index] = TUMOUR;
    }
    let density = density(source, rng);
    // The larger, the more of it is dead.
    let dead = (rng.random_range(-0.2..0.5) + 0.012 * blob.radius()).clamp(0.0, 0.75);
    let core = smooth(domain, (0.7 * blob.radius()).max(1.5 * domain.voxel()), rng);
    let uneven = smooth(domain, (0.35 * blob.radius()).max(1.5 * domain.voxel()), rng);
    for ((x, y, z), value) in ideal.indexed_iter_mut() {
        let index = [x, y, z];
        let score = score(index);
        let depth = (rim - score) * blob.radius() / domain.voxel();
        if depth > -0.5 {
            let necrosis = ((dead - score - 0.25 * core[index]) * 4.0 + 0.5).clamp(0.0, 1.0);
            let target = density + 10.0 * uneven[index] + necrosis * (20.0 - density);
            *value += (depth + 0.5).min(1.0) * (target - *value);
        }
    }
}
