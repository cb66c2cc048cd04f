//! One run: what it was, its curves, its scores, its logits.

use super::page::{Link, Page, number, texts};
use super::subject::{Kind, Shown, Subject, link, mean_dice};
use super::{Figures, control, fitted, operating, overlays};
use crate::config::Config;
use crate::examine::logits;
use crate::examine::policy::{self, LearnedPolicy};
use crate::learn::exported;
use crate::picture::{Panel, Series};
use crate::progress::Progress;
use crate::run::events::{Event, LogitShift, LogitsEvent, Rate, read_events};
use crate::run::record::Record;
use crate::run::{Run, progress_panels};
use crate::score::ScoredFolder;
use crate::{Error, Result, files};

/// Columns of the tables of scores: heading, start of the key in `summary.json`.
const COLUMNS: [(&str, &str); 7] = [
    ("DSC", "Dice"),
    ("SENS", "Sensitivity"),
    ("PRC", "Precision"),
    ("HD95 mm", "HD95"),
    ("NSD", "NSD@"),
    ("lesion SENS", "LesionSensitivity"),
    ("lesion PRC", "LesionPrecision"),
];

/// The column of a run in the viewer, and what is shown there.
pub(super) type Links<'a> = Option<(usize, &'a [Shown])>;

/// Refuses what is no run with a record of its training.
pub(super) fn refuse_others(run: &Run) -> Result<()> {
    if !run.exists() {
        return Err(Error::invalid(
            &run.folder,
            "folder",
            "there is no config.toml of a run and no results.jsonl of a sweep in it",
            "name the folder that was given to `segen train -o` or `segen sweep -o`",
        ));
    }
    exported::refuse(run, "record of its training")
}

pub(super) fn write(
    page: &mut Page,
    run: &Run,
    links: Links<'_>,
    figures: &mut Figures<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    refuse_others(run)?;
    let record = Record::open(run)?;
    page.section(&format!("Run {}", run.folder.display()));
    what(page, &record)?;
    let classes = &record.labels.names;
    // With `fold = all` the cases that are validated are those that are trained on.
    let validated = match record.split.held_out().is_empty() {
        false => "validation cases",
        true => "cases that were trained on",
    };
    let events = run.path("events.jsonl");
    let events = if events.is_file() { read_events(&events)? } else { Vec::new() };
    if !events.is_empty() {
        page.heading("Training");
        let caption = format!("Loss of every step and its mean; scores of {validated} after every epoch.");
        figures.chart(page, "training", &caption, &progress_panels(&events, classes), 2)?;
        show_policy(page, run, figures)?;
        let caption = "Share of voxels on the wrong side of the decision boundary, in a few fixed windows of \
                       training cases (seen) and validation cases (unseen). Curves that part are overfitting.";
        figures.chart(page, "shift", caption, &shift_panels(&events, classes), 2)?;
        control::write(page, &events, classes, figures)?;
    }
    let subject = Subject::of_run(run)?;
    for (number, part) in subject.parts.iter().enumerate() {
        let title = match part.kind {
            Kind::Test => "Test cases",
            Kind::HeldOut => "Validation cases",
            Kind::Given => "Cases",
            Kind::TrainedOn => "Training cases, no estimate for new ones",
        };
        scores(page, title, &part.scored);
        // Of training cases that are no substitute for held-out ones the means will do.
        let beside = part.kind == Kind::TrainedOn && number > 0;
        if !beside && !part.scored.cases.is_empty() {
            overlays::write(page, part, figures)?;
            per_case(page, &part.scored, |case| link(links?.1, links?.0, number, case));
        }
    }
    operating::write(page, run, figures)?;
    if run.path("logits/summary.json").is_file() {
        show_logits(page, run, figures)?;
    } else if record.config.classical_method().is_none() {
        progress
            .note(&format!("{}: no logits to show; `segen logits {0}` collects them", run.folder.display()));
    }
    Ok(())
}

/// The run's configuration as a table.
pub(super) fn settings(run: &Run) -> Result<toml::Table> {
    let path = run.path("config.toml");
    files::read_toml(&path, "restore the file, or train the run again")
}

/// The name that a section of the configuration goes by: its `name`, else its `kind`.
pub(super) fn name_of(settings: &toml::Table, section: &str) -> Option<String> {
    let section = settings.get(section)?.as_table()?;
    let value = section.get("name").or_else(|| section.get("kind"))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn what(page: &mut Page, record: &Record) -> Result<()> {
    let Record { run, plan, split, manifest, .. } = record;
    let held_out = match split.held_out().len() {
        0 => "none".to_owned(),
        count => count.to_string(),
    };
    let classical = record.config.classical_method();
    let work = match classical {
        Some(method) => format!("`{method}` was fitted in {:.0} s", manifest.train_seconds),
        None => format!(
            "{} of {} steps in {:.0} s of training",
            manifest.steps, manifest.planned_steps, manifest.train_seconds
        ),
    };
    page.text(&format!(
        "Data set {}; trained on {} cases, {held_out} held out. {work} on {} ({} threads, {} operators); {:.1} GiB of memory \
         at most; {}.",
        plan.dataset,
        split.train.len(),
        if manifest.processor.is_empty() { "an unnamed processor" } else { &manifest.processor },
        manifest.threads,
        manifest.kernels_path,
        manifest.peak_memory_bytes as f64 / (1u64 << 30) as f64,
        manifest.state
    ));
    if classical.is_some() {
        fitted::write(page, record)?;
    } else {
        page.text(&format!(
            "Patches of {} x {} x {} voxels of {:.2} x {:.2} x {:.2} mm, {} in a batch.",
            plan.patch[0],
            plan.patch[1],
            plan.patch[2],
            plan.spacing[0],
            plan.spacing[1],
            plan.spacing[2],
            plan.batch
        ));
    }
    let own = settings(run)?;
    let standard: toml::Table = Config::default().to_toml().parse().unwrap_or_default();
    let mut rows = Vec::new();
    differences("", &own, &standard, &mut rows);
    if rows.is_empty() {
        page.quiet("Every setting is the default.");
    } else {
        page.heading("Settings that differ from the defaults");
        page.table(&texts(["setting", "value", "default"]), &rows, 3);
    }
    page.folded("The whole configuration", &toml::to_string_pretty(&own).unwrap_or_default());
    Ok(())
}

fn differences(path: &str, own: &toml::Table, standard: &toml::Table, rows: &mut Vec<Vec<String>>) {
    for (key, value) in own {
        let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (value, standard.get(key)) {
            (toml::Value::Table(own), Some(toml::Value::Table(standard))) => {
                differences(&name, own, standard, rows);
            }
            (toml::Value::Table(own), None) => differences(&name, own, &toml::Table::new(), rows),
            (value, other) if other != Some(value) => {
                rows.push(vec![name, value.to_string(), other.map_or("-".to_owned(), ToString::to_string)]);
            }
            _ => {}
        }
    }
}

/// What a policy has learned, where there is one that did.
fn show_policy(page: &mut Page, run: &Run, figures: &mut Figures<'_>) -> Result<()> {
    let learned = LearnedPolicy::of(run).ok().filter(|shown| shown.updates > 0 && shown.history.len() > 1);
    let Some(shown) = learned else { return Ok(()) };
    page.heading("Augmentation policy");
    page.text(&shown.sentence());
    let shown = [shown];
    let caption = "Probabilities over training of the choices that moved most.";
    figures.chart(page, "policy", caption, &policy::panels(&shown), 2)?;
    page.folded("Most risen and most fallen choices", &shown[0].table());
    Ok(())
}

fn shift_panels(events: &[Event], classes: &[String]) -> Vec<Panel> {
    let measured: Vec<&LogitsEvent> =
        events.iter().filter_map(|event| if let Event::Logits(e) = event { Some(e) } else { None }).collect();
    if measured.is_empty() {
        return Vec::new();
    }
    let panel = |(class, name): (usize, &String)| {
        let line = |origin: &str, rates: fn(&LogitShift) -> &[Rate]| Series {
            name: origin.to_owned(),
            points: measured
                .iter()
                .filter_map(|e| Some((e.step as f64, rates(&e.shift).get(class)?.crossing?)))
                .collect(),
        };
        Panel {
            title: format!("{name}: misclassified voxels"),
            x_label: "step".to_owned(),
            y_label: "crossing rate".to_owned(),
            series: vec![line("seen", |shift| &shift.seen), line("unseen", |shift| &shift.unseen)],
            y_range: Some((0.0, 1.0)),
            ..Panel::default()
        }
    };
    classes.iter().enumerate().map(panel).collect()
}

/// A value by its key, or by what its key begins with.
pub(super) fn value(values: &std::collections::BTreeMap<String, f64>, key: &str) -> Option<f64> {
    // The tolerance of the surface Dice is part of its key.
    values.iter().find(|(k, _)| *k == key || (key.ends_with('@') && k.starts_with(key))).map(|(_, v)| *v)
}

pub(super) fn scores(page: &mut Page, title: &str, folder: &ScoredFolder) {
    let cases = folder.cases.len();
    page.heading(&format!("{title}: {cases} {}", if cases == 1 { "case" } else { "cases" }));
    let mut heading = texts(["region"]);
    heading.extend(COLUMNS.map(|(heading, _)| heading.to_owned()));
    let rows: Vec<Vec<String>> = folder
        .regions
        .iter()
        .enumerate()
        .map(|(region, name)| {
            let mean = |(_, key): (&str, &str)| {
                let values: Vec<f64> =
                    folder.cases.iter().filter_map(|case| value(&case.values[region], key)).collect();
                number((!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64))
            };
            std::iter::once(name.clone()).chain(COLUMNS.map(mean)).collect()
        })
        .collect();
    page.table(&heading, &rows, 1);
}

pub(super) fn per_case(page: &mut Page, folder: &ScoredFolder, link: impl Fn(usize) -> Option<Link>) {
    let mut heading = texts(["case", "region"]);
    heading.extend(COLUMNS.map(|(heading, _)| heading.to_owned()));
    heading.extend(texts(["lesions", "predicted"]));
    let mut ranked: Vec<usize> = (0..folder.cases.len()).collect();
    let rank = |case: usize| mean_dice(&folder.cases[case]).unwrap_or(f64::INFINITY);
    ranked.sort_by(|a, b| rank(*a).total_cmp(&rank(*b)));
    let (mut rows, mut links) = (Vec::new(), Vec::new());
    for place in ranked {
        let case = &folder.cases[place];
        for (region, values) in case.values.iter().enumerate() {
            let mut row = vec![case.case.clone(), folder.regions[region].clone()];
            row.extend(COLUMNS.map(|(_, key)| number(value(values, key))));
            for key in ["n_lesions_ref", "n_lesions_pred"] {
                row.push(values.get(key).map_or("-".to_owned(), |count| format!("{count:.0}")));
            }
            rows.push(row);
            links.push(link(place));
        }
    }
    page.heading("Every case, the worst first");
    page.table_of_cases(&heading, &rows, 2, &links);
    page.quiet(
        "A dash: not defined, as precision is where nothing was predicted. Lesions: connected components of the reference \
         and of the prediction.",
    );
}

fn show_logits(page: &mut Page, run: &Run, figures: &mut Figures<'_>) -> Result<()> {
    let (collected, collection) = logits::read(run)?;
    page.heading("Logits of seen and unseen voxels");
    let worst = collected.shifts.classes.iter().filter(|s| s.class != collected.classes[0]);
    for shift in worst.filter(|s| s.crossing - s.crossing_seen > 0.2) {
        page.warning(&format!(
            "{}: {:.0} % of its voxels in {} cases are misclassified, but only {:.0} % in the cases trained on.",
            shift.class,
            100.0 * shift.crossing,
            shift.origin.name(),
            100.0 * shift.crossing_seen
        ));
    }
    let caption = "Each dot is a voxel; dashed: the decision boundary. Filled stars are the means of the panel's \
                   voxels, hollow stars those of the seen ones.";
    figures.chart(
        page,
        "logits-scatter",
        caption,
        &logits::scatter(&collection),
        logits::origins(&collection),
    )?;
    let caption = "Margin: logit of the true class minus the highest other one. Left of the dashed line a voxel is \
                   misclassified.";
    figures.chart(page, "logits-margins", caption, &logits::densities(&collection), 2)?;
    let heading = texts([
        "class",
        "compared with seen",
        "margin seen",
        "margin",
        "shift S1",
        "in std S2",
        "crossing seen",
        "crossing S3",
        "Wasserstein S5",
        "relative to background S6",
    ]);
    let two = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
    let rows: Vec<Vec<String>> = collected
        .shifts
        .classes
        .iter()
        .map(|s| {
            let mut row = vec![s.class.clone(), s.origin.name().to_owned()];
            row.extend([
                two(Some(s.margin_seen)),
                two(Some(s.margin)),
                two(Some(s.shift)),
                two(s.standardised_shift),
                number(Some(s.crossing_seen)),
                number(Some(s.crossing)),
                two(Some(s.wasserstein)),
                two(s.ratio_to_background),
            ]);
            row
        })
        .collect();
    page.table(&heading, &rows, 2);
    Ok(())
}
