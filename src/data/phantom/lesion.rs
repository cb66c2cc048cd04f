//! How large lesions are and which voxels they take.

use ndarray::Array3;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;

use super::field::{Domain, smooth};
use super::shape::{Point, minus};

/// Spread of lesion volumes over cases: the volume at quantile u is proportional to (u / (1 - u))^SPREAD, so the
/// largest tenth holds about a third of all lesion voxels.
const SPREAD: f64 = 0.45;

/// Lesion voxels of case `index` of `cases`, such that all cases together have `mean` per case on average.
///
/// Volumes are the middle quantiles of a heavy-tailed distribution, dealt out in the order of `rng`, so that the
/// realised ratio does not depend on luck. The smallest `healthy` get none.
pub(super) fn budget(mean: f64, cases: usize, healthy: usize, index: usize, rng: &mut ChaCha8Rng) -> usize {
    let mut ranks: Vec<usize> = (0..cases).collect();
    ranks.shuffle(rng);
    let volume = |rank: usize| {
        if rank < healthy {
            return 0.0;
        }
        let quantile = ((rank - healthy) as f64 + 0.5) / (cases - healthy) as f64;
        (quantile / (1.0 - quantile)).powf(SPREAD)
    };
    let total: f64 = (0..cases).map(volume).sum();
    let share = volume(ranks[index]) / total;
    let voxels = (mean * cases as f64 * share).round() as usize;
    if share > 0.0 { voxels.max(1) } else { 0 }
}

/// Splits `voxels` among `parts` lesions of different size; parts that would be tiny are joined to the first.
pub(super) fn split(voxels: usize, parts: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let weights: Vec<f64> = (0..parts).map(|_| rng.random_range(0.15..1.0)).collect();
    let total: f64 = weights.iter().sum();
    let mut sizes: Vec<usize> = weights[1..]
        .iter()
        .map(|weight| (voxels as f64 * weight / total) as usize)
        .filter(|size| *size >= 4)
        .collect();
    sizes.insert(0, voxels - sizes.iter().sum::<usize>());
    sizes
}

/// A lumpy ball that takes exactly as many voxels as it should.
#[derive(Debug)]
pub(super) struct Blob {
    centre: Point,
    /// Radius of a ball of the wanted volume, millimetres.
    radius: f32,
    /// Stretching along the grid's axes, with product 1.
    stretch: Point,
    lumps: Array3<f32>,
    roughness: f32,
}

impl Blob {
    /// A blob of about `voxels` voxels around `centre`; `roughness` 0 is an ellipsoid, 0.5 has bays and arms.
    pub(super) fn new(
        domain: &Domain,
        centre: Point,
        voxels: usize,
        roughness: f32,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let radius = (3.0 * voxels as f32 / (4.0 * std::f32::consts::PI)).cbrt() * domain.voxel();
        let mut stretch: Point = std::array::from_fn(|_| rng.random_range(-0.3f32..0.3).exp());
        let volume = stretch.iter().product::<f32>().cbrt();
        stretch = stretch.map(|s| s / volume);
        let lumps = smooth(domain, (0.6 * radius).max(1.5 * domain.voxel()), rng);
        Self { centre, radius, stretch, lumps, roughness }
    }

    pub(super) fn radius(&self) -> f32 {
        self.radius
    }

    /// About 0 in the middle and 1 at the rim; grows by about 1 / radius per millimetre.
    pub(super) fn score(&self, domain: &Domain, index: [usize; 3]) -> f32 {
        let offset = minus(domain.position(index), self.centre);
        let square: f32 = (0..3).map(|i| (offset[i] / (self.radius * self.stretch[i])).powi(2)).sum();
        square.sqrt() + self.roughness * self.lumps[index]
    }
}

/// The `count` voxels of lowest score among those that have one; fewer where fewer are allowed. Returns them and
/// the score of the last, which is the rim.
pub(super) fn lowest(
    domain: &Domain,
    count: usize,
    mut score: impl FnMut([usize; 3]) -> Option<f32>,
) -> (Vec<[usize; 3]>, f32) {
    let [nx, ny, nz] = domain.shape;
    let mut scored: Vec<(f32, [usize; 3])> = Vec::new();
    for x in 0..nx {
        for y in 0..ny {
            for z in 0..nz {
                if let Some(value) = score([x, y, z]) {
                    scored.push((value, [x, y, z]));
                }
            }
        }
    }
    let order = |a: &(f32, [usize; 3]), b: &(f32, [usize; 3])| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if count == 0 || scored.is_empty() {
        return (Vec::new(), f32::NEG_INFINITY);
    }
    if count < scored.len() {
        scored.select_nth_unstable_by(count - 1, order);
        scored.truncate(count);
    }
    let rim = scored.iter().map(|s| s.0).fold(f32::NEG_INFINITY, f32::max);
    (scored.into_iter().map(|s| s.1).collect(), rim)
}

/// One of the voxels for which `fits` holds, all equally likely; `None` where there is none.
pub(super) fn pick(
    domain: &Domain,
    rng: &mut ChaCha8Rng,
    mut fits: impl FnMut([usize; 3]) -> bool,
) -> Option<[usize; 3]> {
    let [nx, ny, nz] = domain.shape;
    let mut found = Vec::new();
    for x in 0..nx {
        for y in 0..ny {
            found.extend((0..nz).map(|z| [x, y, z]).filter(|index| fits(*index)));
        }
    }
    if found.is_empty() { None } else { Some(found[rng.random_range(0..found.len())]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn budgets_add_up_to_the_wanted_mean() {
        for (cases, healthy, mean) in [(1, 0, 130.0), (10, 0, 500.0), (100, 5, 131.0), (40, 2, 2500.0)] {
            let all: Vec<usize> = (0..cases)
                .map(|i| budget(mean, cases, healthy, i, &mut ChaCha8Rng::seed_from_u64(7)))
                .collect();
            let realised = all.iter().sum::<usize>() as f64 / cases as f64;
            assert!((realised / mean - 1.0).abs() < 0.01, "{cases} cases: {realised} for {mean}");
            assert_eq!(all.iter().filter(|v| **v == 0).count(), healthy);
            if cases >= 40 {
                let (least, most) =
                    (all.iter().filter(|v| **v > 0).min().unwrap(), all.iter().max().unwrap());
                assert!(most / least > 20, "volumes are alike: {least} to {most}");
            }
        }
    }

    #[test]
    fn a_split_loses_no_voxel() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for voxels in [1, 5, 12, 400] {
            for parts in 1..4 {
                let sizes = split(voxels, parts, &mut rng);
                assert_eq!(sizes.iter().sum::<usize>(), voxels);
                assert!(sizes.len() <= parts);
            }
        }
    }

    #[test]
    fn a_blob_takes_exactly_its_voxels_around_its_centre() {
        let domain = Domain { shape: [40, 40, 30], spacing: [2.0, 2.0, 2.5] };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let blob = Blob::new(&domain, [4.0, -6.0, 3.0], 700, 0.3, &mut rng);
        let (voxels, rim) = lowest(&domain, 700, |i| Some(blob.score(&domain, i)));
        assert_eq!(voxels.len(), 700);
        assert!((0.6..1.6).contains(&rim), "{rim}");
        let mean = voxels
            .iter()
            .map(|i| domain.position(*i))
            .fold([0.0; 3], |s, p| [s[0] + p[0], s[1] + p[1], s[2] + p[2]]);
        let distance = crate::data::phantom::shape::length(minus(mean.map(|v| v / 700.0), [4.0, -6.0, 3.0]));
        assert!(distance < 6.0, "{distance}");
        let (few, _) = lowest(&domain, 700, |i| (i[0] < 2).then_some(0.0).filter(|_| i[1] == 0));
        assert_eq!(few.len(), 60);
    }
}
