//! The whole way on synthetic scans: no data and no network needed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;

use crate::config::Config;
use crate::dataset::Dataset;
use crate::metrics::Summary;
use crate::phantom::{self, Kind, PhantomOptions};
use crate::picture::{self, OverlayRow};
use crate::progress::Progress;
use crate::run::Run;
use crate::session::{self, Finished, Request, Start};
use crate::volume::{Image, Labels};
use crate::{Result, io};

/// What the demo leaves behind.
#[derive(Debug)]
pub struct Shown {
    /// Scores and weights.
    pub finished: Finished,
    /// Curves over training.
    pub curves: PathBuf,
    /// Slices of test cases: scan, reference, prediction.
    pub overlay: PathBuf,
}

/// Optimiser steps of the demo: about three minutes on two cores.
const STEPS: u64 = 1200;
/// Training cases of the demo's data set.
const CASES: usize = 30;
/// Voxels outside lesions per voxel inside them.
const RATIO: f64 = 100.0;

/// Makes a phantom data set with rare lesions in `folder/data`, trains a U-Net on it in `folder/run`, scores it on
/// test cases of another "scanner" and draws the result.
pub fn run(folder: &Path, device: &Device, threads: usize, progress: &dyn Progress) -> Result<Shown> {
    let started = Instant::now();
    let data = folder.join("data").join("Dataset900_Lesions");
    let options = PhantomOptions { cases: CASES, ratio: RATIO, ..PhantomOptions::new(Kind::Atlas) };
    if !data.join("dataset.json").is_file() {
        let made = phantom::write(&options, &data, progress)?;
        progress.note(&format!(
            "{} training and {} test phantoms, lesions to the rest 1:{:.0} and 1:{:.0}",
            made.training.cases, made.test.cases, made.training.ratio, made.test.ratio
        ));
    }
    let run = Run::at(folder.join("run"));
    let config = configuration()?;
    let request = Request {
        dataset: &data,
        run: &run,
        config: Some(&config),
        cache: None,
        start: Start::Resume,
        threads,
        device,
        started,
    };
    let finished = session::run(&request, progress)?;
    let overlay = folder.join("overlay.png");
    let dataset = Dataset::open(&data)?;
    draw(&dataset, finished.test.as_ref().unwrap_or(&finished.validation), &overlay)?;
    Ok(Shown { finished, curves: run.path("progress.png"), overlay })
}

/// Small patches and network, and Adam, which needs fewer steps than the default's long momentum.
fn configuration() -> Result<Config> {
    let steps = format!("schedule.steps={STEPS}");
    let sets = [
        steps.as_str(),
        "schedule.steps_per_epoch=200",
        "plan.base_features=16",
        "plan.patch=[32, 32, 32]",
        "plan.batch=2",
        "optimiser.kind=adam",
        "optimiser.learning_rate=2e-3",
        "loss.dice_reduction=batch",
        "sampling.rule=probability",
        "sampling.foreground_share=0.33",
    ];
    Config::resolve(None, &sets.map(str::to_owned))
}

/// The best, middle and worst case by Dice.
fn draw(dataset: &Dataset, summary: &Summary, path: &Path) -> Result<()> {
    let mut ranked: Vec<(&str, &Path, f64)> = summary
        .cases
        .iter()
        .filter_map(|case| {
            Some((case.case.as_str(), case.prediction_file.as_path(), case.scores.first()?.dice?))
        })
        .collect();
    ranked.sort_by(|a, b| b.2.total_cmp(&a.2));
    let chosen: Vec<_> = match ranked.len() {
        0 => Vec::new(),
        n => [0, n / 2, n - 1].map(|i| ranked[i]).to_vec(),
    };
    let mut loaded: Vec<(String, Image, Labels, Labels)> = Vec::new();
    for ((id, file, dice), rank) in chosen.into_iter().zip(["best", "median", "worst"]) {
        let Some(case) = dataset.case(id) else { continue };
        let Some(reference) = &case.labels else { continue };
        let caption = format!("{id}, {rank} of {}: Dice {dice:.2}", summary.cases.len());
        let (image, _) = io::read_image(&case.images[0])?;
        loaded.push((caption, image, io::read_labels(reference)?.0, io::read_labels(file)?.0));
    }
    let rows: Vec<OverlayRow<'_>> = loaded
        .iter()
        .map(|(caption, image, reference, prediction)| {
            let orientation = image.grid.orientation();
            let spacing = image.grid.oriented(&orientation).spacing();
            OverlayRow {
                caption: caption.clone(),
                image: orientation.apply(image.voxels.view()),
                spacing,
                columns: vec![
                    ("reference".to_owned(), orientation.apply(reference.voxels.view())),
                    ("prediction".to_owned(), orientation.apply(prediction.voxels.view())),
                ],
            }
        })
        .collect();
    picture::overlay(path, &rows)
}
