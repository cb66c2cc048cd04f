//! Sums and multiples of whole arrays.

use super::buffer::{Buffer, Shared};
use super::simd::vectorise;
use crate::settings::Settings;

/// Values per task.
const CHUNK: usize = 64 * 1024;

/// Gives every chunk of `out` to `task` with its first index, in parallel.
fn chunks(settings: &Settings, out: &mut [f32], task: impl Fn(usize, &mut [f32]) + Sync) {
    let length = out.len();
    let shared = Shared::new(out);
    settings.parallel(length.div_ceil(CHUNK), |chunk| {
        let first = chunk * CHUNK;
        // SAFETY: the chunks do not overlap.
        let part = unsafe { shared.part(first, CHUNK.min(length - first)) };
        vectorise(settings.path(), || task(first, part));
    });
}

/// `sum + values`, into `sum`.
pub(crate) fn add_to(settings: &Settings, sum: &mut [f32], values: &[f32]) {
    assert_eq!(sum.len(), values.len(), "gradients of one array have one size");
    chunks(settings, sum, |first, sum| {
        sum.iter_mut().zip(&values[first..]).for_each(|(sum, value)| *sum += value);
    });
}

/// `a + b`.
pub(crate) fn sum(settings: &Settings, a: &[f32], b: &[f32]) -> Buffer {
    assert_eq!(a.len(), b.len(), "gradients of one array have one size");
    let mut out = Buffer::new(a.len());
    chunks(settings, &mut out, |first, out| {
        for ((out, a), b) in out.iter_mut().zip(&a[first..]).zip(&b[first..]) {
            *out = a + b;
        }
    });
    out
}

/// `factor * values`.
pub(crate) fn scale(settings: &Settings, values: &[f32], factor: f32) -> Buffer {
    let mut out = Buffer::new(values.len());
    chunks(settings, &mut out, |first, out| {
        out.iter_mut().zip(&values[first..]).for_each(|(out, value)| *out = value * factor);
    });
    out
}
