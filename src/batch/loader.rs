//! Threads that keep a queue of batches full, in an order that does not depend on their number.
//!
//! The batch of a step is a pure function of (seed, step, data, settings); threads only decide who makes it.
//! They share one process and one cache, so nothing is copied between them and memory is bounded: at most
//! `queue` batches lie ready or in the making.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::sampler::{Purpose, Sampler, Twin, generator};
use crate::augment::Draw;
use crate::network::{Field, Padding};
use crate::policy::{Chosen, Policy, Timeline};
use crate::prepare::{IGNORE, Placement};
use crate::{Error, Result};

use super::source::{Opened, SampleSource};

/// What one training step sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The step it is for.
    pub step: u64,
    /// What the network takes: one array per input pathway, full resolution first.
    pub inputs: Vec<Input>,
    /// (batch, x, y, z): the labels of the voxels that the network gives logits for.
    pub labels: Vec<u8>,
    /// Edges of `labels`.
    pub label_shape: [usize; 4],
    /// Name of each patch's case.
    pub cases: Vec<String>,
    /// Label of the voxel that each patch is centred on.
    pub centre_classes: Vec<u8>,
    /// The foreground class that each patch was placed for, where it was placed for one.
    pub sought: Vec<Option<u8>>,
    /// What the policy chose for each patch.
    pub chosen: Vec<Chosen>,
    /// Voxels of each class over the batch, after augmentation; ignored voxels are in none, padding is in
    /// the background.
    pub class_voxels: Vec<u64>,
    /// Set where voxels show mixtures of two labels: `labels` is then the first of them.
    pub mixture: Option<Mixture>,
    /// The same patches without augmentation, where they were asked for and differ.
    pub twin: Option<Box<Self>>,
    /// Seconds that one thread worked on it, by the clock.
    pub seconds: f64,
}

/// The second labels of a batch of mixed patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// As [`Batch::labels`].
    pub labels: Vec<u8>,
    /// What part of every voxel the first label is.
    pub share: f32,
}

/// The images of a batch for one input pathway of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// (batch, channel, x, y, z), row-major.
    pub values: Vec<f32>,
    /// Edges of `values`.
    pub shape: [usize; 5],
}

impl Input {
    /// The images of one sample, (channel, x, y, z).
    pub fn sample_mut(&mut self, index: usize) -> &mut [f32] {
        let length = self.shape[1..].iter().product::<usize>();
        &mut self.values[index * length..(index + 1) * length]
    }
}

/// How often each class was seen over many batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Patches in all.
    pub patches: u64,
    /// For each class, patches whose centre voxel has it; patches centred on an ignored voxel are in none.
    pub centres: Vec<u64>,
    /// For each class, patches that were placed to show a voxel of it.
    pub sought: Vec<u64>,
    /// For each class, its voxels, after augmentation; see [`Batch::class_voxels`].
    pub voxels: Vec<u64>,
}

impl Seen {
    /// Counts one batch more.
    pub fn add(&mut self, batch: &Batch) {
        let classes = self.voxels.len().max(batch.class_voxels.len());
        self.voxels.resize(classes, 0);
        self.centres.resize(classes, 0);
        self.sought.resize(classes, 0);
        self.patches += batch.centre_classes.len() as u64;
        for class in &batch.centre_classes {
            if let Some(count) = self.centres.get_mut(usize::from(*class)) {
                *count += 1;
            }
        }
        for class in batch.sought.iter().flatten() {
            if let Some(count) = self.sought.get_mut(usize::from(*class)) {
                *count += 1;
            }
        }
        for (count, voxels) in self.voxels.iter_mut().zip(&batch.class_voxels) {
            *count += voxels;
        }
    }
}

/// Makes batches ahead of the training loop. Dropping it stops and joins its threads.
#[derive(Debug)]
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    end: u64,
    waited: Duration,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The next step that nobody has begun.
    next: u64,
    /// Steps below this one may be begun.
    limit: u64,
    ready: BTreeMap<u64, Result<Batch>>,
    policy: Timeline,
    stop: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A worker panics outside the lock only, so the state is whole even where the lock is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loader {
    /// Starts `threads` threads (at least one) that make the batches of `steps` in order, at most `queue`
    /// (at least one) ahead of [`Self::next`]. `policy` is a policy, a list of operations or, where the policy
    /// learns, its [`Timeline`]; see [`Self::publish`].
    pub fn start(
        source: Arc<SampleSource>,
        sampler: Sampler,
        policy: impl Into<Timeline>,
        seed: u64,
        steps: Range<u64>,
        threads: usize,
        queue: usize,
    ) -> Self {
        let queue = queue.max(1) as u64;
        let state = State {
            next: steps.start,
            limit: steps.end.min(steps.start.saturating_add(queue)),
            ready: BTreeMap::new(),
            policy: policy.into(),
            stop: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let recipe = Arc::new(Recipe { source, sampler, seed });
        let threads = (0..threads.max(1))
            .map(|_| {
                let (shared, recipe) = (Arc::clone(&shared), Arc::clone(&recipe));
                std::thread::spawn(move || work(&shared, &recipe))
            })
            .collect();
        Self { shared, threads, next: steps.start, end: steps.end, waited: Duration::ZERO }
    }

    /// The batch of the next step, waiting for it where needed. Errors of a worker come out here, at the step
    /// that they belong to; so does a call after the last step.
    #[expect(clippy::should_implement_trait, reason = "an endless iterator of results hides the last step")]
    pub fn next(&mut self) -> Result<Batch> {
        if self.next >= self.end {
            return Err(Error::config(
                "loader",
                format!("asked for a batch after the last step, {}", self.end),
                "start the loader with more steps",
            ));
        }
        let began = Instant::now();
        let mut state = self.shared.lock();
        let batch = loop {
            if let Some(batch) = state.ready.remove(&self.next) {
                break batch;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        self.next += 1;
        state.limit = self.end.min(state.limit.saturating_add(1));
        drop(state);
        self.shared.changed.notify_all();
        self.waited += began.elapsed();
        batch
    }

    /// Tells the threads that after `steps_done` steps the policy is `changed`, or as before.
    pub fn publish(&self, steps_done: u64, changed: Option<Policy>) {
        self.shared.lock().policy.publish(steps_done, changed);
        self.shared.changed.notify_all();
    }

    /// Batches that lie ready.
    pub fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }

    /// How long [`Self::next`] has waited in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches its panics, so joining cannot fail; if it did, there is nobody left to tell.
            drop(thread.join());
        }
    }
}

/// All that a batch depends on beside its step.
#[derive(Debug)]
struct Recipe {
    source: Arc<SampleSource>,
    sampler: Sampler,
    seed: u64,
}

fn work(shared: &Shared, recipe: &Recipe) {
    let mut state = shared.lock();
    loop {
        if state.stop {
            return;
        }
        let step = state.next;
        let Some(policy) = state.policy.of_batch(step).filter(|_| step < state.limit) else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.next += 1;
        drop(state);
        let batch = catch_unwind(AssertUnwindSafe(|| recipe.batch(step, &policy))).unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Error::Internal { what: format!("making the batch of step {step}: {message}") })
        });
        state = shared.lock();
        state.ready.insert(step, batch);
        shared.changed.notify_all();
    }
}

impl Recipe {
    fn batch(&self, step: u64, policy: &Policy) -> Result<Batch> {
        let began = Instant::now();
        self.sampler.check()?;
        policy.check()?;
        if self.source.is_empty() {
            return Err(Error::config(
                "training cases",
                "there are none",
                "check the split and `--fraction`",
            ));
        }
        let Sampler { patch, batch, .. } = self.sampler;
        let voxels = patch.iter().product::<usize>();
        let field = self.source.field(patch);
        if field.output != patch {
            let what = format!("patches of {patch:?} for a network that labels {:?}", field.output);
            return Err(Error::Internal { what });
        }
        let input = |[x, y, z]: [usize; 3]| Input { values: Vec::new(), shape: [batch, 0, x, y, z] };
        let mut made = Batch {
            step,
            inputs: field.pathways.iter().map(|pathway| input(pathway.size)).collect(),
            labels: vec![0; batch * voxels],
            label_shape: [batch, patch[0], patch[1], patch[2]],
            cases: Vec::with_capacity(batch),
            centre_classes: Vec::with_capacity(batch),
            sought: Vec::with_capacity(batch),
            chosen: Vec::with_capacity(batch),
            class_voxels: vec![0; self.source.classes()],
            mixture: None,
            twin: None,
            seconds: 0.0,
        };
        let mut placements = Vec::with_capacity(batch);
        let mut changed = false;
        for index in 0..batch {
            let mut random = generator(self.seed, step, index, Purpose::Placement);
            let case = self.sampler.draw_case(self.source.len(), &mut random);
            let opened = self.source.open(case)?;
            let channels = opened.channels();
            for input in &mut made.inputs {
                if index == 0 {
                    input.shape[1] = channels;
                    input.values = vec![0.0; input.shape.iter().product()];
                } else if input.shape[1] != channels {
                    return Err(Error::config(
                        "training cases",
                        format!("case `{}` has {channels} channels, others {}", opened.id(), input.shape[1]),
                        "run `segen check` on the data set",
                    ));
                }
            }
            let placement = self.sampler.place(index, case, &opened.sites()?, &mut random)?;
            let mut random = generator(self.seed, step, index, Purpose::Augmentation);
            let (chosen, mut draw) = policy.draw(placement.centre_class, channels, &mut random);
            let mut gate = generator(self.seed, step, index, Purpose::Gate);
            if !self.sampler.augments(placement.centre_class, &mut gate) {
                draw = Draw::identity();
            }
            changed |= draw != Draw::identity();
            placements.push(placement);
            let mut inputs: Vec<&mut [f32]> =
                made.inputs.iter_mut().map(|input| input.sample_mut(index)).collect();
            let labels = &mut made.labels[index * voxels..(index + 1) * voxels];
            self.cut(&opened, &field, &placement, &draw, &mut inputs, labels)?;
            self.add_counts(opened.id(), labels, &mut made.class_voxels)?;
            made.cases.push(opened.id().to_owned());
            made.centre_classes.push(placement.centre_class);
            made.sought.push(placement.sought);
            made.chosen.push(chosen);
        }
        if changed && self.sampler.twin == Twin::Raw {
            made.twin = Some(Box::new(self.raw(&made, &field, &placements)?));
        }
        made.seconds = began.elapsed().as_secs_f64();
        Ok(made)
    }

    /// The patches of a batch as they are.
    fn raw(&self, made: &Batch, field: &Field, placements: &[Placement]) -> Result<Batch> {
        let mut raw = made.clone();
        raw.class_voxels.fill(0);
        let voxels = raw.labels.len() / placements.len();
        for (index, placement) in placements.iter().enumerate() {
            let opened = self.source.open(placement.case)?;
            let mut inputs: Vec<&mut [f32]> =
                raw.inputs.iter_mut().map(|input| input.sample_mut(index)).collect();
            let labels = &mut raw.labels[index * voxels..(index + 1) * voxels];
            self.cut(&opened, field, placement, &Draw::identity(), &mut inputs, labels)?;
            self.add_counts(opened.id(), labels, &mut raw.class_voxels)?;
        }
        Ok(raw)
    }

    fn cut(
        &self,
        opened: &Opened<'_>,
        field: &Field,
        placement: &Placement,
        draw: &Draw,
        inputs: &mut [&mut [f32]],
        labels: &mut [u8],
    ) -> Result<()> {
        let corners = match field.padding {
            Padding::Zero => &[],
            Padding::Corners => self.source.corners(placement.case, opened)?,
        };
        let sketches = self.source.sketches(placement.case);
        super::cut::View { case: opened, sketches, field, corners, placement }.cut(draw, inputs, labels)
    }

    /// Counts a patch's labels by class; an error where one is no class.
    fn add_counts(&self, case: &str, labels: &[u8], class_voxels: &mut [u64]) -> Result<()> {
        for (label, count) in count(labels).into_iter().enumerate().filter(|(_, count)| *count > 0) {
            match class_voxels.get_mut(label) {
                Some(voxels) => *voxels += count,
                None if label == usize::from(IGNORE) => {}
                None => {
                    return Err(Error::config(
                        "training cases",
                        format!(
                            "case `{case}` holds label {label}, but there are {} classes",
                            self.source.classes()
                        ),
                        "prepare the data set again with its current `dataset.json`",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// How often each value occurs. Labels come in long runs, so blocks of one value are counted at once.
fn count(labels: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    let (blocks, rest) = labels.as_chunks::<64>();
    for block in blocks {
        let differs = block.iter().fold(0, |differs, label| differs | (label ^ block[0]));
        if differs == 0 {
            counts[usize::from(block[0])] += 64;
        } else {
            block.iter().for_each(|label| counts[usize::from(*label)] += 1);
        }
    }
    rest.iter().for_each(|label| counts[usize::from(*label)] += 1);
    counts
}
