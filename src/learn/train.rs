//! The training loop.
//!
//! A step is: batch from the loader, forward, sums per sample, loss and its gradient in `f64`, backward, clipped
//! optimiser step. Everything drawn is keyed by (seed, purpose, step), so a run that was stopped anywhere goes
//! on from its last checkpoint to the same bytes as one that never stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use rand::Rng;
use serde_json::json;

use super::adversarial;
use super::checkpoint::{Checkpoint, History, Pointer, PolicyState};
use super::loss::Loss;
use super::meta::Meta;
use super::method::Method;
use super::objective::Objective;
use super::optimiser::{self, OptimiserState};
use super::policy::{Lesson, Tutor, Update};
use crate::batch::loader::Loader;
use crate::batch::sampler::{Augmented, Sampler, Share, Twin};
use crate::batch::source::SampleSource;
use crate::config::method::Mode;
use crate::config::published::AuxBatch;
use crate::config::{ClassWeights, Config, DiceReduction, KernelPath, Length, Precision, SamplingRule};
use crate::network::{DeepMedic, Network, UNet, Weights};
use crate::plan::Plan;
use crate::policy::{Policy, Timeline};
use crate::prepare::PreparedCase;
use crate::progress::Progress;
use crate::run::{Events, Run};
use crate::{Error, Result};

use super::epoch::Clock;
use super::iteration::Iteration;

/// What training works on.
#[derive(Debug)]
pub struct Job<'a> {
    /// Every knob.
    pub config: &'a Config,
    /// Shapes and normalisation.
    pub plan: &'a Plan,
    /// Where results go; already set up.
    pub run: &'a Run,
    /// Prepared training cases.
    pub train: &'a [PreparedCase],
    /// Prepared validation cases.
    pub validation: &'a [PreparedCase],
    /// Names of the classes, background first.
    pub classes: &'a [String],
    /// What counters overfitting to rare classes.
    pub method: &'a Method,
    /// Where to compute.
    pub device: &'a Device,
    /// How patches are augmented, to begin with.
    pub policy: &'a Policy,
    /// Prepared cases that a policy learns from.
    pub policy_validation: &'a [PreparedCase],
    /// When the command began; a time budget counts from here.
    pub started: Instant,
}

/// How training ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The last weights.
    pub weights: Weights,
    /// Steps done.
    pub steps: u64,
    /// Steps planned.
    pub planned_steps: u64,
    /// Seconds of training over all sessions.
    pub train_seconds: f64,
    /// Whether `patience` ended it.
    pub stopped_early: bool,
}

impl<'a> Job<'a> {
    fn objective<'b>(&'b self, network: &'b Network) -> Objective<'b> {
        let loss = &self.config.loss;
        let epoch = self.config.schedule.steps_per_epoch;
        Objective {
            network,
            loss: Loss {
                cross_entropy: loss.cross_entropy,
                dice: loss.dice,
                beta: loss.beta,
                reduction: loss.dice_reduction.unwrap_or(self.plan.dice),
                mean: self.method.conventions.dice_mean,
                absent: self.method.conventions.dice_absent,
                weights: loss.class_weights.clone(),
                relax: loss.class_weights_relax.map(|epochs| epochs.map(|e| e * epoch)),
                voxel: self.method.voxel_loss(),
            },
            device: self.device,
            seed: self.config.seed,
        }
    }

    fn iteration<'b>(&'b self, network: &'b Network) -> Iteration<'b> {
        Iteration {
            objective: self.objective(network),
            method: self.method,
            optimiser: &self.config.optimiser,
        }
    }

    /// What cannot be trained as it is configured, found before the first step; and what the method does.
    fn check(&self, network: &Network, progress: &dyn Progress) -> Result<()> {
        let method = &self.method.config;
        if method.mixup.mode != Mode::Off && self.plan.batch < 2 {
            return Err(Error::config(
                "method.mixup",
                "mixup needs two patches in a batch, and there is one",
                "set `plan.batch` to 2 or more, or turn mixup off",
            ));
        }
        if let ClassWeights::Given(weights) = &self.config.loss.class_weights
            && weights.len() != self.plan.classes
        {
            return Err(Error::config(
                "loss.class_weights",
                format!("{} weights for {} classes", weights.len(), self.plan.classes),
                format!("give one for each of {}", self.classes.join(", ")),
            ));
        }
        if method.adversarial.mode != Mode::Off {
            let pathways = network.field(self.plan.patch)?.pathways;
            let lengths = pathways.iter().map(|p| p.size.iter().product::<usize>() * self.plan.channels);
            let norms: Vec<f64> =
                lengths.clone().map(|length| adversarial::norm(self.method, length)).collect();
            let shown: Vec<String> = lengths
                .zip(&norms)
                .map(|(length, norm)| {
                    let rms = norm / (length as f64).sqrt();
                    format!("{norm:.3} ({rms:.4} root mean square over {length} values)")
                })
                .collect();
            let total = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
            let total =
                if norms.len() > 1 { format!("; {total:.3} over all pathways") } else { String::new() };
            progress.note(&format!(
                "adversarial perturbations of a sample have the L2 norm {}{total}",
                shown.join(", ")
            ));
        }
        Ok(())
    }

    /// Batches for the extra passes, where these have their own.
    fn extra_loader(&self, source: &Arc<SampleSource>, steps: std::ops::Range<u64>) -> Option<Loader> {
        if self.method.conventions.aux_batch != AuxBatch::RawIndependent || !self.method.has_extra_passes() {
            return None;
        }
        let seed = crate::rng::generator(self.config.seed, &["independent batches"]).next_u64();
        let queue = self.config.loader.queue;
        let sampler = self.sampler(source);
        Some(Loader::start(source.clone(), sampler, Policy::default(), seed, steps, 1, queue))
    }

    /// What a policy that learns minimises: plain cross-entropy and Dice over whole batches, as scores are, whatever
    /// margins and weights the method trains with.
    fn policy_objective<'b>(&'b self, network: &'b Network) -> Objective<'b> {
        let objective = self.objective(network);
        let Loss { cross_entropy, dice, .. } = objective.loss;
        let loss = Loss { cross_entropy, dice, reduction: DiceReduction::Batch, ..Loss::default() };
        Objective { loss, ..objective }
    }

    /// Refuses a loss whose samples have no losses of their own.
    fn check_learnable(&self, objective: &Objective<'_>) -> Result<()> {
        let loss = &objective.loss;
        if loss.dice == 0.0 || loss.reduction == DiceReduction::Sample {
            return Ok(());
        }
        Err(Error::config(
            "loss.dice_reduction",
            "`batch`, but a policy learns from the loss of every sample by itself",
            "set loss.dice_reduction=sample, or choose a policy that does not learn",
        ))
    }

    fn tutor(
        &self,
        network: &Network,
        source: &SampleSource,
        state: Option<PolicyState>,
        step: u64,
        planned: u64,
    ) -> Result<Tutor<'_>> {
        let memory = gib(self.config.loader.memory_gib);
        let cases = SampleSource::prepared(self.policy_validation.to_vec(), self.plan.classes, memory);
        let cases = Arc::new(cases.seen_by(network.field(self.plan.patch)?));
        let learning = &self.config.policy.learning;
        let adapt = |batch| batch;
        let conventions = self.method.conventions;
        let lesson = Lesson { learning, conventions, seed: self.config.seed, planned, step, adapt };
        Ok(Tutor::new(lesson, self.policy, state, cases, &self.sampler(source)))
    }

    fn sampler(&self, source: &SampleSource) -> Sampler {
        let sampling = &self.config.sampling;
        let mut sampler = Sampler::new(source.patch(self.plan.patch), self.plan.batch);
        sampler.share = match sampling.rule {
            SamplingRule::LastThird => Share::LastThird,
            SamplingRule::Probability => Share::Probability(sampling.foreground_share),
            SamplingRule::Centred => Share::Centred(sampling.foreground_share),
        };
        sampler
    }

    fn loader(&self, source: &Arc<SampleSource>, policy: Timeline, steps: std::ops::Range<u64>) -> Loader {
        let mut sampler = self.sampler(source);
        let gate = &self.method.config.augmentation;
        if gate.mode == Mode::Asymmetric {
            sampler.augmented = Augmented::Rare {
                rare: self.method.rare.clone(),
                background_probability: gate.background_probability,
            };
        }
        if self.method.has_extra_passes() && self.method.conventions.aux_batch == AuxBatch::RawTwin {
            sampler.twin = Twin::Raw;
        }
        let loader = &self.config.loader;
        Loader::start(source.clone(), sampler, policy, self.config.seed, steps, loader.threads, loader.queue)
    }

    /// Trains from the last checkpoint, or from initial weights, to the last planned step.
    pub fn train(&self, progress: &dyn Progress) -> Result<Outcome> {
        let folder = self.run.path("checkpoint");
        let network = network(self.plan, self.config);
        self.check(&network, progress)?;
        let iteration = self.iteration(&network);
        let memory = gib(self.config.loader.memory_gib);
        let source = SampleSource::prepared(self.train.to_vec(), self.plan.classes, memory);
        let source = Arc::new(source.seen_by(network.field(self.plan.patch)?));
        let mut state = match Checkpoint::latest(&folder)? {
            Some((checkpoint, passed)) => {
                for error in passed {
                    progress.note(&format!("passed over a damaged checkpoint: {error}"));
                }
                progress.note(&format!("going on from step {}", checkpoint.step));
                checkpoint
            }
            None => {
                let weights = network.initialise(self.config.seed);
                let optimiser = OptimiserState::new(self.config.optimiser.kind, &weights);
                let planned_steps = self.planned_steps(&network, &weights, &source, progress)?;
                let history = History {
                    planned_steps,
                    patches_per_centre_class: vec![0; self.plan.classes],
                    voxels_per_class: vec![0; self.plan.classes],
                    ..History::default()
                };
                let checkpoint = Checkpoint { step: 0, history, weights, optimiser };
                // Fixes the planned steps, whatever happens next.
                checkpoint.write(&folder, &[Pointer::Latest])?;
                checkpoint
            }
        };
        let planned = state.history.planned_steps;
        let mut events = Events::open(self.run, state.step)?;
        let epoch_length = self.config.schedule.steps_per_epoch;
        let mut shift = self.shift_watch(&network)?;
        let session = Instant::now();
        let before = state.history.train_seconds;
        let mut saved = Instant::now();
        let mut clock = Clock::default();
        let learning = &self.config.policy.learning;
        let policy_objective = self.policy_objective(&network);
        let objective = self.objective(&network);
        let meta = Meta::new(&objective, &policy_objective, learning, &self.method.conventions);
        let mut tutor = match self.config.policy.learns() {
            false => None,
            true => {
                self.check_learnable(&objective)?;
                let known = state.history.policy_state(self.policy)?;
                Some(self.tutor(&network, &source, known, state.step, planned)?)
            }
        };
        let timeline = match &tutor {
            Some(tutor) => tutor.timeline(),
            None => Timeline::fixed(self.policy.clone()),
        };
        let mut loader = self.loader(&source, timeline, state.step..planned);
        let mut extra_loader = self.extra_loader(&source, state.step..planned);
        let mut stopped_early = self.out_of_patience(&state.history);
        progress.begin("training", planned);
        progress.advance(state.step);
        while state.step < planned && !stopped_early {
            let step = state.step;
            let waited = Instant::now();
            let batch = loader.next()?;
            let independent = extra_loader.as_mut().map(Loader::next).transpose()?;
            let waited = waited.elapsed();
            let extra = independent.as_ref().or(batch.twin.as_deref()).unwrap_or(&batch);
            let rate = optimiser::learning_rate(&self.config.optimiser, step, planned);
            let clean = iteration.objective.gradient(&state.weights, &batch)?;
            let teaching = Instant::now();
            let update = match &mut tutor {
                Some(tutor) => tutor.update(&meta, &state.weights, &batch, &clean, rate)?,
                None => None,
            };
            let teaching = teaching.elapsed();
            let passed =
                iteration.run(&mut state.weights, &mut state.optimiser, (&batch, clean), extra, rate)?;
            let history = &mut state.history;
            for &class in &batch.centre_classes {
                if let Some(count) = history.patches_per_centre_class.get_mut(usize::from(class)) {
                    *count += 1;
                }
            }
            history.voxels_per_class.iter_mut().zip(&batch.class_voxels).for_each(|(sum, n)| *sum += n);
            history.epoch_loss_sum += passed.clean.total;
            events.record(&json!({
                "event": "step", "step": step, "loss": passed.clean.total,
                "cross_entropy": passed.clean.cross_entropy, "dice_loss": passed.clean.dice,
                "learning_rate": rate, "gradient_norm": passed.gradient_norm,
                "adversarial_loss": passed.adversarial,
                "mixup_loss": passed.mixup.map(|(loss, _)| loss),
                "mixup_share": passed.mixup.map(|(_, share)| share),
                "seconds": {
                    "wait": seconds(waited), "forward": seconds(passed.forward),
                    "backward": seconds(passed.backward), "update": seconds(passed.update),
                    "policy": seconds(teaching),
                },
            }))?;
            clock.add(waited, &passed, teaching);
            state.step += 1;
            if let Some(update) = &update
                && (update.updates % POLICY_EVENTS == 1 || step + learning.every >= planned)
            {
                events.record(&policy_event(step, update))?;
            }
            if let Some(tutor) = &mut tutor {
                tutor.publish(state.step, update.map(|update| update.policy), &loader);
            }
            progress.advance(1);
            let mut pointers = Vec::new();
            if state.step.is_multiple_of(epoch_length) || state.step == planned {
                let steps = (state.step - 1) % epoch_length + 1;
                let better = self.end_epoch(&network, &mut state, steps, &clock, &mut events, progress)?;
                if better {
                    pointers.push(Pointer::Best);
                }
                if let Some((watch, monitor)) = &mut shift {
                    let timer = Instant::now();
                    let measured = watch.measure(self.plan, &network, &state.weights, self.device)?;
                    events.record(&json!({
                        "event": "logits", "step": state.step - 1, "seen": measured.seen,
                        "unseen": measured.unseen, "seconds": seconds(timer.elapsed()),
                    }))?;
                    if let Some(warning) = monitor.observe(&measured) {
                        progress.note(&warning);
                    }
                }
                clock = Clock::default();
                stopped_early = self.out_of_patience(&state.history) && state.step < planned;
            }
            let checkpoint = &self.config.checkpoint;
            let due = saved.elapsed().as_secs_f64() >= checkpoint.every_seconds
                || (checkpoint.every_steps > 0 && state.step.is_multiple_of(checkpoint.every_steps));
            if due || !pointers.is_empty() || state.step == planned || stopped_early {
                pointers.push(Pointer::Latest);
                state.history.policy = tutor.as_ref().map_or(String::new(), |t| t.state().to_toml());
                state.history.train_seconds = before + seconds(session.elapsed());
                state.write(&folder, &pointers)?;
                saved = Instant::now();
            }
        }
        progress.end();
        Ok(Outcome {
            steps: state.step,
            planned_steps: planned,
            train_seconds: state.history.train_seconds,
            weights: state.weights,
            stopped_early,
        })
    }

    fn out_of_patience(&self, history: &History) -> bool {
        self.config.schedule.patience.is_some_and(|patience| history.epochs_without_better >= patience)
    }

    /// The number of steps of the whole run: as configured, or what fits into the time budget at the speed of
    /// the first steps, which are done on a copy of the weights and thrown away.
    fn planned_steps(
        &self,
        network: &Network,
        weights: &Weights,
        source: &Arc<SampleSource>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        const WARM_UP: u64 = 2;
        const TIMED: u64 = 6;
        let schedule = &self.config.schedule;
        let budget = match schedule.length {
            Length::Steps(steps) => return Ok(steps),
            Length::Epochs(epochs) => return Ok(epochs * schedule.steps_per_epoch),
            Length::Seconds(budget) => budget,
        };
        let iteration = self.iteration(network);
        let mut loader = self.loader(source, Timeline::fixed(self.policy.clone()), 0..WARM_UP + TIMED);
        let mut extra_loader = self.extra_loader(source, 0..WARM_UP + TIMED);
        let mut copy = weights.clone();
        let mut optimiser = OptimiserState::new(self.config.optimiser.kind, weights);
        let mut timer = Instant::now();
        let mut last = None;
        for step in 0..WARM_UP + TIMED {
            if step == WARM_UP {
                timer = Instant::now();
            }
            let batch = loader.next()?;
            let independent = extra_loader.as_mut().map(Loader::next).transpose()?;
            let clean = iteration.objective.gradient(&copy, &batch)?;
            let kept = self.config.policy.learns().then(|| clean.clone());
            let extra = independent.as_ref().or(batch.twin.as_deref()).unwrap_or(&batch);
            iteration.run(&mut copy, &mut optimiser, (&batch, clean), extra, 1e-6)?;
            last = kept.map(|clean| (batch, clean));
        }
        drop(loader);
        let mut step = seconds(timer.elapsed()) / TIMED as f64;
        if let Some((batch, result)) = last {
            let learning = &self.config.policy.learning;
            let policy_objective = self.policy_objective(network);
            let meta = Meta::new(&iteration.objective, &policy_objective, learning, &self.method.conventions);
            let mut tutor = self.tutor(network, source, None, 0, learning.every)?;
            step += seconds(tutor.time(&meta, &copy, &batch, &result)?) / learning.every as f64;
        }
        let timer = Instant::now();
        let cases = self.epoch_cases();
        if let Some(case) = cases.first() {
            self.confusion(network, weights, case)?;
        }
        let epoch = seconds(timer.elapsed()) * cases.len() as f64;
        let left = budget - seconds(self.started.elapsed());
        let steps = (left / (step + epoch / schedule.steps_per_epoch as f64)).floor().max(1.0) as u64;
        progress.note(&format!(
            "{:.0} ms a step: {steps} steps fit into the {left:.0} s left of the time budget",
            1e3 * step
        ));
        Ok(steps)
    }
}

pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn gib(value: f64) -> u64 {
    (value * (1u64 << 30) as f64) as u64
}

/// The network that a plan and a configuration describe.
pub fn network(plan: &Plan, config: &Config) -> Network {
    let (channels, classes) = (plan.channels, plan.classes);
    match plan.deepmedic.clone() {
        Some(shape) => Network::DeepMedic(DeepMedic { channels, classes, shape }),
        None => Network::UNet(UNet {
            channels,
            classes,
            shape: plan.unet.clone(),
            deep_supervision: config.network.deep_supervision,
        }),
    }
}

/// Sets the CPU operators' path and precision as configured and says which path is used.
pub fn select_kernels(config: &Config) -> Result<String> {
    let path = config.kernels.path.map(|path| match path {
        KernelPath::Stock => segen_kernels::Path::Stock,
        KernelPath::Portable => segen_kernels::Path::Portable,
        KernelPath::Avx2 => segen_kernels::Path::Avx2,
        KernelPath::Avx512 => segen_kernels::Path::Avx512,
    });
    let path = segen_kernels::select(path).map_err(|problem| {
        Error::config("kernels.path", problem, "leave it out to get the fastest path that this processor has")
    })?;
    segen_kernels::set_precision(match config.kernels.precision {
        Precision::F32 => segen_kernels::Precision::F32,
        Precision::Bf16 => segen_kernels::Precision::Bf16,
    });
    segen_kernels::allow_matrix_tiles(config.kernels.matrix_tiles);
    Ok(path.to_string())
}

/// Every so many updates the policy is recorded.
const POLICY_EVENTS: u64 = 10;

/// Probabilities of all choices after an update, in the order target, group, choice, to six digits.
fn policy_event(step: u64, update: &Update) -> serde_json::Value {
    let policy = &update.policy;
    let groups = 0..policy.groups.len();
    let all = (0..policy.targets.len())
        .flat_map(|target| groups.clone().flat_map(move |group| policy.probabilities(target, group)));
    let rounded: Vec<f64> = all.map(|p| (p * 1e6).round() / 1e6).collect();
    json!({
        "event": "policy", "step": step, "updates": update.updates,
        "validation_loss": update.validation_loss, "probabilities": rounded,
    })
}

/// The folder of the checkpoints of a run.
pub fn checkpoint_folder(run: &Run) -> std::path::PathBuf {
    run.path("checkpoint")
}

/// Weights of a finished or running run.
pub fn weights(run: &Run, pointer: Pointer) -> Result<Weights> {
    Ok(Checkpoint::pointed(&checkpoint_folder(run), pointer)?.weights)
}
