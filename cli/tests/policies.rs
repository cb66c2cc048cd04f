//! A policy that learns while it trains: resumed runs, threads, and what `segen policy show` says of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{phantom, segen};

const STEPS: u64 = 12;

fn train(dataset: &Path, run: &Path, threads: &str) -> std::process::Command {
    train_with("learned", dataset, run, threads)
}

fn train_with(policy: &str, dataset: &Path, run: &Path, threads: &str) -> std::process::Command {
    let mut command = segen();
    command.arg("train").arg(dataset).arg("-o").arg(run).args(["--policy", policy, "--threads", threads]);
    command.args(["--steps", &STEPS.to_string(), "--cache"]).arg(dataset.with_file_name("cache"));
    for set in [
        "plan.patch=[16, 16, 16]",
        "plan.batch=3",
        "plan.base_features=4",
        "schedule.steps_per_epoch=12",
        "validation.cases_per_epoch=0",
        "checkpoint.every_steps=5",
        "policy.form=composed",
        "policy.targets=by-centre",
        "policy.learning.every=2",
        "policy.learning.warm_up=0.2",
        "policy.learning.delay=3",
        "policy.learning.rate=0.05",
    ] {
        command.args(["--set", set]);
    }
    command.args(["--set", &format!("loader.threads={threads}")]);
    command
}

fn succeed(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Weights, optimiser and policy at the end, byte for byte.
fn end(run: &Path) -> (Vec<u8>, Vec<u8>, String) {
    let place = run.join(format!("checkpoint/step-{STEPS}"));
    let state = std::fs::read_to_string(place.join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let policy = state["history"]["policy"].as_str().unwrap().to_owned();
    assert!(policy.contains("logits"));
    let read = |name: &str| std::fs::read(place.join(name)).unwrap();
    (read("weights.safetensors"), read("optimiser.safetensors"), policy)
}

#[test]
fn a_learned_policy_is_the_same_for_any_threads_and_after_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 12, "32,32,32");
    let run = folder.path().join("run");
    succeed(&mut train(&dataset, &run, "1"));
    let whole = end(&run);
    let two = folder.path().join("two");
    succeed(&mut train(&dataset, &two, "2"));
    assert_eq!(whole, end(&two), "1 and 2 threads");

    let split = std::fs::read_to_string(run.join("split.json")).unwrap();
    let split: serde_json::Value = serde_json::from_str(&split).unwrap();
    let of = |part: &str| split[part].as_array().unwrap().clone();
    assert_eq!((of("train").len(), of("policy_validation").len()), (7, 2));
    assert!(
        of("policy_validation")
            .iter()
            .all(|case| { !of("train").contains(case) && !of("validation").contains(case) })
    );

    let shown = succeed(segen().args(["policy", "show"]).arg(&run));
    assert!(shown.contains("foreground") && shown.contains("5 updates"), "{shown}");
    let toml = succeed(segen().args(["policy", "show", "--as", "toml"]).arg(&run));
    std::fs::write(folder.path().join("mine.toml"), toml).unwrap();

    // Back to the checkpoint before the last: an update and draws of other policies lie between.
    std::fs::remove_dir_all(run.join(format!("checkpoint/step-{STEPS}"))).unwrap();
    std::fs::write(run.join("checkpoint/latest"), "step-10\n").unwrap();
    let mut resume = segen();
    resume.arg("train").arg(&dataset).arg("-o").arg(&run).arg("--resume");
    resume.arg("--cache").arg(dataset.with_file_name("cache"));
    // Not in another way than it was begun.
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    for (key, value) in [("estimator", "\"batch\""), ("structure", "false")] {
        let others = config.lines().filter(|line| !line.starts_with(&format!("{key} =")));
        let changed = others.collect::<Vec<_>>().join("\n");
        let section = "[policy.learning]\n";
        assert!(changed.contains(section), "{changed}");
        let changed = changed.replace(section, &format!("{section}{key} = {value}\n"));
        std::fs::write(run.join("config.toml"), changed).unwrap();
        let output = resume.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(&format!("policy.learning.{key}")), "{error}");
    }
    std::fs::write(run.join("config.toml"), config).unwrap();
    // Nor from a checkpoint of an earlier version, which does not say how it was learned.
    let state = run.join("checkpoint/step-10/state.json");
    let now = std::fs::read_to_string(&state).unwrap();
    let said = r#"estimator = \"leave-one-out\"\n"#;
    assert!(now.contains(said), "{now}");
    std::fs::write(&state, now.replace(said, "")).unwrap();
    let error = String::from_utf8_lossy(&resume.output().unwrap().stderr).into_owned();
    assert!(error.contains("`batch`, not `leave-one-out`"), "{error}");
    std::fs::write(&state, now).unwrap();
    succeed(&mut resume);
    assert_eq!(whole, end(&run), "resumed at step 10");

    let other = folder.path().join("other");
    let file = folder.path().join("mine.toml");
    let mut reuse = train(&dataset, &other, "1");
    reuse.arg("--policy=none");
    // Given twice, an option is an error; given by --set, the file is used as it is.
    assert!(!reuse.output().unwrap().status.success());
    let mut reuse = segen();
    reuse.arg("train").arg(&dataset).arg("-o").arg(&other).args(["--steps", "2", "--policy"]).arg(&file);
    reuse.args(["--set", "plan.patch=[16, 16, 16]", "--set", "plan.base_features=4", "--cache"]);
    succeed(reuse.arg(dataset.with_file_name("cache")));
    let kept = std::fs::read_to_string(other.join("policy.toml")).unwrap();
    assert_eq!(kept, std::fs::read_to_string(&file).unwrap());
}

#[test]
fn a_policy_that_does_not_move_leaves_the_training_what_it_would_be_without() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 12, "32,32,32");
    let weights = |policy: &str, sets: &[&str]| {
        let run = folder.path().join(policy).with_extension(sets.len().to_string());
        let mut command = train_with(policy, &dataset, &run, "1");
        for set in sets {
            command.args(["--set", set]);
        }
        succeed(&mut command);
        std::fs::read(run.join(format!("checkpoint/step-{STEPS}/weights.safetensors"))).unwrap()
    };
    let random = weights("random", &["policy.validation_share=0.2"]);
    let still = "policy.learning.rate=1e-300";
    assert_eq!(random, weights("learned", &[still]));
    assert_eq!(random, weights("learned", &[still, "policy.learning.estimator=batch"]));
}

#[test]
fn a_test_time_policy_is_learned_from_held_out_cases_and_used_to_predict() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantom(folder.path(), 12, "32,32,32");
    let run = folder.path().join("run");
    succeed(&mut train(&dataset, &run, "1"));
    let file = folder.path().join("test.toml");
    let learn = |output: &Path| {
        let mut command = segen();
        command.args(["policy", "test-time"]).arg(&run).arg("-o").arg(output).args(["--updates", "3"]);
        succeed(&mut command)
    };
    let told = learn(&file);
    assert!(told.contains("mirror sagittal"), "{told}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("test-time") && text.matches("[[groups.choices]]").count() == 84);
    learn(&folder.path().join("again.toml"));
    assert_eq!(text, std::fs::read_to_string(folder.path().join("again.toml")).unwrap());

    let predict = |more: &[&std::ffi::OsStr]| {
        let mut command = segen();
        command.arg("predict").arg(&run).arg(dataset.join("imagesTs")).arg("-o");
        command.arg(folder.path().join("predicted")).args(more);
        command.output().unwrap()
    };
    let flag = |text: &'static str| std::ffi::OsStr::new(text);
    let output =
        predict(&[flag("--test-policy"), file.as_os_str(), flag("--top"), flag("2"), flag("--no-masks")]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && error.contains("2 passes per window instead of 1"), "{error}");
    // The phantoms have regions of interest.
    assert!(error.contains("--masks"), "{error}");
    let masks = dataset.join("masksTs");
    let output = predict(&[flag("--masks"), masks.as_os_str()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !error.contains("--masks"), "{error}");
    // Another kind of policy says what it lacks.
    let output = predict(&[flag("--test-policy"), run.join("policy.toml").as_os_str()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("segen policy test-time"), "{error}");
}
