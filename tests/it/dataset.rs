//! Tests of `segen::data::dataset`.

use std::path::Path;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use segen::config::FoldChoice;
use segen::data::dataset::{Dataset, Fold};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support;

/// Writes a data set without voxels: opening reads names alone.
fn folder(description: &Value, files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dataset.json"), description.to_string()).unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    folder
}

fn description() -> Value {
    json!({
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    })
}

const FILES: [&str; 6] = [
    "imagesTr/b_0000.nii.gz",
    "imagesTr/b_0001.nii.gz",
    "imagesTr/a_0000.nii.gz",
    "imagesTr/a_0001.nii.gz",
    "labelsTr/a.nii.gz",
    "labelsTr/b.nii.gz",
];

fn open(description: &Value, files: &[&str]) -> (tempfile::TempDir, segen::Result<Dataset>) {
    let folder = folder(description, files);
    let dataset = Dataset::open(folder.path());
    (folder, dataset)
}

/// What `Dataset::open` says about a description that was changed by `change`.
fn refusal(change: impl Fn(&mut Value)) -> String {
    let mut description = description();
    change(&mut description);
    open(&description, &FILES).1.expect_err("must be refused").to_string()
}

/// Numbered names, whose order is that of the numbers.
fn numbered(count: usize) -> (tempfile::TempDir, Dataset) {
    let names: Vec<String> = (0..count)
        .flat_map(|i| [format!("imagesTr/case_{i:04}_0000.nii.gz"), format!("labelsTr/case_{i:04}.nii.gz")])
        .collect();
    let mut description = description();
    description["channel_names"] = json!({"0": "T1"});
    let (folder, dataset) = open(&description, &names.iter().map(String::as_str).collect::<Vec<_>>());
    (folder, dataset.unwrap())
}

fn relative<'a>(folder: &Path, path: &'a Path) -> &'a str {
    path.strip_prefix(folder.canonicalize().unwrap()).unwrap().to_str().unwrap()
}

#[test]
fn a_folder_is_read_with_masks_and_test_cases() {
    let mut files = FILES.to_vec();
    files.extend([
        "masksTr/a.nii.gz",
        "imagesTs/t_0000.nii.gz",
        "imagesTs/t_0001.nii.gz",
        "imagesTs/u_0000.nii.gz",
        "labelsTs/t.nii.gz",
        "imagesTr/.hidden_0000.nii.gz",
        "imagesTr/notes.txt",
    ]);
    let (folder, dataset) = open(&description(), &files);
    let dataset = dataset.unwrap();
    assert_eq!(dataset.channels, ["T1", "FLAIR"]);
    assert_eq!(dataset.labels.names, ["background", "lesion"]);
    let ids: Vec<&str> = dataset.training.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    let a = dataset.case("a").unwrap();
    assert_eq!(relative(folder.path(), &a.images[1]), "imagesTr/a_0001.nii.gz");
    assert_eq!(relative(folder.path(), a.labels.as_ref().unwrap()), "labelsTr/a.nii.gz");
    assert_eq!(relative(folder.path(), a.mask.as_ref().unwrap()), "masksTr/a.nii.gz");
    assert_eq!(dataset.case("b").unwrap().mask, None);
    let test: Vec<(&str, bool)> = dataset.test.iter().map(|c| (c.id.as_str(), c.labels.is_some())).collect();
    assert_eq!(test, [("t", true), ("u", false)]);
    assert_eq!(dataset.case("nobody"), None);
}

#[test]
fn dataset_json_itself_may_be_given() {
    let folder = folder(&description(), &FILES);
    let by_file = Dataset::open(&folder.path().join("dataset.json")).unwrap();
    assert_eq!(by_file, Dataset::open(folder.path()).unwrap());
}

#[test]
fn regions_and_the_ignore_label_are_understood() {
    let mut brats = description();
    brats["labels"] =
        json!({"background": 0, "whole": [1, 2, 3], "core": [3, 2], "enhancing": [3], "ignore": 4});
    brats["regions_class_order"] = json!([1, 2, 3]);
    brats["label_names"] = json!({"1": "oedema"});
    let labels = open(&brats, &FILES).1.unwrap().labels;
    assert_eq!(labels.classes(), 4);
    assert_eq!(labels.names, ["background", "oedema", "label 2", "enhancing"]);
    assert_eq!(labels.ignore, Some(4));
    assert_eq!(labels.regions_class_order, Some(vec![1, 2, 3]));
    let regions: Vec<_> = labels.regions.iter().map(|r| (r.name.as_str(), r.values.as_slice())).collect();
    assert_eq!(regions, [("whole", &[1, 2, 3][..]), ("core", &[2, 3]), ("enhancing", &[3])]);
}

#[test]
fn ordinary_classes_are_regions_of_one_value() {
    let mut plain = description();
    plain["labels"] = json!({"background": 0, "b": 2, "a": "1", "ignore": 3});
    let labels = open(&plain, &FILES).1.unwrap().labels;
    assert_eq!(labels.names, ["background", "a", "b"]);
    assert_eq!(labels.ignore, Some(3));
    assert_eq!(labels.regions_class_order, None);
    assert_eq!(labels.regions.len(), 2);
}

#[test]
fn a_decathlon_folder_is_read_as_it_is() {
    let msd = json!({
        "name": "BRATS",
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema", "2": "tumour"},
        "numTraining": 2,
        "training": [
            {"image": "./imagesTr/BRATS_002.nii.gz", "label": "./labelsTr/BRATS_002.nii.gz"},
            {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"},
        ],
        "test": ["./imagesTs/BRATS_009.nii.gz"],
    });
    let (folder, dataset) = open(&msd, &["imagesTr/BRATS_001.nii.gz", "imagesTr/BRATS_002.nii.gz"]);
    let dataset = dataset.unwrap();
    assert_eq!(dataset.labels.names, ["background", "edema", "tumour"]);
    assert_eq!(dataset.channels, ["FLAIR", "T1w"]);
    assert_eq!(dataset.file_ending, ".nii.gz");
    assert_eq!(dataset.training[0].id, "BRATS_001");
    assert_eq!(dataset.training[0].images.len(), 1);
    assert_eq!(relative(folder.path(), &dataset.training[0].images[0]), "imagesTr/BRATS_001.nii.gz");
    assert_eq!(dataset.test[0].id, "BRATS_009");

    // nnU-Net v1 has the same file beside one file per channel.
    let (folder, dataset) = open(&msd, &["imagesTr/BRATS_001_0000.nii.gz", "imagesTr/BRATS_002_0000.nii.gz"]);
    let images = dataset.unwrap().training.remove(0).images;
    let names: Vec<&str> = images.iter().map(|path| relative(folder.path(), path)).collect();
    assert_eq!(names, ["imagesTr/BRATS_001_0000.nii.gz", "imagesTr/BRATS_001_0001.nii.gz"]);
}

#[test]
fn an_explicit_list_of_files_is_followed() {
    let mut listed = description();
    listed["dataset"] = json!({
        "p2": {"images": ["scans/2/t1.nii.gz", "./scans/2/fl.nii.gz"], "label": "scans/2/seg.nii.gz"},
        "p1": {"images": ["/elsewhere/t1.nii.gz", "/elsewhere/fl.nii.gz"], "label": "/elsewhere/seg.nii.gz"},
    });
    let (folder, dataset) = open(&listed, &[]);
    let dataset = dataset.unwrap();
    assert_eq!(dataset.training[0].id, "p1");
    assert_eq!(dataset.training[0].images[1], Path::new("/elsewhere/fl.nii.gz"));
    assert_eq!(relative(folder.path(), &dataset.training[1].images[1]), "scans/2/fl.nii.gz");
}

#[test]
fn every_unusable_description_is_refused_with_field_and_mend() {
    type Change = fn(&mut Value);
    let table: [(Change, &str); 18] = [
        (|d| d["labels"] = json!({"lesion": 1}), "`background` is not there"),
        (|d| d["labels"] = json!({"background": 0, "lesion": 2}), "gaps: 1 is missing"),
        (|d| d["labels"] = json!({"background": 0, "ignore": 1, "lesion": 2}), "`ignore` is 1"),
        (|d| d["labels"] = json!({"background": 0, "a": 1, "b": 1}), "`a` and `b` have the same value"),
        (|d| d["labels"] = json!({"background": 0, "lesion": 1.5}), "1.5 is no whole number"),
        (
            |d| d["labels"] = json!({"background": 0, "lesion": 300}),
            "`lesion` has the value 300, but label values go up to 255",
        ),
        (|d| d["labels"] = json!({"background": 0, "lesion": "one"}), "\"one\" is no whole number"),
        (|d| d["labels"] = json!({"background": 0}), "no class but the background"),
        (|d| d["labels"] = json!({"0": "0", "1": "1"}), "`background` is not there"),
        (|d| d["labels"] = json!({"background": 0, "a": [1, 2], "b": 2}), "regions_class_order: is missing"),
        (
            |d| {
                d["labels"] = json!({"background": 0, "a": [1, 2], "b": 2});
                d["regions_class_order"] = json!([1]);
            },
            "1 values for 2 regions",
        ),
        (|d| d["channel_names"] = json!({"0": "T1", "2": "T2"}), "do not run from 0"),
        (|d| d["channel_names"] = json!({}), "channel_names: is missing"),
        (|d| d["channel_names"] = json!({"T1": 0}), "`T1` is no channel number"),
        (|d| d["file_ending"] = json!(".mha"), "`.mha` is a format that is not read"),
        (|d| d["file_ending"] = Value::Null, "file_ending: is missing"),
        (|d| d["dataset"] = json!({"a": {"images": []}}), "dataset.a: has no list `images`"),
        (
            |d| d["dataset"] = json!({"../a": {"images": ["x.nii.gz"], "label": "y.nii.gz"}}),
            "`../a` cannot be the name of a case",
        ),
    ];
    for (change, expected) in table {
        let message = refusal(change);
        assert!(message.contains(expected), "expected `{expected}` in: {message}");
        assert!(message.contains("dataset.json") && message.contains("hint: "), "{message}");
    }
    // Several problems: the first, and how many more.
    let message = refusal(|d| {
        d["labels"] = json!({"background": 0, "lesion": 2});
        d["file_ending"] = json!(".mha");
    });
    assert!(message.contains("1 more in this file"), "{message}");
}

#[test]
fn broken_json_is_named_by_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("dataset.json"), "{\n \"labels\": {,}\n}").unwrap();
    let message = Dataset::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("line 2, column 13"), "{message}");
    std::fs::write(folder.path().join("dataset.json"), "[]").unwrap();
    assert!(Dataset::open(folder.path()).unwrap_err().to_string().contains("is not an object"));
}

#[test]
fn a_folder_without_cases_says_what_it_has_instead() {
    let message = open(&description(), &["imagesTr/case1.nii.gz"]).1.unwrap_err().to_string();
    assert!(message.contains("no file named CASE_0000.nii.gz; there is `case1.nii.gz`"), "{message}");
    let message = open(&description(), &[]).1.unwrap_err().to_string();
    assert!(message.contains("imagesTr") && message.contains("segen import"), "{message}");
    let message = Dataset::open(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert!(message.contains("no such folder"), "{message}");
}

/// Some file systems flush a file that is overwritten, but not a new one.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).ok();
    std::fs::write(path, bytes).unwrap();
}

/// Changes, removes or adds bytes, also such that mean something in JSON.
fn damaged(sound: &str, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = sound.as_bytes().to_vec();
    for _ in 0..random.random_range(1..6) {
        let place = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[place] = random.random(),
            1 => bytes.truncate(place.max(1)),
            2 => bytes.insert(place, b"[]{}\":,-.9e\\"[random.random_range(0..12)]),
            _ => drop(bytes.remove(place)),
        }
        if bytes.is_empty() {
            bytes.push(b'0');
        }
    }
    bytes
}

#[test]
fn damaged_files_are_errors_or_valid_and_never_panic() {
    let mut regions = description();
    regions["labels"] = json!({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3});
    regions["regions_class_order"] = json!([1, 2]);
    regions["dataset"] = json!({"a": {"images": ["$X/0.nii.gz", "1.nii.gz"], "label": "l.nii.gz"}});
    let msd = json!({
        "modality": {"0": "T1"}, "labels": {"0": "background", "1": "a"}, "numTraining": 1,
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}], "test": ["./imagesTs/b.nii.gz"],
    });
    let folder = folder(&description(), &FILES);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let (mut refused, mut accepted) = (0, 0);
    for sound in [description().to_string(), regions.to_string(), msd.to_string()] {
        for _ in 0..1000 {
            replace(&folder.path().join("dataset.json"), &damaged(&sound, &mut random));
            match Dataset::open(folder.path()) {
                Ok(dataset) => {
                    accepted += 1;
                    assert_eq!(dataset.labels.names[0], "background");
                    assert!(!dataset.channels.is_empty() && dataset.labels.classes() > 1);
                }
                Err(error) => {
                    refused += 1;
                    assert!(
                        error.to_string().contains("dataset.json") || error.to_string().contains("imagesTr")
                    );
                }
            }
        }
    }
    assert!(refused > 100 && accepted > 100, "{refused} refused, {accepted} accepted");
    let (folder, dataset) = numbered(4);
    let sound = r#"[{"train": ["case_0002", "case_0000"], "val": ["case_0003"]}]"#;
    for _ in 0..2000 {
        replace(&folder.path().join("splits_final.json"), &damaged(sound, &mut random));
        let Ok(folds) = dataset.folds() else { continue };
        assert!(folds.iter().flat_map(|fold| &fold.train).all(|id| dataset.case(id).is_some()));
    }
}

#[derive(Deserialize)]
struct Reference {
    cross_validation: Vec<CrossValidation>,
    random_split: Vec<RandomSplit>,
}

#[derive(Deserialize)]
struct CrossValidation {
    cases: usize,
    val: Vec<Vec<usize>>,
}

#[derive(Deserialize)]
struct RandomSplit {
    cases: usize,
    fold: usize,
    train: Vec<usize>,
}

#[test]
fn folds_equal_those_of_scikit_learn_and_nnunet() {
    let text = std::fs::read_to_string(support::data("folds.json")).unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    let names =
        |indices: &[usize]| -> Vec<String> { indices.iter().map(|i| format!("case_{i:04}")).collect() };
    for expected in reference.cross_validation {
        let (_folder, dataset) = numbered(expected.cases);
        let folds = dataset.folds().unwrap();
        assert_eq!(folds.len(), expected.val.len());
        for (fold, val) in folds.iter().zip(&expected.val) {
            let train: Vec<usize> = (0..expected.cases).filter(|i| !val.contains(i)).collect();
            assert_eq!(fold.validation, names(val), "{} cases", expected.cases);
            assert_eq!(fold.train, names(&train), "{} cases", expected.cases);
        }
    }
    for expected in reference.random_split {
        let (_folder, dataset) = numbered(expected.cases);
        let fold = dataset.fold(FoldChoice::Number(expected.fold)).unwrap();
        let val: Vec<usize> = (0..expected.cases).filter(|i| !expected.train.contains(i)).collect();
        assert_eq!(fold.train, names(&expected.train));
        assert_eq!(fold.validation, names(&val));
    }
}

#[test]
fn a_single_case_cannot_be_split_but_trained_on() {
    let (_folder, dataset) = numbered(1);
    assert!(dataset.folds().unwrap_err().to_string().contains("--fold all"));
    assert!(dataset.fold(FoldChoice::Number(7)).is_err());
    let all = dataset.fold(FoldChoice::All).unwrap();
    assert_eq!(all.train, all.validation);
    assert_eq!(all.train, ["case_0000"]);
}

#[test]
fn splits_final_is_followed_and_checked() {
    let (folder, dataset) = numbered(4);
    let write = |text: &str| std::fs::write(folder.path().join("splits_final.json"), text).unwrap();
    write(r#"[{"train": ["case_0002", "case_0000"], "val": ["case_0003"]}]"#);
    let given =
        Fold { train: vec!["case_0002".into(), "case_0000".into()], validation: vec!["case_0003".into()] };
    assert_eq!(dataset.folds().unwrap(), std::slice::from_ref(&given));
    assert_eq!(dataset.fold(FoldChoice::Number(0)).unwrap(), given);
    // Beyond the list: random, as in nnU-Net.
    assert_eq!(dataset.fold(FoldChoice::Number(1)).unwrap().train.len(), 3);
    for (text, expected) in [
        (r#"[{"train": ["case_0002", "x"], "val": ["case_0003"]}]"#, "fold 0, train: names 1 case that no"),
        (
            r#"[{"train": ["case_0002"], "val": ["case_0002"]}]"#,
            "trains on cases that it validates on: case_0002",
        ),
        (r#"[{"train": ["case_0002"], "val": []}]"#, "fold 0, val: names no case"),
        (r#"[{"train": ["case_0002", "case_0002"], "val": ["case_0001"]}]"#, "names twice: case_0002"),
        (r#"[]"#, "the list of folds is empty"),
        (r#"[{"train": ["case_0002"]}]"#, "missing field `val`"),
        (r#"{"train": []}"#, "line 1"),
    ] {
        write(text);
        let message = dataset.folds().unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("splits_final.json"), "{message}");
    }
}

#[test]
fn a_file_of_folds_that_is_named_stands_for_the_data_sets_own() {
    let (folder, mut dataset) = numbered(4);
    std::fs::write(folder.path().join("splits_final.json"), "[]").unwrap();
    let path = folder.path().join("institutions.json");
    let text = r#"[{"train": ["case_0001"], "val": ["case_0000", "case_0002"]}]"#;
    std::fs::write(&path, text).unwrap();
    dataset.splits = Some(path.clone());
    let fold = dataset.fold(FoldChoice::Number(0)).unwrap();
    assert_eq!((fold.train.len(), fold.validation.len()), (1, 2));
    let message = dataset.fold(FoldChoice::Number(1)).unwrap_err().to_string();
    assert!(message.contains("institutions.json") && message.contains("fold 1"), "{message}");
    std::fs::write(&path, text.replace("case_0002", "case_0009")).unwrap();
    let message = dataset.fold(FoldChoice::Number(0)).unwrap_err().to_string();
    for part in ["institutions.json", "fold 0, val", "case_0009"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(dataset.fold(FoldChoice::Number(0)).unwrap_err().to_string().contains("institutions.json"));
}

#[test]
fn fold_choices_are_words_in_files_and_on_the_command_line() {
    assert_eq!("3".parse::<FoldChoice>().unwrap(), FoldChoice::Number(3));
    assert_eq!("all".parse::<FoldChoice>().unwrap(), FoldChoice::All);
    assert_eq!(serde_json::to_value(FoldChoice::All).unwrap(), json!("all"));
    assert_eq!(serde_json::from_value::<FoldChoice>(json!("2")).unwrap(), FoldChoice::Number(2));
    for wrong in ["-1", "All", "", "1.5"] {
        assert!(wrong.parse::<FoldChoice>().is_err(), "{wrong}");
    }
}

#[test]
fn the_real_hippocampus_set_opens_with_folds_of_forty() {
    let Some(folder) = support::real("Dataset004_Hippocampus") else { return };
    let dataset = Dataset::open(&folder).unwrap();
    assert_eq!(dataset.name, "Dataset004_Hippocampus");
    assert_eq!(dataset.training.len(), 200);
    assert_eq!(dataset.labels.names, ["background", "anterior", "posterior"]);
    let folds = dataset.folds().unwrap();
    assert!(folds.len() == 5 && folds.iter().all(|fold| fold.validation.len() == 40));
}
