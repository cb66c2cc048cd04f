//! Tests of `segen::commands::cifar`.

use segen::commands::cifar::{Arm, Cifar, CifarConfig, Operations, Pictures, bad, policy, read};
use segen::config::policy::{Comparison, Learning};
use segen::progress::Silent;
use segen::run::Run;
use segen_kernels::Device;

use crate::support;

const RECORD: usize = 1 + 3 * 32 * 32;

#[test]
fn records_are_read_channel_by_channel_and_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 2 * RECORD];
    bytes[0] = 3;
    bytes[RECORD] = 9;
    // Second picture: green, row 2, column 5.
    bytes[RECORD + 1 + 32 * 32 + 2 * 32 + 5] = 200;
    std::fs::write(folder.path().join("data_batch_1.bin"), &bytes).unwrap();
    std::fs::write(folder.path().join("data_batch_2.bin"), &bytes[RECORD..]).unwrap();
    std::fs::write(folder.path().join("test_batch.bin"), &bytes[..RECORD]).unwrap();
    let (training, test) = read(folder.path()).unwrap();
    assert_eq!((training.classes.as_slice(), test.classes.as_slice()), (&[3, 9, 9][..], &[3][..]));
    let sample = training.sample(1);
    assert_eq!(sample.images.dim(), (3, 32, 32, 1));
    assert_eq!(sample.images[[1, 5, 2, 0]], (200.0 - 123.0) / 62.1);
    assert_eq!(sample.images[[1, 2, 5, 0]], -123.0 / 62.1);
    assert!(sample.labels.unwrap().iter().all(|label| *label == 9));
}

#[test]
fn files_that_are_no_records_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data_batch_1.bin");
    let refused = |bytes: &[u8], said: &str| {
        std::fs::write(&path, bytes).unwrap();
        let message = read(folder.path()).unwrap_err().to_string();
        assert!(message.contains(said) && message.contains("data_batch_1.bin"), "{message}");
    };
    refused(&[0; RECORD - 1], "no whole number of records");
    refused(&[], "no whole number of records");
    refused(&[10; RECORD], "class 10 is above 9");
    std::fs::write(&path, [0; RECORD]).unwrap();
    let message = read(folder.path()).unwrap_err().to_string();
    assert!(message.contains("test_batch.bin"), "{message}");
}

#[test]
fn the_published_part_is_read() {
    let Some(folder) = support::real("cifar-10-batches-bin") else { return };
    let (training, test) = read(&folder).unwrap();
    assert_eq!((training.len(), test.len()), (4000, 1000));
    for class in 0..10 {
        assert_eq!(training.classes.iter().filter(|c| **c == class).count(), 400, "class {class}");
    }
}

#[test]
fn fifteen_operations_are_bad() {
    let all = policy(Operations::All);
    all.check().unwrap();
    let (sum, most) = bad(&all);
    assert!((sum - 15.0 / 29.0).abs() < 1e-12 && (most - 1.0 / 29.0).abs() < 1e-12);
    assert_eq!(bad(&policy(Operations::Good)), (0.0, 0.0));
}

/// Pictures whose class is told by the side that is bright.
fn pictures(count: usize) -> Pictures {
    let mut made = Pictures::default();
    for index in 0..count {
        let class = (index % 4) as u8;
        made.classes.push(class);
        for channel in 0..3 {
            for row in 0..32 {
                for column in 0..32 {
                    let bright = match class {
                        0 => row < 12,
                        1 => row >= 20,
                        2 => channel == 0,
                        _ => channel == 2,
                    };
                    let noise = (index * 7 + row * 13 + column * 29 + channel * 5) % 40;
                    made.pixels.push(if bright { 180 + noise as u8 } else { 60 + noise as u8 });
                }
            }
        }
    }
    made
}

#[test]
fn a_learned_policy_turns_from_operations_that_ruin_pictures() {
    let (training, test) = (pictures(320), pictures(80));
    let config = CifarConfig {
        epochs: 8,
        batch: 32,
        validation_share: 0.25,
        learning: Learning { rate: Some(0.1), every: Some(1), draws: 2, patches: 16, ..Learning::default() },
        ..CifarConfig::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let train = |config: &CifarConfig, name: &str| {
        let run = Run::at(folder.path().join(name));
        let device = Device::Cpu;
        let outcome =
            Cifar { config, training: &training, test: &test, device: &device }.train(&run, &Silent).unwrap();
        (outcome, std::fs::read_to_string(run.path("policy.toml")).unwrap(), run)
    };
    let (learned, text, run) = train(&config, "learned");
    assert!(
        learned.bad_probability[1] < 0.9 * learned.bad_probability[0],
        "{:?} of the bad operations' probability",
        learned.bad_probability
    );
    for file in ["config.toml", "events.jsonl", "policy.png", "result.json"] {
        assert!(run.path(file).is_file(), "{file}");
    }
    // Threads do not change what is learned.
    let (_, again, _) = train(&CifarConfig { threads: 2, ..config.clone() }, "again");
    assert_eq!(text, again);
    // So learns the estimator that is the default for pictures, something else.
    let batch = CifarConfig::default().learning;
    assert_eq!((batch.estimator, batch.structure), (Some(Comparison::Batch), false));
    let batch = Learning { rate: Some(0.1), every: Some(1), ..batch };
    let (once, other, _) = train(&CifarConfig { learning: batch, ..config.clone() }, "batch");
    assert!(once.bad_probability[1] < 0.9 * once.bad_probability[0], "{:?}", once.bad_probability);
    assert_ne!(text, other);
    // A policy that does not move leaves the training what it would be without.
    let still = Learning { rate: Some(f64::MIN_POSITIVE), ..config.learning.clone() };
    let config = CifarConfig { epochs: 1, learning: still, ..config };
    let (_, _, learned) = train(&config, "still");
    let (random, _, run) = train(&CifarConfig { policy: Arm::Random, ..config }, "random");
    assert_eq!(random.bad_probability[0], random.bad_probability[1]);
    let weights = |run: &Run| {
        let latest = std::fs::read_to_string(run.checkpoints().join("latest")).unwrap();
        std::fs::read(run.checkpoints().join(latest.trim()).join("weights.safetensors")).unwrap()
    };
    assert_eq!(weights(&learned), weights(&run));
}
