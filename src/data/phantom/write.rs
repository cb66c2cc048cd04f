//! A whole data set of phantoms in nnU-Net layout.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::{Kind, PhantomCase, PhantomOptions, Split, generate};
use crate::files::{create_folder, folder_beside, publish_folder, write_atomically};
use crate::image::{ENDING, channel_name, write_image, write_labels};
use crate::progress::Progress;
use crate::{Error, Result};

/// What was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The options as used.
    pub options: PhantomOptions,
    /// Names of label values 0, 1, ...
    pub classes: Vec<String>,
    /// The training cases.
    pub training: SplitReport,
    /// The test cases.
    pub test: SplitReport,
}

/// Counts over the cases of one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// Number of cases.
    pub cases: usize,
    /// Cases without a lesion.
    pub without_lesion: usize,
    /// Voxels of each label value over all cases.
    pub class_voxels: Vec<u64>,
    /// Voxels outside lesions per voxel inside them.
    pub ratio: f64,
    /// Fewest lesion voxels in a case that has a lesion.
    pub smallest: u64,
    /// Most lesion voxels in a case.
    pub largest: u64,
}

/// Makes all cases and writes them to `folder` as an nnU-Net data set with `dataset.json`, `imagesTr`, `labelsTr`,
/// `imagesTs`, `labelsTs` and, for kinds that have them, `masksTr` and `masksTs`. The bytes do not depend on the
/// number of threads. The folder appears under its name only when it is complete.
///
/// # Errors
/// For options that cannot be used, a folder that exists, and the operating system's errors.
pub fn write(options: &PhantomOptions, folder: &Path, progress: &dyn Progress) -> Result<Report> {
    options.validate()?;
    if folder.exists() {
        return Err(Error::invalid(
            folder,
            "folder",
            "exists already",
            "give the name of a new folder, or remove this one first",
        ));
    }
    let aside = folder_beside(folder)?;
    let report = fill(options, aside.path(), progress)?;
    publish_folder(aside, folder)?;
    Ok(report)
}

fn fill(options: &PhantomOptions, folder: &Path, progress: &dyn Progress) -> Result<Report> {
    let work: Vec<(Split, usize)> = [Split::Training, Split::Test]
        .into_iter()
        .flat_map(|split| (0..options.count(split)).map(move |index| (split, index)))
        .collect();
    for split in [Split::Training, Split::Test] {
        for place in ["images", "labels", "masks"] {
            if place != "masks" || options.kind.has_masks() {
                create_folder(&folder.join(place_of(place, split)))?;
            }
        }
    }
    progress.begin("making phantoms", work.len() as u64);
    let counts = work
        .par_iter()
        .map(|(split, index)| {
            let case = generate(options, *split, *index);
            save(&case, *split, folder)?;
            progress.advance(1);
            Ok((*split, count(&case, options.kind)))
        })
        .collect::<Result<Vec<_>>>();
    progress.end();
    let counts = counts?;
    let summary = |wanted: Split| {
        let counts: Vec<&Vec<u64>> =
            counts.iter().filter(|(split, _)| *split == wanted).map(|c| &c.1).collect();
        summarise(&counts, options.kind)
    };
    let report = Report {
        options: options.clone(),
        classes: std::iter::once("background")
            .chain(options.kind.classes().iter().copied())
            .map(str::to_owned)
            .collect(),
        training: summary(Split::Training),
        test: summary(Split::Test),
    };
    describe(&report, folder)?;
    Ok(report)
}

/// `imagesTr`, `labelsTs`, ...
fn place_of(place: &str, split: Split) -> String {
    format!(
        "{place}{}",
        match split {
            Split::Training => "Tr",
            Split::Test => "Ts",
        }
    )
}

fn save(case: &PhantomCase, split: Split, folder: &Path) -> Result<()> {
    let images = folder.join(place_of("images", split));
    for (number, channel) in case.channels.iter().enumerate() {
        write_image(&images.join(channel_name(&case.id, number, ENDING)), channel, None)?;
    }
    let name = format!("{}{ENDING}", case.id);
    write_labels(&folder.join(place_of("labels", split)).join(&name), &case.labels, None)?;
    match &case.mask {
        Some(mask) => write_labels(&folder.join(place_of("masks", split)).join(&name), mask, None),
        None => Ok(()),
    }
}

/// Voxels of each label value.
fn count(case: &PhantomCase, kind: Kind) -> Vec<u64> {
    let mut counts = vec![0; kind.classes().len() + 1];
    for label in &case.labels.voxels {
        counts[usize::from(*label)] += 1;
    }
    counts
}

fn summarise(cases: &[&Vec<u64>], kind: Kind) -> SplitReport {
    let lesion = |counts: &[u64]| kind.rare().iter().map(|value| counts[usize::from(*value)]).sum::<u64>();
    let class_voxels: Vec<u64> =
        (0..=kind.classes().len()).map(|value| cases.iter().map(|counts| counts[value]).sum()).collect();
    let (all, inside) = (class_voxels.iter().sum::<u64>(), lesion(&class_voxels));
    let sizes: Vec<u64> = cases.iter().map(|counts| lesion(counts)).collect();
    SplitReport {
        cases: cases.len(),
        without_lesion: sizes.iter().filter(|size| **size == 0).count(),
        ratio: (all - inside) as f64 / inside.max(1) as f64,
        smallest: sizes.iter().copied().filter(|size| *size > 0).min().unwrap_or(0),
        largest: sizes.iter().copied().max().unwrap_or(0),
        class_voxels,
    }
}

/// Writes `dataset.json`.
fn describe(report: &Report, folder: &Path) -> Result<()> {
    let kind = report.options.kind;
    let channels: serde_json::Map<String, serde_json::Value> =
        kind.channels().iter().enumerate().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let mut labels = serde_json::Map::new();
    labels.insert("background".into(), json!(0));
    let mut description = json!({
        "name": format!("{kind} phantom"),
        "description": "Synthetic scans with rare lesions; labels are exact",
        "channel_names": channels,
        "numTraining": report.training.cases,
        "file_ending": ENDING,
        "phantom": report,
    });
    if kind == Kind::Brats {
        // nnU-Net's regions for BraTS; the three parts themselves are trained, the regions are scored.
        labels.insert("whole tumor".into(), json!([1, 2, 3]));
        labels.insert("tumor core".into(), json!([2, 3]));
        labels.insert("enhancing tumor".into(), json!(3));
        description["regions_class_order"] = json!([1, 2, 3]);
        description["label_names"] = json!({"1": "edema", "2": "necrosis"});
    } else {
        for (i, name) in kind.classes().iter().enumerate() {
            labels.insert((*name).into(), json!(i + 1));
        }
    }
    description["labels"] = labels.into();
    let path = folder.join("dataset.json");
    let text = serde_json::to_string_pretty(&description).map_err(|e| Error::io("write", &path, e.into()))?;
    write_atomically(&path, (text + "\n").as_bytes())
}
