//! Trainings that begin with what is there: the weights and the plan of another run, the end of their own; and runs of
//! different plans that predict together.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use common::{phantom, segen};
use ndarray::Array3;
use segen::image;
use serde_json::Value;

/// A data set and a run on it that no test changes.
struct World {
    /// Goes with the process.
    _folder: tempfile::TempDir,
    dataset: PathBuf,
    run: PathBuf,
    cache: PathBuf,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 6, "32,32,32");
    let (run, cache) = (folder.path().join("run"), folder.path().join("cache"));
    let (code, said) = ended(train(&dataset, &run, &cache, 4).args(NETWORK));
    assert_eq!(code, 0, "{said}");
    World { dataset, run, cache, _folder: folder }
});

const NETWORK: [&str; 6] =
    ["--set", "plan.patch=[16, 16, 16]", "--set", "plan.batch=2", "--set", "plan.base_features=4"];

/// A small training, without settings of its network.
fn train(dataset: &Path, run: &Path, cache: &Path, steps: u64) -> Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).arg("--cache").arg(cache);
    command.args(["--steps", &steps.to_string(), "--threads", "1"]);
    for set in [
        "policy.name=heuristic",
        "validation.cases_per_epoch=1",
        "validation.post=off",
        "schedule.steps_per_epoch=3",
    ] {
        command.args(["--set", set]);
    }
    command
}

fn ended(command: &mut Command) -> (i32, String) {
    let done = command.output().unwrap();
    (done.status.code().unwrap_or(-1), String::from_utf8(done.stderr).unwrap())
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Weights by name: shape and bytes.
fn weights(file: &Path) -> HashMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(file).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let all = file.tensors().into_iter();
    all.map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec()))).collect()
}

fn last(run: &Path) -> PathBuf {
    let name = fs::read_to_string(run.join("checkpoint/latest")).unwrap();
    run.join("checkpoint").join(name.trim()).join("weights.safetensors")
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

/// The data set with other names of its channel and its class.
fn renamed(folder: &Path, channel: &str, class: &str) -> PathBuf {
    let to = folder.join("Dataset901_Other");
    copy(&WORLD.dataset, &to);
    let mut description = json(&to.join("dataset.json"));
    description["channel_names"] = serde_json::json!({ "0": channel });
    description["labels"] = serde_json::json!({ "background": 0, class: 1 });
    fs::write(to.join("dataset.json"), description.to_string()).unwrap();
    to
}

#[test]
fn a_run_begins_with_the_plan_and_the_weights_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("same");
    let from = WORLD.run.to_str().unwrap();
    // The same data: everything is copied, and what was trained on is told.
    let (code, said) =
        ended(train(&WORLD.dataset, &run, &WORLD.cache, 1).args(["--init", from, "--fold", "1"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("initial weights from") && said.contains("step 4"), "{said}");
    assert!(said.contains("encoder.0.0.conv to head.0") && said.contains("layers): copied"), "{said}");
    assert!(said.contains("were trained on by the run"), "{said}");
    let start = weights(&run.join("initial.safetensors"));
    assert_eq!(start, weights(&last(&WORLD.run)));
    assert_eq!(start, weights(&run.join("checkpoint/step-0/weights.safetensors")), "step 0");
    let plan = |run: &Path, key: &str| json(&run.join("plan.json"))[key].clone();
    for key in ["spacing", "patch", "batch", "normalisation", "unet"] {
        assert_eq!(plan(&run, key), plan(&WORLD.run, key), "{key}");
    }
    assert_ne!(weights(&last(&run)), start, "it goes on from there");
    // Again: the same bytes, also where it was stopped before its first checkpoint and the other run is gone.
    let gone = folder.path().join("gone");
    copy(&WORLD.run, &gone);
    let again = folder.path().join("again");
    let begin = || {
        let mut command = train(&WORLD.dataset, &again, &WORLD.cache, 1);
        command.args(["--init", gone.to_str().unwrap(), "--fold", "1"]);
        command
    };
    assert_eq!(ended(&mut begin()).0, 0);
    fs::remove_dir_all(again.join("checkpoint")).unwrap();
    fs::remove_dir_all(&gone).unwrap();
    let (code, said) = ended(begin().arg("--resume"));
    assert_eq!(code, 0, "{said}");
    assert_eq!(weights(&last(&again)), weights(&last(&run)));
    // An exported model is a start as its run is, as long as it is whole.
    let model = folder.path().join("model");
    let (code, said) = ended(segen().arg("export").arg(&WORLD.run).arg("-o").arg(&model));
    assert_eq!(code, 0, "{said}");
    let begin = |name: &str| {
        let mut command = train(&WORLD.dataset, &folder.path().join(name), &WORLD.cache, 1);
        ended(command.arg("--init").arg(&model).args(["--fold", "1"]))
    };
    assert_eq!(begin("of-model").0, 0);
    assert_eq!(weights(&folder.path().join("of-model/initial.safetensors")), start);
    fs::write(model.join("plan.json"), "{}").unwrap();
    let (code, said) = begin("of-damaged");
    assert!(code == 2 && said.contains("plan.json") && said.contains("copy the model again"), "{said}");
}

#[test]
fn other_classes_get_a_head_of_their_own_and_other_channels_an_entrance() {
    let folder = tempfile::tempdir().unwrap();
    let from = WORLD.run.to_str().unwrap();
    let channel = json(&WORLD.run.join("dataset.json"))["channel_names"]["0"].as_str().unwrap().to_owned();
    let begin = |name: &str, dataset: &Path, more: &[&str]| {
        let run = folder.path().join(name);
        let (code, said) = ended(train(dataset, &run, &folder.path().join("cache"), 1).args(more));
        assert_eq!(code, 0, "{said}");
        (weights(&run.join("checkpoint/step-0/weights.safetensors")), said)
    };
    let other = weights(&last(&WORLD.run));
    let dataset = renamed(folder.path(), &channel.to_uppercase(), "tumour");
    let (start, said) = begin("tumour", &dataset, &["--init", from]);
    assert!(said.contains("head.0: drawn anew, its classes differ"), "{said}");
    let (fresh, _) = begin("fresh", &dataset, &NETWORK);
    for (name, values) in &start {
        let wanted = if name.starts_with("head") { &fresh } else { &other };
        assert_eq!(*values, wanted[name], "{name}");
    }
    fs::remove_dir_all(&dataset).unwrap();
    let dataset = renamed(folder.path(), "PET", "lesion");
    let (start, said) = begin("pet", &dataset, &["--init", from]);
    assert!(said.contains("encoder.0.0.conv: drawn anew, no channel has the same name"), "{said}");
    assert!(said.contains("normalised as planned for this data set") && said.contains("PET"), "{said}");
    assert_eq!(start["head.0.weight"], other["head.0.weight"]);
    assert_ne!(start["encoder.0.0.conv.weight"], other["encoder.0.0.conv.weight"]);
    // A mere file: its network has to be said, its channels and classes are taken by their number.
    let file = last(&WORLD.run);
    let file = file.to_str().unwrap();
    let plan = WORLD.run.join("plan.json");
    let (start, said) = begin("file", &dataset, &["--init", file, "--plan", plan.to_str().unwrap()]);
    assert!(said.contains("the plan is that of"), "{said}");
    assert_eq!(start, other);
}

#[test]
fn what_cannot_be_begun_with_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let from = WORLD.run.to_str().unwrap();
    let file = last(&WORLD.run);
    let damaged = folder.path().join("damaged.safetensors");
    fs::write(&damaged, b"no weights").unwrap();
    let plan = folder.path().join("plan.json");
    let mut value = json(&WORLD.run.join("plan.json"));
    value.as_object_mut().unwrap().remove("channel_names");
    value["channels"] = 2.into();
    value["normalisation"] = serde_json::json!([value["normalisation"][0], value["normalisation"][0]]);
    fs::write(&plan, value.to_string()).unwrap();
    let wide = ["--init", from, "--set", "plan.base_features=8"];
    let cases: [(&[&str], &[&str]); 8] = [
        (
            &wide,
            &["another network", "encoder.0.0.conv.weight", "[8, 1, 3, 3, 3] here", "plan.base_features"],
        ),
        (&["--init", file.to_str().unwrap()], &["another network", "--plan"]),
        (&["--init", damaged.to_str().unwrap()], &["damaged.safetensors"]),
        (&["--init", "nowhere"], &["nowhere", "no such folder"]),
        (&["--init", WORLD.dataset.to_str().unwrap()], &["no config.toml of a run"]),
        (&["--init", from, "--checkpoint", "77"], &["checkpoint `77`", "choose another one"]),
        (&["--plan", plan.to_str().unwrap()], &["for 2 channels, and the data set has 1"]),
        (&["--checkpoint", "best"], &["--init"]),
    ];
    for (given, words) in cases {
        let (code, said) = ended(train(&WORLD.dataset, &run, &WORLD.cache, 1).args(given));
        assert_eq!(code, 2, "{given:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{given:?}: {said}");
        }
        assert!(!run.join("config.toml").exists(), "{given:?}");
    }
    // What one attempt left is not begun with by the next.
    fs::create_dir_all(&run).unwrap();
    let (code, said) = ended(train(&WORLD.dataset, &run, &WORLD.cache, 1).args(NETWORK));
    assert_eq!(code, 0, "{said}");
    assert!(!run.join("initial.safetensors").exists());
}

#[test]
fn a_run_that_has_finished_is_lengthened() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    copy(&WORLD.run, &run);
    let resume = |more: &[&str]| {
        let mut command = segen();
        command.arg("train").arg(&WORLD.dataset).arg("-o").arg(&run).arg("--cache").arg(&WORLD.cache);
        ended(command.args(["--threads", "1", "--resume"]).args(more))
    };
    // The same number is what it was: validated again.
    let (code, said) = resume(&["--steps", "4"]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("lengthened"), "{said}");
    assert_eq!(weights(&last(&run)), weights(&last(&WORLD.run)));
    for (given, words) in [
        (&["--steps", "3"][..], &["3 steps in all", "done 4 already"][..]),
        (&["--time-budget", "1m"], &["by a number of steps"]),
        (&["--steps", "9", "--set", "optimiser.learning_rate=1"], &["another configuration"]),
    ] {
        let (code, said) = resume(given);
        assert_eq!(code, 2, "{given:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{given:?}: {said}");
    }
    let (code, said) = resume(&["--steps", "7"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("lengthened from 4 to 7 steps") && said.contains("7 of 7 steps"), "{said}");
    assert_eq!(json(&run.join("run.json"))["lengthened"], serde_json::json!([{ "from": 4, "to": 7 }]));
    assert!(fs::read_to_string(run.join("config.toml")).unwrap().contains("steps = 7"));
    let events = fs::read_to_string(run.join("events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| -> Vec<&Value> { events.iter().filter(|event| event["event"] == kind).collect() };
    let steps: Vec<u64> = of("step").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(0..7), "{steps:?}");
    // The learning rate of step 4 of 7, and the mean loss of the epoch that the first end cut short.
    let rate = of("step")[4]["learning_rate"].as_f64().unwrap();
    assert!((rate - 0.01 * (1.0f64 - 4.0 / 7.0).powf(0.9)).abs() < 1e-9, "{rate}");
    let loss = |step: usize| of("step")[step]["loss"].as_f64().unwrap();
    let mean = of("epoch").iter().find(|event| event["step"] == 5).unwrap()["train_loss"].as_f64().unwrap();
    assert!((mean - (loss(3) + loss(4) + loss(5)) / 3.0).abs() < 1e-9, "{mean}");
    // Once lengthened it goes on with its own settings, and epochs count as steps.
    let (code, said) = resume(&[]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = resume(&["--epochs", "3"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("lengthened from 7 to 9 steps"), "{said}");
    // One that has not finished is finished first.
    let mut manifest = json(&run.join("run.json"));
    manifest["state"] = "stopped".into();
    fs::write(run.join("run.json"), manifest.to_string()).unwrap();
    let (code, said) = resume(&["--steps", "12"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("has not finished"), "{said}");
}

#[test]
fn runs_of_different_plans_are_averaged_on_the_scan_s_own_grid() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let spacing = json(&WORLD.run.join("plan.json"))["spacing"].clone();
    let coarse: Vec<f64> =
        spacing.as_array().unwrap().iter().map(|edge| 1.7 * edge.as_f64().unwrap()).collect();
    let other = out("coarse");
    let spacing = format!("plan.spacing={coarse:?}");
    let more = [
        "--set",
        &spacing,
        "--set",
        "plan.patch=[8, 16, 8]",
        "--set",
        "plan.base_features=6",
        "--set",
        "plan.batch=1",
    ];
    let (code, said) = ended(train(&WORLD.dataset, &other, &WORLD.cache, 3).args(more));
    assert_eq!(code, 0, "{said}");
    let scans = WORLD.dataset.join("imagesTs");
    let predict = |run: &Path, to: &str, more: &[&str]| {
        let mut command = segen();
        command.arg("predict").arg(run).arg(&scans).arg("-o").arg(out(to)).args(["--threads", "1"]);
        ended(command.args(["--probabilities=f32", "--no-masks"]).args(more))
    };
    let with = |run: &Path| run.to_str().unwrap().to_owned();
    let (code, said) = predict(&WORLD.run, "mixed", &["--with", &with(&other), "--with", &with(&WORLD.run)]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 runs of 2 plans"), "{said}");
    assert_eq!(predict(&WORLD.run, "one", &[]).0, 0);
    assert_eq!(predict(&other, "two", &[]).0, 0);
    let volume = |name: &str, file: &str| -> Array3<f32> {
        image::read_image(&out(name).join("probabilities").join(file)).unwrap().0.voxels
    };
    let mut compared = 0;
    for entry in fs::read_dir(out("mixed").join("probabilities")).unwrap() {
        let file = entry.unwrap().file_name().to_string_lossy().into_owned();
        let (mixed, one, two) = (volume("mixed", &file), volume("one", &file), volume("two", &file));
        let mean = (2.0 * &one + &two) / 3.0;
        let most = (&mixed - &mean).mapv(f32::abs).fold(0.0, |a: f32, &b| a.max(b));
        assert!(most < 1e-5, "{file}: {most}");
        assert!((&one - &two).iter().any(|difference| difference.abs() > 1e-3), "two networks that are one");
        if let Some(case) = file.strip_suffix("_probability_1.nii.gz") {
            let labels = image::read_labels(&out("mixed").join(format!("{case}.nii.gz"))).unwrap().0.voxels;
            let background = volume("mixed", &format!("{case}_probability_0.nii.gz"));
            let decided = ndarray::Zip::from(&mixed)
                .and(&background)
                .map_collect(|lesion, rest| u8::from(lesion > rest));
            assert_eq!(labels, decided, "{case}");
            compared += 1;
        }
    }
    assert!(compared > 0);
    // Whoever is named first, and in one plan as before.
    assert_eq!(predict(&other, "turned", &["--with", &with(&WORLD.run), "--with", &with(&WORLD.run)]).0, 0);
    let most = |file: &str| {
        (&volume("turned", file) - &volume("mixed", file)).mapv(f32::abs).fold(0.0, |a: f32, &b| a.max(b))
    };
    for entry in fs::read_dir(out("turned").join("probabilities")).unwrap() {
        let file = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(most(&file) < 1e-5, "{file}");
    }
    // Mirror images and a bias go with it; other classes and channels do not.
    let (code, said) =
        predict(&WORLD.run, "mirror", &["--with", &with(&other), "--mirror", "--operating", "lesion=3"]);
    assert_eq!(code, 0, "{said}");
    for (key, value, word) in [
        ("channel_names", serde_json::json!({ "0": "PET" }), "channel_names: PET, other than those"),
        ("labels", serde_json::json!({ "background": 0, "tumour": 1 }), "labels: background, tumour"),
    ] {
        let strange = out(key);
        copy(&other, &strange);
        let mut description = json(&strange.join("dataset.json"));
        description[key] = value;
        fs::write(strange.join("dataset.json"), description.to_string()).unwrap();
        let (code, said) = predict(&WORLD.run, "refused", &["--with", &with(&strange)]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(word), "{said}");
        assert!(!out("refused").exists());
    }
}
