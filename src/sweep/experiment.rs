//! The experiment file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{FoldChoice, FractionMode, MethodName, Named};
use crate::{Error, Result, files};

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What it shows, for readers.
    #[serde(default)]
    pub title: String,
    /// Folder of the data set, or its name under `$nnUNet_raw`; may be named on the command line instead.
    #[serde(default)]
    pub dataset: Option<PathBuf>,
    /// Preset that every cell starts from.
    #[serde(default)]
    pub preset: Option<String>,
    /// `section.key=value` settings of every cell.
    #[serde(default)]
    pub set: Vec<String>,
    /// Configuration of every cell, as in a configuration file.
    #[serde(default)]
    pub config: toml::Table,
    /// Shares of the training cases, in (0, 1].
    pub fractions: Vec<f64>,
    /// How the training cases of a fraction are chosen.
    #[serde(default)]
    pub fraction_mode: FractionMode,
    /// A file of folds, as nnU-Net's `splits_final.json`, that replaces the data set's own; in a file relative to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<PathBuf>,
    /// Folds to hold out in turn.
    #[serde(default = "first_fold")]
    pub folds: Vec<FoldName>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Which cases are scored.
    #[serde(default)]
    pub score: ScoredOn,
    /// Optimiser steps, the same for every cell of a network; may be left out where there is none.
    #[serde(default)]
    pub steps: u64,
    /// Training cases that each run also scores, for the generalisation gap; 0 scores none.
    #[serde(default = "some_train_cases")]
    pub train_cases: usize,
    /// Runs at the same time, where memory allows.
    #[serde(default = "one")]
    pub runs: usize,
    /// Threads of each run; all cores shared among the runs where left out.
    #[serde(default)]
    pub threads: Option<usize>,
    /// The rows of the table.
    pub row: Vec<Row>,
}

/// A row: a method and a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Name in tables; from method and policy where left out.
    #[serde(default)]
    pub label: Option<String>,
    /// Name of the method.
    pub method: String,
    /// Name of the augmentation policy; that of the configuration where left out.
    #[serde(default)]
    pub policy: Option<String>,
    /// `section.key=value` settings of this row, after those of the experiment.
    #[serde(default)]
    pub set: Vec<String>,
}

/// A fold: its number, or `"all"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FoldName {
    /// The fold of this number.
    Number(u64),
    /// `all`.
    Word(String),
}

/// Which cases are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoredOn {
    /// The data set's test cases with labels.
    #[default]
    Test,
    /// The fold's held-out cases.
    Validation,
}

impl Experiment {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Where it cannot be read, has an unknown key, or a value cannot be used; all bad values are named at once.
    pub fn read(path: &Path) -> Result<Self> {
        let mut experiment: Self = files::read_toml(path, "see docs/sweeps.md for every key and its type")?;
        if let Some(splits) = &mut experiment.splits {
            // An absolute path stays what it is.
            let beside = path.parent().unwrap_or(Path::new("")).join(&*splits);
            *splits = std::path::absolute(&beside).unwrap_or(beside);
        }
        let problems = experiment.problems();
        if problems.is_empty() {
            return Ok(experiment);
        }
        Err(Error::invalid(path, "experiment", problems.join("; "), "change these values"))
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        let seeds = |row: &Row| -> usize {
            self.fractions.iter().map(|&fraction| self.seeds_of(row, fraction).len()).sum()
        };
        self.folds.len() * self.row.iter().map(seeds).sum::<usize>()
    }

    /// The seeds that a row is fitted with: the first one alone where nothing at all is drawn.
    pub fn seeds_of(&self, row: &Row, fraction: f64) -> &[u64] {
        let draws_cases = fraction < 1.0 && self.fraction_mode == FractionMode::Random;
        let draws = !row.classical().is_some_and(MethodName::is_deterministic)
            || row.set.iter().any(|set| set.replace(' ', "") == "classical.multi_atlas.select=random")
            || row.has_own_fraction();
        let count = if draws_cases || draws { self.seeds.len() } else { 1 };
        &self.seeds[..count.min(self.seeds.len())]
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        for (name, length) in [
            ("row", self.row.len()),
            ("fractions", self.fractions.len()),
            ("folds", self.folds.len()),
            ("seeds", self.seeds.len()),
        ] {
            demand(length > 0, format!("`{name}` is empty"));
        }
        for fraction in &self.fractions {
            demand(*fraction > 0.0 && *fraction <= 1.0, format!("fraction {fraction} is not in (0, 1]"));
        }
        for fold in &self.folds {
            demand(fold.choice().is_some(), format!("fold `{}` is neither a number nor `all`", fold.name()));
        }
        let unique = |names: Vec<String>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
        demand(unique(self.row.iter().map(Row::name).collect()), "two rows have the same label".to_owned());
        demand(unique(self.seeds.iter().map(u64::to_string).collect()), "a seed stands twice".to_owned());
        demand(
            unique(self.fractions.iter().map(f64::to_string).collect()),
            "a fraction stands twice".to_owned(),
        );
        demand(unique(self.folds.iter().map(FoldName::name).collect()), "a fold stands twice".to_owned());
        for row in &self.row {
            demand(
                !row.has_own_fraction() || self.fractions.len() == 1,
                format!(
                    "row `{}` sets its own `fraction`, which needs a single one in `fractions`",
                    row.name()
                ),
            );
            demand(
                !row.has_own_fraction() || row.label.is_some(),
                format!("row `{}` sets its own `fraction` and needs a `label` that says so", row.name()),
            );
        }
        demand(
            self.steps > 0 || self.row.iter().all(|row| row.classical().is_some()),
            "`steps` must be at least 1".to_owned(),
        );
        demand(self.runs > 0, "`runs` must be at least 1".to_owned());
        demand(self.threads != Some(0), "`threads` must be at least 1".to_owned());
        problems
    }
}

impl Row {
    /// The label, else method and policy.
    pub fn name(&self) -> String {
        match (&self.label, &self.policy) {
            (Some(label), _) => label.clone(),
            (None, Some(policy)) => format!("{} + {policy}", self.method),
            (None, None) => self.method.clone(),
        }
    }

    /// Its method, where that is fitted and no network is trained.
    pub fn classical(&self) -> Option<MethodName> {
        MethodName::named(&self.method).filter(|method| method.is_classical())
    }

    /// Whether it takes other cases than the other rows: more, or fewer.
    pub(super) fn has_own_fraction(&self) -> bool {
        self.set.iter().any(|set| set.split('=').next().is_some_and(|key| key.trim() == "fraction"))
    }
}

impl FoldName {
    /// As on the command line.
    pub fn name(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Word(word) => word.clone(),
        }
    }

    fn choice(&self) -> Option<FoldChoice> {
        match self {
            Self::Number(number) => usize::try_from(*number).ok().map(FoldChoice::Number),
            Self::Word(word) => (word == "all").then_some(FoldChoice::All),
        }
    }
}

fn first_fold() -> Vec<FoldName> {
    vec![FoldName::Number(0)]
}

fn some_train_cases() -> usize {
    8
}

fn one() -> usize {
    1
}
