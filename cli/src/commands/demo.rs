use std::path::PathBuf;

use super::{Exit, device};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for data set, run and pictures
    #[arg(short, long, value_name = "DIR", default_value = "segen-demo")]
    output: PathBuf,
    #[command(flatten)]
    device: device::Args,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let device = args.device.open()?;
    let shown = segen::demo::run(&args.output, &device, rayon::current_num_threads(), output)?;
    let finished = &shown.finished;
    let scores = finished.test.as_ref().unwrap_or(&finished.validation);
    if output.json() {
        output.data(&serde_json::to_string_pretty(scores)?);
        return Ok(Exit::Done);
    }
    output.data(&format!(
        "\nScores on test cases of another scanner\n{}\n\npictures  {}\n          {}\nrun       {}",
        scores.table(),
        shown.overlay.display(),
        shown.curves.display(),
        args.output.join("run").display()
    ));
    Ok(Exit::Done)
}
