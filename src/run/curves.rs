//! `progress.png`: loss and scores over the steps, from `events.jsonl`.

use super::Run;
use super::events::{EpochEvent, Event, StepEvent, ValidationScores, read_events};
use crate::Result;
use crate::picture::{self, Panel, Series};

/// Draws `progress.png` from `events.jsonl`. `classes` are the names of the classes, background first.
///
/// # Errors
/// Where the events cannot be read or the picture cannot be written.
pub fn draw_progress(run: &Run, classes: &[String]) -> Result<()> {
    let events = read_events(&run.path("events.jsonl"))?;
    picture::curves(&run.path("progress.png"), &progress_panels(&events, classes))
}

/// The charts of `progress.png`.
pub(crate) fn progress_panels(events: &[Event], classes: &[String]) -> Vec<Panel> {
    let steps: Vec<&StepEvent> =
        events.iter().filter_map(|e| if let Event::Step(step) = e { Some(step) } else { None }).collect();
    let epochs: Vec<&EpochEvent> =
        events.iter().filter_map(|e| if let Event::Epoch(epoch) = e { Some(epoch) } else { None }).collect();
    let panel = |title: &str, y_label: &str, series: Vec<Series>| Panel {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        y_label: y_label.to_owned(),
        series,
        ..Panel::default()
    };
    let every_step = steps.iter().map(|s| (s.step as f64, s.loss)).collect();
    let of_epochs = epochs.iter().map(|e| (e.step as f64, e.train_loss)).collect();
    let losses = vec![
        Series { name: "every step".to_owned(), points: every_step },
        Series { name: "mean of an epoch".to_owned(), points: of_epochs },
    ];
    let mut panels = vec![panel("Loss", "loss", losses)];
    /// The scores of a kind.
    type Scores = fn(&ValidationScores) -> &[Option<f64>];
    let kinds: [(&str, &str, Scores); 3] = [
        ("Validation Dice", "dice", |scores| &scores.dice),
        ("Sensitivity", "sensitivity", |scores| &scores.sensitivity),
        ("Precision", "precision", |scores| &scores.precision),
    ];
    for (title, label, scores) in kinds {
        let line = |(class, name): (usize, &String)| {
            let point =
                |e: &&EpochEvent| Some((e.step as f64, scores(&e.validation).get(class).copied().flatten()?));
            Series { name: name.clone(), points: epochs.iter().filter_map(point).collect() }
        };
        let series = classes.iter().skip(1).enumerate().map(line).collect();
        panels.push(Panel { y_range: Some((0.0, 1.0)), ..panel(title, label, series) });
    }
    panels
}
