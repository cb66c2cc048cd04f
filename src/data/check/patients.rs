//! Names that look like several scans of one patient, validated in different folds.
//!
//! Nothing says which part of a name is the patient, so three signs are taken: a word for a visit or a side
//! (`sub-07_ses-2`, `p3_left`), a name that another name continues (`p03`, `p03_b`), and a short last part after
//! a numbered one, where that gives many small groups (`GLI-00005-000`, `GLI-00005-001`).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Fault, Kind};
use crate::data::dataset::{Dataset, Fold};

/// One warning for the whole data set, with an example.
pub(super) fn fault(dataset: &Dataset, folds: &[Fold]) -> Option<Fault> {
    let ids: Vec<&str> = dataset.training.iter().map(|case| case.id.as_str()).collect();
    let sides: Vec<(HashSet<&str>, HashSet<&str>)> = folds
        .iter()
        .map(|fold| {
            (
                fold.train.iter().map(String::as_str).collect(),
                fold.validation.iter().map(String::as_str).collect(),
            )
        })
        .collect();
    // The folds in which a patient is trained on and held out.
    let torn = |scans: &[&str]| -> Vec<usize> {
        let on_both = |(train, held_out): &(HashSet<&str>, HashSet<&str>)| {
            scans.iter().any(|scan| train.contains(scan)) && scans.iter().any(|scan| held_out.contains(scan))
        };
        (0..sides.len()).filter(|fold| on_both(&sides[*fold])).collect()
    };
    let patients: Vec<(String, Vec<&str>, Vec<usize>)> = patients(&ids)
        .into_iter()
        .map(|(patient, scans)| {
            let folds = torn(&scans);
            (patient, scans, folds)
        })
        .filter(|(_, _, folds)| !folds.is_empty())
        .collect();
    let (patient, scans, example_folds) = patients.first()?;
    let held_out = |fold: &usize| {
        let scans: Vec<&str> = scans.iter().copied().filter(|scan| sides[*fold].1.contains(scan)).collect();
        format!("fold {fold} holds out {}", scans.join(" and "))
    };
    let example: Vec<String> = example_folds.iter().map(held_out).collect();
    let all: BTreeSet<usize> = patients.iter().flat_map(|(_, _, folds)| folds.iter().copied()).collect();
    let all: Vec<String> = all.iter().map(usize::to_string).collect();
    let what = format!(
        "{} name(s) look like one patient trained on and held out at once, for example `{patient}`: {}",
        patients.len(),
        example.join(", ")
    );
    let mend = "where they are, write splits_final.json with all scans of a patient on one side (`segen import --group-by` \
                does); scores are too good otherwise";
    let path = dataset.splits_file().unwrap_or_else(|| dataset.folder.join("imagesTr"));
    Some(Fault::warning(Kind::Patient, &path, what, mend).at(format!("folds {}", all.join(", "))))
}

/// Groups of at least two names that look like one patient.
fn patients<'a>(ids: &[&'a str]) -> Vec<(String, Vec<&'a str>)> {
    let known: BTreeSet<&str> = ids.iter().copied().collect();
    let by_word = group(ids, |id| before_word(id).or_else(|| continued(id, &known)));
    let found: Vec<_> = by_word.into_iter().filter(|(_, scans)| scans.len() > 1).collect();
    if !found.is_empty() {
        return found;
    }
    let groups = group(ids, |id| before_last(id));
    let largest = groups.values().map(Vec::len).max().unwrap_or(0);
    if groups.len() < 3 || largest > LARGEST {
        return Vec::new();
    }
    groups.into_iter().filter(|(_, scans)| scans.len() > 1).collect()
}

/// More scans of one patient are unlikely; what comes so often is a site or a study.
const LARGEST: usize = 12;

fn group<'a>(
    ids: &[&'a str],
    patient: impl Fn(&'a str) -> Option<&'a str>,
) -> BTreeMap<String, Vec<&'a str>> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for id in ids {
        groups.entry(patient(id).unwrap_or(id).to_owned()).or_default().push(id);
    }
    groups
}

const SEPARATORS: [char; 4] = ['_', '-', '.', ' '];

/// Words that come after the patient, with or without a number.
const WORDS: [&str; 22] = [
    "ses",
    "session",
    "visit",
    "scan",
    "time",
    "timepoint",
    "tp",
    "t",
    "v",
    "day",
    "week",
    "month",
    "year",
    "baseline",
    "followup",
    "fu",
    "pre",
    "post",
    "left",
    "right",
    "l",
    "r",
];

/// What comes before a word for a visit or a side, where it has a number in it.
fn before_word(id: &str) -> Option<&str> {
    let mut start = 0;
    for part in id.split(SEPARATORS) {
        let letters = part.trim_end_matches(|c: char| c.is_ascii_digit()).to_lowercase();
        if start > 0 && WORDS.contains(&letters.as_str()) {
            return Some(id[..start].trim_end_matches(SEPARATORS)).filter(|patient| numbered(patient));
        }
        start += part.len() + 1;
    }
    None
}

/// The shortest other name with a number that this one continues after a separator.
fn continued<'a>(id: &'a str, known: &BTreeSet<&str>) -> Option<&'a str> {
    let ends = id.char_indices().filter(|(_, c)| SEPARATORS.contains(c)).map(|(index, _)| index);
    ends.map(|end| &id[..end]).find(|start| numbered(start) && known.contains(start))
}

/// What comes before a last part of at most three letters or digits, where the part before it has a number.
fn before_last(id: &str) -> Option<&str> {
    let (start, last) = id.rsplit_once(SEPARATORS)?;
    let previous = start.rsplit(SEPARATORS).next()?;
    (last.len() <= 3 && numbered(previous)).then_some(start)
}

fn numbered(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: &[&str]) -> Vec<String> {
        patients(ids).into_iter().map(|(patient, scans)| format!("{patient}: {}", scans.join(" "))).collect()
    }

    #[test]
    fn several_scans_of_one_patient_are_recognised() {
        assert_eq!(
            found(&["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]),
            ["sub-01: sub-01_ses-1 sub-01_ses-2"]
        );
        assert_eq!(found(&["p01", "p02", "p02_b"]), ["p02: p02 p02_b"]);
        assert_eq!(found(&["pat3_left", "pat3_right", "pat4_left"]), ["pat3: pat3_left pat3_right"]);
        assert_eq!(
            found(&[
                "BraTS-GLI-00005-000",
                "BraTS-GLI-00005-001",
                "BraTS-GLI-00006-000",
                "BraTS-GLI-00009-000"
            ]),
            ["BraTS-GLI-00005: BraTS-GLI-00005-000 BraTS-GLI-00005-001"]
        );
    }

    #[test]
    fn ordinary_numbering_is_not_taken_for_patients() {
        let many = |format: &dyn Fn(usize) -> String| -> Vec<String> { (0..40).map(format).collect() };
        for names in [
            many(&|i| format!("hippocampus_{i:03}")),
            many(&|i| format!("BraTS2021_{i:05}")),
            many(&|i| format!("brats_2013_pat{i:04}_1")),
            many(&|i| format!("site{}_{i:03}", i % 2)),
            many(&|i| format!("case_{i:05}")),
            many(&|i| format!("BraTS19_CBICA_A{}B_1", char::from(b'A' + (i % 26) as u8))),
            many(&|i| format!("{i:03}")),
            many(&|i| format!("scan_{i}")),
        ] {
            let ids: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            let ids: Vec<&str> = ids.into_iter().collect();
            assert_eq!(found(&ids), Vec::<String>::new(), "{names:?}");
        }
    }
}
