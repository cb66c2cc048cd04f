//! One cell: what is trained, under which name, and with which command.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Experiment, FoldName, Launch};
use crate::Result;
use crate::config::Config;

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
                    if !experiment.seeds_of(&experiment.row[row], fraction).contains(&seed) {
                        continue;
                    }
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
    // `false` where no file is named, as in the hashes of earlier versions. What the file says decides, not its place.
    let splits = experiment.splits.as_ref().map_or(json!(false), |path| {
        json!(std::fs::read_to_string(path).unwrap_or_else(|_| path.display().to_string()))
    });
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
        splits,
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

    /// Its whole configuration. `base` is the sweep's own file of settings, which hold for every cell.
    ///
    /// # Errors
    /// Where a setting of the experiment cannot be used.
    pub(super) fn config(&self, experiment: &Experiment, base: &Path) -> Result<Config> {
        let row = &experiment.row[self.row];
        let mode = json!(experiment.fraction_mode);
        // Later ones override earlier ones: what an experiment sets overrides what a method's name stands for.
        let mut sets = vec![
            format!("method.name={:?}", row.method),
            format!("fraction_mode={}", mode.as_str().unwrap_or_default()),
            format!("validation.train_cases={}", experiment.train_cases),
            // Methods are compared by what their networks say.
            "validation.post=off".to_owned(),
        ];
        sets.extend(experiment.set.iter().cloned());
        sets.push(format!("fraction={:?}", self.fraction));
        sets.extend(row.set.iter().cloned());
        sets.extend(
            experiment.splits.as_ref().map(|path| format!("splits={:?}", path.display().to_string())),
        );
        sets.extend(row.policy.as_ref().map(|name| format!("policy.name={name:?}")));
        sets.push(format!("fold={:?}", self.fold.name()));
        sets.push(format!("seed={}", self.seed));
        if row.classical().is_none() {
            sets.push(format!("schedule.steps={}", experiment.steps));
        }
        Config::resolve_preset(experiment.preset.as_deref(), Some(base), &sets)
    }

    /// The command that trains it from nothing, or goes on with what is in its run folder. `config` is a file with its
    /// configuration, so that the command needs no option for any setting.
    pub(super) fn command(
        &self,
        launch: &Launch<'_>,
        dataset: &Path,
        config: &Path,
        threads: usize,
    ) -> Command {
        let run = launch.outputs.folder().join(&self.folder);
        let mut command = Command::new(launch.executable);
        command.arg("train").arg(dataset).arg("-o").arg(&run).arg("--threads").arg(threads.to_string());
        command.arg("--cache").arg(launch.outputs.folder().join("cache")).arg("--resume");
        if !run.join("config.toml").is_file() {
            command.arg("-c").arg(config);
        }
        command
    }
}
