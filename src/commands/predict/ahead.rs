//! The next scan is read and prepared while one is predicted, where there is memory for it.

use std::sync::mpsc::sync_channel;

use crate::data::dataset::Case;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::{image, machine};

/// Hands every item and what `make` gives for it to `take`, in order. With `ahead` the next one is made, on a thread of
/// its own, while one is taken, and no more than that: what has been made waits until it is asked for.
pub(super) fn for_each<T: Sync, M: Send>(
    items: &[T],
    ahead: bool,
    make: impl Fn(&T) -> M + Send,
    mut take: impl FnMut(&T, M),
) {
    if !ahead {
        return items.iter().for_each(|item| take(item, make(item)));
    }
    std::thread::scope(|scope| {
        // Without room for any: who has made one hands it over before the next one is begun.
        let (sender, receiver) = sync_channel(0);
        scope.spawn(move || {
            for item in items {
                // Nobody asks any more where the taker has panicked.
                if sender.send(make(item)).is_err() {
                    return;
                }
            }
        });
        items.iter().zip(receiver).for_each(|(item, made)| take(item, made));
    });
}

/// Whether there is memory to prepare a scan while one is predicted, and how much that takes, for a person.
pub(super) fn is_possible(cases: &[Case], plans: &[&Plan], progress: &dyn Progress) -> bool {
    let Some(bytes) = cases.iter().filter_map(|case| bytes(case, plans)).max().filter(|_| cases.len() > 1)
    else {
        return false;
    };
    let free = machine::available_memory_bytes();
    let possible = fits(bytes, free);
    let megabytes = bytes.div_ceil(1_000_000);
    progress.note(&match possible {
        true => format!(
            "the next scan is prepared while one is predicted, which takes up to about {megabytes} MB of memory more"
        ),
        false => format!(
            "scans are prepared one after the other: the next one would take up to about {megabytes} MB of memory, \
             {} MB are free",
            free / 1_000_000
        ),
    });
    possible
}

/// Whether a second scan of this size finds room beside the first; 0 free bytes are not known.
fn fits(bytes: u64, free: u64) -> bool {
    free == 0 || bytes.saturating_mul(2) < free
}

/// What reading and preparing a scan for every plan takes at its peak: all channels as they are, all at the plan's spacing,
/// and one of either kind at work.
fn bytes(case: &Case, plans: &[&Plan]) -> Option<u64> {
    let grid = image::read_header(case.images.first()?).ok()?.grid();
    let read = grid.shape.iter().product::<usize>() as f64;
    let of = |plan: &&Plan| {
        let scale: f64 =
            grid.spacing().iter().zip(&plan.spacing).map(|(own, planned)| own / planned).product();
        (4.0 * (plan.channels + 1) as f64 * read * (1.0 + scale)) as u64
    };
    Some(plans.iter().map(of).sum())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn everything_is_taken_in_order_and_at_most_one_is_ahead() {
        let items: Vec<usize> = (0..50).collect();
        for ahead in [false, true] {
            let (begun, mut taken) = (AtomicUsize::new(0), Vec::new());
            let make = |&item: &usize| {
                begun.fetch_add(1, Ordering::SeqCst);
                10 * item
            };
            for_each(&items, ahead, make, |&item, made| {
                // Beside this one, one that was being made while the one before was taken.
                assert!(begun.load(Ordering::SeqCst) <= item + 2, "{item}");
                taken.push(made);
            });
            assert_eq!(taken, items.iter().map(|item| 10 * item).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nobody_waits_for_one_who_is_gone() {
        let taker = || for_each(&[1, 2, 3, 4], true, |item| *item, |_, made| assert!(made < 2));
        assert!(std::panic::catch_unwind(taker).is_err());
        let maker = || for_each(&[1, 2, 3, 4], true, |item| assert!(*item < 3), |_, ()| {});
        assert!(std::panic::catch_unwind(maker).is_err());
    }

    #[test]
    fn a_second_scan_needs_room() {
        assert!(fits(10, 21) && !fits(10, 20) && fits(u64::MAX, 0));
    }
}
