//! Volumes made small: bytes, compressed by DEFLATE (RFC 1951, without a header), x fastest, then y, then z, all three
//! towards the patient's right, front and top.
//!
//! Intensities become grey levels, and of each the difference from what its neighbours let expect is kept, as in lossless
//! picture formats. Labels are kept voxel by voxel, inside the box that holds them.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use ndarray::{ArrayView3, s};

/// Intensities as they are shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grey {
    /// Voxels per cell along x, y, z. A cell has the mean of its voxels; the last one along an axis may have fewer.
    pub(super) step: [usize; 3],
    /// Cells along x, y, z.
    pub(super) cells: [usize; 3],
    /// Number of grey levels, the first black, the last white.
    pub(super) levels: u16,
    /// Differences, compressed.
    pub(super) bytes: Vec<u8>,
}

/// Labels, voxel by voxel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Packed {
    /// First voxel of the box outside which all is background.
    pub(super) start: [usize; 3],
    /// Voxels of the box; none where all is background.
    pub(super) size: [usize; 3],
    /// The box, compressed.
    pub(super) bytes: Vec<u8>,
}

/// Grey levels and voxels per cell in the finest direction, the best first; after the last, cells double.
const RUNGS: [(u16, usize); 5] = [(256, 1), (128, 1), (64, 1), (64, 2), (64, 4)];
/// No scan becomes smaller than half a bit a cell: what would need that is not tried.
const CELLS_PER_BYTE: usize = 16;

/// Packs a scan into `limit` bytes: with all grey levels and voxels where that is enough, else with fewer levels, else with
/// fewer cells, which join voxels first along the axes where voxels are small. `spacing` is that of the voxels along
/// the same axes in millimetres, `window` what is black and white.
pub(super) fn grey(image: ArrayView3<'_, f32>, spacing: [f64; 3], window: [f32; 2], limit: usize) -> Grey {
    let doubled = (3..).map(|power| (64, 1 << power));
    for (levels, size) in RUNGS.into_iter().chain(doubled) {
        let step = steps(image, spacing, size);
        let cells = cells(image, step);
        let last = cells == [1; 3];
        if cells.iter().product::<usize>() > limit.saturating_mul(CELLS_PER_BYTE) && !last {
            continue;
        }
        let bytes = deflate(&differences(&shades(image, step, levels, window), cells));
        if bytes.len() <= limit || last {
            return Grey { step, cells, levels, bytes };
        }
    }
    unreachable!("a scan becomes a single cell in the end")
}

/// Voxels per cell along each axis, so that cells are `size` times as long as the smallest voxel edge, or one voxel.
fn steps(image: ArrayView3<'_, f32>, spacing: [f64; 3], size: usize) -> [usize; 3] {
    let finest = spacing.into_iter().fold(f64::INFINITY, f64::min);
    std::array::from_fn(|axis| {
        let fitting = (size as f64 * finest / spacing[axis] + 1e-6).floor();
        // Of a size beyond all voxels, or where spacings are no numbers, one cell is left.
        let fitting = if fitting.is_finite() { fitting as usize } else { size };
        fitting.clamp(1, image.shape()[axis].max(1))
    })
}

fn cells(image: ArrayView3<'_, f32>, step: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| image.shape()[axis].div_ceil(step[axis]))
}

/// The grey level of every cell, x fastest.
fn shades(image: ArrayView3<'_, f32>, step: [usize; 3], levels: u16, window: [f32; 2]) -> Vec<u8> {
    let [black, white] = window;
    let last = f32::from(levels - 1);
    let shade = |value: f32| ((value - black) / (white - black) * last).clamp(0.0, last).round() as u8;
    let mut shades = Vec::new();
    for block in image.axis_chunks_iter(ndarray::Axis(2), step[2]) {
        for block in block.axis_chunks_iter(ndarray::Axis(1), step[1]) {
            for cell in block.axis_chunks_iter(ndarray::Axis(0), step[0]) {
                let (mut sum, mut count) = (0.0, 0u32);
                for value in cell.iter().filter(|value| value.is_finite()) {
                    (sum, count) = (sum + value, count + 1);
                }
                // What is no number is black.
                shades.push(if count > 0 { shade(sum / count as f32) } else { 0 });
            }
        }
    }
    shades
}

/// Of every cell the difference, modulo 256, from what the cells left of it, in front of it and between these let expect
/// in its slice along z: the middle one of both and of their plane (Weinberger, Seroussi, Sapiro: LOCO-I, 1996).
fn differences(shades: &[u8], [nx, ny, _]: [usize; 3]) -> Vec<u8> {
    let mut differences = Vec::with_capacity(shades.len());
    for slice in shades.chunks(nx * ny) {
        for (i, &shade) in slice.iter().enumerate() {
            let (x, y) = (i % nx, i / nx);
            let left = if x > 0 { slice[i - 1] } else { 0 };
            let front = if y > 0 { slice[i - nx] } else { 0 };
            let between = if x > 0 && y > 0 { slice[i - nx - 1] } else { 0 };
            differences.push(shade.wrapping_sub(expected(left, front, between)));
        }
    }
    differences
}

fn expected(left: u8, front: u8, between: u8) -> u8 {
    let (low, high) = (left.min(front), left.max(front));
    match between {
        b if b >= high => low,
        b if b <= low => high,
        // Between both, so that neither step leaves the range.
        b => low + (high - b),
    }
}

/// Packs labels.
pub(super) fn labels(labels: ArrayView3<'_, u8>) -> Packed {
    let (mut first, mut end) = ([usize::MAX; 3], [0; 3]);
    for ((x, y, z), _) in labels.indexed_iter().filter(|(_, label)| **label != 0) {
        for (axis, at) in [x, y, z].into_iter().enumerate() {
            first[axis] = first[axis].min(at);
            end[axis] = end[axis].max(at + 1);
        }
    }
    if end == [0; 3] {
        return Packed::default();
    }
    let inside = labels.slice(s![first[0]..end[0], first[1]..end[1], first[2]..end[2]]);
    // The transposed view runs along x first.
    let bytes: Vec<u8> = inside.t().iter().copied().collect();
    Packed { start: first, size: std::array::from_fn(|axis| end[axis] - first[axis]), bytes: deflate(&bytes) }
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    packed.unwrap_or_else(|error| unreachable!("writing into memory cannot fail: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;
    use ndarray::Array3;

    use super::*;

    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        DeflateDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    }

    /// What the page does, in other words.
    fn unpacked(grey: &Grey) -> Vec<u8> {
        let ([nx, ny, _], mut out) = (grey.cells, inflate(&grey.bytes));
        for slice in out.chunks_mut(nx * ny) {
            for i in 0..slice.len() {
                let at = |dx: usize, dy: usize| match i % nx >= dx && i / nx >= dy {
                    true => i32::from(slice[i - dx - nx * dy]),
                    false => 0,
                };
                let (a, b, c) = (at(1, 0), at(0, 1), at(1, 1));
                let middle = a.min(b).max(a.max(b).min(a + b - c));
                slice[i] = slice[i].wrapping_add(middle as u8);
            }
        }
        out
    }

    /// Smooth with noise, as scans are.
    fn scan(shape: [usize; 3]) -> Array3<f32> {
        let mut state = 1u32;
        Array3::from_shape_fn(shape, |(x, y, z)| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            500.0 + 20.0 * x as f32 - 10.0 * y as f32 + 3.0 * z as f32 + (state >> 26) as f32
        })
    }

    #[test]
    fn where_there_is_room_every_voxel_keeps_its_level() {
        let image = scan([7, 5, 3]);
        let packed = grey(image.view(), [1.0, 1.0, 4.0], [400.0, 700.0], 10_000);
        assert_eq!((packed.step, packed.cells, packed.levels), ([1; 3], [7, 5, 3], 256));
        let shades = unpacked(&packed);
        for ((x, y, z), &value) in image.indexed_iter() {
            let expected = ((value - 400.0) / 300.0 * 255.0).clamp(0.0, 255.0).round();
            assert_eq!(f32::from(shades[x + 7 * (y + 5 * z)]), expected, "{x} {y} {z}");
        }
    }

    #[test]
    fn a_limit_costs_levels_first_and_then_cells_where_voxels_are_small() {
        let image = scan([40, 30, 9]);
        let pack = |limit| grey(image.view(), [1.0, 1.0, 2.0], [400.0, 1500.0], limit);
        let whole = pack(usize::MAX);
        let fewer = pack(whole.bytes.len() - 1);
        assert_eq!((fewer.step, fewer.levels), ([1; 3], 128));
        let joined = pack(2_000);
        assert_eq!((joined.step, joined.cells, joined.levels), ([2, 2, 1], [20, 15, 9], 64));
        let mean = image.slice(s![2..4, 4..6, 5..6]).iter().sum::<f32>() / 4.0;
        let expected = ((mean - 400.0) / 1100.0 * 63.0).round();
        assert_eq!(f32::from(unpacked(&joined)[1 + 20 * (2 + 15 * 5)]), expected);
        let mut last = joined.bytes.len();
        for limit in [900, 300, 100, 20] {
            let packed = pack(limit);
            assert!(packed.bytes.len() <= limit && packed.bytes.len() <= last, "{limit}: {packed:?}");
            last = packed.bytes.len();
        }
        assert_eq!(pack(0).cells, [1; 3], "never less than a cell");
    }

    #[test]
    fn what_is_no_number_is_black() {
        let mut image = Array3::from_elem((2, 1, 1), f32::NAN);
        image[[1, 0, 0]] = f32::INFINITY;
        assert_eq!(unpacked(&grey(image.view(), [1.0; 3], [0.0, 1.0], 100)), [0, 0]);
    }

    #[test]
    fn labels_are_kept_in_the_box_that_holds_them() {
        let mut map = Array3::<u8>::zeros((5, 6, 7));
        assert_eq!(labels(map.view()), Packed::default());
        (map[[1, 2, 3]], map[[3, 2, 5]]) = (4, 255);
        let packed = labels(map.view());
        assert_eq!((packed.start, packed.size), ([1, 2, 3], [3, 1, 3]));
        assert_eq!(inflate(&packed.bytes), [4, 0, 0, 0, 0, 0, 0, 0, 255]);
    }
}
