//! Tests of reading: which files are a command's inputs, and what every reader takes and refuses alike.

use std::path::{Path, PathBuf};

use ndarray::Array3;
use segen::data::check::{Kind, Report, Severity, check};
use segen::data::dataset::{Dataset, cases};
use segen::image::volume::{Grid, Volume};
use segen::image::{self, Format, read_header, write_image, write_labels};
use segen::progress::Silent;
use serde_json::{Value, json};

/// A folder of scans.
struct Scans(tempfile::TempDir);

impl Scans {
    fn new(names: &[&str]) -> Self {
        let scans = Self(tempfile::tempdir().unwrap());
        for name in names {
            let volumes = if name.contains("4d") { 2 } else { 1 };
            std::fs::write(scans.path(name), nifti(&[4, 3, 2, volumes], 2, 1.0)).unwrap();
        }
        scans
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `case: file file; case: ...`, or `case: ! what is wrong`.
    fn found(&self, inputs: &[&str], channels: usize) -> String {
        let inputs: Vec<PathBuf> = inputs.iter().map(|name| self.path(name)).collect();
        let of = |images: &segen::Result<Vec<PathBuf>>| match images {
            Ok(images) => images.iter().map(|path| name(path)).collect::<Vec<_>>().join(" "),
            Err(error) => format!("! {error}"),
        };
        match cases(&inputs, channels, None) {
            Ok(found) => found
                .iter()
                .map(|(case, images)| format!("{case}: {}", of(images)))
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => format!("! {error}"),
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A NIfTI-1 file with these dimensions, `xyzt_units` and voxel size; 32-bit reals counted up.
fn nifti(dims: &[i16], units: u8, spacing: f32) -> Vec<u8> {
    let mut header = vec![0_u8; 352];
    header[..4].copy_from_slice(&348_i32.to_le_bytes());
    header[40..42].copy_from_slice(&(dims.len() as i16).to_le_bytes());
    for (index, size) in dims.iter().enumerate() {
        header[42 + 2 * index..][..2].copy_from_slice(&size.to_le_bytes());
    }
    header[70..72].copy_from_slice(&16_i16.to_le_bytes());
    header[72..74].copy_from_slice(&32_i16.to_le_bytes());
    for axis in 0..4 {
        header[76 + 4 * axis..][..4].copy_from_slice(&if axis == 0 { 1.0 } else { spacing }.to_le_bytes());
    }
    header[108..112].copy_from_slice(&352_f32.to_le_bytes());
    header[123] = units;
    header[254..256].copy_from_slice(&1_i16.to_le_bytes());
    for row in 0..3 {
        header[280 + 16 * row + 4 * row..][..4].copy_from_slice(&spacing.to_le_bytes());
        header[280 + 16 * row + 12..][..4].copy_from_slice(&(spacing * 7.0).to_le_bytes());
    }
    header[344..348].copy_from_slice(b"n+1\0");
    let count: i64 = dims.iter().map(|size| i64::from(*size)).product();
    header.extend((0..count).flat_map(|value| (value as f32).to_le_bytes()));
    header
}

#[test]
fn what_training_reads_is_an_input_of_every_command() {
    let scans = Scans::new(&["a_0000.nii", "a_0001.nii", "b_4d.nii.gz", "._a_0000.nii", "notes.nii.txt"]);
    assert_eq!(scans.found(&["."], 2), "a: a_0000.nii a_0001.nii; b_4d: b_4d.nii.gz");
    assert_eq!(scans.found(&["b_4d.nii.gz"], 2), "b_4d: b_4d.nii.gz");
    // The same file by name and by folder is one.
    let file = scans.path("b_4d.nii.gz").display().to_string();
    assert!(!scans.found(&[&file, "."], 2).contains('!'));
}

#[test]
fn digits_at_the_end_of_a_name_are_a_channel_only_where_they_can_be() {
    let scans = Scans::new(&["la_0003.nii", "la_0004.nii", "x.nii", "y_0000.nii"]);
    assert_eq!(scans.found(&["."], 1), "la_0003: la_0003.nii; la_0004: la_0004.nii; x: x.nii; y: y_0000.nii");
    let scans = Scans::new(&["4d_0000.nii", "4d_0001.nii", "4dx_0000.nii"]);
    assert_eq!(scans.found(&["."], 2), "4d_0000: 4d_0000.nii; 4d_0001: 4d_0001.nii; 4dx: 4dx_0000.nii");
}

#[test]
fn a_case_that_cannot_be_used_does_not_hide_the_others() {
    let scans = Scans::new(&["a_0000.nii", "b_0000.nii", "b_0001.nii", "c.nii", "c.nii.gz", "d_0000.nii"]);
    let found = scans.found(&["."], 1);
    assert!(found.starts_with("a: a_0000.nii; b: ! "), "{found}");
    assert!(found.contains("case `b` has the channels 0000, 0001; the network takes one, b_0000.nii.gz"));
    assert!(
        found.contains("c: ! ") && found.contains("c.nii` is the same channel of the same case"),
        "{found}"
    );
    assert!(found.ends_with("d: d_0000.nii"), "{found}");
    assert!(scans.found(&["nothing"], 1).starts_with("! could not read"));
    assert!(Scans::new(&[]).found(&["."], 1).contains("there is no image"));
}

#[test]
fn a_format_is_known_by_content() {
    let scans = Scans::new(&["a.nii"]);
    std::fs::rename(scans.path("a.nii"), scans.path("a.png")).unwrap();
    assert_eq!(Format::of(&scans.path("a.png")).unwrap(), Format::Nifti);
    std::fs::write(scans.path("b.nii"), b"\x89PNG\r\n\x1a\n").unwrap();
    let message = image::read_image(&scans.path("b.nii")).unwrap_err().to_string();
    assert!(message.contains("looks like a picture"), "{message}");
    let volume = Volume::new(Array3::zeros((1, 1, 1)), Grid::with_spacing([1; 3], [1.0; 3]));
    let message = write_labels(&scans.path("c.png"), &volume, None).unwrap_err().to_string();
    assert!(message.contains("`.nii.gz` or `.nii`"), "{message}");
}

#[test]
fn lengths_become_millimetres_and_the_header_keeps_its_own() {
    let scans = Scans::new(&[]);
    let read = |units: u8, spacing: f32| {
        let path = scans.path("a.nii");
        std::fs::write(&path, nifti(&[4, 3, 2], units, spacing)).unwrap();
        image::read_image(&path)
    };
    let (millimetres, header) = read(2, 1.0).unwrap();
    assert!(header.warnings().is_empty());
    for (units, spacing, name) in [(1, 0.001, "metres"), (3, 1000.0, "micrometres")] {
        let (image, header) = read(units, spacing).unwrap();
        assert!(image.grid.voxels_apart(&millimetres.grid).unwrap() < 1e-6, "{name}");
        let doubt = &header.warnings()[0];
        assert!(doubt.what.contains(&format!("xyzt_units says {name}")), "{}", doubt.what);
        assert!(doubt.what.contains("1 x 1 x 1 mm") && doubt.fix.contains("set_xyzt_units"), "{doubt:?}");
        // Written in the same place, unit and affine are the file's own, bit for bit.
        let labels = Volume::new(image.voxels.mapv(|value| value as u8), image.grid.clone());
        let file = scans.path("labels.nii");
        write_labels(&file, &labels, Some(&header)).unwrap();
        let (before, after) = (std::fs::read(scans.path("a.nii")).unwrap(), std::fs::read(&file).unwrap());
        assert_eq!(
            (before[123], &before[76..92], &before[252..328]),
            (after[123], &after[76..92], &after[252..328])
        );
        assert_eq!(read_header(&file).unwrap().grid(), image.grid);
    }
    // No voxel is a metre large.
    let message = read(1, 1.0).unwrap_err().to_string();
    assert!(
        message.contains("xyzt_units: says metres") && message.contains("1000 x 1000 x 1000 mm"),
        "{message}"
    );
    assert!(read(7, 1.0).unwrap().1.warnings()[0].what.contains("xyzt_units is 7"));
}

/// A small data set of one channel and one class.
fn dataset(spacing: f64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let grid = Grid::with_spacing([8; 3], [spacing; 3]);
    for case in 0..3_usize {
        let write = |place: &str, name: &str| {
            let path = folder.path().join(place);
            std::fs::create_dir_all(&path).unwrap();
            path.join(name)
        };
        let noise = |(x, y, z): (usize, usize, usize)| ((x * 31 + y * 17 + z * 7 + case * 5) % 23) as f32;
        let voxels = Array3::from_shape_fn((8, 8, 8), noise);
        let image = write("imagesTr", &format!("c{case}_0000.nii.gz"));
        write_image(&image, &Volume::new(voxels, grid.clone()), None).unwrap();
        let voxels = Array3::from_shape_fn((8, 8, 8), |(x, ..)| u8::from(x == 3));
        let labels = write("labelsTr", &format!("c{case}.nii.gz"));
        write_labels(&labels, &Volume::new(voxels, grid.clone()), None).unwrap();
    }
    describe(folder.path(), &json!({"background": 0, "a": 1}));
    folder
}

fn describe(folder: &Path, labels: &Value) {
    let text = json!({
        "channel_names": {"0": "T1"}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz",
    });
    std::fs::write(folder.join("dataset.json"), text.to_string()).unwrap();
}

fn report(folder: &Path) -> Report {
    check(folder, &Silent).unwrap()
}

#[test]
fn a_byte_order_mark_is_read_over_by_every_reader() {
    let folder = dataset(1.0);
    let mark = |name: &str| {
        let path = folder.path().join(name);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, [b"\xef\xbb\xbf".as_slice(), &text].concat()).unwrap();
    };
    mark("dataset.json");
    std::fs::write(folder.path().join("splits_final.json"), r#"[{"train": ["c0", "c1"], "val": ["c2"]}]"#)
        .unwrap();
    mark("splits_final.json");
    assert_eq!(report(folder.path()).faults, []);
    assert_eq!(Dataset::open(folder.path()).unwrap().folds().unwrap().len(), 1);
    for (name, text) in
        [("config.toml", "seed = 3\n"), ("policy.toml", "name = \"a\"\n"), ("sweep.toml", "x = 1\n")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
        mark(name);
    }
    let config = segen::config::Config::resolve(Some(&folder.path().join("config.toml")), &[]).unwrap();
    assert_eq!(config.seed, 3);
    segen::policy::Policy::read(&folder.path().join("policy.toml")).unwrap();
    let wrong = segen::sweep::Experiment::read(&folder.path().join("sweep.toml")).unwrap_err().to_string();
    assert!(wrong.contains("unknown field `x`"), "{wrong}");
    let text = std::fs::read_to_string(folder.path().join("splits_final.json")).unwrap();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("splits_final.json"), wide).unwrap();
    let message = Dataset::open(folder.path()).unwrap().folds().unwrap_err().to_string();
    assert!(message.contains("is UTF-16") && message.contains("save the file as UTF-8"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_read_is_named_and_its_case_is_never_left_out() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let broken = |replace: &dyn Fn(&Path)| {
        let folder = dataset(1.0);
        let image = folder.path().join("imagesTr/c1_0000.nii.gz");
        std::fs::remove_file(&image).unwrap();
        replace(&image);
        let opened = Dataset::open(folder.path()).unwrap();
        assert_eq!(opened.training.len(), 3);
        let faults = report(folder.path()).faults;
        let errors: Vec<_> = faults.into_iter().filter(|fault| fault.severity == Severity::Error).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].file.ends_with("c1_0000.nii.gz"));
        errors[0].what.clone()
    };
    let annexed = broken(&|image| symlink("../.git/annex/objects/aa/bb/x.nii.gz", image).unwrap());
    assert!(annexed.contains("is a link to") && annexed.contains("was not fetched"), "{annexed}");
    let dangling = broken(&|image| symlink("gone.nii.gz", image).unwrap());
    assert!(dangling.contains("is a link to `gone.nii.gz`, which is not there"), "{dangling}");
    let circle = broken(&|image| symlink("c1_0000.nii.gz", image).unwrap());
    assert!(circle.contains("cannot be followed"), "{circle}");
    let folder = broken(&|image| std::fs::create_dir(image).unwrap());
    assert!(folder.contains("is a folder"), "{folder}");
    let pointer = broken(&|image| std::fs::write(image, "/annex/objects/MD5E-s1--x.nii.gz\n").unwrap());
    assert!(pointer.contains("git-annex pointer"), "{pointer}");

    // A mask or test label that leads nowhere is not taken for one that is not there.
    let folder = dataset(1.0);
    std::fs::create_dir(folder.path().join("masksTr")).unwrap();
    symlink("gone.nii.gz", folder.path().join("masksTr/c2.nii.gz")).unwrap();
    assert!(Dataset::open(folder.path()).unwrap().training[2].mask.is_some());
    assert!(report(folder.path()).faults.iter().any(|fault| fault.kind == Kind::Missing));

    let folder = dataset(1.0);
    let name = OsStr::from_bytes(b"c\xe4_0000.nii.gz");
    std::fs::copy(folder.path().join("imagesTr/c1_0000.nii.gz"), folder.path().join("imagesTr").join(name))
        .unwrap();
    let message = Dataset::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("not UTF-8") && message.contains("rename"), "{message}");
    let faults = report(folder.path()).faults;
    assert!(faults.iter().any(|fault| fault.what.contains("not UTF-8")), "{faults:?}");
}

#[test]
fn tolerances_of_geometry_follow_the_voxel() {
    for spacing in [0.01, 1.0, 5.0] {
        let shifted = |voxels: f64| {
            let folder = dataset(spacing);
            let path = folder.path().join("labelsTr/c1.nii.gz");
            let (mut labels, _) = image::read_labels(&path).unwrap();
            labels.grid.affine[0][3] += voxels * spacing;
            write_labels(&path, &labels, None).unwrap();
            report(folder.path()).faults.first().map(|fault| (fault.kind, fault.severity))
        };
        assert_eq!(shifted(0.0005), None, "{spacing}");
        assert_eq!(shifted(0.02), Some((Kind::Geometry, Severity::Warning)), "{spacing}");
        assert_eq!(shifted(0.2), Some((Kind::Geometry, Severity::Error)), "{spacing}");
    }
}

#[test]
fn label_values_above_255_are_one_error() {
    let folder = dataset(1.0);
    let mut labels = json!({"background": 0});
    (0..50).for_each(|index| labels[format!("structure {index}")] = json!(1000 + index));
    describe(folder.path(), &labels);
    let faults = report(folder.path()).faults;
    assert_eq!(faults.iter().filter(|fault| fault.severity == Severity::Error).count(), 1, "{faults:?}");
    assert!(faults[0].what.contains("50 classes have values above 255"), "{}", faults[0].what);
    assert!(faults[0].mend.contains("0, 1, 2"));

    let folder = dataset(1.0);
    for case in 0..3 {
        let path = folder.path().join(format!("labelsTr/c{case}.nii.gz"));
        let (labels, header) = image::read_labels(&path).unwrap();
        let codes = Volume::new(labels.voxels.mapv(|value| f32::from(value) * 1035.0), labels.grid);
        write_image(&path, &codes, Some(&header)).unwrap();
    }
    let faults = report(folder.path()).faults;
    let errors: Vec<_> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].what.contains("3 label files") && errors[0].what.contains("up to 1035"), "{errors:?}");
    let message = image::read_labels(&folder.path().join("labelsTr/c0.nii.gz")).unwrap_err().to_string();
    assert!(message.contains("above 255") && message.contains("number the classes"), "{message}");
}

#[test]
fn headers_are_rewritten_where_only_they_are_wrong_and_voxels_never() {
    use segen::data::check::{HeaderFix, fix_headers};
    let folder = dataset(1.0);
    let label = |case: usize| folder.path().join(format!("labelsTr/c{case}.nii.gz"));
    let shift = |case: usize, millimetres: f64| {
        let (mut labels, _) = image::read_labels(&label(case)).unwrap();
        labels.grid.affine[0][3] += millimetres;
        write_labels(&label(case), &labels, None).unwrap();
    };
    shift(0, 0.05);
    shift(1, 3.0);
    let before: Vec<_> = (0..3).map(|case| std::fs::read(label(case)).unwrap()).collect();
    let voxels: Vec<_> = (0..3).map(|case| image::read_labels(&label(case)).unwrap().0.voxels).collect();
    let fixes = fix_headers(folder.path(), HeaderFix::Rounding, &[], &Silent).unwrap();
    assert_eq!((fixes.fixed.len(), fixes.left.len()), (1, 1), "{fixes}");
    assert_eq!(fixes.fixed[0].file, Path::new("labelsTr/c0.nii.gz"));
    assert!(fixes.left[0].why.contains("3.000 voxels"), "{fixes}");
    assert_eq!(std::fs::read(folder.path().join(&fixes.fixed[0].backup)).unwrap(), before[0]);
    assert_eq!(std::fs::read(label(1)).unwrap(), before[1]);
    let unknown = fix_headers(folder.path(), HeaderFix::Copy, &["c9".to_owned()], &Silent).unwrap_err();
    assert!(unknown.to_string().contains("no case `c9`"));
    let fixes = fix_headers(folder.path(), HeaderFix::Copy, &["c1".to_owned()], &Silent).unwrap();
    assert_eq!((fixes.fixed.len(), fixes.left.len()), (1, 0), "{fixes}");
    assert_eq!(report(folder.path()).faults, []);
    for (case, voxels) in voxels.iter().enumerate() {
        assert_eq!(&image::read_labels(&label(case)).unwrap().0.voxels, voxels);
    }
    // Once more into the same name: the first copy is not lost.
    shift(1, 0.05);
    let again = fix_headers(folder.path(), HeaderFix::Rounding, &[], &Silent).unwrap();
    assert_eq!(again.fixed[0].backup, Path::new("header-backup/labelsTr/c1.nii.gz.1"));
    assert_eq!(std::fs::read(folder.path().join("header-backup/labelsTr/c1.nii.gz")).unwrap(), before[1]);
    // A file that ends early is left as it is.
    shift(2, 0.05);
    let whole = std::fs::read(label(2)).unwrap();
    std::fs::write(label(2), &whole[..whole.len() - 9]).unwrap();
    let fixes = fix_headers(folder.path(), HeaderFix::Rounding, &[], &Silent).unwrap();
    assert_eq!((fixes.fixed.len(), fixes.left.len()), (0, 1), "{fixes}");
    assert_eq!(std::fs::read(label(2)).unwrap(), whole[..whole.len() - 9]);
}

#[test]
fn a_sample_from_arrays_is_the_sample_from_files() {
    use segen::data::dataset::LabelScheme;
    use segen::prepare::{Normalisation, Recipe, Scan};
    let folder = dataset(1.0);
    let opened = Dataset::open(folder.path()).unwrap();
    let case = &opened.training[0];
    let normalisation = [Normalisation::ZScore { masked: false }];
    let recipe = Recipe { spacing: [1.5; 3], normalisation: &normalisation, channels: 1, classes: 2 };
    let from_files = recipe.prepare(&opened, case).unwrap();
    let (image, _) = image::read_image(&case.images[0]).unwrap();
    let (labels, _) = image::read_labels(case.labels.as_ref().unwrap()).unwrap();
    let scheme: &LabelScheme = &opened.labels;
    let scan = Scan::of_volumes(vec![image.clone()], None).unwrap();
    let from_arrays = recipe.prepare_scan("c0", scan, Some((labels.clone(), scheme))).unwrap();
    assert_eq!(from_arrays, from_files);
    let mut moved = labels;
    moved.grid.affine[0][3] += 5.0;
    let scan = Scan::of_volumes(vec![image.clone()], None).unwrap();
    let message = recipe.prepare_scan("c0", scan, Some((moved.clone(), scheme))).unwrap_err().to_string();
    assert!(message.contains("labels") && message.contains("`channel 0`"), "{message}");
    let mut hole = image;
    hole.voxels[[1, 2, 3]] = f32::NAN;
    let message = Scan::of_volumes(vec![hole], Some(moved)).unwrap_err().to_string();
    assert!(message.contains("channel 0") && message.contains("[1, 2, 3]"), "{message}");
    let other_unit = Recipe { spacing: [1000.0; 3], ..recipe };
    let message = other_unit.prepare(&opened, case).unwrap_err().to_string();
    assert!(message.contains("xyzt_units"), "{message}");
}

#[test]
fn volumes_of_probabilities_are_no_predictions() {
    use segen::data::dataset::LabelScheme;
    use segen::score::{ScoreOptions, evaluate};
    let folder = dataset(1.0);
    let predictions = folder.path().join("predictions");
    std::fs::create_dir(&predictions).unwrap();
    for case in 0..3 {
        let name = format!("c{case}.nii.gz");
        std::fs::copy(folder.path().join("labelsTr").join(&name), predictions.join(&name)).unwrap();
        for class in 0..2 {
            let image = folder.path().join(format!("imagesTr/c{case}_0000.nii.gz"));
            std::fs::copy(image, predictions.join(format!("c{case}_probability_{class}.nii.gz"))).unwrap();
        }
    }
    let scheme = LabelScheme::read(&folder.path().join("dataset.json")).unwrap();
    let options = ScoreOptions::default();
    let references = folder.path().join("labelsTr");
    let scored = evaluate(&predictions, &references, &scheme, &options, &Silent).unwrap();
    assert_eq!(scored.cases.len(), 3);
    // Of a case that is not there it is a file that someone should look at.
    std::fs::rename(predictions.join("c1_probability_0.nii.gz"), predictions.join("x_probability_0.nii.gz"))
        .unwrap();
    let error = evaluate(&predictions, &references, &scheme, &options, &Silent).unwrap_err();
    assert!(error.to_string().contains("x_probability_0"));
}

#[test]
fn the_check_says_what_becomes_of_two_sides() {
    let said = |labels: Value, order: &[u8]| {
        let folder = dataset(1.0);
        describe(folder.path(), &labels);
        let path = folder.path().join("dataset.json");
        let mut text: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        text["regions_class_order"] = json!(order);
        std::fs::write(&path, text.to_string()).unwrap();
        let faults = report(folder.path()).faults;
        faults
            .into_iter()
            .filter(|fault| fault.kind == Kind::Sides)
            .map(|fault| fault.mend)
            .collect::<Vec<_>>()
    };
    let classes = said(json!({"background": 0, "Niere links": 1, "Niere rechts": 2}), &[]);
    assert!(classes.len() == 1 && classes[0].contains("exchange the two labels"), "{classes:?}");
    let regions = said(json!({"background": 0, "left brain": [1, 2], "right brain": [3]}), &[1, 3]);
    assert!(regions.len() == 1 && regions[0].contains("no training mirrors"), "{regions:?}");
}
