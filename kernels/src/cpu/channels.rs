//! Concatenation along the channels and its gradient; channels first and last.

use super::buffer::{Buffer, Shared};
use crate::settings::Settings;

/// Positions per task.
const CHUNK: usize = 4096;
/// Positions that are moved at a time where rows and columns are interchanged.
const BLOCK: usize = 64;

/// Copies the channels of one position: few at a time without a call, which would cost more than the copy.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    let (to, to_rest) = to.as_chunks_mut::<8>();
    let (from, from_rest) = from.as_chunks::<8>();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

/// Interleaves (position, `a_channels`) and (position, `b_channels`).
pub(crate) fn concat(
    settings: &Settings,
    a: &[f32],
    a_channels: usize,
    b: &[f32],
    b_channels: usize,
) -> Buffer {
    let channels = a_channels + b_channels;
    let mut out = Buffer::new(a.len() + b.len());
    let shared = Shared::new(&mut out);
    let positions = a.len() / a_channels;
    settings.parallel(positions.div_ceil(CHUNK), |chunk| {
        let first = chunk * CHUNK;
        let count = CHUNK.min(positions - first);
        // SAFETY: the chunks do not overlap.
        let out = unsafe { shared.part(first * channels, count * channels) };
        let a = a[first * a_channels..].chunks_exact(a_channels);
        let b = b[first * b_channels..].chunks_exact(b_channels);
        for (out, (a, b)) in out.chunks_exact_mut(channels).zip(a.zip(b)) {
            copy(&mut out[..a_channels], a);
            copy(&mut out[a_channels..], b);
        }
    });
    out
}

/// Undoes [`concat`].
pub(crate) fn split(
    settings: &Settings,
    values: &[f32],
    a_channels: usize,
    b_channels: usize,
) -> (Buffer, Buffer) {
    let channels = a_channels + b_channels;
    let positions = values.len() / channels;
    let mut a = Buffer::new(positions * a_channels);
    let mut b = Buffer::new(positions * b_channels);
    let (shared_a, shared_b) = (Shared::new(&mut a), Shared::new(&mut b));
    settings.parallel(positions.div_ceil(CHUNK), |chunk| {
        let first = chunk * CHUNK;
        let count = CHUNK.min(positions - first);
        // SAFETY: the chunks do not overlap.
        let a = unsafe { shared_a.part(first * a_channels, count * a_channels) };
        // SAFETY: as above.
        let b = unsafe { shared_b.part(first * b_channels, count * b_channels) };
        let to = a.chunks_exact_mut(a_channels).zip(b.chunks_exact_mut(b_channels));
        for ((a, b), from) in to.zip(values[first * channels..].chunks_exact(channels)) {
            copy(a, &from[..a_channels]);
            copy(b, &from[a_channels..]);
        }
    });
    (a, b)
}

/// (batch, rows, columns) as (batch, columns, rows): a layout with channels first as one with channels last, and back.
pub(crate) fn interchange(settings: &Settings, values: &[f32], [batch, rows, columns]: [usize; 3]) -> Buffer {
    let mut out = Buffer::new(values.len());
    let shared = Shared::new(&mut out);
    let chunks = columns.div_ceil(CHUNK);
    settings.parallel(batch * chunks, |task| {
        let (n, first) = (task / chunks, task % chunks * CHUNK);
        let count = CHUNK.min(columns - first);
        // SAFETY: the chunks do not overlap.
        let out = unsafe { shared.part((n * columns + first) * rows, count * rows) };
        // Blocks of rows and columns, so that what is read and what is written both stay in the nearest memory.
        for block in (0..count).step_by(BLOCK) {
            for row in 0..rows {
                let from = &values[(n * rows + row) * columns + first + block..][..BLOCK.min(count - block)];
                for (column, value) in from.iter().enumerate() {
                    out[(block + column) * rows + row] = *value;
                }
            }
        }
    });
    out
}
