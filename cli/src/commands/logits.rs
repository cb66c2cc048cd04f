use std::path::PathBuf;

use segen::examine::logits::{self, CollectOptions};
use segen::files::Outputs;
use segen::run::{self, Run};

use super::{Exit, device, existing};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of trained runs
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Folder of the data set, where it is no longer where the run found it
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
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
    let dataset = args.dataset.as_deref();
    let claim = |folder: &PathBuf| -> segen::Result<(Run, Outputs)> {
        let run = Run::at(run::locate(folder)?);
        let outputs = segen::commands::logits::claim(&run, dataset, args.existing.existing())?;
        Ok((run, outputs))
    };
    // All of them before the work on the first one begins.
    let claimed = args.run.iter().map(claim).collect::<segen::Result<Vec<_>>>()?;
    let mut collected = Vec::new();
    for (run, outputs) in &claimed {
        let done = segen::commands::logits::run(run, dataset, &options, outputs, &device, output)?;
        collected.push(done);
    }
    if output.json() {
        output.data(&serde_json::to_string_pretty(&collected)?);
        return Ok(Exit::Done);
    }
    for run in &collected {
        let cases: Vec<String> =
            run.cases.iter().map(|(origin, count)| format!("{count} {} cases", origin.name())).collect();
        let folder = run.run.join("logits");
        output.data(&format!(
            "{}, step {}, {}\n{}figures: {}\n",
            run.run.display(),
            run.steps,
            cases.join(", "),
            logits::table(&run.shifts),
            folder.join("scatter.png").display()
        ));
    }
    Ok(Exit::Done)
}
