//! The one inner loop of all products: a tile of rows times columns that stays in registers while the terms of its
//! sums stream by.
//!
//! `out[out_first + m out_row + j] = start[j] + sum over segments, k of
//! a[a_first + segment.a + m a_row + k a_term] * b[segment.b + k b_term + j]`
//!
//! The rows `m` are output positions and the terms `k` input channels (convolution), or the rows are input channels
//! and the terms positions (weight gradient). The order of the sum of each output does not depend on the tile that
//! holds it.
//!
//! In bf16 a word of the operands holds the values of two successive terms, and one instruction adds both products to
//! an f32 sum; the loop is the same.

use super::buffer::Shared;

/// Where one run of consecutive terms lies, as offsets into [`Tile::a`] from [`Tile::a_first`], and into [`Tile::b`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) a: usize,
    pub(crate) b: usize,
}

/// What the sums start from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// One value per column, for all columns rounded up to whole vectors.
    Columns(&'a [f32]),
    /// The values that `out` holds.
    Out,
}

/// The operands of one tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile<'a> {
    pub(crate) a: &'a [f32],
    /// It may lie outside of `a` where every segment leads inside: the first taps of a padded source do.
    pub(crate) a_first: isize,
    pub(crate) a_row: usize,
    pub(crate) a_term: usize,
    pub(crate) b: &'a [f32],
    pub(crate) b_term: usize,
    pub(crate) segments: &'a [Segment],
    /// Terms per segment.
    pub(crate) terms: usize,
    pub(crate) start: Start<'a>,
    pub(crate) out: Shared<'a, f32>,
    pub(crate) out_first: usize,
    pub(crate) out_row: usize,
    /// Columns of `out` that exist; `b` has whole vectors of columns.
    pub(crate) columns: usize,
    /// Tiles of these rows, one below the other.
    pub(crate) repeat: usize,
}

impl Tile<'_> {
    /// Whether all places that the formula of this module names are inside their arrays, for tiles of `rows` rows and
    /// `width` columns of whole vectors.
    pub(crate) fn stays_inside(&self, rows: usize, width: usize) -> bool {
        let Some(last_row) = (rows * self.repeat).checked_sub(1) else { return true };
        let started = match self.start {
            Start::Columns(start) => width <= start.len(),
            Start::Out => true,
        };
        let written = self.out_first + last_row * self.out_row + self.columns.min(width) <= self.out.len();
        let read = self.terms.checked_sub(1).is_none_or(|last_term| {
            self.segments.iter().all(|segment| {
                let first = usize::try_from(self.a_first + segment.a as isize);
                let a_last = first.map(|first| first + last_row * self.a_row + last_term * self.a_term);
                let b_end = segment.b + last_term * self.b_term + width;
                a_last.is_ok_and(|last| last < self.a.len()) && b_end <= self.b.len()
            })
        });
        started && written && read
    }
}
