//! How noisy a policy's gradient is: `policy_noise DATA [STEPS] [UPDATES]` trains a network with all operations alike
//! and stops at a third of the steps and at the end. DATA is the folder of CIFAR-10's binary files, for WRN-10-1 and the
//! 29 operations of `segen cifar`, or a data set of scans, for a small U-Net in patches of 24 x 32 x 24 and the 44
//! single operations. At the frozen weights it computes the gradient of the logits for so many batches: from the batch
//! as it was trained on, and from patches drawn for K times. Prints the squared ratio of signal to noise over all
//! logits, for each update and for each patch that was passed forward (of a backward pass as much as two forward ones),
//! and how far the rankings of the operations agree that two halves of the updates learn, with what the operations
//! have in common and without. Also prints what part of the alignments' variance belongs to the patch, whatever is drawn for it.

#![allow(clippy::print_stdout, reason = "an example prints its figures")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use segen::augment::Augmentation;
use segen::batch::Batch;
use segen::batch::loader::Loader;
use segen::batch::sampler::{Redraws, Sampler, Share};
use segen::batch::source::SampleSource;
use segen::commands::cifar::{self, CLASSES, CifarConfig, EDGE, Operations};
use segen::commands::train;
use segen::config::policy::Start;
use segen::config::published::Difference;
use segen::config::{Config, Conventions, DiceReduction, Optimiser, OptimiserKind};
use segen::data::dataset::{Dataset, Sides};
use segen::learn::loss::Loss;
use segen::learn::meta::{LookAhead, Meta};
use segen::learn::objective::Objective;
use segen::learn::optimiser::{self, OptimiserState};
use segen::network::{Network, Weights, WideResNet};
use segen::policy::learn::{Drawn, Learner, decay, gradient, leave_one_out};
use segen::policy::operations::{Context, single};
use segen::policy::structure::Structure;
use segen::policy::{Policy, Timeline};
use segen::prepare;
use segen::progress::Silent;
use segen::rng::generator;
use segen_kernels::Device;

/// How often patches are drawn for.
const DRAWS: [usize; 3] = [2, 4, 8];
/// One part in so many is set aside; of scans, so many are used.
const SET_ASIDE: usize = 5;
const SCANS: usize = 40;
/// Patches in a batch of scans.
const BATCH: usize = 8;
const SEED: u64 = 1;

/// What a training goes by.
struct Proof {
    network: Network,
    /// Losses of training and of what is set aside.
    losses: [Loss; 2],
    policy: Policy,
    trained_on: Arc<SampleSource>,
    set_aside: Arc<SampleSource>,
    sampler: Sampler,
    optimiser: Optimiser,
}

/// Gradients of one estimator, an update each, and what an update costs in patches passed forward.
struct Estimates {
    name: String,
    cost: f64,
    gradients: Vec<Vec<f64>>,
}

impl Estimates {
    /// Squared length of the mean over the summed variance. The mean's own noise is taken off.
    fn signal_to_noise(&self) -> f64 {
        let n = self.gradients.len() as f64;
        let (mut mean_square, mut variance) = (0.0, 0.0);
        for logit in 0..self.gradients.first().map_or(0, Vec::len) {
            let mean = self.gradients.iter().map(|g| g[logit]).sum::<f64>() / n;
            mean_square += mean * mean;
            variance += self.gradients.iter().map(|g| (g[logit] - mean).powi(2)).sum::<f64>() / (n - 1.0);
        }
        (mean_square - variance / n) / variance
    }

    /// The probabilities that these updates would learn, all at the same weights.
    fn learned(&self, half: usize, start: &Policy, structure: &Structure) -> Vec<f64> {
        let mut learner = Learner::structured(start, structure);
        let updates: Vec<_> = self.gradients.iter().skip(half).step_by(2).collect();
        let count = updates.len() as f64;
        for (number, gradient) in updates.into_iter().enumerate() {
            let rate = decay(number as f64 / count) / count.sqrt();
            learner.structured_step(structure, gradient, rate, 1.0 / count);
        }
        start.with_logits(&learner.logits).probabilities(0, 0)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().ok_or("name the folder of CIFAR-10's binary files, or a data set")?;
    let steps: u64 = arguments.next().map_or(Ok(600), |steps| steps.parse())?;
    let updates: u64 = arguments.next().map_or(Ok(100), |updates| updates.parse())?;
    let data = Path::new(&data);
    let proof = if data.join("dataset.json").is_file() { scans(data)? } else { pictures(data)? };
    proof.train(steps, updates)
}

fn pictures(data: &Path) -> Result<Proof, Box<dyn Error>> {
    let config = CifarConfig::default();
    let (pictures, _) = cifar::read(data)?;
    let source = |range: std::ops::Range<usize>| {
        let samples = range.map(|index| pictures.sample(index)).collect();
        Arc::new(SampleSource::in_memory(samples, CLASSES).of_patches())
    };
    let aside = pictures.len() / SET_ASIDE;
    let loss = Loss { cross_entropy: 1.0, dice: 0.0, reduction: DiceReduction::Sample, ..Loss::default() };
    Ok(Proof {
        network: Network::WideResNet(WideResNet::new(config.depth, config.width, 3, CLASSES)),
        losses: [loss.clone(), loss],
        policy: cifar::policy(Operations::All),
        trained_on: source(aside..pictures.len()),
        set_aside: source(0..aside),
        sampler: Sampler { share: Share::Probability(0.0), ..Sampler::new([EDGE, EDGE, 1], config.batch) },
        optimiser: Optimiser {
            kind: OptimiserKind::Sgd,
            learning_rate: config.learning_rate,
            momentum: 0.9,
            weight_decay: 5e-4,
            ..Optimiser::default()
        },
    })
}

fn scans(data: &Path) -> Result<Proof, Box<dyn Error>> {
    let dataset = Dataset::open(data)?;
    let sets = ["plan.patch=[24, 32, 24]", "plan.base_features=8"].map(str::to_owned);
    let config = Config::resolve(None, &sets)?;
    let plan = train::plan(&dataset, &config, &Silent)?;
    let cases: Vec<_> = dataset.training.iter().take(SCANS).collect();
    let cache = std::env::temp_dir().join("policy_noise");
    let mut rest = prepare::prepare_all(&dataset, &plan.recipe(), &cases, &cache, &Silent)?;
    let aside = rest.drain(..rest.len() / SET_ASIDE).collect();
    let network = plan.network(&config.network);
    let field = network.field(plan.patch)?;
    let source =
        |cases| Arc::new(SampleSource::prepared(cases, plan.classes, 1 << 30).seen_by(field.clone()));
    let loss = |reduction| Loss { cross_entropy: 1.0, dice: 1.0, reduction, ..Loss::default() };
    Ok(Proof {
        losses: [loss(DiceReduction::Sample), loss(DiceReduction::Batch)],
        policy: single(&Context::of(&plan, Sides::of_names(&dataset.labels.names)), Start::Uniform),
        trained_on: source(rest),
        set_aside: source(aside),
        sampler: Sampler { share: Share::Probability(1.0 / 3.0), ..Sampler::new(plan.patch, BATCH) },
        optimiser: config.optimiser,
        network,
    })
}

impl Proof {
    fn objectives<'a>(&'a self, device: &'a Device) -> [Objective<'a>; 2] {
        self.losses.clone().map(|loss| Objective { network: &self.network, loss, device, seed: SEED })
    }

    fn train(&self, steps: u64, updates: u64) -> Result<(), Box<dyn Error>> {
        let objectives = self.objectives(&Device::Cpu);
        let mut weights = self.network.initialise(SEED);
        let mut state = OptimiserState::new(self.optimiser.kind, &weights);
        let mut batches = self.training(self.sampler.clone(), SEED, steps);
        for step in 0..steps {
            let result = objectives[0].gradient(&weights, &batches.next()?)?;
            let turn = std::f64::consts::PI * step as f64 / steps as f64;
            let rate = self.optimiser.learning_rate * 0.5 * (1.0 + turn.cos());
            optimiser::step(&self.optimiser, &mut state, &mut weights, &result.gradients, rate);
            weights.follow(&result.statistics, step);
            if step + 1 == steps / 3 || step + 1 == steps {
                println!("after step {}, loss {:.3}, rate {rate:.4}", step + 1, result.value.total);
                self.look(&objectives, &weights, rate, updates)?;
            }
        }
        Ok(())
    }

    fn training(&self, sampler: Sampler, seed: u64, batches: u64) -> Loader {
        let timeline = Timeline::fixed(self.policy.clone());
        Loader::start(Arc::clone(&self.trained_on), sampler, timeline, seed, 0..batches, 1, 2)
    }

    /// Computes gradients by every estimator at these weights and prints what they are worth.
    fn look(
        &self,
        [training, validation]: &[Objective<'_>; 2],
        weights: &Weights,
        rate: f64,
        updates: u64,
    ) -> Result<(), Box<dyn Error>> {
        let most = DRAWS[DRAWS.len() - 1];
        let half = self.sampler.batch / 2;
        // Other batches than those that were trained on.
        let seed = SEED + 1000;
        let mut trained = self.training(self.sampler.clone(), seed, updates);
        let redraws = Some(Redraws { every: 1, draws: most as u64, patches: half });
        let redrawn = Sampler { redraws, ..self.sampler.clone() };
        let mut redrawn = self.training(redrawn, seed, updates * most as u64);
        let aside = Sampler { batch: half, ..self.sampler.clone() };
        let none = Augmentation::none();
        let mut held_out = Loader::start(Arc::clone(&self.set_aside), aside, none, 77, 0..updates, 1, 2);
        let meta = Meta { training, validation, displacement: 1e-3, difference: Difference::OneSided };
        let mut all: Vec<Estimates> = Vec::new();
        let mut variances = [0.0; 2];
        for _ in 0..updates {
            let batch = trained.next()?;
            let again = (0..most).map(|_| redrawn.next()).collect::<segen::Result<Vec<Batch>>>()?;
            let aside = held_out.next()?;
            let result = training.gradient(weights, &batch)?;
            let once = meta.look_ahead(weights, &batch, &result, rate, &aside)?;
            let often = meta.look_again(weights, &again, &result, rate, &aside)?;
            let parts = parts(often.alignments.as_deref().unwrap_or_default(), half);
            variances.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part / updates as f64);
            let found = self.estimates((&batch, &once), (&again, &often), half);
            match all.is_empty() {
                true => all = found,
                false => all.iter_mut().zip(found).for_each(|(all, one)| all.gradients.extend(one.gradients)),
            }
        }
        let share = variances[0] / (variances[0] + variances[1]);
        println!("{:.0} % of the alignments' variance belong to the patch", 100.0 * share);
        self.tell(&all);
        Ok(())
    }

    /// Every estimator's gradient of one update.
    fn estimates(
        &self,
        (batch, once): (&Batch, &LookAhead),
        (again, often): (&[Batch], &LookAhead),
        aside: usize,
    ) -> Vec<Estimates> {
        let mut random = generator(0, &["unused by the score"]);
        let mut slope = |drawn: &[Drawn], centred: &[f64]| {
            gradient(&self.policy, drawn, centred, &Conventions::OWN, &mut random)
        };
        let set_aside = 3.0 * aside as f64;
        let drawn = of_places(batch, batch.chosen.len());
        let found = once.alignments.clone().unwrap_or_else(|| vec![0.0; drawn.len()]);
        let centred = Learner::new(&self.policy).centre(&found, &drawn);
        let mut all = vec![Estimates {
            name: format!("batch, {} patches", drawn.len()),
            cost: drawn.len() as f64 + set_aside,
            gradients: vec![slope(&drawn, &centred)],
        }];
        let size = again.first().map_or(0, |batch| batch.chosen.len());
        let found = often.alignments.clone().unwrap_or_else(|| vec![0.0; size * again.len()]);
        for draws in DRAWS {
            for patches in [size / 2, size] {
                let drawn: Vec<Drawn> =
                    again[..draws].iter().flat_map(|batch| of_places(batch, patches)).collect();
                let part: Vec<f64> =
                    found.chunks(size).take(draws).flat_map(|one| one[..patches].to_vec()).collect();
                all.push(Estimates {
                    name: format!("leave-one-out, K = {draws}, {patches} patches"),
                    cost: (2 * draws * patches) as f64 + set_aside,
                    gradients: vec![slope(&drawn, &leave_one_out(&part, patches))],
                });
            }
        }
        all
    }

    fn tell(&self, all: &[Estimates]) {
        let structures = [Structure::free(self.policy.len()), Structure::of(&self.policy)];
        for estimates in all {
            let ratio = estimates.signal_to_noise();
            let told = structures.iter().map(|structure| {
                let halves = [0, 1].map(|half| ranks(&estimates.learned(half, &self.policy, structure)));
                format!("{:.2}", correlation(&halves[0], &halves[1]))
            });
            println!(
                "{}: SNR^2 {ratio:.4}, over {} patches {:.2e} each; halves agree by {}",
                estimates.name,
                estimates.cost,
                ratio / estimates.cost,
                told.collect::<Vec<String>>().join(", structured "),
            );
        }
    }
}

/// What was drawn for the first places of a batch.
fn of_places(batch: &Batch, places: usize) -> Vec<Drawn> {
    let patches = batch.chosen.iter().zip(&batch.centre_classes).take(places);
    patches.map(|(chosen, &centre_class)| Drawn { chosen: chosen.clone(), centre_class }).collect()
}

/// Variance of alignments between patches, and within one over its draws.
fn parts(alignments: &[f64], patches: usize) -> [f64; 2] {
    let draws = alignments.len() / patches.max(1);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let variance = |values: &[f64]| {
        let mean = mean(values);
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
    };
    let of = |b: usize| alignments.iter().skip(b).step_by(patches).copied().collect::<Vec<f64>>();
    let columns: Vec<Vec<f64>> = (0..patches).map(of).collect();
    if draws < 2 || patches < 2 {
        return [0.0; 2];
    }
    let within = mean(&columns.iter().map(|column| variance(column)).collect::<Vec<f64>>());
    let between = variance(&columns.iter().map(|column| mean(column)).collect::<Vec<f64>>());
    [(between - within / draws as f64).max(0.0), within]
}

/// The place of every value in order.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: &f64| values.iter().filter(|other| *other < value).count() as f64;
    let alike = |value: &f64| values.iter().filter(|other| *other == value).count() as f64;
    values.iter().map(|value| below(value) + (alike(value) - 1.0) / 2.0).collect()
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
