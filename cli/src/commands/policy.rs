use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use segen::policy::Policy;
use segen::policy::preview::Preview;
use segen::policy::show::Shown;
use segen::run::Run;

use super::Exit;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Draw every operation at every magnitude on a case, and time each
    Preview(PreviewArgs),
    /// What runs have learned: probabilities at the start and at the end
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PreviewArgs {
    /// Folder of the data set
    dataset: PathBuf,
    /// Folder for the pictures
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Case to draw on; the first with labels when left out
    #[arg(long, value_name = "CASE")]
    case: Option<String>,
    /// Policy file to draw instead of the two built-in operation sets
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// `toml` prints the policy of one run as a file that another run can use
    #[arg(long = "as", value_name = "FORM")]
    form: Option<Form>,
    /// Also draw the probabilities over training to this file (PNG)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Toml,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    match args {
        Args::Preview(args) => preview(&args, output),
        Args::Show(args) => show(&args, output),
    }
}

fn preview(args: &PreviewArgs, output: &Output) -> anyhow::Result<Exit> {
    let policy = args.policy.as_deref().map(Policy::read).transpose()?;
    let preview = Preview::draw(&args.dataset, args.case.as_deref(), policy.as_ref(), &args.output, output)?;
    for picture in &preview.pictures {
        output.line(&format!("drawn: {}", picture.display()));
    }
    if output.json() {
        output.data(&serde_json::to_string_pretty(&preview)?);
    } else {
        output.data(&preview.table());
    }
    Ok(Exit::Done)
}

fn show(args: &ShowArgs, output: &Output) -> anyhow::Result<Exit> {
    let shown =
        args.runs.iter().map(|run| Shown::of(&Run::at(run))).collect::<segen::Result<Vec<Shown>>>()?;
    if args.form.is_some() {
        anyhow::ensure!(
            shown.len() == 1,
            "--as toml prints the policy of one run; {} are named",
            shown.len()
        );
        output.data(&shown[0].last.to_toml());
        return Ok(Exit::Done);
    }
    if let Some(path) = &args.output {
        segen::policy::show::draw(&shown, path)?;
    }
    if output.json() {
        output.data(&serde_json::to_string_pretty(&shown.iter().map(Shown::json).collect::<Vec<_>>())?);
    } else {
        shown.iter().for_each(|run| output.data(&run.table()));
    }
    Ok(Exit::Done)
}
