//! Looks into the files of a data set before anything is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Found, Images, Values};
use crate::data::dataset::file_name;
use crate::image::{self, endings_in_words, single_stem};
use crate::progress::Progress;
use crate::{Error, Result};

/// Which label values each label file has, and how many voxels of each.
pub(super) type ValuesByFile = HashMap<PathBuf, BTreeMap<u8, u64>>;

/// Sees that every header can be read, that files have as many volumes as they should, and that all files of a
/// case have the same shape. (Where they lie is for [`crate::data::check`] to judge.)
pub(super) fn headers(found: &Found, progress: &dyn Progress) -> Result<()> {
    progress.begin("reading headers", found.cases.len() as u64);
    let outcome = found.cases.par_iter().try_for_each(|case| {
        let (images, volumes) = match &case.images {
            Images::Files(files) => (files.as_slice(), 1),
            Images::Volumes(file, volumes) => (std::slice::from_ref(file), *volumes),
        };
        let labels = case.labels.iter().flat_map(|labels| &labels.files).chain(&case.mask);
        let files = images.iter().map(|file| (file, volumes)).chain(labels.map(|file| (file, 1)));
        let mut first: Option<[usize; 3]> = None;
        for (file, volumes) in files {
            let shape = shape(file, volumes)?;
            let expected = *first.get_or_insert(shape);
            if shape != expected {
                let problem =
                    format!("{shape:?} voxels, but the first image of case `{}` has {expected:?}", case.id);
                return Err(Error::invalid(file, "dim", problem, "see that the files are of one scan"));
            }
        }
        progress.advance(1);
        Ok(())
    });
    progress.end();
    outcome
}

fn shape(file: &Path, expected: usize) -> Result<[usize; 3]> {
    if single_stem(&file_name(file)).is_none() {
        let mend = "convert it to NIfTI first";
        return Err(Error::invalid(
            file,
            "file name",
            format!("does not end in {}", endings_in_words()),
            mend,
        ));
    }
    let header = image::read_header(file)?;
    let volumes = header.volumes();
    if volumes != expected {
        return Err(Error::invalid(
            file,
            "dim",
            format!("has {volumes} volume(s) where {expected} should be"),
            "see that channel names and files belong together",
        ));
    }
    Ok(header.grid().shape)
}

/// Reads every label file once for the values in it; lesion masks that are to be united may have any.
pub(super) fn labels(found: &Found, progress: &dyn Progress) -> Result<ValuesByFile> {
    let files: Vec<&PathBuf> = found
        .cases
        .iter()
        .filter_map(|case| case.labels.as_ref())
        .filter(|labels| labels.values != Values::Unite)
        .flat_map(|labels| &labels.files)
        .collect();
    progress.begin("reading labels", files.len() as u64);
    let outcome = files
        .par_iter()
        .map(|file| {
            let (labels, _) = image::read_labels(file)?;
            let mut counts = [0; 256];
            labels.voxels.iter().for_each(|value| counts[usize::from(*value)] += 1);
            progress.advance(1);
            let counts = (0..=255).zip(counts).filter(|(_, count)| *count > 0);
            Ok(((*file).clone(), counts.collect()))
        })
        .collect();
    progress.end();
    outcome
}

/// All values of all files.
pub(super) fn all_values(values: &ValuesByFile) -> BTreeSet<u8> {
    totals(values).into_keys().collect()
}

/// All values of the label files of a source.
///
/// # Errors
/// Where there are so many that the files can be no label maps.
pub(super) fn values_of_classes(source: &Path, values: &ValuesByFile) -> Result<BTreeSet<u8>> {
    /// More than the finest public label map has.
    const MOST: usize = 200;
    let present = all_values(values);
    if present.len() <= MOST {
        return Ok(present);
    }
    let most = values.iter().max_by_key(|(_, values)| values.len()).map_or(source, |(file, _)| file);
    Err(Error::invalid(
        most,
        "labels",
        format!("the label files have {} different values", present.len()),
        "give label maps: this looks like an image, a map of probabilities or a mask with smooth edges",
    ))
}

/// Voxels of every value, and the number of files that have it.
pub(super) fn totals(values: &ValuesByFile) -> BTreeMap<u8, (u64, usize)> {
    let mut totals: BTreeMap<u8, (u64, usize)> = BTreeMap::new();
    for (value, count) in values.values().flatten() {
        let (voxels, files) = totals.entry(*value).or_default();
        *voxels += count;
        *files += 1;
    }
    totals
}
