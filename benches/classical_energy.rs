//! Processor seconds of the parts of the energy-based classical methods, for `tests/reference/time_classical_energy.py`.
//!
//! `cargo bench --bench classical_energy -- cut` (or `markov`, `flat`, `solid`) prints the least of five runs.

use std::hint::black_box;

use ndarray::Array4;
use segen::classic::Region;
use segen::classic::chan_vese::{Evidence, Surface};
use segen::classic::graph_cut::energy::{Energy, FACES, Penalty};
use segen::classic::graph_cut::minimise;
use segen::classic::intensity::{Component, Intensity, Mixture};
use segen::classic::mrf::{Field, Model};
use segen::classic::stencil::Grid;

/// Processor time of all threads so far, in seconds; of Linux alone.
fn seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let run = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.map(run).sum::<f64>() / 1e9
}

fn least(mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = seconds();
        work();
        seconds() - start
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
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

fn places([nx, ny, nz]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..nx).flat_map(move |x| (0..ny).flat_map(move |y| (0..nz).map(move |z| [x, y, z])))
}

/// Two classes on 128^3 voxels, a noisy ball.
fn cut() -> f64 {
    let shape = [128; 3];
    let share = |p: [usize; 3]| {
        let r = p.map(|i| (i as f64 - 63.5).powi(2)).iter().sum::<f64>().sqrt();
        let noise = noise(p[0], p[1], p[2]);
        (0.5 / (1.0 + ((r - 35.0) / 6.0).exp()) + 0.5 * noise).clamp(1e-4, 1.0 - 1e-4)
    };
    let whole = |q: f64| (-1000.0 * q.ln()).round() as i32;
    let data = vec![
        places(shape).map(|p| whole(1.0 - share(p))).collect(),
        places(shape).map(|p| whole(share(p))).collect(),
    ];
    let energy = Energy { shape, lines: &FACES, data, penalty: Penalty::Even(vec![800; 3]) };
    least(|| drop(black_box(minimise(&energy))))
}

/// A cycle of the random field on 64^3 voxels with three classes: costs, labels, probabilities, Gaussians.
fn markov() -> f64 {
    let shape = [64; 3];
    let image = |p: [usize; 3]| {
        let truth = if p[0] < 24 { 20.0 } else { 50.0 + 40.0 * f64::from(u8::from(p[1] >= 32)) };
        (truth + 60.0 * (noise(p[0], p[1], p[2]) - 0.5)) as f32
    };
    let images = Array4::from_shape_fn((1, 64, 64, 64), |(_, x, y, z)| image([x, y, z]));
    let prior = Array4::from_elem((3, 64, 64, 64), 1.0_f32 / 3.0);
    let region =
        Region { images: images.view(), prior: prior.view(), likelihood: prior.view(), spacing: [1.0; 3] };
    let class = |mean| Mixture {
        components: vec![Component { weight: 1.0, mean: vec![mean], covariance: vec![225.0] }],
    };
    let intensity = Intensity { classes: [25.0, 55.0, 85.0].map(class).to_vec(), variance: vec![900.0] };
    const CYCLES: usize = 5;
    let cycles = least(|| {
        let mut model = Model::new(&region, intensity.clone(), 0.0);
        let mut field = Field::new(shape, [1.0; 3], 0.4, 3);
        model.costs(&mut field);
        field.cheapest();
        for _ in 0..CYCLES {
            model.costs(&mut field);
            field.settle(20);
            model.learn(&field);
        }
        black_box(field.labels());
    });
    cycles / CYCLES as f64
}

/// An iteration of Chan and Vese's evolution.
fn regions(shape: [usize; 3]) -> f64 {
    let wave = |i: usize| (std::f64::consts::PI * i as f64 / 5.0).sin();
    let inside =
        |p: [usize; 3]| (0..3).all(|a| shape[a] == 1 || (shape[a] / 4..3 * shape[a] / 4).contains(&p[a]));
    let image = places(shape).map(|p| (f64::from(u8::from(inside(p))) + 0.3 * noise(p[0], p[1], p[2])) / 1.3);
    let images = [image.collect::<Vec<_>>()];
    let start = |p: [usize; 3]| (0..3).map(|a| if shape[a] == 1 { 1.0 } else { wave(p[a]) }).product();
    let grid = Grid::new(shape, [1.0; 3]);
    let phi = places(shape).map(start).collect();
    let mut surface = Surface { domain: vec![true; grid.len()], grid: &grid, phi };
    let evidence = Evidence { images: &images, fixed: None };
    const ITERATIONS: usize = 5;
    let iterations = least(|| {
        for _ in 0..ITERATIONS {
            black_box(surface.evolve(&evidence, 0.25));
        }
    });
    iterations / ITERATIONS as f64
}

#[expect(clippy::print_stdout, reason = "its result")]
fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    for name in ["cut", "markov", "flat", "solid"] {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let seconds = match name {
                "cut" => cut(),
                "markov" => markov(),
                "flat" => regions([256, 256, 1]),
                _ => regions([128; 3]),
            };
            println!("{name} {seconds}");
        }
    }
}
