//! The fields that are tried, how each does, and which of them is taken.

use std::time::Instant;

use ndarray::{Array3, ArrayView3, ArrayView4, Axis, Zip};
use serde::Serialize;

use crate::image::components::{Connectivity, overlaps};
use crate::image::crf::{Field, Kernel, Settings};
use crate::predict::Segmenter;
use crate::predict::field::probabilities;
use crate::prepare::{IGNORE, PreparedCase, Sample};
use crate::progress::Progress;
use crate::score::statistics::{Interval, bootstrap_mean};
use crate::{Error, Result};

/// Standard deviations in space that are tried, millimetres.
const MILLIMETRES: [f64; 4] = [2.0, 4.0, 8.0, 16.0];
/// Of intensities, times the root of the number of channels.
const INTENSITIES: [f64; 4] = [0.2, 0.35, 0.6, 1.0];
/// How many pairs of them, and how many weights with each: as many as the time allows.
const SIZES: [Size; 6] = [
    Size { pairs: 16, weights: 12 },
    Size { pairs: 16, weights: 6 },
    Size { pairs: 8, weights: 6 },
    Size { pairs: 4, weights: 6 },
    Size { pairs: 4, weights: 3 },
    Size { pairs: 2, weights: 3 },
];
/// Share of the time that the first stage may take.
const FIRST_SHARE: f64 = 0.7;
/// Cases that all candidates are scored on.
pub(super) const FIRST_CASES: usize = 4;
/// Candidates that are scored on all cases.
const SHORTLIST: usize = 12;
/// A candidate that finds so much smaller a share of the lesions is struck off.
const LOST_LESIONS: f64 = 0.01;
/// Replicates of the bootstrap, and its seed.
const DRAWS: (usize, u64) = (10_000, 1);

/// A candidate and its scores.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// The field; none for the prediction as it is.
    pub settings: Option<Settings>,
    /// Of each case it was tried on: mean Dice over the foreground classes, and share of the lesions found.
    pub scores: Vec<Option<Score>>,
}

/// How a label map does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Mean Dice over the foreground classes that the reference or the label map has.
    pub dice: f64,
    /// Share of the reference's lesions (26-connected parts of any class) of which a voxel has their class; 1 where there is none.
    pub lesions: f64,
}

/// How many fields are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Of standard deviations.
    pub(super) pairs: usize,
    /// With each of them.
    pub(super) weights: usize,
}

impl Size {
    /// The largest that so many cases can be scored with in `budget` seconds, where a field takes `build` seconds and
    /// each weight of it `refine` seconds; the smallest where none can.
    pub(super) fn affordable([build, refine]: [f64; 2], cases: usize, budget: f64) -> Self {
        let seconds = |size: &Self| (cases * size.pairs) as f64 * (build + size.weights as f64 * refine);
        let fits = |size: &&Self| seconds(size) <= FIRST_SHARE * budget;
        *SIZES.iter().find(fits).unwrap_or(&SIZES[SIZES.len() - 1])
    }
}

/// No field, and fields of pairs of standard deviations, evenly spread, with the same spread of weights.
pub(super) fn candidates(channels: usize, size: Size) -> Vec<Candidate> {
    let mut all = vec![None];
    let every = MILLIMETRES.len() * INTENSITIES.len();
    for pair in 0..size.pairs {
        // One more than an even step, so that fewer pairs have different values of both kinds.
        let pair = pair * (every / size.pairs + usize::from(size.pairs < every)) % every;
        let millimetres = MILLIMETRES[pair / INTENSITIES.len()];
        let intensity = INTENSITIES[pair % INTENSITIES.len()];
        for number in 1..=size.weights {
            let [a, b, c] = [2, 3, 5].map(|base| halton(number, base));
            let between = |share: f64, low: f64, high: f64| low * (high / low).powf(share);
            // One in four without smoothness.
            let smooth = if number % 4 == 0 { 0.0 } else { between(b, 0.1, 5.0) };
            all.push(Some(Settings {
                iterations: 5,
                smooth: Kernel { weight: smooth, millimetres: 2.0 },
                appearance: Kernel { weight: between(a, 0.2, 10.0), millimetres },
                intensity: intensity * (channels as f64).sqrt(),
                background: 0.3 + 0.7 * c,
            }));
        }
    }
    all.into_iter().map(|settings| Candidate { settings, scores: Vec::new() }).collect()
}

/// A number of Halton's sequence, in (0, 1).
fn halton(mut number: usize, base: usize) -> f64 {
    let (mut value, mut share) = (0.0, 1.0);
    while number > 0 {
        share /= base as f64;
        value += share * (number % base) as f64;
        number /= base;
    }
    value
}

/// So many of so many, evenly spread.
pub(super) fn spread(of: usize, count: usize) -> Vec<usize> {
    let count = count.min(of);
    (0..count).map(|i| i * of / count).collect()
}

/// Scores candidates on cases.
pub(super) struct Work<'a> {
    pub(super) segmenter: &'a dyn Segmenter,
    pub(super) prepared: &'a [PreparedCase],
    pub(super) progress: &'a dyn Progress,
}

impl Work<'_> {
    /// Seconds that a field of a case takes to build, and to refine a prediction with.
    pub(super) fn seconds(&self, case: usize, settings: &Settings) -> Result<[f64; 2]> {
        let sample = self.prepared[case].load()?;
        let own = probabilities(self.segmenter, &sample, &mut |_| {});
        let began = Instant::now();
        let field = field(&sample, own.view(), settings);
        let build = began.elapsed().as_secs_f64();
        if let Some(Some(field)) = field {
            let _ = field.refine(own.view(), settings);
        }
        Ok([build, began.elapsed().as_secs_f64() - build])
    }

    /// Scores candidates on some of the cases.
    pub(super) fn score(&self, what: &str, candidates: &mut [Candidate], cases: &[usize]) -> Result<()> {
        self.progress.begin(what, (cases.len() * candidates.len()) as u64);
        for candidate in &mut *candidates {
            candidate.scores.resize(self.prepared.len(), None);
        }
        for &case in cases {
            let sample = self.prepared[case].load()?;
            let Some(labels) = sample.labels.as_ref() else { continue };
            let own = probabilities(self.segmenter, &sample, &mut |_| {});
            let mut built: Option<(Settings, Option<Field>)> = None;
            for candidate in &mut *candidates {
                if self.progress.is_stopped() {
                    return Err(Error::stopped(format!("while {what}")));
                }
                candidate.scores[case] = match &candidate.settings {
                    None => Some(score(own.view(), labels.view())),
                    Some(settings) => {
                        let same = |(of, _): &&(Settings, _)| same_field(of, settings);
                        if built.as_ref().filter(same).is_none() {
                            built = field(&sample, own.view(), settings).map(|field| (*settings, field));
                        }
                        built.as_ref().map(|(_, field)| match field {
                            Some(field) => score(field.refine(own.view(), settings).view(), labels.view()),
                            None => score(own.view(), labels.view()),
                        })
                    }
                };
                self.progress.advance(1);
            }
        }
        self.progress.end();
        Ok(())
    }
}

/// The field of a sample for all weights; none where the sample extends over too many of its standard deviations.
fn field(sample: &Sample, own: ArrayView4<'_, f32>, settings: &Settings) -> Option<Option<Field>> {
    let smooth = Kernel { weight: 1.0, ..settings.smooth };
    let both = Settings { smooth, ..*settings };
    let mask = sample.mask.as_ref().map(|mask| mask.view());
    Field::of(own, sample.images.view(), mask, sample.geometry.spacing, &both).ok()
}

/// Whether two candidates differ in weights alone.
fn same_field(one: &Settings, other: &Settings) -> bool {
    one.appearance.millimetres == other.appearance.millimetres
        && one.intensity == other.intensity
        && one.smooth.millimetres == other.smooth.millimetres
}

/// How the decision of probabilities does.
fn score(probabilities: ArrayView4<'_, f32>, labels: ArrayView3<'_, u8>) -> Score {
    let mut decided = Array3::<u8>::zeros(labels.raw_dim());
    Zip::indexed(&mut decided).par_for_each(|(x, y, z), decided| {
        let mut best = 0;
        for class in 1..probabilities.dim().0 {
            if probabilities[[class, x, y, z]] > probabilities[[best, x, y, z]] {
                best = class;
            }
        }
        *decided = best as u8;
    });
    Zip::from(&mut decided).and(labels).for_each(|decided, &label| {
        if label == IGNORE {
            *decided = 0;
        }
    });
    let classes = probabilities.len_of(Axis(0));
    let (mut dice, mut lesions, mut found) = (Vec::new(), 0, 0);
    for class in 1..classes as u8 {
        let reference = labels.mapv(|label| label == class);
        let ours = decided.mapv(|label| label == class);
        let count = |mask: &Array3<bool>| mask.iter().filter(|&&inside| inside).count();
        let both = Zip::from(&reference).and(&ours).fold(0, |sum, &a, &b| sum + usize::from(a && b));
        let sum = count(&reference) + count(&ours);
        if sum > 0 {
            dice.push(2.0 * both as f64 / sum as f64);
        }
        for (_, shared) in overlaps(reference.view(), ours.view(), Connectivity::TwentySix) {
            lesions += 1;
            found += usize::from(shared > 0);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Score {
        dice: if dice.is_empty() { 1.0 } else { mean(&dice) },
        lesions: if lesions == 0 { 1.0 } else { found as f64 / lesions as f64 },
    }
}

/// Mean of a figure over some cases; minus infinity where one of them has none.
pub(super) fn mean(candidate: &Candidate, cases: &[usize], of: impl Fn(&Score) -> f64) -> f64 {
    let values = cases.iter().map(|&case| candidate.scores[case].as_ref().map_or(f64::NEG_INFINITY, &of));
    values.sum::<f64>() / cases.len() as f64
}

/// The best candidate on some cases: the largest mean Dice among those that find as many lesions; the first, which is no
/// field, where none is better.
pub(super) fn choose(candidates: &[Candidate], cases: &[usize]) -> usize {
    let lesions = mean(&candidates[0], cases, |score| score.lesions);
    let mut best = 0;
    for (number, candidate) in candidates.iter().enumerate().skip(1) {
        let finds = mean(candidate, cases, |score| score.lesions) >= lesions - LOST_LESIONS;
        let dice = |candidate: &Candidate| mean(candidate, cases, |score| score.dice);
        if finds && dice(candidate) > dice(&candidates[best]) {
            best = number;
        }
    }
    best
}

/// Keeps "no field" and the best others.
pub(super) fn shorten(candidates: &mut Vec<Candidate>, cases: &[usize]) {
    let none = candidates.remove(0);
    let lesions = mean(&none, cases, |score| score.lesions);
    let rank = |candidate: &Candidate| {
        let finds = mean(candidate, cases, |score| score.lesions) >= lesions - LOST_LESIONS;
        (finds, mean(candidate, cases, |score| score.dice))
    };
    // Stable: of equal ones the first stays.
    candidates.sort_by(|a, b| {
        let ((a_finds, a_dice), (b_finds, b_dice)) = (rank(a), rank(b));
        b_finds.cmp(&a_finds).then(b_dice.total_cmp(&a_dice))
    });
    candidates.truncate(SHORTLIST);
    candidates.insert(0, none);
    // Those of one field follow each other, so that it is built once for each case.
    let key = |candidate: &Candidate| {
        candidate.settings.map_or([0.0; 2], |settings| [settings.appearance.millimetres, settings.intensity])
    };
    candidates.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
}

/// The gain of each half of the cases with what the other half chooses.
pub(super) fn cross_fitted(candidates: &[Candidate], cases: usize) -> Option<Interval> {
    let half = |parity: usize| (0..cases).filter(move |case| case % 2 == parity).collect::<Vec<usize>>();
    let mut gains = vec![None; cases];
    for parity in [0, 1] {
        let chosen = choose(candidates, &half(1 - parity));
        for case in half(parity) {
            let dice = |number: usize| candidates[number].scores[case].map(|score| score.dice);
            gains[case] = dice(chosen).zip(dice(0)).map(|(with, without)| with - without);
        }
    }
    bootstrap_mean(&[gains], DRAWS.0, DRAWS.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;

    fn candidate(dice: &[f64], lesions: f64, settings: bool) -> Candidate {
        let scores = dice.iter().map(|&dice| Some(Score { dice, lesions })).collect();
        Candidate { settings: settings.then(|| Settings::of_channels(1)), scores }
    }

    #[test]
    fn no_field_wins_ties_and_one_that_loses_lesions_is_struck_off() {
        let none = candidate(&[0.5, 0.6, 0.5, 0.6], 0.9, false);
        let all = [0, 1, 2, 3];
        assert_eq!(choose(&[none.clone(), candidate(&[0.5, 0.6, 0.5, 0.6], 0.9, true)], &all), 0);
        assert_eq!(choose(&[none.clone(), candidate(&[0.9; 4], 0.8, true)], &all), 0);
        let better = candidate(&[0.6, 0.6, 0.5, 0.6], 0.9, true);
        assert_eq!(choose(&[none.clone(), better.clone()], &all), 1);
        // The gain of one case is not that of the others: its half does not choose the field.
        let gain = cross_fitted(&[none, better], 4).unwrap();
        assert!((gain.mean - 0.0).abs() < 1e-12, "{gain:?}");
    }

    #[test]
    fn lesions_count_as_found_when_one_voxel_has_their_class() {
        let mut labels = Array3::<u8>::zeros((6, 3, 3));
        labels[[0, 0, 0]] = 1;
        labels[[1, 0, 0]] = 1;
        labels[[5, 2, 2]] = 1;
        labels[[3, 1, 1]] = IGNORE;
        let mut probabilities = Array4::<f32>::zeros((2, 6, 3, 3));
        probabilities.index_axis_mut(Axis(0), 0).fill(0.9);
        probabilities.index_axis_mut(Axis(0), 1).fill(0.1);
        for at in [[1, 1, 0, 0], [1, 3, 1, 1]] {
            probabilities[at] = 0.95;
        }
        let score = score(probabilities.view(), labels.view());
        assert_eq!(score, Score { dice: 2.0 / 4.0, lesions: 0.5 });
    }

    #[test]
    fn candidates_spread_over_the_ranges() {
        let all = candidates(4, SIZES[0]);
        assert_eq!(all.len(), 1 + 16 * 12);
        for size in SIZES {
            let some = candidates(4, size);
            assert_eq!(some.len(), 1 + size.pairs * size.weights);
            let distinct = |of: fn(&Settings) -> f64| {
                let mut values: Vec<f64> = some.iter().filter_map(|c| c.settings.as_ref().map(of)).collect();
                values.sort_by(f64::total_cmp);
                values.dedup();
                values.len()
            };
            let wanted = size.pairs.min(4);
            assert_eq!(distinct(|s| s.appearance.millimetres), wanted, "{size:?}");
            assert_eq!(distinct(|s| s.intensity), wanted, "{size:?}");
        }
        assert_eq!(Size::affordable([1.0, 0.1], 4, 600.0), SIZES[0]);
        assert_eq!(Size::affordable([5.0, 1.0], 4, 600.0), SIZES[2]);
        assert_eq!(Size::affordable([1e6, 1.0], 4, 600.0), SIZES[5]);
        assert!(all[0].settings.is_none());
        for settings in all.iter().filter_map(|candidate| candidate.settings) {
            assert!((0.2..=10.0).contains(&settings.appearance.weight));
            assert!((0.3..=1.0).contains(&settings.background));
        }
        assert!(all.iter().any(|candidate| candidate.settings.is_some_and(|s| s.smooth.weight == 0.0)));
    }
}
