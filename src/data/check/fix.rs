//! Gives the files of a case the place of its image, where that is all that is wrong with them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::dataset::{Case, Dataset};
use crate::files::create_folder;
use crate::image::volume::Fit;
use crate::image::{self, Header};
use crate::progress::Progress;
use crate::{Error, Result};

/// Which files [`fix_headers`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFix {
    /// Those up to a tenth of a voxel from their image: programs round differently.
    Rounding,
    /// All of the image's shape: for files whose voxels match those of the image, whatever their headers say.
    Copy,
}

/// A file whose header was rewritten.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FixedFile {
    /// The file, relative to the data set.
    pub file: PathBuf,
    /// The image whose place it has now.
    pub image: PathBuf,
    /// How far the farthest voxel moved.
    pub millimetres: f64,
    /// The same in voxels.
    pub voxels: f64,
    /// Where the file as it was is kept.
    pub backup: PathBuf,
}

/// A file that lies elsewhere than its image and was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftFile {
    /// The file, relative to the data set.
    pub file: PathBuf,
    /// Why.
    pub why: String,
}

/// What [`fix_headers`] did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HeaderFixes {
    /// Files that were rewritten.
    pub fixed: Vec<FixedFile>,
    /// Files that lie elsewhere than their images still.
    pub left: Vec<LeftFile>,
}

/// The folder of a data set that keeps files as they were.
const BACKUP: &str = "header-backup";

/// Rewrites the headers of labels, masks and further channels that lie elsewhere than the first channel of their case,
/// so that they lie where it does. Voxels stay as they are. Files that agree up to a thousandth of a voxel are not
/// touched, nor are links and files outside the data set. Each file is replaced as a whole, and kept as it was in
/// `header-backup` first. `cases` limits this to cases of these names; none means all.
///
/// # Errors
/// Where the data set cannot be opened or has no case of a name. What goes wrong with a file is said in its place.
pub fn fix_headers(
    folder: &Path,
    fix: HeaderFix,
    cases: &[String],
    progress: &dyn Progress,
) -> Result<HeaderFixes> {
    let dataset = Dataset::open(folder)?;
    if let Some(unknown) = cases.iter().find(|id| dataset.case(id).is_none()) {
        let problem = format!("there is no case `{unknown}`");
        return Err(Error::invalid(
            &dataset.folder,
            "--case",
            problem,
            "name cases as their files, without channel",
        ));
    }
    let chosen: Vec<&Case> = dataset
        .training
        .iter()
        .chain(&dataset.test)
        .filter(|case| cases.is_empty() || cases.contains(&case.id))
        .collect();
    let mut fixes = HeaderFixes::default();
    progress.begin("fixing headers", chosen.len() as u64);
    for case in chosen {
        fixes.case(&dataset.folder, case, fix);
        progress.advance(1);
    }
    progress.end();
    Ok(fixes)
}

impl HeaderFixes {
    fn case(&mut self, folder: &Path, case: &Case, fix: HeaderFix) {
        let Some((first, others)) = case.images.split_first() else { return };
        // What cannot be read is a fault that the check names.
        let Ok(reference) = image::read_header(first) else { return };
        for file in others.iter().chain(&case.labels).chain(&case.mask) {
            let Ok(header) = image::read_header(file) else { continue };
            if header.grid().fit(&reference.grid()) == Fit::Same {
                continue;
            }
            let inside = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_owned();
            match fixed(folder, file, &header, &reference, fix) {
                Ok((backup, [millimetres, voxels])) => self.fixed.push(FixedFile {
                    file: inside(file),
                    image: inside(first),
                    millimetres,
                    voxels,
                    backup: inside(&backup),
                }),
                Err(why) => self.left.push(LeftFile { file: inside(file), why }),
            }
        }
    }
}

/// Rewrites one file; where it is kept as it was, and how far it moved. Otherwise why it stays.
fn fixed(
    folder: &Path,
    file: &Path,
    header: &Header,
    reference: &Header,
    fix: HeaderFix,
) -> std::result::Result<(PathBuf, [f64; 2]), String> {
    let (grid, wanted) = (header.grid(), reference.grid());
    let Some((millimetres, voxels)) = grid.displacement(&wanted).zip(grid.voxels_apart(&wanted)) else {
        return Err("its shape is not the image's; resample it onto the image".to_owned());
    };
    if fix == HeaderFix::Rounding && grid.fit(&wanted) > Fit::Near {
        return Err(format!(
            "it lies {voxels:.3} voxels from its image, which is more than rounding; look at both in a viewer and, \
             where the voxels match, use `--fix-header copy --case CASE`"
        ));
    }
    if file.is_symlink() {
        return Err("it is a link; put the file itself in its place first".to_owned());
    }
    let Ok(inside) = file.strip_prefix(folder) else {
        return Err("it lies outside the data set".to_owned());
    };
    let backup = keep(file, &folder.join(BACKUP).join(inside)).map_err(|error| error.to_string())?;
    match image::write_place(file, reference) {
        Ok(()) => Ok((backup, [millimetres, voxels])),
        Err(error) => {
            // Nothing was changed, so nothing needs to be kept.
            let _ = std::fs::remove_file(&backup);
            Err(error.to_string())
        }
    }
}

/// Keeps a file under the first free one of the names `place`, `place.1`, ...: by a second link to it, else by a
/// copy.
fn keep(file: &Path, place: &Path) -> Result<PathBuf> {
    create_folder(place.parent().unwrap_or(place))?;
    let mut number = 0;
    loop {
        let mut name = place.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let free = PathBuf::from(name);
        number += 1;
        if crate::files::is_there(&free) {
            continue;
        }
        let kept = std::fs::hard_link(file, &free).or_else(|_| std::fs::copy(file, &free).map(|_| ()));
        return kept.map(|()| free.clone()).map_err(|error| Error::io("write", &free, error));
    }
}

impl fmt::Display for HeaderFixes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} header(s) rewritten, {} file(s) left", self.fixed.len(), self.left.len())?;
        for FixedFile { file, image, millimetres, voxels, backup } in &self.fixed {
            let (file, image, backup) = (file.display(), image.display(), backup.display());
            writeln!(out, "fixed    {file}: as {image}; moved {millimetres:.4} mm, {voxels:.3} of a voxel")?;
            writeln!(out, "         as it was: {backup}")?;
        }
        self.left.iter().try_for_each(|left| writeln!(out, "left     {}: {}", left.file.display(), left.why))
    }
}
