//! Fits a fully connected random field to what a run predicts, on cases that it was not trained on.
//!
//! ```text
//! cases set aside -> probabilities -> a field for each pair of standard deviations -> every candidate's scores
//!                 -> shortlist on all cases -> the best, or none -> crf.toml
//! ```
//!
//! A field is built once for its standard deviations; weights share it. "No field" is a candidate like the others and wins ties. The
//! gain that is reported is that of each half of the cases with what the other half chooses.

use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayView3, ArrayView4, Axis, Zip};
use segen_kernels::Device;
use serde::{Deserialize, Serialize};

use super::trained::{Cache, Trained, Which, windows};
use crate::data::dataset::Case;
use crate::files::{self, Outputs, bytes_of};
use crate::image::components::{Connectivity, overlaps};
use crate::image::crf::{Field, Kernel, Settings};
use crate::predict::Segmenter;
use crate::predict::field::probabilities;
use crate::prepare::{IGNORE, PreparedCase, Sample};
use crate::progress::Progress;
use crate::run::Run;
use crate::run::record::{Record, cases_of};
use crate::score::statistics::{Interval, bootstrap_mean};
use crate::{Error, Result};

/// What is fitted, in the folder of the run.
pub const FILE: &str = "crf.toml";
/// Every candidate's scores, beside it.
pub const SCORES: &str = "crf.json";
/// Fewer cases decide nothing.
const FEWEST: usize = 4;
/// Standard deviations in space that are tried, millimetres.
const MILLIMETRES: [f64; 4] = [2.0, 4.0, 8.0, 16.0];
/// Of intensities, times the root of the number of channels.
const INTENSITIES: [f64; 4] = [0.2, 0.35, 0.6, 1.0];
/// Weights that are tried with each pair of them.
const WEIGHTS: usize = 12;
/// Cases that all candidates are scored on.
const FIRST_CASES: usize = 4;
/// Candidates that are scored on all cases.
const SHORTLIST: usize = 12;
/// A candidate that finds so much smaller a share of the lesions is struck off.
const LOST_LESIONS: f64 = 0.01;
/// Replicates of the bootstrap, and its seed.
const DRAWS: (usize, u64) = (10_000, 1);

/// Which cases a field is fitted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Those set aside from training (`policy.validation_share`), which nothing else is scored on.
    SetAside,
    /// The held-out cases: their scores with the field are then those of cases that it was fitted on.
    HeldOut,
}

/// `crf.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// Whether a field gained anything; the settings are then those that gained most.
    pub enabled: bool,
    /// Number of classes, background included.
    pub classes: usize,
    /// Number of channels.
    pub channels: usize,
    /// Names of the cases that it was fitted on.
    pub cases: Vec<String>,
    /// Whether these are the run's held-out cases.
    pub held_out: bool,
    /// Mean Dice without a field and with the one chosen, on these cases.
    pub dice: [f64; 2],
    /// Mean gain in Dice of each half of the cases with what the other half chooses, and its 95 % interval.
    pub cross_fitted: Option<[f64; 3]>,
    /// The field.
    pub settings: Settings,
}

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

/// One `segen crf`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The run.
    pub run: &'a Run,
    /// Which of its checkpoints.
    pub checkpoint: Which,
    /// Its data set, where that is elsewhere now.
    pub dataset: Option<&'a Path>,
    /// Where prepared samples lie.
    pub cache: Option<&'a Path>,
    /// Cases to fit on.
    pub on: On,
    /// Where to compute.
    pub device: &'a Device,
}

/// Claims the files of a fit in the folder of its run.
///
/// # Errors
/// As [`Outputs::claim`].
pub fn claim(run: &Run, existing: files::Existing) -> Result<Outputs> {
    let names = [FILE, SCORES].map(str::to_owned);
    Outputs::claim("crf", &run.folder, &names, &[], existing)
}

/// Fits a field and writes it to `outputs`, which [`claim`] gives.
///
/// # Errors
/// Where the run or the data set cannot be read, there are too few cases, or a file cannot be written.
pub fn fit(request: &Request<'_>, outputs: &Outputs, progress: &dyn Progress) -> Result<Fitted> {
    let trained = Trained::open(request.run, request.checkpoint)?;
    let record = &trained.record;
    let dataset = record.dataset(request.dataset)?;
    let named = match request.on {
        On::SetAside => &record.split.policy_validation,
        On::HeldOut => &record.split.held_out(),
    };
    let cases = cases_of(&dataset, named)?;
    let cases: Vec<&Case> = cases.into_iter().filter(|case| case.labels.is_some()).collect();
    if cases.len() < FEWEST {
        return Err(few(request, cases.len()));
    }
    let cache = Cache::find(request.cache, record, &dataset, progress)?;
    let prepared = trained.prepare(&dataset, &cases, &cache, progress)?;
    let segmenter = windows(&[&trained], trained.window_options(), request.device)?;
    let work = Work { segmenter: &segmenter, prepared: &prepared, progress };
    let mut candidates = candidates(record.plan.channels);
    let first: Vec<usize> = spread(prepared.len(), FIRST_CASES);
    work.score("trying random fields", &mut candidates, &first)?;
    shorten(&mut candidates, &first);
    let rest: Vec<usize> = (0..prepared.len()).filter(|case| !first.contains(case)).collect();
    work.score("trying the best of them on all cases", &mut candidates, &rest)?;
    let all: Vec<usize> = (0..prepared.len()).collect();
    let chosen = choose(&candidates, &all);
    let dice = |candidate: &Candidate| mean(candidate, &all, |score| score.dice);
    let settings = candidates[chosen].settings;
    let fitted = Fitted {
        enabled: settings.is_some(),
        classes: record.plan.classes,
        channels: record.plan.channels,
        cases: prepared.iter().map(|case| case.id.clone()).collect(),
        held_out: request.on == On::HeldOut,
        dice: [dice(&candidates[0]), dice(&candidates[chosen])],
        cross_fitted: cross_fitted(&candidates, prepared.len())
            .map(|Interval { mean, low, high }| [mean, low, high]),
        settings: settings.unwrap_or_else(|| Settings::of_channels(record.plan.channels)),
    };
    let scores = serde_json::to_string_pretty(&candidates)
        .map_err(|e| Error::Internal { what: format!("candidates as JSON: {e}") })?;
    outputs.write(SCORES, None, bytes_of(format!("{scores}\n").as_bytes()))?;
    let text = toml::to_string_pretty(&fitted)
        .map_err(|e| Error::Internal { what: format!("a random field as TOML: {e}") })?;
    outputs.write(FILE, None, bytes_of(text.as_bytes()))?;
    Ok(fitted)
}

/// With which random field predictions are refined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that was fitted for the run.
    Run,
    /// Values between the published ones.
    Default,
    /// One in a file of this form.
    File(PathBuf),
}

impl Choice {
    /// The settings for a run; none where the fit found that no field gains anything.
    ///
    /// # Errors
    /// Where there is no such file, or it is for other classes or channels.
    pub fn settings(&self, record: &Record, progress: &dyn Progress) -> Result<Option<Settings>> {
        let (classes, channels) = (record.plan.classes, record.plan.channels);
        let path = match self {
            Self::Default => return Ok(Some(Settings::of_channels(channels))),
            Self::File(path) => path.clone(),
            Self::Run => record.run.path(FILE),
        };
        if *self == Self::Run && !path.is_file() {
            return Err(Error::invalid(
                path,
                "--crf",
                "no random field was fitted for this run",
                "fit one with `segen crf RUN`, or take the usual values with --crf=default",
            ));
        }
        let fitted = read(&path, classes, channels)?;
        progress.note(&fitted.sentence());
        Ok(fitted.enabled.then_some(fitted.settings))
    }
}

impl Fitted {
    /// What it gained, for people.
    pub fn sentence(&self) -> String {
        let cases = self.cases.len();
        let gain = self.cross_fitted.map_or(String::new(), |[mean, low, high]| {
            format!(" (cross-fitted gain {mean:+.3} [{low:+.3}, {high:+.3}])")
        });
        match self.enabled {
            false => {
                format!("random field: none gained anything on {cases} cases, and none is applied{gain}")
            }
            true => format!(
                "random field: mean Dice {:.3} instead of {:.3} on the {cases} cases that it was fitted on{gain}",
                self.dice[1], self.dice[0]
            ),
        }
    }
}

/// Reads what was fitted for runs of so many classes and channels.
///
/// # Errors
/// Where it cannot be read or is for others.
pub fn read(path: &Path, classes: usize, channels: usize) -> Result<Fitted> {
    let fitted: Fitted = files::read_toml(path, "fit it again: segen crf RUN")?;
    if (fitted.classes, fitted.channels) != (classes, channels) {
        return Err(Error::invalid(
            path,
            "classes",
            format!(
                "was fitted for {} classes and {} channels, and this run has {classes} and {channels}",
                fitted.classes, fitted.channels
            ),
            "fit one for this run: segen crf RUN",
        ));
    }
    Ok(fitted)
}

fn few(request: &Request<'_>, count: usize) -> Error {
    let (what, mend) = match request.on {
        On::SetAside => (
            "set aside from its training",
            "train with --set policy.validation_share=0.2, or fit on the held-out cases with --on held-out (their scores \
             with the field are then no estimate)",
        ),
        On::HeldOut => ("held out with a reference", "train with --fold 0 on more cases"),
    };
    Error::invalid(
        request.run.path("split.json"),
        "cases",
        format!("the run has {count} cases {what}, and a field is fitted on {FEWEST} at least"),
        mend,
    )
}

/// No field, and fields of every pair of standard deviations with the same spread of weights.
fn candidates(channels: usize) -> Vec<Candidate> {
    let mut all = vec![None];
    for millimetres in MILLIMETRES {
        for intensity in INTENSITIES {
            for number in 1..=WEIGHTS {
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
fn spread(of: usize, count: usize) -> Vec<usize> {
    let count = count.min(of);
    (0..count).map(|i| i * of / count).collect()
}

struct Work<'a> {
    segmenter: &'a dyn Segmenter,
    prepared: &'a [PreparedCase],
    progress: &'a dyn Progress,
}

impl Work<'_> {
    /// Scores candidates on some of the cases.
    fn score(&self, what: &str, candidates: &mut [Candidate], cases: &[usize]) -> Result<()> {
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
fn mean(candidate: &Candidate, cases: &[usize], of: impl Fn(&Score) -> f64) -> f64 {
    let values = cases.iter().map(|&case| candidate.scores[case].as_ref().map_or(f64::NEG_INFINITY, &of));
    values.sum::<f64>() / cases.len() as f64
}

/// The best candidate on some cases: the largest mean Dice among those that find as many lesions; the first, which is no
/// field, where none is better.
fn choose(candidates: &[Candidate], cases: &[usize]) -> usize {
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
fn shorten(candidates: &mut Vec<Candidate>, cases: &[usize]) {
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
fn cross_fitted(candidates: &[Candidate], cases: usize) -> Option<Interval> {
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
        let all = candidates(4);
        assert_eq!(all.len(), 1 + 16 * WEIGHTS);
        assert!(all[0].settings.is_none());
        for settings in all.iter().filter_map(|candidate| candidate.settings) {
            assert!((0.2..=10.0).contains(&settings.appearance.weight));
            assert!((0.3..=1.0).contains(&settings.background));
        }
        assert!(all.iter().any(|candidate| candidate.settings.is_some_and(|s| s.smooth.weight == 0.0)));
    }
}
