//! The networks of a sweep, and what is measured of each on the patients of a draw.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;

use super::PointMeasure;
use crate::rng::generator;
use crate::score::operating::{CaseOdds, ClassOdds, Counts, Decision, ZERO};
use crate::sweep::CellResult;

/// Replicates of the bootstrap; each draws curves anew.
const DRAWS: usize = 2000;
/// Its seed.
const SEED: u64 = 1;
/// The row, or else the method, that the others are compared with.
const PLAIN: &str = "ce";

/// One network's counts.
struct Network<'a> {
    pair: usize,
    /// Which patients it was scored on: a place in [`World::patients`].
    patients: usize,
    /// Place among the patients, and what was counted.
    cases: Vec<(usize, &'a CaseOdds)>,
}

/// The networks of a sweep.
pub(super) struct World<'a> {
    pairs: usize,
    /// Distinct sets of patients, each the number of them.
    patients: Vec<usize>,
    /// By row and fraction.
    networks: Vec<Vec<Vec<Network<'a>>>>,
    /// The plain row.
    pub(super) plain: Option<usize>,
}

/// How often each pair, and each patient of each set, was drawn.
pub(super) struct Draw {
    pub(super) pairs: Vec<u64>,
    patients: Vec<Vec<u64>>,
}

/// Values of networks by row, fraction and pair.
pub(super) type Values = Vec<Vec<Vec<Option<f64>>>>;

impl<'a> World<'a> {
    pub(super) fn of(results: &'a [CellResult], rows: &[String], fractions: &[f64]) -> Self {
        let with = || results.iter().filter(|result| !result.operating.is_empty());
        let pairs: BTreeSet<(&str, u64)> = with().map(|r| (r.fold.as_str(), r.seed)).collect();
        let pairs: Vec<(&str, u64)> = pairs.into_iter().collect();
        // Of every fold its patients; folds with the same ones share a draw.
        let mut of_fold: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for result in with() {
            let cases = result.operating.iter().map(|case| case.case.as_str());
            of_fold.entry(&result.fold).or_default().extend(cases);
        }
        let sets: BTreeSet<&BTreeSet<&str>> = of_fold.values().collect();
        let sets: Vec<&BTreeSet<&str>> = sets.into_iter().collect();
        let network = |result: &'a CellResult| {
            let own = &of_fold[result.fold.as_str()];
            let place = |case: &str| own.iter().position(|name| *name == case);
            Some(Network {
                pair: pairs.iter().position(|pair| *pair == (result.fold.as_str(), result.seed))?,
                patients: sets.iter().position(|set| *set == own)?,
                cases: result.operating.iter().filter_map(|case| Some((place(&case.case)?, case))).collect(),
            })
        };
        let networks = rows.iter().map(|row| {
            let of = |&fraction: &f64| {
                with().filter(|r| r.row == *row && r.fraction == fraction).filter_map(network).collect()
            };
            fractions.iter().map(of).collect()
        });
        let named = rows.iter().position(|row| row == PLAIN);
        let method = || {
            let plain = |row: &String| results.iter().any(|r| r.row == *row && r.method == PLAIN);
            rows.iter().position(plain)
        };
        Self {
            pairs: pairs.len(),
            patients: sets.iter().map(|set| set.len()).collect(),
            networks: networks.collect(),
            plain: named.or_else(method),
        }
    }

    /// Everything once.
    pub(super) fn whole(&self) -> Draw {
        let patients = self.patients.iter().map(|&count| vec![1; count]).collect();
        Draw { pairs: vec![1; self.pairs], patients }
    }

    pub(super) fn draws(&self) -> Vec<Draw> {
        let mut random = generator(SEED, &["operating points"]);
        let mut draw = |count: usize| {
            let mut times = vec![0; count];
            (0..count).for_each(|_| times[random.random_range(0..count)] += 1);
            times
        };
        (0..DRAWS)
            .map(|_| Draw {
                pairs: draw(self.pairs),
                patients: self.patients.iter().map(|&count| draw(count)).collect(),
            })
            .collect()
    }

    /// One measure of every network, on the patients of a draw. After the plain row comes the one with a bias.
    pub(super) fn values(&self, class: &str, measure: PointMeasure, draw: &Draw) -> Values {
        let mut values: Values = Vec::new();
        for (row, networks) in self.networks.iter().enumerate() {
            let plain = self.plain == Some(row);
            values.push(self.row(networks, class, (measure, plain), draw));
            if plain {
                values.push(self.row(networks, class, (measure, false), draw));
            }
        }
        values
    }

    fn row(
        &self,
        networks: &[Vec<Network<'_>>],
        class: &str,
        (measure, plain): (PointMeasure, bool),
        draw: &Draw,
    ) -> Vec<Vec<Option<f64>>> {
        let of_fraction = |(place, networks): (usize, &Vec<Network<'_>>)| {
            let mut values = vec![None; self.pairs];
            for network in networks {
                let times = &draw.patients[network.patients];
                values[network.pair] = match measure {
                    PointMeasure::Dice => network.mean(class, plain, times, Counts::dice),
                    PointMeasure::Sensitivity => network.mean(class, plain, times, Counts::sensitivity),
                    PointMeasure::Precision => network.mean(class, plain, times, Counts::precision),
                    PointMeasure::Area => network.joined(class, times).average_precision(),
                    PointMeasure::AtPrecision => {
                        let plain = self.plain.map(|row| &self.networks[row][place]);
                        let twin = plain.and_then(|all| all.iter().find(|twin| twin.pair == network.pair));
                        let least = twin.and_then(|twin| twin.joined(class, times).at(ZERO).precision());
                        least.and_then(|least| network.joined(class, times).sensitivity_at(least))
                    }
                };
            }
            values
        };
        networks.iter().enumerate().map(of_fraction).collect()
    }
}

impl Network<'_> {
    /// The counts of a class, cases joined, each so many times.
    fn joined(&self, class: &str, times: &[u64]) -> ClassOdds {
        let mut sum = ClassOdds::new(class);
        for (place, case) in self.cases.iter().filter(|(place, _)| times[*place] > 0) {
            let own = case.classes.iter().filter(|own| own.class == class);
            own.for_each(|own| sum.add(own, times[*place]));
        }
        sum
    }

    /// Mean over the cases where it is defined, each so many times: at argmax, or at the bias of each.
    fn mean(&self, class: &str, plain: bool, times: &[u64], score: fn(Counts) -> Option<f64>) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for (place, case) in &self.cases {
            let Some(own) = case.classes.iter().position(|own| own.class == class) else { continue };
            let decision = if plain { Decision::Argmax } else { Decision::Chosen };
            if let Some(value) = case.counts(own, decision).and_then(score) {
                sum += times[*place] as f64 * value;
                count += times[*place];
            }
        }
        (count > 0).then(|| sum / count as f64)
    }
}

/// Mean of what is defined, each so many times.
pub(super) fn mean(values: &[Option<f64>], times: Option<&[u64]>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for (pair, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let times = times.map_or(1, |times| times[pair]);
            sum += times as f64 * value;
            count += times;
        }
    }
    (count > 0).then(|| sum / count as f64)
}
