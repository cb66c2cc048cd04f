//! The tables of operating points as blocks of text.

use super::{PointCell, PointComparison, PointMeasure, PointTable};
use crate::score::statistics::Interval;
use crate::sweep::output::Block;

/// What these tables mean.
pub(crate) const NOTE: &str = "At b: with the bias that was chosen on the other held-out cases, for test cases on all \
     held-out ones; the plain row `ce` is shown at argmax, `ce + post-hoc bias` is the same networks with a bias. \
     SENS at ce's PRC: the largest sensitivity of a network's curve at a precision of at least that of `ce` at argmax \
     (same fraction, fold, seed), 0 where it is never reached. AUPRC: average precision. Means over networks \
     [95 % interval by a bootstrap over (fold, seed) pairs, then patients, the same draw for both rows]. Pairs for \
     0.02: ((1.96 + 0.84) sd / 0.02)^2 pairs of fold and seed would show a difference of 0.02 with a power of 80 %; sd \
     is that of the pairs' differences.\n";

impl PointTable {
    /// The blocks of one class.
    pub(in crate::sweep) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        for class in &self.classes {
            let measures = [&PointMeasure::ALL[..3], &PointMeasure::ALL[3..]];
            let titles = [
                "scores with the bias b that other cases chose",
                "sensitivity at the precision of cross-entropy, and area under the precision-recall curve",
            ];
            for (measures, title) in measures.into_iter().zip(titles) {
                blocks.extend(self.scores(class, measures, format!("{class}: {title}")));
            }
            blocks.extend(self.differences(class));
        }
        blocks
    }

    fn scores(&self, class: &str, measures: &[PointMeasure], title: String) -> Option<Block> {
        let columns =
            || self.fractions.iter().flat_map(|&f| measures.iter().map(move |&measure| (f, measure)));
        let heading = columns().map(|(f, measure)| format!("{} % {}", 100.0 * f, measure.heading()));
        let cell = |row: &str, (fraction, measure): (f64, PointMeasure)| {
            let same = |c: &&PointCell| {
                c.row == row && c.fraction == fraction && c.class == class && c.measure == measure
            };
            self.cells.iter().find(same).map(|cell| show(cell.score))
        };
        let rows: Vec<Vec<Option<String>>> =
            self.rows.iter().map(|row| columns().map(|column| cell(row, column)).collect()).collect();
        rows.iter().flatten().any(Option::is_some).then(|| Block {
            title,
            heading: std::iter::once("row".to_owned()).chain(heading).collect(),
            rows: self
                .rows
                .iter()
                .zip(rows)
                .filter(|(_, cells)| cells.iter().any(Option::is_some))
                .map(|(row, cells)| {
                    let cells = cells.into_iter().map(|cell| cell.unwrap_or("-".to_owned()));
                    std::iter::once(row.clone()).chain(cells).collect()
                })
                .collect(),
            names: 1,
        })
    }

    fn differences(&self, class: &str) -> Option<Block> {
        let all: Vec<&PointComparison> = self.comparisons.iter().filter(|c| c.class == class).collect();
        let rows = all.iter().map(|c| {
            vec![
                c.row.clone(),
                c.twin.clone(),
                c.fraction.map_or("pooled".to_owned(), |f| format!("{} %", 100.0 * f)),
                c.measure.heading().to_owned(),
                show(c.difference),
                c.pairs.to_string(),
                c.deviation.map_or("-".to_owned(), |sd| format!("{sd:.3}")),
                c.pairs_wanted.map_or("-".to_owned(), |n| n.to_string()),
            ]
        });
        let heading = ["row", "less", "fraction", "measure", "difference", "pairs", "sd", "pairs for 0.02"];
        (!all.is_empty()).then(|| Block {
            title: format!("{class}: differences from cross-entropy, by pairs of fold and seed"),
            heading: heading.map(str::to_owned).to_vec(),
            rows: rows.collect(),
            names: 4,
        })
    }
}

fn show(score: Interval) -> String {
    format!("{:.3} [{:.3}, {:.3}]", score.mean, score.low, score.high)
}
