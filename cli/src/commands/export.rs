use std::path::PathBuf;

use segen::commands::export::{self, Request};
use segen::commands::trained::Which;
use segen::run::{self, Run};

use super::Exit;
use crate::output::Output;

/// Writes what prediction needs of a run, or of all folds of a cross-validation, into a new folder: weights, plan, labels,
/// steps after a prediction and operating point, with a model card and the SHA-256 of every file; no places, names of cases
/// or state of the optimiser. `segen predict` takes the folder as it takes a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a trained run or of a cross-validation, or its name under $nnUNet_results
    run: PathBuf,
    /// Folder for the model, new or empty
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Which weights: latest, best (on the validation cases), or the number of a step whose checkpoint is there
    #[arg(long, value_name = "WHICH", default_value_t)]
    checkpoint: Which,
    /// File with the text of the model's licence
    #[arg(long, alias = "license", value_name = "FILE")]
    licence: Option<PathBuf>,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let run = Run::at(run::locate(&args.run)?);
    let request = Request {
        run: &run,
        checkpoint: args.checkpoint,
        folder: &args.output,
        licence: args.licence.as_deref(),
    };
    let exported = export::run(&request, output)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&exported)?);
    } else {
        output.data(&exported.folder.display().to_string());
        output.line(&format!(
            "{} files, {:.1} MB; README.md is the model card, to be read before it is given away",
            exported.files.len(),
            exported.bytes as f64 / 1e6
        ));
    }
    Ok(Exit::Done)
}
