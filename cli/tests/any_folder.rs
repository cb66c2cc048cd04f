//! Folders as people have them: one command to a data set, which is trained on, and predictions of scans as they lie there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use common::{phantom, segen};
use segen::image::{read_image, read_labels, write_image, write_labels};

/// Phantoms that no test changes.
struct Phantoms {
    /// Goes with the process.
    _folder: tempfile::TempDir,
    dataset: PathBuf,
}

/// So many have label files.
const LABELLED: usize = 5;

static PHANTOMS: LazyLock<Phantoms> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), LABELLED + 1, "24,24,24");
    Phantoms { dataset, _folder: folder }
});

impl Phantoms {
    fn file(&self, place: &str, number: usize) -> PathBuf {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.dataset.join(place)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.swap_remove(number)
    }

    /// A scan as it is, or with its intensities turned round.
    fn scan(&self, number: usize, to: &Path, turned: bool) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let (mut image, header) = read_image(&self.file("imagesTr", number)).unwrap();
        if turned {
            image.voxels.mapv_inplace(|value| 1000.0 - value);
        }
        write_image(to, &image, Some(&header)).unwrap();
    }

    fn labels(&self, number: usize, to: &Path, foreground: u8) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let (mut labels, header) = read_labels(&self.file("labelsTr", number)).unwrap();
        labels.voxels.mapv_inplace(|value| value * foreground);
        write_labels(to, &labels, Some(&header)).unwrap();
    }
}

/// One way to lay out a folder.
struct Layout {
    name: &'static str,
    /// Channels by their names, with `#` for the case.
    scans: &'static [&'static str],
    labels: &'static str,
    /// What labels have beside 0.
    foreground: u8,
    /// Names of the cases; the last one has no labels.
    cases: [&'static str; LABELLED + 1],
    /// Where scans without labels lie.
    unlabelled: &'static [&'static str],
}

const LAYOUTS: [Layout; 5] = [
    Layout {
        name: "A",
        scans: &["images/#"],
        labels: "masks/#",
        foreground: 255,
        cases: ["p0", "p1", "p2", "p3", "p4", "p5"],
        unlabelled: &["images/#"],
    },
    Layout {
        name: "B",
        scans: &["%/anat/#_T1w", "%/anat/#_FLAIR"],
        labels: "derivatives/lesions/%/anat/#_label-lesion_mask",
        foreground: 1,
        cases: [
            "sub-00_ses-1",
            "sub-00_ses-2",
            "sub-01_ses-1",
            "sub-02_ses-1",
            "sub-03_ses-1",
            "sub-04_ses-1",
        ],
        unlabelled: &["%/anat/#_T1w", "%/anat/#_FLAIR"],
    },
    Layout {
        name: "C",
        scans: &["#/t1", "#/flair"],
        labels: "#/seg",
        foreground: 1,
        cases: ["P0", "P1", "P2", "P3", "P4", "P5"],
        unlabelled: &["#/t1", "#/flair"],
    },
    Layout {
        name: "D",
        scans: &["#_image"],
        labels: "#_label",
        foreground: 1,
        cases: ["p0", "p1", "p2", "p3", "p4", "p5"],
        unlabelled: &["#_image"],
    },
    Layout {
        name: "E",
        scans: &["imagesTr/#_0000", "imagesTr/#_0001"],
        labels: "labelsTr/#",
        foreground: 1,
        cases: ["c_00", "c_01", "c_02", "c_03", "c_04", "c_05"],
        unlabelled: &["imagesTs/#_0000", "imagesTs/#_0001"],
    },
];

impl Layout {
    /// The path of a case's file.
    fn path(&self, root: &Path, template: &str, case: &str) -> PathBuf {
        let name = template.replace('#', case).replace('%', &case.replace('_', "/"));
        root.join(self.name).join(format!("{name}.nii.gz"))
    }

    /// Makes the folder, with files in it that are no scans.
    fn make(&self, root: &Path) -> PathBuf {
        for (number, case) in self.cases.iter().enumerate() {
            let scans = if number < LABELLED { self.scans } else { self.unlabelled };
            for (channel, scan) in scans.iter().enumerate() {
                let path = self.path(root, scan, case);
                PHANTOMS.scan(number, &path, channel == 1);
                fs::write(path.with_file_name(format!("{case}_note.json")), "{}").unwrap();
                fs::write(path.with_file_name(".DS_Store"), "").unwrap();
            }
            if number < LABELLED {
                PHANTOMS.labels(number, &self.path(root, self.labels, case), self.foreground);
            }
        }
        let folder = root.join(self.name);
        fs::write(folder.join("README.txt"), "Scans of phantoms.").unwrap();
        folder
    }
}

fn run(arguments: &[&str]) -> Output {
    segen().args(arguments).args(["--threads", "1"]).output().unwrap()
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&[done.stdout.as_slice(), &done.stderr].concat()).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn five_layouts_become_sound_data_sets_with_one_command_each() {
    let folder = tempfile::tempdir().unwrap();
    for layout in LAYOUTS {
        let source = layout.make(folder.path());
        let target = folder.path().join(format!("Dataset_{}", layout.name));
        let shown = run(&["import", text(&source), "-o", text(&target), "--dry-run"]);
        assert_eq!(shown.status.code(), Some(0), "{}: {}", layout.name, said(&shown));
        assert!(!target.exists(), "{}: --dry-run wrote something", layout.name);
        let table = String::from_utf8_lossy(&shown.stdout).into_owned();
        for case in layout.cases {
            assert!(table.contains(&format!("\n  {case} ")), "{}: {table}", layout.name);
        }
        assert!(table.contains("cases     5 for training, 1 for test"), "{table}");
        assert!(table.contains(&format!("{} in ", layout.foreground)), "{table}");

        let done = run(&["import", text(&source), "-o", text(&target)]);
        assert_eq!(done.status.code(), Some(0), "{}: {}", layout.name, said(&done));
        let checked = run(&["check", text(&target)]);
        assert!(said(&checked).contains("0 errors, 0 warnings"), "{}: {}", layout.name, said(&checked));
        for (number, case) in layout.cases.iter().enumerate() {
            let part = if number < LABELLED { "Tr" } else { "Ts" };
            for channel in 0..layout.scans.len() {
                let copy = target.join(format!("images{part}/{case}_{channel:04}.nii.gz"));
                let copied = read_image(&copy).unwrap().0;
                let phantom = read_image(&PHANTOMS.file("imagesTr", number)).unwrap().0;
                // Channels stand in the order of their names: FLAIR and flair come first.
                let turned = match layout.name {
                    "B" | "C" => channel == 0,
                    _ => channel == 1,
                };
                let expected = phantom.voxels.mapv(|value| if turned { 1000.0 - value } else { value });
                assert_eq!(copied.voxels, expected, "{}: {case} {channel}", layout.name);
            }
            if number < LABELLED {
                let copied = read_labels(&target.join(format!("labelsTr/{case}.nii.gz"))).unwrap().0;
                let phantom = read_labels(&PHANTOMS.file("labelsTr", number)).unwrap().0;
                assert_eq!(copied.voxels, phantom.voxels, "{}: {case}", layout.name);
            }
        }
        // Two sessions of one subject are on one side of every fold.
        assert_eq!(target.join("splits_final.json").exists(), layout.name == "B");
    }
}

/// Trains for a few steps.
fn train(dataset: &Path, run: &Path) {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).args(["--steps", "3", "--threads", "1"]);
    for set in [
        "policy.name=heuristic",
        "plan.patch=[16, 16, 16]",
        "plan.batch=2",
        "plan.base_features=4",
        "validation.cases_per_epoch=1",
    ] {
        command.args(["--set", set]);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn raw_scans_are_predicted_as_they_lie_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (layout, given) in [(&LAYOUTS[0], vec!["A/images", "A"]), (&LAYOUTS[2], vec!["C/P5", "C"])] {
        let source = layout.make(folder.path());
        let (dataset, trained) = (path("dataset").join(layout.name), path("run").join(layout.name));
        let mut import = vec!["import", text(&source), "-o", text(&dataset), "--channels"];
        import.push(if layout.name == "C" { "t1,flair" } else { "image=CT" });
        let done = run(&import);
        assert!(done.status.success(), "{}", said(&done));
        train(&dataset, &trained);
        // What the data set's own copy of the scan gives.
        let own = path("own").join(layout.name);
        let done = run(&["predict", text(&trained), text(&dataset.join("imagesTs")), "-o", text(&own)]);
        assert!(done.status.success(), "{}", said(&done));
        let unlabelled = format!("{}.nii.gz", layout.cases[LABELLED]);
        let expected = read_labels(&own.join(&unlabelled)).unwrap().0;
        for given in given {
            let out = path("out").join(given);
            let done = run(&["predict", text(&trained), text(&path(given)), "-o", text(&out)]);
            assert!(done.status.success(), "{given}: {}", said(&done));
            let label_maps = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
            let label_maps = label_maps.filter(|name| name.to_string_lossy().ends_with(".nii.gz")).count();
            assert_eq!(label_maps, if given == "C/P5" { 1 } else { 6 }, "{given}");
            assert_eq!(read_labels(&out.join(&unlabelled)).unwrap().0, expected, "{given}");
        }
    }
    // A channel that is missing is named as the file that is expected.
    PHANTOMS.scan(0, &path("new/P8/t1.nii.gz"), false);
    PHANTOMS.scan(0, &path("new/P9/t1.nii.gz"), false);
    PHANTOMS.scan(0, &path("new/P9/flair.nii.gz"), true);
    let out = path("new-out");
    let done = run(&["predict", text(&path("run/C")), text(&path("new")), "-o", text(&out)]);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("no file P8/flair.nii.gz"), "{}", said(&done));
    assert!(out.join("P9.nii.gz").is_file());
}

#[test]
fn a_folder_that_is_no_data_set_yet_says_how_it_becomes_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = LAYOUTS[3].make(folder.path());
    let out = folder.path().join("out");
    for (arguments, code) in [
        (vec!["train", text(&source), "-o", text(&out)], 2),
        (vec!["plan", text(&source)], 2),
        (vec!["check", text(&source)], 1),
    ] {
        let done = run(&arguments);
        assert_eq!(done.status.code(), Some(code), "{}", said(&done));
        assert!(
            said(&done).contains(&format!("segen import {} -o", text(&fs::canonicalize(&source).unwrap()))),
            "{}",
            said(&done)
        );
    }
    assert!(!out.join("config.toml").exists());
    // Wrong options are told before anything is read or written.
    for (option, value, word) in [
        ("--label", "255", "VALUE=NUMBER"),
        ("--group-by", "sub-*", "{patient}"),
        ("--channels", "image=", "WORD=NAME"),
        ("--case-from", "nowhere", "possible values"),
    ] {
        let done = run(&["import", text(&source), "-o", text(&out), option, value]);
        assert_eq!(done.status.code(), Some(2));
        assert!(said(&done).contains(word), "{}", said(&done));
    }
    assert!(said(&run(&["import", text(&source)])).contains("--output"));
    let done = run(&["import", text(&source), "--dry-run", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(found["pairing"]["images"][0], "{case}_image");
    assert_eq!(found["values"][1]["becomes"], 1);
}
