//! Processor seconds of classical methods: `cargo bench --bench classical_learned -- NAME`, one line of JSON.
//! `tests/reference/time_classical_learned.py` runs it in turns with other programs, on the same data.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use ndarray::{Array2, Array3, Array4};
use segen::classic::forest::{Draw, NodeFeatures, Options, Table, fit};
use segen::classic::fusion::{Atlas, Fusion, Joint, Staple, consensus, fuse};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("forest") => forest(),
        Some("joint") => joint(),
        Some("staple") => staple(),
        _ => println!("{{}}"),
    }
}

/// Processor time of this process so far, as Linux tells it: a busy machine does not count.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let own = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    let texts: Vec<String> = threads.map(|entry| own(entry.path())).collect();
    let nanoseconds = |text: &String| text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    let sum: f64 = texts.iter().chain(texts.is_empty().then_some(&text)).filter_map(nanoseconds).sum();
    1e-9 * sum
}

/// Noise in [0, 1) that every language computes alike.
fn h(x: u32, y: u32, z: u32) -> f32 {
    let n = x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ z.wrapping_mul(83_492_791);
    let n = (n ^ (n >> 13)).wrapping_mul(1_274_126_177);
    ((n ^ (n >> 16)) % 65_536) as f32 / 65_536.0
}

/// Three classes by three of 29 features and their neighbours, a fifth of them changed.
fn rows(from: u32, count: u32) -> (Array2<f32>, Vec<u8>) {
    let features = Array2::from_shape_fn((count as usize, 29), |(row, j)| {
        let (row, j) = (row as u32 + from, j as u32);
        0.5 * (h(row, j, 1) + h(row, j + 1, 1))
    });
    let class = |(row, x): (usize, ndarray::ArrayView1<'_, f32>)| {
        let class = match (x[0] + 0.5 * x[1] > 0.9, x[5] + x[9] > 1.1) {
            (true, _) => 2,
            (false, true) => 1,
            _ => 0,
        };
        if h(row as u32 + from, 99, 9) < 0.2 { (class + 1) % 3 } else { class }
    };
    let classes = features.rows().into_iter().enumerate().map(class).collect();
    (features, classes)
}

fn forest() {
    let (features, classes) = rows(0, 74_000);
    let options = Options {
        trees: 50,
        depth: 20,
        leaf: 5,
        features: NodeFeatures::Root,
        draw: Draw::Rows,
        voxels: 0,
        most: 0,
        seed: 1,
    };
    let start = processor_seconds();
    let table = Table::of_rows(features.view(), &classes, &vec![1.0; classes.len()], 3);
    let fitted = fit(&table, &options);
    let fit = processor_seconds() - start;
    let (unseen, truth) = rows(74_000, 50_000);
    let unseen = unseen.t().as_standard_layout().into_owned();
    let start = processor_seconds();
    let probabilities = fitted.forest.probabilities(unseen.view());
    let predict = processor_seconds() - start;
    let nodes: usize = fitted.forest.trees().iter().map(|tree| tree.nodes()).sum();
    let right = probabilities.columns().into_iter().zip(&truth).filter(|(p, truth)| {
        let best = (0..3).fold(0, |best, class| if p[class] > p[best] { class } else { best });
        best == usize::from(**truth)
    });
    let right = right.count() as f64 / truth.len() as f64;
    println!("{{\"fit\": {fit}, \"predict\": {predict}, \"nodes\": {nodes}, \"right\": {right}}}");
}

/// Distance of a voxel from the middle of the grid.
fn from_middle(at: [usize; 3], shape: [usize; 3]) -> f64 {
    let square = |axis: usize| (at[axis] as f64 - (shape[axis] - 1) as f64 / 2.0).powi(2);
    (square(0) + square(1) + square(2)).sqrt()
}

/// Twelve atlases of balls that differ in 6,000 voxels, in images of noise.
fn joint() {
    let shape = [36, 50, 36];
    let image = |n: u32| {
        Array4::from_shape_fn((1, 36, 50, 36), |(_, x, y, z)| h(x as u32, y as u32, z as u32 + 100 * n))
    };
    let labels = |n: usize| {
        let radius = 9.0 + 3.93 * n as f64 / 11.0;
        Array4::from_shape_fn((2, 36, 50, 36), |(class, x, y, z)| {
            f32::from(u8::from((from_middle([x, y, z], shape) < radius) == (class == 1)))
        })
    };
    let (target, images): (_, Vec<_>) = (image(0), (1..13).map(image).collect());
    let labels: Vec<_> = (0..12).map(labels).collect();
    let pairs = images.iter().zip(&labels);
    let atlases: Vec<Atlas<'_>> = pairs.map(|(i, l)| Atlas { images: i.view(), labels: l.view() }).collect();
    let start = processor_seconds();
    let fused = fuse(target.view(), &atlases, Fusion::Joint(Joint { search: 0, ..Joint::default() }));
    let seconds = processor_seconds() - start;
    let inside = fused.index_axis(ndarray::Axis(0), 1).iter().filter(|p| **p > 0.5).count();
    println!("{{\"seconds\": {seconds}, \"inside\": {inside}}}");
}

/// Twelve raters of a ball, a tenth of whose votes are wrong.
fn staple() {
    let rater = |n: u32| {
        Array3::from_shape_fn((64, 64, 64), |(x, y, z)| {
            let ball = from_middle([x, y, z], [64; 3]) < 20.0;
            u8::from(ball != (h(x as u32, y as u32, z as u32 + 100 * (n + 1)) < 0.1))
        })
    };
    let raters: Vec<_> = (0..12).map(rater).collect();
    let start = processor_seconds();
    let found = consensus(&raters, 2, Staple { everywhere: true, ..Staple::default() });
    let seconds = processor_seconds() - start;
    let inside = found.probabilities.index_axis(ndarray::Axis(0), 1).iter().filter(|p| **p > 0.5).count();
    println!("{{\"seconds\": {seconds}, \"inside\": {inside}}}");
}
