//! Brings public data sets, as they are downloaded, and folders of one's own into nnU-Net v2 layout.
//!
//! [`recognise`] looks at names and label values and says what it found; [`write`] copies. Public data sets are known by
//! their names; any other folder is paired by name (`pairing`). Voxels are not touched:
//! a compressed file is copied byte for byte, a plain one is compressed. Only what nnU-Net's layout asks for is
//! computed: channels of 4-D files become files, label values are renumbered, several lesion masks are united.
//! Whatever does not fit is an error that names it, before anything is written, and the data set appears under its
//! name only when it is complete.

mod atlas;
mod brats;
mod decathlon;
mod deepmedic;
mod kits;
mod literal;
mod options;
mod pairing;
mod patients;
mod source;
mod survey;
mod table;
mod verify;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::dataset::{Fold, Pairing};
use crate::progress::Progress;
use crate::{Error, Result};

pub use options::{CaseFrom, ChannelChoice, NewValue, Options, ValueChoice};
pub use patients::{GroupBy, Pattern};
pub use write::{vacant, write};

/// The layouts that are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Medical Segmentation Decathlon: `dataset.json`, 4-D images. nnU-Net v1 folders too.
    Decathlon,
    /// BraTS 2017 to 2021: `CASE_t1ce.nii.gz`, `CASE_seg.nii.gz` with 1, 2, 4.
    Brats2017,
    /// BraTS 2023 and 2024: `CASE-t1c.nii.gz`, `CASE-seg.nii.gz`.
    Brats2023,
    /// BRATS 2013 as in DeepMedic's example: `Flair_*.nii.gz`, `OTMultiClass.nii.gz`, `brainmask.nii.gz`.
    Brats2013,
    /// KiTS 2019, 2021 and 2023: `case_00000/imaging.nii.gz`.
    Kits,
    /// ATLAS 1.1 to 2.0: `*_T1w.nii.gz` with lesion masks, or `*_t1w_*stx.nii.gz` with `*_LesionSmooth*_stx.nii.gz`.
    Atlas,
    /// DeepMedic's lists of paths, or the `.cfg` that names them.
    DeepMedic,
    /// Any other folder whose files' names tell the case.
    Names,
    /// Any other folder with a folder for every case.
    CaseFolders,
    /// Any other folder with names as BIDS has them.
    Bids,
}

/// A data set that was recognised. Nothing is written yet.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// How it is laid out.
    pub layout: Layout,
    /// Where it was found.
    pub source: PathBuf,
    /// Channel names in channel order.
    pub channels: Vec<String>,
    /// What `dataset.json` will say about labels.
    pub classes: Classes,
    /// The cases, sorted by name.
    pub cases: Vec<FoundCase>,
    /// Folds that the source or the patients prescribe; empty where none do.
    pub splits: Vec<Fold>,
    /// How the files are called, where they were paired by name.
    pub pairing: Option<Pairing>,
    /// Every value of the label files; none where several masks are united.
    pub values: Vec<ValueCount>,
    /// What a person should know: guesses, files that are left out.
    pub notes: Vec<String>,
}

/// A value of the label files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ValueCount {
    /// As it is in the files.
    pub value: u8,
    /// Voxels of all files that have it.
    pub voxels: u64,
    /// Number of files with such voxels.
    pub files: usize,
    /// What it becomes.
    pub becomes: u8,
}

/// Classes or regions by name, in nnU-Net's terms and after renumbering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Classes {
    /// Name and label values of each class or region, without the background.
    pub labels: Vec<(String, Vec<u8>)>,
    /// Where there are regions: the value that each of them paints.
    pub regions_class_order: Option<Vec<u8>>,
    /// Names of single values that no class or region has for itself.
    pub label_names: Vec<(u8, String)>,
}

/// Where a case will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// `imagesTr`, `labelsTr`, `masksTr`.
    Training,
    /// `imagesTs`, `labelsTs`, `masksTs`.
    Test,
}

/// One case and where its voxels come from.
#[derive(Clone, Debug, Serialize)]
pub struct FoundCase {
    /// Its name in the new data set.
    pub id: String,
    /// Training or test.
    pub part: Part,
    /// Where the channels are.
    pub images: Images,
    /// Where the labels are; test cases may have none.
    pub labels: Option<LabelSource>,
    /// Region of interest.
    pub mask: Option<PathBuf>,
}

/// The channels of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Images {
    /// One file per channel.
    Files(Vec<PathBuf>),
    /// One file with this many volumes.
    Volumes(PathBuf, usize),
}

/// The labels of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelSource {
    /// One file; several are united.
    pub files: Vec<PathBuf>,
    /// What becomes of its values.
    pub values: Values,
}

/// What becomes of label values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// They stay, and the file is copied.
    Keep,
    /// Old value and new value; all others are an error.
    Renumber(Vec<(u8, u8)>),
    /// 1 where any of the files has more than half of its own largest value, 0 elsewhere.
    Unite,
}

/// Says how `source` is laid out and what is in it: a folder, or a DeepMedic `.cfg` file.
///
/// # Errors
/// Where files could be paired in several ways, or one is missing, unreadable or has values that do not belong to it.
pub fn recognise(source: &Path, options: &Options, progress: &dyn Progress) -> Result<Found> {
    let source = std::fs::canonicalize(source).map_err(|error| Error::io("open", source, error))?;
    let mut found = if source.is_file() {
        deepmedic::config(&source)?
    } else if source.join("dataset.json").is_file() && options.case_from.is_none() {
        decathlon::find(&source)?
    } else {
        in_folder(&source, options)?
    };
    if let (None, Some(option)) = (&found.pairing, options.of_ordinary_folders()) {
        return Err(Error::config(
            option,
            format!("this is {}, whose files and values have their own meaning", found.layout),
            "leave the option out, or add --case-from name, folder or bids to read it as any other folder",
        ));
    }
    found.cases.sort_by(|a, b| a.id.cmp(&b.id));
    found.check_names()?;
    survey::headers(&found, progress)?;
    let values = survey::labels(&found, progress)?;
    match found.layout {
        Layout::Brats2017 | Layout::Brats2023 => brats::classify(&mut found, &values)?,
        Layout::Kits => kits::classify(&mut found, &values)?,
        Layout::DeepMedic => deepmedic::classify(&mut found, &values)?,
        Layout::Names | Layout::CaseFolders | Layout::Bids => {
            pairing::classify(&mut found, &values, &options.values)?;
        }
        Layout::Decathlon | Layout::Brats2013 | Layout::Atlas => {}
    }
    found.check_values(&values)?;
    found.count_values(&values);
    match &options.group_by {
        Some(group_by) => patients::group(&mut found, group_by)?,
        None if found.layout == Layout::Bids => patients::group_subjects(&mut found)?,
        None => {}
    }
    Ok(found)
}

/// A public data set by its names, else any other folder.
fn in_folder(source: &Path, options: &Options) -> Result<Found> {
    let tree = source::Tree::read(source)?;
    let finders: &[Finder] = match options.case_from {
        Some(_) => &[],
        None => &[deepmedic::find, kits::find, brats::find, brats::find_2013, atlas::find],
    };
    for find in finders {
        if let Some(mut found) = find(&tree)? {
            found.notes.extend(tree.note());
            return Ok(found);
        }
    }
    let mut found = pairing::find(&tree, options)?;
    found.notes.extend(tree.note());
    Ok(found)
}

/// Recognises one layout, or says that it is another.
type Finder = fn(&source::Tree) -> Result<Option<Found>>;

impl Found {
    fn new(layout: Layout, source: &Path, channels: &[&str], classes: Classes) -> Self {
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        Self {
            layout,
            source: source.to_owned(),
            channels,
            classes,
            cases: Vec::new(),
            splits: Vec::new(),
            pairing: None,
            values: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Number of cases in one part.
    pub fn count(&self, part: Part) -> usize {
        self.cases.iter().filter(|case| case.part == part).count()
    }
}

impl Found {
    /// How often every value is there and what it becomes.
    fn count_values(&mut self, values: &survey::ValuesByFile) {
        let renumbered = self.cases.iter().find_map(|case| match &case.labels.as_ref()?.values {
            Values::Renumber(pairs) => Some(pairs.clone()),
            _ => None,
        });
        let becomes = |value: u8| {
            let pairs = renumbered.iter().flatten();
            pairs.clone().find(|(old, _)| *old == value).map_or(value, |(_, new)| *new)
        };
        let counts = survey::totals(values).into_iter();
        self.values = counts
            .map(|(value, (voxels, files))| ValueCount { value, voxels, files, becomes: becomes(value) })
            .collect();
    }
}

impl Classes {
    /// Ordinary classes by value, from 1.
    fn plain(names: &[&str]) -> Self {
        let labels = (1..).zip(names).map(|(value, name)| ((*name).to_owned(), vec![value])).collect();
        Self { labels, regions_class_order: None, label_names: Vec::new() }
    }

    /// Overlapping regions.
    fn regions(regions: &[(&str, &[u8])], order: &[u8], names: &[(u8, &str)]) -> Self {
        Self {
            labels: regions.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect(),
            regions_class_order: Some(order.to_vec()),
            label_names: names.iter().map(|(value, name)| (*value, (*name).to_owned())).collect(),
        }
    }

    /// All label values, with the background.
    fn values(&self) -> Vec<u8> {
        let mut values: Vec<u8> = self.labels.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        values.push(0);
        values.sort_unstable();
        values.dedup();
        values
    }
}

impl Images {
    fn first(&self) -> &Path {
        match self {
            Self::Files(files) => files.first().map_or(Path::new(""), PathBuf::as_path),
            Self::Volumes(file, _) => file,
        }
    }

    /// All files.
    fn paths(&self) -> &[PathBuf] {
        match self {
            Self::Files(files) => files,
            Self::Volumes(file, _) => std::slice::from_ref(file),
        }
    }
}

impl LabelSource {
    fn keep(file: PathBuf) -> Self {
        Self { files: vec![file], values: Values::Keep }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Decathlon => "Medical Segmentation Decathlon",
            Self::Brats2017 => "BraTS 2017-2021",
            Self::Brats2023 => "BraTS 2023-2024",
            Self::Brats2013 => "BRATS 2013",
            Self::Kits => "KiTS",
            Self::Atlas => "ATLAS",
            Self::DeepMedic => "DeepMedic lists",
            Self::Names => "files paired by their names",
            Self::CaseFolders => "a folder for every case",
            Self::Bids => "BIDS",
        })
    }
}
