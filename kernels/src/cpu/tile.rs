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

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::bf16::Operands;
use crate::Path;

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
/// Columns of the widest tile.
const MOST_COLUMNS: usize = 64;

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

/// Runs a body for every row of a tile, with the row's number as a constant. A loop over the rows would be left to the
/// compiler to unroll, and where it does not, the sums are kept in memory instead of registers.
macro_rules! for_each_row {
    ($rows:ident, $row:ident, $body:block) => {
        for_each_row!(@ $rows, $row, $body,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27);
    };
    (@ $rows:ident, $row:ident, $body:block, $($number:literal)*) => {
        $(if $number < $rows {
            #[allow(non_upper_case_globals, reason = "it stands for the variable of a loop")]
            const $row: usize = $number;
            $body
        })*
    };
}

/// Writes one module per instruction set: the vector operations differ, the loop is the same text.
macro_rules! tiles {
    ($module:ident, $lanes:literal, $vector:ty, [$($feature:literal)?], [$($rows1:literal)*], [$($rows2:literal)*],
     [$($rows4:literal)*], $load:expr, $store:expr, $splat:expr, $multiply_add:expr) => {
        mod $module {
            #[allow(unused_imports, reason = "not every instruction set needs them")]
            use super::*;
            #[cfg(target_arch = "x86_64")]
            #[allow(unused_imports, reason = "not every instruction set needs them")]
            use std::arch::x86_64::*;

            pub(super) fn function(rows: usize, vectors: usize) -> TileFunction {
                match (vectors, rows) {
                    $((1, $rows1) => tile::<$rows1, 1>,)*
                    $((2, $rows2) => tile::<$rows2, 2>,)*
                    $((4, $rows4) => tile::<$rows4, 4>,)*
                    _ => unreachable!("no tile of {rows} rows and {vectors} vectors"),
                }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn tile<const ROWS: usize, const VECTORS: usize>(tile: &Tile<'_>) {
                // SAFETY: the caller promises that all places named are valid and the instructions exist.
                unsafe {
                    for repetition in 0..tile.repeat {
                        let first_a = tile.a.wrapping_add(repetition * ROWS * tile.a_row);
                        let first_out = tile.out.add(repetition * ROWS * tile.out_row);
                        let whole = tile.columns >= VECTORS * $lanes;
                        let mut sums = [[$splat(&0.0); VECTORS]; ROWS];
                        match tile.start {
                            Start::Columns(start) => {
                                for_each_row!(ROWS, m, {
                                    for vector in 0..VECTORS {
                                        sums[m][vector] = $load(start.add(vector * $lanes));
                                    }
                                });
                            }
                            Start::Out => {
                                let mut part = [0.0_f32; MOST_COLUMNS];
                                for_each_row!(ROWS, m, {
                                    let out = first_out.add(m * tile.out_row).cast_const();
                                    let from = if whole {
                                        out
                                    } else {
                                        std::ptr::copy_nonoverlapping(out, part.as_mut_ptr(), tile.columns);
                                        part.as_ptr()
                                    };
                                    for vector in 0..VECTORS {
                                        sums[m][vector] = $load(from.add(vector * $lanes));
                                    }
                                });
                            }
                        }
                        for segment in tile.segments {
                            // Every fourth row has a pointer of its own; the others are reached from it by one or three
                            // steps scaled by the addressing mode. `first_a` may lie outside the array: in front of a
                            // source whose padding no segment reads.
                            let mut a = [first_a.wrapping_add(segment.a); 7];
                            for (group, pointer) in a.iter_mut().enumerate() {
                                *pointer = pointer.wrapping_add(group * 4 * tile.a_row);
                            }
                            let mut b = tile.b.wrapping_add(segment.b);
                            for _ in 0..tile.terms {
                                let mut columns = [$splat(&0.0); VECTORS];
                                for (vector, column) in columns.iter_mut().enumerate() {
                                    *column = $load(b.add(vector * $lanes));
                                }
                                for_each_row!(ROWS, m, {
                                    let value = $splat(&*a[m / 4].add((m % 4) * tile.a_row));
                                    for vector in 0..VECTORS {
                                        sums[m][vector] = $multiply_add(value, columns[vector], sums[m][vector]);
                                    }
                                });
                                for pointer in &mut a[..ROWS.div_ceil(4)] {
                                    *pointer = pointer.wrapping_add(tile.a_term);
                                }
                                b = b.wrapping_add(tile.b_term);
                            }
                        }
                        let mut part = [0.0_f32; MOST_COLUMNS];
                        for_each_row!(ROWS, m, {
                            let out = first_out.add(m * tile.out_row);
                            let to = if whole { out } else { part.as_mut_ptr() };
                            for vector in 0..VECTORS {
                                $store(to.add(vector * $lanes), sums[m][vector]);
                            }
                            if !whole {
                                std::ptr::copy_nonoverlapping(part.as_ptr(), out, tile.columns);
                            }
                        });
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(
    avx512, 16, __m512, ["avx512f"],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14], [1 2 3 4 5 6 7],
    |p: *const f32| _mm512_loadu_ps(p),
    |p: *mut f32, v: __m512| _mm512_storeu_ps(p, v),
    |p: &f32| _mm512_set1_ps(*p),
    |x: __m512, y: __m512, sum: __m512| _mm512_fmadd_ps(x, y, sum)
);

#[cfg(target_arch = "x86_64")]
tiles!(
    avx512_bf16, 16, __m512, ["avx512f,avx512bf16"],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28],
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14], [1 2 3 4 5 6 7],
    |p: *const f32| _mm512_loadu_ps(p),
    |p: *mut f32, v: __m512| _mm512_storeu_ps(p, v),
    |p: &f32| _mm512_set1_ps(*p),
    |x: __m512, y: __m512, sum: __m512| {
        // Both operands are words of two bf16 each.
        let [x, y] = [x, y].map(|words| std::mem::transmute::<__m512, __m512bh>(words));
        _mm512_dpbf16_ps(sum, x, y)
    }
);

#[cfg(target_arch = "x86_64")]
tiles!(
    avx2, 8, __m256, ["avx2,fma"],
    [1 2 3 4 5 6 7 8 9 10 11 12], [1 2 3 4 5 6], [1 2 3],
    |p: *const f32| _mm256_loadu_ps(p),
    |p: *mut f32, v: __m256| _mm256_storeu_ps(p, v),
    |p: &f32| _mm256_set1_ps(*p),
    |x: __m256, y: __m256, sum: __m256| _mm256_fmadd_ps(x, y, sum)
);

tiles!(
    portable, 8, [f32; 8], [],
    [1 2 3 4 5 6 7 8 9 10 11 12], [1 2 3 4 5 6], [1 2 3],
    |p: *const f32| p.cast::<[f32; 8]>().read_unaligned(),
    |p: *mut f32, v: [f32; 8]| p.cast::<[f32; 8]>().write_unaligned(v),
    |p: &f32| [*p; 8],
    |x: [f32; 8], y: [f32; 8], sum: [f32; 8]| std::array::from_fn(|i| sum[i] + x[i] * y[i])
);

#[cfg(test)]
mod tests {
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
