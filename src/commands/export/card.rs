//! The model card: what a model is, for who finds its folder.

use std::fmt::Write;
use std::path::Path;

use crate::commands::trained::Trained;
use crate::data::dataset::Description;
use crate::plan::normalisation_name;
use crate::run::folds::CrossValidation;
use crate::run::record::Record;
use crate::score::ScoredFolder;
use crate::score::statistics::{Interval, bootstrap_mean};
use crate::{Error, Result};

/// Scores that the card shows: heading, key in `summary.json`.
const SCORES: [(&str, &str); 4] =
    [("Dice", "Dice"), ("sensitivity", "Sensitivity"), ("precision", "Precision"), ("HD95, mm", "HD95")];
/// Draws of the bootstrap, and their seed.
const DRAWS: (usize, u64) = (10_000, 1);

/// The text of `README.md` for a model that will lie in `folder`: of one run, or of those of `folds`.
pub(super) fn card(
    runs: &[Trained],
    folds: Option<&CrossValidation>,
    folder: &Path,
    licence: bool,
) -> Result<String> {
    let name = folder.file_name().map_or("model".into(), |name| name.to_string_lossy());
    let Some(first) = runs.first() else {
        return Err(Error::Internal { what: "a model without a network".to_owned() });
    };
    let what = match runs.len() {
        1 => "A network that segments 3-D scans".to_owned(),
        count => format!("{count} networks that segment 3-D scans by the mean of their probabilities"),
    };
    let version = &first.record.manifest.version;
    let mut text =
        format!("# {name}\n\n{what}, trained with segen {version}. For research; no medical device.\n");
    let summary = match folds {
        Some(folds) => folds.folder.join("summary.json"),
        None => first.record.run.path("validation/summary.json"),
    };
    for part in [
        usage(&name, first, runs)?,
        training(runs, folds),
        scores(&summary, folds.is_some())?,
        after(first),
        files(licence),
    ] {
        text.push('\n');
        text.push_str(&part);
    }
    Ok(text)
}

/// How to use it, and on what.
fn usage(name: &str, trained: &Trained, runs: &[Trained]) -> Result<String> {
    let Record { run, plan, labels, file_ending, .. } = &trained.record;
    let (description, _) = Description::read(&run.path("dataset.json"))?;
    let mut text = format!("## Use\n\n```sh\nsegen predict {name} scans/ -o predictions\n```\n\n");
    let files: Vec<String> =
        (0..plan.channels).map(|channel| format!("`CASE_{channel:04}{file_ending}`")).collect();
    line(&mut text, &format!("A scan is {}; its channels are:\n", files.join(", ")));
    line(&mut text, "| channel | name | normalisation |\n|---|---|---|");
    let names = description.channels.iter().map(String::as_str).chain(std::iter::repeat(""));
    for (channel, (normalisation, name)) in plan.normalisation.iter().zip(names).enumerate() {
        line(&mut text, &format!("| {channel} | {} | {} |", cell(name), normalisation_name(normalisation)));
    }
    if runs.iter().any(Trained::needs_masks) {
        line(
            &mut text,
            "\nIt was trained on scans with regions of interest, inside which intensities were normalised: give such a mask \
             for every scan with `--masks`.",
        );
    }
    line(&mut text, "\nLabel maps lie on the grid of the scan's first file. Their values:\n");
    line(&mut text, "| class | values |\n|---|---|");
    for region in &labels.regions {
        let values: Vec<String> = region.values.iter().map(u8::to_string).collect();
        line(&mut text, &format!("| {} | {} |", cell(&region.name), values.join(", ")));
    }
    Ok(text)
}

/// What it was trained on and how.
fn training(runs: &[Trained], folds: Option<&CrossValidation>) -> String {
    let Record { plan, split, config, policy, .. } = &runs[0].record;
    let counts = |count: &dyn Fn(&Trained) -> String| {
        let mut each: Vec<String> = runs.iter().map(count).collect();
        each.dedup();
        each.join(", ")
    };
    let held_out = match folds {
        Some(folds) => {
            let cases: usize = folds.record.held_out.values().map(Vec::len).sum();
            format!("{cases}, each by one of {} networks", runs.len())
        }
        None => split.held_out().len().to_string(),
    };
    let mut text = "## Training\n\n| | |\n|---|---|\n".to_owned();
    let times = |edges: &[String]| edges.join("x");
    let mut rows = vec![
        ("data set", plan.dataset.clone()),
        ("cases trained on", counts(&|run| run.record.split.train.len().to_string())),
        ("cases held out", held_out),
        ("steps", counts(&|run| run.steps.to_string())),
        ("method", config.method.name.as_ref().map_or("as configured".to_owned(), ToString::to_string)),
        ("augmentation", policy.name.clone()),
        (
            "spacing, mm",
            times(
                &plan
                    .spacing
                    .map(|edge| format!("{edge:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()),
            ),
        ),
        ("patch, voxels", times(&plan.patch.map(|edge| edge.to_string()))),
        ("batch", plan.batch.to_string()),
        ("weights", plan.parameters().to_string()),
    ];
    rows.extend(plan.shape.kind().describe());
    for (name, value) in rows {
        line(&mut text, &format!("| {name} | {} |", cell(&value)));
    }
    text
}

/// What it reached on cases that it was not trained on.
fn scores(path: &Path, of_folds: bool) -> Result<String> {
    let summary = match path.is_file() {
        true => Some(ScoredFolder::read(path)?).filter(|summary| !summary.trained_on),
        false => None,
    };
    let Some(summary) = summary else {
        return Ok("## Scores\n\nNone: no case was held out from the training and scored.\n".to_owned());
    };
    let mut text = format!(
        "## Scores\n\nMean over {} held-out cases of the same data set [95 % interval by a bootstrap over cases]. Other \
         scanners, protocols or patients can differ by more.{}\n\n",
        summary.cases.len(),
        if of_folds { " Each case was scored by the one network that it was held out from." } else { "" }
    );
    let headings: Vec<&str> = SCORES.iter().map(|(heading, _)| *heading).collect();
    line(&mut text, &format!("| class | {} |", headings.join(" | ")));
    line(&mut text, &format!("|---|{}", "---:|".repeat(SCORES.len())));
    for (region, name) in summary.regions.iter().enumerate() {
        let cells = SCORES.map(|(_, key)| {
            let values = summary.cases.iter().map(|case| case.values[region].get(key).copied()).collect();
            show(bootstrap_mean(&[values], DRAWS.0, DRAWS.1))
        });
        line(&mut text, &format!("| {} | {} |", cell(name), cells.join(" | ")));
    }
    Ok(text)
}

/// What happens between probabilities and label maps.
fn after(trained: &Trained) -> String {
    let mut text = "## Decision\n\n".to_owned();
    match &trained.operating {
        Some(choice) => line(
            &mut text,
            &format!(
                "`--operating auto` decides with {}, chosen on {} held-out cases; without it the largest probability wins.",
                choice.describe(),
                choice.cases.len()
            ),
        ),
        None => line(&mut text, "The largest probability wins; no other operating point was chosen."),
    }
    for choice in &trained.post.values {
        line(&mut text, &format!("After a prediction, {}: {}.", choice.regions.join(", "), choice.post));
    }
    text
}

fn files(licence: bool) -> String {
    let mut text = "## Files\n\n`sha256sum -c SHA256SUMS` checks all of them; segen refuses a model of which a file that it \
                    reads has another sum. This file may be changed.\n\n"
        .to_owned();
    line(
        &mut text,
        match licence {
            true => "The licence is in `LICENCE`.",
            false => "No licence was given with this model: ask who gave it to you.",
        },
    );
    text
}

fn show(score: Option<Interval>) -> String {
    score.map_or("-".to_owned(), |s| format!("{:.3} [{:.3}, {:.3}]", s.mean, s.low, s.high))
}

/// A text in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Writing to a string cannot fail.
fn line(text: &mut String, line: &str) {
    let _ = writeln!(text, "{line}");
}
