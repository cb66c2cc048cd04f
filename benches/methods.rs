//! What the methods cost: `cargo bench --bench methods [-- THREADS]`. Milliseconds of one training iteration of a
//! small U-Net on a batch in memory, and the ratio to `ce`: the median over ten rounds, in each of which every method
//! works for a block of iterations, so that a slow spell of the machine meets all of them.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Instant;

use rand::RngExt;
use segen::batch::{Batch, Input};
use segen::config::Config;
use segen::learn::iteration::Iteration;
use segen::learn::loss::Loss;
use segen::learn::method::Method;
use segen::learn::objective::Objective;
use segen::learn::optimiser::OptimiserState;
use segen::network::UNetShape;
use segen::network::{Network, UNet};
use segen::rng::generator;
use segen_kernels::Device;

const METHODS: [&str; 8] = [
    "ce",
    "margin",
    "asym-margin",
    "focal",
    "asym-focal",
    "asym-mixup",
    "asym-adversarial",
    "asym-combination",
];
const ROUNDS: usize = 10;
const BLOCK: usize = 5;
const EDGE: usize = 32;
const BATCH: usize = 2;

fn main() -> segen::Result<()> {
    if let Some(threads) = std::env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok()) {
        segen_kernels::Settings::current().with_threads(threads).set_for_process();
    }
    let shape = UNetShape {
        features: vec![16, 32, 64, 128],
        strides: vec![[1; 3], [2; 3], [2; 3], [2; 3]],
        kernels: vec![[3; 3]; 4],
        convolutions: 2,
    };
    let network = Network::UNet(UNet { channels: 1, classes: 2, shape, deep_supervision: false });
    let device = Device::Cpu;
    let batch = batch();
    let classes = ["background", "lesion"].map(str::to_owned);
    let mut configs = Vec::new();
    for name in METHODS {
        let config = Config::resolve(None, &[format!("method.name={name}")])?;
        let method = Method::resolve(&config, &classes)?;
        configs.push((name, config, method));
    }
    let mut times = vec![Vec::new(); METHODS.len()];
    for round in 0..=ROUNDS {
        for ((_, config, method), times) in configs.iter().zip(&mut times) {
            let loss = Loss { voxel: method.voxel_loss(), ..Loss::default() };
            let objective = Objective { network: &network, loss, device: &device, seed: 1 };
            let iteration = Iteration { objective, method, optimiser: &config.optimiser, pass_share: 1.0 };
            let mut weights = network.initialise(1);
            let mut state = OptimiserState::new(config.optimiser.kind, &weights);
            let timer = Instant::now();
            for _ in 0..BLOCK {
                let clean = iteration.objective.gradient(&weights, &batch)?;
                iteration.run(&mut weights, &mut state, (&batch, clean), &batch, 1e-3)?;
            }
            if round > 0 {
                // The first round warms the caches.
                times.push(1e3 * timer.elapsed().as_secs_f64() / BLOCK as f64);
            }
        }
    }
    println!("{:>18} {:>9} {:>6}", "method", "ms", "x ce");
    for (name, own) in METHODS.iter().zip(&times) {
        let ratios = own.iter().zip(&times[0]).map(|(own, ce)| own / ce).collect();
        println!("{name:>18} {:>9.1} {:>6.3}", median(own.clone()), median(ratios));
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// Noise with a small cube of the rare class in every patch.
fn batch() -> Batch {
    let mut random = generator(1, &["benchmark"]);
    let voxels = EDGE.pow(3);
    let inside = |i: usize| [i / EDGE / EDGE, i / EDGE % EDGE, i % EDGE].iter().all(|c| (12..17).contains(c));
    let labels: Vec<u8> = (0..BATCH * voxels).map(|i| u8::from(inside(i % voxels))).collect();
    Batch {
        step: 0,
        inputs: vec![Input {
            values: labels.iter().map(|&l| f32::from(l) + random.random_range(-1.0..1.0_f32)).collect(),
            shape: [BATCH, 1, EDGE, EDGE, EDGE],
        }],
        labels,
        label_shape: [BATCH, EDGE, EDGE, EDGE],
        cases: vec!["case".to_owned(); BATCH],
        centre_classes: vec![1; BATCH],
        sought: vec![None; BATCH],
        chosen: Vec::new(),
        class_voxels: vec![0; 2],
        mixture: None,
        twin: None,
        seconds: 0.0,
    }
}
