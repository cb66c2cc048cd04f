//! From results to the table: means with intervals, comparisons of twins, generalisation gaps.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::points::PointTable;
use super::results::{CaseLine, CellResult};
use crate::config::{MethodName, Named};
use crate::score::statistics::{Interval, bootstrap_mean, holm, wilcoxon_signed_rank};

/// Replicates of the bootstrap.
const DRAWS: usize = 10_000;
/// Its seed.
const SEED: u64 = 1;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Measure {
    /// Dice, DSC in tables.
    #[serde(rename = "DSC")]
    Dice,
    /// Sensitivity, SENS in tables.
    #[serde(rename = "SENS")]
    Sensitivity,
    /// Precision, PRC in tables.
    #[serde(rename = "PRC")]
    Precision,
}

impl Measure {
    /// All, in the order of the columns.
    pub const ALL: [Self; 3] = [Self::Dice, Self::Sensitivity, Self::Precision];

    /// Heading in tables.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Dice => "DSC",
            Self::Sensitivity => "SENS",
            Self::Precision => "PRC",
        }
    }
}

/// One measure of one row, fraction and region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableCell {
    /// Name of the row.
    pub row: String,
    /// Share of the training cases.
    pub fraction: f64,
    /// Name of the region.
    pub region: String,
    /// What is measured.
    pub measure: Measure,
    /// Mean over seeds and cases with its 95 % interval; `None` where nothing is defined.
    pub score: Option<Interval>,
    /// Seeds that finished.
    pub seeds: usize,
    /// Cases scored.
    pub cases: usize,
    /// Pairs of seed and case without a defined value.
    pub undefined: usize,
    /// Mean over training cases minus mean over the scored ones.
    pub gap: Option<f64>,
    /// Mean over the fold's held-out cases, where test cases are the scored ones.
    pub held_out: Option<f64>,
}

/// Why two rows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// A method's asymmetric form against its symmetric one.
    Forms,
    /// An asymmetric method without a symmetric form against plain cross-entropy.
    CrossEntropy,
    /// A learned policy against another one, the method being the same.
    Policies,
}

/// A row against its twin, on cases averaged over seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Row of the asymmetric method, or of the learned policy.
    pub row: String,
    /// Row of its twin.
    pub twin: String,
    /// Why these two.
    pub pairing: Pairing,
    /// Share of the training cases; `None` for all fractions pooled.
    pub fraction: Option<f64>,
    /// Name of the region.
    pub region: String,
    /// What is measured.
    pub measure: Measure,
    /// Mean of the paired differences (row minus twin) with its 95 % interval.
    pub difference: Interval,
    /// Cases compared.
    pub cases: usize,
    /// Two-sided p of Wilcoxon's signed-rank test; `None` where all differences are zero, and for pooled ones.
    pub p: Option<f64>,
    /// `p` after Holm's correction over all comparisons of this measure and region.
    pub p_holm: Option<f64>,
}

/// Everything that is drawn from `results.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Rows, in the order of the experiment.
    pub rows: Vec<String>,
    /// Fractions, ascending.
    pub fractions: Vec<f64>,
    /// Regions, in the order of the data set.
    pub regions: Vec<String>,
    /// By row, fraction, region, measure.
    pub cells: Vec<TableCell>,
    /// Every asymmetric method and learned policy against its twins, by row, fraction, region, measure.
    pub comparisons: Vec<Comparison>,
    /// The same over all fractions; rows named `all pairs` pool the pairs of one method in two forms.
    pub pooled: Vec<Comparison>,
    /// What histograms of log-odds say; empty where the results have none.
    pub points: PointTable,
}

/// Values by seed and case. Where several folds scored a case, their mean.
type Grid = BTreeMap<(u64, String), Option<f64>>;

impl Table {
    /// Draws the table from results.
    pub fn of(results: &[CellResult]) -> Self {
        let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
        for result in results {
            positions.insert(&result.row, result.position);
        }
        let mut rows: Vec<String> = positions.keys().map(|&row| row.to_owned()).collect();
        rows.sort_by_key(|row| positions[row.as_str()]);
        let mut fractions: Vec<f64> = results.iter().map(|r| r.fraction).collect();
        fractions.sort_by(f64::total_cmp);
        fractions.dedup();
        let mut regions: Vec<String> = Vec::new();
        for region in results.iter().flat_map(|r| &r.regions) {
            if !regions.contains(region) {
                regions.push(region.clone());
            }
        }
        let every_seed = of_every_seed(results);
        let mut table = Self {
            points: PointTable::of(&every_seed, &rows, &fractions),
            rows,
            fractions,
            regions,
            cells: Vec::new(),
            comparisons: Vec::new(),
            pooled: Vec::new(),
        };
        table.fill(results);
        table.compare(&every_seed);
        table
    }

    /// The cell of a row, fraction, region and measure.
    pub fn cell(&self, row: &str, fraction: f64, region: &str, measure: Measure) -> Option<&TableCell> {
        self.cells
            .iter()
            .find(|c| c.row == row && c.fraction == fraction && c.region == region && c.measure == measure)
    }

    /// Of the comparisons of one measure between the two forms of one method, in how many the asymmetric one has
    /// the higher mean; and of how many.
    pub fn wins(&self, region: &str, measure: Measure) -> (usize, usize) {
        let paired = self
            .comparisons
            .iter()
            .filter(|c| c.pairing == Pairing::Forms && c.region == region && c.measure == measure);
        let differences: Vec<f64> = paired.map(|c| c.difference.mean).collect();
        (differences.iter().filter(|d| **d > 0.0).count(), differences.len())
    }

    fn fill(&mut self, results: &[CellResult]) {
        for row in &self.rows {
            for &fraction in &self.fractions {
                let of_cell: Vec<&CellResult> =
                    results.iter().filter(|r| r.row == *row && r.fraction == fraction).collect();
                if of_cell.is_empty() {
                    continue;
                }
                for region in &self.regions {
                    for measure in Measure::ALL {
                        let grid = grid(&of_cell, region, measure, |r| &r.cases);
                        let seen = grid_mean(&of_cell, region, measure, |r| &r.train);
                        let held_out = grid_mean(&of_cell, region, measure, |r| &r.held_out);
                        let score = interval(&grid);
                        let distinct = |names: BTreeSet<String>| names.len();
                        self.cells.push(TableCell {
                            row: row.clone(),
                            fraction,
                            region: region.clone(),
                            measure,
                            seeds: distinct(grid.keys().map(|(seed, _)| seed.to_string()).collect()),
                            cases: distinct(grid.keys().map(|(_, case)| case.clone()).collect()),
                            undefined: grid.values().filter(|value| value.is_none()).count(),
                            gap: seen.zip(score).map(|(seen, score)| seen - score.mean),
                            held_out,
                            score,
                        });
                    }
                }
            }
        }
    }

    fn compare(&mut self, results: &[CellResult]) {
        let pairs = pairs(results, &self.rows);
        for region in &self.regions.clone() {
            for measure in Measure::ALL {
                let mut found = Vec::new();
                let mut of_pair: Vec<(&Pair, Vec<Grid>)> = pairs.iter().map(|p| (p, Vec::new())).collect();
                for (pair, grids) in &mut of_pair {
                    for &fraction in &self.fractions {
                        let of = |row: &str| -> Vec<&CellResult> {
                            results.iter().filter(|r| r.row == row && r.fraction == fraction).collect()
                        };
                        let values = |row: &str| grid(&of(row), region, measure, |r| &r.cases);
                        let difference = subtract(&values(&pair.row), &values(&pair.twin));
                        let Some(interval) = interval(&difference) else { continue };
                        let per_case = over_seeds(&difference);
                        found.push(Comparison {
                            row: pair.row.clone(),
                            twin: pair.twin.clone(),
                            pairing: pair.pairing,
                            fraction: Some(fraction),
                            region: region.clone(),
                            measure,
                            difference: interval,
                            cases: per_case.len(),
                            p: wilcoxon_signed_rank(&per_case).map(|test| test.p),
                            p_holm: None,
                        });
                        grids.push(difference);
                    }
                }
                let p: Vec<f64> = found.iter().filter_map(|c| c.p).collect();
                let mut adjusted = holm(&p).into_iter();
                for comparison in found.iter_mut().filter(|c| c.p.is_some()) {
                    comparison.p_holm = adjusted.next();
                }
                self.comparisons.extend(found);
                let pool = |row: &str, twin: &str, pairing, grids: &[&Grid]| {
                    let grid = mean_of(grids);
                    Some(Comparison {
                        row: row.to_owned(),
                        twin: twin.to_owned(),
                        pairing,
                        fraction: None,
                        region: region.clone(),
                        measure,
                        difference: interval(&grid)?,
                        cases: over_seeds(&grid).len(),
                        p: None,
                        p_holm: None,
                    })
                };
                for (pair, grids) in &of_pair {
                    let grids: Vec<&Grid> = grids.iter().collect();
                    self.pooled.extend(pool(&pair.row, &pair.twin, pair.pairing, &grids));
                }
                let both: Vec<&Grid> = of_pair
                    .iter()
                    .filter(|(pair, _)| pair.pairing == Pairing::Forms)
                    .flat_map(|(_, grids)| grids)
                    .collect();
                self.pooled.extend(pool("all pairs", "symmetric", Pairing::Forms, &both));
            }
        }
    }
}

/// A row and the row it is compared with.
struct Pair {
    row: String,
    twin: String,
    pairing: Pairing,
}

/// For every row of an asymmetric method the row of its symmetric form, with the same policy; where there is none
/// the row of plain cross-entropy. For every row of a learned policy all rows of the same method with another one.
fn pairs(results: &[CellResult], rows: &[String]) -> Vec<Pair> {
    let one = |row: &str| results.iter().find(|r| r.row == row);
    let find = |method: &str, policy: &Option<String>| {
        rows.iter().find(|row| one(row).is_some_and(|r| r.method == method && r.policy == *policy))
    };
    let learned = |result: &CellResult| result.policy.as_deref() == Some("learned");
    let mut found = Vec::new();
    for row in rows {
        let Some(result) = one(row) else { continue };
        let mut add = |twin: &String, pairing| {
            found.push(Pair { row: row.clone(), twin: twin.clone(), pairing });
        };
        if let Some(symmetric) = result.method.strip_prefix("asym-") {
            if let Some(twin) = find(symmetric, &result.policy) {
                add(twin, Pairing::Forms);
            } else if let Some(twin) = find("ce", &result.policy) {
                add(twin, Pairing::CrossEntropy);
            }
        }
        if learned(result) {
            let others = |row: &&String| one(row).is_some_and(|r| r.method == result.method && !learned(r));
            rows.iter().filter(others).for_each(|twin| add(twin, Pairing::Policies));
        }
    }
    found
}

fn grid<'a>(
    results: &[&'a CellResult],
    region: &str,
    measure: Measure,
    lines: fn(&'a CellResult) -> &'a Vec<CaseLine>,
) -> Grid {
    let mut sums: BTreeMap<(u64, String), (f64, usize)> = BTreeMap::new();
    for result in results {
        let Some(index) = result.regions.iter().position(|name| name == region) else { continue };
        for line in lines(result) {
            let (sum, count) = sums.entry((result.seed, line.case.clone())).or_default();
            if let Some(value) = line.value(measure, index) {
                *sum += value;
                *count += 1;
            }
        }
    }
    let mean = |(sum, count): (f64, usize)| (count > 0).then(|| sum / count as f64);
    sums.into_iter().map(|(key, value)| (key, mean(value))).collect()
}

fn grid_mean<'a>(
    results: &[&'a CellResult],
    region: &str,
    measure: Measure,
    lines: fn(&'a CellResult) -> &'a Vec<CaseLine>,
) -> Option<f64> {
    let values: Vec<f64> = grid(results, region, measure, lines).into_values().flatten().collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Mean and interval of a grid.
fn interval(grid: &Grid) -> Option<Interval> {
    let seeds: BTreeSet<u64> = grid.keys().map(|(seed, _)| *seed).collect();
    let cases: BTreeSet<&str> = grid.keys().map(|(_, case)| case.as_str()).collect();
    let values: Vec<Vec<Option<f64>>> = seeds
        .iter()
        .map(|seed| {
            cases.iter().map(|case| grid.get(&(*seed, (*case).to_owned())).copied().flatten()).collect()
        })
        .collect();
    bootstrap_mean(&values, DRAWS, SEED)
}

/// Differences where both are defined.
fn subtract(a: &Grid, b: &Grid) -> Grid {
    a.iter()
        .filter_map(|(key, value)| Some((key.clone(), Some(value.as_ref()? - b.get(key)?.as_ref()?))))
        .collect()
}

/// The results, those of a row that draws nothing for every seed that others of its fraction have: it gives the same.
fn of_every_seed(results: &[CellResult]) -> Vec<CellResult> {
    let mut all = results.to_vec();
    let same = |a: &CellResult, b: &CellResult| a.fraction == b.fraction && a.fold == b.fold;
    let deterministic = |result: &&CellResult| {
        MethodName::named(&result.method).is_some_and(MethodName::is_deterministic)
            && !results.iter().any(|r| r.row == result.row && same(r, result) && r.seed != result.seed)
    };
    for result in results.iter().filter(deterministic) {
        let others = results.iter().filter(|r| same(r, result) && r.seed != result.seed);
        let seeds: BTreeSet<u64> = others.map(|r| r.seed).collect();
        all.extend(seeds.into_iter().map(|seed| CellResult { seed, ..result.clone() }));
    }
    all
}

/// Means over grids, place by place.
fn mean_of(grids: &[&Grid]) -> Grid {
    let mut sums: BTreeMap<&(u64, String), (f64, usize)> = BTreeMap::new();
    for (key, value) in grids.iter().flat_map(|grid| grid.iter()) {
        if let Some(value) = value {
            let (sum, count) = sums.entry(key).or_default();
            *sum += value;
            *count += 1;
        }
    }
    sums.into_iter().map(|(key, (sum, count))| (key.clone(), Some(sum / count as f64))).collect()
}

/// Of each case its mean over the seeds.
fn over_seeds(grid: &Grid) -> Vec<f64> {
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for ((_, case), value) in grid {
        if let Some(value) = value {
            let (sum, count) = sums.entry(case).or_default();
            *sum += value;
            *count += 1;
        }
    }
    sums.into_values().map(|(sum, count)| sum / count as f64).collect()
}
