//! Layout of slices with segmentations over them.

use std::path::Path;

use ndarray::{Array2, s};

use super::contour::outlines;
use super::paint::text_width;
use super::scene::{Anchor, Colour, GREY, INK, Scene, Shape, Style, Weight, with_opacity};
use super::{OverlayRow, slice};
use crate::{Error, Result};

/// Width of one picture in layout pixels.
const WIDTH: f32 = 270.0;
const GAP: f32 = 6.0;
const MARGIN: f32 = 14.0;
const HEADING: Style = Style { size: 15.0, weight: Weight::SemiBold, colour: INK };
const CAPTION: Style = Style { size: 12.5, weight: Weight::Regular, colour: GREY };
const SIDE: Style = Style { size: 12.0, weight: Weight::SemiBold, colour: [255, 255, 255, 200] };

/// Colours of classes 1, 2, ... over grey: the bright ones of Okabe and Ito's.
const CLASSES: [[u8; 3]; 6] =
    [[230, 159, 0], [86, 180, 233], [240, 228, 66], [204, 121, 167], [0, 190, 140], [213, 94, 0]];

/// One row per case; headings are repeated only where they change.
pub(super) fn layout(path: &Path, rows: &[OverlayRow<'_>]) -> Result<Scene> {
    let columns = rows.iter().map(|row| row.columns.len() + 1).max().unwrap_or(1);
    let width = 2.0 * MARGIN + columns as f32 * (WIDTH + GAP) - GAP;
    let mut scene = Scene::new([width, 0.0], SCALE);
    let mut top = MARGIN;
    let mut headings: Vec<&str> = Vec::new();
    for row in rows {
        check(path, row)?;
        let new: Vec<&str> =
            std::iter::once("Image").chain(row.columns.iter().map(|c| c.0.as_str())).collect();
        if new != headings {
            for (i, heading) in new.iter().enumerate() {
                scene.text([left(i), top + HEADING.size], *heading, HEADING, Anchor::Start);
            }
            top += HEADING.size + 8.0;
            headings = new;
        }
        top = draw_row(&mut scene, row, top) + GAP + 2.0;
    }
    scene.size[1] = top - GAP - 2.0 + MARGIN;
    Ok(scene)
}

/// Device pixels per layout pixel: enough for crisp letters, few enough for a small file.
const SCALE: f32 = 1.5;

fn left(column: usize) -> f32 {
    MARGIN + column as f32 * (WIDTH + GAP)
}

fn check(path: &Path, row: &OverlayRow<'_>) -> Result<()> {
    let shape = row.image.dim();
    let problem = if row.image.is_empty() {
        Some(format!("the image of row `{}` has no voxels", row.caption))
    } else {
        let other = row.columns.iter().find(|(_, labels)| labels.dim() != shape);
        other.map(|(name, labels)| {
            format!("`{name}` of row `{}` has shape {:?}, its image {shape:?}", row.caption, labels.dim())
        })
    };
    match problem {
        Some(problem) => Err(Error::invalid(
            path,
            "overlay",
            problem,
            "draw segmentations on the grid of the image that they belong to",
        )),
        None => Ok(()),
    }
}

/// Draws the row from `top` downwards and returns where it ends.
fn draw_row(scene: &mut Scene, row: &OverlayRow<'_>, top: f32) -> f32 {
    let mut top = top;
    if !row.caption.is_empty() {
        scene.text([MARGIN, top + CAPTION.size], row.caption.as_str(), CAPTION, Anchor::Start);
        top += CAPTION.size + 7.0;
    }
    let z = row.columns.iter().find_map(|(_, labels)| slice::choose(*labels));
    let z = z.unwrap_or(row.image.dim().2 / 2);
    let image = slice::display(row.image, z);
    let view = slice::view(image.view());
    let cell = {
        let x = WIDTH / view.size[0] as f32;
        [x, x * (row.spacing[1] / row.spacing[0]) as f32]
    };
    let size = [WIDTH, cell[1] * view.size[1] as f32];
    let device = size.map(|edge| (edge * scene.scale).round().max(1.0) as usize);
    let pixels = slice::grey(image.view(), &view, device);
    let shown: Vec<Array2<u8>> = row
        .columns
        .iter()
        .map(|(_, labels)| {
            let (start, size) = (view.start, view.size);
            let part = s![start[0]..start[0] + size[0], start[1]..start[1] + size[1]];
            slice::display(*labels, z).slice(part).to_owned()
        })
        .collect();
    for column in 0..=shown.len() {
        let at = [left(column), top];
        scene.shapes.push(Shape::Pixels { at, pixels: pixels.clone() });
        if let Some(labels) = column.checked_sub(1).and_then(|i| shown.get(i)) {
            draw_labels(scene, labels, at, cell);
        }
        if column > 1 {
            let reference = shown[0].mapv(|label| u8::from((1..255).contains(&label)));
            let parts: Vec<_> = placed(&reference, 1, at, cell).into_iter().map(closed).collect();
            // Dark under white, so that it shows on any grey.
            let (dark, white) = ([0, 0, 0, 110], [255, 255, 255, 240]);
            scene.shapes.push(Shape::Lines { parts: parts.clone(), colour: dark, width: 2.0, dash: None });
            scene.shapes.push(Shape::Lines { parts, colour: white, width: 1.0, dash: Some([3.0, 2.5]) });
        }
    }
    let [text_y, right] = [top + SIDE.size + 3.0, left(0) + WIDTH - 5.0 - text_width("L", SIDE)];
    scene.text([left(0) + 5.0, text_y], "R", SIDE, Anchor::Start);
    scene.text([right, text_y], "L", SIDE, Anchor::Start);
    top + size[1]
}

/// Every class as a tinted area with a line around it.
pub(super) fn draw_labels(scene: &mut Scene, labels: &Array2<u8>, at: [f32; 2], cell: [f32; 2]) {
    let mut classes: Vec<u8> = labels.iter().copied().filter(|l| (1..255).contains(l)).collect();
    classes.sort_unstable();
    classes.dedup();
    for class in classes {
        let rgb = CLASSES[usize::from(class - 1) % CLASSES.len()];
        let outlines = placed(labels, class, at, cell);
        let parts = outlines.iter().cloned().map(closed).collect();
        scene.shapes.push(Shape::Areas { outlines, fill: with_opacity(rgb, 0.4) });
        let colour: Colour = with_opacity(rgb, 1.0);
        scene.shapes.push(Shape::Lines { parts, colour, width: 1.5, dash: None });
    }
}

/// Outlines in layout pixels.
fn placed(labels: &Array2<u8>, class: u8, at: [f32; 2], cell: [f32; 2]) -> Vec<Vec<[f32; 2]>> {
    let place = |p: [f32; 2]| [at[0] + p[0] * cell[0], at[1] + p[1] * cell[1]];
    outlines(labels.view(), class).into_iter().map(|o| o.into_iter().map(place).collect()).collect()
}

fn closed(mut outline: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    outline.extend(outline.first().copied());
    outline
}
