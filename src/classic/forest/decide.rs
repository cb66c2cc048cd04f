//! What trees say of cases that they did not draw, and the factors of the classes that follow from it.
//!
//! Leaves hold calibrated frequencies, by which the largest probability misses small classes. A factor a class is
//! chosen on rows out of bag for the mean Dice, one after the other, until none gains.

use rayon::prelude::*;

use super::grow::Grown;
use super::table::{Part, Table};
use super::tree::Tree;

/// Steps of a factor between 1 and its ends: 8 = 2^(6/2).
const STEPS: i32 = 6;

/// Rounds over the classes, at most.
const ROUNDS: usize = 5;

/// A probability of 0 is no certainty: the loss of one row is at most -log of this.
const FLOOR: f64 = 1e-3;

/// For every part of a case that was not drawn, the leaves that its rows reach.
pub(super) fn leaves(table: &Table, grown: &Grown, drawn: &[u32]) -> Vec<Vec<u32>> {
    let of = |part: &Part| match drawn[part.case] {
        0 => part.rows.clone().map(|row| grown.leaf(|feature| table.bin(feature, row))).collect(),
        _ => Vec::new(),
    };
    table.parts().iter().map(of).collect()
}

/// Sums of the trees' probabilities.
pub(super) struct Votes {
    /// (row, class) of every part; empty before the first tree that did not draw it.
    sums: Vec<Vec<f32>>,
}

impl Votes {
    pub(super) fn new(table: &Table) -> Self {
        Self { sums: vec![Vec::new(); table.parts().len()] }
    }

    /// Takes in what a tree says of the rows in [`leaves`].
    pub(super) fn add(&mut self, table: &Table, tree: &Tree, leaves: &[Vec<u32>]) {
        let k = table.classes;
        self.sums.par_iter_mut().zip(leaves).for_each(|(sums, leaves)| {
            if sums.is_empty() {
                sums.resize(leaves.len() * k, 0.0);
            }
            for (sums, &leaf) in sums.chunks_exact_mut(k).zip(leaves) {
                let at = leaf as usize * k;
                sums.iter_mut().zip(&tree.leaves[at..at + k]).for_each(|(sum, p)| *sum += p);
            }
        });
    }

    /// Parts that some tree did not draw, with their sums.
    fn heard<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = (&'a Part, &'a [f32])> {
        let pairs = table.parts().iter().zip(&self.sums);
        pairs.filter(|(_, sums)| !sums.is_empty()).map(|(part, sums)| (part, sums.as_slice()))
    }

    /// Mean of -log P of the true class, rows counting for their voxels.
    pub(super) fn loss(&self, table: &Table) -> Option<f64> {
        let (mut losses, mut voxels) = (0.0, 0.0);
        for (part, sums) in self.heard(table) {
            let of_row = |row: &[f32]| {
                let sum: f32 = row.iter().sum();
                -f64::from(row[usize::from(part.class)] / sum).max(FLOOR).ln()
            };
            let loss: f64 = sums.chunks_exact(table.classes).map(of_row).sum();
            losses += loss * part.voxels / part.rows.len() as f64;
            voxels += part.voxels;
        }
        (voxels > 0.0).then(|| losses / voxels)
    }

    /// The factors, and the mean Dice without and with them; `None` where nothing is out of bag or no case has
    /// foreground.
    pub(super) fn factors(&self, table: &Table) -> Option<(Vec<f32>, [f64; 2])> {
        let mut cases: Vec<Vec<(&Part, &[f32])>> = vec![Vec::new(); table.cases];
        self.heard(table).for_each(|(part, sums)| cases[part.case].push((part, sums)));
        let mut factors = vec![1.0_f32; table.classes];
        let without = mean_dice(&cases, &factors)?;
        let mut best = without;
        // From 1 outwards, so that of equal factors the one nearest to 1 is taken.
        let mut candidates: Vec<i32> = (-STEPS..=STEPS).collect();
        candidates.sort_by_key(|step| (step.abs(), *step));
        for _ in 0..ROUNDS {
            let before = best;
            for class in 1..table.classes {
                for &step in &candidates {
                    let tried = 2.0_f32.powf(step as f32 / 2.0);
                    let kept = std::mem::replace(&mut factors[class], tried);
                    match mean_dice(&cases, &factors) {
                        Some(dice) if dice > best + 1e-6 => best = dice,
                        _ => factors[class] = kept,
                    }
                }
            }
            if best == before {
                break;
            }
        }
        Some((factors, [without, best]))
    }
}

/// Mean Dice over cases and the foreground classes that they hold or are said to hold.
fn mean_dice(cases: &[Vec<(&Part, &[f32])>], factors: &[f32]) -> Option<f64> {
    let k = factors.len();
    let of_case = |parts: &Vec<(&Part, &[f32])>| {
        let (mut hits, mut sizes) = (vec![0.0; k], vec![0.0; k]);
        for (part, sums) in parts {
            let (voxels, class) = (part.voxels / part.rows.len() as f64, usize::from(part.class));
            sizes[class] += part.voxels;
            for row in sums.chunks_exact(k) {
                let said = largest(row.iter().zip(factors).map(|(p, factor)| p * factor));
                sizes[said] += voxels;
                hits[said] += if said == class { voxels } else { 0.0 };
            }
        }
        let dice = |class: usize| (sizes[class] > 0.0).then(|| 2.0 * hits[class] / sizes[class]);
        (1..k).filter_map(dice).collect::<Vec<f64>>()
    };
    let dice: Vec<Vec<f64>> = cases.par_iter().map(of_case).collect();
    let all: Vec<f64> = dice.into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// Place of the largest value, the first of equal ones.
fn largest(values: impl Iterator<Item = f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (place, value) in values.enumerate() {
        if value > best.1 {
            best = (place, value);
        }
    }
    best.0
}
