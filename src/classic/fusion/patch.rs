//! Normalised patches of images.

use ndarray::{ArrayView4, CowArray, Ix4};

/// Images whose patches are compared, in standard memory order.
pub(crate) struct Images<'a> {
    voxels: CowArray<'a, f32, Ix4>,
}

/// The voxels of a patch: a cube around a centre, cut at the border of the grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// First voxel and the one after the last, along each axis.
    ranges: [[isize; 2]; 3],
}

impl Window {
    /// Around a voxel, with a radius along each axis.
    pub(crate) fn around(centre: [usize; 3], radius: [usize; 3], shape: [usize; 3]) -> Self {
        let range = |axis: usize| {
            let (at, radius) = (centre[axis], radius[axis]);
            [at.saturating_sub(radius) as isize, (at + radius + 1).min(shape[axis]) as isize]
        };
        Self { ranges: [range(0), range(1), range(2)] }
    }
}

impl<'a> Images<'a> {
    pub(crate) fn new(voxels: ArrayView4<'a, f32>) -> Self {
        let voxels = match voxels.is_standard_layout() {
            true => CowArray::from(voxels),
            false => CowArray::from(voxels.as_standard_layout().into_owned()),
        };
        Self { voxels }
    }

    /// (x, y, z).
    pub(crate) fn shape(&self) -> [usize; 3] {
        let (_, x, y, z) = self.voxels.dim();
        [x, y, z]
    }

    /// Fills `patch` with the voxels of a window that is moved by an offset, channel after channel, each with mean 0.
    /// Beyond the border lies the voxel next to it.
    pub(crate) fn centred(&self, window: Window, offset: [isize; 3], patch: &mut Vec<f32>) {
        patch.clear();
        let voxels = self.voxels.as_slice().unwrap_or_default();
        let (channels, nx, ny, nz) = self.voxels.dim();
        let inside = |at: isize, size: usize| at.clamp(0, size as isize - 1) as usize;
        let [[x0, x1], [y0, y1], [z0, z1]] = window.ranges;
        let (from, to) = (z0 + offset[2], z1 + offset[2]);
        for channel in 0..channels {
            let start = patch.len();
            for x in x0..x1 {
                for y in y0..y1 {
                    let row = (channel * nx + inside(x + offset[0], nx)) * ny + inside(y + offset[1], ny);
                    let row = &voxels[row * nz..(row + 1) * nz];
                    if from >= 0 && to <= nz as isize {
                        patch.extend_from_slice(&row[from as usize..to as usize]);
                    } else {
                        patch.extend((from..to).map(|z| row[inside(z, nz)]));
                    }
                }
            }
            let patch = &mut patch[start..];
            let mean = sum(patch) / patch.len() as f32;
            patch.iter_mut().for_each(|value| *value -= mean);
        }
    }

    /// [`Self::centred`], each channel with variance 1 (of a sample: one less than its voxels divides); a channel
    /// that is constant there is 0.
    pub(crate) fn normalised(&self, window: Window, offset: [isize; 3], patch: &mut Vec<f32>) {
        self.centred(window, offset, patch);
        let channel = patch.len() / self.voxels.dim().0;
        for patch in patch.chunks_exact_mut(channel) {
            let deviation = (dot(patch, patch) / (channel.max(2) - 1) as f32).sqrt();
            let scale = if deviation > 1e-6 { 1.0 / deviation } else { 0.0 };
            patch.iter_mut().for_each(|value| *value *= scale);
        }
    }
}

/// Offsets within a radius, the nearest first, so that of equal patches the nearest is taken.
pub(crate) fn offsets(radius: usize) -> Vec<[isize; 3]> {
    let radius = radius as isize;
    let mut offsets = Vec::new();
    for x in -radius..=radius {
        for y in -radius..=radius {
            offsets.extend((-radius..=radius).map(|z| [x, y, z]));
        }
    }
    offsets.sort_by_key(|offset| offset.iter().map(|step| step * step).sum::<isize>());
    offsets
}

/// A voxel moved by an offset; at the border it stays inside.
pub(crate) fn moved(voxel: [usize; 3], offset: [isize; 3], shape: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| {
        (voxel[axis] as isize + offset[axis]).clamp(0, shape[axis] as isize - 1) as usize
    })
}

/// Sums in eight parts: one after the other, additions would wait for each other.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.0.iter().zip(b.0) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a.1.iter().zip(b.1).map(|(a, b)| a * b).sum::<f32>()
}

fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for chunk in chunks {
        for lane in 0..8 {
            sums[lane] += chunk[lane];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;

    #[test]
    fn patches_are_cut_at_the_border_and_moved_ones_repeat_it() {
        let image = Array4::from_shape_fn((1, 4, 3, 2), |(_, x, y, z)| (100 * x + 10 * y + z) as f32);
        let images = Images::new(image.view());
        let window = Window::around([0, 2, 0], [1, 1, 1], images.shape());
        let mut patch = Vec::new();
        images.centred(window, [0; 3], &mut patch);
        assert_eq!(patch.len(), 2 * 2 * 2);
        let plain: Vec<f32> = patch.iter().map(|value| value - patch[0]).collect();
        assert_eq!(plain, [0.0, 1.0, 10.0, 11.0, 100.0, 101.0, 110.0, 111.0]);
        images.centred(window, [-1, 1, 1], &mut patch);
        let plain: Vec<f32> = patch.iter().map(|value| value - patch[0]).collect();
        assert_eq!(plain, [0.0; 8], "x beyond 0, y beyond 2 and z beyond 1 are 0, 2 and 1");
        images.normalised(window, [0; 3], &mut patch);
        assert!((dot(&patch, &patch) - 7.0).abs() < 1e-4 && sum(&patch).abs() < 1e-4);
        let reversed = image.view().reversed_axes();
        let images = Images::new(reversed.view());
        assert_eq!(images.shape(), [3, 4, 1]);
    }
}
