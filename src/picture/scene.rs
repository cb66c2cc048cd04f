//! A figure as a list of shapes, in layout pixels from the top left corner.

use ndarray::Array2;

/// Red, green, blue, opacity.
pub(super) type Colour = [u8; 4];

pub(super) const INK: Colour = [32, 33, 36, 255];
pub(super) const GREY: Colour = [95, 99, 104, 255];
pub(super) const FAINT: Colour = [225, 227, 230, 255];

/// Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), in the order in which lines take them.
pub(super) const LINES: [[u8; 3]; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [60, 60, 60],
];

/// A figure.
#[derive(Debug)]
pub(super) struct Scene {
    /// Layout width and height.
    pub(super) size: [f32; 2],
    /// Device pixels per layout pixel.
    pub(super) scale: f32,
    /// Painted in order.
    pub(super) shapes: Vec<Shape>,
}

#[derive(Debug)]
pub(super) enum Shape {
    /// Lines through the points of each part.
    Lines { parts: Vec<Vec<[f32; 2]>>, colour: Colour, width: f32, dash: Option<[f32; 2]> },
    /// Areas inside closed outlines, by the even-odd rule.
    Areas { outlines: Vec<Vec<[f32; 2]>>, fill: Colour },
    /// Discs of one size and colour; where they overlap the colour grows stronger.
    Dots { centres: Vec<[f32; 2]>, radius: f32, fill: Colour },
    Text {
        /// Where the baseline begins, has its middle or ends, by `anchor`.
        at: [f32; 2],
        text: String,
        style: Style,
        anchor: Anchor,
        turn: Turn,
    },
    /// Red, green, blue; indexed `[[row, column]]` in device pixels.
    Pixels { at: [f32; 2], pixels: Array2<[u8; 3]> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Style {
    /// Letter size (em) in layout pixels.
    pub(super) size: f32,
    pub(super) weight: Weight,
    pub(super) colour: Colour,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    SemiBold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Left to right.
    None,
    /// Bottom to top.
    Up,
}

impl Scene {
    pub(super) fn new(size: [f32; 2], scale: f32) -> Self {
        Self { size, scale, shapes: Vec::new() }
    }

    pub(super) fn line(&mut self, from: [f32; 2], to: [f32; 2], colour: Colour, width: f32) {
        self.shapes.push(Shape::Lines { parts: vec![vec![from, to]], colour, width, dash: None });
    }

    pub(super) fn text(&mut self, at: [f32; 2], text: impl Into<String>, style: Style, anchor: Anchor) {
        self.shapes.push(Shape::Text { at, text: text.into(), style, anchor, turn: Turn::None });
    }
}

/// `rgb` with an opacity of 0 to 1.
pub(super) fn with_opacity(rgb: [u8; 3], opacity: f32) -> Colour {
    [rgb[0], rgb[1], rgb[2], (opacity.clamp(0.0, 1.0) * 255.0).round() as u8]
}
