//! What the files of one case hold.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::geometry::{compare, position};
use super::{Fault, Kind};
use crate::Result;
use crate::data::dataset::{Case, Dataset};
use crate::image::volume::{Grid, Image, Labels};
use crate::image::{self, Header};

/// What is known of a case after reading its files.
pub(super) struct Facts {
    pub(super) faults: Vec<Fault>,
    /// First image and its grid.
    pub(super) grid: Option<(PathBuf, Grid)>,
    /// Fingerprints of the images' voxels; those of one value have none.
    pub(super) contents: Vec<(PathBuf, u64)>,
    /// Whether the labels could be read, and the values in them.
    pub(super) values: Option<Vec<u8>>,
    /// A label file whose values are whole numbers, some above 255, and the highest.
    pub(super) codes: Option<(PathBuf, f32)>,
}

/// Reads and checks all files of a case that are there.
pub(super) fn inspect(case: &Case, dataset: &Dataset, declared: &[u8]) -> Facts {
    let mut facts = Facts { faults: Vec::new(), grid: None, contents: Vec::new(), values: None, codes: None };
    for path in case.images.iter().filter(|path| path.exists()) {
        match images(path, dataset.channels.len(), case.images.len()) {
            Ok((channels, header)) => {
                facts.header(path, &header);
                for channel in &channels {
                    facts.image(path, channel);
                }
                if channels.len() * case.images.len() != dataset.channels.len() {
                    facts.faults.push(Fault::error(
                        Kind::Description,
                        path,
                        format!(
                            "has {} channel(s) for {} in dataset.json",
                            channels.len(),
                            dataset.channels.len()
                        ),
                        "name every channel in channel_names, in the order of the file",
                    ));
                }
            }
            Err(error) => facts.faults.push(Fault::of_error(Kind::Unreadable, path, &error)),
        }
    }
    let ignore = dataset.labels.ignore;
    let labels = case.labels.as_deref().and_then(|path| facts.labels(path));
    if let (Some(path), Some(labels)) = (&case.labels, &labels) {
        facts.label_values(path, labels, declared, ignore);
    }
    let mask = case.mask.as_deref().and_then(|path| facts.labels(path));
    if let (Some(path), Some(mask)) = (&case.mask, &mask) {
        facts.mask(path, mask, labels.as_ref(), ignore);
    }
    facts
}

/// The channels of one image file: several only where it is the only file of a case with several channels.
fn images(path: &Path, channels: usize, files: usize) -> Result<(Vec<Image>, Header)> {
    if files == 1 && channels > 1 {
        return image::read_channels(path);
    }
    let (image, header) = image::read_image(path)?;
    Ok((vec![image], header))
}

/// The highest value of a label map with codes above 255, as atlases have them; `None` for any other image.
fn highest_code(image: &Image) -> Option<f32> {
    const HIGHEST: f32 = 1e6;
    let whole = |value: &f32| value.fract() == 0.0 && (0.0..=HIGHEST).contains(value);
    image
        .voxels
        .iter()
        .all(whole)
        .then(|| image.voxels.iter().fold(0.0, |highest: f32, value| highest.max(*value)))
}

impl Facts {
    fn header(&mut self, path: &Path, header: &Header) {
        for doubt in header.warnings() {
            self.faults.push(Fault::warning(Kind::Header, path, &doubt.what, &doubt.fix));
        }
    }

    /// Compares with the first image of the case, or becomes it.
    fn place(&mut self, path: &Path, grid: &Grid) {
        match &self.grid {
            None => self.grid = Some((path.to_owned(), grid.clone())),
            Some((first, _)) if first == path => {}
            Some((first, reference)) => self.faults.extend(compare(path, grid, first, reference)),
        }
    }

    fn image(&mut self, path: &Path, image: &Image) {
        self.place(path, &image.grid);
        let (mut lowest, mut highest) = (f32::INFINITY, f32::NEG_INFINITY);
        let (mut nan, mut infinite) = (0_usize, 0_usize);
        let mut hasher = DefaultHasher::new();
        image.grid.shape.hash(&mut hasher);
        // The transposed view runs through memory in order.
        for value in image.voxels.t() {
            hasher.write_u32(value.to_bits());
            if value.is_finite() {
                lowest = lowest.min(*value);
                highest = highest.max(*value);
            } else if value.is_nan() {
                nan += 1;
            } else {
                infinite += 1;
            }
        }
        if nan + infinite > 0 {
            let first = image.voxels.indexed_iter().find(|(_, value)| !value.is_finite());
            let place = first.map_or_else(String::new, |(index, _)| position(&image.grid, index));
            let what = format!("{nan} NaN and {infinite} infinite voxels of {}", image.voxels.len());
            let mend = "replace them by the value of the background, or find the step that divided by zero";
            self.faults.push(Fault::error(Kind::NotFinite, path, what, mend).at(format!("first at {place}")));
        }
        if lowest >= highest {
            let what = if lowest == highest {
                format!("every voxel is {lowest}")
            } else {
                "no voxel is a number".into()
            };
            let mend = "export the image again; a channel without content cannot be normalised";
            self.faults.push(Fault::warning(Kind::Constant, path, what, mend));
        } else {
            self.contents.push((path.to_owned(), hasher.finish()));
        }
    }

    /// Reads labels or a mask.
    fn labels(&mut self, path: &Path) -> Option<Labels> {
        if !path.exists() {
            return None;
        }
        match image::read_labels(path) {
            Ok((labels, header)) => {
                self.header(path, &header);
                self.place_beside_image(path, &labels.grid);
                Some(labels)
            }
            Err(error) => {
                // Readable as an image: then it is the values that are no labels.
                let kind = match image::read_image(path) {
                    Ok((image, _)) => {
                        self.place_beside_image(path, &image.grid);
                        self.codes = highest_code(&image).map(|highest| (path.to_owned(), highest));
                        Kind::Fraction
                    }
                    Err(_) => Kind::Unreadable,
                };
                if self.codes.is_none() {
                    self.faults.push(Fault::of_error(kind, path, &error));
                }
                None
            }
        }
    }

    /// Labels are compared with an image, and never stand in for one.
    fn place_beside_image(&mut self, path: &Path, grid: &Grid) {
        if self.grid.is_some() {
            self.place(path, grid);
        }
    }

    fn label_values(&mut self, path: &Path, labels: &Labels, declared: &[u8], ignore: Option<u8>) {
        let mut counts = [0_usize; 256];
        for value in &labels.voxels {
            counts[usize::from(*value)] += 1;
        }
        let values: Vec<u8> = (0..=255).filter(|value| counts[usize::from(*value)] > 0).collect();
        let unknown: BTreeMap<u8, usize> = values
            .iter()
            .filter(|value| !declared.contains(value) && !declared.is_empty())
            .map(|value| (*value, counts[usize::from(*value)]))
            .collect();
        if !unknown.is_empty() {
            let first = labels.voxels.indexed_iter().find(|(_, value)| unknown.contains_key(value));
            let place = first.map_or_else(String::new, |(index, _)| position(&labels.grid, index));
            let list: Vec<String> =
                unknown.iter().take(5).map(|(value, count)| format!("{value} ({count} voxels)")).collect();
            let more =
                if unknown.len() > 5 { format!(" and {} more", unknown.len() - 5) } else { String::new() };
            let what = format!("values that dataset.json does not name: {}{more}", list.join(", "));
            let known: Vec<String> = declared.iter().map(u8::to_string).collect();
            let mend = format!("use {}, or name the value in `labels`", known.join(", "));
            self.faults
                .push(Fault::error(Kind::LabelValue, path, what, mend).at(format!("first at {place}")));
        }
        if values.iter().all(|value| *value == 0 || Some(*value) == ignore) {
            let mend = "nothing, where the case is truly empty; else export the labels again";
            self.faults.push(Fault::warning(Kind::Empty, path, "there is no foreground voxel", mend));
        }
        self.values = Some(values);
    }

    fn mask(&mut self, path: &Path, mask: &Labels, labels: Option<&Labels>, ignore: Option<u8>) {
        if mask.voxels.iter().all(|value| *value == 0) {
            let mend = "export the mask again, or remove it to use the whole image";
            self.faults.push(Fault::error(Kind::EmptyMask, path, "no voxel is inside the mask", mend));
            return;
        }
        let Some(labels) = labels.filter(|labels| labels.grid.shape == mask.grid.shape) else { return };
        let mut outside = labels
            .voxels
            .indexed_iter()
            .filter(|(index, value)| **value != 0 && Some(**value) != ignore && mask.voxels[*index] == 0);
        if let Some((index, _)) = outside.next() {
            let what = format!("{} foreground voxels lie outside the mask", 1 + outside.count());
            let mend = "they are neither trained on nor scored; enlarge the mask if they should be";
            let place = format!("first at {}", position(&mask.grid, index));
            self.faults.push(Fault::warning(Kind::OutsideMask, path, what, mend).at(place));
        }
    }
}
