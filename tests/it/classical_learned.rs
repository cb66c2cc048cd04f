//! Forest, label fusion, sparse coding and features against scikit-learn, SimpleITK, NumPy and SciPy; values by
//! `tests/reference/make_classical_learned.py`.

use std::path::Path;

use ndarray::{Array1, Array2, Array3, Array4, Axis, s};
use safetensors::SafeTensors;
use segen::classic::features::{Bank, Kind};
use segen::classic::forest::{CaseRows, Draw, Forest, NodeFeatures, Options, Stratum, Table, fit, pool};
use segen::classic::fusion::{Atlas, Fusion, Joint, Local, Staple, consensus, fuse, select};
use segen::classic::sparse::coding::{Sign, Until, lasso, matching_pursuit};
use segen::classic::sparse::learn::{Learning, code, residual, sweep};
use segen::classic::sparse::{Dictionaries, Rule, Settings, by_cases, patches};
use segen::classic::{Region, Segmented};
use segen::config::classical::Selection;
use serde_json::Value;

use crate::support;

fn reference() -> Value {
    serde_json::from_slice(&std::fs::read(support::data("classical_learned.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(found: impl IntoIterator<Item = f64>, expected: &[f64], tolerance: f64) {
    let found: Vec<f64> = found.into_iter().collect();
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
    assert!(found.len() == expected.len() && near, "{found:?} where {expected:?} is expected");
}

/// Noise in [0, 1), as the script makes it.
fn h(x: usize, y: usize, z: usize) -> f64 {
    let n = (x as u32).wrapping_mul(73_856_093)
        ^ (y as u32).wrapping_mul(19_349_663)
        ^ (z as u32).wrapping_mul(83_492_791);
    let n = (n ^ (n >> 13)).wrapping_mul(1_274_126_177);
    f64::from((n ^ (n >> 16)) % 65_536) / 65_536.0
}

fn noise(shape: (usize, usize, usize), from: [usize; 3]) -> Array3<f64> {
    Array3::from_shape_fn(shape, |(x, y, z)| h(x + from[0], y + from[1], z + from[2]))
}

/// The result in a pool of so many threads.
fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn sums_to_1(probabilities: &Array4<f32>) {
    let sums = probabilities.sum_axis(Axis(0));
    assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    assert!(probabilities.iter().all(|p| (0.0..=1.0 + 1e-6).contains(p)));
}

#[test]
fn a_tree_without_draws_equals_scikit_learn() {
    let reference = &reference()["tree"];
    let features = Array2::from_shape_fn((60, 4), |(row, j)| h(row, j, 1) as f32);
    let classes: Vec<u8> = numbers(&reference["classes"]).iter().map(|class| *class as u8).collect();
    let options = Options {
        trees: 1,
        depth: 3,
        leaf: 3,
        features: NodeFeatures::All,
        draw: Draw::All,
        voxels: 0,
        most: 0,
        seed: 1,
    };
    for name in ["plain", "weighted"] {
        let expected = &reference[name];
        let weights: Vec<f32> = numbers(&expected["weights"]).iter().map(|weight| *weight as f32).collect();
        let depth = expected["depth"].as_u64().unwrap() as usize;
        let table = Table::of_rows(features.view(), &classes, &weights, 3);
        let fitted = fit(&table, &Options { depth, ..options.clone() });
        close(fitted.forest.importances().iter().copied(), &numbers(&expected["importances"]), 1e-6);
        assert!(fitted.curve.is_empty() && fitted.dice.is_none(), "nothing is out of bag");
        let bytes = fitted.forest.bytes().unwrap();
        assert_eq!(Forest::read(&bytes, Path::new("forest")).unwrap(), fitted.forest);
        same_node(&SafeTensors::deserialize(&bytes).unwrap(), 0, &expected["tree"]);
        // Every row reaches the leaf that its values lead to.
        let rows = fitted.forest.probabilities(features.t());
        for (row, found) in features.rows().into_iter().zip(rows.columns()) {
            let mut node = &expected["tree"];
            while let Some(feature) = node["feature"].as_u64() {
                let left = f64::from(row[feature as usize]) <= node["threshold"].as_f64().unwrap();
                node = &node[if left { "left" } else { "right" }];
            }
            close(found.iter().map(|p| f64::from(*p)), &numbers(&node["p"]), 1e-6);
        }
    }
}

fn same_node(stored: &SafeTensors<'_>, node: usize, expected: &Value) {
    let word =
        |name: &str, at: usize| u32::from_le_bytes(stored.tensor(name).unwrap().data().as_chunks().0[at]);
    let child = word("child", node) as usize;
    if expected.get("p").is_some() {
        assert_eq!(word("feature", node), u32::MAX);
        let p = (0..3).map(|class| f64::from(f32::from_bits(word("frequencies", 3 * child + class))));
        close(p, &numbers(&expected["p"]), 1e-6);
        return;
    }
    assert_eq!(u64::from(word("feature", node)), expected["feature"].as_u64().unwrap());
    let threshold = f64::from(f32::from_bits(word("threshold", node)));
    close([threshold], &[expected["threshold"].as_f64().unwrap()], 1e-12);
    same_node(stored, child, &expected["left"]);
    same_node(stored, child + 1, &expected["right"]);
}

/// Cases of two informative features, one of noise and a constant one; three classes, the third rare.
fn cases(count: usize) -> Vec<CaseRows> {
    let case = |case: usize| {
        let (mut rows, mut strata) = (Vec::new(), Vec::new());
        for (class, n) in [(0, 400), (1, 200), (2, 40)] {
            for row in 0..n {
                let at = 1000 * case + row;
                let spread = |j: usize| (h(at, j, class) - 0.5) as f32;
                rows.push([class as f32 * 0.6 + spread(0), spread(1) - class as f32 * 0.3, spread(2), 7.0]);
            }
            strata.push(Stratum { class: class as u8, rows: n, voxels: [40_000.0, 1000.0, 80.0][class] });
        }
        CaseRows { features: Array2::from(rows).reversed_axes(), strata }
    };
    (0..count).map(case).collect()
}

fn options(draw: Draw) -> Options {
    let features = NodeFeatures::Root;
    Options { trees: 20, depth: 12, leaf: 5, features, draw, voxels: 150, most: 2000, seed: 3 }
}

#[test]
fn a_forest_is_the_same_for_any_number_of_threads_and_knows_what_it_left_out() {
    let table = Table::new(&cases(6), 3);
    let grown = |threads| with_threads(threads, || fit(&table, &options(Draw::Cases)));
    let (one, three) = (grown(1), grown(3));
    assert_eq!(one.forest.bytes().unwrap(), three.forest.bytes().unwrap());
    assert_eq!((&one.curve, one.dice), (&three.curve, three.dice));
    let first = one.curve.first().unwrap();
    let last = one.curve.last().unwrap();
    assert!(last.0 == 20 && last.1 < first.1, "more trees know better: {:?}", one.curve);
    let [without, with] = one.dice.unwrap();
    assert!(with >= without && with > 0.5, "{without} {with}");
    let importances = one.forest.importances();
    assert!(importances[0] > importances[2] && importances[1] > importances[2] && importances[3] == 0.0);
    assert!((importances.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let unseen = &cases(8)[7];
    let mut p = one.forest.probabilities(unseen.features.view());
    assert!(p.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    // Calibrated: rare classes are rare, although drawn as often.
    assert!(p.row(0).mean().unwrap() > p.row(2).mean().unwrap());
    one.forest.decide(&mut p);
    assert!(p.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    // A case is judged by the trees that did not draw it; a forest of rows has none.
    let own = cases(1).remove(0);
    let left_out = one.forest.probabilities_without(0, own.features.view()).unwrap();
    assert_ne!(left_out, one.forest.probabilities(own.features.view()));
    let rows = fit(&table, &options(Draw::Rows));
    assert!(rows.forest.probabilities_without(0, own.features.view()).is_none() && rows.dice.is_none());
}

#[test]
fn a_forest_of_one_case_one_row_or_a_class_without_voxels_predicts() {
    for (cases, classes) in [(cases(1), 4), (cases(2), 3)] {
        let fitted = fit(&Table::new(&cases, classes), &options(Draw::Rows));
        let p = fitted.forest.probabilities(cases[0].features.view());
        assert!(p.nrows() == classes && p.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        assert!(classes == 3 || p.row(3).iter().all(|p| *p == 0.0));
    }
    // A case without a voxel that counts is never drawn.
    let mut some = cases(4);
    some.insert(1, CaseRows { features: Array2::zeros((4, 0)), strata: Vec::new() });
    let forest = fit(&Table::new(&some, 3), &options(Draw::Cases)).forest;
    let p = forest.probabilities(some[0].features.view());
    assert_eq!(forest.probabilities_without(1, some[0].features.view()).unwrap(), p);
    let one = CaseRows {
        features: Array2::from_elem((2, 1), 0.5),
        strata: vec![Stratum { class: 1, rows: 1, voxels: 3.0 }],
    };
    for draw in [Draw::Rows, Draw::Cases, Draw::All] {
        let forest = fit(&Table::new(std::slice::from_ref(&one), 2), &options(draw)).forest;
        let p = forest.probabilities(Array2::from_elem((2, 3), 9.0).view());
        assert_eq!(p, ndarray::array![[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]);
        assert!(forest.importances().iter().all(|importance| *importance == 0.0));
    }
}

#[test]
fn no_damage_to_a_stored_forest_leads_a_row_astray() {
    let table = Table::new(&cases(4), 3);
    let forest = fit(&table, &Options { trees: 3, depth: 4, ..options(Draw::Cases) }).forest;
    let bytes = forest.bytes().unwrap();
    let path = Path::new("run/model/forest.safetensors");
    assert_eq!(Forest::read(&bytes, path).unwrap(), forest);
    let features = cases(1).remove(0).features;
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut refused = 0;
    for at in (data..bytes.len()).step_by(3) {
        for value in [0x00, 0x7f, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            match Forest::read(&damaged, path) {
                // What passes can be walked.
                Ok(forest) => assert_eq!(forest.probabilities(features.view()).dim(), (3, 640)),
                Err(problem) => {
                    refused += 1;
                    assert!(problem.to_string().contains("forest.safetensors"), "{problem}");
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
    for end in [0, 7, data - 1, data + 5, bytes.len() - 1] {
        assert!(Forest::read(&bytes[..end], path).is_err());
    }
}

/// Five raters of a ball.
fn ball_raters() -> Vec<Array3<u8>> {
    let balls = [
        ([4.5, 4.0, 3.5], 3.2, 0.02),
        ([4.5, 4.0, 3.5], 3.6, 0.05),
        ([5.2, 4.0, 3.5], 3.2, 0.02),
        ([4.5, 4.8, 3.5], 2.8, 0.05),
        ([4.5, 4.0, 4.5], 3.4, 0.10),
    ];
    let rater = |(n, (c, r, q)): (usize, ([f64; 3], f64, f64))| {
        Array3::from_shape_fn((10, 9, 8), |(x, y, z)| {
            let squares = [x, y, z].iter().zip(c).map(|(at, c)| (*at as f64 - c).powi(2)).sum::<f64>();
            u8::from((squares <= r * r) != (h(x, y, z + 100 * (n + 1)) < q))
        })
    };
    balls.into_iter().enumerate().map(rater).collect()
}

#[test]
fn staple_equals_simpleitk_and_over_disagreement_the_plain_form() {
    let reference = &reference()["staple"];
    let settings = Staple { everywhere: true, tolerance: 1e-9, rounds: 10_000 };
    let raters = ball_raters();
    let sums: Vec<usize> = raters.iter().map(|rater| rater.iter().map(|l| usize::from(*l)).sum()).collect();
    assert_eq!(sums, [153, 210, 148, 121, 197]);
    for (name, everywhere) in [("everywhere", true), ("disputed", false)] {
        let expected = &reference[name];
        let found = consensus(&raters, 2, Staple { everywhere, ..settings });
        let of = |class: usize| found.confusion.slice(s![.., class, class]).to_vec();
        close(of(1), &numbers(&expected["sensitivity"]), 5e-6);
        close(of(0), &numbers(&expected["specificity"]), 5e-6);
        sums_to_1(&found.probabilities);
        let agreed = if everywhere { 0 } else { 61 };
        let above = found.probabilities.index_axis(Axis(0), 1).iter().filter(|p| **p > 0.5).count();
        assert_eq!(above as u64, expected["above"].as_u64().unwrap() + agreed);
    }
    let three: Vec<Array3<u8>> = (0..4)
        .map(|n| {
            Array3::from_shape_fn((10, 9, 8), |(x, y, z)| {
                let label = match (x < 4, y as f64 + 0.5 * n as f64) {
                    (true, _) => 0,
                    (false, y) if y < 4.0 => 1,
                    _ => 2,
                };
                let changed = h(x, y + 50, z + 100 * (n + 1)) < 0.04 * (n + 1) as f64;
                if changed { (label + 1) % 3 } else { label }
            })
        })
        .collect();
    let found = consensus(&three, 3, settings);
    let expected = &reference["three"];
    close(found.prior, &numbers(&expected["prior"]), 1e-12);
    let theta = expected["theta"].as_array().unwrap().iter().flat_map(|rater| rater.as_array().unwrap());
    close(found.confusion, &theta.flat_map(numbers).collect::<Vec<f64>>(), 1e-5);
    let mut labels = [0.0; 3];
    for voxel in found.probabilities.lanes(Axis(0)) {
        let best = (0..3).fold(0, |best, class| if voxel[class] > voxel[best] { class } else { best });
        labels[best] += 1.0;
    }
    assert_eq!(labels.to_vec(), numbers(&expected["labels"]));
}

#[test]
fn local_and_joint_weights_equal_numpy() {
    let reference = &reference()["patches"];
    let p: Vec<Array3<f64>> = (0..4).map(|n| noise((3, 3, 3), [0, 0, 50 * n])).collect();
    let image = |a: f64, other: usize| {
        (&p[0] * a + &p[other] * (1.0 - a)).mapv(|value| value as f32).insert_axis(Axis(0))
    };
    let images = [image(0.7, 1), image(0.7, 2), image(0.2, 3)];
    // Each atlas has a class of its own: the answer in the middle is the weights.
    let labels: Vec<Array4<f32>> = (0..3)
        .map(|n| Array4::from_shape_fn((3, 3, 3, 3), |(class, ..)| f32::from(u8::from(class == n))))
        .collect();
    let atlases: Vec<Atlas<'_>> =
        images.iter().zip(&labels).map(|(i, l)| Atlas { images: i.view(), labels: l.view() }).collect();
    let target = image(1.0, 0);
    let middle = |fusion| {
        let fused = fuse(target.view(), &atlases, fusion);
        sums_to_1(&fused);
        fused.slice(s![.., 1, 1, 1]).mapv(f64::from).to_vec()
    };
    let local = middle(Fusion::Local(Local { radius: 1, bandwidth: 0.25 }));
    close(local, &numbers(&reference["local"]), 1e-4);
    close(middle(Fusion::Majority), &[1.0 / 3.0; 3], 1e-6);
    // Neighbours see less of the patch: only a lone voxel's weights are not averaged with theirs.
    let certain = |n: usize| {
        let own = labels[n].clone();
        Array4::from_shape_fn(own.dim(), |(class, x, y, z)| match (x, y, z) {
            (1, 1, 1) => own[[class, x, y, z]],
            _ => f32::from(u8::from(class == 0)),
        })
    };
    let labels: Vec<Array4<f32>> = (0..3).map(certain).collect();
    let atlases: Vec<Atlas<'_>> =
        images.iter().zip(&labels).map(|(i, l)| Atlas { images: i.view(), labels: l.view() }).collect();
    let joint = Joint { radius: 1, search: 0, ..Joint::default() };
    let fused = fuse(target.view(), &atlases, Fusion::Joint(joint));
    close(fused.slice(s![.., 1, 1, 1]).mapv(f64::from), &numbers(&reference["joint"]), 1e-4);
    assert_eq!(fused[[0, 0, 1, 1]], 1.0, "where atlases agree they are believed");
}

/// A soft ball of one class, moved, in an image that shows it.
fn moved_ball(shape: (usize, usize, usize), shift: f64, seed: usize) -> (Array4<f32>, Array4<f32>) {
    let inside = Array3::from_shape_fn(shape, |(x, y, z)| {
        let c = |at: usize, n: usize| at as f64 - (n - 1) as f64 / 2.0;
        let r = ((c(x, shape.0) - shift).powi(2) + c(y, shape.1).powi(2) + c(z, shape.2).powi(2)).sqrt();
        (1.0 / (1.0 + ((r - 3.0) * 2.0).exp())) as f32
    });
    let image = &inside * 2.0 + noise(shape, [seed, 0, 7]).mapv(|value| 0.3 * value as f32);
    let labels = ndarray::stack![Axis(0), inside.mapv(|p| 1.0 - p), inside];
    (image.insert_axis(Axis(0)), labels)
}

const FUSIONS: [Fusion; 5] = [
    Fusion::Majority,
    Fusion::Local(Local { radius: 2, bandwidth: 0.1 }),
    Fusion::Joint(Joint { radius: 2, search: 1, ridge: 0.1, power: 2.0 }),
    Fusion::Joint(Joint { radius: 1, search: 0, ridge: 0.0, power: 1.5 }),
    Fusion::Staple(Staple { everywhere: false, tolerance: 1e-5, rounds: 100 }),
];

#[test]
fn fusion_sums_to_1_on_every_grid_and_for_any_number_of_threads() {
    for shape in [(11, 10, 9), (1, 1, 1), (8, 7, 1), (1, 9, 8)] {
        let (target, truth) = moved_ball(shape, 0.0, 1);
        let others: Vec<_> =
            [-1.5, 1.0, 0.2].iter().enumerate().map(|(i, shift)| moved_ball(shape, *shift, 50 * i)).collect();
        let atlases: Vec<Atlas<'_>> =
            others.iter().map(|(i, l)| Atlas { images: i.view(), labels: l.view() }).collect();
        for fusion in FUSIONS {
            let one = with_threads(1, || fuse(target.view(), &atlases, fusion));
            let three = with_threads(3, || fuse(target.view(), &atlases, fusion));
            assert_eq!(one, three);
            sums_to_1(&one);
            if shape.0 == 11 {
                let hard = |p: &Array4<f32>| p.index_axis(Axis(0), 1).mapv(|p| p > 0.5);
                let (found, truth) = (hard(&one), hard(&truth));
                let both = found.iter().zip(&truth).filter(|(a, b)| **a && **b).count();
                let sizes = found.iter().chain(&truth).filter(|is| **is).count();
                assert!(2.0 * both as f64 / sizes as f64 > 0.85, "{fusion:?}");
            }
            // One atlas alone is believed.
            let alone = fuse(target.view(), &atlases[..1], fusion);
            sums_to_1(&alone);
        }
        // A constant image tells atlases apart by nothing: the mean.
        let flat = Array4::zeros(target.dim());
        let mean = fuse(flat.view(), &atlases, Fusion::Majority);
        let local = fuse(flat.view(), &atlases, FUSIONS[1]);
        assert!(shape.0 != 11 || local.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}

#[test]
fn similarities_equal_numpy_and_atlases_are_ranked_by_them() {
    let reference = &reference()["similarity"];
    let shape = (16, 14, 12);
    let blob = |c: [f64; 3]| {
        Array3::from_shape_fn(shape, |(x, y, z)| {
            let parts = [(x as f64 - c[0]) / 3.0, (y as f64 - c[1]) / 4.0, (z as f64 - c[2]) * 1.5 / 5.0];
            100.0 * (-0.5 * parts.iter().map(|part| part * part).sum::<f64>()).exp()
        })
    };
    let f = (blob([7.5, 6.5, 5.5]) + 10.0 * noise(shape, [0; 3])).mapv(|v| v as f32).insert_axis(Axis(0));
    let m = (200.0 - 1.5 * blob([8.3, 6.1, 5.9]) + 10.0 * noise(shape, [200, 0, 0])).mapv(|v| v as f32);
    let m = m.insert_axis(Axis(0));
    let everywhere = Array3::from_elem(shape, true);
    let of = |measure| select::similarity(f.view(), m.view(), everywhere.view(), measure);
    close([of(Selection::Ncc)], &[reference["ncc"].as_f64().unwrap()], 1e-5);
    close([of(Selection::Nmi)], &[reference["nmi"].as_f64().unwrap()], 1e-4);
    // Foreground at one voxel of 1 x 1 x 1.5 mm: those within 2 mm of it.
    let mut prior = Array4::zeros((2, 7, 7, 7));
    prior[[1, 3, 3, 3]] = 0.5;
    let place = select::place(prior.view(), [1.0, 1.0, 1.5]);
    assert_eq!(place.iter().filter(|is| **is).count(), 13 + 2 * 5);
    assert!(select::place(Array4::zeros((2, 2, 1, 1)).view(), [1.0; 3]).iter().all(|is| *is));
    let smooth = select::smoothed(f.view(), [1.0, 1.0, 1.5]);
    assert!(smooth.dim() == f.dim() && smooth.std(0.0) < f.std(0.0));
    assert_eq!(select::most_similar(&[0.1, f64::NAN, 0.5, 0.5], 3), [2, 3, 0]);
    assert_eq!(select::most_similar(&[0.1], 12), [0]);
    let drawn = select::drawn(20, 12, 1, "case");
    assert!(
        drawn.len() == 12
            && drawn == select::drawn(20, 12, 1, "case")
            && drawn != select::drawn(20, 12, 2, "case")
    );
    let alike = ndarray::array![
        [1.0, 0.9, 0.1, 0.2],
        [0.9, 1.0, 0.3, 0.2],
        [0.1, 0.3, 1.0, 0.8],
        [0.2, 0.2, 0.8, 1.0]
    ];
    assert_eq!(select::farthest_first(alike.view(), 2), [1, 3]);
    assert_eq!(select::farthest_first(alike.view(), 9).len(), 4);
}

/// Columns of noise, (atom, value), of norm 1 where wanted.
fn columns(rows: usize, count: usize, seed: usize, unit: bool) -> Array2<f64> {
    let mut atoms = Array2::from_shape_fn((count, rows), |(j, i)| h(i, j, seed) - 0.5);
    for mut atom in atoms.rows_mut().into_iter().filter(|_| unit) {
        let norm = atom.dot(&atom).sqrt();
        atom.mapv_inplace(|value| value / norm);
    }
    atoms
}

#[test]
fn sparse_codes_equal_scikit_learn() {
    let reference = &reference()["coding"];
    let d = columns(12, 20, 21, true);
    let bit = Array1::from_shape_fn(12, |i| 0.05 * (h(i, 0, 77) - 0.5));
    let mut y = 0.8 * &d.row(3) + 0.5 * &d.row(7) + bit;
    y /= y.dot(&y).sqrt();
    let gram = d.dot(&d.t()).iter().copied().collect::<Vec<f64>>();
    let correlations = d.dot(&y).to_vec();
    let until = Until { sweeps: 100_000, change: 1e-14 };
    for (name, sign) in [("lasso", Sign::Any), ("positive", Sign::NonNegative)] {
        let x = lasso(&gram, &correlations, 0.05, sign, until);
        close(x, &numbers(&reference[name]["x"]), 1e-8);
    }
    let mut x = vec![0.0; 20];
    matching_pursuit(&gram, &correlations, 3).into_iter().for_each(|(atom, value)| x[atom] = value);
    close(x, &numbers(&reference["omp"]), 1e-10);
    assert!(matching_pursuit(&gram, &[0.0; 20], 3).is_empty());
    // An atom that is there twice is chosen once.
    let twice = matching_pursuit(&[1.0, 1.0, 1.0, 1.0], &[0.5, 0.5], 2);
    assert_eq!(twice, [(0, 0.5)]);
}

#[test]
fn a_sweep_of_k_svd_equals_singular_vectors() {
    let reference = &reference()["coding"]["ksvd"];
    let mut d = columns(12, 6, 31, true);
    let y = columns(12, 40, 41, false);
    let mut codes = code(d.view(), y.view(), 2);
    let error = |d: &Array2<f64>, codes: &[_]| residual(d.view(), y.view(), codes).mapv(|v| v * v).sum();
    close([error(&d, &codes)], &[reference["before"].as_f64().unwrap()], 1e-9);
    let mut uses = [0.0; 6];
    codes.iter().flatten().for_each(|(atom, _)| uses[*atom] += 1.0);
    assert_eq!(uses.to_vec(), numbers(&reference["uses"]));
    let (mut short, mut short_codes) = (d.clone(), codes.clone());
    sweep(&mut d, y.view(), &mut codes, 1000);
    close([error(&d, &codes)], &[reference["after"].as_f64().unwrap()], 1e-8);
    close(d.row(0).to_vec(), &numbers(&reference["atom"]), 1e-8);
    sweep(&mut short, y.view(), &mut short_codes, 10);
    let after = error(&short, &short_codes);
    assert!(after < 1.02 * reference["after"].as_f64().unwrap(), "ten steps come near: {after}");
    // An atom that no patch uses becomes a patch.
    codes.iter_mut().for_each(|code| code.retain(|(atom, _)| *atom != 2));
    sweep(&mut d, y.view(), &mut codes, 10);
    assert!((d.row(2).dot(&d.row(2)) - 1.0).abs() < 1e-12);
    assert!(y.rows().into_iter().any(|row| (row.dot(&d.row(2)) / row.dot(&row).sqrt() - 1.0).abs() < 1e-9));
}

#[test]
fn sparse_representation_finds_the_ball_from_cases_and_from_dictionaries() {
    for shape in [(13, 12, 11), (1, 1, 1), (9, 8, 1)] {
        let (target, truth) = moved_ball(shape, 0.0, 1);
        let others: Vec<_> = (0..4).map(|i| moved_ball(shape, 0.5 * i as f64 - 0.75, 50 * i + 50)).collect();
        let atlases: Vec<Atlas<'_>> =
            others.iter().map(|(i, l)| Atlas { images: i.view(), labels: l.view() }).collect();
        let prior = moved_ball(shape, 1.5, 0).1.mapv(|p| 0.02 + 0.96 * p);
        let likelihood = Array4::zeros(prior.dim());
        let spacing = [1.0, 1.0, 1.0];
        let region =
            Region { images: target.view(), prior: prior.view(), likelihood: likelihood.view(), spacing };
        let foreground: Vec<[u32; 3]> = pool_voxels(&others[0].1, true);
        let background = pool_voxels(&others[0].1, false);
        let of = |voxels: &[[u32; 3]]| patches(others[0].0.view(), spacing, 2, voxels);
        let settings = Learning { atoms: 32, nonzero: 4, rounds: 3, ..Learning::default() };
        let learned = Dictionaries::learn(&[of(&background), of(&foreground)], 2, settings);
        let path = Path::new("dictionary");
        assert_eq!(Dictionaries::read(&learned.bytes().unwrap(), path).unwrap(), learned);
        assert!(Dictionaries::read(&learned.bytes().unwrap()[..50], path).is_err());
        let check = |work: &(dyn Fn() -> Segmented + Sync)| {
            let (one, three) = (with_threads(1, work), with_threads(3, work));
            assert_eq!(one.probabilities, three.probabilities);
            sums_to_1(&one.probabilities);
            let wrong = |p: &Array4<f32>| {
                let pairs = p.index_axis(Axis(0), 1).into_iter().zip(truth.index_axis(Axis(0), 1));
                pairs.filter(|(a, b)| (**a > 0.5) != (**b > 0.5)).count()
            };
            assert!(
                shape.2 < 11 || 2 * wrong(&one.probabilities) < wrong(&prior),
                "{}",
                wrong(&one.probabilities)
            );
        };
        for rule in [Rule::Vote, Rule::Residual] {
            check(&|| by_cases(&region, &atlases, Settings { rule, ..Settings::default() }));
        }
        if shape != (1, 1, 1) {
            assert!(learned.fit(&region));
            let (one, three) =
                (with_threads(1, || learned.segment(&region)), with_threads(3, || learned.segment(&region)));
            assert_eq!(one.probabilities, three.probabilities);
            sums_to_1(&one.probabilities);
        }
    }
}

/// Voxels of a soft label map in the ball, or around it.
fn pool_voxels(labels: &Array4<f32>, inside: bool) -> Vec<[u32; 3]> {
    let hard = labels.index_axis(Axis(0), 1).mapv(|p| u8::from((p > 0.5) == inside));
    let pool = pool::draw(hard.view(), [1.0; 3], 2, 300, 1, "case");
    pool.positions.into_iter().filter(|p| hard[p.map(|at| at as usize)] == 1).collect()
}

#[test]
fn features_equal_scipy_in_every_slab_and_have_names() {
    let reference = &reference()["features"];
    let volume = noise((9, 8, 7), [0; 3]).mapv(|value| value as f32).insert_axis(Axis(0));
    let spacing = [1.0, 1.0, 1.5];
    // Scales are multiples of the mean spacing, and the reference has 1 mm.
    let mean = 1.5_f64.cbrt();
    let bank = Bank { scales: vec![1.0 / mean], reach: vec![2.0 / mean] };
    let whole = bank.slab(volume.view(), None, spacing, 0..9);
    let at: Array1<f64> = whole.slice(s![.., 4, 4, 3]).mapv(f64::from);
    assert_eq!(whole.dim().0, bank.len(1));
    assert_eq!(whole[[0, 4, 4, 3]], volume[[0, 4, 4, 3]]);
    let smooth = numbers(&reference["smooth"]);
    close([at[1], f64::from(whole[[1, 0, 0, 0]])], &smooth, 1e-5);
    close([at[2]], &[reference["magnitude"].as_f64().unwrap()], 1e-5);
    close(at.slice(s![3..6]).to_vec(), &numbers(&reference["eigenvalues"]), 2e-5);
    // Two mm are two voxels, along z one (1.33).
    let step = |x: usize, y: usize, z: usize| f64::from(whole[[1, x, y, z]]) - at[1];
    let around = [step(2, 4, 3), step(6, 4, 3), step(4, 2, 3), step(4, 6, 3), step(4, 4, 2), step(4, 4, 4)];
    close(at.slice(s![6..12]).to_vec(), &around, 1e-6);
    assert!(
        whole.slice(s![6, 0..1, .., ..]).iter().all(|difference| *difference == 0.0),
        "the border repeats"
    );

    let two = ndarray::concatenate![
        Axis(0),
        noise((23, 5, 1), [9; 3]).insert_axis(Axis(0)),
        noise((23, 5, 1), [3; 3]).insert_axis(Axis(0))
    ];
    let two = two.mapv(|value| value as f32);
    let place = Array4::from_shape_fn((1, 23, 5, 1), |(_, x, ..)| x as f32);
    let bank = Bank { scales: vec![0.5, 1.0], reach: vec![2.0] };
    let whole = bank.slab(two.view(), Some(place.view()), [1.0; 3], 0..23);
    let names = bank.list(&["T1".to_owned(), "T2".to_owned()], &["x".to_owned()]);
    assert_eq!((whole.dim().0, names.len()), (bank.len(2) + 1, bank.len(2) + 1));
    assert_eq!((names[1].name.as_str(), names[names.len() - 2].kind), ("T1 smoothed 0.5", Kind::Channels));
    for planes in [0..1, 4..9, 22..23] {
        let slab = bank.slab(two.view(), Some(place.view()), [1.0; 3], planes.clone());
        assert_eq!(slab, whole.slice(s![.., planes, .., ..]));
    }
    let rows = bank.rows(two.view(), Some(place.view()), [1.0; 3], &[[22, 4, 0], [0, 1, 0]]);
    assert_eq!(rows.column(0), whole.slice(s![.., 22, 4, 0]));
    assert_eq!(rows.column(1), whole.slice(s![.., 0, 1, 0]));
    assert_eq!(Bank::default().len(1), 24);
    let one = Bank::default().slab(Array4::from_elem((1, 1, 1, 1), 2.0).view(), None, [1.0; 3], 0..1);
    assert!(one.iter().skip(4).all(|value| *value == 0.0), "nothing changes within one voxel");
}
