//! What commands write where, and what they never replace: files that they read, and files of the user's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{phantom, segen};

/// A folder with a data set of phantoms, a run of one step on it, and what commands need beside these.
struct World {
    folder: tempfile::TempDir,
}

const CONFIG: &str = "[plan]\nbase_features = 4\npatch = [16, 16, 16]\n[schedule]\nsteps = 1\n";

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        phantom(world.folder.path(), 5, "24,24,24");
        world.write("config.toml", CONFIG);
        world.fine("train DATA -o run -c config.toml --policy random --cache cache");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name.replace("DATA", "Dataset900_Phantom"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Exit code, stdout and stderr of a command whose words stand in `line`; DATA stands for the data set.
    fn run(&self, line: &str) -> (i32, String, String) {
        let words = line.split_whitespace().map(|word| word.replace("DATA", "Dataset900_Phantom"));
        let done =
            segen().args(words).args(["--threads", "1"]).current_dir(self.folder.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }

    fn fine(&self, line: &str) {
        let (code, _, said) = self.run(line);
        assert_eq!(code, 0, "{line}: {said}");
    }

    /// A command that must fail and leave every file as it is. What it says.
    fn refused(&self, line: &str) -> String {
        let before = self.files();
        let (code, _, said) = self.run(line);
        assert_eq!(code, 2, "{line}: {said}");
        let after = self.files();
        for (path, bytes) in &before {
            assert!(after.get(path) == Some(bytes), "{line}: {} has changed", path.display());
        }
        said
    }

    /// Every file, with its content. Links are followed.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(files.insert(path.clone(), fs::read(&path).unwrap_or_default())),
                }
            }
        }
        files
    }

    /// The first file of a folder, by name.
    fn first(&self, folder: &str) -> String {
        let mut names: Vec<String> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names.swap_remove(0)
    }
}

#[test]
fn a_scan_is_never_replaced_by_its_label_map() {
    let world = World::new();
    fs::create_dir(world.path("in")).unwrap();
    fs::copy(
        world.path(&format!("DATA/imagesTs/{}", world.first("DATA/imagesTs"))),
        world.path("in/scan.nii.gz"),
    )
    .unwrap();
    let said = world.refused("predict run in/scan.nii.gz -o in");
    assert!(said.contains("in/scan.nii.gz") && said.contains("reads"), "{said}");
    world.refused("predict run in/scan.nii.gz -o in --overwrite");
    assert!(world.refused("predict run in -o in").contains("folder `in` of the scans"));
    world.refused("predict run in -o in/../in --overwrite");
    // Where no name is taken the folder may be the scan's own, again and again, too.
    world.fine("predict run in/scan.nii.gz -o out");
    fs::rename(world.path("in/scan.nii.gz"), world.path("in/scan_0000.nii.gz")).unwrap();
    world.fine("predict run in/scan_0000.nii.gz -o in");
    world.fine("predict run in/scan_0000.nii.gz -o in");
}

#[cfg(unix)]
#[test]
fn other_names_of_a_scan_are_the_scan() {
    use std::os::unix::fs::symlink;
    let world = World::new();
    let scan = world.path(&format!("DATA/imagesTs/{}", world.first("DATA/imagesTs")));
    fs::create_dir(world.path("in")).unwrap();
    fs::copy(scan, world.path("in/scan.nii.gz")).unwrap();
    symlink("in", world.path("link")).unwrap();
    for folder in ["hard", "soft"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    fs::hard_link(world.path("in/scan.nii.gz"), world.path("hard/scan.nii.gz")).unwrap();
    symlink("../in/scan.nii.gz", world.path("soft/scan.nii.gz")).unwrap();
    for folder in ["link", "hard", "soft"] {
        for overwrite in ["", "--overwrite"] {
            let said = world.refused(&format!("predict run in/scan.nii.gz -o {folder} {overwrite}"));
            assert!(said.contains("reads"), "{folder}: {said}");
        }
    }
    // A link that leads nowhere is the user's as well.
    fs::create_dir(world.path("dangling")).unwrap();
    symlink("nowhere", world.path("dangling/scan.nii.gz")).unwrap();
    assert!(world.refused("predict run in/scan.nii.gz -o dangling").contains("--overwrite"));
}

#[test]
fn references_are_not_replaced_by_predictions() {
    let world = World::new();
    let reference = world.first("DATA/labelsTs");
    let said = world.refused("predict run DATA/imagesTs -o DATA/labelsTs");
    assert!(said.contains(&reference) && said.contains("--overwrite"), "{said}");
    assert!(!world.path("DATA/labelsTs/dataset.json").exists(), "refused before any work");
    fs::remove_dir_all(world.path("DATA/labelsTs")).unwrap();
    fs::create_dir(world.path("DATA/labelsTs")).unwrap();
    world.write(&format!("DATA/labelsTs/{reference}"), "mine");
    world.refused("predict run DATA/imagesTs -o DATA/labelsTs");
    world.fine("predict run DATA/imagesTs -o DATA/labelsTs --overwrite");
    assert_ne!(fs::read(world.path(&format!("DATA/labelsTs/{reference}"))).unwrap(), b"mine");
}

#[test]
fn predictions_are_replaced_until_somebody_changes_one() {
    let world = World::new();
    world.fine("predict run DATA/imagesTs -o out --probabilities");
    let manifest = fs::read_to_string(world.path("out/.segen-outputs.jsonl")).unwrap();
    let listed: Vec<&str> =
        manifest.lines().filter(|line| line.contains("\"command\":\"predict\"")).collect();
    assert_eq!(listed.len(), 2 + 2 * 2 + 1, "two cases, two classes each, and dataset.json: {manifest}");
    // The same again changes nothing, not even the manifest.
    let before = world.files();
    world.fine("predict run DATA/imagesTs -o out --probabilities");
    assert!(world.files() == before);

    let case = world.first("DATA/labelsTs");
    let corrected = world.path(&format!("out/{case}"));
    let mut bytes = fs::read(&corrected).unwrap();
    bytes.extend(b"corrected by hand");
    fs::write(&corrected, &bytes).unwrap();
    let said = world.refused("predict run DATA/imagesTs -o out");
    assert!(said.contains(&case) && said.contains("changed") && said.contains("--overwrite"), "{said}");
    world.fine("predict run DATA/imagesTs -o out --overwrite");
    world.fine("predict run DATA/imagesTs -o out");

    // A manifest with a line that was cut off, or none at all, is no licence.
    fs::write(world.path("out/.segen-outputs.jsonl"), &manifest[..manifest.len() - 20]).unwrap();
    world.refused("predict run DATA/imagesTs -o out");
    fs::remove_file(world.path("out/.segen-outputs.jsonl")).unwrap();
    let said = world.refused("predict run DATA/imagesTs -o out");
    assert!(said.contains("3 files"), "{said}");
}

#[test]
fn probabilities_are_out_of_the_way_of_scores() {
    let world = World::new();
    world.fine("predict run DATA/imagesTs -o out --probabilities");
    assert_eq!(fs::read_dir(world.path("out/probabilities")).unwrap().count(), 4);
    world.fine("evaluate out DATA/labelsTs -o out/summary.json");
    world.fine("evaluate out DATA/labelsTs -o out/summary.json");
    // What one command wrote is not another one's to replace.
    assert!(world.refused("plan DATA -o out/summary.json").contains("segen plan"));
    world.write("out/summary.json", "{}");
    world.refused("evaluate out DATA/labelsTs -o out/summary.json");
    world.fine("evaluate out DATA/labelsTs -o out/summary.json --overwrite");
}

#[test]
fn no_command_replaces_what_it_reads() {
    let world = World::new();
    world.fine("predict run DATA/imagesTs -o out");
    world.fine("logits run --voxels 50");
    let (case, scan) = (world.first("DATA/labelsTs"), world.first("DATA/imagesTr"));
    fs::create_dir(world.path("masks")).unwrap();
    for case in fs::read_dir(world.path("DATA/labelsTs")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let case = case.to_str().unwrap();
        fs::copy(world.path(&format!("DATA/labelsTs/{case}")), world.path(&format!("masks/{case}"))).unwrap();
    }
    fs::copy(world.path("config.toml"), world.path("mine.toml")).unwrap();
    fs::create_dir(world.path("sweep")).unwrap();
    let experiment =
        "dataset = \"DATA\"\nfractions = [1.0]\nseeds = [1]\nsteps = 1\n[[row]]\nmethod = \"ce\"\n";
    world.write("sweep/config.toml", &experiment.replace("DATA", "Dataset900_Phantom"));
    let lines = [
        "predict run DATA/imagesTs -o masks --masks masks".to_owned(),
        "predict run DATA/imagesTs -o run".to_owned(),
        format!("evaluate out DATA/labelsTs -o out/{case}"),
        format!("evaluate out DATA/labelsTs -o DATA/labelsTs/{case}"),
        "evaluate out DATA/labelsTs -o out/dataset.json".to_owned(),
        "plan DATA -o DATA/dataset.json".to_owned(),
        format!("plan DATA -o DATA/imagesTr/{scan}"),
        "plan DATA -c mine.toml -o mine.toml".to_owned(),
        "report run -o run/config.toml".to_owned(),
        "report run -o run/events.jsonl".to_owned(),
        "report run -o run/logits/summary.json".to_owned(),
        format!("report run -o DATA/imagesTr/{scan}"),
        "policy show run -o run/plan.json".to_owned(),
        "policy test-time run -o run/policy.toml --updates 1".to_owned(),
        format!("policy test-time run -o DATA/imagesTr/{scan} --updates 1"),
        "sweep sweep/config.toml -o sweep".to_owned(),
    ];
    for line in &lines {
        for overwrite in ["", " --overwrite"] {
            let said = world.refused(&format!("{line}{overwrite}"));
            assert!(said.contains("reads"), "{line}: {said}");
        }
    }
    // These make new folders, or go on with what is theirs, and know no --overwrite.
    for line in [
        "phantom atlas --cases 2 --shape 24,24,24 -o DATA",
        "import DATA -o DATA",
        "train DATA -o DATA --steps 1",
        "train DATA -o DATA/imagesTr --steps 1 --cache DATA/cache",
        "train DATA -o run --steps 1",
    ] {
        world.refused(line);
    }
}

#[test]
fn no_command_replaces_what_it_did_not_write() {
    let world = World::new();
    world.fine("predict run DATA/imagesTs -o out");
    for name in ["scores.json", "plan.json", "page.html", "policy.png", "policy.toml"] {
        world.write(name, "mine");
    }
    for (folder, file) in [
        ("page2_figures", "loss.png"),
        ("drawn", "single.png"),
        ("swept", "table.csv"),
        ("own", "split.json"),
        ("demo", "overlay.png"),
    ] {
        fs::create_dir(world.path(folder)).unwrap();
        world.write(&format!("{folder}/{file}"), "mine");
    }
    fs::create_dir_all(world.path("run/logits")).unwrap();
    world.write("run/logits/summary.json", "mine");
    let experiment =
        "dataset = \"DATA\"\nfractions = [1.0]\nseeds = [1]\nsteps = 1\n[[row]]\nmethod = \"ce\"\n";
    world.write("experiment.toml", &experiment.replace("DATA", "Dataset900_Phantom"));
    for (line, file) in [
        ("evaluate out DATA/labelsTs -o scores.json", "scores.json"),
        ("plan DATA -o plan.json", "plan.json"),
        ("report run -o page.html", "page.html"),
        ("report run -o page2.html", "page2_figures/loss.png"),
        ("policy show run -o policy.png", "policy.png"),
        ("policy test-time run -o policy.toml --updates 1", "policy.toml"),
        ("policy preview DATA -o drawn", "single.png"),
        ("logits run --voxels 50", "summary.json"),
        ("sweep experiment.toml -o swept", "table.csv"),
        ("train DATA -o own --steps 1", "split.json"),
        ("demo -o demo", "overlay.png"),
    ] {
        let said = world.refused(line);
        assert!(said.contains(file), "{line}: {said}");
    }
    // A single one that the user gives away.
    world.fine("plan DATA -o plan.json --overwrite");
    world.fine("plan DATA -o plan.json");
    // Something else than a file is never replaced.
    fs::create_dir(world.path("folder")).unwrap();
    assert!(world.refused("plan DATA -o folder --overwrite").contains("is a folder"));
    if cfg!(unix) {
        assert!(world.refused("plan DATA -o /dev/null --overwrite").contains("/dev/null"));
        assert!(!Path::new("/dev/null").is_file());
    }
}
