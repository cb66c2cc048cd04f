//! A cross-validation: the scores of all held-out cases together. Its folds stand below it as runs.

use super::page::Page;
use super::run::{Links, per_case, scores};
use crate::Result;
use crate::run::folds::CrossValidation;
use crate::score::ScoredFolder;

pub(super) fn write(page: &mut Page, all: &CrossValidation, links: Links<'_>) -> Result<()> {
    page.section(&format!("Cross-validation {}", all.folder.display()));
    page.text(&format!(
        "{} folds; every case is scored by the fold that held it out. Each fold is shown below.",
        all.folds().len()
    ));
    let folder = ScoredFolder::read(&all.folder.join("summary.json"))?;
    scores(page, "Held-out cases of all folds", &folder);
    per_case(page, &folder, |case| super::subject::link(links?.1, links?.0, 0, case));
    Ok(())
}
