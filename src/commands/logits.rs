//! From a run folder to its `logits/`: collect, measure, draw, keep.

use std::path::{Path, PathBuf};

use segen_kernels::Device;

use super::trained::{Cache, Trained, Which, windows};
use crate::data::dataset::Case;
use crate::examine::logits::{CollectOptions, FIGURES, LogitSummary, Origin, collect, draw, file, shifts};
use crate::files::{Existing, Outputs, bytes_of};
use crate::learn::exported;
use crate::predict::windows::WindowOptions;
use crate::prepare::PreparedCase;
use crate::progress::Progress;
use crate::run::Run;
use crate::run::record::cases_of;
use crate::{Error, Result};

/// One `segen logits` of one run.
#[derive(Debug)]
pub struct Request<'a> {
    /// The run.
    pub run: &'a Run,
    /// Which of its checkpoints.
    pub checkpoint: Which,
    /// Folder of the data set, where it is no longer where the run found it.
    pub dataset: Option<&'a Path>,
    /// Folder for the results; `logits` in the run's folder where left out.
    pub folder: Option<&'a Path>,
    /// What becomes of files of their names that are there already.
    pub existing: Existing,
    /// Where prepared samples lie; see [`Cache::find`].
    pub cache: Option<&'a Path>,
    /// What is drawn.
    pub options: CollectOptions,
    /// Where to compute.
    pub device: &'a Device,
}

impl Request<'_> {
    /// Folder of the results.
    pub fn folder(&self) -> PathBuf {
        self.folder.map_or_else(|| self.run.path("logits"), Path::to_owned)
    }
}

/// Claims the files of the results.
///
/// # Errors
/// As [`Outputs::claim`].
pub fn claim(request: &Request<'_>) -> Result<Outputs> {
    let figures = FIGURES.iter().flat_map(|name| [format!("{name}.png"), format!("{name}.svg")]);
    let files: Vec<String> = [VOXELS, SUMMARY].map(str::to_owned).into_iter().chain(figures).collect();
    let mut inputs = request.run.inputs();
    inputs.extend(request.dataset.map(Path::to_owned));
    let claimed = Outputs::claim("logits", &request.folder(), &files, &inputs, request.existing);
    claimed.map_err(|error| match error {
        // The run may belong to somebody else.
        Error::Io { path, source, .. } if request.folder.is_none() => Error::invalid(
            path,
            "output",
            format!("cannot be written: {source}"),
            "name a folder of your own for the results with -o DIR; the run is then only read",
        ),
        other => other,
    })
}

/// Collects the logits of a run on its training, validation and labelled test cases, measures and draws the shift, and
/// writes `logits.safetensors`, `summary.json` and the figures to `outputs`, which [`claim`] gives.
///
/// # Errors
/// Where the run or the data set cannot be read, there is no case that the run was not trained on, or a file cannot be
/// written.
pub fn run(request: &Request<'_>, outputs: &Outputs, progress: &dyn Progress) -> Result<LogitSummary> {
    exported::refuse(request.run, "list of the cases that it was trained on")?;
    let trained = Trained::open(request.run, request.checkpoint)?;
    let (run, record) = (request.run, &trained.record);
    let dataset = record.dataset(request.dataset)?;
    let train = cases_of(&dataset, &record.split.train)?;
    let unseen = cases_of(&dataset, &record.split.held_out())?;
    let test: Vec<&Case> = dataset.test.iter().filter(|case| case.labels.is_some()).collect();
    if unseen.is_empty() && test.is_empty() {
        return Err(Error::invalid(
            run.path("split.json"),
            "validation",
            "every case of the data set was trained on, so there is nothing unseen to compare with",
            "train with --fold 0 instead of --fold all, or add labels for the test cases",
        ));
    }
    let cache = Cache::find(request.cache, record, &dataset, progress)?;
    let mut parts: Vec<(Origin, Vec<PreparedCase>)> = Vec::new();
    for (origin, cases) in [(Origin::Seen, &train), (Origin::Unseen, &unseen), (Origin::Test, &test)] {
        parts.push((origin, trained.prepare(&dataset, cases, &cache, progress)?));
    }
    let borrowed: Vec<(Origin, &[PreparedCase])> =
        parts.iter().map(|(origin, cases)| (*origin, cases.as_slice())).collect();
    let predictor = windows(&[&trained], WindowOptions::default(), request.device)?;
    let collection = collect(&predictor, &borrowed, &record.labels.names, &request.options, progress)?;
    outputs.write(VOXELS, None, bytes_of(&file::bytes(&outputs.path(VOXELS), &collection)?))?;
    for (name, chart) in FIGURES.into_iter().zip(draw(&collection)?) {
        outputs.write(&format!("{name}.png"), None, bytes_of(&chart.png))?;
        outputs.write(&format!("{name}.svg"), None, bytes_of(chart.svg.as_bytes()))?;
    }
    let most = request.options.cases.unwrap_or(usize::MAX);
    let summary = LogitSummary {
        run: run.folder.clone(),
        steps: trained.steps,
        voxels_per_class: request.options.voxels,
        classes: collection.classes.clone(),
        cases: parts.iter().map(|(origin, cases)| (*origin, cases.len().min(most))).collect(),
        shifts: shifts(&collection),
    };
    let text = serde_json::to_string_pretty(&summary)
        .map_err(|e| Error::Internal { what: format!("writing logits as JSON: {e}") })?;
    outputs.write(SUMMARY, None, bytes_of((text + "\n").as_bytes()))?;
    Ok(summary)
}

const VOXELS: &str = "logits.safetensors";
const SUMMARY: &str = "summary.json";
