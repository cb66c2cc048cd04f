//! A segmentation's training, as its configuration, plan and method describe it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use rand::Rng;
use segen_kernels::{Device, Settings};

use super::checkpoint::{Checkpoint, History, Pointer, read_weights};
use super::control::Control;
use super::epoch::Validation;
use super::iteration::Iteration;
use super::loss::Loss;
use super::meta::Meta;
use super::method::Method;
use super::objective::Objective;
use super::optimiser::{LearningRate, OptimiserState};
use super::policy::{PolicyLearner, PolicyState, Sources, Span};
use super::train::{Batches, Outcome, Training};
use crate::batch::loader::Loader;
use crate::batch::sampler::{Augmented, Sampler, Share, Twin};
use crate::batch::source::SampleSource;
use crate::config::method::Mode;
use crate::config::published::AuxBatch;
use crate::config::{ClassWeights, Config, DiceReduction, KernelPath, Precision, SamplingRule};
use crate::network::{Network, Weights};
use crate::plan::Plan;
use crate::policy::{Policy, Timeline};
use crate::prepare::PreparedCase;
use crate::progress::Progress;
use crate::run::{INITIAL, Run};
use crate::{Error, Result};

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

impl<'a> Job<'a> {
    /// Trains from the last checkpoint, or from initial weights, to the last planned step.
    ///
    /// # Errors
    /// Where the configuration does not go with the data, a case cannot be read, a file cannot be written, or a
    /// number is no longer finite.
    pub fn train(&self, progress: &dyn Progress) -> Result<Outcome> {
        let network = self.plan.network(&self.config.network);
        self.check(&network, progress)?;
        let source = self.source(&network, self.train)?;
        let state = match self.resume(progress)? {
            Some(state) => state,
            None => self.begin(&network, &source, progress)?,
        };
        let (objective, policy_objective) = (self.objective(&network), self.policy_objective(&network));
        let steps = state.step..state.history.planned_steps;
        let learner = match self.config.policy.learns() {
            false => None,
            true => {
                let span = Span { seed: self.config.seed, step: steps.start, planned: steps.end };
                let known = state.history.policy_state(self.policy)?;
                Some(self.policy_learner((&objective, &policy_objective), span, known, &source)?)
            }
        };
        let timeline = match &learner {
            Some(learner) => learner.timeline(),
            None => Timeline::fixed(self.policy.clone()),
        };
        let control = Control::of(self, &network, progress)?;
        let mut validation = Validation::new(self, &network, state.step)?.controlled(control);
        let training = Training {
            iteration: self.iteration(&network),
            rate: LearningRate::Polynomial(&self.config.optimiser),
            batches: Batches {
                clean: self.loader(&source, timeline, steps.clone()),
                independent: self.independent_loader(&source, steps),
            },
            learner,
            epochs: &mut validation,
            steps_per_epoch: self.config.schedule.steps_per_epoch,
            patience: self.config.schedule.patience,
            checkpoint: &self.config.checkpoint,
            tensorboard: self.config.tensorboard.then_some(self.classes),
            run: self.run,
            state,
        };
        training.run(progress)
    }

    /// The state of the last checkpoint that is whole.
    fn resume(&self, progress: &dyn Progress) -> Result<Option<Checkpoint>> {
        let Some((mut checkpoint, damaged)) = Checkpoint::latest(&self.run.checkpoints())? else {
            return Ok(None);
        };
        for error in damaged {
            progress.note(&format!("passed over a damaged checkpoint: {error}"));
        }
        progress.note(&format!("going on from step {}", checkpoint.step));
        // Its configuration has another length than the checkpoint where it was lengthened since.
        let history = &mut checkpoint.history;
        if let Some(steps) =
            self.config.schedule.fixed_steps().filter(|steps| *steps != history.planned_steps)
        {
            history.planned_steps = steps;
            history.epochs_without_better = 0;
        }
        Ok(Some(checkpoint))
    }

    /// The state before the first step. Writing it fixes the planned steps, whatever happens next.
    fn begin(
        &self,
        network: &Network,
        source: &Arc<SampleSource>,
        progress: &dyn Progress,
    ) -> Result<Checkpoint> {
        let mut weights = network.initialise(self.config.seed);
        self.take_initial(&mut weights)?;
        let optimiser = OptimiserState::new(self.config.optimiser.kind, &weights);
        let planned_steps = self.planned_steps(network, &weights, source, progress)?;
        let history = History::new(planned_steps, self.plan.classes);
        let checkpoint = Checkpoint { step: 0, history, weights, optimiser };
        checkpoint.write(&self.run.checkpoints(), &[Pointer::Latest])?;
        Ok(checkpoint)
    }

    /// Where the run begins with weights that were not all drawn, they stand in its folder.
    fn take_initial(&self, weights: &mut Weights) -> Result<()> {
        let path = self.run.path(INITIAL);
        if !path.is_file() {
            return Ok(());
        }
        let mut known = read_weights(&path)?;
        for own in weights.parameters.iter_mut().chain(&mut weights.buffers) {
            match known.remove(&own.name).filter(|known| known.shape == own.shape) {
                Some(known) => own.values = known.values,
                None => {
                    return Err(Error::invalid(
                        path,
                        &own.name,
                        format!("there is none of shape {:?}, which the network of plan.json has", own.shape),
                        "restore the file from a backup, or begin a new run",
                    ));
                }
            }
        }
        Ok(())
    }

    /// What cannot be trained as it is configured, found before the first step; and what the passes do.
    fn check(&self, network: &Network, progress: &dyn Progress) -> Result<()> {
        let pathways = network.field(self.plan.patch)?.pathways;
        let values: Vec<usize> =
            pathways.iter().map(|p| p.size.iter().product::<usize>() * self.plan.channels).collect();
        for pass in self.method.passes() {
            if let Some(note) = pass.check(self.method, self.plan.batch, &values)? {
                progress.note(&note);
            }
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
        let loss = &self.config.loss;
        let reduction = loss.dice_reduction.unwrap_or(self.plan.dice);
        if self.config.policy.learns() && loss.dice != 0.0 && reduction == DiceReduction::Batch {
            return Err(Error::config(
                "loss.dice_reduction",
                "`batch`, but a policy learns from the loss of every sample by itself",
                "set loss.dice_reduction=sample, or choose a policy that does not learn",
            ));
        }
        Ok(())
    }

    pub(super) fn objective<'b>(&'b self, network: &'b Network) -> Objective<'b> {
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

    /// What a policy that learns minimises: plain cross-entropy and Dice over whole batches, as scores are, whatever
    /// margins and weights the method trains with.
    pub(super) fn policy_objective<'b>(&'b self, network: &'b Network) -> Objective<'b> {
        let objective = self.objective(network);
        let Loss { cross_entropy, dice, .. } = objective.loss;
        let loss = Loss { cross_entropy, dice, reduction: DiceReduction::Batch, ..Loss::default() };
        Objective { loss, ..objective }
    }

    pub(super) fn iteration<'b>(&'b self, network: &'b Network) -> Iteration<'b> {
        Iteration {
            objective: self.objective(network),
            method: self.method,
            optimiser: &self.config.optimiser,
            pass_share: if self.method.config.auto.on { 0.0 } else { 1.0 },
        }
    }

    /// Cases as the network sees them.
    fn source(&self, network: &Network, cases: &[PreparedCase]) -> Result<Arc<SampleSource>> {
        let memory = (self.config.loader.memory_gib * (1u64 << 30) as f64) as u64;
        let source = SampleSource::prepared(cases.to_vec(), self.plan.classes, memory);
        Ok(Arc::new(source.seen_by(network.field(self.plan.patch)?)))
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

    /// The batches of the clean pass.
    pub(super) fn loader(&self, source: &Arc<SampleSource>, policy: Timeline, steps: Range<u64>) -> Loader {
        let mut sampler = self.sampler(source);
        let gate = &self.method.config.augmentation;
        if gate.mode == Mode::Asymmetric {
            sampler.augmented = Augmented::Rare {
                rare: self.method.rare.clone(),
                background_probability: gate.background_probability,
            };
        }
        if !self.method.passes().is_empty() && self.method.conventions.aux_batch == AuxBatch::RawTwin {
            sampler.twin = Twin::Raw;
        }
        let loader = &self.config.loader;
        Loader::start(source.clone(), sampler, policy, self.config.seed, steps, loader.threads, loader.queue)
    }

    /// Batches of the further passes, where these have their own.
    pub(super) fn independent_loader(&self, source: &Arc<SampleSource>, steps: Range<u64>) -> Option<Loader> {
        if self.method.conventions.aux_batch != AuxBatch::RawIndependent || self.method.passes().is_empty() {
            return None;
        }
        let seed = crate::rng::generator(self.config.seed, &["independent batches"]).next_u64();
        let queue = self.config.loader.queue;
        let sampler = self.sampler(source);
        Some(Loader::start(source.clone(), sampler, Policy::default(), seed, steps, 1, queue))
    }

    /// The policy as it learns, from cases of its own; `objectives` are that of training and its own.
    pub(super) fn policy_learner<'b>(
        &'b self,
        (training, validation): (&'b Objective<'b>, &'b Objective<'b>),
        span: Span,
        state: Option<PolicyState>,
        source: &Arc<SampleSource>,
    ) -> Result<PolicyLearner<'b>> {
        let (learning, conventions) = (&self.config.policy.learning, self.method.conventions);
        let meta = Meta::new(training, validation, learning, &conventions);
        let set_aside = self.source(training.network, self.policy_validation)?;
        let sources = Sources { training: source.clone(), set_aside };
        let policy = (self.policy, state);
        PolicyLearner::new(meta, (learning, conventions), span, policy, sources, &self.sampler(source))
    }
}

/// How the CPU operators run by a configuration, with as many threads as now. Whoever calls them for a run does so within
/// [`Settings::scoped`], so that several runs of one process keep apart.
///
/// # Errors
/// A path that this processor cannot run.
pub fn kernel_settings(config: &Config) -> Result<Settings> {
    let path = config.kernels.path.map(|path| match path {
        KernelPath::Portable => segen_kernels::Path::Portable,
        KernelPath::Avx2 => segen_kernels::Path::Avx2,
        KernelPath::Avx512 => segen_kernels::Path::Avx512,
    });
    let settings = Settings::current().with_path(path).map_err(|problem| {
        Error::config("kernels.path", problem, "leave it out to get the fastest path that this processor has")
    })?;
    let precision = match config.kernels.precision {
        Precision::F32 => segen_kernels::Precision::F32,
        Precision::Bf16 => segen_kernels::Precision::Bf16,
    };
    Ok(settings.with_precision(precision).with_matrix_tiles(config.kernels.matrix_tiles))
}
