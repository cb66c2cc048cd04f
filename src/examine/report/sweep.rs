//! A sweep: what was asked, the tables, the figure.

use std::path::Path;

use super::Figures;
use super::page::Page;
use crate::Result;
use crate::sweep::{self, Table};

pub(super) fn write(page: &mut Page, folder: &Path, figures: &mut Figures<'_>) -> Result<()> {
    let results = sweep::read(&folder.join("results.jsonl"))?;
    let table = Table::of(&results);
    page.section(&format!("Sweep {}", folder.display()));
    let seeds = results.iter().map(|r| r.seed).collect::<std::collections::BTreeSet<_>>().len();
    page.text(&format!(
        "{} trainings: {} rows, {} fractions, {seeds} seeds; {:.1} hours of training.",
        results.len(),
        table.rows.len(),
        table.fractions.len(),
        results.iter().map(|r| r.train_seconds).sum::<f64>() / 3600.0
    ));
    if let Ok(experiment) = crate::files::read_text(&folder.join("experiment.toml")) {
        page.folded("The experiment", &experiment);
    }
    for block in sweep::blocks(&table) {
        page.heading(&block.title);
        page.table(&block.heading, &block.rows, block.names);
    }
    sweep::notes(&table).into_iter().for_each(|note| page.quiet(note));
    let caption = "Mean over seeds and cases against the share of the training cases that was used.";
    figures.chart(page, "fractions", caption, &sweep::figure(&table), 2)
}
