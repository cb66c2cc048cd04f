//! Neighbouring outputs as columns of one sum.

use super::source::{Axis, Source};
use crate::settings::Settings;

/// Neighbouring outputs along z whose channels are the columns of one sum over the taps of them all, so that few channels
/// fill a vector: of 8 channels two outputs in 16 lanes, with 4 taps where each has 3.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) places: usize,
}

impl Run {
    /// For `size` outputs of `channels` channels: the most places, a multiple of `step` or one, that fill no more than a
    /// vector and leave no output over.
    pub(crate) fn of(settings: &Settings, channels: usize, size: usize, step: usize) -> Self {
        let most = settings.path().lanes() / channels.max(1);
        let places = (1..=most).rev().find(|places| places % step == 0 && size.is_multiple_of(*places));
        Self { places: places.unwrap_or(1) }
    }

    /// The source as the runs read it.
    pub(crate) fn source<'a>(self, source: &Source<'a>) -> Source<'a> {
        let [x, y, z] = source.axes;
        let run = Axis {
            taps: z.taps + (self.places - 1) * z.step,
            step: z.step * self.places,
            count: z.count / self.places,
            ..z
        };
        Source { axes: [x, y, run], ..*source }
    }
}
