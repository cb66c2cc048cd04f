//! `events.jsonl`: what happens during a training, one JSON object a line.
//!
//! A line is written once and never changed, so that a reader may follow the file while it grows. `event` says
//! what it is about, `step` is the number of the step it belongs to, counted from 0.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Run;
use super::tensorboard::EventFile;
use crate::files::write_atomically;
use crate::{Error, Result};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A step was done.
    Step(StepEvent),
    /// An epoch was done.
    Epoch(EpochEvent),
    /// The shift of the logits was measured, after an epoch.
    Logits(LogitsEvent),
    /// The probabilities of a policy that learns, after some of its updates.
    Policy(PolicyEvent),
    /// A phase of a fit was done.
    Phase(PhaseEvent),
    /// How strongly methods act in the next epoch, where they follow a gap.
    Control(ControlEvent),
}

/// A step: its losses, its length and what it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Its number.
    pub step: u64,
    /// What was minimised, on the batch as the policy made it.
    pub loss: f64,
    /// The cross-entropy's part of it, not weighted.
    pub cross_entropy: f64,
    /// The Dice's part of it, not weighted.
    pub dice_loss: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// L2 norm of the gradient before it was shortened.
    pub gradient_norm: Option<f64>,
    /// Numbers of the method's further passes, under names that begin with that of the pass: `adversarial_loss`,
    /// `mixup_loss`, `mixup_share`.
    #[serde(flatten)]
    pub passes: BTreeMap<String, Option<f64>>,
    /// What it took.
    pub seconds: StepSeconds,
}

/// A phase of a fit, of a method that is not trained by steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseEvent {
    /// Its place among the phases, from 0.
    pub step: u64,
    /// Its name.
    pub phase: String,
    /// What it took.
    pub seconds: f64,
}

/// Seconds that the parts of a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepSeconds {
    /// Waiting for the batch.
    pub wait: f64,
    /// Forward passes.
    pub forward: f64,
    /// Backward passes.
    pub backward: f64,
    /// Optimiser steps.
    pub update: f64,
    /// The policy's update.
    #[serde(default)]
    pub policy: f64,
}

/// An epoch: its mean loss, and how the network does on held-out cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochEvent {
    /// The epoch's last step.
    pub step: u64,
    /// Its number, counted from 0.
    pub epoch: u64,
    /// Mean loss of its steps.
    pub train_loss: f64,
    /// Scores of some of the validation cases.
    #[serde(default)]
    pub validation: ValidationScores,
    /// What has been trained on since the first step.
    #[serde(default)]
    pub seen: SeenVoxels,
    /// Share of the epoch's time that was spent waiting for batches.
    #[serde(default)]
    pub share_waiting_on_data: f64,
}

/// Scores over all voxels of some validation cases; per foreground class, `None` where a score is not defined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValidationScores {
    /// Mean over the classes that have a Dice.
    pub mean_dice: Option<f64>,
    /// 2 TP / (2 TP + FP + FN).
    pub dice: Vec<Option<f64>>,
    /// TP / (TP + FN).
    pub sensitivity: Vec<Option<f64>>,
    /// TP / (TP + FP).
    pub precision: Vec<Option<f64>>,
    /// Names of the cases.
    pub cases: Vec<String>,
    /// What it took.
    pub seconds: f64,
}

/// How much of each class was trained on, background first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenVoxels {
    /// Patches centred on a voxel of the class.
    pub patches_per_centre_class: Vec<u64>,
    /// Voxels of the class in all patches.
    pub voxels_per_class: Vec<u64>,
}

/// How far the logits of unseen voxels have shifted from those of seen ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogitsEvent {
    /// The step after which it was measured.
    pub step: u64,
    /// The rates of both kinds of voxels.
    #[serde(flatten)]
    pub shift: LogitShift,
    /// What measuring took.
    pub seconds: f64,
}

/// Rates of the classes, background first, on voxels of both kinds of cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogitShift {
    /// On training cases.
    pub seen: Vec<Rate>,
    /// On validation cases.
    pub unseen: Vec<Rate>,
}

/// Crossing rate and mean margin of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Share of voxels with a margin below 0.
    pub crossing: Option<f64>,
    /// Mean margin.
    pub margin: Option<f64>,
    /// Voxels measured.
    pub voxels: usize,
}

/// A policy after an update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyEvent {
    /// The step at which it was updated.
    pub step: u64,
    /// Updates so far.
    pub updates: u64,
    /// Loss of the policy's validation batch after the look-ahead step.
    pub validation_loss: f64,
    /// Of all choices, in the order target, group, choice, to six digits.
    pub probabilities: Vec<f64>,
}

/// The gap after an epoch, and what follows from it. Gaps and strengths have six digits, which JSON keeps exactly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControlEvent {
    /// The step after which it was measured.
    pub step: u64,
    /// On training cases and on set-aside ones; empty where a schedule is replayed.
    #[serde(flatten)]
    pub shift: LogitShift,
    /// Per class, background first, the gap of this epoch; `None` where it was not measured, and for common classes.
    pub gap: Vec<Option<f64>>,
    /// The smoothed gap, 0 for common classes.
    pub smoothed: Vec<f64>,
    /// What acts from the next step on.
    #[serde(flatten)]
    pub strength: Strength,
    /// Whether a class had reached the greatest strength.
    pub clamped: bool,
    /// What measuring took.
    pub seconds: f64,
}

/// How strongly methods act.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strength {
    /// Margin of every class, background first.
    pub margin: Vec<f64>,
    /// Focal exponent of the common classes.
    pub gamma: f64,
    /// Probability of every further pass of a step.
    pub passes: f64,
}

/// Appends to `events.jsonl`.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
    tensorboard: Option<EventFile>,
}

/// All that a resumed run must know of a line.
#[derive(Deserialize)]
struct Line {
    step: Option<u64>,
}

impl Events {
    /// Opens the file of a run that stands at `step`: events of later steps, and a last line that was cut off,
    /// are removed.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(run: &Run, step: u64) -> Result<Self> {
        let path = run.path("events.jsonl");
        if path.exists() {
            let mut kept = String::new();
            for (text, line) in whole_lines::<Line>(&path)? {
                if line.step.is_none_or(|s| s < step) {
                    // The text as it is: what this version does not know, another one wrote and may read.
                    kept.push_str(&text);
                    kept.push('\n');
                }
            }
            write_atomically(&path, kept.as_bytes())?;
        }
        let file =
            File::options().create(true).append(true).open(&path).map_err(|e| Error::io("open", &path, e))?;
        Ok(Self { path, file, tensorboard: None })
    }

    /// Writes the same for TensorBoard, with what the file holds already; `classes` are the names of the classes,
    /// background first.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn with_tensorboard(mut self, run: &Run, classes: &[String]) -> Result<Self> {
        self.tensorboard = Some(EventFile::open(run, &read_events(&self.path)?, classes)?);
        Ok(self)
    }

    /// Appends one event.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn record(&mut self, event: &Event) -> Result<()> {
        let line = serde_json::to_string(event)
            .unwrap_or_else(|error| unreachable!("an event is plain data with text for keys: {error}"));
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| Error::io("write", &self.path, e))?;
        match &mut self.tensorboard {
            Some(file) => file.record(event),
            None => Ok(()),
        }
    }
}

/// All events of a file, in order. A last line that is not whole is left out, and so are events of kinds that this
/// version does not know.
///
/// # Errors
/// Where the file cannot be read.
pub fn read_events(path: &Path) -> Result<Vec<Event>> {
    let lines = whole_lines::<serde_json::Value>(path)?;
    Ok(lines.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok()).collect())
}

/// The lines of a file up to the first that is not whole, each as text and as what it says.
fn whole_lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<(String, T)>> {
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let mut lines = Vec::new();
    for text in BufReader::new(file).lines() {
        let text = text.map_err(|e| Error::io("read", path, e))?;
        let Ok(line) = serde_json::from_str(&text) else { break };
        lines.push((text, line));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of runs of earlier versions.
    const EARLIER: &str = concat!(
        r#"{"event":"step","step":3,"loss":1.5,"cross_entropy":0.5,"dice_loss":1.0,"learning_rate":0.01,"#,
        r#""gradient_norm":2.5,"adversarial_loss":1.75,"mixup_loss":null,"mixup_share":null,"#,
        r#""seconds":{"wait":0.1,"forward":0.2,"backward":0.3,"update":0.4,"policy":0.5}}"#,
        "\n",
        r#"{"event":"epoch","step":3,"epoch":0,"train_loss":1.25,"validation":{"mean_dice":null,"#,
        r#""dice":[null,0.5],"sensitivity":[0.25,1.0],"precision":[null,0.5],"cases":["a"],"seconds":0.5},"#,
        r#""seen":{"patches_per_centre_class":[7,1],"voxels_per_class":[100,20]},"share_waiting_on_data":0.01}"#,
        "\n",
        r#"{"event":"logits","step":3,"seen":[{"crossing":0.5,"margin":null,"voxels":64}],"unseen":[],"seconds":2.0}"#,
        "\n",
        r#"{"event":"policy","step":4,"updates":1,"validation_loss":0.75,"probabilities":[0.25,0.75]}"#,
        "\n",
        r#"{"event":"weather","step":5,"rain":true}"#,
        "\n",
        r#"{"event":"step","st"#,
    );

    #[test]
    fn lines_of_earlier_versions_are_read_and_written_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::at(folder.path());
        let path = run.path("events.jsonl");
        std::fs::write(&path, EARLIER).unwrap();
        let read = read_events(&path).unwrap();
        assert_eq!(read.len(), 4, "neither the unknown event nor the line that was cut off: {read:?}");
        for (event, line) in read.iter().zip(EARLIER.lines()) {
            let written: serde_json::Value = serde_json::to_value(event).unwrap();
            assert_eq!(written, serde_json::from_str::<serde_json::Value>(line).unwrap());
        }
        let Event::Step(step) = &read[0] else { panic!("{:?}", read[0]) };
        assert_eq!((step.passes["adversarial_loss"], step.passes["mixup_share"]), (Some(1.75), None));
        assert_eq!(serde_json::to_string(&read[3]).unwrap(), EARLIER.lines().nth(3).unwrap());

        // A run that goes on from step 4 keeps what came before it, letter by letter.
        let mut events = Events::open(&run, 4).unwrap();
        events.record(&read[3]).unwrap();
        let kept: Vec<&str> = EARLIER.lines().take(4).collect();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", kept.join("\n")));
    }

    #[test]
    fn the_page_on_loggers_names_events_and_fields_that_there_are() {
        let page = include_str!("../../docs/loggers.md");
        let events = [Event::Step(StepEvent::default()), Event::Epoch(EpochEvent::default())];
        let events = events.map(|event| serde_json::to_value(event).unwrap());
        let mut found = Vec::new();
        // event["validation"]["mean_dice"] is a path in one of them.
        for path in page.split("event[\"").skip(1) {
            let path = path.split("\"]").take_while(|part| !part.contains([' ', ',', '\n', ')', '}']));
            let path: Vec<&str> = path.map(|part| part.trim_start_matches("[\"")).collect();
            let there =
                |event: &&serde_json::Value| path.iter().try_fold(*event, |at, key| at.get(key)).is_some();
            assert!(events.iter().any(|event| there(&event)), "{path:?}");
            found.push(path.join("."));
        }
        for path in ["event", "step", "train_loss", "validation.mean_dice"] {
            assert!(found.iter().any(|known| known == path), "{path}: {found:?}");
        }
        for name in page.split("event[\"event\"] == \"").skip(1) {
            let name = name.split('"').next().unwrap();
            assert!(events.iter().any(|event| event["event"] == name), "{name}");
        }
        let keys = page.split("for key in (").nth(1).unwrap().split(')').next().unwrap();
        for key in keys.split(", ").map(|key| key.trim_matches('"')) {
            assert!(events[0][key].is_number(), "{key}");
        }
    }
}
