//! Reads and writes medical images. The format is recognised by content, not by name.
//!
//! Read: NIfTI-1 and NIfTI-2, as one file or as a `.hdr`/`.img` pair, plain or gzip (several members too), both
//! byte orders, all whole and floating-point number types up to 64 bits. Written: `.nii` and `.nii.gz`.
//!
//! - Voxels keep the file's order: index (x, y, z) with x fastest in memory. Nothing is flipped.
//! - The affine is the sform where `sform_code` is above 0, else the qform where `qform_code` is above 0, else
//!   nibabel's convention for a volume of which only the spacing is known (origin in the centre, x to the left).
//! - A `scl_slope` of 0 or one that is not finite means that stored numbers are the values.
//! - A file that contradicts itself is an error, or a line in [`Header::warnings`] where there is no doubt about
//!   the voxels. No header makes the reader allocate: memory grows with the bytes that the file really yields.

mod content;
mod geometry;
mod gzip;
mod header;
mod layout;
mod place;
mod stream;
mod voxels;
mod write;

use std::path::{Path, PathBuf};

use ndarray::{Array3, ShapeBuilder};

pub use header::Header;
pub use layout::{ByteOrder, Version};
pub use place::write_place;
pub use voxels::Datatype;
pub use write::{image_content, labels_content, shares_content, vectors_content, write_image, write_labels};

use super::volume::{Image, Labels, Volume};
use crate::{Error, Result};
use header::Storage;
use stream::Stream;
use voxels::Stored;

/// Whether the file is NIfTI, by its first bytes.
pub(super) fn recognise(path: &Path) -> Result<()> {
    let path = header::header_path(path);
    let start = header::start(&mut Stream::open(&path)?)?;
    header::recognise(&start, &path).map(|_| ())
}

/// Reads the header alone, which takes microseconds. Either name of a `.hdr`/`.img` pair may be given.
///
/// # Errors
/// Where the file cannot be read, is not NIfTI, or states dimensions, number type, scaling or geometry that
/// cannot be used.
pub fn read_header(path: &Path) -> Result<Header> {
    let path = header::header_path(path);
    Header::read(&mut Stream::open(&path)?, &path)
}

/// Reads one 3-D volume as scaled intensities. More dimensions are accepted where their sizes are 1; missing ones
/// count as 1. NaN and infinite voxels are kept.
///
/// # Errors
/// Those of [`read_header`]; several volumes; voxels that are missing, damaged or of a number type that has no
/// single value (RGB, complex).
pub fn read_image(path: &Path) -> Result<(Image, Header)> {
    let mut file = Opened::one_volume(path)?;
    let values = file.stored().intensities()?;
    file.check_end()?;
    Ok((file.volume(values)?, file.header))
}

/// Reads a volume with channels along the fourth dimension (or a later one, where the fourth is 1).
///
/// # Errors
/// Those of [`read_image`]; more than one dimension after the third that is longer than 1.
pub fn read_channels(path: &Path) -> Result<(Vec<Image>, Header)> {
    let mut file = Opened::open(path)?;
    if file.header.dims.iter().skip(3).filter(|size| **size > 1).count() > 1 {
        let problem = format!("{:?} has more than four dimensions", file.header.dims);
        return Err(Error::invalid(&file.path, "dim", problem, "store channels along the fourth dimension"));
    }
    // The list of channels grows as they arrive, like the voxels themselves.
    let mut channels = Vec::new();
    for _ in 0..file.header.volumes() {
        channels.push(file.stored().intensities()?);
    }
    file.check_end()?;
    let images = channels.into_iter().map(|values| file.volume(values)).collect::<Result<_>>()?;
    Ok((images, file.header))
}

/// Reads a segmentation. Scaled values within 0.001 of a whole number count as that number.
///
/// # Errors
/// Those of [`read_image`]; values that are not whole numbers from 0 to 255: how many, and the first with its
/// position.
pub fn read_labels(path: &Path) -> Result<(Labels, Header)> {
    let mut file = Opened::one_volume(path)?;
    let shape = file.header.grid().shape;
    let values = file.stored().labels(shape)?;
    // In a damaged file the damage is the news, not the values.
    file.check_end()?;
    Ok((file.volume(values?)?, file.header))
}

/// A file whose header has been read and whose next byte is the first voxel's.
struct Opened {
    /// The file that holds the voxels.
    path: PathBuf,
    header: Header,
    voxels: Stream,
}

/// A file may have this many bytes more than its voxels need before that is an error: a file most of which its
/// header does not mention has the wrong header.
const TOLERATED_EXCESS: u64 = 1 << 20;

impl Opened {
    fn open(path: &Path) -> Result<Self> {
        let header_path = header::header_path(path);
        let mut stream = Stream::open(&header_path)?;
        let header = Header::read(&mut stream, &header_path)?;
        let (path, voxels) = match header.storage {
            Storage::Single => (header_path, stream),
            Storage::Pair(offset) => {
                let path = header::voxel_path(&header_path)?;
                let mut voxels = Stream::open_bare(&path, offset.saturating_add(header.voxel_bytes))?;
                if !voxels.skip(offset)? {
                    let problem = format!("{offset} lies behind the end of `{}`", path.display());
                    return Err(Error::invalid(&header_path, "vox_offset", problem, header::TRUNCATED));
                }
                (path, voxels)
            }
        };
        if header.voxel_bytes > voxels.at_most() {
            let problem = format!(
                "{:?} voxels of {} bytes need {} bytes, but the file can hold at most {}",
                header.dims,
                header.datatype.size(),
                header.voxel_bytes,
                voxels.at_most()
            );
            return Err(Error::invalid(&path, "dim", problem, header::TRUNCATED));
        }
        Ok(Self { path, header, voxels })
    }

    fn one_volume(path: &Path) -> Result<Self> {
        let file = Self::open(path)?;
        if file.header.volumes() > 1 {
            let problem =
                format!("{:?} are {} volumes instead of one", file.header.dims, file.header.volumes());
            return Err(Error::invalid(
                &file.path,
                "dim",
                problem,
                "split the file into one file per volume",
            ));
        }
        Ok(file)
    }

    /// What one volume is made of.
    fn stored(&mut self) -> Stored<'_> {
        Stored {
            path: &self.path,
            stream: &mut self.voxels,
            count: self.header.grid().len(),
            datatype: self.header.datatype,
            order: self.header.fields.order,
            scaling: self.header.scaling,
        }
    }

    /// Reads to the end of the file: checksums, and bytes that the header does not account for.
    fn check_end(&mut self) -> Result<()> {
        let limit = self.header.voxel_bytes.saturating_add(TOLERATED_EXCESS);
        let excess = self.voxels.drain(limit)?;
        if excess > limit {
            let problem = format!(
                "{:?} voxels take {} bytes, but at least {excess} more follow",
                self.header.dims, self.header.voxel_bytes
            );
            let mend = "the dimensions in the header are too small; export the file again";
            return Err(Error::invalid(&self.path, "dim", problem, mend));
        }
        if excess > 0 {
            let what = format!("{excess} bytes follow the last voxel; they are ignored");
            self.header.warnings.push(what.into());
        }
        Ok(())
    }

    fn volume<T>(&self, values: Vec<T>) -> Result<Volume<T>> {
        let grid = self.header.grid();
        let [x, y, z] = grid.shape;
        let voxels = Array3::from_shape_vec((x, y, z).f(), values)
            .map_err(|error| Error::invalid(&self.path, "dim", error.to_string(), header::DAMAGED))?;
        Ok(Volume::new(voxels, grid))
    }
}
