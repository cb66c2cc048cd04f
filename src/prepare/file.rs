//! A prepared sample on disk.
//!
//! ```text
//! "segensmp"  version u32  length of description u32  length of index u64  checksum of both u32  of this u32
//! description  JSON: see `Description`
//! index        class positions (3 x u32 each, class after class), then one CRC-32 per brick
//! bricks       16^3 voxels, fewer at the far edges; z fastest, then y, then x
//! ```
//! All numbers are little-endian. A brick holds its voxels channel after channel as `f32`, then labels and mask as
//! bytes, each in the order of the bricks. A window reads the bricks that it touches and checks each of them, so
//! that memory and time depend on the window, not on the sample.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4, s};
use serde::{Deserialize, Serialize};

use super::{ClassVoxels, Geometry, IGNORE, Sample};
use crate::image::volume::{Grid, Orientation};
use crate::{Error, Result, files};

/// Part of every cache key: entries of another version are never read.
pub(super) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"segensmp";
const HEAD: usize = 32;
/// Edge of a brick, voxels.
const BRICK: usize = 16;
/// Description and index together; a longer one is not ours.
const LONGEST_INDEX: u64 = 1 << 30;

/// A prepared case on disk: what a sampler needs to know is in memory, its voxels stay in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedCase {
    /// The case's name.
    pub id: String,
    /// Voxels along x, y, z.
    pub shape: [usize; 3],
    /// Number of image channels.
    pub channels: usize,
    /// As [`Sample::classes`].
    pub classes: Vec<ClassVoxels>,
    /// The way back to the scan.
    pub geometry: Geometry,
    /// Whether there is a reference.
    pub has_labels: bool,
    /// Whether there is a region of interest.
    pub has_mask: bool,
    path: PathBuf,
    data_start: u64,
    checksums: Vec<u32>,
}

/// A box of a sample. Outside the sample images are 0 (the mean of a normalised image), labels [`IGNORE`] and
/// the mask 0, so that padding is neither trained on nor scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// (channel, x, y, z), standard layout.
    pub images: Array4<f32>,
    /// [`IGNORE`] everywhere where the case has no reference.
    pub labels: Array3<u8>,
    /// 1 inside the region of interest, where the data set has masks.
    pub mask: Option<Array3<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Description {
    id: String,
    channels: usize,
    labels: bool,
    mask: bool,
    shape: [usize; 3],
    orientation: Orientation,
    original_shape: [usize; 3],
    crop_start: [usize; 3],
    crop_shape: [usize; 3],
    /// The bits of `f64` numbers, so that they come back exactly.
    affine: [[u64; 4]; 3],
    spacing: [u64; 3],
    /// Per class: how many voxels, how many positions.
    classes: Vec<[u64; 2]>,
}

impl PreparedCase {
    /// Opens a prepared sample: reads and checks everything but the voxels.
    ///
    /// # Errors
    /// Where the file is damaged, cut short or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io("read", path, error);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut head = [0; HEAD];
        let damaged = |what: &str| damaged(path, what);
        file.read_exact(&mut head).map_err(|_| damaged("shorter than its head"))?;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        if &head[..8] != MAGIC || crc32fast::hash(&head[..HEAD - 4]) != u32_at(HEAD - 4) {
            return Err(damaged("not a prepared sample"));
        }
        if u32_at(8) != VERSION {
            return Err(damaged("of another version"));
        }
        let description_length = u64::from(u32_at(12));
        let index_length = u64::from_le_bytes(std::array::from_fn(|i| head[16 + i]));
        let both = description_length.saturating_add(index_length);
        if both > length || both > LONGEST_INDEX {
            return Err(damaged("cut short"));
        }
        let mut bytes = vec![0; both as usize];
        file.read_exact(&mut bytes).map_err(|_| damaged("cut short"))?;
        if crc32fast::hash(&bytes) != u32_at(24) {
            return Err(damaged("its description fails its checksum"));
        }
        let (description, index) = bytes.split_at(description_length as usize);
        let description: Description =
            serde_json::from_slice(description).map_err(|error| damaged(&error.to_string()))?;
        let case = Self::assemble(path, description, index, HEAD as u64 + both)
            .ok_or_else(|| damaged("its index does not fit its description"))?;
        if case.data_start + case.voxel_bytes() * case.voxels() != length {
            return Err(damaged("cut short or too long"));
        }
        Ok(case)
    }

    /// What tells its voxels from those of another sample.
    pub fn digest(&self) -> u32 {
        let bytes: Vec<u8> = self.checksums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        crc32fast::hash(&bytes)
    }

    /// The whole sample.
    ///
    /// # Errors
    /// As [`Self::read_window`].
    pub fn load(&self) -> Result<Sample> {
        let window = self.read_window([0; 3], self.shape)?;
        Ok(Sample {
            id: self.id.clone(),
            images: window.images,
            labels: self.has_labels.then_some(window.labels),
            mask: window.mask,
            geometry: self.geometry.clone(),
            classes: self.classes.clone(),
        })
    }

    /// The box of `shape` voxels whose first voxel is `start`, which may lie partly or wholly outside.
    ///
    /// # Errors
    /// Where the file cannot be read or a brick fails its checksum; the file is then removed, so that the next
    /// start prepares the case again.
    pub fn read_window(&self, start: [i64; 3], shape: [usize; 3]) -> Result<Window> {
        let [nx, ny, nz] = shape;
        let mut window = Window {
            images: Array4::zeros((self.channels, nx, ny, nz)),
            labels: Array3::from_elem(shape, IGNORE),
            mask: self.has_mask.then(|| Array3::zeros(shape)),
        };
        // The part inside the sample, in voxels of the sample.
        let low: [usize; 3] = std::array::from_fn(|axis| start[axis].max(0) as usize);
        let high: [usize; 3] = std::array::from_fn(|axis| {
            start[axis].saturating_add(shape[axis] as i64).clamp(0, self.shape[axis] as i64) as usize
        });
        if (0..3).any(|axis| low[axis] >= high[axis]) {
            return Ok(window);
        }
        let mut file = File::open(&self.path).map_err(|error| Error::io("read", &self.path, error))?;
        let bricks = |axis: usize| low[axis] / BRICK..high[axis].div_ceil(BRICK);
        let mut bytes = Vec::new();
        for x in bricks(0) {
            for y in bricks(1) {
                self.read_column(&mut file, [x, y], bricks(2), &mut bytes)?;
                let mut rest = &bytes[..];
                for z in bricks(2) {
                    let (first, size) = self.brick([x, y, z]);
                    let (brick, more) = rest.split_at(self.brick_bytes(size));
                    rest = more;
                    self.copy_brick(brick, first, size, start, (low, high), &mut window);
                }
            }
        }
        Ok(window)
    }

    /// Size of the file, bytes.
    pub fn bytes(&self) -> u64 {
        self.data_start + self.voxel_bytes() * self.voxels()
    }

    /// Reads all voxels and checks them.
    pub(super) fn verify(&self) -> Result<()> {
        let mut file = File::open(&self.path).map_err(|error| Error::io("read", &self.path, error))?;
        let [x, y, z] = self.shape.map(|edge| edge.div_ceil(BRICK));
        let mut bytes = Vec::new();
        for column in (0..x).flat_map(|x| (0..y).map(move |y| [x, y])) {
            self.read_column(&mut file, column, 0..z, &mut bytes)?;
        }
        Ok(())
    }

    fn assemble(path: &Path, description: Description, index: &[u8], data_start: u64) -> Option<Self> {
        let bricks: usize = description.shape.iter().map(|edge| edge.div_ceil(BRICK)).product();
        let mut numbers = index.chunks_exact(4).map(|b| u32::from_le_bytes(std::array::from_fn(|i| b[i])));
        let mut classes = Vec::new();
        for [count, positions] in description.classes {
            let mut read = || Some([numbers.next()?, numbers.next()?, numbers.next()?]);
            let positions = (0..positions).map(|_| read()).collect::<Option<Vec<_>>>()?;
            classes.push(ClassVoxels { count, positions });
        }
        let checksums: Vec<u32> = numbers.collect();
        let geometry = Geometry {
            original: Grid {
                shape: description.original_shape,
                affine: description.affine.map(|row| row.map(f64::from_bits)),
            },
            orientation: description.orientation,
            crop_start: description.crop_start,
            crop_shape: description.crop_shape,
            shape: description.shape,
            spacing: description.spacing.map(f64::from_bits),
        };
        (checksums.len() == bricks && index.len().is_multiple_of(4)).then(|| Self {
            id: description.id,
            shape: description.shape,
            channels: description.channels,
            classes,
            geometry,
            has_labels: description.labels,
            has_mask: description.mask,
            path: path.to_owned(),
            data_start,
            checksums,
        })
    }

    fn voxels(&self) -> u64 {
        self.shape.iter().map(|&edge| edge as u64).product()
    }

    fn voxel_bytes(&self) -> u64 {
        4 * self.channels as u64 + u64::from(self.has_labels) + u64::from(self.has_mask)
    }

    fn brick_bytes(&self, size: [usize; 3]) -> usize {
        size.iter().product::<usize>() * self.voxel_bytes() as usize
    }

    /// First voxel and size of a brick.
    fn brick(&self, at: [usize; 3]) -> ([usize; 3], [usize; 3]) {
        let first = at.map(|number| number * BRICK);
        (first, std::array::from_fn(|axis| BRICK.min(self.shape[axis] - first[axis])))
    }

    /// Reads neighbouring bricks along z, which follow each other in the file, and checks each.
    fn read_column(
        &self,
        file: &mut File,
        [x, y]: [usize; 2],
        range: std::ops::Range<usize>,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let failed = |error| Error::io("read", &self.path, error);
        let ([x0, y0, z0], [nx, ny, _]) = self.brick([x, y, range.start]);
        let [_, sy, sz] = self.shape;
        let end = (range.end * BRICK).min(sz);
        let before = (x0 * sy * sz + nx * y0 * sz + nx * ny * z0) as u64;
        bytes.resize(self.brick_bytes([nx, ny, end - z0]), 0);
        file.seek(SeekFrom::Start(self.data_start + before * self.voxel_bytes())).map_err(failed)?;
        file.read_exact(bytes).map_err(failed)?;
        let counts = self.shape.map(|edge| edge.div_ceil(BRICK));
        let mut rest = &bytes[..];
        for z in range {
            let (brick, more) = rest.split_at(self.brick_bytes(self.brick([x, y, z]).1));
            rest = more;
            if crc32fast::hash(brick) != self.checksums[(x * counts[1] + y) * counts[2] + z] {
                // Whether or not this succeeds, the damaged voxels are not used.
                let _ = std::fs::remove_file(&self.path);
                return Err(damaged(&self.path, &format!("brick ({x}, {y}, {z}) fails its checksum")));
            }
        }
        Ok(())
    }

    /// Copies the part of a brick that lies between `low` and `high` into a window that begins at `start`.
    fn copy_brick(
        &self,
        bytes: &[u8],
        first: [usize; 3],
        size: [usize; 3],
        start: [i64; 3],
        (low, high): ([usize; 3], [usize; 3]),
        window: &mut Window,
    ) {
        let from: [usize; 3] = std::array::from_fn(|axis| low[axis].max(first[axis]) - first[axis]);
        let to: [usize; 3] =
            std::array::from_fn(|axis| high[axis].min(first[axis] + size[axis]) - first[axis]);
        // Where the brick's voxel 0 lies in the window.
        let offset: [i64; 3] = std::array::from_fn(|axis| first[axis] as i64 - start[axis]);
        let place = |axis: usize, at: usize| (offset[axis] + at as i64) as usize;
        let voxels: usize = size.iter().product();
        let target = place(2, from[2])..place(2, to[2] - 1) + 1;
        for x in from[0]..to[0] {
            for y in from[1]..to[1] {
                let line = (x * size[1] + y) * size[2];
                let (begin, end) = (line + from[2], line + to[2]);
                let (wx, wy) = (place(0, x), place(1, y));
                for channel in 0..self.channels {
                    let values = &bytes[4 * (channel * voxels + begin)..4 * (channel * voxels + end)];
                    let row = window.images.slice_mut(s![channel, wx, wy, target.clone()]);
                    for (out, value) in row.into_iter().zip(values.chunks_exact(4)) {
                        *out = f32::from_le_bytes(std::array::from_fn(|i| value[i]));
                    }
                }
                let mut plane = 4 * self.channels * voxels;
                let bytes_of = |plane: usize| &bytes[plane + begin..plane + end];
                if self.has_labels {
                    let row = window.labels.slice_mut(s![wx, wy, target.clone()]);
                    row.into_iter().zip(bytes_of(plane)).for_each(|(out, value)| *out = *value);
                    plane += voxels;
                }
                if let Some(mask) = &mut window.mask {
                    let row = mask.slice_mut(s![wx, wy, target.clone()]);
                    row.into_iter().zip(bytes_of(plane)).for_each(|(out, value)| *out = *value);
                }
            }
        }
    }
}

/// Writes a sample: aside, to the disk, then under its name.
pub(super) fn write(sample: &Sample, path: &Path) -> Result<()> {
    let failed = |error| Error::io("write", path, error);
    let geometry = &sample.geometry;
    let description = Description {
        id: sample.id.clone(),
        channels: sample.images.dim().0,
        labels: sample.labels.is_some(),
        mask: sample.mask.is_some(),
        shape: geometry.shape,
        orientation: geometry.orientation,
        original_shape: geometry.original.shape,
        crop_start: geometry.crop_start,
        crop_shape: geometry.crop_shape,
        affine: geometry.original.affine.map(|row| row.map(f64::to_bits)),
        spacing: geometry.spacing.map(f64::to_bits),
        classes: sample.classes.iter().map(|class| [class.count, class.positions.len() as u64]).collect(),
    };
    let mut both = serde_json::to_vec(&description).map_err(|error| damaged(path, &error.to_string()))?;
    let description_length = both.len() as u32;
    let positions = sample.classes.iter().flat_map(|class| class.positions.as_flattened());
    both.extend(positions.flat_map(|number| number.to_le_bytes()));
    let mut checksums = Vec::new();
    each_brick(sample, |brick| {
        checksums.extend(crc32fast::hash(brick).to_le_bytes());
        Ok(())
    })
    .map_err(failed)?;
    both.extend(checksums);

    let mut head = Vec::with_capacity(HEAD);
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend(description_length.to_le_bytes());
    head.extend((both.len() as u64 - u64::from(description_length)).to_le_bytes());
    head.extend(crc32fast::hash(&both).to_le_bytes());
    head.extend(crc32fast::hash(&head).to_le_bytes());

    files::write(path, |output| {
        output.write_all(&head)?;
        output.write_all(&both)?;
        each_brick(sample, |brick| output.write_all(brick))
    })
}

fn each_brick(sample: &Sample, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let shape = sample.geometry.shape;
    let mut bytes = Vec::new();
    let starts = |axis: usize| (0..shape[axis]).step_by(BRICK);
    for (x, y, z) in starts(0).flat_map(|x| starts(1).flat_map(move |y| starts(2).map(move |z| (x, y, z)))) {
        let end = |axis: usize, start: usize| (start + BRICK).min(shape[axis]);
        let brick = s![x..end(0, x), y..end(1, y), z..end(2, z)];
        bytes.clear();
        for image in sample.images.outer_iter() {
            bytes.extend(image.slice(brick).iter().flat_map(|value| value.to_le_bytes()));
        }
        for plane in [&sample.labels, &sample.mask].into_iter().flatten() {
            bytes.extend(plane.slice(brick).iter());
        }
        take(&bytes)?;
    }
    Ok(())
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::invalid(path, "prepared sample", what, "start again: the case is then prepared anew")
}
