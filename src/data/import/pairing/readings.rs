//! The ways in which the path of a file can be read.
//!
//! A path is a case and, in what is left of it, a channel or a kind of labels. Where the one ends and the other begins a
//! name does not say (`p0_2_t1`), so that a file has several readings; all files together decide for one.

use std::path::PathBuf;

use super::CaseFrom;
use crate::data::dataset::{Captured, Part, Place, Role, SEPARATORS, Section, Template, role};

/// A NIfTI file of the source.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// As it is shown to people: relative to the source.
    pub(super) shown: String,
    pub(super) place: Place,
    pub(super) told: Told,
}

/// What tells the role of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A scan, since nothing calls it labels.
    Image,
    /// Labels by the folder.
    LabelFolder,
    /// Labels by the last so many bytes of the name, separator included.
    LabelEnd(usize),
    /// Labels by the first so many bytes of the name.
    LabelStart(usize),
    /// A region of interest by the folder.
    Mask,
    /// Neither: labels of another kind than was asked for, scans that were computed from others.
    Left,
}

/// A case as files name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) captured: Captured,
    /// Where folders tell it of labels and scans alike.
    pub(super) section: Option<Section>,
}

/// One way to read a path.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) key: Key,
    pub(super) template: Template,
}

impl File {
    pub(super) fn is_labels(&self) -> bool {
        !matches!(self.told, Told::Image | Told::Mask | Told::Left)
    }

    /// All readings, the longest name of a case first.
    pub(super) fn readings(&self, from: CaseFrom, sections: bool) -> Vec<Reading> {
        let section = self.place.section.filter(|_| sections);
        let reading =
            |(captured, parts)| Reading { key: Key { captured, section }, template: Template::new(parts) };
        let all: Vec<(Captured, Vec<Part>)> = match from {
            CaseFrom::Bids => self.by_entities().into_iter().collect(),
            CaseFrom::Folder => {
                let depths = || (1..=self.place.folders.len()).rev();
                let apart = depths().filter(|depth| *depth > 1).map(|depth| self.by_folder(depth, 0));
                depths().map(|depth| self.by_folder(depth, depth - 1)).chain(apart).collect()
            }
            CaseFrom::Name => {
                let names = self.names();
                let depths = (0..=self.place.folders.len()).rev();
                depths.flat_map(|depth| names.iter().map(move |name| self.by_name(depth, *name))).collect()
            }
        };
        all.into_iter().map(reading).collect()
    }

    /// Folders of a template: of those that tell no role the first so many are captured, and the one in place `case`,
    /// counted from 1, is the case. Those that tell labels stand for themselves; those of scans are left out.
    fn folders(&self, captured: usize, case: Option<usize>) -> Vec<Part> {
        let mut seen = 0;
        let mut parts = Vec::new();
        for (name, told) in &self.place.all {
            match told {
                Some(Role::Image) => {}
                Some(Role::Label) => parts.push(Part::Literal(name.clone())),
                None => {
                    seen += 1;
                    parts.push(match seen {
                        _ if case == Some(seen) => Part::Case { before: String::new(), after: String::new() },
                        _ if seen <= captured => Part::Folder,
                        _ => Part::Literal(name.clone()),
                    });
                }
            }
        }
        parts
    }

    /// The case is the folder at this depth, with so many folders before it. Without them scans and labels may lie apart:
    /// `raw/p0/t1`, `drawn/p0/seg`.
    fn by_folder(&self, depth: usize, captured: usize) -> (Captured, Vec<Part>) {
        let folders = self.place.folders[..captured].to_vec();
        let case = self.place.folders[depth - 1].clone();
        let mut parts = self.folders(captured, Some(depth));
        parts.push(match after_name(&self.place.name, &case) {
            Some(after) => Part::Case { before: String::new(), after: after.to_owned() },
            None => Part::Literal(self.place.name.clone()),
        });
        (Captured { folders, case }, parts)
    }

    /// The case is the range of the name, with so many folders before it.
    fn by_name(&self, depth: usize, [start, end]: [usize; 2]) -> (Captured, Vec<Part>) {
        let text = &self.place.name;
        let mut parts = self.folders(depth, None);
        // A folder of each case, which its name repeats: `raw/p0/p0_t1`.
        for part in &mut parts {
            if *part == Part::Literal(text[start..end].to_owned()) {
                *part = Part::Case { before: String::new(), after: String::new() };
            }
        }
        parts.push(Part::Case { before: text[..start].to_owned(), after: text[end..].to_owned() });
        let captured =
            Captured { folders: self.place.folders[..depth].to_vec(), case: text[start..end].to_owned() };
        (captured, parts)
    }

    /// Subject and session of a BIDS name; the folders repeat them.
    fn by_entities(&self) -> Option<(Captured, Vec<Part>)> {
        let (case, after) = subject_and_session(&self.place.name)?;
        let captured = Captured { folders: Vec::new(), case: case.to_owned() };
        Some((captured, vec![Part::Case { before: String::new(), after: after.to_owned() }]))
    }

    /// The parts of the name that may be the case, as ranges of bytes, the longest first. A word for the role may stand
    /// before it: `volume-0`, `segmentation-0`.
    fn names(&self) -> Vec<[usize; 2]> {
        let name = &self.place.name;
        let (role, last) = match self.told {
            Told::Image | Told::Left => (Role::Image, name.len()),
            Told::LabelEnd(length) => (Role::Label, name.len().saturating_sub(length)),
            Told::LabelFolder | Told::Mask | Told::LabelStart(_) => (Role::Label, name.len()),
        };
        let starts = match (self.told, leading(name, role)) {
            (Told::LabelStart(length), _) => vec![length],
            (_, Some(length)) => vec![0, length],
            (_, None) => vec![0],
        };
        let cuts = name.char_indices().filter(|(_, c)| SEPARATORS.contains(c)).map(|(at, _)| at);
        let mut ends: Vec<usize> = cuts.chain([name.len()]).filter(|end| *end <= last).collect();
        ends.reverse();
        let ranges = starts.into_iter().flat_map(|start| ends.iter().map(move |end| [start, *end]));
        let whole = |[start, end]: &[usize; 2]| {
            start < end && !name[*start..*end].trim_matches(SEPARATORS).is_empty()
        };
        ranges.filter(whole).collect()
    }
}

/// `sub-00_ses-1` and `_T1w` of `sub-00_ses-1_T1w`; `None` where a name has no such parts.
pub(super) fn subject_and_session(name: &str) -> Option<(&str, &str)> {
    let mut entities = name.split('_');
    let subject = entities.next().filter(|entity| entity.starts_with("sub-"))?;
    let session = entities.next().filter(|entity| entity.starts_with("ses-"));
    let end = subject.len() + session.map_or(0, |session| session.len() + 1);
    Some(name.split_at(end)).filter(|(_, after)| !after.is_empty())
}

/// What stands in `name` after the name of its case; `None` where it does not begin so.
pub(super) fn after_name<'a>(name: &'a str, case: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(case).filter(|_| !case.is_empty())?;
    (rest.is_empty() || rest.starts_with(SEPARATORS)).then_some(rest)
}

/// Length of a word for `wanted` at the beginning of a name, with the separator after it: `volume-` of `volume-0`,
/// `img` of `img0001`.
pub(super) fn leading(name: &str, wanted: Role) -> Option<usize> {
    let end = name.find(|c: char| SEPARATORS.contains(&c) || c.is_ascii_digit()).filter(|end| *end > 0)?;
    let separator = usize::from(name[end..].starts_with(SEPARATORS));
    (role(&name[..end]) == Some(wanted) && name.len() > end + separator).then_some(end + separator)
}

/// Length of the word for labels at the end of a name, with the separator before it.
pub(super) fn trailing(name: &str) -> Option<usize> {
    let last = name.rsplit(SEPARATORS).next()?;
    let is_label = role(last) == Some(Role::Label) && last.len() < name.len();
    is_label.then_some(last.len() + 1)
}
