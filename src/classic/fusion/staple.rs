//! STAPLE: what each atlas confuses, and the truth, from one another by expectation-maximisation.
//!
//! W_t(i) is the probability that voxel i is of class t, proportional to the share of t among all votes times the
//! product over atlases n of theta_n(said, t); theta_n(s, t) is the share of W_t where atlas n said s. Warfield et al.,
//! IEEE TMI 23(7), 2004. Voxels where every atlas says the same are left out: the background among them would drown
//! the rest, and swell or starve the classes. Voxels with equal votes have equal W, so that the work is one pass over
//! the distinct votes a round.

use std::collections::HashMap;

use ndarray::{Array3, Array4, ArrayView4, Axis, Zip};

use super::Staple;

/// A confusion that was never seen is rare, not impossible.
const FLOOR: f64 = 1e-6;

/// What several raters agree on.
#[derive(Clone, Debug, PartialEq)]
pub struct Consensus {
    /// Class probabilities, (class, x, y, z).
    pub probabilities: Array4<f32>,
    /// Share of the voxels of a class that a rater calls so, (rater, said, true).
    pub confusion: Array3<f64>,
    /// Share of each class among the votes.
    pub prior: Vec<f64>,
}

/// The class of each voxel with the largest share, the smallest of equal ones.
pub(super) fn hard(labels: ArrayView4<'_, f32>) -> Array3<u8> {
    let (classes, x, y, z) = labels.dim();
    let mut best = labels.index_axis(Axis(0), 0).to_owned();
    let mut hard = Array3::zeros((x, y, z));
    for class in 1..classes {
        Zip::from(&mut hard).and(&mut best).and(labels.index_axis(Axis(0), class)).for_each(
            |hard, best, &share| {
                if share > *best {
                    (*hard, *best) = (class as u8, share);
                }
            },
        );
    }
    hard
}

/// The consensus of raters on one grid, each with a label below `classes` a voxel.
///
/// # Panics
/// Where there is no rater, grids differ, or a label is `classes` or above: mistakes of the caller.
pub fn consensus(raters: &[Array3<u8>], classes: usize, settings: Staple) -> Consensus {
    let shape = raters[0].dim();
    assert!(raters.iter().all(|rater| rater.dim() == shape), "raters have one grid");
    let inside = raters.iter().all(|rater| rater.iter().all(|&label| usize::from(label) < classes));
    assert!(inside, "labels are below the number of classes");
    let votes = Votes::of(raters, settings.everywhere);
    let prior = votes.prior(classes);
    let mut confusion = votes.start(classes);
    let mut truth = votes.truth(&confusion, &prior);
    for _ in 0..settings.rounds {
        let next = votes.confusion(&truth, &confusion);
        let change = next.iter().zip(&confusion).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
        confusion = next;
        truth = votes.truth(&confusion, &prior);
        if change < settings.tolerance {
            break;
        }
    }
    let mut probabilities = Array4::zeros((classes, shape.0, shape.1, shape.2));
    for ((voxel, &of), &label) in votes.of_voxel.indexed_iter().zip(&raters[0]) {
        let mut place = probabilities.slice_mut(ndarray::s![.., voxel.0, voxel.1, voxel.2]);
        match of {
            Votes::UNANIMOUS => place[usize::from(label)] = 1.0,
            pattern => {
                let truth = &truth[pattern as usize * classes..][..classes];
                place.iter_mut().zip(truth).for_each(|(to, &p)| *to = p as f32);
            }
        }
    }
    Consensus { probabilities, confusion, prior }
}

/// The distinct votes.
struct Votes {
    /// (pattern, rater).
    patterns: Vec<u8>,
    /// Voxels with each pattern.
    counts: Vec<f64>,
    /// The pattern of a voxel.
    of_voxel: Array3<u32>,
    raters: usize,
}

impl Votes {
    /// In the place of the pattern of a voxel that is left out.
    const UNANIMOUS: u32 = u32::MAX;

    fn of(raters: &[Array3<u8>], everywhere: bool) -> Self {
        let mut votes = Self {
            patterns: Vec::new(),
            counts: Vec::new(),
            of_voxel: Array3::from_elem(raters[0].dim(), Self::UNANIMOUS),
            raters: raters.len(),
        };
        // Numbered in the order of their first voxel.
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut pattern = vec![0; raters.len()];
        for (voxel, of) in votes.of_voxel.indexed_iter_mut() {
            pattern.iter_mut().zip(raters).for_each(|(vote, rater)| *vote = rater[voxel]);
            if !everywhere && pattern.iter().all(|vote| *vote == pattern[0]) {
                continue;
            }
            *of = match known.get(&pattern) {
                Some(&number) => number,
                None => {
                    let number = votes.counts.len() as u32;
                    known.insert(pattern.clone(), number);
                    votes.patterns.extend(&pattern);
                    votes.counts.push(0.0);
                    number
                }
            };
            votes.counts[*of as usize] += 1.0;
        }
        votes
    }

    fn each(&self) -> impl Iterator<Item = (&[u8], f64)> {
        self.patterns.chunks_exact(self.raters).zip(self.counts.iter().copied())
    }

    fn prior(&self, classes: usize) -> Vec<f64> {
        let mut votes = vec![0.0; classes];
        for (pattern, count) in self.each() {
            pattern.iter().for_each(|&vote| votes[usize::from(vote)] += count);
        }
        let sum: f64 = votes.iter().sum::<f64>().max(1.0);
        votes.iter().map(|votes| votes / sum).collect()
    }

    /// Confusions against the majority; where it is tied, nobody is right or wrong.
    fn start(&self, classes: usize) -> Array3<f64> {
        let k = classes;
        let mut truth = vec![0.0; self.counts.len() * k];
        for ((pattern, _), truth) in self.each().zip(truth.chunks_exact_mut(k)) {
            let mut votes = vec![0; k];
            pattern.iter().for_each(|&vote| votes[usize::from(vote)] += 1);
            let most = votes.iter().copied().max().unwrap_or(0);
            let mut winners = votes.iter().enumerate().filter(|(_, votes)| **votes == most);
            if let (Some((winner, _)), None) = (winners.next(), winners.next()) {
                truth[winner] = 1.0;
            }
        }
        // A class that no majority has: its raters are taken for good ones.
        let (right, wrong) = (0.99, 0.01 / (k.max(2) - 1) as f64);
        let good = |(_, said, of)| if said == of { right } else { wrong };
        self.confusion(&truth, &Array3::from_shape_fn((self.raters, k, k), good))
    }

    /// Maximisation; a class without any probability keeps its confusions.
    fn confusion(&self, truth: &[f64], before: &Array3<f64>) -> Array3<f64> {
        let (_, k, _) = before.dim();
        let mut sums = Array3::<f64>::zeros(before.dim());
        let mut all = vec![0.0; k];
        for ((pattern, count), truth) in self.each().zip(truth.chunks_exact(k)) {
            for (class, p) in truth.iter().enumerate() {
                all[class] += count * p;
                for (rater, &vote) in pattern.iter().enumerate() {
                    sums[[rater, usize::from(vote), class]] += count * p;
                }
            }
        }
        for ((rater, said, class), sum) in sums.indexed_iter_mut() {
            *sum = match all[class] > 0.0 {
                true => (*sum / all[class]).max(FLOOR),
                false => before[[rater, said, class]],
            };
        }
        sums
    }

    /// Expectation: (pattern, class).
    fn truth(&self, confusion: &Array3<f64>, prior: &[f64]) -> Vec<f64> {
        let logarithms = confusion.mapv(f64::ln);
        let mut truth = Vec::with_capacity(self.counts.len() * prior.len());
        for (pattern, _) in self.each() {
            let start = truth.len();
            for (class, share) in prior.iter().enumerate() {
                let of = |(rater, &vote): (usize, &u8)| logarithms[[rater, usize::from(vote), class]];
                truth.push(share.ln() + pattern.iter().enumerate().map(of).sum::<f64>());
            }
            let own = &mut truth[start..];
            // Some class has votes: the largest is finite.
            let largest = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            own.iter_mut().for_each(|value| *value = (*value - largest).exp());
            let sum: f64 = own.iter().sum();
            own.iter_mut().for_each(|value| *value /= sum);
        }
        truth
    }
}
