//! Memory of the kernels: results, scratch of a thread, and results that several threads write.

use std::cell::RefCell;

/// `length` values for a caller that writes all of them before anything reads one.
#[expect(clippy::uninit_vec, reason = "writing zeros first would cost a pass over the memory")]
pub(crate) fn unwritten(length: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    // SAFETY: the capacity is there, and every bit pattern is an f32; each caller writes all values before it hands
    // the buffer on.
    unsafe {
        values.set_len(length);
    }
    values
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `length` values of this thread's scratch, of any content; keeps the memory for the next call.
pub(crate) fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut scratch = SCRATCH.take();
    if scratch.len() < length {
        scratch.resize(length, 0.0);
    }
    let result = work(&mut scratch[..length]);
    SCRATCH.set(scratch);
    result
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

// SAFETY: the pointer is only dereferenced through `part`, whose callers keep the parts apart.
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
