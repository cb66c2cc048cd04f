//! Tests of `segen::data::import` on ordinary folders: what is paired with what, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array3;
use segen::data::check::{Severity, check};
use segen::data::dataset::{Dataset, cases};
use segen::data::import::{CaseFrom, Found, Images, Options, Part, recognise, write};
use segen::image::nifti;
use segen::image::volume::{Grid, Volume};
use segen::progress::Silent;

use crate::support;

/// A folder of somebody's.
struct Source(tempfile::TempDir);

impl Source {
    /// Scans and, where a name says so, label files with 0 and 1.
    fn new(files: &[&str]) -> Self {
        let source = Self(tempfile::tempdir().unwrap());
        source.add(files);
        source
    }

    fn add(&self, files: &[&str]) {
        for (number, file) in files.iter().enumerate() {
            let label = ["seg", "mask", "label", "annotations", "gt"].iter().any(|word| file.contains(word));
            match label && !file.contains("images") {
                true => self.labels(file, &[0, 1]),
                false => self.image(file, number),
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mine")
    }

    fn place(&self, file: &str) -> PathBuf {
        let ending = if file.contains(".nii") { "" } else { ".nii.gz" };
        let path = self.path().join(format!("{file}{ending}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn image(&self, file: &str, seed: usize) {
        let value = |(x, y, z)| ((x * 31 + y * 17 + z * 7 + seed * 101) % 97) as f32 - 20.5;
        let image = Volume::new(Array3::from_shape_fn((6, 5, 4), value), grid());
        nifti::write_image(&self.place(file), &image, None).unwrap();
    }

    /// Every value in one voxel, the rest 0.
    fn labels(&self, file: &str, values: &[u8]) {
        let value = |(x, y, z): (usize, usize, usize)| {
            if y == 2 && z == 1 { values.get(x).copied().unwrap_or(0) } else { 0 }
        };
        let labels = Volume::new(Array3::from_shape_fn((6, 5, 4), value), grid());
        nifti::write_labels(&self.place(file), &labels, None).unwrap();
    }

    fn find(&self, options: &Options) -> segen::Result<Found> {
        recognise(&self.path(), options, &Silent)
    }

    /// `case: scans | labels` of every case.
    fn pairs(&self, options: &Options) -> Vec<String> {
        let found = self.find(options).unwrap();
        let root = fs::canonicalize(self.path()).unwrap();
        let short = |path: &PathBuf| {
            let text = path.strip_prefix(&root).unwrap().display().to_string();
            text.trim_end_matches(".gz").trim_end_matches(".nii").to_owned()
        };
        let one = |case: &segen::data::import::FoundCase| {
            let images: Vec<String> = match &case.images {
                Images::Files(files) => files.iter().map(short).collect(),
                Images::Volumes(file, volumes) => vec![format!("{} x{volumes}", short(file))],
            };
            let labels =
                case.labels.as_ref().map_or_else(|| "-".to_owned(), |labels| short(&labels.files[0]));
            let part = if case.part == Part::Test { " test" } else { "" };
            format!("{}: {} | {labels}{part}", case.id, images.join(" "))
        };
        found.cases.iter().map(one).collect()
    }

    /// What is said where it must be refused.
    fn refusal(&self, options: &Options) -> String {
        self.find(options).expect_err("must be refused").to_string()
    }

    fn import(&self, options: &Options) -> Dataset {
        let target = self.0.path().join("Dataset001_Mine");
        let _ = fs::remove_dir_all(&target);
        write(&self.find(options).unwrap(), &target, &Silent).unwrap();
        Dataset::open(&target).unwrap()
    }
}

fn grid() -> Grid {
    Grid::with_spacing([6, 5, 4], [1.0, 1.25, 2.5])
}

/// Of voxels of a file with several volumes.
fn number(index: usize) -> i16 {
    (index * 7 % 3001) as i16
}

fn any() -> Options {
    Options::default()
}

fn channels(text: &str) -> Options {
    Options { channels: text.split(',').map(|choice| choice.parse().unwrap()).collect(), ..any() }
}

fn label_files(word: &str) -> Options {
    Options { label_files: Some(word.to_owned()), ..any() }
}

fn values(choices: &[&str]) -> Options {
    Options { values: choices.iter().map(|choice| choice.parse().unwrap()).collect(), ..any() }
}

fn group_by(text: &str) -> Options {
    Options { group_by: Some(text.parse().unwrap()), ..any() }
}

fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn scans_and_labels_of_a_case_may_lie_apart_in_folders_of_its_name() {
    for name in ["", "{case}_"] {
        let of = |case: &str| {
            let name = name.replace("{case}", case);
            [format!("raw/{case}/{name}t1"), format!("drawn/{case}/{name}seg")]
        };
        let files = ["p1", "p2", "p10"].map(of).concat();
        let source = Source::new(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = ["p1", "p10", "p2"].map(|case| format!("{case}: {}", of(case).join(" | ")));
        assert_eq!(source.pairs(&any()), expected);
        // Names that predict takes, too.
        let pairing = source.find(&any()).unwrap().pairing.unwrap();
        let text = serde_json::to_value(&pairing).unwrap().to_string();
        assert!(text.contains(&format!("raw/{{case}}/{name}t1")), "{text}");
    }
    // Two sites have a p1 each.
    let source = Source::new(&["a/p1/t1", "a/p1/seg", "b/p1/t1", "b/p1/seg"]);
    assert_eq!(source.pairs(&any()), ["a_p1: a/p1/t1 | a/p1/seg", "b_p1: b/p1/t1 | b/p1/seg"]);
}

#[test]
fn bids_labels_may_end_with_a_word_that_is_given() {
    let source = Source::new(&[]);
    for (number, case) in ["sub-a_ses-1", "sub-b_ses-1"].into_iter().enumerate() {
        let folder = case.replace('_', "/");
        source.image(&format!("{folder}/dwi/{case}_adc"), number);
        source.labels(&format!("derivatives/{folder}/{case}_msk"), &[0, 1]);
        source.labels(&format!("derivatives/{folder}/{case}_core"), &[0, 1]);
    }
    let expected = |word: &str| {
        ["a", "b"].map(|s| {
            let case = format!("sub-{s}_ses-1");
            format!("{case}: sub-{s}/ses-1/dwi/{case}_adc | derivatives/sub-{s}/ses-1/{case}_{word}")
        })
    };
    assert_eq!(source.pairs(&any()), expected("msk"));
    assert_eq!(source.pairs(&label_files("core")), expected("core"));
}

#[test]
fn folders_of_scans_and_of_labels_are_paired_by_name() {
    let source = Source::new(&["images/p0", "masks/p0", "images/p1", "masks/p1", "images/p2"]);
    let expected = ["p0: images/p0 | masks/p0", "p1: images/p1 | masks/p1", "p2: images/p2 | - test"];
    assert_eq!(source.pairs(&any()), expected);
    let found = source.find(&any()).unwrap();
    assert!(
        found.notes.iter().any(|note| note.contains("1 scan has no label file and goes")),
        "{:?}",
        found.notes
    );
    for [images, labels] in [["imgs", "annotations"], ["Scans", "segmentations"], ["input", "gt"]] {
        let names = [0, 1].map(|n| [format!("{images}/x-{n}"), format!("{labels}/x-{n}_seg")]).concat();
        let source = Source::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = [0, 1].map(|n| format!("x-{n}: {images}/x-{n} | {labels}/x-{n}_seg"));
        assert_eq!(source.pairs(&any()), expected);
    }
    // Numbers that belong to the names, and a folder around all.
    let source = Source::new(&["d/images/s_1", "d/images/s_12", "d/labels/s_1", "d/labels/s_12"]);
    assert_eq!(
        source.pairs(&any()),
        ["s_1: d/images/s_1 | d/labels/s_1", "s_12: d/images/s_12 | d/labels/s_12"]
    );
    // A folder a channel.
    let source = Source::new(&["t1/p0", "flair/p0", "seg/p0", "t1/p1", "flair/p1", "seg/p1"]);
    assert_eq!(source.pairs(&any()), ["p0: flair/p0 t1/p0 | seg/p0", "p1: flair/p1 t1/p1 | seg/p1"]);
    assert_eq!(source.pairs(&channels("t1,flair"))[0], "p0: t1/p0 flair/p0 | seg/p0");
    // Names like those of BIDS, whose labels the folder tells.
    for end in ["_ses-1", "_ses-1_T1w"] {
        let source = Source::new(&[&format!("images/sub-0{end}"), &format!("masks/sub-0{end}")]);
        let expected = format!("sub-0{end}: images/sub-0{end} | masks/sub-0{end}");
        assert_eq!(source.pairs(&any()), [expected]);
    }
    // A word before the number.
    let source = Source::new(&["img/img0001", "img/img0002", "label/label0001", "label/label0002"]);
    assert_eq!(source.pairs(&any())[1], "0002: img/img0002 | label/label0002");
    let source = Source::new(&["volume-0", "volume-10", "segmentation-0", "segmentation-10"]);
    assert_eq!(source.pairs(&any()), ["0: volume-0 | segmentation-0", "10: volume-10 | segmentation-10"]);
    let source = Source::new(&["p0", "p1", "mask_p0", "mask_p1"]);
    assert_eq!(source.pairs(&any()), ["p0: p0 | mask_p0", "p1: p1 | mask_p1"]);
    let source = Source::new(&["images/img01", "images/img02", "masks/01", "masks/02"]);
    assert_eq!(source.pairs(&any())[0], "01: images/img01 | masks/01");
    // Sites with names of their own.
    let source =
        Source::new(&["A/images/p0", "A/masks/p0", "B/images/p0", "B/masks/p0", "A/images/p1", "A/masks/p1"]);
    let by_name = Options { case_from: Some(CaseFrom::Name), ..any() };
    assert_eq!(source.pairs(&by_name)[2], "B_p0: B/images/p0 | B/masks/p0");
}

#[test]
fn nnunet_folders_need_no_description() {
    let source = Source::new(&["imagesTr/c_01_0000", "imagesTr/c_01_0001", "labelsTr/c_01"]);
    source.add(&["imagesTr/c_02_0000", "imagesTr/c_02_0001", "labelsTr/c_02"]);
    source.add(&["imagesTs/c_03_0000", "imagesTs/c_03_0001", "imagesTs/c_04_0000", "imagesTs/c_04_0001"]);
    source.add(&["labelsTs/c_04"]);
    let expected = [
        "c_01: imagesTr/c_01_0000 imagesTr/c_01_0001 | labelsTr/c_01",
        "c_02: imagesTr/c_02_0000 imagesTr/c_02_0001 | labelsTr/c_02",
        "c_03: imagesTs/c_03_0000 imagesTs/c_03_0001 | - test",
        "c_04: imagesTs/c_04_0000 imagesTs/c_04_0001 | labelsTs/c_04 test",
    ];
    assert_eq!(source.pairs(&any()), expected);
    assert_eq!(source.find(&channels("0000=T1,0001=FLAIR")).unwrap().channels, ["T1", "FLAIR"]);
    // The numbers are what scans to be predicted are told by.
    has(&source.refusal(&channels("0001,0000")), &["called ..._0001, but it would be channel 0"]);
    has(&source.refusal(&channels("0001")), &["take a beginning of them"]);
    assert_eq!(source.find(&channels("0000")).unwrap().channels, ["0000"]);
}

#[test]
fn regions_of_interest_are_paired_where_nnunet_folders_have_them() {
    let source = Source::new(&["imagesTr/c_01_0000", "labelsTr/c_01", "masksTr/c_01", "imagesTs/c_04_0000"]);
    source.add(&[
        "imagesTr/c_02_0000",
        "labelsTr/c_02",
        "masksTr/c_02",
        "imagesTr/c_03_0000",
        "labelsTr/c_03",
    ]);
    source.add(&["masksTs/c_04"]);
    // No scan is a copy of another one.
    source.image("imagesTr/c_02_0000", 11);
    source.image("imagesTr/c_03_0000", 12);
    let masks = |options: &Options| {
        let found = source.find(options).unwrap();
        let name = |path: &PathBuf| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let masks = found.cases.iter().map(|case| case.mask.as_ref().map_or("-".to_owned(), name));
        (masks.collect::<Vec<_>>(), found.to_string())
    };
    for options in [any(), label_files("labels")] {
        let (masks, table) = masks(&options);
        assert_eq!(masks, ["masksTr", "masksTr", "-", "masksTs"]);
        has(&table, &["masks     3", "1 of 4 cases have no region of interest: c_03"]);
        assert!(!table.contains("left out"), "{table}");
    }
    let dataset = source.import(&any());
    let with: Vec<bool> = dataset.training.iter().map(|case| case.mask.is_some()).collect();
    assert_eq!(with, [true, true, false]);
    let bytes = |path: &Path| fs::read(path).unwrap();
    let mask = dataset.training[1].mask.as_ref().unwrap();
    assert_eq!(bytes(mask), bytes(&source.path().join("masksTr/c_02.nii.gz")));
    assert!(dataset.test[0].mask.is_some());
    assert_eq!(check(&dataset.folder, &Silent).unwrap().count(Severity::Error), 0);
    // They are no scans either.
    let description = fs::read_to_string(dataset.folder.join("dataset.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&description).unwrap();
    let pairing = serde_json::from_value(description["pairing"].clone()).unwrap();
    let scans = cases(&[source.path()], 1, Some(&pairing)).unwrap();
    assert_eq!(scans.keys().collect::<Vec<_>>(), ["c_01", "c_02", "c_03", "c_04"]);
    assert!(scans.values().all(Result::is_ok));
    // A folder is what one says it is, and alone it holds the labels.
    let alone = Source::new(&["imagesTr/a_0000", "masksTr/a", "imagesTr/b_0000", "masksTr/b"]);
    assert_eq!(alone.pairs(&any())[0], "a: imagesTr/a_0000 | masksTr/a");
    let said = Source::new(&["imagesTr/a_0000", "labelsTr/a", "masksTr/a"]);
    assert_eq!(said.pairs(&label_files("masks"))[0], "a: imagesTr/a_0000 | masksTr/a");
    said.add(&["masksTr/lost"]);
    has(&said.refusal(&any()), &["masksTr/lost.nii.gz is the region of interest of no case"]);
}

#[test]
fn one_folder_of_names_with_suffixes_is_paired() {
    for [image, label] in [
        ["_image", "_label"],
        ["", "_seg"],
        ["_t1", "-lesion_mask"],
        ["-img", "-mask"],
        ["_ct", ".label"],
        ["_T1w", "_T1w_lesion_seg"],
    ] {
        let names = [0, 1, 2].map(|n| [format!("p{n}{image}"), format!("p{n}{label}")]).concat();
        let source = Source::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = [0, 1, 2].map(|n| format!("p{n}: p{n}{image} | p{n}{label}"));
        match image {
            // The longest beginning in common is the case.
            "_T1w" => assert_eq!(source.pairs(&any())[0], format!("p0_T1w: p0{image} | p0{label}")),
            _ => assert_eq!(source.pairs(&any()), expected, "{image} {label}"),
        }
    }
    // A name that another continues, and one without labels that does.
    let source = Source::new(&["p1_image", "p1_label", "p1_2_image", "p1_2_label", "p1_3_image"]);
    let expected = ["p1: p1_image | p1_label", "p1_2: p1_2_image | p1_2_label", "p1_3: p1_3_image | - test"];
    assert_eq!(source.pairs(&any()), expected);
}

#[test]
fn a_folder_per_patient_is_a_case_with_a_channel_per_file() {
    let source =
        Source::new(&["P0/t1", "P0/flair", "P0/seg", "P1/t1", "P1/flair", "P1/seg", "P2/t1", "P2/flair"]);
    let expected =
        ["P0: P0/flair P0/t1 | P0/seg", "P1: P1/flair P1/t1 | P1/seg", "P2: P2/flair P2/t1 | - test"];
    assert_eq!(source.pairs(&any()), expected);
    let source = Source::new(&["P0/P0_t1", "P0/P0_seg", "P1/P1_t1", "P1/P1_seg"]);
    assert_eq!(source.pairs(&any())[1], "P1: P1/P1_t1 | P1/P1_seg");
    assert_eq!(source.find(&any()).unwrap().channels, ["t1"]);
    let source = Source::new(&["P0/v1/ct", "P0/v1/mask", "P0/v2/ct", "P0/v2/mask", "P1/v1/ct", "P1/v1/mask"]);
    assert_eq!(source.pairs(&any())[1], "P0_v2: P0/v2/ct | P0/v2/mask");
    let source = Source::new(&["P0/images/t1", "P0/masks/lesion", "P1/images/t1", "P1/masks/lesion"]);
    assert_eq!(source.pairs(&any())[0], "P0: P0/images/t1 | P0/masks/lesion");
    // One patient alone.
    let source = Source::new(&["t1", "flair", "seg"]);
    assert_eq!(source.pairs(&any()), ["mine: flair t1 | seg"]);
    // Part of BraTS' channels is no BraTS.
    let source = Source::new(&["B0/B0_t1ce", "B0/B0_seg", "B1/B1_t1ce", "B1/B1_seg"]);
    assert_eq!(source.pairs(&any())[0], "B0: B0/B0_t1ce | B0/B0_seg");
}

/// Two subjects, one with two sessions, and sidecars.
fn bids() -> Source {
    let source = Source::new(&[]);
    for [subject, session] in [["00", "1"], ["00", "2"], ["01", "1"], ["02", "1"]] {
        let [folder, name] = ["/", "_"].map(|mark| format!("sub-{subject}{mark}ses-{session}"));
        source.add(&[&format!("{folder}/anat/{name}_T1w"), &format!("{folder}/anat/{name}_FLAIR")]);
        source.add(&[&format!("derivatives/lesions/{folder}/anat/{name}_label-lesion_mask")]);
        fs::write(source.path().join(format!("{folder}/anat/{name}_T1w.json")), "{}").unwrap();
    }
    for file in ["dataset_description.json", "participants.tsv", "README", ".DS_Store", ".bidsignore"] {
        fs::write(source.path().join(file), "{}").unwrap();
    }
    source
}

#[test]
fn bids_subjects_and_sessions_are_cases_and_subjects_stay_together() {
    let source = bids();
    let pairs = source.pairs(&any());
    assert_eq!(pairs.len(), 4);
    assert_eq!(
        pairs[1],
        "sub-00_ses-2: sub-00/ses-2/anat/sub-00_ses-2_FLAIR sub-00/ses-2/anat/sub-00_ses-2_T1w | \
         derivatives/lesions/sub-00/ses-2/anat/sub-00_ses-2_label-lesion_mask"
    );
    let found = source.find(&any()).unwrap();
    assert_eq!(found.channels, ["FLAIR", "T1w"]);
    assert_eq!(found.splits.len(), 3);
    for fold in &found.splits {
        let held = |id: &str| fold.validation.iter().any(|case| case == id);
        assert_eq!(held("sub-00_ses-1"), held("sub-00_ses-2"));
    }
    // Images that were computed are left out where there are those that they come from; a second mask is asked about.
    source.add(&["derivatives/n4/sub-01/ses-1/anat/sub-01_ses-1_desc-n4_T1w"]);
    assert_eq!(source.pairs(&any()), pairs);
    source.add(&["derivatives/brain/sub-01/ses-1/anat/sub-01_ses-1_label-brain_mask"]);
    let message = source.refusal(&any());
    has(&message, &["case `sub-01_ses-1`", "has several label files", "--label-files label-brain_mask"]);
    has(&message, &["--label-files label-lesion_mask"]);
    assert_eq!(source.pairs(&label_files("lesion_mask")), pairs);
    // Without sessions.
    let source = Source::new(&["sub-1/anat/sub-1_T1w", "sub-1/anat/sub-1_dseg", "sub-2/anat/sub-2_T1w"]);
    assert_eq!(source.pairs(&any())[0], "sub-1: sub-1/anat/sub-1_T1w | sub-1/anat/sub-1_dseg");
    assert!(source.find(&any()).unwrap().splits.is_empty());
}

#[test]
fn folders_for_training_validation_and_test_say_where_a_case_goes() {
    let mut names = Vec::new();
    for (part, cases) in [("train", 0..3), ("val", 3..4), ("test", 4..5)] {
        names.extend(cases.flat_map(|n| [format!("{part}/images/p{n}"), format!("{part}/masks/p{n}")]));
    }
    let source = Source::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let found = source.find(&any()).unwrap();
    assert_eq!((found.count(Part::Training), found.count(Part::Test)), (4, 1));
    assert_eq!(found.splits[0].train, ["p0", "p1", "p2"]);
    assert_eq!(found.splits[0].validation, ["p3"]);
    // The same name twice.
    source.add(&["test/images/p0", "test/masks/p0"]);
    has(&source.refusal(&any()), &["case `p0`: is there twice"]);
}

#[test]
fn a_case_with_two_label_files_is_asked_about() {
    let source = Source::new(&["P0/t1", "P0/seg", "P0/brain_mask", "P1/t1", "P1/seg", "P1/brain_mask"]);
    let message = source.refusal(&any());
    has(&message, &["case `P0`", "P0/brain_mask.nii.gz", "P0/seg.nii.gz", "--label-files seg"]);
    assert_eq!(source.pairs(&label_files("seg")), ["P0: P0/t1 | P0/seg", "P1: P1/t1 | P1/seg"]);
    let found = source.find(&label_files("seg")).unwrap();
    assert!(found.notes.iter().any(|note| note.contains("2 NIfTI file(s) are left out: P0/brain_mask")));
    let source = Source::new(&["images/a", "labels/a", "masks/a", "images/b", "labels/b", "masks/b"]);
    has(&source.refusal(&any()), &["--label-files labels", "--label-files masks"]);
    assert_eq!(source.pairs(&label_files("masks"))[1], "b: images/b | masks/b");
    let source = Source::new(&["a_t1", "a_seg", "a_lesion_seg", "b_t1", "b_seg", "b_lesion_seg"]);
    has(&source.refusal(&any()), &["case `a`: has several label files"]);
    assert_eq!(source.pairs(&label_files("seg")), ["a: a_t1 | a_seg", "b: b_t1 | b_seg"]);
    assert_eq!(source.pairs(&label_files("lesion_seg"))[0], "a: a_t1 | a_lesion_seg");
    // A scan that is missing must not give its labels to another case.
    let source = Source::new(&["p1_image", "p1_label", "p1_2_label", "p2_image", "p2_label"]);
    has(&source.refusal(&any()), &["p1_2_label.nii.gz"]);
    let source = Source::new(&["p1_label", "p1_2_image", "p1_2_label", "p2_image", "p2_label"]);
    has(&source.refusal(&any()), &["p1_label.nii.gz has no scan"]);
    // Labels by a word that nothing else tells.
    let source = Source::new(&["P0/t1", "P0/wmh", "P1/t1", "P1/wmh"]);
    let _ = ["P0/wmh", "P1/wmh"].map(|file| source.labels(file, &[0, 1]));
    has(&source.refusal(&any()), &["none of the 4 NIfTI files looks like one"]);
    assert_eq!(source.pairs(&label_files("wmh"))[0], "P0: P0/t1 | P0/wmh");
}

#[test]
fn channels_that_do_not_fit_are_named_with_the_file_that_is_missing() {
    let source =
        Source::new(&["P0/t1", "P0/flair", "P0/seg", "P1/t1", "P1/seg", "P2/t1", "P2/flair", "P2/seg"]);
    let message = source.refusal(&any());
    has(&message, &["channel `flair`: 2 of 3 cases have it", "not there: P1/flair.nii.gz", "--channels t1"]);
    has(&source.refusal(&channels("flair,t1")), &["case `P1`: P1/flair.nii.gz is not there", "P1/t1.nii.gz"]);
    assert_eq!(source.pairs(&channels("T1"))[1], "P1: P1/t1 | P1/seg");
    has(&source.refusal(&channels("t2")), &["there is no channel `t2`; there are: flair, t1"]);
    has(&source.refusal(&channels("t1,t1")), &["is there twice"]);
    has(&source.refusal(&channels("t1=a,flair=a")), &["two channels would be called `a`"]);
    // A scan without labels must be whole too.
    source.add(&["P1/flair", "P3/t1"]);
    has(&source.refusal(&any()), &["case `P3`: P3/flair.nii.gz is not there"]);
    // Two files for one channel, by ending and by capitals.
    for double in ["P0/T1", "P0/t1.nii"] {
        let source = Source::new(&["P0/t1", "P0/seg", "P1/t1", "P1/seg"]);
        source.image(double, 3);
        has(&source.refusal(&any()), &["case `P0`", "are the same channel", "t1.nii"]);
    }
    // Labels that nothing calls so must not become a channel.
    let source = Source::new(&["P0/t1", "P0/brain_mask", "P1/t1", "P1/brain_mask"]);
    let _ = ["P0/wmh", "P1/wmh"].map(|file| source.labels(file, &[0, 1]));
    has(&source.refusal(&any()), &["channel `wmh`", "the values 0, 1 alone", "--label-files wmh"]);
    source.labels("P0/wmh", &[0]);
    has(&source.refusal(&any()), &["P1/wmh.nii.gz has the values 0, 1 alone"]);
    assert_eq!(source.pairs(&label_files("wmh"))[0], "P0: P0/t1 | P0/wmh");
    assert_eq!(source.pairs(&channels("t1,wmh"))[0], "P0: P0/t1 P0/wmh | P0/brain_mask");
}

#[test]
fn label_files_without_a_scan_and_names_that_differ_in_capitals_are_errors() {
    let source = Source::new(&["images/p0", "masks/p0", "masks/p1", "masks/p2"]);
    has(&source.refusal(&any()), &["2 have no scan: masks/p1.nii.gz, masks/p2.nii.gz"]);
    let source = Source::new(&["images/p0", "masks/p0", "images/P1", "masks/p1"]);
    has(&source.refusal(&any()), &["masks/p1.nii.gz has no scan", "capitals", "images/P1.nii.gz"]);
    let source = Source::new(&["images/p0", "masks/p0", "images/P0", "masks/P0"]);
    has(&source.refusal(&any()), &["case `p0`", "differs from the case `P0` in capitals alone"]);
    has(&Source::new(&["masks/p0", "masks/p1"]).refusal(&any()), &["no other file is there"]);
}

#[test]
fn what_lies_about_is_no_scan() {
    let source = Source::new(&["images/p0", "masks/p0", "images/p1", "masks/p1"]);
    for file in
        [".DS_Store", "images/.DS_Store", "images/._p0.nii.gz", "README.txt", "images/p0.json", "masks/x.csv"]
    {
        fs::write(source.path().join(file), "channels").unwrap();
    }
    assert_eq!(source.pairs(&any()).len(), 2);
    source.add(&["average", "other/brain"]);
    assert_eq!(source.pairs(&any()).len(), 2);
    let notes = source.find(&any()).unwrap().notes;
    assert!(
        notes.iter().any(|note| note.contains("left out: average.nii.gz, other/brain.nii.gz")),
        "{notes:?}"
    );
    // Nothing at all, nothing that is read, and something damaged.
    let empty = Source::new(&[]);
    fs::create_dir(empty.path()).unwrap();
    has(&empty.refusal(&any()), &["there is no file"]);
    fs::write(empty.path().join("p0.nrrd"), "NRRD").unwrap();
    has(&empty.refusal(&any()), &["`p0.nrrd`, whose format is not read"]);
    fs::remove_file(empty.path().join("p0.nrrd")).unwrap();
    fs::write(empty.path().join("README.txt"), "nothing").unwrap();
    has(&empty.refusal(&any()), &["none of its 1 files is a .nii.gz"]);
    fs::write(source.path().join("masks/p1.nii.gz"), "no image").unwrap();
    has(&source.refusal(&any()), &["masks/p1.nii.gz"]);
}

#[test]
fn masks_of_0_and_255_become_one_class() {
    let source = Source::new(&["images/p0", "images/p1"]);
    let _ = ["masks/p0", "masks/p1"].map(|file| source.labels(file, &[0, 255, 255]));
    let found = source.find(&any()).unwrap();
    assert!(found.notes.iter().any(|note| note.contains("255 becomes 1")), "{:?}", found.notes);
    has(&found.to_string(), &["0 in 236 voxels of 2 files; 255 in 4 voxels of 2 files", "255 becomes 1"]);
    let dataset = source.import(&any());
    let labels = nifti::read_labels(dataset.training[0].labels.as_ref().unwrap()).unwrap().0;
    assert_eq!(labels.voxels.iter().filter(|value| **value == 1).count(), 2);
    assert!(labels.voxels.iter().all(|value| *value <= 1));
    assert_eq!(source.import(&values(&["255=lesion"])).labels.names, ["background", "lesion"]);
    // Together with masks of 0 and 1 it must be said.
    source.labels("masks/p1", &[0, 1]);
    has(&source.refusal(&any()), &["1 (1 voxels in 1 files)", "2 is no class", "--label 255=2"]);
    assert_eq!(source.import(&values(&["255=1"])).labels.names, ["background", "class 1"]);
}

#[test]
fn values_become_what_was_said() {
    let source = Source::new(&["images/p0", "images/p1"]);
    source.labels("masks/p0", &[0, 1, 2, 4]);
    source.labels("masks/p1", &[0, 4, 9]);
    has(&source.refusal(&any()), &["3 is no class", "--label 4=3"]);
    let read = |options: &Options| {
        let dataset = source.import(options);
        let labels = nifti::read_labels(dataset.training[0].labels.as_ref().unwrap()).unwrap().0;
        let row: Vec<u8> = (0..4).map(|x| labels.voxels[[x, 2, 1]]).collect();
        (row, dataset.labels)
    };
    assert_eq!(read(&values(&["4=3", "9=0"])).0, [0, 1, 2, 3]);
    let (row, labels) = read(&values(&["4=tumour", "1=oedema", "2=tumour", "9=ignore"]));
    assert_eq!(
        (row, labels.names, labels.ignore),
        (vec![0, 2, 1, 1], ["background", "tumour", "oedema"].map(str::to_owned).to_vec(), Some(3))
    );
    has(&source.refusal(&values(&["4=tumour"])), &["nothing is said of the value(s) 1, 2, 9"]);
    has(&source.refusal(&values(&["4=1", "4=2"])), &["the value 4 is there twice"]);
    has(&source.refusal(&values(&["0=1"])), &["0 is the background"]);
    has(&source.refusal(&values(&["1=a", "2=2", "4=0", "9=0"])), &["gives a number where others give names"]);
    has(&source.refusal(&values(&["1=0", "2=0", "4=0", "9=0"])), &["every value becomes background"]);
    let _ = ["masks/p0", "masks/p1"].map(|file| source.labels(file, &[0]));
    has(&source.refusal(&any()), &["no label file has a value but 0"]);
}

#[test]
fn no_fold_has_a_patient_on_both_sides() {
    let names: Vec<String> = (0..6).flat_map(|p| (0..=p % 3).map(move |v| format!("p{p}_v{v}"))).collect();
    let files: Vec<String> =
        names.iter().flat_map(|n| [format!("images/{n}"), format!("masks/{n}")]).collect();
    let source = Source::new(&files.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(source.find(&any()).unwrap().splits.is_empty());
    let by_pattern = source.find(&group_by("{patient}_v*")).unwrap().splits;
    assert_eq!(by_pattern.len(), 5);
    for fold in &by_pattern {
        let of = |side: &[String]| {
            side.iter().map(|id| id[..2].to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(of(&fold.train).is_disjoint(&of(&fold.validation)));
        assert_eq!(fold.train.len() + fold.validation.len(), names.len());
    }
    let table = source.0.path().join("patients.csv");
    let lines: Vec<String> = names.iter().map(|name| format!("{name},{}", &name[..2])).collect();
    fs::write(&table, format!("case,patient\n{}\n", lines.join("\n"))).unwrap();
    let text = table.to_str().unwrap();
    assert_eq!(source.find(&group_by(text)).unwrap().splits, by_pattern);
    assert_eq!(source.import(&group_by(text)).folds().unwrap(), by_pattern);
    fs::write(&table, format!("case,patient\n{}\n", lines[1..].join("\n"))).unwrap();
    has(&source.refusal(&group_by(text)), &["1 of 12 training cases are not in it, such as `p0_v0`"]);
    fs::write(&table, format!("case,patient\n{}\np0_v0,q\n", lines.join("\n"))).unwrap();
    has(&source.refusal(&group_by(text)), &["case `p0_v0` is of patient `q`, but of `p0` in line"]);
    has(&source.refusal(&group_by("p{patient}_ses-*")), &["does not fit the case `p0_v0`"]);
    has(&source.refusal(&group_by("p{patient}**")), &["reads the case `p0_v0` in several ways: 0, 0_, 0_v"]);
    let lines: Vec<String> = names.iter().map(|name| format!("{name};q")).collect();
    fs::write(&table, format!("case;patient\n{}\n", lines.join("\n"))).unwrap();
    has(&source.refusal(&group_by(text)), &["all 12 training cases are of one patient, `q`"]);
}

#[test]
fn one_file_with_all_channels_is_split() {
    let source = Source::new(&["masks/p0", "masks/p1"]);
    for name in ["p0", "p1"] {
        fs::write(source.place(&format!("images/{name}.nii")), support::four_dimensional(&grid(), 3, number))
            .unwrap();
    }
    assert_eq!(source.pairs(&any())[0], "p0: images/p0 x3 | masks/p0");
    assert_eq!(source.find(&channels("T1,T2,FLAIR")).unwrap().channels, ["T1", "T2", "FLAIR"]);
    has(&source.refusal(&channels("T1")), &["one file with 3 channels, and 1 are named"]);
    let dataset = source.import(&any());
    assert_eq!(dataset.training[1].images.len(), 3);
    fs::write(source.place("images/p1.nii"), support::four_dimensional(&grid(), 2, number)).unwrap();
    has(&source.refusal(&any()), &["p1.nii", "has 2 volume(s) where 3 should be"]);
}

#[test]
fn an_imported_folder_is_sound_and_keeps_how_its_files_were_called() {
    let source = Source::new(&["P0/t1", "P0/flair", "P0/seg", "P1/t1", "P1/flair", "P1/seg"]);
    let dataset = source.import(&channels("t1=T1,flair"));
    let report = check(&dataset.folder, &Silent).unwrap();
    assert_eq!(report.count(Severity::Error), 0, "{report}");
    assert_eq!(dataset.channels, ["T1", "flair"]);
    let text = fs::read_to_string(dataset.folder.join("dataset.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pairing = &description["pairing"];
    assert_eq!(
        *pairing,
        serde_json::json!({"images": ["{case}/t1", "{case}/flair"], "labels": "{case}/seg"})
    );
    let pairing = serde_json::from_value(pairing.clone()).unwrap();
    // Scans to be predicted: as they were, or as the data set has them.
    let new = Source::new(&["P5/t1", "P5/flair", "P6/flair", "P7/t1", "P7/flair", "P7/seg", "P7/t2"]);
    new.add(&["named/c_0000", "named/c_0001"]);
    let found = cases(&[new.path()], 2, Some(&pairing)).unwrap();
    let names = |case: &str| -> Vec<String> {
        let files = found[case].as_ref().unwrap().iter();
        files.map(|path| path.strip_prefix(new.path()).unwrap().display().to_string()).collect()
    };
    assert_eq!(found.keys().collect::<Vec<_>>(), ["P5", "P6", "P7", "c"]);
    assert_eq!(names("P5"), ["P5/t1.nii.gz", "P5/flair.nii.gz"]);
    assert_eq!(names("P7"), ["P7/t1.nii.gz", "P7/flair.nii.gz"]);
    assert_eq!(names("c"), ["named/c_0000.nii.gz", "named/c_0001.nii.gz"]);
    has(&found["P6"].as_ref().unwrap_err().to_string(), &["P6/flair.nii.gz", "no file P6/t1.nii.gz"]);
    // Names that end in digits, beside their label files.
    let files = ["images/s_0000", "masks/s_0000", "images/s_0012", "masks/s_0012", "images/s_0013"];
    let digits = Source::new(&files);
    let description = fs::read_to_string(digits.import(&any()).folder.join("dataset.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&description).unwrap();
    let by_name = serde_json::from_value(description["pairing"].clone()).unwrap();
    let scans = cases(&[digits.path()], 1, Some(&by_name)).unwrap();
    assert_eq!(scans.keys().collect::<Vec<_>>(), ["s_0000", "s_0012", "s_0013"]);
    assert!(
        scans.values().all(|images| images.as_ref().unwrap()[0].starts_with(digits.path().join("images")))
    );
    // One patient's folder.
    assert_eq!(cases(&[new.path().join("P5")], 2, Some(&pairing)).unwrap().len(), 1);
}

#[test]
fn a_faulty_pairing_is_named() {
    let source = Source::new(&["images/p0", "masks/p0", "images/p1", "masks/p1"]);
    let folder = source.import(&any()).folder;
    let path = folder.join("dataset.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"{case}\"", "\"case\"")).unwrap();
    has(&Dataset::open(&folder).unwrap_err().to_string(), &["pairing", "does not say where the case is"]);
}

#[test]
fn public_data_sets_keep_their_meaning_unless_somebody_says_otherwise() {
    let source = Source::new(&["case_00000/imaging", "case_00001/imaging"]);
    let _ =
        ["case_00000/segmentation", "case_00001/segmentation"].map(|file| source.labels(file, &[0, 1, 2]));
    has(&source.refusal(&values(&["2=1"])), &["--label: this is KiTS", "--case-from"]);
    let options = Options { case_from: Some(CaseFrom::Folder), ..values(&["2=1"]) };
    assert_eq!(source.pairs(&options)[0], "case_00000: case_00000/imaging | case_00000/segmentation");
    assert_eq!(source.find(&options).unwrap().classes.labels.len(), 1);
    // A folder of patients alone is no public data set's.
    assert!(recognise(Path::new("/nowhere/at/all"), &any(), &Silent).is_err());
}
