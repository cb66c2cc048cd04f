//! The header of a NIfTI file: checked once, then kept verbatim for the way back.

use std::path::{Path, PathBuf};

use super::content;
use super::geometry;
use super::layout::{ByteOrder, Field, Fields, Version};
use super::stream::Stream;
use super::voxels::{Datatype, Scaling};
use crate::image::Doubt;
use crate::image::volume::Grid;
use crate::{Error, Result};

/// The header of an image file, with its extensions, byte for byte as it was read.
#[derive(Clone, Debug)]
pub struct Header {
    pub(super) fields: Fields,
    /// What lies between header and voxels: the four bytes that announce extensions, the extensions, padding.
    /// For a pair the rest of the `.hdr` file.
    pub(super) extensions: Vec<u8>,
    pub(super) storage: Storage,
    pub(super) dims: Vec<usize>,
    pub(super) datatype: Datatype,
    pub(super) scaling: Option<Scaling>,
    /// Bytes of all voxels; known not to overflow.
    pub(super) voxel_bytes: u64,
    grid: Grid,
    pub(super) warnings: Vec<Doubt>,
}

/// Where the voxels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// In the same file, after the extensions.
    Single,
    /// In the `.img` file beside the `.hdr` file, from this byte on.
    Pair(u64),
}

/// No real extension block is longer; what is would be a damaged offset.
const LONGEST_EXTENSIONS: u64 = 64 << 20;

impl Header {
    /// Shape and position of one volume.
    pub fn grid(&self) -> Grid {
        self.grid.clone()
    }

    /// Number of volumes: the product of the dimensions after the third.
    pub fn volumes(&self) -> usize {
        self.dims.iter().skip(3).product()
    }

    /// The dimensions as the file gives them, one to seven.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// How voxels are stored.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// Version of the format.
    pub fn version(&self) -> Version {
        self.fields.version
    }

    /// Byte order of header and voxels.
    pub fn byte_order(&self) -> ByteOrder {
        self.fields.order
    }

    /// What is doubtful about the file although it can be read.
    pub fn warnings(&self) -> &[Doubt] {
        &self.warnings
    }

    /// Reads and checks the header at the start of a file. For a single file the stream then stands at the first
    /// voxel.
    pub(super) fn read(stream: &mut Stream, path: &Path) -> Result<Self> {
        let fields = read_fields(stream, path)?;
        let storage = storage(&fields, path)?;
        let extensions = read_extensions(stream, path, &fields, storage)?;
        let mut warnings = Vec::new();
        let dims = dims(&fields, path)?;
        let datatype = datatype(&fields, path, &mut warnings)?;
        let voxel_bytes = dims
            .iter()
            .try_fold(datatype.size() as u64, |bytes, size| bytes.checked_mul(*size as u64))
            .filter(|bytes| isize::try_from(*bytes).is_ok())
            .ok_or_else(|| {
                let problem = format!("{dims:?} voxels are more than any computer can hold");
                Error::invalid(path, "dim", problem, DAMAGED)
            })?;
        let scaling = scaling(&fields, path, &mut warnings)?;
        let shape = std::array::from_fn(|axis| dims.get(axis).copied().unwrap_or(1));
        let affine = geometry::affine(&fields, shape, dims.len(), path, &mut warnings)?;
        let grid = Grid { shape, affine };
        Ok(Self { fields, extensions, storage, dims, datatype, scaling, voxel_bytes, grid, warnings })
    }
}

/// The hint where a header contradicts itself.
pub(super) const DAMAGED: &str = "the header is damaged; copy or export the file again";

/// The first bytes of a file, as many as the shorter header has where there are so many.
pub(super) fn start(stream: &mut Stream) -> Result<Vec<u8>> {
    let mut bytes = vec![0; Version::Nifti1.header_size()];
    let read = stream.read(&mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Whether a file that begins so has the magic string of version 1, and of version 2.
fn magic(bytes: &[u8]) -> (bool, bool) {
    let at = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    (matches!(at(344..347), b"n+1" | b"ni1"), matches!(at(4..7), b"n+2" | b"ni2"))
}

/// The first four bytes of a file that means to be NIfTI, whole or not; what it is instead otherwise.
pub(super) fn recognise(bytes: &[u8], path: &Path) -> Result<[u8; 4]> {
    let first = bytes.first_chunk::<4>().filter(|first| {
        let sizes = [i32::from_le_bytes(**first), i32::from_be_bytes(**first)];
        let short = bytes.len() < Version::Nifti1.header_size();
        magic(bytes) != (false, false) || short && sizes.iter().any(|size| [348, 540].contains(size))
    });
    first.copied().ok_or_else(|| {
        let (problem, mend) = content::describe(bytes);
        Error::invalid(path, "content", format!("is not NIfTI: {problem}"), mend)
    })
}

fn read_fields(stream: &mut Stream, path: &Path) -> Result<Fields> {
    let mut bytes = start(stream)?;
    let read = bytes.len();
    let first = recognise(&bytes, path)?;
    let (looks_1, looks_2) = magic(&bytes);
    let (version, order) = match (i32::from_le_bytes(first), i32::from_be_bytes(first)) {
        (348, _) if looks_1 => (Version::Nifti1, ByteOrder::Little),
        (_, 348) if looks_1 => (Version::Nifti1, ByteOrder::Big),
        (540, _) if looks_2 => (Version::Nifti2, ByteOrder::Little),
        (_, 540) if looks_2 => (Version::Nifti2, ByteOrder::Big),
        (size, _) if looks_1 || looks_2 => {
            let expected = if looks_1 { 348 } else { 540 };
            return Err(Error::invalid(
                path,
                "sizeof_hdr",
                format!("is {size} instead of {expected}"),
                DAMAGED,
            ));
        }
        _ => return Err(Error::invalid(path, "header", format!("ends after {read} bytes"), TRUNCATED)),
    };
    bytes.resize(version.header_size(), 0);
    let whole = read + stream.read(&mut bytes[read..])?;
    if whole < version.header_size() {
        return Err(Error::invalid(path, "header", format!("ends after {whole} bytes"), TRUNCATED));
    }
    Ok(Fields { bytes, version, order })
}

/// The hint where a file ends early.
pub(super) const TRUNCATED: &str = "the file was probably not copied completely; copy it again";

fn storage(fields: &Fields, path: &Path) -> Result<Storage> {
    let magic = &fields.bytes[fields.version.magic_range()];
    let single = match magic {
        b"n+1\0" | b"n+2\0\r\n\x1a\n" => true,
        b"ni1\0" | b"ni2\0\r\n\x1a\n" => false,
        _ => {
            let problem = format!("is `{}`", magic.escape_ascii());
            let mend = "the file was changed on the way, perhaps by a transfer in text mode; copy it again";
            return Err(Error::invalid(path, "magic", problem, mend));
        }
    };
    let offset = fields.real(Field::VoxOffset, 0);
    // Above 2^53 a real no longer tells neighbouring offsets apart; no file is that long.
    if !(0.0..9e15).contains(&offset) || offset.fract() != 0.0 {
        let problem = format!("{offset} is not a position in a file");
        return Err(Error::invalid(path, "vox_offset", problem, DAMAGED));
    }
    let first_possible = fields.version.header_size() as u64 + 4;
    match (single, offset as u64) {
        (false, offset) => Ok(Storage::Pair(offset)),
        (true, offset) if offset >= first_possible => Ok(Storage::Single),
        (true, offset) => {
            let problem =
                format!("{offset} lies inside the header, voxels begin at {first_possible} or later");
            let mend = "export the file again with a tool that writes NIfTI correctly";
            Err(Error::invalid(path, "vox_offset", problem, mend))
        }
    }
}

fn read_extensions(stream: &mut Stream, path: &Path, fields: &Fields, storage: Storage) -> Result<Vec<u8>> {
    let mut extensions = Vec::new();
    match storage {
        Storage::Single => {
            let length = fields.real(Field::VoxOffset, 0) as u64 - stream.position();
            if length > LONGEST_EXTENSIONS.min(stream.at_most()) || !stream.append(&mut extensions, length)? {
                let problem = format!("{} lies behind the end of the file", stream.position() + length);
                let problem = if length > LONGEST_EXTENSIONS {
                    format!("leaves {length} bytes for extensions, which no real file needs")
                } else {
                    problem
                };
                return Err(Error::invalid(path, "vox_offset", problem, TRUNCATED));
            }
        }
        Storage::Pair(_) => {
            if stream.append(&mut extensions, LONGEST_EXTENSIONS)? {
                let problem = format!("are longer than {LONGEST_EXTENSIONS} bytes");
                return Err(Error::invalid(path, "extensions", problem, DAMAGED));
            }
        }
    }
    check_extensions(&extensions, fields.order, storage, path)?;
    Ok(extensions)
}

/// Follows the chain of extensions: each begins with its length (itself included) and its code.
fn check_extensions(bytes: &[u8], order: ByteOrder, storage: Storage, path: &Path) -> Result<()> {
    let Some((announcement, mut rest)) = bytes.split_at_checked(4) else { return Ok(()) };
    if announcement[0] == 0 {
        return Ok(());
    }
    // Before the voxels there may be padding; the end of a `.hdr` file must be the end of an extension.
    let shortest = if storage == Storage::Single { 16 } else { 1 };
    let mut number = 1;
    while rest.len() >= shortest {
        let length = rest.first_chunk::<4>().map(|bytes| match order {
            ByteOrder::Little => i32::from_le_bytes(*bytes),
            ByteOrder::Big => i32::from_be_bytes(*bytes),
        });
        match length.map(|length| usize::try_from(length).unwrap_or(0)) {
            Some(length) if length >= 8 && length <= rest.len() => rest = &rest[length..],
            _ => {
                let problem = format!(
                    "number {number} says that it is {} bytes long, but {} follow",
                    length.unwrap_or(0),
                    rest.len()
                );
                return Err(Error::invalid(path, "extensions", problem, DAMAGED));
            }
        }
        number += 1;
    }
    Ok(())
}

fn dims(fields: &Fields, path: &Path) -> Result<Vec<usize>> {
    let number = fields.integer(Field::Dim, 0);
    if !(1..=7).contains(&number) {
        let problem = format!("is {number}; an image has 1 to 7 dimensions");
        return Err(Error::invalid(path, "dim[0]", problem, DAMAGED));
    }
    (1..=number as usize)
        .map(|index| {
            let size = fields.integer(Field::Dim, index);
            usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| {
                Error::invalid(
                    path,
                    format!("dim[{index}]"),
                    format!("is {size}; a size is at least 1"),
                    DAMAGED,
                )
            })
        })
        .collect()
}

fn datatype(fields: &Fields, path: &Path, warnings: &mut Vec<Doubt>) -> Result<Datatype> {
    let code = fields.integer(Field::Datatype, 0);
    let datatype = Datatype::from_code(code)
        .map_err(|(problem, mend)| Error::invalid(path, "datatype", format!("{code} {problem}"), mend))?;
    let bits = fields.integer(Field::Bitpix, 0);
    if bits != 8 * datatype.size() as i64 {
        let what = format!("bitpix is {bits}, which does not belong to {datatype:?}; datatype is taken");
        warnings.push(what.into());
    }
    Ok(datatype)
}

fn scaling(fields: &Fields, path: &Path, warnings: &mut Vec<Doubt>) -> Result<Option<Scaling>> {
    let (slope, intercept) = (fields.real(Field::SclSlope, 0), fields.real(Field::SclInter, 0));
    if slope == 0.0 || !slope.is_finite() {
        // NaN in both is what nibabel writes for "unscaled", so only other combinations are worth a word.
        if slope.is_infinite() || (intercept.is_finite() && intercept != 0.0) {
            let what = format!(
                "scl_slope is {slope}, which means unscaled, so scl_inter {intercept} is not applied"
            );
            warnings.push(what.into());
        }
        return Ok(None);
    }
    if !intercept.is_finite() {
        let problem = format!("is {intercept} although scl_slope is {slope}");
        return Err(Error::invalid(path, "scl_inter", problem, "set scl_inter to the true offset, mostly 0"));
    }
    Ok((slope != 1.0 || intercept != 0.0).then_some(Scaling { slope, intercept }))
}

/// The header file that belongs to a path: for `.img` the `.hdr` beside it, otherwise the path itself.
pub(super) fn header_path(path: &Path) -> PathBuf {
    if has_ending(path, "img") { partner(path, "hdr") } else { path.to_owned() }
}

/// The file that holds the voxels of a pair, given its header file.
pub(super) fn voxel_path(header: &Path) -> Result<PathBuf> {
    if !has_ending(header, "hdr") {
        let problem =
            "says that the voxels lie in an `.img` file, but the header's name does not end in `.hdr`";
        let mend = "give the header its name back, or convert the pair to a single `.nii.gz` file";
        return Err(Error::invalid(header, "magic", problem, mend));
    }
    Ok(partner(header, "img"))
}

fn without_gz(path: &Path) -> (PathBuf, bool) {
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("gz") => (path.with_extension(""), true),
        _ => (path.to_owned(), false),
    }
}

/// Whether the name ends in `.ending` or `.ending.gz`.
pub(super) fn has_ending(path: &Path, ending: &str) -> bool {
    without_gz(path).0.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
}

/// The same name with another ending: compressed or not as the given one, else the other way, whichever exists.
fn partner(path: &Path, ending: &str) -> PathBuf {
    let (bare, compressed) = without_gz(path);
    let upper = bare.extension().is_some_and(|old| old.to_string_lossy().chars().all(|c| c.is_uppercase()));
    let plain = bare.with_extension(if upper { ending.to_uppercase() } else { ending.to_owned() });
    let mut gzip = plain.clone().into_os_string();
    gzip.push(if upper { ".GZ" } else { ".gz" });
    let (first, second) =
        if compressed { (PathBuf::from(gzip), plain) } else { (plain, PathBuf::from(gzip)) };
    if !first.exists() && second.exists() { second } else { first }
}
