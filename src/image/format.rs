//! The formats that are read and written, and what files are called.
//!
//! A format is recognised by what a file holds, never by its name. Names matter where folders are searched and
//! where files are written: every ending, and everything that a name says about its case, is spelled here alone.
//! A second format is an arm of [`Format`], of [`Header`] and of the functions below.

use std::io::Write;
use std::path::Path;

use ndarray::Array4;

use super::volume::{Grid, Image, Labels, Volume};
use super::{Doubt, nifti};
use crate::{Error, Result, files};

/// A file format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NIfTI-1 and NIfTI-2, see [`nifti`].
    Nifti,
}

impl Format {
    /// The format of the file, from its first bytes.
    ///
    /// # Errors
    /// Where the file cannot be read, or is of no format that is read: with what it looks like instead.
    pub fn of(path: &Path) -> Result<Self> {
        nifti::recognise(path).map(|()| Self::Nifti)
    }

    /// The format that a name asks for.
    fn to_write(path: &Path) -> Result<Self> {
        if single_stem(&path.to_string_lossy()).is_some() {
            return Ok(Self::Nifti);
        }
        let problem = format!("does not end in {}", endings_in_words());
        Err(Error::invalid(path, "file name", problem, "choose one of these endings"))
    }
}

/// What a file says about its voxels, kept so that others can be written in the same place.
#[derive(Clone, Debug)]
pub enum Header {
    /// Of a NIfTI file, byte for byte.
    Nifti(nifti::Header),
}

impl Header {
    /// Shape and position of one volume; millimetres whatever the file's unit.
    pub fn grid(&self) -> Grid {
        match self {
            Self::Nifti(header) => header.grid(),
        }
    }

    /// Number of volumes in the file: channels, where there are several.
    pub fn volumes(&self) -> usize {
        match self {
            Self::Nifti(header) => header.volumes(),
        }
    }

    /// What is doubtful about the file although it can be read.
    pub fn warnings(&self) -> &[Doubt] {
        match self {
            Self::Nifti(header) => header.warnings(),
        }
    }
}

/// Reads the header alone, which takes microseconds. See [`nifti::read_header`].
///
/// # Errors
/// Where the file is of no known format, or cannot be used.
pub fn read_header(path: &Path) -> Result<Header> {
    match Format::of(path)? {
        Format::Nifti => nifti::read_header(path).map(Header::Nifti),
    }
}

/// Reads one 3-D volume as scaled intensities. See [`nifti::read_image`].
///
/// # Errors
/// Where the file is of no known format, cannot be used, or holds several volumes.
pub fn read_image(path: &Path) -> Result<(Image, Header)> {
    match Format::of(path)? {
        Format::Nifti => nifti::read_image(path).map(|(image, header)| (image, Header::Nifti(header))),
    }
}

/// Reads all channels of a file, one or several. See [`nifti::read_channels`].
///
/// # Errors
/// Where the file is of no known format, or cannot be used.
pub fn read_channels(path: &Path) -> Result<(Vec<Image>, Header)> {
    match Format::of(path)? {
        Format::Nifti => nifti::read_channels(path).map(|(images, header)| (images, Header::Nifti(header))),
    }
}

/// Reads a segmentation. See [`nifti::read_labels`].
///
/// # Errors
/// Where the file is of no known format, cannot be used, or holds values that are no labels.
pub fn read_labels(path: &Path) -> Result<(Labels, Header)> {
    match Format::of(path)? {
        Format::Nifti => nifti::read_labels(path).map(|(labels, header)| (labels, Header::Nifti(header))),
    }
}

/// What is written to a file, for a writer of files.
pub type Content<'a> = Box<dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + 'a>;

/// Writes a segmentation; with `like`, position and unit are those of that header bit for bit. See
/// [`nifti::write_labels`].
///
/// # Errors
/// Where the ending is of no format that is written, `like` lies elsewhere, or the system refuses.
pub fn write_labels(path: &Path, labels: &Labels, like: Option<&Header>) -> Result<()> {
    files::write(path, labels_content(path, labels, like)?)
}

/// What [`write_labels`] writes to `path`.
///
/// # Errors
/// Those of [`write_labels`], but for the system's.
pub fn labels_content<'a>(
    path: &'a Path,
    labels: &'a Labels,
    like: Option<&'a Header>,
) -> Result<Content<'a>> {
    match Format::to_write(path)? {
        Format::Nifti => {
            let content = nifti::labels_content(path, labels, like.map(|Header::Nifti(header)| header))?;
            Ok(Box::new(content))
        }
    }
}

/// Rewrites the header of a file so that its voxels, which stay, lie where `like` says. See
/// [`nifti::write_place`].
///
/// # Errors
/// Where the file cannot be read, is of another format or shape than `like`, or cannot be written.
pub fn write_place(path: &Path, like: &Header) -> Result<()> {
    match (Format::of(path)?, like) {
        (Format::Nifti, Header::Nifti(like)) => nifti::write_place(path, like),
    }
}

/// Writes intensities as 32-bit floating point; otherwise as [`write_labels`].
///
/// # Errors
/// Those of [`write_labels`].
pub fn write_image(path: &Path, image: &Image, like: Option<&Header>) -> Result<()> {
    files::write(path, image_content(path, image, like)?)
}

/// What [`write_image`] writes to `path`.
///
/// # Errors
/// Those of [`write_image`], but for the system's.
pub fn image_content<'a>(path: &'a Path, image: &'a Image, like: Option<&'a Header>) -> Result<Content<'a>> {
    match Format::to_write(path)? {
        Format::Nifti => {
            let content = nifti::image_content(path, image, like.map(|Header::Nifti(header)| header))?;
            Ok(Box::new(content))
        }
    }
}

/// A volume of numbers from 0 to 1, as they are stored.
#[derive(Clone, Debug)]
pub enum Shares {
    /// Multiples of 1/65535. Readers that know a file's slope see numbers from 0 to 1.
    U16(Volume<u16>),
    /// 32-bit floating point.
    F32(Image),
}

/// What a file of shares holds; otherwise as [`write_labels`].
///
/// # Errors
/// Those of [`write_labels`], but for the system's.
pub fn shares_content<'a>(
    path: &'a Path,
    shares: &'a Shares,
    like: Option<&'a Header>,
) -> Result<Content<'a>> {
    match Format::to_write(path)? {
        Format::Nifti => nifti::shares_content(path, shares, like.map(|Header::Nifti(header)| header)),
    }
}

/// What a file of vectors (x, y, z, component) holds, in the place of a header whose grid `grid` is. See
/// [`nifti::vectors_content`].
///
/// # Errors
/// Those of [`write_labels`], but for the system's.
pub fn vectors_content<'a>(
    path: &'a Path,
    vectors: &'a Array4<f32>,
    grid: &Grid,
    like: &Header,
) -> Result<Content<'a>> {
    match (Format::to_write(path)?, like) {
        (Format::Nifti, Header::Nifti(header)) => nifti::vectors_content(path, vectors, grid, header),
    }
}

/// The ending of files that are written where nothing asks for another.
pub const ENDING: &str = ".nii.gz";
/// Endings that files of a data set and written files may have.
pub const ENDINGS: [&str; 2] = [ENDING, ".nii"];
/// Endings of headers that have their voxels in a second file; such a pair is read, never written.
const PAIRS: [&str; 2] = [".hdr", ".hdr.gz"];
/// Endings of that second file.
const SECOND: [&str; 2] = [".img", ".img.gz"];
/// Endings of images in formats that are not read: messages tell them from files that are no images.
const FOREIGN: [&str; 10] =
    [".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".dcm", ".tiff", ".tif", ".png"];

/// What stands before `ending`, which may be in capitals.
fn without<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let start = name.len().checked_sub(ending.len())?;
    let (stem, end) = name.split_at_checked(start)?;
    end.eq_ignore_ascii_case(ending).then_some(stem)
}

/// The name of an image without its ending, whether its format is read or not; `None` for other files.
pub(crate) fn image_stem(name: &str) -> Option<&str> {
    let known = ENDINGS.iter().chain(&PAIRS).chain(&SECOND).chain(&FOREIGN);
    known.into_iter().find_map(|ending| without(name, ending))
}

/// The name of an image that is one file, without its ending; `None` for other files.
pub(crate) fn single_stem(name: &str) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| without(name, ending))
}

/// The name of an image that can be read, without its ending; `None` for other files, and for the second file of
/// a pair, which its first stands for.
pub(crate) fn readable_stem(name: &str) -> Option<&str> {
    single_stem(name).or_else(|| PAIRS.iter().find_map(|ending| without(name, ending)))
}

/// A name without the ending of an image that can be read; other names as they are.
pub(crate) fn stem(name: &str) -> &str {
    readable_stem(name).or_else(|| SECOND.iter().find_map(|ending| without(name, ending))).unwrap_or(name)
}

/// Case and channel of a stem `CASE_0001`; `None` without an underscore and four digits at its end.
pub(crate) fn split_channel(stem: &str) -> Option<(&str, usize)> {
    let (case, digits) = stem.rsplit_once('_')?;
    let number = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_digit());
    (number && !case.is_empty()).then(|| Some((case, digits.parse().ok()?)))?
}

/// `CASE_0001.nii.gz`: the file of one channel.
pub(crate) fn channel_name(case: &str, channel: usize, ending: &str) -> String {
    format!("{case}_{channel:04}{ending}")
}

/// `CASE_probability_1.nii.gz`: the file of the probabilities of one class.
pub(crate) fn probability_name(case: &str, class: usize, ending: &str) -> String {
    format!("{case}{PROBABILITY}{class}{ending}")
}

/// `CASE_entropy.nii.gz`: the file of the entropy of the classes' probabilities.
pub(crate) fn entropy_name(case: &str, ending: &str) -> String {
    format!("{case}_entropy{ending}")
}

/// The case of a stem `CASE_probability_1`.
pub(crate) fn case_of_probability(stem: &str) -> Option<&str> {
    let (case, class) = stem.rsplit_once(PROBABILITY)?;
    (!class.is_empty() && class.bytes().all(|digit| digit.is_ascii_digit())).then_some(case)
}

const PROBABILITY: &str = "_probability_";

/// [`ENDINGS`] for a message.
pub(crate) fn endings_in_words() -> String {
    ENDINGS.map(|ending| format!("`{ending}`")).join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, expected) in [
            ("a.nii.gz", Some("a")),
            ("a.b.nii", Some("a.b")),
            ("A.NII.GZ", Some("A")),
            ("a.hdr", Some("a")),
            ("a.img", None),
            ("a.txt", None),
            ("ü.nii", Some("ü")),
            ("ünii", None),
        ] {
            assert_eq!(readable_stem(name), expected, "{name}");
        }
        assert_eq!(image_stem("a_0000.mha"), Some("a_0000"));
        assert_eq!(stem("dataset.json"), "dataset.json");
        assert_eq!(split_channel("la_003_0001"), Some(("la_003", 1)));
        for bare in ["la_003", "la_00000", "_0000", "la_00a0", "la0000"] {
            assert_eq!(split_channel(bare), None, "{bare}");
        }
    }

    #[test]
    fn files_of_probabilities_are_known_by_their_names() {
        assert_eq!(probability_name("a", 2, ENDING), "a_probability_2.nii.gz");
        assert_eq!(case_of_probability("a_probability_2"), Some("a"));
        assert_eq!(case_of_probability("a_probability_"), None);
        assert_eq!(case_of_probability("probability_2"), None);
    }
}
