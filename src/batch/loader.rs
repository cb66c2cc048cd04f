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

use super::Batch;
use super::maker::BatchMaker;
use super::sampler::Sampler;
use super::source::SampleSource;
use crate::policy::{Policy, Timeline};
use crate::{Error, Result};

/// Makes batches ahead of the training loop. Dropping it stops and joins its threads.
#[derive(Debug)]
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    next: u64,
    end: u64,
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
        let maker = Arc::new(BatchMaker { source, sampler, seed });
        let threads = (0..threads.max(1))
            .map(|_| {
                let (shared, maker) = (Arc::clone(&shared), Arc::clone(&maker));
                std::thread::spawn(move || work(&shared, &maker))
            })
            .collect();
        Self { shared, threads, next: steps.start, end: steps.end }
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
        batch
    }

    /// Tells the threads that after `steps_done` steps the policy is `changed`, or as before.
    pub fn publish(&self, steps_done: u64, changed: Option<Policy>) {
        self.shared.lock().policy.publish(steps_done, changed);
        self.shared.changed.notify_all();
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

fn work(shared: &Shared, maker: &BatchMaker) {
    let mut state = shared.lock();
    loop {
        if state.stop {
            return;
        }
        let step = state.next;
        let (of_step, _) = maker.sampler.numbered(step);
        let Some(policy) = state.policy.of_batch(of_step).filter(|_| step < state.limit) else {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.next += 1;
        drop(state);
        let batch = catch_unwind(AssertUnwindSafe(|| maker.batch(step, &policy))).unwrap_or_else(|panic| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Augmentation;

    #[test]
    fn the_queue_is_bounded() {
        // Without a case every batch is an error, which waits for its step as a batch does.
        let source = Arc::new(SampleSource::in_memory(Vec::new(), 2));
        let sampler = Sampler::new([8; 3], 1);
        let mut loader = Loader::start(source, sampler, Augmentation::none(), 0, 0..1_000_000_000, 4, 3);
        for _ in 0..5 {
            assert!(loader.next().is_err());
            std::thread::sleep(std::time::Duration::from_millis(10));
            assert!(loader.shared.lock().ready.len() <= 3);
        }
    }
}
