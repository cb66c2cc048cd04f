//! The run folder: what stands where, who works in it, `run.json`, what a training says while it runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::files::{Existing, Outputs, bytes_of, write_atomically};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::{Error, Result, files};

mod curves;
pub mod events;

pub use curves::draw_progress;
pub(crate) use curves::progress_panels;
pub use events::{Event, Events, PhaseEvent, read_events};

pub mod folds;
pub mod record;
pub(crate) mod tensorboard;

mod claim;
mod data;
mod manifest;

pub use claim::{Claim, Holder};
pub use data::{Change, DataDigest};
pub use manifest::{FORMAT, Lengthened, Manifest, State};

/// A folder that holds one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
}

/// `split.json`: who was trained on and who was held out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Cases trained on, after `fraction`.
    pub train: Vec<String>,
    /// Cases held out; scored at the end.
    pub validation: Vec<String>,
    /// Of the cases that `fraction` chose, those set aside to learn or measure from; neither trained on nor scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_validation: Vec<String>,
}

impl Split {
    /// All cases that the run uses, each once.
    pub fn cases(&self) -> Vec<String> {
        let mut cases = [&self.train[..], &self.validation, &self.policy_validation].concat();
        cases.sort();
        cases.dedup();
        cases
    }
}

/// The folder of a run or sweep that is there: `given`, else the one of that name under `$nnUNet_results`.
///
/// # Errors
/// Where there is neither.
pub fn locate(given: &Path) -> Result<PathBuf> {
    let results = std::env::var_os("nnUNet_results").filter(|value| !value.is_empty()).map(PathBuf::from);
    find(given, results.as_deref())
}

fn find(given: &Path, results: Option<&Path>) -> Result<PathBuf> {
    if given.is_file() {
        let mend = "give the folder of a run; a model that was packed must be unpacked first";
        return Err(Error::invalid(given, "run", "is a file, not a folder", mend));
    }
    if given.exists() {
        return Ok(given.to_owned());
    }
    let there = results.filter(|_| given.is_relative()).map(|results| results.join(given));
    match (there, results) {
        (Some(folder), _) if folder.is_dir() => Ok(folder),
        (_, results) => {
            let fix = match results {
                Some(results) => format!("give the folder of a run, or its name in `{}`", results.display()),
                None => {
                    "give the folder of a run, or set nnUNet_results to the folder of all to use names".into()
                }
            };
            Err(Error::invalid(given, "run", "there is no such folder", fix))
        }
    }
}

impl Run {
    /// The run in `folder`, which need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// A file or folder of the run by its name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What a command that reads the run may read: its folder, and that of the data set that it was trained on.
    pub fn inputs(&self) -> Vec<PathBuf> {
        let dataset = self.read_json::<Manifest>("run.json").map(|manifest| manifest.dataset).ok();
        let dataset = dataset.filter(|folder| !folder.as_os_str().is_empty());
        std::iter::once(self.folder.clone()).chain(dataset).collect()
    }

    /// The folder of its checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path("checkpoint")
    }

    /// Whether a run has been set up here.
    pub fn exists(&self) -> bool {
        self.path("config.toml").is_file()
    }

    /// Writes a value as pretty JSON.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.path(name);
        write_atomically(&path, &json(&path, value)?)
    }

    /// Reads a JSON file of the run.
    pub fn read_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T> {
        self.check_format()?;
        let path = self.path(name);
        files::read_json(&path, "restore the file from a backup, or train the run again")
    }

    /// The resolved configuration.
    pub fn config(&self) -> Result<Config> {
        self.check_format()?;
        Config::read(&self.path("config.toml"))
    }

    /// The plan the run was trained with.
    pub fn plan(&self) -> Result<Plan> {
        self.check_format()?;
        Plan::load(&self.path("plan.json"))
    }

    /// The policy that training began with.
    pub fn policy(&self) -> Result<Policy> {
        self.check_format()?;
        Policy::read(&self.path("policy.toml"))
    }

    /// Sets the folder up: plan, split, policy, data set description and `further` files first, `config.toml` last, so
    /// that a run whose configuration is there is complete.
    pub fn set_up(
        &self,
        config: &Config,
        plan: &Plan,
        split: &Split,
        policy: &Policy,
        description: &Value,
        further: &[(&str, Value)],
    ) -> Result<()> {
        let outputs = self.vacant("train")?;
        let write = |name: &str, text: &[u8]| outputs.write(name, None, bytes_of(text)).map(drop);
        write("policy.toml", policy.to_toml().as_bytes())?;
        write("plan.json", &json(&self.path("plan.json"), plan)?)?;
        write("dataset.json", &json(&self.path("dataset.json"), description)?)?;
        write("split.json", &json(&self.path("split.json"), split)?)?;
        for (name, value) in further {
            write(name, &json(&self.path(name), value)?)?;
        }
        write("config.toml", config.to_toml().as_bytes())
    }

    /// Sees that there is room for a new run: nothing in the folder has the name of a part of a run, but for what
    /// `command` wrote itself and was stopped before the run was set up.
    ///
    /// # Errors
    /// Naming what is there.
    pub fn vacant(&self, command: &'static str) -> Result<Outputs> {
        Outputs::look(command, &self.folder, &PARTS.map(str::to_owned), &[], Existing::Keep)
    }
}

/// File of the initial weights of a run that does not draw them all.
pub const INITIAL: &str = "initial.safetensors";

/// Files and folders of a run.
const PARTS: [&str; 21] = [
    INITIAL,
    "initial.json",
    "data.json",
    "schedule.json",
    "policy.toml",
    "plan.json",
    "dataset.json",
    "split.json",
    "config.toml",
    "run.json",
    "events.jsonl",
    tensorboard::FILE,
    "progress.png",
    "result.json",
    "policy.png",
    "checkpoint",
    "model",
    "validation",
    "test",
    "train",
    "logits",
];

fn json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::io("write", path, std::io::Error::other(e)))?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_by_path_or_by_name_among_the_results() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        std::fs::create_dir_all(results.join("Dataset004/run")).unwrap();
        let named = Path::new("Dataset004/run");
        assert_eq!(find(named, Some(&results)).unwrap(), results.join(named));
        assert_eq!(find(folder.path(), Some(&results)).unwrap(), folder.path());
        std::fs::write(folder.path().join("model.tar"), "").unwrap();
        let message = find(&folder.path().join("model.tar"), None).unwrap_err().to_string();
        assert!(message.contains("unpacked first"), "{message}");
        for (given, results) in [
            (named.to_owned(), None),
            (PathBuf::from("Dataset004/other"), Some(&*results)),
            (folder.path().join("run"), Some(&*results)),
        ] {
            let message = find(&given, results).unwrap_err().to_string();
            assert!(message.contains("no such folder") && message.contains("folder of a run"), "{message}");
        }
    }
}
