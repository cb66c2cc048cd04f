//! DeepMedic from sampler to run: what it sees, how it tiles, and that a stopped run goes on as if it had not.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array3, Array4, ArrayView4, Axis, s};
use segen::augment::Augmentation;
use segen::batch::Batch;
use segen::batch::loader::Loader;
use segen::batch::sampler::{Purpose, Sampler, Share, Sites, generator};
use segen::batch::source::SampleSource;
use segen::commands::train::{self, Request, Start};
use segen::commands::trained::{Trained, Which};
use segen::config::{Config, NetworkConfig, Variant};
use segen::image::nifti;
use segen::image::volume::{Grid, Volume};
use segen::network::{DeepMedic, DeepMedicShape, Network, Shape, Weights};
use segen::plan::Plan;
use segen::predict::Segmenter;
use segen::predict::mirror::Mirrors;
use segen::predict::windows::{Predictor, WindowOptions};
use segen::prepare::Sample;
use segen::progress::Silent;
use segen::run::Run;
use segen_kernels::Device;

use crate::support;

/// Two cases smaller than what the coarse pathways see, without a mask, on a background that is not 0.
fn samples() -> Vec<Sample> {
    (0..2)
        .map(|case| {
            let shape = (40 + 7 * case, 38, 45);
            let images = Array4::from_shape_fn((2, shape.0, shape.1, shape.2), |(c, x, y, z)| {
                ((x * 31 + y * 17 + z * 7 + c * 101 + case * 13) % 23) as f32 * 0.1 - 3.0
            });
            let mut labels = Array3::zeros(shape);
            labels.slice_mut(s![20..24, 0..4, 30..36]).fill(1);
            support::sample(&format!("case_{case}"), images, labels)
        })
        .collect()
}

fn load(augmentation: Augmentation, threads: usize) -> Vec<Batch> {
    let field = Variant::Default.shape().field([37, 35, 33]).unwrap();
    let sampler = Sampler { share: Share::Centred(0.5), ..Sampler::new(field.output, 3) };
    let source = Arc::new(SampleSource::in_memory(samples(), 2).seen_by(field));
    let mut loader = Loader::start(source, sampler, augmentation, 4, 0..6, threads, 3);
    (0..6).map(|_| Batch { seconds: 0.0, ..loader.next().unwrap() }).collect()
}

#[test]
fn every_pathway_shows_its_grid_and_the_mean_of_the_corners_outside() {
    let samples = samples();
    let field = Variant::Default.shape().field([37, 35, 33]).unwrap();
    assert_eq!(field.output, [21, 19, 17]);
    let mut outside = 0;
    for batch in load(Augmentation::none(), 2) {
        assert_eq!(batch.label_shape, [3, 21, 19, 17]);
        for index in 0..3 {
            let case = samples.iter().position(|sample| sample.id == batch.cases[index]).unwrap();
            let sample = &samples[case];
            let (_, nx, ny, nz) = sample.images.dim();
            let shape = [nx, ny, nz];
            let corner = |channel: usize| {
                let ends = [[0, nx - 1], [0, ny - 1], [0, nz - 1]];
                let mean = (0..8).map(|b| {
                    f64::from(sample.images[[channel, ends[0][b & 1], ends[1][b >> 1 & 1], ends[2][b >> 2]]])
                });
                (mean.sum::<f64>() / 8.0) as f32
            };
            let mut random = generator(4, batch.step, index, Purpose::Placement);
            let sampler = Sampler { share: Share::Centred(0.5), ..Sampler::new(field.output, 3) };
            sampler.draw_case(2, &mut random);
            let placement =
                sampler.place(index, case, &Sites::of_sample(sample).unwrap(), &mut random).unwrap();
            let inside = |at: [i64; 3]| -> Option<[usize; 3]> {
                let inside = (0..3).all(|axis| (0..shape[axis] as i64).contains(&at[axis]));
                inside.then(|| at.map(|coordinate| coordinate as usize))
            };
            for (pathway, input) in field.pathways.iter().zip(&batch.inputs) {
                let [size_x, size_y, size_z] = pathway.size;
                assert_eq!(input.shape, [3, 2, size_x, size_y, size_z]);
                let view = ArrayView4::from_shape(
                    (2, size_x, size_y, size_z),
                    &input.values[index * input.values.len() / 3..(index + 1) * input.values.len() / 3],
                );
                for ((channel, x, y, z), &value) in view.unwrap().indexed_iter() {
                    let grid = [x, y, z];
                    // The published start: one segment's reach back, the centre of the first cell, and the
                    // receptive fields of the coarse grid.
                    let half = pathway.scale as i64 / 2;
                    let at = std::array::from_fn(|axis| {
                        placement.start[axis] - 8 + half - 17 * half + (pathway.scale * grid[axis]) as i64
                    });
                    let expected = match inside(at) {
                        Some([x, y, z]) => sample.images[[channel, x, y, z]],
                        None => {
                            outside += 1;
                            corner(channel)
                        }
                    };
                    assert_eq!(value, expected, "{pathway:?} at {grid:?}");
                }
            }
            let [_, lx, ly, lz] = batch.label_shape;
            for (i, &label) in
                batch.labels[index * lx * ly * lz..(index + 1) * lx * ly * lz].iter().enumerate()
            {
                let offset = [i / (ly * lz), i / lz % ly, i % lz];
                let at = std::array::from_fn(|axis| placement.start[axis] + offset[axis] as i64);
                let expected = inside(at).map_or(0, |at| sample.labels.as_ref().unwrap()[at]);
                assert_eq!(label, expected);
            }
        }
    }
    assert!(outside > 10_000, "{outside}");
}

#[test]
fn augmented_batches_are_the_same_for_any_number_of_threads() {
    let augmentation = || Augmentation::basic(None, [true; 3]);
    let expected = load(augmentation(), 1);
    assert_eq!(load(augmentation(), 3), expected);
    // All pathways show one changed image: where two grids share a voxel, they agree.
    assert_ne!(expected, load(Augmentation::none(), 1));
}

#[test]
fn centred_patches_are_half_foreground_and_stay_in_the_mask() {
    let mut sample = samples().swap_remove(0);
    // As if a mask left the upper half alone.
    for class in &mut sample.classes {
        class.positions.retain(|position| position[2] >= 20);
        class.count = class.positions.len() as u64;
    }
    let sampler = Sampler { share: Share::Centred(0.5), ..Sampler::new([21; 3], 1) };
    let sites = Sites::of_sample(&sample).unwrap();
    let draws = 4000;
    let mut foreground = 0;
    for step in 0..draws {
        let placement = sampler.place(0, 0, &sites, &mut generator(9, step, 0, Purpose::Placement)).unwrap();
        let centre = placement.start.map(|start| (start + 10) as usize);
        assert!(centre[2] >= 20);
        assert_eq!(sample.labels.as_ref().unwrap()[centre], placement.centre_class);
        assert_eq!(placement.sought.is_some(), placement.centre_class == 1);
        foreground += u32::from(placement.centre_class == 1);
    }
    // The deviation is 32.
    assert!((1850..2150).contains(&foreground), "{foreground}");
}

/// A plan for one channel and three classes.
fn plan(shape: DeepMedicShape) -> Plan {
    let json = std::fs::read_to_string(support::data("plan_deepmedic.json")).unwrap();
    let mut plan: Plan = serde_json::from_str(&json).unwrap();
    plan.train(Shape::DeepMedic(shape)).unwrap();
    plan
}

/// Probabilities (class, x, y, z).
fn predict(
    plan: &Plan,
    weights: &Weights,
    images: ArrayView4<f32>,
    mask: Option<&Array3<u8>>,
    options: WindowOptions,
) -> Array4<f32> {
    let network = plan.network(&NetworkConfig::default());
    let predictor = Predictor::new(plan, vec![(network, weights)], options, &Device::Cpu).unwrap();
    let (_, x, y, z) = images.dim();
    let (mut planes, mut passes) = (Vec::new(), 0);
    let sample = support::sample("scan", images.to_owned(), Array3::zeros((x, y, z)));
    let sample = Sample { mask: mask.cloned(), ..sample };
    predictor.predict(&sample, &mut |plane| planes.push(plane.to_owned()), &mut |done| passes += done);
    assert_eq!(passes, predictor.passes([x, y, z]));
    let views: Vec<_> = planes.iter().map(|plane| plane.view()).collect();
    ndarray::concatenate(Axis(1), &views).unwrap()
}

fn image() -> Array4<f32> {
    Array4::from_shape_fn((1, 41, 33, 20), |(_, x, y, z)| ((x * 5 + y * y + 3 * z) % 17) as f32 * 0.2 - 1.5)
}

/// One pathway and no hidden layer: what a voxel gets does not depend on its tile.
fn plain(inference_segment: [usize; 3]) -> DeepMedicShape {
    DeepMedicShape {
        scales: vec![1],
        features: vec![4, 5, 6],
        hidden: Vec::new(),
        dropout: vec![0.0],
        residual: false,
        inference_segment,
        ..Variant::Basic.shape()
    }
}

fn largest_difference(a: &Array4<f32>, b: &Array4<f32>) -> f32 {
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn tiles_give_what_one_pass_over_the_volume_gives() {
    let whole = plan(plain([41 + 6, 33 + 6, 20 + 6]));
    let network = DeepMedic { channels: 1, classes: 3, shape: plain([45; 3]) };
    let weights = Network::DeepMedic(network).initialise(2);
    let images = image();
    let expected = predict(&whole, &weights, images.view(), None, WindowOptions::default());
    for segment in [[17; 3], [22, 19, 40], [60; 3]] {
        for batch in [1, 3] {
            let tiled = plan(plain(segment));
            let options = WindowOptions { batch, ..WindowOptions::default() };
            let ours = predict(&tiled, &weights, images.view(), None, options);
            assert_eq!(ours.dim(), (3, 41, 33, 20));
            let off = largest_difference(&ours, &expected);
            assert!(off < 1e-5, "{segment:?} in batches of {batch}: {off}");
        }
    }
}

#[test]
fn tiles_without_a_voxel_of_the_mask_are_background() {
    let plan = plan(DeepMedicShape { inference_segment: [26; 3], ..Variant::BasicSmall.shape() });
    let weights = plan.network(&NetworkConfig::default()).initialise(2);
    let images = image();
    let all = predict(&plan, &weights, images.view(), None, WindowOptions::default());
    let mut mask = Array3::zeros((41, 33, 20));
    mask[[3, 3, 3]] = 1;
    let masked = predict(&plan, &weights, images.view(), Some(&mask), WindowOptions::default());
    // The tile of voxel (3, 3, 3) is 10 voxels wide; others are not computed.
    // Another batch of tiles may round its last digit otherwise.
    let tile = s![.., ..10, ..10, ..10];
    let off = largest_difference(&masked.slice(tile).to_owned(), &all.slice(tile).to_owned());
    assert!(off < 1e-6, "{off}");
    let far = masked.slice(s![.., 10.., .., ..]);
    assert!(far.slice(s![0, .., .., ..]).iter().all(|&p| p == 1.0));
    assert!(far.slice(s![1.., .., .., ..]).iter().all(|&p| p == 0.0));
}

#[test]
fn mirrored_passes_see_the_mirrored_image_in_every_pathway() {
    let plan = plan(DeepMedicShape { inference_segment: [36, 26, 26], ..Variant::BasicSmall.shape() });
    let weights = plan.network(&NetworkConfig::default()).initialise(2);
    // 40 voxels are two tiles of 20, so that tiles are mirror images of tiles.
    let images = image().slice(s![.., ..40, .., ..]).to_owned();
    let mirrored = images.slice(s![.., ..;-1, .., ..]).to_owned();
    let run = |images: &Array4<f32>, mirror| {
        let options = WindowOptions { mirrors: Mirrors::along(mirror), ..WindowOptions::default() };
        predict(&plan, &weights, images.view(), None, options)
    };
    let (one, other) = (run(&images, [false; 3]), run(&mirrored, [false; 3]));
    let both = run(&images, [true, false, false]);
    let expected = (&one + &other.slice(s![.., ..;-1, .., ..])) / 2.0;
    assert!(largest_difference(&both, &expected) < 1e-5);
    assert!(largest_difference(&both, &one) > 1e-3);
}

#[test]
fn a_plan_for_deepmedic_says_so_and_reads_back() {
    let plan = plan(Variant::Default.shape());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    std::fs::write(&file, plan.to_json().unwrap()).unwrap();
    assert_eq!(Plan::load(&file).unwrap(), plan);
    assert_eq!((plan.patch, plan.inference_segment(), plan.batch), ([37; 3], [45; 3], 10));
    let text = plan.describe(400.0, 2.0);
    assert!(text.contains("DeepMedic, scales 1, 3, 5") && text.contains("45"), "{text}");
    // By hand: normal pathway, two coarse ones, hidden layers, classifier; three passes of two operations each.
    let conv = |edge: usize, inputs: usize, outputs: usize| (27 * inputs * outputs * edge.pow(3)) as f64;
    let maps = [1, 30, 30, 40, 40, 40, 40, 50, 50];
    let pathway = |edge: usize| -> f64 {
        (0..8).map(|layer| conv(edge - 2 * (layer + 1), maps[layer], maps[layer + 1])).sum()
    };
    let image = conv(35, 1, 30) + conv(21, 1, 30) + conv(19, 1, 30);
    let hidden = 9261.0 * (27.0 * 150.0 * 250.0 + 250.0 * 250.0 + 250.0 * 3.0);
    let forward = pathway(37) + pathway(23) + pathway(21) + hidden;
    assert!((plan.step_flops() / (20.0 * (3.0 * forward - image)) - 1.0).abs() < 1e-9);
}

#[test]
fn plans_of_earlier_versions_are_read_and_one_without_a_network_is_refused() {
    let (plan, folder) = (plan(Variant::Small.shape()), tempfile::tempdir().unwrap());
    let file = folder.path().join("plan.json");
    let mut json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&plan.to_json().unwrap()).unwrap();
    assert!(json.contains_key("deepmedic") && !json.contains_key("unet"));
    // They held the U-Net that had been planned beside the DeepMedic that was trained.
    let unet = serde_json::json!({"features": [8], "strides": [[1, 1, 1]], "kernels": [[3, 3, 3]], "convolutions": 2});
    json.insert("unet".to_owned(), unet);
    std::fs::write(&file, serde_json::to_string(&json).unwrap()).unwrap();
    assert_eq!(Plan::load(&file).unwrap(), plan);
    json.remove("deepmedic");
    json.insert("patch".to_owned(), serde_json::json!([8, 8, 8]));
    std::fs::write(&file, serde_json::to_string(&json).unwrap()).unwrap();
    assert!(matches!(Plan::load(&file).unwrap().shape, Shape::UNet(_)));
    json.remove("unet");
    std::fs::write(&file, serde_json::to_string(&json).unwrap()).unwrap();
    let error = Plan::load(&file).unwrap_err().to_string();
    assert!(error.contains("plan.json") && error.contains("`unet`, `deepmedic`"), "{error}");
}

/// Three cases with a bright box each, in nnU-Net layout; labels 1 and 2 in it.
fn dataset(folder: &Path) {
    for part in ["imagesTr", "labelsTr"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let description = serde_json::json!({
        "channel_names": {"0": "T1"}, "numTraining": 3, "file_ending": ".nii.gz",
        "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2],
    });
    std::fs::write(folder.join("dataset.json"), description.to_string()).unwrap();
    for case in 0..3 {
        let shape = (26, 24, 22 + case);
        let inside = |x: usize, y: usize, z: usize| {
            let lesion = (8..14).contains(&x) && (6 + case..12 + case).contains(&y) && (7..13).contains(&z);
            u8::from(lesion) + u8::from(lesion && x >= 11)
        };
        let labels = Array3::from_shape_fn(shape, |(x, y, z)| inside(x, y, z));
        let image = Array3::from_shape_fn(shape, |(x, y, z)| {
            100.0 + ((x * 7 + y * 3 + z) % 5) as f32 + 20.0 * f32::from(inside(x, y, z))
        });
        let grid = Grid::with_spacing([shape.0, shape.1, shape.2], [1.0; 3]);
        let file = |part: &str, end: &str| folder.join(part).join(format!("case_{case}{end}.nii.gz"));
        nifti::write_image(&file("imagesTr", "_0000"), &Volume::new(image, grid.clone()), None).unwrap();
        nifti::write_labels(&file("labelsTr", ""), &Volume::new(labels, grid), None).unwrap();
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_weights_and_paints_label_values() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("Dataset001_Boxes");
    dataset(&data);
    let sets = [
        "schedule.steps=4",
        "plan.patch=[21, 21, 21]",
        "plan.inference_patch=[29, 29, 29]",
        "plan.batch=2",
        "checkpoint.every_steps=2",
        "validation.cases_per_epoch=1",
        "task.classes=[\"core\"]",
        "network.variant=small",
    ];
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let config = Config::resolve_preset(Some("atlas"), None, &sets).unwrap();
    let run = Run::at(folder.path().join("run"));
    let go = |start, config: Option<&Config>| {
        let request = Request {
            dataset: &data,
            run: &run,
            config,
            cache: None,
            start,
            faults: train::Faults::Refuse,
            plan: None,
            length: None,
            threads: 1,
            device: &Device::Cpu,
            started: Instant::now(),
        };
        train::run(&request, &Silent).unwrap()
    };
    let first = go(Start::Fresh, Some(&config));
    assert!(!first.outcome.weights.buffers.is_empty());
    let file = |name: &str| std::fs::read(run.path("checkpoint/step-4").join(name)).unwrap();
    let before = [file("weights.safetensors"), file("optimiser.safetensors")];
    std::fs::remove_dir_all(run.path("checkpoint/step-4")).unwrap();
    std::fs::write(run.path("checkpoint/latest"), "step-2\n").unwrap();
    let again = go(Start::Resume, None);
    assert_eq!([file("weights.safetensors"), file("optimiser.safetensors")], before);
    assert_eq!(again.outcome.weights, first.outcome.weights);

    // Predictions hold the value that the region paints, and dataset.json tells a reader what it means.
    let description: serde_json::Value = run.read_json("dataset.json").unwrap();
    assert_eq!(description["labels"], serde_json::json!({"background": 0, "core": 2}));
    for entry in std::fs::read_dir(run.path("validation")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".nii.gz") {
            let (labels, _) = nifti::read_labels(&path).unwrap();
            assert!(labels.voxels.iter().all(|&value| value == 0 || value == 2));
        }
    }
    let trained = Trained::open(&run, Which::Latest).unwrap();
    assert_eq!(trained.record.plan.classes, 2);
}

#[test]
fn options_of_another_network_are_refused() {
    let base = plan(Variant::Small.shape());
    let apply = |sets: &[&str], mut plan: Plan| {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        Config::resolve(None, &sets).and_then(|config| config.plan.apply(&mut plan, &[])).map(|()| plan)
    };
    let error = |sets: &[&str]| apply(sets, base.clone()).unwrap_err().to_string();
    assert!(error(&["plan.base_features=16"]).contains("plan.base_features"));
    assert!(error(&["plan.patch=[16, 37, 37]"]).contains("plan.patch"));
    assert!(error(&["network.kind=deepmedic", "network.deep_supervision=true"]).contains("deep_supervision"));
    let changed =
        apply(&["plan.patch=[25, 37, 37]", "plan.inference_patch=[31, 31, 31]"], base.clone()).unwrap();
    assert_eq!((changed.patch, changed.inference_segment()), ([25, 37, 37], [31; 3]));
    let json = std::fs::read_to_string(support::data("plan_deepmedic.json")).unwrap();
    let unet: Plan = serde_json::from_str(&json).unwrap();
    assert!(apply(&["plan.inference_patch=[31, 31, 31]"], unet).is_err());
}
