//! The inner loop of [`super::tile`] by the vectors of each instruction set.

use super::tile::{Start, Tile};

/// Computes tiles one below the other.
///
/// # Safety
/// The tile stays inside ([`Tile::stays_inside`]), `out` is not otherwise in use there, and the processor has the
/// instructions of the module that the function is of.
pub(super) type TileFunction = unsafe fn(&Tile<'_>);

/// Columns of the widest tile.
const MOST_COLUMNS: usize = 64;

/// The same address, of which the compiler knows nothing. Where it saw that all rows of a tile advance alike, it would keep
/// an address for each of them, more than there are registers: two loads and a store for each product.
#[inline(always)]
fn opaque(mut address: *const f32) -> *const f32 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: no instruction at all.
    #[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read or written")]
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags));
    }
    address
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
        pub(super) mod $module {
            #[allow(unused_imports, reason = "not every instruction set needs them")]
            use super::*;
            #[cfg(target_arch = "x86_64")]
            #[allow(unused_imports, reason = "not every instruction set needs them")]
            use std::arch::x86_64::*;

            pub(in super::super) fn function(rows: usize, vectors: usize) -> TileFunction {
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
                        let first_a = tile.a.as_ptr().wrapping_offset(tile.a_first);
 let first_a = first_a.wrapping_add(repetition * ROWS * tile.a_row);
                        let first_out = tile.out.at(tile.out_first + repetition * ROWS * tile.out_row);
                        // Vectors are loaded and stored whole. Where fewer columns exist they go through a copy: beyond
                        // them lie values of other tasks.
                        let whole = tile.columns >= VECTORS * $lanes;
                        let mut sums = [[$splat(&0.0); VECTORS]; ROWS];
                        match tile.start {
                            Start::Columns(start) => {
                                for_each_row!(ROWS, m, {
                                    for vector in 0..VECTORS {
                                        sums[m][vector] = $load(start.as_ptr().add(vector * $lanes));
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
                            // `first_a` may lie outside the array: in front of a source whose padding no segment reads.
                            let mut a = first_a.wrapping_add(segment.a);
                            let mut b = tile.b.as_ptr().wrapping_add(segment.b);
                            for _ in 0..tile.terms {
                                let mut columns = [$splat(&0.0); VECTORS];
                                for (vector, column) in columns.iter_mut().enumerate() {
                                    *column = $load(b.add(vector * $lanes));
                                }
                                // Each vector of columns serves all rows, and each value of a row all vectors: so many
                                // products for few loads are what keeps the multipliers busy.
                                let mut row = a;
                                for_each_row!(ROWS, m, {
                                    // The rows in between are reached by one, two or three steps in the addressing mode.
                                    if m % 4 == 0 {
                                        row = opaque(if m == 0 { a } else { row.wrapping_add(4 * tile.a_row) });
                                    }
                                    let value = $splat(&*row.add((m % 4) * tile.a_row));
                                    for vector in 0..VECTORS {
                                        sums[m][vector] = $multiply_add(value, columns[vector], sums[m][vector]);
                                    }
                                });
                                a = a.wrapping_add(tile.a_term);
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
