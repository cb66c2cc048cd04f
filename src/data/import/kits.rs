//! Kidney Tumor Segmentation Challenge (Heller et al., *Medical Image Analysis* 67, 2021): 2019, 2021, 2023.

use std::collections::BTreeSet;

use super::source::{Tree, missing};
use super::survey::{ValuesByFile, all_values};
use super::{Classes, Found, FoundCase, Images, LabelSource, Layout, Part};
use crate::Result;
use crate::data::dataset::file_name;
use crate::image::stem;

pub(super) fn find(tree: &Tree) -> Result<Option<Found>> {
    let is_case = |name: &str| {
        name.strip_prefix("case_")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let known = |name: &str| ["imaging", "segmentation", "aggregated_MAJ_seg"].contains(&stem(name));
    let folders: BTreeSet<_> = tree
        .images()
        .filter(|(_, folder, name)| is_case(&file_name(folder)) && known(name))
        .map(|(_, folder, _)| folder)
        .collect();
    // A segmentation alone is anybody's.
    if !folders.iter().any(|folder| tree.beside(folder).any(|(_, name)| stem(name) == "imaging")) {
        return Ok(None);
    }
    let mut found = Found::new(Layout::Kits, &tree.root, &["CT"], Classes::plain(&[]));
    for folder in folders {
        let id = file_name(folder);
        let file = |wanted: &str| {
            tree.beside(folder).find(|(_, name)| stem(name) == wanted).map(|(path, _)| path.to_owned())
        };
        let image = file("imaging").ok_or_else(|| {
            missing(
                folder,
                &id,
                "imaging.nii.gz",
                "fetch the images with the download script of the challenge",
            )
        })?;
        let labels = file("segmentation").or_else(|| file("aggregated_MAJ_seg")).map(LabelSource::keep);
        let part = if labels.is_some() { Part::Training } else { Part::Test };
        found.cases.push(FoundCase { id, part, images: Images::Files(vec![image]), labels, mask: None });
    }
    Ok(Some(found))
}

/// 2019 has kidney and tumour; 2021 and 2023 have cysts too, and score regions (as nnU-Net's conversion does).
pub(super) fn classify(found: &mut Found, values: &ValuesByFile) -> Result<()> {
    if all_values(values).contains(&3) {
        found.classes = Classes::regions(
            &[("kidney", &[1, 2, 3]), ("masses", &[2, 3]), ("tumor", &[2])],
            &[1, 3, 2],
            &[(1, "kidney tissue"), (3, "cyst")],
        );
    } else {
        found.classes = Classes::plain(&["kidney", "tumor"]);
        found
            .notes
            .push("no label file has a cyst (3): taken for KiTS 2019, with kidney 1 and tumor 2".to_owned());
    }
    Ok(())
}
