//! A folder of annotated scans in nnU-Net v2 layout (MSD's `dataset.json` is read as well).
//!
//! Opening a data set reads `dataset.json` and the names of files, never a voxel; whether the files hold what
//! they should is the business of [`super::check`].
//!
//! ```text
//! Dataset004_Hippocampus/
//!   dataset.json            channel_names, labels, numTraining, file_ending
//!   splits_final.json       optional: the folds
//!   imagesTr/CASE_0000.nii.gz, CASE_0001.nii.gz, ...   one file per channel
//!   labelsTr/CASE.nii.gz
//!   masksTr/CASE.nii.gz     optional: region of interest
//!   imagesTs/, labelsTs/, masksTs/                     optional: the test set
//! ```

mod description;
mod discovery;
mod folds;
mod inputs;
mod labels;
mod legacy_random;
mod place;
mod selection;
mod sides;
mod template;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use description::{Description, Files};
pub(crate) use discovery::{PLACES, UNREADABLE_NAME, entries, file_name};
pub use folds::Fold;
pub(crate) use folds::by_patient;
pub use inputs::{Cases, cases, file_of};
pub(crate) use labels::RENUMBER;
pub(crate) use place::{Place, Role, SEPARATORS, Section, folders, holds_labels, holds_masks, role};
pub use sides::{Sides, left_right_pairs};
pub(crate) use template::{Captured, Part};
pub use template::{Pairing, Template};

use crate::config::FoldChoice;
use crate::{Error, Result};

/// One patient or scan: its files, nothing read yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Name, as in the file names without channel and ending.
    pub id: String,
    /// One file per channel, in channel order. (A single 4-D file of an MSD folder stands once.)
    pub images: Vec<PathBuf>,
    /// The reference segmentation, where there is one.
    pub labels: Option<PathBuf>,
    /// Region of interest (`masksTr`, `masksTs`): normalisation, sampling and scoring stay inside it.
    pub mask: Option<PathBuf>,
}

/// A set of label values that is scored under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Name in `dataset.json`.
    pub name: String,
    /// The label values it joins; one for an ordinary class.
    pub values: Vec<u8>,
}

/// The meaning of label values. Value 0 is background; classes are 0, 1, ..., n - 1 without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelScheme {
    /// Names of the trained classes, by label value unless `trained` says otherwise; `names[0]` is the
    /// background. Where `dataset.json` defines regions, a value that no region has for itself is called
    /// `label 2` and so on, unless the optional key `label_names` names it.
    pub names: Vec<String>,
    /// What is scored: every foreground class by itself, or the regions that `dataset.json` defines.
    pub regions: Vec<Region>,
    /// Value that marks voxels which are neither trained on nor scored.
    pub ignore: Option<u8>,
    /// `None` for ordinary classes. Where `dataset.json` defines overlapping regions: the label value that each of
    /// `regions` paints, in this order, when a prediction by regions is turned into one label map.
    pub regions_class_order: Option<Vec<u8>>,
    /// What the network's classes are.
    #[serde(default)]
    pub trained: Trained,
}

/// What the classes of a network trained on a data set are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trained {
    /// The label values.
    #[default]
    Values,
    /// Class i + 1 is the i-th of `regions`, of overlapping ones a later one; see [`LabelScheme::select`].
    Regions {
        /// Names of all label values that files have.
        values: Vec<String>,
    },
}

impl LabelScheme {
    /// Reads the `labels` of a `dataset.json`; the rest of the file may be missing or faulty.
    ///
    /// # Errors
    /// Where the file cannot be read, is no JSON object, or has labels that cannot be used.
    pub fn read(path: &Path) -> Result<Self> {
        let (description, problems) = Description::read(path)?;
        let about_labels = |problem: &&Problem| ["labels", "regions_class_order"].contains(&&*problem.field);
        let mut problems = problems.iter().filter(about_labels);
        match problems.next() {
            Some(first) => Err(first.error(path, problems.count())),
            None => Ok(description.labels),
        }
    }

    /// Number of trained classes, background included, `ignore` not.
    pub fn classes(&self) -> usize {
        self.names.len()
    }
}

/// Something that is wrong with a file of words: `dataset.json` or `splits_final.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key.
    pub(crate) field: String,
    /// What is wrong with it, with the value found.
    pub(crate) problem: String,
    /// What the user can do about it.
    pub(crate) mend: String,
}

/// A data set: who is in it and what the numbers mean. Voxels stay on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// The folder that holds `dataset.json`.
    pub folder: PathBuf,
    /// Name of the set: that of its folder, by which nnU-Net knows it too.
    pub name: String,
    /// Channel names in channel order; `CT` selects CT normalisation.
    pub channels: Vec<String>,
    /// The meaning of label values.
    pub labels: LabelScheme,
    /// Ending of every file, with its dot: `.nii.gz` or `.nii`.
    pub file_ending: String,
    /// Annotated cases, sorted by name.
    pub training: Vec<Case>,
    /// Test cases, sorted by name; their `labels` may be there (`labelsTs`).
    pub test: Vec<Case>,
    /// A file of folds that was named instead of the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<PathBuf>,
}

impl Dataset {
    /// Opens the folder that holds `dataset.json`: an nnU-Net v2 data set or, as downloaded, one of the Medical
    /// Segmentation Decathlon.
    ///
    /// Where `folder` does not exist and is a bare name or number (`Dataset004_Hippocampus`, `4`), it is looked
    /// up under `$nnUNet_raw`. Paths to files that are not there are kept (reading them will name them); faults
    /// of files are found by [`super::check::check`].
    ///
    /// # Errors
    /// Where `dataset.json` is missing or cannot be used, and where the folder has no case at all.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = Self::locate(folder)?;
        let path = folder.join("dataset.json");
        let (description, problems) = Description::of_folder(&folder)?;
        if let Some(first) = problems.first() {
            return Err(first.error(&path, problems.len() - 1));
        }
        if let Some(file) = discovery::unreadable_names(&folder)?.first() {
            let [problem, fix] = UNREADABLE_NAME;
            return Err(Error::invalid(file, "file name", problem, fix));
        }
        let dataset = Self::assemble(&folder, description)?;
        if dataset.training.is_empty() && dataset.test.is_empty() {
            return Err(discovery::nothing_found(&folder, &dataset.file_ending));
        }
        Ok(dataset)
    }

    /// What a command that reads the data set may read: its folder, and the files of its cases, which may lie
    /// elsewhere.
    pub fn inputs(&self) -> Vec<PathBuf> {
        let cases = self.training.iter().chain(&self.test);
        let files = cases.flat_map(|case| case.images.iter().chain(&case.labels).chain(&case.mask));
        std::iter::once(&self.folder).chain(files).cloned().collect()
    }

    /// The folder that [`Self::open`] would open.
    pub(crate) fn locate(folder: &Path) -> Result<PathBuf> {
        discovery::locate(folder, std::env::var_os("nnUNet_raw").map(PathBuf::from).as_deref())
    }

    /// Joins a description with the cases of its folder.
    pub(crate) fn assemble(folder: &Path, description: Description) -> Result<Self> {
        let (training, test) = discovery::cases(folder, &description)?;
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self {
            folder: folder.to_owned(),
            name,
            channels: description.channels,
            labels: description.labels,
            file_ending: description.file_ending,
            training,
            test,
            splits: None,
        })
    }

    /// The case of that name, among the training cases first.
    pub fn case(&self, id: &str) -> Option<&Case> {
        self.training.iter().chain(&self.test).find(|case| case.id == id)
    }

    /// The folds of the cross-validation.
    ///
    /// Those of `splits` where it is named, else `splits_final.json` in the data set's folder, else in
    /// `$nnUNet_preprocessed/NAME`, else five folds by
    /// nnU-Net's rule (scikit-learn's `KFold(5, shuffle=True, random_state=12345)` over the sorted names, the
    /// same cases in the same order). nnU-Net refuses fewer than five cases; here two to four give as many
    /// folds, each leaving one case out.
    ///
    /// # Errors
    /// Where the file names unknown cases, one case on both sides of a fold, or nobody on one of them; and where
    /// fewer than two cases cannot be split.
    pub fn folds(&self) -> Result<Vec<Fold>> {
        match self.splits.clone().or_else(|| self.splits_file()) {
            Some(path) => {
                let folds = folds::read(&path)?;
                let problems = self.split_problems(&folds);
                match problems.first() {
                    Some(first) => Err(first.error(&path, problems.len() - 1)),
                    None => Ok(folds),
                }
            }
            None => self.usual_folds(),
        }
    }

    /// One fold.
    ///
    /// A number beyond the list of [`Self::folds`] is, as in nnU-Net, a random 80:20 split with seed
    /// 12345 + number, but where a file was named for its folds; `all` trains and validates on every case.
    ///
    /// # Errors
    /// As [`Self::folds`], and where the file that was named has no such fold.
    pub fn fold(&self, which: FoldChoice) -> Result<Fold> {
        let ids = self.training_ids();
        let FoldChoice::Number(number) = which else {
            return Ok(Fold { train: ids.clone(), validation: ids });
        };
        let mut folds = self.folds()?;
        match &self.splits {
            _ if number < folds.len() => Ok(folds.swap_remove(number)),
            None => folds::random_split(&ids, number),
            Some(path) => Err(Error::invalid(
                path,
                format!("fold {number}"),
                format!("is not among its {} folds, counted from 0", folds.len()),
                "choose one of them with --fold, or name another file with --splits",
            )),
        }
    }

    /// The data set's own file that fixes the folds, where there is one.
    pub(crate) fn splits_file(&self) -> Option<PathBuf> {
        let preprocessed = std::env::var_os("nnUNet_preprocessed").map(PathBuf::from);
        folds::file(&self.folder, preprocessed.as_deref())
    }

    /// The folds where no file fixes them.
    pub(crate) fn usual_folds(&self) -> Result<Vec<Fold>> {
        folds::cross_validation(&self.training_ids())
    }

    /// Reads `splits_final.json` without comparing it with the cases.
    pub(crate) fn read_splits(path: &Path) -> Result<Vec<Fold>> {
        folds::read(path)
    }

    /// Everything that is wrong with folds over the training cases.
    pub(crate) fn split_problems(&self, folds: &[Fold]) -> Vec<Problem> {
        folds::problems(folds, &self.training_ids())
    }

    fn training_ids(&self) -> Vec<String> {
        self.training.iter().map(|case| case.id.clone()).collect()
    }
}

impl Problem {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), mend: mend.into() }
    }

    /// The problem as an error that names the file; `more` others are counted, not listed.
    pub(crate) fn error(&self, path: &Path, more: usize) -> Error {
        let mend = match more {
            0 => self.mend.clone(),
            _ => format!("{} ({more} more in this file: `segen check` lists all)", self.mend),
        };
        Error::invalid(path, &self.field, &self.problem, mend)
    }
}
