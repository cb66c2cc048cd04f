//! Layout of line charts.

use super::axis::{Axis, Ends};
use super::paint::text_width;
use super::scene::{
    Anchor, Colour, FAINT, GREY, INK, LINES, Scene, Shape, Style, Turn, Weight, with_opacity,
};
use super::{Cloud, Mark, Panel, Series};

const PANEL: [f32; 2] = [460.0, 320.0];
const MARGIN: f32 = 14.0;
const TITLE: Style = Style { size: 15.0, weight: Weight::SemiBold, colour: INK };
const LABEL: Style = Style { size: 12.5, weight: Weight::Regular, colour: GREY };
const TICK: Style = Style { size: 11.5, weight: Weight::Regular, colour: GREY };
const LEGEND: Style = Style { size: 12.5, weight: Weight::Regular, colour: INK };

/// A longer series that is mostly noise is drawn faint, with its running mean over it.
const DENSE: usize = 300;
/// A series of at most so many points gets a dot at each.
const MARKED: usize = 40;
/// Length of a legend's line sample.
const SAMPLE: f32 = 18.0;

/// All panels, so many in a row.
pub(super) fn layout(panels: &[Panel], columns: usize) -> Scene {
    let columns = panels.len().min(columns).max(1);
    let rows = panels.len().div_ceil(columns).max(1);
    let size = [columns as f32 * (PANEL[0] + MARGIN) + MARGIN, rows as f32 * (PANEL[1] + MARGIN) + MARGIN];
    let mut scene = Scene::new(size, 2.0);
    for (i, panel) in panels.iter().enumerate() {
        let left = MARGIN + (i % columns) as f32 * (PANEL[0] + MARGIN);
        let top = MARGIN + (i / columns) as f32 * (PANEL[1] + MARGIN);
        draw_panel(&mut scene, panel, [left, top]);
    }
    scene
}

/// The area inside the axes and the two axes.
struct Frame {
    at: [f32; 2],
    size: [f32; 2],
    x: Axis,
    y: Axis,
}

impl Frame {
    fn place(&self, x: f64, y: f64) -> [f32; 2] {
        [
            self.at[0] + self.x.position(x) as f32 * self.size[0],
            self.at[1] + (1.0 - self.y.position(y) as f32) * self.size[1],
        ]
    }
}

fn draw_panel(scene: &mut Scene, panel: &Panel, [left, top]: [f32; 2]) {
    let clouds = || panel.clouds.iter().flat_map(|c| &c.points);
    let points = || panel.series.iter().flat_map(|s| &s.points).chain(clouds());
    let x = match panel.x_range {
        Some((low, high)) => Axis::between(low, high, panel.x_scale),
        None if panel.clouds.is_empty() => Axis::around(points().map(|p| p.0), panel.x_scale, Ends::Exact),
        None => Axis::around(points().map(|p| p.0), panel.x_scale, Ends::Rounded),
    };
    let y = match panel.y_range {
        Some((low, high)) => Axis::between(low, high, panel.y_scale),
        None => Axis::around(points().map(|p| p.1), panel.y_scale, Ends::Rounded),
    };
    let x_ticks = x.ticks();
    let y_ticks = y.ticks();

    let mut above = top + TITLE.size;
    if !panel.title.is_empty() {
        scene.text([left, above], panel.title.as_str(), TITLE, Anchor::Start);
    }
    above = legend(scene, panel, left, above + 8.0);
    let widest = y_ticks.iter().map(|t| text_width(&t.1, TICK)).fold(0.0, f32::max);
    let y_label = if panel.y_label.is_empty() { 0.0 } else { LABEL.size + 8.0 };
    let x_label = if panel.x_label.is_empty() { 0.0 } else { LABEL.size + 8.0 };
    let inside = y_label + widest + 8.0;
    let at = [left + inside, above + 6.0];
    let below = TICK.size + 8.0 + x_label;
    let size = [PANEL[0] - inside - 10.0, top + PANEL[1] - below - at[1]];
    let frame = Frame { at, size, x, y };

    for (value, text) in &y_ticks {
        let [_, height] = frame.place(0.0, *value);
        scene.line([at[0], height], [at[0] + size[0], height], FAINT, 1.0);
        scene.text([at[0] - 7.0, height + 0.36 * TICK.size], text.as_str(), TICK, Anchor::End);
    }
    let bottom = at[1] + size[1];
    for (value, text) in &x_ticks {
        let along = at[0] + frame.x.position(*value) as f32 * size[0];
        scene.line([along, bottom], [along, bottom + 4.0], GREY, 1.0);
        scene.text([along, bottom + 6.0 + TICK.size], text.as_str(), TICK, Anchor::Middle);
    }
    let middle = at[0] + 0.5 * size[0];
    scene.text([middle, top + PANEL[1] - 2.0], panel.x_label.as_str(), LABEL, Anchor::Middle);
    scene.shapes.push(Shape::Text {
        at: [left + LABEL.size - 2.0, at[1] + 0.5 * size[1]],
        text: panel.y_label.clone(),
        style: LABEL,
        anchor: Anchor::Middle,
        turn: Turn::Up,
    });
    for cloud in &panel.clouds {
        draw_cloud(scene, &frame, cloud);
    }
    for guide in &panel.guides {
        draw_line(scene, &frame, guide, GREY, 1.25, Some([5.0, 4.0]));
    }
    for (i, series) in panel.series.iter().enumerate() {
        draw_series(scene, &frame, series, i);
    }
    scene.line([at[0], bottom], [at[0] + size[0], bottom], GREY, 1.0);
}

fn colour(i: usize) -> [u8; 3] {
    LINES[i % LINES.len()]
}

/// Colours repeat after seven lines; from then on lines are dashed.
fn dash(i: usize) -> Option<[f32; 2]> {
    (i >= LINES.len()).then_some([6.0, 4.0])
}

/// What stands before a name in the legend.
#[derive(Clone, Copy)]
enum Sample<'a> {
    Line(usize),
    Point(&'a Cloud),
}

/// Draws the legend from `top` downwards and returns where it ends.
fn legend(scene: &mut Scene, panel: &Panel, left: f32, top: f32) -> f32 {
    let lines = panel.series.iter().enumerate().map(|(i, series)| (series.name.as_str(), Sample::Line(i)));
    let clouds = panel.clouds.iter().map(|cloud| (cloud.name.as_str(), Sample::Point(cloud)));
    let named: Vec<_> = clouds.chain(lines).filter(|(name, _)| !name.is_empty()).collect();
    if named.is_empty() {
        return top;
    }
    let line = LEGEND.size + 6.0;
    let (mut x, mut baseline) = (left, top + LEGEND.size);
    for (name, sample) in named {
        let length = match sample {
            Sample::Line(_) => SAMPLE,
            Sample::Point(_) => 10.0,
        };
        let width = length + 6.0 + text_width(name, LEGEND);
        if x > left && x + width > left + PANEL[0] {
            (x, baseline) = (left, baseline + line);
        }
        let height = baseline - 0.36 * LEGEND.size;
        match sample {
            Sample::Line(i) => scene.shapes.push(Shape::Lines {
                parts: vec![vec![[x + 1.0, height], [x + SAMPLE, height]]],
                colour: with_opacity(colour(i), 1.0),
                width: 2.5,
                dash: dash(i),
            }),
            Sample::Point(cloud) => match cloud.mark {
                Mark::Dot => scene.shapes.push(Shape::Dots {
                    centres: vec![[x + 5.0, height]],
                    radius: 4.0,
                    fill: with_opacity(colour(cloud.colour), 0.8),
                }),
                mark => draw_star(scene, [x + 5.0, height], 6.0, colour(cloud.colour), mark),
            },
        }
        scene.text([x + length + 6.0, baseline], name, LEGEND, Anchor::Start);
        x += width + 18.0;
    }
    baseline + 4.0
}

fn draw_series(scene: &mut Scene, frame: &Frame, series: &Series, i: usize) {
    let solid = with_opacity(colour(i), 1.0);
    if series.points.len() > DENSE && noisy(&series.points) {
        draw_line(scene, frame, &series.points, with_opacity(colour(i), 0.25), 1.0, None);
        draw_line(scene, frame, &running_mean(&series.points), solid, 2.0, dash(i));
        return;
    }
    draw_line(scene, frame, &series.points, solid, 2.0, dash(i));
    if series.points.len() <= MARKED {
        let shown = series.points.iter().map(|p| frame.place(p.0, p.1)).filter(|p| frame.holds(*p));
        let outlines = shown.map(circle).collect();
        scene.shapes.push(Shape::Areas { outlines, fill: solid });
    }
}

fn draw_cloud(scene: &mut Scene, frame: &Frame, cloud: &Cloud) {
    let places = cloud.points.iter().map(|p| frame.place(p.0, p.1)).filter(|p| frame.holds(*p));
    match cloud.mark {
        Mark::Dot => scene.shapes.push(Shape::Dots {
            centres: places.collect(),
            radius: 1.6,
            fill: with_opacity(colour(cloud.colour), 0.28),
        }),
        mark => places.for_each(|place| draw_star(scene, place, 9.0, colour(cloud.colour), mark)),
    }
}

/// A five-pointed star with a white rim, so that it shows on any cloud.
fn draw_star(scene: &mut Scene, centre: [f32; 2], radius: f32, rgb: [u8; 3], mark: Mark) {
    let star = |radius: f32| -> Vec<[f32; 2]> {
        (0..10)
            .map(|i| {
                let length = if i % 2 == 0 { radius } else { 0.45 * radius };
                let angle = (i as f32 - 2.5) * std::f32::consts::TAU / 10.0;
                [centre[0] + length * angle.cos(), centre[1] + length * angle.sin()]
            })
            .collect()
    };
    let fill = if mark == Mark::Star { with_opacity(rgb, 1.0) } else { [255; 4] };
    scene.shapes.push(Shape::Areas { outlines: vec![star(1.35 * radius)], fill: [255; 4] });
    scene.shapes.push(Shape::Areas { outlines: vec![star(radius)], fill });
    let mut outline = star(radius);
    outline.extend(outline.first().copied());
    let ink = if mark == Mark::Star { INK } else { with_opacity(rgb, 1.0) };
    scene.shapes.push(Shape::Lines { parts: vec![outline], colour: ink, width: 1.25, dash: None });
}

fn draw_line(
    scene: &mut Scene,
    frame: &Frame,
    points: &[(f64, f64)],
    colour: Colour,
    width: f32,
    dash: Option<[f32; 2]>,
) {
    let mut parts: Vec<Vec<[f32; 2]>> = Vec::new();
    for pair in points.windows(2) {
        let [from, to] = [pair[0], pair[1]].map(|p| frame.place(p.0, p.1));
        let Some([from, to]) = frame.clip(from, to) else { continue };
        match parts.last_mut() {
            Some(part) if part.last() == Some(&from) => part.push(to),
            _ => parts.push(vec![from, to]),
        }
    }
    if !parts.is_empty() {
        scene.shapes.push(Shape::Lines { parts, colour, width, dash });
    }
}

impl Frame {
    fn holds(&self, point: [f32; 2]) -> bool {
        (0..2)
            .all(|axis| (self.at[axis] - 0.5..=self.at[axis] + self.size[axis] + 0.5).contains(&point[axis]))
    }

    /// The part of a straight line that lies inside the frame (Liang and Barsky); `None` where there is none or
    /// an end is not a number.
    fn clip(&self, from: [f32; 2], to: [f32; 2]) -> Option<[[f32; 2]; 2]> {
        let (mut enter, mut leave) = (0f32, 1f32);
        for axis in 0..2 {
            let length = to[axis] - from[axis];
            if !length.is_finite() {
                return None;
            }
            let (low, high) = (self.at[axis] - from[axis], self.at[axis] + self.size[axis] - from[axis]);
            if length == 0.0 {
                if low > 0.0 || high < 0.0 {
                    return None;
                }
                continue;
            }
            let (a, b) = (low / length, high / length);
            enter = enter.max(a.min(b));
            leave = leave.min(a.max(b));
        }
        let at = |t: f32| [from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1])];
        (enter <= leave)
            .then(|| [if enter == 0.0 { from } else { at(enter) }, if leave == 1.0 { to } else { at(leave) }])
    }
}

fn circle(centre: [f32; 2]) -> Vec<[f32; 2]> {
    let corner = |i: i32| {
        let angle = i as f32 * std::f32::consts::TAU / 16.0;
        [centre[0] + 2.75 * angle.cos(), centre[1] + 2.75 * angle.sin()]
    };
    (0..16).map(corner).collect()
}

/// Whether the way up and down is many times longer than the range.
fn noisy(points: &[(f64, f64)]) -> bool {
    let finite: Vec<f64> = points.iter().map(|p| p.1).filter(|y| y.is_finite()).collect();
    let way: f64 = finite.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    let (low, high) =
        finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(*y), h.max(*y)));
    way > 8.0 * (high - low)
}

/// Mean over a window of a thirtieth of the series around each point; points that are not finite stay and
/// interrupt the line.
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = points.len() / 60;
    let mut sums = vec![(0.0, 0usize)];
    for &(_, y) in points {
        let (sum, count) = sums[sums.len() - 1];
        sums.push(if y.is_finite() { (sum + y, count + 1) } else { (sum, count) });
    }
    let mean = |i: usize| {
        let (from, to) = (i.saturating_sub(half), (i + half + 1).min(points.len()));
        (sums[to].0 - sums[from].0) / (sums[to].1 - sums[from].1) as f64
    };
    let smooth = |(i, &(x, y)): (usize, &(f64, f64))| (x, if y.is_finite() { mean(i) } else { y });
    points.iter().enumerate().map(smooth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Scale;

    fn frame() -> Frame {
        let axis = || Axis::between(0.0, 1.0, Scale::Linear);
        Frame { at: [10.0, 10.0], size: [100.0, 50.0], x: axis(), y: axis() }
    }

    #[test]
    fn lines_are_cut_at_the_frame() {
        let frame = frame();
        assert_eq!(frame.place(0.0, 0.0), [10.0, 60.0]);
        assert_eq!(frame.place(1.0, 1.0), [110.0, 10.0]);
        let [from, to] = frame.clip([60.0, -90.0], [60.0, 35.0]).expect("half of it is inside");
        assert_eq!((from, to), ([60.0, 10.0], [60.0, 35.0]));
        assert!(frame.clip([0.0, 0.0], [5.0, 70.0]).is_none());
        assert!(frame.clip([60.0, f32::NAN], [60.0, 35.0]).is_none());
        assert_eq!(frame.clip([20.0, 20.0], [30.0, 30.0]), Some([[20.0, 20.0], [30.0, 30.0]]));
    }

    #[test]
    fn a_gap_interrupts_the_line() {
        let mut scene = Scene::new([120.0, 70.0], 1.0);
        let points = [(0.0, 0.1), (0.2, 0.2), (0.4, f64::NAN), (0.6, 0.3), (0.8, 0.4), (1.0, 0.2)];
        draw_line(&mut scene, &frame(), &points, INK, 1.0, None);
        let Some(Shape::Lines { parts, .. }) = scene.shapes.first() else { panic!("no line") };
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn the_running_mean_keeps_a_straight_line_and_smooths_noise() {
        let line: Vec<_> = (0..600).map(|i| (i as f64, 3.0)).collect();
        assert!(running_mean(&line).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        let noise: Vec<_> = (0..600).map(|i| (i as f64, if i % 2 == 0 { 1.0 } else { -1.0 })).collect();
        assert!(
            noisy(&noise)
                && !noisy(&(0..600).map(|i| (i as f64, (-0.01 * i as f64).exp())).collect::<Vec<_>>())
        );
        assert!(running_mean(&noise).iter().all(|p| p.1.abs() < 0.11));
    }
}
