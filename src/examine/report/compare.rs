//! Several runs side by side.

use super::page::{Page, number, texts};
use super::{Figures, operating};
use crate::Result;
use crate::run::{Run, Split};
use crate::score::ScoredFolder;

/// One row for every run: the means of its regions on the test cases, else on the validation cases.
/// Then the curves of all of them, a line for each.
pub(super) fn write(page: &mut Page, runs: &[Run], figures: &mut Figures<'_>) -> Result<()> {
    page.section("Runs side by side");
    let heading = texts(["run", "method", "policy", "cases scored", "region", "DSC", "SENS", "PRC"]);
    let (mut rows, mut curves) = (Vec::new(), Vec::new());
    for run in runs {
        let part =
            ["test", "validation"].into_iter().find(|part| run.path(part).join("summary.json").is_file());
        let Some(part) = part else { continue };
        let held_out = part == "test" || !run.read_json::<Split>("split.json")?.held_out().is_empty();
        let kind = if held_out { part } else { "training, no estimate" };
        let name = run.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        curves.extend(operating::read(run, part)?.map(|odds| (name, odds)));
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
    let caption = "Precision against sensitivity at every threshold, one line for each run; stars: argmax.";
    figures.chart(page, "compare-precision-recall", caption, &operating::precision_recall(&curves), 2)?;
    let caption =
        "Share of the lesions that are hit against components per case that hit none, at 8 thresholds.";
    figures.chart(page, "compare-free-response", caption, &operating::free_response(&curves), 2)
}
