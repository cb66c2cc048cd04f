//! The scans that `segen predict` is given, looked at before any of them is predicted.

use std::path::{Path, PathBuf};

use crate::data::dataset::{self, Case, Pairing};
use crate::prepare::scan::same_place;
use crate::score::Masks;
use crate::{Error, Result, image};

/// A scan and what is wrong with it, where something is.
pub type Scan = (Case, Result<()>);

/// Finds the scans among files and folders, with their masks, sorted by name, and looks at names and headers: what
/// can be told before a scan is read is told then. With a `pairing` raw files are scans too.
///
/// # Errors
/// As [`dataset::cases`].
pub fn find(
    inputs: &[PathBuf],
    channels: usize,
    pairing: Option<&Pairing>,
    masks: &Masks,
) -> Result<Vec<Scan>> {
    let mut scans = Vec::new();
    for (id, images) in dataset::cases(inputs, channels, pairing)? {
        let mut case = Case { id, images: Vec::new(), labels: None, mask: None };
        let looked = images.and_then(|images| {
            case.images = images;
            case.mask = mask(&case, masks)?;
            look(&case, channels)
        });
        scans.push((case, looked));
    }
    Ok(scans)
}

/// Reads the headers of a scan's files and its mask.
fn look(case: &Case, channels: usize) -> Result<()> {
    let headers = case.images.iter().map(|path| image::read_header(path)).collect::<Result<Vec<_>>>()?;
    let Some((first, header)) = case.images.first().zip(headers.first()) else { return Ok(()) };
    let found = if headers.len() == 1 { header.volumes() } else { headers.len() };
    if found != channels {
        return Err(Error::invalid(
            first,
            "channels",
            format!("case `{}` has {found} channel(s), the network takes {channels}", case.id),
            "give one file per channel, or one file with all channels along the fourth dimension",
        ));
    }
    for (path, other) in case.images.iter().zip(&headers) {
        same_place(&header.grid(), &other.grid(), first, path)?;
    }
    match &case.mask {
        None => Ok(()),
        Some(mask) => same_place(&header.grid(), &image::read_header(mask)?.grid(), first, mask),
    }
}

/// The region of interest of a scan: in the folder given, else in the folder `masksTs` beside `imagesTs` (or with
/// `Tr`) where the scan lies in such a one.
fn mask(case: &Case, masks: &Masks) -> Result<Option<PathBuf>> {
    let folder = match masks {
        Masks::None => return Ok(None),
        Masks::Folder(folder) => folder.clone(),
        Masks::Beside => match case.images.first().and_then(|path| beside(path)) {
            Some(folder) => folder,
            None => return Ok(None),
        },
    };
    match dataset::file_of(&folder, &case.id) {
        Ok(mask) => Ok(Some(mask)),
        Err(_) if *masks == Masks::Beside => Ok(None),
        Err(error) => Err(error),
    }
}

/// `masksTs` beside the folder `imagesTs` of a scan, where both are there.
fn beside(image: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(image).ok()?.parent()?.to_owned();
    let name = match folder.file_name()?.to_str()? {
        "imagesTr" => "masksTr",
        "imagesTs" => "masksTs",
        _ => return None,
    };
    Some(folder.with_file_name(name)).filter(|folder| folder.is_dir())
}
