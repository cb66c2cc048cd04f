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
use crate::progress::Progress;
use crate::run::{Claim, Run};
use crate::score::operating::Decision;

mod overlay;
mod rows;

use overlay::Workshop;
pub use rows::{Means, Row, table};

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
    /// What each network finds, as it decides.
    pub rows: Vec<Row>,
    /// Cross-entropy, then the asymmetric margin.
    pub arms: Vec<Arm>,
    /// Slices of unseen cases: scan, reference, what each row finds.
    pub overlay: PathBuf,
    /// The page with everything.
    pub report: PathBuf,
}

/// What is compared.
const METHODS: [&str; 2] = ["ce", "asym-margin"];
/// The rows of the table: a network's place in [`METHODS`] and how it decides.
const ROWS: [(usize, Decision); 3] = [(0, Decision::Argmax), (0, Decision::Chosen), (1, Decision::Argmax)];
/// Optimiser iterations of each training: together under three minutes on two cores.
const STEPS: u64 = 1200;
/// Training cases of the demo's data set, held-out cases among them.
const CASES: usize = 50;
/// Share of the fold's training cases that is trained on: five.
const FRACTION: f64 = 0.125;
/// Voxels outside lesions per voxel inside them.
const RATIO: f64 = 150.0;
/// Edges of its scans, voxels.
const SHAPE: [usize; 3] = [48, 56, 48];
/// Spacing of its voxels, millimetres.
const SPACING: [f64; 3] = [3.3; 3];
/// Seed of its scans: none of those that settings were chosen on (1 to 3).
const SEED: u64 = 4;
/// Voxels per class whose logits are looked at.
const VOXELS: usize = 3000;

/// Makes a phantom data set with rare lesions in `folder/data`, trains a U-Net on five cases of it with cross-entropy
/// and one with the asymmetric margin in `folder/run-METHOD`, scores both on the cases they know, on unseen
/// ones, and on ones of another "scanner", with the plain decision and at a chosen operating point, and writes the page
/// that shows the difference. What is there already is not done again; `existing` is for the page and its figures.
pub fn run(
    folder: &Path,
    existing: Existing,
    device: &Device,
    threads: usize,
    progress: &dyn Progress,
) -> Result<DemoResult> {
    let runs = METHODS.map(|method| folder.join(format!("run-{method}")));
    let source = report::Source::Folders(runs.to_vec());
    let page = report::Place::claim(&source, &folder.join("report.html"), existing)?;
    let overlay = OutputFile::claim("demo", &folder.join("overlay.png"), &[], existing)?;
    let _claim = Claim::take(folder, "segen demo")?;
    let data = folder.join("data").join("Dataset900_Lesions");
    let usual = PhantomOptions::new(Kind::Atlas);
    let options =
        PhantomOptions { cases: CASES, ratio: RATIO, seed: SEED, shape: SHAPE, spacing: SPACING, ..usual };
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
            plan: None,
            length: None,
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
    let opened: Vec<Run> = runs.iter().map(Run::at).collect();
    let subjects = ROWS.map(|(place, decision)| (METHODS[place], &opened[place], decision));
    let rows = rows::rows(&subjects)?;
    let dataset = Dataset::open(&data)?;
    let decided = folder.join("decided");
    let workshop = Workshop { dataset: &dataset, folder: &decided, existing, device };
    overlay.write(&workshop.draw(&subjects, overlay.path())?)?;
    let report = report::write(&source, &report::Options::default(), &page, progress)?.page;
    Ok(DemoResult { rows, arms, overlay: overlay.path().to_owned(), report })
}

/// Few cases, small patches and network, and Adam, which needs fewer steps than the default's long momentum.
/// Cross-entropy alone, since a Dice term weighs missed and false voxels against each other by itself. Scores are those of
/// the decision: no step after it.
fn configuration(method: &str) -> Result<Config> {
    let own =
        [format!("schedule.steps={STEPS}"), format!("method.name={method}"), format!("fraction={FRACTION}")];
    let fixed = [
        "schedule.steps_per_epoch=100",
        "plan.base_features=8",
        "plan.patch=[24, 24, 24]",
        "plan.batch=3",
        "optimiser.kind=adam",
        "optimiser.learning_rate=3e-3",
        "loss.dice=0",
        "sampling.rule=probability",
        "sampling.foreground_share=0.5",
        "policy.name=heuristic",
        "validation.cases_per_epoch=1",
        "validation.train_cases=5",
        "validation.post=off",
    ];
    let sets: Vec<String> = own.into_iter().chain(fixed.map(str::to_owned)).collect();
    Config::resolve(None, &sets)
}
