//! The table as text, Markdown, CSV, JSON and figure.

use std::fmt::Write;
use std::path::Path;

use super::{Comparison, Measure, Pairing, Table, TableCell, points};
use crate::files::{Outputs, bytes_of, csv_line};
use crate::picture::{self, Panel, Scale, Series};
use crate::score::statistics::Interval;
use crate::{Error, Result};

/// What [`write`] writes.
pub(super) const FILES: [&str; 6] =
    ["table.txt", "table.md", "table.csv", "table.json", "fractions.svg", "fractions.png"];

/// Writes the table as text, Markdown, CSV and JSON, and the figure as SVG and PNG, into the folder of a sweep.
///
/// # Errors
/// Where a file cannot be written.
pub fn write(table: &Table, outputs: &Outputs) -> Result<()> {
    let json = serde_json::to_string_pretty(table)
        .map_err(|e| Error::Internal { what: format!("writing a table as JSON: {e}") })?;
    let chart = picture::chart(Path::new("fractions"), &figure(table), 2)?;
    let contents = [text(table), markdown(table), csv(table), json + "\n", chart.svg].map(String::into_bytes);
    for (name, content) in FILES.iter().zip(contents.into_iter().chain([chart.png])) {
        outputs.write(name, None, bytes_of(&content))?;
    }
    Ok(())
}

/// Lines of one chart that can be told apart by colour.
const COLOURS: usize = 7;

/// Sensitivity and precision against the training fraction, a line for each row. More rows than colours go into two
/// charts: those without a twin, and twins, of which the asymmetric ones are dashed in their twin's colour.
pub fn figure(table: &Table) -> Vec<Panel> {
    let twins: Vec<(&str, &str)> = pairs(table);
    let mut groups: Vec<(&str, Vec<Option<&str>>)> = Vec::new();
    if table.rows.len() <= COLOURS || twins.is_empty() {
        groups.push(("", table.rows.iter().map(|row| Some(row.as_str())).collect()));
    } else {
        let paired = |row: &&String| twins.iter().any(|(a, s)| row == a || row == s);
        let others = table.rows.iter().filter(|row| !paired(row)).map(|row| Some(row.as_str()));
        groups.push((", without twin", others.collect()));
        // The colours begin anew, dashed, after the last one.
        for pairs in twins.chunks(COLOURS) {
            let symmetric = pairs.iter().map(|(_, symmetric)| Some(*symmetric));
            let gap = std::iter::repeat_n(None, COLOURS - pairs.len());
            let rows = symmetric.chain(gap).chain(pairs.iter().map(|(asymmetric, _)| Some(*asymmetric)));
            groups.push((", twins", rows.collect()));
        }
    }
    let mut panels = Vec::new();
    for region in &table.regions {
        for (measure, word) in [(Measure::Sensitivity, "sensitivity"), (Measure::Precision, "precision")] {
            let y_range = range(table, region, measure);
            for (group, rows) in &groups {
                let series = rows.iter().map(|row| line_of(table, row.unwrap_or(""), region, measure));
                panels.push(Panel {
                    title: format!("{region}: {word}{group}"),
                    x_label: "share of the training cases, %".to_owned(),
                    y_label: word.to_owned(),
                    series: series.collect(),
                    x_scale: Scale::Logarithmic,
                    y_range,
                    ..Panel::default()
                });
            }
        }
    }
    panels
}

/// Rows of the two forms of one method: (asymmetric, symmetric).
fn pairs(table: &Table) -> Vec<(&str, &str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for comparison in table.comparisons.iter().filter(|c| c.pairing == Pairing::Forms) {
        let pair = (comparison.row.as_str(), comparison.twin.as_str());
        if !found.contains(&pair) {
            found.push(pair);
        }
    }
    found
}

fn line_of(table: &Table, row: &str, region: &str, measure: Measure) -> Series {
    let point = |&fraction: &f64| {
        let score = table.cell(row, fraction, region, measure)?.score?;
        Some((100.0 * fraction, score.mean))
    };
    Series { name: row.to_owned(), points: table.fractions.iter().filter_map(point).collect() }
}

/// Of all rows, with a tenth of room, so that charts of one measure can be compared.
fn range(table: &Table, region: &str, measure: Measure) -> Option<(f64, f64)> {
    let of_measure = table.cells.iter().filter(|c| c.region == region && c.measure == measure);
    let values: Vec<f64> = of_measure.filter_map(|cell| Some(cell.score?.mean)).collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let room = 0.1 * (high - low).max(0.02);
    (low <= high).then_some(((low - room).max(0.0), (high + room).min(1.0)))
}

/// One line for every row, fraction, region and measure, those of operating points after the others: these have no
/// seeds and cases but networks, and their region is a class of the networks.
pub fn csv(table: &Table) -> String {
    const HEADING: [&str; 13] = [
        "row",
        "fraction",
        "region",
        "measure",
        "mean",
        "low",
        "high",
        "seeds",
        "cases",
        "undefined",
        "generalisation_gap",
        "held_out_mean",
        "networks",
    ];
    let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.6}"));
    let scored = |score: Option<Interval>| {
        [score.map(|s| s.mean), score.map(|s| s.low), score.map(|s| s.high)].map(number)
    };
    let named = |row: &str, fraction: f64, region: &str, measure: &str| {
        [row.to_owned(), fraction.to_string(), region.to_owned(), measure.to_owned()]
    };
    let mut out = csv_line(HEADING.map(str::to_owned));
    for c in &table.cells {
        let names = named(&c.row, c.fraction, &c.region, c.measure.heading());
        let counts = [c.seeds, c.cases, c.undefined].map(|count| count.to_string());
        let rest = [number(c.gap), number(c.held_out), String::new()];
        out.push_str(&csv_line(names.into_iter().chain(scored(c.score)).chain(counts).chain(rest)));
    }
    for c in &table.points.cells {
        let names = named(&c.row, c.fraction, &c.class, c.measure.heading());
        let empty = std::iter::repeat_n(String::new(), 5);
        let fields = names.into_iter().chain(scored(Some(c.score))).chain(empty);
        out.push_str(&csv_line(fields.chain([c.networks.to_string()])));
    }
    out
}

/// The table for a terminal: one block for each region.
pub fn text(table: &Table) -> String {
    let mut out = String::new();
    for block in blocks(table) {
        line(&mut out, format_args!("{}", block.title));
        let columns = block.heading.len();
        let width = |column: usize| {
            let cells = block.rows.iter().map(|row| row[column].chars().count());
            cells.chain([block.heading[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in std::iter::once(&block.heading).chain(&block.rows) {
            let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
                if i < block.names { format!("{cell:width$}") } else { format!("{cell:>width$}") }
            });
            line(&mut out, format_args!("{}", cells.collect::<Vec<_>>().join("  ").trim_end()));
        }
        out.push('\n');
    }
    out.push_str(&notes(table).concat());
    out
}

/// The same blocks as Markdown.
pub fn markdown(table: &Table) -> String {
    let mut out = String::new();
    for block in blocks(table) {
        line(&mut out, format_args!("**{}**\n", block.title));
        let row = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |", cells.join(" | "))
        };
        line(&mut out, format_args!("{}", row(&block.heading)));
        let rule: Vec<String> = (0..block.heading.len())
            .map(|i| if i < block.names { "---".to_owned() } else { "---:".to_owned() })
            .collect();
        line(&mut out, format_args!("{}", row(&rule)));
        block.rows.iter().for_each(|cells| line(&mut out, format_args!("{}", row(cells))));
        out.push('\n');
    }
    out.push_str(&notes(table).concat());
    out
}

/// What the tables mean.
pub(crate) fn notes(table: &Table) -> Vec<&'static str> {
    let points = (!table.points.classes.is_empty()).then_some(points::NOTE);
    std::iter::once(NOTE).chain(points).collect()
}

const NOTE: &str = "Mean [95 % interval by a bootstrap over seeds, then cases]; p by Wilcoxon's signed-rank test on \
                    cases averaged over seeds, corrected after Holm. The gap is the mean on training cases minus \
                    the mean on the cases scored.\n";

/// One table: a title, a heading and rows of texts, of which the first `names` columns are words.
pub(crate) struct Block {
    pub(crate) title: String,
    pub(crate) heading: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) names: usize,
}

/// Scores, gaps and comparisons of every region.
pub(crate) fn blocks(table: &Table) -> Vec<Block> {
    let mut blocks = Vec::new();
    for region in &table.regions {
        let mean = |cell: &TableCell| cell.score.map_or("-".to_owned(), |s| format!("{:.3}", s.mean));
        blocks.push(scores(table, region, format!("{region}: means"), &Measure::ALL, &mean));
        for measure in Measure::ALL {
            let title = format!("{region}: {} with its 95 % interval", measure.heading());
            blocks.push(scores(table, region, title, &[measure], &|cell| show(cell.score)));
        }
        let gap = |cell: &TableCell| cell.gap.map(|gap| format!("{gap:+.3}"));
        let held_out = |cell: &TableCell| cell.held_out.map(|mean| format!("{mean:.3}"));
        blocks.extend(optional(table, region, "generalisation gap", &gap));
        blocks.extend(optional(table, region, "means on the fold's held-out cases", &held_out));
        let wins: Vec<String> = Measure::ALL
            .into_iter()
            .map(|measure| {
                let (wins, of) = table.wins(region, measure);
                format!("{} {wins} of {of}", measure.heading())
            })
            .collect();
        let methods = format!(
            "{region}: asymmetric methods against their symmetric twins (higher mean: {})",
            wins.join(", ")
        );
        blocks.extend(comparisons(table, region, methods, |pairing| pairing != Pairing::Policies));
        let policies = format!("{region}: learned policies against the others");
        blocks.extend(comparisons(table, region, policies, |pairing| pairing == Pairing::Policies));
    }
    blocks.extend(table.points.blocks());
    blocks
}

/// Scores that not every sweep has.
fn optional(
    table: &Table,
    region: &str,
    title: &str,
    show: &dyn Fn(&TableCell) -> Option<String>,
) -> Option<Block> {
    let shown = table.cells.iter().any(|cell| cell.region == region && show(cell).is_some());
    let show = |cell: &TableCell| show(cell).unwrap_or("-".to_owned());
    shown.then(|| scores(table, region, format!("{region}: {title}"), &Measure::ALL, &show))
}

/// Rows x (fractions x measures).
fn scores(
    table: &Table,
    region: &str,
    title: String,
    measures: &[Measure],
    show: &dyn Fn(&TableCell) -> String,
) -> Block {
    let columns = || table.fractions.iter().flat_map(|&f| measures.iter().map(move |&measure| (f, measure)));
    let heading = columns().map(|(f, measure)| format!("{} % {}", 100.0 * f, measure.heading()));
    let rows = table.rows.iter().map(|row| {
        let cells = columns().map(|(fraction, measure)| {
            table.cell(row, fraction, region, measure).map_or("-".to_owned(), show)
        });
        std::iter::once(row.clone()).chain(cells).collect()
    });
    Block {
        title,
        heading: std::iter::once("row".to_owned()).chain(heading).collect(),
        rows: rows.collect(),
        names: 1,
    }
}

fn comparisons(table: &Table, region: &str, title: String, wanted: fn(Pairing) -> bool) -> Option<Block> {
    let all = table.comparisons.iter().chain(&table.pooled);
    let all: Vec<&Comparison> = all.filter(|c| c.region == region && wanted(c.pairing)).collect();
    if all.is_empty() {
        return None;
    }
    let p = |value: Option<f64>| value.map_or("-".to_owned(), |p| format!("{p:.2e}"));
    let rows = all.iter().map(|c| {
        vec![
            c.row.clone(),
            c.twin.clone(),
            c.fraction.map_or("pooled".to_owned(), |f| format!("{} %", 100.0 * f)),
            c.measure.heading().to_owned(),
            show(Some(c.difference)),
            c.cases.to_string(),
            p(c.p),
            p(c.p_holm),
        ]
    });
    Some(Block {
        title,
        heading: ["row", "twin", "fraction", "measure", "difference", "cases", "p", "p (Holm)"]
            .map(str::to_owned)
            .to_vec(),
        rows: rows.collect(),
        names: 4,
    })
}

fn show(score: Option<Interval>) -> String {
    score.map_or("-".to_owned(), |s| format!("{:.3} [{:.3}, {:.3}]", s.mean, s.low, s.high))
}

/// Writing to a string cannot fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}
