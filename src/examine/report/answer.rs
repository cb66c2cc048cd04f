//! What a reader came for: how good it is, how sure that is, where it fails, what to do next.

use std::path::Path;

use super::page::{Link, Page, number, texts};
use super::subject::{Kind, Part, Shown, Subject, link, mean_dice};
use crate::Result;
use crate::run::events::{Event, LogitsEvent, read_events};
use crate::run::folds::CrossValidation;
use crate::run::record::Record;
use crate::run::{Run, State};
use crate::score::operating::{self, Choice};
use crate::score::statistics::{Interval, bootstrap_mean};

/// Cases that are named as the worst.
const NAMED: usize = 5;
/// Draws of the bootstrap.
const DRAWS: usize = 2000;
/// With fewer cases an interval is wide.
const FEW: usize = 20;
/// By so much more of a class is found on training cases than on others where it is learned by heart.
const BY_HEART: f64 = 0.2;

/// The measures of the answer: heading, start of the key in `summary.json`.
const MEASURES: [(&str, &str); 4] =
    [("DSC", "Dice"), ("SENS", "Sensitivity"), ("PRC", "Precision"), ("NSD", "NSD@")];

/// Writes the answer for every subject, in the order given; `folders` are those of the runs.
pub(super) fn write(page: &mut Page, subjects: &[Subject], folders: &[&Path], shown: &[Shown]) -> Result<()> {
    if subjects.is_empty() {
        return Ok(());
    }
    page.section("Answer");
    for (column, (subject, folder)) in subjects.iter().zip(folders).enumerate() {
        if subjects.len() > 1 {
            page.heading(&subject.name);
        }
        found(page, subject, column, shown);
        let next = next_steps(subject, folder)?;
        if !next.is_empty() {
            page.heading("What to do next");
            page.list(&next);
        }
    }
    Ok(())
}

/// The scores with their intervals, and the worst cases.
pub(super) fn found(page: &mut Page, subject: &Subject, column: usize, shown: &[Shown]) {
    let Some((number, part)) =
        subject.parts.iter().enumerate().find(|(_, part)| !part.scored.cases.is_empty())
    else {
        page.answer("Nothing has been scored yet.");
        return;
    };
    page.answer(&sentence(part));
    if part.kind == Kind::TrainedOn {
        page.warning("These cases were trained on: this is no estimate for new scans.");
    }
    table(page, part);
    let worst = worst(part, column, number, shown);
    if !worst.is_empty() {
        page.heading("The worst cases");
        page.cases(&worst);
    }
}

/// "lesion: Dice 0.62 (95 % interval 0.48 to 0.75) on 12 held-out cases; ...".
fn sentence(part: &Part) -> String {
    let cases = part.scored.cases.len();
    let regions = part.scored.regions.iter().enumerate().map(|(region, name)| {
        let missed = missed(part, region);
        let none = match missed {
            0 => String::new(),
            _ => format!(", nothing of it found in {missed}"),
        };
        match interval(part, region, "Dice") {
            Some(Interval { mean, low, high }) if cases > 1 => {
                format!("{name} Dice {mean:.2} (95 % interval {low:.2} to {high:.2}){none}")
            }
            Some(Interval { mean, .. }) => format!("{name} Dice {mean:.2}{none}"),
            None => format!("no Dice of {name}, which neither references nor predictions have"),
        }
    });
    let regions: Vec<String> = regions.collect();
    let plural = if cases == 1 { "case" } else { "cases" };
    format!("On {cases} {} {plural}: {}.", part.kind.words(), regions.join("; "))
}

fn table(page: &mut Page, part: &Part) {
    let mut heading = texts(["region"]);
    heading.extend(MEASURES.map(|(name, _)| format!("{name} [95 % interval]")));
    heading.push("cases without a hit".to_owned());
    let rows: Vec<Vec<String>> = part
        .scored
        .regions
        .iter()
        .enumerate()
        .map(|(region, name)| {
            let cell = |(_, key): (&str, &str)| match interval(part, region, key) {
                Some(Interval { mean, low, high }) => format!("{mean:.3} [{low:.3}, {high:.3}]"),
                None => number(None),
            };
            let cells = MEASURES.map(cell).into_iter();
            let missed = missed(part, region).to_string();
            std::iter::once(name.clone()).chain(cells).chain([missed]).collect()
        })
        .collect();
    page.table(&heading, &rows, 1);
    page.quiet(
        "Means over cases with 95 % bootstrap intervals over cases: how much the mean would vary with other cases of the \
         same kind. They say nothing of other scanners or of another training.",
    );
}

/// The mean of a measure over the cases, with its interval.
pub(super) fn interval(part: &Part, region: usize, key: &str) -> Option<Interval> {
    let values = part.scored.cases.iter().map(|case| super::run::value(&case.values[region], key)).collect();
    bootstrap_mean(&[values], DRAWS, 1)
}

/// Cases with the region in which not a voxel of it was found.
fn missed(part: &Part, region: usize) -> usize {
    let missed = |values: &std::collections::BTreeMap<String, f64>| values.get("Sensitivity") == Some(&0.0);
    part.scored.cases.iter().filter(|case| missed(&case.values[region])).count()
}

fn worst(part: &Part, column: usize, number: usize, shown: &[Shown]) -> Vec<(String, String, Option<Link>)> {
    let ranked = part.ranked().into_iter().filter(|case| mean_dice(&part.scored.cases[*case]).is_some());
    ranked
        .take(NAMED)
        .map(|case| {
            let scored = &part.scored.cases[case];
            let words = part.scored.regions.iter().zip(&scored.values).map(|(region, values)| {
                let two = |key: &str| values.get(key).map_or("-".to_owned(), |v| format!("{v:.2}"));
                format!(
                    "{region} Dice {}, sensitivity {}, precision {}",
                    two("Dice"),
                    two("Sensitivity"),
                    two("Precision")
                )
            });
            let words: Vec<String> = words.collect();
            (scored.case.clone(), words.join("; "), link(shown, column, number, case))
        })
        .collect()
}

/// What the numbers of a run ask for, each with the command that does it.
fn next_steps(subject: &Subject, folder: &Path) -> Result<Vec<String>> {
    let all = CrossValidation::find(folder)?;
    let run = match &all {
        Some(all) => all.run(all.folds()[0]),
        None => Run::at(folder),
    };
    let Record { manifest, split, .. } = Record::open(&run)?;
    let (dataset, place) = (manifest.dataset.display(), folder.display());
    let mut next = Vec::new();
    if all.is_none() && !manifest.state.is_complete() {
        let how = match &manifest.state {
            State::Running => "is at work, or was ended by force".to_owned(),
            state => state.to_string(),
        };
        next.push(format!("The training {how}: `segen train {dataset} -o {place} --resume` goes on."));
    }
    let Some(main) = subject.main() else { return Ok(next) };
    if split.held_out().is_empty() {
        next.push(format!(
            "No case was held out. `segen train {dataset} -o CV --folds 0-4` trains five networks and scores every case \
             by one that has not seen it."
        ));
    } else if all.is_none() && main.kind == Kind::HeldOut && main.scored.cases.len() < FEW {
        next.push(format!(
            "{} cases are few for an estimate. `segen train {dataset} -o CV --folds 0-4` scores all cases of the data set \
             as held-out ones.",
            main.scored.cases.len()
        ));
    }
    if all.is_none() {
        next.extend(by_heart(subject, main, &run)?);
    }
    let choice = Run::at(folder).path(operating::FILE);
    let choice: Option<Choice> =
        if choice.is_file() { crate::files::read_json(&choice, "restore it")? } else { None };
    if let Some(choice) =
        choice.filter(|c| !c.chosen.bias.is_none() && c.cross_fitted_dice > c.chosen.dice[0])
    {
        next.push(format!(
            "Another operating point gains: mean Dice {:.3} instead of {:.3} on held-out cases that it was not chosen on. \
             `segen predict {place} SCANS -o OUT --operating auto` uses it.",
            choice.cross_fitted_dice, choice.chosen.dice[0]
        ));
    }
    let has_logits = run.config().is_ok_and(|config| config.classical_method().is_none());
    if all.is_none() && has_logits && !run.path("logits/summary.json").is_file() {
        next.push(format!("`segen logits {place}` shows how far voxels of unseen cases have shifted."));
    }
    if main.kind != Kind::TrainedOn {
        next.push(format!("`segen predict {place} SCANS -o OUT` segments new scans."));
    }
    Ok(next)
}

/// Classes that are found on training cases and missed on others.
fn by_heart(subject: &Subject, main: &Part, run: &Run) -> Result<Vec<String>> {
    let advice = "the class is learned by heart. Train with `--method asym-margin` or `--method asym-combination`, or with \
                  more cases.";
    let trained = subject.parts.iter().find(|part| part.kind == Kind::TrainedOn);
    if let (Some(trained), true) = (trained, main.kind != Kind::TrainedOn) {
        let compare = |(region, name): (usize, &String)| {
            let [seen, unseen] = [trained, main].map(|part| part.scored.mean(region, "Sensitivity"));
            let (seen, unseen) = (seen?, unseen?);
            (seen - unseen > BY_HEART).then(|| {
                format!(
                    "{name}: {:.0} % of its voxels are found on training cases, {:.0} % on {} ones: {advice}",
                    100.0 * seen,
                    100.0 * unseen,
                    main.kind.words()
                )
            })
        };
        return Ok(main.scored.regions.iter().enumerate().filter_map(compare).collect());
    }
    let events = run.path("events.jsonl");
    let events = if events.is_file() { read_events(&events)? } else { Vec::new() };
    let last = events.iter().rev().find_map(|event| match event {
        Event::Logits(event) => Some(event),
        _ => None,
    });
    let Some(LogitsEvent { shift, .. }) = last else { return Ok(Vec::new()) };
    let classes = subject.labels.names.iter().zip(shift.seen.iter().zip(&shift.unseen)).skip(1);
    Ok(classes
        .filter_map(|(name, (seen, unseen))| {
            let (seen, unseen) = (seen.crossing?, unseen.crossing?);
            (unseen - seen > BY_HEART).then(|| {
                format!(
                    "{name}: {:.0} % of its voxels in unseen windows are misclassified, {:.0} % in seen ones: {advice}",
                    100.0 * unseen,
                    100.0 * seen
                )
            })
        })
        .collect())
}
