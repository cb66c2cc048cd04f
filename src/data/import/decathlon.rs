//! Medical Segmentation Decathlon (Antonelli et al., *Nature Communications* 13, 2022) and nnU-Net v1.

use std::path::Path;

use super::{Classes, Found, FoundCase, Images, LabelSource, Layout, Part};
use crate::data::dataset::{Case, Dataset, Description, Files};
use crate::{Error, Result};

pub(super) fn find(source: &Path) -> Result<Found> {
    let path = source.join("dataset.json");
    let (description, _) = Description::read(&path)?;
    if !matches!(description.files, Files::Decathlon { .. }) {
        return Err(Error::invalid(
            path,
            "layout",
            "is an nnU-Net v2 data set already",
            "nothing to import: give this folder to `segen check` and `segen train`",
        ));
    }
    let dataset = Dataset::open(source)?;
    let labels =
        dataset.labels.regions.iter().map(|region| (region.name.clone(), region.values.clone())).collect();
    let classes = Classes { labels, regions_class_order: None, label_names: Vec::new() };
    let channels: Vec<&str> = dataset.channels.iter().map(String::as_str).collect();
    let mut found = Found::new(Layout::Decathlon, source, &channels, classes);
    if let Some(ignore) = dataset.labels.ignore {
        found.classes.labels.push(("ignore".to_owned(), vec![ignore]));
    }
    let case = |case: &Case, part| {
        let images = match case.images.as_slice() {
            [file] if channels.len() > 1 => Images::Volumes(file.clone(), channels.len()),
            files => Images::Files(files.to_vec()),
        };
        let labels = case.labels.clone().map(LabelSource::keep);
        FoundCase { id: case.id.clone(), part, images, labels, mask: case.mask.clone() }
    };
    found.cases.extend(dataset.training.iter().map(|training| case(training, Part::Training)));
    let (here, absent): (Vec<&Case>, Vec<&Case>) =
        dataset.test.iter().partition(|case| case.images.iter().all(|path| path.exists()));
    if !absent.is_empty() {
        found.notes.push(format!("{} test images are listed but not there; they are left out", absent.len()));
    }
    found.cases.extend(here.into_iter().map(|test| case(test, Part::Test)));
    Ok(found)
}
