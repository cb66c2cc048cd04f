use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::PossibleValuesParser;
use segen::Error;
use segen::commands::train::{self, CrossValidated, Faults, Request, Start};
use segen::config::{Config, Length, MethodName, Named, PolicyName, Precision, Which, preset};
use segen::learn::train::Outcome;
use segen::run::Run;
use segen::run::folds::{CrossValidation, FoldList};

use super::{Exit, device, quoted};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the data set (nnU-Net v2 or MSD), or its name under $nnUNet_raw
    dataset: PathBuf,
    /// Folder of the run, or of the cross-validation
    #[arg(short, long, value_name = "RUN")]
    output: PathBuf,
    /// Settings by name; those that end in .small are for two cores
    #[arg(long, value_name = "P", value_parser = PossibleValuesParser::new(preset::names()))]
    preset: Option<String>,
    /// Settings in TOML; only what differs from the preset or the defaults
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as section.key=value; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Method by name; overrides the file, and `--set` overrides it
    #[arg(long, value_name = "M", value_parser = PossibleValuesParser::new(MethodName::NAMES))]
    method: Option<String>,
    /// Replay the strengths that RUN, of the same method, has found, instead of measuring on set-aside cases
    #[arg(long, value_name = "RUN")]
    margins_from: Option<PathBuf>,
    #[arg(long, value_name = "P", help = policy_help())]
    policy: Option<String>,
    /// Fold to hold out, or `all` to train and validate on every case
    #[arg(long, value_name = "N|all")]
    fold: Option<String>,
    /// Cross-validation: train these folds one after the other into RUN/fold-0, RUN/fold-1, ..., and score all their held-out
    /// cases together, as in 0-4 or 0,2,4; a time budget counts for each. `segen predict RUN` then averages the folds
    #[arg(long, value_name = "LIST", conflicts_with = "fold")]
    folds: Option<FoldList>,
    /// File of folds, as nnU-Net's splits_final.json, instead of the data set's own
    #[arg(long, value_name = "FILE")]
    splits: Option<PathBuf>,
    /// Begin with the weights of a run (or of a fold, CV/fold-0), or of a file (.safetensors), instead of drawing them. The run's
    /// plan is taken too, unless --plan or settings say otherwise; heads of other classes and channels of other names are drawn
    #[arg(long, value_name = "RUN|FILE")]
    init: Option<PathBuf>,
    /// Of the run of --init, which weights: latest, best (on the validation cases), or the number of a step
    #[arg(long, value_name = "WHICH", requires = "init")]
    checkpoint: Option<Which>,
    /// Take the plan of another data set (spacing, patch, batch, network; normalisation of channels of the same name), as
    /// `segen plan -o` writes it or as it stands in a run
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Share of the fold's training cases to use; smaller shares are contained in larger ones
    #[arg(long, value_name = "F")]
    fraction: Option<f64>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Train this many steps
    #[arg(long, value_name = "N", conflicts_with_all = ["epochs", "time_budget"])]
    steps: Option<u64>,
    /// Train this many epochs of `schedule.steps_per_epoch` steps (1000 when nothing is said)
    #[arg(long, value_name = "N", conflicts_with = "time_budget")]
    epochs: Option<u64>,
    /// Train as many steps as fit into this time, e.g. 20m, 2h, 90s; the final validation comes on top
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    time_budget: Option<f64>,
    /// Stop after this many epochs without a better validation score
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// What the operands of convolutions are rounded to: f32 (not at all) or bf16, faster where the processor has
    /// instructions for it
    #[arg(long, value_name = "P", value_parser = PossibleValuesParser::new(Precision::NAMES))]
    precision: Option<String>,
    /// Also write scalars for TensorBoard, into RUN/events.out.tfevents.segen
    #[arg(long)]
    tensorboard: bool,
    /// Folder for prepared samples; beside the run when left out
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Go on with the run (or the cross-validation) in RUN from its last checkpoint; one that has finished is lengthened with a
    /// larger --steps or --epochs, which count all steps from the first one
    #[arg(long)]
    resume: bool,
    /// Go on where the data set has errors, or has changed since the run began; run.json keeps the list
    #[arg(long)]
    anyway: bool,
    #[command(flatten)]
    device: device::DeviceArgs,
}

fn policy_help() -> String {
    format!(
        "How patches are augmented: {}, or a policy file; `auto` is the default: random in trainings of fewer than \
         5000 steps, heuristic-nnunet in longer ones",
        PolicyName::NAMES.join(", ")
    )
}

pub(crate) fn run(args: Args, output: &Output, started: Instant) -> anyhow::Result<Exit> {
    let sets = args.settings();
    let run = Run::at(&args.output);
    let folds = CrossValidation::find(&run.folder)?.is_some();
    // What goes on needs no settings: it keeps its own, perhaps but for its length.
    let length = args.length().filter(|_| args.resume && (folds || run.exists()));
    let only_length = length.is_some() && sets.len() == 1;
    let given = args.preset.is_some() || args.config.is_some() || !(sets.is_empty() || only_length);
    let (preset, file) = (args.preset.as_deref(), args.config.as_deref());
    let config = given.then(|| Config::resolve_preset(preset, file, &sets)).transpose()?;
    let classical = config.as_ref().and_then(Config::classical_method);
    classical.map_or(Ok(()), |method| args.refuse_without_meaning(method))?;
    let device = args.device.open()?;
    let request = Request {
        dataset: &args.dataset,
        run: &run,
        config: config.as_ref(),
        cache: args.cache.as_deref(),
        start: if args.resume { Start::Resume } else { Start::Fresh },
        faults: if args.anyway { Faults::Accept } else { Faults::Refuse },
        plan: None,
        length,
        threads: rayon::current_num_threads(),
        device: &device,
        started,
    };
    if args.folds.is_some() || (args.resume && folds && args.fold.is_none()) {
        let folds = train::cross_validate(&request, args.folds.as_ref(), output);
        return tell_folds(&folds.map_err(|error| args.explained(error))?, &args, output);
    }
    let finished = train::run(&request, output).map_err(|error| args.explained(error))?;
    let Outcome { steps, planned_steps, train_seconds, .. } = &finished.outcome;
    let done = match planned_steps {
        0 => format!("fitted in {train_seconds:.0} s"),
        _ => format!("{steps} of {planned_steps} steps in {train_seconds:.0} s of training"),
    };
    output.line(&format!("{done}; the run is in {}", run.folder.display()));
    if output.json() {
        output.data(&serde_json::to_string_pretty(&finished.validation)?);
    } else {
        output.data(&finished.validation.table());
        if let Some(test) = &finished.test {
            output.data(&format!("\nTest cases\n{}", test.table()));
        }
    }
    Ok(tell_failed(&finished.failed, output))
}

/// Prints what became of a cross-validation.
fn tell_folds(found: &CrossValidated, args: &Args, output: &Output) -> anyhow::Result<Exit> {
    let CrossValidated { folds, pooled, failed_folds, failed } = found;
    let Some(pooled) = pooled else {
        output.line(&format!("{} of {} folds failed:", failed_folds.len(), folds.len()));
        failed_folds.iter().for_each(|(fold, error)| output.line(&format!("fold {fold}: {error}")));
        output.line(&format!("once that is mended, go on with: {}", args.resume_command()));
        return Ok(Exit::CheckFailed);
    };
    output.line(&format!(
        "{} folds, {} held-out cases, each scored by the fold that held it out; the cross-validation is in {}",
        folds.len(),
        pooled.cases.len(),
        args.output.display()
    ));
    match output.json() {
        true => output.data(&serde_json::to_string_pretty(pooled)?),
        false => output.data(&pooled.table()),
    }
    Ok(tell_failed(failed, output))
}

/// Names cases without scores.
fn tell_failed(failed: &[(String, Error)], output: &Output) -> Exit {
    if failed.is_empty() {
        return Exit::Done;
    }
    output.line(&format!("{} cases could not be scored:", failed.len()));
    failed.iter().for_each(|(case, error)| output.line(&format!("{case}: {error}")));
    Exit::CheckFailed
}

impl Args {
    /// Why the work ended; where it was stopped, with what goes on with it.
    fn explained(&self, error: Error) -> anyhow::Error {
        if !matches!(error, Error::Stopped { .. }) {
            return error.into();
        }
        let folds = CrossValidation::find(&self.output).is_ok_and(|all| all.is_some());
        let told = match folds || Run::at(&self.output).exists() {
            true => format!("{error}; go on with: {}", self.resume_command()),
            false => format!("{error}; the same command begins again, with the samples prepared so far"),
        };
        anyhow::Error::new(error).context(told)
    }

    /// Refuses options that a method which is fitted has no use for.
    fn refuse_without_meaning(&self, method: MethodName) -> Result<(), Error> {
        let given = [
            ("--preset", self.preset.is_some()),
            ("--margins-from", self.margins_from.is_some()),
            ("--policy", self.policy.is_some()),
            ("--init", self.init.is_some()),
            ("--steps", self.steps.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--time-budget", self.time_budget.is_some()),
            ("--patience", self.patience.is_some()),
            ("--precision", self.precision.is_some()),
            ("--device", self.device.given().is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Error::config(
                *option,
                format!("has no meaning for `{method}`, which is fitted, not trained by steps"),
                "leave it out",
            )),
        }
    }

    /// The length of the training that is asked for.
    fn length(&self) -> Option<Length> {
        let epochs = self.epochs.map(Length::Epochs);
        self.steps.map(Length::Steps).or(epochs).or(self.time_budget.map(Length::Seconds))
    }

    /// The command that goes on with the run.
    fn resume_command(&self) -> String {
        let word = |name: &str, value: &Path| format!("{name}{}", quoted(&value.to_string_lossy()));
        let mut words = vec![
            "segen train".to_owned(),
            word("", &self.dataset),
            word("-o ", &self.output),
            "--resume".to_owned(),
        ];
        words.extend(self.cache.as_deref().map(|cache| word("--cache ", cache)));
        words.extend(self.device.given().map(|name| format!("--device {name}")));
        let threads = rayon::current_num_threads();
        if std::thread::available_parallelism().is_ok_and(|cores| cores.get() != threads) {
            words.push(format!("--threads {threads}"));
        }
        words.join(" ")
    }

    /// The command line's own options as settings, after those of `--set`.
    fn settings(&self) -> Vec<String> {
        let mut sets: Vec<String> = self.method.iter().map(|name| format!("method.name={name:?}")).collect();
        sets.extend(self.set.iter().cloned());
        let mut add =
            |key: &str, value: Option<String>| sets.extend(value.map(|value| format!("{key}={value}")));
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
        // A run may also be named as one of those in $nnUNet_results.
        let from =
            self.margins_from.as_ref().map(|run| if run.exists() { absolute(run) } else { run.clone() });
        add("method.auto.from", from.map(quoted));
        let init = self.init.as_ref().map(|run| if run.exists() { absolute(run) } else { run.clone() });
        add("init.from", init.map(quoted));
        add("init.checkpoint", self.checkpoint.map(|which| format!("{:?}", which.to_string())));
        add("plan.file", self.plan.as_ref().map(absolute).map(quoted));
        add("policy.name", self.policy.as_ref().map(|name| format!("{name:?}")));
        add("fold", self.fold.clone());
        add("splits", self.splits.as_ref().map(absolute).map(quoted));
        add("fraction", self.fraction.map(|v| format!("{v:?}")));
        add("seed", self.seed.map(|v| v.to_string()));
        add("schedule.steps", self.steps.map(|v| v.to_string()));
        add("schedule.epochs", self.epochs.map(|v| v.to_string()));
        add("schedule.time_budget_seconds", self.time_budget.map(|v| format!("{v:?}")));
        add("kernels.precision", self.precision.as_ref().map(|name| format!("{name:?}")));
        add("tensorboard", self.tensorboard.then(|| "true".to_owned()));
        add("schedule.patience", self.patience.map(|v| v.to_string()));
        sets
    }
}
