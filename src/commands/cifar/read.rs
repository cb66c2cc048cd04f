//! CIFAR-10's binary format: a byte for the class, then 32 x 32 bytes each of red, green and blue, row by row.

use std::path::Path;

use ndarray::{Array3, Array4};

use super::{CLASSES, EDGE};
use crate::image::volume::{Grid, Orientation};
use crate::prepare::{Geometry, Sample};
use crate::{Error, Result};

/// Pictures with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pictures {
    /// Class of each.
    pub classes: Vec<u8>,
    /// (picture, channel, row, column).
    pub pixels: Vec<u8>,
}

const PIXELS: usize = 3 * EDGE * EDGE;
/// Means and standard deviations of CIFAR-10's channels, in units of a byte.
const MEAN: [f32; 3] = [125.3, 123.0, 113.9];
const DEVIATION: [f32; 3] = [63.0, 62.1, 66.7];

/// Reads the training pictures (`data_batch_1.bin` to `data_batch_5.bin`, as many as there are) and the test
/// pictures (`test_batch.bin`) of a folder.
///
/// # Errors
/// Where a file is missing, is no whole number of records, or names a class above 9.
pub fn read(folder: &Path) -> Result<(Pictures, Pictures)> {
    let mut training = Pictures::default();
    for number in 1..=5 {
        let path = folder.join(format!("data_batch_{number}.bin"));
        if number == 1 || path.exists() {
            training.add(&path)?;
        }
    }
    let mut test = Pictures::default();
    test.add(&folder.join("test_batch.bin"))?;
    Ok((training, test))
}

impl Pictures {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let invalid = |field: String, problem: String| {
            Err(Error::invalid(
                path,
                field,
                problem,
                "use the binary version of CIFAR-10 as published: records of 1 + 3072 bytes",
            ))
        };
        if bytes.is_empty() || !bytes.len().is_multiple_of(1 + PIXELS) {
            return invalid(
                "length".to_owned(),
                format!("{} bytes are no whole number of records of {} bytes", bytes.len(), 1 + PIXELS),
            );
        }
        for (number, record) in bytes.chunks_exact(1 + PIXELS).enumerate() {
            if usize::from(record[0]) >= CLASSES {
                return invalid(format!("record {number}"), format!("class {} is above 9", record[0]));
            }
            self.classes.push(record[0]);
            self.pixels.extend_from_slice(&record[1..]);
        }
        Ok(())
    }

    /// The picture as a volume of one slice, x to the right and y downwards: normalised channels, and its class
    /// everywhere.
    pub fn sample(&self, index: usize) -> Sample {
        let pixels = &self.pixels[index * PIXELS..(index + 1) * PIXELS];
        let images = Array4::from_shape_fn((3, EDGE, EDGE, 1), |(channel, x, y, _)| {
            let byte = pixels[(channel * EDGE + y) * EDGE + x];
            (f32::from(byte) - MEAN[channel]) / DEVIATION[channel]
        });
        let shape = [EDGE, EDGE, 1];
        Sample {
            id: format!("picture {index}"),
            images,
            labels: Some(Array3::from_elem(shape, self.classes[index])),
            mask: None,
            geometry: Geometry {
                original: Grid::with_spacing(shape, [1.0; 3]),
                orientation: Orientation::RAS,
                crop_start: [0; 3],
                crop_shape: shape,
                shape,
                spacing: [1.0; 3],
            },
            classes: Vec::new(),
        }
    }
}
