//! Finds every fault of a data set in one pass: which file, what, where in it, and how to fix it.
//!
//! An error would stop training or make it learn something wrong in silence; a warning is something that a person
//! should have seen once. Nothing is changed on disk.
//!
//! Geometry is compared by distance, not by digits: two files of a case agree where every voxel of one lies within a
//! thousandth of a voxel of the same voxel of the other, which is the rounding of headers. Up to a tenth of a voxel is a
//! warning, beyond it an error (see [`Grid::fit`](crate::image::volume::Grid::fit)).

mod across;
mod case;
mod files;
mod fix;
mod geometry;
mod patients;
mod report;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dataset::{Case, Dataset, Description};
pub use fix::{FixedFile, HeaderFix, HeaderFixes, LeftFile, fix_headers};

use crate::progress::Progress;
use crate::{Error, Result};

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Training would stop, or would learn something wrong.
    Error,
    /// Possibly meant so.
    Warning,
}

/// What sort of fault it is: stable names for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `dataset.json` is missing or contradicts itself.
    Description,
    /// `numTraining` is not the number of training cases.
    Count,
    /// `splits_final.json` cannot be followed.
    Splits,
    /// A file that a case must have is not there.
    Missing,
    /// A file belongs to no case.
    Extra,
    /// A file of a case is there in another format.
    Ending,
    /// A file cannot be read.
    Unreadable,
    /// A header contradicts itself, without doubt about the voxels.
    Header,
    /// The files of a case differ in shape.
    Shape,
    /// The files of a case lie in different places.
    Geometry,
    /// A label value that `dataset.json` does not know.
    LabelValue,
    /// Labels that are not whole numbers.
    Fraction,
    /// NaN or infinite voxels.
    NotFinite,
    /// Labels without foreground.
    Empty,
    /// An image of one value.
    Constant,
    /// A region of interest without voxels.
    EmptyMask,
    /// Foreground outside the region of interest.
    OutsideMask,
    /// Cases whose axes run differently.
    Orientation,
    /// A case whose voxel size is far from that of all others.
    Spacing,
    /// The same voxels under two names.
    Duplicate,
    /// Names that look like one patient on both sides of a fold.
    Patient,
    /// A left and a right class: mirroring would swap them.
    Sides,
    /// A class that no label file has.
    Absent,
    /// A name that is no file's on some systems, or that of another case.
    Name,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// What sort of fault it is.
    pub kind: Kind,
    /// The file, relative to the data set where it lies inside.
    pub file: PathBuf,
    /// What is wrong.
    pub what: String,
    /// Where in the file: field, voxel and position in millimetres, or the other files concerned.
    #[serde(rename = "where")]
    pub place: String,
    /// What can be done about it.
    #[serde(rename = "fix")]
    pub mend: String,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the data set.
    pub dataset: String,
    /// Number of training cases.
    pub training: usize,
    /// Number of test cases.
    pub test: usize,
    /// Errors before warnings, each in the order of the sorts and of the files.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Number of faults of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.faults.iter().filter(|fault| fault.severity == severity).count()
    }
}

/// Reads every file of the data set (given as for [`Dataset::open`]) and reports all faults.
///
/// Each file is read once, on all threads, and a case is let go before the next: it costs the time to inflate the data
/// set, less than preparing it, and the memory of one case a thread.
///
/// # Errors
/// Where there is no such folder or it cannot be listed. A damaged `dataset.json` is a fault, not an error.
pub fn check(folder: &Path, progress: &dyn Progress) -> Result<Report> {
    let folder = Dataset::locate(folder)?;
    let path = folder.join("dataset.json");
    let mut faults = Vec::new();
    let (dataset, declared) = match Description::of_folder(&folder) {
        Ok((description, problems)) => {
            faults
                .extend(problems.into_iter().map(|problem| words::fault(Kind::Description, &path, problem)));
            let (declared, count) = (description.declared.clone(), description.training_count);
            let files = description.files.clone();
            let dataset = Dataset::assemble(&folder, description)?;
            faults.extend(words::count(&dataset, &path, count));
            faults.extend(files::faults(&dataset, &files)?);
            (dataset, declared)
        }
        Err(error) => {
            faults.push(Fault::of_error(Kind::Description, &path, &error));
            return Ok(finish(&folder, (0, 0), faults));
        }
    };
    faults.extend(words::sides(&dataset, &path));
    let (split_faults, folds) = words::splits(&dataset);
    faults.extend(split_faults);

    let cases: Vec<&Case> = dataset.training.iter().chain(&dataset.test).collect();
    progress.begin("checking cases", cases.len() as u64);
    let facts: Vec<case::Facts> = cases
        .par_iter()
        .map(|case| {
            if progress.is_stopped() {
                return Err(Error::stopped("while checking cases"));
            }
            let facts = case::inspect(case, &dataset, &declared);
            progress.advance(1);
            Ok(facts)
        })
        .collect::<Result<_>>()?;
    progress.end();

    faults.extend(across::faults(&dataset, &declared, &facts));
    faults.extend(facts.into_iter().flat_map(|facts| facts.faults));
    faults.extend(patients::fault(&dataset, &folds));
    Ok(finish(&folder, (dataset.training.len(), dataset.test.len()), faults))
}

/// Sorts the faults and shortens their paths.
fn finish(folder: &Path, (training, test): (usize, usize), mut faults: Vec<Fault>) -> Report {
    for fault in &mut faults {
        if let Ok(inside) = fault.file.strip_prefix(folder) {
            fault.file = inside.to_owned();
        }
    }
    faults.sort_by(|a, b| (a.severity, a.kind, &a.file).cmp(&(b.severity, b.kind, &b.file)));
    let dataset = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Report { dataset, training, test, faults }
}

impl Fault {
    fn new(
        severity: Severity,
        kind: Kind,
        file: &Path,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (what, mend) = (what.into(), mend.into());
        Self { severity, kind, file: file.to_owned(), what, place: String::new(), mend }
    }

    fn error(kind: Kind, file: &Path, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Severity::Error, kind, file, what, mend)
    }

    fn warning(kind: Kind, file: &Path, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Severity::Warning, kind, file, what, mend)
    }

    fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// An error that reading a file gave.
    fn of_error(kind: Kind, file: &Path, error: &Error) -> Self {
        match error {
            Error::Invalid { path, field, problem, mend } => {
                Self::error(kind, path, problem, mend).at(field.clone())
            }
            other => Self::error(
                kind,
                file,
                other.to_string(),
                "see that the file is there, complete and readable",
            ),
        }
    }
}

/// A few names, and how many more there are.
fn some(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len() {
        count if count > SHOWN => format!("{} and {} more", shown.join(", "), count - SHOWN),
        _ => shown.join(", "),
    }
}
