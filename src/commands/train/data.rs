//! Whether the data are fit to be trained on, and still those that the run began with.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Faults, Request};
use crate::data::check::{self, Fault, Report, Severity};
use crate::data::dataset::Dataset;
use crate::files::write_atomically;
use crate::prepare::stamp::Stamp;
use crate::progress::Progress;
use crate::run::DataDigest;
use crate::{Error, Result};

/// Of each sort so many faults are listed.
const SHOWN: usize = 3;

/// Checks the data set: says its warnings, and refuses it where it has errors, or lists them in `accepted`. `cache` is the
/// folder of its prepared samples.
///
/// # Errors
/// Where there are errors that the user has not accepted.
pub(super) fn check_data(
    request: &Request<'_>,
    dataset: &Dataset,
    cache: &Path,
    accepted: &mut Vec<String>,
    progress: &dyn Progress,
) -> Result<()> {
    let report = report(dataset, cache, progress)?;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        report.faults.iter().partition(|fault| fault.severity == Severity::Error);
    for line in short(&warnings) {
        progress.note(&format!("warning: {line}"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    refuse_or_accept(
        request,
        &dataset.folder,
        "data set",
        errors.iter().map(|fault| line(fault)).collect(),
        &short(&errors),
        accepted,
        progress,
    )
}

/// Compares the data set with the one that the run began with. Returns whether anything has changed.
///
/// # Errors
/// Where something has changed that the user has not accepted or that the run cannot go on with.
pub(super) fn compare_data(
    request: &Request<'_>,
    (began, now): (&DataDigest, &DataDigest),
    accepted: &mut Vec<String>,
    progress: &dyn Progress,
) -> Result<bool> {
    let changes = began.changes(now);
    if changes.is_empty() {
        return Ok(false);
    }
    let lines: Vec<String> = changes.iter().map(|change| change.what.clone()).collect();
    if changes.iter().any(|change| !change.acceptable) {
        return Err(Error::invalid(
            request.dataset,
            "data set",
            format!("it is another than the run began with:{}", listed(&lines)),
            "bring the data set back to what it was, or train a new run",
        ));
    }
    let shown: Vec<String> =
        lines.iter().take(4 * SHOWN).cloned().chain(more(lines.len(), 4 * SHOWN)).collect();
    let what = "data set: changed since the run began";
    refuse_or_accept(request, request.dataset, what, lines, &shown, accepted, progress)?;
    Ok(true)
}

fn refuse_or_accept(
    request: &Request<'_>,
    place: &Path,
    what: &str,
    all: Vec<String>,
    shown: &[String],
    accepted: &mut Vec<String>,
    progress: &dyn Progress,
) -> Result<()> {
    match request.faults {
        Faults::Refuse => Err(Error::invalid(
            place,
            what,
            format!("{} fault{}{}", all.len(), if all.len() == 1 { "" } else { "s" }, listed(shown)),
            "`segen check` says where and how to fix it; --anyway goes on nevertheless, and run.json keeps the list",
        )),
        Faults::Accept => {
            progress.note(&format!("going on in spite of faults of the {what}:{}", listed(shown)));
            accepted.extend(all);
            Ok(())
        }
    }
}

fn listed(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// The first few faults of each sort, and how many more there are.
fn short(faults: &[&Fault]) -> Vec<String> {
    let mut lines = Vec::new();
    for group in faults.chunk_by(|a, b| a.kind == b.kind) {
        lines.extend(group.iter().take(SHOWN).map(|fault| line(fault)));
        lines.extend(more(group.len(), SHOWN).map(|more| format!("{more} of this sort (`segen check`)")));
    }
    lines
}

fn more(count: usize, shown: usize) -> Option<String> {
    (count > shown).then(|| format!("and {} more", count - shown))
}

fn line(fault: &Fault) -> String {
    format!("{}: {}", fault.file.display(), fault.what)
}

/// A check that lies beside the prepared samples, so that the trainings of a sweep read all files once.
#[derive(Serialize, Deserialize)]
struct KeptReport {
    /// Version of this program: later ones may find more.
    version: String,
    /// Every file and folder that was looked at.
    stamps: Vec<(PathBuf, Stamp)>,
    report: Report,
}

/// Checks the data set, or takes what an earlier check found where no file was touched since.
fn report(dataset: &Dataset, cache: &Path, progress: &dyn Progress) -> Result<Report> {
    let path = cache.join(format!("{}.check.json", dataset.name));
    let before = stamps(dataset);
    let kept = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<KeptReport>(&text).ok());
    if let Some(kept) = kept
        && kept.version == env!("CARGO_PKG_VERSION")
        && before.as_ref() == Some(&kept.stamps)
    {
        return Ok(kept.report);
    }
    let report = check::check(&dataset.folder, progress)?;
    if let Some(stamps) = before.filter(|before| stamps(dataset).as_ref() == Some(before)) {
        let kept =
            KeptReport { version: env!("CARGO_PKG_VERSION").to_owned(), stamps, report: report.clone() };
        // It saves time only: where it cannot be written, the next training checks again.
        let _ = write_atomically(&path, &serde_json::to_vec(&kept).unwrap_or_default());
    }
    Ok(report)
}

/// Stamps of everything that a check looks at; `None` where something is not there or was touched just now.
fn stamps(dataset: &Dataset) -> Option<Vec<(PathBuf, Stamp)>> {
    let places = ["imagesTr", "labelsTr", "masksTr", "imagesTs", "labelsTs", "masksTs"];
    let places = places.map(|place| dataset.folder.join(place)).into_iter().filter(|place| place.exists());
    let words = [dataset.folder.clone(), dataset.folder.join("dataset.json")];
    let cases = dataset.training.iter().chain(&dataset.test);
    let files = cases.flat_map(|case| case.images.iter().chain(&case.labels).chain(&case.mask)).cloned();
    let all = words.into_iter().chain(dataset.splits_file()).chain(places).chain(files);
    all.map(|path| Stamp::of(&path).map(|stamp| (path, stamp))).collect()
}
