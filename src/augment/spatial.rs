//! One affine map per patch, and the reading of voxels through it.
//!
//! Coordinates are fixed-point numbers with 32 fractional bits: exact for every integer position, so that a
//! draw without interpolation copies voxels, and the same wherever a window of the sample begins.

use std::ops::Range;

use super::elastic::Field;
use super::wide::{lerp, wide};
use crate::network::Grid;

/// Voxels per unit of a fixed-point coordinate.
const ONE: i64 = 1 << 32;

/// A linear map from offsets about the patch centre to offsets in the sample, in voxels; a matrix of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine(pub [[f64; 3]; 3]);

impl Affine {
    /// Leaves every voxel where it is.
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);

    /// The map of two operations applied to an image, `self` first and then `next`: the result looks up
    /// `next`'s position and asks `self` what lies there, hence the product `self * next`.
    pub fn then(&self, next: &Self) -> Self {
        Self(std::array::from_fn(|row| {
            std::array::from_fn(|column| (0..3).map(|k| self.0[row][k] * next.0[k][column]).sum())
        }))
    }

    /// Rz * Ry * Rx for right-handed rotations of the coordinates about x, y and z, in degrees.
    pub fn rotation(degrees: [f64; 3]) -> Self {
        let [(sx, cx), (sy, cy), (sz, cz)] = degrees.map(|angle| angle.to_radians().sin_cos());
        let about_x = Self([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]]);
        let about_y = Self([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]]);
        let about_z = Self([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]]);
        about_z.then(&about_y).then(&about_x)
    }

    /// Multiplies coordinates by a factor each: above 1 makes objects smaller.
    pub fn scaling(factors: [f64; 3]) -> Self {
        let mut matrix = Self::IDENTITY;
        for (axis, factor) in factors.into_iter().enumerate() {
            matrix.0[axis][axis] = factor;
        }
        matrix
    }

    /// The map back; `None` of a map that loses a direction.
    pub fn inverse(&self) -> Option<Self> {
        let m = &self.0;
        // Adjugate over determinant: of turns by right angles and mirror images it is exact.
        let minor = |row: usize, column: usize| {
            let [r, s] = [(row + 1) % 3, (row + 2) % 3];
            let [c, d] = [(column + 1) % 3, (column + 2) % 3];
            m[r][c] * m[s][d] - m[r][d] * m[s][c]
        };
        let determinant: f64 = (0..3).map(|column| m[0][column] * minor(0, column)).sum();
        let inverse =
            std::array::from_fn(|row| std::array::from_fn(|column| minor(column, row) / determinant));
        (determinant.abs() > 1e-9).then_some(Self(inverse))
    }

    /// Reverses the marked axes.
    pub fn mirror(axes: [bool; 3]) -> Self {
        Self::scaling(axes.map(|mirrored| if mirrored { -1.0 } else { 1.0 }))
    }
}

/// Where each voxel of one patch lies in the sample, in fixed point.
#[derive(Clone, Debug)]
pub(super) struct Map {
    patch: [usize; 3],
    /// Coordinates of patch voxel (0, 0, 0).
    base: [i64; 3],
    /// `step[e]`: how the coordinates change from one patch voxel to the next along patch axis `e`.
    step: [[i64; 3]; 3],
}

impl Map {
    pub(super) fn new(affine: &Affine, shift: [f64; 3], start: [i64; 3], patch: [usize; 3]) -> Self {
        let step: [[i64; 3]; 3] = std::array::from_fn(|e| {
            std::array::from_fn(|axis| (affine.0[axis][e] * ONE as f64).round() as i64)
        });
        let base = std::array::from_fn(|axis| {
            let extent = |e: usize| patch[e] as i64 - 1;
            let swept: i64 = (0..3).map(|e| step[e][axis] * extent(e)).sum();
            let shift = (shift[axis] * ONE as f64).round() as i64;
            start[axis] * ONE + ((extent(axis) * ONE - swept) >> 1) + shift
        });
        Self { patch, base, step }
    }

    /// The same map for the voxels of a grid about the patch: where both have a voxel, the same coordinates.
    pub(super) fn on(&self, grid: &Grid) -> Self {
        let base = std::array::from_fn(|axis| {
            self.base[axis] + (0..3).map(|e| self.step[e][axis] * grid.start[e]).sum::<i64>()
        });
        let step = std::array::from_fn(|e| self.step[e].map(|step| step * grid.stride[e] as i64));
        Self { patch: grid.shape, base, step }
    }

    /// Coordinates of the first voxel of patch row (i, j).
    fn row(&self, i: usize, j: usize) -> [i64; 3] {
        let [i, j] = [i as i64, j as i64];
        std::array::from_fn(|axis| self.base[axis] + i * self.step[0][axis] + j * self.step[1][axis])
    }

    /// Whether every patch voxel falls onto a voxel position: then nothing is interpolated.
    fn is_lattice(&self) -> bool {
        let whole = |coordinate: &i64| coordinate % ONE == 0;
        self.base.iter().all(whole) && self.step.iter().flatten().all(whole)
    }

    /// First voxel, and the one after the last, that the patch sees along each axis where no voxel is displaced by
    /// more than `reach`. An identity map sees no voxel that it does not copy.
    pub(super) fn bounds(&self, reach: f64) -> [[i64; 3]; 2] {
        let reach = (reach * ONE as f64).ceil() as i64;
        let (mut low, mut high) = (self.base, self.base);
        for axis in 0..3 {
            for e in 0..3 {
                let swept = self.step[e][axis] * (self.patch[e] as i64 - 1);
                low[axis] += swept.min(0);
                high[axis] += swept.max(0);
            }
        }
        [low.map(|at| (at - reach) >> 32), high.map(|at| ((at + reach + ONE - 1) >> 32) + 1)]
    }

    /// The same map for a block that begins at voxel `start`.
    pub(super) fn moved(&self, start: [usize; 3]) -> Self {
        Self { base: std::array::from_fn(|axis| self.base[axis] - start[axis] as i64 * ONE), ..self.clone() }
    }

    /// Whether every sample axis depends on the patch axis of the same name alone.
    fn is_diagonal(&self) -> bool {
        (0..3).all(|e| (0..3).all(|axis| e == axis || self.step[e][axis] == 0))
    }

    /// Which voxels k of a row have `low <= coordinate + k * step < high` on all axes.
    fn span(&self, row: [i64; 3], bounds: impl Fn(usize) -> Range<i64>) -> Range<usize> {
        let mut span = 0..self.patch[2] as i64;
        for axis in 0..3 {
            let Range { start: low, end: high } = bounds(axis);
            let (first, step) = (row[axis], self.step[2][axis]);
            let inside = match step {
                0 if (low..high).contains(&first) => continue,
                0 => return 0..0,
                // k >= ceil((low - first) / step) and k < ceil((high - first) / step)
                1.. => ceil_div(low - first, step)..ceil_div(high - first, step),
                // Mirrored: k > (high - first) / step and k <= (low - first) / step
                _ => ceil_div(first - high + 1, -step)..ceil_div(first - low + 1, -step),
            };
            span = span.start.max(inside.start)..span.end.min(inside.end);
        }
        if span.is_empty() { 0..0 } else { span.start as usize..span.end as usize }
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    -((-a).div_euclid(b))
}

/// What a patch is read from: a sample, or a box of it that holds all that the patch sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    /// (channel, x, y, z).
    pub(super) images: &'a [f32],
    /// (x, y, z).
    pub(super) labels: &'a [u8],
    /// 1 inside the region of interest, (x, y, z).
    pub(super) mask: Option<&'a [u8]>,
    /// Voxels along x, y, z.
    pub(super) shape: [usize; 3],
}

/// Fills `images` (channel, `size` voxels each) linearly, 0 outside the block.
pub(super) fn resample_images(
    map: &Map,
    field: Option<&Field>,
    block: &Block<'_>,
    size: usize,
    images: &mut [f32],
) {
    let voxels = block.shape.iter().product::<usize>();
    if voxels == 0 || size == 0 {
        images.fill(0.0);
        return;
    }
    assert_eq!(block.images.len() / voxels, images.len() / size, "channels");
    if let Some(field) = field {
        displaced(map, field, |row, at| {
            for (channel, out) in block.images.chunks_exact(voxels).zip(images.chunks_exact_mut(size)) {
                for (out, &position) in out[at.clone()].iter_mut().zip(row) {
                    *out = trilinear(neighbours(channel, block.shape, position), position.map(fraction));
                }
            }
        });
        return;
    }
    if map.is_lattice() {
        for (channel, out) in block.images.chunks_exact(voxels).zip(images.chunks_exact_mut(size)) {
            copy(map, channel, block.shape, out);
        }
        return;
    }
    wide(
        #[inline(always)]
        || {
            let mut row = Row::new(map.patch[2]);
            for (channel, out) in block.images.chunks_exact(voxels).zip(images.chunks_exact_mut(size)) {
                if map.is_diagonal() {
                    stretch(map, channel, block.shape, out);
                    continue;
                }
                for_each_row(
                    map.patch,
                    #[inline(always)]
                    |i, j, at| {
                        row.place(map, i, j, block.shape);
                        row.interpolate(map, channel, block.shape, &mut out[at]);
                    },
                );
            }
        },
    );
}

/// Fills `labels` (patch) with the class of the largest linear weight, background outside the block.
pub(super) fn resample_labels(map: &Map, field: Option<&Field>, block: &Block<'_>, labels: &mut [u8]) {
    if block.shape.contains(&0) {
        labels.fill(0);
        return;
    }
    if let Some(field) = field {
        displaced(map, field, |row, at| {
            for (out, &position) in labels[at].iter_mut().zip(row) {
                *out = elect(neighbours(block.labels, block.shape, position), position.map(fraction));
            }
        });
        return;
    }
    if map.is_lattice() {
        copy(map, block.labels, block.shape, labels);
        return;
    }
    wide(
        #[inline(always)]
        || {
            let mut row = Row::new(map.patch[2]);
            for_each_row(
                map.patch,
                #[inline(always)]
                |i, j, at| {
                    row.place(map, i, j, block.shape);
                    row.vote(map, block.labels, block.shape, &mut labels[at]);
                },
            );
        },
    );
}

/// Marks the patch voxels whose nearest neighbour in `mask` is not 0.
pub(super) fn nearest(map: &Map, field: Option<&Field>, mask: &[u8], shape: [usize; 3], out: &mut [u8]) {
    let look = |position: [i64; 3]| {
        let at = position.map(|coordinate| (coordinate + ONE / 2) >> 32);
        let inside = (0..3).all(|axis| (0..shape[axis] as i64).contains(&at[axis]));
        let [x, y, z] = at.map(|coordinate| coordinate as usize);
        if inside { mask[(x * shape[1] + y) * shape[2] + z] } else { 0 }
    };
    if let Some(field) = field {
        displaced(map, field, |row, at| {
            out[at].iter_mut().zip(row).for_each(|(out, &position)| *out = look(position));
        });
        return;
    }
    for (index, out) in out.chunks_exact_mut(map.patch[2]).enumerate() {
        let row = map.row(index / map.patch[1], index % map.patch[1]);
        for (k, out) in out.iter_mut().enumerate() {
            *out = look(std::array::from_fn(|axis| row[axis] + k as i64 * map.step[2][axis]));
        }
    }
}

/// Visits the rows of a grid with the displaced coordinates of their voxels, and their places in the grid.
fn displaced(map: &Map, field: &Field, mut visit: impl FnMut(&[[i64; 3]], Range<usize>)) {
    let [nx, ny, nz] = map.patch;
    let mut moved = vec![[0.0; 3]; nz];
    let mut positions = vec![[0; 3]; nz];
    for i in 0..nx {
        for j in 0..ny {
            let first = map.row(i, j);
            field.row(i, j, &mut moved);
            for (k, (position, moved)) in positions.iter_mut().zip(&moved).enumerate() {
                *position = std::array::from_fn(|axis| {
                    first[axis] + k as i64 * map.step[2][axis] + (moved[axis] * ONE as f64).round() as i64
                });
            }
            let at = (i * ny + j) * nz;
            visit(&positions, at..at + nz);
        }
    }
}

/// The eight voxels around a position, 0 where they lie outside.
#[inline(always)]
fn neighbours<T: Copy + Default>(source: &[T], shape: [usize; 3], at: [i64; 3]) -> [[T; 2]; 4] {
    let value = |corner: usize| {
        let position: [i64; 3] =
            std::array::from_fn(|axis| (at[axis] >> 32) + (corner as i64 >> (2 - axis) & 1));
        if (0..3).all(|axis| (0..shape[axis] as i64).contains(&position[axis])) {
            let [x, y, z] = position.map(|p| p as usize);
            source[(x * shape[1] + y) * shape[2] + z]
        } else {
            T::default()
        }
    };
    std::array::from_fn(|pair| [value(2 * pair), value(2 * pair + 1)])
}

/// Copies a patch whose voxels all fall onto voxels of the block.
fn copy<T: Copy + Default>(map: &Map, source: &[T], shape: [usize; 3], out: &mut [T]) {
    let strides = [(shape[1] * shape[2]) as i64, shape[2] as i64, 1];
    let along: i64 = (0..3).map(|axis| map.step[2][axis] / ONE * strides[axis]).sum();
    for (index, out) in out.chunks_exact_mut(map.patch[2]).enumerate() {
        let row = map.row(index / map.patch[1], index % map.patch[1]);
        let span = map.span(row, |axis| 0..shape[axis] as i64 * ONE);
        out[..span.start].fill(T::default());
        out[span.end..].fill(T::default());
        if span.is_empty() {
            continue;
        }
        let first: i64 = (0..3).map(|axis| row[axis] / ONE * strides[axis]).sum();
        let first = (first + span.start as i64 * along) as usize;
        let out = &mut out[span];
        let count = out.len();
        match along {
            1 => out.copy_from_slice(&source[first..first + count]),
            -1 => {
                let source = &source[first + 1 - count..=first];
                out.iter_mut().zip(source.iter().rev()).for_each(|(out, voxel)| *out = *voxel);
            }
            _ => {
                for (k, out) in out.iter_mut().enumerate() {
                    *out = source[(first as i64 + k as i64 * along) as usize];
                }
            }
        }
    }
}

/// Interpolates through a map without rotation, axis after axis: the same sums in the same order as
/// [`trilinear`], most of them shared between rows.
#[inline(always)]
fn stretch(map: &Map, source: &[f32], shape: [usize; 3], out: &mut [f32]) {
    // Rows and columns are counted from 1; 0 and the one after the last hold the zeros around the sample.
    let nodes: [Vec<(usize, usize, f32)>; 3] = std::array::from_fn(|axis| {
        let place = |index: i64| (index.clamp(-1, shape[axis] as i64) + 1) as usize;
        let node = |n: usize| {
            let at = map.base[axis] + n as i64 * map.step[axis][axis];
            (place(at >> 32), place((at >> 32) + 1), fraction(at))
        };
        (0..map.patch[axis]).map(node).collect()
    });
    let [_, rows, columns] = shape;
    let width = columns + 2;
    let zeros = vec![0.0; rows * columns];
    let plane_of = |index: usize| {
        if (1..=shape[0]).contains(&index) {
            &source[(index - 1) * rows * columns..][..rows * columns]
        } else {
            &zeros
        }
    };
    let mut plane = vec![0.0; (rows + 2) * width];
    let mut line = vec![0.0; width];
    // Rows that no patch row sees stay as they are.
    let seen =
        nodes[1].iter().flat_map(|&(below, above, _)| [below, above]).filter(|row| (1..=rows).contains(row));
    let seen = seen.clone().min().unwrap_or(1)..=seen.max().unwrap_or(0);
    for (out, &(below, above, w)) in out.chunks_exact_mut(map.patch[1] * map.patch[2]).zip(&nodes[0]) {
        let (below, above) = (plane_of(below), plane_of(above));
        for row in seen.clone() {
            let from = (row - 1) * columns;
            let line = &mut plane[row * width + 1..][..columns];
            lerp(line, &below[from..][..columns], &above[from..][..columns], w);
        }
        for (out, &(below, above, w)) in out.chunks_exact_mut(map.patch[2]).zip(&nodes[1]) {
            lerp(&mut line, &plane[below * width..][..width], &plane[above * width..][..width], w);
            for (out, &(below, above, w)) in out.iter_mut().zip(&nodes[2]) {
                *out = line[below] + (line[above] - line[below]) * w;
            }
        }
    }
}

/// Visits the rows of a patch in square tiles of x and y, so that the voxels that a turned row reads are still
/// in the cache when its neighbours read them. Passes x, y and the row's place in the patch.
#[inline(always)]
fn for_each_row(patch: [usize; 3], mut visit: impl FnMut(usize, usize, Range<usize>)) {
    const TILE: usize = 16;
    for tile_i in (0..patch[0]).step_by(TILE) {
        for tile_j in (0..patch[1]).step_by(TILE) {
            for i in tile_i..patch[0].min(tile_i + TILE) {
                for j in tile_j..patch[1].min(tile_j + TILE) {
                    let at = (i * patch[1] + j) * patch[2];
                    visit(i, j, at..at + patch[2]);
                }
            }
        }
    }
}

/// Positions and weights of one patch row, shared by all channels.
struct Row {
    first: [i64; 3],
    /// Voxels whose eight neighbours may lie inside the block; the others see nothing but zeros.
    touched: Range<usize>,
    /// Voxels whose eight neighbours all do.
    inner: Range<usize>,
    /// For inner voxels: index of the lowest neighbour, and the weights of the upper ones along x, y, z.
    offset: Vec<u32>,
    weights: [Vec<f32>; 3],
}

impl Row {
    fn new(length: usize) -> Self {
        Self {
            first: [0; 3],
            touched: 0..0,
            inner: 0..0,
            offset: vec![0; length],
            weights: std::array::from_fn(|_| vec![0.0; length]),
        }
    }

    #[inline(always)]
    fn place(&mut self, map: &Map, i: usize, j: usize, shape: [usize; 3]) {
        self.first = map.row(i, j);
        self.touched = map.span(self.first, |axis| 1 - ONE..shape[axis] as i64 * ONE);
        self.inner = map.span(self.first, |axis| 0..(shape[axis] as i64 - 1) * ONE);
        let strides = [(shape[1] * shape[2]) as u32, shape[2] as u32, 1];
        let offset = &mut self.offset[self.inner.clone()];
        offset.fill(0);
        for (axis, weights) in self.weights.iter_mut().enumerate() {
            let (step, stride) = (map.step[2][axis], strides[axis]);
            let first = self.first[axis] + self.inner.start as i64 * step;
            for (k, (offset, weight)) in offset.iter_mut().zip(&mut weights[self.inner.clone()]).enumerate() {
                let at = first + k as i64 * step;
                *offset += (at >> 32) as u32 * stride;
                *weight = fraction(at);
            }
        }
    }

    #[inline(always)]
    fn interpolate(&self, map: &Map, source: &[f32], shape: [usize; 3], out: &mut [f32]) {
        out[..self.touched.start].fill(0.0);
        out[self.touched.end..].fill(0.0);
        for k in self.border() {
            let (values, weights) = self.around(map, source, shape, k);
            out[k] = trilinear(values, weights);
        }
        let corners = Corners::new(source, shape);
        for (out, (offset, weights)) in out[self.inner.clone()].iter_mut().zip(self.cells()) {
            *out = trilinear(corners.at(offset), weights);
        }
    }

    #[inline(always)]
    fn vote(&self, map: &Map, source: &[u8], shape: [usize; 3], out: &mut [u8]) {
        out[..self.touched.start].fill(0);
        out[self.touched.end..].fill(0);
        for k in self.border() {
            let (values, weights) = self.around(map, source, shape, k);
            out[k] = elect(values, weights);
        }
        let corners = Corners::new(source, shape);
        for (out, (offset, weights)) in out[self.inner.clone()].iter_mut().zip(self.cells()) {
            let values = corners.at(offset);
            let [a, b, c, d] = values.map(u16::from_ne_bytes);
            let uniform = (a ^ b) | (a ^ c) | (a ^ d) | (a ^ a.rotate_left(8)) == 0;
            *out = if uniform { values[0][0] } else { elect(values, weights) };
        }
    }

    /// Index of the lowest neighbour and weights of the upper ones, for the inner voxels.
    #[inline(always)]
    fn cells(&self) -> impl Iterator<Item = (usize, [f32; 3])> {
        let [wx, wy, wz] = [0, 1, 2].map(|axis| &self.weights[axis][self.inner.clone()]);
        let weights = wx.iter().zip(wy).zip(wz).map(|((&wx, &wy), &wz)| [wx, wy, wz]);
        self.offset[self.inner.clone()].iter().map(|offset| *offset as usize).zip(weights)
    }

    /// Voxels that have some neighbours inside and some outside.
    fn border(&self) -> impl Iterator<Item = usize> + use<> {
        let (touched, inner) = (self.touched.clone(), self.inner.clone());
        let inner = if inner.is_empty() { touched.end..touched.end } else { inner };
        (touched.start..inner.start).chain(inner.end..touched.end)
    }

    /// The eight neighbours of voxel `k` of the row, 0 where they lie outside, and the weights of the upper
    /// ones.
    fn around<T: Copy + Default>(
        &self,
        map: &Map,
        source: &[T],
        shape: [usize; 3],
        k: usize,
    ) -> ([[T; 2]; 4], [f32; 3]) {
        let at: [i64; 3] = std::array::from_fn(|axis| self.first[axis] + k as i64 * map.step[2][axis]);
        (neighbours(source, shape, at), at.map(fraction))
    }
}

/// The fractional part of a coordinate, to the 24 bits of an `f32`.
#[inline(always)]
fn fraction(coordinate: i64) -> f32 {
    ((coordinate as u32) >> 8) as i32 as f32 * (1.0 / (1 << 24) as f32)
}

/// The source seen from each corner of a cell, so that one offset reaches all eight.
struct Corners<'a, T> {
    from: [&'a [T]; 4],
}

impl<'a, T: Copy> Corners<'a, T> {
    #[inline(always)]
    fn new(source: &'a [T], shape: [usize; 3]) -> Self {
        let [sx, sy] = [shape[1] * shape[2], shape[2]];
        // All four have one length, so that a single bounds check serves them.
        let length = source.len().saturating_sub(sx + sy);
        let from = |start: usize| if length == 0 { &source[..0] } else { &source[start..start + length] };
        Self { from: [from(0), from(sy), from(sx), from(sx + sy)] }
    }

    /// Neighbours in the order (x, y, z) = 000, 001, 010, 011, 100, ..., in pairs along z.
    #[inline(always)]
    fn at(&self, offset: usize) -> [[T; 2]; 4] {
        let [a, b, c, d] = self.from;
        let (b, c, d) = (&b[..a.len()], &c[..a.len()], &d[..a.len()]);
        let pair = |from: &[T]| -> [T; 2] {
            let from = &from[offset..offset + 2];
            [from[0], from[1]]
        };
        [pair(a), pair(b), pair(c), pair(d)]
    }
}

/// Interpolates along x, then y, then z.
#[inline(always)]
fn trilinear([a, b, c, d]: [[f32; 2]; 4], [wx, wy, wz]: [f32; 3]) -> f32 {
    let lerp = |a: [f32; 2], b: [f32; 2], w: f32| [a[0] + (b[0] - a[0]) * w, a[1] + (b[1] - a[1]) * w];
    let [below, above] = lerp(lerp(a, c, wx), lerp(b, d, wx), wy);
    below + (above - below) * wz
}

/// The label with the largest sum of weights among the eight. Sums within half a thousandth count as equal, as
/// in batchgeneratorsv2's half precision; then the nearest neighbour's label wins if it is among them, else
/// the lowest.
fn elect(labels: [[u8; 2]; 4], [wx, wy, wz]: [f32; 3]) -> u8 {
    const TIE: f32 = 5e-4;
    let labels = labels.as_flattened();
    let weight = |corner: usize| {
        let part = |bit: usize, w: f32| if corner >> bit & 1 == 1 { w } else { 1.0 - w };
        part(2, wx) * part(1, wy) * part(0, wz)
    };
    let weights: [f32; 8] = std::array::from_fn(weight);
    let score =
        |label: u8| -> f32 { (0..8).map(|n| if labels[n] == label { weights[n] } else { 0.0 }).sum() };
    let scores: [f32; 8] = std::array::from_fn(|n| score(labels[n]));
    let best = scores.iter().fold(0.0_f32, |best, score| best.max(*score));
    let nearest = (0..8).fold(0, |best, n| if weights[n] > weights[best] { n } else { best });
    if scores[nearest] >= best - TIE {
        return labels[nearest];
    }
    (0..8).filter(|n| scores[*n] >= best - TIE).map(|n| labels[n]).min().unwrap_or(labels[nearest])
}
