use std::path::{Path, PathBuf};

use anyhow::Context;
use segen::sweep::{self, Experiment, Launch, Table};

use super::{Exit, existing};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The experiment, in TOML; see docs/sweeps.md
    #[arg(required_unless_present = "table_only")]
    experiment: Option<PathBuf>,
    /// Folder of the sweep; what is finished there is not trained again
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Data set; overrides the one that the experiment names
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Train nothing: draw tables and figures from DIR/results.jsonl
    #[arg(long)]
    table_only: bool,
    #[command(flatten)]
    existing: existing::ExistingArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let mut failed = Vec::new();
    let file = args.experiment.as_deref().filter(|_| !args.table_only);
    let experiment = file.map(Experiment::read).transpose()?;
    let dataset = args.dataset.as_deref();
    let dataset =
        dataset.or_else(|| experiment.as_ref().and_then(|experiment| experiment.dataset.as_deref()));
    let results = args.output.join("results.jsonl");
    if experiment.is_none() && sweep::read(&results)?.is_empty() {
        output.line(&format!("there is no finished cell in {}", args.output.display()));
        return Ok(Exit::CheckFailed);
    }
    let splits = experiment.as_ref().and_then(|experiment| experiment.splits.as_deref());
    let read: Vec<&Path> = dataset.into_iter().chain(splits).collect();
    let outputs = sweep::claim(&args.output, file, &read, args.existing.existing())?;
    if let Some(experiment) = &experiment {
        let launch = Launch {
            experiment,
            dataset,
            outputs: &outputs,
            executable: &std::env::current_exe().context("could not find the segen command itself")?,
            threads: rayon::current_num_threads(),
        };
        failed = sweep::run(&launch, output)?.failed;
    }
    let results = sweep::read(&results)?;
    if results.is_empty() {
        output.line(&format!("there is no finished cell in {}", args.output.display()));
        return Ok(Exit::CheckFailed);
    }
    let table = Table::of(&results);
    sweep::write(&table, &outputs)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&table)?);
    } else {
        output.data(&sweep::text(&table));
    }
    output.line(&format!("{} cells; tables and figures are in {}", results.len(), args.output.display()));
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    output.line(&format!("{} cells failed; the same command tries them again:", failed.len()));
    for (cell, problem) in &failed {
        output.line(&format!("  {cell}: {problem}"));
    }
    Ok(Exit::CheckFailed)
}
