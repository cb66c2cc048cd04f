//! Tests of test-time policies: forms of a window are undone exactly, and mirror images are those of `--mirror`.

use ndarray::{Array3, Array4};
use segen::augment::{Cut, Histograms};
use segen::commands::test_time::{Options, teach};
use segen::data::dataset::Sides;
use segen::network::Grid;
use segen::network::{Network, Weights};
use segen::policy::forms::{MIRRORS, TestStart, test_time};
use segen::policy::operations::Context;
use segen::policy::{Group, Policy};
use segen::predict::Segmenter;
use segen::predict::forms::{Average, View, Views};
use segen::predict::mirror::Mirrors;
use segen::predict::windows::{Predictor, WindowOptions};
use segen::prepare::Placement;
use segen::prepare::Sample;
use segen::progress::Silent;
use segen_kernels::Device;

use crate::networks::{uniform, weights};
use crate::support;

const EXACT: [usize; 17] = [0, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 53, 77, 83, 74];

fn policy() -> Policy {
    test_time(&Context::default(), TestStart::Mirrors)
}

fn cube(edges: [usize; 3], stream: u32) -> Array4<f32> {
    let [x, y, z] = edges;
    let values = uniform(x * y * z, stream).into_iter().map(|v| v as f32).collect();
    Array4::from_shape_vec((1, x, y, z), values).unwrap()
}

/// The scan in a form, as the network would see it.
fn seen(view: &View, scan: &Array4<f32>, patch: [usize; 3]) -> Vec<f32> {
    let placement = Placement { case: 0, start: [0; 3], centre_class: 0, sought: None };
    let cut = Cut { placement: &placement, patch, grids: &[Grid::patch(patch)], draw: &view.draw };
    let mut out = vec![0.0; patch.iter().product()];
    cut.from_images(scan.view(), None, &Histograms::of_images(scan.view()), &mut [&mut out]);
    out
}

#[test]
fn turns_by_right_angles_and_mirror_images_are_undone_exactly() {
    let policy = policy();
    for edges in [[5; 3], [6; 3], [7; 3], [4, 5, 7], [6, 8, 4]] {
        let scan = cube(edges, 1);
        for choice in MIRRORS.into_iter().chain([32, 33, 35, 36, 38, 39]) {
            // A quarter turn maps voxels to voxels where its plane is square.
            if !MIRRORS.contains(&choice) && edges != [edges[0]; 3] {
                continue;
            }
            let view = View::of(&policy, choice, 1).unwrap();
            let turned = seen(&view, &scan, edges);
            assert_eq!(choice == 0, turned == scan.as_slice().unwrap(), "{choice}");
            let back = view.carry_back(&turned, 1, edges);
            let (values, shown) = back.split_at(turned.len());
            assert_eq!(values, scan.as_slice().unwrap(), "{choice} on {edges:?}");
            assert!(shown.iter().all(|part| *part == 1.0), "{choice} on {edges:?}");
        }
    }
}

#[test]
fn a_turn_is_undone_where_it_showed_the_window() {
    // A smooth scan survives two interpolations; corners were turned out of the window.
    let (edge, patch) = (24, [24; 3]);
    let scan = Array4::from_shape_fn((1, edge, edge, edge), |(_, x, y, z)| {
        (x as f32 * 0.2).sin() + (y as f32 * 0.15).cos() + z as f32 * 0.05
    });
    let policy = policy();
    for choice in [1, 2, 15, 19, 28] {
        let view = View::of(&policy, choice, 1).unwrap();
        let back = view.carry_back(&seen(&view, &scan, patch), 1, patch);
        let (values, shown) = back.split_at(edge.pow(3));
        let whole: Vec<usize> = (0..values.len()).filter(|at| shown[*at] > 0.999).collect();
        assert!(whole.len() > values.len() / 2, "{choice}");
        for at in whole {
            let inside = [at / 576, at / 24 % 24, at % 24].iter().all(|p| (4..20).contains(p));
            let off = (values[at] - scan.as_slice().unwrap()[at]).abs();
            assert!(!inside || off < 0.02, "{choice}: {off} at {at}");
        }
    }
}

#[test]
fn labels_that_changed_places_change_back() {
    let context = Context { sides: Sides { pairs: vec![[1, 2]], bound: vec![] }, ..Context::default() };
    let view = View::of(&test_time(&context, TestStart::Mirrors), 29, 1).unwrap();
    // One voxel, classes 0.1, 0.2, 0.7.
    let back = view.carry_back(&[0.1, 0.2, 0.7], 3, [1; 3]);
    assert_eq!(back, [0.1, 0.7, 0.2, 1.0]);
}

fn predictor(weights: &Weights, network: Network, mirror: [bool; 3]) -> Predictor {
    let mut plan = support::plan();
    plan.patch = [8; 3];
    plan.channels = 2;
    let options = WindowOptions { mirrors: Mirrors::along(mirror), ..WindowOptions::default() };
    Predictor::new(&plan, vec![(network, weights)], options, &Device::Cpu).unwrap()
}

fn scan(edges: [usize; 3]) -> Sample {
    let [x, y, z] = edges;
    let values = uniform(2 * x * y * z, 9).into_iter().map(|v| v as f32).collect();
    let labels = Array3::from_shape_fn((x, y, z), |(x, y, z)| ((x + y + z) % 3) as u8);
    support::sample("scan", Array4::from_shape_vec((2, x, y, z), values).unwrap(), labels)
}

fn probabilities(predictor: &Predictor, sample: &Sample) -> Vec<f32> {
    let mut all = Vec::new();
    predictor.predict(
        sample,
        &mut |planes| all.extend(planes.permuted_axes([1, 2, 3, 0]).iter()),
        &mut |_| {},
    );
    all
}

#[test]
fn the_eight_mirror_images_alike_are_mirroring() {
    let network = crate::meta::network();
    let weights = weights(&network);
    let choices = MIRRORS.map(|choice| policy().groups[0].choices[choice].clone());
    let group = Group { name: "mirrors".to_owned(), choices: choices.into() };
    let mirrors = Policy { groups: vec![group], ..policy() };
    let sample = scan([11, 8, 9]);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    let plain = probabilities(&predictor(&weights, network.clone(), [false; 3]), &sample);
    let mirrored = probabilities(&predictor(&weights, network.clone(), [true; 3]), &sample);
    assert!(!close(&plain, &mirrored));
    let with = |top: usize, average: Average| {
        let predictor = predictor(&weights, network.clone(), [false; 3]);
        let views = Views::of(&mirrors, top, average, 2, [8; 3]).unwrap();
        assert_eq!(views.len(), top);
        probabilities(&predictor.with_views(views).unwrap(), &sample)
    };
    assert!(close(&with(8, Average::Probabilities), &mirrored));
    // The likeliest of equally likely ones is the first, the identity; of one alone logits average to themselves.
    assert!(close(&with(1, Average::Probabilities), &plain));
    assert!(close(&with(1, Average::Logits), &plain));
    assert!(!close(&with(8, Average::Logits), &mirrored));
}

#[test]
fn forms_that_do_not_show_the_whole_window_are_joined_by_the_identity() {
    let policy = policy();
    let alone = |choice: usize| {
        let choices = vec![policy.groups[0].choices[choice].clone()];
        let group = Group { name: "one".to_owned(), choices };
        Views::of(&Policy { groups: vec![group], ..policy.clone() }, 1, Average::Probabilities, 1, [8; 3])
    };
    // Enlarged, the rim is out of sight; scaled down, all is there.
    assert_eq!(alone(9).unwrap().names, ["scaling up 0.45", "identity"]);
    assert_eq!(alone(10).unwrap().names, ["scaling down 0.45"]);
    for choice in EXACT {
        assert_eq!(alone(choice).unwrap().len(), 1, "{choice}");
    }
}

#[test]
fn policies_of_other_data_sets_are_refused() {
    let network = crate::meta::network();
    let weights = weights(&network);
    // The network has three classes and two channels.
    let refused = |policy: &Policy, channels: usize| {
        let views = Views::of(policy, 8, Average::Probabilities, channels, [8; 3]).unwrap();
        let message =
            predictor(&weights, network.clone(), [false; 3]).with_views(views).unwrap_err().to_string();
        assert!(message.contains("segen policy test-time"), "{message}");
    };
    let context = Context { sides: Sides { pairs: vec![[2, 3]], bound: vec![] }, ..Context::default() };
    refused(&test_time(&context, TestStart::Mirrors), 2);
    let mut bright = policy();
    bright.groups[0].choices[53].logits = vec![5.0];
    refused(&bright, 3);
}

#[test]
fn a_form_that_ruins_predictions_loses_its_probability() {
    // Between the identity, a mirror image and a strong blur of the same likelihood; the network reads intensities.
    let network = crate::meta::network();
    let weights = weights(&network);
    let predictor = predictor(&weights, network, [false; 3]);
    let mut sample = scan([12; 3]);
    // What the network finds by itself is the reference: the identity is then best.
    let found = probabilities(&predictor, &sample);
    let labels: Vec<u8> = found
        .chunks_exact(3)
        .map(|p| (0..3).fold(0, |best, c| if p[c] > p[best] { c } else { best }) as u8)
        .collect();
    let labels = Array3::from_shape_vec((12, 12, 12), labels).unwrap();
    sample = support::sample("scan", sample.images, labels);
    let full = policy();
    let choices = [0, 29, 73].map(|choice| {
        let mut choice = full.groups[0].choices[choice].clone();
        choice.logits = vec![0.0];
        choice
    });
    let start = Policy { groups: vec![Group { name: "three".to_owned(), choices: choices.into() }], ..full };
    let options = Options { updates: 30, rate: 0.1, ..Options::default() };
    let load = |_| Ok(sample.clone());
    let (learned, updates) = teach(&predictor, (1, &load), &start, &options, &Silent).unwrap();
    let p = learned.probabilities(0, 0);
    assert_eq!(updates, 30);
    assert!(p[0] > 0.5 && p[1] < 1.0 / 3.0 && p[2] < 1.0 / 3.0, "{p:?}");
    let (again, _) = teach(&predictor, (1, &load), &start, &options, &Silent).unwrap();
    assert_eq!(again, learned);
}
