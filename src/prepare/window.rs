//! What lies on a box or a regular grid over a sample that may reach beyond it, and what stands for the voxels there.

use std::ops::Range;

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, ArrayViewMut4, Slice, s};

/// A regular grid over a sample: voxel `i` along an axis lies on voxel `start + step * i` of the sample, which may
/// be outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Voxel of the sample under voxel (0, 0, 0).
    pub start: [i64; 3],
    /// Voxels of the sample from one to the next, never 0; negative where the grid runs backwards.
    pub step: [i64; 3],
    /// Voxels of the grid along x, y, z.
    pub size: [usize; 3],
}

/// Voxels of a grid along one axis that lie inside the sample, and what they lie on.
struct Inside {
    grid: Range<usize>,
    sample: Slice,
}

impl Frame {
    /// The box of these edges from voxel `start`.
    pub fn of_box(start: [i64; 3], size: [usize; 3]) -> Self {
        Self { start, step: [1; 3], size }
    }

    /// The same grid over the part of the sample that begins at voxel `first`.
    pub fn over_part(&self, first: [usize; 3]) -> Self {
        Self { start: std::array::from_fn(|axis| self.start[axis] - first[axis] as i64), ..*self }
    }

    /// First voxel and edges of the part of a sample of this shape that a box covers; edges of 0 where it covers
    /// nothing.
    pub fn covered(&self, shape: [usize; 3]) -> ([usize; 3], [usize; 3]) {
        let end = |axis: usize| self.start[axis].saturating_add(self.size[axis] as i64);
        let inside = |axis: usize, at: i64| at.clamp(0, shape[axis] as i64) as usize;
        let first = [0, 1, 2].map(|axis| inside(axis, self.start[axis]));
        (first, [0, 1, 2].map(|axis| inside(axis, end(axis)) - first[axis]))
    }

    /// Images (channel, x, y, z) on the grid; `beyond` stands for voxels outside, one value a channel.
    pub fn images(&self, images: ArrayView4<'_, f32>, beyond: &[f32]) -> Array4<f32> {
        let [x, y, z] = self.size;
        let mut out = Array4::zeros((beyond.len(), x, y, z));
        self.read_images(images, beyond, out.view_mut());
        out
    }

    /// As [`Self::images`], into an array of any layout.
    ///
    /// # Panics
    /// Where `out` has another shape than (channel, x, y, z) of the grid.
    pub fn read_images(&self, images: ArrayView4<'_, f32>, beyond: &[f32], mut out: ArrayViewMut4<'_, f32>) {
        for (mut channel, &value) in out.outer_iter_mut().zip(beyond) {
            channel.fill(value);
        }
        let (_, x, y, z) = images.dim();
        if let Some([x, y, z]) = self.inside([x, y, z]) {
            let mut out = out.slice_mut(s![.., x.grid, y.grid, z.grid]);
            out.assign(&images.slice(s![.., x.sample, y.sample, z.sample]));
        }
    }

    /// Labels or a mask on the grid; 0 outside.
    pub fn voxels(&self, voxels: ArrayView3<'_, u8>) -> Array3<u8> {
        let mut out = Array3::zeros(self.size);
        let (x, y, z) = voxels.dim();
        if let Some([x, y, z]) = self.inside([x, y, z]) {
            let mut out = out.slice_mut(s![x.grid, y.grid, z.grid]);
            out.assign(&voxels.slice(s![x.sample, y.sample, z.sample]));
        }
        out
    }

    /// `None` where no voxel of the grid lies inside.
    fn inside(&self, shape: [usize; 3]) -> Option<[Inside; 3]> {
        Some([self.along(0, shape[0])?, self.along(1, shape[1])?, self.along(2, shape[2])?])
    }

    fn along(&self, axis: usize, length: usize) -> Option<Inside> {
        let (start, step, length) = (self.start[axis], self.step[axis], length as i64);
        // A grid that runs backwards lies on the same voxels as one that runs forwards through a mirrored sample.
        let forwards = if step > 0 { start } else { length - 1 - start };
        let stride = step.abs();
        let first = ceil_div(-forwards, stride).max(0);
        let end = ceil_div(length - forwards, stride).min(self.size[axis] as i64);
        if first >= end {
            return None;
        }
        let ends = [start + step * first, start + step * (end - 1)];
        let [low, high] = if step > 0 { ends } else { [ends[1], ends[0]] };
        let sample = Slice::new(low as isize, Some(high as isize + 1), step as isize);
        Some(Inside { grid: first as usize..end as usize, sample })
    }
}

/// Means over the eight corner voxels of images (channel, x, y, z), channel by channel: the scan's background where
/// a sample is a whole scan.
pub fn corner_means(images: ArrayView4<'_, f32>) -> Vec<f32> {
    let (channels, x, y, z) = images.dim();
    let last = [x, y, z].map(|edge| edge.saturating_sub(1));
    let at = |corner: usize, axis: usize| (corner >> axis & 1) * last[axis];
    let value = |channel, corner| images[[channel, at(corner, 0), at(corner, 1), at(corner, 2)]];
    let mean = |channel| (0..8).map(|corner| f64::from(value(channel, corner))).sum::<f64>() / 8.0;
    (0..channels).map(|channel| mean(channel) as f32).collect()
}

fn ceil_div(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_of_all_steps_read_what_they_lie_on() {
        let shape = [5, 4, 3];
        let images =
            Array4::from_shape_fn((2, 5, 4, 3), |(c, x, y, z)| (1000 * c + 100 * x + 10 * y + z) as f32);
        let labels = Array3::from_shape_fn(shape, |(x, y, z)| (1 + 20 * x + 5 * y + z) as u8);
        let steps = [[1, 1, 1], [2, -1, 1], [-3, 2, -2], [-1, -1, 5]];
        for step in steps {
            for start in [[-3, -2, -1], [0, 0, 0], [4, 3, 2], [7, 6, 5], [-30, 0, 0], [40, 40, 40]] {
                let frame = Frame { start, step, size: [6, 5, 4] };
                let (found, marked) =
                    (frame.images(images.view(), &[-1.0, -2.0]), frame.voxels(labels.view()));
                for ((c, x, y, z), &value) in found.indexed_iter() {
                    let at: [i64; 3] = std::array::from_fn(|a| start[a] + step[a] * [x, y, z][a] as i64);
                    let inside = (0..3).all(|a| (0..shape[a] as i64).contains(&at[a]));
                    let [i, j, k] = at.map(|p| p.max(0) as usize);
                    let (image, label) = match inside {
                        true => (images[[c, i, j, k]], labels[[i, j, k]]),
                        false => ([-1.0, -2.0][c], 0),
                    };
                    assert_eq!((value, marked[[x, y, z]]), (image, label), "{frame:?} at {x}, {y}, {z}");
                }
            }
        }
    }

    #[test]
    fn a_box_reads_the_same_from_the_part_that_it_covers() {
        let images = Array4::from_shape_fn((1, 6, 6, 6), |(_, x, y, z)| (100 * x + 10 * y + z) as f32);
        for start in [[-2, 1, 4], [0, 0, 0], [-9, 0, 0], [9, 9, 9]] {
            let frame = Frame::of_box(start, [4, 3, 5]);
            let (first, edges) = frame.covered([6; 3]);
            let [x, y, z] = [0, 1, 2].map(|axis| first[axis]..first[axis] + edges[axis]);
            let part = images.slice(s![.., x, y, z]);
            assert_eq!(frame.over_part(first).images(part, &[7.0]), frame.images(images.view(), &[7.0]));
        }
    }

    #[test]
    fn corners_are_averaged() {
        let images = Array4::from_shape_fn((2, 3, 1, 4), |(c, x, _, z)| (10 * c + 2 * x + z) as f32);
        assert_eq!(corner_means(images.view()), [3.5, 13.5]);
    }
}
