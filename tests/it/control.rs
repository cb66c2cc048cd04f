//! Methods that follow a gap: what they are without one, and that a run which is stopped, or replayed, has the same
//! strengths.

use std::path::{Path, PathBuf};
use std::time::Instant;

use segen::Error;
use segen::commands::train::{self, Request, Start, TrainResult};
use segen::config::Config;
use segen::data::dataset::Dataset;
use segen::data::phantom::{self, Kind, PhantomOptions};
use segen::examine::report::{self, Options, Place, Source};
use segen::files::Existing;
use segen::learn::checkpoint::Checkpoint;
use segen::learn::control::of_epochs;
use segen::learn::watch::{ShiftWatch, WatchOptions};
use segen::network::Weights;
use segen::prepare;
use segen::progress::Silent;
use segen::run::Run;
use segen::run::events::ControlEvent;
use segen_kernels::Device;

fn phantoms(folder: &Path, kind: Kind) -> PathBuf {
    let data = folder.join("Dataset900_Phantom");
    let options = PhantomOptions { cases: 7, ratio: 40.0, shape: [32; 3], ..PhantomOptions::new(kind) };
    phantom::write(&options, &data, &Silent).unwrap();
    data
}

fn config(method: &str, more: &[&str]) -> Config {
    let small = [
        "plan.patch=[16, 16, 16]",
        "plan.batch=2",
        "schedule.steps=4",
        "schedule.steps_per_epoch=2",
        "validation.cases_per_epoch=0",
        "validation.logit_windows=0",
        "validation.post=off",
        "validation.step=1.0",
        "policy.name=heuristic",
        "optimiser.kind=adam",
        "optimiser.learning_rate=5e-3",
        "policy.validation_share=0.2",
    ];
    let mut sets = vec![format!("method.name={method}")];
    sets.extend(small.iter().chain(more).map(|&set| set.to_owned()));
    Config::resolve(None, &sets).unwrap()
}

fn go(data: &Path, run: &Run, start: Start, config: Option<&Config>) -> Result<TrainResult, Error> {
    let request = Request {
        dataset: data,
        run,
        config,
        cache: Some(&data.with_file_name("cache")),
        start,
        faults: train::Faults::Refuse,
        plan: None,
        length: None,
        threads: 1,
        device: &Device::Cpu,
        started: Instant::now(),
    };
    train::run(&request, &Silent)
}

#[test]
fn without_a_gap_the_weights_are_those_of_cross_entropy() {
    let folder = tempfile::tempdir().unwrap();
    let data = phantoms(folder.path(), Kind::Atlas);
    let deepmedic = [
        "network.kind=deepmedic",
        "network.variant=small",
        "plan.patch=[21, 21, 21]",
        "plan.inference_patch=[29, 29, 29]",
        "sampling.rule=centred",
    ];
    for (network, more) in [("unet", &["plan.base_features=4"][..]), ("deepmedic", &deepmedic)] {
        let train = |method: &str, set: &str| -> (Weights, Vec<ControlEvent>) {
            let run = Run::at(folder.path().join(format!("{network}-{method}-{set}")));
            let config = config(method, &[more, &[set]].concat());
            let finished = go(&data, &run, Start::Fresh, Some(&config)).unwrap();
            (finished.outcome.weights, of_epochs(&run).unwrap())
        };
        // No rate exceeds another by more than 1.
        let (plain, none) = train("ce", "method.auto.threshold=1.0");
        assert!(none.is_empty());
        for method in ["auto-margin", "auto-focal", "auto-combination"] {
            let (weights, events) = train(method, "method.auto.threshold=1.0");
            assert!(weights == plain, "{network}, {method}");
            assert_eq!(events.len(), 2);
            for event in events {
                assert_eq!((event.gap[1], event.smoothed[1], event.clamped), (Some(0.0), 0.0, false));
                assert!(event.shift.seen[1].voxels > 0 && event.shift.unseen[1].voxels > 0);
            }
        }
    }
}

#[test]
fn a_run_that_follows_a_gap_goes_on_and_is_replayed_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = phantoms(folder.path(), Kind::Kits);
    let more = [
        "plan.base_features=4",
        "schedule.steps=26",
        "schedule.steps_per_epoch=5",
        "checkpoint.every_steps=4",
        "method.auto.threshold=0.0",
        "method.auto.full=0.2",
    ];
    let run = Run::at(folder.path().join("run"));
    let config = |method: &str, further: &[&str]| config(method, &[&more[..], further].concat());
    let whole =
        go(&data, &run, Start::Fresh, Some(&config("auto-combination", &[]))).unwrap().outcome.weights;
    let events = of_epochs(&run).unwrap();
    let steps: Vec<u64> = events.iter().map(|event| event.step).collect();
    assert_eq!(steps, [4, 9, 14, 19, 24, 25]);
    let timeless = |events: &[ControlEvent]| -> Vec<ControlEvent> {
        events.iter().map(|event| ControlEvent { seconds: 0.0, ..event.clone() }).collect()
    };
    let strongest = events.iter().map(|event| event.strength.passes).fold(0.0, f64::max);
    assert!(strongest > 0.0, "there must be a gap for this test to say anything: {events:?}");
    let last = |run: &Run| Checkpoint::latest(&run.checkpoints()).unwrap().unwrap().0;
    assert_eq!(last(&run).history.control.as_ref().map(|c| &c.gap), events.last().map(|e| &e.smoothed));
    assert!(run.manifest().unwrap().share_clamped.is_some());

    let page = folder.path().join("page.html");
    let source = Source::Folders(vec![run.folder.clone()]);
    let place = Place::claim(&source, &page, Existing::Refuse).unwrap();
    report::write(&source, &Options::default(), &place, &Silent).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("Methods that follow the gap") && html.contains("tumor: gap"));

    // Back into the last epoch but one.
    for step in [26, 25] {
        let _ = std::fs::remove_dir_all(run.path(&format!("checkpoint/step-{step}")));
    }
    std::fs::write(run.path("checkpoint/latest"), "step-24\n").unwrap();
    assert_eq!(last(&run).step, 24);
    assert!(go(&data, &run, Start::Resume, None).unwrap().outcome.weights == whole);
    assert_eq!(timeless(&of_epochs(&run).unwrap()), timeless(&events));

    // The same strengths on the same cases; then on all of them.
    let from = format!("method.auto.from={:?}", run.folder.display().to_string());
    let replay = Run::at(folder.path().join("replay"));
    let again = config("auto-combination", &[&from]);
    assert!(go(&data, &replay, Start::Fresh, Some(&again)).unwrap().outcome.weights == whole);
    let strengths = |run: &Run| -> Vec<_> {
        of_epochs(run).unwrap().into_iter().map(|event| (event.step, event.strength, event.clamped)).collect()
    };
    assert_eq!(strengths(&replay), strengths(&run));
    let all = Run::at(folder.path().join("all"));
    let every = config("auto-combination", &[&from, "policy.validation_share=0.0"]);
    go(&data, &all, Start::Fresh, Some(&every)).unwrap();
    let cases = |run: &Run| {
        let split: segen::run::Split = run.read_json("split.json").unwrap();
        (split.train.len(), split.policy_validation.len())
    };
    assert_eq!([cases(&run), cases(&all)], [(4, 1), (5, 0)]);
    // The run that is replayed is not needed any more.
    std::fs::remove_dir_all(all.path("checkpoint/step-26")).unwrap();
    std::fs::write(all.path("checkpoint/latest"), "step-24\n").unwrap();
    std::fs::rename(&run.folder, folder.path().join("moved")).unwrap();
    go(&data, &all, Start::Resume, None).unwrap();
    std::fs::rename(folder.path().join("moved"), &run.folder).unwrap();

    let refused = |config: &Config| {
        let error =
            go(&data, &Run::at(folder.path().join("refused")), Start::Fresh, Some(config)).unwrap_err();
        error.to_string()
    };
    let other = refused(&config("auto-margin", &[&from]));
    assert!(other.contains("`auto-combination`") && other.contains("--method"), "{other}");
    let rare = refused(&config("auto-combination", &[&from, "method.rare=[\"tumor\"]"]));
    assert!(rare.contains("method.rare"), "{rare}");
    let classes = refused(&config("auto-combination", &[&from, "task.classes=[\"tumor\"]"]));
    assert!(classes.contains("its classes are background, kidney, tumor"), "{classes}");
    std::fs::write(run.path("events.jsonl"), "").unwrap();
    let empty = refused(&again);
    assert!(empty.contains("no schedule") && empty.contains("auto-margin"), "{empty}");
}

#[test]
fn a_gap_is_measured_on_many_voxels_of_cases_that_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let data = phantoms(folder.path(), Kind::Kits);
    let dataset = Dataset::open(&data).unwrap();
    let small = config("ce", &["plan.base_features=4"]);
    let plan = train::plan(&dataset, &small, &Silent).unwrap();
    let cases: Vec<_> = dataset.training.iter().collect();
    let cache = folder.path().join("cache");
    let prepared = prepare::prepare_all(&dataset, &plan.recipe(), &cases, &cache, &Silent).unwrap();
    let network = plan.network(&small.network);
    let (seen, unseen) = prepared.split_at(6);
    let watch = |windows: usize, patches_per_epoch: u64| {
        let options = WatchOptions { windows, patches_per_epoch, seed: 1 };
        ShiftWatch::of_rare(&plan, &network, [seen, unseen], &[false, true, true], &options).unwrap()
    };
    let many = watch(64, 10_000);
    for class in [1, 2] {
        let there = |cases: &[prepare::PreparedCase]| -> usize {
            cases.iter().map(|case| case.classes[class].count as usize).sum()
        };
        let [(of_seen, cases), (of_unseen, case)] = many.amounts(class);
        assert!(of_seen >= there(seen).min(2000) && of_unseen >= there(unseen).min(2000));
        assert!(of_seen <= there(seen) && of_unseen <= there(unseen), "no voxel counts twice");
        assert_eq!((cases, case), (6, 1));
    }
    // Two windows of each class show two of six cases, so that three sets take turns.
    let few = watch(2, 10_000);
    assert_eq!([1, 2].map(|class| few.amounts(class)[0].1 >= 2), [true; 2]);
    let weights = network.initialise(1);
    let measure = |epoch: u64| few.measure(epoch, &plan, &network, &weights, &Device::Cpu).unwrap();
    let turns: Vec<_> = (0..6).map(measure).collect();
    assert_eq!(turns[..3], turns[3..]);
    assert!(turns[0].seen != turns[1].seen && turns[1].seen != turns[2].seen);
    assert_eq!(turns[0].unseen, turns[1].unseen, "a single case has its windows always");
    // Short epochs have few windows.
    assert!(watch(64, 4).amounts(1)[0].0 < many.amounts(1)[0].0);
}
