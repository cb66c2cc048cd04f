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

use segen_kernels::Device;
use serde::{Deserialize, Serialize};

use super::trained::{Cache, Trained, Which};
use crate::data::dataset::Case;
use crate::files::{self, Outputs, bytes_of};
use crate::image::crf::Settings;
use crate::progress::Progress;
use crate::run::Run;
use crate::run::record::{Record, cases_of};
use crate::score::statistics::Interval;
use crate::{Error, Result};

mod candidates;

pub use candidates::{Candidate, Score};
use candidates::{FIRST_CASES, Size, Work, candidates, choose, cross_fitted, mean, shorten, spread};

/// What is fitted, in the folder of the run.
pub const FILE: &str = "crf.toml";
/// Every candidate's scores, beside it.
pub const SCORES: &str = "crf.json";
/// Fewer cases decide nothing.
const FEWEST: usize = 4;
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
    /// Seconds that it may take, about; fewer fields are tried in less.
    pub budget: f64,
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
    let segmenter = trained.segmenter(trained.window_options(), request.device)?;
    let work = Work { segmenter: segmenter.as_ref(), prepared: &prepared, progress };
    let first: Vec<usize> = spread(prepared.len(), FIRST_CASES);
    let usual = Settings::of_channels(record.plan.channels);
    let size = Size::affordable(work.seconds(first[0], &usual)?, first.len(), request.budget);
    progress.note(&format!(
        "{} random fields are tried: {} pairs of standard deviations with {} weights each",
        size.pairs * size.weights,
        size.pairs,
        size.weights
    ));
    let mut candidates = candidates(record.plan.channels, size);
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
