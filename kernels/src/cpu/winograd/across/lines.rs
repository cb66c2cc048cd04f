//! The transforms of lines along z.
#![expect(clippy::needless_range_loop, reason = "the indices are frequencies, and several arrays share them")]

use super::super::super::buffer::Shared;
use super::super::super::simd::{Vector, for_each_path};
use super::super::transforms::{input_1d, wide};
use super::FREQUENCIES;

/// The first values of the vectors that cover `length` values, the last two of which may share some.
#[inline(always)]
fn steps<V: Vector>(length: usize) -> impl Iterator<Item = usize> {
    debug_assert!(length == 0 || length >= V::LANES);
    (0..length).step_by(V::LANES).map(move |at| at.min(length - V::LANES))
}

for_each_path!(
    pub(super) transform_lines,
    transform_lines_body,
    (lines: &[[&[f32]; 4]], length: usize, out: Shared<'_, f32>, first: usize, apart: [usize; 2])
);

/// `B^T d B` of the 4 x 4 lines of each of several tiles along y: four lines along x for each of y, of which neighbouring
/// tiles share two. Tiles and frequencies are so far `apart` in `out`.
///
/// # Safety
/// Lines of `length` values, at least a vector of them, and room for as many of each tile and frequency from `first` on.
#[inline(always)]
unsafe fn transform_lines_body<V: Vector>(
    lines: &[[&[f32]; 4]],
    length: usize,
    out: Shared<'_, f32>,
    first: usize,
    [tile, frequency]: [usize; 2],
) {
    let tiles = lines.len() / 2 - 1;
    debug_assert!(lines.iter().flatten().all(|line| line.len() == length));
    debug_assert!(first + (tiles - 1) * tile + (FREQUENCIES - 1) * frequency + length <= out.len());
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        let out = out.at(first);
        for at in steps::<V>(length) {
            let mut known: [[V; 4]; 2] = [along_x(&lines[0], at), along_x(&lines[1], at)];
            for number in 0..tiles {
                let next = [along_x(&lines[2 * number + 2], at), along_x(&lines[2 * number + 3], at)];
                for x in 0..4 {
                    let values = [known[0][x], known[1][x], next[0][x], next[1][x]];
                    for (y, value) in input_1d(values).into_iter().enumerate() {
                        value.store(out.add(number * tile + (4 * x + y) * frequency + at));
                    }
                }
                known = next;
            }
        }
    }
}

/// `B^T d` of four lines. No closure: compiled for itself it would lack the instructions of the vector.
#[inline(always)]
unsafe fn along_x<V: Vector>([d0, d1, d2, d3]: &[&[f32]; 4], at: usize) -> [V; 4] {
    // SAFETY: the lines have a vector at `at`, and the caller has the instructions.
    unsafe {
        input_1d([
            V::load(d0.as_ptr().add(at)),
            V::load(d1.as_ptr().add(at)),
            V::load(d2.as_ptr().add(at)),
            V::load(d3.as_ptr().add(at)),
        ])
    }
}

for_each_path!(
    pub(super) transform_gradients,
    transform_gradients_body,
    (lines: &[&[f32]; 4], length: usize, out: Shared<'_, f32>, first: usize, frequency: usize)
);

/// `A y A^T` of 2 x 2 lines.
///
/// # Safety
/// As [`transform_lines_body`].
#[inline(always)]
unsafe fn transform_gradients_body<V: Vector>(
    lines: &[&[f32]; 4],
    length: usize,
    out: Shared<'_, f32>,
    first: usize,
    frequency: usize,
) {
    debug_assert!(lines.iter().all(|line| line.len() == length));
    debug_assert!(first + (FREQUENCIES - 1) * frequency + length <= out.len());
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        let out = out.at(first);
        for at in steps::<V>(length) {
            let mut along_x = [[V::zero(); 4]; 2];
            for y in 0..2 {
                let (first, second) = (lines[y].as_ptr().add(at), lines[2 + y].as_ptr().add(at));
                along_x[y] = wide(V::load(first), V::load(second));
            }
            for x in 0..4 {
                for (y, value) in wide(along_x[0][x], along_x[1][x]).into_iter().enumerate() {
                    value.store(out.add((4 * x + y) * frequency + at));
                }
            }
        }
    }
}

for_each_path!(
    pub(super) add_lines,
    add_lines_body,
    (from: &[f32], frequency: usize, bias: &[f32], length: usize, out: [Option<&mut [f32]>; 4])
);

/// 2 x 2 lines of `bias + A^T m A`.
///
/// # Safety
/// 16 lines of `length` values of which the first begins `from`, `frequency` apart; the columns of `bias` are whole vectors,
/// and `length` is a multiple of them.
#[inline(always)]
unsafe fn add_lines_body<V: Vector>(
    from: &[f32],
    frequency: usize,
    bias: &[f32],
    length: usize,
    mut out: [Option<&mut [f32]>; 4],
) {
    debug_assert!((FREQUENCIES - 1) * frequency + length <= from.len());
    debug_assert!(bias.len().is_multiple_of(V::LANES) && length.is_multiple_of(bias.len()));
    debug_assert!(out.iter().flatten().all(|line| line.len() == length));
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        for row in (0..length).step_by(bias.len()) {
            for column in (0..bias.len()).step_by(V::LANES) {
                let (at, start) = (row + column, V::load(bias.as_ptr().add(column)));
                let mut along_y = [[V::zero(); 2]; 4];
                for x in 0..4 {
                    let mut m = [V::zero(); 4];
                    for y in 0..4 {
                        m[y] = V::load(from.as_ptr().add((4 * x + y) * frequency + at));
                    }
                    along_y[x] = narrow(m);
                }
                for y in 0..2 {
                    let sums = narrow([along_y[0][y], along_y[1][y], along_y[2][y], along_y[3][y]]);
                    for (x, sum) in sums.into_iter().enumerate() {
                        if let Some(line) = &mut out[2 * x + y] {
                            start.add(sum).store(line.as_mut_ptr().add(at));
                        }
                    }
                }
            }
        }
    }
}

/// `A^T m`.
#[inline(always)]
unsafe fn narrow<V: Vector>([m0, m1, m2, m3]: [V; 4]) -> [V; 2] {
    // SAFETY: the caller has the instructions.
    unsafe { [m0.add(m1).add(m2), m1.sub(m2).sub(m3)] }
}
