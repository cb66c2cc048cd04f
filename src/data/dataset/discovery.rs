//! Which cases a folder has and which files are theirs.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::Case;
use super::description::{Description, Files, ListedCase};
use crate::files::{broken_link, is_there, unreadable};
use crate::image::{channel_name, readable_stem, split_channel};
use crate::{Error, Result};

/// The folder of a data set that was given by path, or by name or number under `raw` (`$nnUNet_raw`).
pub(super) fn locate(given: &Path, raw: Option<&Path>) -> Result<PathBuf> {
    let canonical =
        |path: &Path| std::fs::canonicalize(path).map_err(|source| Error::io("open", path, source));
    if given.is_dir() {
        return canonical(given);
    }
    if given.is_file() && given.file_name().is_some_and(|name| name == "dataset.json") {
        return canonical(
            given.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        );
    }
    let mut components = given.components();
    let name = match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => name.to_str(),
        _ => None,
    };
    let missing = || {
        let mend = match raw {
            Some(raw) => format!("give the folder, or a name or number of a data set in `{}`", raw.display()),
            None => "give the folder that holds dataset.json, or set nnUNet_raw to use names".to_owned(),
        };
        Error::invalid(given, "data set", "there is no such folder", mend)
    };
    let (Some(name), Some(raw)) = (name, raw) else { return Err(missing()) };
    let number = name.parse::<u32>().ok().map(|number| format!("Dataset{number:03}_"));
    let mut found = Vec::new();
    for entry in entries(raw)? {
        let entry_name = file_name(&entry);
        let fits =
            number.as_ref().map_or(entry_name == name, |prefix| entry_name.starts_with(prefix.as_str()));
        if fits && entry.is_dir() {
            found.push(entry);
        }
    }
    match found.as_slice() {
        [] => Err(missing()),
        [one] => canonical(one),
        several => Err(Error::invalid(
            raw,
            format!("data set `{name}`"),
            format!("fits {}", several.iter().map(|path| file_name(path)).collect::<Vec<_>>().join(" and ")),
            "give the full name",
        )),
    }
}

/// Training and test cases, each sorted by name.
///
/// Files that a case must have are named whether they exist or not, so that reading them reports them; label and
/// mask files that a case may have are named where they exist.
pub(super) fn cases(folder: &Path, description: &Description) -> Result<(Vec<Case>, Vec<Case>)> {
    let ending = &description.file_ending;
    let channels = description.channels.len();
    // A link that leads nowhere is a file of the case as well: reading it says so.
    let existing = |place: &str, id: &str| {
        Some(folder.join(place).join(format!("{id}{ending}"))).filter(|path| is_there(path))
    };
    let test_case = |id: String, images| {
        let (labels, mask) = (existing("labelsTs", &id), existing("masksTs", &id));
        Case { id, images, labels, mask }
    };
    let scanned = |place: &str| -> Result<Vec<(String, Vec<PathBuf>)>> {
        let images = folder.join(place);
        let names = case_names(&images, ending)?;
        Ok(names.into_iter().map(|id| (id.clone(), channel_files(&images, &id, channels, ending))).collect())
    };
    let listed = |case: &ListedCase| -> (String, Vec<PathBuf>, Option<PathBuf>) {
        let paths: Vec<PathBuf> = case.images.iter().map(|path| resolve(folder, path)).collect();
        (case.id.clone(), paths, case.labels.as_ref().map(|path| resolve(folder, path)))
    };
    let training_case = |(id, images, labels): (String, Vec<PathBuf>, Option<PathBuf>)| {
        let mask = existing("masksTr", &id);
        Case { id, images, labels, mask }
    };
    let mut training: Vec<Case>;
    let mut test: Vec<Case>;
    match &description.files {
        Files::Decathlon { training: listed_training, test: listed_test } => {
            // nnU-Net v1 has MSD's dataset.json but one file per channel.
            let split = |(id, images, labels): (String, Vec<PathBuf>, Option<PathBuf>)| {
                let place = images.first().and_then(|path| path.parent()).unwrap_or(folder).to_owned();
                let first = place.join(channel_name(&id, 0, ending));
                let whole = images.iter().all(|path| is_there(path)) || !is_there(&first);
                let images = if whole { images } else { channel_files(&place, &id, channels, ending) };
                (id, images, labels)
            };
            training = listed_training.iter().map(|case| training_case(split(listed(case)))).collect();
            test = listed_test
                .iter()
                .map(|case| split(listed(case)))
                .map(|(id, images, _)| test_case(id, images))
                .collect();
        }
        Files::Listed(cases) => {
            training = cases.iter().map(|case| training_case(listed(case))).collect();
            test = scanned("imagesTs")?.into_iter().map(|(id, images)| test_case(id, images)).collect();
        }
        Files::Folders => {
            training = scanned("imagesTr")?
                .into_iter()
                .map(|(id, images)| {
                    let labels = folder.join("labelsTr").join(format!("{id}{ending}"));
                    training_case((id, images, Some(labels)))
                })
                .collect();
            test = scanned("imagesTs")?.into_iter().map(|(id, images)| test_case(id, images)).collect();
        }
    }
    training.sort_by(|a, b| a.id.cmp(&b.id));
    test.sort_by(|a, b| a.id.cmp(&b.id));
    Ok((training, test))
}

/// What to say where a folder has no case: how a file that is there would have to be called.
pub(super) fn nothing_found(folder: &Path, ending: &str) -> Error {
    let images = folder.join("imagesTr");
    let found = entries(&images).ok().and_then(|files| files.first().map(|file| file_name(file)));
    let problem = match found {
        _ if !images.is_dir() => "is not there".to_owned(),
        Some(name) => format!("has no file named {}; there is `{name}`", channel_name("CASE", 0, ending)),
        None => "is empty".to_owned(),
    };
    Error::invalid(
        images,
        "images",
        problem,
        format!(
            "name images {}, {}, ... (one per channel), or bring the data into this layout with `segen import`",
            channel_name("CASE", 0, ending),
            channel_name("CASE", 1, ending)
        ),
    )
}

/// The entries of a folder, sorted; none where it does not exist. Hidden files are left out, such as the `._x` that
/// macOS puts beside `x`.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_there(folder) => {
            return Ok(Vec::new());
        }
        Err(error) if broken_link(folder).is_some() => return Err(unreadable(folder, error)),
        Err(error) => return Err(Error::io("list", folder, error)),
    };
    let mut paths = Vec::new();
    for entry in listing {
        let path = entry.map_err(|source| Error::io("list", folder, source))?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path; bytes that are no UTF-8 are replaced.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The cases of a folder with a file per channel. A name counts whatever is behind it: a link that leads nowhere
/// or a folder makes a case that cannot be read, never one that is not there.
fn case_names(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let names: BTreeSet<String> = entries(folder)?
        .iter()
        .filter_map(|path| {
            let stem = path.file_name()?.to_str()?.strip_suffix(ending)?;
            split_channel(stem).map(|(case, _)| case.to_owned())
        })
        .collect();
    Ok(names.into_iter().collect())
}

/// Files of a data set whose names are not UTF-8. Names of cases are text, so none of these can be one.
pub(crate) fn unreadable_names(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in PLACES {
        let files = entries(&folder.join(place))?.into_iter();
        found.extend(
            files.filter(|path| path.to_str().is_none() && readable_stem(&file_name(path)).is_some()),
        );
    }
    Ok(found)
}

/// The folders of a data set.
pub(crate) const PLACES: [&str; 6] = ["imagesTr", "labelsTr", "masksTr", "imagesTs", "labelsTs", "masksTs"];
/// What is wrong with a name of [`unreadable_names`], and what to do.
pub(crate) const UNREADABLE_NAME: [&str; 2] =
    ["the name is not UTF-8, so that it cannot be the name of a case", "rename the file"];

fn channel_files(folder: &Path, id: &str, channels: usize, ending: &str) -> Vec<PathBuf> {
    (0..channels).map(|channel| folder.join(channel_name(id, channel, ending))).collect()
}

/// A path from `dataset.json`: `$NAME` and `${NAME}` are replaced, relative paths start at the data set.
fn resolve(folder: &Path, path: &str) -> PathBuf {
    let expanded = expand(path, &|name| std::env::var(name).ok());
    // `./imagesTr/x` and `imagesTr/x` are the same file and should print alike.
    let path = folder.join(expanded.strip_prefix("./").unwrap_or(&expanded));
    // Written on Windows, `imagesTr\x` is that file, too.
    if !cfg!(windows) && expanded.contains('\\') && !is_there(&path) {
        let expanded = expanded.replace('\\', "/");
        return folder.join(expanded.strip_prefix("./").unwrap_or(&expanded));
    }
    path
}

/// Replaces environment variables as Python's `os.path.expandvars` does: unknown ones stay as they are.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let word =
            |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, length) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 3),
            None => (&after[..word(after)], word(after) + 1),
        };
        let whole = &rest[dollar..dollar + length];
        out.push_str(&variable(name).unwrap_or_else(|| whole.to_owned()));
        rest = &rest[dollar + length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variables_are_expanded_like_in_python() {
        let variable = |name: &str| (name == "DATA").then(|| "/d".to_owned());
        for (text, expected) in [
            ("$DATA/a", "/d/a"),
            ("${DATA}b/$DATA", "/db//d"),
            ("$OTHER/${OTHER}", "$OTHER/${OTHER}"),
            ("a$", "a$"),
            ("${DATA", "${DATA"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text, &variable), expected);
        }
    }

    #[test]
    fn a_path_from_windows_is_that_of_a_file_that_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("imagesTr")).expect("a folder");
        let file = folder.path().join("imagesTr/a.nii.gz");
        std::fs::write(&file, "").expect("a file");
        for path in
            ["imagesTr/a.nii.gz", "./imagesTr/a.nii.gz", "imagesTr\\a.nii.gz", ".\\imagesTr\\a.nii.gz"]
        {
            assert_eq!(resolve(folder.path(), path), file, "{path}");
        }
        // Elsewhere a name may have that letter.
        if !cfg!(windows) {
            let odd = folder.path().join("a\\b.nii.gz");
            std::fs::write(&odd, "").expect("a file");
            assert_eq!(resolve(folder.path(), "a\\b.nii.gz"), odd);
        }
    }

    #[test]
    fn a_data_set_is_found_by_folder_name_and_number() {
        let raw = tempfile::tempdir().expect("a temporary folder");
        for name in ["Dataset004_Hippocampus", "Dataset007_A", "Dataset007_B"] {
            std::fs::create_dir(raw.path().join(name)).expect("a folder");
        }
        let name = |given: &str| locate(Path::new(given), Some(raw.path())).map(|path| file_name(&path));
        assert_eq!(name("4").expect("by number"), "Dataset004_Hippocampus");
        assert_eq!(name("004").expect("by number"), "Dataset004_Hippocampus");
        assert_eq!(name("Dataset004_Hippocampus").expect("by name"), "Dataset004_Hippocampus");
        let ambiguous = name("7").expect_err("two fit").to_string();
        assert!(ambiguous.contains("Dataset007_A and Dataset007_B"), "{ambiguous}");
        assert!(name("5").expect_err("none fits").to_string().contains("no such folder"));
        assert!(locate(Path::new("5"), None).expect_err("no root").to_string().contains("nnUNet_raw"));
    }
}
