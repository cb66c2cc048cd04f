//! Faults that show only when cases are compared with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::case::Facts;
use super::geometry::millimetres;
use super::{Fault, Kind, some};
use crate::data::dataset::{Case, Dataset, RENUMBER, file_name};
use crate::files::unportable;

/// `facts` are those of the training cases and then of the test cases.
pub(super) fn faults(dataset: &Dataset, declared: &[u8], facts: &[Facts]) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(codes(declared, facts));
    faults.extend(orientations(dataset, facts));
    faults.extend(spacings(facts));
    faults.extend(duplicates(dataset, facts));
    faults.extend(absent(dataset, declared, &facts[..dataset.training.len()]));
    faults.extend(on_both_sides(dataset));
    faults.extend(names(dataset));
    faults
}

/// Label values above 255, once for all files: they have one cause.
fn codes(declared: &[u8], facts: &[Facts]) -> Option<Fault> {
    let files: Vec<&(PathBuf, f32)> = facts.iter().filter_map(|facts| facts.codes.as_ref()).collect();
    let (first, _) = files.first().filter(|_| !declared.is_empty())?;
    let highest = files.iter().fold(0.0, |highest: f32, (_, value)| highest.max(*value));
    let what = match files.len() {
        1 => format!("has label values up to {highest}; they may go up to 255"),
        count => {
            format!("{count} label files such as this one have values up to {highest}; they may go up to 255")
        }
    };
    Some(Fault::error(Kind::LabelValue, first, what, RENUMBER))
}

fn orientations(dataset: &Dataset, facts: &[Facts]) -> Option<Fault> {
    let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, grid) in facts.iter().filter_map(|facts| facts.grid.as_ref()) {
        groups.entry(grid.orientation().letters()).or_default().insert(file_name(path));
    }
    if groups.len() < 2 {
        return None;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let (usual, names) = &groups[0];
    let others: Vec<String> =
        groups[1..].iter().map(|(letters, names)| format!("{letters} in {}", some(names))).collect();
    let what = format!("axes run {usual} in {} cases, but {}", names.len(), others.join("; "));
    let mend = "nothing must be done: cases are turned to the same axes, and predictions back";
    Some(Fault::warning(Kind::Orientation, &dataset.folder.join("imagesTr"), what, mend))
}

/// Voxel sizes more than this factor from the median, where few are, are likely mistakes of units or export.
const FAR: f64 = 4.0;

fn spacings(facts: &[Facts]) -> Vec<Fault> {
    // Along the world's axes, so that a turned case compares with the others.
    let cases: Vec<(&PathBuf, [f64; 3])> = facts
        .iter()
        .filter_map(|facts| facts.grid.as_ref())
        .map(|(path, grid)| {
            let spacing = grid.spacing();
            (path, grid.orientation().axes.map(|axis| spacing[axis]))
        })
        .collect();
    if cases.len() < 4 {
        return Vec::new();
    }
    let median: [f64; 3] = std::array::from_fn(|axis| {
        let mut lengths: Vec<f64> = cases.iter().map(|(_, spacing)| spacing[axis]).collect();
        lengths.sort_by(f64::total_cmp);
        lengths[lengths.len() / 2]
    });
    let far = |spacing: &[f64; 3]| {
        (0..3).any(|axis| spacing[axis] / median[axis] > FAR || median[axis] / spacing[axis] > FAR)
    };
    let outliers: Vec<_> = cases.iter().filter(|(_, spacing)| far(spacing)).collect();
    if outliers.len() > (cases.len() / 20).max(1) {
        return Vec::new();
    }
    outliers
        .into_iter()
        .map(|(path, spacing)| {
            let what = format!(
                "voxels of {} mm, while the median of all cases is {} mm",
                millimetres(*spacing),
                millimetres(median)
            );
            let mend = "see whether the header is in other units or the scan of another kind; then fix the header \
                        or leave the case out";
            Fault::warning(Kind::Spacing, path, what, mend).at("pixdim (right, front, top)")
        })
        .collect()
}

fn duplicates(dataset: &Dataset, facts: &[Facts]) -> Vec<Fault> {
    let cases: Vec<_> = dataset.training.iter().chain(&dataset.test).collect();
    let mut owners: BTreeMap<u64, Vec<(usize, &PathBuf)>> = BTreeMap::new();
    for (case, facts) in facts.iter().enumerate() {
        for (path, content) in &facts.contents {
            owners.entry(*content).or_default().push((case, path));
        }
    }
    // One fault for each two cases, however many channels they share.
    let mut pairs = BTreeMap::new();
    for files in owners.values().filter(|files| files.len() > 1) {
        for (case, path) in &files[1..] {
            pairs.entry((files[0].0, *case)).or_insert((files[0].1, *path));
        }
    }
    pairs
        .into_iter()
        .map(|((a, b), (first, second))| {
            if a == b {
                let what = format!("two channels of case `{}` are the same image", cases[a].id);
                let mend = "export the right image for one of them";
                return Fault::error(Kind::Duplicate, second, what, mend)
                    .at(format!("same as {}", file_name(first)));
            }
            let what = format!("case `{}` has the same image as case `{}`", cases[b].id, cases[a].id);
            let mend =
                "remove one of the cases: a scan that is trained on and validated on flatters the scores";
            Fault::error(Kind::Duplicate, second, what, mend)
                .at(format!("same voxels as {}", file_name(first)))
        })
        .collect()
}

fn absent(dataset: &Dataset, declared: &[u8], facts: &[Facts]) -> Vec<Fault> {
    let readable = facts.iter().filter(|facts| facts.values.is_some()).count();
    if readable == 0 {
        return Vec::new();
    }
    let seen: BTreeSet<u8> =
        facts.iter().filter_map(|facts| facts.values.as_ref()).flatten().copied().collect();
    declared
        .iter()
        .filter(|value| !seen.contains(value) && **value != 0 && Some(**value) != dataset.labels.ignore)
        .map(|value| {
            let name = dataset.labels.names.get(usize::from(*value)).map_or("", String::as_str);
            let what = format!("class {value} (`{name}`) is in none of the {readable} label files");
            let mend = "remove the class from `labels`, or add cases that have it";
            Fault::warning(Kind::Absent, &dataset.folder.join("dataset.json"), what, mend).at("labels")
        })
        .collect()
}

/// One name among the training and the test cases.
fn on_both_sides(dataset: &Dataset) -> Option<Fault> {
    let training: BTreeSet<&String> = dataset.training.iter().map(|case| &case.id).collect();
    let both: BTreeSet<String> =
        dataset.test.iter().map(|case| &case.id).filter(|id| training.contains(id)).cloned().collect();
    (!both.is_empty()).then(|| {
        let what = format!("training and test cases have the same names: {}", some(&both));
        let mend = "rename the test cases, or remove them where they are the same scans";
        Fault::warning(Kind::Duplicate, &dataset.folder.join("imagesTs"), what, mend)
    })
}

/// Names of cases whose label maps some systems cannot keep, or not beside each other.
fn names(dataset: &Dataset) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (place, cases) in [("imagesTr", &dataset.training), ("imagesTs", &dataset.test)] {
        let folder = dataset.folder.join(place);
        let mut folded: BTreeMap<String, &String> = BTreeMap::new();
        for Case { id, .. } in cases {
            if let Some(other) = folded.insert(id.to_lowercase(), id) {
                let what = format!("the cases `{other}` and `{id}` differ in capitals alone");
                let mend = "rename one of them: on many systems their label maps are one file, so that none is written";
                faults.push(Fault::warning(Kind::Name, &folder, what, mend));
            }
            if let Some(problem) = unportable(&format!("{id}{}", dataset.file_ending)) {
                let what = format!("Windows cannot keep the label map of the case `{id}`: {problem}");
                let mend = "rename the case, if the data or predictions may ever lie there";
                faults.push(Fault::warning(Kind::Name, &folder, what, mend));
            }
        }
    }
    faults
}
