//! Tests of `segen::data::check`.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array3;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use segen::data::check::{Fault, Kind, Report, Severity, check};
use segen::image::nifti;
use segen::image::volume::{Grid, Image, Labels, Volume};
use segen::progress::Silent;
use serde_json::{Value, json};

use crate::{plant, support};

/// A data set of `cases` small scans with two classes, and nothing wrong with it.
struct Sound {
    folder: tempfile::TempDir,
    description: Value,
}

impl Sound {
    fn new(cases: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let description = json!({
            "channel_names": {"0": "T1"},
            "labels": {"background": 0, "anterior": 1, "posterior": 2},
            "numTraining": cases,
            "file_ending": ".nii.gz",
        });
        let sound = Self { folder, description };
        for number in 0..cases {
            let id = format!("case_{number:03}");
            sound.write(&sound.image(&id), &image(number as u64));
            sound.write_labels(&sound.label(&id), &labels());
        }
        sound.describe(&sound.description);
        sound
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn image(&self, id: &str) -> PathBuf {
        self.path().join(format!("imagesTr/{id}_0000.nii.gz"))
    }

    fn label(&self, id: &str) -> PathBuf {
        self.path().join(format!("labelsTr/{id}.nii.gz"))
    }

    fn write(&self, path: &Path, image: &Image) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        nifti::write_image(path, image, None).unwrap();
    }

    fn write_labels(&self, path: &Path, labels: &Labels) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        nifti::write_labels(path, labels, None).unwrap();
    }

    fn describe(&self, description: &Value) {
        fs::write(self.path().join("dataset.json"), description.to_string()).unwrap();
    }

    fn redescribe(&self, change: impl Fn(&mut Value)) {
        let mut description = self.description.clone();
        change(&mut description);
        self.describe(&description);
    }

    fn check(&self) -> Report {
        check(self.path(), &Silent).unwrap()
    }

    /// The only fault there is.
    fn only(&self) -> Fault {
        let report = self.check();
        assert_eq!(report.faults.len(), 1, "{report}");
        report.faults.into_iter().next().unwrap()
    }
}

fn grid() -> Grid {
    let mut grid = Grid::with_spacing([12, 10, 8], [1.0, 1.0, 1.5]);
    grid.affine[0][3] = -90.0;
    grid.affine[1][3] = 40.0;
    grid
}

fn image(seed: u64) -> Image {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    Volume::new(Array3::from_shape_fn((12, 10, 8), |_| random.random_range(0.0..100.0)), grid())
}

fn labels() -> Labels {
    Volume::new(
        Array3::from_shape_fn((12, 10, 8), |(x, y, z)| match (x, y, z) {
            (3..=5, 4..=7, 2..=5) => 1,
            (6..=8, 4..=7, 2..=5) => 2,
            _ => 0,
        }),
        grid(),
    )
}

/// That exactly the planted faults are found: sort and file of each, and nothing else.
fn assert_found(report: &Report, planted: &[plant::Planted]) {
    let sorted = |mut pairs: Vec<(Kind, PathBuf)>| {
        pairs.sort();
        pairs
    };
    let found = sorted(report.faults.iter().map(|fault| (fault.kind, fault.file.clone())).collect());
    let expected = sorted(planted.iter().map(|fault| (fault.kind, fault.file.clone())).collect());
    let words: Vec<&str> = planted.iter().map(|fault| fault.what).collect();
    assert_eq!(found, expected, "planted: {words:?}\n{report}");
    for fault in &report.faults {
        assert!(!fault.what.is_empty() && !fault.mend.is_empty(), "{fault:?}");
    }
}

#[test]
fn names_that_some_systems_cannot_keep_are_warned_of() {
    let sound = Sound::new(3);
    for (number, id) in ["aux", "Pat", "pat"].into_iter().enumerate() {
        sound.write(&sound.image(id), &image(10 + number as u64));
        sound.write_labels(&sound.label(id), &labels());
    }
    sound.redescribe(|d| d["numTraining"] = json!(6));
    let faults = sound.check().faults;
    assert!(faults.iter().all(|fault| (fault.severity, fault.kind) == (Severity::Warning, Kind::Name)));
    let what: Vec<&str> = faults.iter().map(|fault| fault.what.as_str()).collect();
    assert_eq!(what.len(), 2, "{what:?}");
    assert!(what[1].contains("`Pat` and `pat` differ in capitals alone"), "{what:?}");
    assert!(what[0].contains("the case `aux`: `aux` is a device"), "{what:?}");
}

#[test]
fn a_sound_data_set_has_no_fault() {
    assert_eq!(Sound::new(30).check().faults, []);
}

#[test]
fn all_planted_faults_are_found_and_nothing_else() {
    let sound = Sound::new(30);
    let planted = plant::plant(sound.path()).unwrap();
    assert_eq!(planted.len(), 22);
    let mut kinds: Vec<Kind> = planted.iter().map(|fault| fault.kind).collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), 22, "each of another sort");
    assert_found(&sound.check(), &planted);
}

#[test]
fn real_scans_have_no_fault_until_it_is_planted() {
    let Some(original) = support::real("Dataset004_Hippocampus") else { return };
    assert_eq!(check(&original, &Silent).unwrap().faults, []);
    let copy = tempfile::tempdir().unwrap();
    support::copy_folder(&original, copy.path());
    let planted = plant::plant(copy.path()).unwrap();
    assert_found(&check(copy.path(), &Silent).unwrap(), &planted);
}

#[test]
fn the_report_does_not_depend_on_the_number_of_threads() {
    let sound = Sound::new(30);
    plant::plant(sound.path()).unwrap();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| sound.check())
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn differences_of_place_are_judged_in_millimetres() {
    let sound = Sound::new(1);
    let shifted = |millimetres: f64| {
        let mut labels = labels();
        labels.grid.affine[0][3] += millimetres;
        sound.write_labels(&sound.label("case_000"), &labels);
        sound.check().faults
    };
    assert_eq!(shifted(0.0005), []);
    let slight = shifted(0.02).remove(0);
    assert_eq!((slight.kind, slight.severity), (Kind::Geometry, Severity::Warning));
    let far = shifted(0.2).remove(0);
    assert_eq!((far.kind, far.severity), (Kind::Geometry, Severity::Error));
    assert!(far.what.contains("up to 0.200 mm from `case_000_0000.nii.gz`"), "{}", far.what);
    assert!(far.what.contains("shifted by (0.200, 0.000, 0.000) mm"), "{}", far.what);
}

#[test]
fn differences_of_place_are_told_in_words() {
    let sound = Sound::new(1);
    let said = |change: &dyn Fn(&mut [[f64; 4]; 3])| {
        let mut labels = labels();
        change(&mut labels.grid.affine);
        sound.write_labels(&sound.label("case_000"), &labels);
        sound.only().what
    };
    let flipped = said(&|affine| {
        affine[0][0] = -1.0;
        affine[0][3] += 11.0;
    });
    assert!(flipped.contains("its axes run LAS instead of RAS"), "{flipped}");
    let (sin, cos) = 10_f64.to_radians().sin_cos();
    let turned = said(&|affine| {
        affine[0][..2].copy_from_slice(&[cos, -sin]);
        affine[1][..2].copy_from_slice(&[sin, cos]);
    });
    assert!(turned.contains("turned by 10.00 degrees"), "{turned}");
    let scaled = said(&|affine| affine[2][2] = 2.0);
    assert!(scaled.contains("voxels of 1 x 1 x 2 instead of 1 x 1 x 1.5 mm"), "{scaled}");
}

#[test]
fn label_values_are_counted_and_placed() {
    let sound = Sound::new(1);
    let mut faulty = labels();
    faulty.voxels[[1, 0, 0]] = 9;
    faulty.voxels[[2, 3, 4]] = 4;
    faulty.voxels[[3, 3, 4]] = 4;
    sound.write_labels(&sound.label("case_000"), &faulty);
    let fault = sound.only();
    assert_eq!(fault.kind, Kind::LabelValue);
    assert!(fault.what.contains("4 (2 voxels), 9 (1 voxels)"), "{}", fault.what);
    assert_eq!(fault.place, "first at voxel (1, 0, 0) at (-89.0, 40.0, 0.0) mm");
    // A value that is ignored is no fault, and no foreground.
    sound.redescribe(|d| d["labels"]["ignore"] = json!(3));
    faulty.voxels.mapv_inplace(|value| if value == 0 { 0 } else { 3 });
    sound.write_labels(&sound.label("case_000"), &faulty);
    let kinds: Vec<Kind> = sound.check().faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [Kind::Empty, Kind::Absent, Kind::Absent]);
}

#[test]
fn numbers_that_are_no_numbers_are_counted() {
    let sound = Sound::new(1);
    let mut faulty = image(0);
    faulty.voxels[[0, 0, 1]] = f32::NAN;
    faulty.voxels[[5, 5, 5]] = f32::INFINITY;
    faulty.voxels[[5, 5, 6]] = f32::NEG_INFINITY;
    sound.write(&sound.image("case_000"), &faulty);
    let fault = sound.only();
    assert!(fault.what.contains("1 NaN and 2 infinite voxels of 960"), "{}", fault.what);
    assert!(fault.place.contains("voxel (0, 0, 1)"), "{}", fault.place);
    faulty.voxels.fill(f32::NAN);
    sound.write(&sound.image("case_000"), &faulty);
    let kinds: Vec<Kind> = sound.check().faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [Kind::NotFinite, Kind::Constant]);
}

#[test]
fn channels_must_be_there_once_and_lie_together() {
    let sound = Sound::new(2);
    sound.redescribe(|d| d["channel_names"] = json!({"0": "T1", "1": "FLAIR"}));
    let second = |id: &str| sound.path().join(format!("imagesTr/{id}_0001.nii.gz"));
    sound.write(&second("case_000"), &image(100));
    let fault = sound.only();
    assert_eq!((fault.kind, fault.file.to_str().unwrap()), (Kind::Missing, "imagesTr/case_001_0001.nii.gz"));

    let mut moved = image(101);
    moved.grid.affine[2][3] = 5.0;
    sound.write(&second("case_001"), &moved);
    let fault = sound.only();
    assert_eq!((fault.kind, fault.file.to_str().unwrap()), (Kind::Geometry, "imagesTr/case_001_0001.nii.gz"));

    // The same image as both channels of one case.
    sound.write(&second("case_001"), &image(1));
    let fault = sound.only();
    assert_eq!(fault.kind, Kind::Duplicate);
    assert!(fault.what.contains("two channels of case `case_001`"), "{}", fault.what);

    // A channel that dataset.json does not know.
    sound.write(&second("case_001"), &image(101));
    sound.write(&sound.path().join("imagesTr/case_001_0002.nii.gz"), &image(102));
    let fault = sound.only();
    assert_eq!(fault.kind, Kind::Extra);
    assert!(fault.what.contains("names 2 channel(s)"), "{}", fault.what);
}

#[test]
fn test_images_are_checked_too() {
    let sound = Sound::new(2);
    let place = |path: &str| sound.path().join(path);
    sound.write(&place("imagesTs/t1_0000.nii.gz"), &image(50));
    sound.write_labels(&place("labelsTs/t1.nii.gz"), &labels());
    assert_eq!(sound.check().faults, []);
    // A name without channel number is one fault, although labels are there for it.
    sound.write(&place("imagesTs/t2.nii.gz"), &image(51));
    sound.write_labels(&place("labelsTs/t2.nii.gz"), &labels());
    let fault = sound.only();
    assert_eq!((fault.kind, fault.severity), (Kind::Extra, Severity::Error));
    assert!(fault.mend.contains("rename it to t2_0000.nii.gz"), "{}", fault.mend);
    fs::remove_file(place("imagesTs/t2.nii.gz")).unwrap();
    assert_eq!(sound.only().file, Path::new("labelsTs/t2.nii.gz"));
    fs::remove_file(place("labelsTs/t2.nii.gz")).unwrap();
    // A training scan among the test images.
    fs::copy(sound.image("case_001"), place("imagesTs/case_001_0000.nii.gz")).unwrap();
    let kinds: Vec<Kind> = sound.check().faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [Kind::Duplicate, Kind::Duplicate]);
}

#[test]
fn a_wrong_ending_of_the_image_is_one_fault() {
    let sound = Sound::new(3);
    let (image, _) = nifti::read_image(&sound.image("case_001")).unwrap();
    fs::remove_file(sound.image("case_001")).unwrap();
    sound.write(&sound.path().join("imagesTr/case_001_0000.nii"), &image);
    sound.redescribe(|d| d["numTraining"] = json!(2));
    let fault = sound.only();
    assert_eq!((fault.kind, fault.file.to_str().unwrap()), (Kind::Ending, "imagesTr/case_001_0000.nii"));
}

#[test]
fn listed_files_may_lie_anywhere_but_must_be_there() {
    let sound = Sound::new(2);
    sound.redescribe(|d| {
        d["dataset"] = json!({
            "a": {"images": ["imagesTr/case_000_0000.nii.gz"], "label": "labelsTr/case_000.nii.gz"},
            "b": {"images": ["imagesTr/case_001_0000.nii.gz"], "label": "elsewhere/b.nii.gz"},
        });
    });
    let fault = sound.only();
    assert_eq!((fault.kind, fault.file.to_str().unwrap()), (Kind::Missing, "elsewhere/b.nii.gz"));
    sound.write_labels(&sound.path().join("elsewhere/b.nii.gz"), &labels());
    assert_eq!(sound.check().faults, []);
}

#[test]
fn a_broken_description_is_reported_with_all_its_problems() {
    let sound = Sound::new(3);
    sound.redescribe(|d| {
        d["labels"] = json!({"anterior": 1, "posterior": 3});
        d["file_ending"] = json!(".mha");
    });
    let problems: Vec<String> = sound
        .check()
        .faults
        .into_iter()
        .filter(|fault| fault.kind == Kind::Description)
        .map(|fault| format!("{}: {}", fault.place, fault.what))
        .collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    fs::write(sound.path().join("dataset.json"), "{").unwrap();
    assert_eq!(sound.only().kind, Kind::Description);
    fs::remove_file(sound.path().join("dataset.json")).unwrap();
    assert!(sound.only().what.contains("no data set yet") && sound.only().mend.contains("segen import"));
    assert!(check(Path::new("/nowhere/at/all"), &Silent).is_err());
}

#[test]
fn the_text_shows_faults_with_hints_and_shortens_long_lists() {
    let sound = Sound::new(30);
    for number in 0..14 {
        fs::remove_file(sound.label(&format!("case_{number:03}"))).unwrap();
    }
    let text = sound.check().to_string();
    assert!(text.contains("30 training and 0 test cases\n14 errors, 0 warnings\n"), "{text}");
    assert!(text.contains("error    labelsTr/case_000.nii.gz: is missing"), "{text}");
    assert!(text.contains("and 4 more of this sort"), "{text}");
    assert_eq!(text.matches("hint: ").count(), 10);
}
