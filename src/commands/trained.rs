//! A trained run, opened in one place: by `segen predict`, `logits` and `policy test-time`, and by `segen train` for the
//! predictions that follow its training.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use segen_kernels::Device;

use crate::classic::fitted::Fitted;
pub use crate::config::Which;
use crate::data::dataset::{Case, Dataset};
use crate::files::{Digest, create_folder};
use crate::learn::checkpoint::{self, Checkpoint, Pointer};
use crate::learn::{exported, job};
use crate::network::{Network, Parameter, Weights};
use crate::predict::Segmenter;
use crate::predict::choice::PostChoice;
use crate::predict::windows::{Predictor, WindowOptions};
use crate::prepare::{self, PreparedCase};
use crate::progress::Progress;
use crate::run::Run;
use crate::run::folds::CrossValidation;
use crate::run::record::Record;
use crate::score::operating::{self, Choice};
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
    /// The folder that both were read in: the run's own, or that of the cross-validation that it was opened with.
    pub chosen_in: Run,
}

/// What training gives and prediction needs. A model that is no network is an arm of its own with what it was fitted
/// to, opened by [`Trained::open`]; [`windows`] says how it predicts.
#[derive(Debug)]
pub enum Model {
    /// A network and its weights.
    Network {
        /// The network of plan and configuration.
        network: Network,
        /// Of the checkpoint that was asked for.
        weights: Weights,
    },
    /// A classical method.
    Classical(Arc<Fitted>),
}

impl Trained {
    /// Opens a trained run.
    ///
    /// # Errors
    /// Where there is none, its weights cannot be read or do not fit its plan, or this processor lacks its operators.
    pub fn open(run: &Run, which: Which) -> Result<Self> {
        exported::check(run)?;
        let record = Record::open(run)?;
        let (post, operating) = chosen(run)?;
        let chosen_in = run.clone();
        if record.config.classical_method().is_some() {
            let fitted = Fitted::open(run, &record.config, &record.plan)?;
            let model = Model::Classical(Arc::new(fitted));
            return Ok(Self { record, model, steps: 0, post, operating, chosen_in });
        }
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
        let model = Model::Network { network, weights };
        Ok(Self { record, model, steps, post, operating, chosen_in })
    }

    /// Opens trained runs; a cross-validation among them as the runs of its folds, with the steps and the bias that it has
    /// chosen on the held-out cases of all of them.
    ///
    /// # Errors
    /// As [`Self::open`], and where a fold is unfinished.
    pub fn open_all(runs: &[Run], which: Which) -> Result<Vec<Self>> {
        let mut opened = Vec::new();
        for run in runs {
            // Before it is read: of a model its sum must be right. A single network is checked where it is opened.
            if run.path(CrossValidation::FILE).is_file() {
                exported::check(run)?;
            }
            let Some(all) = CrossValidation::find(&run.folder)? else {
                opened.push(Self::open(run, which)?);
                continue;
            };
            let (post, operating) = chosen(run)?;
            for fold in all.finished()? {
                let own = Self::open(&fold, which)?;
                let (post, operating) = (post.clone(), operating.clone());
                opened.push(Self { post, operating, chosen_in: run.clone(), ..own });
            }
        }
        Ok(opened)
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

    /// Whether it was trained on scans with regions of interest, inside which intensities were normalised.
    pub fn needs_masks(&self) -> bool {
        self.record.plan.fingerprint.masked_cases > 0
    }

    /// What predicts with it alone, a network in the windows of `options`.
    ///
    /// # Errors
    /// Where its operators cannot be used here.
    pub fn segmenter(&self, options: WindowOptions, device: &Device) -> Result<Box<dyn Segmenter>> {
        match &self.model {
            Model::Network { .. } => Ok(Box::new(windows(&[self], options, device)?)),
            Model::Classical(fitted) => Ok(Box::new(fitted.clone())),
        }
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
            Self::Classical(fitted) => Digest::of(fitted.sums().as_bytes()),
        }
    }
}

/// What a folder says of steps and bias, if anything.
pub(super) fn chosen(run: &Run) -> Result<(PostChoice, Option<Choice>)> {
    let post = match run.path(POST).is_file() {
        true => run.read_json(POST)?,
        false => PostChoice::default(),
    };
    let operating = match run.path(operating::FILE).is_file() {
        true => run.read_json(operating::FILE)?,
        false => None,
    };
    Ok((post, operating))
}

/// The steps after a run's predictions, in its folder.
pub const POST: &str = "post.json";

/// The sliding windows of a run's network, or of those of several of the same plan.
///
/// # Errors
/// Where there is none, one has no network, or a network does not go with the first one's plan.
pub fn windows(runs: &[&Trained], options: WindowOptions, device: &Device) -> Result<Predictor> {
    let Some(first) = runs.first() else {
        return Err(Error::config("RUN", "there is no run", "name the folder of a trained run"));
    };
    let networks = runs.iter().map(|run| match &run.model {
        Model::Network { network, weights } => Ok((network.clone(), weights)),
        Model::Classical(_) => Err(Error::invalid(
            &run.record.run.folder,
            "method",
            "is a classical one, which has no network and no logits",
            "name a run of a network",
        )),
    });
    let networks = networks.collect::<Result<Vec<_>>>()?;
    // Its operators run as the first run was trained with them.
    let kernels = job::kernel_settings(&first.record.config)?;
    kernels.scoped(|| Predictor::new(&first.record.plan, networks, options, device))
}

/// Whether two runs see the same samples in the same windows.
pub(super) fn same_plan(first: &Record, other: &Record) -> bool {
    let (plan, own) = (&first.plan, &other.plan);
    own.spacing == plan.spacing
        && own.patch == plan.patch
        && own.normalisation == plan.normalisation
        && other.labels == first.labels
        && own.field().ok() == plan.field().ok()
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
