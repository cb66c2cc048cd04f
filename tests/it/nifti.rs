//! Tests of `segen::image::nifti` against nibabel: `tests/reference/make_nifti.py` wrote the files of
//! `tests/data/nifti` and what nibabel reads from them.

mod hostile;
mod writing;

use std::path::Path;

use segen::image::nifti::{Header, read_channels, read_header, read_image, read_labels};
use segen::image::volume::{Image, Volume};
use serde_json::Value;

use crate::support::{data, real};

/// The reference results by file name.
fn expected() -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(data("nifti/expected.json")).expect("the references");
    let table: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("JSON");
    assert!(table.len() > 150, "only {} references", table.len());
    table.into_iter().collect()
}

fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().expect("nan or inf"),
        value => value.as_f64().expect("a number"),
    }
}

/// Voxels in the file's order.
fn in_file_order<T: Copy>(volume: &Volume<T>) -> Vec<T> {
    volume.voxels.t().iter().copied().collect()
}

fn assert_affine(name: &str, affine: [[f64; 4]; 3], reference: &Value) {
    for (row, values) in affine.iter().enumerate() {
        for (column, value) in values.iter().enumerate() {
            let wanted = reference[row][column].as_f64().expect("a number");
            // nibabel works with 80 bits here.
            let tolerance = 1e-12 * wanted.abs().max(1.0);
            assert!(
                (value - wanted).abs() <= tolerance,
                "{name}: affine[{row}][{column}] {value} != {wanted}"
            );
        }
    }
}

fn assert_as_nibabel(name: &str, images: &[Image], header: &Header, reference: &Value) {
    let dims: Vec<u64> = header.dims().iter().map(|size| *size as u64).collect();
    assert_eq!(serde_json::json!(dims), reference["dims"], "{name}");
    // nibabel leaves lengths in the unit of the file.
    let unit = if name.starts_with("micrometres") { 1e3 } else { 1.0 };
    assert_affine(
        name,
        header.grid().affine.map(|row| row.map(|length| unit * length)),
        &reference["affine"],
    );
    assert_eq!(images.len(), header.volumes(), "{name}");
    let voxels: Vec<f32> = images.iter().flat_map(in_file_order).collect();
    let wanted: Vec<f32> =
        reference["voxels"].as_array().expect("voxels").iter().map(|v| number(v) as f32).collect();
    assert_eq!(voxels.len(), wanted.len(), "{name}");
    for (index, (voxel, wanted)) in voxels.iter().zip(&wanted).enumerate() {
        let same = voxel.to_bits() == wanted.to_bits() || (voxel.is_nan() && wanted.is_nan());
        assert!(same, "{name}: voxel {index} is {voxel} instead of {wanted}");
    }
    for image in images {
        assert_eq!(image.grid, header.grid(), "{name}");
    }
    match reference.get("warning") {
        None => assert!(header.warnings().is_empty(), "{name}: {:?}", header.warnings()),
        Some(part) => {
            let part = part.as_str().expect("text");
            let found = header.warnings().iter().any(|warning| warning.what.contains(part));
            assert!(found, "{name}: no `{part}` in {:?}", header.warnings());
        }
    }
}

#[test]
fn every_file_gives_nibabels_voxels_or_an_error_that_names_the_field() {
    for (name, reference) in expected() {
        let path = data("nifti").join(&name);
        if let Some(field) = reference.get("error") {
            let field = field.as_str().expect("text");
            let reads = [
                read_image(&path).map(|_| ()),
                read_channels(&path).map(|_| ()),
                read_labels(&path).map(|_| ()),
            ];
            for read in reads {
                let message = read.expect_err(&name).to_string();
                assert!(message.contains(field), "{name}: `{field}` is not in: {message}");
                if let Some(part) = reference.get("warning") {
                    assert!(message.contains(part.as_str().expect("text")), "{name}: {message}");
                }
                let stem = name.split('.').next().expect("a name");
                assert!(message.contains(stem), "{name}: the file is not named in: {message}");
            }
            continue;
        }
        let (images, header) = read_channels(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_as_nibabel(&name, &images, &header, &reference);
        match read_image(&path) {
            Ok((image, header)) => assert_as_nibabel(&name, &[image], &header, &reference),
            Err(error) => {
                assert!(header.volumes() > 1, "{name}: {error}");
                assert!(error.to_string().contains("volumes instead of one"), "{name}: {error}");
            }
        }
        assert_eq!(read_header(&path).expect("the header").grid(), header.grid(), "{name}");
    }
}

#[test]
fn either_name_of_a_pair_may_be_given() {
    for name in ["pair", "pair-v2", "pair-extensions", "pair-no-rest"] {
        let gzip = if name == "pair-v2" { ".gz" } else { "" };
        let (by_header, _) = read_image(&data("nifti").join(format!("{name}.hdr{gzip}"))).expect("read");
        let (by_voxels, _) = read_image(&data("nifti").join(format!("{name}.img{gzip}"))).expect("read");
        assert_eq!(by_header, by_voxels);
    }
}

#[test]
fn geometry_is_nibabels() {
    let text = std::fs::read_to_string(data("nifti/geometry.json")).expect("the references");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert!(cases.len() > 50);
    let folder = tempfile::tempdir().expect("a folder");
    for (number, case) in cases.iter().enumerate() {
        let hex = case["header"].as_str().expect("text");
        let mut bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        bytes.extend([0; 4]);
        let path = folder.path().join(format!("{number}.nii"));
        std::fs::write(&path, bytes).expect("written");
        let header = read_header(&path).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_affine(&number.to_string(), header.grid().affine, &case["affine"]);
    }
}

#[test]
fn labels_are_whole_numbers_or_counted() {
    let read = |name: &str| read_labels(&data("nifti").join(name));
    let plain: Vec<u8> = (0..24).map(|index| index % 3).collect();
    for name in ["labels-noise.nii", "labels-i8.nii"] {
        assert_eq!(in_file_order(&read(name).expect("labels").0), plain, "{name}");
    }
    // Stored as 0, 10, 20 with a slope of 0.1.
    assert_eq!(in_file_order(&read("labels-scaled.nii").expect("labels").0), plain);
    for (name, text) in [
        (
            "labels-half.nii",
            "2 of 24 are not whole numbers from 0 to 255; the first is 1.5 at voxel [1, 2, 1]",
        ),
        (
            "labels-nan.nii",
            "1 of 24 are not whole numbers from 0 to 255; the first is NaN at voxel [0, 0, 1]",
        ),
        (
            "labels-wide.nii",
            "2 of 24 are not whole numbers from 0 to 255; the first is 256 at voxel [2, 0, 0]",
        ),
    ] {
        let message = read(name).expect_err(name).to_string();
        assert!(message.contains(text), "{message}");
        assert!(message.contains(name), "{message}");
    }
    // Unsigned bytes go straight through.
    let path = data("nifti/v1-little-u1.nii");
    let (labels, _) = read_labels(&path).expect("labels");
    let (image, _) = read_image(&path).expect("an image");
    assert_eq!(labels.voxels.mapv(f32::from), image.voxels);
}

#[test]
fn what_is_not_a_file_is_an_error() {
    for (path, text) in [
        (data("nifti"), "is a folder"),
        (data("nifti/missing.nii.gz"), "could not read"),
        (
            Path::new("/dev/zero").to_owned(),
            if cfg!(unix) { "is a pipe or device" } else { "could not read" },
        ),
    ] {
        let message = read_image(&path).expect_err("an error").to_string();
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn real_scans_have_no_warning() {
    let Some(folder) = real("Dataset004_Hippocampus") else { return };
    for (part, count) in [("imagesTr", 200), ("labelsTr", 200)] {
        let files: Vec<_> = std::fs::read_dir(folder.join(part)).expect("a folder").collect();
        assert_eq!(files.len(), count);
        for file in files {
            let path = file.expect("an entry").path();
            let header = if part == "labelsTr" {
                let (labels, header) = read_labels(&path).expect("labels");
                assert!(labels.voxels.iter().all(|label| *label <= 2));
                header
            } else {
                read_image(&path).expect("an image").1
            };
            assert!(header.warnings().is_empty(), "{}: {:?}", path.display(), header.warnings());
        }
    }
}
