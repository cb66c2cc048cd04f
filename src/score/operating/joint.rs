//! What the choice of b needs where several classes take voxels from each other.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Counts;
use super::histogram::{LIMIT, bin_of};

/// Bins of log p_c - log p_0, 0.25 wide.
const BINS: usize = 128;
/// The first bin in which a class stands above the background.
const ZERO: i32 = BINS as i32 / 2;
/// Width of a bin: b is a multiple of it.
pub(super) const STEP: f64 = 2.0 * LIMIT / BINS as f64;
/// The most foreground classes for which there is a joint count: its size grows with every further one.
pub const MOST_CLASSES: usize = 8;

/// Voxels by reference class, largest class, and the bin of log p_c - log p_0 of every foreground class. Only what
/// occurs is listed. The largest class keeps the counts at b = 0 exact: which of two classes in one bin stands higher
/// could not be told otherwise.
///
/// In files one flat list: for every entry the reference class, the largest class, the bins, the number of voxels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub struct Joint {
    foreground: usize,
    /// Reference class, largest class, bins; in order.
    entries: Vec<(Box<[u8]>, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Flat {
    foreground: usize,
    entries: Vec<u64>,
}

impl From<Joint> for Flat {
    fn from(joint: Joint) -> Self {
        let entries = joint.entries.iter();
        let numbers = entries.flat_map(|(key, count)| key.iter().map(|&k| u64::from(k)).chain([*count]));
        Self { foreground: joint.foreground, entries: numbers.collect() }
    }
}

impl TryFrom<Flat> for Joint {
    type Error = String;

    fn try_from(flat: Flat) -> Result<Self, String> {
        let length = flat.foreground.saturating_add(3);
        if !flat.entries.len().is_multiple_of(length) {
            return Err(format!("a joint count has an entry that is not {length} numbers long"));
        }
        let entries = flat.entries.chunks_exact(length).map(|numbers| {
            let (count, key) = (numbers[length - 1], &numbers[..length - 1]);
            let class =
                |number: u64| u8::try_from(number).ok().filter(|c| usize::from(*c) <= flat.foreground);
            let bin = |number: u64| u8::try_from(number).ok().filter(|bin| usize::from(*bin) < BINS);
            let (classes, bins) = key.split_at(2);
            let read: Option<Box<[u8]>> =
                classes.iter().map(|&c| class(c)).chain(bins.iter().map(|&b| bin(b))).collect();
            let read = read.ok_or_else(|| format!("a joint count has no class or bin for one of {key:?}"))?;
            Ok::<_, String>((read, count))
        });
        Ok(Self { foreground: flat.foreground, entries: entries.collect::<Result<_, _>>()? })
    }
}

/// Counts voxels for a [`Joint`].
#[derive(Debug)]
pub(crate) struct Counter {
    foreground: usize,
    key: Vec<u8>,
    counts: HashMap<Box<[u8]>, u64>,
}

impl Counter {
    pub(crate) fn new(foreground: usize) -> Self {
        Self { foreground, key: Vec::new(), counts: HashMap::new() }
    }

    /// Counts voxels whose probabilities have these logarithms, background first.
    pub(crate) fn count(&mut self, reference: u8, largest: u8, logs: &[f64], voxels: u64) {
        self.key.clear();
        self.key.extend([reference, largest]);
        self.key.extend(logs[1..].iter().map(|log| bin_of(log - logs[0], LIMIT, BINS) as u8));
        match self.counts.get_mut(self.key.as_slice()) {
            Some(count) => *count += voxels,
            None => drop(self.counts.insert(self.key.as_slice().into(), voxels)),
        }
    }

    pub(crate) fn finish(self) -> Joint {
        let mut entries: Vec<(Box<[u8]>, u64)> = self.counts.into_iter().collect();
        entries.sort_unstable();
        Joint { foreground: self.foreground, entries }
    }
}

/// How a class stands at a bias, as far as bins tell: the higher wins. Of equal bins the class wins that is the
/// largest at b = 0, else the first. The background, which only a bin above [`ZERO`] beats, stands between two bins.
type Standing = (i32, bool, i32);

const BACKGROUND: Standing = (2 * ZERO - 1, false, 0);

fn standing(key: &[u8], class: usize, step: i32) -> Standing {
    (2 * (i32::from(key[1 + class]) + step), usize::from(key[1]) == class, -(class as i32))
}

/// b in steps.
fn steps(bias: &[f64]) -> Vec<i32> {
    bias.iter().map(|b| (b / STEP).round() as i32).collect()
}

impl Joint {
    /// Per foreground class what is found, invented and missed at these b, each taken to the nearest multiple of the
    /// bins' width.
    pub fn at(&self, bias: &[f64]) -> Vec<Counts> {
        let steps = steps(bias);
        let mut counts = vec![Counts::default(); self.foreground];
        for (key, voxels) in &self.entries {
            let (winner, _) = self.winner(key, &steps, None);
            book(&mut counts, usize::from(key[0]), winner, *voxels);
        }
        counts
    }

    /// The same for every b of one class (1 for the first foreground class), from -(16 - 0.25) to 16 - 0.25, where
    /// the others have theirs.
    pub(super) fn along(&self, bias: &[f64], class: usize) -> Vec<Vec<Counts>> {
        let steps = steps(bias);
        // Voxels without the class in the race; then by the first step with which it wins.
        let mut without = vec![Counts::default(); self.foreground];
        let mut change = vec![vec![[0_i64; 3]; self.foreground]; 2 * ZERO as usize];
        for (key, voxels) in &self.entries {
            let (rival, rival_stands) = self.winner(key, &steps, Some(class));
            let truth = usize::from(key[0]);
            book(&mut without, truth, rival, *voxels);
            let bin = i32::from(key[1 + class]);
            let own = standing(key, class, 0);
            // The smallest step at which it stands above its rival.
            let level = (rival_stands.0 + 1).div_euclid(2) - bin;
            let level = if (2 * (bin + level), own.1, own.2) > rival_stands { level } else { level + 1 };
            let at = (level + ZERO).max(0) as usize;
            if let Some(change) = change.get_mut(at) {
                move_voxels(change, truth, rival, class, *voxels as i64);
            }
        }
        let mut sums = vec![[0_i64; 3]; self.foreground];
        let mut all = Vec::with_capacity(2 * ZERO as usize - 1);
        for (at, change) in change.iter().enumerate() {
            for (sum, change) in sums.iter_mut().zip(change) {
                sum.iter_mut().zip(change).for_each(|(sum, change)| *sum += change);
            }
            // Step -ZERO would move the threshold onto the open end.
            if at > 0 {
                let counts = without.iter().zip(&sums).map(|(before, [found, invented, missed])| Counts {
                    found: before.found.saturating_add_signed(*found),
                    invented: before.invented.saturating_add_signed(*invented),
                    missed: before.missed.saturating_add_signed(*missed),
                });
                all.push(counts.collect());
            }
        }
        all
    }

    /// The class that wins, all but `left_out` considered, and how it stands.
    fn winner(&self, key: &[u8], steps: &[i32], left_out: Option<usize>) -> (usize, Standing) {
        let mut winner = (0, BACKGROUND);
        for class in (1..=self.foreground).filter(|class| Some(*class) != left_out) {
            let stands = standing(key, class, steps[class - 1]);
            if stands > winner.1 {
                winner = (class, stands);
            }
        }
        winner
    }
}

/// The b that [`Joint::along`] goes through.
pub(super) fn biases() -> impl Iterator<Item = f64> {
    (1 - ZERO..ZERO).map(|step| f64::from(step) * STEP)
}

fn book(counts: &mut [Counts], truth: usize, label: usize, voxels: u64) {
    for (class, counts) in (1..).zip(counts) {
        match (truth == class, label == class) {
            (true, true) => counts.found += voxels,
            (true, false) => counts.missed += voxels,
            (false, true) => counts.invented += voxels,
            (false, false) => {}
        }
    }
}

/// What changes where voxels go from the label `from` to the label `to`.
fn move_voxels(change: &mut [[i64; 3]], truth: usize, from: usize, to: usize, voxels: i64) {
    for (label, sign) in [(from, -1), (to, 1)] {
        if label == 0 {
            continue;
        }
        let counts = &mut change[label - 1];
        if truth == label {
            counts[0] += sign * voxels;
            counts[2] -= sign * voxels;
        } else {
            counts[1] += sign * voxels;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rand::RngExt;

    use super::*;
    use crate::rng::generator;

    /// Random voxels: reference class and probabilities.
    pub(crate) fn voxels(classes: usize, count: usize, seed: u64) -> Vec<(u8, Vec<f32>)> {
        let mut random = generator(seed, &["joint"]);
        let voxel = |_| {
            let truth = random.random_range(0..classes);
            let mut logits: Vec<f64> = (0..classes).map(|_| random.random_range(-3.0..3.0)).collect();
            logits[truth] += 1.0;
            logits[0] += 1.0;
            let sum: f64 = logits.iter().map(|z| z.exp()).sum();
            (truth as u8, logits.iter().map(|z| (z.exp() / sum) as f32).collect())
        };
        (0..count).map(voxel).collect()
    }

    /// The first class with the largest p e^b.
    pub(crate) fn decide(probabilities: &[f32], bias: &[f64]) -> usize {
        let weighted = |class: usize| {
            let b = if class == 0 { 0.0 } else { bias[class - 1] };
            f64::from(probabilities[class]) * b.exp()
        };
        (1..probabilities.len())
            .fold(0, |best, class| if weighted(class) > weighted(best) { class } else { best })
    }

    pub(crate) fn joint(voxels: &[(u8, Vec<f32>)], classes: usize) -> Joint {
        let mut counter = Counter::new(classes - 1);
        for (truth, probabilities) in voxels {
            let logs: Vec<f64> = probabilities.iter().map(|p| f64::from(*p).ln()).collect();
            let largest = decide(probabilities, &vec![0.0; classes - 1]) as u8;
            counter.count(*truth, largest, &logs, 1);
        }
        counter.finish()
    }

    fn brute_force(voxels: &[(u8, Vec<f32>)], bias: &[f64]) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); bias.len()];
        for (truth, probabilities) in voxels {
            book(&mut counts, usize::from(*truth), decide(probabilities, bias), 1);
        }
        counts
    }

    #[test]
    fn counts_are_exact_at_zero_and_near_elsewhere() {
        for seed in 0..4 {
            let voxels = voxels(4, 2000, seed);
            let joint = joint(&voxels, 4);
            assert_eq!(joint.at(&[0.0; 3]), brute_force(&voxels, &[0.0; 3]));
            // Where one class alone moves against the background, bins tell all.
            let none = [-15.75, -15.75];
            for b in [-2.0, 0.25, 1.5] {
                assert_eq!(joint.at(&[b, none[0], none[1]]), brute_force(&voxels, &[b, none[0], none[1]]));
            }
            let bias = [1.0, -0.75, 0.5];
            for (near, exact) in joint.at(&bias).iter().zip(brute_force(&voxels, &bias)) {
                assert!(near.found.abs_diff(exact.found) <= 40, "{near:?} {exact:?}");
                assert!(near.invented.abs_diff(exact.invented) <= 60, "{near:?} {exact:?}");
                assert_eq!(near.found + near.missed, exact.found + exact.missed);
            }
        }
    }

    #[test]
    fn one_class_after_the_other_gives_the_same_as_all_at_once() {
        let joint = joint(&voxels(3, 1000, 9), 3);
        for class in [1, 2] {
            let mut bias = [0.5, -1.25];
            let along = joint.along(&bias, class);
            assert_eq!(along.len(), biases().count());
            for (b, counts) in biases().zip(along) {
                bias[class - 1] = b;
                assert_eq!(counts, joint.at(&bias), "class {class}, b {b}");
            }
        }
    }

    #[test]
    fn the_flat_list_comes_back_and_what_is_none_is_refused() {
        let joint = joint(&voxels(3, 50, 2), 3);
        let text = serde_json::to_string(&joint).unwrap();
        assert_eq!(serde_json::from_str::<Joint>(&text).unwrap(), joint);
        for bad in ["[1, 2, 3]", "[3, 0, 1, 1, 5]", "[0, 0, 128, 1, 5]"] {
            let text = format!("{{\"foreground\": 2, \"entries\": {bad}}}");
            assert!(serde_json::from_str::<Joint>(&text).is_err(), "{bad}");
        }
    }
}
