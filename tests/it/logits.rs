//! Logits of voxels, from a small training to the figures and the report.

use std::path::Path;
use std::time::Instant;

use segen::commands::train::{self, Faults, Request, Start};
use segen::config::Config;
use segen::data::dataset::Dataset;
use segen::data::phantom::{self, Kind, PhantomOptions};
use segen::examine::logits::{self, CollectOptions, Origin, collect, margins};
use segen::examine::report::{self, Options, Place, Source};
use segen::files::Existing;
use segen::network::Mode;
use segen::predict::windows::{Predictor, WindowOptions};
use segen::prepare;
use segen::progress::Silent;
use segen::run::{Event, Run, read_events};
use segen_kernels::{Activation, Array, Device};

const SETS: [&str; 6] = [
    "plan.patch=[16, 16, 16]",
    "plan.batch=2",
    "plan.base_features=8",
    "schedule.steps=12",
    "schedule.steps_per_epoch=6",
    "validation.train_cases=1",
];

fn phantoms(folder: &Path) -> std::path::PathBuf {
    let data = folder.join("Dataset900_Phantom");
    let options =
        PhantomOptions { cases: 5, ratio: 60.0, shape: [32; 3], ..PhantomOptions::new(Kind::Atlas) };
    phantom::write(&options, &data, &Silent).unwrap();
    data
}

fn config() -> Config {
    Config::resolve(None, &SETS.map(str::to_owned)).unwrap()
}

#[test]
fn voxels_are_drawn_case_balanced_and_their_logits_are_those_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&phantoms(folder.path())).unwrap();
    let config = config();
    let plan = train::plan(&dataset, &config, &Silent).unwrap();
    let cases: Vec<_> = dataset.training.iter().collect();
    let prepared =
        prepare::prepare_all(&dataset, &plan.recipe(), &cases, &folder.path().join("cache"), &Silent)
            .unwrap();
    let network = plan.network(&config.network);
    let weights = network.initialise(5);
    let device = Device::Cpu;
    let predictor =
        Predictor::new(&plan, vec![(network.clone(), &weights)], WindowOptions::default(), &device).unwrap();
    let options = CollectOptions { voxels: 300, ..CollectOptions::default() };
    let parts = [(Origin::Seen, &prepared[..3]), (Origin::Unseen, &prepared[3..])];
    let names = &dataset.labels.names;
    let collection = collect(&predictor, &parts, names, &options, &Silent).unwrap();
    assert_eq!(collection, collect(&predictor, &parts, names, &options, &Silent).unwrap(), "seeded");
    assert_eq!(collection.clouds.len(), 4);
    let samples: Vec<_> = prepared.iter().map(|case| case.load().unwrap()).collect();
    for cloud in &collection.clouds {
        assert_eq!(cloud.positions.len(), 300);
        let having = prepared[if cloud.origin == Origin::Seen { 0..3 } else { 3..5 }]
            .iter()
            .filter(|case| case.classes[cloud.class].count > 0)
            .count();
        for case in 0..5u32 {
            let drawn = cloud.cases.iter().filter(|c| **c == case).count();
            let expected = 300 / having;
            assert!(drawn == 0 || drawn.abs_diff(expected) < 60, "case {case}: {drawn} of {expected}");
        }
        for (&case, position) in cloud.cases.iter().zip(&cloud.positions) {
            let labels = samples[case as usize].labels.as_ref().unwrap();
            assert_eq!(usize::from(labels[position.map(|p| p as usize)]), cloud.class);
        }
    }

    // The middle voxel of a volume of one patch: one forward pass says the same.
    let window = prepared[0].read_window([4, 5, 6], plan.patch).unwrap();
    let at = [[8, 8, 8], [0, 15, 3]];
    let found = predictor.logits_at(window.images.view(), &at);
    let images = window.images.iter().copied().collect();
    let images = Array::from_host(images, &[1, plan.channels, 16, 16, 16], &device);
    let input = Activation::from_channels_first(images);
    let bound = weights.bind(&device);
    let output = network.forward(&bound, vec![input], Mode::Evaluation).logits.swap_remove(0);
    let output = output.into_channels_last().into_host();
    for (i, [x, y, z]) in at.into_iter().enumerate() {
        let expected = &output[((x * 16 + y) * 16 + z) * plan.classes..][..plan.classes];
        assert_eq!(&found[i * plan.classes..][..plan.classes], expected);
    }
}

#[test]
fn a_run_records_its_shift_and_reports_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = phantoms(folder.path());
    let run = Run::at(folder.path().join("run"));
    let device = Device::Cpu;
    let config = config();
    let request = Request {
        dataset: &data,
        run: &run,
        config: Some(&config),
        cache: None,
        start: Start::Fresh,
        faults: Faults::Refuse,
        plan: None,
        length: None,
        threads: 1,
        device: &device,
        started: Instant::now(),
    };
    train::run(&request, &Silent).unwrap();
    let events = read_events(&run.path("events.jsonl")).unwrap();
    let measured: Vec<_> =
        events.iter().filter_map(|e| if let Event::Logits(e) = e { Some(&e.shift) } else { None }).collect();
    assert_eq!(measured.len(), 2, "one for every epoch");
    for shift in measured {
        for lesion in [&shift.seen[1], &shift.unseen[1]] {
            assert!(lesion.voxels > 0);
            assert!((0.0..=1.0).contains(&lesion.crossing.unwrap()));
        }
    }
    assert!(run.path("train/summary.json").is_file());

    let options = CollectOptions { voxels: 200, ..CollectOptions::default() };
    let request = segen::commands::logits::Request {
        run: &run,
        checkpoint: segen::commands::trained::Which::Latest,
        dataset: None,
        folder: None,
        existing: Existing::Refuse,
        cache: None,
        options,
        device: &device,
    };
    let outputs = segen::commands::logits::claim(&request).unwrap();
    let collected = segen::commands::logits::run(&request, &outputs, &Silent).unwrap();
    assert_eq!(collected.shifts.classes.len(), 4, "two classes, unseen and test");
    let (read, collection) = logits::read(&run).unwrap();
    assert_eq!(read.cases, collected.cases);
    for (shift, measured) in read.shifts.classes.iter().zip(&collected.shifts.classes) {
        // JSON keeps all but the last digit.
        assert!((shift.shift - measured.shift).abs() < 1e-12 && shift.origin == measured.origin);
        let class = collection.classes.iter().position(|name| *name == shift.class).unwrap();
        let cloud = collection.cloud(shift.origin, class).unwrap();
        let crossed = margins(cloud).iter().filter(|m| **m < 0.0).count();
        assert!((shift.crossing - crossed as f64 / 200.0).abs() < 1e-12);
    }
    for name in ["scatter.svg", "scatter.png", "margins.svg", "margins.png"] {
        assert!(run.path("logits").join(name).is_file(), "{name}");
    }

    let page = folder.path().join("report.html");
    let source = Source::Folders(vec![run.folder.clone()]);
    let place = Place::claim(&source, &page, Existing::Refuse).unwrap();
    let written = report::write(&source, &Options::default(), &place, &Silent).unwrap();
    let html = std::fs::read_to_string(&written.page).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    assert!(
        html.contains("default-src 'none'") && !html.contains("href=\"http") && !html.contains("src=\"http")
    );
    for part in ["Loss", "Test cases", "Worst cases", "data:image/png", "shift S1", "crossing rate"] {
        assert!(html.contains(part), "{part}");
    }
    for name in ["training.svg", "training.png", "shift.png", "logits-scatter.svg", "test-worst.png"] {
        assert!(written.figures.join(name).is_file(), "{name}");
    }
    let nothing = Source::Folders(vec![folder.path().join("nothing")]);
    let nothing = report::write(&nothing, &Options::default(), &place, &Silent).unwrap_err().to_string();
    assert!(nothing.contains("nothing") && nothing.contains("segen train"), "{nothing}");
}
