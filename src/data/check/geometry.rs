//! Whether two files of a case lie in the same place, in millimetres and in words.

use std::path::Path;

use super::{Fault, Kind};
use crate::data::dataset::file_name;
use crate::image::volume::{Fit, Grid};

/// Compares `grid` of `file` with the first image of its case.
pub(super) fn compare(file: &Path, grid: &Grid, first: &Path, reference: &Grid) -> Option<Fault> {
    let other = file_name(first);
    let Some(distance) = grid.displacement(reference) else {
        let what =
            format!("has {} voxels, but `{other}` has {}", triple(grid.shape), triple(reference.shape));
        let mend = "export both again from the same scan, or resample this file onto the image";
        return Some(Fault::error(Kind::Shape, file, what, mend).at(format!("against {other}")));
    };
    let fit = grid.fit(reference);
    if fit == Fit::Same {
        return None;
    }
    let what = format!(
        "lies up to {distance:.0$} mm from `{other}`, {1:.3} of a voxel: {2}",
        digits(distance),
        grid.voxels_apart(reference).unwrap_or(0.0),
        difference(grid, reference)
    );
    let fault = if fit > Fit::Near {
        let fix = "look at both in a viewer: where the voxels match, copy the header of the image into this file \
                   (`segen check DATASET --fix-header copy --case CASE`); where they do not, resample it onto the image";
        Fault::error(Kind::Geometry, file, what, fix)
    } else {
        let fix = "too little to matter for training; `segen check DATASET --fix-header rounding` copies the place of \
                   the image";
        Fault::warning(Kind::Geometry, file, what, fix)
    };
    Some(fault.at(format!("affine, against {other}")))
}

/// Decimals of a length in millimetres: three, and more where it is a few micrometres.
fn digits(length: f64) -> usize {
    if length > 0.0 { (2 - length.log10().floor() as i32).clamp(3, 9) as usize } else { 3 }
}

/// What is different, in the words of a person: axes, voxel size, rotation, shift.
fn difference(grid: &Grid, reference: &Grid) -> String {
    let mut parts = Vec::new();
    let (axes, expected_axes) = (grid.orientation().letters(), reference.orientation().letters());
    if axes != expected_axes {
        parts.push(format!("its axes run {axes} instead of {expected_axes}"));
    }
    let (spacing, expected) = (grid.spacing(), reference.spacing());
    if spacing.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-4 * b) {
        parts.push(format!("voxels of {} instead of {} mm", millimetres(spacing), millimetres(expected)));
    }
    let degrees = rotation(grid, reference);
    if axes == expected_axes && degrees > 0.01 {
        parts.push(format!("turned by {degrees:.2} degrees"));
    }
    let centre = reference.shape.map(|size| (size as f64 - 1.0) / 2.0);
    let (here, there) = (grid.world(centre), reference.world(centre));
    let shift: [f64; 3] = std::array::from_fn(|axis| here[axis] - there[axis]);
    let finest = expected.into_iter().fold(f64::INFINITY, f64::min);
    if shift.iter().any(|part| part.abs() > 1e-3 * finest) {
        let longest = shift.iter().fold(0.0, |longest: f64, part| longest.max(part.abs()));
        let digits = digits(longest);
        let [right, front, top] = shift.map(|part| format!("{part:.digits$}"));
        parts.push(format!("its centre is shifted by ({right}, {front}, {top}) mm (right, front, top)"));
    }
    if parts.is_empty() { "a difference in the last digits".to_owned() } else { parts.join("; ") }
}

/// The angle in degrees between the axes of two grids.
fn rotation(a: &Grid, b: &Grid) -> f64 {
    let (spacing_a, spacing_b) = (a.spacing(), b.spacing());
    let trace: f64 = (0..3)
        .map(|axis| {
            let dot: f64 = (0..3).map(|row| a.affine[row][axis] * b.affine[row][axis]).sum();
            dot / (spacing_a[axis] * spacing_b[axis])
        })
        .sum();
    ((trace - 1.0) / 2.0).clamp(-1.0, 1.0).acos().to_degrees()
}

fn triple(shape: [usize; 3]) -> String {
    shape.map(|size| size.to_string()).join(" x ")
}

pub(super) fn millimetres(lengths: [f64; 3]) -> String {
    lengths.map(|length| format!("{}", (length * 1e4).round() / 1e4)).join(" x ")
}

/// A voxel and where it lies, for a person to find it in a viewer.
pub(super) fn position(grid: &Grid, index: (usize, usize, usize)) -> String {
    let (x, y, z) = index;
    let [right, front, top] = grid.world([x as f64, y as f64, z as f64]);
    format!("voxel ({x}, {y}, {z}) at ({right:.1}, {front:.1}, {top:.1}) mm")
}
