//! One run from data set to scores: split, plan, prepare, train, predict the held-out cases, score them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use segen_kernels::Device;
use serde_json::json;

use super::scores::Scores;
use super::trained::{Trained, Which};
use crate::classic::{self, fit::Fit};
use crate::config::{Config, FractionMode, Length, NameOrFile, PolicyName};
use crate::data::dataset::{self, Dataset};
use crate::learn::cases;
use crate::learn::control::{self, Schedule};
use crate::learn::exported;
use crate::learn::job::{self, Job};
use crate::learn::method::Method;
use crate::learn::train::{Ending, Outcome};
use crate::network::Weights;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::prepare::{self, PreparedCase};
use crate::progress::Progress;
use crate::run::record::cases_of;
use crate::run::{Claim, DataDigest, FORMAT, Manifest, Run, Split, State};
use crate::score::Summary;
use crate::{Error, Result, files, machine};

mod before;
mod data;
mod folds;
mod settings;
mod start;

pub use folds::{CrossValidated, cross_validate};
pub use start::plan;

use settings::{AUTO, lengthen, refuse_existing, resolve};

/// What to do with a run folder that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Refuse to touch it.
    Fresh,
    /// Go on from its last checkpoint with its own configuration; begin where there is none yet.
    Resume,
}

/// What to do where the data have faults, or have changed since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Refuse them.
    Refuse,
    /// Go on where that is possible, and keep the list in `run.json`.
    Accept,
}

/// One `segen train`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The data set.
    pub dataset: &'a Path,
    /// The run folder.
    pub run: &'a Run,
    /// The configuration; `None` to take that of a run that is resumed, or the defaults.
    pub config: Option<&'a Config>,
    /// Where prepared samples lie; chosen by [`prepare::cache_folder`] when left out.
    pub cache: Option<&'a Path>,
    /// What to do with a run that is there already.
    pub start: Start,
    /// What to do with faults of the data.
    pub faults: Faults,
    /// A plan for a run that begins, instead of one that is measured: that of the other folds.
    pub plan: Option<&'a Plan>,
    /// The length of the training, where a run that has finished is to be lengthened to it.
    pub length: Option<Length>,
    /// Threads of the process, for the record.
    pub threads: usize,
    /// Where to compute.
    pub device: &'a Device,
    /// When the command began.
    pub started: Instant,
}

/// What a finished run gives.
#[derive(Debug)]
pub struct TrainResult {
    /// How training ended.
    pub outcome: Outcome,
    /// Scores of the validation cases.
    pub validation: Summary,
    /// Scores of the data set's test cases, where it has labels for them.
    pub test: Option<Summary>,
    /// Cases that could not be scored, and why.
    pub failed: Vec<(String, Error)>,
}

/// What a run folder says before there is a checkpoint.
struct Basis {
    config: Config,
    plan: Plan,
    split: Split,
    policy: Policy,
    /// Names of the test cases that are scored.
    test: Vec<String>,
}

/// What a model lacks that is to be trained on.
const CANNOT_TRAIN: &str = "optimiser and no cases: it cannot be trained on";

/// Runs, or goes on with, one training and everything that belongs to it.
///
/// # Errors
/// Where another process works in the run folder, the data are not fit to be trained on or not those that the run began
/// with, a setting cannot be used, or a file cannot be read or written. [`Error::Stopped`] where the user asked to stop.
pub fn run(request: &Request<'_>, progress: &dyn Progress) -> Result<TrainResult> {
    let run = request.run;
    exported::refuse(run, CANNOT_TRAIN)?;
    refuse_existing(request)?;
    let _claim = Claim::take(&run.folder, "segen train")?;
    let mut dataset = Dataset::open(request.dataset)?;
    let config = resolve(request)?;
    dataset.labels = dataset.labels.select(&config.task.classes)?;
    dataset.splits.clone_from(&config.splits);
    let kernels = job::kernel_settings(&config)?;
    let mut manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        processor: machine::processor(),
        threads: request.threads,
        kernels_path: kernels.path().to_string(),
        dataset: absolute(&dataset.folder),
        cache: absolute(&prepare::cache_folder(request.cache, &dataset, &run.folder)),
        ..Manifest::default()
    };
    let basis = kernels.scoped(|| match run.exists() {
        true => go_on(request, &dataset, config, &mut manifest, progress),
        false => begin(request, &dataset, config, &mut manifest, progress),
    })?;
    run.write_json("run.json", &manifest)?;
    let finished = kernels.scoped(|| work(request, &dataset, &basis, &mut manifest, progress));
    manifest.wall_seconds = request.started.elapsed().as_secs_f64();
    manifest.peak_memory_bytes = machine::peak_memory_bytes();
    manifest.state = match &finished {
        Ok(finished) if finished.outcome.ending == Ending::Patience => State::StoppedEarly,
        Ok(_) => State::Finished,
        Err(Error::Stopped { .. }) => State::Stopped,
        Err(error) => State::Failed(error.to_string()),
    };
    run.write_json("run.json", &manifest)?;
    finished
}

/// Checks the data, plans, and sets the run folder up.
fn begin(
    request: &Request<'_>,
    dataset: &Dataset,
    mut config: Config,
    manifest: &mut Manifest,
    progress: &dyn Progress,
) -> Result<Basis> {
    let (run, names) = (request.run, &dataset.labels.names);
    Method::resolve(&config, names)?;
    run.vacant("train")?;
    before::explain_fold(dataset, config.fold, progress)?;
    let split = split(dataset, &config)?;
    prepare::make_cache(&manifest.cache, dataset)?;
    data::check_data(request, dataset, &manifest.cache, &mut manifest.accepted, progress)?;
    let source = start::source(&config)?;
    let plan = match request.plan {
        Some(plan) => plan.clone(),
        None => start::plan_from(dataset, &config, source.as_ref(), progress)?,
    };
    start::settle_network(&mut config, &plan)?;
    if config.classical_method().is_some() {
        config.policy.name = NameOrFile::Name(PolicyName::None);
    } else {
        before::fits_memory(&plan, &config)?;
    }
    let step_seconds =
        || plan.work_of_step(&config) * plan.predicted_step_seconds_here(segen_kernels::convolution_speed());
    let steps = config.schedule.expected_steps(step_seconds);
    let policy = config.policy.resolve(&plan, &dataset.labels.sides(), steps)?;
    if config.policy.name == AUTO {
        progress.note(&format!("augmentation: `{}`, for about {steps} steps", policy.name));
        config.policy.name = NameOrFile::Name(PolicyName::Auto.for_steps(steps));
    }
    let labelled = dataset.test.iter().filter(|case| case.labels.is_some());
    let test: Vec<String> = labelled.map(|case| case.id.clone()).collect();
    let digest = DataDigest::of(dataset, config.fold, (&split.cases(), &test), None, progress)?;
    let schedule = schedule(&config, names, steps, progress)?;
    let initial =
        source.map(|source| source.begin((dataset, &split), &config, &plan, progress)).transpose()?;
    start::keep_initial(run, initial.as_ref())?;
    let further: Vec<_> = [("data.json", json!(digest)), ("run.json", json!(manifest))]
        .into_iter()
        .chain(schedule.iter().map(Schedule::file))
        .chain(initial.map(|initial| ("initial.json", initial.record)))
        .collect();
    run.set_up(&config, &plan, &split, &policy, &description(dataset)?, &further)?;
    Ok(Basis { config, plan, split, policy, test })
}

/// Reads the run folder and makes sure that the data are still those that the run began with.
fn go_on(
    request: &Request<'_>,
    dataset: &Dataset,
    config: Config,
    manifest: &mut Manifest,
    progress: &dyn Progress,
) -> Result<Basis> {
    let run = request.run;
    let split: Split = run.read_json("split.json")?;
    let last = run.manifest().ok();
    if let Some(last) = &last {
        if last.kernels_path != manifest.kernels_path {
            progress.note(&format!(
                "warning: this run began on the `{}` instruction path and goes on on `{}`; the last digits of its \
                 weights will differ from those of a run that never moved",
                last.kernels_path, manifest.kernels_path
            ));
        }
        manifest.accepted.clone_from(&last.accepted);
    }
    let began: Option<DataDigest> = match run.path("data.json").is_file() {
        true => Some(run.read_json("data.json")?),
        false => None,
    };
    let test = match &began {
        Some(began) => began.test_cases(),
        None => {
            progress.note(
                "this run was begun by a version that kept no record of its data: whether they have changed since then \
                 cannot be told",
            );
            let labelled = dataset.test.iter().filter(|case| case.labels.is_some());
            labelled.map(|case| case.id.clone()).collect()
        }
    };
    let now = DataDigest::of(dataset, config.fold, (&split.cases(), &test), began.as_ref(), progress)?;
    let accepted = &mut manifest.accepted;
    let known = match &began {
        Some(began) => !data::compare_data(request, (began, &now), accepted, progress)?,
        None => false,
    };
    if !known {
        data::check_data(request, dataset, &manifest.cache, accepted, progress)?;
    }
    let plan = run.plan()?;
    if config.classical_method().is_none() {
        before::fits_memory(&plan, &config)?;
    }
    if began.as_ref() != Some(&now) {
        run.write_json("data.json", &now)?;
    }
    if let Some(last) = &last {
        lengthen(run, &config, last, manifest, progress)?;
    }
    Ok(Basis { config, plan, split, policy: run.policy()?, test: now.test_cases() })
}

/// The schedule of another run that this one is to follow, for about `steps` steps.
fn schedule(
    config: &Config,
    classes: &[String],
    steps: u64,
    progress: &dyn Progress,
) -> Result<Option<Schedule>> {
    let Some(from) = &config.method.auto.from else { return Ok(None) };
    let schedule = Schedule::of(from, classes, &Method::resolve(config, classes)?)?;
    let end = schedule.end() + 1;
    if end < steps {
        progress.note(&format!(
            "the schedule ends after {end} of about {steps} steps; its last strengths are kept"
        ));
    }
    Ok(Some(schedule))
}

fn split(dataset: &Dataset, config: &Config) -> Result<Split> {
    let fold = dataset.fold(config.fold)?;
    let own = match config.fraction_mode {
        FractionMode::Random => cases::keep_fraction(&fold.train, config.fraction, config.seed),
        FractionMode::Prefix => cases::keep_prefix(&fold.train, config.fraction),
    };
    let (train, policy_validation) = cases::set_aside(&own, config.validation_share(), config.seed)?;
    Ok(Split { train, validation: fold.validation, policy_validation })
}

/// Prepares the cases, trains and scores.
fn work(
    request: &Request<'_>,
    dataset: &Dataset,
    basis: &Basis,
    manifest: &mut Manifest,
    progress: &dyn Progress,
) -> Result<TrainResult> {
    let run = request.run;
    let Basis { config, plan, split, policy, test } = basis;
    let cache = prepare::cache_folder(request.cache, dataset, &run.folder);
    let classes = &dataset.labels.names;
    if config.classical_method().is_none() {
        let forecast = before::forecast(plan, config, split, test.len())?;
        if !run.checkpoints().exists() {
            progress.note(&forecast.sentence());
        }
        before::find_room(run, &cache, &forecast, progress)?;
    }
    let cases = cases_of(dataset, &split.cases())?;
    let prepared = prepare::prepare_all(dataset, &plan.recipe(), &cases, &cache, progress)?;
    let pick = |ids: &[String]| -> Vec<PreparedCase> {
        ids.iter().filter_map(|id| prepared.iter().find(|case| case.id == *id).cloned()).collect()
    };
    let train = pick(&split.train);
    before::find_absent_classes(&train, classes, config, progress);
    let job = Job {
        method: &Method::resolve(config, classes)?,
        config,
        plan,
        run,
        train: &train,
        validation: &pick(&split.validation),
        classes,
        device: request.device,
        policy,
        policy_validation: &pick(&split.policy_validation),
        started: request.started,
    };
    let outcome = match config.classical_method() {
        Some(_) => fit(&job, &cache, progress)?,
        None => job.train(progress)?,
    };
    manifest.planned_steps = outcome.planned_steps;
    manifest.steps = outcome.steps;
    manifest.train_seconds = outcome.train_seconds;
    manifest.share_clamped = control::share_clamped(run)?;
    if let Some(share) = manifest.share_clamped {
        let fixed = match share > control::FIXED {
            true => "; so they acted as methods of a fixed strength do",
            false => "",
        };
        progress.note(&format!(
            "methods that follow the gap had their greatest strength after {:.0} % of the epochs{fixed}",
            100.0 * share
        ));
    }
    if outcome.ending == Ending::Asked {
        return Err(Error::stopped(format!(
            "at step {} of {}, of which there is a checkpoint",
            outcome.steps, outcome.planned_steps
        )));
    }
    let Scores { validation, test, failed } =
        Trained::open(run, Which::Latest)?.score(dataset, &prepared, request.device, progress)?;
    Ok(TrainResult { outcome, validation, test, failed })
}

/// Fits a classical method instead of training a network.
fn fit(job: &Job<'_>, cache: &Path, progress: &dyn Progress) -> Result<Outcome> {
    let Job { run, train, config, plan, classes, .. } = *job;
    let began = Instant::now();
    let before = run.manifest().map_or(0.0, |manifest| manifest.train_seconds);
    classic::fit::fit(&Fit { run, cases: train, config, plan, classes, cache }, progress)?;
    Ok(Outcome {
        weights: Weights { parameters: Vec::new(), buffers: Vec::new() },
        steps: 0,
        planned_steps: 0,
        train_seconds: before + began.elapsed().as_secs_f64(),
        ending: Ending::Planned,
    })
}

/// `dataset.json` without the lists of files and with the labels that are trained: what a reader of predictions
/// needs.
fn description(dataset: &Dataset) -> Result<serde_json::Value> {
    let path = dataset.folder.join("dataset.json");
    let mut value: serde_json::Value = files::read_json(&path, "fix the syntax at this place")?;
    if let Some(object) = value.as_object_mut() {
        for list in ["dataset", "training", "test"] {
            object.shift_remove(list);
        }
        if dataset.labels.trained != dataset::Trained::Values {
            object.extend(dataset.labels.describe().map(|(key, value)| (key.to_owned(), value)));
        }
    }
    Ok(value)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
