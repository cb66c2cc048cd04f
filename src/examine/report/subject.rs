//! What a page is about: networks, or tools, with the cases that each was scored on.

use std::path::{Path, PathBuf};

use super::page::Link;
use crate::Result;
use crate::data::dataset::{Case, Dataset, LabelScheme};
use crate::run::Run;
use crate::run::folds::CrossValidation;
use crate::run::record::Record;
use crate::score::{ScoredCase, ScoredFolder};

/// A network or a tool.
pub(super) struct Subject {
    /// What it is called on the page: the name of its folder.
    pub(super) name: String,
    /// What it was scored on, what says most about new scans first.
    pub(super) parts: Vec<Part>,
    /// The meaning of label values.
    pub(super) labels: LabelScheme,
    /// Names of the channels; where there are none the scans are not known.
    pub(super) channels: Vec<String>,
}

/// Cases of one kind.
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) scored: ScoredFolder,
    /// The files of every scored case; `None` where they are not there any more.
    pub(super) files: Vec<Option<Files>>,
}

/// The files of a scored case.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) images: Vec<PathBuf>,
    pub(super) reference: PathBuf,
    pub(super) mask: Option<PathBuf>,
    pub(super) prediction: PathBuf,
}

/// What cases are to the network that was scored on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Test,
    HeldOut,
    /// Of a tool of which nothing is known.
    Given,
    TrainedOn,
}

impl Kind {
    /// In words, before "cases".
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::HeldOut => "held-out",
            Self::Given => "scored",
            Self::TrainedOn => "training",
        }
    }
}

impl Subject {
    /// A run, with what is there of its scores.
    pub(super) fn of_run(run: &Run) -> Result<Self> {
        let record = Record::open(run)?;
        let dataset = record.dataset(None).ok();
        let mut parts = Vec::new();
        for name in ["test", "validation", "train"] {
            let path = run.path(name).join("summary.json");
            if !path.is_file() {
                continue;
            }
            let scored = ScoredFolder::read(&path)?;
            let kind = match name {
                "test" => Kind::Test,
                "validation" if !scored.trained_on && !record.split.held_out().is_empty() => Kind::HeldOut,
                _ => Kind::TrainedOn,
            };
            parts.push(Part::of(kind, scored, dataset.as_ref(), &run.path(name)));
        }
        Ok(Self { name: name_of(&run.folder), parts, labels: record.labels, channels: record.channels })
    }

    /// A cross-validation whose folds have been pooled.
    pub(super) fn of_folds(all: &CrossValidation) -> Result<Self> {
        let record = Record::open(&all.run(all.folds()[0]))?;
        let dataset = record.dataset(None).ok();
        let scored = ScoredFolder::read(&all.folder.join("summary.json"))?;
        let part = Part::of(Kind::HeldOut, scored, dataset.as_ref(), &all.folder.join("validation"));
        let (labels, channels) = (record.labels, record.channels);
        Ok(Self { name: name_of(&all.folder), parts: vec![part], labels, channels })
    }

    /// The part that says most about new scans.
    pub(super) fn main(&self) -> Option<&Part> {
        self.parts.iter().find(|part| !part.scored.cases.is_empty())
    }
}

impl Part {
    /// Cases of a data set whose predictions lie in `folder`.
    fn of(kind: Kind, scored: ScoredFolder, dataset: Option<&Dataset>, folder: &Path) -> Self {
        let files = |scored: &ScoredCase| {
            // A test case may have the name of another one.
            let cases = match kind {
                Kind::Test => &dataset?.test,
                _ => &dataset?.training,
            };
            let Case { images, labels, mask, .. } = cases.iter().find(|case| case.id == scored.case)?.clone();
            let prediction = folder.join(&scored.prediction);
            let there = prediction.is_file() && images.iter().all(|image| image.is_file());
            there.then_some(Files { images, reference: labels?, mask, prediction })
        };
        let files = scored.cases.iter().map(files).collect();
        Self { kind, scored, files }
    }

    /// Its cases, the worst first, by their number in `scored`.
    pub(super) fn ranked(&self) -> Vec<usize> {
        let rank = |case: &usize| mean_dice(&self.scored.cases[*case]).unwrap_or(f64::INFINITY);
        let mut ranked: Vec<usize> = (0..self.scored.cases.len()).collect();
        ranked.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        ranked
    }
}

/// Mean Dice over the regions where it is defined.
pub(super) fn mean_dice(case: &ScoredCase) -> Option<f64> {
    let values: Vec<f64> = case.values.iter().filter_map(|region| region.get("Dice").copied()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The last part of a folder's name.
pub(super) fn name_of(folder: &Path) -> String {
    match folder.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        // `.` and `..` are called what they are.
        None => match folder.canonicalize().ok().as_deref().and_then(Path::file_name) {
            Some(name) => name.to_string_lossy().into_owned(),
            None => folder.display().to_string(),
        },
    }
}

/// A scored case of every subject that has it, told apart by the file of its reference.
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) files: Files,
    /// By subject: its part, the case's number in it, and the file of its prediction.
    pub(super) columns: Vec<Option<(usize, usize, PathBuf)>>,
}

/// All scored cases whose files are there: what says most about new scans first, of these the worst first.
pub(super) fn shown(subjects: &[Subject]) -> Vec<Shown> {
    let mut shown: Vec<(Kind, Shown)> = Vec::new();
    for (column, subject) in subjects.iter().enumerate() {
        for (number, part) in subject.parts.iter().enumerate() {
            for case in part.ranked() {
                let Some(files) = &part.files[case] else { continue };
                let known = shown.iter().position(|(_, shown)| shown.files.reference == files.reference);
                let place = known.unwrap_or_else(|| {
                    let name = part.scored.cases[case].case.clone();
                    let columns = vec![None; subjects.len()];
                    shown.push((part.kind, Shown { name, files: files.clone(), columns }));
                    shown.len() - 1
                });
                // A case of two parts, as with a fold of all cases, is shown once.
                let column = &mut shown[place].1.columns[column];
                column.get_or_insert((number, case, files.prediction.clone()));
            }
        }
    }
    shown.sort_by_key(|(kind, _)| *kind);
    shown.into_iter().map(|(_, shown)| shown).collect()
}

/// Where the page shows a case of a subject.
pub(super) fn link(shown: &[Shown], column: usize, part: usize, case: usize) -> Option<Link> {
    let here = |shown: &Shown| {
        shown.columns[column].as_ref().is_some_and(|(its, number, _)| (*its, *number) == (part, case))
    };
    shown.iter().position(here).map(Link)
}

/// Gives subjects of one name the folders that they lie in, too.
pub(super) fn name_apart(subjects: &mut [Subject], folders: &[&Path]) {
    let names: Vec<String> = subjects.iter().map(|subject| subject.name.clone()).collect();
    for (number, subject) in subjects.iter_mut().enumerate() {
        if names.iter().filter(|name| **name == names[number]).count() > 1 {
            subject.name = folders[number].display().to_string();
        }
    }
}
