//! The files of a download, and the questions that recognisers ask about their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::dataset::{entries, file_name};
use crate::{Error, Result};

/// All files below a folder, sorted, hidden ones left out.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) files: Vec<PathBuf>,
    /// NIfTI files by folder, with their names.
    images: BTreeMap<PathBuf, Vec<(PathBuf, String)>>,
}

/// Deeper than any of the public sets; a link that leads back to itself ends here.
const DEPTH: usize = 8;

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { root: root.to_owned(), files: Vec::new(), images: BTreeMap::new() };
        tree.descend(root, DEPTH)?;
        Ok(tree)
    }

    fn descend(&mut self, folder: &Path, depth: usize) -> Result<()> {
        for path in entries(folder)? {
            if path.is_dir() {
                if depth > 0 {
                    self.descend(&path, depth - 1)?;
                }
                continue;
            }
            let name = file_name(&path);
            if stem(&name) != name {
                self.images.entry(folder.to_owned()).or_default().push((path.clone(), name));
            }
            self.files.push(path);
        }
        Ok(())
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

    /// What to say where no recogniser knows the folder.
    pub(super) fn unknown(&self) -> Error {
        let shown: Vec<String> = self
            .files
            .iter()
            .take(3)
            .map(|path| path.strip_prefix(&self.root).unwrap_or(path).display().to_string())
            .collect();
        let problem = match shown.len() {
            0 => "there is no file".to_owned(),
            _ => format!(
                "none of the known names is among its {} files, such as {}",
                self.files.len(),
                shown.join(", ")
            ),
        };
        Error::invalid(
            &self.root,
            "layout",
            problem,
            "known are MSD (dataset.json), BraTS (*_t1ce.nii.gz, *-t1c.nii.gz, OTMultiClass.nii.gz), KiTS \
             (case_00000/imaging.nii.gz), ATLAS (*_T1w.nii.gz, *_t1w_*stx.nii.gz) and DeepMedic (trainConfig.cfg, \
             trainChannels_*.cfg); name other data CASE_0000.nii.gz and write a dataset.json by hand",
        )
    }
}

/// The name without `.nii.gz` or `.nii`.
pub(super) fn stem(name: &str) -> &str {
    name.strip_suffix(".nii.gz").or_else(|| name.strip_suffix(".nii")).unwrap_or(name)
}

/// A file that a case must have.
pub(super) fn missing(folder: &Path, case: &str, what: &str, mend: &str) -> Error {
    Error::invalid(folder, format!("case `{case}`"), format!("{what} is missing"), mend)
}
