//! Figures as PNG and SVG: line charts with axes and legend, and slices with segmentations drawn over them.
//!
//! A figure is first laid out as a list of shapes (`scene`), then painted with anti-aliasing (`paint`). The
//! typeface is compiled in (Inter, SIL Open Font License, `fonts/`), so a figure looks the same on a machine
//! without fonts. Colours are those of Okabe and Ito, which stay apart under the common forms of colour
//! blindness.

use std::path::Path;

use ndarray::ArrayView3;

use crate::Result;
use crate::files::write_atomically;

pub(crate) use svg::{base64, escape};

mod axis;
mod contour;
mod curves;
mod overlay;
mod paint;
mod scene;
mod sheet;
mod slice;
mod svg;

/// One line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// (x, y) in drawing order; a point that is not finite (or not positive on a logarithmic axis) interrupts
    /// the line. A noisy series of more than 300 points is drawn faint, with its
    /// running mean over it.
    pub points: Vec<(f64, f64)>,
}

/// How values map to lengths along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally long.
    #[default]
    Linear,
    /// Equal ratios are equally long.
    Logarithmic,
}

/// How single points are marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// A small disc, see-through, so that crowded places look denser.
    #[default]
    Dot,
    /// A large filled star.
    Star,
    /// The outline of a star.
    HollowStar,
}

/// Points of a chart that no line joins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cloud {
    /// Name in the legend; none where empty.
    pub name: String,
    /// (x, y); points outside the frame are left out.
    pub points: Vec<(f64, f64)>,
    /// Number of the colour, as that of the series in this place.
    pub colour: usize,
    /// Shape of a point.
    pub mark: Mark,
}

/// One chart of a figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// Heading.
    pub title: String,
    /// What runs along x.
    pub x_label: String,
    /// What runs along y.
    pub y_label: String,
    /// Lines, in the order of the legend.
    pub series: Vec<Series>,
    /// Lowest and highest y shown; from the values where left out. Lines are cut at the frame.
    pub y_range: Option<(f64, f64)>,
    /// Scale of the y axis.
    pub y_scale: Scale,
    /// Lowest and highest x shown; from the values where left out.
    pub x_range: Option<(f64, f64)>,
    /// Scale of the x axis.
    pub x_scale: Scale,
    /// Single points, under the lines in the order given.
    pub clouds: Vec<Cloud>,
    /// Dashed grey lines, such as a decision boundary; they do not widen the axes.
    pub guides: Vec<Vec<(f64, f64)>>,
}

/// One case of an overlay figure.
#[derive(Clone, Debug)]
pub struct OverlayRow<'a> {
    /// Printed above the row, for example the case's name and its scores.
    pub caption: String,
    /// Intensities along right, front, top (see [`crate::image::volume::Orientation::apply`]).
    pub image: ArrayView3<'a, f32>,
    /// Voxel spacing along the same axes, millimetres.
    pub spacing: [f64; 3],
    /// Heading and class per voxel for each picture right of the plain image. The first one is taken as the
    /// reference: it chooses the slice, and its outline is repeated, dashed, over the others.
    pub columns: Vec<(String, ArrayView3<'a, u8>)>,
}

/// A heading and small pictures under it.
#[derive(Clone, Debug)]
pub struct TileRow {
    /// Printed above the row.
    pub heading: String,
    /// The pictures, left to right.
    pub tiles: Vec<Tile>,
}

/// One small picture: the middle axial slice of a patch with its labels.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Printed below.
    pub caption: String,
    /// Intensities along right, front, top.
    pub image: ndarray::Array3<f32>,
    /// Classes on the same grid.
    pub labels: ndarray::Array3<u8>,
}

/// Draws rows of small pictures, all of one shape (voxels of this spacing) and on one grey scale, which the first
/// sets: the bytes of a PNG file. `name` names the picture in errors.
///
/// # Errors
/// Where there is no picture, or one differs in shape.
pub fn sheet_png(name: &Path, rows: &[TileRow], spacing: [f64; 3]) -> Result<Vec<u8>> {
    paint::png(name, &sheet::layout(name, rows, spacing)?)
}

/// Draws line charts side by side, two in a row, and writes them as PNG to `path`.
///
/// # Errors
/// Where the file cannot be written.
pub fn curves(path: &Path, panels: &[Panel]) -> Result<()> {
    write_atomically(path, &curves_png(path, panels)?)
}

/// As [`curves`], as the bytes of a PNG file. `name` names the picture in errors.
///
/// # Errors
/// Where there are more panels than a picture holds.
pub fn curves_png(name: &Path, panels: &[Panel]) -> Result<Vec<u8>> {
    paint::png(name, &curves::layout(panels, 2))
}

/// A chart in both forms, from one layout.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The text of an SVG element.
    pub svg: String,
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
}

/// Draws line charts with so many panels in a row. `name` names the picture in errors.
///
/// # Errors
/// As [`curves_png`].
pub fn chart(name: &Path, panels: &[Panel], columns: usize) -> Result<Chart> {
    let scene = curves::layout(panels, columns);
    Ok(Chart { svg: svg::text(&scene), png: paint::png(name, &scene)? })
}

/// The intensities of a scan that are shown as black and as white: the range of what is brighter than air, for CT that of
/// soft tissue. 0 and 1 where no voxel is finite.
pub(crate) fn window(image: ArrayView3<'_, f32>) -> [f32; 2] {
    /// Voxels that are looked at: quantiles of so many are steady.
    const LOOKED_AT: usize = 1 << 18;
    let step = image.len().div_ceil(LOOKED_AT).max(1);
    slice::levels(image.iter().step_by(step).copied()).map_or([0.0, 1.0], |found| [found.black, found.white])
}

/// As [`overlay`], as the bytes of a PNG file. `name` names the picture in errors.
///
/// # Errors
/// Where a row's segmentation differs from its image in shape.
pub fn overlay_png(name: &Path, rows: &[OverlayRow<'_>]) -> Result<Vec<u8>> {
    paint::png(name, &overlay::layout(name, rows)?)
}

/// Draws one row of pictures per case: the axial slice with most voxels of the reference's rarest class, plain
/// and under each segmentation. Seen from below as radiologists do: the patient's right is on the left.
///
/// # Errors
/// Where the file cannot be written, or a row's segmentation differs from its image in shape.
pub fn overlay(path: &Path, rows: &[OverlayRow<'_>]) -> Result<()> {
    write_atomically(path, &overlay_png(path, rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn size(path: &Path) -> (u32, u32) {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert!(pixels.iter().any(|p| *p < 128) && pixels.iter().any(|p| *p > 200), "blank");
        (info.width, info.height)
    }

    #[test]
    fn charts_are_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress.png");
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.5), (3.0, 0.25)];
        let panel = Panel {
            title: "Loss".into(),
            series: vec![Series { name: "training".into(), points }],
            ..Panel::default()
        };
        curves(&path, &vec![panel.clone(); 3]).unwrap();
        let (width, height) = size(&path);
        assert!(width > height, "two columns, two rows");
        curves(&path, &[panel]).unwrap();
        assert!(size(&path).0 < width, "the second picture replaced the first");
        curves(&path, &[]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
        let error = curves(&folder.path().join("no/folder.png"), &[]).unwrap_err().to_string();
        assert!(error.contains("no/folder.png"), "{error}");
    }

    #[test]
    fn an_overlay_shows_each_row_in_its_proportions_and_refuses_other_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overlay.png");
        let image = Array3::from_shape_fn((20, 24, 6), |(x, y, z)| (x * y + z) as f32);
        let labels =
            Array3::from_shape_fn((20, 24, 6), |(x, y, _)| u8::from(x > 9) + u8::from(x > 9 && y > 11));
        let row = |spacing| OverlayRow {
            caption: "case".into(),
            image: image.view(),
            spacing,
            columns: vec![("Reference".into(), labels.view()), ("Prediction".into(), labels.view())],
        };
        overlay(&path, &[row([1.0, 1.0, 3.0])]).unwrap();
        let (width, low) = size(&path);
        overlay(&path, &[row([1.0, 2.0, 3.0])]).unwrap();
        let (same, high) = size(&path);
        assert!(width == same && high > low + low / 2, "{low} {high}");
        let other = Array3::zeros((20, 24, 7));
        let wrong = OverlayRow { columns: vec![("Prediction".into(), other.view())], ..row([1.0; 3]) };
        let error = overlay(&path, &[wrong]).unwrap_err().to_string();
        assert!(error.contains("Prediction") && error.contains("(20, 24, 7)"), "{error}");
        let empty = Array3::<f32>::zeros((0, 4, 4));
        let none = OverlayRow { image: empty.view(), columns: vec![], ..row([1.0; 3]) };
        assert!(overlay(&path, &[none]).is_err());
    }
}
