//! From a scene to the text of an SVG element.

use std::fmt::Write;

use ndarray::Array2;

use super::scene::{Anchor, Colour, Scene, Shape, Turn, Weight};

/// Dots in one path: within a path overlaps do not add up, between paths they do.
const DOTS_PER_PATH: usize = 25;

/// The scene as one `<svg>` element without anything outside itself. Letters stay text; a reader without the
/// typeface Inter sees its own sans-serif.
pub(super) fn text(scene: &Scene) -> String {
    let [width, height] = scene.size;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"Inter, 'Helvetica Neue', Arial, sans-serif\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for shape in &scene.shapes {
        draw(&mut out, shape, scene.scale);
    }
    out.push_str("</svg>\n");
    out
}

/// Standard base64 with padding (RFC 4648).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &b| word << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// Text with the characters replaced that mean something in XML and HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(letter),
        }
    }
    out
}

fn draw(out: &mut String, shape: &Shape, scale: f32) {
    // Writing to a string cannot fail.
    let _ = match shape {
        Shape::Lines { parts, colour, width, dash } => {
            let dash = dash.map_or(String::new(), |[on, off]| format!(" stroke-dasharray=\"{on} {off}\""));
            writeln!(
                out,
                "<path d=\"{}\" fill=\"none\" {} stroke-width=\"{width}\" stroke-linecap=\"round\" \
                 stroke-linejoin=\"round\"{dash}/>",
                path(parts, ""),
                paint("stroke", *colour)
            )
        }
        Shape::Areas { outlines, fill } => writeln!(
            out,
            "<path d=\"{}\" fill-rule=\"evenodd\" {}/>",
            path(outlines, "Z"),
            paint("fill", *fill)
        ),
        Shape::Dots { centres, radius, fill } => {
            for group in centres.chunks(DOTS_PER_PATH) {
                let dots: String =
                    group.iter().map(|c| format!("M{} {}h0", short(c[0]), short(c[1]))).collect();
                let _ = writeln!(
                    out,
                    "<path d=\"{dots}\" fill=\"none\" {} stroke-width=\"{}\" stroke-linecap=\"round\"/>",
                    paint("stroke", *fill),
                    2.0 * radius
                );
            }
            Ok(())
        }
        Shape::Text { at, text, style, anchor, turn } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let weight = match style.weight {
                Weight::Regular => 400,
                Weight::SemiBold => 600,
            };
            let place = match turn {
                Turn::None => format!("x=\"{}\" y=\"{}\"", short(at[0]), short(at[1])),
                Turn::Up => format!("transform=\"translate({} {}) rotate(-90)\"", short(at[0]), short(at[1])),
            };
            writeln!(
                out,
                "<text {place} font-size=\"{}\" font-weight=\"{weight}\" text-anchor=\"{anchor}\" {}>{}</text>",
                style.size,
                paint("fill", style.colour),
                escape(text)
            )
        }
        Shape::Pixels { at, pixels } => {
            let (rows, columns) = pixels.dim();
            writeln!(
                out,
                "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" href=\"data:image/png;base64,{}\"/>",
                short(at[0]),
                short(at[1]),
                columns as f32 / scale,
                rows as f32 / scale,
                base64(&png(pixels))
            )
        }
    };
}

/// Sub-paths through the points of each part.
fn path(parts: &[Vec<[f32; 2]>], end: &str) -> String {
    let mut out = String::new();
    for part in parts {
        for (i, point) in part.iter().enumerate() {
            let letter = if i == 0 { 'M' } else { 'L' };
            let _ = write!(out, "{letter}{} {}", short(point[0]), short(point[1]));
        }
        out.push_str(end);
    }
    out
}

fn paint(what: &str, [r, g, b, a]: Colour) -> String {
    let colour = format!("{what}=\"#{r:02x}{g:02x}{b:02x}\"");
    if a == 255 { colour } else { format!("{colour} {what}-opacity=\"{:.3}\"", f32::from(a) / 255.0) }
}

/// A coordinate to a hundredth of a pixel.
fn short(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

/// Pixels as a PNG file; empty where that fails, which only memory could make it do.
fn png(pixels: &Array2<[u8; 3]>) -> Vec<u8> {
    let (rows, columns) = pixels.dim();
    let data: Vec<u8> = pixels.iter().flatten().copied().collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, columns as u32, rows as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&data)?;
        writer.finish()
    });
    if written.is_ok() { bytes } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_equals_the_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn every_shape_becomes_an_element_and_names_cannot_break_out() {
        let panel = crate::picture::Panel {
            title: "<b> & \"c\"".into(),
            series: vec![crate::picture::Series {
                name: "line".into(),
                points: vec![(0.0, 0.0), (1.0, 1.0)],
            }],
            clouds: vec![crate::picture::Cloud { points: vec![(0.5, 0.5); 60], ..Default::default() }],
            guides: vec![vec![(0.0, 1.0), (1.0, 0.0)]],
            ..Default::default()
        };
        let text = crate::picture::chart(std::path::Path::new("chart"), &[panel], 2).unwrap().svg;
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
        assert!(text.contains("&lt;b&gt; &amp; &quot;c&quot;") && !text.contains("<b>"));
        assert_eq!(text.matches("h0").count(), 60);
        assert!(text.contains("stroke-dasharray"));
        assert!(!text.contains("NaN") && !text.contains("http://") || text.matches("http").count() == 1);
    }
}
