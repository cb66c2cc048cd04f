//! Chooses b on a set of cases.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::joint;
use super::{BINS, Bias, CaseOdds, Counts, edge};

/// What counts as a gain; below is rounding.
const LEAST: f64 = 1e-9;
/// Rounds over the classes after which a choice ends in any case.
const ROUNDS: usize = 20;

/// The b that is best on a set of cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// For every foreground class.
    pub bias: Bias,
    /// Mean Dice of the foreground classes over the cases at b = 0 and at this b; both empty counts as 1.
    pub dice: [f64; 2],
}

/// `operating.json` of a run: the b that it ships, and on what that was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The held-out cases that the choice was made from.
    pub cases: Vec<String>,
    /// Names of the foreground classes.
    pub classes: Vec<String>,
    /// The factor of each class's probability, e^b, for people.
    pub odds: Vec<f64>,
    /// The choice from all of them.
    #[serde(flatten)]
    pub chosen: Chosen,
    /// For every held-out case the b chosen on the other held-out cases.
    pub cross_fitted: BTreeMap<String, Bias>,
    /// Mean Dice over the cases, each with the b chosen on the others: what to expect of a new scan.
    pub cross_fitted_dice: f64,
}

impl Chosen {
    /// Coordinate ascent from b = 0 to the largest mean Dice of the foreground classes: for one class after the
    /// other all edges of the bins are tried, until nothing is gained. Of equal ones the smallest |b| wins, then the
    /// lower threshold. `None` without a case, or where a case lacks the joint count that several classes need.
    pub fn on(cases: &[&CaseOdds]) -> Option<Self> {
        let classes = cases.first()?.classes.len();
        let mut values = vec![0.0; classes];
        let before = mean(cases, &Bias::none(classes))?;
        let mut best = before;
        for _ in 0..ROUNDS {
            let last = values.clone();
            for class in 0..classes {
                let mut found = (values[class], f64::NEG_INFINITY);
                for (b, dice) in along(cases, &values, class)? {
                    if dice > found.1 + LEAST {
                        found = (b, dice);
                    }
                }
                // Rounding must not lead in circles.
                if found.1 >= best - LEAST {
                    values[class] = found.0;
                    best = found.1;
                }
            }
            if values == last {
                break;
            }
        }
        Some(Self { bias: Bias::new(values), dice: [before, best] })
    }
}

impl Choice {
    /// The odds in words, as `segen predict --operating` takes them.
    pub fn describe(&self) -> String {
        self.chosen.bias.describe(&self.classes)
    }

    /// Chooses from held-out cases; `None` from fewer than two, and where [`Chosen::on`] cannot. Every case gets its
    /// own b, chosen on the others, and its counts there.
    pub fn cross_fit(cases: &mut [CaseOdds]) -> Option<Self> {
        if cases.len() < 2 {
            return None;
        }
        let all: Vec<&CaseOdds> = cases.iter().collect();
        let chosen = Chosen::on(&all)?;
        let without = |index: usize| {
            let others = all.iter().enumerate().filter(|(other, _)| *other != index);
            Chosen::on(&others.map(|(_, case)| *case).collect::<Vec<_>>()).map(|chosen| chosen.bias)
        };
        let own: Option<Vec<Bias>> = (0..all.len()).into_par_iter().map(without).collect();
        let own = own?;
        let mut choice = Self {
            cases: cases.iter().map(|case| case.case.clone()).collect(),
            classes: cases[0].classes.iter().map(|class| class.class.clone()).collect(),
            odds: chosen.bias.odds().split_off(1),
            chosen,
            cross_fitted: BTreeMap::new(),
            cross_fitted_dice: 0.0,
        };
        let count = cases.len() as f64;
        for (case, bias) in cases.iter_mut().zip(own) {
            case.take(&bias);
            choice.cross_fitted_dice += dice(&case.at_bias) / count;
            choice.cross_fitted.insert(case.case.clone(), bias);
        }
        Some(choice)
    }
}

impl CaseOdds {
    /// Sets the b that was chosen without this case, and what is found with it.
    pub(crate) fn take(&mut self, bias: &Bias) {
        if let Some(counts) = self.at(bias) {
            self.at_bias = counts;
            self.bias = Some(bias.clone());
        }
    }
}

/// Mean over the classes; both empty counts as 1.
fn dice(counts: &[Counts]) -> f64 {
    counts.iter().map(|counts| counts.dice().unwrap_or(1.0)).sum::<f64>() / counts.len().max(1) as f64
}

fn mean(cases: &[&CaseOdds], bias: &Bias) -> Option<f64> {
    let each: Option<Vec<f64>> = cases.iter().map(|case| Some(dice(&case.at(bias)?))).collect();
    each.map(|each| each.iter().sum::<f64>() / cases.len() as f64)
}

/// Mean Dice for every b of a class (counted from 0) while the others keep theirs, in the order of preference.
fn along(cases: &[&CaseOdds], values: &[f64], class: usize) -> Option<Vec<(f64, f64)>> {
    let biases: Vec<f64> = match values.len() {
        // Not -0, which files would tell from 0.
        1 => (1..BINS).map(|number| 0.0 - edge(number)).collect(),
        _ => joint::biases().collect(),
    };
    let mut sums = vec![0.0; biases.len()];
    for case in cases {
        match (case.classes.as_slice(), &case.joint) {
            ([only], _) => {
                // The curve goes from the highest edge to the lowest.
                let curve = only.curve();
                let inside = curve[1..BINS].iter().rev();
                sums.iter_mut().zip(inside).for_each(|(sum, counts)| *sum += counts.dice().unwrap_or(1.0));
            }
            (_, Some(joint)) => {
                let counts = joint.along(values, class + 1);
                sums.iter_mut().zip(counts).for_each(|(sum, counts)| *sum += dice(&counts));
            }
            (_, None) => return None,
        }
    }
    let count = cases.len() as f64;
    let mut all: Vec<(f64, f64)> = biases.into_iter().zip(sums.into_iter().map(|sum| sum / count)).collect();
    all.sort_by(|(a, _), (b, _)| a.abs().total_cmp(&b.abs()).then(b.total_cmp(a)));
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::super::histogram::tests::{class, ten_voxels};
    use super::super::joint::tests::{joint, voxels};
    use super::super::{ClassOdds, ZERO};
    use super::*;

    fn two_classes(name: &str, class: ClassOdds) -> CaseOdds {
        CaseOdds { case: name.to_owned(), classes: vec![class], joint: None, bias: None, at_bias: Vec::new() }
    }

    fn three_classes(name: &str, count: usize, seed: u64) -> CaseOdds {
        let joint = joint(&voxels(3, count, seed), 3);
        // Choosing looks at the joint count alone, but for b = 0, which both tell alike.
        let mut classes = vec![ClassOdds::new("one"), ClassOdds::new("two")];
        for (class, counts) in classes.iter_mut().zip(joint.at(&[0.0; 2])) {
            class.reference.count_in(ZERO, counts.found);
            class.reference.count_in(0, counts.missed);
            class.others.count_in(ZERO, counts.invented);
        }
        CaseOdds { case: name.to_owned(), classes, joint: Some(joint), bias: None, at_bias: Vec::new() }
    }

    #[test]
    fn of_equal_dice_the_smallest_bias_wins() {
        let case = two_classes("one", ten_voxels());
        let chosen = Chosen::on(&[&case]).unwrap();
        assert_eq!(chosen.bias.values(), [-0.5]);
        assert_eq!(chosen.dice, [4.0 / 7.0, 2.0 / 3.0]);
        // Nothing to gain, nothing chosen.
        let clear = two_classes("clear", class(&[5.0, 4.0], &[-5.0, -4.0]));
        let chosen = Chosen::on(&[&clear]).unwrap();
        assert_eq!((chosen.bias.values(), chosen.dice), (&[0.0][..], [1.0, 1.0]));
        assert_eq!(serde_json::to_string(&chosen.bias).unwrap(), "[0.0]");
        // As far to one side as to the other: the lower threshold.
        let middle = two_classes("middle", class(&[2.0, -0.3], &[0.3, -0.3]));
        let chosen = Chosen::on(&[&middle]).unwrap();
        assert_eq!((chosen.bias.values(), chosen.dice), (&[0.375][..], [0.5, 2.0 / 3.0]));
        assert!(Chosen::on(&[]).is_none());
    }

    #[test]
    fn a_false_alarm_less_is_a_gain_where_the_reference_is_empty() {
        let case = two_classes("empty", class(&[], &[0.3, -4.0]));
        let chosen = Chosen::on(&[&case]).unwrap();
        assert_eq!((chosen.bias.values()[0], chosen.dice), (-0.375, [0.0, 1.0]));
    }

    #[test]
    fn the_case_that_is_scored_never_takes_part_in_the_choice() {
        let odds = |shift: f64| class(&[shift + 0.4, shift + 1.0, shift - 0.4], &[shift - 1.0, shift - 2.0]);
        let shifts = [-2.0, 0.0, 1.5, 3.0];
        let cases: Vec<CaseOdds> =
            shifts.iter().map(|&shift| two_classes(&format!("shift {shift}"), odds(shift))).collect();
        for index in 0..cases.len() {
            let mut fitted = cases.clone();
            let choice = Choice::cross_fit(&mut fitted).unwrap();
            let others: Vec<&CaseOdds> =
                cases.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, case)| case).collect();
            let expected = Chosen::on(&others).unwrap().bias;
            assert_eq!(choice.cross_fitted[&cases[index].case], expected);
            assert_eq!(fitted[index].bias.as_ref(), Some(&expected));
            assert_eq!(fitted[index].at_bias, cases[index].at(&expected).unwrap());
            // Whatever becomes of the case itself, its own b stays.
            let mut changed = cases.clone();
            changed[index].classes[0] = odds(-9.0);
            let again = Choice::cross_fit(&mut changed).unwrap();
            assert_eq!(again.cross_fitted[&cases[index].case], expected);
            assert_ne!(again.cross_fitted, choice.cross_fitted, "the others take part in its choice");
        }
        let mut fitted = cases.clone();
        let choice = Choice::cross_fit(&mut fitted).unwrap();
        let text = serde_json::to_string(&choice).unwrap();
        let read: Choice = serde_json::from_str(&text).unwrap();
        assert_eq!((read.chosen.bias, read.cross_fitted), (choice.chosen.bias, choice.cross_fitted));
        assert_eq!(choice.cases.len(), 4);
        assert!(Choice::cross_fit(&mut fitted[..1]).is_none(), "one case cannot be cross-fitted");
    }

    #[test]
    fn three_classes_climb_to_what_an_exhaustive_search_finds() {
        for seed in 0..6 {
            let cases: Vec<CaseOdds> = (0..2).map(|i| three_classes("case", 3000, 10 * seed + i)).collect();
            let cases: Vec<&CaseOdds> = cases.iter().collect();
            let chosen = Chosen::on(&cases).unwrap();
            assert_eq!(mean(&cases, &chosen.bias), Some(chosen.dice[1]));
            let mut best = f64::NEG_INFINITY;
            for first in joint::biases() {
                for (_, dice) in along(&cases, &[first, 0.0], 1).unwrap() {
                    best = best.max(dice);
                }
            }
            assert!(chosen.dice[1] > chosen.dice[0]);
            // No single class can be moved to gain more; where both at once can, it is by little.
            for class in 0..2 {
                let along = along(&cases, chosen.bias.values(), class).unwrap();
                assert!(along.iter().all(|(_, dice)| *dice <= chosen.dice[1] + LEAST));
            }
            assert!(chosen.dice[1] >= best - 1e-2, "seed {seed}: {} of {best}", chosen.dice[1]);
        }
    }
}
