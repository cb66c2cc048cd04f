use std::path::PathBuf;

use segen::commands::predict::{self, Request, TestTime};
use segen::policy::Policy;
use segen::predict::forms::Average;
use segen::run::{self, Run};

use super::{Exit, device, existing};
use crate::output::Output;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Averaged {
    Probabilities,
    Logits,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a trained run, or its name under $nnUNet_results
    run: PathBuf,
    /// Scans: files or folders, named CASE_0000.nii.gz, CASE_0001.nii.gz, ... by channel
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Folder of regions of interest, CASE.nii.gz, for a run that was trained on a data set with masks
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    /// A further run of the same data set and plan whose probabilities are averaged in; may be given several times
    #[arg(long, value_name = "RUN")]
    with: Vec<PathBuf>,
    /// Average over mirror images too (the axes the run was trained with): up to 8 times the work
    #[arg(long)]
    mirror: bool,
    /// Average over changed forms of the scans, weighted by this policy of `segen policy test-time`
    #[arg(long, value_name = "FILE", conflicts_with = "mirror")]
    test_policy: Option<PathBuf>,
    /// How many of the policy's likeliest forms; 8 when left out, 4 for DeepMedic
    #[arg(long, value_name = "K", requires = "test_policy")]
    top: Option<usize>,
    /// What is averaged over the forms
    #[arg(long, value_name = "WHAT", requires = "test_policy", default_value = "probabilities")]
    average: Averaged,
    /// Also write one volume of probabilities per class (probabilities/CASE_probability_CLASS.nii.gz)
    #[arg(long)]
    probabilities: bool,
    /// Folder for the label maps
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    existing: existing::ExistingArgs,
    #[command(flatten)]
    device: device::DeviceArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let device = args.device.open()?;
    let mut runs = vec![Run::at(run::locate(&args.run)?)];
    for folder in &args.with {
        runs.push(Run::at(run::locate(folder)?));
    }
    let average = match args.average {
        Averaged::Probabilities => Average::Probabilities,
        Averaged::Logits => Average::Logits,
    };
    let policy = args.test_policy.as_deref().map(Policy::read).transpose()?;
    let test_time = policy.map(|policy| TestTime { policy, top: args.top, average });
    let request = Request {
        test_time,
        runs: &runs,
        inputs: &args.input,
        masks: args.masks.as_deref(),
        mirror: if args.mirror { predict::Mirror::Trained } else { predict::Mirror::Off },
        outputs: if args.probabilities { predict::Outputs::Probabilities } else { predict::Outputs::Labels },
        folder: &args.output,
        existing: args.existing.existing(),
        also_read: args.test_policy.as_slice(),
        device: &device,
    };
    let written = predict::run(&request, output)?;
    if output.json() {
        let files: Vec<_> = written.iter().map(|file| file.display().to_string()).collect();
        output.data(&serde_json::to_string_pretty(&files)?);
    } else {
        for file in &written {
            output.data(&file.display().to_string());
        }
    }
    Ok(Exit::Done)
}
