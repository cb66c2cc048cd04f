//! The run folder: what stands where, `run.json`, what a training says while it runs.

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
pub use events::{Event, Events, read_events};

pub mod record;

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
    /// Cases set aside for the policy to learn from, before `fraction`; neither trained on nor scored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_validation: Vec<String>,
}

/// `run.json`: with what, how long, how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this program.
    pub version: String,
    /// Processor as the system names it.
    pub processor: String,
    /// Cores used.
    pub threads: usize,
    /// CPU operators used.
    pub kernels_path: String,
    /// Steps planned for the whole run.
    pub planned_steps: u64,
    /// Steps done.
    pub steps: u64,
    /// Seconds of training, over all sessions of the run.
    pub train_seconds: f64,
    /// Seconds of this session, everything included.
    pub wall_seconds: f64,
    /// Largest resident memory of this session.
    pub peak_memory_bytes: u64,
    /// `running`, `finished`, `stopped early` or `failed: ...`.
    pub state: String,
    /// Folder of the data set, absolute.
    #[serde(default)]
    pub dataset: PathBuf,
    /// Folder of the prepared samples, absolute.
    #[serde(default)]
    pub cache: PathBuf,
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
        let path = self.path(name);
        files::read_json(&path, "restore the file from a backup, or train the run again")
    }

    /// The resolved configuration.
    pub fn config(&self) -> Result<Config> {
        Config::read(&self.path("config.toml"))
    }

    /// The plan the run was trained with.
    pub fn plan(&self) -> Result<Plan> {
        Plan::load(&self.path("plan.json"))
    }

    /// The policy that training began with.
    pub fn policy(&self) -> Result<Policy> {
        Policy::read(&self.path("policy.toml"))
    }

    /// Sets the folder up: plan, split, policy and data set description first, `config.toml` last, so that a
    /// run whose configuration is there is complete.
    pub fn set_up(
        &self,
        config: &Config,
        plan: &Plan,
        split: &Split,
        policy: &Policy,
        description: &Value,
    ) -> Result<()> {
        let outputs = self.vacant("train")?;
        let write = |name: &str, text: &[u8]| outputs.write(name, None, bytes_of(text)).map(drop);
        write("policy.toml", policy.to_toml().as_bytes())?;
        write("plan.json", &json(&self.path("plan.json"), plan)?)?;
        write("dataset.json", &json(&self.path("dataset.json"), description)?)?;
        write("split.json", &json(&self.path("split.json"), split)?)?;
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

/// Files and folders of a run.
const PARTS: [&str; 15] = [
    "policy.toml",
    "plan.json",
    "dataset.json",
    "split.json",
    "config.toml",
    "run.json",
    "events.jsonl",
    "progress.png",
    "result.json",
    "policy.png",
    "checkpoint",
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

/// What the system says of this process and machine; empty or 0 where it says nothing.
pub mod machine {
    /// Largest resident memory of this process so far, bytes.
    pub fn peak_memory_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    }

    /// Processor name.
    pub fn processor() -> String {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name"));
        name.map(|n| n.trim_start_matches([' ', '\t', ':']).to_owned()).unwrap_or_default()
    }

    /// Memory of the machine that is free for a new task, bytes.
    pub fn available_memory_bytes() -> u64 {
        let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    }
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
