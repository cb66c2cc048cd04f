//! Label maps of any tool against references: no run is needed, and no scan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::page::Page;
use super::subject::{self, Files, Kind, Part, Subject};
use super::{Options, PagePart, answer, compare, data, run};
use crate::data::dataset::{LabelScheme, Region, Trained, entries, file_name};
use crate::image::{read_labels, readable_stem, split_channel};
use crate::prepare::workers::for_each_case;
use crate::progress::Progress;
use crate::score::{self, MissingRule, ScoreOptions, ScoredFolder};
use crate::{Error, Result, files};

/// Folders of label maps, one for every tool, and what they are compared with.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Folders of predicted label maps; files have the names of the references.
    pub predictions: Vec<PathBuf>,
    /// Folder of the references.
    pub references: PathBuf,
    /// Folder of the scans, `CASE_0000.nii.gz`, ... or `CASE.nii.gz`; else `imagesTr` beside `labelsTr`, or `imagesTs`
    /// beside `labelsTs`; else none is shown.
    pub images: Option<PathBuf>,
    /// The `dataset.json` that names the labels; else the one that `segen evaluate` would take; else every value that
    /// occurs is a class of its own.
    pub description: Option<PathBuf>,
}

impl Predictions {
    /// The files and folders that are read.
    pub(super) fn inputs(&self) -> Vec<PathBuf> {
        let named = [&self.references].into_iter().chain(&self.images).chain(&self.description);
        self.predictions.iter().chain(named).cloned().chain(self.images_folder()).collect()
    }

    fn images_folder(&self) -> Option<PathBuf> {
        if self.images.is_some() {
            return self.images.clone();
        }
        let name = match self.references.file_name()?.to_str()? {
            "labelsTr" => "imagesTr",
            "labelsTs" => "imagesTs",
            _ => return None,
        };
        Some(self.references.with_file_name(name)).filter(|folder| folder.is_dir())
    }

    /// The meaning of the label values.
    fn labels(&self, progress: &dyn Progress) -> Result<LabelScheme> {
        if let Some(file) = &self.description {
            return LabelScheme::read(file);
        }
        let found = self.predictions.iter().find_map(|p| score::find_description(p, &self.references).ok());
        match found {
            Some(file) => LabelScheme::read(&file),
            None => self.labels_by_value(progress),
        }
    }

    /// Every value that occurs as a class.
    fn labels_by_value(&self, progress: &dyn Progress) -> Result<LabelScheme> {
        let references = values(&self.references, progress)?;
        let mut all = references.clone();
        for folder in &self.predictions {
            let predicted = values(folder, progress)?;
            if !predicted.is_empty() && !references.is_empty() && predicted.is_disjoint(&references) {
                return Err(Error::invalid(
                    folder,
                    "label values",
                    format!("{predicted:?} occur here and {references:?} in the references, none in both"),
                    "give both the same values, such as 1 instead of 255",
                ));
            }
            all.extend(predicted);
        }
        let highest = all.iter().max().copied().unwrap_or(0);
        let name = |value: u8| if value == 0 { "background".to_owned() } else { format!("label {value}") };
        let region = |value: &u8| Region { name: name(*value), values: vec![*value] };
        Ok(LabelScheme {
            names: (0..=highest).map(name).collect(),
            regions: all.iter().map(region).collect(),
            ignore: None,
            regions_class_order: None,
            trained: Trained::Values,
        })
    }

    /// One tool: scores, and the files of every case.
    fn subject(
        &self,
        folder: &Path,
        labels: &LabelScheme,
        scans: &Scans,
        progress: &dyn Progress,
    ) -> Result<(Subject, usize)> {
        let options = ScoreOptions { missing: MissingRule::Skip, ..ScoreOptions::default() };
        let summary = score::evaluate(folder, &self.references, labels, &options, progress)?;
        let words = serde_json::to_value(&summary);
        let words =
            words.map_err(|error| Error::Internal { what: format!("reading scores back: {error}") })?;
        let files = summary.cases.iter().map(|case| {
            let images = scans.of(&case.case);
            let (reference, prediction) = (case.reference_file.clone(), case.prediction_file.clone());
            let mask = score::mask_of(&reference, &options)?;
            Ok(Some(Files { images, reference, mask, prediction }))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        let part = Part { kind: Kind::Given, scored: ScoredFolder::of(&words, folder)?, files };
        let (name, labels) = (subject::name_of(folder), labels.clone());
        Ok((Subject { name, parts: vec![part], labels, channels: Vec::new() }, summary.without_prediction))
    }
}

/// Writes the page of label maps.
///
/// # Errors
/// Those of [`score::evaluate`], and where a folder cannot be read.
pub(super) fn write(predictions: &Predictions, options: &Options, progress: &dyn Progress) -> Result<Page> {
    let labels = predictions.labels(progress)?;
    let scans = match predictions.images_folder() {
        Some(folder) => Scans::in_folder(&folder)?,
        None => Scans::default(),
    };
    let (mut subjects, mut missing) = (Vec::new(), Vec::new());
    for folder in &predictions.predictions {
        let (subject, left_out) = predictions.subject(folder, &labels, &scans, progress)?;
        subjects.push(subject);
        missing.push(left_out);
    }
    let folders: Vec<&Path> = predictions.predictions.iter().map(PathBuf::as_path).collect();
    subject::name_apart(&mut subjects, &folders);
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name.as_str()).collect();
    let mut page = Page::new(&format!("Report on {}", names.join(", ")));
    let shown = match options.without.contains(&PagePart::Viewer) {
        true => Vec::new(),
        false => subject::shown(&subjects),
    };
    page.section("Answer");
    for (column, (subject, missing)) in subjects.iter().zip(missing).enumerate() {
        if subjects.len() > 1 {
            page.heading(&subject.name);
        }
        answer::found(&mut page, subject, column, &shown);
        if missing > 0 {
            let words =
                format!("{missing} references have no prediction in {} and are in no score", subject.name);
            progress.note(&words);
            page.warning(&format!("{words}."));
        }
    }
    if subjects.len() > 1 {
        page.section("Side by side");
        compare::table(&mut page, &["predictions"], &subjects, &vec![Vec::new(); subjects.len()]);
    }
    super::cases(&mut page, &subjects, &shown, options, progress)?;
    for (column, subject) in subjects.iter().enumerate() {
        page.section(&format!("Predictions {}", predictions.predictions[column].display()));
        let scored = &subject.parts[0].scored;
        run::scores(&mut page, "Cases", scored);
        run::per_case(&mut page, scored, |case| subject::link(&shown, column, 0, case));
    }
    if !options.without.contains(&PagePart::Data) {
        page.section("Data");
        data::tables(&mut page, &listed(&subjects), &labels, progress)?;
    }
    Ok(page)
}

/// Every reference that was scored against, once.
fn listed(subjects: &[Subject]) -> Vec<data::Listed> {
    let mut cases: BTreeMap<&str, &Files> = BTreeMap::new();
    for part in subjects.iter().flat_map(|subject| &subject.parts) {
        for (case, files) in part.scored.cases.iter().zip(&part.files) {
            cases.extend(files.as_ref().map(|files| (case.case.as_str(), files)));
        }
    }
    let listed = |(name, files): (&str, &Files)| data::Listed {
        name: name.to_owned(),
        role: "scored".to_owned(),
        image: files.images.first().cloned(),
        labels: Some(files.reference.clone()),
    };
    cases.into_iter().map(listed).collect()
}

/// The foreground values of all label maps in a folder.
fn values(folder: &Path, progress: &dyn Progress) -> Result<BTreeSet<u8>> {
    std::fs::read_dir(folder).map_err(|error| files::unreadable(folder, error))?;
    let maps: Vec<PathBuf> =
        entries(folder)?.into_iter().filter(|path| readable_stem(&file_name(path)).is_some()).collect();
    let values = for_each_case(&maps, "reading label values", progress, |path| {
        let (labels, _) = read_labels(path)?;
        let mut there = [false; 256];
        labels.voxels.iter().for_each(|value| there[usize::from(*value)] = true);
        Ok((1..=255u8).filter(|value| there[usize::from(*value)]).collect::<Vec<_>>())
    })?;
    Ok(values.into_iter().flatten().collect())
}

/// The scans of a folder, by their names without endings.
#[derive(Default)]
struct Scans(BTreeMap<String, PathBuf>);

impl Scans {
    fn in_folder(folder: &Path) -> Result<Self> {
        std::fs::read_dir(folder).map_err(|error| files::unreadable(folder, error))?;
        let scans = entries(folder)?.into_iter();
        Ok(Self(
            scans.filter_map(|path| Some((readable_stem(&file_name(&path))?.to_owned(), path))).collect(),
        ))
    }

    /// The channels of a case: one file with its name, or those with numbers behind it.
    fn of(&self, case: &str) -> Vec<PathBuf> {
        if let Some(alone) = self.0.get(case) {
            return vec![alone.clone()];
        }
        let of_case = |name: &str| split_channel(name).is_some_and(|(of, _)| of == case);
        // In order of their names, which is that of the channels.
        self.0.iter().filter(|(name, _)| of_case(name)).map(|(_, path)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_found_by_the_name_of_their_case() {
        let names = ["a_0001", "a_0000", "ab_0000", "b", "b_0000"];
        let scans = Scans(names.map(|name| (name.to_owned(), PathBuf::from(name))).into_iter().collect());
        assert_eq!(scans.of("a"), ["a_0000", "a_0001"].map(PathBuf::from));
        assert_eq!(scans.of("b"), ["b"].map(PathBuf::from));
        assert!(scans.of("c").is_empty());
    }
}
