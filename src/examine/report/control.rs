//! The gap that methods follow, and what they did about it.

use super::Figures;
use super::page::Page;
use crate::Result;
use crate::learn::control::FIXED;
use crate::picture::{Panel, Series};
use crate::run::events::{ControlEvent, Event};

/// Writes the charts of a run whose methods follow a gap; nothing of others.
pub(super) fn write(
    page: &mut Page,
    events: &[Event],
    classes: &[String],
    figures: &mut Figures<'_>,
) -> Result<()> {
    let epochs: Vec<&ControlEvent> = events
        .iter()
        .filter_map(|event| if let Event::Control(e) = event { Some(e) } else { None })
        .collect();
    if epochs.is_empty() {
        return Ok(());
    }
    page.heading("Methods that follow the gap");
    let clamped = epochs.iter().filter(|event| event.clamped).count() as f64 / epochs.len() as f64;
    let text = format!("Greatest strength after {:.0} % of the epochs.", 100.0 * clamped);
    match clamped > FIXED {
        true => page.warning(&format!("{text} The methods acted as ones of a fixed strength do.")),
        false => page.text(&text),
    }
    let caption = "By how much more often voxels of set-aside cases are misclassified than those of training cases, beyond \
                   the threshold and what the background is; and how strongly the methods act in the epoch after.";
    figures.chart(page, "control", caption, &panels(&epochs, classes), 2)
}

fn panels(epochs: &[&ControlEvent], classes: &[String]) -> Vec<Panel> {
    let line = |name: &str, value: &dyn Fn(&ControlEvent) -> Option<f64>| Series {
        name: name.to_owned(),
        points: epochs.iter().enumerate().filter_map(|(i, e)| Some(((i + 1) as f64, value(e)?))).collect(),
    };
    let panel = |title: String, y_label: &str, series: Vec<Series>, y_range| Panel {
        title,
        x_label: "epoch".to_owned(),
        y_label: y_label.to_owned(),
        series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
        y_range,
        ..Panel::default()
    };
    let mut panels: Vec<Panel> = classes
        .iter()
        .enumerate()
        .skip(1)
        .map(|(class, name)| {
            let measured = line("of the epoch", &|e| e.gap.get(class).copied().flatten());
            let smoothed = line("smoothed", &|e| e.smoothed.get(class).copied());
            panel(format!("{name}: gap"), "crossing rate", vec![measured, smoothed], Some((0.0, 1.0)))
        })
        .collect();
    let acts = |value: &dyn Fn(&ControlEvent) -> f64| epochs.iter().any(|e| value(e) > 0.0);
    if acts(&|e| e.strength.margin.iter().copied().fold(0.0, f64::max)) {
        let margin = |(class, name): (usize, &String)| line(name, &|e| e.strength.margin.get(class).copied());
        let lines = classes.iter().enumerate().skip(1).map(margin).collect();
        panels.push(panel("Margin".to_owned(), "margin", lines, None));
    }
    if acts(&|e| e.strength.gamma) {
        let lines = vec![line("common classes", &|e| Some(e.strength.gamma))];
        panels.push(panel("Focal exponent".to_owned(), "gamma", lines, None));
    }
    if acts(&|e| e.strength.passes) {
        let lines = vec![line("of a step", &|e| Some(e.strength.passes))];
        panels.push(panel("Further passes".to_owned(), "probability", lines, Some((0.0, 1.0))));
    }
    panels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::events::Strength;

    #[test]
    fn what_acts_is_drawn_and_nothing_else() {
        let event = |margin: f64| ControlEvent {
            gap: vec![None, Some(0.2), None],
            smoothed: vec![0.0, 0.1, 0.0],
            strength: Strength { margin: vec![0.0, margin, 0.0], ..Strength::default() },
            ..ControlEvent::default()
        };
        let classes = ["background", "cyst", "tumour"].map(str::to_owned);
        let (still, acting) = (event(0.0), event(0.4));
        assert_eq!(panels(&[&still], &classes).len(), 2);
        let drawn = panels(&[&still, &acting], &classes);
        assert_eq!(drawn.len(), 3);
        assert_eq!(drawn[0].series[0].points, [(1.0, 0.2), (2.0, 0.2)]);
        assert_eq!(drawn[1].series.len(), 1, "a class that is not measured has no gap of an epoch");
        assert_eq!(drawn[2].series[0].points, [(1.0, 0.0), (2.0, 0.4)]);
    }
}
