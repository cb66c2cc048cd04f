//! A training run that is killed at any moment, and resumed, ends with the same bytes as one that never stopped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{phantom, segen};

const STEPS: u64 = 30;

fn train(dataset: &Path, run: &Path, cache: &Path, threads: usize) -> Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).arg("--cache").arg(cache);
    command.args([
        "--threads",
        &threads.to_string(),
        "--steps",
        &STEPS.to_string(),
        "--seed",
        "3",
        "--tensorboard",
    ]);
    for set in [
        "plan.patch=[16, 16, 16]",
        "plan.batch=2",
        "plan.base_features=8",
        "schedule.steps_per_epoch=10",
        "validation.cases_per_epoch=1",
        "checkpoint.every_steps=3",
    ] {
        command.args(["--set", set]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The files that hold the final weights and the optimiser's state.
fn final_bytes(run: &Path) -> Vec<Vec<u8>> {
    let place: PathBuf = run.join(format!("checkpoint/step-{STEPS}"));
    ["weights.safetensors", "optimiser.safetensors"]
        .iter()
        .map(|name| std::fs::read(place.join(name)).unwrap())
        .collect()
}

fn scores(run: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(run.join("validation/summary.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["mean"].clone()
}

/// The steps of all records of a run's file for TensorBoard after the first, which has its version.
fn tensorboard_steps(run: &Path) -> Vec<u64> {
    let bytes = std::fs::read(run.join("events.out.tfevents.segen")).unwrap();
    let (mut at, mut steps) = (0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        // Length, its sum, the message, its sum; the message: a time of 9 bytes, the step unless it is 0.
        let message = &bytes[at + 12..at + 12 + length];
        let step = message[10..].iter().take_while(|byte| **byte > 127).count() + 1;
        let step = (0..step).rev().fold(0, |step, i| step << 7 | u64::from(message[10 + i] & 127));
        steps.push(if message[9] == 0x10 { step } else { 0 });
        at += length + 16;
    }
    assert_eq!(at, bytes.len(), "every record is whole");
    steps.split_off(1)
}

#[test]
fn killed_runs_resume_to_the_same_bytes_and_threads_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 6, "32,32,32");
    let cache = folder.path().join("cache");
    let whole = folder.path().join("whole");
    let started = std::time::Instant::now();
    assert!(train(&dataset, &whole, &cache, 2).status().unwrap().success());
    let length = started.elapsed();

    let single = folder.path().join("single");
    assert!(train(&dataset, &single, &cache, 1).status().unwrap().success());
    assert_eq!(final_bytes(&whole), final_bytes(&single), "1 and 2 threads");

    // Fifty kills at moments from a fixed generator, over several runs: each one goes on until it is done.
    let mut kills = 0;
    let mut state = 12_345u64;
    let mut round = 0;
    while kills < 50 {
        let run = folder.path().join(format!("killed-{round}"));
        round += 1;
        for _ in 0..25 {
            let mut child = train(&dataset, &run, &cache, 2).arg("--resume").spawn().unwrap();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let share = (state >> 33) as f64 / (1u64 << 31) as f64;
            std::thread::sleep(Duration::from_secs_f64(share * length.as_secs_f64() * 0.6));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                kills += 1;
            }
            child.wait().unwrap();
            if kills == 50 {
                break;
            }
        }
        let status = train(&dataset, &run, &cache, 2).arg("--resume").status().unwrap();
        assert!(status.success(), "a killed run could not go on");
        assert_eq!(final_bytes(&whole), final_bytes(&run), "round {round}");
        assert_eq!(scores(&whole), scores(&run));
        let events = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
        let events: Vec<serde_json::Value> =
            events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let all: Vec<u64> = events.iter().map(|event| event["step"].as_u64().unwrap()).collect();
        assert_eq!(tensorboard_steps(&run), all, "TensorBoard's file says the same");
        let steps: Vec<u64> = events
            .iter()
            .filter(|event| event["event"] == "step")
            .map(|event| event["step"].as_u64().unwrap())
            .collect();
        assert!(steps.iter().copied().eq(0..STEPS), "every step stands in events.jsonl once");
    }
}
