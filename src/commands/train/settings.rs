//! The settings of a run: its own where it goes on, those that were asked for where it begins.

use super::{Request, Start};
use crate::config::{Config, NameOrFile, NetworkKind, PolicyName, Schedule};
use crate::files::write_atomically;
use crate::learn::optimiser::LearningRate;
use crate::progress::Progress;
use crate::run::folds::CrossValidation;
use crate::run::{Lengthened, Manifest, Run};
use crate::{Error, Result};

/// The policy by the length of the training.
pub(super) const AUTO: NameOrFile<PolicyName> = NameOrFile::Name(PolicyName::Auto);

/// Leaves a run alone that is not to be gone on with.
pub(super) fn refuse_existing(request: &Request<'_>) -> Result<()> {
    let folder = &request.run.folder;
    let what = match (request.run.exists(), CrossValidation::find(folder)?) {
        (true, _) => "run",
        (false, Some(_)) => "cross-validation",
        (false, None) => return Ok(()),
    };
    if request.start == Start::Resume {
        return Ok(());
    }
    Err(Error::invalid(
        folder,
        "run folder",
        format!("there is a {what} in it already"),
        "add --resume to go on with it, or choose another folder with -o",
    ))
}

/// The configuration of the run: its own where it goes on, perhaps with a new length, the request's where it begins.
pub(super) fn resolve(request: &Request<'_>) -> Result<Config> {
    let run = request.run;
    if !run.exists() {
        if let Some(all) = CrossValidation::find(&run.folder)? {
            return Err(Error::invalid(
                &run.folder,
                "run folder",
                "there is a cross-validation in it",
                format!(
                    "leave --fold out to go on with all of it, or name one fold with -o {}",
                    all.run(all.folds()[0]).folder.display()
                ),
            ));
        }
        return Ok(request.config.cloned().unwrap_or_default());
    }
    refuse_existing(request)?;
    going_on(request, run.config()?, request.config, || {
        let manifest = run.manifest()?;
        match manifest.state.is_complete() {
            true => Ok(manifest.steps),
            false => Err(Error::config(
                "--resume",
                format!(
                    "the run in `{}` was begun with another length and has not finished",
                    run.folder.display()
                ),
                "go on without --steps and --epochs; a run that has finished can be lengthened",
            )),
        }
    })
}

/// The settings of what goes on: `own`, perhaps with a new length. `done` gives the steps that were done, or an error
/// where it has not finished.
pub(super) fn going_on(
    request: &Request<'_>,
    own: Config,
    given: Option<&Config>,
    done: impl FnOnce() -> Result<u64>,
) -> Result<Config> {
    if given.is_some_and(|given| !same_but_for_length(given, &own)) {
        return Err(another_configuration(request.run));
    }
    let Some(length) = request.length.or_else(|| given.map(|config| config.schedule.length)) else {
        return Ok(own);
    };
    let wanted = Schedule { length, ..own.schedule.clone() };
    let same_number = wanted.fixed_steps().is_some() && wanted.fixed_steps() == own.schedule.fixed_steps();
    if length == own.schedule.length || same_number {
        return Ok(own);
    }
    let Some(steps) = wanted.fixed_steps() else {
        return Err(Error::config(
            "--time-budget",
            "what is trained already is lengthened by a number of steps",
            "give --steps or --epochs, as a total",
        ));
    };
    let done = done()?;
    if steps <= done {
        return Err(Error::config(
            "--resume",
            format!("{steps} steps in all, but `{}` has done {done} already", request.run.folder.display()),
            "give a larger total to lengthen it, or leave the length out",
        ));
    }
    Ok(Config { schedule: wanted, ..own })
}

/// Whether a run with the settings `own` was begun with those `given`, apart from its length.
pub(super) fn same_but_for_length(given: &Config, own: &Config) -> bool {
    let mut given = given.clone();
    given.schedule.length = own.schedule.length;
    if given.policy.name == AUTO {
        given.policy.name.clone_from(&own.policy.name);
    }
    if given.network.kind == NetworkKind::default()
        && (given.init.from.is_some() || given.plan.file.is_some())
    {
        given.network.kind = own.network.kind;
    }
    given == *own
}

pub(super) fn another_configuration(run: &Run) -> Error {
    Error::config(
        "--resume",
        format!("the run in `{}` was begun with another configuration", run.folder.display()),
        "leave out -c, --set and the other options: a resumed run keeps the configuration in its config.toml",
    )
}

/// Keeps the new length of a run in its folder, where it has one, and says what becomes of the learning rate. `last` is
/// the manifest of the session before.
pub(super) fn lengthen(
    run: &Run,
    config: &Config,
    last: &Manifest,
    manifest: &mut Manifest,
    progress: &dyn Progress,
) -> Result<()> {
    manifest.lengthened.clone_from(&last.lengthened);
    // First: what is told of it below follows from this file.
    if run.config()?.schedule.length != config.schedule.length {
        write_atomically(&run.path("config.toml"), config.to_toml().as_bytes())?;
    }
    let steps = config.schedule.fixed_steps().filter(|steps| *steps != last.planned_steps);
    if let (true, Some(to)) = (last.state.is_complete(), steps) {
        let from = last.steps;
        manifest.lengthened.push(Lengthened { from, to });
        let rate = LearningRate::Polynomial(&config.optimiser);
        progress.note(&format!(
            "lengthened from {from} to {to} steps: the learning rate goes on as that of a training of {to} steps, at {:.0} % of \
             the first one, and falls to its end from there",
            100.0 * rate.at(from, to) / rate.at(0, to)
        ));
    }
    Ok(())
}
