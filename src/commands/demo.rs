//! The whole way on synthetic scans: no data and no network needed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use segen_kernels::Device;

use super::logits;
use super::train::{self, Faults, Request, Start, TrainResult};
use super::trained::Which;
use crate::Result;
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::data::phantom::{self, Kind, PhantomOptions};
use crate::examine::logits::{CollectOptions, LogitSummary};
use crate::examine::report;
use crate::files::{Existing, OutputFile};
use crate::image;
use crate::image::volume::{Image, Labels};
use crate::picture::{self, OverlayRow};
use crate::progress::Progress;
use crate::run::{Claim, Run};
use crate::score::Summary;

/// One of the two trainings.
#[derive(Debug)]
pub struct Arm {
    /// Its method's name.
    pub method: &'static str,
    /// Scores and weights.
    pub finished: TrainResult,
    /// How far logits have shifted on unseen and test cases.
    pub logits: LogitSummary,
}

/// What the demo leaves behind.
#[derive(Debug)]
pub struct DemoResult {
    /// Cross-entropy, then the asymmetric combination.
    pub arms: Vec<Arm>,
    /// Slices of test cases: scan, reference, predictions.
    pub overlay: PathBuf,
    /// The page with everything.
    pub report: PathBuf,
}

/// What is compared.
const METHODS: [&str; 2] = ["ce", "asym-combination"];
/// Optimiser iterations of each training: together under three minutes on two cores.
const STEPS: u64 = 400;
/// Training cases of the demo's data set, validation cases among them.
const CASES: usize = 25;
/// Share of the fold's training cases that is trained on: five.
const FRACTION: f64 = 0.25;
/// Voxels outside lesions per voxel inside them.
const RATIO: f64 = 600.0;
/// Edges of its scans, voxels.
const SHAPE: [usize; 3] = [48, 56, 48];
/// Spacing of its voxels, millimetres.
const SPACING: [f64; 3] = [3.3; 3];
/// Voxels per class whose logits are looked at.
const VOXELS: usize = 3000;

/// Makes a phantom data set with rare lesions in `folder/data`, trains a U-Net on it with cross-entropy and one with
/// the asymmetric combination in `folder/run-METHOD`, scores both on test cases of another "scanner", and writes the
/// page that shows the difference. What is there already is not done again; `existing` is for the page and
/// its figures.
pub fn run(
    folder: &Path,
    existing: Existing,
    device: &Device,
    threads: usize,
    progress: &dyn Progress,
) -> Result<DemoResult> {
    let runs = METHODS.map(|method| folder.join(format!("run-{method}")));
    let page = report::Place::claim(&runs, &folder.join("report.html"), existing)?;
    let overlay = OutputFile::claim("demo", &folder.join("overlay.png"), &[], existing)?;
    let _claim = Claim::take(folder, "segen demo")?;
    let data = folder.join("data").join("Dataset900_Lesions");
    let usual = PhantomOptions::new(Kind::Atlas);
    let options = PhantomOptions { cases: CASES, ratio: RATIO, shape: SHAPE, spacing: SPACING, ..usual };
    if !data.join("dataset.json").is_file() {
        let made = phantom::write(&options, &data, progress)?;
        progress.note(&format!(
            "{} training and {} test phantoms, lesions to the rest 1:{:.0} and 1:{:.0}",
            made.training.cases, made.test.cases, made.training.ratio, made.test.ratio
        ));
    }
    let mut arms = Vec::new();
    for (method, run) in METHODS.into_iter().zip(&runs) {
        progress.note(&format!("training with `{method}`"));
        let run = Run::at(run);
        let config = configuration(method)?;
        let request = Request {
            dataset: &data,
            run: &run,
            config: Some(&config),
            cache: Some(&folder.join("cache")),
            start: Start::Resume,
            faults: Faults::Refuse,
            threads,
            device,
            started: Instant::now(),
        };
        let finished = train::run(&request, progress)?;
        let collect = CollectOptions { voxels: VOXELS, cases: None, seed: 1 };
        let request = logits::Request {
            run: &run,
            checkpoint: Which::Latest,
            dataset: Some(&data),
            folder: None,
            existing,
            cache: None,
            options: collect,
            device,
        };
        let claimed = logits::claim(&request)?;
        let logits = logits::run(&request, &claimed, progress)?;
        arms.push(Arm { method, finished, logits });
    }
    overlay.write(&draw(&Dataset::open(&data)?, &arms, overlay.path())?)?;
    let report = report::write(&runs, &page, progress)?.page;
    Ok(DemoResult { arms, overlay: overlay.path().to_owned(), report })
}

/// Few cases, small patches and network, and Adam, which needs fewer steps than the default's long momentum.
/// Cross-entropy alone, since a Dice term weighs missed and false voxels against each other by itself.
fn configuration(method: &str) -> Result<Config> {
    let own =
        [format!("schedule.steps={STEPS}"), format!("method.name={method}"), format!("fraction={FRACTION}")];
    let fixed = [
        "schedule.steps_per_epoch=100",
        "plan.base_features=8",
        "plan.patch=[24, 24, 24]",
        "plan.batch=3",
        "optimiser.kind=adam",
        "optimiser.learning_rate=1e-2",
        "loss.dice=0",
        "sampling.rule=probability",
        "sampling.foreground_share=0.5",
        "policy.name=heuristic",
        "validation.cases_per_epoch=2",
        "validation.step=1.0",
    ];
    let sets: Vec<String> = own.into_iter().chain(fixed.map(str::to_owned)).collect();
    Config::resolve(None, &sets)
}

/// Caption, scan, reference, and each arm's prediction under its name.
type Loaded = (String, Image, Labels, Vec<(String, Labels)>);

/// Three test cases, from the one that gains most in Dice by the last arm to the one that gains least.
fn draw(dataset: &Dataset, arms: &[Arm], name: &Path) -> Result<Vec<u8>> {
    let [first, .., last] = arms else { return picture::overlay_png(name, &[]) };
    let dice = |arm: &Arm, id: &str| {
        let case = test(arm).cases.iter().find(|case| case.case == id)?;
        case.scores.first()?.dice
    };
    let mut gains: Vec<(&str, f64)> = test(last)
        .cases
        .iter()
        .filter_map(|case| Some((case.case.as_str(), dice(last, &case.case)? - dice(first, &case.case)?)))
        .collect();
    gains.sort_by(|a, b| b.1.total_cmp(&a.1));
    let chosen: Vec<&str> = match gains.len() {
        0 => Vec::new(),
        n => [0, n / 2, n - 1].map(|i| gains[i].0).to_vec(),
    };
    let mut loaded: Vec<Loaded> = Vec::new();
    for id in chosen {
        let Some(case) = dataset.case(id) else { continue };
        let Some(reference) = &case.labels else { continue };
        let (image, _) = image::read_image(&case.images[0])?;
        let mut predictions = Vec::new();
        let mut caption = format!("{id}: Dice");
        for arm in arms {
            let Some(case) = test(arm).cases.iter().find(|case| case.case == id) else { continue };
            predictions.push((arm.method.to_owned(), image::read_labels(&case.prediction_file)?.0));
            caption.push_str(&format!(" {:.2} ({})", dice(arm, id).unwrap_or(0.0), arm.method));
        }
        loaded.push((caption, image, image::read_labels(reference)?.0, predictions));
    }
    let rows: Vec<OverlayRow<'_>> = loaded
        .iter()
        .map(|(caption, image, reference, predictions)| {
            let orientation = image.grid.orientation();
            let mut columns = vec![("reference".to_owned(), orientation.apply(reference.voxels.view()))];
            for (method, labels) in predictions {
                columns.push((method.clone(), orientation.apply(labels.voxels.view())));
            }
            OverlayRow {
                caption: caption.clone(),
                image: orientation.apply(image.voxels.view()),
                spacing: image.grid.oriented(&orientation).spacing(),
                columns,
            }
        })
        .collect();
    picture::overlay_png(name, &rows)
}

/// Scores of an arm on the test cases.
fn test(arm: &Arm) -> &Summary {
    arm.finished.test.as_ref().unwrap_or(&arm.finished.validation)
}
