//! Segments scans that are nobody's training or validation cases: files in, label maps out.

mod ahead;
mod job;
mod part;
mod room;

use std::path::{Path, PathBuf};

use segen_kernels::Device;
use serde_json::{Value, json};

use super::crf;
use super::ensemble::Ensemble;
use super::operating::{OperatingPoint, biases};
use super::scans::{self, Scan};
use super::trained::{Trained, Which};
use crate::config::{PostMode, WINDOW_STEPS};
use crate::data::dataset::Case;
use crate::files::{self, Digest, Existing, Outputs, bytes_of};
use crate::image::crf::Settings;
use crate::plan::Plan;
use crate::predict::LabelFiles;
use crate::predict::choice::PostChoice;
use crate::predict::forms::TestTime;
use crate::predict::mirror::Mirrors;
use crate::predict::post::Steps;
use crate::predict::volumes::Volumes;
use crate::predict::windows::WindowOptions;
use crate::progress::Progress;
use crate::run::Run;
use crate::run::record::Record;
use crate::score::Masks;
use crate::score::operating::Bias;
use crate::{Error, Result};

use job::{Prediction, Preparation};
pub use part::Part;

/// Whether mirror images are predicted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// One pass per window.
    Off,
    /// Those that the run's policy showed in training.
    Trained,
}

/// Whether scans are predicted whose label maps are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Every scan is predicted.
    Again,
    /// Not those whose files are what the same weights, settings and scan gave (`--continue`).
    Skip,
}

/// One `segen predict`.
#[derive(Debug)]
pub struct Request<'a> {
    /// Runs, and cross-validations as the runs of their folds, whose probabilities are averaged.
    pub runs: &'a [Run],
    /// Which of their checkpoints.
    pub checkpoint: Which,
    /// Files and folders of scans.
    pub inputs: &'a [PathBuf],
    /// Which of them, sorted by name.
    pub part: Part,
    /// Where the region of interest of every scan is, `CASE.nii.gz` as the data set's `masksTr`: scans are normalised
    /// inside it, and outside all is background.
    pub masks: &'a Masks,
    /// Share of a window's edge by which windows step; where there is none, that of the first run's validation.
    pub step: Option<f64>,
    /// Test-time mirroring.
    pub mirror: Mirror,
    /// Test-time policy, instead of mirroring.
    pub test_time: Option<TestTime>,
    /// A random field after the prediction.
    pub field: Option<crf::Choice>,
    /// How classes are decided.
    pub operating: OperatingPoint,
    /// Whether the steps that the runs ship change the label maps.
    pub post: PostMode,
    /// What to write beside the label maps.
    pub volumes: Volumes,
    /// Where to: label maps, `dataset.json` and, in folders of their own, volumes. Several processes may write into one
    /// folder at the same time.
    pub folder: &'a Path,
    /// What becomes of files of these names that are there already.
    pub existing: Existing,
    /// What becomes of scans that were predicted before.
    pub known: Known,
    /// Further files that the command reads, such as that of the policy: no output may take their place.
    pub also_read: &'a [PathBuf],
    /// Where to compute.
    pub device: &'a Device,
}

/// What became of the scans.
#[derive(Debug, Default)]
pub struct Predictions {
    /// Label maps written, in order of case name.
    pub written: Vec<PathBuf>,
    /// Label maps that were there already ([`Known::Skip`]).
    pub skipped: Vec<PathBuf>,
    /// Scans without a label map, and why.
    pub failed: Vec<(String, Error)>,
}

/// Segments every scan. A scan that cannot be used leaves the others as they are. `dataset.json` is written beside the
/// label maps, so that they can be scored and read by tools that need the names of the labels.
///
/// # Errors
/// What concerns all scans: a run that cannot be used, an output that may not be replaced, no usable scan at all.
pub fn run(request: &Request<'_>, progress: &dyn Progress) -> Result<Predictions> {
    let runs = Trained::open_all(request.runs, request.checkpoint)?;
    let Some(first) = runs.first() else {
        return Err(Error::config("RUN", "there is no run", "name the folder of a trained run"));
    };
    let record = &first.record;
    let scans = scans::find(request.inputs, record.plan.channels, record.pairing.as_ref(), request.masks)?;
    let scans = request.part.take(scans);
    let options = options(request, &runs, progress)?;
    let steps = steps(request, &runs, progress);
    let biases = biases(&request.operating, &runs, progress)?;
    let field = request.field.as_ref().map(|field| field.settings(record, progress)).transpose()?.flatten();
    let settings = settings(request, &runs, (&options, field.as_ref()), (&steps, &biases));
    let test_time = request.test_time.as_ref();
    let mut ensemble = Ensemble::of(&runs, &biases, (&options, test_time), request.device, progress)?;
    if let Some(field) = field {
        if request.operating == OperatingPoint::Auto {
            progress.note("the operating point was chosen on predictions without a random field");
        }
        ensemble = ensemble.refined(field)?;
    }
    // Of several networks each is changed before they are averaged.
    let bias = match biases.as_slice() {
        [one] => one.clone(),
        _ => Bias::none(ensemble.classes() - 1),
    };
    let outputs = claim(request, &scans, record.labels.classes(), &record.file_ending)?;
    tell(&runs, request.part, &scans, progress);
    room::tell(request, &scans, record.labels.classes(), progress);
    let description: Value = record.run.read_json("dataset.json")?;
    outputs.write("dataset.json", None, bytes_of(format!("{description:#}\n").as_bytes()))?;
    let plans: Vec<&Plan> = ensemble.plans().collect();
    let preparation = Preparation { request, first, plans: &plans, settings, outputs: &outputs };
    let prediction = Prediction { ensemble: &ensemble, bias: &bias, steps: &steps };
    predict(&preparation, &prediction, scans, progress)
}

/// Predicts the scans that can be used.
fn predict(
    preparation: &Preparation<'_>,
    prediction: &Prediction<'_>,
    scans: Vec<Scan>,
    progress: &dyn Progress,
) -> Result<Predictions> {
    let mut predictions = Predictions::default();
    let mut cases = Vec::new();
    for (case, looked) in scans {
        match looked {
            Ok(()) => cases.push(case),
            Err(error) => predictions.failed.push((case.id, error)),
        }
    }
    let ahead = ahead::is_possible(&cases, preparation.plans, progress);
    ahead::for_each(
        &cases,
        ahead,
        |case| preparation.prepare(case),
        |case, ready| {
            let done = ready.and_then(|ready| prediction.predict(preparation, case, ready, progress));
            match done {
                Ok((file, Known::Again)) => predictions.written.push(file),
                Ok((file, Known::Skip)) => predictions.skipped.push(file),
                Err(error) => predictions.failed.push((case.id.clone(), error)),
            }
        },
    );
    predictions.failed.sort_by(|one, other| one.0.cmp(&other.0));
    if predictions.written.is_empty() && predictions.skipped.is_empty() {
        let mut failed = std::mem::take(&mut predictions.failed).into_iter();
        if let Some((_, first)) = failed.next() {
            failed.for_each(|(_, error)| progress.note(&format!("also: {error}")));
            return Err(first);
        }
    }
    Ok(predictions)
}

/// The files of a scan beside its label map.
fn volume_names(request: &Request<'_>, id: &str, classes: usize, ending: &str) -> Vec<String> {
    let volumes = request.volumes.names(classes);
    volumes.iter().map(|volume| LabelFiles::volume_name(id, *volume, ending)).collect()
}

/// Sliding windows as the run's validation uses them, or as they are asked for.
fn options(request: &Request<'_>, runs: &[Trained], progress: &dyn Progress) -> Result<WindowOptions> {
    let own = runs[0].window_options();
    let step = request.step.unwrap_or(own.step);
    if !WINDOW_STEPS.contains(&step) {
        return Err(Error::config(
            "--step",
            format!("{step} is not from {} to {}", WINDOW_STEPS.start(), WINDOW_STEPS.end()),
            "give the share of a window's edge by which windows step, such as 0.5",
        ));
    }
    if request.step.is_some() && !runs[0].record.plan.field()?.is_same() {
        progress.note("--step has no effect: windows of this network stand side by side without overlap");
    }
    Ok(WindowOptions { step, mirrors: mirrors(request, runs, progress)?, ..own })
}

/// Everything that decides about a label map but the scan.
fn settings(
    request: &Request<'_>,
    runs: &[Trained],
    (options, field): (&WindowOptions, Option<&Settings>),
    (steps, biases): (&Steps, &[Bias]),
) -> Value {
    let trained = |run: &Trained| {
        let Record { plan, labels, config, .. } = &run.record;
        json!({
            "weights": run.model.digest(),
            "plan": Digest::of(json!([plan, labels, config.kernels]).to_string().as_bytes()),
        })
    };
    let forms = request.test_time.as_ref().map(|test_time| {
        json!({
            "policy": Digest::of(test_time.policy.to_toml().as_bytes()),
            "top": test_time.top, "average": test_time.average,
        })
    });
    let mut settings = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "runs": runs.iter().map(trained).collect::<Vec<_>>(),
        "step": options.step, "mirror": options.mirrors.names(), "test_time": forms, "post": steps,
        "operating": biases,
    });
    // Without one as in earlier versions, so that their label maps still count as made from the same.
    if let Some(field) = field {
        settings["field"] = json!(field);
    }
    settings
}

/// The mirror images that all runs were trained with.
fn mirrors(request: &Request<'_>, runs: &[Trained], progress: &dyn Progress) -> Result<Mirrors> {
    if request.mirror == Mirror::Off {
        return Ok(Mirrors::default());
    }
    let mut each = Vec::new();
    for Trained { record, .. } in runs {
        let mirrors = Mirrors::of_policy(&record.policy);
        if mirrors.len() == 1 {
            return Err(Error::config(
                "--mirror",
                format!(
                    "the run in `{}` saw no mirror images: its policy `{}` makes none",
                    record.run.folder.display(),
                    record.policy.name
                ),
                "leave --mirror out, or train with a policy that mirrors, such as --policy random",
            ));
        }
        each.push(mirrors);
    }
    let common = each.iter().skip(1).fold(each[0].clone(), |common, other| common.common(other));
    if common.len() == 1 {
        let seen: Vec<String> = each.iter().map(Mirrors::names).collect();
        return Err(Error::config(
            "--mirror",
            format!("the runs saw no mirror image in common: {}", seen.join("; ")),
            "leave --mirror out, or average runs that were trained with the same policy",
        ));
    }
    let who = if runs.len() > 1 { "the runs have all seen" } else { "the run has seen" };
    progress.note(&format!(
        "mirroring: {} passes per window instead of 1, along the axes that {who}: {}",
        common.len(),
        common.names()
    ));
    Ok(common)
}

/// The steps after the predictions: those of the run, or those that all runs chose.
fn steps(request: &Request<'_>, runs: &[Trained], progress: &dyn Progress) -> Steps {
    if request.post == PostMode::Off {
        return Steps::new();
    }
    let choices: Vec<PostChoice> = runs.iter().map(|run| run.post.clone()).collect();
    let steps = PostChoice::common(&choices);
    for (value, step) in &steps {
        let of_value = runs[0].post.values.iter().find(|choice| choice.value == *value);
        let names = of_value.map_or(String::new(), |choice| choice.regions.join(", "));
        progress.note(&format!("after each prediction, {names}: {step} (--post off leaves it out)"));
    }
    steps
}

/// Claims every file that will be written.
fn claim(request: &Request<'_>, scans: &[Scan], classes: usize, ending: &str) -> Result<Outputs> {
    let same = |input: &&PathBuf| input.is_dir() && files::are_same(input, request.folder);
    if let Some(input) = request.inputs.iter().find(same) {
        return Err(Error::invalid(
            request.folder,
            "output",
            format!(
                "is the folder `{}` of the scans: label maps in it would be taken for scans",
                input.display()
            ),
            "choose another folder with -o",
        ));
    }
    let mut names = vec!["dataset.json".to_owned()];
    let mut inputs: Vec<PathBuf> = request.runs.iter().map(|run| run.folder.clone()).collect();
    inputs.extend_from_slice(request.also_read);
    for (case, looked) in scans {
        if looked.is_ok() {
            names.push(LabelFiles::name(&case.id, ending));
            names.extend(volume_names(request, &case.id, classes, ending));
        }
        inputs.extend(case.images.iter().chain(&case.mask).cloned());
    }
    Outputs::claim("predict", request.folder, &names, &inputs, request.existing)
}

/// Says which scans they are, and where they lack what the network was trained with.
fn tell(runs: &[Trained], part: Part, scans: &[Scan], progress: &dyn Progress) {
    if part != Part::WHOLE {
        progress.note(&format!("part {part}: {} scans", scans.len()));
    }
    let usable: Vec<&Case> =
        scans.iter().filter(|(_, looked)| looked.is_ok()).map(|(case, _)| case).collect();
    let masked = usable.iter().filter(|case| case.mask.is_some()).count();
    if masked > 0 {
        progress.note(&format!("{masked} of {} scans are predicted inside a mask", usable.len()));
    }
    let need = runs.iter().filter(|run| run.needs_masks()).count();
    if masked < usable.len() && need > 0 {
        let who = match (need, runs.len()) {
            (_, 1) => "the network was".to_owned(),
            (need, all) if need == all => "the networks were".to_owned(),
            (need, all) => format!("{need} of {all} networks {}", if need == 1 { "was" } else { "were" }),
        };
        progress.note(&format!(
            "warning: {who} trained on scans with regions of interest, inside which intensities were \
             normalised; without theirs (--masks FOLDER) scans are normalised otherwise, and lesions may be missed"
        ));
    }
}
