//! `dataset.json`: what the numbers and the files of a data set mean.
//!
//! Two dialects are read. nnU-Net v2: `channel_names`, `labels` as {name: value or list of values},
//! `file_ending`, and optionally the files of each case under `dataset`. Medical Segmentation Decathlon (and
//! nnU-Net v1): `modality`, `labels` as {value: name}, and the files under `training` and `test`. Every problem is
//! collected, so that `check` can show all of them; opening a data set refuses the first.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::labels::{self, Labels};
use super::template::Pairing;
use super::{LabelScheme, Problem};
use crate::image::{ENDING, ENDINGS, endings_in_words, stem};
use crate::{Error, Result, files};

/// What `dataset.json` says, as far as it could be understood.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) channels: Vec<String>,
    pub(crate) labels: LabelScheme,
    /// Every label value that is declared, background and `ignore` included.
    pub(crate) declared: Vec<u8>,
    pub(crate) file_ending: String,
    /// `numTraining`, where it is there and a number.
    pub(crate) training_count: Option<u64>,
    pub(crate) files: Files,
    /// How the files were called before they were imported, where they were.
    pub(crate) pairing: Option<Pairing>,
}

/// Where the files of the cases are named.
#[derive(Clone, Debug)]
pub(crate) enum Files {
    /// Nowhere: by what lies in imagesTr and imagesTs (nnU-Net v2).
    Folders,
    /// nnU-Net v2's `dataset`: all files of each training case.
    Listed(Vec<ListedCase>),
    /// MSD's `training` and `test`: one file per case, 4-D where there are several channels.
    Decathlon {
        /// Image and label file.
        training: Vec<ListedCase>,
        /// Image files alone.
        test: Vec<ListedCase>,
    },
}

/// The files of one case as written in `dataset.json`.
#[derive(Clone, Debug)]
pub(crate) struct ListedCase {
    pub(crate) id: String,
    pub(crate) images: Vec<String>,
    pub(crate) labels: Option<String>,
}

impl Description {
    /// Reads `dataset.json`.
    ///
    /// # Errors
    /// Where the file cannot be read or is no JSON object. Everything else is a [`Problem`].
    pub(crate) fn read(path: &Path) -> Result<(Self, Vec<Problem>)> {
        let value: Value = files::read_json(path, "fix the syntax at this place")?;
        let Value::Object(object) = value else {
            return Err(Error::invalid(
                path,
                "top level",
                "is not an object",
                "the file must hold {\"channel_names\": ..., \"labels\": ..., \"file_ending\": ...}",
            ));
        };
        let mut problems = Vec::new();
        let description = Self::parse(&object, &mut problems);
        description.check_names(&mut problems);
        Ok((description, problems))
    }

    /// Reads the `dataset.json` of a data set.
    ///
    /// # Errors
    /// As [`Self::read`]; where there is none, with the way to get one.
    pub(crate) fn of_folder(folder: &Path) -> Result<(Self, Vec<Problem>)> {
        let path = folder.join("dataset.json");
        if files::is_there(&path) {
            return Self::read(&path);
        }
        Err(Error::invalid(
            path,
            "file",
            "is not there, so the folder is no data set yet",
            format!("make one of it: segen import {} -o Dataset001_Name", quoted(folder)),
        ))
    }

    fn parse(object: &Map<String, Value>, problems: &mut Vec<Problem>) -> Self {
        let channels = channels(object, problems);
        let Labels { scheme, declared } = labels::parse(object, problems);
        let (files, listed_ending) = files(object, problems);
        let file_ending = ending(object, listed_ending, problems);
        let training_count = object.get("numTraining").and_then(Value::as_u64);
        let pairing = pairing(object, channels.len(), problems);
        Self { channels, labels: scheme, declared, file_ending, training_count, files, pairing }
    }
}

impl Description {
    /// Names of listed cases become names of files, so they must be plain, and each may stand once.
    fn check_names(&self, problems: &mut Vec<Problem>) {
        let lists = match &self.files {
            Files::Folders => vec![],
            Files::Listed(training) => vec![("dataset", training)],
            Files::Decathlon { training, test } => vec![("training", training), ("test", test)],
        };
        for (key, cases) in lists {
            let mut seen = HashSet::new();
            for ListedCase { id, .. } in cases {
                if id.is_empty() || id.starts_with('.') || id.contains(['/', '\\']) {
                    problems.push(Problem::new(
                        key,
                        format!("`{id}` cannot be the name of a case"),
                        "use a name without slashes that does not begin with a dot",
                    ));
                }
                if !seen.insert(id) {
                    problems.push(Problem::new(key, format!("`{id}` is there twice"), "list each case once"));
                }
            }
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "_-./:=+@%,".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn channels(object: &Map<String, Value>, problems: &mut Vec<Problem>) -> Vec<String> {
    const MEND: &str =
        "write \"channel_names\": {\"0\": \"T1\", \"1\": \"T2\", ...}, numbered from 0 without gaps";
    let key = if object.contains_key("channel_names") { "channel_names" } else { "modality" };
    let Some(names) = object.get(key).and_then(Value::as_object).filter(|names| !names.is_empty()) else {
        problems.push(Problem::new("channel_names", "is missing, empty or no object", MEND));
        return Vec::new();
    };
    let mut by_number = BTreeMap::new();
    for (number, name) in names {
        let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        match number.parse::<usize>() {
            Ok(number) => {
                if by_number.insert(number, name).is_some() {
                    problems.push(Problem::new(key, format!("channel {number} is there twice"), MEND));
                }
            }
            Err(_) => {
                problems.push(Problem::new(key, format!("`{number}` is no channel number"), MEND));
            }
        }
    }
    if by_number.keys().enumerate().any(|(expected, &number)| expected != number) {
        let numbers: Vec<_> = by_number.keys().map(usize::to_string).collect();
        problems.push(Problem::new(
            key,
            format!("the channel numbers {} do not run from 0 without gaps", numbers.join(", ")),
            MEND,
        ));
    }
    by_number.into_values().collect()
}

fn pairing(object: &Map<String, Value>, channels: usize, problems: &mut Vec<Problem>) -> Option<Pairing> {
    const FIX: &str = "write {\"images\": [\"{case}/t1\", ... one per channel], \"labels\": \"{case}/seg\"}, or remove the \
                       key: it says how raw files were called, for `segen predict`";
    let value = object.get("pairing")?;
    match serde_json::from_value::<Pairing>(value.clone()) {
        Ok(pairing) if [1, channels].contains(&pairing.images.len()) => return Some(pairing),
        Ok(pairing) => {
            let problem = format!("has {} image(s) for {channels} channel(s)", pairing.images.len());
            problems.push(Problem::new("pairing", problem, FIX));
        }
        Err(error) => problems.push(Problem::new("pairing", error.to_string(), FIX)),
    }
    None
}

/// The files that are endings_in_words, and the ending of the first of them.
fn files(object: &Map<String, Value>, problems: &mut Vec<Problem>) -> (Files, Option<String>) {
    if let Some(listed) = object.get("dataset") {
        let Some(listed) = listed.as_object() else {
            problems.push(Problem::new("dataset", "is no object", MEND_LISTED));
            return (Files::Folders, None);
        };
        let cases = listed.iter().filter_map(|(id, files)| listed_case(id, files, problems)).collect();
        return (Files::Listed(cases), None);
    }
    // With `file_ending` it is an nnU-Net v2 folder, where a leftover `training` list means nothing.
    let decathlon = !object.contains_key("file_ending");
    let Some(training) = object.get("training").and_then(Value::as_array).filter(|_| decathlon) else {
        return (Files::Folders, None);
    };
    let test = object.get("test").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let training: Vec<_> =
        training.iter().filter_map(|entry| decathlon_case(entry, "training", problems)).collect();
    let test: Vec<_> = test.iter().filter_map(|entry| decathlon_case(entry, "test", problems)).collect();
    let first = training.iter().chain(&test).next().and_then(|case| case.images.first());
    let ending =
        first.map(|path| ENDINGS.into_iter().find(|ending| path.ends_with(ending)).unwrap_or(ENDING));
    let ending = ending.map(str::to_owned);
    (Files::Decathlon { training, test }, ending)
}

const MEND_LISTED: &str = "write {\"CASE\": {\"images\": [one file per channel], \"label\": file}, ...}, paths relative to the data set";

fn listed_case(id: &str, files: &Value, problems: &mut Vec<Problem>) -> Option<ListedCase> {
    let images = files.get("images").and_then(Value::as_array);
    let images: Option<Vec<String>> =
        images.and_then(|paths| paths.iter().map(|path| path.as_str().map(str::to_owned)).collect());
    let labels = files.get("label").and_then(Value::as_str).map(str::to_owned);
    match (images, labels) {
        (Some(images), Some(labels)) if !images.is_empty() => {
            Some(ListedCase { id: id.to_owned(), images, labels: Some(labels) })
        }
        _ => {
            let field = format!("dataset.{id}");
            problems.push(Problem::new(field, "has no list `images` or no path `label`", MEND_LISTED));
            None
        }
    }
}

/// An entry of `training` is {"image": path, "label": path}; one of `test` is a path or {"image": path}.
fn decathlon_case(entry: &Value, key: &str, problems: &mut Vec<Problem>) -> Option<ListedCase> {
    let image = entry.as_str().or_else(|| entry.get("image").and_then(Value::as_str));
    let labels = entry.get("label").and_then(Value::as_str).map(str::to_owned);
    let Some(image) = image.filter(|_| labels.is_some() || key == "test") else {
        problems.push(Problem::new(
            key,
            format!("the entry {entry} does not name its files"),
            "write {\"image\": \"./imagesTr/CASE.nii.gz\", \"label\": \"./labelsTr/CASE.nii.gz\"}",
        ));
        return None;
    };
    let name = image.rsplit(['/', '\\']).next().unwrap_or(image);
    Some(ListedCase { id: stem(name).to_owned(), images: vec![image.to_owned()], labels })
}

fn ending(object: &Map<String, Value>, of_files: Option<String>, problems: &mut Vec<Problem>) -> String {
    let mend =
        || format!("write \"file_ending\": {}; other formats must be converted first", endings_in_words());
    match object.get("file_ending").and_then(Value::as_str) {
        Some(ending) if ENDINGS.contains(&ending) => return ending.to_owned(),
        Some(other) => {
            problems.push(Problem::new(
                "file_ending",
                format!("`{other}` is a format that is not read"),
                mend(),
            ));
        }
        None if of_files.is_some() => {}
        None => problems.push(Problem::new("file_ending", "is missing or no text", mend())),
    }
    of_files.unwrap_or_else(|| ENDING.to_owned())
}
