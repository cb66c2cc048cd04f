//! A run folder belongs to one process at a time, a run that goes on has the data that it began with, what it will need
//! is looked at before the first step, and signals end it with a checkpoint.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{phantom, segen};

/// A small training of `steps` steps on `dataset`.
fn train(dataset: &Path, run: &Path, steps: u64) -> Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).args(["--threads", "1", "--steps"]);
    command.arg(steps.to_string());
    for set in [
        "plan.patch=[16, 16, 16]",
        "plan.batch=2",
        "plan.base_features=4",
        "schedule.steps_per_epoch=10",
        "validation.cases_per_epoch=1",
    ] {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null());
    command
}

/// The command that goes on with a run.
fn resume(dataset: &Path, run: &Path) -> Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).args(["--threads", "1", "--resume"]);
    command
}

/// Exit code and words of a command that ends.
fn ended(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stderr).unwrap())
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn said(mut child: Child) -> (Option<i32>, String) {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    (child.wait().unwrap().code(), text)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(sent.success());
}

fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a run has a checkpoint after its first step.
fn has_moved(run: &Path) -> bool {
    let latest = fs::read_to_string(run.join("checkpoint/latest")).unwrap_or_default();
    latest.trim().strip_prefix("step-").is_some_and(|step| step != "0")
}

fn json(path: PathBuf) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_run_folder_belongs_to_one_process_and_a_dead_one_never_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 4, "32,32,32");
    let run = folder.path().join("run");
    let mut first = spawn(train(&dataset, &run, 100_000).args(["--set", "checkpoint.every_steps=2"]));
    wait_for("a checkpoint", || has_moved(&run));
    for command in [&mut train(&dataset, &run, 10), &mut resume(&dataset, &run)] {
        let (code, words) = ended(command);
        assert_eq!(code, 2, "{words}");
        assert!(
            words.contains(&format!("process {}", first.id())) || words.contains("a run in it"),
            "{words}"
        );
    }
    let (_, words) = ended(&mut resume(&dataset, &run));
    assert!(words.contains(&format!("process {} on host", first.id())), "{words}");
    // Killed, and nobody has asked yet how it ended.
    first.kill().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let next = spawn(&mut resume(&dataset, &run));
    std::thread::sleep(Duration::from_millis(1500));
    signal(&next, "TERM");
    let (code, words) = said(next);
    assert_eq!(code, Some(3), "{words}");
    first.wait().unwrap();
}

#[test]
fn of_several_trainings_begun_in_one_instant_one_gets_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 4, "32,32,32");
    for extra in [&[][..], &["--resume"]] {
        let run = folder.path().join(format!("run{}", extra.len()));
        let begun: Vec<Child> = (0..4).map(|_| spawn(train(&dataset, &run, 20).args(extra))).collect();
        let ends: Vec<_> = begun.into_iter().map(said).collect();
        let done = ends.iter().filter(|(code, _)| *code == Some(0)).count();
        let refused = ends.iter().filter(|(code, words)| *code == Some(2) && words.contains("works here"));
        assert_eq!((done, refused.count()), (1, 3), "{ends:?}");
        assert!(!run.join("claim.json").exists());
    }
}

#[test]
fn a_signal_ends_a_training_with_a_checkpoint_and_it_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 4, "32,32,32");
    let whole = folder.path().join("whole");
    assert_eq!(ended(&mut train(&dataset, &whole, 60)).0, 0);
    let bytes = |run: &Path| {
        ["weights.safetensors", "optimiser.safetensors"]
            .map(|name| fs::read(run.join("checkpoint/step-60").join(name)).unwrap())
    };
    let run = folder.path().join("my run");
    let mut stops = 0;
    for (round, name) in ["TERM", "INT", "TERM", "INT", "TERM"].into_iter().enumerate() {
        let mut command = if round == 0 { train(&dataset, &run, 60) } else { resume(&dataset, &run) };
        let child = spawn(&mut command);
        let events = run.join("events.jsonl");
        let lines = |path: &Path| fs::read_to_string(path).map_or(0, |text| text.lines().count());
        let before = lines(&events);
        wait_for("some steps", || {
            lines(&events) > before + 3 || run.join("validation/summary.json").exists()
        });
        signal(&child, name);
        let (code, words) = said(child);
        if code == Some(0) {
            break;
        }
        stops += 1;
        assert_eq!(code, Some(3), "{words}");
        assert!(words.contains("stopped at step ") && words.contains(" of 60"), "{words}");
        let command = format!("segen train {} -o '{}' --resume", dataset.display(), run.display());
        assert!(words.contains(&command), "{words}");
        assert_eq!(json(run.join("run.json"))["state"], "stopped");
        assert!(!run.join("claim.json").exists());
    }
    assert!(stops > 0, "no signal came in time");
    assert_eq!(ended(&mut resume(&dataset, &run)).0, 0);
    assert_eq!(bytes(&whole), bytes(&run));
    assert_eq!(json(run.join("run.json"))["state"], "finished");
}

#[test]
fn a_second_signal_ends_at_once_and_two_sent_together_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 4, "32,32,32");
    let run = folder.path().join("run");
    let child = spawn(&mut train(&dataset, &run, 100_000));
    wait_for("the run", || run.join("events.jsonl").exists());
    signal(&child, "TERM");
    signal(&child, "TERM");
    let (code, words) = said(child);
    assert_eq!(code, Some(3), "{words}");

    // A step that takes its time.
    let run = folder.path().join("slow");
    let mut slow = train(&dataset, &run, 100_000);
    slow.args([
        "--set",
        "plan.patch=[64, 64, 64]",
        "--set",
        "plan.base_features=32",
        "--set",
        "plan.batch=4",
    ]);
    let child = spawn(&mut slow);
    wait_for("the run", || run.join("events.jsonl").exists());
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(700));
    signal(&child, "INT");
    let begun = Instant::now();
    let (code, words) = said(child);
    assert_eq!(code, None, "{words}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{words}");
}

#[test]
fn a_sweep_that_is_stopped_stops_its_cells_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 4, "32,32,32");
    let experiment = folder.path().join("experiment.toml");
    let text = format!(
        "dataset = {dataset:?}\nfractions = [1.0]\nseeds = [1]\nsteps = 300\nscore = \"validation\"\n\
         [config.plan]\npatch = [16, 16, 16]\nbatch = 2\nbase_features = 4\n[[row]]\nmethod = \"ce\"\n"
    );
    fs::write(&experiment, text).unwrap();
    let sweep = folder.path().join("sweep");
    let command = || {
        let mut command = segen();
        command.arg("sweep").arg(&experiment).arg("-o").arg(&sweep).args(["--threads", "1"]);
        command
    };
    let child = spawn(&mut command());
    let cell = || fs::read_dir(sweep.join("cells/ce")).ok()?.next()?.ok().map(|entry| entry.path());
    wait_for("steps of the cell", || cell().is_some_and(|cell| cell.join("events.jsonl").exists()));
    let (code, words) = ended(&mut command());
    assert_eq!(code, 2, "{words}");
    assert!(words.contains(&format!("`segen sweep` works here: process {}", child.id())), "{words}");
    signal(&child, "TERM");
    let (code, words) = said(child);
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("0 of 1 cells"), "{words}");
    let cell = cell().unwrap();
    assert_eq!(json(cell.join("run.json"))["state"], "stopped");
    assert!(has_moved(&cell) && !cell.join("claim.json").exists());
    let (code, words) = ended(&mut command());
    assert_eq!(code, 0, "{words}");
    let log = fs::read_to_string(cell.join("log.txt")).unwrap();
    assert!(log.contains("going on from step"), "{log}");
}

#[test]
fn a_run_of_a_later_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 4, "32,32,32");
    let run = folder.path().join("run");
    assert_eq!(ended(&mut train(&dataset, &run, 2)).0, 0);
    let path = run.join("run.json");
    let mut manifest = json(path.clone());
    assert_eq!(manifest["format"], 1);
    let commands = || {
        let line = |words: &[&str]| {
            let mut command = segen();
            command.args(words).arg(&run).current_dir(folder.path());
            command
        };
        let images = dataset.join("imagesTs");
        let mut predict = line(&["predict"]);
        predict.arg(&images).args(["-o", "out"]);
        let mut learn = line(&["policy", "test-time"]);
        learn.args(["-o", "forms.toml"]);
        let mut report = line(&["report"]);
        report.args(["-o", "page.html"]);
        [resume(&dataset, &run), predict, report, line(&["logits"]), line(&["policy", "show"]), learn]
    };
    // One of 0.1.0 has no number.
    manifest.as_object_mut().unwrap().remove("format");
    fs::write(&path, manifest.to_string()).unwrap();
    for command in &mut commands()[..3] {
        let (code, words) = ended(command);
        assert_eq!(code, 0, "{command:?}: {words}");
    }
    manifest["format"] = 77.into();
    manifest["version"] = "9.9.9".into();
    fs::write(&path, manifest.to_string()).unwrap();
    // Keys that this version does not know come with a later format.
    let config = run.join("config.toml");
    fs::write(&config, format!("unheard_of = 1\n{}", fs::read_to_string(&config).unwrap())).unwrap();
    for command in &mut commands() {
        let (code, words) = ended(command);
        assert_eq!(code, 2, "{command:?}: {words}");
        assert!(words.contains("9.9.9") && words.contains(env!("CARGO_PKG_VERSION")), "{command:?}: {words}");
    }
}
