//! Gives a file another place in space: its header changes, its voxels do not.

use std::io::Write;
use std::path::Path;

use flate2::GzBuilder;

use super::geometry::{self, SPATIAL};
use super::header::{self, Header};
use super::layout::{Field, Fields};
use super::stream::Stream;
use super::write::LEVEL;
use crate::image::volume::{Fit, Grid};
use crate::{Error, Result, files};

/// Rewrites the header of a file so that its voxels lie where `like` says: sform and qform with their codes, spacing
/// and unit of length are those of that header. Everything else stays byte for byte, and a compressed file is
/// compressed again. The file is replaced when it is complete.
///
/// # Errors
/// Where the file cannot be read to its end, has another shape than `like`, or cannot be written.
pub fn write_place(path: &Path, like: &Header) -> Result<()> {
    let path = &header::header_path(path);
    let mut stream = Stream::open(path)?;
    let compressed = stream.is_compressed();
    let header = Header::read(&mut stream, path)?;
    let mut fields = header.fields.clone();
    take_place(&mut fields, &like.fields);
    let shape = header.grid().shape;
    let affine = geometry::affine(&fields, shape, header.dims.len(), path, &mut Vec::new())?;
    if (Grid { shape, affine }).fit(&like.grid()) != Fit::Same {
        let problem =
            format!("{shape:?} voxels cannot be put where a header of {:?} says", like.grid().shape);
        return Err(Error::invalid(path, "affine", problem, "resample the file onto the other image"));
    }
    // For a pair the stream is at its end, and only the header's file is written.
    let mut content = |output: &mut dyn Write| -> std::io::Result<()> {
        output.write_all(&fields.bytes)?;
        output.write_all(&header.extensions)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = stream.read(&mut buffer).map_err(|error| std::io::Error::other(error.to_string()))?;
            output.write_all(&buffer[..read])?;
            if read < buffer.len() {
                return Ok(());
            }
        }
    };
    files::write(path, |output| match compressed {
        false => content(output),
        true => {
            let mut encoder = GzBuilder::new().mtime(0).write(output, LEVEL);
            content(&mut encoder).and_then(|()| encoder.finish().map(|_| ()))
        }
    })
}

/// Copies the fields that say where voxels lie; the unit of time stays.
fn take_place(fields: &mut Fields, like: &Fields) {
    for (field, numbers) in [(Field::Pixdim, 4), (Field::Quatern, 3), (Field::Qoffset, 3), (Field::Srow, 12)]
    {
        (0..numbers).for_each(|index| fields.set_real(field, index, like.real(field, index)));
    }
    for field in [Field::QformCode, Field::SformCode] {
        fields.set_integer(field, 0, like.integer(field, 0));
    }
    let units = |fields: &Fields, bits: i64| fields.integer(Field::XyztUnits, 0) & bits;
    let units = units(fields, !SPATIAL) | units(like, SPATIAL);
    fields.set_integer(Field::XyztUnits, 0, units);
}
