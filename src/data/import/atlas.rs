//! Anatomical Tracings of Lesions After Stroke (Liew et al., *Scientific Data* 5, 2018 and 9, 2022).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::source::{Tree, missing};
use super::{Classes, Found, FoundCase, Images, LabelSource, Layout, Part, Values};
use crate::data::dataset::file_name;
use crate::image::stem;
use crate::{Error, Result};

/// The files of one scan.
#[derive(Default)]
struct Scan {
    images: Vec<PathBuf>,
    lesions: Vec<PathBuf>,
}

/// Scans with one or more lesion masks; those without are test cases.
pub(super) fn find(tree: &Tree) -> Result<Option<Found>> {
    let mut scans: BTreeMap<String, Scan> = BTreeMap::new();
    for (path, folder, name) in tree.images() {
        let name = stem(name);
        let known = bids(name).or_else(|| stereotaxic(name, folder));
        match known {
            Some((id, Role::Image)) => scans.entry(id).or_default().images.push(path.to_owned()),
            Some((id, Role::Lesion)) => scans.entry(id).or_default().lesions.push(path.to_owned()),
            None => {}
        }
    }
    if scans.values().all(|scan| scan.lesions.is_empty()) {
        return Ok(None);
    }
    let mut found = Found::new(Layout::Atlas, &tree.root, &["T1w"], Classes::plain(&["lesion"]));
    for (id, scan) in scans {
        match scan.images.as_slice() {
            [_] => {}
            [] => {
                return Err(missing(
                    &tree.root,
                    &id,
                    "the T1w image",
                    "complete the scan or remove its masks",
                ));
            }
            several => {
                let names: Vec<String> = several.iter().map(|path| file_name(path)).collect();
                let problem = format!("has several images: {}", names.join(", "));
                let mend = "keep the one on which the lesion was drawn";
                return Err(Error::invalid(&tree.root, format!("case `{id}`"), problem, mend));
            }
        }
        let part = if scan.lesions.is_empty() { Part::Test } else { Part::Training };
        let labels =
            (!scan.lesions.is_empty()).then_some(LabelSource { files: scan.lesions, values: Values::Unite });
        found.cases.push(FoundCase { id, part, images: Images::Files(scan.images), labels, mask: None });
    }
    Ok(Some(found))
}

enum Role {
    Image,
    Lesion,
}

/// Release 2.0: `sub-X_ses-Y_space-Z_T1w`, `sub-X_ses-Y_space-Z_label-L_desc-T1lesion_mask`. A case is a session.
fn bids(name: &str) -> Option<(String, Role)> {
    let parts: Vec<&str> = name.split('_').collect();
    let subject = parts.first().filter(|part| part.starts_with("sub-"))?;
    let session = parts.iter().find(|part| part.starts_with("ses-"));
    let role = match *parts.last()? {
        "T1w" => Role::Image,
        "mask" if parts.contains(&"label-L") => Role::Lesion,
        _ => return None,
    };
    let id = session.map_or_else(|| (*subject).to_owned(), |session| format!("{subject}_{session}"));
    Some((id, role))
}

/// Releases 1.1 and 1.2: `031768_t1w_deface_stx` in a folder `t01`, `031768_LesionSmooth_stx`,
/// `031768_LesionSmooth_1_stx`, ...
fn stereotaxic(name: &str, folder: &Path) -> Option<(String, Role)> {
    let (subject, rest) = name.split_once('_')?;
    let role = match rest.strip_suffix("_stx")? {
        kind if kind == "t1w" || kind.starts_with("t1w_") => Role::Image,
        kind if kind == "LesionSmooth" || kind.starts_with("LesionSmooth_") => Role::Lesion,
        _ => return None,
    };
    let time = file_name(folder);
    let number = time
        .strip_prefix('t')
        .filter(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    let id = if number.is_some() { format!("{subject}_{time}") } else { subject.to_owned() };
    Some((id, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_releases_are_read() {
        let id = |name: &str, folder: &str| {
            bids(name)
                .or_else(|| stereotaxic(name, Path::new(folder)))
                .map(|(id, role)| (id, matches!(role, Role::Lesion)))
        };
        let space = "space-MNI152NLin2009aSym";
        for (name, folder, expected) in [
            (format!("sub-r001s001_ses-1_{space}_T1w"), "anat", Some(("sub-r001s001_ses-1", false))),
            (
                format!("sub-r001s001_ses-1_{space}_label-L_desc-T1lesion_mask"),
                "anat",
                Some(("sub-r001s001_ses-1", true)),
            ),
            ("031768_t1w_deface_stx".into(), "t01", Some(("031768_t01", false))),
            ("031768_LesionSmooth_1_stx".into(), "t01", Some(("031768_t01", true))),
            ("c0003s0002t01_LesionSmooth_stx".into(), "c0003s0002t01", Some(("c0003s0002t01", true))),
            ("sub-1_desc-brain_mask".into(), "anat", None),
            ("031768_WMHSmooth_stx".into(), "t01", None),
        ] {
            assert_eq!(id(&name, folder), expected.map(|(id, lesion)| (id.to_owned(), lesion)), "{name}");
        }
    }
}
