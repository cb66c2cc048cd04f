//! A model: a run folder that holds what prediction needs and nothing else, in one form for every machine.
//!
//! ```text
//! config.toml plan.json policy.toml dataset.json run.json split.json [post.json operating.json]   as in a run
//! weights.safetensors model.json                                            instead of checkpoints
//! README.md [LICENCE]                                                       for people
//! SHA256SUMS                                                                the sum of each of them
//! ```
//!
//! The model of a cross-validation is a folder of such models:
//!
//! ```text
//! folds.json [post.json operating.json]                                     as in a cross-validation
//! fold-0/ fold-1/ ...                                                       models, without files for people
//! model.json README.md [LICENCE] SHA256SUMS                                 as above; the sums are those of all files
//! ```
//!
//! Commands that open a run for prediction open a model by the same path.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::checkpoint::{decode, encode};
use crate::files::{self, sha256};
use crate::network::Weights;
use crate::run::Run;
use crate::run::folds::CrossValidation;
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
/// Those of a model of several folds, beside the sums of each.
const NEEDED_OF_FOLDS: [&str; 2] = [MARK, CrossValidation::FILE];
/// Files that may be missing.
const OPTIONAL: [&str; 2] = ["post.json", "operating.json"];

const FORMAT: u32 = 1;
const COPY_AGAIN: &str = "copy the model again from where it came from, with all of its files";

/// `model.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// Form of the folder.
    format: u32,
    /// Version of the program that wrote it.
    segen: String,
    #[serde(flatten)]
    holds: Holds,
}

/// What a model is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Holds {
    /// One network.
    Network {
        /// Optimiser steps that the weights had.
        steps: u64,
        /// Names in module order: safetensors files sort by name.
        parameters: Vec<String>,
        /// Names of running statistics.
        buffers: Vec<String>,
    },
    /// Those of a cross-validation.
    Folds {
        /// Their numbers.
        folds: Vec<usize>,
    },
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
    let holds = Holds::Network {
        steps,
        parameters: parameters.iter().map(|part| part.name.clone()).collect(),
        buffers: buffers.iter().map(|part| part.name.clone()).collect(),
    };
    [(WEIGHTS, encode(arrays.map(|part| (part.name.clone(), part.shape.clone(), &part.values)))), mark(holds)]
}

/// The file that marks a model of several folds.
pub fn mark_of_folds(folds: Vec<usize>) -> (&'static str, Vec<u8>) {
    mark(Holds::Folds { folds })
}

fn mark(holds: Holds) -> (&'static str, Vec<u8>) {
    let mark = Mark { format: FORMAT, segen: env!("CARGO_PKG_VERSION").to_owned(), holds };
    (MARK, format!("{:#}\n", serde_json::json!(mark)).into_bytes())
}

fn read_mark(run: &Run) -> Result<Holds> {
    let mark: Mark = files::read_json(&run.path(MARK), "copy the model again from where it came from")?;
    match mark.format > FORMAT {
        false => Ok(mark.holds),
        true => Err(Error::invalid(
            run.path(MARK),
            "format",
            format!("is {}, of segen {}; this version reads up to {FORMAT}", mark.format, mark.segen),
            "use that version of segen, or a later one",
        )),
    }
}

/// `SHA256SUMS` for files of these names and sums.
pub fn sums<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> (&'static str, String) {
    (SUMS, files.into_iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect())
}

/// Makes sure that every file of a model that a prediction reads is as it was written; of a model of several folds those
/// files that are not in a fold's folder, and the sums of each fold, which is checked where it is opened. Of a run there is
/// nothing to check.
///
/// # Errors
/// Where one is missing, is not listed, or has another sum.
pub fn check(run: &Run) -> Result<()> {
    if !is_model(run) {
        return Ok(());
    }
    let path = run.path(SUMS);
    let sums = Sums { run, text: files::read_text(&path)? };
    sums.check(MARK)?;
    let needed: Vec<String> = match read_mark(run)? {
        Holds::Network { .. } => NEEDED.map(str::to_owned).to_vec(),
        Holds::Folds { folds } => {
            let of_folds = folds.into_iter().map(|fold| format!("{}/{SUMS}", CrossValidation::name(fold)));
            NEEDED_OF_FOLDS.iter().map(|&name| name.to_owned()).chain(of_folds).collect()
        }
    };
    for name in &needed {
        sums.check(name)?;
    }
    for name in OPTIONAL {
        if sums.of(name).is_some() || run.path(name).is_file() {
            sums.check(name)?;
        }
    }
    Ok(())
}

/// `SHA256SUMS` of a model.
struct Sums<'a> {
    run: &'a Run,
    text: String,
}

impl Sums<'_> {
    fn of(&self, name: &str) -> Option<&str> {
        let mut listed = self.text.lines().filter_map(|line| line.split_once("  "));
        listed.find(|(_, file)| *file == name).map(|(sum, _)| sum)
    }

    fn check(&self, name: &str) -> Result<()> {
        let Some(sum) = self.of(name) else {
            return Err(Error::invalid(self.run.path(SUMS), name, "the file is not listed", COPY_AGAIN));
        };
        let file = self.run.path(name);
        if !file.is_file() {
            return Err(Error::invalid(&file, "model", "the file is missing", COPY_AGAIN));
        }
        if sha256(&read(&file)?) != sum {
            let problem = format!("is damaged or was changed: its sum is not that in {SUMS}");
            return Err(Error::invalid(&file, "SHA-256", problem, COPY_AGAIN));
        }
        Ok(())
    }
}

/// The weights of a model, and the optimiser steps that they had.
///
/// # Errors
/// Where it was written by a later version, is one of several folds, or does not hold what it says.
pub fn read_weights(run: &Run) -> Result<(Weights, u64)> {
    let Holds::Network { steps, parameters, buffers } = read_mark(run)? else {
        let problem = "is a model of several networks";
        return Err(Error::invalid(&run.folder, "run folder", problem, "name one of the folders in it"));
    };
    let path = run.path(WEIGHTS);
    let mut arrays = decode(&path, &read(&path)?)?;
    let mut take = |name: &String| {
        let missing = || {
            let problem = format!("`{name}`, which model.json lists, is missing");
            Error::invalid(&path, "weights", problem, "export the run again")
        };
        arrays.remove(name).ok_or_else(missing)
    };
    let parameters = parameters.iter().map(&mut take).collect::<Result<_>>()?;
    let buffers = buffers.iter().map(&mut take).collect::<Result<_>>()?;
    Ok((Weights { parameters, buffers }, steps))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io("read", path, error))
}
