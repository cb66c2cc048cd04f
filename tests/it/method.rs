//! Tests of `segen::learn::method`: the passes against PyTorch (see tests/reference/make_methods.py), the
//! label rule of asymmetric mixup, and a short training by every method.

use std::path::Path;
use std::time::Instant;

use segen::batch::loader::Loader;
use segen::batch::sampler::{Augmented, Sampler, Share, Twin};
use segen::batch::source::SampleSource;
use segen::batch::{Batch, Input};
use segen::commands::train;
use segen::config::method::{Adversarial, MethodConfig, MethodName, Mixup, Mode};
use segen::config::published::Partner;
use segen::config::{Config, Named};
use segen::data::dataset::Dataset;
use segen::data::dataset::Sides;
use segen::data::phantom::{self, Kind, PhantomOptions};
use segen::learn::job::Job;
use segen::learn::loss::Loss;
use segen::learn::method::Method;
use segen::learn::objective::{Gradient, Objective};
use segen::learn::passes::adversarial::{direction, perturb};
use segen::learn::passes::mixup::{combine, label_of_mixture, mix};
use segen::learn::train::Outcome;
use segen::network::Weights;
use segen::policy::Policy;
use segen::prepare::{self, IGNORE, PreparedCase};
use segen::progress::Silent;
use segen::run::{Event, Run, Split, read_events};
use segen_kernels::{Device, UNLABELLED};
use serde_json::Value;

use crate::meta::network;
use crate::networks::{filled, uniform, weights};
use crate::support;

const EDGE: usize = 8;
const NONE: u8 = UNLABELLED as u8;

/// The script's scene: class 2 is rare, and the last sample has none of it.
fn scene() -> Batch {
    let voxels = EDGE.pow(3);
    let mut labels: Vec<u8> = uniform(3 * voxels, 60_001)
        .into_iter()
        .map(|u| if u < 0.2 { 0 } else { 1 + u8::from(u >= 0.7) })
        .collect();
    labels[2 * voxels..].iter_mut().for_each(|label| *label = (*label).min(1));
    Batch {
        step: 5,
        inputs: vec![Input {
            values: filled(3 * 2 * voxels, 60_000, 3f64.sqrt(), 0.0),
            shape: [3, 2, EDGE, EDGE, EDGE],
        }],
        labels,
        label_shape: [3, EDGE, EDGE, EDGE],
        cases: vec!["case".to_owned(); 3],
        centre_classes: vec![0; 3],
        sought: vec![None; 3],
        chosen: vec![],
        class_voxels: vec![0; 3],
        mixture: None,
        twin: None,
        seconds: 0.0,
    }
}

fn mode(reference: &Value) -> Mode {
    serde_json::from_value(reference["mode"].clone()).unwrap()
}

fn numbers(reference: &Value) -> Vec<f64> {
    reference.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Compares the loss, the norm of every gradient and one gradient whole.
fn compare(found: &Gradient, weights: &Weights, reference: &Value) {
    let loss = reference["loss"].as_f64().unwrap();
    assert!((found.value.total - loss).abs() < 1e-5, "{reference}: {}", found.value.total);
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (parameter, gradient) in weights.parameters.iter().zip(&found.gradients) {
        let gradient: Vec<f64> = gradient.iter().map(|&v| f64::from(v)).collect();
        let expected = reference["norms"][&parameter.name].as_f64().unwrap();
        let apart = (norm(&gradient) - expected).abs();
        // A bias before a norm has no influence: both gradients are rounding alone.
        assert!(apart < 1e-4 * expected + 1e-6, "{}: {} {expected}", parameter.name, norm(&gradient));
        if parameter.name == "head.0.weight" {
            let expected = numbers(&reference["head"]);
            let apart: Vec<f64> = gradient.iter().zip(&expected).map(|(a, b)| a - b).collect();
            assert!(norm(&apart) < 1e-4 * norm(&expected));
        }
    }
}

fn reference() -> Value {
    serde_json::from_str(&std::fs::read_to_string(support::data("methods.json")).unwrap()).unwrap()
}

fn method(change: impl FnOnce(&mut MethodConfig)) -> Method {
    let mut method = Method::none(3);
    method.rare = vec![false, false, true];
    change(&mut method.config);
    method
}

#[test]
fn adversarial_passes_agree_with_pytorch() {
    let (network, device, batch) = (network(), Device::Cpu, scene());
    let weights = weights(&network);
    let objective = Objective { network: &network, loss: Loss::default(), device: &device, seed: 0 };
    for expected in reference()["adversarial"].as_array().unwrap() {
        let mut method = method(|config| config.adversarial.mode = mode(expected));
        method.conventions.adversarial_norm = Some(2.0);
        let found = direction(&objective, &method, &weights, &batch).unwrap();
        let cross_entropy = expected["direction"].as_f64().unwrap();
        assert!((found.value.cross_entropy - cross_entropy).abs() < 1e-5, "{}", found.value.cross_entropy);
        let moved = perturb(&method, &batch, &found.gradients);
        let values = &moved.inputs[0].values;
        let row = |sample: usize, channel: usize| ((((sample * 2 + channel) * EDGE) + 3) * EDGE + 2) * EDGE;
        let rows = (0..6).flat_map(|i| values[row(i / 2, i % 2)..][..EDGE].to_vec());
        for (found, expected) in rows.zip(numbers(&expected["moved"])) {
            assert!((f64::from(found) - expected).abs() < 1e-5, "{found} {expected}");
        }
        let length = |sample: usize| {
            let range = sample * 2 * EDGE.pow(3)..(sample + 1) * 2 * EDGE.pow(3);
            let pairs = values[range.clone()].iter().zip(&batch.inputs[0].values[range]);
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        assert!((length(0) - 2.0).abs() < 1e-4 && (length(1) - 2.0).abs() < 1e-4);
        let last = if method.config.adversarial.mode == Mode::Asymmetric { 0.0 } else { 2.0 };
        assert!((length(2) - last).abs() < 1e-4, "a patch without the rare class stays: {}", length(2));
        compare(&objective.gradient(&weights, &moved).unwrap(), &weights, expected);
    }
    // Without length the pass is the clean one again, bit for bit.
    let still = method(|config| {
        config.adversarial = Adversarial { mode: Mode::Symmetric, eps_rms: 0.0 };
    });
    let found = direction(&objective, &still, &weights, &batch).unwrap();
    assert_eq!(perturb(&still, &batch, &found.gradients), batch);
}

#[test]
fn mixup_passes_agree_with_pytorch() {
    let (network, device, batch) = (network(), Device::Cpu, scene());
    let weights = weights(&network);
    let objective = Objective { network: &network, loss: Loss::default(), device: &device, seed: 0 };
    for expected in reference()["mixup"].as_array().unwrap() {
        let method = method(|config| config.mixup = Mixup { mode: mode(expected), ..Mixup::default() });
        let mixed = combine(&method, &batch, &[2, 1, 0], expected["share"].as_f64().unwrap());
        compare(&objective.gradient(&weights, &mixed).unwrap(), &weights, expected);
    }
}

#[test]
fn shares_are_drawn_from_the_distribution_and_pairs_are_permutations() {
    let batch = scene();
    let draw = |mode: Mode, alpha: f64, partner: Partner, step: u64| {
        let mut method = method(|config| config.mixup = Mixup { mode, alpha, margin: 0.2 });
        method.conventions.partner = partner;
        mix(&method, &Batch { step, ..batch.clone() }, 3).unwrap()
    };
    let shares = |mode, alpha| -> Vec<f64> {
        (0..400).map(|step| draw(mode, alpha, Partner::Permutation, step).share).collect()
    };
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let uniform = shares(Mode::Symmetric, 1.0);
    let square: Vec<f64> = uniform.iter().map(|s| (s - 0.5).powi(2)).collect();
    assert!((mean(&uniform) - 0.5).abs() < 0.05 && (mean(&square) - 1.0 / 12.0).abs() < 0.01);
    // Beta(0.2, 0.2) has variance 1 / (4 (2 0.2 + 1)).
    let extreme: Vec<f64> = shares(Mode::Symmetric, 0.2).iter().map(|s| (s - 0.5).powi(2)).collect();
    assert!((mean(&extreme) - 1.0 / 5.6).abs() < 0.02, "{}", mean(&extreme));
    let scaled = shares(Mode::Asymmetric, 1.0);
    assert!(scaled.iter().zip(&uniform).all(|(a, s)| (a - 0.8 * s).abs() < 1e-12));
    // With alpha near 0 one sample of each pair is left, unchanged.
    let nearly = draw(Mode::Symmetric, 1e-4, Partner::Flip, 1);
    assert!(nearly.share < 1e-9 || nearly.share > 1.0 - 1e-9);
    let expected = if nearly.share > 0.5 { [0, 1, 2] } else { [2, 1, 0] };
    let length = nearly.batch.inputs[0].values.len() / 3;
    for (sample, from) in expected.into_iter().enumerate() {
        let part = |batch: &Batch, i: usize| batch.inputs[0].values[i * length..(i + 1) * length].to_vec();
        assert_eq!(part(&nearly.batch, sample), part(&batch, from));
    }
    let again = draw(Mode::Symmetric, 1.0, Partner::Permutation, 7);
    assert_eq!(again.batch, draw(Mode::Symmetric, 1.0, Partner::Permutation, 7).batch);
}

#[test]
fn the_worked_examples_of_mixed_labels() {
    let shares = [0.05, 0.19, 0.21, 0.5, 0.79];
    let row = |a: u8, b: u8, rare: &[bool]| shares.map(|share| label_of_mixture([a, b], share, 0.2, rare));
    let binary = [false, true];
    assert_eq!(row(0, 0, &binary), [0; 5]);
    assert_eq!(row(1, 1, &binary), [1; 5]);
    assert_eq!(row(0, 1, &binary), [1; 5]);
    assert_eq!(row(1, 0, &binary), [NONE, NONE, 1, 1, 1]);
    assert_eq!(label_of_mixture([0, 1], 0.81, 0.2, &binary), NONE);
    assert_eq!(label_of_mixture([1, 0], 0.81, 0.2, &binary), 1);
    let both = [false, true, true];
    assert_eq!(row(0, 2, &both), [2; 5]);
    assert_eq!(row(2, 0, &both), [NONE, NONE, 2, 2, 2]);
    assert_eq!([row(1, 2, &both), row(2, 1, &both)], [[NONE; 5]; 2]);
    let tumour = [false, false, true];
    assert_eq!([row(0, 1, &tumour), row(1, 0, &tumour)], [[NONE; 5]; 2]);
    assert_eq!([row(1, 2, &tumour), row(0, 2, &tumour)], [[2; 5]; 2]);
    assert_eq!([row(2, 1, &tumour), row(2, 0, &tumour)], [[NONE, NONE, 2, 2, 2]; 2]);
    // The floor of the published code says the same for every pair and share.
    for rare in [tumour, both] {
        for (a, b) in (0..9).map(|pair| (pair / 3, pair % 3)) {
            for share in (0..=80).map(|i| f64::from(i) / 100.0) {
                let (ra, rb) = (rare[usize::from(a)], rare[usize::from(b)]);
                let first = if share < 0.8 && rb && !ra { b } else { a };
                let second = if 1.0 - share < 0.8 && ra && !rb { a } else { b };
                let expected = if first == second { first } else { NONE };
                assert_eq!(label_of_mixture([a, b], share, 0.2, &rare), expected, "{a} {b} {share}");
            }
        }
    }
    assert_eq!(label_of_mixture([IGNORE, 1], 0.5, 0.2, &binary), IGNORE);
    assert_eq!(label_of_mixture([0, IGNORE], 0.5, 0.2, &binary), IGNORE);
}

#[test]
fn background_is_augmented_less_and_the_twin_is_the_same_place() {
    let folder = tempfile::tempdir().unwrap();
    let (_, prepared, plan) = phantoms(folder.path());
    let source = std::sync::Arc::new(SampleSource::prepared(prepared, plan.classes, 1 << 30));
    let mut sampler = Sampler::new([16; 3], 2);
    sampler.share = Share::Probability(0.5);
    sampler.twin = Twin::Raw;
    let load = |sampler: &Sampler, policy: Policy| -> Vec<Batch> {
        let mut loader = Loader::start(source.clone(), sampler.clone(), policy, 3, 0..60, 1, 4);
        (0..60).map(|_| loader.next().unwrap()).collect()
    };
    let raw = load(&sampler, Policy::default());
    assert!(raw.iter().all(|batch| batch.twin.is_none()), "nothing is augmented: the twin is the batch");
    let config = Config::default();
    let policy = config.policy.resolve(&plan, &Sides::default(), 0).unwrap();
    let all = load(&sampler, policy.clone());
    sampler.augmented = Augmented::Rare { rare: vec![false, true], background_probability: 0.25 };
    let gated = load(&sampler, policy);
    let (mut background, mut plain) = (0, 0);
    for ((raw, all), gated) in raw.iter().zip(&all).zip(&gated) {
        let length = raw.inputs[0].values.len() / 2;
        let part = |batch: &Batch, i: usize| batch.inputs[0].values[i * length..(i + 1) * length].to_vec();
        for (i, &class) in raw.centre_classes.iter().enumerate() {
            if class == 1 {
                assert_eq!(part(gated, i), part(all, i), "rare patches are augmented as ever");
            } else {
                background += 1;
                plain += usize::from(part(gated, i) == part(raw, i));
            }
        }
        if let Some(twin) = &gated.twin {
            assert_eq!((&twin.inputs, &twin.labels), (&raw.inputs, &raw.labels));
        }
    }
    let share = plain as f64 / background as f64;
    assert!((0.55..0.95).contains(&share), "{plain} of {background} background patches as they are");
}

/// A small phantom data set, prepared.
fn phantoms(folder: &Path) -> (Dataset, Vec<PreparedCase>, segen::plan::Plan) {
    let data = folder.join("Dataset900_Phantom");
    let options =
        PhantomOptions { cases: 5, ratio: 60.0, shape: [32; 3], ..PhantomOptions::new(Kind::Atlas) };
    phantom::write(&options, &data, &Silent).unwrap();
    let dataset = Dataset::open(&data).unwrap();
    let plan = train::plan(&dataset, &config("ce", &[]), &Silent).unwrap();
    let cases: Vec<_> = dataset.training.iter().collect();
    let prepared =
        prepare::prepare_all(&dataset, &plan.recipe(), &cases, &folder.join("cache"), &Silent).unwrap();
    (dataset, prepared, plan)
}

fn config(name: &str, more: &[&str]) -> Config {
    let mut sets = vec![format!("method.name={name}")];
    let small = [
        "plan.patch=[16, 16, 16]",
        "plan.batch=2",
        "plan.base_features=4",
        "schedule.steps=4",
        "schedule.steps_per_epoch=4",
        "validation.cases_per_epoch=0",
        "validation.logit_windows=0",
        "policy.name=heuristic-nnunet",
    ];
    sets.extend(small.iter().chain(more).map(|&set| set.to_owned()));
    Config::resolve(None, &sets).unwrap()
}

#[test]
fn every_method_trains_by_name_and_differs_from_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, prepared, plan) = phantoms(folder.path());
    let train = |name: &str, run: &str, more: &[&str]| -> (Outcome, Run) {
        let config = config(name, more);
        let run = Run::at(folder.path().join(run));
        let names = &dataset.labels.names;
        let policy = config.policy.resolve(&plan, &Sides::of_names(names), 0).unwrap();
        if !run.exists() {
            let split = Split { train: vec![], validation: vec![], policy_validation: vec![] };
            run.set_up(&config, &plan, &split, &policy, &Value::Null, &[]).unwrap();
        }
        assert_eq!(run.config().unwrap(), config, "a resolved configuration reads back equal");
        let method = Method::resolve(&config, names).unwrap();
        let device = Device::Cpu;
        let job = Job {
            config: &config,
            plan: &plan,
            run: &run,
            train: &prepared,
            validation: &[],
            classes: names,
            method: &method,
            device: &device,
            policy: &policy,
            policy_validation: &[],
            started: Instant::now(),
        };
        (job.train(&Silent).unwrap(), run)
    };
    let mut seen: Vec<(&str, Weights)> = Vec::new();
    // Methods that follow a gap do nothing before the first epoch's end.
    let trained = MethodName::ALL.iter().filter(|method| !method.is_classical());
    for name in trained.map(|method| method.name()).filter(|name| !name.starts_with("auto")) {
        let (outcome, run) = train(name, name, &[]);
        assert!(outcome.weights.parameters.iter().all(|p| p.values.iter().all(|v| v.is_finite())));
        for (other, weights) in &seen {
            assert_ne!(*weights, outcome.weights, "{name} does what {other} does");
        }
        let events = read_events(&run.path("events.jsonl")).unwrap();
        let steps: Vec<_> =
            events.iter().filter_map(|e| if let Event::Step(step) = e { Some(step) } else { None }).collect();
        assert_eq!(steps.len(), 4);
        let combination = name == "asym-combination";
        for step in steps {
            assert!(step.loss.is_finite());
            let number = |key: &str| step.passes.get(key).copied().flatten().is_some_and(f64::is_finite);
            assert_eq!(number("adversarial_loss"), name.ends_with("adversarial") || combination, "{name}");
            assert_eq!(number("mixup_loss"), name.ends_with("mixup") || combination, "{name}");
        }
        seen.push((name, outcome.weights));
    }
    let last = seen.pop().unwrap().1;
    // The same bytes again for another number of threads, and when stopped and resumed.
    let threads = |count| segen_kernels::Settings::current().with_threads(count);
    let one = threads(1).scoped(|| train("asym-combination", "one", &[]).0);
    assert_eq!(one.weights, last);
    let two = threads(2).scoped(|| train("asym-combination", "two", &["loader.threads=2"]).0);
    assert_eq!(two.weights, last);
    let half = ["checkpoint.every_steps=2"];
    let (_, run) = train("asym-combination", "stopped", &half);
    std::fs::remove_dir_all(run.path("checkpoint/step-4")).unwrap();
    std::fs::write(run.path("checkpoint/latest"), "step-2\n").unwrap();
    assert_eq!(train("asym-combination", "stopped", &half).0.weights, last);
    let published = train("asym-combination", "published", &["published=true"]).0.weights;
    assert_ne!(published, last, "what the released programs do is something else");
}

#[test]
fn names_set_what_they_say_and_settings_override_them() {
    let combination = config("asym-combination", &["method.focal.gamma=3.0"]).method;
    assert_eq!(combination.focal.gamma, 3.0);
    assert_eq!(config("asym-combination", &[]).method.focal.gamma, 2.0);
    assert_eq!(
        [combination.margin.mode, combination.focal.mode, combination.mixup.mode],
        [Mode::Off, Mode::Asymmetric, Mode::Asymmetric]
    );
    let f4 = config("f4", &[]).loss;
    assert_eq!((f4.cross_entropy, f4.dice, f4.beta), (0.0, 1.0, 4.0));
    assert_eq!(config("ce-80", &[]).sampling.foreground_share, 0.8);
    // In a file, what stands beside the name overrides it.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "[method]\nname = \"asym-margin\"\nmargin.value = 0.2\n").unwrap();
    let read = Config::resolve(Some(&path), &[]).unwrap().method;
    assert_eq!((read.margin.mode, read.margin.value), (Mode::Asymmetric, 0.2));
    let sets = ["method.name=ce".to_owned()];
    assert_eq!(Config::resolve(Some(&path), &sets).unwrap().method.margin.mode, Mode::Off);
    let refused = |sets: &[&str], wanted: &str| {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let error = Config::resolve(None, &sets).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    let auto = config("auto-combination", &[]).method;
    assert_eq!((auto.auto.on, auto.margin.value, auto.focal.gamma), (true, 2.0, 2.0));
    assert!(
        [auto.margin.mode, auto.focal.mode, auto.adversarial.mode, auto.mixup.mode] == [Mode::Asymmetric; 4]
    );
    assert_eq!(config("auto-focal", &[]).method.focal.gamma, 4.0);
    assert_eq!(config("auto-margin", &[]).validation_share(), 0.2);
    assert_eq!(config("auto-margin", &["method.auto.from=run"]).validation_share(), 0.0);
    // The alias is written out, wherever it is said.
    std::fs::write(&path, "[method]\nname = \"auto\"\n").unwrap();
    assert_eq!(Config::resolve(Some(&path), &[]).unwrap().method, config("auto-margin", &[]).method);
    assert_eq!(config("auto", &[]).method, config("auto-margin", &[]).method);
    assert!(!Config::resolve(Some(&path), &["method.name=ce".to_owned()]).unwrap().method.auto.on);
    refused(&["method.auto.on=true"], "method.auto.on");
    refused(&["method.auto.from=run"], "method.auto.from");
    refused(&["method.name=auto-margin", "policy.name=learned"], "no longer unseen");
    refused(&["method.name=auto-margin", "method.focal.mode=symmetric"], "none of them `symmetric`");
    refused(&["method.name=auto-margin", "policy.validation_share=0"], "a method that measures");
    refused(&["method.auto.full=0.0", "method.auto.threshold=2.0"], "method.auto.threshold");
    refused(&["method.name=margins"], "method.name: there is no `margins`");
    refused(&["method.name=asym-augmentation", "policy.name=none"], "none is");
    refused(&["method.name=asym-augmentation", "policy.name=learned"], "a policy that learns");
    refused(&["method.focal.gamma=0.5"], "method.focal.gamma");
    refused(&["method.mixup.alpha=0.0"], "method.mixup.alpha");
    refused(&["method.focal.modus=off"], "modus");
    refused(&["loss.beta=0.0"], "loss.beta");
}
