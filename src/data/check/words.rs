//! Faults of `dataset.json` and `splits_final.json`.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use super::{Fault, Kind, some};
use crate::data::dataset::{Dataset, Fold, Problem};

pub(super) fn fault(kind: Kind, path: &Path, problem: Problem) -> Fault {
    Fault::error(kind, path, problem.problem, problem.mend).at(problem.field)
}

/// `numTraining` against the cases that are there.
pub(super) fn count(dataset: &Dataset, path: &Path, count: Option<u64>) -> Option<Fault> {
    let found = dataset.training.len();
    let fault = match count {
        Some(count) if count == found as u64 => return None,
        Some(count) => Fault::error(
            Kind::Count,
            path,
            format!("numTraining is {count} but there are {found} training cases"),
            format!("find the missing cases or write \"numTraining\": {found}"),
        ),
        None => Fault::warning(
            Kind::Count,
            path,
            "numTraining is missing; nnU-Net asks for it",
            format!("write \"numTraining\": {found}"),
        ),
    };
    Some(fault.at("numTraining"))
}

/// What becomes of classes that are the two sides of one thing when a training mirrors along the left-right axis.
pub(super) fn sides(dataset: &Dataset, path: &Path) -> Vec<Fault> {
    let sides = dataset.labels.sides();
    let name = |class: u8| &dataset.labels.names[usize::from(class)];
    let exchanged = sides.pairs.iter().map(|[left, right]| {
        let fix = match sides.exchangeable() {
            true => {
                "nothing to do: the policies `random`, `learned` and `heuristic` exchange the two labels when they \
                 mirror along the left-right axis, `heuristic-nnunet` and `predict --mirror` leave that axis out"
            }
            false => BOUND,
        };
        (name(*left), name(*right), fix)
    });
    let bound = sides.bound.iter().map(|[left, right]| (left, right, BOUND));
    let fault = |(left, right, fix): (&String, &String, &str)| {
        let what = format!("`{left}` and `{right}` are the two sides of one thing");
        Fault::warning(Kind::Sides, path, what, fix).at("labels")
    };
    exchanged.chain(bound).map(fault).collect()
}

/// What to say where no exchange of labels keeps the sides apart.
const BOUND: &str = "nothing to do: the labels of one side cannot be exchanged for those of the other one by one, so no \
                     training mirrors along the left-right axis";

/// Everything that is wrong with the folds, and the folds as far as they can be told.
pub(super) fn splits(dataset: &Dataset) -> (Vec<Fault>, Vec<Fold>) {
    let usual = || dataset.usual_folds().unwrap_or_default();
    let Some(path) = dataset.splits_file() else { return (Vec::new(), usual()) };
    let folds = match Dataset::read_splits(&path) {
        Ok(folds) => folds,
        Err(error) => return (vec![Fault::of_error(Kind::Splits, &path, &error)], usual()),
    };
    let problems = dataset.split_problems(&folds);
    let mut faults: Vec<Fault> =
        problems.into_iter().map(|problem| fault(Kind::Splits, &path, problem)).collect();
    let named: HashSet<&String> =
        folds.iter().flat_map(|fold| fold.train.iter().chain(&fold.validation)).collect();
    let left_out: BTreeSet<String> =
        dataset.training.iter().map(|case| case.id.clone()).filter(|id| !named.contains(id)).collect();
    if !left_out.is_empty() {
        let mend = "add them to the folds, or remove the file to get the usual five folds";
        let what = format!("{} training case(s) are in no fold: {}", left_out.len(), some(&left_out));
        faults.push(Fault::warning(Kind::Splits, &path, what, mend));
    }
    (faults, folds)
}
