//! Which voxels of a training case trees can draw.

use ndarray::{Array3, ArrayView3};
use rand::seq::index;

use super::Stratum;
use crate::image::distance::distance;
use crate::rng::generator;

/// Background this near to foreground, in millimetres, is drawn as often as all other background together: there the
/// border lies.
const NEAR: f64 = 10.0;

/// Voxels of a case by class and kind of place.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// What they stand for, in the order of `positions`.
    pub strata: Vec<Stratum>,
    /// (x, y, z), those of a stratum in memory order.
    pub positions: Vec<[u32; 3]>,
}

/// Draws at most `voxels` of each foreground class, of the background near to foreground, and of the other background.
/// `labels` are (x, y, z); labels of `classes` and above, such as voxels that are to be ignored, are left out.
/// The draw depends on the seed and the case's name alone.
pub fn draw(
    labels: ArrayView3<'_, u8>,
    spacing: [f64; 3],
    classes: usize,
    voxels: usize,
    seed: u64,
    case: &str,
) -> Pool {
    let valid = |label: u8| usize::from(label) < classes;
    let foreground = labels.mapv(|label| label > 0 && valid(label));
    let near = match foreground.iter().any(|&is| is) {
        true => distance(foreground.view(), spacing).mapv(|millimetres| millimetres <= NEAR),
        false => Array3::default(labels.dim()),
    };
    // Kinds: background near, background far, then the foreground classes.
    let mut kinds = vec![Vec::new(); classes + 1];
    for ((x, y, z), &label) in labels.indexed_iter().filter(|(_, label)| valid(**label)) {
        let kind = match label {
            0 => usize::from(!near[(x, y, z)]),
            class => usize::from(class) + 1,
        };
        kinds[kind].push([x as u32, y as u32, z as u32]);
    }
    let mut pool = Pool { strata: Vec::new(), positions: Vec::new() };
    for (kind, all) in kinds.into_iter().enumerate().filter(|(_, all)| !all.is_empty()) {
        let mut generator = generator(seed, &["forest", "pool", case, &kind.to_string()]);
        let rows = voxels.min(all.len());
        let mut chosen = index::sample(&mut generator, all.len(), rows).into_vec();
        chosen.sort_unstable();
        pool.positions.extend(chosen.into_iter().map(|place| all[place]));
        pool.strata.push(Stratum { class: kind.saturating_sub(1) as u8, rows, voxels: all.len() as f64 });
    }
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_stand_for_every_voxel_that_counts() {
        let labels = Array3::from_shape_fn((40, 6, 5), |(x, y, _)| match (x, y) {
            (0..2, _) => 1,
            (2, 0) => 255,
            (3, 3) => 2,
            _ => 0,
        });
        let pool = draw(labels.view(), [1.0; 3], 4, 50, 1, "a");
        let facts: Vec<_> = pool.strata.iter().map(|s| (s.class, s.rows, s.voxels)).collect();
        // Near: x up to 13 at y = 3, less at other y; class 3 has no voxel and no stratum.
        assert_eq!(facts.len(), 4);
        assert_eq!((facts[0].0, facts[1].0), (0, 0));
        assert_eq!(facts[2..], [(1, 50, 60.0), (2, 5, 5.0)]);
        assert_eq!(facts.iter().map(|fact| fact.2).sum::<f64>(), (40 * 6 * 5 - 5) as f64);
        assert_eq!(pool.positions.len(), facts.iter().map(|fact| fact.1).sum::<usize>());
        let far = &pool.positions[facts[0].1..facts[0].1 + facts[1].1];
        assert!(far.iter().all(|[x, ..]| *x > 11));
        assert_eq!(draw(labels.view(), [1.0; 3], 4, 50, 1, "a"), pool);
        assert_ne!(draw(labels.view(), [1.0; 3], 4, 50, 1, "b"), pool);
    }

    #[test]
    fn a_case_without_foreground_gives_background_alone() {
        let pool = draw(Array3::zeros((3, 1, 4)).view(), [1.0; 3], 2, 5, 1, "a");
        assert_eq!(pool.strata, [Stratum { class: 0, rows: 5, voxels: 12.0 }]);
    }
}
