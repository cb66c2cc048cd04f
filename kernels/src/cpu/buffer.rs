//! Memory of the kernels: buffers that are used again, and slices that several threads write.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// One cache line; buffers start at one, so that no vector load or store touches two.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

const VALUES_PER_LINE: usize = 16;

/// Values whose memory comes from the pool and goes back to it.
#[derive(Debug)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    length: usize,
}

impl Buffer {
    /// `length` values of any content. The same memory comes back again and again, because fresh memory costs a page
    /// fault every 4 KiB: about as much as an operator of low arithmetic itself.
    pub(crate) fn new(length: usize) -> Self {
        let lines = size_class(length.div_ceil(VALUES_PER_LINE));
        let recycled = pool().take(lines);
        let lines = recycled.unwrap_or_else(|| vec![Line([0.0; VALUES_PER_LINE]); lines]);
        Self { lines, length }
    }

    /// `length` zeros.
    pub(crate) fn zeros(length: usize) -> Self {
        let mut buffer = Self::new(length);
        buffer.fill(0.0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pool().give(mem::take(&mut self.lines));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is 16 values without padding, and `length` is at most 16 times the number of lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

/// Free memory that is always kept, beside a quarter of the peak: 64 MiB.
const SPARE_LINES: usize = 1 << 20;

/// Free memory by its number of lines.
#[derive(Debug)]
struct Pool {
    /// Of each size the one that has been free longest comes first.
    free: BTreeMap<usize, Vec<Free>>,
    /// Lines that are free, in use, and the most that were in use at a time.
    free_lines: usize,
    used_lines: usize,
    peak_lines: usize,
    /// How often memory was given back.
    given: u64,
}

#[derive(Debug)]
struct Free {
    lines: Vec<Line>,
    /// The value of [`Pool::given`] then.
    since: u64,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { free: BTreeMap::new(), free_lines: 0, used_lines: 0, peak_lines: 0, given: 0 });

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sizes are rounded up to eighths of a power of two, so that similar sizes share memory.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.next_multiple_of(step)
}

impl Pool {
    /// The smallest free memory of `lines` lines to half as many more. Networks of many different sizes would otherwise
    /// keep memory for each of them.
    fn take(&mut self, lines: usize) -> Option<Vec<Line>> {
        let fitting = self.free.range_mut(lines..=lines + lines / 2).find_map(|(_, free)| free.pop());
        let used = fitting.as_ref().map_or(lines, |found| found.lines.len());
        self.used_lines += used;
        self.peak_lines = self.peak_lines.max(self.used_lines);
        if let Some(found) = fitting {
            self.free_lines -= used;
            return Some(found.lines);
        }
        // What was not needed for longest goes back to the system before the whole exceeds the peak by too much.
        let most = self.peak_lines + self.peak_lines / 4 + SPARE_LINES;
        while self.used_lines + self.free_lines > most {
            let oldest =
                self.free.values_mut().filter(|free| !free.is_empty()).min_by_key(|free| free[0].since);
            let Some(oldest) = oldest else { break };
            self.free_lines -= oldest.remove(0).lines.len();
        }
        None
    }

    fn give(&mut self, lines: Vec<Line>) {
        self.used_lines -= lines.len();
        self.free_lines += lines.len();
        self.given += 1;
        let since = self.given;
        self.free.entry(lines.len()).or_default().push(Free { lines, since });
    }
}

/// A mutable slice that several threads write, each its own part. While one is alive the slice is borrowed.
#[derive(Debug)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: the pointer is only dereferenced through `part` and `at`, whose callers keep the parts apart.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), borrow: PhantomData }
    }

    pub(crate) fn len(self) -> usize {
        self.length
    }

    /// The `length` values from `first`.
    ///
    /// # Safety
    /// No other part in use overlaps this one.
    pub(crate) unsafe fn part(self, first: usize, length: usize) -> &'a mut [T] {
        assert!(first <= self.length && length <= self.length - first);
        // SAFETY: in bounds of a slice that is borrowed for `'a`; the caller promises that the parts do not overlap.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }

    /// The address of the value `index`, which a caller writes through under the rules of [`Self::part`].
    pub(crate) fn at(self, index: usize) -> *mut T {
        assert!(index <= self.length);
        // SAFETY: in bounds or one past the end.
        unsafe { self.start.add(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Pool {
        Pool { free: BTreeMap::new(), free_lines: 0, used_lines: 0, peak_lines: 0, given: 0 }
    }

    /// What is taken from the pool, or new where it has nothing.
    fn get(pool: &mut Pool, lines: usize) -> Vec<Line> {
        pool.take(lines).unwrap_or_else(|| vec![Line([0.0; VALUES_PER_LINE]); lines])
    }

    #[test]
    fn memory_of_up_to_half_more_is_used_again() {
        let mut pool = empty();
        for lines in [1000, 1400, 1600] {
            let taken = get(&mut pool, lines);
            pool.give(taken);
        }
        let sizes = [900, 1000, 1000, 1000].map(|lines| pool.take(lines).map(|found| found.len()));
        assert_eq!(sizes, [Some(1000), Some(1400), None, None]);
        assert_eq!((pool.used_lines, pool.free_lines), (1000 + 1400 + 2 * 1000, 1600));
    }

    #[test]
    fn what_was_not_needed_for_longest_is_given_up() {
        let mut pool = empty();
        let size = SPARE_LINES / 2;
        let sizes = [size, size + 4096, 2 * size];
        for lines in sizes {
            let taken = get(&mut pool, lines);
            pool.give(taken);
        }
        assert_eq!(pool.free_lines, sizes.iter().sum::<usize>());
        // The second is needed now and then, and the first is not.
        let taken = pool.take(sizes[1]).unwrap();
        pool.give(taken);
        let largest = get(&mut pool, 4 * size);
        assert_eq!(pool.free.get(&size).map(Vec::len), Some(0));
        assert!(pool.used_lines + pool.free_lines <= pool.peak_lines + pool.peak_lines / 4 + SPARE_LINES);
        assert!(pool.take(sizes[1]).is_some());
        pool.give(largest);
    }
}
