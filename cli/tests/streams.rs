//! Readers that go away and disks that are full: words may get lost, results never in silence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use common::{phantom, segen};

const SMALL: [&str; 6] = [
    "--set",
    "plan.base_features=4",
    "--set",
    "plan.patch=[16,16,16]",
    "--set",
    "schedule.steps_per_epoch=2",
];

/// A stream that has no room left, where the system has such a thing.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn full() -> Option<Stdio> {
    match File::options().write(true).open("/dev/full") {
        Ok(file) => Some(file.into()),
        Err(_) => {
            eprintln!("skipped: this system has no /dev/full");
            None
        }
    }
}

/// A pipe that nobody reads.
fn gone() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn train(data: &Path, run: &Path, stdout: Stdio, stderr: Stdio) -> Option<i32> {
    let mut command = segen();
    command.arg("train").arg(data).arg("-o").arg(run).args(SMALL).args(["--steps", "4", "--threads", "1"]);
    command.stdout(stdout).stderr(stderr).status().unwrap().code()
}

#[test]
fn a_training_goes_on_when_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let data = phantom(folder.path(), 5, "24,24,24");
    let weights = |run: &Path| std::fs::read(run.join("checkpoint/step-4/weights.safetensors")).unwrap();
    let heard = folder.path().join("heard");
    assert_eq!(train(&data, &heard, Stdio::null(), Stdio::null()), Some(0));
    let mut unheard = vec![("gone", Stdio::null(), gone(), 0), ("both-gone", gone(), gone(), 2)];
    if let (Some(one), Some(two)) = (full(), full()) {
        unheard.push(("full", Stdio::null(), one, 0));
        unheard.push(("result-full", two, Stdio::null(), 2));
    }
    for (name, stdout, stderr, code) in unheard {
        let run = folder.path().join(name);
        assert_eq!(train(&data, &run, stdout, stderr), Some(code), "{name}");
        assert_eq!(weights(&run), weights(&heard), "{name}");
        let record = std::fs::read_to_string(run.join("run.json")).unwrap();
        assert!(record.contains("\"state\": \"finished\""), "{name}: {record}");
        assert!(run.join("validation/summary.json").is_file(), "{name}");
    }
}

#[test]
fn a_result_that_is_lost_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let data = phantom(root, 5, "24,24,24");
    let run = root.join("run");
    assert_eq!(train(&data, &run, Stdio::null(), Stdio::null()), Some(0));
    let labels = data.join("labelsTs");
    let (data, run, labels) = (data.to_str().unwrap(), run.to_str().unwrap(), labels.to_str().unwrap());
    let place = |name: &str| root.join(name).to_str().unwrap().to_owned();
    let experiment = root.join("experiment.toml");
    let cells = "fractions = [1.0]\nseeds = [1]\nsteps = 1\n[[row]]\nmethod = \"ce\"\nset = [\"plan.base_features=4\", \"plan.patch=[16,16,16]\"]\n";
    std::fs::write(&experiment, cells).unwrap();
    let scans = Path::new(data).join("imagesTs");
    let commands: Vec<Vec<String>> = [
        vec!["check", data],
        vec!["check", data, "--json"],
        vec!["plan", data],
        vec!["plan", data, "--json"],
        vec!["evaluate", labels, labels],
        vec!["evaluate", labels, labels, "--json"],
        vec!["predict", run, scans.to_str().unwrap(), "-o", &place("out")],
        vec!["logits", run, "--voxels", "20"],
        vec!["policy", "show", run],
        vec!["policy", "show", run, "--as", "toml"],
        vec!["policy", "preview", data, "-o", &place("drawn")],
        vec!["report", run, "-o", &place("page.html")],
        vec!["phantom", "atlas", "--cases", "2", "--shape", "24,24,24", "-o", &place("made")],
        vec!["sweep", experiment.to_str().unwrap(), "--dataset", data, "-o", &place("swept")],
        vec!["doctor"],
        vec!["--version"],
        vec!["--help"],
        vec!["help", "train"],
    ]
    .into_iter()
    .map(|words| words.into_iter().map(str::to_owned).collect())
    .collect();
    for words in &commands {
        if let Some(full) = full() {
            let done = segen().args(words).stdout(full).stderr(Stdio::piped()).output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(2), "{words:?}: {said}");
            let silent = words[0].starts_with('-') || words[0] == "help";
            assert!(silent || said.contains("stdout"), "{words:?}: {said}");
        }
    }
    // The work itself was done.
    for file in ["out/dataset.json", "drawn/single.png", "page.html", "made/dataset.json", "swept/table.txt"]
    {
        assert!(root.join(file).is_file() || full().is_none(), "{file}");
    }
    // A reader that has seen enough needs no words, but gets no success either.
    for words in [vec!["check", data, "--json"], vec!["plan", data], vec!["doctor"]] {
        let done = segen().args(&words).stdout(gone()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{words:?}: {said}");
        assert!(!said.contains("error"), "{words:?}: {said}");
    }
}
