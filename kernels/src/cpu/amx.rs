//! Products of bf16 by the matrix tiles of AMX (Intel Xeon since 2023), for sums whose terms lie side by side.
//!
//! A matrix tile is 16 rows of 16 words. One instruction adds to 16 x 16 sums the products of 16 rows of words and 16
//! words of columns, two terms a word. A product here has up to 2 x 2 tiles of sums: rows 0-15 and 16-31, vectors of
//! columns 0 and 1.
//!
//! Linux keeps the tiles from a process until it asks for them. Before the first use the results are compared with
//! plain sums, and where they differ the tiles are not used.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::marker::PhantomData;
use std::sync::LazyLock;

use super::buffer::Shared;
use super::operands::bits;
use super::tile::{Segment, Start, Tile};

/// Rows and vectors of columns of the largest product.
pub(super) const MOST_ROWS: usize = 32;
pub(super) const MOST_VECTORS: usize = 2;

const LANES: usize = 16;

/// Whether the tiles exist, the system lets us use them, and their results are right.
pub(super) fn is_available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| exists() && permitted() && agrees());
    *AVAILABLE
}

fn exists() -> bool {
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    __cpuid(0).eax >= 7 && {
        let features = __cpuid_count(7, 0).edx;
        features & TILE != 0 && features & BF16 != 0
    }
}

/// Asks Linux for the tiles, for all threads of this process.
fn permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: isize = 158;
        const REQUEST_PERMISSION: usize = 0x1023;
        const TILE_DATA: usize = 18;
        let mut result = ARCH_PRCTL;
        // SAFETY: the call reads no memory of ours; `syscall` changes rcx and r11.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack)
            );
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

/// Whether products of small whole numbers, which are exact in any order, are right: every height and width of a
/// product, whole and partly filled columns, and terms that take one step or several, or of which there are none.
fn agrees() -> bool {
    let heights = (1..=MOST_ROWS).flat_map(|rows| (1..=MOST_VECTORS).map(move |vectors| (rows, vectors)));
    let shapes =
        heights.flat_map(|(rows, vectors)| [0, 1, 15, 16, 17, 24].map(|words| (rows, vectors, words)));
    shapes.enumerate().all(|(index, (rows, vectors, words))| {
        let columns = vectors * LANES - [0, 3, 15][(index + index / 6) % 3];
        let value = |i: usize, salt: usize| ((i * 7 + salt) % 11) as f32 - 5.0;
        let word = |i: usize, salt: usize| {
            let (first, second) = (bits(value(2 * i, salt)), bits(value(2 * i + 1, salt)));
            f32::from_bits(u32::from(first) | (u32::from(second) << 16))
        };
        let a: Vec<f32> = (0..2 * rows * words).map(|i| word(i, 3)).collect();
        let b: Vec<f32> = (0..2 * words * vectors * LANES).map(|i| word(i, 8)).collect();
        let start: Vec<f32> = (0..vectors * LANES).map(|i| i as f32).collect();
        let mut out = vec![0.5_f32; rows * columns];
        let mut tile = Tile {
            a: &a,
            a_first: 0,
            a_row: words,
            a_term: 1,
            b: &b,
            b_term: vectors * LANES,
            segments: &[Segment { a: 0, b: 0 }, Segment { a: rows * words, b: words * vectors * LANES }],
            terms: words,
            start: Start::Columns(&start),
            out: Shared::new(&mut out),
            out_first: 0,
            out_row: columns,
            columns,
            repeat: 1,
        };
        // SAFETY: the arrays have the sizes that the tile names; the tiles exist and are permitted.
        unsafe {
            let mut tiles = Configuration::default();
            tiles.compute(rows, vectors, &tile);
            tile.start = Start::Out;
            tiles.compute(rows, vectors, &tile);
        }
        let expected = |row: usize, column: usize| -> f32 {
            let products = (0..4 * words).map(|term| {
                // Words of both segments, and the half of the word.
                let (segment, word, half) = (term / (2 * words), term / 2 % words, term % 2);
                let a = 2 * (segment * rows * words + row * words + word) + half;
                let b = 2 * ((segment * words + word) * vectors * LANES + column) + half;
                value(a, 3) * value(b, 8)
            });
            column as f32 + 2.0 * products.sum::<f32>()
        };
        (0..rows * columns).all(|i| out[i] == expected(i / columns, i % columns))
    })
}

/// The shapes of the tiles, as the processor reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// For products of `rows` rows and `words` words: tiles 0 to 3 are the sums, 4 and 5 the rows, 6 and 7 the columns.
    fn new(rows: usize, words: usize) -> Self {
        let (upper, lower) = (rows.min(LANES) as u8, rows.saturating_sub(LANES) as u8);
        let bytes = (4 * words) as u16;
        let mut shapes =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.rows[..8].copy_from_slice(&[
            upper,
            upper,
            lower,
            lower,
            upper,
            lower,
            words as u8,
            words as u8,
        ]);
        for (tile, row_bytes) in shapes.row_bytes[..8].iter_mut().enumerate() {
            *row_bytes = match tile {
                // A tile without rows has no bytes either.
                _ if shapes.rows[tile] == 0 => 0,
                4 | 5 => bytes,
                _ => 64,
            };
        }
        shapes
    }
}

/// Words per instruction: the most that `terms` is a multiple of.
fn words_per_step(terms: usize) -> usize {
    (1..=LANES).rev().find(|words| terms.is_multiple_of(*words)).unwrap_or(1)
}

/// What this thread's tiles are configured for. Others on the thread may use tiles as well, so that it lasts no longer
/// than a task: dropped, it releases the tiles.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    /// Rows of a product and terms of a segment; words of terms per instruction.
    current: Option<(usize, usize, usize)>,
    /// It says something about one thread, hence must not be sent to another.
    thread: PhantomData<*const ()>,
}

impl Drop for Configuration {
    fn drop(&mut self) {
        if self.current.is_some() {
            // SAFETY: the tiles exist, for they were configured; nobody reads them any more.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

impl Configuration {
    /// Configures the tiles for `rows` rows and `terms` terms; returns the words of terms per instruction.
    fn set(&mut self, rows: usize, terms: usize) -> usize {
        if let Some((old_rows, old_terms, words)) = self.current
            && (old_rows, old_terms) == (rows, terms)
        {
            return words;
        }
        let words = words_per_step(terms);
        let shapes = Shapes::new(rows, words);
        // SAFETY: only called where the tiles exist and are permitted; the shapes are within their limits.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        self.current = Some((rows, terms, words));
        words
    }

    /// Computes tiles of [`super::tile`] of `rows` rows and `vectors` vectors, one below the other; `a_term` must be 1.
    ///
    /// # Safety
    /// As [`super::blocking::Products::compute`]; and [`is_available`].
    pub(super) unsafe fn compute(&mut self, rows: usize, vectors: usize, tile: &Tile<'_>) {
        debug_assert!(tile.a_term == 1 && rows <= MOST_ROWS && vectors <= MOST_VECTORS);
        let words = self.set(rows, tile.terms);
        for repetition in 0..tile.repeat {
            let above = repetition * rows;
            let a = tile.a.as_ptr().wrapping_offset(tile.a_first).wrapping_add(above * tile.a_row);
            let out = tile.out.at(tile.out_first + above * tile.out_row);
            // SAFETY: as the caller's; the tiles are configured for these rows and words.
            unsafe { product(tile, (a, out), (rows, vectors), words) }
        }
    }
}

/// Computes one tile with rows from `a` and `out` on.
///
/// # Safety
/// As [`Configuration::compute`], which has configured the tiles.
unsafe fn product(
    tile: &Tile<'_>,
    (a, tile_out): (*const f32, *mut f32),
    (rows, vectors): (usize, usize),
    words: usize,
) {
    // Stores write whole vectors of columns; where fewer exist they go to a copy first.
    let whole = tile.columns >= vectors * LANES;
    let mut part = [0.0_f32; MOST_ROWS * MOST_VECTORS * LANES];
    let (out, out_row) =
        if whole { (tile_out, tile.out_row) } else { (part.as_mut_ptr(), MOST_VECTORS * LANES) };
    // SAFETY: all places are valid by the caller's promise.
    unsafe {
        match tile.start {
            // A distance of 0 between rows: every row starts from the same columns.
            Start::Columns(start) => load_sums(start.as_ptr(), 0, rows, vectors),
            Start::Out => {
                if !whole {
                    for row in 0..rows {
                        let from = tile_out.add(row * tile.out_row).cast_const();
                        std::ptr::copy_nonoverlapping(from, out.add(row * out_row), tile.columns);
                    }
                }
                load_sums(out, 4 * out_row, rows, vectors);
            }
        }
        // Without terms the sums are what they start from, and are written all the same.
        let segments = if tile.terms == 0 { &[] } else { tile.segments };
        for segment in segments {
            let (a, b) = (a.wrapping_add(segment.a), tile.b.as_ptr().wrapping_add(segment.b));
            let steps = tile.terms / words;
            let strides = [4 * tile.a_row, 4 * tile.b_term];
            let moves = [4 * words, 4 * words * tile.b_term];
            match (rows > LANES, vectors > 1) {
                (false, false) => multiply_1_1(a, b, strides, moves, steps),
                (false, true) => multiply_1_2(a, b, strides, moves, steps),
                (true, false) => multiply_2_1(a, b, strides, moves, steps),
                (true, true) => multiply_2_2(a, b, strides, moves, steps),
            }
        }
        store_sums(out, 4 * out_row, rows, vectors);
        if !whole {
            for row in 0..rows {
                let to = tile_out.add(row * tile.out_row);
                std::ptr::copy_nonoverlapping(out.add(row * out_row).cast_const(), to, tile.columns);
            }
        }
    }
}

/// Loads the sums from rows `stride` bytes apart.
unsafe fn load_sums(from: *const f32, stride: usize, rows: usize, vectors: usize) {
    let second = from.wrapping_byte_add(LANES * stride);
    // SAFETY: the rows exist by the caller's promise, and the shapes are set.
    unsafe {
        asm!("tileloadd tmm0, [{} + 1*{}]", in(reg) from, in(reg) stride, options(nostack, readonly));
        if vectors > 1 {
            asm!("tileloadd tmm1, [{} + 1*{} + 64]", in(reg) from, in(reg) stride, options(nostack, readonly));
        }
        if rows > LANES {
            asm!("tileloadd tmm2, [{} + 1*{}]", in(reg) second, in(reg) stride, options(nostack, readonly));
        }
        if rows > LANES && vectors > 1 {
            asm!("tileloadd tmm3, [{} + 1*{} + 64]", in(reg) second, in(reg) stride, options(nostack, readonly));
        }
    }
}

/// Stores the sums to rows `stride` bytes apart.
unsafe fn store_sums(to: *mut f32, stride: usize, rows: usize, vectors: usize) {
    let second = to.wrapping_byte_add(LANES * stride);
    // SAFETY: the rows exist by the caller's promise, and the shapes are set.
    unsafe {
        asm!("tilestored [{} + 1*{}], tmm0", in(reg) to, in(reg) stride, options(nostack));
        if vectors > 1 {
            asm!("tilestored [{} + 1*{} + 64], tmm1", in(reg) to, in(reg) stride, options(nostack));
        }
        if rows > LANES {
            asm!("tilestored [{} + 1*{}], tmm2", in(reg) second, in(reg) stride, options(nostack));
        }
        if rows > LANES && vectors > 1 {
            asm!("tilestored [{} + 1*{} + 64], tmm3", in(reg) second, in(reg) stride, options(nostack));
        }
    }
}

/// Defines a loop over the steps of one segment: the instructions of one step, then on to the next.
macro_rules! multiply {
    ($name:ident, $second_rows:literal, $($instruction:literal),*) => {
        /// # Safety
        /// The rows and columns exist, the shapes are set, and `steps` is not 0.
        unsafe fn $name(
            a: *const f32,
            b: *const f32,
            [a_stride, b_stride]: [usize; 2],
            [a_move, b_move]: [usize; 2],
            steps: usize,
        ) {
            // SAFETY: as the caller's; the compiler itself never uses tiles.
            unsafe {
                asm!(
                    "2:",
                    $($instruction,)*
                    "add {a}, {a_move}",
                    "add {a2}, {a_move}",
                    "add {b}, {b_move}",
                    "dec {steps}",
                    "jnz 2b",
                    a = inout(reg) a => _,
                    a2 = inout(reg) a.wrapping_byte_add($second_rows * a_stride) => _,
                    b = inout(reg) b => _,
                    a_stride = in(reg) a_stride,
                    b_stride = in(reg) b_stride,
                    a_move = in(reg) a_move,
                    b_move = in(reg) b_move,
                    steps = inout(reg) steps => _,
                    options(nostack, readonly)
                );
            }
        }
    };
}

multiply!(
    multiply_1_1,
    0,
    "tileloadd tmm6, [{b} + 1*{b_stride}]",
    "tileloadd tmm4, [{a} + 1*{a_stride}]",
    "tdpbf16ps tmm0, tmm4, tmm6"
);
multiply!(
    multiply_1_2,
    0,
    "tileloadd tmm6, [{b} + 1*{b_stride}]",
    "tileloadd tmm7, [{b} + 1*{b_stride} + 64]",
    "tileloadd tmm4, [{a} + 1*{a_stride}]",
    "tdpbf16ps tmm0, tmm4, tmm6",
    "tdpbf16ps tmm1, tmm4, tmm7"
);
multiply!(
    multiply_2_1,
    16,
    "tileloadd tmm6, [{b} + 1*{b_stride}]",
    "tileloadd tmm4, [{a} + 1*{a_stride}]",
    "tileloadd tmm5, [{a2} + 1*{a_stride}]",
    "tdpbf16ps tmm0, tmm4, tmm6",
    "tdpbf16ps tmm2, tmm5, tmm6"
);
multiply!(
    multiply_2_2,
    16,
    "tileloadd tmm6, [{b} + 1*{b_stride}]",
    "tileloadd tmm7, [{b} + 1*{b_stride} + 64]",
    "tileloadd tmm4, [{a} + 1*{a_stride}]",
    "tileloadd tmm5, [{a2} + 1*{a_stride}]",
    "tdpbf16ps tmm0, tmm4, tmm6",
    "tdpbf16ps tmm1, tmm4, tmm7",
    "tdpbf16ps tmm2, tmm5, tmm6",
    "tdpbf16ps tmm3, tmm5, tmm7"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_exact_where_tiles_exist() {
        if !exists() {
            println!("skipped: this processor has no AMX tiles");
            return;
        }
        assert!(permitted(), "the system keeps the tiles from us");
        assert!(agrees());
    }
}
