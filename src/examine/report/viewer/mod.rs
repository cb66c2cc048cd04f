//! Every scored case as slices to scroll through.
//!
//! All voxels lie in the page, packed ([`pack`]); `volumes.js` unpacks those of a case when it is opened, `drawing.js` draws
//! slices, and `viewer.js` does what the reader asks for. Along each axis a volume runs to the patient's right, front and top.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ndarray::{ArrayView3, Axis, Zip};
use serde_json::{Value, json};

use super::page::Page;
use super::subject::{Shown, Subject};
use crate::data::dataset::{LabelScheme, Trained};
use crate::image::volume::{Fit, Grid, Labels, Orientation};
use crate::picture;
use crate::prepare::workers::for_each_case;
use crate::progress::Progress;
use crate::{Error, Result, image};

mod pack;

/// How much the viewer may take.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewerOptions {
    /// Megabytes of the page that all scans together may take. Labels come on top; they are small.
    pub megabytes: f64,
    /// Name of the channel that is shown where there is no room for all, and first where there is; the first where
    /// there is none.
    pub channel: Option<String>,
}

impl Default for ViewerOptions {
    fn default() -> Self {
        Self { megabytes: 20.0, channel: None }
    }
}

/// What of a case goes onto the page: words and numbers, and volumes by the names that stand in these.
struct PackedCase {
    words: Value,
    volumes: Vec<Vec<u8>>,
}

/// Adds the cases to the page.
///
/// # Errors
/// Where the channel is unknown, or the user asks to stop. A case that cannot be shown says why in its place.
pub(super) fn write(
    page: &mut Page,
    subjects: &[Subject],
    shown: &[Shown],
    options: &ViewerOptions,
    progress: &dyn Progress,
) -> Result<()> {
    if shown.is_empty() {
        page.quiet("No slices are shown: scans, references or predictions are not where they were any more.");
        return Ok(());
    }
    let channel = channel(subjects, options)?;
    // Base64 takes four bytes for three.
    let limit = (options.megabytes * 1e6 * 0.75 / shown.len() as f64) as usize;
    let numbers: Vec<usize> = (0..shown.len()).collect();
    let packed = for_each_case(&numbers, "packing cases for the page", progress, |number| {
        let case = &shown[*number];
        let packed = match Opened::read(case) {
            Ok(opened) => opened.pack(subjects, case, (channel, limit)),
            Err(error) => {
                progress.note(&format!("{} is not shown: {error}", case.name));
                let words = json!({ "problem": error.to_string() });
                PackedCase { words, volumes: Vec::new() }
            }
        };
        Ok(packed)
    })?;
    let mut cases = Vec::new();
    for (number, (case, packed)) in shown.iter().zip(packed).enumerate() {
        let mut words = packed.words;
        words["name"] = json!(case.name);
        for (volume, bytes) in packed.volumes.iter().enumerate() {
            page.data(&format!("volume-{number}-{volume}"), bytes);
        }
        cases.push(words);
    }
    let ignore = subjects.iter().find_map(|subject| subject.labels.ignore);
    page.viewer(&json!({
        "columns": subjects.iter().map(|subject| subject.name.as_str()).collect::<Vec<_>>(),
        "groups": subjects.iter().map(|subject| groups(&subject.labels)[..].to_vec()).collect::<Vec<_>>(),
        "classes": classes(subjects),
        "names": names(subjects),
        "ignore": ignore,
        "cases": cases,
    }));
    Ok(())
}

/// The number of the channel that is shown first.
fn channel(subjects: &[Subject], options: &ViewerOptions) -> Result<usize> {
    let Some(wanted) = &options.channel else { return Ok(0) };
    let names: Vec<&String> = subjects.iter().flat_map(|subject| &subject.channels).collect();
    for subject in subjects {
        let same = |name: &String| name.to_lowercase() == wanted.to_lowercase();
        if let Some(number) = subject.channels.iter().position(same) {
            return Ok(number);
        }
    }
    let known = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mend = match names.is_empty() {
        true => "leave the option out: the channels of these scans have no names".to_owned(),
        false => format!("choose one of {known}"),
    };
    Err(Error::config("--channel", format!("there is no channel `{wanted}`"), mend))
}

/// Names by label value; of subjects that name different numbers of values the longest list.
fn names(subjects: &[Subject]) -> &[String] {
    let names = subjects.iter().map(|subject| match &subject.labels.trained {
        Trained::Values => &subject.labels.names[..],
        Trained::Regions { values } => values,
    });
    names.max_by_key(|names| names.len()).unwrap_or_default()
}

/// Value and name of every label that a subject is scored on.
fn classes(subjects: &[Subject]) -> Vec<Value> {
    let regions = subjects.iter().flat_map(|subject| &subject.labels.regions);
    let values: BTreeSet<u8> = regions.flat_map(|region| region.values.iter().copied()).collect();
    let name = |value: u8| names(subjects).get(usize::from(value)).cloned();
    let class =
        |value: u8| json!({ "value": value, "name": name(value).unwrap_or(format!("value {value}")) });
    values.into_iter().map(class).collect()
}

/// The same number for label values that belong to the same regions: to take one for the other is no error that is
/// scored.
fn groups(labels: &LabelScheme) -> [u8; 256] {
    let regions = |value: u8| -> Vec<bool> {
        labels.regions.iter().map(|region| region.values.contains(&value)).collect()
    };
    let all: Vec<Vec<bool>> = (0..=255).map(regions).collect();
    // The first value that is like it; 0 for what is scored no more than the background.
    std::array::from_fn(|value| all.iter().position(|other| *other == all[value]).unwrap_or(value) as u8)
}

/// A case in memory, as its files have it.
struct Opened {
    grid: Grid,
    images: Vec<ndarray::Array3<f32>>,
    reference: Labels,
    mask: Option<Labels>,
    predictions: Vec<Option<Labels>>,
}

impl Opened {
    fn read(case: &Shown) -> Result<Self> {
        let files = &case.files;
        let (reference, _) = image::read_labels(&files.reference)?;
        let mut images = Vec::new();
        let mut grid = None;
        for path in &files.images {
            for channel in image::read_channels(path)?.0 {
                let grid = grid.get_or_insert_with(|| channel.grid.clone());
                same_place(path, &channel.grid, grid)?;
                images.push(channel.voxels);
            }
        }
        let grid = grid.unwrap_or_else(|| reference.grid.clone());
        let labels = |path: &Path| {
            let (labels, _) = image::read_labels(path)?;
            same_place(path, &labels.grid, &grid)?;
            Ok::<_, Error>(labels)
        };
        same_place(&files.reference, &reference.grid, &grid)?;
        let mask = files.mask.as_deref().map(labels).transpose()?;
        let prediction = |column: &Option<(usize, usize, PathBuf)>| {
            column.as_ref().map(|(.., path)| labels(path)).transpose()
        };
        let predictions = case.columns.iter().map(prediction).collect::<Result<Vec<_>>>()?;
        Ok(Self { grid, images, reference, mask, predictions })
    }

    fn pack(&self, subjects: &[Subject], case: &Shown, (first, limit): (usize, usize)) -> PackedCase {
        let orientation = self.grid.orientation();
        let mut volumes = Vec::new();
        let mut keep = |bytes: Vec<u8>| {
            volumes.push(bytes);
            volumes.len() - 1
        };
        let names = subjects.iter().map(|subject| &subject.channels);
        let names = names.max_by_key(|names| names.len()).cloned().unwrap_or_default();
        let channels: Vec<Value> = channels(&self.images, &self.grid, first, limit)
            .into_iter()
            .map(|(number, window, grey)| {
                json!({
                    "name": names.get(number).cloned().unwrap_or_else(|| format!("channel {number}")),
                    "volume": keep(grey.bytes), "cells": grey.cells, "step": grey.step, "levels": grey.levels,
                    "window": window,
                })
            })
            .collect();
        let mut labels = |map: &Labels| {
            let packed = pack::labels(orientation.apply(map.voxels.view()));
            let volume = (!packed.bytes.is_empty()).then(|| keep(packed.bytes));
            json!({ "volume": volume, "start": packed.start, "size": packed.size })
        };
        let reference = labels(&self.reference);
        let mut columns = Vec::new();
        for ((subject, column), map) in subjects.iter().zip(&case.columns).zip(&self.predictions) {
            let (Some((part, number, _)), Some(map)) = (column, map) else {
                columns.push(Value::Null);
                continue;
            };
            let part = &subject.parts[*part];
            let mut words = labels(map);
            words["kind"] = json!(part.kind.words());
            words["scores"] = scores(part, *number);
            words["errors"] = json!(self.errors(map, &subject.labels, &orientation));
            columns.push(words);
        }
        let oriented = self.grid.oriented(&orientation);
        let words = json!({
            "shape": oriented.shape,
            "spacing": oriented.spacing(),
            "affine": oriented.affine,
            "axes": orientation.axes,
            "flipped": orientation.flipped,
            "tilt": tilt(&oriented),
            "channels": channels,
            "reference": reference,
            "columns": columns,
        });
        PackedCase { words, volumes }
    }

    /// Along each axis the number of wrong voxels of every slice, of those that are scored.
    fn errors(&self, prediction: &Labels, labels: &LabelScheme, orientation: &Orientation) -> [Vec<u32>; 3] {
        let groups = groups(labels);
        let mut wrong = ndarray::Array3::<u8>::zeros(self.reference.voxels.dim());
        Zip::from(&mut wrong).and(&prediction.voxels).and(&self.reference.voxels).for_each(|wrong, p, r| {
            let differ = groups[usize::from(*p)] != groups[usize::from(*r)];
            *wrong = u8::from(differ && Some(*r) != labels.ignore);
        });
        if let Some(mask) = &self.mask {
            wrong.zip_mut_with(&mask.voxels, |wrong, inside| *wrong *= u8::from(*inside != 0));
        }
        let wrong: ArrayView3<'_, u8> = orientation.apply(wrong.view());
        let count = |axis: usize| {
            let slices = wrong.axis_iter(Axis(axis));
            slices.map(|slice| slice.iter().map(|wrong| u32::from(*wrong)).sum()).collect()
        };
        std::array::from_fn(count)
    }
}

/// The channels that are shown, with their numbers and what is black and white: all where that costs none of them cells,
/// else the first.
fn channels(
    images: &[ndarray::Array3<f32>],
    grid: &Grid,
    first: usize,
    limit: usize,
) -> Vec<(usize, [f32; 2], pack::Grey)> {
    let orientation = grid.orientation();
    let spacing = grid.oriented(&orientation).spacing();
    let pack = |number: usize, limit: usize| {
        let image = orientation.apply(images[number].view());
        let window = picture::window(image);
        (number, window, pack::grey(image, spacing, window, limit))
    };
    let Some(first) = (!images.is_empty()).then(|| first.min(images.len() - 1)) else { return Vec::new() };
    let mut all = Vec::new();
    for number in std::iter::once(first).chain((0..images.len()).filter(|number| *number != first)) {
        let packed = pack(number, limit / images.len());
        if packed.2.step != [1; 3] && images.len() > 1 {
            return vec![pack(first, limit)];
        }
        all.push(packed);
    }
    all
}

/// The scores of a case by region.
fn scores(part: &super::subject::Part, case: usize) -> Value {
    let regions = part.scored.regions.iter().zip(&part.scored.cases[case].values);
    let score = |(region, values): (&String, &std::collections::BTreeMap<String, f64>)| {
        json!([region, values.get("Dice"), values.get("Sensitivity"), values.get("Precision")])
    };
    regions.map(score).collect()
}

/// The largest angle in degrees between an axis of the scan and the patient's axis that it runs along.
fn tilt(oriented: &Grid) -> f64 {
    let spacing = oriented.spacing();
    let cosine = |axis: usize| (oriented.affine[axis][axis] / spacing[axis]).clamp(-1.0, 1.0);
    (0..3).map(|axis| cosine(axis).acos().to_degrees()).fold(0.0, f64::max)
}

fn same_place(path: &Path, grid: &Grid, scan: &Grid) -> Result<()> {
    if grid.fit(scan) <= Fit::Near {
        return Ok(());
    }
    let problem = match grid.displacement(scan) {
        None => format!("{:?} voxels, but the scan has {:?}", grid.shape, scan.shape),
        Some(apart) => format!("lies up to {apart:.3} mm off the scan"),
    };
    Err(Error::invalid(path, "geometry", problem, "put it back onto the scan's grid (nearest neighbour)"))
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::data::dataset::Region;

    #[test]
    fn errors_are_counted_where_voxels_are_scored_and_along_the_patients_axes() {
        // Stored from left to right: x runs backwards.
        let mut grid = Grid::with_spacing([3, 2, 2], [1.0, 1.0, 2.0]);
        grid.affine[0][0] = -1.0;
        let map = |voxels: Array3<u8>| Labels::new(voxels, grid.clone());
        let mut reference = Array3::zeros((3, 2, 2));
        (reference[[0, 0, 0]], reference[[1, 1, 0]], reference[[2, 1, 1]]) = (1, 9, 1);
        let mut mask = Array3::ones((3, 2, 2));
        mask[[2, 1, 1]] = 0;
        let opened = Opened {
            grid: grid.clone(),
            images: Vec::new(),
            reference: map(reference),
            mask: Some(map(mask)),
            predictions: Vec::new(),
        };
        let orientation = grid.orientation();
        let region = |values: &[u8]| Region { name: String::new(), values: values.to_vec() };
        let labels = |regions: &[&[u8]]| LabelScheme {
            names: Vec::new(),
            regions: regions.iter().map(|values| region(values)).collect(),
            ignore: Some(9),
            regions_class_order: None,
            trained: Trained::Values,
        };
        let errors = |prediction: Array3<u8>, regions: &[&[u8]]| {
            opened.errors(&map(prediction), &labels(regions), &orientation)
        };
        let nothing = || Array3::zeros((3, 2, 2));
        assert_eq!(errors(nothing(), &[&[1]]), [vec![0, 0, 1], vec![1, 0], vec![1, 0]]);
        // A class that is not scored is no error; nor is one of the same regions.
        assert_eq!(errors(nothing(), &[&[2]])[0], [0, 0, 0]);
        let mut other = nothing();
        other[[0, 0, 0]] = 2;
        assert_eq!(errors(other.clone(), &[&[1, 2]])[0], [0, 0, 0]);
        assert_eq!(errors(other, &[&[1, 2], &[2]])[0], [0, 0, 1]);
    }

    #[test]
    fn all_channels_are_shown_where_there_is_room_else_the_one_that_was_asked_for() {
        let image = |k: f32| Array3::from_shape_fn((16, 16, 4), |(x, y, z)| k * (x * y + 3 * z) as f32);
        let images = [image(1.0), image(2.0), image(3.0)];
        let grid = Grid::with_spacing([16, 16, 4], [1.0; 3]);
        let numbers = |limit: usize| -> Vec<usize> {
            channels(&images, &grid, 1, limit).into_iter().map(|(number, ..)| number).collect()
        };
        assert_eq!(numbers(100_000), [1, 0, 2]);
        assert_eq!(numbers(60), [1]);
        assert!(channels(&[], &grid, 0, 100).is_empty());
    }

    #[test]
    fn tilted_scans_are_known() {
        assert_eq!(tilt(&Grid::with_spacing([2; 3], [1.0, 2.0, 3.0])), 0.0);
        let (sin, cos) = 10f64.to_radians().sin_cos();
        let affine = [[2.0 * cos, -sin, 0.0, 0.0], [2.0 * sin, cos, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
        assert!((tilt(&Grid { shape: [2; 3], affine }) - 10.0).abs() < 1e-9);
    }
}
