use std::path::PathBuf;

use segen::commands::crf::{self, FILE, On, Request};
use segen::commands::trained::Which;
use segen::run::{self, Claim, Run};

use super::{Exit, device, existing};
use crate::output::Output;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Cases {
    /// Those that the run set aside from its training (policy.validation_share)
    SetAside,
    /// Its held-out cases, whose scores with the field are then no estimate
    HeldOut,
}

/// Fits a fully connected random field to what a run predicts for cases that it was not trained on, into crf.toml of the run:
/// up to 192 fields are tried, and none is kept where none gains anything. `segen predict --crf` applies it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a trained run, or its name under $nnUNet_results
    run: PathBuf,
    /// Cases to fit on
    #[arg(long, value_name = "WHICH", default_value = "set-aside")]
    on: Cases,
    /// Time that it may take, about, e.g. 30m: the more, the more fields are tried, 192 at most
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "10m")]
    budget: f64,
    /// Which weights: latest, best (on the validation cases), or the number of a step whose checkpoint is there
    #[arg(long, value_name = "WHICH", default_value_t)]
    checkpoint: Which,
    /// Folder of the data set, where it is no longer where the run found it
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Folder for prepared samples [default: the run's]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    existing: existing::ExistingArgs,
    #[command(flatten)]
    device: device::DeviceArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let device = args.device.open()?;
    let run = Run::at(run::locate(&args.run)?);
    let outputs = crf::claim(&run, args.existing.existing())?;
    let _claim = Claim::take(&run.folder, "segen crf")?;
    let request = Request {
        run: &run,
        checkpoint: args.checkpoint,
        dataset: args.dataset.as_deref(),
        cache: args.cache.as_deref(),
        on: match args.on {
            Cases::SetAside => On::SetAside,
            Cases::HeldOut => On::HeldOut,
        },
        budget: args.budget,
        device: &device,
    };
    let fitted = crf::fit(&request, &outputs, output)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&fitted)?);
    } else {
        output.data(&fitted.sentence());
        output.line(&format!("settings and scores of all candidates: {}", run.path(FILE).display()));
    }
    Ok(Exit::Done)
}
