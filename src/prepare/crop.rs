//! The part of a scan that holds something.

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayViewMut3, Axis, Zip};

/// A box of voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CropBox {
    pub(crate) start: [usize; 3],
    pub(crate) shape: [usize; 3],
}

impl CropBox {
    /// The smallest box around all voxels that are `inside`; `None` where there are none.
    pub(crate) fn around<T>(voxels: ArrayView3<'_, T>, inside: impl Fn(&T) -> bool) -> Option<Self> {
        // Lines along the axis that is contiguous in memory; most need no more than a look at their ends.
        let fast = (0..3).min_by_key(|&axis| voxels.strides()[axis].unsigned_abs()).unwrap_or(2);
        let slow = [[1, 2], [0, 2], [0, 1]][fast];
        let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
        Zip::indexed(voxels.lanes(Axis(fast))).for_each(|(i, j), line| {
            let Some(first) = line.iter().position(&inside) else { return };
            let last = line.iter().rposition(&inside).unwrap_or(first);
            for (axis, at) in [(slow[0], i), (slow[1], j), (fast, first)] {
                low[axis] = low[axis].min(at);
            }
            for (axis, at) in [(slow[0], i), (slow[1], j), (fast, last)] {
                high[axis] = high[axis].max(at);
            }
        });
        (low[0] != usize::MAX)
            .then(|| Self { start: low, shape: std::array::from_fn(|axis| high[axis] + 1 - low[axis]) })
    }

    /// The smallest box around both.
    pub(crate) fn union(self, other: Self) -> Self {
        let start: [usize; 3] = std::array::from_fn(|axis| self.start[axis].min(other.start[axis]));
        let end = |b: Self, axis: usize| b.start[axis] + b.shape[axis];
        Self { start, shape: std::array::from_fn(|axis| end(self, axis).max(end(other, axis)) - start[axis]) }
    }

    /// The box's voxels.
    pub(crate) fn view<'a, T>(&self, voxels: ArrayView3<'a, T>) -> ArrayView3<'a, T> {
        let [x, y, z] = self.start;
        let [nx, ny, nz] = self.shape;
        voxels.slice_move(ndarray::s![x..x + nx, y..y + ny, z..z + nz])
    }
}

/// Sets every 0 that no path of face neighbours joins to the border to 1. Standard layout.
pub(crate) fn fill_holes(mask: &mut Array3<u8>) {
    const OUTSIDE: u8 = 2;
    let [nx, ny, nz]: [usize; 3] = mask.dim().into();
    let Some(state) = mask.as_slice_mut() else { return };
    // Runs of zeros along z spread to the four neighbouring lines.
    let mut seeds: Vec<usize> = Vec::new();
    let on_border = |index: usize| {
        let (x, y, z) = (index / (ny * nz), index / nz % ny, index % nz);
        x == 0 || y == 0 || z == 0 || x + 1 == nx || y + 1 == ny || z + 1 == nz
    };
    for border in 0..state.len() {
        if state[border] != 0 || !on_border(border) {
            continue;
        }
        seeds.push(border);
        while let Some(seed) = seeds.pop() {
            if state[seed] != 0 {
                continue;
            }
            let line = seed / nz * nz;
            let first = (line..seed).rev().find(|&i| state[i] != 0).map_or(line, |i| i + 1);
            let end = (seed..line + nz).find(|&i| state[i] != 0).unwrap_or(line + nz);
            state[first..end].fill(OUTSIDE);
            let (x, y) = (line / (ny * nz), line / nz % ny);
            let neighbours = [
                (x > 0).then(|| (first - ny * nz, end - ny * nz)),
                (x + 1 < nx).then_some((first + ny * nz, end + ny * nz)),
                (y > 0).then(|| (first - nz, end - nz)),
                (y + 1 < ny).then_some((first + nz, end + nz)),
            ];
            for (first, end) in neighbours.into_iter().flatten() {
                // One seed for each run of zeros.
                seeds.extend((first..end).filter(|&i| state[i] == 0 && (i == first || state[i - 1] != 0)));
            }
        }
    }
    for value in state {
        *value = u8::from(*value != OUTSIDE);
    }
}

/// Copies voxels into another memory order in blocks that stay in the cache.
pub(crate) fn copy_blocked<T: Copy + Send + Sync>(
    source: ArrayView3<'_, T>,
    mut target: ArrayViewMut3<'_, T>,
) {
    const BLOCK: [usize; 3] = [32, 8, 32];
    target
        .axis_chunks_iter_mut(Axis(0), BLOCK[0])
        .into_par_iter()
        .zip(source.axis_chunks_iter(Axis(0), BLOCK[0]))
        .for_each(|(mut target, source)| {
            let rows = target.axis_chunks_iter_mut(Axis(1), BLOCK[1]);
            for (mut target, source) in rows.zip(source.axis_chunks_iter(Axis(1), BLOCK[1])) {
                let blocks = target.axis_chunks_iter_mut(Axis(2), BLOCK[2]);
                for (mut target, source) in blocks.zip(source.axis_chunks_iter(Axis(2), BLOCK[2])) {
                    target.assign(&source);
                }
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_is_tight_in_every_memory_order() {
        let mut voxels = Array3::<f32>::zeros((5, 6, 7));
        voxels[[1, 4, 2]] = 1.0;
        voxels[[3, 2, 5]] = -1.0;
        let expected = CropBox { start: [1, 2, 2], shape: [3, 3, 4] };
        assert_eq!(CropBox::around(voxels.view(), |v| *v != 0.0), Some(expected));
        let mut fortran = Array3::zeros(ndarray::ShapeBuilder::f((5, 6, 7)));
        fortran.assign(&voxels);
        assert_eq!(CropBox::around(fortran.view(), |v| *v != 0.0), Some(expected));
        assert_eq!(CropBox::around(voxels.view(), |v| *v > 2.0), None);
    }

    #[test]
    fn holes_are_filled_and_bays_are_not() {
        // A hollow cube with a bay that opens to the border.
        let mut mask = Array3::from_shape_fn((9, 8, 7), |(x, y, z)| {
            u8::from((1..8).contains(&x) && (1..7).contains(&y) && (1..6).contains(&z))
        });
        for (x, y, z) in [(3, 3, 3), (3, 4, 3), (4, 4, 3), (5, 2, 2)] {
            mask[[x, y, z]] = 0;
        }
        let solid = {
            let mut solid = mask.clone();
            for (x, y, z) in [(3, 3, 3), (3, 4, 3), (4, 4, 3), (5, 2, 2)] {
                solid[[x, y, z]] = 1;
            }
            solid
        };
        let mut bay = mask.clone();
        for z in 0..3 {
            bay[[5, 2, z]] = 0;
        }
        fill_holes(&mut mask);
        assert_eq!(mask, solid);
        let mut expected = solid;
        for z in 0..3 {
            expected[[5, 2, z]] = 0;
        }
        fill_holes(&mut bay);
        assert_eq!(bay, expected);
    }
}
