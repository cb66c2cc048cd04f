//! The weights of a filtered convolution.

use super::super::blocking::Blocking;
use super::super::buffer::{Buffer, Shared};
use super::super::correlate::Source;
use super::super::operands::{Operands, store_weight};
use super::super::simd::vectorise;
use super::filter::Filtered;
use super::transforms::{MOST_COLUMNS, MOST_FREQUENCIES, transform_weights};
use crate::settings::Settings;

/// Transformed weights: `[frequency][group][tap x that is summed][channel in][column of group]`, in bf16 two channels
/// to a word.
pub(crate) struct Transformed {
    pub(super) values: Buffer,
    pub(super) filtered: Filtered,
    pub(super) vectors: usize,
    pub(super) columns: usize,
    pub(super) blocking: Blocking,
}

impl Transformed {
    /// Transforms `weight(tap, channel in, column)` for a source.
    pub(crate) fn new(
        settings: &Settings,
        source: &Source<'_>,
        filtered: Filtered,
        columns: usize,
        weight: impl Fn([usize; 3], usize, usize) -> f32 + Sync,
    ) -> Self {
        let channels = source.channels;
        let blocking = Blocking::of_neighbours(settings);
        let (frequencies, summed) = (filtered.frequencies(), filtered.taps());
        let vectors = blocking.vectors(usize::MAX, columns);
        let group = vectors * blocking.lanes;
        let groups = columns.div_ceil(group);
        let rows = blocking.operands.words(channels);
        let frequency = groups * summed * rows * group;
        let odd = blocking.operands == Operands::Pairs && channels % 2 == 1;
        let length = frequencies * frequency;
        let mut values = if odd { Buffer::zeros(length) } else { Buffer::new(length) };
        let shared = Shared::new(&mut values);
        let planes = source.axes[0].taps / summed;
        settings.parallel(groups * summed * channels, |index| {
            let (slab, channel) = (index / channels, index % channels);
            let (first, x) = (slab / summed * group, slab % summed);
            let mut from = [[0.0_f32; MOST_COLUMNS]; 27];
            for (tap, row) in from[..9 * planes].iter_mut().enumerate() {
                for (j, value) in row[..group.min(columns - first)].iter_mut().enumerate() {
                    *value = weight([x + tap / 9, tap / 3 % 3, tap % 3], channel, first + j);
                }
            }
            let mut out = [[0.0; MOST_COLUMNS]; MOST_FREQUENCIES];
            vectorise(settings.path(), || {
                match filtered {
                    Filtered::Volume => transform_weights::<4>(&from, &mut out),
                    Filtered::Plane { .. } => transform_weights::<1>(&from, &mut out),
                }
                for (f, row) in out[..frequencies].iter().enumerate() {
                    let to = (shared, f * frequency + slab * rows * group);
                    for (j, value) in row[..group].iter().enumerate() {
                        // SAFETY: every index has its own row, or half of the words of a row, of each frequency.
                        unsafe { store_weight(blocking.operands, to, (channel, j, group), *value) };
                    }
                }
            });
        });
        Self { values, filtered, vectors, columns, blocking }
    }
}
