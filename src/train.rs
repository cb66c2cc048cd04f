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

use crate::checkpoint::{Checkpoint, History, Pointer, PolicyState};
use crate::config::{Config, DEFAULT_EPOCHS, Precision, SamplingRule};
use crate::loader::{Loader, SampleSource};
use crate::logits::{ShiftMonitor, ShiftWatch, WatchOptions};
use crate::loss::{ClassWeights, Loss};
use crate::meta::{Lesson, Meta, Tutor, Update};
use crate::method::{AuxBatch, Method, Mode};
use crate::network::{DeepMedic, Network, UNet, Weights};
use crate::optimiser::{self, OptimiserState};
use crate::plan::{DiceReduction, Plan};
use crate::policy::{Policy, Timeline};
use crate::predict::{Predictor, WindowOptions};
use crate::prepare::{IGNORE, PreparedCase};
use crate::progress::Progress;
use crate::run::{Events, Run};
use crate::sampler::{Augmented, Sampler, Share, Twin};
use crate::step::Objective;
use crate::{Error, Result};

mod iteration;

pub use iteration::{Iteration, Passed};

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

/// Sums over the current epoch that only the screen needs.
#[derive(Default)]
struct Clock {
    wait: Duration,
    forward: Duration,
    backward: Duration,
    update: Duration,
    steps: u32,
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
                mean: loss.dice_mean,
                absent: loss.dice_absent,
                weights: loss.class_weights.clone(),
                relax: loss.class_weights_relax.map(|epochs| epochs.map(|e| e * epoch)),
                voxel: self.method.voxel_loss(loss.epsilon),
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
            let norms: Vec<f64> = lengths.clone().map(|length| method.adversarial.norm(length)).collect();
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
        if self.method.config.aux_batch != AuxBatch::RawIndependent || !self.method.has_extra_passes() {
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
        let lesson = Lesson { learning, seed: self.config.seed, planned, step, adapt };
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
        if self.method.has_extra_passes() && self.method.config.aux_batch == AuxBatch::RawTwin {
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
        let meta = Meta::new(&objective, &policy_objective, learning);
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

    /// What measures the shift of the logits, and a monitor that knows the epochs of earlier sessions.
    fn shift_watch(&self, network: &Network) -> Result<Option<(ShiftWatch, ShiftMonitor)>> {
        let options = WatchOptions {
            windows: self.config.validation.logit_windows,
            patches_per_epoch: self.config.schedule.steps_per_epoch * self.plan.batch as u64,
            seed: self.config.seed,
        };
        let watch = ShiftWatch::choose(self.plan, network, self.train, self.validation, &options)?;
        let Some(watch) = watch else { return Ok(None) };
        let mut monitor =
            ShiftMonitor::new(self.classes, &self.method.rare, self.method.config.name.as_deref());
        for event in crate::run::read_events(&self.run.path("events.jsonl"))? {
            if event["event"] == "logits"
                && let Ok(measured) = serde_json::from_value(event)
            {
                monitor.observe(&measured);
            }
        }
        Ok(Some((watch, monitor)))
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
        if let Some(steps) = schedule.steps {
            return Ok(steps);
        }
        let Some(budget) = schedule.time_budget_seconds else {
            return Ok(schedule.epochs.unwrap_or(DEFAULT_EPOCHS) * schedule.steps_per_epoch);
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
            let meta = Meta::new(&iteration.objective, &policy_objective, learning);
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

    /// Validates, records the epoch, draws the curves. Returns whether this is the best epoch so far.
    fn end_epoch(
        &self,
        network: &Network,
        state: &mut Checkpoint,
        steps: u64,
        clock: &Clock,
        events: &mut Events,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let mut total = vec![[0u64; 3]; self.plan.classes];
        let timer = Instant::now();
        for case in self.epoch_cases() {
            for (sum, counts) in total.iter_mut().zip(self.confusion(network, &state.weights, case)?) {
                (0..3).for_each(|i| sum[i] += counts[i]);
            }
        }
        let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);
        let scores = |score: fn([u64; 3]) -> (u64, u64)| -> Vec<Option<f64>> {
            total[1..].iter().map(|&counts| score(counts)).map(|(above, below)| ratio(above, below)).collect()
        };
        let dice = scores(|[tp, fp, fn_]| (2 * tp, 2 * tp + fp + fn_));
        let defined: Vec<f64> = dice.iter().flatten().copied().collect();
        let score = (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64);
        let history = &mut state.history;
        let loss = history.epoch_loss_sum / steps.max(1) as f64;
        history.epoch_loss_sum = 0.0;
        let better = score.is_some() && score > history.best_score;
        if better {
            history.best_score = score;
            history.epochs_without_better = 0;
        } else {
            history.epochs_without_better += 1;
        }
        let epoch = (state.step - 1) / self.config.schedule.steps_per_epoch;
        let sensitivity = scores(|[tp, _, fn_]| (tp, tp + fn_));
        let precision = scores(|[tp, fp, _]| (tp, tp + fp));
        events.record(&json!({
            "event": "epoch", "step": state.step - 1, "epoch": epoch, "train_loss": loss,
            "validation": {
                "mean_dice": score, "dice": dice, "sensitivity": sensitivity, "precision": precision,
                "cases": self.epoch_cases().iter().map(|c| c.id.clone()).collect::<Vec<_>>(),
                "seconds": seconds(timer.elapsed()),
            },
            "seen": {
                "patches_per_centre_class": history.patches_per_centre_class,
                "voxels_per_class": history.voxels_per_class,
            },
            "share_waiting_on_data": clock.share(clock.wait),
        }))?;
        let shown = score.map_or("no reference".to_owned(), |s| format!("validation Dice {s:.3}"));
        progress.note(&format!(
            "epoch {epoch}, step {}: loss {loss:.4}, {shown}; {}",
            state.step,
            clock.describe()
        ));
        let overlooked = overlooked(&total, self.classes);
        // Before the middle of a training that is nothing unusual.
        if !overlooked.is_empty() && 2 * state.step >= history.planned_steps {
            progress.note(&format!(
                "no voxel of the validation cases is called {} after {} of {} steps: train longer, show the class more \
                 often (`--method ce-80`), or give the loss a Dice term (`loss.dice=1`)",
                overlooked.join(" or "),
                state.step,
                history.planned_steps
            ));
        }
        crate::run::draw_progress(self.run, self.classes)?;
        Ok(better)
    }

    /// The validation cases that are predicted after every epoch.
    fn epoch_cases(&self) -> Vec<&'a PreparedCase> {
        let wanted = self.config.validation.cases_per_epoch.min(self.validation.len());
        (0..wanted).map(|i| &self.validation[i * self.validation.len() / wanted]).collect()
    }

    /// TP, FP, FN per class of one validation case on its prepared grid.
    fn confusion(&self, network: &Network, weights: &Weights, case: &PreparedCase) -> Result<Vec<[u64; 3]>> {
        let sample = case.load()?;
        let mut counts = vec![[0u64; 3]; self.plan.classes];
        let Some(labels) = &sample.labels else { return Ok(counts) };
        let options = WindowOptions { step: self.config.validation.step, ..WindowOptions::default() };
        let predictor = Predictor::new(self.plan, vec![(network.clone(), weights)], options, self.device)?;
        let mut first = 0;
        let mask = sample.mask.as_ref().map(|m| m.view());
        predictor.predict(
            sample.images.view(),
            mask,
            &mut |planes| {
                let (classes, depth, ny, nz) = planes.dim();
                for x in 0..depth {
                    for y in 0..ny {
                        for z in 0..nz {
                            let at = [first + x, y, z];
                            let truth = labels[at];
                            if truth == IGNORE || mask.is_some_and(|mask| mask[at] == 0) {
                                continue;
                            }
                            let mut best = 0;
                            for class in 1..classes {
                                if planes[[class, x, y, z]] > planes[[best, x, y, z]] {
                                    best = class;
                                }
                            }
                            let truth = usize::from(truth);
                            if best == truth {
                                counts[truth][0] += 1;
                            } else {
                                counts[best][1] += 1;
                                counts[truth][2] += 1;
                            }
                        }
                    }
                }
                first += depth;
            },
            &mut |_| {},
        );
        Ok(counts)
    }
}

impl Clock {
    fn add(&mut self, wait: Duration, passed: &Passed, teaching: Duration) {
        self.wait += wait;
        self.forward += passed.forward;
        self.backward += passed.backward;
        self.update += passed.update + teaching;
        self.steps += 1;
    }

    fn total(&self) -> Duration {
        self.wait + self.forward + self.backward + self.update
    }

    fn share(&self, part: Duration) -> f64 {
        seconds(part) / seconds(self.total()).max(1e-9)
    }

    fn describe(&self) -> String {
        let step = 1e3 * seconds(self.total()) / f64::from(self.steps.max(1));
        let percent = |part| 100.0 * self.share(part);
        let mut text = format!(
            "{step:.0} ms a step (forward {:.0} %, backward {:.0} %, update {:.0} %, waiting on data {:.0} %)",
            percent(self.forward),
            percent(self.backward),
            percent(self.update),
            percent(self.wait)
        );
        if self.share(self.wait) > 0.2 {
            text.push_str("; raise `loader.threads`");
        }
        text
    }
}

fn seconds(duration: Duration) -> f64 {
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
    let path = match &config.kernels.path {
        None => None,
        Some(name) => Some(name.parse().map_err(|_| {
            Error::config(
                "kernels.path",
                format!("`{name}` is not a path"),
                "use stock, portable, avx2 or avx512",
            )
        })?),
    };
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

/// Keeps `fraction` of the cases, at least one: nested (a smaller fraction is contained in a larger one), seeded.
pub fn keep_fraction(cases: &[String], fraction: f64, seed: u64) -> Vec<String> {
    use rand::seq::SliceRandom;
    let mut shuffled = cases.to_vec();
    shuffled.shuffle(&mut crate::rng::generator(seed, &["fraction"]));
    shuffled.truncate(((fraction * cases.len() as f64).round() as usize).max(1));
    shuffled.sort();
    shuffled
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

/// Classes that there are, of which no voxel was found: `counts` are TP, FP, FN of every class, background first.
fn overlooked<S: AsRef<str>>(counts: &[[u64; 3]], classes: &[S]) -> Vec<String> {
    let found = counts.iter().zip(classes).skip(1);
    let found = found.filter(|([tp, fp, fn_], _)| tp + fp == 0 && *fn_ > 0);
    found.map(|(_, class)| format!("`{}`", class.as_ref())).collect()
}

/// Keeps the first `fraction` of the cases by name, at least one.
pub fn keep_prefix(cases: &[String], fraction: f64) -> Vec<String> {
    let mut sorted = cases.to_vec();
    sorted.sort();
    sorted.truncate(((fraction * cases.len() as f64).round() as usize).max(1));
    sorted
}

/// Takes `share` of the cases away, seeded, at least one where the share is above 0: (those left, those taken).
///
/// # Errors
/// Where nothing would be left to train on.
pub fn set_aside(cases: &[String], share: f64, seed: u64) -> Result<(Vec<String>, Vec<String>)> {
    use rand::seq::SliceRandom;
    if share == 0.0 {
        return Ok((cases.to_vec(), Vec::new()));
    }
    let count = ((share * cases.len() as f64).round() as usize).max(1);
    if count >= cases.len() {
        return Err(Error::config(
            "policy.validation_share",
            format!("of {} training cases, {count} would be set aside for the policy", cases.len()),
            "train on more cases, or choose a policy that does not learn",
        ));
    }
    let mut shuffled = cases.to_vec();
    shuffled.shuffle(&mut crate::rng::generator(seed, &["policy validation"]));
    let mut left = shuffled.split_off(count);
    left.sort();
    shuffled.sort();
    Ok((left, shuffled))
}

/// The folder of the checkpoints of a run.
pub fn checkpoint_folder(run: &Run) -> std::path::PathBuf {
    run.path("checkpoint")
}

/// Weights of a finished or running run.
pub fn weights(run: &Run, pointer: Pointer) -> Result<Weights> {
    Ok(Checkpoint::pointed(&checkpoint_folder(run), pointer)?.weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_is_there_and_never_found_is_overlooked() {
        let counts = [[90, 0, 0], [0, 0, 5], [0, 1, 4], [0, 0, 0], [3, 0, 0]];
        let classes = ["background", "lesion", "cyst", "absent", "found"];
        assert_eq!(overlooked(&counts, &classes), ["`lesion`"]);
    }

    #[test]
    fn fractions_are_nested_and_never_empty() {
        let cases: Vec<String> = (0..37).map(|i| format!("case_{i:02}")).collect();
        let mut larger = cases.clone();
        for fraction in [1.0, 0.5, 0.2, 0.05, 0.001] {
            let kept = keep_fraction(&cases, fraction, 7);
            assert_eq!(kept.len(), ((fraction * 37.0f64).round() as usize).max(1));
            assert!(kept.iter().all(|case| larger.contains(case)));
            larger = kept;
        }
        assert_ne!(keep_fraction(&cases, 0.2, 1), keep_fraction(&cases, 0.2, 2));
    }
}
