//! `segen report` on label maps of any tool: what the page says, and what a browser shows of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::Array3;
use segen::image::volume::{Grid, Volume};
use segen::image::{write_image, write_labels};
use serde_json::{Value, json};

/// The command under test.
fn segen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_segen"))
}

/// A case whose name is no name, as far as the system's files allow.
const HOSTILE: &str = if cfg!(windows) { "plain" } else { "<img src=x onerror=window.hacked=1>" };
/// A class may be called anything.
const CLASS: &str = "</script><script>window.hacked=2</script>";

/// Stored from top to bottom, right and front to back; edges of 3, 1 and 2 mm.
fn grid() -> Grid {
    let affine = [[0.0, 1.0, 0.0, -4.0], [0.0, 0.0, -2.0, 20.0], [-3.0, 0.0, 0.0, 50.0]];
    Grid { shape: [6, 14, 9], affine }
}

fn intensity([i, j, k]: [usize; 3]) -> f32 {
    (40 * i + 11 * j + 3 * k * k + 100) as f32
}

/// Reference and prediction of a voxel.
fn labels([i, j, k]: [usize; 3]) -> [u8; 2] {
    let reference = u8::from((1..4).contains(&i) && (3..8).contains(&j) && (2..6).contains(&k));
    let prediction = u8::from((2..5).contains(&i) && (3..8).contains(&j) && (2..7).contains(&k));
    [reference, prediction]
}

/// Two cases with scans, references and the label maps of two tools.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["imagesTr", "labelsTr", "one", "two"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let world = Self { folder };
        let words = json!({ "channel_names": { "0": "T1", "1": "T2" }, "labels": { "background": 0, CLASS: 1 },
            "numTraining": 2, "file_ending": ".nii.gz" });
        fs::write(world.path("dataset.json"), words.to_string()).unwrap();
        let [x, y, z] = grid().shape;
        let voxels = |value: &dyn Fn([usize; 3]) -> u8| {
            Volume::new(Array3::from_shape_fn((x, y, z), |(i, j, k)| value([i, j, k])), grid())
        };
        for case in [HOSTILE, "second"] {
            let image = Array3::from_shape_fn((x, y, z), |(i, j, k)| intensity([i, j, k]));
            for channel in 0..2 {
                let file = world.path(&format!("imagesTr/{case}_000{channel}.nii.gz"));
                write_image(&file, &Volume::new(image.mapv(|v| v * (1 + channel) as f32), grid()), None)
                    .unwrap();
            }
            let write = |place: &str, value: &dyn Fn([usize; 3]) -> u8| {
                let file = world.path(&format!("{place}/{case}.nii.gz"));
                write_labels(&file, &voxels(value), None).unwrap();
            };
            write("labelsTr", &|at| labels(at)[0]);
            // The second case is predicted as it is, so that the first is the worse one.
            write("one", &|at| labels(at)[usize::from(case == HOSTILE)]);
            write("two", &|at| labels(at)[0]);
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn report(&self, tools: &[&str], more: &[&str]) -> Output {
        let mut command = segen();
        command.current_dir(self.folder.path()).arg("report").arg("--predictions").args(tools);
        command.args(["--references", "labelsTr", "-o", "page.html", "--overwrite"]).args(more);
        command.output().unwrap()
    }

    fn page(&self) -> String {
        fs::read_to_string(self.path("page.html")).unwrap()
    }
}

fn words(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// What the viewer of a page reads.
fn viewer(page: &str) -> Value {
    let words = page.split("id=\"viewer-words\">").nth(1).unwrap().split("</script>").next().unwrap();
    serde_json::from_str(words).unwrap()
}

#[test]
fn label_maps_of_any_tool_are_shown_with_their_scores() {
    let world = World::new();
    let done = world.report(&["one", "two"], &[]);
    assert!(done.status.success(), "{}", words(&done));
    let page = world.page();
    for part in [
        "Answer",
        "On 2 scored cases",
        "Side by side",
        "The worst cases",
        "Every case, the worst first",
        "Data",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<img src=x") && !page.contains("<script>window"));
    let viewer = viewer(&page);
    assert_eq!(viewer["columns"], json!(["one", "two"]));
    assert_eq!(viewer["classes"], json!([{ "value": 1, "name": CLASS }]));
    let first = &viewer["cases"][0];
    assert_eq!(first["name"], HOSTILE);
    assert_eq!((&first["shape"], &first["spacing"]), (&json!([14, 9, 6]), &json!([1.0, 2.0, 3.0])));
    assert_eq!(first["channels"].as_array().unwrap().len(), 2);
    // 60 voxels of reference, 75 of prediction, 40 in both.
    let scores = first["columns"][0]["scores"][0].as_array().unwrap();
    assert!((scores[1].as_f64().unwrap() - 80.0 / 135.0).abs() < 1e-12, "{scores:?}");
    let errors: u64 =
        first["columns"][0]["errors"][2].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(errors, 20 + 35);
    assert_eq!(first["columns"][1]["errors"][0], json!(vec![0; 14]));

    let done = world.report(&["one"], &["--without", "viewer", "data"]);
    assert!(done.status.success(), "{}", words(&done));
    let page = world.page();
    assert!(!page.contains("id=\"viewer") && !page.contains("<h2 id=\"section-3\">Data"), "{page}");
}

#[test]
fn without_dataset_json_every_value_is_a_class_and_without_scans_labels_are_shown() {
    let world = World::new();
    fs::remove_file(world.path("dataset.json")).unwrap();
    fs::remove_dir_all(world.path("imagesTr")).unwrap();
    let done = world.report(&["one"], &[]);
    assert!(done.status.success(), "{}", words(&done));
    let viewer = viewer(&world.page());
    assert_eq!(viewer["classes"], json!([{ "value": 1, "name": "label 1" }]));
    assert_eq!(viewer["cases"][0]["channels"], json!([]));
    assert!(viewer["cases"][0]["reference"]["volume"].is_number());
}

#[test]
fn what_cannot_be_shown_or_scored_is_said() {
    let world = World::new();
    // A scan that lies elsewhere: scores stand, slices would be wrong.
    let mut moved = grid();
    moved.affine[0][3] += 5.0;
    let file = world.path("imagesTr/second_0001.nii.gz");
    write_image(&file, &Volume::new(Array3::zeros((6, 14, 9)), moved), None).unwrap();
    let done = world.report(&["one"], &[]);
    assert!(done.status.success(), "{}", words(&done));
    assert!(words(&done).contains("second is not shown"), "{}", words(&done));
    let shown = viewer(&world.page());
    let problem = shown["cases"][1]["problem"].as_str().unwrap();
    assert!(problem.contains("second_0001") && problem.contains("5.000 mm off the scan"), "{problem}");

    for (more, said) in [
        (&["--channel", "T9"][..], "there is no channel `T9`"),
        (&["--megabytes", "0"], "a number of megabytes above zero"),
        (&["--images", "nowhere"], "nowhere"),
        (&["--without", "everything"], "everything"),
    ] {
        let done = world.report(&["one"], more);
        assert_eq!(done.status.code(), Some(2), "{more:?}");
        assert!(words(&done).contains(said), "{more:?}: {}", words(&done));
    }
    let done =
        segen().args(["report", "run", "--predictions", "one", "--references", "labelsTr"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2));

    // Values that have nothing in common are a slip, not a score of 0.
    fs::remove_file(world.path("dataset.json")).unwrap();
    for case in [HOSTILE, "second"] {
        let map = Array3::from_shape_fn((6, 14, 9), |(i, j, k)| 255 * labels([i, j, k])[0]);
        write_labels(&world.path(&format!("two/{case}.nii.gz")), &Volume::new(map, grid()), None).unwrap();
    }
    let done = world.report(&["two"], &[]);
    assert_eq!(done.status.code(), Some(2));
    assert!(words(&done).contains("{255}") && words(&done).contains("none in both"), "{}", words(&done));
    // The page that was there is still whole.
    assert!(world.page().trim_end().ends_with("</html>"));
}

/// Voxels, and where a reader who looks at the patient from the front or from below must see them: from the affine
/// alone, in another way than the program does.
fn expected() -> Vec<Value> {
    let grid = grid();
    // Along right, front, top: the file's axis, and the range of positions.
    let corners: Vec<[f64; 3]> = [[0.0; 3], [5.0, 13.0, 8.0]].map(|at| grid.world(at)).to_vec();
    let range = |w: usize| (corners[0][w].min(corners[1][w]), corners[0][w].max(corners[1][w]));
    let spacing = [1.0, 2.0, 3.0];
    let mut expected = Vec::new();
    for voxel in [[1, 4, 3], [3, 3, 2], [4, 7, 6], [2, 10, 5], [1, 9, 1]] {
        let at = grid.world(voxel.map(|n| n as f64));
        // From the side of the patient's right, front or top to the other.
        let share =
            |w: usize| (range(w).1 + spacing[w] / 2.0 - at[w]) / (range(w).1 - range(w).0 + spacing[w]);
        let slice = |w: usize| ((at[w] - range(w).0) / spacing[w]).round();
        let [reference, prediction] =
            labels(voxel).map(|label| if label == 0 { "background" } else { CLASS });
        let said = [
            format!("Voxel ({}, {}, {}) of the file", voxel[0], voxel[1], voxel[2]),
            format!("({:.1}, {:.1}, {:.1}) mm", at[0], at[1], at[2]),
            format!("Reference: {reference};"),
            format!("one: {prediction}"),
        ];
        for (plane, [u, v, w]) in [[0, 1, 2], [0, 2, 1], [1, 2, 0]].into_iter().enumerate() {
            expected.push(json!({ "plane": plane, "slice": slice(w), "x": share(u), "y": share(v),
                "value": intensity(voxel), "said": said }));
        }
    }
    expected
}

/// A browser to look with: `$SEGEN_CHROMIUM`, else one of the usual names.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SEGEN_CHROMIUM") {
        return Some(PathBuf::from(named));
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome-headless-shell"];
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

#[test]
fn a_browser_shows_every_voxel_where_it_belongs_and_runs_nothing_of_a_name() {
    let node = Command::new("node").arg("--version").output().is_ok_and(|done| done.status.success());
    let Some(chromium) = chromium().filter(|_| node) else {
        eprintln!(
            "skipped: node and a Chromium ($SEGEN_CHROMIUM, or on the path) are needed to look at the page"
        );
        return;
    };
    let world = World::new();
    let done = world.report(&["one", "two"], &[]);
    assert!(done.status.success(), "{}", words(&done));
    let list = world.path("expected.json");
    fs::write(&list, serde_json::to_string(&expected()).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser/report.mjs");
    let mut look = Command::new("node");
    look.arg(script).arg(chromium).arg(world.path("page.html")).arg(list);
    let done = look.output().unwrap();
    assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), words(&done));
}
