//! What a table says beyond one threshold: scores at a bias that other cases chose, sensitivity at the precision of
//! plain cross-entropy, area under the precision-recall curve. All from the histograms in `results.jsonl`.
//!
//! A network is one training. Curves belong to one network: its cases are joined, those of different networks never;
//! what is read off them is averaged over networks. Intervals come from a bootstrap that draws (fold, seed) pairs,
//! then patients, the same for every row, so that differences are paired.

use rayon::prelude::*;
use serde::Serialize;

use super::results::CellResult;
use crate::score::statistics::{Interval, quantile};

mod networks;
mod text;

use networks::{Draw, Values, World, mean};
pub(crate) use text::NOTE;

/// A difference worth finding.
const WORTH: f64 = 0.02;
/// Quantiles of the normal distribution for a two-sided level of 5 % and a power of 80 %.
const QUANTILES: f64 = 1.96 + 0.84;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PointMeasure {
    /// Dice with the bias that the other cases chose; of the plain row without.
    #[serde(rename = "DSC at b")]
    Dice,
    /// Sensitivity there.
    #[serde(rename = "SENS at b")]
    Sensitivity,
    /// Precision there.
    #[serde(rename = "PRC at b")]
    Precision,
    /// The largest sensitivity of the curve at a precision of at least that of cross-entropy at argmax (same
    /// fraction, fold and seed); 0 where it is never reached.
    #[serde(rename = "SENS at ce's PRC")]
    AtPrecision,
    /// Average precision, the area under the precision-recall curve.
    #[serde(rename = "AUPRC")]
    Area,
}

impl PointMeasure {
    /// All, in the order of the columns.
    pub const ALL: [Self; 5] =
        [Self::Dice, Self::Sensitivity, Self::Precision, Self::AtPrecision, Self::Area];

    /// Heading in tables.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Dice => "DSC at b",
            Self::Sensitivity => "SENS at b",
            Self::Precision => "PRC at b",
            Self::AtPrecision => "SENS at ce's PRC",
            Self::Area => "AUPRC",
        }
    }
}

/// One measure of one row, fraction and class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointCell {
    /// Name of the row.
    pub row: String,
    /// Share of the training cases.
    pub fraction: f64,
    /// Name of the class.
    pub class: String,
    /// What is measured.
    pub measure: PointMeasure,
    /// Mean over networks with its 95 % interval.
    pub score: Interval,
    /// Networks.
    pub networks: usize,
}

/// A row less the plain one, network by network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointComparison {
    /// Name of the row.
    pub row: String,
    /// What it is compared with: cross-entropy, or cross-entropy with a bias.
    pub twin: String,
    /// Share of the training cases; `None` for all fractions pooled.
    pub fraction: Option<f64>,
    /// Name of the class.
    pub class: String,
    /// What is measured.
    pub measure: PointMeasure,
    /// Mean of the paired differences with its 95 % interval.
    pub difference: Interval,
    /// (fold, seed) pairs compared.
    pub pairs: usize,
    /// Standard deviation of the pairs' differences; `None` for fewer than two.
    pub deviation: Option<f64>,
    /// Pairs that would show a difference of 0.02 with a power of 80 % at a level of 5 %:
    /// ((1.96 + 0.84) deviation / 0.02)^2.
    pub pairs_wanted: Option<u64>,
}

/// Everything of a sweep that is drawn from histograms; empty where its results have none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PointTable {
    /// Rows, with one for cross-entropy with a bias after cross-entropy.
    pub rows: Vec<String>,
    /// Fractions, ascending.
    pub fractions: Vec<f64>,
    /// Foreground classes of the networks.
    pub classes: Vec<String>,
    /// By class, row, fraction, measure.
    pub cells: Vec<PointCell>,
    /// By class, row, measure, fraction; the pooled ones last.
    pub comparisons: Vec<PointComparison>,
}

impl PointTable {
    /// Draws the table from results; `rows` and `fractions` are those of the whole table.
    pub(super) fn of(results: &[CellResult], rows: &[String], fractions: &[f64]) -> Self {
        let mut classes: Vec<String> = Vec::new();
        for class in results.iter().flat_map(|r| &r.operating).flat_map(|case| &case.classes) {
            if !classes.contains(&class.class) {
                classes.push(class.class.clone());
            }
        }
        if classes.is_empty() {
            return Self::default();
        }
        let world = World::of(results, rows, fractions);
        let mut table =
            Self { rows: rows.to_vec(), fractions: fractions.to_vec(), classes, ..Self::default() };
        if let Some(plain) = world.plain {
            table.rows.insert(plain + 1, format!("{} + post-hoc bias", rows[plain]));
        }
        let draws = world.draws();
        for class in table.classes.clone() {
            for measure in PointMeasure::ALL {
                let whole = world.values(&class, measure, &world.whole());
                let replicates: Vec<Values> =
                    draws.par_iter().map(|draw| world.values(&class, measure, draw)).collect();
                table.fill(&class, measure, &whole, (&draws, &replicates));
                table.compare(&world, &class, measure, &whole, (&draws, &replicates));
            }
        }
        table
    }

    fn fill(
        &mut self,
        class: &str,
        measure: PointMeasure,
        whole: &Values,
        (draws, replicates): (&[Draw], &[Values]),
    ) {
        for (row, name) in self.rows.iter().enumerate() {
            for (place, &fraction) in self.fractions.iter().enumerate() {
                let values = &whole[row][place];
                let again = |(draw, values): (&Draw, &Values)| mean(&values[row][place], Some(&draw.pairs));
                let Some(score) =
                    interval(mean(values, None), draws.iter().zip(replicates).filter_map(again))
                else {
                    continue;
                };
                let networks = values.iter().flatten().count();
                let (row, class) = (name.clone(), class.to_owned());
                self.cells.push(PointCell { row, fraction, class, measure, score, networks });
            }
        }
    }

    fn compare(
        &mut self,
        world: &World<'_>,
        class: &str,
        measure: PointMeasure,
        whole: &Values,
        (draws, replicates): (&[Draw], &[Values]),
    ) {
        let Some(plain) = world.plain else { return };
        let fitted =
            matches!(measure, PointMeasure::Dice | PointMeasure::Sensitivity | PointMeasure::Precision);
        let pooled = if self.fractions.len() > 1 { vec![None] } else { Vec::new() };
        let places: Vec<Option<usize>> = (0..self.fractions.len()).map(Some).chain(pooled).collect();
        for row in (0..self.rows.len()).filter(|row| *row != plain) {
            // A bias changes neither a curve nor what is read off it.
            let twins = match (fitted, row == plain + 1) {
                (true, false) => vec![plain, plain + 1],
                (true, true) => vec![plain],
                (false, false) => vec![plain],
                (false, true) => Vec::new(),
            };
            for twin in twins {
                for &place in &places {
                    let each = |values: &Values| differences(&values[row], &values[twin], place);
                    let found = each(whole);
                    let again = |(draw, values): (&Draw, &Values)| mean(&each(values), Some(&draw.pairs));
                    let Some(difference) =
                        interval(mean(&found, None), draws.iter().zip(replicates).filter_map(again))
                    else {
                        continue;
                    };
                    let deviation = deviation(&found);
                    self.comparisons.push(PointComparison {
                        row: self.rows[row].clone(),
                        twin: self.rows[twin].clone(),
                        fraction: place.map(|place| self.fractions[place]),
                        class: class.to_owned(),
                        measure,
                        difference,
                        pairs: found.iter().flatten().count(),
                        deviation,
                        pairs_wanted: deviation.map(|sd| (QUANTILES * sd / WORTH).powi(2).ceil() as u64),
                    });
                }
            }
        }
    }
}

/// Per pair the difference of two rows at a fraction, or its mean over the fractions.
fn differences(
    row: &[Vec<Option<f64>>],
    twin: &[Vec<Option<f64>>],
    place: Option<usize>,
) -> Vec<Option<f64>> {
    let at = |place: usize, pair: usize| Some(row[place][pair]? - twin[place][pair]?);
    let pairs = 0..row.first().map_or(0, Vec::len);
    match place {
        Some(place) => pairs.map(|pair| at(place, pair)).collect(),
        None => pairs
            .map(|pair| mean(&(0..row.len()).map(|place| at(place, pair)).collect::<Vec<_>>(), None))
            .collect(),
    }
}

fn interval(mean: Option<f64>, replicates: impl Iterator<Item = f64>) -> Option<Interval> {
    let mean = mean?;
    let mut means: Vec<f64> = replicates.collect();
    means.sort_unstable_by(f64::total_cmp);
    if means.is_empty() {
        means.push(mean);
    }
    Some(Interval { mean, low: quantile(&means, 0.025), high: quantile(&means, 0.975) })
}

/// Standard deviation, of a sample.
fn deviation(values: &[Option<f64>]) -> Option<f64> {
    let centre = mean(values, None)?;
    let known: Vec<f64> = values.iter().flatten().map(|value| (value - centre).powi(2)).collect();
    (known.len() > 1).then(|| (known.iter().sum::<f64>() / (known.len() - 1) as f64).sqrt())
}
