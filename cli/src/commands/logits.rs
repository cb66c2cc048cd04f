use std::path::{Path, PathBuf};

use segen::commands::logits::{self, Request};
use segen::commands::trained::Which;
use segen::examine::logits::{CollectOptions, table};
use segen::run::{self, Run};

use super::{Exit, device, existing};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of trained runs, or of cross-validations, whose folds are looked at one by one
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Folder for the results; of several runs, each in a folder of the run's name in it [default: RUN/logits]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Folder of the data set, where it is no longer where the run found it
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Folder for prepared samples; the run's own when left out, or a temporary one where that cannot be written
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Which weights: latest, best (on the validation cases), or the number of a step whose checkpoint is there
    #[arg(long, value_name = "WHICH", default_value_t)]
    checkpoint: Which,
    /// Voxels per class, drawn from seen, from unseen and from test cases each
    #[arg(long, value_name = "K", default_value_t = 5000)]
    voxels: usize,
    /// Look at no more than this many cases of each kind; all when left out
    #[arg(long, value_name = "N")]
    cases: Option<usize>,
    /// Seed of the draw
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    existing: existing::ExistingArgs,
    #[command(flatten)]
    device: device::DeviceArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let device = args.device.open()?;
    let options =
        CollectOptions { voxels: args.voxels.max(1), cases: args.cases.map(|n| n.max(1)), seed: args.seed };
    let named = args.run.iter().map(|run| run::locate(run)).collect::<segen::Result<Vec<_>>>()?;
    let runs = run::folds::runs_of(&named)?;
    let folders = folders(args.output.as_deref(), &runs)?;
    let request = |(run, folder)| Request {
        run,
        checkpoint: args.checkpoint,
        dataset: args.dataset.as_deref(),
        folder,
        existing: args.existing.existing(),
        cache: args.cache.as_deref(),
        options,
        device: &device,
    };
    let requests: Vec<Request<'_>> =
        runs.iter().zip(folders.iter().map(Option::as_deref)).map(request).collect();
    // All of them before the work on the first one begins.
    let claimed = requests.iter().map(logits::claim).collect::<segen::Result<Vec<_>>>()?;
    let mut summaries = Vec::new();
    for (request, outputs) in requests.iter().zip(&claimed) {
        summaries.push((logits::run(request, outputs, output)?, request.folder()));
    }
    if output.json() {
        let summaries: Vec<_> = summaries.into_iter().map(|(summary, _)| summary).collect();
        output.data(&serde_json::to_string_pretty(&summaries)?);
        return Ok(Exit::Done);
    }
    for (run, folder) in &summaries {
        let cases: Vec<String> =
            run.cases.iter().map(|(origin, count)| format!("{count} {} cases", origin.name())).collect();
        output.data(&format!(
            "{}, step {}, {}\n{}figures: {}\n",
            run.run.display(),
            run.steps,
            cases.join(", "),
            table(&run.shifts),
            folder.join("scatter.png").display()
        ));
    }
    Ok(Exit::Done)
}

/// Where the results of each run go, if not into its own folder.
fn folders(output: Option<&Path>, runs: &[Run]) -> anyhow::Result<Vec<Option<PathBuf>>> {
    let Some(output) = output else { return Ok(vec![None; runs.len()]) };
    if runs.len() == 1 {
        return Ok(vec![Some(output.to_owned())]);
    }
    let mut folders = Vec::new();
    for run in runs {
        let run = std::path::absolute(&run.folder)?;
        let folder = Some(output.join(run.file_name().map_or_else(|| Path::new("run"), Path::new)));
        anyhow::ensure!(
            !folders.contains(&folder),
            "-o: several runs are called `{}`\nhint: give each an -o of its own, one command a run",
            run.file_name().unwrap_or_default().display()
        );
        folders.push(folder);
    }
    Ok(folders)
}
