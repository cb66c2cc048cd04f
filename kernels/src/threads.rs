//! The threads that the operators run on.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use rayon::ThreadPool;
use rayon::prelude::*;

static POOL: LazyLock<RwLock<Option<Arc<ThreadPool>>>> = LazyLock::new(|| RwLock::new(build(available())));

/// Sets the number of threads of all operators from now on, for the whole process; at first it is the number of
/// processors. Results do not depend on it, bit for bit: the chunks of all sums are fixed and combined in order.
pub fn set_threads(count: usize) {
    *POOL.write().unwrap_or_else(PoisonError::into_inner) = build(count.max(1));
}

/// Runs `task(index)` for every index below `count`, on all threads, each index once.
pub(crate) fn parallel(count: usize, task: impl Fn(usize) + Sync) {
    let pool = POOL.read().unwrap_or_else(PoisonError::into_inner).clone();
    match pool {
        Some(pool) if count > 1 => {
            pool.install(|| (0..count).into_par_iter().with_max_len(1).for_each(&task));
        }
        _ => (0..count).for_each(task),
    }
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `None` stands for the calling thread: one thread needs no pool, and neither does a system that denies us threads.
fn build(count: usize) -> Option<Arc<ThreadPool>> {
    if count == 1 {
        return None;
    }
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("kernels-{i}")).build();
    pool.ok().map(Arc::new)
}
