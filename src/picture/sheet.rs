//! Layout of a sheet of small pictures, several in a row, all on one grey scale.

use std::path::Path;

use super::overlay::draw_labels;
use super::scene::{Anchor, GREY, INK, Scene, Shape, Style, Weight};
use super::{TileRow, slice};
use crate::{Error, Result};

const WIDTH: f32 = 128.0;
const GAP: f32 = 6.0;
const MARGIN: f32 = 14.0;
const HEADING: Style = Style { size: 13.0, weight: Weight::SemiBold, colour: INK };
const CAPTION: Style = Style { size: 10.5, weight: Weight::Regular, colour: GREY };
const SCALE: f32 = 1.25;

/// A heading and its tiles per row. The first tile of the first row sets the grey levels of all.
pub(super) fn layout(path: &Path, rows: &[TileRow], spacing: [f64; 3]) -> Result<Scene> {
    let columns = rows.iter().map(|row| row.tiles.len()).max().unwrap_or(1).max(1);
    let width = 2.0 * MARGIN + columns as f32 * (WIDTH + GAP) - GAP;
    let mut scene = Scene::new([width, 0.0], SCALE);
    let Some(first) = rows.iter().flat_map(|row| &row.tiles).next() else {
        return Err(Error::invalid(path, "sheet", "there is no picture", "choose operations to draw"));
    };
    let shape = first.image.dim();
    let middle = shape.2 / 2;
    let levels = slice::view(slice::display(first.image.view(), middle).view());
    let mut top = MARGIN;
    for row in rows {
        scene.text([MARGIN, top + HEADING.size], row.heading.as_str(), HEADING, Anchor::Start);
        top += HEADING.size + 6.0;
        let mut height = 0.0_f32;
        for (column, tile) in row.tiles.iter().enumerate() {
            if tile.image.dim() != shape || tile.labels.dim() != shape {
                let problem = format!("tile `{}` differs from the first in shape", tile.caption);
                return Err(Error::invalid(path, "sheet", problem, "draw patches of one shape"));
            }
            let image = slice::display(tile.image.view(), middle);
            let view = slice::View { start: [0, 0], size: [shape.0, shape.1], ..levels };
            let cell = {
                let x = WIDTH / shape.0 as f32;
                [x, x * (spacing[1] / spacing[0]) as f32]
            };
            let size = [WIDTH, cell[1] * shape.1 as f32];
            let device = size.map(|edge| (edge * scene.scale).round().max(1.0) as usize);
            let at = [MARGIN + column as f32 * (WIDTH + GAP), top];
            let pixels = slice::grey(image.view(), &view, device);
            scene.shapes.push(Shape::Pixels { at, pixels });
            draw_labels(&mut scene, &slice::display(tile.labels.view(), middle), at, cell);
            let below = [at[0], at[1] + size[1] + CAPTION.size + 1.0];
            scene.text(below, tile.caption.as_str(), CAPTION, Anchor::Start);
            height = height.max(size[1] + CAPTION.size + 4.0);
        }
        top += height + GAP;
    }
    scene.size[1] = top + MARGIN;
    Ok(scene)
}
