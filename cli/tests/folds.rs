//! Cross-validations: their folds are ordinary runs, a stop changes nothing, what is found on all held-out cases is told of
//! each case once, and together they predict as one model.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use common::{phantom, segen};
use segen::commands::trained::POST;
use segen::image;
use segen::predict::choice::PostChoice;
use segen::run::Run;
use segen::score::operating::{self, Choice};
use serde_json::Value;

const STEPS: u64 = 4;

/// A data set and a cross-validation on it that no test changes.
struct World {
    /// Goes with the process.
    _folder: tempfile::TempDir,
    dataset: PathBuf,
    folds: PathBuf,
    cache: PathBuf,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 6, "32,32,32");
    let (folds, cache) = (folder.path().join("cv"), folder.path().join("cache"));
    let (code, said) = ended(train(&dataset, &folds, &cache).args(["--folds", "0-2"]));
    assert_eq!(code, 0, "{said}");
    World { dataset, folds, cache, _folder: folder }
});

/// A small training.
fn train(dataset: &Path, run: &Path, cache: &Path) -> Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).arg("--cache").arg(cache);
    command.args(["--steps", &STEPS.to_string(), "--threads", "1"]);
    for set in [
        "policy.name=heuristic",
        "plan.patch=[16, 16, 16]",
        "plan.batch=2",
        "plan.base_features=4",
        "validation.cases_per_epoch=1",
        "checkpoint.every_steps=1",
    ] {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null());
    command
}

/// The command that goes on with what is in a folder.
fn resume(folder: &Path) -> Command {
    let mut command = segen();
    command.arg("train").arg(&WORLD.dataset).arg("-o").arg(folder).arg("--cache").arg(&WORLD.cache);
    command.args(["--threads", "1", "--resume"]);
    command
}

/// Exit code and words of a command that ends.
fn ended(command: &mut Command) -> (i32, String) {
    let done = command.output().unwrap();
    (done.status.code().unwrap_or(-1), String::from_utf8(done.stderr).unwrap())
}

fn predict(folder: &Path, out: &Path, more: &[&str]) -> (i32, String) {
    let scans = WORLD.dataset.join("imagesTs");
    ended(
        segen().arg("predict").arg(folder).arg(scans).arg("-o").arg(out).args(["--threads", "1"]).args(more),
    )
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The weights and the state of the optimiser at the end of a run.
fn weights(run: &Path) -> [Vec<u8>; 2] {
    let place = run.join(format!("checkpoint/step-{STEPS}"));
    ["weights.safetensors", "optimiser.safetensors"].map(|name| fs::read(place.join(name)).unwrap())
}

/// What a cross-validation found, without the places of files.
fn found(folder: &Path) -> Vec<Value> {
    let mut summary = json(&folder.join("summary.json"));
    for case in summary["metric_per_case"].as_array_mut().unwrap() {
        let file = case["prediction_file"].as_str().unwrap();
        case["prediction_file"] = Path::new(file).file_name().unwrap().to_str().into();
    }
    let others = ["post.json", "operating.json", "validation/operating.json", "folds.json"];
    std::iter::once(summary).chain(others.map(|name| json(&folder.join(name)))).collect()
}

fn label_maps(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.to_string_lossy().ends_with(".nii.gz"));
    files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect()
}

/// Per case, its scores.
fn scores(summary: &Path) -> BTreeMap<String, Value> {
    let cases = json(summary)["metric_per_case"].as_array().unwrap().clone();
    let name = |case: &Value| {
        let file = case["prediction_file"].as_str().unwrap().to_owned();
        file.rsplit('/').next().unwrap().to_owned()
    };
    cases.iter().map(|case| (name(case), case["metrics"].clone())).collect()
}

#[test]
fn folds_are_ordinary_runs_and_every_case_is_scored_once() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone");
    let (code, said) = ended(train(&WORLD.dataset, &alone, &WORLD.cache).args(["--fold", "1"]));
    assert_eq!(code, 0, "{said}");
    let fold = WORLD.folds.join("fold-1");
    assert_eq!(weights(&alone), weights(&fold));
    for name in ["config.toml", "plan.json", "split.json", "post.json", "operating.json"] {
        assert_eq!(fs::read(alone.join(name)).unwrap(), fs::read(fold.join(name)).unwrap(), "{name}");
    }
    let own = label_maps(&fold.join("validation"));
    assert_eq!(label_maps(&alone.join("validation")), own);
    let pooled = scores(&WORLD.folds.join("summary.json"));
    let mut held_out = Vec::new();
    for fold in 0..3 {
        let run = Run::at(WORLD.folds.join(format!("fold-{fold}")));
        let post: PostChoice = run.read_json(POST).unwrap();
        for (case, scores) in scores(&run.path("validation/summary.json")) {
            let id = case.trim_end_matches(".nii.gz").to_owned();
            let chosen: PostChoice = Run::at(&WORLD.folds).read_json(POST).unwrap();
            if post.steps_of(&id) == chosen.steps_of(&id) {
                assert_eq!(pooled[&case], scores, "{case}");
            }
            // Whatever the fold's own steps made of it, the pooled label map has the pooled steps alone.
            let plain = run.path("validation/plain").join(&case);
            assert_eq!(plain.is_file(), !post.steps_of(&id).is_empty(), "{case}");
            let plain = if plain.is_file() { plain } else { run.path("validation").join(&case) };
            let mut labels = image::read_labels(&plain).unwrap().0;
            segen::predict::post::apply(&chosen.steps_of(&id), &mut labels, None);
            let pooled = image::read_labels(&WORLD.folds.join("validation").join(&case)).unwrap().0;
            assert_eq!(labels.voxels, pooled.voxels, "{case}");
            held_out.push(case);
        }
    }
    held_out.sort();
    assert!(pooled.keys().eq(&held_out), "{held_out:?}");
    assert!(label_maps(&WORLD.folds.join("validation")).keys().eq(&held_out));
    let choice: Option<Choice> = Run::at(&WORLD.folds).read_json(operating::FILE).unwrap();
    assert_eq!(choice.unwrap().cases.len(), held_out.len());
    let chosen: PostChoice = Run::at(&WORLD.folds).read_json(POST).unwrap();
    assert_eq!(chosen.cases, held_out.len());
    // Evaluating the pooled label maps by themselves gives the pooled scores.
    let out = folder.path().join("again.json");
    let labels = WORLD.dataset.join("labelsTr");
    let (code, said) =
        ended(segen().arg("evaluate").arg(WORLD.folds.join("validation")).arg(labels).arg("-o").arg(&out));
    assert!([0, 1].contains(&code), "{said}");
    assert_eq!(scores(&out), pooled);
}

fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stop_in_any_fold_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("cv");
    let begin = || {
        let mut command = train(&WORLD.dataset, &all, &WORLD.cache);
        command.args(["--folds", "0-2"]).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let has_moved = |fold: &str| {
        let latest = fs::read_to_string(all.join(fold).join("checkpoint/latest")).unwrap_or_default();
        latest.trim().strip_prefix("step-").is_some_and(|step| step != "0")
    };
    let mut child = begin().spawn().unwrap();
    wait_for("a step of fold 0", || has_moved("fold-0"));
    child.kill().unwrap();
    child.wait().unwrap();
    // What is unfinished does not predict, and says what is missing.
    let (code, said) = predict(&all, &folder.path().join("out"), &[]);
    assert_eq!(code, 2, "{said}");
    for word in ["fold 0", "fold 1 (has not begun), fold 2 (has not begun)", "--resume", "fold-0"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (code, said) = ended(&mut begin());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("a cross-validation in it already") && said.contains("--resume"), "{said}");
    let child = begin().arg("--resume").spawn().unwrap();
    wait_for("a step of fold 1", || has_moved("fold-1"));
    let done = fs::metadata(all.join("fold-0/run.json")).unwrap().modified().unwrap();
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(sent.success());
    let stopped = child.wait_with_output().unwrap();
    let said = String::from_utf8(stopped.stderr).unwrap();
    match stopped.status.code() {
        Some(3) => assert!(said.contains("in fold ") && said.contains("go on with: segen train"), "{said}"),
        // So quick that there was nothing left to stop.
        code => assert_eq!(code, Some(0), "{said}"),
    }
    let (code, said) = ended(&mut resume(&all));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("fold 0, 1 of 3: trained and scored already"), "{said}");
    assert_eq!(fs::metadata(all.join("fold-0/run.json")).unwrap().modified().unwrap(), done);
    for fold in ["fold-0", "fold-1", "fold-2"] {
        assert_eq!(weights(&all.join(fold)), weights(&WORLD.folds.join(fold)), "{fold}");
    }
    assert_eq!(found(&all), found(&WORLD.folds));
    assert_eq!(label_maps(&all.join("validation")), label_maps(&WORLD.folds.join("validation")));
}

#[test]
fn together_they_predict_as_named_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let fold = |number: usize| WORLD.folds.join(format!("fold-{number}"));
    let (one, two) = (fold(1), fold(2));
    let by_hand = ["--with", one.to_str().unwrap(), "--with", two.to_str().unwrap(), "--post", "off"];
    let out = |name: &str| folder.path().join(name);
    let (code, said) = predict(&WORLD.folds, &out("all"), &["--post", "off", "--probabilities"]);
    assert_eq!(code, 0, "{said}");
    let more: Vec<&str> = by_hand.iter().copied().chain(["--probabilities"]).collect();
    assert_eq!(predict(&fold(0), &out("hand"), &more).0, 0);
    assert_eq!(label_maps(&out("all")), label_maps(&out("hand")));
    assert!(!label_maps(&out("all")).is_empty());
    let probabilities = |name: &str| label_maps(&out(name).join("probabilities"));
    assert_eq!(probabilities("all"), probabilities("hand"));
    // Steps and operating point are those of the cross-validation, not those of its folds.
    let all = folder.path().join("cv");
    copy(&WORLD.folds, &all);
    let choice = r#"{"cases": ["a", "b"], "classes": ["lesion"], "odds": [3.0], "bias": [1.0], "dice": [0.1, 0.25],
        "cross_fitted": {}, "cross_fitted_dice": 0.2}"#;
    fs::write(all.join("operating.json"), choice).unwrap();
    let post = r#"{"cases": 2, "values": [{"value": 1, "regions": ["lesion"], "step": "keep-largest", "dice": [0.1, 0.2],
        "cross_fitted_gain": 0.1}], "cross_fitted": {}}"#;
    fs::write(all.join("post.json"), post).unwrap();
    let (code, said) = predict(&all, &out("auto"), &["--operating", "auto"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("operating point of").count(), 1, "{said}");
    assert!(said.contains("lesion: keep-largest"), "{said}");
    let odds = format!("lesion={}", 1f64.exp());
    let more: Vec<&str> = by_hand.iter().copied().chain(["--operating", &odds]).collect();
    assert_eq!(predict(&fold(0), &out("odds"), &more).0, 0);
    for name in label_maps(&out("odds")).keys() {
        let mut labels = image::read_labels(&out("odds").join(name)).unwrap().0;
        let steps = Run::at(&all).read_json::<PostChoice>(POST).unwrap().steps();
        segen::predict::post::apply(&steps, &mut labels, None);
        assert_eq!(labels.voxels, image::read_labels(&out("auto").join(name)).unwrap().0.voxels, "{name}");
    }
    // A fold that was trained further since is not what was pooled.
    let manifest = all.join("fold-1/run.json");
    let mut changed = json(&manifest);
    changed["steps"] = 9.into();
    fs::write(&manifest, changed.to_string()).unwrap();
    let (code, said) = predict(&all, &out("stale"), &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("not pooled") && said.contains("--resume"), "{said}");
}

#[test]
fn all_folds_are_lengthened_or_one_and_pooled_again() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("cv");
    copy(&WORLD.folds, &all);
    let (code, said) = ended(resume(&all.join("fold-1")).args(["--steps", "6"]));
    assert_eq!(code, 0, "{said}");
    let (code, said) = predict(&all, &folder.path().join("out"), &[]);
    assert_eq!(code, 2, "{said}");
    let (code, said) = ended(&mut resume(&all));
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("trained and scored already").count(), 3, "{said}");
    let pooled = |all: &Path| json(&all.join("folds.json"))["pooled"].clone();
    assert_eq!(pooled(&all), serde_json::json!({ "0": 4, "1": 6, "2": 4 }));
    assert_eq!(predict(&all, &folder.path().join("out"), &[]).0, 0);
    let (code, said) = ended(resume(&all).args(["--steps", "5"]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("5 steps in all") && said.contains("done 6 already"), "{said}");
    let (code, said) = ended(resume(&all).args(["--steps", "7"]));
    assert_eq!(code, 0, "{said}");
    assert_eq!(pooled(&all), serde_json::json!({ "0": 7, "1": 7, "2": 7 }));
    assert!(
        said.contains("lengthened from 4 to 7 steps") && said.contains("lengthened from 6 to 7 steps"),
        "{said}"
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[test]
fn commands_take_the_folds_as_runs_or_ask_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("policy.toml");
    let (code, said) = ended(segen().args(["policy", "test-time"]).arg(&WORLD.folds).arg("-o").arg(&out));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("cross-validation of folds 0-2") && said.contains("fold-0"), "{said}");
    let out = folder.path().join("logits");
    let mut logits = segen();
    logits.arg("logits").arg(&WORLD.folds).arg("--cache").arg(&WORLD.cache).arg("-o").arg(&out);
    let (code, said) = ended(logits.args(["--voxels", "20", "--cases", "1", "--threads", "1"]));
    assert_eq!(code, 0, "{said}");
    assert!((0..3).all(|fold| out.join(format!("fold-{fold}/summary.json")).is_file()), "{said}");
    let page = folder.path().join("report.html");
    let (code, said) = ended(segen().arg("report").arg(&WORLD.folds).arg("-o").arg(&page));
    assert_eq!(code, 0, "{said}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("Held-out cases of all folds: 4 cases"), "{page}");
    assert!(page.matches("Validation cases: ").count() >= 3);
}

#[test]
fn what_is_no_cross_validation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("cv");
    let go = |out: &Path, more: &[&str]| ended(train(&WORLD.dataset, out, &WORLD.cache).args(more));
    for (given, words) in [
        (&["--folds", "0,0"][..], "fold 0 is named twice"),
        (&["--folds", "0-9"], "fold 5 is none of the 5 folds"),
        (&["--folds", "1"], "--fold 1"),
        (&["--folds", "0-1", "--fold", "0"], "cannot be used with"),
        (&["--folds", "0-1", "--set", "optimiser.learning_rate=-1"], "optimiser.learning_rate"),
    ] {
        let (code, said) = go(&out, given);
        assert_eq!(code, 2, "{given:?}: {said}");
        assert!(said.contains(words), "{given:?}: {said}");
        assert!(!out.exists(), "{given:?}");
    }
    // Folds of a file that hold one case out twice.
    let ids: Vec<String> = json(&WORLD.folds.join("folds.json"))["held_out"]["0"]
        .as_array()
        .unwrap()
        .iter()
        .chain(json(&WORLD.folds.join("folds.json"))["held_out"]["1"].as_array().unwrap())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    let splits = folder.path().join("splits.json");
    let fold = serde_json::json!({"train": ids[1..], "val": ids[..1]});
    fs::write(&splits, serde_json::json!([fold, fold]).to_string()).unwrap();
    let (code, said) = go(&out, &["--folds", "0-1", "--splits", splits.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(&format!("folds 0 and 1 both hold out `{}`", ids[0])), "{said}");
    // Other settings, fewer folds, one fold of it, a run of a single fold.
    let all = folder.path().join("all");
    copy(&WORLD.folds, &all);
    let more = ["--folds", "0-2", "--resume", "--set", "plan.base_features=8"];
    let (code, said) = go(&all, &more);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("another configuration"), "{said}");
    let (code, said) = go(&all, &["--folds", "0-1", "--resume"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("fold 2 belongs to the cross-validation"), "{said}");
    let (code, said) = go(&all, &["--fold", "1", "--resume"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("leave --fold out") && said.contains("fold-0"), "{said}");
    let (code, said) = go(&all.join("fold-0"), &["--folds", "0-2", "--resume"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("a run of a single fold"), "{said}");
}

#[test]
fn a_fold_that_fails_leaves_the_others_and_further_folds_are_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("cv");
    let mut diverges = train(&WORLD.dataset, &out, &WORLD.cache);
    let (code, said) = ended(diverges.args(["--folds", "0-1", "--set", "optimiser.learning_rate=1e30"]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("2 of 2 folds failed") && said.contains("fold 1: training diverged"), "{said}");
    assert!(said.contains("go on with: segen train") && !out.join("summary.json").exists(), "{said}");
    let (code, said) = predict(&out, &folder.path().join("out"), &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("fold 0 (failed: training diverged"), "{said}");
    let all = folder.path().join("all");
    copy(&WORLD.folds, &all);
    let (code, said) = ended(resume(&all).args(["--folds", "0-3"]));
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("trained and scored already").count(), 3, "{said}");
    assert!(scores(&all.join("summary.json")).len() > scores(&WORLD.folds.join("summary.json")).len());
    assert_eq!(json(&all.join("folds.json"))["pooled"].as_object().unwrap().len(), 4);
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn all_folds_are_exported_as_one_model_that_predicts_as_they_do() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let export = |from: &Path, to: &Path| ended(segen().arg("export").arg(from).arg("-o").arg(to));
    let (code, said) = export(&WORLD.folds, &place("made"));
    assert_eq!(code, 0, "{said}");
    let model = place("given away");
    fs::rename(place("made"), &model).unwrap();
    // The same bytes, of all together with what they chose and of a fold alone, which has too few cases to choose.
    let pairs = [
        (WORLD.folds.clone(), model.clone(), "all", &["--probabilities", "--operating", "auto"][..]),
        (WORLD.folds.join("fold-1"), model.join("fold-1"), "one", &["--probabilities"]),
    ];
    for (from, to, all, options) in pairs {
        let [of_folds, of_model] = ["folds", "model"].map(|name| place(&format!("{name}-{all}")));
        for (from, out) in [(&from, &of_folds), (&to, &of_model)] {
            let (code, said) = predict(from, out, options);
            assert_eq!(code, 0, "{said}");
        }
        assert!(!label_maps(&of_folds).is_empty());
        assert_eq!(label_maps(&of_folds), label_maps(&of_model));
        let probabilities = |out: &Path| label_maps(&out.join("probabilities"));
        assert_eq!(probabilities(&of_folds), probabilities(&of_model));
    }
    let (code, said) =
        predict(&model, &place("folds-all"), &["--probabilities", "--operating", "auto", "--continue"]);
    assert!(code == 0 && said.contains("were there already"), "{said}");
    // Nothing of the data and the training but what predicts.
    let split = json(&WORLD.folds.join("fold-0/split.json"));
    let cases = ["train", "validation"].into_iter().flat_map(|part| split[part].as_array().unwrap());
    let mut secrets: Vec<String> = cases.map(|case| case.as_str().unwrap().to_owned()).collect();
    assert_eq!(secrets.len(), 6);
    secrets.push(WORLD.dataset.parent().unwrap().to_str().unwrap().to_owned());
    for file in files(&model) {
        let content = fs::read(&file).unwrap();
        assert!(!file.to_string_lossy().contains("optimiser"));
        for secret in &secrets {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "`{secret}` in {}", file.display());
        }
    }
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    for words in [
        "# made\n",
        "3 networks",
        "| cases held out | 4, each by one of 3 networks |",
        "Mean over 4 held-out",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    // Every file but the list is in the list.
    let sums = fs::read_to_string(model.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count() + 1, files(&model).len(), "{sums}");
    if let Ok(checked) =
        Command::new("sha256sum").args(["--quiet", "-c", "SHA256SUMS"]).current_dir(&model).output()
    {
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

#[test]
fn an_exported_cross_validation_is_refused_where_it_is_damaged_or_cannot_serve() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    let (code, said) = ended(segen().arg("export").arg(&WORLD.folds).arg("-o").arg(&model));
    assert_eq!(code, 0, "{said}");
    for name in [
        "model.json",
        "folds.json",
        "post.json",
        "fold-1/weights.safetensors",
        "fold-2/plan.json",
        "fold-0/SHA256SUMS",
    ] {
        let file = model.join(name);
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 2] ^= 1;
        fs::write(&file, bytes).unwrap();
        let (code, said) = predict(&model, &out, &[]);
        assert!(
            code == 2 && said.contains(name) && said.contains("damaged or was changed"),
            "{name}: {said}"
        );
        fs::write(&file, whole).unwrap();
    }
    let (fold, aside) = (model.join("fold-2"), folder.path().join("aside"));
    fs::rename(&fold, &aside).unwrap();
    let (code, said) = predict(&model, &out, &[]);
    assert!(code == 2 && said.contains("fold-2") && said.contains("missing"), "{said}");
    fs::rename(&aside, &fold).unwrap();
    assert!(!out.exists());
    let model = model.to_str().unwrap();
    let dataset = WORLD.dataset.to_str().unwrap();
    for (line, place, words) in [
        (vec!["export", model], "a", "an exported model already"),
        (vec!["train", dataset, "--resume"], "model", "exported model"),
        (vec!["train", dataset, "--folds", "0-2"], "model", "exported model"),
        (vec!["train", dataset, "--init", model], "b", "name one of its folds"),
        (vec!["logits", model], "c", "exported model"),
        (vec!["report", model], "d.html", "exported model"),
        (vec!["policy", "show", model], "e.png", "exported model"),
        (vec!["policy", "test-time", model], "f.toml", "exported model"),
        (vec!["predict", model, dataset, "--checkpoint", "best"], "g", "exported model"),
    ] {
        let (code, said) = ended(segen().args(&line).arg("-o").arg(folder.path().join(place)));
        assert!(code == 2 && said.contains(words), "{line:?}: {said}");
    }
    assert!(!Path::new(model).join("claim.json").exists());
    // A cross-validation that is not complete is none yet.
    let part = folder.path().join("part");
    for name in ["folds.json", "settings.toml", "post.json", "operating.json"] {
        fs::create_dir_all(&part).unwrap();
        fs::copy(WORLD.folds.join(name), part.join(name)).unwrap();
    }
    let (code, said) = ended(segen().arg("export").arg(&part).arg("-o").arg(folder.path().join("h")));
    assert!(code == 2 && said.contains("unfinished"), "{said}");
}
