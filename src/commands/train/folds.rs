//! A cross-validation: the folds one after the other, each an ordinary run, and what their held-out cases say together.

use std::collections::BTreeMap;
use std::time::Instant;

use super::data::compare_data;
use super::settings::{another_configuration, going_on, refuse_existing, same_but_for_length};
use super::{CANNOT_TRAIN, Request, Start, absolute};
use crate::commands::scores::{tell, tell_choice};
use crate::commands::trained::POST;
use crate::config::{Config, FoldChoice};
use crate::data::dataset::Dataset;
use crate::learn::exported;
use crate::plan::Plan;
use crate::predict::choice::PostChoice;
use crate::predict::scored::{HeldOut, Maps, pool};
use crate::prepare;
use crate::progress::Progress;
use crate::run::folds::{CrossValidation, FoldList, Folds};
use crate::run::record::{Record, cases_of};
use crate::run::{Claim, DataDigest, Run, Split};
use crate::score::Summary;
use crate::score::operating::{self, Operating};
use crate::{Error, Result};

/// What a cross-validation gives.
#[derive(Debug)]
pub struct CrossValidated {
    /// The folds, ascending.
    pub folds: Vec<usize>,
    /// Scores of all cases, each by the fold that held it out; none where a fold failed.
    pub pooled: Option<Summary>,
    /// Folds that failed, and why.
    pub failed_folds: Vec<(usize, Error)>,
    /// Cases that could not be scored, and why.
    pub failed: Vec<(String, Error)>,
}

/// Trains the folds of `list` into `fold-N` of the request's folder, those that are unfinished, and pools their held-out
/// cases: `summary.json`, `post.json` and `operating.json` of the folder. A cross-validation that goes on needs no list;
/// one with further folds extends it. A fold that fails once it has begun leaves the others.
///
/// # Errors
/// As [`super::run`]; also where a fold is none of the data set's, or one case is held out by two of them.
pub fn cross_validate(
    request: &Request<'_>,
    list: Option<&FoldList>,
    progress: &dyn Progress,
) -> Result<CrossValidated> {
    let folder = &request.run.folder;
    exported::refuse(request.run, CANNOT_TRAIN)?;
    refuse_existing(request)?;
    if request.run.exists() {
        return Err(Error::invalid(
            folder,
            "--folds",
            "there is a run of a single fold in it",
            "choose another folder for the cross-validation with -o",
        ));
    }
    let _claim = Claim::take(folder, "segen train")?;
    let mut dataset = Dataset::open(request.dataset)?;
    let (mut all, config) = match CrossValidation::find(folder)? {
        Some(all) => go_on(request, all, list, &mut dataset)?,
        None => begin(request, list, &mut dataset)?,
    };
    let failed_folds = train(request, &all, &dataset, &config, progress)?;
    let folds = all.folds();
    if !failed_folds.is_empty() {
        return Ok(CrossValidated { folds, pooled: None, failed_folds, failed: Vec::new() });
    }
    let (pooled, failed) = pool_folds(&mut all, &dataset, &config, progress)?;
    Ok(CrossValidated { folds, pooled: Some(pooled), failed_folds, failed })
}

/// Sets the folder up.
fn begin(
    request: &Request<'_>,
    list: Option<&FoldList>,
    dataset: &mut Dataset,
) -> Result<(CrossValidation, Config)> {
    let Some(list) = list else {
        return Err(Error::config("--folds", "no fold is named", "name them, as in --folds 0-4"));
    };
    let mut config = request.config.cloned().unwrap_or_default();
    dataset.splits.clone_from(&config.splits);
    let held_out = held_out(dataset, list.numbers())?;
    config.fold = FoldChoice::Number(list.numbers()[0]);
    let folder = &request.run.folder;
    let there = list.numbers().iter().find(|fold| CrossValidation::fold_in(folder, **fold).exists());
    if let (Start::Fresh, Some(fold)) = (request.start, there) {
        return Err(Error::invalid(
            folder,
            "run folder",
            format!("there is a run of fold {fold} in it already"),
            "add --resume to take it in, or choose another folder with -o",
        ));
    }
    Ok((CrossValidation::begin(folder, &absolute(&dataset.folder), held_out, &config)?, config))
}

/// Reads what is there, and takes further folds in. From here on nothing is pooled.
fn go_on(
    request: &Request<'_>,
    mut all: CrossValidation,
    list: Option<&FoldList>,
    dataset: &mut Dataset,
) -> Result<(CrossValidation, Config)> {
    let own = all.config()?;
    let fold = own.fold;
    let given = request.config.map(|config| Config { fold, ..config.clone() });
    let config = going_on(request, own, given.as_ref(), || {
        all.finished()?;
        Ok(all.record.pooled.values().copied().max().unwrap_or(0))
    })?;
    dataset.splits.clone_from(&config.splits);
    let folds = all.folds();
    let wanted = list.map_or(&folds[..], FoldList::numbers);
    if let Some(left) = folds.iter().find(|fold| !wanted.contains(fold)) {
        return Err(Error::config(
            "--folds",
            format!("fold {left} belongs to the cross-validation in `{}`", all.folder.display()),
            "name it too, leave --folds out, or choose another folder with -o",
        ));
    }
    let now = held_out(dataset, wanted)?;
    if let Some((fold, _)) = all.record.held_out.iter().find(|(fold, cases)| now.get(fold) != Some(cases)) {
        return Err(Error::invalid(
            &dataset.folder,
            format!("fold {fold}"),
            "holds out other cases than when the cross-validation began",
            "bring the data set and its folds back to what they were, or choose another folder with -o",
        ));
    }
    let record = Folds { held_out: now, pooled: BTreeMap::new(), ..all.record.clone() };
    all.keep(record)?;
    all.keep_config(&config)?;
    Ok((all, config))
}

/// The cases that each fold holds out, no case by two.
fn held_out(dataset: &Dataset, folds: &[usize]) -> Result<BTreeMap<usize, Vec<String>>> {
    let mut all = dataset.folds()?;
    let count = all.len();
    let mut by_fold = BTreeMap::new();
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for &fold in folds {
        let Some(own) = all.get_mut(fold) else {
            return Err(Error::config(
                "--folds",
                format!("fold {fold} is none of the {count} folds of `{}`", dataset.folder.display()),
                format!("choose among 0 to {}; every case is to be held out once", count - 1),
            ));
        };
        let cases = std::mem::take(&mut own.validation);
        for case in &cases {
            if let Some(other) = holders.insert(case.clone(), fold) {
                return Err(Error::config(
                    "--folds",
                    format!("folds {other} and {fold} both hold out `{case}`"),
                    "every case can be scored once only: correct the file of folds, or leave one of the two out",
                ));
            }
        }
        by_fold.insert(fold, cases);
    }
    Ok(by_fold)
}

/// Trains the folds that are unfinished. Returns those that failed.
fn train(
    request: &Request<'_>,
    all: &CrossValidation,
    dataset: &Dataset,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Vec<(usize, Error)>> {
    let cache = prepare::cache_folder(request.cache, dataset, &all.folder);
    let folds = all.folds();
    let known = folds.iter().map(|&fold| all.run(fold)).find(Run::exists);
    // All folds have the plan of the first: it is measured on the cases of all of them.
    let mut plan: Option<Plan> = known.map(|run| run.plan()).transpose()?;
    let (mut failed, mut seconds) = (Vec::new(), Vec::new());
    for (place, &fold) in folds.iter().enumerate() {
        let run = all.run(fold);
        let config = config_of(fold, &run, config)?;
        let one = Request {
            run: &run,
            config: Some(&config),
            cache: Some(&cache),
            start: Start::Resume,
            plan: plan.as_ref(),
            length: Some(config.schedule.length),
            started: Instant::now(),
            ..*request
        };
        let told =
            FoldProgress { inner: progress, what: format!("fold {fold}, {} of {}", place + 1, folds.len()) };
        if is_done(&one, dataset, &told)? {
            told.note("trained and scored already");
            continue;
        }
        told.note(&format!("into `{}`{}", run.folder.display(), time_left(&seconds, folds.len() - place)));
        match super::run(&one, &told) {
            Ok(result) => {
                for (case, error) in result.failed {
                    told.note(&format!("`{case}` could not be scored: {error}"));
                }
                seconds.push(one.started.elapsed().as_secs_f64());
            }
            Err(Error::Stopped { at }) => {
                return Err(Error::stopped(format!(
                    "in fold {fold} ({} of {} folds): {at}",
                    place + 1,
                    folds.len()
                )));
            }
            // What keeps one from beginning keeps the others, too.
            Err(error) if !run.exists() => return Err(error),
            Err(error) => {
                told.note(&format!("failed: {error}"));
                failed.push((fold, error));
            }
        }
        if plan.is_none() {
            plan = Some(run.plan()?);
        }
    }
    Ok(failed)
}

/// The settings of a fold: those of all, but for one that was lengthened by itself, which stays as long as it is.
fn config_of(fold: usize, run: &Run, config: &Config) -> Result<Config> {
    let mut config = Config { fold: FoldChoice::Number(fold), ..config.clone() };
    if run.exists() {
        let own = run.config()?.schedule;
        if own.fixed_steps() > config.schedule.fixed_steps() {
            config.schedule.length = own.length;
        }
    }
    Ok(config)
}

/// About how long the folds that are left will take, where one has been timed.
fn time_left(seconds: &[f64], left: usize) -> String {
    if seconds.is_empty() {
        return String::new();
    }
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let minutes = mean * left as f64 / 60.0;
    match minutes {
        _ if minutes < 2.0 => format!("; about {:.0} s left for all folds", 60.0 * minutes),
        _ if minutes < 120.0 => format!("; about {minutes:.0} min left for all folds"),
        _ => format!("; about {:.1} h left for all folds", minutes / 60.0),
    }
}

/// Whether a fold is trained and scored with these settings, and its data are still those that it began with.
fn is_done(request: &Request<'_>, dataset: &Dataset, progress: &dyn Progress) -> Result<bool> {
    let (run, Some(config)) = (request.run, request.config) else { return Ok(false) };
    let complete = run.exists().then(|| run.manifest().ok()).flatten();
    let Some(manifest) = complete.filter(|manifest| manifest.state.is_complete()) else { return Ok(false) };
    let own = run.config()?;
    if !same_but_for_length(config, &own) {
        return Err(another_configuration(run));
    }
    // It may have been stopped when it had a new length and had not gone on yet.
    let longer = own.schedule.fixed_steps().is_some_and(|steps| steps != manifest.planned_steps);
    if longer || own.schedule.length != config.schedule.length {
        return Ok(false);
    }
    let mut dataset = dataset.clone();
    dataset.labels = dataset.labels.select(&own.task.classes)?;
    dataset.splits.clone_from(&own.splits);
    let began: DataDigest = run.read_json("data.json")?;
    let split: Split = run.read_json("split.json")?;
    let cases = (&split.cases()[..], &began.test_cases()[..]);
    let now = DataDigest::of(&dataset, own.fold, cases, Some(&began), progress)?;
    compare_data(request, (&began, &now), &mut Vec::new(), progress)?;
    Ok(true)
}

/// Scores all held-out cases together, and chooses steps and bias on them.
fn pool_folds(
    all: &mut CrossValidation,
    dataset: &Dataset,
    config: &Config,
    progress: &dyn Progress,
) -> Result<(Summary, Vec<(String, Error)>)> {
    let mut dataset = dataset.clone();
    dataset.labels = dataset.labels.select(&config.task.classes)?;
    let (mut held_out, mut failed, mut steps) = (Vec::new(), Vec::new(), BTreeMap::new());
    for fold in all.folds() {
        let Record { run, split, manifest, .. } = Record::open(&all.run(fold))?;
        if all.record.held_out.get(&fold) != Some(&split.validation) {
            return Err(Error::invalid(
                run.path("split.json"),
                "validation",
                format!("these are not the cases that fold {fold} holds out"),
                "remove the folder of this run, and go on with --resume: it is then trained anew",
            ));
        }
        steps.insert(fold, manifest.steps);
        let folder = run.path("validation");
        let post: PostChoice = run.read_json(POST)?;
        let mut odds = Operating::read(&folder.join(operating::FILE))?.cases;
        let maps = Maps { folder: &folder, scheme: &dataset.labels, ending: &dataset.file_ending };
        for case in cases_of(&dataset, &split.validation)? {
            let Some(place) = odds.iter().position(|odds| odds.case == case.id) else {
                let mend = "`segen train --resume` of this run says why";
                failed.push((
                    case.id.clone(),
                    Error::invalid(&folder, &case.id, "was not scored by its fold", mend),
                ));
                continue;
            };
            match maps.before_steps(&case.id, !post.steps_of(&case.id).is_empty()) {
                Ok(map) => held_out.push(HeldOut { case, map, odds: odds.swap_remove(place) }),
                Err(error) => failed.push((case.id.clone(), error)),
            }
        }
    }
    held_out.sort_by(|a, b| a.case.id.cmp(&b.case.id));
    let folder = all.folder.join("validation");
    let maps = Maps { folder: &folder, scheme: &dataset.labels, ending: &dataset.file_ending };
    let summary = all.folder.join("summary.json");
    let scored = pool((&maps, &summary), &held_out, config.validation.post, progress)?;
    failed.extend(scored.failed);
    let place = Run::at(&all.folder);
    place.write_json(POST, &scored.post)?;
    place.write_json(operating::FILE, &scored.choice)?;
    tell(&scored.post, progress);
    tell_choice(scored.choice.as_ref(), progress);
    all.keep(Folds { pooled: steps, ..all.record.clone() })?;
    Ok((scored.summary, failed))
}

/// Says which fold it is that the words are about.
struct FoldProgress<'a> {
    inner: &'a dyn Progress,
    what: String,
}

impl Progress for FoldProgress<'_> {
    fn begin(&self, what: &str, total: u64) {
        self.inner.begin(&format!("{}: {what}", self.what), total);
    }

    fn advance(&self, parts: u64) {
        self.inner.advance(parts);
    }

    fn note(&self, message: &str) {
        self.inner.note(&format!("{}: {message}", self.what));
    }

    fn end(&self) {
        self.inner.end();
    }

    fn is_stopped(&self) -> bool {
        self.inner.is_stopped()
    }
}
