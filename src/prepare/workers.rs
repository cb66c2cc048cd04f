//! Work on many cases at once with no more cases in memory than there are threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::progress::Progress;
use crate::{Error, Result};

/// Applies `work` to every item and returns the results in order; `what` names the task for a person.
///
/// As many items are in work as rayon has threads. They run on threads of their own, so that a thread which waits
/// for the parallel parts of one case never takes up another case meanwhile, as it would inside rayon's pool.
///
/// # Errors
/// After the first error no new item is begun; of several errors the one of the earliest item is returned. So it is
/// with [`Error::Stopped`] when the user asks to stop.
pub(crate) fn for_each_case<I: Sync, T: Send>(
    items: &[I],
    what: &str,
    progress: &dyn Progress,
    work: impl Fn(&I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done: Mutex<Vec<(usize, Result<T>)>> = Mutex::new(Vec::with_capacity(items.len()));
    progress.begin(what, items.len() as u64);
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads().min(items.len()) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { break };
                    let result = match progress.is_stopped() {
                        false => work(item),
                        true => {
                            Err(Error::stopped(format!("while {what}, {number} of {} done", items.len())))
                        }
                    };
                    if result.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    progress.advance(1);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    progress.end();
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who asks to stop after some items.
    struct Impatient(AtomicUsize);

    impl Progress for Impatient {
        fn begin(&self, _: &str, _: u64) {}
        fn advance(&self, _: u64) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn note(&self, _: &str) {}
        fn end(&self) {}
        fn is_stopped(&self) -> bool {
            self.0.load(Ordering::Relaxed) >= 3
        }
    }

    #[test]
    fn work_ends_between_items_when_the_user_asks() {
        let items: Vec<usize> = (0..1000).collect();
        let done = AtomicUsize::new(0);
        let result = for_each_case(&items, "preparing cases", &Impatient(AtomicUsize::new(0)), |_| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let error = result.unwrap_err();
        assert!(
            matches!(&error, Error::Stopped { at } if at.starts_with("while preparing cases, ")),
            "{error}"
        );
        assert!(done.into_inner() < 100);
    }
}
