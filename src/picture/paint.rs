//! From a scene to the bytes of a PNG file.

use std::path::Path;
use std::sync::LazyLock;

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, PremultipliedColorU8, Stroke, StrokeDash,
    Transform,
};
use ttf_parser::Face;

use super::scene::{Anchor, Colour, Scene, Shape, Style, Turn, Weight};
use crate::{Error, Result};

static REGULAR: LazyLock<Option<Face<'static>>> =
    LazyLock::new(|| Face::parse(include_bytes!("fonts/Inter-Regular.ttf"), 0).ok());
static SEMI_BOLD: LazyLock<Option<Face<'static>>> =
    LazyLock::new(|| Face::parse(include_bytes!("fonts/Inter-SemiBold.ttf"), 0).ok());

/// Width of `text` in layout pixels.
pub(super) fn text_width(text: &str, style: Style) -> f32 {
    let Some(face) = face(style.weight) else { return 0.0 };
    let units: f32 = text.chars().map(|letter| advance(face, letter)).sum();
    units * style.size / f32::from(face.units_per_em())
}

/// Paints `scene`: the bytes of a PNG file. `path` names it in errors.
pub(super) fn png(path: &Path, scene: &Scene) -> Result<Vec<u8>> {
    let [width, height] = scene.size.map(|edge| (edge * scene.scale).round().max(1.0) as u32);
    let mut pixmap = Pixmap::new(width, height).ok_or_else(|| {
        Error::invalid(
            path,
            "picture",
            format!("{width} x {height} pixels are too many"),
            "draw fewer rows or columns",
        )
    })?;
    pixmap.fill(Color::WHITE);
    for shape in &scene.shapes {
        draw(&mut pixmap, shape, scene.scale);
    }
    // The page is opaque white, so the premultiplied colours are the colours.
    let rgb: Vec<u8> = pixmap.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(&rgb)?;
            writer.finish()
        })
        .map_err(|e| Error::io("write", path, std::io::Error::other(e)))?;
    Ok(bytes)
}

fn draw(pixmap: &mut Pixmap, shape: &Shape, scale: f32) {
    let transform = Transform::from_scale(scale, scale);
    match shape {
        Shape::Lines { parts, colour, width, dash } => {
            let stroke = Stroke {
                width: *width,
                line_cap: LineCap::Round,
                line_join: LineJoin::Round,
                dash: dash.and_then(|[on, off]| StrokeDash::new(vec![on, off], 0.0)),
                ..Stroke::default()
            };
            if let Some(path) = outline(parts, Ends::Open) {
                pixmap.stroke_path(&path, &paint(*colour), &stroke, transform, None);
            }
        }
        Shape::Areas { outlines, fill } => {
            if let Some(path) = outline(outlines, Ends::Closed) {
                pixmap.fill_path(&path, &paint(*fill), FillRule::EvenOdd, transform, None);
            }
        }
        Shape::Dots { centres, radius, fill } => {
            for centre in centres {
                if let Some(path) = PathBuilder::from_circle(centre[0], centre[1], *radius) {
                    pixmap.fill_path(&path, &paint(*fill), FillRule::Winding, transform, None);
                }
            }
        }
        Shape::Text { at, text, style, anchor, turn } => {
            let shift = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => -0.5 * text_width(text, *style),
                Anchor::End => -text_width(text, *style),
            };
            let angle = match turn {
                Turn::None => 0.0,
                Turn::Up => -90.0,
            };
            let place = transform.pre_translate(at[0], at[1]).pre_rotate(angle).pre_translate(shift, 0.0);
            if let Some(path) = letters(text, *style) {
                pixmap.fill_path(&path, &paint(style.colour), FillRule::Winding, place, None);
            }
        }
        Shape::Pixels { at, pixels } => {
            let [left, top] = at.map(|p| (p * scale).round() as usize);
            let (width, height) = (pixmap.width() as usize, pixmap.height() as usize);
            let target = pixmap.pixels_mut();
            for ((row, column), &[r, g, b]) in pixels.indexed_iter() {
                let (x, y) = (left + column, top + row);
                if x < width
                    && y < height
                    && let Some(colour) = PremultipliedColorU8::from_rgba(r, g, b, 255)
                {
                    target[y * width + x] = colour;
                }
            }
        }
    }
}

fn paint(colour: Colour) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(colour[0], colour[1], colour[2], colour[3]);
    paint
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Open,
    Closed,
}

fn outline(parts: &[Vec<[f32; 2]>], ends: Ends) -> Option<tiny_skia::Path> {
    let mut builder = PathBuilder::new();
    for part in parts {
        let mut points = part.iter();
        let Some(first) = points.next() else { continue };
        builder.move_to(first[0], first[1]);
        for point in points {
            builder.line_to(point[0], point[1]);
        }
        if ends == Ends::Closed {
            builder.close();
        }
    }
    builder.finish()
}

fn face(weight: Weight) -> Option<&'static Face<'static>> {
    match weight {
        Weight::Regular => REGULAR.as_ref(),
        Weight::SemiBold => SEMI_BOLD.as_ref(),
    }
}

/// Letters that the typeface lacks are shown as its "missing" box.
fn glyph(face: &Face<'_>, letter: char) -> ttf_parser::GlyphId {
    face.glyph_index(letter).unwrap_or_default()
}

fn advance(face: &Face<'_>, letter: char) -> f32 {
    f32::from(face.glyph_hor_advance(glyph(face, letter)).unwrap_or(0))
}

/// The outlines of `text` with its baseline beginning at (0, 0).
fn letters(text: &str, style: Style) -> Option<tiny_skia::Path> {
    let face = face(style.weight)?;
    let unit = style.size / f32::from(face.units_per_em());
    let mut pen = Pen { builder: PathBuilder::new(), unit, x: 0.0 };
    for letter in text.chars() {
        let _ = face.outline_glyph(glyph(face, letter), &mut pen);
        pen.x += advance(face, letter) * unit;
    }
    pen.builder.finish()
}

/// Receives a glyph's outline in font units (y up) and places it on the line.
struct Pen {
    builder: PathBuilder,
    unit: f32,
    x: f32,
}

impl Pen {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.unit, -y * self.unit)
    }
}

impl ttf_parser::OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.builder.move_to(x, y);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.builder.line_to(x, y);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.builder.quad_to(x1, y1, x, y);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.builder.cubic_to(x1, y1, x2, y2, x, y);
    }
    fn close(&mut self) {
        self.builder.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::scene::INK;

    #[test]
    fn both_typefaces_parse_and_hold_what_figures_need() {
        for weight in [Weight::Regular, Weight::SemiBold] {
            let face = face(weight).expect("the typeface is part of the program");
            for letter in ('!'..='~').chain("µ±×°éü–—…−".chars()) {
                assert!(face.glyph_index(letter).is_some(), "{letter:?} is missing");
            }
        }
    }

    #[test]
    fn a_turned_text_is_as_long_as_a_level_one() {
        let style = Style { size: 20.0, weight: Weight::Regular, colour: INK };
        let ink = |turn| {
            let mut scene = Scene::new([100.0, 100.0], 1.0);
            scene.shapes.push(Shape::Text {
                at: [50.0, 50.0],
                text: "mmm".into(),
                style,
                anchor: Anchor::Middle,
                turn,
            });
            let mut pixmap = Pixmap::new(100, 100).unwrap();
            pixmap.fill(Color::WHITE);
            for shape in &scene.shapes {
                draw(&mut pixmap, shape, 1.0);
            }
            let dark: Vec<(usize, usize)> =
                (0..10_000).filter(|i| pixmap.pixels()[*i].red() < 128).map(|i| (i % 100, i / 100)).collect();
            let extent = |values: Vec<usize>| values.iter().max().unwrap() - values.iter().min().unwrap();
            [extent(dark.iter().map(|p| p.0).collect()), extent(dark.iter().map(|p| p.1).collect())]
        };
        let (level, up) = (ink(Turn::None), ink(Turn::Up));
        assert!(level[0].abs_diff(up[1]) <= 1 && level[1].abs_diff(up[0]) <= 1, "{level:?} {up:?}");
        let width = text_width("mmm", style);
        assert!((level[0] as f32 - width).abs() < 5.0, "{level:?} {width}");
    }
}
