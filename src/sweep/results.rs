//! `results.jsonl`: one finished cell a line.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Measure, ScoredOn};
use crate::files::append_line;
use crate::score::operating::CaseOdds;
use crate::score::{ScoredCase, ScoredFolder};
use crate::{Error, Result, files};

/// One finished cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// Hash of everything that decides weights and scores.
    pub hash: String,
    /// Name of the row.
    pub row: String,
    /// Place of the row in the table.
    pub position: usize,
    /// Method.
    pub method: String,
    /// Policy, where the row names one.
    pub policy: Option<String>,
    /// Share of the training cases.
    pub fraction: f64,
    /// Fold held out.
    pub fold: String,
    /// Seed.
    pub seed: u64,
    /// Which cases were scored.
    pub scored: ScoredOn,
    /// Names of the regions.
    pub regions: Vec<String>,
    /// Scores of the cases.
    pub cases: Vec<CaseLine>,
    /// Scores of training cases, where some were scored.
    pub train: Vec<CaseLine>,
    /// Scores of the fold's held-out cases, where test cases are the scored ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<CaseLine>,
    /// Log-odds of the scored cases, without joint counts; none in lines of versions that did not count them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operating: Vec<CaseOdds>,
    /// How many cases were trained on.
    pub trained_on: usize,
    /// Optimiser steps done.
    pub steps: u64,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Largest resident memory of the run.
    pub peak_memory_bytes: u64,
}

/// Scores of one case, one value per region; `null` is undefined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseLine {
    /// Name of the case.
    pub case: String,
    /// Dice.
    #[serde(rename = "Dice")]
    pub dice: Vec<Option<f64>>,
    /// Sensitivity.
    #[serde(rename = "Sensitivity")]
    pub sensitivity: Vec<Option<f64>>,
    /// Precision.
    #[serde(rename = "Precision")]
    pub precision: Vec<Option<f64>>,
}

impl CaseLine {
    /// One measure of one region.
    pub fn value(&self, measure: Measure, region: usize) -> Option<f64> {
        let values = match measure {
            Measure::Dice => &self.dice,
            Measure::Sensitivity => &self.sensitivity,
            Measure::Precision => &self.precision,
        };
        values.get(region).copied().flatten()
    }

    /// The three measures of every case of a folder.
    pub(super) fn of(folder: &ScoredFolder) -> Vec<Self> {
        let line = |case: &ScoredCase| {
            let values = |key: &str| case.values.iter().map(|region| region.get(key).copied()).collect();
            Self {
                case: case.case.clone(),
                dice: values("Dice"),
                sensitivity: values("Sensitivity"),
                precision: values("Precision"),
            }
        };
        folder.cases.iter().map(line).collect()
    }
}

/// Adds a line and waits until it is on the disk. A last line that was cut off is removed first.
///
/// # Errors
/// Where the file cannot be written.
pub fn append(path: &Path, result: &CellResult) -> Result<()> {
    let line = serde_json::to_string(result)
        .map_err(|e| Error::Internal { what: format!("writing a result as JSON: {e}") })?;
    append_line(path, &line)
}

/// All finished cells of a file, in order; of several lines with the same row, fraction, fold and seed the last
/// one. None where there is no file yet. A last line that was cut off is left out.
///
/// # Errors
/// Where the file cannot be read, or a whole line is damaged.
pub fn read(path: &Path) -> Result<Vec<CellResult>> {
    if !files::is_there(path) {
        return Ok(Vec::new());
    }
    let text = files::read_text(path)?;
    let mut results: Vec<CellResult> = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') || line.trim().is_empty() {
            continue;
        }
        let result: CellResult = serde_json::from_str(line).map_err(|e| {
            Error::invalid(
                path,
                format!("line {}", number + 1),
                e.to_string(),
                "remove the line; its cell is then trained again",
            )
        })?;
        results.retain(|r| {
            (&r.row, r.fraction.to_bits(), &r.fold, r.seed)
                != (&result.row, result.fraction.to_bits(), &result.fold, result.seed)
        });
        results.push(result);
    }
    Ok(results)
}
