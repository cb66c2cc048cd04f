//! The transforms of Winograd's filtering: of inputs, outputs and their gradients as loops over vectors of channels,
//! of weights and their gradients on rows.
//!
//! Along y and z always four frequencies; along x four (`F` = 4, volumes) or one (`F` = 1, kernels that are flat along
//! x). Frequency (x, y, z) has the number `(x * 4 + y) * 4 + z`.
#![expect(clippy::needless_range_loop, reason = "the indices are frequencies, and several arrays share them")]

use std::mem::MaybeUninit;

use super::super::buffer::Shared;
use super::super::simd::{Vector, for_each_path};
use super::super::store::{Store, for_each_layout};

/// Products per tile of a volume.
pub(super) const MOST_FREQUENCIES: usize = 64;

/// Columns of the widest tile of products.
pub(super) const MOST_COLUMNS: usize = 64;

/// `B^T d`.
#[inline(always)]
pub(super) unsafe fn input_1d<V: Vector>([d0, d1, d2, d3]: [V; 4]) -> [V; 4] {
    // SAFETY: the caller has the instructions.
    unsafe { [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)] }
}

/// Lines along z that the transform of the input reads.
pub(super) struct Lines<'a> {
    /// The 4 x 4 lines of a tile along x and y, of which the first four are those of a flat kernel; each `size *
    /// channels` values.
    pub(super) lines: &'a [&'a [f32]; 16],
    pub(super) channels: usize,
    /// Position of the first input of the first tile, and number of positions. Others are zeros.
    pub(super) first: isize,
    pub(super) size: usize,
}

/// Where transformed values go: arrays (tile, channel) of operands, one per frequency.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) values: Shared<'a, f32>,
    /// Words between frequencies.
    pub(super) frequency: usize,
    /// Number of the first tile.
    pub(super) tile: usize,
}

impl Target<'_> {
    /// Whether there is room for `tiles` tiles of all `frequencies`.
    fn has_room<S: Store>(self, frequencies: usize, tiles: usize, channels: usize) -> bool {
        let last = (frequencies - 1) * self.frequency + S::LAYOUT.words(self.tile + tiles, channels);
        last <= self.values.len()
    }
}

for_each_layout!(
    pub(super) transform_input,
    transform_input_body,
    (flat: bool, lines: &Lines<'_>, tiles: usize, out: Target<'_>)
);

/// Transforms lines along z.
///
/// # Safety
/// Lines of `size * channels` values, `channels` whole vectors, and room for all values written.
#[inline(always)]
unsafe fn transform_input_body<V: Vector, S: Store>(
    flat: bool,
    lines: &Lines<'_>,
    tiles: usize,
    out: Target<'_>,
) {
    // SAFETY: as the caller's.
    unsafe { if flat { input::<V, S, 1>(lines, tiles, out) } else { input::<V, S, 4>(lines, tiles, out) } }
}

/// Values per line of the cache.
const LINE: usize = 16;
/// Tiles whose inputs stay in the first level of the cache.
const TILES: usize = 8;

/// The vectors of one line of the cache at the inputs of [`TILES`] tiles, transformed along x: four of y for each
/// frequency of x.
type Slices<V> = [[[V; 16]; LINE / 8]; 2 * TILES + 2];

/// Lines that are neighbours along x or y often fall on one set of the cache. Hence four are read at a time, and all
/// values of a line of the cache together.
#[inline(always)]
unsafe fn input<V: Vector, S: Store, const F: usize>(lines: &Lines<'_>, tiles: usize, out: Target<'_>) {
    let channels = lines.channels;
    debug_assert!(channels.is_multiple_of(V::LANES));
    debug_assert!(lines.lines[..4 * F].iter().all(|line| line.len() == lines.size * channels));
    debug_assert!(out.has_room::<S>(16 * F, tiles, channels));
    let mut slices = MaybeUninit::<Slices<V>>::uninit();
    let start = slices.as_mut_ptr().cast::<V>();
    // SAFETY: all addresses are inside the lines, the slices or the output, by the caller's promise; slices are written
    // before they are read.
    unsafe {
        let slice = |position: usize, vector: usize| start.add((position * (LINE / V::LANES) + vector) * 16);
        for (first, first_tile) in (0..channels)
            .step_by(LINE)
            .flat_map(|first| (0..tiles).step_by(TILES).map(move |tile| (first, tile)))
        {
            let line = (first..channels.min(first + LINE)).step_by(V::LANES).enumerate();
            let count = TILES.min(tiles - first_tile);
            for y in 0..4 {
                for position in 0..2 * count + 2 {
                    let z = lines.first + (2 * first_tile + position) as isize;
                    let inside = z >= 0 && (z as usize) < lines.size;
                    for (vector, channel) in line.clone() {
                        let mut values = [V::zero(); 4];
                        if inside {
                            let at = z as usize * channels + channel;
                            for x in 0..F {
                                values[x] = V::load(lines.lines[4 * x + y].as_ptr().add(at));
                            }
                        }
                        let values = if F == 4 { input_1d(values) } else { values };
                        for x in 0..F {
                            slice(position, vector).add(4 * x + y).write(values[x]);
                        }
                    }
                }
            }
            for tile in 0..count {
                for (vector, channel) in line.clone() {
                    for x in 0..F {
                        for y in 0..4 {
                            let values: [V; 4] = std::array::from_fn(|position| {
                                let d = |y: usize| slice(2 * tile + position, vector).add(4 * x + y).read();
                                match y {
                                    0 => d(0).sub(d(2)),
                                    1 => d(1).add(d(2)),
                                    2 => d(2).sub(d(1)),
                                    _ => d(1).sub(d(3)),
                                }
                            });
                            for (z, value) in input_1d(values).into_iter().enumerate() {
                                let to = out.values.at(0).add(((4 * x + y) * 4 + z) * out.frequency);
                                S::store(value, to, channels, out.tile + first_tile + tile, channel);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Lines along z that outputs are written to.
pub(super) struct OutputLines<'a> {
    /// The 2 x 2 lines of a row of tiles along x and y, of which the first two are those of a flat kernel; none are those
    /// outside.
    pub(super) lines: [Option<Shared<'a, f32>>; 4],
    /// Values per position, and number of positions.
    pub(super) columns: usize,
    pub(super) size: usize,
}

for_each_path!(
    pub(super) transform_output,
    transform_output_body,
    (flat: bool, from: &[f32], frequency: usize, bias: &[f32], tiles: usize, out: &OutputLines<'_>)
);

/// Transforms the products of a row of tiles, (tile, column) for each frequency: the outputs get the columns of
/// bias + `A^T m A`.
///
/// # Safety
/// Columns are whole vectors, and all that is named is valid.
#[inline(always)]
unsafe fn transform_output_body<V: Vector>(
    flat: bool,
    from: &[f32],
    frequency: usize,
    bias: &[f32],
    tiles: usize,
    out: &OutputLines<'_>,
) {
    // SAFETY: as the caller's.
    unsafe {
        if flat {
            output::<V, 1>(from, frequency, bias, tiles, out);
        } else {
            output::<V, 4>(from, frequency, bias, tiles, out);
        }
    }
}

#[inline(always)]
unsafe fn output<V: Vector, const F: usize>(
    from: &[f32],
    frequency: usize,
    bias: &[f32],
    tiles: usize,
    out: &OutputLines<'_>,
) {
    let columns = out.columns;
    debug_assert!(columns.is_multiple_of(V::LANES) && columns <= bias.len());
    debug_assert!((16 * F - 1) * frequency + tiles * columns <= from.len());
    debug_assert!(out.lines.iter().flatten().all(|line| line.len() == out.size * columns));
    debug_assert!(2 * tiles < out.size + 2);
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        for (tile, column) in
            (0..tiles).flat_map(|tile| (0..columns).step_by(V::LANES).map(move |c| (tile, c)))
        {
            let from = from.as_ptr().add(tile * columns + column);
            let start = V::load(bias.as_ptr().add(column));
            let mut sums = [start; 8];
            for fx in 0..F {
                // Transformed along y and z.
                let mut plane = [V::zero(); 4];
                for fy in 0..4 {
                    let from = from.add((fx * 4 + fy) * 4 * frequency);
                    let (m1, m2) = (V::load(from.add(frequency)), V::load(from.add(2 * frequency)));
                    let z0 = V::load(from).add(m1).add(m2);
                    let z1 = m1.sub(m2).sub(V::load(from.add(3 * frequency)));
                    match fy {
                        0 => plane = [z0, z1, V::zero(), V::zero()],
                        1 => plane = [plane[0].add(z0), plane[1].add(z1), z0, z1],
                        2 => plane = [plane[0].add(z0), plane[1].add(z1), plane[2].sub(z0), plane[3].sub(z1)],
                        _ => plane = [plane[0], plane[1], plane[2].sub(z0), plane[3].sub(z1)],
                    }
                }
                for (i, value) in plane.into_iter().enumerate() {
                    if fx < 3 {
                        sums[i] = sums[i].add(value);
                    }
                    if fx == 1 {
                        sums[4 + i] = sums[4 + i].add(value);
                    }
                    if fx > 1 {
                        sums[4 + i] = sums[4 + i].sub(value);
                    }
                }
            }
            let lines = if F == 4 { 4 } else { 2 };
            for (i, line) in out.lines[..lines].iter().enumerate() {
                let Some(line) = line else { continue };
                let to = line.at(0).add(2 * tile * columns + column);
                sums[2 * i].store(to);
                if 2 * tile + 1 < out.size {
                    sums[2 * i + 1].store(to.add(columns));
                }
            }
        }
    }
}

/// `A y`.
#[inline(always)]
pub(super) unsafe fn wide<V: Vector>(y0: V, y1: V) -> [V; 4] {
    // SAFETY: the caller has the instructions.
    unsafe { [y0, y0.add(y1), y0.sub(y1), V::zero().sub(y1)] }
}

for_each_layout!(
    pub(super) transform_gradient,
    transform_gradient_body,
    (flat: bool, lines: &[Option<&[f32]>; 8], columns: usize, out: Target<'_>)
);

/// Transforms the gradient of one tile's outputs, `A y A^T` with `A y` = (y0, y0 + y1, y0 - y1, -y1); places that are
/// not there are zeros.
///
/// # Safety
/// `columns` values, whole vectors, at every place, and room for all values written.
#[inline(always)]
unsafe fn transform_gradient_body<V: Vector, S: Store>(
    flat: bool,
    lines: &[Option<&[f32]>; 8],
    columns: usize,
    out: Target<'_>,
) {
    // SAFETY: as the caller's.
    unsafe {
        if flat { gradient::<V, S, 1>(lines, columns, out) } else { gradient::<V, S, 4>(lines, columns, out) }
    }
}

#[inline(always)]
unsafe fn gradient<V: Vector, S: Store, const F: usize>(
    lines: &[Option<&[f32]>; 8],
    columns: usize,
    out: Target<'_>,
) {
    debug_assert!(columns.is_multiple_of(V::LANES));
    debug_assert!(lines.iter().flatten().all(|line| line.len() == columns));
    debug_assert!(out.has_room::<S>(16 * F, 1, columns));
    // SAFETY: all addresses are valid by the caller's promise.
    unsafe {
        for column in (0..columns).step_by(V::LANES) {
            let mut values = [V::zero(); 8];
            for (value, line) in values.iter_mut().zip(lines) {
                if let Some(line) = line {
                    *value = V::load(line.as_ptr().add(column));
                }
            }
            let mut along_x = [[V::zero(); 4]; 4];
            for (i, to) in along_x.iter_mut().enumerate() {
                *to = if F == 4 { wide(values[i], values[4 + i]) } else { [values[i]; 4] };
            }
            for fx in 0..F {
                let even = wide(along_x[0][fx], along_x[2][fx]);
                let odd = wide(along_x[1][fx], along_x[3][fx]);
                for fy in 0..4 {
                    for (fz, value) in wide(even[fy], odd[fy]).into_iter().enumerate() {
                        let to = out.values.at(0).add(((fx * 4 + fy) * 4 + fz) * out.frequency);
                        S::store(value, to, columns, out.tile, column);
                    }
                }
            }
        }
    }
}

/// A row of columns for every tap or frequency.
pub(super) type RowsOf<const N: usize> = [[f32; MOST_COLUMNS]; N];

/// Transforms weights: from rows of taps, (x * 3 + y) * 3 + z, to rows of frequencies.
#[inline(always)]
pub(super) fn transform_weights<const F: usize>(taps: &RowsOf<27>, out: &mut RowsOf<MOST_FREQUENCIES>) {
    let mut along_x = [[0.0; MOST_COLUMNS]; 36];
    let mut along_y = [[0.0; MOST_COLUMNS]; 48];
    if F == 4 {
        for i in 0..9 {
            widen(&mut along_x, [i, 9 + i, 18 + i, 27 + i], taps, [i, 9 + i, 18 + i]);
        }
    } else {
        along_x[..9].copy_from_slice(&taps[..9]);
    }
    for i in 0..3 * F {
        let (fx, z) = (i / 3, i % 3);
        let from = [9 * fx + z, 9 * fx + 3 + z, 9 * fx + 6 + z];
        let to = [12 * fx + z, 12 * fx + 3 + z, 12 * fx + 6 + z, 12 * fx + 9 + z];
        widen(&mut along_y, to, &along_x, from);
    }
    for i in 0..4 * F {
        widen(out, [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3], &along_y, [3 * i, 3 * i + 1, 3 * i + 2]);
    }
}

/// `G g` on rows.
#[inline(always)]
fn widen<const M: usize, const N: usize>(
    to: &mut RowsOf<N>,
    [t0, t1, t2, t3]: [usize; 4],
    from: &RowsOf<M>,
    [f0, f1, f2]: [usize; 3],
) {
    for j in 0..MOST_COLUMNS {
        let (g0, g1, g2) = (from[f0][j], from[f1][j], from[f2][j]);
        to[t0][j] = g0;
        to[t1][j] = 0.5 * (g0 + g2 + g1);
        to[t2][j] = 0.5 * (g0 + g2 - g1);
        to[t3][j] = g2;
    }
}

/// Transforms the gradient of weights back, in place: frequencies 0, 1, 2 of each axis become its taps.
#[inline(always)]
pub(super) fn narrow_weights<const F: usize>(rows: &mut [[f32; MOST_COLUMNS]]) {
    for i in 0..4 * F {
        narrow(rows, [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3]);
    }
    for i in (0..4 * F).filter(|i| i % 4 < 3) {
        let at = i / 4 * 16 + i % 4;
        narrow(rows, [at, at + 4, at + 8, at + 12]);
    }
    if F == 4 {
        for at in 0..16 {
            narrow(rows, [at, at + 16, at + 32, at + 48]);
        }
    }
}

/// `G^T u` on rows: the first three of four become (u0 + (u1 + u2) / 2, (u1 - u2) / 2, (u1 + u2) / 2 + u3).
#[inline(always)]
fn narrow(rows: &mut [[f32; MOST_COLUMNS]], [r0, r1, r2, r3]: [usize; 4]) {
    for j in 0..MOST_COLUMNS {
        let (u0, u1, u2, u3) = (rows[r0][j], rows[r1][j], rows[r2][j], rows[r3][j]);
        rows[r0][j] = u0 + 0.5 * (u1 + u2);
        rows[r1][j] = 0.5 * (u1 - u2);
        rows[r2][j] = 0.5 * (u1 + u2) + u3;
    }
}
