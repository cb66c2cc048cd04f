//! What augmentation costs: `cargo bench --bench augment`; `tests/reference/time_augment.py --against` runs it in
//! turns with the same list in batchgeneratorsv2. Milliseconds of processor time per patch, one
//! thread; at the end the peak memory of the process, with the sample and one patch in it.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Instant;

use ndarray::{Array3, Array4};
use segen::augment::{Augmentation, Draw, Keep, Magnitude, Op, Over, Resampling, Rule, Sharing, Side, cut};
use segen::batch::sampler::{Purpose, generator};
use segen::image::volume::{Grid, Orientation};
use segen::machine;
use segen::prepare::Placement;
use segen::prepare::{ClassVoxels, Geometry, Sample};

fn main() {
    let list = Augmentation::basic(None, [true; 3]);
    let large = sample([128; 3], 4);
    println!("(4, 128, 128, 128)");
    report("default list", &large, 60, &list);
    report("default list without mirroring", &large, 60, &Augmentation::basic(None, [false; 3]));
    for (name, op) in single_operations() {
        let rules = op.map(rule).into_iter().collect();
        report(name, &large, 10, &Augmentation { rules });
    }
    println!("(1, 40, 56, 40)");
    report("small default list", &sample([40, 56, 40], 1), 2000, &list);
    println!("{:>32} {:8.1} MiB", "peak memory", machine::peak_memory_bytes() as f64 / f64::from(1 << 20));
}

fn rule(op: Op) -> Rule {
    Rule { probability: 1.0, sharing: Sharing::Independent, op }
}

/// The list's operations one by one, always applied.
fn single_operations() -> Vec<(&'static str, Option<Op>)> {
    let axes = [true; 3];
    let mild = Magnitude::AboutOne(0.75, 1.25);
    let gamma = |side| Op::Gamma {
        exponent: Magnitude::AboutOne(0.7, 1.5),
        side,
        over: Over::Patch,
        keep: Keep::Moments,
    };
    let low_resolution = Op::LowResolution {
        zoom: Magnitude::Uniform(0.5, 1.0),
        per_channel: 0.5,
        axes,
        resampling: Resampling::NearestLinear,
    };
    vec![
        ("none", None),
        ("mirror", Some(Op::Mirror { axes })),
        ("rotate", Some(Op::Rotate { degrees: [Magnitude::Uniform(-30.0, 30.0); 3] })),
        ("scale", Some(Op::Scale { factor: Magnitude::Uniform(0.7, 1.4), axes })),
        ("noise", Some(Op::Noise { deviation: Magnitude::Uniform(0.0, 0.1) })),
        ("blur", Some(Op::Blur { sigma: Magnitude::Uniform(0.5, 1.0), per_channel: 0.5 })),
        ("brightness", Some(Op::Brightness { factor: mild })),
        ("contrast", Some(Op::Contrast { factor: mild, over: Over::Patch })),
        ("low resolution", Some(low_resolution)),
        ("gamma", Some(gamma(Side::Direct))),
        ("inverted gamma", Some(gamma(Side::Inverted))),
    ]
}

fn report(name: &str, sample: &Sample, draws: u64, augmentation: &Augmentation) {
    // As in other benchmarks, an argument picks those whose name holds it.
    let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    if wanted.next().is_some_and(|part| !name.contains(&part)) {
        return;
    }
    let (channels, x, y, z) = sample.images.dim();
    let mut images = vec![0.0; channels * x * y * z];
    let mut labels = vec![0; x * y * z];
    let placement = Placement { case: 0, start: [0; 3], centre_class: 0, sought: None };
    let mut total = 0.0;
    for step in 0..=draws {
        let draw: Draw = augmentation.draw(channels, &mut generator(1, step, 0, Purpose::Augmentation));
        let began = seconds();
        cut(sample, &placement, [x, y, z], &draw, &mut images, &mut labels);
        // The first patch touches the memory.
        total += if step == 0 { 0.0 } else { seconds() - began };
    }
    println!("{name:>32} {:8.3} ms", 1e3 * total / draws as f64);
}

/// Processor time of this thread where the system tells it (Linux), else time by the clock.
fn seconds() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed().as_secs_f64(), |n| n * 1e-9)
}

fn sample(shape: [usize; 3], channels: usize) -> Sample {
    let [x, y, z] = shape;
    let images = Array4::from_shape_fn((channels, x, y, z), |(c, x, y, z)| {
        ((x * 7 + c) as f32 * 0.1).sin() + (y as f32 * 0.2).cos() * (z as f32 * 0.05).sin()
    });
    let ball = |x: usize, y: usize, z: usize, radius: f64| {
        let offset = |p: usize, edge: usize| (p as f64 - edge as f64 / 2.0) / edge as f64;
        offset(x, shape[0]).hypot(offset(y, shape[1])).hypot(offset(z, shape[2])) < radius
    };
    let labels = Array3::from_shape_fn((x, y, z), |(x, y, z)| {
        u8::from(ball(x, y, z, 0.3)) + u8::from(ball(x, y, z, 0.2)) + u8::from(ball(x, y, z, 0.1))
    });
    let geometry = Geometry {
        spacing: [1.0; 3],
        original: Grid::with_spacing(shape, [1.0; 3]),
        orientation: Orientation::RAS,
        crop_start: [0; 3],
        crop_shape: shape,
        shape,
    };
    let classes = vec![ClassVoxels::default(); 4];
    Sample { id: "bench".to_owned(), images, labels: Some(labels), mask: None, geometry, classes }
}
