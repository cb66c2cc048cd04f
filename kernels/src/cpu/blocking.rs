//! How products are cut into tiles that the registers of a path hold, and which function computes them.

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::operands::Operands;
use super::tile::Tile;
use super::vector_tiles::portable;
#[cfg(target_arch = "x86_64")]
use super::vector_tiles::{avx2, avx512, avx512_bf16};
use crate::path::Path;
use crate::settings::Settings;

/// The register blocking of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocking {
    pub(crate) path: Path,
    pub(crate) operands: Operands,
    /// f32 values per vector.
    pub(crate) lanes: usize,
    /// Whether the products are those of matrix tiles.
    matrix_tiles: bool,
}

/// Accumulators that the registers of the path hold beside the operands.
const AVX512_ACCUMULATORS: usize = 28;
const AVX2_ACCUMULATORS: usize = 12;

impl Blocking {
    pub(crate) fn new(settings: &Settings) -> Self {
        let path = settings.path();
        Self { path, operands: Operands::of(settings), lanes: path.lanes(), matrix_tiles: false }
    }

    /// For products whose terms lie side by side ([`Tile::a_term`] is 1), which matrix tiles can do.
    pub(crate) fn of_neighbours(settings: &Settings) -> Self {
        let blocking = Self::new(settings);
        Self { matrix_tiles: blocking.operands == Operands::Pairs && has_matrix_tiles(settings), ..blocking }
    }

    /// Whether the products are those of matrix tiles.
    pub(crate) fn has_matrix_tiles(self) -> bool {
        self.matrix_tiles
    }

    /// Vectors per tile that suit an output of `columns` columns and `rows` rows.
    pub(crate) fn vectors(self, rows: usize, columns: usize) -> usize {
        let available = columns.div_ceil(self.lanes);
        // Few rows are made up for by many columns, so that every operand loaded is used often.
        let wanted = if rows <= self.most_rows(4) { 4 } else { 2 };
        match available {
            1 => 1,
            2 | 3 => 2,
            _ if self.matrix_tiles => 2,
            _ => wanted,
        }
    }

    /// The most rows of a tile of `vectors` vectors.
    pub(crate) fn most_rows(self, vectors: usize) -> usize {
        match self.path {
            #[cfg(target_arch = "x86_64")]
            _ if self.matrix_tiles => amx::MOST_ROWS,
            Path::Avx512 => AVX512_ACCUMULATORS / vectors,
            _ => AVX2_ACCUMULATORS / vectors,
        }
    }

    /// For the products of one task, on the thread that it runs on.
    pub(crate) fn products(self) -> Products {
        Products {
            blocking: self,
            #[cfg(target_arch = "x86_64")]
            configuration: amx::Configuration::default(),
        }
    }
}

/// Computes the products of one task. What they set the processor to is undone when it is dropped.
#[derive(Debug)]
pub(crate) struct Products {
    blocking: Blocking,
    #[cfg(target_arch = "x86_64")]
    configuration: amx::Configuration,
}

impl Products {
    /// Computes tiles of `rows` rows, at most [`Blocking::most_rows`], and `vectors` vectors (1, 2 or 4), one below the
    /// other.
    ///
    /// # Safety
    /// The tile stays inside ([`Tile::stays_inside`]), and `out` is not otherwise in use there.
    pub(crate) unsafe fn compute(&mut self, rows: usize, vectors: usize, tile: &Tile<'_>) {
        debug_assert!(
            tile.stays_inside(rows, vectors * self.blocking.lanes),
            "a tile of {rows} rows and {vectors} vectors leaves its arrays"
        );
        let function = match self.blocking.path {
            #[cfg(target_arch = "x86_64")]
            _ if self.blocking.matrix_tiles => {
                // SAFETY: as the caller's; a blocking has matrix tiles where they are available.
                return unsafe { self.configuration.compute(rows, vectors, tile) };
            }
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 if self.blocking.operands == Operands::Pairs => avx512_bf16::function(rows, vectors),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => avx512::function(rows, vectors),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => avx2::function(rows, vectors),
            _ => portable::function(rows, vectors),
        };
        // SAFETY: as the caller's; a path is only selected where the processor has its instructions, and its operands
        // are pairs only where it has their products.
        unsafe { function(tile) }
    }
}

/// Whether matrices of bf16 are multiplied by the processor: allowed, and there.
pub(crate) fn has_matrix_tiles(settings: &Settings) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        settings.matrix_tiles() && amx::is_available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = settings;
        false
    }
}

/// The fewest words of terms, at least `words`, that matrix tiles take in equal steps of at most 16.
pub(crate) fn whole_steps(words: usize) -> usize {
    let steps = words.div_ceil(16).max(1);
    steps * words.div_ceil(steps)
}

/// Splits `count` rows into tiles of nearly equal height, at most `most`: calls `tiles(first, rows, repeat)` for each
/// height, of which there are two at most.
#[inline]
pub(crate) fn split(count: usize, most: usize, mut tiles: impl FnMut(usize, usize, usize)) {
    let number = count.div_ceil(most).max(1);
    let (rows, higher) = (count / number, count % number);
    if higher > 0 {
        tiles(0, rows + 1, higher);
    }
    if rows > 0 {
        tiles(higher * (rows + 1), rows, number - higher);
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Shared;
    use super::super::tile::{Segment, Start};
    use super::*;

    /// Computes one row of 8 columns from two terms whose segment starts `far` places after the place that the rows count
    /// from.
    fn compute(path: Path, far: usize, terms: usize) -> [f32; 8] {
        let (a, b, start, mut out) = ([1.0, 2.0], [[3.0_f32; 16], [5.0; 16]], [7.0; 16], [0.0; 8]);
        let tile = Tile {
            a: &a,
            a_first: -(far as isize),
            a_row: 0,
            a_term: 1,
            b: b.as_flattened(),
            b_term: 16,
            segments: &[Segment { a: far, b: 0 }],
            terms,
            start: Start::Columns(&start),
            out: Shared::new(&mut out),
            out_first: 0,
            out_row: 0,
            columns: 8,
            repeat: 1,
        };
        let settings = Settings::default().with_path(Some(path)).unwrap();
        let blocking = Blocking::new(&settings);
        // SAFETY: with two terms all places exist; with more a test of these very places fails.
        unsafe { blocking.products().compute(1, 1, &tile) };
        out
    }

    fn paths() -> impl Iterator<Item = Path> {
        [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_available())
    }

    #[test]
    fn rows_may_start_outside_of_the_array() {
        // So far in front of it that an address reckoned by the rules of arrays would overflow.
        for path in paths() {
            assert_eq!(compute(path, 1 << 48, 2), [7.0 + 3.0 + 2.0 * 5.0; 8], "{path}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "leaves its arrays")]
    fn a_tile_that_leaves_its_arrays_is_noticed() {
        compute(Path::Portable, 0, 3);
    }
}
