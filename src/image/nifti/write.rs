//! Writes NIfTI files, with a given header kept byte for byte where it says how the voxels lie.

use std::io::Write;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use ndarray::{Array, Array4, Dimension};

use super::geometry::{self, quaternion, shear};
use super::header::{Header, Storage, has_ending};
use super::layout::{ByteOrder, Field, Fields, Version};
use super::voxels::Datatype;
use crate::image::volume::{Fit, Grid, Image, Labels};
use crate::image::{Content, Shares};
use crate::{Error, Result, files};

/// Writes a segmentation as unsigned bytes, `scl_slope` 1 and `scl_inter` 0.
///
/// With `like`, geometry (sform, qform, their codes, `pixdim`, units), description, other fields and extensions
/// are those of that header, byte for byte, as are version and byte order. Without it the grid's affine is
/// written as sform and, where it has no shear, as qform, both with code 1 (scanner).
///
/// The name decides between `.nii` and `.nii.gz`. The file appears under its name only when it is complete. The gzip
/// frame holds neither time nor name, so equal voxels give equal files.
///
/// # Errors
/// Another ending; `like` of another shape or position than the labels; the operating system's errors.
pub fn write_labels(path: &Path, labels: &Labels, like: Option<&Header>) -> Result<()> {
    files::write(path, labels_content(path, labels, like)?)
}

/// What [`write_labels`] writes to `path`, for a writer of files.
///
/// # Errors
/// As [`write_labels`], but for those of the operating system.
pub fn labels_content(
    path: &Path,
    labels: &Labels,
    like: Option<&Header>,
) -> Result<impl FnOnce(&mut dyn Write) -> std::io::Result<()>> {
    let (mut fields, extensions) = header_for(path, &labels.grid, Datatype::U8, like)?;
    // The display window of an image would show labels as black.
    fields.set_real(Field::CalMax, 0, 0.0);
    fields.set_real(Field::CalMin, 0, 0.0);
    content(path, (fields, extensions), &labels.voxels, |value| [*value])
}

/// Writes intensities as 32-bit floating point; otherwise like [`write_labels`].
///
/// # Errors
/// Those of [`write_labels`].
pub fn write_image(path: &Path, image: &Image, like: Option<&Header>) -> Result<()> {
    files::write(path, image_content(path, image, like)?)
}

/// What [`write_image`] writes to `path`, for a writer of files.
///
/// # Errors
/// As [`write_image`], but for those of the operating system.
pub fn image_content(
    path: &Path,
    image: &Image,
    like: Option<&Header>,
) -> Result<impl FnOnce(&mut dyn Write) -> std::io::Result<()>> {
    let (fields, extensions) = header_for(path, &image.grid, Datatype::F32, like)?;
    let order = fields.order;
    content(path, (fields, extensions), &image.voxels, move |value: &f32| match order {
        ByteOrder::Little => value.to_le_bytes(),
        ByteOrder::Big => value.to_be_bytes(),
    })
}

/// What a volume of shares becomes at `path`: u16 with a `scl_slope` of 1/65535, or f32, shown from 0 to 1; otherwise
/// like [`write_labels`]. The slope is rounded to 24 bits, and down: 65535 steps are 1 less 2e-10, never more than 1.
///
/// # Errors
/// As [`write_labels`], but for those of the operating system.
pub fn shares_content<'a>(path: &'a Path, shares: &'a Shares, like: Option<&Header>) -> Result<Content<'a>> {
    let (grid, datatype, slope) = match shares {
        Shares::U16(volume) => (&volume.grid, Datatype::U16, 1.0 / f64::from(u16::MAX)),
        Shares::F32(volume) => (&volume.grid, Datatype::F32, 1.0),
    };
    let (mut fields, extensions) = header_for(path, grid, datatype, like)?;
    fields.set_real(Field::SclSlope, 0, slope);
    fields.set_real(Field::CalMin, 0, 0.0);
    fields.set_real(Field::CalMax, 0, 1.0);
    let order = fields.order;
    Ok(match shares {
        Shares::U16(volume) => {
            Box::new(content(path, (fields, extensions), &volume.voxels, move |value: &u16| match order {
                ByteOrder::Little => value.to_le_bytes(),
                ByteOrder::Big => value.to_be_bytes(),
            })?)
        }
        Shares::F32(volume) => {
            Box::new(content(path, (fields, extensions), &volume.voxels, move |value: &f32| match order {
                ByteOrder::Little => value.to_le_bytes(),
                ByteOrder::Big => value.to_be_bytes(),
            })?)
        }
    })
}

/// What a field of vectors (x, y, z, component) becomes at `path`: 32-bit floating point, five dimensions of which the
/// fourth is 1, intent code 1007 (vector): as ITK reads a displacement field, whose vectors it takes as they are. `like`
/// is the header of a volume in the same place, which `grid` says.
///
/// # Errors
/// As [`write_labels`], but for those of the operating system.
pub fn vectors_content<'a>(
    path: &'a Path,
    vectors: &'a Array4<f32>,
    grid: &Grid,
    like: &Header,
) -> Result<Content<'a>> {
    const VECTOR: i64 = 1007;
    let (mut fields, extensions) = header_for(path, grid, Datatype::F32, Some(like))?;
    let (x, y, z, components) = vectors.dim();
    assert_eq!(grid.shape, [x, y, z], "vectors and grid differ in shape");
    fields.set_integer(Field::Dim, 0, 5);
    fields.set_integer(Field::Dim, 5, components as i64);
    fields.set_integer(Field::IntentCode, 0, VECTOR);
    // A header of a slice may leave these out.
    for (index, spacing) in grid.spacing().into_iter().chain([1.0; 4]).enumerate() {
        if index >= 3 || fields.real(Field::Pixdim, 1 + index) <= 0.0 {
            fields.set_real(Field::Pixdim, 1 + index, spacing);
        }
    }
    fields.set_real(Field::CalMax, 0, 0.0);
    fields.set_real(Field::CalMin, 0, 0.0);
    let order = fields.order;
    let bytes = move |value: &f32| match order {
        ByteOrder::Little => value.to_le_bytes(),
        ByteOrder::Big => value.to_be_bytes(),
    };
    Ok(Box::new(content(path, (fields, extensions), vectors, bytes)?))
}

fn header_for(
    path: &Path,
    grid: &Grid,
    datatype: Datatype,
    like: Option<&Header>,
) -> Result<(Fields, Vec<u8>)> {
    let (mut fields, extensions) = match like {
        Some(header) => (header.fields.clone(), kept_extensions(header)),
        None => (new_fields(path, grid)?, vec![0; 4]),
    };
    if let Some(header) = like {
        let mend = "write voxels only with the header of the grid on which they lie";
        match header.grid().displacement(grid) {
            // The rounding of an affine to 32 bits.
            Some(_) if header.grid().fit(grid) == Fit::Same => {}
            Some(distance) => {
                let problem =
                    format!("the voxels lie up to {distance:.4} mm from where the given header puts them");
                return Err(Error::invalid(path, "affine", problem, mend));
            }
            None => {
                let problem =
                    format!("{:?} voxels do not fit a header of {:?}", grid.shape, header.grid().shape);
                return Err(Error::invalid(path, "dim", problem, mend));
            }
        }
    }
    // A slice stays a slice: the third spacing of its header may be nothing.
    let dimensions = like.map_or(3, |header| header.dims.len().min(3));
    fields.set_integer(Field::Dim, 0, dimensions as i64);
    for index in 1..8 {
        let size = grid.shape.get(index - 1).copied().unwrap_or(1);
        fields.set_integer(Field::Dim, index, size as i64);
    }
    if like.is_some_and(|header| header.volumes() > 1) {
        // One volume of several is no vector or time series any more.
        fields.set_integer(Field::IntentCode, 0, 0);
    }
    fields.set_integer(Field::Datatype, 0, datatype.code());
    fields.set_integer(Field::Bitpix, 0, 8 * datatype.size() as i64);
    fields.set_real(Field::SclSlope, 0, 1.0);
    fields.set_real(Field::SclInter, 0, 0.0);
    fields.set_integer(Field::VoxOffset, 0, (fields.bytes.len() + extensions.len()) as i64);
    let magic: &[u8] = match fields.version {
        Version::Nifti1 => b"n+1\0",
        Version::Nifti2 => b"n+2\0\r\n\x1a\n",
    };
    let range = fields.version.magic_range();
    fields.bytes[range].copy_from_slice(magic);
    Ok((fields, extensions))
}

/// What stood between header and voxels; the rest of a `.hdr` file is filled up so that voxels begin at a
/// multiple of 16, as the standard asks.
fn kept_extensions(header: &Header) -> Vec<u8> {
    let mut extensions = header.extensions.clone();
    if header.storage != Storage::Single {
        let size = header.fields.bytes.len();
        extensions.resize(extensions.len().max(4), 0);
        extensions.resize((size + extensions.len()).next_multiple_of(16) - size, 0);
    }
    extensions
}

/// A header that says no more than shape and position.
fn new_fields(path: &Path, grid: &Grid) -> Result<Fields> {
    if grid.is_empty() {
        let problem = format!("{:?} has no voxel", grid.shape);
        return Err(Error::invalid(path, "dim", problem, "give at least one voxel along each axis"));
    }
    let version = if grid.shape.iter().all(|size| i16::try_from(*size).is_ok()) {
        Version::Nifti1
    } else {
        Version::Nifti2
    };
    let mut fields = Fields::empty(version, ByteOrder::Little);
    for (axis, spacing) in grid.spacing().into_iter().enumerate() {
        fields.set_real(Field::Pixdim, 1 + axis, spacing);
    }
    fields.set_real(Field::Pixdim, 0, 1.0);
    for (row, values) in grid.affine.iter().enumerate() {
        for (column, value) in values.iter().enumerate() {
            fields.set_real(Field::Srow, 4 * row + column, *value);
        }
        fields.set_real(Field::Qoffset, row, values[3]);
    }
    fields.set_integer(Field::SformCode, 0, 1);
    if shear(&grid.affine).is_none() {
        let (imaginary, handedness) = quaternion(&grid.affine);
        for (index, value) in imaginary.into_iter().enumerate() {
            fields.set_real(Field::Quatern, index, value);
        }
        fields.set_real(Field::Pixdim, 0, handedness);
        fields.set_integer(Field::QformCode, 0, 1);
    }
    const MILLIMETRES: i64 = 2;
    fields.set_integer(Field::XyztUnits, 0, MILLIMETRES);
    // What no reader would accept is not written.
    geometry::affine(&fields, grid.shape, 3, path, &mut Vec::new())?;
    Ok(fields)
}

/// Half the time of the usual level 6 for a scan that is 3 % larger.
pub(super) const LEVEL: Compression = Compression::new(3);

fn content<T, D: Dimension, const N: usize>(
    path: &Path,
    (fields, extensions): (Fields, Vec<u8>),
    voxels: &Array<T, D>,
    bytes: impl Fn(&T) -> [u8; N],
) -> Result<impl FnOnce(&mut dyn Write) -> std::io::Result<()>> {
    if !has_ending(path, "nii") {
        let problem = "does not end in `.nii` or `.nii.gz`";
        return Err(Error::invalid(path, "file name", problem, "choose one of these endings"));
    }
    let compressed = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
    let plain = move |output: &mut dyn Write| -> std::io::Result<()> {
        output.write_all(&fields.bytes)?;
        output.write_all(&extensions)?;
        let mut buffer = Vec::with_capacity(32 * 1024 + N);
        // The transposed view runs with x fastest.
        for value in voxels.t() {
            buffer.extend_from_slice(&bytes(value));
            if buffer.len() >= 32 * 1024 {
                output.write_all(&buffer)?;
                buffer.clear();
            }
        }
        output.write_all(&buffer)
    };
    Ok(move |output: &mut dyn Write| {
        if !compressed {
            return plain(output);
        }
        // No time stamp: equal voxels give equal files.
        let mut encoder = GzBuilder::new().mtime(0).write(output, LEVEL);
        plain(&mut encoder).and_then(|()| encoder.finish().map(drop))
    })
}
