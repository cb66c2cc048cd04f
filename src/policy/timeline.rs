//! Which policy a batch is drawn with while the policy learns.
//!
//! Batches are made ahead of training, so the policy of now is not known when they are drawn. The batch of step t
//! takes the policy as it was after t - delay steps: the same one whatever the threads and the queue are. A batch
//! whose policy is not known yet has to wait.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Policy;
use crate::augment::Augmentation;

/// A policy, or one that changes over the steps.
#[derive(Clone, Debug)]
pub struct Timeline {
    delay: u64,
    /// Steps done when the last snapshot was taken or confirmed; later ones may change it.
    known: u64,
    /// (steps done, policy since then), in order; never empty.
    snapshots: VecDeque<(u64, Arc<Policy>)>,
}

impl Timeline {
    /// A policy that never changes.
    pub fn fixed(policy: Policy) -> Self {
        Self { delay: 0, known: u64::MAX, snapshots: [(0, Arc::new(policy))].into() }
    }

    /// A policy that changes: the batch of step t takes it as of step t - `delay`. `snapshots` are (steps done,
    /// policy since then) in order, as far back as `steps_done - delay`.
    ///
    /// # Panics
    /// Where there is no snapshot, or a batch would have to wait for the step that waits for it (delay 0 is
    /// fine: the policy after t steps is known before batch t is needed).
    pub fn learning(delay: u64, steps_done: u64, snapshots: Vec<(u64, Policy)>) -> Self {
        assert!(!snapshots.is_empty(), "a policy to begin with");
        let snapshots = snapshots.into_iter().map(|(step, policy)| (step, Arc::new(policy))).collect();
        Self { delay, known: steps_done, snapshots }
    }

    /// The policy for the batch of a step, where it is known.
    pub fn of_batch(&self, step: u64) -> Option<Arc<Policy>> {
        let at = step.saturating_sub(self.delay);
        if at > self.known {
            return None;
        }
        let in_force = self.snapshots.iter().rev().find(|(since, _)| *since <= at);
        in_force.or(self.snapshots.front()).map(|(_, policy)| Arc::clone(policy))
    }

    /// Takes note that after `steps_done` steps the policy is `changed`, or as before.
    pub fn publish(&mut self, steps_done: u64, changed: Option<Policy>) {
        if let Some(policy) = changed {
            self.snapshots.push_back((steps_done, Arc::new(policy)));
        }
        self.known = self.known.max(steps_done);
        // The next batch to be drawn is at least that of step `steps_done`.
        let needed = steps_done.saturating_sub(self.delay);
        while self.snapshots.get(1).is_some_and(|(since, _)| *since <= needed) {
            self.snapshots.pop_front();
        }
    }

    /// The snapshots that later batches may still need: (steps done, policy since then).
    pub fn snapshots(&self) -> impl Iterator<Item = (u64, &Policy)> {
        self.snapshots.iter().map(|(step, policy)| (*step, policy.as_ref()))
    }
}

impl From<Policy> for Timeline {
    fn from(policy: Policy) -> Self {
        Self::fixed(policy)
    }
}

impl From<Augmentation> for Timeline {
    fn from(augmentation: Augmentation) -> Self {
        Self::fixed(Policy::fixed("list", augmentation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Policy {
        Policy::fixed(name, Augmentation::none())
    }

    #[test]
    fn a_batch_takes_the_policy_of_so_many_steps_before() {
        let mut timeline = Timeline::learning(3, 0, vec![(0, named("start"))]);
        let name = |timeline: &Timeline, step| timeline.of_batch(step).map(|policy| policy.name.clone());
        assert_eq!(name(&timeline, 3).unwrap(), "start");
        assert_eq!(name(&timeline, 4), None, "step 1 may still change it");
        timeline.publish(1, None);
        timeline.publish(2, Some(named("second")));
        assert_eq!(name(&timeline, 4).unwrap(), "start");
        assert_eq!(name(&timeline, 5).unwrap(), "second");
        assert_eq!(name(&timeline, 6), None);
        timeline.publish(3, None);
        timeline.publish(4, Some(named("fourth")));
        assert_eq!(name(&timeline, 6).unwrap(), "second");
        assert_eq!(name(&timeline, 7).unwrap(), "fourth");
        timeline.publish(7, None);
        assert_eq!(timeline.snapshots().map(|(step, _)| step).collect::<Vec<_>>(), [4]);
        assert_eq!(name(&Timeline::fixed(named("one")), u64::MAX).unwrap(), "one");
    }
}
