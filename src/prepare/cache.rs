//! Prepared samples that outlive the run.
//!
//! An entry's name is the case's and a key: a hash of the bytes of the case's files, of the parts of the plan that
//! shape a sample, and of the version of the format. Whatever changes gets another name, so runs with different
//! plans share a folder, and an entry never changes once it has its name: it is written aside, brought to the disk
//! and renamed.
//!
//! Files are hashed in full unless a note beside the entry shows that the very same file, untouched since, was
//! hashed before (see [`Stamp`]). In the same way an entry is read and checked in full unless it was already and
//! has not been touched since; bricks are checked once more whenever they are read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::{self, PreparedCase, VERSION};
use super::stamp::{FileDigest, Stamp, hash};
use super::workers::for_each_case;
use super::{MAX_POSITIONS, Normalisation, Recipe};
use crate::data::dataset::{Case, Dataset};
use crate::files::{create_folder, is_temporary, write_atomically};
use crate::progress::Progress;
use crate::{Error, Result};

/// Where prepared samples of a data set are kept: `explicit`, else `$nnUNet_preprocessed/NAME/segen`, else
/// `segen-cache/NAME` beside the run folder, where further runs find it. Never inside the data set: where the run
/// itself lies in there, the system's folder for temporary files is used instead.
pub fn cache_folder(explicit: Option<&Path>, dataset: &Dataset, run: &Path) -> PathBuf {
    if let Some(folder) = explicit {
        return folder.to_owned();
    }
    if let Some(preprocessed) = std::env::var_os("nnUNet_preprocessed").filter(|value| !value.is_empty()) {
        return PathBuf::from(preprocessed).join(&dataset.name).join("segen");
    }
    let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
    let beside = run.parent().unwrap_or(&run);
    let beside = if is_inside(beside, &dataset.folder) { std::env::temp_dir() } else { beside.to_owned() };
    beside.join("segen-cache").join(&dataset.name)
}

/// Prepares all cases that the cache does not hold yet and opens them; the result is in the order of `cases`.
///
/// May be stopped at any moment and called again, also by several programs at once: each entry is either complete
/// or absent. Entries whose input files or plan changed are made anew, damaged ones too.
///
/// # Errors
/// As [`Recipe::prepare`]; also where the cache cannot be written or lies inside the data set.
pub fn prepare_all(
    dataset: &Dataset,
    recipe: &Recipe<'_>,
    cases: &[&Case],
    cache: &Path,
    progress: &dyn Progress,
) -> Result<Vec<PreparedCase>> {
    make_cache(cache, dataset)?;
    sweep(cache);
    let hash = RecipeHash::new(dataset, recipe);
    for_each_case(cases, "preparing cases", progress, |case| entry(dataset, recipe, case, hash, cache))
}

/// Refuses a cache inside the data set.
///
/// # Errors
/// Naming the cache.
pub fn refuse_inside(dataset: &Dataset, cache: &Path) -> Result<()> {
    if is_inside(cache, &dataset.folder) {
        return Err(Error::config(
            "cache",
            format!("`{}` lies inside the data set", cache.display()),
            "data sets stay as they are; name a folder outside of it",
        ));
    }
    Ok(())
}

/// Makes the folder for prepared samples where it is not there.
///
/// # Errors
/// Where it cannot be made or lies inside the data set.
pub(crate) fn make_cache(cache: &Path, dataset: &Dataset) -> Result<()> {
    refuse_inside(dataset, cache)?;
    create_folder(cache)
}

/// What is remembered about a case between calls.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Note {
    /// Files that were hashed.
    inputs: Vec<FileDigest>,
    /// The entry that was read and found whole.
    verified: Option<(String, Stamp)>,
}

/// Hash of everything but the case's files that shapes a sample.
#[derive(Clone, Copy)]
struct RecipeHash(u128);

#[derive(Serialize)]
struct Ingredients<'a> {
    version: u32,
    positions: usize,
    spacing: [f64; 3],
    normalisation: &'a [Normalisation],
    channels: usize,
    classes: usize,
    ignore: Option<u8>,
    /// Class of each label value where it is another number.
    #[serde(skip_serializing_if = "Option::is_none")]
    class_of_value: Option<Vec<u8>>,
}

impl RecipeHash {
    fn new(dataset: &Dataset, recipe: &Recipe<'_>) -> Self {
        let ingredients = Ingredients {
            version: VERSION,
            positions: MAX_POSITIONS,
            spacing: recipe.spacing,
            normalisation: recipe.normalisation,
            channels: recipe.channels,
            classes: dataset.labels.classes(),
            ignore: dataset.labels.ignore,
            class_of_value: dataset.labels.class_of_value().map(|classes| classes.to_vec()),
        };
        Self(hash(format!("{}", serde_json::json!(ingredients)).as_bytes()))
    }
}

fn entry(
    dataset: &Dataset,
    recipe: &Recipe<'_>,
    case: &Case,
    hash: RecipeHash,
    cache: &Path,
) -> Result<PreparedCase> {
    let note_path = cache.join(format!("{}.note.json", case.id));
    let old: Option<Note> = match std::fs::read(&note_path) {
        Ok(bytes) => serde_json::from_slice(&bytes).ok(),
        Err(_) => Some(Note::default()),
    };
    // What is no note is somebody else's file and stays as it is.
    let may_note = old.is_some();
    let old = old.unwrap_or_default();
    let mut note = Note::default();
    let key = key(case, hash, &old, &mut note)?;
    let name = format!("{}-{key:032x}.segen", case.id);
    let path = cache.join(&name);

    let stamp = Stamp::of(&path);
    let known = stamp.clone().map(|stamp| (name.clone(), stamp));
    let intact = PreparedCase::open(&path).and_then(|prepared| {
        if known.is_none() || known != old.verified {
            prepared.verify()?;
        }
        Ok(prepared)
    });
    let prepared = match intact {
        Ok(prepared) => {
            note.verified = known;
            prepared
        }
        Err(_) => {
            let sample = recipe.prepare(dataset, case)?;
            file::write(&sample, &path)?;
            PreparedCase::open(&path)?
        }
    };
    if note != old && may_note {
        // A note saves time only: where it cannot be written, the next call hashes again.
        let _ = write_atomically(&note_path, &serde_json::to_vec(&note).unwrap_or_default());
    }
    Ok(prepared)
}

fn key(case: &Case, recipe: RecipeHash, old: &Note, note: &mut Note) -> Result<u128> {
    let mut text = format!("{:032x}", recipe.0);
    let images = case.images.iter().map(|path| ("image", path));
    let others = [("labels", &case.labels), ("mask", &case.mask)];
    let others = others.into_iter().filter_map(|(role, path)| Some((role, path.as_ref()?)));
    for (role, path) in images.chain(others) {
        let digest = FileDigest::of(path, old.inputs.iter().find(|file| file.path() == path))?;
        text.push_str(&format!(" {role} {}", digest.hash()));
        if digest.has_stamp() {
            note.inputs.push(digest);
        }
    }
    Ok(hash(text.as_bytes()))
}

/// Removes what runs that were killed left half written; a file that is being written is never an hour old.
fn sweep(cache: &Path) {
    const ABANDONED: Duration = Duration::from_secs(3600);
    let Ok(entries) = std::fs::read_dir(cache) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let age = || path.metadata().ok()?.modified().ok()?.elapsed().ok();
        let temporary = path.file_name().is_some_and(|name| is_temporary(&name.to_string_lossy()));
        if temporary && age().is_some_and(|age| age > ABANDONED) {
            // Another run may have removed it already.
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn is_inside(path: &Path, folder: &Path) -> bool {
    let resolve = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // The deepest part that exists decides where links lead.
        let existing = path.ancestors().find_map(|part| Some((part.canonicalize().ok()?, part)));
        match existing {
            Some((real, part)) => real.join(path.strip_prefix(part).unwrap_or(Path::new(""))),
            None => path,
        }
    };
    resolve(path).starts_with(resolve(folder))
}
