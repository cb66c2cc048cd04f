//! Many trainings and the table of their scores: (method, policy) pairs x training fractions x folds x seeds.
//!
//! An experiment is one TOML file. Every cell is trained by a process of its own, so that one that fails, or is
//! killed for memory, leaves the others alone. A finished cell is one line of `results.jsonl`; tables and figures
//! are drawn from that file alone, and cells found there are not trained again. A sweep that was stopped goes on
//! where it was, cell by cell and within a cell from its last checkpoint.
//!
//! ```text
//! experiment.toml -> cells -> processes -> results.jsonl -> table (txt, md, csv, json), fractions (svg, png)
//! ```

mod cell;
mod experiment;
mod points;
mod output;
mod results;
mod run;
mod table;

use std::path::Path;

use crate::files::Outputs;

pub use experiment::{Experiment, FoldName, Row, ScoredOn};
pub(crate) use output::{blocks, notes};
pub use output::{csv, figure, markdown, text, write};
pub use points::{PointCell, PointComparison, PointMeasure, PointTable};
pub use results::{CaseLine, CellResult, append, read};
pub use run::{Outcome, claim, run};
pub use table::{Comparison, Measure, Pairing, Table, TableCell};

/// One `segen sweep`.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What to do.
    pub experiment: &'a Experiment,
    /// The data set; overrides the experiment's.
    pub dataset: Option<&'a Path>,
    /// The sweep's folder, claimed by [`claim`].
    pub outputs: &'a Outputs,
    /// The `segen` command itself.
    pub executable: &'a Path,
    /// Threads of the machine that may be used.
    pub threads: usize,
}
