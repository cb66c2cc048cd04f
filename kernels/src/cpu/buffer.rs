//! Memory of the kernels: buffers that are used again, and slices that several threads write.

use std::collections::BTreeMap;
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

/// Free memory by its number of lines.
#[derive(Debug)]
struct Pool {
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    /// Lines that are free, in use, and the most that were in use at a time.
    free_lines: usize,
    used_lines: usize,
    peak_lines: usize,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { free: BTreeMap::new(), free_lines: 0, used_lines: 0, peak_lines: 0 });

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sizes are rounded up to eighths of a power of two, so that similar sizes share memory.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.next_multiple_of(step)
}

impl Pool {
    fn take(&mut self, lines: usize) -> Option<Vec<Line>> {
        self.used_lines += lines;
        self.peak_lines = self.peak_lines.max(self.used_lines);
        if let Some(found) = self.free.get_mut(&lines).and_then(Vec::pop) {
            self.free_lines -= lines;
            return Some(found);
        }
        // Memory of other sizes goes back to the system before the whole exceeds the peak by more than a quarter.
        let most = self.peak_lines + self.peak_lines / 4;
        while self.used_lines + self.free_lines > most {
            let Some(mut largest) = self.free.last_entry() else { break };
            match largest.get_mut().pop() {
                Some(lines) => self.free_lines -= lines.len(),
                None => drop(largest.remove()),
            }
        }
        None
    }

    fn give(&mut self, lines: Vec<Line>) {
        self.used_lines -= lines.len();
        self.free_lines += lines.len();
        self.free.entry(lines.len()).or_default().push(lines);
    }
}

/// A mutable slice that several threads write, each its own part.
#[derive(Debug)]
pub(crate) struct Shared<T>(*mut T, usize);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: the pointer is only dereferenced through `part` and `at`, whose callers keep the parts apart.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr(), values.len())
    }

    /// The values from `first`.
    ///
    /// # Safety
    /// No other part in use overlaps this one, and the slice that `self` was made of is still borrowed.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps the parts apart")]
    pub(crate) unsafe fn part(&self, first: usize, length: usize) -> &mut [T] {
        assert!(first + length <= self.1);
        // SAFETY: in bounds; the caller promises that the parts do not overlap.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(first), length) }
    }

    /// The address of the value `index`, which a caller writes through under the rules of [`Self::part`].
    pub(crate) fn at(&self, index: usize) -> *mut T {
        assert!(index <= self.1);
        // SAFETY: in bounds or one past the end.
        unsafe { self.0.add(index) }
    }
}
