//! Sweeps, with a script in place of the training command; and the table, worked by hand.

use std::path::{Path, PathBuf};

use segen::config::Config;
use segen::data::dataset::Fold;
use segen::files::{Existing, Outputs};
use segen::progress::Silent;
use segen::score::operating::CaseOdds;
use segen::sweep::{
    self, CaseLine, CellResult, Experiment, Launch, Measure, Pairing, PointMeasure, ScoredOn, Table, csv,
    markdown, text,
};

fn claimed(folder: &Path) -> Outputs {
    sweep::claim(folder, Some(Path::new("experiment.toml")), &[], Existing::Refuse).unwrap()
}

const EXPERIMENT: &str = r#"
dataset = "Dataset900_Phantom"
fractions = [0.5, 1.0]
seeds = [1, 2]
steps = 10

[config.schedule]
steps_per_epoch = 5

[[row]]
label = "Cross-entropy"
method = "margin"

[[row]]
label = "Margin, rare"
method = "asym-margin"
set = ["schedule.patience=3"]
"#;

fn write_experiment(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("experiment.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// A command that behaves like `segen train`: notes its arguments, fails where told to, else leaves a run.
#[cfg(unix)]
fn command(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("train.sh");
    let script = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls.txt"
while [ $# -gt 0 ]; do
  case "$1" in
    -o) run=$2;; -c) config=$2;;
  esac
  shift
done
top() { sed -n "s/^$1 = //p" "$config" | head -1; }
fraction=$(top fraction) seed=$(top seed)
method=$(sed -n '/^\[method\]/,/^\[/s/^name = "\(.*\)"/\1/p' "$config")
if [ "$method" = asym-margin ] && [ "$seed" = 2 ] && [ "$fraction" = 0.5 ] && [ ! -e "$here/fixed" ]; then
  echo "epoch 0"; echo "error: training diverged at step 3"; echo "hint: none"; exit 2
fi
mkdir -p "$run/test" "$run/validation"
cat > "$run/validation/summary.json" <<END
{"region_names": {"1": "lesion"}, "metric_per_case": [
 {"prediction_file": "x/own.nii.gz", "metrics": {"1": {"Dice": 0.625, "Sensitivity": 0.5, "Precision": null}}}]}
END
dice=0.5
[ "$method" = asym-margin ] && dice=0.75
cat > "$run/run.json" <<END
{"version": "0", "processor": "", "threads": 1, "kernels_path": "", "planned_steps": 10, "steps": 10,
 "train_seconds": 1.5, "wall_seconds": 2.0, "peak_memory_bytes": 1000, "state": "finished"}
END
echo '{"train": ["a", "b"], "validation": []}' > "$run/split.json"
cat > "$run/test/operating.json" <<END
{"thresholds": [], "open_ends": {}, "cases": [
 {"case": "one", "classes": [{"class": "lesion", "reference": [-127, 1, 1], "others": [90, -127, 1]}],
  "joint": {"foreground": 1, "entries": []}, "bias": [0.5], "at_bias": [[2, 1, 0]]}]}
END
cat > "$run/test/summary.json" <<END
{"region_names": {"1": "lesion"}, "metric_per_case": [
 {"prediction_file": "x/one.nii.gz", "metrics": {"1": {"Dice": $dice, "Sensitivity": 0.25, "Precision": null}}},
 {"prediction_file": "x/two.nii.gz", "metrics": {"1": {"Dice": 0.25, "Sensitivity": 1.0, "Precision": 0.5}}}]}
END
"#;
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn cells_run_once_a_failure_stops_nothing_and_a_second_call_mends_it() {
    use segen::examine::report::{self, Options, Place, Source};
    use segen::sweep::Outcome;
    let folder = tempfile::tempdir().unwrap();
    let executable = command(folder.path());
    let experiment = Experiment::read(&write_experiment(folder.path(), EXPERIMENT)).unwrap();
    assert_eq!(experiment.cells(), 8);
    let sweep_folder = folder.path().join("sweep");
    let outputs = claimed(&sweep_folder);
    let launch = Launch {
        experiment: &experiment,
        dataset: None,
        outputs: &outputs,
        executable: &executable,
        threads: 2,
    };
    let calls = || std::fs::read_to_string(folder.path().join("calls.txt")).unwrap();
    let outcome = sweep::run(&launch, &Silent).unwrap();
    assert_eq!(outcome.finished, 7);
    let [(cell, problem)] = outcome.failed.as_slice() else { panic!("{outcome:?}") };
    assert!(cell.contains("Margin, rare") && cell.contains("0.5") && cell.contains("seed 2"), "{cell}");
    assert_eq!(problem, "error: training diverged at step 3");
    assert_eq!(calls().lines().count(), 8);
    let first = calls();
    let first = first.lines().next().unwrap();
    for part in ["train Dataset900_Phantom", "--threads 2", "--resume", "-c"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    let config = first.split_whitespace().skip_while(|word| *word != "-c").nth(1).unwrap();
    let config = segen::config::Config::read(Path::new(config)).unwrap();
    assert_eq!((config.schedule.length, config.seed), (segen::config::Length::Steps(10), 1));
    assert_eq!(config.validation.train_cases, experiment.train_cases);
    let failures = std::fs::read_to_string(sweep_folder.join("failed.jsonl")).unwrap();
    assert!(failures.contains("diverged"));

    // A line that was cut off by a crash is not in the way.
    let results = sweep_folder.join("results.jsonl");
    let mut torn = std::fs::read(&results).unwrap();
    torn.extend(b"{\"hash\": \"12");
    std::fs::write(&results, torn).unwrap();
    std::fs::write(folder.path().join("fixed"), "").unwrap();
    let outcome = sweep::run(&launch, &Silent).unwrap();
    assert_eq!(outcome, Outcome { finished: 8, failed: Vec::new() });
    assert_eq!(calls().lines().count(), 9, "only the cell that had failed ran again");
    assert_eq!(sweep::run(&launch, &Silent).unwrap().finished, 8);
    assert_eq!(calls().lines().count(), 9);

    let found = sweep::read(&results).unwrap();
    assert_eq!(found.len(), 8);
    // Histograms are in the lines: tables need no folder of a cell.
    std::fs::remove_dir_all(sweep_folder.join("cells")).unwrap();
    assert!(
        found.iter().all(|r| r.operating[0].joint.is_none() && r.operating[0].classes[0].class == "lesion")
    );
    assert_eq!(
        Table::of(&found).points.cells.len(),
        2 * 2 * 4,
        "no row of plain cross-entropy to be compared with"
    );
    let table = Table::of(&found);
    let cell = table.cell("Margin, rare", 0.5, "lesion", Measure::Dice).unwrap();
    assert_eq!((cell.score.unwrap().mean, cell.seeds, cell.cases), (0.5, 2, 2));
    assert_eq!(cell.held_out, Some(0.625), "the fold's own cases stand beside the test cases");
    assert!(text(&table).contains("means on the fold's held-out cases"));
    let precision = table.cell("Cross-entropy", 1.0, "lesion", Measure::Precision).unwrap();
    assert_eq!((precision.score.unwrap().mean, precision.undefined), (0.5, 2));
    assert_eq!(table.wins("lesion", Measure::Dice), (2, 2));
    sweep::write(&table, &outputs).unwrap();
    for name in ["table.txt", "table.md", "table.csv", "table.json", "fractions.svg", "fractions.png"] {
        assert!(sweep_folder.join(name).is_file(), "{name}");
    }
    let page = folder.path().join("page.html");
    let source = Source::Folders(vec![sweep_folder.clone()]);
    let place = Place::claim(&source, &page, Existing::Refuse).unwrap();
    report::write(&source, &Options::default(), &place, &Silent).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("Margin, rare") && html.contains("<svg") && html.contains("8 trainings"));
}

#[cfg(unix)]
#[test]
fn arms_share_their_cases_and_folds_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let executable = command(folder.path());
    let text = EXPERIMENT
        .replace("steps = 10", "steps = 10\nsplits = \"folds/mine.json\"")
        .replace("[0.5, 1.0]", "[0.5]")
        .replace("[1, 2]", "[1]")
        .replace("patience=3", "patience=3\", \"fraction=0.625")
        + "[[row]]\nmethod = \"ce\"\npolicy = \"learned\"\n";
    std::fs::write(folder.path().join("fixed"), "").unwrap();
    std::fs::create_dir(folder.path().join("folds")).unwrap();
    let splits = folder.path().join("folds/mine.json");
    std::fs::write(&splits, "[]").unwrap();
    let experiment = Experiment::read(&write_experiment(folder.path(), &text)).unwrap();
    let sweep_folder = folder.path().join("sweep");
    let outputs = claimed(&sweep_folder);
    let launch = Launch {
        experiment: &experiment,
        dataset: None,
        outputs: &outputs,
        executable: &executable,
        threads: 1,
    };
    assert_eq!(sweep::run(&launch, &Silent).unwrap().finished, 3);
    let results = sweep::read(&sweep_folder.join("results.jsonl")).unwrap();
    let configs: Vec<Config> = std::fs::read_to_string(folder.path().join("calls.txt"))
        .unwrap()
        .lines()
        .map(|call| call.split_whitespace().skip_while(|word| *word != "-c").nth(1).unwrap().to_owned())
        .map(|path| Config::read(Path::new(&path)).unwrap())
        .collect();
    // Only who needs set-aside cases has some; a row may say that it takes more cases.
    let found: Vec<(f64, f64)> = configs.iter().map(|c| (c.fraction, c.validation_share())).collect();
    assert_eq!(found, [(0.5, 0.0), (0.625, 0.0), (0.5, 0.2)]);
    assert!(results.iter().all(|result| result.fraction == 0.5), "the table's column");
    assert!(configs.iter().all(|config| config.splits.as_deref() == Some(&*splits)));
    // Other folds are other cells.
    std::fs::write(&splits, "[{}]").unwrap();
    sweep::run(&launch, &Silent).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("calls.txt")).unwrap().lines().count(), 6);
}

#[cfg(unix)]
#[test]
fn a_run_that_was_complete_but_unrecorded_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let executable = command(folder.path());
    let experiment = Experiment::read(&write_experiment(folder.path(), EXPERIMENT)).unwrap();
    let sweep_folder = folder.path().join("sweep");
    let outputs = claimed(&sweep_folder);
    let launch = Launch {
        experiment: &experiment,
        dataset: None,
        outputs: &outputs,
        executable: &executable,
        threads: 1,
    };
    std::fs::write(folder.path().join("fixed"), "").unwrap();
    sweep::run(&launch, &Silent).unwrap();
    let calls = || std::fs::read_to_string(folder.path().join("calls.txt")).unwrap().lines().count();
    assert_eq!(calls(), 8);
    std::fs::remove_file(sweep_folder.join("results.jsonl")).unwrap();
    assert_eq!(sweep::run(&launch, &Silent).unwrap().finished, 8);
    assert_eq!(calls(), 8, "the runs were there");
}

#[test]
fn mistakes_in_an_experiment_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        Experiment::read(&write_experiment(folder.path(), text)).map(|_| ()).unwrap_err().to_string()
    };
    let unknown = read(&EXPERIMENT.replace("seeds", "seds"));
    assert!(unknown.contains("seds") && unknown.contains("docs/sweeps.md"), "{unknown}");
    let in_row = read(&EXPERIMENT.replace("label = \"Cross", "lable = \"Cross"));
    assert!(in_row.contains("lable"), "{in_row}");
    let own = EXPERIMENT.replace("patience=3", "patience=3\", \"fraction=1.0");
    let unclear = read(&own.replace("label = \"Margin, rare\"", ""));
    assert!(unclear.contains("`fractions`") && unclear.contains("`label`"), "{unclear}");
    let values =
        read(&EXPERIMENT.replace("[0.5, 1.0]", "[0.5, 1.5, 0.5]").replace("steps = 10", "steps = 0"));
    for part in ["1.5", "a fraction stands twice", "`steps`"] {
        assert!(values.contains(part), "{part}: {values}");
    }
    // The configuration of the cells, and their methods, are checked before anything runs.
    let bad = EXPERIMENT.replace("steps_per_epoch = 5", "steps_per_epok = 5");
    let experiment = Experiment::read(&write_experiment(folder.path(), &bad)).unwrap();
    let outputs = claimed(&folder.path().join("sweep"));
    let launch = Launch {
        experiment: &experiment,
        dataset: None,
        outputs: &outputs,
        executable: Path::new("does-not-exist"),
        threads: 1,
    };
    let error = sweep::run(&launch, &Silent).unwrap_err().to_string();
    assert!(error.contains("steps_per_epok"), "{error}");
    let unknown = EXPERIMENT.replace("\"asym-margin\"", "\"asym-margins\"");
    let experiment = Experiment::read(&write_experiment(folder.path(), &unknown)).unwrap();
    let error = sweep::run(&Launch { experiment: &experiment, ..launch }, &Silent).unwrap_err().to_string();
    assert!(error.contains("asym-margins"), "{error}");
}

#[test]
fn the_committed_experiments_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/experiments");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let folds: Vec<Fold> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert!(folds.iter().all(|fold| !fold.train.is_empty() && !fold.validation.is_empty()));
            continue;
        }
        let experiment = Experiment::read(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(experiment.cells() > 0);
        // Every row is a configuration that can be trained: known method, policy, preset and keys.
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, toml::to_string(&experiment.config).unwrap()).unwrap();
        for row in &experiment.row {
            let mut sets = vec![format!("method.name={:?}", row.method)];
            sets.extend(experiment.set.iter().chain(&row.set).cloned());
            sets.extend(row.policy.as_ref().map(|name| format!("policy.name={name:?}")));
            Config::resolve_preset(experiment.preset.as_deref(), Some(&config), &sets)
                .unwrap_or_else(|e| panic!("{}, {}: {e}", path.display(), row.name()));
        }
        count += 1;
    }
    assert!(count >= 7);
}

/// One cell whose cases have these sensitivities; Dice the same, precision 0.5.
fn result(row: &str, method: &str, position: usize, fraction: f64, seed: u64, values: &[f64]) -> CellResult {
    let line = |(i, value): (usize, &f64)| CaseLine {
        case: format!("case {i}"),
        dice: vec![Some(*value)],
        sensitivity: vec![Some(*value)],
        precision: vec![Some(0.5)],
    };
    let cases: Vec<CaseLine> = values.iter().enumerate().map(line).collect();
    CellResult {
        hash: format!("{row} {fraction} {seed}"),
        row: row.to_owned(),
        position,
        method: method.to_owned(),
        policy: None,
        fraction,
        fold: "0".to_owned(),
        seed,
        scored: ScoredOn::Test,
        regions: vec!["lesion".to_owned()],
        train: vec![CaseLine {
            case: "seen".to_owned(),
            dice: vec![Some(0.9)],
            sensitivity: vec![Some(0.9)],
            precision: vec![Some(0.9)],
        }],
        cases,
        held_out: Vec::new(),
        operating: Vec::new(),
        trained_on: 4,
        steps: 10,
        train_seconds: 1.0,
        peak_memory_bytes: 1,
    }
}

#[test]
fn twins_are_compared_on_cases_averaged_over_seeds() {
    // Seven cases; the asymmetric twin is better by 0.01, 0.02, ..., 0.07 in the mean of two seeds.
    let base: Vec<f64> = (0..7).map(|i| 0.2 + 0.05 * f64::from(i)).collect();
    let better = |sign: f64| -> Vec<f64> {
        base.iter().enumerate().map(|(i, v)| v + 0.01 * (i + 1) as f64 + sign * 0.005).collect()
    };
    let mut results = Vec::new();
    for fraction in [0.1, 0.5] {
        for (seed, sign) in [(1, 1.0), (2, -1.0)] {
            results.push(result("margin", "margin", 0, fraction, seed, &base));
            results.push(result("asym-margin", "asym-margin", 1, fraction, seed, &better(sign)));
            results.push(result("ce", "ce", 2, fraction, seed, &base));
            results.push(result("combination", "asym-combination", 3, fraction, seed, &base));
        }
    }
    let table = Table::of(&results);
    assert_eq!(table.rows, ["margin", "asym-margin", "ce", "combination"]);
    let sensitivity: Vec<_> =
        table.comparisons.iter().filter(|c| c.measure == Measure::Sensitivity).collect();
    assert_eq!(sensitivity.len(), 4, "two fractions, margin and combination");
    let margin = sensitivity.iter().find(|c| c.row == "asym-margin").unwrap();
    assert_eq!((margin.twin.as_str(), margin.pairing, margin.cases), ("margin", Pairing::Forms, 7));
    assert!((margin.difference.mean - 0.04).abs() < 1e-12);
    // All seven are positive: the exact two-sided p is 2 / 2^7.
    assert!((margin.p.unwrap() - 2.0 / 128.0).abs() < 1e-12);
    assert!((margin.p_holm.unwrap() - 4.0 / 128.0).abs() < 1e-12, "two of the four have a p");
    let combination = sensitivity.iter().find(|c| c.row == "combination").unwrap();
    assert_eq!((combination.twin.as_str(), combination.pairing), ("ce", Pairing::CrossEntropy));
    assert_eq!((combination.p, combination.difference.mean), (None, 0.0));
    assert_eq!(table.wins("lesion", Measure::Sensitivity), (2, 2));
    let pooled = table.pooled.iter().find(|c| c.row == "all pairs" && c.measure == Measure::Dice).unwrap();
    assert!((pooled.difference.mean - 0.04).abs() < 1e-12 && pooled.difference.low > 0.0);
    let gap = table.cell("margin", 0.1, "lesion", Measure::Dice).unwrap().gap.unwrap();
    assert!((gap - (0.9 - 0.35)).abs() < 1e-12);

    let shown = text(&table);
    assert!(shown.contains("10 % DSC") && shown.contains("generalisation gap") && shown.contains("2 of 2"));
    assert!(markdown(&table).contains("| margin | "));
    assert_eq!(csv(&table).lines().count(), 1 + 4 * 2 * 3);
}

#[test]
fn a_learned_policy_is_compared_with_every_other_policy_of_its_method() {
    let scores = |shift: f64| -> Vec<f64> { (0..5).map(|i| 0.3 + 0.05 * f64::from(i) + shift).collect() };
    let rows = [
        ("None", "ce", "none", 0.0),
        ("Random", "ce", "random", 0.02),
        ("Learned", "ce", "learned", 0.03),
        ("Random, all cases", "ce", "random", 0.04),
        ("Another method", "margin", "none", 0.0),
    ];
    let mut results = Vec::new();
    for fraction in [0.1, 0.5] {
        for (position, (row, method, policy, shift)) in rows.into_iter().enumerate() {
            let shift = if policy == "learned" { shift + fraction / 10.0 } else { shift };
            let mut one = result(row, method, position, fraction, 1, &scores(shift));
            one.policy = Some(policy.to_owned());
            results.push(one);
        }
    }
    let table = Table::of(&results);
    let pooled: Vec<(&str, &str, f64)> = table
        .pooled
        .iter()
        .filter(|c| c.measure == Measure::Dice && c.pairing == Pairing::Policies)
        .map(|c| (c.row.as_str(), c.twin.as_str(), (c.difference.mean * 1e6).round() / 1e6))
        .collect();
    assert_eq!(
        pooled,
        [("Learned", "None", 0.06), ("Learned", "Random", 0.04), ("Learned", "Random, all cases", 0.02)]
    );
    let shown = text(&table);
    assert!(shown.contains("learned policies against the others"), "{shown}");
    assert!(!shown.contains("asymmetric methods against"), "{shown}");
}

/// A case of one class whose histograms are these lists, with these counts at its bias.
fn odds(reference: &[i64], others: &[i64], at_bias: [u64; 3]) -> CaseOdds {
    let class = serde_json::json!({ "class": "lesion", "reference": reference, "others": others });
    let case =
        serde_json::json!({ "case": "case 0", "classes": [class], "bias": [0.5], "at_bias": [at_bias] });
    serde_json::from_value(case).unwrap()
}

#[test]
fn operating_points_are_compared_with_plain_cross_entropy_pair_by_pair() {
    // At argmax 2 found, 1 invented, 2 missed; lower down all 4 are found with no further one invented.
    let plain = odds(&[-119, 2, -8, 2], &[100, -127, 1], [4, 1, 0]);
    // All 4 above both that are invented.
    let better = |at_bias| odds(&[-130, 4], &[100, -128, 2], at_bias);
    let mut results = Vec::new();
    for fraction in [0.1, 0.5] {
        for seed in [1, 2] {
            let mut add = |row: &str, position, odds: &CaseOdds| {
                let mut one = result(row, row, position, fraction, seed, &[0.5]);
                one.operating = vec![odds.clone()];
                results.push(one);
            };
            add("ce", 0, &plain);
            add("margin", 1, &better(if seed == 1 { [3, 0, 1] } else { [4, 0, 0] }));
            add("focal", 2, &plain);
        }
    }
    let table = Table::of(&results).points;
    assert_eq!(table.rows, ["ce", "ce + post-hoc bias", "margin", "focal"]);
    let mean = |row: &str, measure| {
        let same = |c: &&segen::sweep::PointCell| c.row == row && c.fraction == 0.1 && c.measure == measure;
        table.cells.iter().find(same).unwrap().score.mean
    };
    for (row, measure, value) in [
        ("ce", PointMeasure::Dice, 4.0 / 7.0),
        ("ce", PointMeasure::Sensitivity, 0.5),
        ("ce", PointMeasure::Precision, 2.0 / 3.0),
        ("ce + post-hoc bias", PointMeasure::Dice, 8.0 / 9.0),
        ("margin", PointMeasure::Dice, f64::midpoint(6.0 / 7.0, 1.0)),
        ("margin", PointMeasure::Precision, 1.0),
        ("ce", PointMeasure::AtPrecision, 1.0),
        ("margin", PointMeasure::AtPrecision, 1.0),
        ("ce", PointMeasure::Area, 0.5 * 2.0 / 3.0 + 0.5 * 0.8),
        ("margin", PointMeasure::Area, 1.0),
    ] {
        assert!((mean(row, measure) - value).abs() < 1e-12, "{row} {measure:?}: {}", mean(row, measure));
    }
    let find = |row: &str, twin: &str, measure, fraction: Option<f64>| {
        let same = |c: &&segen::sweep::PointComparison| {
            c.row == row && c.twin == twin && c.measure == measure && c.fraction == fraction
        };
        table.comparisons.iter().find(same)
    };
    let dice = find("margin", "ce", PointMeasure::Dice, None).unwrap();
    let differences = [6.0 / 7.0 - 4.0 / 7.0, 1.0 - 4.0 / 7.0];
    assert!((dice.difference.mean - f64::midpoint(differences[0], differences[1])).abs() < 1e-12);
    // Two pairs: the bootstrap draws one, the other or both.
    assert!((dice.difference.low - differences[0]).abs() < 1e-12, "{dice:?}");
    assert!((dice.difference.high - differences[1]).abs() < 1e-12, "{dice:?}");
    let sd = (differences[1] - differences[0]) / 2f64.sqrt();
    assert!((dice.deviation.unwrap() - sd).abs() < 1e-12 && dice.pairs == 2);
    assert_eq!(dice.pairs_wanted, Some((2.8 * sd / 0.02).powi(2).ceil() as u64));
    assert!(find("margin", "ce + post-hoc bias", PointMeasure::Dice, Some(0.5)).is_some());
    assert!(find("ce + post-hoc bias", "ce", PointMeasure::Dice, Some(0.5)).is_some());
    assert!(find("ce + post-hoc bias", "ce", PointMeasure::Area, Some(0.5)).is_none());
    // The same draw for both rows: what is alike never differs.
    let alike = find("focal", "ce", PointMeasure::Area, None).unwrap().difference;
    assert_eq!((alike.mean, alike.low, alike.high), (0.0, 0.0, 0.0));
    let shown = text(&Table::of(&results));
    for part in ["lesion: scores with the bias b", "ce + post-hoc bias", "pairs for 0.02", "(1.96 + 0.84) sd"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // The same numbers for other programs, beside the scores of argmax.
    let lines = csv(&Table::of(&results));
    assert_eq!(lines.lines().count(), 1 + 2 * 3 * 3 + table.cells.len());
    let columns = lines.lines().next().unwrap().split(',').count();
    assert!(lines.lines().all(|line| line.split(',').count() == columns), "{lines}");
    assert!(lines.contains("ce + post-hoc bias,0.1,lesion,DSC at b,0.888889,"), "{lines}");
    assert!(lines.contains("margin,0.1,lesion,AUPRC,1.000000,1.000000,1.000000,,,,,,2\n"), "{lines}");
    // Lines of earlier versions have no histograms; their tables say nothing of them.
    let old = serde_json::to_string(&result("ce", "ce", 0, 0.1, 1, &[0.5])).unwrap();
    assert!(!old.contains("operating"));
    let old: CellResult = serde_json::from_str(&old).unwrap();
    assert!(!text(&Table::of(&[old])).contains("pairs for 0.02"));
}
