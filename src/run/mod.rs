//! The run folder: what stands where, `events.jsonl`, `run.json`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::files::{Existing, Outputs, bytes_of, write_atomically};
use crate::picture::{self, Panel, Series};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::{Error, Result};

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
        let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        serde_json::from_slice(&text).map_err(|e| {
            Error::invalid(
                &path,
                "JSON",
                e.to_string(),
                "restore the file from a backup, or train the run again",
            )
        })
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

/// Appends to `events.jsonl`, one JSON object a line.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Opens the file of a run that stands at `step`: events of later steps, and a last line that was cut off,
    /// are removed.
    pub fn open(run: &Run, step: u64) -> Result<Self> {
        let path = run.path("events.jsonl");
        if path.exists() {
            let kept: String = read_events(&path)?
                .into_iter()
                .filter(|event| event["step"].as_u64().is_none_or(|s| s < step))
                .map(|event| format!("{event}\n"))
                .collect();
            write_atomically(&path, kept.as_bytes())?;
        }
        let file =
            File::options().create(true).append(true).open(&path).map_err(|e| Error::io("open", &path, e))?;
        Ok(Self { path, file })
    }

    /// Appends one event. `step` is the number of the step it belongs to, counted from 0.
    pub fn record(&mut self, event: &Value) -> Result<()> {
        self.file.write_all(format!("{event}\n").as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }
}

/// All whole events of a file, in order. A last line that is not whole is left out.
pub fn read_events(path: &Path) -> Result<Vec<Value>> {
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let mut events = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|e| Error::io("read", path, e))?;
        match serde_json::from_str(&line) {
            Ok(event) => events.push(event),
            Err(_) => break,
        }
    }
    Ok(events)
}

/// Draws `progress.png` from `events.jsonl`: loss, scores of the validation cases, time per step.
pub fn draw_progress(run: &Run, classes: &[String]) -> Result<()> {
    let events = read_events(&run.path("events.jsonl"))?;
    picture::curves(&run.path("progress.png"), &progress_panels(&events, classes))
}

/// The charts of `progress.png`.
pub(crate) fn progress_panels(events: &[Value], classes: &[String]) -> Vec<Panel> {
    let of = |kind: &str| events.iter().filter(move |e| e["event"] == kind).collect::<Vec<_>>();
    let (steps, epochs) = (of("step"), of("epoch"));
    let line = |name: &str, from: &[&Value], pointer: &str| Series {
        name: name.to_owned(),
        points: from
            .iter()
            .filter_map(|e| Some((e["step"].as_f64()?, e.pointer(pointer)?.as_f64()?)))
            .collect(),
    };
    let panel = |title: &str, y_label: &str, series: Vec<Series>| Panel {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        y_label: y_label.to_owned(),
        series,
        ..Panel::default()
    };
    let per_class = |key: &str| -> Vec<Series> {
        let foreground = classes.iter().skip(1).enumerate();
        foreground.map(|(i, name)| line(name, &epochs, &format!("/validation/{key}/{i}"))).collect()
    };
    let mut panels = vec![panel(
        "Loss",
        "loss",
        vec![line("every step", &steps, "/loss"), line("mean of an epoch", &epochs, "/train_loss")],
    )];
    for (title, key) in
        [("Validation Dice", "dice"), ("Sensitivity", "sensitivity"), ("Precision", "precision")]
    {
        panels.push(Panel { y_range: Some((0.0, 1.0)), ..panel(title, key, per_class(key)) });
    }
    panels
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
