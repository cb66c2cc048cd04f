//! A trained run, opened in one place: by `segen predict`, `logits` and `policy test-time`, and by `segen train` for the
//! predictions that follow its training.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use segen_kernels::Device;

use crate::data::dataset::{Case, Dataset};
use crate::files::{Digest, create_folder};
use crate::learn::checkpoint::{self, Checkpoint, Pointer};
use crate::learn::{exported, job};
use crate::network::{Network, Parameter, Weights};
use crate::predict::Segmenter;
use crate::predict::choice::PostChoice;
use crate::predict::forms::TestTime;
use crate::predict::windows::{Predictor, WindowOptions};
use crate::prepare::{self, PreparedCase};
use crate::progress::Progress;
use crate::run::Run;
use crate::run::record::Record;
use crate::score::operating::{self, Bias, Choice};
use crate::{Error, Result};

/// A trained run.
#[derive(Debug)]
pub struct Trained {
    /// What the run folder says of it.
    pub record: Record,
    /// What was trained.
    pub model: Model,
    /// Optimiser steps until then.
    pub steps: u64,
    /// Steps after its predictions, chosen on held-out cases; none where it has no `post.json`.
    pub post: PostChoice,
    /// The bias of its decision, chosen on held-out cases; none where nothing was chosen or it has no such file.
    pub operating: Option<Choice>,
}

/// What training gives and prediction needs. A model that is no network is an arm of its own with what it was fitted
/// to, opened by [`Trained::open`]; [`segmenter`] says how it predicts.
#[derive(Debug)]
pub enum Model {
    /// A network and its weights.
    Network {
        /// The network of plan and configuration.
        network: Network,
        /// Of the checkpoint that was asked for.
        weights: Weights,
    },
}

impl Trained {
    /// Opens a trained run.
    ///
    /// # Errors
    /// Where there is none, its weights cannot be read or do not fit its plan, or this processor lacks its operators.
    pub fn open(run: &Run, which: Which) -> Result<Self> {
        if exported::is_model(run) {
            exported::check(run)?;
        }
        let record = Record::open(run)?;
        let network = record.plan.network(&record.config.network);
        let (weights, steps) = which.weights(run)?;
        if !network.fits(&weights) {
            return Err(Error::invalid(
                run.path("checkpoint"),
                "weights",
                "they do not fit the network of plan.json and config.toml",
                "use the plan.json and config.toml that the run was trained with",
            ));
        }
        let post = match run.path(POST).is_file() {
            true => run.read_json(POST)?,
            false => PostChoice::default(),
        };
        let operating = match run.path(operating::FILE).is_file() {
            true => run.read_json(operating::FILE)?,
            false => None,
        };
        Ok(Self { record, model: Model::Network { network, weights }, steps, post, operating })
    }

    /// Prepares cases of the run's data set, or takes them from the cache.
    ///
    /// # Errors
    /// Where a case cannot be prepared, or the cache cannot be written.
    pub fn prepare(
        &self,
        dataset: &Dataset,
        cases: &[&Case],
        cache: &Cache,
        progress: &dyn Progress,
    ) -> Result<Vec<PreparedCase>> {
        prepare::prepare_all(dataset, &self.record.plan.recipe(), cases, cache.folder(), progress)
    }

    /// Sliding windows as its validation uses them.
    pub fn window_options(&self) -> WindowOptions {
        WindowOptions { step: self.record.config.validation.step, ..WindowOptions::default() }
    }
}

impl Model {
    /// What tells one model from another: its content.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Network { weights, .. } => {
                let parts = weights.parameters.iter().chain(&weights.buffers);
                let digest = |part: &Parameter| Digest::of(bytemuck::cast_slice(&part.values));
                let parts = parts.map(|part| serde_json::json!([part.name, part.shape, digest(part)]));
                Digest::of(serde_json::Value::from_iter(parts).to_string().as_bytes())
            }
        }
    }
}

/// The steps after a run's predictions, in its folder.
pub const POST: &str = "post.json";

/// What predicts with a run, or with several whose probabilities are averaged. The first one's plan rules. Of several
/// each has the bias in its place of `biases`; of a single one the probabilities stay as they are, its bias is for who
/// decides.
///
/// # Errors
/// Where a run was trained with another plan than the first, or the forms of `test_time` do not fit it.
pub fn segmenter(
    runs: &[Trained],
    biases: &[Bias],
    (options, test_time): (WindowOptions, Option<&TestTime>),
    device: &Device,
    progress: &dyn Progress,
) -> Result<Box<dyn Segmenter>> {
    let mut predictor = windows(runs, options, device)?;
    if runs.len() > 1 {
        predictor = predictor.with_odds(biases);
    }
    if let Some(test_time) = test_time {
        let forms = test_time.forms(&runs[0].record.plan, predictor.window())?;
        progress.note(&format!("{} passes per window instead of 1: {}", forms.len(), forms.describe()));
        predictor = predictor.with_views(forms)?;
    }
    Ok(Box::new(predictor))
}

/// The sliding windows of a run's network, or of those of several.
///
/// # Errors
/// Where a run was trained with another plan than the first.
pub fn windows(runs: &[Trained], options: WindowOptions, device: &Device) -> Result<Predictor> {
    let Some((first, others)) = runs.split_first() else {
        return Err(Error::config("RUN", "there is no run", "name the folder of a trained run"));
    };
    others.iter().try_for_each(|other| same_plan(&first.record, &other.record))?;
    let networks = runs.iter().map(|run| match &run.model {
        Model::Network { network, weights } => (network.clone(), weights),
    });
    // Its operators run as the first run was trained with them.
    let kernels = job::kernel_settings(&first.record.config)?;
    kernels.scoped(|| Predictor::new(&first.record.plan, networks.collect(), options, device))
}

/// Refuses to average runs whose samples or classes differ.
fn same_plan(first: &Record, other: &Record) -> Result<()> {
    let same = other.plan.spacing == first.plan.spacing
        && other.plan.patch == first.plan.patch
        && other.plan.normalisation == first.plan.normalisation
        && other.labels == first.labels
        && other.plan.field()? == first.plan.field()?;
    if same {
        return Ok(());
    }
    Err(Error::invalid(
        other.run.path("plan.json"),
        "plan",
        format!(
            "spacing, patch, normalisation or classes differ from those of `{}`",
            first.run.folder.display()
        ),
        "average only runs that were trained with the same plan",
    ))
}

/// Which of a run's checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The last one.
    #[default]
    Latest,
    /// The one with the best score on the validation cases.
    Best,
    /// That of a step, where it is still there.
    Step(u64),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.parse()) {
            ("latest", _) => Ok(Self::Latest),
            ("best", _) => Ok(Self::Best),
            (_, Ok(step)) => Ok(Self::Step(step)),
            _ => Err("write latest, best or the number of a step".to_owned()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => formatter.write_str("latest"),
            Self::Best => formatter.write_str("best"),
            Self::Step(step) => write!(formatter, "{step}"),
        }
    }
}

impl Which {
    /// The weights of a run or of an exported model, and the optimiser steps that they had.
    ///
    /// # Errors
    /// As [`Self::read`]; a model has no other weights than its own.
    pub fn weights(self, run: &Run) -> Result<(Weights, u64)> {
        match (exported::is_model(run), self) {
            (false, _) => self.read(run).map(|checkpoint| (checkpoint.weights, checkpoint.step)),
            (true, Self::Latest) => exported::read_weights(run),
            (true, _) => Err(exported::lacks(run, "checkpoint but the one that was exported")),
        }
    }

    /// Reads the checkpoint of a run.
    ///
    /// # Errors
    /// Where there is none, or it is damaged; says which others there are.
    pub fn read(self, run: &Run) -> Result<Checkpoint> {
        let folder = run.checkpoints();
        let read = match self {
            Self::Latest => Checkpoint::pointed(&folder, Pointer::Latest),
            Self::Best => Checkpoint::pointed(&folder, Pointer::Best),
            Self::Step(step) => Checkpoint::read(&folder.join(format!("step-{step}"))),
        };
        read.map_err(|error| {
            let whole = |(_, place): &(u64, PathBuf)| Checkpoint::read(place).is_ok();
            let others = checkpoint::steps(&folder).into_iter().filter(whole);
            let others: Vec<String> = others.map(|(step, _)| step.to_string()).collect();
            if others.is_empty() {
                return error;
            }
            let (path, problem) = match error {
                Error::Invalid { path, problem, .. } => (path, problem),
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    (folder, "there is no such checkpoint".to_owned())
                }
                Error::Io { path, source, .. } => (path, source.to_string()),
                other => return other,
            };
            let mend = format!("choose another one with --checkpoint: {}", others.join(", "));
            Error::invalid(path, format!("checkpoint `{self}`"), problem, mend)
        })
    }
}

/// The folder of prepared samples for what is done with a trained run.
#[derive(Debug)]
pub enum Cache {
    /// One that stays.
    Kept(PathBuf),
    /// One that goes with the command, because the run's own cannot be written.
    Temporary(tempfile::TempDir),
}

impl Cache {
    /// The folder given; else the run's own, else one for the data set, whichever can be written; else a temporary one.
    ///
    /// # Errors
    /// Where the folder given cannot be written, or there is no place for temporary files.
    pub fn find(
        given: Option<&Path>,
        record: &Record,
        dataset: &Dataset,
        progress: &dyn Progress,
    ) -> Result<Self> {
        if let Some(folder) = given {
            return Ok(Self::Kept(folder.to_owned()));
        }
        let own = Some(&record.manifest.cache).filter(|folder| folder.is_dir()).cloned();
        let own = own.unwrap_or_else(|| prepare::cache_folder(None, dataset, &record.run.folder));
        if is_writable(&own) {
            return Ok(Self::Kept(own));
        }
        progress.note(&format!(
            "`{}` cannot be written: cases are prepared into a temporary folder; --cache DIR keeps them",
            own.display()
        ));
        let folder = tempfile::Builder::new().prefix("segen-cache-").tempdir();
        folder.map(Self::Temporary).map_err(|e| Error::io("create", std::env::temp_dir(), e))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Kept(folder) => folder,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// Whether files can be made in a folder, which is made where it is not there.
fn is_writable(folder: &Path) -> bool {
    create_folder(folder).is_ok() && tempfile::tempfile_in(folder).is_ok()
}
