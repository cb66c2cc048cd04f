//! Files that should be there and are not, and files that are there for no one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{Fault, Kind};
use crate::Result;
use crate::data::dataset::{Case, Dataset, Files, PLACES, UNREADABLE_NAME, entries, file_name};
use crate::files;
use crate::image::{channel_name, image_stem, split_channel};

pub(super) fn faults(dataset: &Dataset, files: &Files) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    let mut explained = HashSet::new();
    for case in &dataset.training {
        missing(case, dataset, &mut faults, &mut explained);
    }
    let decathlon = matches!(files, Files::Decathlon { .. });
    if decathlon && !dataset.test.is_empty() && !dataset.folder.join("imagesTs").is_dir() {
        faults.push(Fault::warning(
            Kind::Missing,
            &dataset.folder.join("imagesTs"),
            format!("{} test images are listed but the folder is not there", dataset.test.len()),
            "unpack the test images, or remove `test` from dataset.json",
        ));
    } else {
        for case in &dataset.test {
            missing(case, dataset, &mut faults, &mut explained);
        }
    }
    // Explicitly listed training files may lie anywhere, so that nothing in these folders is out of place.
    let listed = matches!(files, Files::Listed(_));
    for place in PLACES.into_iter().filter(|place| !listed || place.ends_with("Ts")) {
        extra(dataset, place, decathlon, &mut faults, &mut explained)?;
    }
    Ok(faults)
}

fn missing(case: &Case, dataset: &Dataset, faults: &mut Vec<Fault>, explained: &mut HashSet<PathBuf>) {
    let files = case.images.iter().chain(&case.labels).chain(&case.mask);
    for file in files.filter(|file| !file.exists()) {
        if let Some((what, fix)) = files::broken_link(file) {
            let what = format!("{what}; case `{}` needs it", case.id);
            faults.push(Fault::error(Kind::Missing, file, what, fix));
            continue;
        }
        let name = file_name(file);
        let other = image_stem(&name).and_then(|stem| same_image(file, stem));
        if let Some(other) = other {
            faults.push(wrong_ending(&other, &dataset.file_ending));
            explained.insert(other);
        } else {
            let what = format!("is missing; case `{}` needs it", case.id);
            let mend = "add the file, or remove the other files of the case and count it out of numTraining";
            faults.push(Fault::error(Kind::Missing, file, what, mend));
        }
    }
}

/// A file beside `file` that has the same name with the ending of another image.
fn same_image(file: &Path, stem: &str) -> Option<PathBuf> {
    let beside = entries(file.parent()?).ok()?;
    beside.into_iter().find(|other| image_stem(&file_name(other)) == Some(stem))
}

fn wrong_ending(file: &Path, ending: &str) -> Fault {
    Fault::error(
        Kind::Ending,
        file,
        format!("does not end in `{ending}` as dataset.json says, and is left out"),
        format!("convert the file to `{ending}` or, where all files end alike, change file_ending"),
    )
}

/// Files of one folder that belong to no case. `explained` holds files that a fault names already.
fn extra(
    dataset: &Dataset,
    place: &str,
    decathlon: bool,
    faults: &mut Vec<Fault>,
    explained: &mut HashSet<PathBuf>,
) -> Result<()> {
    let cases = dataset.training.iter().chain(&dataset.test);
    let expected: HashSet<&PathBuf> =
        cases.flat_map(|case| case.images.iter().chain(&case.labels).chain(&case.mask)).collect();
    let ending = &dataset.file_ending;
    for file in entries(&dataset.folder.join(place))? {
        let name = file_name(&file);
        // MSD archives carry files of macOS, whose names begin with an underscore or a dot.
        if expected.contains(&file) || explained.contains(&file) || (decathlon && name.starts_with('_')) {
            continue;
        }
        let images = place.starts_with("images");
        let stem = image_stem(&name);
        let channel = stem.and_then(split_channel).filter(|_| images);
        let id = channel.map_or(stem.unwrap_or(&name), |(case, _)| case);
        let fault = if stem.is_some() && file.to_str().is_none() {
            let [what, fix] = UNREADABLE_NAME;
            Fault::error(Kind::Extra, &file, what, fix)
        } else if stem.is_none() {
            let mend = "move it out of this folder; only images belong here";
            Fault::warning(Kind::Extra, &file, "is no image of a case and is left out", mend)
        } else if !name.ends_with(ending.as_str()) {
            wrong_ending(&file, ending)
        } else if channel.is_some() {
            let what =
                format!("dataset.json names {} channel(s), numbered from 0000", dataset.channels.len());
            Fault::error(Kind::Extra, &file, what, "add the channel to channel_names or remove the file")
        } else if images {
            let what = "belongs to no case: the name has no channel number";
            Fault::error(Kind::Extra, &file, what, format!("rename it to {}", channel_name(id, 0, ending)))
        } else {
            let images = if place.ends_with("Ts") { "imagesTs" } else { "imagesTr" };
            let what = format!("belongs to no case: {images} has no image of `{id}`");
            Fault::error(Kind::Extra, &file, what, "add the images of the case or remove this file")
        };
        if images && fault.severity == super::Severity::Error {
            // Labels and mask of a case whose image is misnamed are not at fault themselves.
            let suffix = if place.ends_with("Ts") { "Ts" } else { "Tr" };
            for kind in ["labels", "masks"] {
                explained
                    .insert(dataset.folder.join(format!("{kind}{suffix}")).join(format!("{id}{ending}")));
            }
        }
        faults.push(fault);
    }
    Ok(())
}
