//! Counts the voxels of every class and draws positions among them.

use ndarray::Array3;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use super::{ClassVoxels, IGNORE, MAX_POSITIONS};

/// Positions are the same in every run, on every machine.
const SEED: u64 = 0x7365_6765_6e00;

/// One entry per class. Voxels outside `mask` and voxels with [`IGNORE`] do not count.
pub(super) fn class_voxels(
    labels: &Array3<u8>,
    mask: Option<&Array3<u8>>,
    classes: usize,
) -> Vec<ClassVoxels> {
    let mut counts = vec![0u64; classes];
    visit(labels, mask, |class, _| counts[class] += 1);
    // Which of a class's voxels are kept, by their rank among them; the last entry first.
    let mut ranks: Vec<Option<Vec<u64>>> = counts
        .iter()
        .enumerate()
        .map(|(class, &count)| (count > MAX_POSITIONS as u64).then(|| draw(count, class)))
        .collect();
    let mut seen = vec![0u64; classes];
    let mut found: Vec<ClassVoxels> =
        counts.iter().map(|&count| ClassVoxels { count, positions: Vec::new() }).collect();
    visit(labels, mask, |class, position| {
        let kept = match &mut ranks[class] {
            None => true,
            Some(ranks) => ranks.pop_if(|rank| *rank == seen[class]).is_some(),
        };
        if kept {
            found[class].positions.push(position);
        }
        seen[class] += 1;
    });
    found
}

/// [`MAX_POSITIONS`] different numbers below `count`, the largest first.
fn draw(count: u64, class: usize) -> Vec<u64> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED + class as u64);
    let drawn = rand::seq::index::sample(&mut random, count as usize, MAX_POSITIONS);
    let mut ranks: Vec<u64> = drawn.into_iter().map(|rank| rank as u64).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    ranks
}

fn visit(labels: &Array3<u8>, mask: Option<&Array3<u8>>, mut each: impl FnMut(usize, [u32; 3])) {
    for ((x, y, z), &label) in labels.indexed_iter() {
        if label != IGNORE && mask.is_none_or(|mask| mask[[x, y, z]] != 0) {
            each(usize::from(label), [x as u32, y as u32, z as u32]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_positions_stay_inside_the_mask() {
        let labels = Array3::from_shape_fn((40, 30, 20), |(x, y, z)| match x + y + z {
            3 => 1,
            4 => IGNORE,
            _ => 0,
        });
        let mask = Array3::from_shape_fn((40, 30, 20), |(x, ..)| u8::from(x > 0));
        let found = class_voxels(&labels, Some(&mask), 3);
        // x + y + z = 3 with x at least 1: six voxels.
        assert_eq!(found[1].count, 6);
        assert!(found[1].positions.iter().all(|p| p[0] > 0 && p.iter().sum::<u32>() == 3));
        assert_eq!(found[2], ClassVoxels::default());
        let inside = labels.indexed_iter().filter(|((x, ..), l)| *x > 0 && **l == 0).count();
        assert_eq!(found[0].count, inside as u64);
        assert_eq!(found[0].positions.len(), MAX_POSITIONS);
        let mut unique = found[0].positions.clone();
        unique.dedup();
        assert_eq!(unique.len(), MAX_POSITIONS);
        assert!(unique.iter().all(|&[x, y, z]| labels[[x as usize, y as usize, z as usize]] == 0 && x > 0));
    }
}
