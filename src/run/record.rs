//! What a run folder says of its run, read in one place.

use std::path::Path;

use super::folds::{CrossValidation, listed};
use super::{Manifest, Run, Split};
use crate::config::Config;
use crate::data::dataset::{Case, Dataset, Description, LabelScheme, Pairing};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::{Error, Result};

/// A run without its weights.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it is.
    pub run: Run,
    /// `config.toml`.
    pub config: Config,
    /// `plan.json`.
    pub plan: Plan,
    /// `split.json`.
    pub split: Split,
    /// `policy.toml`: the policy that training began with.
    pub policy: Policy,
    /// `run.json`.
    pub manifest: Manifest,
    /// Names of the channels, by the `dataset.json` of the run.
    pub channels: Vec<String>,
    /// What the network's classes are, by the `dataset.json` of the run.
    pub labels: LabelScheme,
    /// Ending of the data set's files, with its dot.
    pub file_ending: String,
    /// How raw files of the data set were called before it was imported; `None` where it was not.
    pub pairing: Option<Pairing>,
}

impl Record {
    /// Reads the record of a run.
    ///
    /// # Errors
    /// Where there is no run, or one of its files cannot be read.
    pub fn open(run: &Run) -> Result<Self> {
        if !run.exists() {
            if let Some(all) = CrossValidation::find(&run.folder)? {
                return Err(Error::invalid(
                    &run.folder,
                    "run folder",
                    format!("this is a cross-validation of folds {}", listed(&all.folds())),
                    format!("name one of its folds, such as `{}`", all.run(all.folds()[0]).folder.display()),
                ));
            }
            return Err(Error::invalid(
                &run.folder,
                "run folder",
                "there is no config.toml of a run in it",
                "name the folder that was given to `segen train -o`",
            ));
        }
        let config = run.config()?;
        let (description, _) = Description::read(&run.path("dataset.json"))?;
        Ok(Self {
            run: run.clone(),
            plan: run.plan()?,
            split: run.read_json("split.json")?,
            policy: run.policy()?,
            manifest: run.read_json("run.json")?,
            labels: description.labels.select(&config.task.classes)?,
            channels: description.channels,
            file_ending: description.file_ending,
            pairing: description.pairing,
            config,
        })
    }

    /// Opens the run's data set, in `given` where it is no longer where the run found it, with the run's labels.
    ///
    /// # Errors
    /// Where there is none, or it cannot be used.
    pub fn dataset(&self, given: Option<&Path>) -> Result<Dataset> {
        let folder = match given {
            Some(folder) => folder,
            None if self.manifest.dataset.is_dir() => &self.manifest.dataset,
            None => {
                return Err(Error::invalid(
                    self.run.path("run.json"),
                    "dataset",
                    format!("`{}` is not a folder", self.manifest.dataset.display()),
                    "name the folder of the data set with --dataset",
                ));
            }
        };
        let mut dataset = Dataset::open(folder)?;
        // What was trained counts, whatever became of the description since.
        dataset.labels = self.labels.clone();
        Ok(dataset)
    }
}

impl Split {
    /// Validation cases that were not trained on.
    pub fn held_out(&self) -> Vec<String> {
        self.validation.iter().filter(|case| !self.train.contains(case)).cloned().collect()
    }
}

/// The cases of a list of a run's split in the data set.
///
/// # Errors
/// Where one of them is not there.
pub fn cases_of<'a>(dataset: &'a Dataset, ids: &[String]) -> Result<Vec<&'a Case>> {
    let find = |id: &String| {
        dataset.case(id).ok_or_else(|| {
            Error::invalid(
                &dataset.folder,
                id,
                "this case of the run's split is not in the data set",
                "put the case back, or train a new run on the data set as it is",
            )
        })
    };
    ids.iter().map(find).collect()
}
