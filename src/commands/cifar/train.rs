//! Trains a wide residual network on CIFAR-10 and follows the policy.

use std::path::Path;
use std::sync::Arc;

use rand::seq::SliceRandom;
use segen_kernels::{Activation, Array, Device};
use serde::Serialize;

use super::{Arm, CLASSES, CifarConfig, EDGE, Pictures, bad, policy};
use crate::batch::loader::Loader;
use crate::batch::sampler::{Sampler, Share};
use crate::batch::source::SampleSource;
use crate::config::{CheckpointConfig, Conventions, DiceReduction, Optimiser, OptimiserKind};
use crate::files::write_atomically;
use crate::learn::checkpoint::{Checkpoint, History};
use crate::learn::iteration::Iteration;
use crate::learn::loss::Loss;
use crate::learn::meta::Meta;
use crate::learn::method::Method;
use crate::learn::objective::Objective;
use crate::learn::optimiser::{LearningRate, OptimiserState};
use crate::learn::policy::{PolicyLearner, Sources, Span};
use crate::learn::train::{self, Batches, EpochEnd, Epochs, Training};
use crate::network::{Mode, Network, Weights, WideResNet};
use crate::picture::{self, Panel, Series};
use crate::policy::{Policy, Timeline};
use crate::progress::Progress;
use crate::rng::generator;
use crate::run::events::{EpochEvent, Event, Events};
use crate::run::{Claim, Run};
use crate::{Error, Result};

/// A training on CIFAR-10.
#[derive(Debug)]
pub struct Cifar<'a> {
    /// Every knob.
    pub config: &'a CifarConfig,
    /// Pictures for training and for the policy.
    pub training: &'a Pictures,
    /// Pictures that are scored at the end.
    pub test: &'a Pictures,
    /// Where to compute.
    pub device: &'a Device,
}

/// How it ended; `result.json` of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Share of the test pictures whose class was found.
    pub test_accuracy: f64,
    /// Pictures trained on, learned from by the policy, and scored.
    pub pictures: [usize; 3],
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Summed probability of the bad operations at the start and at the end.
    pub bad_probability: [f64; 2],
    /// Largest probability of a bad operation at the end, relative to uniform.
    pub largest_bad: f64,
}

/// How many lines of good operations the chart shows.
const SHOWN: usize = 5;

impl Cifar<'_> {
    /// Trains, scores, and fills `run` with `config.toml`, `events.jsonl`, `checkpoint/`, `policy.toml` (the last
    /// policy), `policy.png` and `result.json`.
    ///
    /// # Errors
    /// Where a value of the configuration cannot be used, a file cannot be written, or training diverges.
    pub fn train(&self, run: &Run, progress: &dyn Progress) -> Result<Outcome> {
        let config = self.config;
        self.check(run)?;
        let _claim = Claim::take(&run.folder, "segen cifar")?;
        self.check(run)?;
        let text = toml::to_string(config)
            .unwrap_or_else(|error| unreachable!("a configuration is plain data: {error}"));
        write_atomically(&run.path("config.toml"), text.as_bytes())?;
        let network = Network::WideResNet(WideResNet::new(config.depth, config.width, 3, CLASSES));
        let (learned_from, trained_on) = self.split();
        let first = policy(config.operations);
        let mut policies = Policies { history: vec![(0, first.clone())] };
        let trained = self.run_loop(run, &network, (&trained_on, &learned_from), &mut policies, progress)?;
        let last = policies.last();
        let ((first_sum, _), (last_sum, last_most)) = (bad(&first), bad(last));
        let outcome = Outcome {
            test_accuracy: self.accuracy(&network, &trained.weights),
            pictures: [trained_on.len(), learned_from.len(), self.test.len()],
            steps: trained.steps,
            train_seconds: trained.train_seconds,
            bad_probability: [first_sum, last_sum],
            largest_bad: last_most * last.len() as f64,
        };
        write_atomically(&run.path("policy.toml"), last.to_toml().as_bytes())?;
        run.write_json("result.json", &outcome)?;
        draw(&policies.history, &run.path("policy.png"))?;
        Ok(outcome)
    }

    /// The training itself.
    fn run_loop(
        &self,
        run: &Run,
        network: &Network,
        (trained_on, learned_from): (&[usize], &[usize]),
        policies: &mut Policies,
        progress: &dyn Progress,
    ) -> Result<train::Outcome> {
        let config = self.config;
        let first = policies.last().clone();
        let steps_per_epoch = trained_on.len().div_ceil(config.batch) as u64;
        let planned = config.epochs * steps_per_epoch;
        let mut sampler = Sampler::new([EDGE, EDGE, 1], config.batch);
        sampler.share = Share::Probability(0.0);
        let objective = Objective {
            network,
            loss: Loss { cross_entropy: 1.0, dice: 0.0, reduction: DiceReduction::Sample, ..Loss::default() },
            device: self.device,
            seed: config.seed,
        };
        let source = self.source(trained_on);
        let learner = match config.policy {
            Arm::Random => None,
            Arm::Learned => {
                let meta = Meta::new(&objective, &objective, &config.learning, &Conventions::OWN);
                let span = Span { seed: config.seed, step: 0, planned };
                let sources = Sources { training: source.clone(), set_aside: self.source(learned_from) };
                let how = (&config.learning, Conventions::OWN);
                Some(PolicyLearner::new(meta, how, span, (&first, None), sources, &sampler)?)
            }
        };
        let timeline = learner.as_ref().map_or_else(|| Timeline::fixed(first), PolicyLearner::timeline);
        let clean = Loader::start(source, sampler, timeline, config.seed, 0..planned, config.threads, 4);
        let weights = network.initialise(config.seed);
        let optimiser = self.rule();
        let method = Method::none(CLASSES);
        let training = Training {
            state: Checkpoint {
                step: 0,
                history: History::new(planned, CLASSES),
                optimiser: OptimiserState::new(optimiser.kind, &weights),
                weights,
            },
            iteration: Iteration {
                objective: objective.clone(),
                method: &method,
                optimiser: &optimiser,
                pass_share: 1.0,
            },
            rate: LearningRate::HalfCosine(config.learning_rate),
            batches: Batches { clean, independent: None },
            learner,
            epochs: policies,
            steps_per_epoch,
            patience: None,
            checkpoint: &CheckpointConfig::default(),
            tensorboard: None,
            run,
        };
        training.run(progress)
    }

    fn check(&self, run: &Run) -> Result<()> {
        let config = self.config;
        let refuse = |field: &str, problem: String, mend: &str| Err(Error::config(field, problem, mend));
        if run.exists() {
            let problem = format!("there is a run in `{}` already", run.folder.display());
            return refuse("run folder", problem, "choose another folder");
        }
        run.vacant("cifar")?;
        if config.depth < 10 || !(config.depth - 4).is_multiple_of(6) || config.width == 0 {
            let problem = format!("there is no WRN-{}-{}", config.depth, config.width);
            return refuse(
                "depth and width",
                problem,
                "use a depth of 10, 16, 22, ... and a width of at least 1",
            );
        }
        if config.batch == 0 || config.epochs == 0 {
            return refuse("batch and epochs", "0".to_owned(), "use at least 1");
        }
        let share = config.validation_share;
        if !(share > 0.0 && share < 1.0)
            || self.learned_from() == 0
            || self.learned_from() >= self.training.len()
        {
            return refuse(
                "validation_share",
                format!("{share}"),
                "leave pictures to train on and to learn from",
            );
        }
        if let Some((key, wanted)) = config.learning.faults().first() {
            return refuse(
                &format!("learning.{key}"),
                "the value cannot be used".to_owned(),
                &format!("it must be {wanted}"),
            );
        }
        Ok(())
    }

    fn rule(&self) -> Optimiser {
        Optimiser {
            kind: OptimiserKind::Sgd,
            learning_rate: self.config.learning_rate,
            momentum: 0.9,
            weight_decay: 5e-4,
            // As published: nothing is clipped.
            clip_norm: f64::INFINITY,
            ..Optimiser::default()
        }
    }

    fn learned_from(&self) -> usize {
        (self.config.validation_share * self.training.len() as f64).round() as usize
    }

    /// Indices of the pictures that the policy learns from, and of those that are trained on.
    fn split(&self) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.training.len()).collect();
        order.shuffle(&mut generator(self.config.seed, &["policy validation"]));
        let rest = order.split_off(self.learned_from());
        (order, rest)
    }

    fn source(&self, pictures: &[usize]) -> Arc<SampleSource> {
        let samples = pictures.iter().map(|&index| self.training.sample(index)).collect();
        Arc::new(SampleSource::in_memory(samples, CLASSES).of_patches())
    }

    fn accuracy(&self, network: &Network, weights: &Weights) -> f64 {
        const AT_ONCE: usize = 100;
        let bound = weights.bind(self.device);
        let all: Vec<usize> = (0..self.test.len()).collect();
        let mut right = 0;
        for part in all.chunks(AT_ONCE) {
            let mut pixels = Vec::with_capacity(part.len() * 3 * EDGE * EDGE);
            part.iter().for_each(|&index| pixels.extend(self.test.sample(index).images));
            let pixels = Array::from_host(pixels, &[part.len(), 3, EDGE, EDGE, 1], self.device);
            let input = Activation::from_channels_first(pixels);
            let logits = network.forward(&bound, vec![input], Mode::Evaluation).logits.swap_remove(0);
            let logits = logits.into_channels_last().into_host();
            for (scores, &index) in logits.chunks_exact(CLASSES).zip(part) {
                let best = (0..CLASSES).fold(0, |best, c| if scores[c] > scores[best] { c } else { best });
                right += usize::from(best == usize::from(self.test.classes[index]));
            }
        }
        right as f64 / self.test.len().max(1) as f64
    }
}

/// What is done after an epoch on pictures: none is scored before the end, only the policy is followed.
#[derive(Debug)]
struct Policies {
    /// Steps done, and the policy then; never empty.
    history: Vec<(u64, Policy)>,
}

impl Policies {
    fn last(&self) -> &Policy {
        &self.history[self.history.len() - 1].1
    }
}

impl Epochs for Policies {
    fn end(
        &mut self,
        epoch: &EpochEnd<'_>,
        state: &mut Checkpoint,
        events: &mut Events,
        _: &dyn Progress,
    ) -> Result<bool> {
        let now = epoch.policy.unwrap_or(self.last()).clone();
        self.history.push((state.step, now));
        events.record(&Event::Epoch(EpochEvent {
            step: state.step - 1,
            epoch: epoch.number,
            train_loss: epoch.loss,
            share_waiting_on_data: epoch.clock.share_waiting(),
            ..EpochEvent::default()
        }))?;
        Ok(false)
    }
}

/// Draws the summed probability of the bad operations and those of the likeliest good ones.
fn draw(policies: &[(u64, Policy)], path: &Path) -> Result<()> {
    let Some(group) = policies.first().and_then(|(_, policy)| policy.groups.first()) else { return Ok(()) };
    let history: Vec<(u64, Vec<f64>)> =
        policies.iter().map(|(step, policy)| (*step, policy.probabilities(0, 0))).collect();
    let is_bad = |index: usize| group.choices[index].name.starts_with(super::BAD);
    let points = |value: &dyn Fn(&[f64]) -> f64| -> Vec<(f64, f64)> {
        history.iter().map(|(step, p)| (*step as f64, value(p))).collect()
    };
    let mut order: Vec<usize> = (0..group.choices.len()).collect();
    let last = history.last().map_or(&[][..], |(_, p)| p.as_slice());
    order.sort_by(|a, b| last[*b].total_cmp(&last[*a]));
    let sum = |p: &[f64]| p.iter().enumerate().filter(|(i, _)| is_bad(*i)).map(|(_, p)| p).sum::<f64>();
    let panel = |title: &str, series| Panel {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        y_label: "probability".to_owned(),
        series,
        ..Panel::default()
    };
    let good = order
        .iter()
        .filter(|index| !is_bad(**index))
        .take(SHOWN)
        .map(|&index| Series { name: group.choices[index].name.clone(), points: points(&|p| p[index]) });
    let bad: Vec<Series> = order
        .iter()
        .filter(|index| is_bad(**index))
        .take(SHOWN)
        .map(|&index| Series { name: group.choices[index].name.clone(), points: points(&|p| p[index]) })
        .collect();
    let all = vec![Series { name: "all bad operations".to_owned(), points: points(&sum) }];
    picture::curves(
        path,
        &[
            panel("Operations that ruin the picture, together", all),
            panel("The likeliest of them at the end", bad),
            panel("The likeliest good operations at the end", good.collect()),
        ],
    )
}
