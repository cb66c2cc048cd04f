//! The events of finished runs as files for TensorBoard.

use std::path::{Path, PathBuf};

use super::subject::name_of;
use super::{is_sweep, with_folds};
use crate::files::{Existing, Outputs, bytes_of};
use crate::run::record::Record;
use crate::run::{Run, read_events, tensorboard};
use crate::{Error, Result};

/// Writes the events of every run, and of every fold of a cross-validation, into a folder of `place` with the run's name, as
/// a training writes them with `tensorboard = true`. Returns the files.
///
/// # Errors
/// Where a folder is no run, it has no events, or a file may not be replaced.
pub fn write_tensorboard(folders: &[PathBuf], place: &Path, existing: Existing) -> Result<Vec<PathBuf>> {
    let all = with_folds(folders)?;
    let runs: Vec<Run> =
        all.iter().filter(|folder| !is_sweep(folder)).map(Run::at).filter(Run::exists).collect();
    if runs.is_empty() {
        let named = folders.first().map_or(Path::new(""), PathBuf::as_path);
        return Err(Error::invalid(
            named,
            "--tensorboard",
            "there is no run in it",
            "name the folder of a run",
        ));
    }
    let names: Vec<String> = runs.iter().map(|run| name_of(&run.folder)).collect();
    let file = |(number, name): (usize, &String)| {
        let alone = names.iter().filter(|other| *other == name).count() == 1;
        let folder = if alone { name.clone() } else { format!("{}-{name}", number + 1) };
        format!("{folder}/{}", tensorboard::FILE)
    };
    let files: Vec<String> = names.iter().enumerate().map(file).collect();
    let inputs: Vec<PathBuf> = runs.iter().map(|run| run.folder.clone()).collect();
    let outputs = Outputs::claim("report", place, &files, &inputs, existing)?;
    let mut written = Vec::new();
    for (run, file) in runs.iter().zip(&files) {
        let path = run.path("events.jsonl");
        let classes = Record::open(run)?.labels.names;
        let bytes = tensorboard::of_run(&path, &read_events(&path)?, &classes)?;
        written.push(outputs.write(file, None, bytes_of(&bytes))?);
    }
    Ok(written)
}
