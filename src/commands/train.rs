//! One run from data set to scores: split, plan, prepare, train, predict the held-out cases, score them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;

use super::trained::{Scores, Trained, Which};
use crate::config::{Config, FractionMode, NameOrFile, PolicyName};
use crate::data::dataset::{self, Case, Dataset};
use crate::learn::cases;
use crate::learn::job::{self, Job};
use crate::learn::method::Method;
use crate::learn::train::Outcome;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::prepare::{self, PreparedCase};
use crate::progress::Progress;
use crate::run::record::cases_of;
use crate::run::{Manifest, Run, Split, machine};
use crate::score::Summary;
use crate::{Error, Result, files};

/// The policy by the length of the training.
const AUTO: NameOrFile<PolicyName> = NameOrFile::Name(PolicyName::Auto);

/// What to do with a run folder that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Refuse to touch it.
    Fresh,
    /// Go on from its last checkpoint with its own configuration; begin where there is none yet.
    Resume,
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
    /// Threads of the process, for the record.
    pub threads: usize,
    /// Where to compute.
    pub device: &'a Device,
    /// When the command began.
    pub started: Instant,
}

/// What a finished run gives.
#[derive(Debug)]
pub struct Finished {
    /// How training ended.
    pub outcome: Outcome,
    /// Scores of the validation cases.
    pub validation: Summary,
    /// Whether these were held out from training; with `fold = all` their scores estimate nothing.
    pub held_out: bool,
    /// Scores of the data set's test cases, where it has labels for them.
    pub test: Option<Summary>,
    /// Cases that could not be scored, and why.
    pub failed: Vec<(String, Error)>,
}

/// Runs, or goes on with, one training and everything that belongs to it.
pub fn run(request: &Request<'_>, progress: &dyn Progress) -> Result<Finished> {
    let run = request.run;
    let mut dataset = Dataset::open(request.dataset)?;
    let mut config = resolve(request)?;
    dataset.labels = dataset.labels.select(&config.task.classes)?;
    let path = job::select_kernels(&config)?;
    let mut manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        processor: machine::processor(),
        threads: request.threads,
        kernels_path: path,
        state: "running".to_owned(),
        dataset: absolute(&dataset.folder),
        cache: absolute(&prepare::cache_folder(request.cache, &dataset, &run.folder)),
        ..Manifest::default()
    };
    if run.exists()
        && let Ok(before) = run.read_json::<Manifest>("run.json")
        && before.kernels_path != manifest.kernels_path
    {
        progress.note(&format!(
            "warning: this run began on the `{}` instruction path and goes on on `{}`; the last digits of its \
             weights will differ from those of a run that never moved",
            before.kernels_path, manifest.kernels_path
        ));
    }
    let (plan, split, policy) = match run.exists() {
        true => (run.plan()?, run.read_json::<Split>("split.json")?, run.policy()?),
        false => {
            // Refused before there is a folder.
            run.vacant("train")?;
            prepare::refuse_inside(&dataset, &manifest.cache)?;
            Method::resolve(&config, &dataset.labels.names)?;
            let split = split(&dataset, &config)?;
            let plan = plan(&dataset, &config, progress)?;
            let step_seconds = || plan.predicted_step_seconds_here(segen_kernels::convolution_speed());
            let steps = config.schedule.expected_steps(step_seconds);
            let policy = config.policy.resolve(&plan, &dataset.labels.sides(), steps)?;
            if config.policy.name == AUTO {
                progress.note(&format!("augmentation: `{}`, for about {steps} steps", policy.name));
                config.policy.name = NameOrFile::Name(PolicyName::Auto.for_steps(steps));
            }
            run.set_up(&config, &plan, &split, &policy, &description(&dataset)?)?;
            (plan, split, policy)
        }
    };
    fits_memory(&plan)?;
    run.write_json("run.json", &manifest)?;
    let finished = work(request, &dataset, &config, &plan, (&split, &policy), progress);
    manifest.wall_seconds = request.started.elapsed().as_secs_f64();
    manifest.peak_memory_bytes = machine::peak_memory_bytes();
    match &finished {
        Ok(finished) => {
            let outcome = &finished.outcome;
            manifest.planned_steps = outcome.planned_steps;
            manifest.steps = outcome.steps;
            manifest.train_seconds = outcome.train_seconds;
            manifest.state = if outcome.stopped_early { "stopped early" } else { "finished" }.to_owned();
        }
        Err(error) => manifest.state = format!("failed: {error}"),
    }
    run.write_json("run.json", &manifest)?;
    finished
}

/// The configuration of the run: its own where it goes on, the request's where it begins.
fn resolve(request: &Request<'_>) -> Result<Config> {
    let run = request.run;
    if !run.exists() {
        return Ok(request.config.cloned().unwrap_or_default());
    }
    if request.start == Start::Fresh {
        return Err(Error::invalid(
            &run.folder,
            "run folder",
            "there is a run in it already",
            "add --resume to go on with it, or choose another folder with -o",
        ));
    }
    let own = run.config()?;
    let same = |config: &Config| {
        let mut config = config.clone();
        if config.policy.name == AUTO {
            config.policy.name.clone_from(&own.policy.name);
        }
        config == own
    };
    match request.config {
        Some(config) if !same(config) => Err(Error::config(
            "--resume",
            format!("the run in `{}` was begun with another configuration", run.folder.display()),
            "leave out -c, --set and the other options: a resumed run keeps the configuration in its config.toml",
        )),
        _ => Ok(own),
    }
}

/// Refuses a plan that is certain not to fit: starting it would end the process, or other people's, without a
/// word.
fn fits_memory(plan: &Plan) -> Result<()> {
    // Predictions are good to a third.
    const MARGIN: f64 = 1.5;
    let (needed, available) = (plan.predicted_peak_bytes(), machine::available_memory_bytes());
    if available == 0 || needed as f64 <= MARGIN * available as f64 {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1u32 << 30);
    Err(Error::config(
        "plan",
        format!("training needs about {:.1} GiB, and {:.1} GiB are free", gib(needed), gib(available)),
        "lower `plan.patch`, `plan.batch` or `plan.base_features`",
    ))
}

fn split(dataset: &Dataset, config: &Config) -> Result<Split> {
    let fold = dataset.fold(config.fold)?;
    let (left, policy_validation) =
        cases::set_aside(&fold.train, config.policy.validation_share(), config.seed)?;
    Ok(Split {
        train: match config.fraction_mode {
            FractionMode::Random => cases::keep_fraction(&left, config.fraction, config.seed),
            FractionMode::Prefix => cases::keep_prefix(&left, config.fraction),
        },
        validation: fold.validation,
        policy_validation,
    })
}

/// Measures the data set and plans for it, with the configuration's overrides.
pub fn plan(dataset: &Dataset, config: &Config, progress: &dyn Progress) -> Result<Plan> {
    let cases: Vec<&Case> = dataset.training.iter().collect();
    let fingerprint = Plan::measure(dataset, &cases, progress)?;
    let mut plan = Plan::decide(dataset, fingerprint, &config.plan.budget())?;
    config.network.apply(&mut plan)?;
    config.plan.apply(&mut plan, &dataset.channels)?;
    Ok(plan)
}

fn work(
    request: &Request<'_>,
    dataset: &Dataset,
    config: &Config,
    plan: &Plan,
    (split, policy): (&Split, &Policy),
    progress: &dyn Progress,
) -> Result<Finished> {
    let run = request.run;
    let cache = prepare::cache_folder(request.cache, dataset, &run.folder);
    let (train, validation) = (cases_of(dataset, &split.train)?, cases_of(dataset, &split.validation)?);
    let mut all = train.clone();
    all.extend(validation.iter().filter(|case| !split.train.contains(&case.id)));
    let policy_validation = cases_of(dataset, &split.policy_validation)?;
    all.extend(policy_validation.iter().filter(|case| !split.validation.contains(&case.id)));
    let prepared = prepare::prepare_all(dataset, &plan.recipe(), &all, &cache, progress)?;
    let pick = |cases: &[&Case]| -> Vec<PreparedCase> {
        cases.iter().filter_map(|case| prepared.iter().find(|p| p.id == case.id).cloned()).collect()
    };
    let (train_prepared, validation_prepared) = (pick(&train), pick(&validation));
    let method = Method::resolve(config, &dataset.labels.names)?;
    let policy_prepared = pick(&policy_validation);
    let job = Job {
        method: &method,
        config,
        plan,
        run,
        train: &train_prepared,
        validation: &validation_prepared,
        classes: &dataset.labels.names,
        device: request.device,
        policy,
        policy_validation: &policy_prepared,
        started: request.started,
    };
    let outcome = job.train(progress)?;
    let Scores { validation, test, failed } =
        Trained::open(run, Which::Latest)?.score(dataset, &prepared, request.device, progress)?;
    let held_out = !split.held_out().is_empty();
    Ok(Finished { outcome, validation, held_out, test, failed })
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
