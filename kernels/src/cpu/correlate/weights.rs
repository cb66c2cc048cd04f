//! The weights of a sum over taps as operands of products.

use super::super::blocking::Blocking;
use super::super::buffer::{Buffer, Shared};
use super::super::operands::store_weight;
use crate::settings::Settings;

/// Weights of a sum over taps, as the tiles read them: `[group][tap x][tap y][tap z][channel in][column of group]`
/// (in bf16 two channels to a word), a group being the columns of one tile, filled up with zeros.
pub(crate) struct Packed {
    pub(super) values: Buffer,
    pub(super) vectors: usize,
    pub(super) group: usize,
    pub(super) columns: usize,
    pub(super) blocking: Blocking,
}

impl Packed {
    /// Packs `weight(tap, channel in, column)`.
    pub(crate) fn new(
        settings: &Settings,
        rows: usize,
        taps: [usize; 3],
        channels: usize,
        columns: usize,
        weight: impl Fn([usize; 3], usize, usize) -> f32 + Sync,
    ) -> Self {
        let blocking = Blocking::of_neighbours(settings);
        let vectors = blocking.vectors(rows, columns);
        let group = vectors * blocking.lanes;
        let groups = columns.div_ceil(group);
        let [tx, ty, tz] = taps;
        let words = blocking.operands.words(channels);
        let slab = ty * tz * words * group;
        let mut values = Buffer::new(groups * tx * slab);
        let shared = Shared::new(&mut values);
        settings.parallel(groups * tx, |index| {
            let (first, x) = (index / tx * group, index % tx);
            // SAFETY: every index has its own slab.
            unsafe { shared.part(index * slab, slab) }.fill(0.0);
            for tap in 0..ty * tz {
                let rows = index * slab + tap * words * group;
                for (channel, j) in
                    (0..channels).flat_map(|c| (0..group.min(columns - first)).map(move |j| (c, j)))
                {
                    let weight = weight([x, tap / tz, tap % tz], channel, first + j);
                    // SAFETY: every weight has its own place.
                    unsafe { store_weight(blocking.operands, (shared, rows), (channel, j, group), weight) };
                }
            }
        });
        Self { values, vectors, group, columns, blocking }
    }
}
