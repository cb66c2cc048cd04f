//! `data.json`: the data that a run began with, so that a run that goes on knows whether they are still the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::config::FoldChoice;
use crate::data::dataset::{Case, Dataset, Fold, LabelScheme};
use crate::prepare::stamp::FileDigest;
use crate::prepare::workers::for_each_case;
use crate::progress::Progress;

/// What a run began with: what the numbers mean, and the content of every file that it uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataDigest {
    /// Names of the channels.
    channels: Vec<String>,
    /// The trained and scored labels.
    labels: LabelScheme,
    /// The run's fold before `fraction`; `None` where there is none.
    fold: Option<Fold>,
    /// Whether a file says who is in it.
    fold_is_given: bool,
    /// Cases for training, validation and policies, by name.
    training: BTreeMap<String, CaseDigest>,
    /// Test cases with labels, by name.
    test: BTreeMap<String, CaseDigest>,
}

/// The files of one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CaseDigest {
    images: Vec<FileDigest>,
    labels: Option<FileDigest>,
    mask: Option<FileDigest>,
}

/// Something that is not as it was when the run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The case and its file, or the key of `dataset.json`, and what became of it.
    pub what: String,
    /// Whether the run can go on nevertheless.
    pub acceptable: bool,
}

impl DataDigest {
    /// Of a data set as it is now. `training` are the cases of the run's split, `test` its test cases. Files that
    /// `known` shows untouched are not read.
    ///
    /// # Errors
    /// Where a file cannot be read. Cases that are not there are left out.
    pub fn of(
        dataset: &Dataset,
        fold: FoldChoice,
        (training, test): (&[String], &[String]),
        known: Option<&Self>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let digests = |cases: &[Case], ids: &[String], known: Option<&BTreeMap<String, CaseDigest>>| {
            let cases: Vec<&Case> = cases.iter().filter(|case| ids.contains(&case.id)).collect();
            let files = for_each_case(&cases, "reading files", progress, |case| {
                CaseDigest::of(case, known.and_then(|known| known.get(&case.id)))
            })?;
            Ok(cases.iter().map(|case| case.id.clone()).zip(files).collect())
        };
        Ok(Self {
            channels: dataset.channels.clone(),
            labels: dataset.labels.clone(),
            fold: dataset.fold(fold).ok(),
            fold_is_given: dataset.splits.is_some() || dataset.splits_file().is_some(),
            training: digests(&dataset.training, training, known.map(|known| &known.training))?,
            test: digests(&dataset.test, test, known.map(|known| &known.test))?,
        })
    }

    /// Names of the test cases.
    pub fn test_cases(&self) -> Vec<String> {
        self.test.keys().cloned().collect()
    }

    /// What has changed from this to `now`.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.description(now, &mut changes);
        if (self.fold_is_given || now.fold_is_given) && self.fold != now.fold {
            changes.push(Change::acceptable("the file of folds: the run's fold has other cases"));
        }
        for (id, before) in &self.training {
            match now.training.get(id) {
                None => changes.push(Change::fatal(format!("case `{id}` is gone"))),
                Some(after) => before.changes(after, id, &mut changes),
            }
        }
        for (id, before) in &self.test {
            match now.test.get(id) {
                None => changes.push(Change::acceptable(format!("test case `{id}` is gone"))),
                Some(after) => before.changes(after, id, &mut changes),
            }
        }
        changes
    }

    /// Changes of `dataset.json`.
    fn description(&self, now: &Self, changes: &mut Vec<Change>) {
        let list = |names: &[String]| names.join(", ");
        let (before, after) = (&self.channels, &now.channels);
        if before != after {
            let what =
                format!("dataset.json: channel_names: they were {}, and are {}", list(before), list(after));
            changes.push(Change { what, acceptable: before.len() == after.len() });
        }
        let (before, after) = (&self.labels.names, &now.labels.names);
        if before != after {
            let only = |these: &[String], those: &[String]| -> Vec<String> {
                these.iter().filter(|name| !those.contains(name)).map(|name| format!("`{name}`")).collect()
            };
            let (added, removed) = (only(after, before), only(before, after));
            let told = match (added.is_empty(), removed.is_empty()) {
                (false, true) => format!("class {} was added", added.join(" and ")),
                (true, false) => format!("class {} was removed", removed.join(" and ")),
                _ => format!("the classes were {}, and are {}", list(before), list(after)),
            };
            let what = format!("dataset.json: labels: {told}");
            changes.push(Change { what, acceptable: before.len() == after.len() });
        } else if self.labels.regions != now.labels.regions || self.labels.trained != now.labels.trained {
            changes.push(Change::acceptable(
                "dataset.json: labels: other values are trained or scored together",
            ));
        }
        if self.labels.ignore != now.labels.ignore {
            changes.push(Change::acceptable("dataset.json: labels: another value is ignored"));
        }
        if self.labels.regions_class_order != now.labels.regions_class_order {
            changes.push(Change::acceptable("dataset.json: regions_class_order: it is another"));
        }
    }
}

impl CaseDigest {
    fn of(case: &Case, known: Option<&Self>) -> Result<Self> {
        let one = |path: &Option<PathBuf>, known: Option<&FileDigest>| {
            path.as_ref().map(|path| FileDigest::of(path, known)).transpose()
        };
        let known_image = |channel: usize| known.and_then(|known| known.images.get(channel));
        let images = case.images.iter().enumerate();
        Ok(Self {
            images: images
                .map(|(channel, path)| FileDigest::of(path, known_image(channel)))
                .collect::<Result<_>>()?,
            labels: one(&case.labels, known.and_then(|known| known.labels.as_ref()))?,
            mask: one(&case.mask, known.and_then(|known| known.mask.as_ref()))?,
        })
    }

    fn changes(&self, now: &Self, id: &str, changes: &mut Vec<Change>) {
        let name = |digest: &FileDigest| {
            let path: &Path = digest.path();
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        };
        let mut compare = |what: &str, before: Option<&FileDigest>, after: Option<&FileDigest>| {
            let told = match (before, after) {
                (Some(before), Some(after)) if before.hash() == after.hash() => return,
                (Some(_), Some(after)) => format!("has changed (`{}`)", name(after)),
                (Some(before), None) => format!("is gone (`{}`)", name(before)),
                (None, Some(after)) => format!("was added (`{}`)", name(after)),
                (None, None) => return,
            };
            changes.push(Change::acceptable(format!("case `{id}`: its {what} {told}")));
        };
        for channel in 0..self.images.len().max(now.images.len()) {
            compare("image", self.images.get(channel), now.images.get(channel));
        }
        compare("label file", self.labels.as_ref(), now.labels.as_ref());
        compare("mask", self.mask.as_ref(), now.mask.as_ref());
    }
}

impl Change {
    fn acceptable(what: impl Into<String>) -> Self {
        Self { what: what.into(), acceptable: true }
    }

    fn fatal(what: impl Into<String>) -> Self {
        Self { what: what.into(), acceptable: false }
    }
}
