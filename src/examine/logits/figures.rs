//! Scatters of logits and densities of margins.

use std::path::Path;

use super::{Cloud, Collection, Origin, margins};
use crate::Result;
use crate::picture::{self, Chart, Mark, Panel, Series};

/// Points drawn of one cloud.
const POINTS: usize = 2000;

/// Where the logits of a voxel lie in a picture.
type Place = dyn Fn(&[f64]) -> (f64, f64);
/// Decision boundaries as far as the edge of a picture.
type Guides = fn(f64) -> Vec<Vec<(f64, f64)>>;

/// One way to look at logits in two dimensions.
struct View {
    title: String,
    x_label: String,
    y_label: String,
    /// Classes whose voxels are shown.
    classes: Vec<usize>,
    place: Box<Place>,
    guides: Guides,
}

/// Names of the charts of [`draw`].
pub const FIGURES: [&str; 2] = ["scatter", "margins"];

/// Draws the charts of [`FIGURES`].
///
/// # Errors
/// Where there is too much for one picture.
pub fn draw(collection: &Collection) -> Result<[Chart; 2]> {
    let name = |figure: usize| Path::new(FIGURES[figure]);
    Ok([
        picture::chart(name(0), &scatter(collection), origins(collection))?,
        picture::chart(name(1), &densities(collection), 2)?,
    ])
}

/// Number of origins that have voxels: so many panels make a row of [`scatter`].
pub(crate) fn origins(collection: &Collection) -> usize {
    let has = |origin: &Origin| collection.clouds.iter().any(|cloud| cloud.origin == *origin);
    Origin::ALL.iter().filter(|origin| has(origin)).count()
}

/// For two classes z0 against z1; for three the plane that the softmax sees, then every pair; for more the
/// background against each class. One panel for each origin, all panels of a view with the same axes.
pub(crate) fn scatter(collection: &Collection) -> Vec<Panel> {
    let mut panels = Vec::new();
    for view in views(&collection.classes) {
        let points = |cloud: &Cloud| -> Vec<(f64, f64)> {
            cloud.rows().take(POINTS).map(|row| place(&view, row)).collect()
        };
        let shown: Vec<&Cloud> =
            collection.clouds.iter().filter(|cloud| view.classes.contains(&cloud.class)).collect();
        let everything: Vec<(f64, f64)> = shown.iter().flat_map(|cloud| points(cloud)).collect();
        let (x_range, y_range) =
            (range(everything.iter().map(|p| p.0)), range(everything.iter().map(|p| p.1)));
        let length =
            [x_range.0, x_range.1, y_range.0, y_range.1].map(f64::abs).into_iter().fold(1.0, f64::max);
        for origin in Origin::ALL {
            let mut clouds = Vec::new();
            for cloud in shown.iter().filter(|cloud| cloud.origin == origin) {
                clouds.push(picture::Cloud {
                    name: collection.classes[cloud.class].clone(),
                    points: points(cloud),
                    colour: cloud.class,
                    mark: Mark::Dot,
                });
            }
            if clouds.is_empty() {
                continue;
            }
            let stars = [(Origin::Seen, Mark::HollowStar), (origin, Mark::Star)];
            // Among the seen voxels the two would be the same.
            for (from, mark) in stars.into_iter().skip(usize::from(origin == Origin::Seen)) {
                for cloud in shown.iter().filter(|cloud| cloud.origin == from) {
                    let name = match mark {
                        _ if cloud.class > view.classes[0] => "",
                        Mark::HollowStar => "mean of seen voxels",
                        _ => "mean",
                    };
                    clouds.push(picture::Cloud {
                        name: name.to_owned(),
                        points: vec![(view.place)(&cloud.mean())],
                        colour: cloud.class,
                        mark,
                    });
                }
            }
            panels.push(Panel {
                title: format!("{}: {}", origin.name(), view.title),
                x_label: view.x_label.clone(),
                y_label: view.y_label.clone(),
                x_range: Some(x_range),
                y_range: Some(y_range),
                clouds,
                guides: (view.guides)(2.0 * length),
                ..Panel::default()
            });
        }
    }
    panels
}

fn place(view: &View, row: &[f32]) -> (f64, f64) {
    let row: Vec<f64> = row.iter().map(|&z| f64::from(z)).collect();
    (view.place)(&row)
}

fn views(classes: &[String]) -> Vec<View> {
    let pair = |i: usize, j: usize| View {
        title: format!("{} and {}", classes[i], classes[j]),
        x_label: format!("logit of {}", classes[i]),
        y_label: format!("logit of {}", classes[j]),
        classes: vec![i, j],
        place: Box::new(move |z| (z[i], z[j])),
        guides: |length| vec![vec![(-length, -length), (length, length)]],
    };
    match classes.len() {
        2 => vec![pair(0, 1)],
        3 => {
            let plane = View {
                title: "as the softmax sees them".to_owned(),
                x_label: format!("logit of {} minus {}", classes[1], classes[0]),
                y_label: format!("logit of {} minus {}", classes[2], classes[0]),
                classes: vec![0, 1, 2],
                place: Box::new(|z| (z[1] - z[0], z[2] - z[0])),
                // The three rays where two classes tie and the third lies below.
                guides: |length| {
                    let origin = (0.0, 0.0);
                    [(0.0, -length), (-length, 0.0), (length, length)].map(|end| vec![origin, end]).to_vec()
                },
            };
            vec![plane, pair(0, 1), pair(0, 2), pair(1, 2)]
        }
        classes => (1..classes).map(|class| pair(0, class)).collect(),
    }
}

/// For each class, how its margins are distributed in each origin.
pub(crate) fn densities(collection: &Collection) -> Vec<Panel> {
    let mut panels = Vec::new();
    for (class, name) in collection.classes.iter().enumerate() {
        let samples: Vec<(Origin, Vec<f64>)> = Origin::ALL
            .into_iter()
            .filter_map(|origin| Some((origin, margins(collection.cloud(origin, class)?))))
            .collect();
        if samples.is_empty() {
            continue;
        }
        let (low, high) = range(samples.iter().flat_map(|(_, margins)| margins.iter().copied()));
        let series: Vec<Series> = samples
            .iter()
            .map(|(origin, margins)| Series {
                name: origin.name().to_owned(),
                points: density(margins, low, high),
            })
            .collect();
        let top = series.iter().flat_map(|s| &s.points).map(|p| p.1).fold(0.0, f64::max);
        panels.push(Panel {
            title: name.clone(),
            x_label: "margin (below 0: misclassified)".to_owned(),
            y_label: "density".to_owned(),
            x_range: Some((low, high)),
            y_range: Some((0.0, 1.05 * top)),
            guides: vec![vec![(0.0, 0.0), (0.0, 2.0 * top)]],
            series,
            ..Panel::default()
        });
    }
    panels
}

/// Smallest and largest value, with a twentieth of room on both sides, and 0 no nearer to an end than a tenth.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((0.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    let length = (high - low).max(1e-3);
    ((low - 0.05 * length).min(-0.1 * length), (high + 0.05 * length).max(0.1 * length))
}

/// Gaussian kernel density at 240 places, with the width of Silverman's rule.
fn density(values: &[f64], low: f64, high: f64) -> Vec<(f64, f64)> {
    const PLACES: usize = 240;
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    let width = (0.9 * deviation * count.powf(-0.2)).max(0.004 * (high - low));
    let scale = 1.0 / (count * width * std::f64::consts::TAU.sqrt());
    (0..PLACES)
        .map(|i| {
            let x = low + (high - low) * i as f64 / (PLACES - 1) as f64;
            let sum: f64 = values.iter().map(|v| (-0.5 * ((x - v) / width).powi(2)).exp()).sum();
            (x, scale * sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(origin: Origin, class: usize, classes: usize, count: usize) -> Cloud {
        Cloud {
            origin,
            class,
            cases: vec![0; count],
            positions: vec![[0; 3]; count],
            logits: (0..count * classes)
                .map(|i| if i % classes == class { 3.0 } else { (i % 7) as f32 / 3.0 })
                .collect(),
        }
    }

    fn collection(classes: usize) -> Collection {
        let clouds = [Origin::Seen, Origin::Unseen]
            .into_iter()
            .flat_map(|origin| (0..classes).map(move |class| cloud(origin, class, classes, 50)))
            .collect();
        Collection {
            classes: (0..classes).map(|c| format!("class {c}")).collect(),
            cases: vec!["a".into()],
            clouds,
        }
    }

    #[test]
    fn panels_follow_the_number_of_classes() {
        for (classes, views) in [(2, 1), (3, 4), (5, 4)] {
            let collection = collection(classes);
            assert_eq!(scatter(&collection).len(), 2 * views, "two origins");
            assert_eq!(densities(&collection).len(), classes);
        }
    }

    #[test]
    fn panels_of_one_view_share_their_axes_and_show_both_means() {
        let panels = scatter(&collection(2));
        assert_eq!(panels[0].x_range, panels[1].x_range);
        let stars = panels[1].clouds.iter().filter(|c| c.mark == Mark::HollowStar).count();
        assert_eq!(stars, 2, "the seen means stand in the unseen panel");
    }

    #[test]
    fn a_density_has_area_one() {
        let values: Vec<f64> = (0..500).map(|i| ((i * 37) % 100) as f64 / 25.0).collect();
        let points = density(&values, -3.0, 7.0);
        let area: f64 = points.windows(2).map(|p| 0.5 * (p[0].1 + p[1].1) * (p[1].0 - p[0].0)).sum();
        assert!((area - 1.0).abs() < 0.01, "{area}");
    }
}
