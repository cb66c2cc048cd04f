//! Several runs side by side.

use super::page::{Page, number, texts};
use crate::Result;
use crate::run::{Run, Split};
use crate::score::ScoredFolder;

/// One row for every run: the means of its regions on the test cases, else on the validation cases.
pub(super) fn write(page: &mut Page, runs: &[Run]) -> Result<()> {
    page.section("Runs side by side");
    let heading = texts(["run", "method", "policy", "cases scored", "region", "DSC", "SENS", "PRC"]);
    let mut rows = Vec::new();
    for run in runs {
        let part =
            ["test", "validation"].into_iter().find(|part| run.path(part).join("summary.json").is_file());
        let Some(part) = part else { continue };
        let held_out = part == "test" || !run.read_json::<Split>("split.json")?.held_out().is_empty();
        let kind = if held_out { part } else { "training, no estimate" };
        let folder = ScoredFolder::read(&run.path(part).join("summary.json"))?;
        let table = super::run::settings(run)?;
        let word = |section: &str| super::run::name_of(&table, section).unwrap_or("-".to_owned());
        for (region, name) in folder.regions.iter().enumerate() {
            let mut row = vec![
                run.folder.display().to_string(),
                word("method"),
                word("policy"),
                format!("{} {kind}", folder.cases.len()),
                name.clone(),
            ];
            row.extend(["Dice", "Sensitivity", "Precision"].map(|key| number(folder.mean(region, key))));
            rows.push(row);
        }
    }
    page.table(&heading, &rows, 5);
    Ok(())
}
