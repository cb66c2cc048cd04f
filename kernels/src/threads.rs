//! The threads that the operators run on.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rayon::ThreadPool;
use rayon::prelude::*;

/// A number of threads and, from the first use on, the threads themselves. Those of one number are shared by all who have
/// it, and end with the last of them.
#[derive(Clone)]
pub(crate) struct Threads(Arc<Pool>);

impl fmt::Debug for Threads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.count().fmt(formatter)
    }
}

struct Pool {
    count: usize,
    /// Nothing stands for the calling thread: one thread needs no pool, and neither does a system that denies us threads.
    pool: OnceLock<Option<ThreadPool>>,
}

static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(vec![]);

impl Threads {
    /// `count` threads, at least one.
    pub(crate) fn new(count: usize) -> Self {
        let count = count.max(1);
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        let known = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.count == count);
        Self(known.unwrap_or_else(|| {
            let pool = Arc::new(Pool { count, pool: OnceLock::new() });
            pools.push(Arc::downgrade(&pool));
            pool
        }))
    }

    /// As many as the processor has.
    pub(crate) fn all() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count
    }

    /// Runs `task(index)` for every index below `count`, each index once.
    pub(crate) fn run(&self, count: usize, task: impl Fn(usize) + Sync) {
        match self.0.pool.get_or_init(|| build(self.0.count)) {
            Some(pool) if count > 1 => {
                pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(&task));
            }
            _ => (0..count).for_each(task),
        }
    }
}

fn build(count: usize) -> Option<ThreadPool> {
    if count == 1 {
        return None;
    }
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("kernels-{i}")).build();
    pool.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn threads_of_one_number_are_shared_and_end_with_the_last() {
        let (first, second) = (Threads::new(5), Threads::new(5));
        assert_eq!((first.count(), Threads::new(0).count()), (5, 1));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        let sum = AtomicUsize::new(0);
        first.run(10, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 45);
        let pool = Arc::downgrade(&first.0);
        drop((first, second));
        assert!(pool.upgrade().is_none());
    }
}
