//! The files of a download, and the questions that recognisers ask about their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::dataset::{entries, file_name};
use crate::image::{ENDINGS, single_stem, stem};
use crate::{Error, Result};

/// All files below a folder, sorted, hidden ones left out.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) files: Vec<PathBuf>,
    /// Images by folder, with their names.
    images: BTreeMap<PathBuf, Vec<(PathBuf, String)>>,
    /// Folders with the name of an image, and the only image in each.
    wrapped: Vec<(PathBuf, PathBuf)>,
}

/// Deeper than any of the public sets; a link that leads back to itself ends here.
const DEPTH: usize = 8;

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let (files, images, wrapped) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut tree = Self { root: root.to_owned(), files, images, wrapped };
        tree.descend(root, DEPTH)?;
        Ok(tree)
    }

    fn descend(&mut self, folder: &Path, depth: usize) -> Result<()> {
        for path in entries(folder)? {
            let name = file_name(&path);
            let mut file = path.clone();
            if path.is_dir() {
                match only_image(&path)? {
                    // Some copies of BraTS have a folder `CASE_t1.nii` around each file, whose own name says nothing.
                    Some(inside) if single_stem(&name).is_some() => {
                        self.wrapped.push((path, inside.clone()));
                        file = inside;
                    }
                    _ if depth > 0 => {
                        self.descend(&path, depth - 1)?;
                        continue;
                    }
                    _ => continue,
                }
            }
            if single_stem(&name).is_some() {
                self.images.entry(folder.to_owned()).or_default().push((file.clone(), name));
            }
            self.files.push(file);
        }
        Ok(())
    }

    /// What to say about images that lie in folders of the names that they should have.
    pub(super) fn note(&self) -> Option<String> {
        let (folder, file) = self.wrapped.first()?;
        Some(format!(
            "{} images lie in folders that have their names; `{}` is taken for `{}`, and so on",
            self.wrapped.len(),
            file.strip_prefix(&self.root).unwrap_or(file).display(),
            file_name(folder)
        ))
    }

    /// NIfTI files as path, folder and name.
    pub(super) fn images(&self) -> impl Iterator<Item = (&Path, &Path, &str)> {
        self.images.iter().flat_map(|(folder, files)| {
            files.iter().map(move |(path, name)| (path.as_path(), folder.as_path(), name.as_str()))
        })
    }

    /// NIfTI files of one folder, as path and name.
    pub(super) fn beside(&self, folder: &Path) -> impl Iterator<Item = (&Path, &str)> {
        let files = self.images.get(folder).map_or(&[][..], Vec::as_slice);
        files.iter().map(|(path, name)| (path.as_path(), name.as_str()))
    }
}

/// A file that a case must have.
pub(super) fn missing(folder: &Path, case: &str, what: &str, mend: &str) -> Error {
    // A folder of that name was looked into: then it is not one image that it holds.
    let folders = ENDINGS.map(|ending| folder.join(format!("{}{ending}", stem(what))));
    let problem = match folders.iter().find(|path| path.is_dir()) {
        Some(path) => format!("`{}` is a folder that does not hold one image alone", file_name(path)),
        None => format!("{what} is missing"),
    };
    Error::invalid(folder, format!("case `{case}`"), problem, mend)
}

/// The image in a folder that holds nothing else.
fn only_image(folder: &Path) -> Result<Option<PathBuf>> {
    let mut files = entries(folder)?;
    let image = |path: &PathBuf| !path.is_dir() && single_stem(&file_name(path)).is_some();
    Ok(files.pop().filter(|path| files.is_empty() && image(path)))
}
