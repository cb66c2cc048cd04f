//! Several networks or tools side by side.

use std::path::Path;

use super::page::{Page, number, texts};
use super::subject::{Kind, Part, Subject};
use super::{Figures, answer, operating};
use crate::Result;
use crate::run::Run;
use crate::run::folds::CrossValidation;
use crate::score::statistics::{Interval, bootstrap_mean};

/// One row for every subject and region, with the mean difference from the first subject on the cases that both were
/// scored on; then the curves of all runs, a line for each.
pub(super) fn write(
    page: &mut Page,
    subjects: &[Subject],
    folders: &[&Path],
    figures: &mut Figures<'_>,
) -> Result<()> {
    page.section("Runs side by side");
    let mut settings = Vec::new();
    let mut curves = Vec::new();
    for (subject, folder) in subjects.iter().zip(folders) {
        let run = match CrossValidation::find(folder)? {
            Some(all) => all.run(all.folds()[0]),
            None => Run::at(folder),
        };
        let table = super::run::settings(&run)?;
        let word = |section: &str| super::run::name_of(&table, section).unwrap_or("-".to_owned());
        settings.push(vec![word("method"), word("policy")]);
        if let Some(Part { kind, .. }) = subject.main()
            && run.folder == **folder
        {
            let part = if *kind == Kind::Test { "test" } else { "validation" };
            curves.extend(operating::read(&run, part)?.map(|odds| (subject.name.clone(), odds)));
        }
    }
    table(page, &["run", "method", "policy"], subjects, &settings);
    let caption = "Precision against sensitivity at every threshold, one line for each run; stars: argmax.";
    figures.chart(page, "compare-precision-recall", caption, &operating::precision_recall(&curves), 2)?;
    let caption =
        "Share of the lesions that are hit against components per case that hit none, at 8 thresholds.";
    figures.chart(page, "compare-free-response", caption, &operating::free_response(&curves), 2)
}

/// The table; `words` stand between the name of a subject and its cases, under the further `headings`.
pub(super) fn table(page: &mut Page, headings: &[&str], subjects: &[Subject], words: &[Vec<String>]) {
    let mut heading: Vec<String> = headings.iter().map(|text| (*text).to_owned()).collect();
    heading.extend(texts(["cases scored", "region", "DSC [95 % interval]", "SENS", "PRC"]));
    heading.push("DSC minus the first [95 % interval]".to_owned());
    heading.push("better, worse".to_owned());
    let first = subjects.first().and_then(Subject::main);
    let mut rows = Vec::new();
    for (place, (subject, words)) in subjects.iter().zip(words).enumerate() {
        let Some(part) = subject.main() else { continue };
        for (region, name) in part.scored.regions.iter().enumerate() {
            let mut row = vec![subject.name.clone()];
            row.extend(words.iter().cloned());
            row.push(format!("{} {}", part.scored.cases.len(), part.kind.words()));
            row.push(name.clone());
            row.push(answer::interval(part, region, "Dice").map_or("-".to_owned(), bracketed));
            row.extend(["Sensitivity", "Precision"].map(|key| number(part.scored.mean(region, key))));
            let paired = first.filter(|_| place > 0).and_then(|first| Paired::of(first, part, name));
            row.extend(match paired {
                Some(Paired { difference, better, worse }) => [
                    format!("{:+.3} [{:+.3}, {:+.3}]", difference.mean, difference.low, difference.high),
                    format!("{better}, {worse}"),
                ],
                None => ["-", "-"].map(str::to_owned),
            });
            rows.push(row);
        }
    }
    page.table(&heading, &rows, headings.len() + 2);
    page.quiet(
        "Differences are means over the cases that both were scored on and where both have a Dice, with bootstrap intervals \
         over these cases; one training each, so they say nothing of how much another seed would give.",
    );
}

fn bracketed(Interval { mean, low, high }: Interval) -> String {
    format!("{mean:.3} [{low:.3}, {high:.3}]")
}

/// Dice of one region, case by case.
struct Paired {
    difference: Interval,
    better: usize,
    worse: usize,
}

impl Paired {
    fn of(first: &Part, second: &Part, region: &str) -> Option<Self> {
        let place = |part: &Part| part.scored.regions.iter().position(|name| name == region);
        let (a, b) = (place(first)?, place(second)?);
        let mut differences = Vec::new();
        for case in &second.scored.cases {
            // Kinds differ where a case is held out from one network and known to the other: no fair pair.
            let same =
                |other: &&crate::score::ScoredCase| other.case == case.case && first.kind == second.kind;
            let Some(other) = first.scored.cases.iter().find(same) else { continue };
            let dice =
                |case: &crate::score::ScoredCase, region: usize| case.values[region].get("Dice").copied();
            differences.extend(dice(case, b).zip(dice(other, a)).map(|(own, others)| Some(own - others)));
        }
        let count = |sign: fn(f64) -> bool| differences.iter().flatten().filter(|d| sign(**d)).count();
        let (better, worse) = (count(|d| d > 0.0), count(|d| d < 0.0));
        let difference = bootstrap_mean(&[differences], 2000, 1)?;
        Some(Self { difference, better, worse })
    }
}
