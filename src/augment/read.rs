//! Reads voxels through a map: images linearly, labels by vote, masks from the nearest voxel.
//!
//! Three ways, from fast to general: where every voxel falls onto a voxel it is copied; where the map turns nothing
//! it interpolates axis after axis; else each voxel looks at its eight neighbours. The ways give the same bits where
//! they meet, because all take the same sums in the same order.

use std::ops::Range;

use super::affine::{Map, ONE};
use crate::image::vectorised::{lerp, vectorised};

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
pub(super) fn resample_images(map: &Map, block: &Block<'_>, size: usize, images: &mut [f32]) {
    let voxels = block.shape.iter().product::<usize>();
    if voxels == 0 || size == 0 {
        images.fill(0.0);
        return;
    }
    assert_eq!(block.images.len() / voxels, images.len() / size, "channels");
    if map.is_lattice() {
        for (channel, out) in block.images.chunks_exact(voxels).zip(images.chunks_exact_mut(size)) {
            copy(map, channel, block.shape, out);
        }
        return;
    }
    vectorised(
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
pub(super) fn resample_labels(map: &Map, block: &Block<'_>, labels: &mut [u8]) {
    if block.shape.contains(&0) {
        labels.fill(0);
        return;
    }
    if map.is_lattice() {
        copy(map, block.labels, block.shape, labels);
        return;
    }
    vectorised(
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
pub(super) fn nearest(map: &Map, mask: &[u8], shape: [usize; 3], out: &mut [u8]) {
    let look = |position: [i64; 3]| {
        let at = position.map(|coordinate| (coordinate + ONE / 2) >> 32);
        let inside = (0..3).all(|axis| (0..shape[axis] as i64).contains(&at[axis]));
        let [x, y, z] = at.map(|coordinate| coordinate as usize);
        if inside { mask[(x * shape[1] + y) * shape[2] + z] } else { 0 }
    };
    for (index, out) in out.chunks_exact_mut(map.patch[2]).enumerate() {
        let row = map.row(index / map.patch[1], index % map.patch[1]);
        for (k, out) in out.iter_mut().enumerate() {
            *out = look(std::array::from_fn(|axis| row[axis] + k as i64 * map.step[2][axis]));
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
