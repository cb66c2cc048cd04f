//! Operating points: precision-recall and free-response curves, and what the chosen bias gives.

use super::Figures;
use super::page::{Page, number, texts};
use crate::Result;
use crate::picture::{Cloud, Mark, Panel, Series};
use crate::run::Run;
use crate::score::operating::{self, Choice, ClassOdds, Counts, Decision, Operating, THRESHOLDS, ZERO};

/// One network's counts on cases of one kind, under the name of its line.
pub(super) type Curve = (String, Operating);

/// The counts of a part of a run, where it has them: those of earlier versions have none.
pub(super) fn read(run: &Run, part: &str) -> Result<Option<Operating>> {
    let path = run.path(part).join(operating::FILE);
    let found = if path.is_file() { Some(Operating::read(&path)?) } else { None };
    Ok(found.filter(|odds| !odds.cases.is_empty()))
}

/// Curves of one run on its test and validation cases, and scores at argmax and at the bias.
pub(super) fn write(page: &mut Page, run: &Run, figures: &mut Figures<'_>) -> Result<()> {
    let mut curves: Vec<Curve> = Vec::new();
    for part in ["test", "validation"] {
        curves.extend(read(run, part)?.map(|odds| (part.to_owned(), odds)));
    }
    if curves.is_empty() {
        return Ok(());
    }
    page.heading("Operating points");
    let choice: Option<Choice> = match run.path(operating::FILE).is_file() {
        true => run.read_json(operating::FILE)?,
        false => None,
    };
    match &choice {
        Some(choice) if !choice.chosen.bias.is_none() => page.text(&format!(
            "Chosen on {} held-out cases: {}, mean Dice {:.3} instead of {:.3} there, {:.3} where each case gets what the \
             others choose. `segen predict --operating auto` decides so.",
            choice.cases.len(),
            choice.describe(),
            choice.chosen.dice[1],
            choice.chosen.dice[0],
            choice.cross_fitted_dice
        )),
        Some(choice) => page.text(&format!(
            "On the {} held-out cases no bias gains over argmax: mean Dice {:.3}.",
            choice.cases.len(),
            choice.chosen.dice[0]
        )),
        None => page.quiet("No bias was chosen: that takes two held-out cases or more."),
    }
    table(page, &curves);
    let caption =
        "Precision against sensitivity at every threshold, voxels of all cases joined; stars: argmax.";
    figures.chart(page, "precision-recall", caption, &precision_recall(&curves), 2)?;
    let caption =
        "Share of the lesions that are hit against components per case that hit none, at 8 thresholds.";
    figures.chart(page, "free-response", caption, &free_response(&curves), 2)?;
    for (part, odds) in &curves {
        for (class, ends) in &odds.open_ends {
            page.quiet(&format!(
                "{class}, {part}: of its voxels {:.1} % lie below log-odds of -15.875 and {:.1} % above 15.875, of the \
                 others {:.1} % and {:.1} %.",
                100.0 * ends.reference[0],
                100.0 * ends.reference[1],
                100.0 * ends.others[0],
                100.0 * ends.others[1]
            ));
        }
    }
    Ok(())
}

/// Scores per class and part: means over cases at argmax and at the bias, area under the curve of all of them.
fn table(page: &mut Page, curves: &[Curve]) {
    let heading = texts([
        "class",
        "cases",
        "AUPRC",
        "DSC argmax",
        "SENS argmax",
        "PRC argmax",
        "DSC at b",
        "SENS at b",
        "PRC at b",
    ]);
    let mut rows = Vec::new();
    for (part, odds) in curves {
        for class in odds.classes() {
            let scores = [Counts::dice, Counts::sensitivity, Counts::precision];
            let mut row = vec![class.class.clone(), format!("{} {part}", odds.cases.len())];
            row.push(number(class.average_precision()));
            for decision in [Decision::Argmax, Decision::Chosen] {
                row.extend(scores.map(|score| number(odds.mean(&class.class, decision, score))));
            }
            rows.push(row);
        }
    }
    page.table(&heading, &rows, 2);
}

/// A panel for every class, a line for every curve.
pub(super) fn precision_recall(curves: &[Curve]) -> Vec<Panel> {
    panels(curves, |panel, colour, name, class, _| {
        let Some(area) = class.average_precision() else { return };
        let point = |counts: Counts| Some((counts.sensitivity()?, counts.precision()?));
        panel.title = format!("{}: precision and sensitivity", class.class);
        (panel.x_label, panel.y_label) = ("sensitivity".to_owned(), "precision".to_owned());
        panel.x_range = Some((0.0, 1.0));
        panel.series.push(Series {
            name: format!("{name} (area {area:.3})"),
            points: class.curve().into_iter().filter_map(point).collect(),
        });
        panel.clouds.push(Cloud {
            points: point(class.at(ZERO)).into_iter().collect(),
            colour,
            mark: Mark::Star,
            ..Cloud::default()
        });
    })
}

/// A panel for every class whose lesions were counted, a line for every curve.
pub(super) fn free_response(curves: &[Curve]) -> Vec<Panel> {
    panels(curves, |panel, _, name, class, cases| {
        let Some(lesions) = class.lesions.filter(|lesions| lesions.reference > 0) else { return };
        panel.title = format!("{}: lesions found", class.class);
        (panel.x_label, panel.y_label) =
            ("false components per case".to_owned(), "share of lesions hit".to_owned());
        let mut points: Vec<(f64, f64)> = (0..THRESHOLDS.len())
            .map(|at| {
                let found = lesions.found[at] as f64 / lesions.reference as f64;
                (lesions.invented[at] as f64 / cases as f64, found)
            })
            .collect();
        points.reverse();
        panel.series.push(Series { name: name.to_owned(), points });
    })
}

/// Lets `draw` add a line to the panel of every class: panel, number and name of the line, counts, cases.
fn panels(curves: &[Curve], draw: impl Fn(&mut Panel, usize, &str, &ClassOdds, usize)) -> Vec<Panel> {
    let mut panels: Vec<(String, Panel)> = Vec::new();
    for (name, odds) in curves {
        for class in odds.classes() {
            let place = match panels.iter().position(|(known, _)| *known == class.class) {
                Some(place) => place,
                None => {
                    let panel = Panel { y_range: Some((0.0, 1.0)), ..Panel::default() };
                    panels.push((class.class.clone(), panel));
                    panels.len() - 1
                }
            };
            let panel = &mut panels[place].1;
            let colour = panel.series.len();
            draw(panel, colour, name, &class, odds.cases.len());
        }
    }
    panels.into_iter().map(|(_, panel)| panel).filter(|panel| !panel.series.is_empty()).collect()
}
