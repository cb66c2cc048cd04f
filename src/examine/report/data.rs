//! What the data are: cases, voxels, classes, and the faults that a check finds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::is_sweep;
use super::page::{Page, texts};
use super::subject::name_of;
use crate::data::check::{self, Severity};
use crate::data::dataset::{Case, Dataset, LabelScheme, Trained};
use crate::prepare::workers::for_each_case;
use crate::progress::Progress;
use crate::run::Run;
use crate::run::record::Record;
use crate::{Result, image};

/// A case of the table.
pub(super) struct Listed {
    pub(super) name: String,
    /// What it was for.
    pub(super) role: String,
    /// Where its grid stands.
    pub(super) image: Option<PathBuf>,
    pub(super) labels: Option<PathBuf>,
}

/// What the files of a case say.
struct Measured {
    shape: [usize; 3],
    spacing: [f64; 3],
    letters: String,
    /// Millilitres of a voxel.
    voxel: f64,
    /// Voxels of every label value; `None` without labels.
    counts: Option<Vec<u64>>,
}

/// Adds the data sets of runs, each once.
pub(super) fn of_runs(page: &mut Page, folders: &[PathBuf], progress: &dyn Progress) -> Result<()> {
    let mut sets: Vec<(PathBuf, Vec<Record>)> = Vec::new();
    for run in folders.iter().filter(|folder| !is_sweep(folder)).map(Run::at).filter(Run::exists) {
        let record = Record::open(&run)?;
        match sets.iter_mut().find(|(folder, _)| *folder == record.manifest.dataset) {
            Some((_, records)) => records.push(record),
            None => sets.push((record.manifest.dataset.clone(), vec![record])),
        }
    }
    for (folder, records) in sets {
        page.section(&format!("Data {}", name_of(&folder)));
        match records[0].dataset(None) {
            Ok(dataset) => of_dataset(page, &dataset, &records, progress)?,
            Err(error) => page.quiet(&format!("The data are not shown: {error}")),
        }
    }
    Ok(())
}

fn of_dataset(page: &mut Page, dataset: &Dataset, records: &[Record], progress: &dyn Progress) -> Result<()> {
    page.text(&format!(
        "{}: {} training and {} test cases; {}.",
        dataset.folder.display(),
        dataset.training.len(),
        dataset.test.len(),
        match dataset.channels.len() {
            1 => format!("one channel, {}", dataset.channels[0]),
            count => format!("{count} channels: {}", dataset.channels.join(", ")),
        }
    ));
    let listed = |case: &Case, role: String| Listed {
        name: case.id.clone(),
        role,
        image: case.images.first().cloned(),
        labels: case.labels.clone(),
    };
    let training = dataset.training.iter().map(|case| listed(case, role(&case.id, records)));
    let test = dataset.test.iter().map(|case| listed(case, "test".to_owned()));
    let cases: Vec<Listed> = training.chain(test).collect();
    tables(page, &cases, &dataset.labels, progress)?;
    findings(page, &dataset.folder, progress)
}

/// What a case was to the runs.
fn role(case: &str, records: &[Record]) -> String {
    let has = |list: &[String]| list.iter().any(|id| id == case);
    if let [Record { split, .. }] = records {
        let role = match (has(&split.train), has(&split.held_out()), has(&split.policy_validation)) {
            (true, ..) => "trained on",
            (_, true, _) => "held out",
            (.., true) => "set aside",
            _ => "not used",
        };
        return role.to_owned();
    }
    let held_out: BTreeSet<String> = records
        .iter()
        .filter(|record| has(&record.split.held_out()))
        .map(|record| name_of(&record.run.folder))
        .collect();
    let trained = records.iter().filter(|record| has(&record.split.train)).count();
    let held_out = held_out.into_iter().collect::<Vec<_>>().join(", ");
    let from = if held_out.is_empty() { String::new() } else { format!("held out from {held_out}; ") };
    format!("{from}trained on by {trained}")
}

/// The classes, then every case.
pub(super) fn tables(
    page: &mut Page,
    cases: &[Listed],
    labels: &LabelScheme,
    progress: &dyn Progress,
) -> Result<()> {
    let measured = for_each_case(cases, "measuring cases", progress, |case| Ok(Measured::of(case)))?;
    let names = match &labels.trained {
        Trained::Values => &labels.names,
        Trained::Regions { values } => values,
    };
    let mut values: BTreeMap<usize, String> = names.iter().cloned().enumerate().skip(1).collect();
    values.extend(labels.ignore.map(|ignore| (usize::from(ignore), "ignored".to_owned())));
    let known: Vec<&Measured> = measured.iter().filter_map(|measured| measured.as_ref().ok()).collect();
    sizes(page, &known);
    classes(page, &known, &values);
    let mut heading = texts(["case", "role", "voxels", "spacing mm", "axes"]);
    heading.extend(values.values().map(|name| format!("voxels of {name}")));
    let rows: Vec<Vec<String>> = cases
        .iter()
        .zip(&measured)
        .map(|(case, measured)| {
            let mut row = vec![case.name.clone(), case.role.clone()];
            match measured {
                Ok(measured) => {
                    row.extend([times(measured.shape), spacing(measured.spacing), measured.letters.clone()]);
                    row.extend(values.keys().map(|value| {
                        measured.counts.as_ref().map_or("-".to_owned(), |counts| counts[*value].to_string())
                    }));
                }
                Err(_) => row.resize(heading.len(), "-".to_owned()),
            }
            row
        })
        .collect();
    page.heading("Every case of the data");
    page.table(&heading, &rows, 2);
    for (case, error) in cases.iter().zip(&measured).filter_map(|(case, m)| Some((case, m.as_ref().err()?))) {
        page.warning(&format!("{}: {error}", case.name));
    }
    Ok(())
}

impl Measured {
    fn of(case: &Listed) -> Result<Self> {
        let (mut grid, mut counts) = (None, None);
        if let Some(path) = &case.labels {
            let (labels, _) = image::read_labels(path)?;
            let mut found = vec![0u64; 256];
            labels.voxels.iter().for_each(|value| found[usize::from(*value)] += 1);
            (grid, counts) = (Some(labels.grid), Some(found));
        }
        let grid = match (grid, &case.image) {
            (Some(grid), _) => grid,
            (None, Some(path)) => image::read_header(path)?.grid(),
            (None, None) => crate::image::volume::Grid::with_spacing([0; 3], [1.0; 3]),
        };
        Ok(Self {
            shape: grid.shape,
            spacing: grid.spacing(),
            letters: grid.orientation().letters(),
            voxel: grid.voxel_volume() / 1000.0,
            counts,
        })
    }
}

/// The range of shapes and spacings, axis by axis.
fn sizes(page: &mut Page, measured: &[&Measured]) {
    if measured.is_empty() {
        return;
    }
    let row = |name: &str, value: &dyn Fn(&Measured, usize) -> f64, digits: usize| {
        let mut row = vec![name.to_owned()];
        for axis in 0..3 {
            let mut values: Vec<f64> = measured.iter().map(|measured| value(measured, axis)).collect();
            values.sort_by(f64::total_cmp);
            let middle = values[values.len() / 2];
            let (low, high) = (values[0], values[values.len() - 1]);
            row.push(match low == high {
                true => format!("{middle:.digits$}"),
                false => format!("{middle:.digits$} ({low:.digits$} to {high:.digits$})"),
            });
        }
        row
    };
    let rows =
        [row("voxels", &|m, axis| m.shape[axis] as f64, 0), row("spacing mm", &|m, axis| m.spacing[axis], 2)];
    page.heading("Size: median (lowest to highest) along the axes of the files");
    page.table(&texts(["", "first", "second", "third"]), &rows, 1);
}

/// How much there is of every class.
fn classes(page: &mut Page, measured: &[&Measured], values: &BTreeMap<usize, String>) {
    let labelled: Vec<(&Vec<u64>, f64)> =
        measured.iter().filter_map(|m| Some((m.counts.as_ref()?, m.voxel))).collect();
    let all: u64 = labelled.iter().map(|(counts, _)| counts.iter().sum::<u64>()).sum();
    let rows: Vec<Vec<String>> = values
        .iter()
        .map(|(value, name)| {
            let mut volumes: Vec<f64> = labelled
                .iter()
                .filter(|(counts, _)| counts[*value] > 0)
                .map(|(counts, voxel)| counts[*value] as f64 * voxel)
                .collect();
            volumes.sort_by(f64::total_cmp);
            let voxels: u64 = labelled.iter().map(|(counts, _)| counts[*value]).sum();
            let volume = match (volumes.first(), volumes.last()) {
                (Some(low), Some(high)) => {
                    format!("{:.2} ({low:.2} to {high:.2})", volumes[volumes.len() / 2])
                }
                _ => "-".to_owned(),
            };
            vec![
                name.clone(),
                value.to_string(),
                format!("{} of {}", volumes.len(), labelled.len()),
                voxels.to_string(),
                format!("{:.3} %", 100.0 * voxels as f64 / all.max(1) as f64),
                volume,
            ]
        })
        .collect();
    page.heading("Classes of the references");
    let heading = [
        "class",
        "value",
        "cases that have it",
        "voxels",
        "share",
        "ml where it is: median (lowest to highest)",
    ];
    page.table(&texts(heading), &rows, 1);
}

/// What `segen check` says.
fn findings(page: &mut Page, folder: &Path, progress: &dyn Progress) -> Result<()> {
    let report = check::check(folder, progress)?;
    page.heading("Findings of segen check");
    if report.faults.is_empty() {
        page.text("No fault.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = report
        .faults
        .iter()
        .map(|fault| {
            let severity = match fault.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let file = fault.file.display().to_string();
            [severity, &file, &fault.what, &fault.place, &fault.mend].map(str::to_owned).to_vec()
        })
        .collect();
    page.table(&texts(["severity", "file", "what", "where", "hint"]), &rows, 5);
    Ok(())
}

fn times(shape: [usize; 3]) -> String {
    shape.map(|n| n.to_string()).join(" x ")
}

fn spacing(spacing: [f64; 3]) -> String {
    spacing.map(|mm| format!("{mm:.2}")).join(" x ")
}
