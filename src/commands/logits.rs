//! From a run folder to its `logits/`: collect, measure, draw, keep.

use std::path::Path;

use burn::tensor::Device;

use super::train;
use crate::data::dataset::{Case, Dataset};
use crate::examine::logits::{CollectOptions, Collected, FIGURES, Origin, collect, draw, file, shifts};
use crate::files::{Existing, Outputs, bytes_of};
use crate::predict::windows::{Predictor, WindowOptions};
use crate::prepare::{self, PreparedCase};
use crate::progress::Progress;
use crate::run::{Manifest, Run, Split};
use crate::{Error, Result};

/// Collects the logits of a run's last weights on its training, validation and labelled test cases, measures and
/// draws the shift, and writes `logits.safetensors`, `summary.json` and the figures to `outputs`, which
/// [`claim`] gives. `dataset` names the data set where it is no longer at the place that the run remembers.
///
/// # Errors
/// Where the run or the data set cannot be read, or there is no case that the run was not trained on.
pub fn run(
    run: &Run,
    dataset: Option<&Path>,
    options: &CollectOptions,
    outputs: &Outputs,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Collected> {
    let (network, weights, plan, config) = train::load(run)?;
    let manifest: Manifest = run.read_json("run.json")?;
    let mut dataset = Dataset::open(train::dataset_folder(run, dataset, &manifest)?)?;
    dataset.labels = dataset.labels.select(&config.task.classes)?;
    let split: Split = run.read_json("split.json")?;
    let train = train::find(&dataset, &split.train)?;
    let mut unseen = train::find(&dataset, &split.validation)?;
    unseen.retain(|case| !split.train.contains(&case.id));
    let test: Vec<&Case> = dataset.test.iter().filter(|case| case.labels.is_some()).collect();
    if unseen.is_empty() && test.is_empty() {
        return Err(Error::invalid(
            run.path("split.json"),
            "validation",
            "every case of the data set was trained on, so there is nothing unseen to compare with",
            "train with --fold 0 instead of --fold all, or add labels for the test cases",
        ));
    }
    let known = Some(manifest.cache.as_path()).filter(|cache| cache.is_dir());
    let cache = prepare::cache_folder(known, &dataset, &run.folder);
    let prepare = |cases: &[&Case]| prepare::prepare_all(&dataset, &plan.recipe(), cases, &cache, progress);
    let parts: Vec<(Origin, Vec<PreparedCase>)> = vec![
        (Origin::Seen, prepare(&train)?),
        (Origin::Unseen, prepare(&unseen)?),
        (Origin::Test, prepare(&test)?),
    ];
    let borrowed: Vec<(Origin, &[PreparedCase])> =
        parts.iter().map(|(origin, cases)| (*origin, cases.as_slice())).collect();
    let networks = vec![(network, &weights)];
    let predictor = Predictor::new(&plan, networks, WindowOptions::default(), device)?;
    let collection = collect(&predictor, &borrowed, &dataset.labels.names, options, progress)?;
    outputs.write(VOXELS, None, bytes_of(&file::bytes(&outputs.path(VOXELS), &collection)?))?;
    for (name, chart) in FIGURES.into_iter().zip(draw(&collection)?) {
        outputs.write(&format!("{name}.png"), None, bytes_of(&chart.png))?;
        outputs.write(&format!("{name}.svg"), None, bytes_of(chart.svg.as_bytes()))?;
    }
    let most = options.cases.unwrap_or(usize::MAX);
    let collected = Collected {
        run: run.folder.clone(),
        steps: manifest.steps,
        voxels_per_class: options.voxels,
        classes: collection.classes.clone(),
        cases: parts.iter().map(|(origin, cases)| (*origin, cases.len().min(most))).collect(),
        shifts: shifts(&collection),
    };
    let text = serde_json::to_string_pretty(&collected)
        .map_err(|e| Error::Internal { what: format!("writing logits as JSON: {e}") })?;
    outputs.write(SUMMARY, None, bytes_of((text + "\n").as_bytes()))?;
    Ok(collected)
}

const VOXELS: &str = "logits.safetensors";
const SUMMARY: &str = "summary.json";

/// Claims the files of `RUN/logits`.
///
/// # Errors
/// As [`Outputs::claim`].
pub fn claim(run: &Run, dataset: Option<&Path>, existing: Existing) -> Result<Outputs> {
    let figures = FIGURES.iter().flat_map(|name| [format!("{name}.png"), format!("{name}.svg")]);
    let files: Vec<String> = [VOXELS, SUMMARY].map(str::to_owned).into_iter().chain(figures).collect();
    let mut inputs = run.inputs();
    inputs.extend(dataset.map(Path::to_owned));
    Outputs::claim("logits", &run.path("logits"), &files, &inputs, existing)
}
