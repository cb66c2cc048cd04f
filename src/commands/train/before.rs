//! What a run will need beside its data, looked at before its first step: nothing is found missing after hours.

use std::fs::File;
use std::path::Path;

use crate::config::{Config, FoldChoice};
use crate::data::dataset::Dataset;
use crate::files::create_folder;
use crate::plan::{CaseCounts, Forecast, Plan};
use crate::prepare::PreparedCase;
use crate::progress::Progress;
use crate::run::{Run, Split};
use crate::{Error, Result, machine};

/// Says what a fold is that is none of the cross-validation.
///
/// # Errors
/// Where the folds cannot be told.
pub(super) fn explain_fold(dataset: &Dataset, fold: FoldChoice, progress: &dyn Progress) -> Result<()> {
    match fold {
        FoldChoice::All => progress.note(
            "fold all: every case is trained on, so scores are those of training cases and no estimate for new ones",
        ),
        FoldChoice::Number(number) => {
            let count = dataset.folds()?.len();
            if number >= count {
                progress.note(&format!(
                    "fold {number} is none of the {count} folds (0 to {}): a random 80:20 split is made, as nnU-Net does",
                    count - 1
                ));
            }
        }
    }
    Ok(())
}

/// Refuses a plan that is certain not to fit: starting it would end the process, or other people's, without a word.
///
/// # Errors
/// Where it needs far more memory than is free.
pub(super) fn fits_memory(plan: &Plan, config: &Config) -> Result<()> {
    // Predictions are good to a third.
    const MARGIN: f64 = 1.5;
    let needed = plan.predicted_peak_bytes(config.loader.memory_gib);
    let available = machine::available_memory_bytes();
    if available == 0 || needed as f64 <= MARGIN * available as f64 {
        return Ok(());
    }
    Err(Error::config(
        "plan",
        format!("training needs about {:.1} GiB, and {:.1} GiB are free", gib(needed), gib(available)),
        "lower `plan.patch`, `plan.batch`, `plan.base_features` or `loader.memory_gib`",
    ))
}

/// Says which classes the network cannot learn, because none of its training cases has them.
pub(super) fn find_absent_classes(
    train: &[PreparedCase],
    classes: &[String],
    config: &Config,
    progress: &dyn Progress,
) {
    for (class, name) in classes.iter().enumerate().skip(1) {
        let voxels = |case: &PreparedCase| case.classes.get(class).map_or(0, |voxels| voxels.count);
        if train.iter().any(|case| voxels(case) > 0) {
            continue;
        }
        let rare = match config.method.rare.as_ref().is_some_and(|rare| rare.contains(name)) {
            true => ", although `method.rare` names it",
            false => "",
        };
        progress.note(&format!(
            "warning: no training case of this fold has `{name}`{rare}: the network cannot learn it, and its scores \
             will be those of a class that was never shown ({} training cases, fraction {})",
            train.len(),
            config.fraction
        ));
    }
}

/// What the training will take, by its plan.
///
/// # Errors
/// Where the network cannot take the plan's patch.
pub(super) fn forecast(plan: &Plan, config: &Config, split: &Split, test: usize) -> Result<Forecast> {
    let cases = CaseCounts { prepared: split.cases().len(), validation: split.validation.len(), test };
    let step_seconds = plan.predicted_step_seconds_here(segen_kernels::convolution_speed());
    plan.forecast(config, cases, step_seconds)
}

/// Makes sure that results can be written, and says where the disks will hardly do.
///
/// # Errors
/// Where a folder of results cannot be made or written.
pub(super) fn find_room(run: &Run, cache: &Path, forecast: &Forecast, progress: &dyn Progress) -> Result<()> {
    try_writing(&run.folder)?;
    // What an earlier session has made, perhaps as another user.
    for part in ["checkpoint", "validation", "test", "train"].map(|part| run.path(part)) {
        if part.exists() {
            try_writing(&part)?;
        }
    }
    let there = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let there: u64 = there.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
    for (folder, needed) in
        [(run.folder.as_path(), forecast.run_bytes()), (cache, forecast.cache_bytes.saturating_sub(there))]
    {
        let free = machine::free_disk_bytes(folder);
        if let Some(free) = free.filter(|free| *free < needed) {
            progress.note(&format!(
                "warning: about {:.1} GiB will be written into `{}`, and {:.1} GiB are free there",
                gib(needed),
                folder.display(),
                gib(free)
            ));
        }
    }
    Ok(())
}

fn try_writing(folder: &Path) -> Result<()> {
    create_folder(folder)?;
    let path = folder.join(format!(".writable.{}.tmp", std::process::id()));
    File::create(&path).and_then(|_| std::fs::remove_file(&path)).map_err(|e| Error::io("write", folder, e))
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}
