//! The classical methods that minimise an energy, against plain NumPy and against the properties that they must have.
//! References: `tests/reference/make_classical_energy.py`.

use std::path::Path;

use ndarray::{Array4, ArrayView4};
use segen::classic::Region;
use segen::classic::chan_vese::{Evidence, Surface};
use segen::classic::graph_cut::energy::{ALL, Energy, FACES, Penalty};
use segen::classic::graph_cut::max_flow::Network;
use segen::classic::graph_cut::minimise;
use segen::classic::intensity::{Component, Intensity, Mixture};
use segen::classic::level_set::{BAND, Front};
use segen::classic::mrf::{Field, Model};
use segen::classic::snake::fill::fill;
use segen::classic::snake::flow::flow;
use segen::classic::snake::mesh::Springs;
use segen::classic::snake::surface::{Mesh, surface};
use segen::classic::stencil::Grid;
use serde_json::Value;

fn reference() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/classical_energy.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A hash of a place, in [0, 1).
fn noise(x: usize, y: usize, z: usize) -> f64 {
    let mut n = (x as u32).wrapping_mul(73_856_093)
        ^ (y as u32).wrapping_mul(19_349_663)
        ^ (z as u32).wrapping_mul(83_492_791);
    n = (n ^ (n >> 13)).wrapping_mul(1_274_126_177);
    n ^= n >> 16;
    f64::from(n % 65536) / 65536.0
}

/// The places of a box, z fastest.
fn places([nx, ny, nz]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..nx).flat_map(move |x| (0..ny).flat_map(move |y| (0..nz).map(move |z| [x, y, z])))
}

fn integers<T: TryFrom<i64>>(value: &Value) -> Vec<T> {
    value.as_array().unwrap().iter().map(|n| T::try_from(n.as_i64().unwrap()).ok().unwrap()).collect()
}

#[test]
fn the_flow_of_the_textbook_is_found() {
    // Four inner nodes, each a neighbour of all others where corners count.
    let at = [0, 1, 2, 3];
    let mut network = Network::<26>::new([2, 2, 1], &ALL);
    for (node, source) in [(at[0], 16), (at[1], 13), (at[2], -20), (at[3], -4)] {
        network.add_terminal(node, source);
    }
    let place = |node: u32| [(node / 2) as i32, (node % 2) as i32, 0];
    let capacities = [(0, 1, 0, 4), (0, 2, 12, 0), (1, 2, 0, 9), (1, 3, 14, 0), (2, 3, 0, 7)];
    for (from, to, there, back) in capacities {
        let away: [i32; 3] = std::array::from_fn(|a| place(to)[a] - place(from)[a]);
        match ALL.iter().position(|line| *line == away) {
            Some(k) => network.set_edge(from, k, there, back),
            None => {
                let k = ALL.iter().position(|line| *line == away.map(|d| -d)).unwrap();
                network.set_edge(to, k, back, there);
            }
        }
    }
    assert_eq!(network.solve(), reference()["textbook_flow"].as_i64().unwrap());
}

/// Data terms of `noise`, in millionths.
fn small_energy(classes: usize, lambda: f64) -> Energy {
    let shape = [3, 2, 2];
    let whole = |cost: f64| (cost * 1e6).round() as i32;
    let data = (0..classes)
        .map(|k| places(shape).map(|[x, y, z]| whole(noise(x + 10 * k, y + 10 * k, z + 10 * k))).collect());
    let penalty = Penalty::Even([1.0, 1.0, 2.0].iter().map(|s| whole(lambda / s)).collect());
    Energy { shape, lines: &FACES, data: data.collect(), penalty }
}

#[test]
fn expansion_ends_where_brute_force_says() {
    for entry in reference()["expansion"].as_array().unwrap() {
        let lambda = entry["lambda"].as_f64().unwrap();
        for classes in [2, 3] {
            let energy = small_energy(classes, lambda);
            if classes == 3 {
                assert_eq!(energy.cheapest(), integers::<u8>(&entry["start"]));
            }
            let labels = minimise(&energy);
            let value = energy.value(&labels) as f64 / 1e6;
            let (least, best) = (format!("minimum of {classes}"), format!("labels of {classes}"));
            if classes == 3 && lambda == 0.25 {
                // Expansion in this order stops above the minimum.
                assert!((value - 4.142_379_760_74).abs() < 2e-5, "{value}");
                assert_eq!(labels, [1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0]);
            } else {
                assert!((value - entry[least].as_f64().unwrap()).abs() < 2e-5, "{lambda} {classes} {value}");
                assert_eq!(labels, integers::<u8>(&entry[best]), "{lambda} {classes}");
            }
        }
    }
}

/// Two classes, a noisy ball.
fn ball(shape: [usize; 3], centre: [f64; 3], z: f64, (radius, width): (f64, f64), costs: [i32; 3]) -> Energy {
    let share = |place: [usize; 3]| {
        let away = std::array::from_fn::<f64, 3, _>(|a| place[a] as f64 - centre[a]);
        let r = (away[0] * away[0] + away[1] * away[1] + z * z * away[2] * away[2]).sqrt();
        let [x, y, z] = place;
        (0.5 / (1.0 + ((r - radius) / width).exp()) + 0.5 * noise(x, y, z)).clamp(1e-4, 1.0 - 1e-4)
    };
    let whole = |q: f64| (-1000.0 * q.ln()).round() as i32;
    let data = vec![
        places(shape).map(|place| whole(1.0 - share(place))).collect(),
        places(shape).map(|place| whole(share(place))).collect(),
    ];
    Energy { shape, lines: &FACES, data, penalty: Penalty::Even(costs.to_vec()) }
}

#[test]
fn the_best_cut_of_a_noisy_ball_is_that_of_pymaxflow() {
    let expected = &reference()["cut"];
    let energy = ball([24, 22, 20], [11.0, 10.0, 9.0], 2.0, (7.0, 2.0), [800, 800, 400]);
    let sums: Vec<i64> = energy.data.iter().map(|costs| costs.iter().map(|&c| i64::from(c)).sum()).collect();
    assert_eq!(sums, integers::<i64>(&expected["sums"]));
    let labels = minimise(&energy);
    assert_eq!(energy.value(&labels), expected["energy"].as_i64().unwrap());
    assert_eq!(labels.iter().filter(|&&l| l == 1).count() as u64, expected["voxels"].as_u64().unwrap());
}

#[test]
fn a_large_cut_is_that_of_pymaxflow() {
    let expected = &reference()["large_cut"];
    let energy = ball([128; 3], [63.5; 3], 1.0, (35.0, 6.0), [800; 3]);
    let labels = minimise(&energy);
    assert_eq!(energy.value(&labels), expected["energy"].as_i64().unwrap());
    assert_eq!(labels.iter().filter(|&&l| l == 1).count() as u64, expected["voxels"].as_u64().unwrap());
}

#[test]
fn expansions_never_raise_the_energy_and_leave_no_better_move_of_one_voxel() {
    for (seed, lines) in (0..40_usize).flat_map(|seed| [(seed, &FACES[..]), (seed, &ALL[..])]) {
        let shape = [3 + seed % 3, 2 + seed % 2, 1 + seed % 4];
        let cost = |k: usize, scale: f64| {
            move |[x, y, z]: [usize; 3]| (noise(x + 97 * seed, y + 13 * k, z) * scale) as i32
        };
        let energy = Energy {
            shape,
            lines: if lines.len() == 3 { &FACES } else { &ALL },
            data: (0..3 + seed % 2).map(|k| places(shape).map(cost(k, 1000.0)).collect()).collect(),
            penalty: Penalty::Each(
                (0..lines.len()).map(|k| places(shape).map(cost(50 + k, 300.0)).collect()).collect(),
            ),
        };
        let mut labels = energy.cheapest();
        let mut value = energy.value(&labels);
        loop {
            let before = value;
            for class in 0..energy.data.len() as u8 {
                let moved = energy.expand(&mut labels, class);
                let after = energy.value(&labels);
                assert!(if moved { after < value } else { after == value }, "{seed}: {value} to {after}");
                value = after;
            }
            if value == before {
                break;
            }
        }
        for i in 0..labels.len() {
            for class in 0..energy.data.len() as u8 {
                let mut other = labels.clone();
                other[i] = class;
                assert!(energy.value(&other) >= value, "{seed}: voxel {i} would rather be {class}");
            }
        }
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

/// `found` at some places, its sum and how many voxels are inside, against an entry of the reference; `tolerance` is
/// that of a voxel, and so many voxels may be on the other side.
fn compare(found: &[f32], at: &[usize], inside: usize, entry: &Value, tolerance: f64, others: usize) {
    for (&i, value) in at.iter().zip(numbers(&entry["values"])) {
        assert!((f64::from(found[i]) - value).abs() < tolerance, "voxel {i}: {} and {value}", found[i]);
    }
    let sum: f64 = found.iter().map(|&value| f64::from(value)).sum();
    let expected = entry["sum"].as_f64().unwrap();
    assert!((sum - expected).abs() < tolerance * found.len() as f64, "sum {sum} and {expected}");
    let expected = entry["inside"].as_u64().unwrap() as usize;
    assert!(inside.abs_diff(expected) <= others, "{inside} voxels inside and {expected}");
}

struct LevelSet {
    grid: Grid,
    stop: Vec<f32>,
    start: Vec<bool>,
}

impl LevelSet {
    fn new(spacing: [f64; 3], sharpness: f32) -> Self {
        let shape = [12, 11, 10];
        let grid = Grid::new(shape, spacing);
        let image = places(shape).map(|[x, y, z]| {
            let away = [x as f64 - 5.0, y as f64 - 5.0, z as f64 - 4.0];
            let r = (0..3).map(|a| (away[a] * spacing[a]).powi(2)).sum::<f64>().sqrt();
            (1.0 / (1.0 + (-(3.5 - r) / 0.5).exp()) + 0.05 * noise(x, y, z)) as f32
        });
        let image: Vec<f32> = image.collect();
        let square = |i| grid.gradient(&image, i).iter().map(|d| d * d).sum::<f32>();
        let stop = (0..grid.len()).map(|i| 1.0 / (1.0 + sharpness * square(i))).collect();
        let start =
            places(shape).map(|[x, y, z]| (3..8).contains(&x) && (3..8).contains(&y) && (3..6).contains(&z));
        let start = start.collect();
        Self { grid, stop, start }
    }

    fn front(&self, radius: Option<usize>) -> Front<'_> {
        Front::new(&self.grid, &self.stop, &self.start, radius)
    }
}

#[test]
fn level_sets_evolve_as_in_numpy_and_within_a_band_end_the_same() {
    let at = [[5, 5, 4], [2, 5, 4], [8, 5, 4], [0, 0, 0]].map(|[x, y, z]: [usize; 3]| (x * 11 + y) * 10 + z);
    for (name, spacing) in [("level_set", [1.0, 1.0, 1.0]), ("level_set_thick", [1.0, 1.0, 2.0])] {
        let (case, expected) = (LevelSet::new(spacing, 100.0), &reference()[name]);
        let (mut whole, mut band) = (case.front(None), case.front(Some(BAND)));
        let (mu, lambda, nu) = (0.2, 0.5, -0.75);
        let step = whole.step(mu, lambda, nu);
        assert!((step - expected["step"].as_f64().unwrap()).abs() < 1e-9, "{step}");
        for iteration in 1..=200_usize {
            whole.evolve(step, mu, lambda, nu);
            band.evolve(step, mu, lambda, nu);
            if let Some(entry) = expected.get(iteration.to_string()) {
                let inside = whole.phi.iter().filter(|&&phi| phi < 0.0).count();
                let (tolerance, others) = if iteration < 200 { (2e-4, 0) } else { (0.02, 2) };
                compare(&whole.phi, &at, inside, entry, tolerance, others);
            }
        }
        let differ =
            |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| (**a < 0.0) != (**b < 0.0)).count();
        assert_eq!(differ(&whole.phi, &band.phi), 0, "{name}");
        let labels = integers::<u8>(&expected["labels"]);
        let wrong =
            whole.phi.iter().zip(labels).filter(|(phi, label)| (**phi < 0.0) != (*label == 1)).count();
        assert!(wrong <= 2, "{wrong}");
    }
}

#[test]
fn a_strong_balloon_leaks_and_a_strong_curvature_collapses() {
    for (name, sharpness, lambda, steps) in
        [("level_set_leak", 100.0, 0.5, 200), ("level_set_collapse", 25.0, 2.0, 100)]
    {
        let (case, expected) = (LevelSet::new([1.0; 3], sharpness), &reference()[name]);
        let mut front = case.front(None);
        for _ in 0..steps {
            front.evolve(expected["step"].as_f64().unwrap(), 0.2, lambda, -1.0);
        }
        let inside = front.phi.iter().filter(|&&phi| phi < 0.0).count();
        let entry = expected[steps.to_string()]["inside"].as_u64().unwrap() as usize;
        assert!(inside.abs_diff(entry) <= if entry == 0 { 0 } else { 3 }, "{inside} and {entry}");
    }
}

/// Runs Chan and Vese's evolution on an image whose values are scaled to 0 to 1.
fn chan_vese(name: &str, grid: Grid, mut image: Vec<f64>, start: Vec<f64>, at: &[usize]) {
    let (low, high) = image.iter().fold((f64::MAX, f64::MIN), |(low, high), &y| (low.min(y), high.max(y)));
    image.iter_mut().for_each(|y| *y = (*y - low) / (high - low));
    let images = [image];
    let evidence = Evidence { images: &images, fixed: None };
    let mut surface = Surface { domain: vec![true; grid.len()], grid: &grid, phi: start };
    let expected = &reference()[name];
    for iteration in 1..=100 {
        let (_, means) = surface.evolve(&evidence, 0.25);
        let Some(entry) = expected.get(iteration.to_string()) else { continue };
        let inside = surface.phi.iter().filter(|&&phi| phi > 0.0).count();
        let phi: Vec<f32> = surface.phi.iter().map(|&phi| phi as f32).collect();
        compare(&phi, at, inside, entry, 3e-4, 0);
        for (mean, expected) in means[0].into_iter().zip(numbers(&entry["means"])) {
            assert!((mean - expected).abs() < 1e-6, "{iteration}: mean {mean} and {expected}");
        }
    }
}

/// The sine of the starts' waves.
fn wave(i: usize) -> f64 {
    (std::f64::consts::PI * i as f64 / 5.0).sin()
}

#[test]
fn regions_evolve_as_in_scikit_image_on_a_plane() {
    let shape = [16, 14, 1];
    let block = |[x, y, _]: [usize; 3]| f64::from(u8::from((4..11).contains(&x) && (3..9).contains(&y)));
    let image: Vec<f64> = places(shape).map(|p| block(p) + 0.2 * noise(p[0], p[1], 0)).collect();
    let start: Vec<f64> = places(shape).map(|[x, y, _]| wave(x) * wave(y)).collect();
    let at = [[0, 0], [7, 5], [3, 3], [15, 13]].map(|[x, y]: [usize; 2]| x * 14 + y);
    chan_vese("chan_vese_flat", Grid::new(shape, [1.0; 3]), image.clone(), start.clone(), &at);
    chan_vese("chan_vese_flat", Grid::new([1, 16, 14], [1.0; 3]), image, start, &at);
}

#[test]
fn regions_evolve_as_in_numpy_in_space() {
    let shape = [12, 10, 8];
    let inside = |[x, y, z]: [usize; 3]| (3..9).contains(&x) && (3..7).contains(&y) && (2..6).contains(&z);
    let image = places(shape).map(|p| f64::from(u8::from(inside(p))) + 0.3 * noise(p[0], p[1], p[2]));
    let start = places(shape).map(|[x, y, z]| wave(x) * wave(y) * wave(z));
    let at = [[6, 5, 4], [0, 0, 0], [3, 3, 2], [11, 9, 7]].map(|[x, y, z]: [usize; 3]| (x * 10 + y) * 8 + z);
    let grid = Grid::new(shape, [1.0, 1.0, 2.0]);
    chan_vese("chan_vese_solid", grid, image.collect(), start.collect(), &at);
}

#[test]
fn the_random_field_learns_as_in_numpy() {
    let (shape, spacing, expected) = ([8, 7, 6], [1.0, 1.0, 2.0], &reference()["markov"]);
    let truth = |[x, y, _]: [usize; 3]| if x < 3 { 0 } else { 1 + usize::from(y >= 4) };
    let image = places(shape).map(|p| {
        let [x, y, z] = p;
        let noise = 40.0 * (noise(x, y, z) - 0.5) + 20.0 * (noise(x + 100, y, z) - 0.5);
        ([20.0, 50.0, 90.0][truth(p)] + noise) as f32
    });
    let images = Array4::from_shape_vec((1, 8, 7, 6), image.collect()).unwrap();
    let prior = Array4::from_elem((3, 8, 7, 6), 1.0_f32 / 3.0);
    let none = ArrayView4::from_shape((0, 8, 7, 6), &[]).unwrap();
    let region = Region { images: images.view(), prior: prior.view(), likelihood: none, spacing };
    let class = |mean| Mixture {
        components: vec![Component { weight: 1.0, mean: vec![mean], covariance: vec![225.0] }],
    };
    let intensity = Intensity { classes: [25.0, 55.0, 85.0].map(class).to_vec(), variance: vec![900.0] };
    let mut model = Model::new(&region, intensity, 0.0);
    let mut field = Field::new(shape, spacing, 0.6, 3);
    model.costs(&mut field);
    field.cheapest();
    // Ours counts the prior and the constant of a Gaussian.
    let constant = 336.0 * (0.5 * std::f64::consts::TAU.ln() + 3.0_f64.ln());
    let check = |field: &Field, entry: &Value| {
        let energy = entry["energy"].as_f64().unwrap();
        assert!(
            (field.energy() - constant - energy).abs() < 1e-2,
            "{} and {energy}",
            field.energy() - constant
        );
        let count = |k: u8| field.labels().iter().filter(|&&label| label == k).count() as i64;
        assert_eq!([0, 1, 2].map(count).to_vec(), integers::<i64>(&entry["voxels"]));
    };
    check(&field, &expected["start"]);
    for cycle in 1..=10 {
        model.costs(&mut field);
        let sweeps = field.settle(20);
        let posterior = field.probabilities();
        let entry = expected.get(cycle.to_string());
        if let Some(entry) = entry {
            check(&field, entry);
            assert_eq!(sweeps as u64, entry["sweeps"].as_u64().unwrap());
            for (k, p) in numbers(&entry["posterior"]).into_iter().enumerate() {
                assert!((f64::from(posterior[[k, 3, 4, 3]]) - p).abs() < 1e-5);
            }
        }
        model.learn(&field);
        let Some(entry) = entry else { continue };
        let found = model.intensity.classes.iter().map(|mixture| &mixture.components[0]);
        let values = numbers(&entry["means"]).into_iter().zip(numbers(&entry["deviations"]));
        for (component, (mean, deviation)) in found.zip(values) {
            assert!((component.mean[0] - mean).abs() < 1e-3, "{} and {mean}", component.mean[0]);
            assert!((component.covariance[0].sqrt() - deviation).abs() < 1e-3);
        }
    }
}

#[test]
fn the_gradient_vector_flow_is_that_of_a_direct_solution() {
    let (shape, spacing, expected) = ([8, 7, 6], [1.0, 1.0, 2.0], &reference()["flow"]);
    let edge = places(shape).map(|[x, y, z]| {
        let away = [x as f64 - 3.0, y as f64 - 3.0, 2.0 * (z as f64 - 2.0)];
        let r = away.iter().map(|d| d * d).sum::<f64>().sqrt();
        (-(r - 2.0).powi(2)).exp() as f32
    });
    let found = flow(&edge.collect::<Vec<_>>(), &Grid::new(shape, spacing), 0.2);
    for (point, values) in
        expected["points"].as_array().unwrap().iter().zip(expected["values"].as_array().unwrap())
    {
        let p = integers::<usize>(point);
        let i = (p[0] * 7 + p[1]) * 6 + p[2];
        for (field, value) in found.iter().zip(numbers(values)) {
            assert!((f64::from(field[i]) - value).abs() < 1e-4, "{p:?}: {} and {value}", field[i]);
        }
    }
    let squares: f64 = found.iter().flatten().map(|&v| f64::from(v).powi(2)).sum();
    assert!((squares / expected["squares"].as_f64().unwrap() - 1.0).abs() < 1e-3);
    let still = flow(&[0.5; 336], &Grid::new(shape, spacing), 0.2);
    assert!(still.iter().flatten().all(|&v| v == 0.0));
}

#[test]
fn tension_and_stiffness_relax_a_ring_and_an_icosahedron_as_dense_matrices_do() {
    let expected = &reference()["relaxation"];
    let ring: Vec<[f64; 3]> = (0..16)
        .map(|k| {
            let t = std::f64::consts::TAU * f64::from(k) / 16.0;
            [10.0 + 5.0 * t.cos(), 8.0 + 3.0 * t.sin() + 0.5 * (3.0 * t).cos(), 0.0]
        })
        .collect();
    let pairs = (0..16_u32).flat_map(|i| [[i, (i + 1) % 16], [(i + 1) % 16, i]]).collect();
    let springs = Springs::new(16, pairs, 1.0);
    let mut points = ring;
    for times in 1..=10 {
        let wanted = points.clone();
        springs.relax(&mut points, &wanted, 2.0, 0.2, 0.1);
        let name = match times {
            1 => "ring",
            10 => "ring after ten",
            _ => continue,
        };
        for (point, values) in points.iter().zip(expected[name].as_array().unwrap()) {
            for (found, value) in point.iter().zip(numbers(values)) {
                assert!((found - value).abs() < 1e-7, "{found} and {value}");
            }
        }
    }
    let golden = (1.0 + 5.0_f64.sqrt()) / 2.0;
    let length = (1.0 + golden * golden).sqrt();
    let mut points: Vec<[f64; 3]> = Vec::new();
    for (a, b) in [(1.0, golden), (1.0, -golden), (-1.0, golden), (-1.0, -golden)] {
        points.extend([[0.0, a, b], [a, b, 0.0], [b, 0.0, a]].map(|p| p.map(|x| x / length)));
    }
    let near = |p: &[f64; 3], q: &[f64; 3]| (0..3).map(|a| (p[a] - q[a]).powi(2)).sum::<f64>() < 1.2;
    let all = (0..12_u32).flat_map(|i| (0..12_u32).map(move |j| [i, j]));
    let pairs = all.filter(|[i, j]| i != j && near(&points[*i as usize], &points[*j as usize])).collect();
    let wanted = points.clone();
    Springs::new(12, pairs, 1.0 / 6.0).relax(&mut points, &wanted, 0.3, 0.4, 0.2);
    for point in points {
        let radius = point.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((radius - expected["icosahedron"].as_f64().unwrap()).abs() < 1e-9, "{radius}");
    }
}

#[test]
fn the_surface_of_a_ball_is_closed_and_as_large_as_it_should_be() {
    for (name, shape, spacing) in
        [("nets", [25, 25, 25], [1.0, 1.0, 1.0]), ("nets_thick", [25, 25, 15], [1.0, 1.0, 2.0])]
    {
        let centre = shape.map(|n| (n / 2) as f64);
        let r = |p: [usize; 3]| {
            (0..3).map(|a| ((p[a] as f64 - centre[a]) * spacing[a]).powi(2)).sum::<f64>().sqrt()
        };
        let field: Vec<f32> = places(shape).map(|p| (10.0 - r(p)) as f32).collect();
        let grid = Grid::new(shape, spacing);
        let Mesh { vertices, triangles } = surface(&field, &grid);
        let expected = &reference()[name];
        assert_eq!(vertices.len() as u64, expected["vertices"].as_u64().unwrap());
        assert_eq!(triangles.len() as u64, expected["triangles"].as_u64().unwrap());
        let sides = triangles.iter().flat_map(|&[a, b, c]| [[a, b], [b, c], [c, a]]);
        let mut edges: Vec<_> = sides.map(|[a, b]| [a.min(b), a.max(b)]).collect();
        edges.sort_unstable();
        edges.dedup();
        assert_eq!(vertices.len() + triangles.len() - edges.len(), 2);
        let mesh = Mesh { vertices, triangles };
        let close = |found: f64, name: &str| {
            let value = expected[name].as_f64().unwrap();
            assert!((found / value - 1.0).abs() < 1e-6, "{name} {found} and {value}");
        };
        close(mesh.volume(), "volume");
        close(mesh.area(), "area");
        // Filled, it is the ball again, but for voxels on the surface itself.
        let filled = fill(&mesh, &grid);
        let wrong = filled.iter().zip(&field).filter(|(inside, depth)| **inside != (**depth > 0.0));
        assert!(wrong.clone().all(|(_, depth)| depth.abs() < 0.1), "{:?}", wrong.count());
    }
}
