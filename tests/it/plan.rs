//! Tests of `segen::plan`.

use std::path::PathBuf;

use segen::config::{Config, DiceReduction};
use segen::data::dataset::{Dataset, LabelScheme, Region};
use segen::network::{Shape, UNetShape};
use segen::plan::{Budget, CaseCounts, CpuBudget, Fingerprint, Intensities, Plan};
use segen::predict::tiling::starts;
use segen::prepare::Normalisation;
use segen::progress::Silent;
use serde_json::Value;

use crate::support::{data, real};

const SOME: Intensities = Intensities {
    mean: 100.0,
    median: 101.0,
    std: 12.5,
    min: -7.0,
    max: 300.0,
    percentile_00_5: 3.0,
    percentile_99_5: 250.0,
};

fn dataset(channels: &[&str], classes: usize) -> Dataset {
    let names: Vec<String> = (0..classes).map(|class| format!("class{class}")).collect();
    let regions =
        (1..classes).map(|class| Region { name: names[class].clone(), values: vec![class as u8] }).collect();
    Dataset {
        folder: PathBuf::from("nowhere"),
        name: "Dataset001_Made".to_owned(),
        channels: channels.iter().map(|&name| name.to_owned()).collect(),
        labels: LabelScheme {
            names,
            regions,
            ignore: None,
            regions_class_order: None,
            trained: Default::default(),
        },
        file_ending: ".nii.gz".to_owned(),
        training: Vec::new(),
        test: Vec::new(),
        splits: None,
    }
}

fn fingerprint(
    spacings: Vec<[f64; 3]>,
    shapes: Vec<[usize; 3]>,
    relative: f64,
    channels: usize,
) -> Fingerprint {
    Fingerprint {
        spacings,
        shapes,
        relative_size_after_cropping: relative,
        intensities: vec![SOME; channels],
        class_voxels: vec![1000, 10],
        masked_cases: 0,
    }
}

/// One of the sets for which nnU-Net's planner was run (`tests/reference/make_plan.py`), axes as here.
struct Reference {
    name: String,
    dataset: Dataset,
    fingerprint: Fingerprint,
    memory_bytes: u64,
    decision: Value,
    intensities: Option<Value>,
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(read).collect()
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// From (z, y, x) to (x, y, z).
fn reversed<T: Copy>(values: Vec<T>) -> [T; 3] {
    [values[2], values[1], values[0]]
}

impl Reference {
    fn all() -> Vec<Self> {
        let file: Value = serde_json::from_slice(&std::fs::read(data("plan_nnunet.json")).unwrap()).unwrap();
        let all = list(&file, |entry| {
            let channels = list(&entry["channels"], |v| v.as_str().unwrap().to_owned());
            let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
            Self {
                name: entry["name"].as_str().unwrap().to_owned(),
                dataset: dataset(&channels, size(&entry["labels"])),
                fingerprint: fingerprint(
                    list(&entry["spacings"], |v| reversed(list(v, float))),
                    list(&entry["shapes"], |v| reversed(list(v, size))),
                    float(&entry["relative_size_after_cropping"]),
                    channels.len(),
                ),
                memory_bytes: (float(&entry["memory"]) * (1u64 << 30) as f64) as u64,
                decision: entry["decision"].clone(),
                intensities: entry.get("intensities").cloned(),
            }
        });
        assert!(all.len() >= 19);
        all
    }

    /// A triple of the decision: transposed by nnU-Net, then reversed by us.
    fn triple<T: Copy + Default>(&self, value: &Value, read: impl Fn(&Value) -> T) -> [T; 3] {
        let forward = list(&self.decision["transpose_forward"], size);
        let mut original = vec![T::default(); 3];
        for (axis, value) in forward.into_iter().zip(list(value, read)) {
            original[axis] = value;
        }
        reversed(original)
    }

    fn check(&self, plan: &Plan) {
        let (name, want) = (&self.name, &self.decision);
        for (ours, theirs) in plan.spacing.into_iter().zip(self.triple(&want["spacing"], float)) {
            assert!((ours / theirs - 1.0).abs() < 1e-11, "{name}: spacing {ours} and {theirs}");
        }
        assert_eq!(plan.patch, self.triple(&want["patch"], size), "{name}: patch");
        assert_eq!(plan.batch, size(&want["batch"]), "{name}: batch");
        assert_eq!(unet(plan).features, list(&want["features"], size), "{name}: features");
        assert_eq!(unet(plan).strides, list(&want["strides"], |v| self.triple(v, size)), "{name}: strides");
        assert_eq!(unet(plan).kernels, list(&want["kernels"], |v| self.triple(v, size)), "{name}: kernels");
        assert!(list(&want["convolutions"], size).iter().all(|&n| n == unet(plan).convolutions), "{name}");
        let batch_dice = plan.dice == DiceReduction::Batch;
        assert_eq!(batch_dice, want["batch_dice"].as_bool().unwrap(), "{name}: dice");
        let schemes = list(&want["normalisation"], |v| v.as_str().unwrap().to_owned());
        let masked = list(&want["masked"], |v| v.as_bool().unwrap());
        assert_eq!(plan.normalisation.len(), schemes.len());
        for ((ours, scheme), masked) in plan.normalisation.iter().zip(schemes).zip(masked) {
            let theirs = match scheme.as_str() {
                "ZScoreNormalization" => Normalisation::ZScore { masked },
                "CTNormalization" => Normalisation::Ct {
                    lower: SOME.percentile_00_5,
                    upper: SOME.percentile_99_5,
                    mean: SOME.mean,
                    std: SOME.std,
                },
                "RescaleTo01Normalization" => Normalisation::Rescale,
                "RGBTo01Normalization" => Normalisation::Rgb,
                "NoNormalization" => Normalisation::None,
                other => panic!("{other}"),
            };
            assert_eq!(*ours, theirs, "{name}: normalisation");
        }
    }
}

#[test]
fn decisions_equal_those_of_nnunet_field_by_field() {
    for reference in Reference::all() {
        let budget = Budget { memory_bytes: reference.memory_bytes, cpu: CpuBudget::Off };
        let plan = Plan::decide(&reference.dataset, reference.fingerprint.clone(), &budget).unwrap();
        reference.check(&plan);
    }
}

#[test]
fn the_hippocampus_set_gives_the_published_plan() {
    let reference = Reference::all().into_iter().find(|r| r.name == "Hippocampus").unwrap();
    let plan = Plan::decide(&reference.dataset, reference.fingerprint, &Budget::NNUNET).unwrap();
    assert_eq!((plan.spacing, plan.batch), ([1.0; 3], 7));
    // 40 x 56 x 40 in either order of the axes.
    assert_eq!(plan.patch, [40, 56, 40]);
    assert_eq!(unet(&plan).features, [32, 64, 128, 256]);
    assert_eq!(plan.normalisation, [Normalisation::ZScore { masked: false }]);
}

#[test]
fn the_real_hippocampus_set_is_measured_as_nnunet_measures_it() {
    let Some(folder) = real("Dataset004_Hippocampus") else { return };
    let reference = Reference::all().into_iter().find(|r| r.name == "Hippocampus").unwrap();
    let dataset = Dataset::open(&folder).unwrap();
    let cases: Vec<_> = dataset.training.iter().collect();
    let fingerprint = Plan::measure(&dataset, &cases, &Silent).unwrap();
    assert_eq!(fingerprint.spacings, reference.fingerprint.spacings);
    assert_eq!(fingerprint.shapes, reference.fingerprint.shapes);
    assert_eq!(fingerprint.relative_size_after_cropping, reference.fingerprint.relative_size_after_cropping);
    let theirs = &reference.intensities.unwrap()["0"];
    let ours = serde_json::to_value(fingerprint.intensities[0]).unwrap();
    // nnU-Net draws 500,000 voxels a case at random; the minimum and maximum it finds all the same.
    for (key, tolerance) in [
        ("mean", 1e-3),
        ("std", 1e-3),
        ("median", 5e-3),
        ("percentile_00_5", 5e-3),
        ("percentile_99_5", 5e-3),
        ("min", 1e-6),
        ("max", 1e-6),
    ] {
        let (ours, theirs) = (float(&ours[key]), float(&theirs[key]));
        assert!((ours - theirs).abs() <= tolerance * theirs.abs().max(1.0), "{key}: {ours} and {theirs}");
    }
    reference_plan_is_the_same(&dataset, fingerprint);
}

fn reference_plan_is_the_same(dataset: &Dataset, fingerprint: Fingerprint) {
    let plan = Plan::decide(dataset, fingerprint, &Budget::NNUNET).unwrap();
    let reference = Reference::all().into_iter().find(|r| r.name == "Hippocampus").unwrap();
    reference.check(&plan);
}

/// The U-Net of a plan; others are not planned here.
fn unet(plan: &Plan) -> &UNetShape {
    let Shape::UNet(shape) = &plan.shape else { panic!("{:?}", plan.shape) };
    shape
}

fn unet_mut(plan: &mut Plan) -> &mut UNetShape {
    let Shape::UNet(shape) = &mut plan.shape else { panic!("not a U-Net") };
    shape
}

fn hippocampus(budget: &Budget) -> Plan {
    let reference = Reference::all().into_iter().find(|r| r.name == "Hippocampus").unwrap();
    Plan::decide(&reference.dataset, reference.fingerprint, budget).unwrap()
}

#[test]
fn a_processor_budget_keeps_a_step_short() {
    let off = hippocampus(&Budget::NNUNET);
    let plan = hippocampus(&Budget::processor(2));
    assert_eq!((plan.patch, plan.spacing), (off.patch, off.spacing));
    assert_eq!(unet(&plan).features, [16, 32, 64, 128]);
    assert!((2..=4).contains(&plan.batch), "{}", plan.batch);
    assert!(plan.predicted_step_seconds(150.0) <= 0.45);
    assert!(plan.activation_bytes() < off.activation_bytes() / 4.0);
    // A fast machine needs no reduction.
    let cpu = CpuBudget::Step { seconds: 0.45, gflops: 50_000.0 };
    let fast = hippocampus(&Budget { cpu, ..Budget::NNUNET });
    assert_eq!((fast.batch, &fast.shape), (off.batch, &off.shape));
}

#[test]
fn large_scans_stay_trainable_on_a_processor() {
    for reference in Reference::all() {
        let plan =
            Plan::decide(&reference.dataset, reference.fingerprint.clone(), &Budget::processor(2)).unwrap();
        let seconds = plan.predicted_step_seconds(150.0);
        assert!(seconds <= 0.45, "{}: {seconds} s, patch {:?}", reference.name, plan.patch);
        assert!(plan.batch >= 2);
        assert!(unet(&plan).features.iter().all(|f| f % 8 == 0), "{}: {:?}", reference.name, unet(&plan));
        for (stage, _) in unet(&plan).strides.iter().enumerate() {
            for axis in 0..3 {
                let divisor: usize = unet(&plan).strides[..=stage].iter().map(|s| s[axis]).product();
                assert_eq!(plan.patch[axis] % divisor, 0, "{}", reference.name);
            }
        }
    }
}

#[test]
fn operations_are_counted_layer_by_layer() {
    let mut plan = hippocampus(&Budget::NNUNET);
    plan.patch = [8, 8, 8];
    plan.batch = 3;
    unet_mut(&mut plan).features = vec![16, 32];
    unet_mut(&mut plan).strides = vec![[1; 3], [2; 3]];
    unet_mut(&mut plan).kernels = vec![[3; 3], [3; 3]];
    // Multiply-adds: encoder 1-16-16 at 8^3 and 16-32-32 at 4^3; decoder 32-16 (2^3, stride 2), 32-16-16; 16-3.
    let (top, low) = (512.0, 64.0);
    let first = 27.0 * 16.0 * top;
    let forward = first
        + 27.0 * 16.0 * 16.0 * top
        + 27.0 * (16.0 * 32.0 + 32.0 * 32.0) * low
        + 32.0 * 16.0 * top
        + 27.0 * (32.0 * 16.0 + 16.0 * 16.0) * top
        + 16.0 * 3.0 * top;
    assert_eq!(plan.step_flops(), 3.0 * 2.0 * (3.0 * forward - first));
    let maps = (2.0 + 3.0) * 16.0 * top + 2.0 * 32.0 * low + 3.0 * top;
    assert_eq!(plan.activation_bytes(), 3.0 * 4.0 * maps);
    let weights = 27 * (16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 16 + 16 * 16) + 8 * 32 * 16 + 16 * 3;
    let others = 3 * (16 + 16 + 32 + 32 + 16 + 16) + 16 + 3;
    assert_eq!(plan.parameters(), weights + others);
}

#[test]
fn plans_come_back_from_disk_exactly() {
    let folder = tempfile::tempdir().unwrap();
    for reference in Reference::all() {
        let plan = Plan::decide(&reference.dataset, reference.fingerprint, &Budget::processor(4)).unwrap();
        let path = folder.path().join("plan.json");
        std::fs::write(&path, plan.to_json().unwrap()).unwrap();
        assert!(Plan::load(&path).unwrap() == plan, "{}", reference.name);
    }
}

#[test]
fn every_choice_has_its_reason() {
    let text = hippocampus(&Budget::processor(2)).describe(400.0, 2.0);
    for word in
        ["spacing", "40x56x40", "16-32-64-128", "z-score", "median", "instead of nnU-Net's 32", "0.45 s"]
    {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
    let text = hippocampus(&Budget::NNUNET).describe(400.0, 2.0);
    assert!(!text.contains("instead of"), "{text}");
}

#[test]
fn a_forecast_counts_steps_windows_and_bytes() {
    let plan = hippocampus(&Budget::processor(2));
    let sets = ["schedule.steps=500", "schedule.steps_per_epoch=100", "validation.cases_per_epoch=4"];
    let config = Config::resolve(None, &sets.map(str::to_owned)).unwrap();
    let cases = CaseCounts { prepared: 130, validation: 52, test: 10 };
    let forecast = plan.forecast(&config, cases, 0.6).unwrap();
    assert_eq!((forecast.steps, forecast.step_seconds), (500, 0.6));
    // A window is a third of a sample's share of a step; windows are where prediction puts them.
    let shapes = plan.fingerprint.shapes.iter().zip(&plan.fingerprint.spacings);
    let windows = shapes.map(|(shape, spacing)| {
        let along = |axis: usize| {
            let length = (shape[axis] as f64 * spacing[axis] / plan.spacing[axis]).round() as usize;
            starts(length, plan.patch[axis], config.validation.step).len()
        };
        (0..3).map(along).product::<usize>() as f64
    });
    let case = windows.sum::<f64>() / plan.fingerprint.shapes.len() as f64 * 0.6 / 3.0 / plan.batch as f64;
    let near =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.05, "{found} {expected}");
    near(forecast.scoring_seconds, 62.0 * case);
    near(forecast.training_seconds, 500.0 * 0.6 + 5.0 * 4.0 * case);
    let all = plan.fingerprint.shapes.len() as u64;
    assert_eq!(forecast.cache_bytes, plan.prepared_bytes() * 130 / all);
    assert_eq!(forecast.checkpoint_bytes, 36 * plan.parameters() as u64);
    let budget = Config::resolve(None, &["schedule.time_budget_seconds=60".to_owned()]).unwrap();
    let forecast = plan.forecast(&budget, cases, 0.6).unwrap();
    assert_eq!((forecast.steps, forecast.training_seconds), (100, 60.0));
    assert!(forecast.sentence().contains("100 steps of about 0.60 s, 60 s"), "{}", forecast.sentence());
}

#[test]
fn a_forecast_counts_the_passes_of_methods_and_the_updates_of_policies() {
    let plan = hippocampus(&Budget::processor(2));
    let cases = CaseCounts { prepared: 130, validation: 52, test: 10 };
    let forecast = |sets: &[&str]| {
        let sets: Vec<String> =
            ["schedule.steps=1000"].iter().chain(sets).map(|&set| set.to_owned()).collect();
        plan.forecast(&Config::resolve(None, &sets).unwrap(), cases, 0.6).unwrap()
    };
    let plain = forecast(&[]);
    assert_eq!(plain.work, 1.0);
    let half = plan.batch.div_ceil(2) as f64 / plan.batch as f64;
    for (sets, work) in [
        (&["method.name=asym-margin"][..], 1.0),
        (&["method.name=mixup"], 2.0),
        (&["method.name=asym-adversarial"], 1.0 + 5.0 / 3.0),
        (&["method.adversarial.mode=symmetric", "method.mixup.mode=asymmetric"], 2.0 + 5.0 / 3.0),
        // Half a batch forward and back, and eight halves forward, every eighth of nine tenths of the steps.
        (&["policy.name=learned"], 1.0 + 0.9 * (half + 8.0 * half / 3.0) / 8.0),
        (&["policy.name=learned", "policy.learning.estimator=batch"], 1.0 + 0.9 * (half + 1.0 / 3.0) / 4.0),
    ] {
        let found = forecast(sets);
        assert!((found.work - work).abs() < 1e-9, "{sets:?}: {} {work}", found.work);
        let steps = 1000.0 * 0.6 * (work - 1.0);
        assert!((found.training_seconds - plain.training_seconds - steps).abs() < 1e-6, "{sets:?}");
        assert_eq!(found.scoring_seconds, plain.scoring_seconds);
        assert_eq!(found.sentence().contains("times a plain one"), work > 1.0);
    }
    let auto = forecast(&["method.name=auto-combination"]);
    assert!(auto.sentence().contains("at most"), "{}", auto.sentence());
    let sets = ["schedule.time_budget_seconds=60", "method.name=mixup"].map(str::to_owned);
    let budget = plan.forecast(&Config::resolve(None, &sets).unwrap(), cases, 0.6).unwrap();
    assert_eq!((budget.steps, budget.training_seconds), (50, 60.0));
}

#[test]
fn impossible_requests_are_errors_that_name_the_setting() {
    let set = dataset(&["MRI"], 2);
    let one = || fingerprint(vec![[1.0; 3]], vec![[64; 3]], 1.0, 1);
    let tiny = Budget { memory_bytes: 1000, cpu: CpuBudget::Off };
    let error = Plan::decide(&set, one(), &tiny).unwrap_err().to_string();
    assert!(error.contains("memory") && error.contains("1000 bytes"), "{error}");
    let error = Plan::decide(&set, fingerprint(vec![], vec![], 1.0, 1), &Budget::NNUNET).unwrap_err();
    assert!(error.to_string().contains("fingerprint"), "{error}");
    let flat = fingerprint(vec![[1.0, 0.0, 1.0]], vec![[64; 3]], 1.0, 1);
    let error = Plan::decide(&set, flat, &Budget::NNUNET).unwrap_err().to_string();
    assert!(error.contains("spacing of 0"), "{error}");
}
