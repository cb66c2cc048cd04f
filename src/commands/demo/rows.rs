//! The table of the demo: what each network finds on cases it knows and on cases it has never seen, with the plain
//! decision and at an operating point that the scored case had no part in choosing.

use serde::Serialize;

use crate::run::Run;
use crate::score::operating::{self, ClassOdds, Counts, Decision, Operating, ZERO};
use crate::{Error, Result};

/// Means over cases, 0 to 1. What is undefined in a case (no lesion, nothing predicted) is left out; `None` where it is
/// undefined in all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Means {
    /// Share of the lesion that is found.
    pub sensitivity: Option<f64>,
    /// Share of what is found that is lesion.
    pub precision: Option<f64>,
    /// Dice.
    pub dice: Option<f64>,
    /// Cases.
    pub cases: usize,
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The method that the network was trained with.
    pub method: &'static str,
    /// How it decides.
    pub decision: Decision,
    /// On the cases that it was trained on.
    pub seen: Means,
    /// On held-out cases of the same scanner.
    pub unseen: Means,
    /// On test cases of another scanner.
    pub test: Means,
    /// On the held-out cases together: the largest sensitivity of the network's curve at the precision that the first
    /// network has with the plain decision.
    pub at_precision: Option<f64>,
    /// Area under its precision-recall curve there.
    pub area: Option<f64>,
}

/// A trained network and how it decides.
pub(super) type Subject<'a> = (&'static str, &'a Run, Decision);

/// The rows of these networks, read from their runs; the first one is what the others are compared with.
///
/// # Errors
/// Where counts of a run cannot be read.
pub(super) fn rows(subjects: &[Subject<'_>]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut least = None;
    for &(method, run, decision) in subjects {
        let read = |part: &str| Operating::read(&run.path(part).join(operating::FILE));
        let unseen = read("validation")?;
        let joined = joined(&unseen, run)?;
        let least = *least.get_or_insert_with(|| joined.at(ZERO).precision());
        rows.push(Row {
            method,
            decision,
            seen: means(&read("train")?, &joined.class, decision),
            unseen: means(&unseen, &joined.class, decision),
            test: means(&read("test")?, &joined.class, decision),
            at_precision: least.and_then(|least| joined.sensitivity_at(least)),
            area: joined.average_precision(),
        });
    }
    Ok(rows)
}

/// The lesions of all cases.
fn joined(counts: &Operating, run: &Run) -> Result<ClassOdds> {
    counts.classes().into_iter().next().ok_or_else(|| {
        Error::invalid(
            run.path("validation").join(operating::FILE),
            "cases",
            "there is none",
            "remove the folder of the demo and run it again",
        )
    })
}

fn means(counts: &Operating, class: &str, decision: Decision) -> Means {
    let mean = |score| counts.mean(class, decision, score);
    Means {
        sensitivity: mean(Counts::sensitivity),
        precision: mean(Counts::precision),
        dice: mean(Counts::dice),
        cases: counts.cases.len(),
    }
}

/// The rows as text, sensitivity, precision and Dice of each part side by side.
pub fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let mut text = format!(
        "{:<34}{:<22}{:<22}{:<22}{}\n{:<34}",
        "",
        format!("{} cases trained on", first.seen.cases),
        format!("{} unseen cases", first.unseen.cases),
        format!("{} of another scanner", first.test.cases),
        "unseen, whole curve",
        ""
    );
    text.push_str(&format!("{:<7}{:<7}{:<8}", "SENS", "PRC", "DSC").repeat(3));
    text.push_str("SENS at row 1's PRC  AUPRC\n");
    for row in rows {
        let name = match row.decision {
            Decision::Argmax => row.method.to_owned(),
            Decision::Chosen => format!("{}, its operating point", row.method),
        };
        text.push_str(&format!("{name:<34}"));
        for means in [row.seen, row.unseen, row.test] {
            let [sensitivity, precision, dice] = [means.sensitivity, means.precision, means.dice].map(number);
            text.push_str(&format!("{sensitivity:<7}{precision:<7}{dice:<8}"));
        }
        text.push_str(&format!("{:<21}{}\n", number(row.at_precision), number(row.area)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::operating::{Bias, CaseOdds, Histogram};

    /// A case with voxels of these log-odds, and a bias that others chose.
    fn case(name: &str, reference: &[f64], others: &[f64], bias: f64) -> CaseOdds {
        let histogram = |values: &[f64]| {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.count_in(operating::bin(value), 1));
            histogram
        };
        let mut class = ClassOdds::new("lesion");
        (class.reference, class.others) = (histogram(reference), histogram(others));
        let mut case = CaseOdds {
            case: name.into(),
            classes: vec![class],
            joint: None,
            bias: None,
            at_bias: Vec::new(),
        };
        case.take(&Bias::new(vec![bias]));
        case
    }

    /// A run whose three parts hold these cases.
    fn run(folder: &std::path::Path, cases: &[CaseOdds]) -> Run {
        for part in ["train", "validation", "test"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
            Operating::of(cases.to_vec()).write(&folder.join(part).join(operating::FILE)).unwrap();
        }
        Run::at(folder)
    }

    #[test]
    fn rows_hold_means_over_cases_and_the_curve_of_all_voxels() {
        let folder = tempfile::tempdir().unwrap();
        // Three of four found and one invented at argmax; with b = 2 everything is found and two are invented.
        let plain = run(
            &folder.path().join("a"),
            &[case("a", &[2.0, 1.0], &[0.5, -1.0, -4.0], 2.0), case("b", &[3.0, -1.0], &[-5.0], 2.0)],
        );
        let other =
            run(&folder.path().join("b"), &[case("a", &[1.0, 1.0], &[-1.0], 0.0), case("b", &[], &[], 0.0)]);
        let subjects = [
            ("ce", &plain, Decision::Argmax),
            ("ce", &plain, Decision::Chosen),
            ("auto", &other, Decision::Argmax),
        ];
        let rows = rows(&subjects).unwrap();
        let close = |value: Option<f64>, expected: f64| {
            assert!((value.unwrap() - expected).abs() < 1e-12, "{value:?}")
        };
        close(rows[0].unseen.sensitivity, (1.0 + 0.5) / 2.0);
        close(rows[0].unseen.precision, (2.0 / 3.0 + 1.0) / 2.0);
        close(rows[1].unseen.sensitivity, 1.0);
        close(rows[1].unseen.precision, (0.5 + 1.0) / 2.0);
        // The curves belong to the networks: rows of one network agree in them.
        assert_eq!((rows[0].at_precision, rows[0].area), (rows[1].at_precision, rows[1].area));
        // At a precision of 3/4 three of four voxels can be had.
        close(rows[0].at_precision, 0.75);
        close(rows[2].at_precision, 1.0);
        // The second case of the third row has no lesion and no prediction.
        close(rows[2].seen.dice, 1.0);
        assert_eq!(rows[2].seen.cases, 2);
        let text = table(&rows);
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("ce, its operating point"), "{text}");
    }
}
