//! The gradient of global average pooling.

use super::buffer::{Buffer, Shared};
use crate::settings::Settings;

/// Gradient of means over `positions`: every position of sample n gets `gradient[n] / positions`.
pub(crate) fn spread(settings: &Settings, gradient: &[f32], channels: usize, positions: usize) -> Buffer {
    let mut out = Buffer::new(gradient.len() * positions);
    let shared = Shared::new(&mut out);
    settings.parallel(gradient.len() / channels, |n| {
        let share: Vec<f32> =
            gradient[n * channels..][..channels].iter().map(|value| value / positions as f32).collect();
        // SAFETY: every sample has its own part.
        let part = unsafe { shared.part(n * channels * positions, channels * positions) };
        part.chunks_exact_mut(channels).for_each(|to| to.copy_from_slice(&share));
    });
    out
}
