//! Which files are the scans that a command was given, case by case.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::discovery::{entries, file_name};
use super::place::{Place, folders, holds_masks};
use super::template::{Captured, Pairing};
use crate::files::{self, MANIFEST};
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
/// With the `pairing` of an imported data set files may also be called as they were before: then folders are looked
/// through with all that is below them, but for folders that `segen` has written to, and label files and whatever else
/// lies beside the scans are left out.
///
/// # Errors
/// Where an input is not there or cannot be listed, and where there is no image at all.
pub fn cases(inputs: &[PathBuf], channels: usize, pairing: Option<&Pairing>) -> Result<Cases> {
    let mut sorted = Sorted::default();
    for path in images(inputs, pairing.is_some())? {
        sorted.take(path, pairing);
    }
    let Sorted { mut raw, numbered, mut others } = sorted;
    // More than one entry of a name is a mistake of the user's.
    let mut found: BTreeMap<String, Vec<Result<Vec<PathBuf>>>> = BTreeMap::new();
    for (case, files) in numbered {
        let cases = grouped(case, &files, channels);
        // Where the numbers are no channels they may be the names of raw files.
        let paths = files.into_values().flatten();
        match pairing.map(|pairing| Raw::of(pairing, paths)) {
            Some(Some(scans)) if cases.iter().any(|(_, images)| images.is_err()) => raw.extend(scans),
            _ => cases.into_iter().for_each(|(case, images)| found.entry(case).or_default().push(images)),
        }
    }
    if let Some(pairing) = pairing {
        // What lies beside raw scans is no scan: annotations, channels that were not chosen.
        let beside: HashSet<&Path> = raw.iter().filter_map(|file| file.path.parent()).collect();
        others.retain(|path| {
            inputs.contains(path) || path.parent().is_none_or(|folder| !beside.contains(folder))
        });
        for (case, images) in Raw::cases(raw, pairing) {
            found.entry(case).or_default().push(images);
        }
    }
    for path in others {
        found.entry(stem(&file_name(&path)).to_owned()).or_default().push(Ok(vec![path]));
    }
    if found.is_empty() {
        return Err(nothing(inputs, pairing));
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

/// Files by what their names say.
#[derive(Default)]
struct Sorted {
    /// Called as before the import.
    raw: Vec<Raw>,
    /// With four digits at the end, by what stands before.
    numbered: BTreeMap<String, BTreeMap<usize, Vec<PathBuf>>>,
    /// All others.
    others: Vec<PathBuf>,
}

impl Sorted {
    fn take(&mut self, path: PathBuf, pairing: Option<&Pairing>) {
        let raw = pairing.map(|pairing| (pairing, place(&path)));
        let in_masks = || path.parent().is_some_and(|folder| holds_masks(&file_name(folder)));
        if raw.as_ref().is_some_and(|(pairing, place)| pairing.is_labels(place) || in_masks()) {
            return;
        }
        let name = file_name(&path);
        if let Some((case, channel)) = split_channel(stem(&name)) {
            let files = self.numbered.entry(case.to_owned()).or_default();
            files.entry(channel).or_default().push(path);
            return;
        }
        match raw.and_then(|(pairing, place)| pairing.channel(&place)) {
            Some((channel, case)) => self.raw.push(Raw { path, channel, case }),
            None => self.others.push(path),
        }
    }
}

/// A file that is called as those of its data set were before they were imported.
struct Raw {
    path: PathBuf,
    channel: usize,
    case: Captured,
}

impl Raw {
    /// All files; `None` where one of them is called otherwise.
    fn of(pairing: &Pairing, paths: impl Iterator<Item = PathBuf>) -> Option<Vec<Self>> {
        let read = |path: PathBuf| {
            let (channel, case) = pairing.channel(&place(&path))?;
            Some(Self { path, channel, case })
        };
        paths.map(read).collect()
    }

    /// The files of each case in channel order.
    fn cases(files: Vec<Self>, pairing: &Pairing) -> Vec<(String, Result<Vec<PathBuf>>)> {
        let mut cases: BTreeMap<Captured, BTreeMap<usize, Vec<PathBuf>>> = BTreeMap::new();
        for Self { path, channel, case } in files {
            cases.entry(case).or_default().entry(channel).or_default().push(path);
        }
        let images = |(case, mut channels): (Captured, BTreeMap<usize, Vec<PathBuf>>)| {
            let first = channels.values().flatten().next().cloned().unwrap_or_default();
            let images = (0..pairing.images.len()).map(|channel| match channels.remove(&channel).as_deref() {
                Some([path]) => Ok(path.clone()),
                Some([one, two, ..]) => Err(doubled(&case.id(), one, two)),
                _ => Err(Error::invalid(
                    &first,
                    "channels",
                    format!(
                        "case `{}` has no file {}{ENDING}, which is channel {channel} of the network",
                        case.id(),
                        pairing.images[channel].fill(&case)
                    ),
                    "add the file, or give the scan under the names CASE_0000.nii.gz, CASE_0001.nii.gz, ...",
                )),
            });
            (case.id(), images.collect())
        };
        cases.into_iter().map(images).collect()
    }
}

/// What the place of a file says, wherever the command runs.
fn place(path: &Path) -> Place {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Place::new(&folders(&whole), stem(&file_name(path)))
}

/// What to say where there is no scan.
fn nothing(inputs: &[PathBuf], pairing: Option<&Pairing>) -> Error {
    let usual = channel_name("CASE", 0, ENDING);
    let fix = match pairing {
        None => format!("name files, or folders that hold files {usual}"),
        Some(pairing) => {
            let raw: Vec<String> =
                pairing.images.iter().map(|template| format!("{template}{ENDING}")).collect();
            format!("name files, or folders that hold files {} or {usual}", raw.join(", "))
        }
    };
    let first = inputs.first().map_or(Path::new(""), PathBuf::as_path);
    Error::invalid(first, "INPUT", "there is no image", fix)
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

/// Every image that was named or lies in a folder that was named, each once, sorted; with `deep` in the folders below
/// it too.
fn images(inputs: &[PathBuf], deep: bool) -> Result<BTreeSet<PathBuf>> {
    /// A link that leads back to itself ends here.
    const DEPTH: usize = 8;
    let mut images = BTreeSet::new();
    for input in inputs {
        if input.is_dir() {
            below(input, if deep { DEPTH } else { 0 }, &mut images)?;
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

fn below(folder: &Path, depth: usize, images: &mut BTreeSet<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        // A folder with the name of an image is a scan that cannot be read, not one that is not there.
        let named = readable_stem(&file_name(&path)).is_some();
        if named {
            images.insert(path);
        } else if depth > 0 && path.is_dir() && !path.join(MANIFEST).exists() {
            below(&path, depth - 1, images)?;
        }
    }
    Ok(())
}

/// The case of files with numbers at the end of their names; several cases where these are no channels.
fn grouped(
    case: String,
    files: &BTreeMap<usize, Vec<PathBuf>>,
    channels: usize,
) -> Vec<(String, Result<Vec<PathBuf>>)> {
    if let Some([first, second, ..]) = files.values().map(Vec::as_slice).find(|paths| paths.len() > 1) {
        let error = doubled(&case, first, second);
        return vec![(case, Err(error))];
    }
    let numbers: Vec<usize> = files.keys().copied().collect();
    let paths: Vec<PathBuf> = files.values().flatten().cloned().collect();
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
