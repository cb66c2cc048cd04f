//! How noisy a policy's gradient is: `policy_noise CIFAR [STEPS]` trains WRN-10-1 on CIFAR-10 with all
//! operations alike and, at every second step, computes the gradient of the logits by several estimators and
//! with several sizes of the set-aside batch. Prints for every third of the training how far an update would
//! move good operations above bad ones, in deviations of a logit's gradient, and how well one-sided and
//! central alignments correlate.

#![allow(clippy::print_stdout, reason = "an example prints its figures")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rand::rngs::ChaCha8Rng;
use segen::augment::Augmentation;
use segen::batch::Batch;
use segen::batch::loader::Loader;
use segen::batch::sampler::{Sampler, Share};
use segen::batch::source::SampleSource;
use segen::commands::cifar::{self, BAD, CLASSES, CifarConfig, EDGE, Operations};
use segen::config::published::{Difference, Estimator, Repeats};
use segen::config::{Conventions, DiceReduction, Optimiser, OptimiserKind};
use segen::learn::loss::Loss;
use segen::learn::meta::Meta;
use segen::learn::objective::Objective;
use segen::learn::optimiser::{self, OptimiserState};
use segen::network::{Network, WideResNet};
use segen::policy::learn::{Drawn, Learner, gradient};
use segen::policy::{Policy, Timeline};
use segen::rng::generator;
use segen_kernels::Device;

/// Sizes of the set-aside batch.
const SIZES: [usize; 3] = [16, 32, 128];
/// Estimators; the last number is how often the perturbation is redrawn.
const ESTIMATORS: [(Estimator, Repeats, usize); 4] = [
    (Estimator::StraightThrough, Repeats::Divided, 1),
    (Estimator::StraightThrough, Repeats::Divided, 64),
    (Estimator::Score, Repeats::Divided, 1),
    (Estimator::Score, Repeats::Counted, 1),
];

/// Sums over updates of one estimator's gradient and its square, logit by logit.
#[derive(Clone, Default)]
struct Sums {
    updates: f64,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Sums {
    fn add(&mut self, gradient: &[f64]) {
        self.updates += 1.0;
        self.first.resize(gradient.len(), 0.0);
        self.second.resize(gradient.len(), 0.0);
        for ((first, second), g) in self.first.iter_mut().zip(&mut self.second).zip(gradient) {
            *first += g;
            *second += g * g;
        }
    }

    /// Mean over deviation of downhill steps, averaged over the logits of a kind.
    fn signal(&self, of: &[bool], kind: bool) -> f64 {
        let one = |at: usize| {
            let mean = self.first[at] / self.updates;
            -mean / (self.second[at] / self.updates - mean * mean).sqrt()
        };
        let members: Vec<f64> = (0..of.len()).filter(|at| of[*at] == kind).map(one).collect();
        members.iter().sum::<f64>() / members.len() as f64
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().ok_or("name the folder of CIFAR-10's binary files")?;
    let steps: u64 = arguments.next().map_or(Ok(150), |steps| steps.parse())?;
    let config = CifarConfig::default();
    let (pictures, _) = cifar::read(Path::new(&data))?;
    let device = Device::Cpu;
    let network = Network::WideResNet(WideResNet::new(config.depth, config.width, 3, CLASSES));
    let policy = cifar::policy(Operations::All);
    let bad: Vec<bool> = policy.groups[0].choices.iter().map(|choice| choice.name.starts_with(BAD)).collect();
    let aside = pictures.len() / 5;
    let source = |range: std::ops::Range<usize>| {
        let samples = range.map(|index| pictures.sample(index)).collect();
        Arc::new(SampleSource::in_memory(samples, CLASSES))
    };
    let sampler = |batch| Sampler { share: Share::Probability(0.0), ..Sampler::new([EDGE, EDGE, 1], batch) };
    let loader = |range, batch, timeline: Timeline, seed| {
        Loader::start(source(range), sampler(batch), timeline, seed, 0..steps, 1, 2)
    };
    let mut training =
        loader(aside..pictures.len(), config.batch, Timeline::fixed(policy.clone()), config.seed);
    let mut held_out: Vec<Loader> =
        SIZES.iter().map(|&size| loader(0..aside, size, Augmentation::none().into(), 77)).collect();
    let loss = Loss { cross_entropy: 1.0, dice: 0.0, reduction: DiceReduction::Sample, ..Loss::default() };
    let objective = Objective { network: &network, loss, device: &device, seed: config.seed };
    let meta = |difference, displacement| Meta {
        training: &objective,
        validation: &objective,
        displacement,
        difference,
    };
    let mut weights = network.initialise(config.seed);
    let rule =
        Optimiser { kind: OptimiserKind::Sgd, momentum: 0.9, weight_decay: 5e-4, ..Optimiser::default() };
    let mut state = OptimiserState::new(rule.kind, &weights);
    let mut random = generator(config.seed, &["noise"]);
    let mut sums = vec![Sums::default(); SIZES.len() * ESTIMATORS.len()];
    let mut least = 1.0_f64;
    for step in 0..steps {
        let batch = whole(training.next()?);
        let result = objective.gradient(&weights, &batch)?;
        let turn = std::f64::consts::PI * step as f64 / steps as f64;
        let rate = config.learning_rate * 0.5 * (1.0 + turn.cos());
        if step.is_multiple_of(2) {
            for (number, loader) in held_out.iter_mut().enumerate() {
                let validation = whole(loader.next()?);
                let ahead = |difference, displacement| {
                    meta(difference, displacement).look_ahead(&weights, &batch, &result, rate, &validation)
                };
                let Some(found) = ahead(Difference::OneSided, 1e-3)?.alignments else { continue };
                if step.is_multiple_of(20)
                    && let Some(central) = ahead(Difference::Central, 1e-2)?.alignments
                {
                    least = least.min(correlation(&found, &central));
                }
                let all = gradients(&policy, &batch, &found, &mut random);
                sums[number * ESTIMATORS.len()..].iter_mut().zip(all).for_each(|(sums, g)| sums.add(&g));
            }
        }
        optimiser::step(&rule, &mut state, &mut weights, &result.gradients, rate);
        weights.follow(&result.statistics, step);
        if (step + 1).is_multiple_of((steps / 3).max(1)) {
            println!("to step {}; one-sided and central correlate by {least:.4} at least", step + 1);
            for (number, (estimator, repeats, redraws)) in ESTIMATORS.iter().enumerate() {
                let of = |size: usize| {
                    let sums = &sums[size * ESTIMATORS.len() + number];
                    sums.signal(&bad, false) - sums.signal(&bad, true)
                };
                let told: Vec<String> =
                    SIZES.iter().enumerate().map(|(at, size)| format!("{:.3} with {size}", of(at))).collect();
                println!("{estimator:?}, {repeats:?}, {redraws} drawn: {}", told.join(", "));
            }
            sums.fill(Sums::default());
        }
    }
    Ok(())
}

/// Gradients of the logits from alignments, by every estimator.
fn gradients(policy: &Policy, batch: &Batch, found: &[f64], random: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let drawn: Vec<Drawn> =
        batch.chosen.iter().map(|chosen| Drawn { chosen: chosen.clone(), centre_class: 0 }).collect();
    let centred = Learner::new(policy).centre(found, &drawn);
    let one = |&(estimator, repeats, redraws): &(Estimator, Repeats, usize)| {
        let conventions = Conventions { estimator, repeats, ..Conventions::OWN };
        let mut mean = vec![0.0; policy.len()];
        for _ in 0..redraws {
            let g = gradient(policy, &drawn, &centred, &conventions, random);
            mean.iter_mut().zip(g).for_each(|(mean, g)| *mean += g / redraws as f64);
        }
        mean
    };
    ESTIMATORS.iter().map(one).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let centred = |v: &[f64]| {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        v.iter().map(|x| x - mean).collect::<Vec<f64>>()
    };
    let (a, b) = (centred(a), centred(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

/// Pictures have one label each.
fn whole(batch: Batch) -> Batch {
    let size = batch.label_shape[0];
    Batch { labels: batch.centre_classes.clone(), label_shape: [size, 1, 1, 1], ..batch }
}
