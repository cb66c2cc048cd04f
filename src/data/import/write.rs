//! Copies what was recognised into nnU-Net v2 layout.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{Found, FoundCase, Images, LabelSource, Part, Values};
use crate::files::{self, create_folder, folder_beside, publish_folder};
use crate::image::volume::{Fit, Labels, Volume};
use crate::image::{self, ENDING};
use crate::progress::Progress;
use crate::{Error, Result};

/// Writes the data set into the new folder `destination`, which appears only when everything is in it.
///
/// # Errors
/// Where `destination` exists and is not empty, a file of the source cannot be read, or the files of a case do not
/// fit together.
pub fn write(found: &Found, destination: &Path, progress: &dyn Progress) -> Result<()> {
    vacant(destination)?;
    let aside = folder_beside(destination)?;
    let folder = aside.path();
    for (part, suffix) in [(Part::Training, "Tr"), (Part::Test, "Ts")] {
        let cases: Vec<&FoundCase> = found.cases.iter().filter(|case| case.part == part).collect();
        let places = [
            ("images", !cases.is_empty()),
            ("labels", cases.iter().any(|case| case.labels.is_some())),
            ("masks", cases.iter().any(|case| case.mask.is_some())),
        ];
        for (place, _) in places.into_iter().filter(|(_, needed)| *needed) {
            create_folder(&folder.join(format!("{place}{suffix}")))?;
        }
    }
    progress.begin("copying cases", found.cases.len() as u64);
    let outcome = found.cases.par_iter().try_for_each(|case| {
        copy_case(case, folder)?;
        progress.advance(1);
        Ok(())
    });
    progress.end();
    outcome?;
    write_json(&folder.join("dataset.json"), &description(found))?;
    if !found.splits.is_empty() {
        let path = folder.join("splits_final.json");
        let splits =
            serde_json::to_value(&found.splits).map_err(|error| Error::io("write", &path, error.into()))?;
        write_json(&path, &splits)?;
    }
    publish_folder(aside, destination)
}

/// Refuses a destination that is something else than a place for a new folder.
///
/// # Errors
/// Naming the destination.
pub fn vacant(destination: &Path) -> Result<()> {
    let occupied = std::fs::read_dir(destination).map(|mut entries| entries.next().is_some());
    if destination.is_file() || occupied.unwrap_or(false) {
        let mend = "choose another name, or remove what is there";
        return Err(Error::invalid(destination, "destination", "is there already", mend));
    }
    if destination.file_name().is_none() {
        let mend = "give a folder name, such as Dataset123_Name";
        return Err(Error::invalid(destination, "destination", "is no name of a folder", mend));
    }
    Ok(())
}

fn copy_case(case: &FoundCase, folder: &Path) -> Result<()> {
    let suffix = match case.part {
        Part::Training => "Tr",
        Part::Test => "Ts",
    };
    let place = |kind: &str| folder.join(format!("{kind}{suffix}"));
    let channel = |number: usize| place("images").join(image::channel_name(&case.id, number, ENDING));
    match &case.images {
        Images::Files(files) => {
            for (number, file) in files.iter().enumerate() {
                copy(file, &channel(number))?;
            }
        }
        Images::Volumes(file, expected) => {
            let (images, header) = image::read_channels(file)?;
            debug_assert_eq!(images.len(), *expected, "the headers were surveyed");
            for (number, image) in images.iter().enumerate() {
                image::write_image(&channel(number), image, Some(&header))?;
            }
        }
    }
    if let Some(labels) = &case.labels {
        write_labels(labels, &place("labels").join(format!("{}{ENDING}", case.id)))?;
    }
    if let Some(mask) = &case.mask {
        copy(mask, &place("masks").join(format!("{}{ENDING}", case.id)))?;
    }
    Ok(())
}

fn write_labels(source: &LabelSource, target: &Path) -> Result<()> {
    match (&source.values, source.files.as_slice()) {
        (Values::Keep, [file]) => copy(file, target),
        (Values::Renumber(pairs), [file]) => {
            let (mut labels, header) = image::read_labels(file)?;
            let mut table = [None; 256];
            for (old, new) in pairs {
                table[usize::from(*old)] = Some(*new);
            }
            for value in &mut labels.voxels {
                *value = table[usize::from(*value)].ok_or_else(|| {
                    let problem = format!("has the value {value}, which has no new number");
                    Error::invalid(
                        file,
                        "labels",
                        problem,
                        "the file changed while it was read; import again",
                    )
                })?;
            }
            image::write_labels(target, &labels, Some(&header))
        }
        (Values::Unite, files) => unite(files, target),
        (_, files) => {
            let file = files.first().map_or(target, PathBuf::as_path);
            Err(Error::invalid(file, "labels", "several files where one should be", "keep one of them"))
        }
    }
}

/// 1 where any of the masks has more than half of its largest value: the contour of a mask that was interpolated.
fn unite(files: &[PathBuf], target: &Path) -> Result<()> {
    // One file of zeros and ones is what it should be already.
    if let [file] = files
        && let Ok((labels, _)) = image::read_labels(file)
        && labels.voxels.iter().all(|value| *value <= 1)
    {
        return copy(file, target);
    }
    let mut united: Option<(Labels, image::Header)> = None;
    for file in files {
        let (mask, header) = image::read_image(file)?;
        if let Some(wrong) = mask.voxels.iter().find(|value| !(**value >= 0.0 && value.is_finite())) {
            let problem = format!("has the value {wrong}, but a lesion mask has numbers from 0 upwards");
            return Err(Error::invalid(file, "lesion mask", problem, "export the mask again"));
        }
        let half = mask.voxels.iter().fold(0.0_f32, |highest, value| highest.max(*value)) / 2.0;
        let lesion = mask.voxels.mapv(|value| u8::from(value > half));
        match &mut united {
            None => united = Some((Volume::new(lesion, mask.grid), header)),
            Some((labels, _)) => {
                if labels.grid.fit(&mask.grid) > Fit::Same {
                    let problem = format!("lies elsewhere than `{}`", files[0].display());
                    return Err(Error::invalid(file, "lesion mask", problem, "resample one onto the other"));
                }
                labels.voxels.zip_mut_with(&lesion, |all, one| *all |= *one);
            }
        }
    }
    match united {
        Some((labels, header)) => image::write_labels(target, &labels, Some(&header)),
        None => Err(Error::invalid(target, "lesion mask", "there is none", "add the mask")),
    }
}

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Compressing harder costs more time than it saves on a disk.
const LEVEL: Compression = Compression::new(5);

/// Copies a file as it is where it is compressed, else compresses it.
fn copy(source: &Path, target: &Path) -> Result<()> {
    let reading = |error| Error::io("read", source, error);
    let mut input = BufReader::new(File::open(source).map_err(reading)?);
    let mut start = Vec::new();
    input.by_ref().take(2).read_to_end(&mut start).map_err(reading)?;
    let mut whole = start.as_slice().chain(input);
    files::write(target, |output| {
        let copied = if start == GZIP {
            std::io::copy(&mut whole, output).map(drop)
        } else {
            // No time stamp: equal files give equal files.
            let mut output = GzBuilder::new().mtime(0).write(output, LEVEL);
            std::io::copy(&mut whole, &mut output).and_then(|_| output.finish().map(drop))
        };
        // Reading and writing fail alike here; the target is the likelier one to be named, and both are.
        copied.map_err(|error| {
            std::io::Error::new(error.kind(), format!("from `{}`: {error}", source.display()))
        })
    })
}

fn description(found: &Found) -> Value {
    let channels: Map<String, Value> =
        found.channels.iter().enumerate().map(|(number, name)| (number.to_string(), json!(name))).collect();
    let mut labels = Map::from_iter([("background".to_owned(), json!(0))]);
    for (name, values) in &found.classes.labels {
        let value = match values.as_slice() {
            [value] => json!(value),
            values => json!(values),
        };
        labels.insert(name.clone(), value);
    }
    let mut description = json!({
        "channel_names": channels,
        "labels": labels,
        "numTraining": found.count(Part::Training),
        "file_ending": ENDING,
        "description": format!("imported from {}", found.layout),
        "converted_by": format!("segen {}", env!("CARGO_PKG_VERSION")),
    });
    if let Some(order) = &found.classes.regions_class_order {
        description["regions_class_order"] = json!(order);
    }
    if let Some(pairing) = &found.pairing {
        description["pairing"] = json!(pairing);
    }
    if !found.classes.label_names.is_empty() {
        let names = found.classes.label_names.iter().map(|(value, name)| (value.to_string(), json!(name)));
        description["label_names"] = Value::Object(names.collect());
    }
    description
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = format!("{value:#}\n");
    files::write_atomically(path, text.as_bytes())
}
