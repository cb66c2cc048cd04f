use std::path::PathBuf;

use segen::examine::report::{self, Place};
use segen::run;

use super::{Exit, existing};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of runs, of cross-validations and of sweeps, or their names under $nnUNet_results
    #[arg(required = true)]
    folder: Vec<PathBuf>,
    /// The page; its figures are also written as SVG and PNG into NAME_figures beside it
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    #[command(flatten)]
    existing: existing::ExistingArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let folders = args.folder.iter().map(|folder| run::locate(folder)).collect::<segen::Result<Vec<_>>>()?;
    let place = Place::claim(&folders, &args.output, args.existing.existing())?;
    let written = report::write(&folders, &place, output)?;
    if output.json() {
        output.data(&serde_json::json!({ "page": written.page, "figures": written.figures }).to_string());
    } else {
        output.data(&written.page.display().to_string());
    }
    Ok(Exit::Done)
}
