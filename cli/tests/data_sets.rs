//! `segen check` and `segen import` as a person or a script meets them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use segen::image::nifti;
use segen::image::volume::{Grid, Volume};

fn segen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_segen")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Three KiTS cases.
fn download(folder: &Path) {
    for number in 0..3_usize {
        let case = folder.join(format!("case_0000{number}"));
        fs::create_dir_all(&case).unwrap();
        let grid = Grid::with_spacing([5, 4, 3], [1.0, 1.0, 2.0]);
        let voxels = ndarray::Array3::from_shape_fn((5, 4, 3), |(x, y, z)| {
            (x + 7 * y + 3 * z + number * number) as f32
        });
        let labels = voxels.mapv(|value| if value < 8.0 { 0 } else { 1 + u8::from(value > 15.0) });
        nifti::write_image(&case.join("imaging.nii.gz"), &Volume::new(voxels, grid.clone()), None).unwrap();
        nifti::write_labels(&case.join("segmentation.nii.gz"), &Volume::new(labels, grid), None).unwrap();
    }
}

#[test]
fn a_download_is_imported_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("kits"), folder.path().join("Dataset500_Kits"));
    download(&source);
    let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());

    let imported = segen(&["import", source, "-o", target]);
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    assert!(stdout(&imported).contains("cases     3 for training, 0 for test"), "{imported:?}");
    // A second time would overwrite.
    let again = segen(&["import", source, "-o", target]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    assert!(again.stdout.is_empty(), "the source was read before its destination was looked at");

    let sound = segen(&["check", target]);
    assert_eq!((sound.status.code(), sound.stderr.is_empty()), (Some(0), true), "{sound:?}");
    assert!(stdout(&sound).contains("0 errors, 0 warnings"), "{sound:?}");

    fs::remove_file(Path::new(target).join("labelsTr/case_00001.nii.gz")).unwrap();
    let faulty = segen(&["check", target, "--json"]);
    assert_eq!(faulty.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&faulty.stdout).unwrap();
    let fault = &report["faults"][0];
    assert_eq!((fault["severity"].as_str(), fault["kind"].as_str()), (Some("error"), Some("missing")));
    assert_eq!(fault["file"], "labelsTr/case_00001.nii.gz");
    assert!(["what", "where", "fix"].iter().all(|key| fault[key].is_string()), "{fault}");

    assert_eq!(segen(&["check", "/nowhere/at/all"]).status.code(), Some(2));
}
