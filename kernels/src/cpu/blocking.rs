//! How products are cut into tiles that the registers of a path hold, and which function computes them.

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::operands::Operands;
use super::tile::TileFunction;
use super::vector_tiles::portable;
#[cfg(target_arch = "x86_64")]
use super::vector_tiles::{avx2, avx512, avx512_bf16};
use crate::path::Path;

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
    pub(crate) fn new(path: Path) -> Self {
        let lanes = if path == Path::Avx512 { 16 } else { 8 };
        Self { path, operands: Operands::of(path), lanes, matrix_tiles: false }
    }

    /// For products whose terms lie side by side ([`Tile::a_term`] is 1), which matrix tiles can do.
    pub(crate) fn of_neighbours(path: Path) -> Self {
        let blocking = Self::new(path);
        Self { matrix_tiles: blocking.operands == Operands::Pairs && has_matrix_tiles(), ..blocking }
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

    /// The function for tiles of `rows` rows and `vectors` vectors (1, 2 or 4).
    pub(crate) fn function(self, rows: usize, vectors: usize) -> TileFunction {
        match self.path {
            #[cfg(target_arch = "x86_64")]
            _ if self.matrix_tiles => matrix_function(rows, vectors),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 if self.operands == Operands::Pairs => avx512_bf16::function(rows, vectors),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => avx512::function(rows, vectors),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => avx2::function(rows, vectors),
            _ => portable::function(rows, vectors),
        }
    }
}

/// Whether matrices of bf16 are multiplied by the processor: allowed, and there.
pub(crate) fn has_matrix_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        crate::precision::matrix_tiles_allowed() && amx::is_available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(target_arch = "x86_64")]
fn matrix_function(rows: usize, vectors: usize) -> TileFunction {
    macro_rules! table {
        ($($rows:literal)*) => {
            match (vectors, rows) {
                $((1, $rows) => amx::tile::<$rows, 1>,)*
                $((2, $rows) => amx::tile::<$rows, 2>,)*
                _ => unreachable!("no matrix tile of {rows} rows and {vectors} vectors"),
            }
        };
    }
    table!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
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
    use super::super::tile::{Segment, Start, Tile};
    use super::*;

    #[test]
    fn rows_may_start_outside_of_the_array() {
        // So far in front of it that an address reckoned by the rules of arrays would overflow.
        let (a, b, start) = ([1.0_f32, 2.0], [[3.0_f32; 16], [5.0; 16]], [7.0_f32; 16]);
        let far = a.as_ptr().addr() / size_of::<f32>() + 64;
        for path in [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_available())
        {
            let mut out = [0.0_f32; 8];
            let tile = Tile {
                a: a.as_ptr().wrapping_sub(far),
                a_row: 0,
                a_term: 1,
                b: b.as_ptr().cast::<f32>().wrapping_sub(far),
                b_term: 16,
                segments: &[Segment { a: far, b: far }],
                terms: 2,
                start: Start::Columns(start.as_ptr()),
                out: out.as_mut_ptr(),
                out_row: 0,
                columns: 8,
                repeat: 1,
            };
            // SAFETY: the places that the segment names exist, and the processor has the instructions.
            unsafe { Blocking { matrix_tiles: false, ..Blocking::new(path) }.function(1, 1)(&tile) };
            assert_eq!(out, [7.0 + 3.0 + 2.0 * 5.0; 8], "{path}");
        }
    }
}
