//! Brain Tumor Segmentation Challenge (Menze et al., *IEEE TMI* 34, 2015; Baid et al., arXiv 2107.02314).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::source::{Tree, missing};
use super::survey::{ValuesByFile, all_values};
use super::{Classes, Found, FoundCase, Images, LabelSource, Layout, Part, Values};
use crate::data::dataset::file_name;
use crate::image::stem;
use crate::{Error, Result};

/// How one family of years names its files.
struct Naming {
    layout: Layout,
    /// Endings of T1, T1 with contrast, T2 and FLAIR: the channel order of nnU-Net's conversion.
    channels: [&'static str; 4],
    labels: &'static str,
}

const NAMINGS: [Naming; 2] = [
    Naming { layout: Layout::Brats2017, channels: ["_t1", "_t1ce", "_t2", "_flair"], labels: "_seg" },
    Naming { layout: Layout::Brats2023, channels: ["-t1n", "-t1c", "-t2w", "-t2f"], labels: "-seg" },
];

/// The years 2017 to 2024: a folder per case with four channels.
pub(super) fn find(tree: &Tree) -> Result<Option<Found>> {
    let naming = NAMINGS
        .iter()
        .find(|naming| tree.images().any(|(_, _, name)| stem(name).ends_with(naming.channels[1])));
    let Some(naming) = naming else { return Ok(None) };
    let channels = ["T1", "T1ce", "T2", "Flair"];
    let mut found = Found::new(naming.layout, &tree.root, &channels, Classes::plain(&[]));
    let mut cases: BTreeMap<(String, &Path), ()> = BTreeMap::new();
    // Where no case has one of the four it is no BraTS, but somebody's choice of its channels.
    let is_there = |ending: &&str| tree.images().any(|(_, _, name)| stem(name).ends_with(*ending));
    let whole = naming.channels.iter().all(is_there);
    for (_, folder, name) in tree.images() {
        let endings = naming.channels.iter().chain([&naming.labels]);
        if let Some(id) = endings.filter_map(|ending| stem(name).strip_suffix(ending)).next() {
            cases.insert((id.to_owned(), folder), ());
        }
    }
    if !whole && cases.len() > 1 {
        return Ok(None);
    }
    for (id, folder) in cases.into_keys() {
        let file = |ending: &str| {
            let wanted = format!("{id}{ending}");
            tree.beside(folder).find(|(_, name)| stem(name) == wanted).map(|(path, _)| path.to_owned())
        };
        let mend = "complete the case or remove its folder";
        let images = naming
            .channels
            .iter()
            .map(|ending| {
                file(ending).ok_or_else(|| missing(folder, &id, &format!("{id}{ending}.nii.gz"), mend))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut labels = file(naming.labels);
        if labels.is_none() {
            // In BraTS 2020 the labels of case 355 kept the name of another study.
            let mut others = tree.beside(folder).filter(|(_, name)| name.to_lowercase().contains("seg"));
            if let (Some((path, name)), None) = (others.next(), others.next()) {
                found.notes.push(format!("`{name}` is taken for the labels of {id}"));
                labels = Some(path.to_owned());
            }
        }
        let part = if labels.is_some() { Part::Training } else { Part::Test };
        let labels = labels.map(LabelSource::keep);
        found.cases.push(FoundCase { id, part, images: Images::Files(images), labels, mask: None });
    }
    Ok(Some(found))
}

/// Values by year. Up to 2023 there are three overlapping regions, for which necrosis and oedema change places and
/// 4 becomes 3 (nnU-Net's conversion); post-treatment glioma of 2024 has four classes.
pub(super) fn classify(found: &mut Found, values: &ValuesByFile) -> Result<()> {
    let has_four = all_values(values).contains(&4);
    let renumber: &[(u8, u8)] = match found.layout {
        Layout::Brats2017 => &[(0, 0), (1, 2), (2, 1), (4, 3)],
        _ if has_four => {
            let other = found.cases.iter().find(|case| !case.id.contains("-GLI-"));
            if let Some(case) = other {
                return Err(Error::invalid(
                    case.images.first(),
                    "labels",
                    "the set has the label 4, whose meaning is known for post-treatment glioma (BraTS-GLI) alone",
                    "import one task at a time; for other tasks write dataset.json by hand",
                ));
            }
            found.classes = Classes::plain(&[
                "non-enhancing tumor core",
                "surrounding non-enhancing FLAIR hyperintensity",
                "enhancing tissue",
                "resection cavity",
            ]);
            return Ok(());
        }
        _ => &[(0, 0), (1, 2), (2, 1), (3, 3)],
    };
    found.classes = Classes::regions(
        &[("whole tumor", &[1, 2, 3]), ("tumor core", &[2, 3]), ("enhancing tumor", &[3])],
        &[1, 2, 3],
        &[(1, "edema"), (2, "necrotic and non-enhancing tumor")],
    );
    for labels in found.cases.iter_mut().filter_map(|case| case.labels.as_mut()) {
        labels.values = Values::Renumber(renumber.to_vec());
    }
    Ok(())
}

/// BRATS 2013 as prepared for DeepMedic: a folder per case with `OTMultiClass`, channels named by their beginning
/// and `brainmask`.
pub(super) fn find_2013(tree: &Tree) -> Result<Option<Found>> {
    const KNOWN: [(&str, &str); 4] = [("t1", "T1"), ("t1c", "T1c"), ("t2", "T2"), ("flair", "Flair")];
    let channel = |name: &str| {
        let start = stem(name).split(['_', '.']).next().unwrap_or_default().to_lowercase();
        KNOWN.iter().position(|(short, _)| *short == start)
    };
    let folders: BTreeSet<&Path> = tree
        .images()
        .filter(|(_, _, name)| stem(name).starts_with("OTMultiClass"))
        .map(|(_, folder, _)| folder)
        .collect();
    let Some(first) = folders.first() else { return Ok(None) };
    let wanted: BTreeSet<usize> = tree.beside(first).filter_map(|(_, name)| channel(name)).collect();
    let names: Vec<&str> = wanted.iter().map(|index| KNOWN[*index].1).collect();
    let classes = Classes::regions(
        &[("whole tumor", &[1, 2, 3, 4]), ("tumor core", &[1, 3, 4]), ("enhancing tumor", &[4])],
        &[2, 1, 4],
        &[(1, "necrosis"), (2, "edema"), (3, "non-enhancing tumor")],
    );
    let mut found = Found::new(Layout::Brats2013, &tree.root, &names, classes);
    for folder in folders {
        let id = file_name(folder);
        let mut images = Vec::new();
        for index in &wanted {
            let mut files = tree.beside(folder).filter(|(_, name)| channel(name) == Some(*index));
            match (files.next(), files.next()) {
                (Some((path, _)), None) => images.push(path.to_owned()),
                (Some((_, one)), Some((_, two))) => {
                    let problem = format!("`{one}` and `{two}` are both {}", KNOWN[*index].1);
                    return Err(Error::invalid(
                        folder,
                        format!("case `{id}`"),
                        problem,
                        "remove one of them",
                    ));
                }
                (None, _) => {
                    let mend = "all cases need the same channels";
                    return Err(missing(folder, &id, KNOWN[*index].1, mend));
                }
            }
        }
        let file = |start: &str| {
            tree.beside(folder)
                .find(|(_, name)| stem(name).starts_with(start))
                .map(|(path, _)| path.to_owned())
        };
        let labels = file("OTMultiClass").map(LabelSource::keep);
        let mask = file("brainmask");
        found.cases.push(FoundCase { id, part: Part::Training, images: Images::Files(images), labels, mask });
    }
    Ok(Some(found))
}
