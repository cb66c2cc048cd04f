//! Which files are the scans that a command was given, case by case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::discovery::{entries, file_name};
use crate::files;
use crate::image::{self, ENDING, ENDINGS, channel_name, readable_stem, split_channel, stem};
use crate::{Error, Result};

/// The images of each case by its name: one file per channel in channel order, or one file with all channels.
/// Where a case cannot be used, why; the others can all the same.
pub type Cases = BTreeMap<String, Result<Vec<PathBuf>>>;

/// Finds the cases among files and folders, by name.
///
/// What a data set may hold, a list of inputs may: `CASE_0000.nii.gz`, `CASE_0001.nii.gz`, ... with a channel each;
/// `CASE.nii.gz` with all channels along the fourth dimension (or the fifth, as ITK stores vectors), or with the only
/// channel there is. In folders hidden files and files that are no images are left out. A name such as `scan_0012`,
/// whose digits cannot be a channel, is a case of its own.
///
/// # Errors
/// Where an input is not there or cannot be listed, and where there is no image at all.
pub fn cases(inputs: &[PathBuf], channels: usize) -> Result<Cases> {
    let mut numbered: BTreeMap<String, BTreeMap<usize, Vec<PathBuf>>> = BTreeMap::new();
    // More than one entry of a name is a mistake of the user's.
    let mut found: BTreeMap<String, Vec<Result<Vec<PathBuf>>>> = BTreeMap::new();
    for path in images(inputs)? {
        let name = file_name(&path);
        match split_channel(stem(&name)) {
            Some((case, channel)) => {
                numbered.entry(case.to_owned()).or_default().entry(channel).or_default().push(path);
            }
            None => found.entry(stem(&name).to_owned()).or_default().push(Ok(vec![path])),
        }
    }
    for (case, files) in numbered {
        for (case, images) in grouped(case, files, channels) {
            found.entry(case).or_default().push(images);
        }
    }
    if found.is_empty() {
        return Err(Error::invalid(
            inputs.first().map_or(Path::new(""), PathBuf::as_path),
            "INPUT",
            "there is no image",
            format!("name files, or folders that hold files {}", channel_name("CASE", 0, ENDING)),
        ));
    }
    let one = |(case, mut entries): (String, Vec<Result<Vec<PathBuf>>>)| {
        let images = match entries.as_slice() {
            [Ok(first), Ok(second), ..] => Err(doubled(&case, &first[0], &second[0])),
            _ => entries.swap_remove(0),
        };
        (case, images)
    };
    Ok(found.into_iter().map(one).collect())
}

/// The image of a case in a folder with one file per case, whatever its ending.
///
/// # Errors
/// Where there is none.
pub fn file_of(folder: &Path, case: &str) -> Result<PathBuf> {
    let candidates = ENDINGS.map(|ending| folder.join(format!("{case}{ending}")));
    candidates.into_iter().find(|path| files::is_there(path)).ok_or_else(|| {
        let problem = format!("has no file {case}{ENDING}");
        Error::invalid(folder, format!("case `{case}`"), problem, "add the file, or leave the case out")
    })
}

/// Every image that was named or lies in a folder that was named, each once, sorted.
fn images(inputs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut images = BTreeSet::new();
    for input in inputs {
        if input.is_dir() {
            let files = entries(input)?.into_iter();
            images.extend(files.filter(|path| readable_stem(&file_name(path)).is_some()));
        } else if files::is_there(input) {
            // A link that leads nowhere is the matter of its case.
            images.insert(input.clone());
        } else {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(files::unreadable(input, error));
        }
    }
    Ok(images)
}

/// The case of files with numbers at the end of their names; several cases where these are no channels.
fn grouped(
    case: String,
    files: BTreeMap<usize, Vec<PathBuf>>,
    channels: usize,
) -> Vec<(String, Result<Vec<PathBuf>>)> {
    if let Some([first, second, ..]) = files.values().map(Vec::as_slice).find(|paths| paths.len() > 1) {
        let error = doubled(&case, first, second);
        return vec![(case, Err(error))];
    }
    let numbers: Vec<usize> = files.keys().copied().collect();
    let paths: Vec<PathBuf> = files.into_values().flatten().collect();
    let whole = |path: &PathBuf| image::read_header(path).is_ok_and(|header| header.volumes() == channels);
    // One channel tells nothing: then a number 0 among others says that they are channels.
    let alone = if channels == 1 { !numbers.contains(&0) } else { true } && paths.iter().all(whole);
    if alone && numbers != [0] {
        let alone = |path: PathBuf| (stem(&file_name(&path)).to_owned(), Ok(vec![path]));
        return paths.into_iter().map(alone).collect();
    }
    if alone || numbers.iter().copied().eq(0..channels) {
        return vec![(case, Ok(paths))];
    }
    let given: Vec<String> = numbers.iter().map(|channel| format!("{channel:04}")).collect();
    let name = |channel| channel_name(&case, channel, ENDING);
    let expected = match channels {
        1 => format!("one, {}", name(0)),
        _ => format!("{channels}, {} to {}", name(0), name(channels - 1)),
    };
    let error = Error::invalid(
        &paths[0],
        "channels",
        format!("case `{case}` has the channels {}; the network takes {expected}", given.join(", ")),
        "put the missing files beside this one, or take the surplus ones away; one file with all channels along its \
         fourth dimension will do as well",
    );
    vec![(case, Err(error))]
}

fn doubled(case: &str, first: &Path, second: &Path) -> Error {
    let problem = format!("`{}` is the same channel of the same case, `{case}`", first.display());
    Error::invalid(second, "file name", problem, "leave one of them out")
}
