//! What `segen train` says of its data: before the first step, and when a run goes on with other data than it began with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{phantom, segen};
use ndarray::s;
use segen::image::nifti::{read_image, read_labels, write_image, write_labels};

/// A small training of `steps` steps on `dataset`.
fn train(dataset: &Path, run: &Path, steps: u64) -> Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).args(["--threads", "1", "--steps"]);
    command.arg(steps.to_string());
    for set in ["plan.patch=[16, 16, 16]", "plan.batch=2", "plan.base_features=4", "checkpoint.every_steps=2"]
    {
        command.args(["--set", set]);
    }
    command
}

fn resume(dataset: &Path, run: &Path) -> Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).args(["--threads", "1", "--resume"]);
    command
}

/// Exit code and words of a command.
fn ended(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stderr).unwrap())
}

/// A run with four steps of which the last two are still to be done.
fn half_done(dataset: &Path, run: &Path) {
    let (code, words) = ended(&mut train(dataset, run, 4));
    assert_eq!(code, 0, "{words}");
    fs::remove_dir_all(run.join("checkpoint/step-4")).unwrap();
    fs::write(run.join("checkpoint/latest"), "step-2\n").unwrap();
    fs::remove_dir_all(run.join("validation")).unwrap();
}

fn json(path: PathBuf) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn edit_labels(path: &Path, edit: impl FnOnce(&mut ndarray::Array3<u8>)) {
    let (mut labels, header) = read_labels(path).unwrap();
    edit(&mut labels.voxels);
    write_labels(path, &labels, Some(&header)).unwrap();
}

fn edit_description(dataset: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = dataset.join("dataset.json");
    let mut description = json(path.clone());
    edit(&mut description);
    fs::write(path, description.to_string()).unwrap();
}

/// Names of the training cases and of the test cases.
fn cases(dataset: &Path) -> [Vec<String>; 2] {
    ["labelsTr", "labelsTs"].map(|place| {
        let names = fs::read_dir(dataset.join(place)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> =
            names.map(|name| name.to_str().unwrap().trim_end_matches(".nii.gz").to_owned()).collect();
        names.sort();
        names
    })
}

#[test]
fn a_run_that_goes_on_has_the_data_that_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    let run = folder.path().join("run");
    half_done(&dataset, &run);
    let [training, test] = cases(&dataset);
    let case = |place: &str, id: &str| dataset.join(place).join(format!("{id}.nii.gz"));
    let refused = |words_wanted: &[&str]| {
        let (code, words) = ended(&mut resume(&dataset, &run));
        assert_eq!(code, 2, "{words}");
        for wanted in words_wanted {
            assert!(words.contains(wanted), "`{wanted}` is not in: {words}");
        }
        assert!(!words.contains("panicked") && !run.join("checkpoint/step-4").exists(), "{words}");
    };

    // A label file, an image, and a test case's label file.
    let files = [
        (case("labelsTr", &training[1]), "label file"),
        (dataset.join("imagesTr").join(format!("{}_0000.nii.gz", training[2])), "image"),
        (case("labelsTs", &test[0]), "label file"),
    ];
    for (path, what) in &files {
        let before = fs::read(path).unwrap();
        match *what {
            "image" => {
                let (mut image, header) = read_image(path).unwrap();
                image.voxels[[3, 3, 3]] += 1.0;
                write_image(path, &image, Some(&header)).unwrap();
            }
            _ => edit_labels(path, |voxels| voxels[[3, 3, 3]] = 1 - voxels[[3, 3, 3]].min(1)),
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        refused(&[what, name, "--anyway"]);
        // The same bytes again, only later.
        fs::write(path, before).unwrap();
    }

    // dataset.json, and cases that are gone.
    let description = fs::read(dataset.join("dataset.json")).unwrap();
    edit_description(&dataset, |d| d["labels"]["cyst"] = 2.into());
    refused(&["labels", "class `cyst` was added"]);
    let (code, words) = ended(resume(&dataset, &run).arg("--anyway"));
    assert_eq!(code, 2, "a network has as many outputs as it has: {words}");
    fs::write(dataset.join("dataset.json"), &description).unwrap();
    edit_description(&dataset, |d| d["channel_names"]["0"] = "CT".into());
    refused(&["channel_names", "CT"]);
    fs::write(dataset.join("dataset.json"), &description).unwrap();
    let away = folder.path().join("away.nii.gz");
    let image = dataset.join("imagesTr").join(format!("{}_0000.nii.gz", training[0]));
    fs::rename(&image, &away).unwrap();
    refused(&[&format!("case `{}` is gone", training[0])]);
    fs::rename(&away, &image).unwrap();

    // A further case that the run does not use, and a new name for the data set: no changes.
    fs::copy(&image, dataset.join("imagesTr/zz_0000.nii.gz")).unwrap();
    fs::copy(case("labelsTr", &training[0]), case("labelsTr", "zz")).unwrap();
    edit_description(&dataset, |d| d["name"] = "another".into());
    let (code, words) = ended(&mut resume(&dataset, &run));
    assert_eq!(code, 0, "{words}");
    assert!(!words.contains("changed"), "{words}");
}

#[test]
fn a_change_that_is_accepted_is_kept_in_run_json() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    let run = folder.path().join("run");
    half_done(&dataset, &run);
    let [training, _] = cases(&dataset);
    let labels = dataset.join("labelsTr").join(format!("{}.nii.gz", training[1]));
    edit_labels(&labels, |voxels| voxels.slice_mut(s![..4, ..4, ..4]).fill(1));
    let (code, words) = ended(resume(&dataset, &run).arg("--anyway"));
    assert_eq!(code, 0, "{words}");
    let accepted = json(run.join("run.json"))["accepted"].to_string();
    assert!(accepted.contains(&training[1]) && accepted.contains("label file"), "{accepted}");
    // What was accepted once is what the run goes on with.
    let (code, words) = ended(&mut resume(&dataset, &run));
    assert_eq!(code, 0, "{words}");
    assert_eq!(json(run.join("run.json"))["accepted"].to_string(), accepted);
}

#[test]
fn a_run_of_a_version_without_a_record_of_its_data_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    let run = folder.path().join("run");
    half_done(&dataset, &run);
    fs::remove_file(run.join("data.json")).unwrap();
    let (code, words) = ended(&mut resume(&dataset, &run));
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("kept no record of its data"), "{words}");
    assert!(run.join("data.json").is_file());
}

#[test]
fn errors_of_the_check_are_refused_unless_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    let [training, _] = cases(&dataset);
    let image = |id: &str| dataset.join("imagesTr").join(format!("{id}_0000.nii.gz"));
    let labels = |id: &str| dataset.join("labelsTr").join(format!("{id}.nii.gz"));
    let run = folder.path().join("run");

    // The same scan twice, a label file half a voxel off, a constant image, a wrong count.
    fs::copy(image(&training[0]), image(&training[1])).unwrap();
    let (mut shifted, header) = read_labels(&labels(&training[2])).unwrap();
    let spacing = shifted.grid.spacing()[0];
    shifted.grid.affine[0][3] += 0.5 * spacing;
    write_labels(&labels(&training[2]), &shifted, None).unwrap();
    drop(header);
    let (mut flat, header) = read_image(&image(&training[3])).unwrap();
    flat.voxels.fill(7.0);
    write_image(&image(&training[3]), &flat, Some(&header)).unwrap();
    edit_description(&dataset, |d| d["numTraining"] = 6.into());

    let (code, words) = ended(&mut train(&dataset, &run, 2));
    assert_eq!(code, 2, "{words}");
    for wanted in ["same image", "mm from", "numTraining is 6", "warning: ", "every voxel is 7", "--anyway"] {
        assert!(words.contains(wanted), "`{wanted}` is not in: {words}");
    }
    assert!(!run.exists(), "nothing came of it, so nothing is left");
    let (code, words) = ended(train(&dataset, &run, 2).arg("--anyway"));
    assert_eq!(code, 0, "{words}");
    let accepted = json(run.join("run.json"))["accepted"].to_string();
    assert!(accepted.contains("numTraining is 6") && accepted.contains(&training[2]), "{accepted}");
    // And goes on without being asked again.
    let (code, words) = ended(&mut resume(&dataset, &run));
    assert_eq!(code, 0, "{words}");
}

#[test]
fn a_faulty_test_case_is_found_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    let [_, test] = cases(&dataset);
    let image = dataset.join("imagesTs").join(format!("{}_0000.nii.gz", test[0]));
    let labels = dataset.join("labelsTs").join(format!("{}.nii.gz", test[1]));
    let run = folder.path().join("run");
    let sound = [fs::read(&image).unwrap(), fs::read(&labels).unwrap()];
    for fault in ["cut", "value", "shape", "nan"] {
        match fault {
            "cut" => fs::write(&image, &sound[0][..2000]).unwrap(),
            "value" => edit_labels(&labels, |voxels| voxels[[1, 1, 1]] = 9),
            "shape" => {
                let (mut wrong, _) = read_labels(&labels).unwrap();
                wrong.voxels = wrong.voxels.slice(s![.., .., ..20]).to_owned();
                wrong.grid.shape[2] = 20;
                write_labels(&labels, &wrong, None).unwrap();
            }
            _ => {
                let (mut wrong, header) = read_image(&image).unwrap();
                wrong.voxels[[5, 5, 5]] = f32::NAN;
                write_image(&image, &wrong, Some(&header)).unwrap();
            }
        }
        let (code, words) = ended(&mut train(&dataset, &run, 2));
        assert_eq!(code, 2, "{fault}: {words}");
        let name = if fault == "cut" || fault == "nan" { &test[0] } else { &test[1] };
        assert!(words.contains(name) && !run.join("checkpoint").exists(), "{fault}: {words}");
        fs::write(&image, &sound[0]).unwrap();
        fs::write(&labels, &sound[1]).unwrap();
    }
}

#[test]
fn a_class_that_no_training_case_has_is_named_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    edit_description(&dataset, |d| d["labels"]["rare"] = 2.into());
    // Held out in fold 0.
    let held_out = {
        let run = folder.path().join("probe");
        let (code, words) = ended(&mut train(&dataset, &run, 1));
        assert_eq!(code, 0, "{words}");
        assert!(words.contains("no training case of this fold has `rare`"), "{words}");
        json(run.join("split.json"))["validation"][0].as_str().unwrap().to_owned()
    };
    let labels = dataset.join("labelsTr").join(format!("{held_out}.nii.gz"));
    edit_labels(&labels, |voxels| voxels.slice_mut(s![8..12, 8..12, 8..12]).fill(2));
    let run = folder.path().join("run");
    let mut command = train(&dataset, &run, 1);
    command.args(["--method", "asym-combination", "--set", "method.rare=[\"rare\"]"]);
    let (code, words) = ended(&mut command);
    assert_eq!(code, 0, "{words}");
    assert!(
        words.contains("no training case of this fold has `rare`, although `method.rare` names it"),
        "{words}"
    );
    // In another fold it is trained on.
    let other = folder.path().join("other");
    let (code, words) = ended(train(&dataset, &other, 1).args(["--fold", "1"]));
    assert_eq!(code, 0, "{words}");
    assert!(!words.contains("no training case of this fold"), "{words}");
}

#[test]
fn unusual_folds_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    let run = folder.path().join("run");
    let (code, words) = ended(train(&dataset, &run, 1).args(["--fold", "7"]));
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("fold 7") && words.contains("random 80:20 split"), "{words}");
    let all = folder.path().join("all");
    let Output { status, stdout, stderr } =
        train(&dataset, &all, 1).args(["--fold", "all"]).output().unwrap();
    assert!(status.success());
    let table = String::from_utf8(stdout).unwrap();
    assert!(table.contains("training cases, no estimate"), "{table}");
    assert!(String::from_utf8(stderr).unwrap().contains("no estimate for new ones"));
    assert_eq!(json(all.join("validation/summary.json"))["trained_on"], true);
    let page = folder.path().join("page.html");
    let mut report = segen();
    report.arg("report").arg(&all).arg("-o").arg(&page);
    assert_eq!(ended(&mut report).0, 0);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("Training cases, no estimate") && !page.contains("Validation cases"));
    assert!(page.contains("none held out"));
}

#[test]
fn folds_of_a_named_file_are_kept_by_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 5, "32,32,32");
    let [training, _] = cases(&dataset);
    let splits = folder.path().join("mine.json");
    let folds = |train: &[String], val: &[String]| serde_json::json!([{ "train": train, "val": val }]);
    fs::write(&splits, folds(&training[..3], &training[4..]).to_string()).unwrap();
    let run = folder.path().join("run");
    let mut command = train(&dataset, &run, 4);
    // A path that means something only where the command runs is kept as one that means the same everywhere.
    command.current_dir(folder.path()).args(["--splits", "mine.json"]);
    let (code, words) = ended(&mut command);
    assert_eq!(code, 0, "{words}");
    let split = json(run.join("split.json"));
    let expected = serde_json::json!({ "train": training[..3], "validation": training[4..] });
    assert_eq!(split, expected);
    assert!(fs::read_to_string(run.join("config.toml")).unwrap().contains(splits.to_str().unwrap()));

    fs::remove_dir_all(run.join("checkpoint/step-4")).unwrap();
    fs::write(run.join("checkpoint/latest"), "step-2\n").unwrap();
    fs::write(&splits, folds(&training[..2], &training[4..]).to_string()).unwrap();
    let (code, words) = ended(&mut resume(&dataset, &run));
    assert!(code == 2 && words.contains("the run's fold has other cases"), "{words}");
    let (code, words) = ended(resume(&dataset, &run).arg("--anyway"));
    assert_eq!(code, 0, "{words}");
    assert_eq!(json(run.join("split.json")), expected, "a resumed run keeps its cases");

    let other = folder.path().join("other");
    let (code, words) = ended(train(&dataset, &other, 1).arg("--splits").arg(&splits).args(["--fold", "1"]));
    assert!(code == 2 && words.contains("mine.json") && words.contains("fold 1"), "{words}");
}
