//! The one inner loop of all products: a tile of rows times columns that stays in registers while the terms of its
//! sums stream by.
//!
//! `out[m][j] = start[j] + sum over segments, k of a[segment.a + m a_row + k a_term] * b[segment.b + k b_term + j]`
//!
//! The rows `m` are output positions and the terms `k` input channels (convolution), or the rows are input channels
//! and the terms positions (weight gradient). The order of the sum of each output does not depend on the tile that
//! holds it.
//!
//! In bf16 a word of the operands holds the values of two successive terms, and one instruction adds both products to
//! an f32 sum; the loop is the same.

/// Where one run of consecutive terms lies, as offsets from [`Tile::a`] and [`Tile::b`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) a: usize,
    pub(crate) b: usize,
}

/// What the sums start from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// One value per column, for all `columns` rounded up to whole vectors.
    Columns(*const f32),
    /// The values that `out` holds.
    Out,
}

/// The operands of one tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile<'a> {
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    pub(crate) a_term: usize,
    pub(crate) b: *const f32,
    pub(crate) b_term: usize,
    pub(crate) segments: &'a [Segment],
    /// Terms per segment.
    pub(crate) terms: usize,
    pub(crate) start: Start,
    pub(crate) out: *mut f32,
    pub(crate) out_row: usize,
    /// Columns of `out` that exist; `b` has whole vectors of columns.
    pub(crate) columns: usize,
    /// Tiles of these rows, one below the other.
    pub(crate) repeat: usize,
}

/// Computes tiles one below the other.
///
/// # Safety
/// All places that the formula of this module names must be valid, `out` not otherwise in use, and the processor must
/// have the instructions of the path that the function was taken for.
pub(crate) type TileFunction = unsafe fn(&Tile<'_>);
