//! A training run's whole state at one step, in a folder that is either complete or not there.
//!
//! `checkpoint/step-N/` holds `weights.safetensors`, `optimiser.safetensors` and `state.json`, which names size
//! and CRC-32 of the other two. It is written under a temporary name, flushed and renamed; then
//! `checkpoint/latest` (or `best`) is replaced. The checkpoint before the latest is kept; a damaged one is
//! passed over for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::control::ControlState;
use super::optimiser::OptimiserState;
use super::policy::PolicyState;
use crate::batch::Batch;
use crate::files::{create_folder, folder_beside, is_temporary, publish_folder, write_atomically};
use crate::network::transfer::Named;
use crate::network::{Parameter, Weights};
use crate::policy::Policy;
use crate::policy::learn::Learner;
use crate::{Error, Result};

/// Everything that training needs to go on as if it had never stopped. Random numbers need no state: every draw
/// is keyed by (seed, purpose, step).
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps done; the next step has this number.
    pub step: u64,
    /// What training has learned about itself so far.
    pub history: History,
    /// The network.
    pub weights: Weights,
    /// The optimiser.
    pub optimiser: OptimiserState,
}

/// The part of the state that is not an array.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Steps of the whole run, fixed when it began.
    pub planned_steps: u64,
    /// Seconds of training before this checkpoint, over all its sessions.
    pub train_seconds: f64,
    /// Best validation score (mean foreground Dice) of any epoch so far.
    pub best_score: Option<f64>,
    /// Epochs since that was reached.
    pub epochs_without_better: u64,
    /// Per class, in how many patches it was at the centre.
    pub patches_per_centre_class: Vec<u64>,
    /// Per class, voxels seen over all patches.
    pub voxels_per_class: Vec<u64>,
    /// Sum of the losses of the current epoch's steps so far.
    pub epoch_loss_sum: f64,
    /// A policy that learns, as TOML, which keeps numbers exactly; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// What follows from the gap, where methods follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlState>,
}

impl History {
    /// Before the first step of a training of so many, on so many classes.
    pub fn new(planned_steps: u64, classes: usize) -> Self {
        let none = vec![0; classes];
        Self {
            planned_steps,
            patches_per_centre_class: none.clone(),
            voxels_per_class: none,
            ..Self::default()
        }
    }

    /// Counts one more batch that was trained on with this loss.
    pub fn count(&mut self, batch: &Batch, loss: f64) {
        for &class in &batch.centre_classes {
            if let Some(count) = self.patches_per_centre_class.get_mut(usize::from(class)) {
                *count += 1;
            }
        }
        self.voxels_per_class.iter_mut().zip(&batch.class_voxels).for_each(|(sum, n)| *sum += n);
        self.epoch_loss_sum += loss;
    }

    /// Takes in the score of one more epoch, `None` where there was nothing to score. Returns whether it is better
    /// than all before it.
    pub fn rank(&mut self, score: Option<f64>) -> bool {
        let better = score.is_some() && score > self.best_score;
        if better {
            self.best_score = score;
            self.epochs_without_better = 0;
        } else {
            self.epochs_without_better += 1;
        }
        better
    }

    /// The state of the policy, where one learns.
    ///
    /// # Errors
    /// Where it is damaged or belongs to another policy.
    pub fn policy_state(&self, policy: &Policy) -> Result<Option<PolicyState>> {
        if self.policy.is_empty() {
            return Ok(None);
        }
        let wrong = |problem: String| {
            Error::config("checkpoint: policy", problem, "use an earlier checkpoint of the same run")
        };
        let state: PolicyState = toml::from_str(&self.policy).map_err(|e| wrong(e.to_string()))?;
        let learner = &state.learner;
        let mut logits = std::iter::once(&learner.logits).chain(state.snapshots.iter().map(|s| &s.logits));
        let fits = logits.all(|array| array.len() == policy.len()) && !state.snapshots.is_empty();
        drop(logits);
        if !fits || learner.first.len() != learner.second.len() {
            return Err(wrong(format!("it does not fit the {} choices of policy.toml", policy.len())));
        }
        Ok(Some(state))
    }

    /// The learner of [`Self::policy_state`].
    ///
    /// # Errors
    /// As there.
    pub fn learner(&self, policy: &Policy) -> Result<Option<Learner>> {
        Ok(self.policy_state(policy)?.map(|state| state.learner))
    }
}

/// `state.json`.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    step: u64,
    optimiser_steps: u64,
    history: History,
    /// Parameter names in module order; safetensors files sort by name.
    parameters: Vec<String>,
    /// Names of running statistics, which lie beside the parameters in the file of weights.
    #[serde(default)]
    buffers: Vec<String>,
    weights: FileSum,
    optimiser: FileSum,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileSum {
    bytes: u64,
    crc32: u32,
}

const FORMAT: u32 = 1;
const WEIGHTS: &str = "weights.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
const STATE: &str = "state.json";

impl FileSum {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) }
    }
}

/// Which one-line pointer to set or follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// The last one written.
    Latest,
    /// The one with the best validation score.
    Best,
}

impl Pointer {
    const fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Best => "best",
        }
    }
}

impl Checkpoint {
    /// Writes the checkpoint into `folder` (a run's `checkpoint/`) and sets the pointers. Older ones that no
    /// pointer names are removed, except the one before.
    pub fn write(&self, folder: &Path, pointers: &[Pointer]) -> Result<()> {
        create_folder(folder)?;
        let previous = read_pointer(folder, Pointer::Latest);
        let name = format!("step-{}", self.step);
        let place = folder.join(&name);
        if !place.is_dir() || Self::read(&place).is_err() {
            let aside = folder_beside(&place)?;
            let write = |file: &str, bytes: &[u8]| write_atomically(&aside.path().join(file), bytes);
            let Weights { parameters, buffers } = &self.weights;
            let weights = encode_weights(&self.weights);
            let slots = [("first", &self.optimiser.first), ("second", &self.optimiser.second)];
            let optimiser = encode(slots.into_iter().flat_map(|(slot, arrays)| {
                let named = self.weights.parameters.iter().zip(arrays);
                named.map(move |(p, values)| (format!("{slot}/{}", p.name), p.shape.clone(), values))
            }));
            let state = State {
                format: FORMAT,
                step: self.step,
                optimiser_steps: self.optimiser.steps,
                history: self.history.clone(),
                parameters: parameters.iter().map(|p| p.name.clone()).collect(),
                buffers: buffers.iter().map(|b| b.name.clone()).collect(),
                weights: FileSum::of(&weights),
                optimiser: FileSum::of(&optimiser),
            };
            write(WEIGHTS, &weights)?;
            write(OPTIMISER, &optimiser)?;
            let text = serde_json::to_vec_pretty(&state)
                .map_err(|e| Error::io("write", place.join(STATE), std::io::Error::other(e)))?;
            write(STATE, &text)?;
            if place.exists() {
                // A damaged leftover of the same step.
                std::fs::remove_dir_all(&place).map_err(|e| Error::io("remove", &place, e))?;
            }
            publish_folder(aside, &place)?;
        }
        for pointer in pointers {
            write_atomically(&folder.join(pointer.name()), format!("{name}\n").as_bytes())?;
        }
        let best = read_pointer(folder, Pointer::Best);
        let latest = read_pointer(folder, Pointer::Latest);
        // Whoever was killed while it wrote one left it half done under another name.
        for left in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if is_temporary(&left.file_name().to_string_lossy()) {
                let _ = std::fs::remove_dir_all(left.path());
            }
        }
        for (_, old) in steps(folder) {
            let old_name = old.file_name().map(|n| n.to_string_lossy().into_owned());
            let kept = [&Some(name.clone()), &previous, &best, &latest].contains(&&old_name);
            if !kept {
                // Only space is lost where an old checkpoint cannot be removed.
                let _ = std::fs::remove_dir_all(&old);
            }
        }
        Ok(())
    }

    /// Reads one `step-N` folder, verifying sizes and checksums.
    pub fn read(place: &Path) -> Result<Self> {
        let path = place.join(STATE);
        let damaged = |path: &Path, problem: String| {
            Error::invalid(path, "checkpoint", problem, "use an earlier checkpoint of the same run")
        };
        let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let state: State = serde_json::from_slice(&text).map_err(|e| damaged(&path, e.to_string()))?;
        if state.format != FORMAT {
            return Err(damaged(&path, format!("format {} is not known here", state.format)));
        }
        let load = |name: &str, sum: &FileSum| {
            let path = place.join(name);
            let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
            if FileSum::of(&bytes) != *sum {
                return Err(damaged(&path, "size or checksum differs from state.json".to_owned()));
            }
            decode(&path, &bytes)
        };
        let mut weights = load(WEIGHTS, &state.weights)?;
        let mut slots = load(OPTIMISER, &state.optimiser)?;
        let mut take = |name: &String| {
            let missing = || damaged(&place.join(WEIGHTS), format!("`{name}` is missing"));
            weights.remove(name).ok_or_else(missing)
        };
        let mut parameters = Vec::new();
        let buffers = state.buffers.iter().map(&mut take).collect::<Result<Vec<_>>>()?;
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for name in &state.parameters {
            parameters.push(take(name)?);
            first.extend(slots.remove(&format!("first/{name}")).map(|p| p.values));
            second.extend(slots.remove(&format!("second/{name}")).map(|p| p.values));
        }
        let whole = |slot: &Vec<Vec<f32>>| slot.len() == parameters.len();
        if !whole(&first) || !(second.is_empty() || whole(&second)) {
            return Err(damaged(&place.join(OPTIMISER), "arrays are missing".to_owned()));
        }
        let weights = Weights { parameters, buffers };
        let optimiser = OptimiserState { steps: state.optimiser_steps, first, second };
        Ok(Self { step: state.step, history: state.history, weights, optimiser })
    }

    /// The newest checkpoint of `folder` that can be read, and what had to be passed over. `None` where there
    /// is none at all.
    pub fn latest(folder: &Path) -> Result<Option<(Self, Vec<Error>)>> {
        let mut places: Vec<PathBuf> = steps(folder).into_iter().map(|(_, place)| place).collect();
        if let Some(name) = read_pointer(folder, Pointer::Latest) {
            // The pointer goes first; newer folders than it names are complete too, and come before it.
            if !places.contains(&folder.join(&name)) {
                places.push(folder.join(name));
            }
        }
        let mut passed = Vec::new();
        for place in &places {
            match Self::read(place) {
                Ok(checkpoint) => return Ok(Some((checkpoint, passed))),
                Err(error) => passed.push(error),
            }
        }
        match passed.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// The checkpoint that a pointer names.
    pub fn pointed(folder: &Path, pointer: Pointer) -> Result<Self> {
        match read_pointer(folder, pointer) {
            Some(name) => Self::read(&folder.join(name)),
            None => Err(Error::invalid(
                folder.join(pointer.name()),
                "checkpoint",
                "there is none",
                "train the run until its first checkpoint",
            )),
        }
    }
}

/// The checkpoints of a folder, newest first; damaged ones too.
pub(crate) fn steps(folder: &Path) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
            Some((step, entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

fn read_pointer(folder: &Path, pointer: Pointer) -> Option<String> {
    let name = std::fs::read_to_string(folder.join(pointer.name())).ok()?.trim().to_owned();
    // A pointer is a plain name; anything else in the file is not followed.
    (name.starts_with("step-") && !name.contains(['/', '\\'])).then_some(name)
}

/// The bytes of a file of weights.
pub(crate) fn encode_weights(weights: &Weights) -> Vec<u8> {
    let all = weights.parameters.iter().chain(&weights.buffers);
    encode(all.map(|p| (p.name.clone(), p.shape.clone(), &p.values)))
}

/// Reads a file of weights.
///
/// # Errors
/// Where it cannot be read or is none.
pub(crate) fn read_weights(path: &Path) -> Result<Named> {
    decode(path, &std::fs::read(path).map_err(|e| Error::io("read", path, e))?)
}

pub(super) fn encode<'a>(arrays: impl Iterator<Item = (String, Vec<usize>, &'a Vec<f32>)>) -> Vec<u8> {
    let arrays: Vec<(String, Vec<usize>, Vec<u8>)> =
        arrays.map(|(n, s, v)| (n, s, v.iter().flat_map(|f| f.to_le_bytes()).collect())).collect();
    let views =
        arrays.iter().map(|(name, shape, bytes)| match TensorView::new(Dtype::F32, shape.clone(), bytes) {
            Ok(view) => (name.as_str(), view),
            Err(error) => panic!("`{name}`: shape and length disagree: {error}"),
        });
    match safetensors::serialize(views, None) {
        Ok(bytes) => bytes,
        Err(error) => panic!("plain arrays serialise: {error}"),
    }
}

pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Named> {
    let bad = |problem: String| {
        Error::invalid(path, "safetensors", problem, "use the weights of another checkpoint")
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
    let mut parameters = HashMap::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(bad(format!("`{name}` is {:?}, not F32", view.dtype())));
        }
        let values =
            view.data().chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        parameters.insert(name.clone(), Parameter { name, shape: view.shape().to_vec(), values });
    }
    Ok(parameters)
}
