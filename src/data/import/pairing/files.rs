//! The NIfTI files of a folder, each with what its path tells: scan or labels, and where the case may be.

use std::collections::BTreeSet;
use std::path::Path;

use super::readings::{File, Told, after_name, leading, subject_and_session, trailing};
use super::{CaseFrom, Options};
use crate::data::dataset::{Place, Role, SEPARATORS, file_name, folders, holds_labels, holds_masks, role};
use crate::data::import::source::Tree;
use crate::image::{image_stem, single_stem, stem};
use crate::{Error, Result};

/// The files of a source, and which part of their paths is the case.
pub(super) struct Files {
    pub(super) files: Vec<File>,
    pub(super) from: CaseFrom,
}

impl Files {
    pub(super) fn find(tree: &Tree, options: &Options) -> Result<Self> {
        let inside: Vec<(&Path, &Path)> = tree
            .images()
            .map(|(path, folder, _)| (path, folder.strip_prefix(&tree.root).unwrap_or(folder)))
            .collect();
        if inside.is_empty() {
            return Err(no_image(tree));
        }
        if let Some((path, _)) = inside.iter().find(|(path, _)| path.to_str().is_none()) {
            let problem = "the name is not UTF-8, so that it cannot be the name of a case";
            return Err(Error::invalid(path, "file name", problem, "rename the file"));
        }
        let names: Vec<(Vec<String>, String)> = tree
            .images()
            .zip(&inside)
            .map(|((_, _, name), (_, folder))| (folders(&folder.join("x")), stem(name).to_owned()))
            .collect();
        let bids = match options.case_from {
            Some(from) => from == CaseFrom::Bids,
            None => {
                names.iter().all(|(_, name)| subject_and_session(name).is_some())
                    && names.iter().any(|(_, name)| is_bids_labels(name) || is_asked_for(name, options))
            }
        };
        let common = common(&names);
        let mut files: Vec<File> = names
            .iter()
            .zip(&inside)
            .map(|((folders, name), (path, folder))| {
                let place = Place::new(&folders[common.len()..], name);
                let told = told(&place, options.label_files.as_deref(), bids);
                let shown = folder.join(file_name(path)).display().to_string();
                File { path: path.to_path_buf(), shown, place, told }
            })
            .collect();
        tell_masks(&mut files, &names);
        if !files.iter().any(File::is_labels) {
            told_by_their_beginnings(&mut files);
        }
        if bids {
            leave_out_derived(&mut files);
        }
        let root = common.last().cloned().unwrap_or_else(|| file_name(&tree.root));
        let from =
            options.case_from.unwrap_or_else(|| if bids { CaseFrom::Bids } else { decide(&files, &root) });
        if from == CaseFrom::Folder {
            // A folder of one patient is the case itself.
            for file in files.iter_mut().filter(|file| file.place.folders.is_empty()) {
                file.place.folders.push(root.clone());
                file.place.all.insert(0, (root.clone(), None));
            }
        }
        Ok(Self { files, from })
    }
}

/// Folders that all files have in common, up to one that tells a role.
fn common(names: &[(Vec<String>, String)]) -> Vec<String> {
    let mut common = names.first().map_or_else(Vec::new, |(folders, _)| folders.clone());
    for (folders, _) in names {
        let same = common.iter().zip(folders).take_while(|(one, other)| one == other).count();
        common.truncate(same);
    }
    let tells = |folder: &String| Place::new(std::slice::from_ref(folder), "").role.is_some();
    common.into_iter().take_while(|folder| !tells(folder)).collect()
}

/// What tells the role of a file. Words at the beginning of its name are weak and left for later.
fn told(place: &Place, label_files: Option<&str>, bids: bool) -> Told {
    let by_words = by_words(place, bids);
    let Some(word) = label_files else { return by_words };
    let name = &place.name;
    let end = name.len().checked_sub(word.len()).filter(|end| name.is_char_boundary(*end));
    if place.all.iter().any(|(folder, _)| folder.eq_ignore_ascii_case(word)) {
        return Told::LabelFolder;
    }
    match end {
        Some(0) if name.eq_ignore_ascii_case(word) => Told::LabelEnd(name.len()),
        Some(end) if name[end..].eq_ignore_ascii_case(word) && name[..end].ends_with(SEPARATORS) => {
            Told::LabelEnd(word.len() + 1)
        }
        _ if by_words == Told::Image => Told::Image,
        _ => Told::Left,
    }
}

fn by_words(place: &Place, bids: bool) -> Told {
    let name = &place.name;
    if bids {
        return if is_bids_labels(name) { Told::LabelEnd(0) } else { Told::Image };
    }
    match place.role {
        Some(Role::Label) => Told::LabelFolder,
        Some(Role::Image) => Told::Image,
        None if is_labels_alone(name) => Told::LabelEnd(name.len()),
        None => trailing(name).map_or(Told::Image, Told::LabelEnd),
    }
}

/// By the suffix, which may be `mask`, `dseg` or `seg-manual`, or the entity `label-lesion`.
fn is_bids_labels(name: &str) -> bool {
    let suffix = name.rsplit('_').next().unwrap_or_default();
    name.split('_').any(|entity| entity.starts_with("label-"))
        || suffix.split('-').any(|word| role(word) == Some(Role::Label))
}

/// Whether a name ends with the word for label files that was given.
fn is_asked_for(name: &str, options: &Options) -> bool {
    let last = name.rsplit(SEPARATORS).next().unwrap_or_default();
    options.label_files.as_deref().is_some_and(|word| last.eq_ignore_ascii_case(word))
}

/// Whether all words of a text are for labels: `lesion_mask`.
fn is_labels_alone(text: &str) -> bool {
    text.split(SEPARATORS).filter(|word| !word.is_empty()).all(|word| role(word) == Some(Role::Label))
}

/// `masksTr` beside `labelsTr` holds regions of interest, unless it was said to hold the labels; alone it holds labels.
fn tell_masks(files: &mut [File], names: &[(Vec<String>, String)]) {
    let last = |folders: &[String]| folders.last().cloned().unwrap_or_default();
    let labels_apart =
        files.iter().zip(names).any(|(file, (folders, _))| file.is_labels() && holds_labels(&last(folders)));
    for (file, (folders, _)) in files.iter_mut().zip(names).filter(|_| labels_apart) {
        if holds_masks(&last(folders)) {
            file.told = Told::Mask;
        }
    }
}

/// `segmentation-0` beside `volume-0`: told where nothing else tells labels.
fn told_by_their_beginnings(files: &mut [File]) {
    for file in files.iter_mut().filter(|file| file.told == Told::Image && file.place.role.is_none()) {
        if let Some(length) = leading(&file.place.name, Role::Label) {
            file.told = Told::LabelStart(length);
        }
    }
}

/// Images in `derivatives` were computed from those outside, where there are such.
fn leave_out_derived(files: &mut [File]) {
    let derived = |file: &File| file.shown.starts_with("derivatives");
    if files.iter().any(|file| file.told == Told::Image && !derived(file)) {
        for file in files.iter_mut().filter(|file| file.told == Told::Image && derived(file)) {
            file.told = Told::Left;
        }
    }
}

/// Whether cases are told by folders or by names, from the label files: `P0/seg`, `P1/seg` against `p0_seg`, `p1_seg`.
fn decide(files: &[File], root: &str) -> CaseFrom {
    let labels: Vec<&File> = files.iter().filter(|file| file.is_labels()).collect();
    let kind = |file: &File| {
        let name = file.place.name.as_str();
        let folder = file.place.folders.last().map_or(root, String::as_str);
        after_name(name, folder).unwrap_or(name).to_lowercase()
    };
    let kinds: BTreeSet<String> = labels.iter().map(|file| kind(file)).collect();
    let in_folders = labels.iter().all(|file| !file.place.folders.is_empty());
    let by_folder =
        in_folders && kinds.len() < labels.len() || kinds.iter().all(|kind| is_labels_alone(kind));
    if !labels.is_empty() && by_folder { CaseFrom::Folder } else { CaseFrom::Name }
}

fn no_image(tree: &Tree) -> Error {
    let foreign = tree.files.iter().find(|path| {
        let name = file_name(path);
        single_stem(&name).is_none() && image_stem(&name).is_some()
    });
    let (problem, fix) = match (foreign, tree.files.len()) {
        (Some(path), _) => (
            format!(
                "there is no .nii.gz or .nii file; there is `{}`, whose format is not read",
                file_name(path)
            ),
            "convert the images to NIfTI first (dcm2niix for DICOM)",
        ),
        (None, 0) => ("there is no file".to_owned(), "give the folder that holds scans and label files"),
        (None, count) => (
            format!("none of its {count} files is a .nii.gz or .nii file"),
            "give the folder that holds scans and label files; convert other formats to NIfTI first",
        ),
    };
    Error::invalid(&tree.root, "source", problem, fix)
}
