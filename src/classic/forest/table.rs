//! The rows that trees learn from: voxels of training cases with their features as bytes, and what a tree draws.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::index;
use rayon::prelude::*;

use super::bins::Bins;
use super::grow::{Rows, Sample};
use super::{Draw, Options};

/// Voxels of one training case, which trees draw from.
#[derive(Clone, Debug)]
pub struct CaseRows {
    /// (feature, row), finite; rows lie in the order of `strata`.
    pub features: Array2<f32>,
    /// Rows of one kind each.
    pub strata: Vec<Stratum>,
}

/// Rows of one class and kind of place in one case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stratum {
    /// Class of all of them.
    pub class: u8,
    /// Number of rows.
    pub rows: usize,
    /// Voxels of the case that they stand for.
    pub voxels: f64,
}

/// All rows.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) bins: Bins,
    /// (feature, row).
    columns: Vec<u8>,
    parts: Vec<Part>,
    pub(super) rows: usize,
    pub(super) features: usize,
    pub(super) classes: usize,
    pub(super) cases: usize,
}

/// A stratum in its place.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) case: usize,
    pub(super) class: u8,
    pub(super) rows: Range<usize>,
    pub(super) voxels: f64,
}

impl Table {
    /// The rows of all cases, in the order of the cases, of `classes` classes.
    ///
    /// # Panics
    /// Where there is no row, features differ in number between cases, or rows do not match strata: mistakes of
    /// the caller.
    pub fn new(cases: &[CaseRows], classes: usize) -> Self {
        let features = cases.first().map_or(0, |case| case.features.nrows());
        let rows: usize = cases.iter().map(|case| case.features.ncols()).sum();
        assert!(rows > 0 && features > 0, "a forest needs rows and features");
        assert!(features < usize::from(u16::MAX) && rows < u32::MAX as usize, "numbers fit their types");
        let mut parts = Vec::new();
        let mut all = Array2::zeros((rows, features));
        let mut from = 0;
        for (case, part) in cases.iter().enumerate() {
            assert_eq!(part.features.nrows(), features, "every case has the same features");
            let to = from + part.features.ncols();
            all.slice_mut(s![from..to, ..]).assign(&part.features.t());
            for stratum in &part.strata {
                assert!(usize::from(stratum.class) < classes, "a row has one of the classes");
                let rows = from..from + stratum.rows;
                from = rows.end;
                parts.push(Part { case, class: stratum.class, rows, voxels: stratum.voxels });
            }
            assert_eq!(from, to, "every row belongs to a stratum");
        }
        parts.retain(|part| !part.rows.is_empty() && part.voxels > 0.0);
        assert!(!parts.is_empty(), "some row counts for something");
        let bins = Bins::of(all.view());
        let columns: Vec<Vec<u8>> =
            (0..features).into_par_iter().map(|feature| bins.column(feature, all.column(feature))).collect();
        Self { bins, columns: columns.concat(), parts, rows, features, classes, cases: cases.len() }
    }

    /// Plain rows, (row, feature), with a class and a weight each: a table without cases.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn of_rows(features: ArrayView2<'_, f32>, classes: &[u8], weights: &[f32], number: usize) -> Self {
        let stratum = |(&class, &weight): (&u8, &f32)| Stratum { class, rows: 1, voxels: f64::from(weight) };
        let strata = classes.iter().zip(weights).map(stratum).collect();
        Self::new(&[CaseRows { features: features.t().to_owned(), strata }], number)
    }

    /// The rows of one tree, and how often each case was drawn. A row that was drawn several times counts as much more.
    pub(super) fn draw(&self, options: &Options, generator: &mut ChaCha8Rng) -> (Rows, Vec<u32>) {
        let mut drawn = vec![1; self.cases];
        let mut samples = Vec::new();
        match options.draw {
            Draw::All => self.parts.iter().for_each(|part| part.all(&mut samples)),
            Draw::Rows => {
                self.parts.iter().for_each(|part| part.all(&mut samples));
                let mut times = vec![0_u32; samples.len()];
                (0..samples.len()).for_each(|_| times[generator.random_range(0..samples.len())] += 1);
                samples.iter_mut().zip(&times).for_each(|(sample, &times)| sample.weight *= times as f32);
                samples.retain(|sample| sample.weight > 0.0);
            }
            Draw::Cases => {
                drawn.fill(0);
                let with_rows: Vec<usize> =
                    (0..self.cases).filter(|case| self.parts.iter().any(|part| part.case == *case)).collect();
                for _ in &with_rows {
                    drawn[with_rows[generator.random_range(0..with_rows.len())]] += 1;
                }
                let wanted = |part: &Part| options.voxels.min(part.rows.len());
                let parts = || self.parts.iter().filter(|part| drawn[part.case] > 0);
                let all: usize = parts().map(wanted).sum();
                let share = (options.most as f64 / all as f64).min(1.0);
                for part in parts() {
                    let count = ((wanted(part) as f64 * share) as usize).max(1);
                    part.some(count, drawn[part.case], generator, &mut samples);
                }
            }
        }
        (self.gather(samples), drawn)
    }

    /// A copy of the rows of `samples`, beside each other.
    fn gather(&self, mut samples: Vec<Sample>) -> Rows {
        let mut columns = Vec::with_capacity(samples.len() * self.features);
        for column in self.columns.chunks_exact(self.rows) {
            columns.extend(samples.iter().map(|sample| column[sample.row as usize]));
        }
        samples.iter_mut().enumerate().for_each(|(at, sample)| sample.row = at as u32);
        Rows { columns, samples, features: self.features, classes: self.classes }
    }

    /// The bin of a row.
    pub(super) fn bin(&self, feature: usize, row: usize) -> u8 {
        self.columns[feature * self.rows + row]
    }

    /// The strata of each case, with their rows.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl Part {
    fn all(&self, samples: &mut Vec<Sample>) {
        self.add(self.rows.clone(), self.voxels / self.rows.len() as f64, samples);
    }

    /// So many of the rows, without replacement, for a case that was drawn `times`.
    fn some(&self, count: usize, times: u32, generator: &mut ChaCha8Rng, samples: &mut Vec<Sample>) {
        let mut chosen = index::sample(generator, self.rows.len(), count).into_vec();
        chosen.sort_unstable();
        let rows = chosen.into_iter().map(|place| self.rows.start + place);
        self.add(rows, self.voxels / count as f64 * f64::from(times), samples);
    }

    fn add(&self, rows: impl Iterator<Item = usize>, weight: f64, samples: &mut Vec<Sample>) {
        let (class, weight) = (u32::from(self.class), weight as f32);
        samples.extend(rows.map(|row| Sample { row: row as u32, class, weight }));
    }
}
