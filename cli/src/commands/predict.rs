use std::path::PathBuf;

use segen::commands::crf;
use segen::commands::operating::OperatingPoint;
use segen::commands::predict::{self, Known, Mirror, Part, Predictions, Request};
use segen::commands::trained::Which;
use segen::config::PostMode;
use segen::policy::Policy;
use segen::predict::forms::{Average, TestTime};
use segen::predict::volumes::{self, Volumes};
use segen::run::{self, Run};
use segen::score::Masks;

use super::{Exit, device, existing};
use crate::output::Output;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Averaged {
    Probabilities,
    Logits,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Post {
    /// Those that gained on the run's held-out cases; of several runs those that all of them have
    Auto,
    /// None
    Off,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Depth {
    /// Steps of 1/65535 in two bytes; nibabel and ITK read them as numbers from 0 to 1
    U16,
    /// As computed, in four bytes
    F32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a trained run, of a cross-validation, whose folds are averaged, or of an exported model, or its name under
    /// $nnUNet_results
    run: PathBuf,
    /// Scans: files or folders, named CASE_0000.nii.gz, CASE_0001.nii.gz, ... by channel, CASE.nii.gz with all channels
    /// along the fourth dimension, or as the files were that the run's data set was imported from
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Folder of regions of interest, CASE.nii.gz, for a run that was trained on a data set with masks [default:
    /// masksTs beside imagesTs, masksTr beside imagesTr]
    #[arg(long, value_name = "DIR", conflicts_with = "no_masks")]
    masks: Option<PathBuf>,
    /// Take no masks, also where there are some beside the scans
    #[arg(long)]
    no_masks: bool,
    /// A further run or cross-validation for the same classes and channels whose probabilities are averaged in, whatever its
    /// plan; may be given several times
    #[arg(long, value_name = "RUN")]
    with: Vec<PathBuf>,
    /// Which weights: latest, best (on the validation cases), or the number of a step whose checkpoint is there
    #[arg(long, value_name = "WHICH", default_value_t)]
    checkpoint: Which,
    /// Share of a window's edge by which windows step, 0.05 to 1: 1 is four to eight times as fast as 0.5 and less exact
    /// where windows meet [default: validation.step of the run, 0.5]
    #[arg(long, value_name = "SHARE")]
    step: Option<f64>,
    /// Average over mirror images too, along the axes that the run was trained with and no others: up to 8 times the work
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
    /// Refine probabilities by a fully connected random field: the one that `segen crf RUN` fitted, `=default` for usual
    /// values, or `=FILE` of the form of its crf.toml
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "run")]
    crf: Option<String>,
    /// How classes are decided: argmax, the largest probability; auto, with the bias that was best on the run's
    /// held-out cases; or CLASS=ODDS, a factor above 0 for a class's probability (2 finds more of it, 0.5 invents less),
    /// several with commas between [default: argmax]
    #[arg(long, value_name = "WHICH")]
    operating: Vec<String>,
    /// Steps after the prediction, such as the removal of small parts
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    post: Post,
    /// Also write one volume of probabilities per class (probabilities/CASE_probability_CLASS.nii.gz): u16 in steps of
    /// 1/65535, or =f32
    #[arg(long, value_name = "DEPTH", num_args = 0..=1, require_equals = true, default_missing_value = "u16")]
    probabilities: Option<Depth>,
    /// Also write how undecided the network or the ensemble is (entropy/CASE_entropy.nii.gz): entropy of the
    /// probabilities, 0 where one class is certain to 1 where all are alike
    #[arg(long)]
    entropy: bool,
    /// Predict this share of the scans only, sorted by name, as in 2/8: one task of a job array; all may write into one
    /// folder
    #[arg(long, value_name = "I/N", default_value_t = Part::WHOLE)]
    part: Part,
    /// Folder for the label maps
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Leave out scans whose label maps are there already and came from the same weights, settings and scan
    #[arg(long = "continue")]
    go_on: bool,
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
    let masks = match args.masks {
        Some(folder) => Masks::Folder(folder),
        None if args.no_masks => Masks::None,
        None => Masks::Beside,
    };
    let request = Request {
        runs: &runs,
        checkpoint: args.checkpoint,
        inputs: &args.input,
        part: args.part,
        masks: &masks,
        step: args.step,
        mirror: if args.mirror { Mirror::Trained } else { Mirror::Off },
        test_time: policy.map(|policy| TestTime { policy, top: args.top, average }),
        field: args.crf.as_deref().map(|which| match which {
            "run" => crf::Choice::Run,
            "default" => crf::Choice::Default,
            file => crf::Choice::File(file.into()),
        }),
        operating: OperatingPoint::read(&args.operating)?,
        post: match args.post {
            Post::Auto => PostMode::Auto,
            Post::Off => PostMode::Off,
        },
        volumes: Volumes {
            probabilities: args.probabilities.map(|depth| match depth {
                Depth::U16 => volumes::Depth::U16,
                Depth::F32 => volumes::Depth::F32,
            }),
            entropy: args.entropy,
        },
        folder: &args.output,
        existing: args.existing.existing(),
        known: if args.go_on { Known::Skip } else { Known::Again },
        also_read: args.test_policy.as_slice(),
        device: &device,
    };
    let predictions = predict::run(&request, output)?;
    tell(&predictions, output)?;
    Ok(if predictions.failed.is_empty() { Exit::Done } else { Exit::CheckFailed })
}

/// Prints what became of the scans: data first, then what failed.
fn tell(predictions: &Predictions, output: &Output) -> anyhow::Result<()> {
    let Predictions { written, skipped, failed } = predictions;
    if output.json() {
        let failed: Vec<_> = failed
            .iter()
            .map(|(case, error)| serde_json::json!({ "case": case, "error": error.to_string() }))
            .collect();
        let all = serde_json::json!({ "written": written, "skipped": skipped, "failed": failed });
        output.data(&serde_json::to_string_pretty(&all)?);
    } else {
        written.iter().for_each(|file| output.data(&file.display().to_string()));
    }
    if !skipped.is_empty() {
        output.line(&format!("{} label maps were there already, made from the same", skipped.len()));
    }
    if !failed.is_empty() {
        let all = written.len() + skipped.len() + failed.len();
        output.line(&format!("{} of {all} scans could not be predicted:", failed.len()));
        failed.iter().for_each(|(case, error)| output.line(&format!("{case}: {error}")));
    }
    Ok(())
}
