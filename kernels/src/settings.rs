//! How the operators run on the CPU: one value, for the process and for a part of the program.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock};

use crate::path::Path;
use crate::precision::Precision;
use crate::threads::Threads;

/// How the operators run on the CPU: [`Path`], [`Precision`], matrix tiles and number of threads. They have no effect on
/// other devices.
///
/// Those of the process ([`Self::set_for_process`]) are in force wherever none are set for a part of the program
/// ([`Self::scoped`]). An operator takes those in force where it is called, once: the threads that it starts and its
/// backward pass, wherever that is run, have the same.
///
/// ```
/// use segen_kernels::{Precision, Settings};
///
/// let settings = Settings::current().with_precision(Precision::Bf16);
/// settings.scoped(|| assert_eq!(Settings::current().precision(), Precision::Bf16));
/// assert_eq!(Settings::current().precision(), Precision::F32);
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    path: Path,
    precision: Precision,
    matrix_tiles: bool,
    threads: Threads,
}

/// Those that nobody has set: the fastest path, f32, matrix tiles allowed, as many threads as the processor has.
impl Default for Settings {
    fn default() -> Self {
        Self { path: Path::fastest(), precision: Precision::F32, matrix_tiles: true, threads: Threads::all() }
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let parts = |one: &Self| (one.path, one.precision, one.matrix_tiles, one.threads());
        parts(self) == parts(other)
    }
}

impl Eq for Settings {}

static PROCESS: RwLock<Option<Settings>> = RwLock::new(None);

thread_local! {
    static SCOPE: RefCell<Option<Settings>> = const { RefCell::new(None) };
}

/// Gives the thread its former scope back, also where a panic ends the one that took its place.
struct Former(Option<Settings>);

impl Former {
    fn replaced_by(scope: Option<Settings>) -> Self {
        Self(SCOPE.replace(scope))
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        SCOPE.set(self.0.take());
    }
}

impl Settings {
    /// Those in force for the calling thread.
    pub fn current() -> Self {
        if let Some(settings) = SCOPE.with_borrow(Clone::clone) {
            return settings;
        }
        if let Some(settings) = &*PROCESS.read().unwrap_or_else(PoisonError::into_inner) {
            return settings.clone();
        }
        let mut process = PROCESS.write().unwrap_or_else(PoisonError::into_inner);
        process.get_or_insert_default().clone()
    }

    /// Puts these in force from now on, on all threads of the process, except within a [`Self::scoped`].
    pub fn set_for_process(self) {
        *PROCESS.write().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }

    /// Runs `work` on the calling thread with these in force for the operators that it calls. Threads that `work` starts
    /// itself, or hands tasks to, have their own. Whatever was in force before is so again afterwards, also after a panic.
    pub fn scoped<R>(&self, work: impl FnOnce() -> R) -> R {
        let _former = Former::replaced_by(Some(self.clone()));
        work()
    }

    /// The same with another path: `None` is the fastest one that this processor has.
    ///
    /// # Errors
    /// The processor lacks the instructions of `path`.
    pub fn with_path(mut self, path: Option<Path>) -> Result<Self, String> {
        let fastest = Path::fastest();
        self.path = path.unwrap_or(fastest);
        if self.path.is_available() {
            Ok(self)
        } else {
            Err(format!("this processor cannot run the path `{}`; `{fastest}` is its fastest", self.path))
        }
    }

    /// The same with another precision of all convolutions, forward and backward.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same with products of bf16 by the processor's matrix tiles (AMX) allowed or forbidden. Where allowed, they are
    /// used if the processor has them, the system grants them and their products have been found right.
    pub fn with_matrix_tiles(self, allowed: bool) -> Self {
        Self { matrix_tiles: allowed, ..self }
    }

    /// The same with another number of threads, at least one. Results do not depend on it, bit for bit: the chunks of all
    /// sums are fixed and combined in order.
    pub fn with_threads(self, count: usize) -> Self {
        Self { threads: Threads::new(count), ..self }
    }

    /// The implementation that runs.
    pub fn path(&self) -> Path {
        self.path
    }

    /// The precision of convolutions.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether matrix tiles are allowed.
    pub fn matrix_tiles(&self) -> bool {
        self.matrix_tiles
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Runs `task(index)` for every index below `count`, on all threads, each index once.
    pub(crate) fn parallel(&self, count: usize, task: impl Fn(usize) + Sync) {
        // A thread of another pool that waits here may begin a job of that pool, which has nothing to do with this scope.
        let _former = Former::replaced_by(None);
        self.threads.run(count, task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_nested_and_end_with_a_panic() {
        let two = Settings::default().with_threads(2).with_precision(Precision::Bf16);
        let before = Settings::current();
        two.scoped(|| {
            assert_eq!(Settings::current(), two);
            let three = Settings::current().with_threads(3);
            let inner = || three.scoped(|| panic!("{}", Settings::current().threads()));
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(inner));
            let message = panic.map_or_else(|panic| panic.downcast_ref::<String>().cloned(), |()| None);
            assert_eq!(message.as_deref(), Some("3"));
            assert_eq!(Settings::current(), two);
            // Another thread is not in the scope.
            std::thread::scope(|scope| {
                let other = scope.spawn(|| Settings::current().precision());
                assert_eq!(other.join().unwrap(), before.precision());
            });
        });
        assert_eq!(Settings::current(), before);
    }

    #[test]
    fn a_job_that_is_begun_while_an_operator_waits_is_not_in_its_scope() {
        let outer = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let scoped = Settings::default().with_threads(2).with_precision(Precision::Bf16);
        let seen = std::sync::Mutex::new(None);
        outer.install(|| {
            rayon::scope(|scope| {
                scope.spawn(|_| *seen.lock().unwrap() = Some(Settings::current().precision()));
                let wait = || {
                    // The only thread of the outer pool has nothing else to do than that job.
                    for _ in 0..100_000 {
                        if seen.lock().unwrap().is_some() {
                            break;
                        }
                        std::thread::sleep(std::time::Duration::from_micros(100));
                    }
                };
                scoped.scoped(|| scoped.parallel(2, |_| wait()));
            });
        });
        assert_eq!(seen.into_inner().unwrap(), Some(Precision::F32));
    }
}
