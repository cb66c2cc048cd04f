//! Brings public data sets, as they are downloaded, into nnU-Net v2 layout.
//!
//! [`recognise`] looks at names and label values and says what it found; [`write`] copies. Voxels are not touched:
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
mod source;
mod survey;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::dataset::Fold;
use crate::progress::Progress;
use crate::{Error, Result};

pub use write::{vacant, write};

/// The public layouts that are recognised.
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
    /// Folds that the source prescribes; empty where it does not.
    pub splits: Vec<Fold>,
    /// What a person should know: guesses, files that are left out.
    pub notes: Vec<String>,
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
/// Where the layout is not known, or a file is missing, unreadable or has values that do not belong to it.
pub fn recognise(source: &Path, progress: &dyn Progress) -> Result<Found> {
    let source = std::fs::canonicalize(source).map_err(|error| Error::io("open", source, error))?;
    let mut found = if source.is_file() {
        deepmedic::config(&source)?
    } else if source.join("dataset.json").is_file() {
        decathlon::find(&source)?
    } else {
        let tree = source::Tree::read(&source)?;
        let finders: [Finder; 5] = [deepmedic::find, kits::find, brats::find, brats::find_2013, atlas::find];
        let mut found = None;
        for find in finders {
            found = find(&tree)?;
            if found.is_some() {
                break;
            }
        }
        let mut found = found.ok_or_else(|| tree.unknown())?;
        found.notes.extend(tree.note());
        found
    };
    found.cases.sort_by(|a, b| a.id.cmp(&b.id));
    found.check_names()?;
    survey::headers(&found, progress)?;
    let values = survey::labels(&found, progress)?;
    match found.layout {
        Layout::Brats2017 | Layout::Brats2023 => brats::classify(&mut found, &values)?,
        Layout::Kits => kits::classify(&mut found, &values)?,
        Layout::DeepMedic => deepmedic::classify(&mut found, &values)?,
        Layout::Decathlon | Layout::Brats2013 | Layout::Atlas => {}
    }
    found.check_values(&values)?;
    Ok(found)
}

/// Recognises one layout, or says that it is another.
type Finder = fn(&source::Tree) -> Result<Option<Found>>;

impl Found {
    fn new(layout: Layout, source: &Path, channels: &[&str], classes: Classes) -> Self {
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        let (cases, splits, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { layout, source: source.to_owned(), channels, classes, cases, splits, notes }
    }

    /// Number of cases in one part.
    pub fn count(&self, part: Part) -> usize {
        self.cases.iter().filter(|case| case.part == part).count()
    }

    /// Names become names of files, and each may stand once. A set without training cases is of no use.
    fn check_names(&self) -> Result<()> {
        for pair in self.cases.windows(2) {
            if pair[0].id == pair[1].id {
                let files = [&pair[0], &pair[1]].map(|case| case.images.first().display().to_string());
                return Err(Error::invalid(
                    &self.source,
                    format!("case `{}`", pair[0].id),
                    format!("is there twice: {}", files.join(" and ")),
                    "rename or remove one of them",
                ));
            }
        }
        if self.count(Part::Training) == 0 {
            return Err(Error::invalid(
                &self.source,
                self.layout.to_string(),
                format!("none of the {} cases has labels", self.cases.len()),
                "give the folder of the training cases",
            ));
        }
        Ok(())
    }

    /// Every value must be one that the classes know.
    fn check_values(&self, values: &survey::ValuesByFile) -> Result<()> {
        for case in &self.cases {
            let Some(labels) = &case.labels else { continue };
            let allowed: Vec<u8> = match &labels.values {
                Values::Unite => continue,
                Values::Renumber(pairs) => pairs.iter().map(|(old, _)| *old).collect(),
                Values::Keep => self.classes.values(),
            };
            for file in &labels.files {
                let unknown = values.get(file).into_iter().flatten().find(|value| !allowed.contains(value));
                if let Some(unknown) = unknown {
                    let allowed: Vec<String> = allowed.iter().map(u8::to_string).collect();
                    return Err(Error::invalid(
                        file,
                        "labels",
                        format!(
                            "has the value {unknown}, but {} has only {}",
                            self.layout,
                            allowed.join(", ")
                        ),
                        "fix the file, or bring the set into nnU-Net layout by hand if its values mean something else",
                    ));
                }
            }
        }
        Ok(())
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
        })
    }
}

/// What was found, as a table.
impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let (training, test) = (self.count(Part::Training), self.count(Part::Test));
        writeln!(out, "{} in {}", self.layout, self.source.display())?;
        writeln!(out, "cases     {training} for training, {test} for test")?;
        let channels: Vec<String> =
            self.channels.iter().enumerate().map(|(number, name)| format!("{number} {name}")).collect();
        writeln!(out, "channels  {}", channels.join(", "))?;
        let labels: Vec<String> =
            self.classes.labels.iter().map(|(name, values)| format!("{name} {values:?}")).collect();
        writeln!(out, "labels    {}", labels.join(", "))?;
        if let Some(Values::Renumber(pairs)) =
            self.cases.iter().find_map(|case| Some(&case.labels.as_ref()?.values))
        {
            let pairs: Vec<String> = pairs
                .iter()
                .filter(|(old, new)| old != new)
                .map(|(old, new)| format!("{old} becomes {new}"))
                .collect();
            writeln!(out, "values    {}", pairs.join(", "))?;
        }
        writeln!(out, "masks     {}", self.cases.iter().filter(|case| case.mask.is_some()).count())?;
        if !self.splits.is_empty() {
            writeln!(out, "folds     {} as the source prescribes", self.splits.len())?;
        }
        let inside = |path: &Path| path.strip_prefix(&self.source).unwrap_or(path).display().to_string();
        for case in self.cases.iter().take(SHOWN) {
            let labels =
                case.labels.as_ref().and_then(|labels| labels.files.first()).map(|file| inside(file));
            let (first, labels) = (inside(case.images.first()), labels.unwrap_or_else(|| "no labels".into()));
            writeln!(out, "  {}  <-  {first} ...  |  {labels}", case.id)?;
        }
        if self.cases.len() > SHOWN {
            writeln!(out, "  and {} more", self.cases.len() - SHOWN)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}
