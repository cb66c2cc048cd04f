//! What a classical method was fitted to: where it starts, what was chosen on training cases, what its forest looks at.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::page::{Page, number, texts};
use crate::Result;
use crate::classic::prior::StartRecord;
use crate::classic::store::{FOLDER, Store};
use crate::classic::tune::{TriedPoint, TuningRecord};
use crate::run::record::Record;

/// Features that are named by themselves.
const NAMED: usize = 10;

/// `forest.json`, as far as it is shown.
#[derive(Deserialize)]
struct ForestRecord {
    importances: Vec<Importance>,
    out_of_bag_loss: Vec<(usize, f64)>,
    out_of_bag_dice: Option<[f64; 2]>,
}

#[derive(Deserialize)]
struct Importance {
    feature: String,
    kind: String,
    share: f64,
}

/// Says what was fitted, where the run is one of a classical method.
///
/// # Errors
/// Where a file of the model is damaged.
pub(super) fn write(page: &mut Page, record: &Record) -> Result<()> {
    let Some(method) = record.config.classical_method() else { return Ok(()) };
    let store = Store::open(&record.run.path(FOLDER))?;
    page.heading("What was fitted");
    if store.has_file("start.json") {
        let start: StartRecord = store.read_json("start.json")?;
        let dice = start.atlas_dice.map_or(String::new(), |dice| {
            format!(
                " It reaches a mean Dice of {dice:.3} on {} training cases left out of it in turn.",
                start.cases
            )
        });
        page.text(&match start.atlas {
            true => format!("`{method}` starts from an atlas: how often each class lies at each place of a mean template.{dice}"),
            false => format!(
                "`{method}` starts from a forest of intensities: the classes have no fixed place.{}",
                start.atlas_dice.map_or(String::new(), |dice| format!(" (An atlas of positions reaches {dice:.3}.)"))
            ),
        });
    }
    if store.has_file("tuning.json") {
        let tuning: TuningRecord = store.read_json("tuning.json")?;
        show_tuning(page, &tuning);
    }
    if store.has_file("forest.json") {
        let forest: ForestRecord = store.read_json("forest.json")?;
        show_forest(page, &forest);
    }
    Ok(())
}

fn show_tuning(page: &mut Page, tuning: &TuningRecord) {
    if tuning.cases.is_empty() {
        return;
    }
    page.text(&format!(
        "Values were chosen on {} training cases, each with a prior that it had no part in; the prior alone reaches {} there.",
        tuning.cases.len(),
        number(tuning.start_dice)
    ));
    let row = |(at, point): (usize, &TriedPoint)| {
        let chosen = if at == tuning.chosen { "in force" } else { "" };
        vec![point.values.clone(), chosen.to_owned(), number(point.dice)]
    };
    let rows: Vec<Vec<String>> = tuning.points.iter().enumerate().map(row).collect();
    page.table(&texts(["values", "", "mean Dice"]), &rows, 2);
}

fn show_forest(page: &mut Page, forest: &ForestRecord) {
    let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
    for importance in &forest.importances {
        *kinds.entry(&importance.kind).or_default() += importance.share;
    }
    let mut rows: Vec<Vec<String>> = kinds
        .iter()
        .map(|(kind, share)| vec![(*kind).to_owned(), String::new(), number(Some(*share))])
        .collect();
    let mut features: Vec<&Importance> = forest.importances.iter().collect();
    features.sort_by(|a, b| b.share.total_cmp(&a.share));
    rows.extend(
        features
            .iter()
            .take(NAMED)
            .map(|one| vec![one.kind.clone(), one.feature.clone(), number(Some(one.share))]),
    );
    page.text("What its forest decides by: the share of the decrease in impurity, by kind of feature and for the ten largest.");
    page.table(&texts(["kind", "feature", "share"]), &rows, 2);
    if let (Some((trees, last)), Some(dice)) = (forest.out_of_bag_loss.last(), forest.out_of_bag_dice) {
        page.text(&format!(
            "Out of bag, {trees} trees have a mean loss of {last:.3}; mean Dice {:.3} before and {:.3} after the factors of the \
             classes were chosen.",
            dice[0], dice[1]
        ));
    }
}
