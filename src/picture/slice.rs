//! An axial slice as it is shown: which one, which part of it, and its grey levels.
//!
//! Display arrays are indexed `[[column, row]]` from the top left; the patient's right is on the left and the
//! front is at the top.

use ndarray::{Array2, ArrayView2, ArrayView3, Axis, s};

/// The slice (index along z) with most voxels of the class that is rarest in `labels`; `None` where all is
/// background.
pub(super) fn choose(labels: ArrayView3<'_, u8>) -> Option<usize> {
    let mut counts = [0u64; 256];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    // 255 marks voxels that are not scored.
    let rarest =
        (1..255u8).filter(|c| counts[usize::from(*c)] > 0).min_by_key(|c| counts[usize::from(*c)])?;
    let area = |z: &usize| labels.index_axis(Axis(2), *z).iter().filter(|l| **l == rarest).count();
    // Of equal ones the first: `max_by_key` would take the last.
    (0..labels.dim().2).rev().max_by_key(area)
}

/// Slice `z` of a volume along right, front, top, turned for display.
pub(super) fn display<T: Clone>(volume: ArrayView3<'_, T>, z: usize) -> Array2<T> {
    volume.index_axis(Axis(2), z).slice(s![..;-1, ..;-1]).to_owned()
}

/// What part of a slice is worth showing, and between which grey levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    /// First column and row.
    pub(super) start: [usize; 2],
    /// Columns and rows.
    pub(super) size: [usize; 2],
    /// Intensity shown as black.
    pub(super) black: f32,
    /// Intensity shown as white.
    pub(super) white: f32,
}

/// A slice whose darkest hundredth lies below this is CT in Hounsfield units (air has -1000).
const HOUNSFIELD: f32 = -500.0;
/// The usual window for the abdomen: from a little below fat to a little above contrast-filled vessels.
const SOFT_TISSUE: (f32, f32) = (-160.0, 240.0);

/// What is shown as black and as white, and what is brighter than air.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Levels {
    pub(super) black: f32,
    pub(super) white: f32,
    /// The body is brighter.
    air: f32,
}

/// The grey levels of values in any order, of which only finite ones count; `None` where there is none.
///
/// The body is what is brighter than a tenth of the way from the darkest to the brightest hundredth, so that air does not
/// count in the grey levels. CT gets the soft-tissue window instead.
pub(super) fn levels(values: impl Iterator<Item = f32>) -> Option<Levels> {
    let quantile = |values: &[f32], q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
    let mut values: Vec<f32> = values.filter(|v| v.is_finite()).collect();
    if values.is_empty() {
        return None;
    }
    values.sort_by(f32::total_cmp);
    let (dark, bright) = (quantile(&values, 0.01), quantile(&values, 0.99));
    let air = dark + 0.1 * (bright - dark);
    let body = &values[values.partition_point(|value| *value <= air)..];
    if body.is_empty() {
        return Some(Levels { black: dark, white: dark + 1.0, air });
    }
    let (black, white) = match dark < HOUNSFIELD {
        true => SOFT_TISSUE,
        false => (quantile(body, 0.005).min(air), quantile(body, 0.995)),
    };
    Some(Levels { black, white: if white > black { white } else { black + 1.0 }, air })
}

/// The box around the body, with a margin of two cells, and the range of its intensities.
pub(super) fn view(slice: ArrayView2<'_, f32>) -> View {
    let (columns, rows) = slice.dim();
    let Some(Levels { black, white, air }) = levels(slice.iter().copied()) else {
        return View { start: [0, 0], size: [columns, rows], black: 0.0, white: 1.0 };
    };
    let (mut low, mut high) = ([columns, rows], [0, 0]);
    for ((column, row), _) in slice.indexed_iter().filter(|(_, value)| value.is_finite() && **value > air) {
        low = [low[0].min(column), low[1].min(row)];
        high = [high[0].max(column + 1), high[1].max(row + 1)];
    }
    if high == [0, 0] {
        return View { start: [0, 0], size: [columns, rows], black, white };
    }
    let start = low.map(|edge| edge.saturating_sub(2));
    let size = [(high[0] + 2).min(columns) - start[0], (high[1] + 2).min(rows) - start[1]];
    View { start, size, black, white }
}

/// Grey levels of the view at `width` x `height` device pixels, indexed `[[row, column]]`, by bilinear
/// interpolation between cell centres.
pub(super) fn grey(slice: ArrayView2<'_, f32>, view: &View, [width, height]: [usize; 2]) -> Array2<[u8; 3]> {
    let (columns, rows) = slice.dim();
    let place = |pixel: usize, pixels: usize, start: usize, size: usize, cells: usize| {
        let at = start as f32 + (pixel as f32 + 0.5) / pixels as f32 * size as f32 - 0.5;
        let at = at.clamp(0.0, (cells - 1) as f32);
        let first = (at as usize).min(cells.saturating_sub(2));
        (first, (first + 1).min(cells - 1), at - first as f32)
    };
    Array2::from_shape_fn((height, width), |(row, column)| {
        let (x0, x1, fx) = place(column, width, view.start[0], view.size[0], columns);
        let (y0, y1, fy) = place(row, height, view.start[1], view.size[1], rows);
        let top = slice[[x0, y0]] * (1.0 - fx) + slice[[x1, y0]] * fx;
        let bottom = slice[[x0, y1]] * (1.0 - fx) + slice[[x1, y1]] * fx;
        let value = top * (1.0 - fy) + bottom * fy;
        let level = ((value - view.black) / (view.white - view.black)).clamp(0.0, 1.0);
        // 86 grey levels look like 256 and make files a third smaller.
        [(level * 85.0).round() as u8 * 3; 3]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn the_slice_goes_through_the_rarest_class() {
        let mut labels = Array3::<u8>::zeros((6, 6, 6));
        assert_eq!(choose(labels.view()), None);
        labels.slice_mut(s![.., .., 1]).fill(1);
        labels.slice_mut(s![2..4, 2, 3]).fill(2);
        labels.slice_mut(s![2..5, 2, 4]).fill(2);
        labels[[0, 0, 5]] = 255;
        assert_eq!(choose(labels.view()), Some(4));
    }

    #[test]
    fn right_is_shown_left_and_front_at_the_top() {
        let volume = Array3::from_shape_fn((3, 4, 2), |(x, y, z)| 100 * x + 10 * y + z);
        let shown = display(volume.view(), 1);
        assert_eq!(shown[[0, 0]], 231, "top left is far right, far front");
        assert_eq!(shown[[2, 3]], 1);
    }

    #[test]
    fn the_view_frames_the_body_in_mr_and_ct() {
        for (air, tissue) in [(0.0, 100.0), (-1000.0, 40.0)] {
            let slice = Array2::from_shape_fn((40, 30), |(i, j)| {
                if (10..30).contains(&i) && (8..20).contains(&j) { tissue + (i % 5) as f32 } else { air }
            });
            let view = view(slice.view());
            assert_eq!((view.start, view.size), ([8, 6], [24, 16]));
            assert!(view.white >= tissue && view.white > view.black);
            assert_eq!((view.black, view.white) == SOFT_TISSUE, air < -500.0);
        }
        let flat = Array2::from_elem((4, 4), f32::NAN);
        assert_eq!(view(flat.view()).size, [4, 4]);
    }
}
