use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use segen::commands::test_time;
use segen::commands::trained::Which;
use segen::examine::policy::LearnedPolicy;
use segen::examine::preview::{Preview, Request};
use segen::files::OutputFile;
use segen::policy::Policy;
use segen::policy::forms::TestStart;
use segen::run::{self, Run};

use super::{Exit, device, existing};
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// Draw every operation at every magnitude on a case, and time each
    Preview(PreviewArgs),
    /// What runs have learned: probabilities at the start and at the end
    Show(ShowArgs),
    /// Learn which changed forms of a scan to average over, for `segen predict --test-policy`
    TestTime(TestTimeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PreviewArgs {
    /// Folder of the data set
    dataset: PathBuf,
    /// Folder for the pictures
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    existing: existing::ExistingArgs,
    /// Case to draw on; the first with labels when left out
    #[arg(long, value_name = "CASE")]
    case: Option<String>,
    /// Policy file to draw instead of the two built-in operation sets
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Run folders, or those of cross-validations, or their names under $nnUNet_results
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// `toml` prints the policy of one run as a file that another run can use
    #[arg(long = "as", value_name = "FORM")]
    form: Option<Form>,
    /// Also draw the probabilities over training to this file (PNG)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    existing: existing::ExistingArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TestTimeArgs {
    /// Folder of a trained run, or its name under $nnUNet_results; it learns from cases that the run was not
    /// trained on
    run: PathBuf,
    /// File for the policy (TOML)
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    existing: existing::ExistingArgs,
    /// Folder of the data set, where it is no longer where the run found it
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,
    /// Folder for prepared samples; the run's own when left out, or a temporary one where that cannot be written
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Which weights: latest, best (on the validation cases), or the number of a step whose checkpoint is there
    #[arg(long, value_name = "WHICH", default_value_t)]
    checkpoint: Which,
    /// Updates, each on one patch
    #[arg(long, value_name = "N", default_value_t = 200)]
    updates: u64,
    /// First step size on the logits, which move by at most half of it times the updates
    #[arg(long, value_name = "R", default_value_t = 0.01)]
    rate: f64,
    /// Where it begins: the eight mirror images, the three mirrored planes, or all 84 forms alike
    #[arg(long, value_name = "START", default_value = "mirrors")]
    start: Begin,
    /// Seed of all that is drawn
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    device: device::DeviceArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Begin {
    Mirrors,
    Planes,
    Uniform,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Toml,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    match args {
        Args::Preview(args) => preview(&args, output),
        Args::Show(args) => show(&args, output),
        Args::TestTime(args) => learn_test_time(&args, output),
    }
}

fn learn_test_time(args: &TestTimeArgs, output: &Output) -> anyhow::Result<Exit> {
    let start = match args.start {
        Begin::Mirrors => TestStart::Mirrors,
        Begin::Planes => TestStart::Planes,
        Begin::Uniform => TestStart::Uniform,
    };
    anyhow::ensure!(args.rate > 0.0 && args.rate.is_finite(), "--rate {} is not above 0", args.rate);
    let options = test_time::Options {
        updates: args.updates,
        rate: args.rate,
        start,
        seed: args.seed,
        ..test_time::Options::default()
    };
    let device = args.device.open()?;
    let run = Run::at(run::locate(&args.run)?);
    let mut inputs = run.inputs();
    inputs.extend(args.dataset.clone());
    let file = OutputFile::claim("policy test-time", &args.output, &inputs, args.existing.existing())?;
    let learned = test_time::learn(
        (&run, args.checkpoint),
        (args.dataset.as_deref(), args.cache.as_deref()),
        &options,
        &device,
        output,
    )?;
    file.write(learned.policy.to_toml().as_bytes())?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&learned)?);
        return Ok(Exit::Done);
    }
    output.data(&format!("{:<28} {:>8} {:>8}", "form", "start", "now"));
    for (name, first, last) in learned.forms.iter().take(SHOWN) {
        output.data(&format!("{name:<28} {:>6.2} % {:>6.2} %", 100.0 * first, 100.0 * last));
    }
    output.line(&format!(
        "{} updates on {} cases; predict with --test-policy {}",
        learned.updates,
        learned.cases.len(),
        args.output.display()
    ));
    Ok(Exit::Done)
}

/// Forms that are printed.
const SHOWN: usize = 12;

fn preview(args: &PreviewArgs, output: &Output) -> anyhow::Result<Exit> {
    let policy = args.policy.as_deref().map(Policy::read).transpose()?;
    let request = Request {
        dataset: &args.dataset,
        case: args.case.as_deref(),
        policy: policy.as_ref(),
        folder: &args.output,
        existing: args.existing.existing(),
        also_read: args.policy.as_slice(),
    };
    let preview = Preview::draw(&request, output)?;
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
    let folders = args.runs.iter().map(|run| run::locate(run)).collect::<segen::Result<Vec<_>>>()?;
    let runs = run::folds::runs_of(&folders)?;
    let file = match &args.output {
        Some(path) => {
            let inputs: Vec<PathBuf> = runs.iter().flat_map(Run::inputs).collect();
            Some(OutputFile::claim("policy show", path, &inputs, args.existing.existing())?)
        }
        None => None,
    };
    let shown = runs.iter().map(LearnedPolicy::of).collect::<segen::Result<Vec<LearnedPolicy>>>()?;
    if args.form.is_some() {
        anyhow::ensure!(
            shown.len() == 1,
            "--as toml prints the policy of one run; {} are named",
            shown.len()
        );
        output.data(&shown[0].last.to_toml());
        return Ok(Exit::Done);
    }
    if let Some(file) = &file {
        file.write(&segen::examine::policy::draw(&shown, file.path())?)?;
    }
    if output.json() {
        output
            .data(&serde_json::to_string_pretty(&shown.iter().map(LearnedPolicy::json).collect::<Vec<_>>())?);
    } else {
        shown.iter().for_each(|run| output.data(&run.table()));
    }
    Ok(Exit::Done)
}
