//! Which cases are trained on and which are held out, by the same rules and with the same result as nnU-Net.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Problem;
use super::legacy_random::LegacyRandom;
use crate::{Error, Result, files};

/// Training and validation cases by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// Trained on.
    pub train: Vec<String>,
    /// Held out.
    #[serde(rename = "val")]
    pub validation: Vec<String>,
}

/// nnU-Net's seed of every split.
const SEED: u32 = 12345;
/// nnU-Net's number of folds.
const FOLDS: usize = 5;

/// The file that fixes the folds, where there is one.
pub(crate) fn file(folder: &Path, preprocessed: Option<&Path>) -> Option<PathBuf> {
    let beside = folder.join("splits_final.json");
    let elsewhere = || Some(preprocessed?.join(folder.file_name()?).join("splits_final.json"));
    if beside.is_file() { Some(beside) } else { elsewhere().filter(|path| path.is_file()) }
}

/// Reads `splits_final.json`.
pub(crate) fn read(path: &Path) -> Result<Vec<Fold>> {
    files::read_json(
        path,
        "it must be a list of {\"train\": [names], \"val\": [names]}; without the file the usual five folds are made",
    )
}

/// Everything that is wrong with folds over the cases `ids`.
pub(crate) fn problems(folds: &[Fold], ids: &[String]) -> Vec<Problem> {
    let known: HashSet<&str> = ids.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    let mut report = |field: String, problem: String, mend: &str| {
        problems.push(Problem { field, problem, mend: mend.to_owned() });
    };
    if folds.is_empty() {
        report(
            "splits".into(),
            "the list of folds is empty".into(),
            "remove the file to get the usual five folds",
        );
    }
    for (number, fold) in folds.iter().enumerate() {
        for (key, names) in [("train", &fold.train), ("val", &fold.validation)] {
            let field = format!("fold {number}, {key}");
            if names.is_empty() {
                report(field.clone(), "names no case".into(), "name at least one case on each side");
            }
            let unknown: Vec<&str> =
                names.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
            if !unknown.is_empty() {
                report(
                    field.clone(),
                    format!(
                        "names {} that no training case has: {}",
                        plural(unknown.len()),
                        shortened(&unknown)
                    ),
                    "remove the names, or add the cases to imagesTr and labelsTr",
                );
            }
            let mut once = HashSet::new();
            let twice: Vec<&str> =
                names.iter().map(String::as_str).filter(|name| !once.insert(*name)).collect();
            if !twice.is_empty() {
                report(field, format!("names twice: {}", shortened(&twice)), "name each case once");
            }
        }
        let train: HashSet<&str> = fold.train.iter().map(String::as_str).collect();
        let both: Vec<&str> =
            fold.validation.iter().map(String::as_str).filter(|name| train.contains(name)).collect();
        if !both.is_empty() {
            report(
                format!("fold {number}"),
                format!("trains on cases that it validates on: {}", shortened(&both)),
                "keep each case on one side; use `--fold all` to train on everything",
            );
        }
    }
    problems
}

/// `KFold(5, shuffle=True, random_state=12345)` over `ids`, which are sorted.
pub(crate) fn cross_validation(ids: &[String]) -> Result<Vec<Fold>> {
    let count = splittable(ids)?;
    let folds = FOLDS.min(ids.len());
    let order = LegacyRandom::new(SEED).permutation(count);
    let mut held_out = vec![0; ids.len()];
    let mut start = 0;
    for fold in 0..folds {
        // The first n mod k folds have one case more.
        let size = ids.len() / folds + usize::from(fold < ids.len() % folds);
        for &index in &order[start..start + size] {
            held_out[index] = fold;
        }
        start += size;
    }
    let side = |keep: &dyn Fn(usize) -> bool| {
        ids.iter().zip(&held_out).filter(|(_, fold)| keep(**fold)).map(|(id, _)| id.clone()).collect()
    };
    Ok((0..folds)
        .map(|fold| Fold { train: side(&|f| f != fold), validation: side(&|f| f == fold) })
        .collect())
}

/// [`cross_validation`] over patients instead of cases: `patients` has the patient of each of the sorted `ids`. Patients
/// count in the order of their first cases, so that where each has one the folds are those of the cases.
pub(crate) fn by_patient(ids: &[String], patients: &[String]) -> Result<Vec<Fold>> {
    let mut known = HashSet::new();
    let order: Vec<String> = patients.iter().filter(|patient| known.insert(*patient)).cloned().collect();
    let folds = cross_validation(&order)?;
    let cases = |side: &[String]| -> Vec<String> {
        let side: HashSet<&String> = side.iter().collect();
        ids.iter()
            .zip(patients)
            .filter(|(_, patient)| side.contains(patient))
            .map(|(id, _)| id.clone())
            .collect()
    };
    let fold = |fold: &Fold| Fold { train: cases(&fold.train), validation: cases(&fold.validation) };
    Ok(folds.iter().map(fold).collect())
}

/// nnU-Net's split for a fold beyond the list: 80 % in random order against the rest.
pub(crate) fn random_split(ids: &[String], number: usize) -> Result<Fold> {
    let count = splittable(ids)?;
    let seed = u32::try_from(number).ok().and_then(|number| SEED.checked_add(number)).ok_or_else(|| {
        Error::config("fold", format!("{number} is too large"), "give a small number or `all`")
    })?;
    let order = LegacyRandom::new(seed).permutation(count);
    let (train, _) = order.split_at((f64::from(count) * 0.8) as usize);
    let drawn: HashSet<usize> = train.iter().copied().collect();
    Ok(Fold {
        train: train.iter().map(|&index| ids[index].clone()).collect(),
        validation: (0..ids.len())
            .filter(|index| !drawn.contains(index))
            .map(|index| ids[index].clone())
            .collect(),
    })
}

fn splittable(ids: &[String]) -> Result<u32> {
    match u32::try_from(ids.len()) {
        Ok(count) if count >= 2 => Ok(count),
        _ => Err(Error::config(
            "fold",
            format!("{} training case(s) cannot be split into training and validation", ids.len()),
            "add cases, or train on everything with `--fold all`",
        )),
    }
}

fn plural(count: usize) -> String {
    if count == 1 { "1 case".into() } else { format!("{count} cases") }
}

/// The first few names.
fn shortened(names: &[&str]) -> String {
    let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown}, ... ({} in all)", names.len()) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("p{number:02}")).collect()
    }

    #[test]
    fn patients_with_one_case_each_give_the_folds_of_the_cases() {
        let ids = names(13);
        // Other names, in another order.
        let patients: Vec<String> = (0..13).rev().map(|number| format!("q{number:02}")).collect();
        assert_eq!(by_patient(&ids, &patients).unwrap(), cross_validation(&ids).unwrap());
    }

    #[test]
    fn no_patient_is_on_both_sides_and_no_case_is_lost() {
        let ids = names(20);
        let patients: Vec<String> = (0..20).map(|number| format!("q{}", number * number % 7)).collect();
        let folds = by_patient(&ids, &patients).unwrap();
        assert!(problems(&folds, &ids).is_empty());
        let mut held_out = Vec::new();
        for fold in &folds {
            let of = |side: &[String]| -> HashSet<&String> {
                side.iter().map(|id| &patients[ids.iter().position(|other| other == id).unwrap()]).collect()
            };
            assert!(of(&fold.train).is_disjoint(&of(&fold.validation)), "{fold:?}");
            assert_eq!(fold.train.len() + fold.validation.len(), 20);
            held_out.extend(fold.validation.clone());
        }
        held_out.sort();
        assert_eq!(held_out, ids);
        assert!(by_patient(&ids, &vec!["q".to_owned(); 20]).is_err());
    }
}
