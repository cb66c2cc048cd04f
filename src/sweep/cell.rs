//! One cell: what is trained, under which name, and with which command.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Experiment, FoldName};

/// One training of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// Place of its row in the experiment.
    pub(super) row: usize,
    pub(super) fraction: f64,
    pub(super) fold: FoldName,
    pub(super) seed: u64,
    /// Hash of everything that decides its weights and scores.
    pub(super) hash: String,
    /// Its run folder, below the sweep's.
    pub(super) folder: PathBuf,
}

/// All cells: seed after seed, so that a sweep that is stopped early has whole tables of fewer seeds.
pub(super) fn cells(experiment: &Experiment, dataset: &Path) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(experiment.cells());
    for &seed in &experiment.seeds {
        for fold in &experiment.folds {
            for &fraction in &experiment.fractions {
                for row in 0..experiment.row.len() {
                    cells.push(cell(experiment, dataset, row, fraction, fold, seed));
                }
            }
        }
    }
    cells
}

fn cell(
    experiment: &Experiment,
    dataset: &Path,
    row: usize,
    fraction: f64,
    fold: &FoldName,
    seed: u64,
) -> Cell {
    let what = &experiment.row[row];
    let content = json!([
        dataset,
        experiment.preset,
        experiment.config,
        experiment.set,
        what.set,
        what.method,
        what.policy,
        fraction,
        experiment.fraction_mode,
        fold,
        seed,
        experiment.steps,
        experiment.train_cases,
        experiment.sets_aside(),
    ]);
    let hash = format!("{:032x}", twox_hash::XxHash3_128::oneshot(content.to_string().as_bytes()));
    let plain: String = what
        .name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    // The hash keeps apart what the plain name does not.
    let name = format!("fraction-{fraction}_fold-{}_seed-{seed}_{}", fold.name(), &hash[..8]);
    Cell { row, fraction, fold: fold.clone(), seed, hash, folder: Path::new("cells").join(plain).join(name) }
}

impl Cell {
    /// For progress and errors.
    pub(super) fn name(&self, experiment: &Experiment) -> String {
        format!(
            "{}, fraction {}, fold {}, seed {}",
            experiment.row[self.row].name(),
            self.fraction,
            self.fold.name(),
            self.seed
        )
    }

    /// The command that trains it from nothing, or goes on with what is in `run`.
    pub(super) fn command(
        &self,
        experiment: &Experiment,
        executable: &Path,
        dataset: &Path,
        sweep: &Path,
        threads: usize,
    ) -> Command {
        let run = sweep.join(&self.folder);
        let mut command = Command::new(executable);
        command.arg("train").arg(dataset).arg("-o").arg(&run).arg("--threads").arg(threads.to_string());
        command.arg("--cache").arg(sweep.join("cache"));
        if run.join("config.toml").is_file() {
            // It keeps its own configuration.
            command.arg("--resume");
            return command;
        }
        command.arg("-c").arg(sweep.join("config.toml"));
        if let Some(preset) = &experiment.preset {
            command.arg("--preset").arg(preset);
        }
        let row = &experiment.row[self.row];
        let mode = json!(experiment.fraction_mode);
        let own = [
            format!("fraction_mode={}", mode.as_str().unwrap_or_default()),
            format!("validation.train_cases={}", experiment.train_cases),
            // Methods are compared by what their networks say.
            "validation.post=off".to_owned(),
        ];
        let aside = experiment.sets_aside().then(|| "policy.validation_share=0.2".to_owned());
        for set in own.iter().chain(&aside).chain(&experiment.set).chain(&row.set) {
            command.arg("--set").arg(set);
        }
        command.arg("--method").arg(&row.method);
        if let Some(policy) = &row.policy {
            command.arg("--policy").arg(policy);
        }
        command.arg("--fraction").arg(format!("{:?}", self.fraction));
        command.arg("--fold").arg(self.fold.name());
        command.arg("--seed").arg(self.seed.to_string());
        command.arg("--steps").arg(experiment.steps.to_string());
        command
    }
}
