//! `run.json`: with what a run was trained, how long, how it ended.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::{Error, Result};

/// The form of run folders that this version writes. It reads those with a smaller number, 0 where there is none (0.1.0),
/// and refuses those with a larger one.
pub const FORMAT: u32 = 1;

/// `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Form of the run folder, [`FORMAT`].
    #[serde(default)]
    pub format: u32,
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
    /// Whether it goes on, and how it ended.
    pub state: State,
    /// Folder of the data set, absolute.
    #[serde(default)]
    pub dataset: PathBuf,
    /// Folder of the prepared samples, absolute.
    #[serde(default)]
    pub cache: PathBuf,
    /// Share of the epochs at whose end methods that follow a gap had their greatest strength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_clamped: Option<f64>,
    /// The times that it was lengthened after it had finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lengthened: Vec<Lengthened>,
    /// Faults and changes of the data that `--anyway` went on with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
}

/// A run that had finished and was to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengthened {
    /// Steps that it had done.
    pub from: u64,
    /// Steps that it was to do in all.
    pub to: u64,
}

/// How a run stands; in `run.json` as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum State {
    /// `running`: at work, or ended by force.
    #[default]
    Running,
    /// `finished`: trained to the last step and scored.
    Finished,
    /// `stopped early`: trained until there was no better epoch for long enough, and scored.
    StoppedEarly,
    /// `stopped`: by a signal, to be resumed.
    Stopped,
    /// `failed: ...`: by this error.
    Failed(String),
}

impl State {
    /// Whether the run is trained and scored.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Finished | Self::StoppedEarly)
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => out.write_str("running"),
            Self::Finished => out.write_str("finished"),
            Self::StoppedEarly => out.write_str("stopped early"),
            Self::Stopped => out.write_str("stopped"),
            Self::Failed(error) => write!(out, "failed: {error}"),
        }
    }
}

impl From<State> for String {
    fn from(state: State) -> Self {
        state.to_string()
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "running" => Ok(Self::Running),
            "finished" => Ok(Self::Finished),
            "stopped early" => Ok(Self::StoppedEarly),
            "stopped" => Ok(Self::Stopped),
            _ => match text.strip_prefix("failed: ") {
                Some(error) => Ok(Self::Failed(error.to_owned())),
                None => Err(format!("`{text}` is no state of a run")),
            },
        }
    }
}

impl TryFrom<String> for State {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl Run {
    /// `run.json`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn manifest(&self) -> Result<Manifest> {
        self.read_json("run.json")
    }

    /// Refuses a run folder that a later version has written in a form of its own, before any other file of it is read.
    pub(super) fn check_format(&self) -> Result<()> {
        #[derive(Deserialize)]
        struct Origin {
            #[serde(default)]
            format: u32,
            #[serde(default)]
            version: String,
        }
        let path = self.path("run.json");
        // Where there is no such file or it is damaged, whoever needs it says so.
        let Some(origin) =
            std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Origin>(&text).ok())
        else {
            return Ok(());
        };
        if origin.format <= FORMAT {
            return Ok(());
        }
        let wrote = if origin.version.is_empty() { "a later version" } else { &origin.version };
        Err(Error::invalid(
            path,
            "format",
            format!(
                "{}, written by segen {wrote}; this is segen {}, which reads formats up to {FORMAT}",
                origin.format,
                env!("CARGO_PKG_VERSION")
            ),
            format!("use segen {wrote}, or a later one, for this run"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_as_they_are_written() {
        let states = [
            State::Running,
            State::Finished,
            State::StoppedEarly,
            State::Stopped,
            State::Failed("`x`: missing\nhint: look".into()),
        ];
        for state in states {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state, "{text}");
        }
        assert!(serde_json::from_str::<State>("\"paused\"").is_err());
    }

    #[test]
    fn a_run_without_a_number_is_read_and_one_of_a_later_format_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::at(folder.path());
        let mut manifest = serde_json::to_value(Manifest::default()).unwrap();
        manifest.as_object_mut().unwrap().remove("format");
        run.write_json("run.json", &manifest).unwrap();
        assert_eq!(run.manifest().unwrap().format, 0);
        // Whatever else is in it.
        let later = serde_json::json!({"format": FORMAT + 1, "version": "9.8.7", "state": {"new": true}});
        run.write_json("run.json", &later).unwrap();
        for error in [run.manifest().unwrap_err(), run.config().unwrap_err(), run.plan().unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains("9.8.7") && error.contains(env!("CARGO_PKG_VERSION")), "{error}");
        }
    }
}
