//! What is written, and what stays as it was.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ndarray::{Array3, ShapeBuilder};
use proptest::prelude::*;
use segen::image::nifti::{
    ByteOrder, Datatype, Version, read_channels, read_header, read_image, read_labels, write_image,
    write_labels,
};
use segen::image::volume::{Grid, Image, Labels, Volume};

use super::{expected, in_file_order, number};
use crate::support::data;

const OBLIQUE: [[f64; 4]; 3] = [[0.0, -0.5, 0.0, 10.0], [0.75, 0.0, 0.0, -20.0], [0.0, 0.0, -2.0, 30.5]];

fn labels(shape: [usize; 3]) -> Labels {
    let [x, y, z] = shape;
    let voxels = Array3::from_shape_fn((x, y, z), |(i, j, k)| (i + x * (j + y * k)) as u8);
    Volume::new(voxels, Grid { shape, affine: OBLIQUE })
}

fn image(labels: &Labels) -> Image {
    Volume::new(labels.voxels.mapv(|value| f32::from(value) / 7.0 - 3.0), labels.grid.clone())
}

/// The uncompressed bytes of a file.
fn content(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("a file");
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes;
    }
    let mut content = Vec::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut content).expect("gzip");
    content
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn written_volumes_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let labels = labels([3, 4, 5]);
    let image = image(&labels);
    for name in ["case.v1.nii", "case.v1.nii.gz", "UPPER.NII.GZ"] {
        let path = folder.path().join(name);
        write_labels(&path, &labels, None).expect("written");
        let (back, header) = read_labels(&path).expect("read");
        assert_eq!(back, labels);
        assert_eq!((header.datatype(), header.version()), (Datatype::U8, Version::Nifti1));
        assert!(header.warnings().is_empty(), "{:?}", header.warnings());
        let compressed = std::fs::read(&path).expect("a file").starts_with(&[0x1f, 0x8b]);
        assert_eq!(compressed, name.to_lowercase().ends_with(".gz"));
        // Over the file that is there, with its own header.
        write_image(&path, &image, Some(&header)).expect("written");
        assert_eq!(read_image(&path).expect("read").0, image);
        assert_eq!(read_header(&path).expect("read").grid(), image.grid);
        assert_eq!(names(folder.path()), [name], "no temporary file is left");
        std::fs::remove_file(path).expect("removed");
    }
}

#[test]
fn voxels_in_any_memory_order_are_written_in_file_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = labels([3, 4, 5]);
    let mut columns = Array3::zeros((3, 4, 5).f());
    columns.assign(&rows.voxels);
    let columns = Volume::new(columns, rows.grid.clone());
    let (a, b) = (folder.path().join("a.nii.gz"), folder.path().join("b.nii.gz"));
    write_labels(&a, &rows, None).expect("written");
    write_labels(&b, &columns, None).expect("written");
    assert_eq!(std::fs::read(&a).expect("a file"), std::fs::read(&b).expect("a file"));
    // x is fastest.
    assert_eq!(content(&a)[352..], (0..60).collect::<Vec<u8>>());
    assert!(
        read_labels(&a).expect("read").0.voxels.t().is_standard_layout(),
        "readers keep the file's order"
    );
}

/// Fields that describe the voxels and not where they lie: dimensions, number type, scaling, offset and magic.
fn masked(header: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    let ranges: &[std::ops::Range<usize>] = match header.len() {
        348 => &[40..56, 70..74, 108..120, 344..348],
        _ => &[4..16, 16..80, 168..192],
    };
    for range in ranges {
        header[range.clone()].fill(0);
    }
    header
}

#[test]
fn a_given_header_is_kept_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut tried = 0;
    for (name, reference) in expected() {
        let source = data("nifti").join(&name);
        if reference.get("error").is_some() || reference["dims"].as_array().expect("dims").len() != 3 {
            continue;
        }
        if name == "gzip-zero-padding.nii.gz" {
            continue; // `content` does not know padding
        }
        tried += 1;
        let (image, header) = read_image(&source).expect("read");
        let path = folder.path().join("copy.nii");
        write_image(&path, &image, Some(&header)).expect("written");
        let (back, copied) = read_image(&path).expect("read");
        let bits = |image: &Image| image.voxels.mapv(f32::to_bits);
        assert_eq!(bits(&back), bits(&image), "{name}");
        assert_eq!(back.grid, image.grid, "{name}: the affine, bit for bit");
        assert_eq!(
            (copied.version(), copied.byte_order()),
            (header.version(), header.byte_order()),
            "{name}"
        );
        let (before, after) = (content(&source), content(&path));
        let size = if header.version() == Version::Nifti1 { 348 } else { 540 };
        assert_eq!(masked(&before[..size]), masked(&after[..size]), "{name}");
        // Extensions and padding; the rest of a `.hdr` file is filled up with zeros.
        let voxels = after.len() - 4 * image.grid.len();
        let kept = &after[size..voxels];
        if name.contains(".hdr") {
            assert!(kept.starts_with(&before[size..]), "{name}");
            assert!(voxels % 16 == 0 && kept.len() < before.len() - size + 20, "{name}");
        } else {
            assert_eq!(kept, &before[size..][..kept.len()], "{name}");
        }
    }
    assert!(tried > 80, "{tried} files");
}

#[test]
fn labels_on_the_grid_of_a_scan_keep_its_place_but_not_its_scaling() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("labels.nii.gz");
    for name in
        ["scaled-v2-big-i2.nii", "scaled-i2.nii", "extensions.nii.gz", "pair-v2.hdr.gz", "one-slice.nii"]
    {
        let header = read_header(&data("nifti").join(name)).expect("a header");
        let grid = header.grid();
        let labels = Volume::new(labels(grid.shape).voxels.mapv(|value| value % 3), grid);
        write_labels(&path, &labels, Some(&header)).expect("written");
        let (back, copied) = read_labels(&path).expect("read");
        assert_eq!(back, labels, "{name}");
        assert_eq!((copied.datatype(), copied.dims()), (Datatype::U8, header.dims()), "{name}");
        let bytes = content(&path);
        let (slope, window) =
            if copied.version() == Version::Nifti1 { (112..120, 124..132) } else { (176..192, 192..208) };
        let mut one = match (copied.version(), copied.byte_order()) {
            (Version::Nifti1, ByteOrder::Little) => 1_f32.to_le_bytes().to_vec(),
            (Version::Nifti1, ByteOrder::Big) => 1_f32.to_be_bytes().to_vec(),
            (Version::Nifti2, ByteOrder::Little) => 1_f64.to_le_bytes().to_vec(),
            (Version::Nifti2, ByteOrder::Big) => 1_f64.to_be_bytes().to_vec(),
        };
        one.resize(2 * one.len(), 0);
        assert_eq!(bytes[slope], one, "{name}: scl_slope 1, scl_inter 0");
        assert!(bytes[window].iter().all(|byte| *byte == 0), "{name}: no display window");
    }
}

#[test]
fn a_header_of_another_grid_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("labels.nii");
    let header = read_header(&data("nifti/scaled-i2.nii")).expect("a header");
    let mut moved = labels([3, 4, 2]);
    moved.grid.affine = header.grid().affine;
    moved.grid.affine[1][3] += 0.5;
    let message = write_labels(&path, &moved, Some(&header)).expect_err("moved").to_string();
    assert!(message.contains("0.5000 mm"), "{message}");
    let message = write_labels(&path, &labels([4, 3, 2]), Some(&header)).expect_err("turned").to_string();
    assert!(message.contains("[4, 3, 2]"), "{message}");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn without_a_header_both_forms_say_what_nibabel_would_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image.nii");
    let text = std::fs::read_to_string(data("nifti/written.json")).expect("the references");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    assert!(cases.len() > 20);
    for case in cases {
        let rows = |field: &str| -> [[f64; 4]; 3] {
            std::array::from_fn(|row| std::array::from_fn(|column| number(&case[field][row][column])))
        };
        let shape = std::array::from_fn(|axis| case["shape"][axis].as_u64().expect("a size") as usize);
        let mut volume = image(&labels(shape));
        volume.grid.affine = rows("affine");
        write_image(&path, &volume, None).expect("written");
        let mut bytes = content(&path);
        assert_eq!(bytes[252..256], [1, 0, 1, 0], "qform_code and sform_code");
        assert_eq!(bytes[123], 2, "millimetres");
        for index in 0..4 {
            let stored = f32::from_le_bytes(*bytes[76 + 4 * index..].first_chunk().expect("4 bytes"));
            assert!((f64::from(stored) - number(&case["pixdim"][index])).abs() < 1e-6, "pixdim[{index}]");
        }
        let by_sform = read_header(&path).expect("a header");
        assert!(by_sform.warnings().is_empty(), "{:?}", by_sform.warnings());
        // Without its sform the same file has to mean the same.
        bytes[254] = 0;
        std::fs::write(&path, &bytes).expect("written");
        let by_qform = read_header(&path).expect("a header").grid();
        for (values, wanted) in by_qform.affine.iter().flatten().zip(rows("qform").iter().flatten()) {
            assert!((values - wanted).abs() < 1e-4, "{by_qform:?} {case}");
        }
        assert!(by_qform.displacement(&by_sform.grid()).expect("one shape") < 1e-3);
    }
}

#[test]
fn what_one_form_cannot_say_is_left_to_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sheared.nii");
    let mut sheared = labels([3, 4, 5]);
    sheared.grid.affine[0][0] = 0.25;
    write_labels(&path, &sheared, None).expect("written");
    assert_eq!(content(&path)[252..256], [0, 0, 1, 0], "only the sform holds a shear");
    assert_eq!(read_header(&path).expect("a header").grid(), sheared.grid);

    let path = folder.path().join("long.nii.gz");
    let long = labels([70_000, 1, 1]);
    write_labels(&path, &long, None).expect("written");
    let (back, header) = read_labels(&path).expect("read");
    assert_eq!(back, long);
    assert_eq!(header.version(), Version::Nifti2, "70,000 does not fit into 16 bits");
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let volume = labels([3, 4, 5]);
    for name in ["labels.nrrd", "labels", "labels.gz", "nii", ".nii", "missing/labels.nii"] {
        let message = write_labels(&folder.path().join(name), &volume, None).expect_err(name).to_string();
        let expected = if name.contains('/') { "could not write" } else { "does not end in `.nii`" };
        assert!(message.contains(expected), "{name}: {message}");
    }
    std::fs::create_dir(folder.path().join("folder.nii")).expect("a folder");
    write_labels(&folder.path().join("folder.nii"), &volume, None).expect_err("a folder is in the way");
    assert_eq!(names(folder.path()), ["folder.nii"]);
    let empty = Volume::new(Array3::zeros((0, 2, 2)), Grid::with_spacing([0, 2, 2], [1.0; 3]));
    let message = write_labels(&folder.path().join("a.nii"), &empty, None).expect_err("empty").to_string();
    assert!(message.contains("no voxel"), "{message}");
    let mut flat = labels([3, 4, 5]);
    flat.grid.affine[2] = [0.0; 4];
    let message = write_labels(&folder.path().join("a.nii"), &flat, None).expect_err("flat").to_string();
    assert!(message.contains("volume"), "{message}");
    assert_eq!(names(folder.path()), ["folder.nii"]);
}

#[test]
fn channels_are_the_volumes_of_the_last_axis() {
    let (channels, header) = read_channels(&data("nifti/channels.nii.gz")).expect("channels");
    assert_eq!((channels.len(), header.volumes(), header.dims()), (3, 3, &[3, 4, 2, 3][..]));
    let reference =
        &expected().into_iter().find(|(name, _)| name == "channels.nii.gz").expect("a reference").1;
    let wanted: Vec<f32> =
        reference["voxels"].as_array().expect("voxels").iter().map(|v| number(v) as f32).collect();
    assert_eq!(in_file_order(&channels[1]), wanted[24..48]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_volume_survives(
        shape in [1_usize..7, 1_usize..7, 1_usize..7],
        bits in proptest::collection::vec(any::<u32>(), 216),
        turn in [-3.0_f64..3.0, -3.0_f64..3.0, -3.0_f64..3.0],
        spacing in [0.1_f64..9.0, 0.1_f64..9.0, 0.1_f64..9.0],
        compressed in any::<bool>(),
    ) {
        let [x, y, z] = shape;
        let voxels = Array3::from_shape_fn((x, y, z), |(i, j, k)| f32::from_bits(bits[i + 6 * (j + 6 * k)]));
        let (sa, ca) = turn[0].sin_cos();
        let (sb, cb) = turn[1].sin_cos();
        let rotation = [[ca * cb, -sa, ca * sb], [sa * cb, ca, sa * sb], [-sb, 0.0, cb]];
        let affine = std::array::from_fn(|row| {
            let r: [f64; 3] = rotation[row];
            [r[0] * spacing[0], r[1] * spacing[1], r[2] * spacing[2], 50.0 * turn[row]]
        });
        let volume = Volume::new(voxels, Grid { shape, affine });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(if compressed { "a.nii.gz" } else { "a.nii" });
        write_image(&path, &volume, None).expect("written");
        let (back, header) = read_image(&path).expect("read");
        let bits = |image: &Image| image.voxels.mapv(f32::to_bits);
        prop_assert_eq!(bits(&back), bits(&volume));
        prop_assert!(back.grid.displacement(&volume.grid).expect("one shape") < 1e-3);
        prop_assert!(header.warnings().is_empty(), "{:?}", header.warnings());
        // With its own header nothing changes any more.
        write_image(&folder.path().join("b.nii"), &back, Some(&header)).expect("written");
        prop_assert_eq!(read_image(&folder.path().join("b.nii")).expect("read").0.grid, back.grid);
    }
}
