//! A model: a run folder that holds what prediction needs and nothing else, in one form for every machine.
//!
//! ```text
//! config.toml plan.json policy.toml dataset.json run.json split.json [post.json operating.json]   as in a run
//! weights.safetensors model.json                                            instead of checkpoints
//! README.md [LICENCE]                                                       for people
//! SHA256SUMS                                                                the sum of each of them
//! ```
//!
//! Commands that open a run for prediction open a model by the same path.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checkpoint::{decode, encode};
use crate::files::{self, sha256};
use crate::network::Weights;
use crate::run::Run;
use crate::{Error, Result};

/// What marks a model among runs.
const MARK: &str = "model.json";
/// The weights.
const WEIGHTS: &str = "weights.safetensors";
/// The sums of all files, as `sha256sum -c` reads them.
const SUMS: &str = "SHA256SUMS";
/// Files for people, which may be changed.
pub const FOR_PEOPLE: [&str; 2] = ["README.md", "LICENCE"];
/// Files that must be whole.
const NEEDED: [&str; 8] =
    [MARK, WEIGHTS, "config.toml", "plan.json", "policy.toml", "dataset.json", "run.json", "split.json"];
/// Files that may be missing.
const OPTIONAL: [&str; 2] = ["post.json", "operating.json"];

const FORMAT: u32 = 1;

/// `model.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// Form of the folder.
    format: u32,
    /// Version of the program that wrote it.
    segen: String,
    /// Optimiser steps that the weights had.
    steps: u64,
    /// Names in module order: safetensors files sort by name.
    parameters: Vec<String>,
    /// Names of running statistics.
    buffers: Vec<String>,
}

/// Whether the folder of a run is that of a model.
pub fn is_model(run: &Run) -> bool {
    run.path(MARK).is_file()
}

/// Refuses a model where `what` of a run is needed, which it does not have.
///
/// # Errors
/// Where the run is a model.
pub fn refuse(run: &Run, what: &str) -> Result<()> {
    if is_model(run) { Err(lacks(run, what)) } else { Ok(()) }
}

/// The error of a model that has no `what`.
pub fn lacks(run: &Run, what: &str) -> Error {
    Error::invalid(
        &run.folder,
        "run folder",
        format!("is an exported model, which predicts and has no {what}"),
        "give the folder of the run that it was exported from",
    )
}

/// The files of the weights and what says how to read them.
pub fn weight_files(weights: &Weights, steps: u64) -> [(&'static str, Vec<u8>); 2] {
    let Weights { parameters, buffers } = weights;
    let arrays = parameters.iter().chain(buffers);
    let mark = Mark {
        format: FORMAT,
        segen: env!("CARGO_PKG_VERSION").to_owned(),
        steps,
        parameters: parameters.iter().map(|part| part.name.clone()).collect(),
        buffers: buffers.iter().map(|part| part.name.clone()).collect(),
    };
    let mark = format!("{:#}\n", serde_json::json!(mark)).into_bytes();
    [
        (WEIGHTS, encode(arrays.map(|part| (part.name.clone(), part.shape.clone(), &part.values)))),
        (MARK, mark),
    ]
}

/// `SHA256SUMS` for files of these names and contents.
pub fn sums<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> (&'static str, String) {
    (SUMS, files.into_iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect())
}

/// Makes sure that every file of a model that a prediction reads is as it was written. Of a run there is nothing to check.
///
/// # Errors
/// Where one is missing, is not listed, or has another sum.
pub fn check(run: &Run) -> Result<()> {
    if !is_model(run) {
        return Ok(());
    }
    const MEND: &str = "copy the model again from where it came from, with all of its files";
    let path = run.path(SUMS);
    let text = files::read_text(&path)?;
    let listed: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once("  ")).collect();
    for name in NEEDED.iter().chain(&OPTIONAL) {
        let sum = listed.iter().find(|(_, file)| file == name).map(|(sum, _)| *sum);
        let file = run.path(name);
        match (sum, file.is_file()) {
            (None, false) if OPTIONAL.contains(name) => {}
            (None, _) => return Err(Error::invalid(&path, *name, "the file is not listed", MEND)),
            (Some(_), false) => return Err(Error::invalid(&file, "model", "the file is missing", MEND)),
            (Some(sum), true) => {
                let bytes = read(&file)?;
                if sha256(&bytes) != sum {
                    let problem = format!("is damaged or was changed: its sum is not that in {SUMS}");
                    return Err(Error::invalid(&file, "SHA-256", problem, MEND));
                }
            }
        }
    }
    Ok(())
}

/// The weights of a model, and the optimiser steps that they had.
///
/// # Errors
/// Where it was written by a later version, or does not hold what it says.
pub fn read_weights(run: &Run) -> Result<(Weights, u64)> {
    let mark: Mark = files::read_json(&run.path(MARK), "copy the model again from where it came from")?;
    if mark.format > FORMAT {
        return Err(Error::invalid(
            run.path(MARK),
            "format",
            format!("is {}, of segen {}; this version reads up to {FORMAT}", mark.format, mark.segen),
            "use that version of segen, or a later one",
        ));
    }
    let path = run.path(WEIGHTS);
    let mut arrays = decode(&path, &read(&path)?)?;
    let mut take = |name: &String| {
        let missing = || {
            let problem = format!("`{name}`, which model.json lists, is missing");
            Error::invalid(&path, "weights", problem, "export the run again")
        };
        arrays.remove(name).ok_or_else(missing)
    };
    let parameters = mark.parameters.iter().map(&mut take).collect::<Result<_>>()?;
    let buffers = mark.buffers.iter().map(&mut take).collect::<Result<_>>()?;
    Ok((Weights { parameters, buffers }, mark.steps))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io("read", path, error))
}
