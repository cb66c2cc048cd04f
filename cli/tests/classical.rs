//! Classical methods through the commands that networks go through: trained, predicted, resumed, refused, swept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use common::{phantom, segen};
use serde_json::Value;

/// A data set, and a folder of templates that tests share.
struct World {
    /// Goes with the process.
    _folder: tempfile::TempDir,
    dataset: PathBuf,
    cache: PathBuf,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 7, "24,24,24");
    World { dataset, cache: folder.path().join("cache"), _folder: folder }
});

/// Settings under which a fit takes a second.
const SMALL: [&str; 5] = [
    "classical.registration.iterations=[2]",
    "classical.tune_cases=2",
    "classical.forest.trees=4",
    "classical.forest.depth=6",
    "classical.multi_atlas.count=2",
];

/// Lesions have no fixed place; these methods are told to start from an atlas all the same.
const ATLAS: &str = "classical.prior=atlas";

fn train(run: &Path, method: &str, more: &[&str]) -> Output {
    let mut command = segen();
    command.arg("train").arg(&WORLD.dataset).arg("-o").arg(run).arg("--cache").arg(&WORLD.cache);
    command.args(["--method", method, "--fold", "0"]);
    for set in SMALL {
        command.args(["--set", set]);
    }
    command.args(more).output().unwrap()
}

fn words(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn trained(run: &Path, method: &str, more: &[&str]) -> String {
    let done = train(run, method, more);
    assert!(done.status.success(), "{method}: {}", words(&done));
    words(&done)
}

/// All files below a folder, with their bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    drop(all.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap()))
                }
            }
        }
    }
    all
}

fn label_maps(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    contents(folder).into_iter().filter(|(path, _)| path.to_string_lossy().ends_with(".nii.gz")).collect()
}

#[test]
fn every_method_gives_the_same_bytes_for_any_number_of_threads_and_predicts_what_it_was_scored_on() {
    let folder = tempfile::tempdir().unwrap();
    let methods = [
        ("atlas", true),
        ("multi-atlas", true),
        ("multi-atlas-majority", true),
        ("multi-atlas-local", true),
        ("multi-atlas-staple", true),
        ("random-forest", false),
        ("random-forest", true),
        ("graph-cut", false),
        ("graph-cut", true),
        ("mrf", true),
        ("level-set", true),
        ("chan-vese", true),
        ("snake", true),
        ("sparse", true),
        ("sparse", false),
    ];
    for (method, atlas) in methods {
        let prior = if atlas { ATLAS } else { "classical.prior=forest" };
        let run = |threads: &str| {
            let run = folder.path().join(format!("{method}-{atlas}-{threads}"));
            trained(&run, method, &["--set", prior, "--threads", threads, "--set", "validation.post=off"]);
            run
        };
        let (one, two) = (run("1"), run("2"));
        assert_eq!(contents(&one.join("model")), contents(&two.join("model")), "{method}");
        let scored = label_maps(&one.join("validation"));
        assert!(!scored.is_empty());
        assert_eq!(scored, label_maps(&two.join("validation")), "{method}");
        // The held-out scans, predicted as a user would.
        let scans = folder.path().join(format!("scans-{method}-{atlas}"));
        fs::create_dir_all(&scans).unwrap();
        for map in scored.keys() {
            let name = map.to_string_lossy().replace(".nii.gz", "_0000.nii.gz");
            fs::copy(WORLD.dataset.join("imagesTr").join(&name), scans.join(&name)).unwrap();
        }
        let out = folder.path().join(format!("out-{method}-{atlas}"));
        let mut predict = segen();
        predict.arg("predict").arg(&one).arg(&scans).arg("-o").arg(&out);
        let done = predict.arg("--masks").arg(WORLD.dataset.join("masksTr")).output().unwrap();
        assert!(done.status.success(), "{method}: {}", words(&done));
        assert_eq!(label_maps(&out), scored, "{method}");
    }
}

#[test]
fn a_fit_goes_on_after_its_last_complete_phase_and_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (method, prior) in
        [("multi-atlas-majority", ATLAS), ("random-forest", ATLAS), ("graph-cut", "classical.prior=forest")]
    {
        let whole = folder.path().join(format!("{method}-whole"));
        trained(&whole, method, &["--set", prior]);
        let wanted = contents(&whole.join("model"));
        let phases = 6;
        for kept in 0..phases {
            let run = folder.path().join(format!("{method}-{kept}"));
            for (path, bytes) in contents(&whole) {
                let path = run.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            // As after a kill: the list ends early, and what the next phase had written lies there unlisted.
            let index = run.join("model/model.json");
            let mut list: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
            list["phases"].as_array_mut().unwrap().truncate(kept);
            list["files"].as_object_mut().unwrap().retain(|name, _| {
                let phase = match name.as_str() {
                    "start.json" => 1,
                    "intensity.json" => 2,
                    "forest.json" | "forest.safetensors" => 3,
                    "atlases.json" => 4,
                    "tuning.json" => 5,
                    name if name.starts_with("atlases/") => 4,
                    _ => 0,
                };
                phase < kept
            });
            fs::write(&index, list.to_string()).unwrap();
            fs::write(
                run.join("model/intensity.json"),
                if kept > 2 { wanted[Path::new("intensity.json")].as_slice() } else { b"half" },
            )
            .unwrap();
            fs::remove_dir_all(run.join("validation")).unwrap();
            let done = segen()
                .arg("train")
                .arg(&WORLD.dataset)
                .arg("-o")
                .arg(&run)
                .arg("--resume")
                .output()
                .unwrap();
            assert!(done.status.success(), "{method} {kept}: {}", words(&done));
            assert_eq!(contents(&run.join("model")), wanted, "{method}, {kept} phases");
            assert_eq!(
                label_maps(&run.join("validation")),
                label_maps(&whole.join("validation")),
                "{method} {kept}"
            );
            let events = fs::read_to_string(run.join("events.jsonl")).unwrap();
            assert_eq!(events.lines().filter(|line| line.contains("\"phase\"")).count(), phases, "{events}");
        }
    }
}

#[test]
fn what_has_no_meaning_for_a_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for option in [
        ["--steps", "5"],
        ["--policy", "random"],
        ["--precision", "bf16"],
        ["--patience", "2"],
        ["--preset", "brats.small"],
    ] {
        let done = train(&run, "graph-cut", &option);
        let said = words(&done);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(option[0]) && said.contains("fitted, not trained by steps"), "{said}");
        assert!(!run.exists());
    }
    let done = train(&run, "graph-cut", &["--set", "classical.graph_cut.lambda=[]"]);
    assert!(
        done.status.code() == Some(2) && words(&done).contains("classical.graph_cut.lambda"),
        "{}",
        words(&done)
    );
    // Lesions have no fixed place: an atlas of positions is refused, not fitted to nonsense.
    let done = train(&run, "multi-atlas", &[]);
    let said = words(&done);
    assert!(
        done.status.code() == Some(2) && said.contains("no fixed place") && said.contains("random-forest"),
        "{said}"
    );
}

#[test]
fn a_fitted_run_has_no_logits_and_a_damaged_file_of_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let said = trained(&run, "graph-cut", &[]);
    assert!(said.contains("prior: forest"), "{said}");
    for command in [&["logits"][..], &["policy", "test-time"], &["export"]] {
        let mut segen = segen();
        segen.args(command).arg(&run);
        if command != ["logits"] {
            segen.arg("-o").arg(folder.path().join("out"));
        }
        let done = segen.output().unwrap();
        let said = words(&done);
        assert!(done.status.code() == Some(2) && said.contains("classical"), "{command:?}: {said}");
    }
    let forest = run.join("model/forest.safetensors");
    let mut bytes = fs::read(&forest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&forest, bytes).unwrap();
    let scan = WORLD.dataset.join("imagesTs");
    let done = segen()
        .arg("predict")
        .arg(&run)
        .arg(&scan)
        .arg("-o")
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    let said = words(&done);
    assert!(
        done.status.code() == Some(2) && said.contains("forest.safetensors") && said.contains("CRC-32"),
        "{said}"
    );
}

#[test]
fn classical_rows_stand_beside_networks_in_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = folder.path().join("experiment.toml");
    let text = format!(
        "fractions = [1.0]\nfolds = [0]\nseeds = [1, 2]\nscore = \"validation\"\nsteps = 2\ntrain_cases = 0\nthreads = 1\n\
         set = [{}]\n[config.plan]\npatch = [16, 16, 16]\nbase_features = 4\nbatch = 2\n[config.policy]\nname = \"none\"\n\
         [[row]]\nmethod = \"ce\"\n[[row]]\nmethod = \"atlas\"\nset = [\"{ATLAS}\"]\n[[row]]\nmethod = \"random-forest\"\n",
        SMALL.map(|set| format!("{set:?}")).join(", ")
    );
    fs::write(&experiment, text).unwrap();
    let out = folder.path().join("out");
    let done = segen()
        .arg("sweep")
        .arg(&experiment)
        .arg("--dataset")
        .arg(&WORLD.dataset)
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", words(&done));
    let results = fs::read_to_string(out.join("results.jsonl")).unwrap();
    let count = |method: &str| {
        let of = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["method"] == method;
        results.lines().filter(of).count()
    };
    // An atlas draws nothing, a forest does.
    assert_eq!([count("ce"), count("atlas"), count("random-forest")], [2, 1, 2]);
    let table = fs::read_to_string(out.join("table.md")).unwrap();
    assert!(table.contains("atlas") && table.contains("random-forest"), "{table}");
}
