//! Differences on a box of voxels, and the voxels near a surface.
//!
//! Voxels are numbered with z fastest. Beyond a border its voxel is repeated; along an axis of one voxel there is no
//! difference.

use ndarray::{Array3, ArrayView3};

/// The voxels of a box.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Voxels along each axis.
    pub shape: [usize; 3],
    /// Distance between voxels along each axis.
    pub spacing: [f64; 3],
    /// From a voxel's number to that of the next along each axis.
    pub steps: [usize; 3],
    /// Bit `2 a` of a voxel: there is none behind it along axis `a`; bit `2 a + 1`: none ahead.
    borders: Vec<u8>,
}

impl Grid {
    /// A grid of `shape` voxels.
    pub fn new(shape: [usize; 3], spacing: [f64; 3]) -> Self {
        let [nx, ny, nz] = shape;
        let end = |i: usize, n: usize| u8::from(i == 0) | u8::from(i + 1 == n) << 1;
        let mut borders = Vec::with_capacity(nx * ny * nz);
        for (x, y) in (0..nx).flat_map(|x| (0..ny).map(move |y| (x, y))) {
            borders.extend((0..nz).map(|z| end(x, nx) | end(y, ny) << 2 | end(z, nz) << 4));
        }
        Self { shape, spacing, steps: [ny * nz, nz, 1], borders }
    }

    /// Number of voxels.
    pub fn len(&self) -> usize {
        self.borders.len()
    }

    /// Whether it has no voxel.
    pub fn is_empty(&self) -> bool {
        self.borders.is_empty()
    }

    /// The voxels behind and ahead along an axis, itself where there is none.
    #[inline(always)]
    pub fn around(&self, voxel: usize, axis: usize) -> (usize, usize) {
        let border = usize::from(self.borders[voxel] >> (2 * axis));
        (voxel - self.steps[axis] * (1 - (border & 1)), voxel + self.steps[axis] * (1 - (border >> 1 & 1)))
    }

    /// Central differences over distance.
    #[inline(always)]
    pub fn gradient(&self, field: &[f32], voxel: usize) -> [f32; 3] {
        std::array::from_fn(|axis| {
            let (behind, ahead) = self.around(voxel, axis);
            (field[ahead] - field[behind]) * (0.5 / self.spacing[axis]) as f32
        })
    }

    /// The sum over the axes of second differences over squared distance.
    #[inline(always)]
    pub fn laplacian(&self, field: &[f32], voxel: usize) -> f32 {
        let mut sum = 0.0;
        for axis in 0..3 {
            let (behind, ahead) = self.around(voxel, axis);
            let second = field[ahead] + field[behind] - 2.0 * field[voxel];
            sum += second * (1.0 / (self.spacing[axis] * self.spacing[axis])) as f32;
        }
        sum
    }

    /// The sum of 1 / spacing^2 over the axes along which there are differences.
    pub fn stiffness(&self) -> f64 {
        (0..3).filter(|&axis| self.shape[axis] > 1).map(|axis| self.spacing[axis].powi(-2)).sum()
    }

    /// Whether a part lies at a border across which there are differences.
    pub fn reaches_border(&self, inside: impl Iterator<Item = bool>) -> bool {
        let mask: u8 = (0..3).filter(|&axis| self.shape[axis] > 1).map(|axis| 3 << (2 * axis)).sum();
        inside.zip(&self.borders).any(|(inside, border)| inside && border & mask != 0)
    }

    /// The voxels within `radius` voxels, along each axis, of one that has another side than a face neighbour.
    pub fn band(&self, inside: &[bool], radius: usize) -> Vec<u32> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut near = vec![0_u8; self.len()];
        for axis in (0..3).filter(|&axis| self.shape[axis] > 1) {
            let step = self.steps[axis];
            let (low, high) = (&inside[..inside.len() - step], &inside[step..]);
            for (i, (a, b)) in low.iter().zip(high).enumerate() {
                if a != b && self.borders[i] >> (2 * axis + 1) & 1 == 0 {
                    (near[i], near[i + step]) = (1, 1);
                }
            }
        }
        for axis in 0..3 {
            near = self.widened(&near, axis, radius);
        }
        (0..near.len() as u32).filter(|&i| near[i as usize] != 0).collect()
    }

    /// A mask grown along one axis.
    fn widened(&self, mask: &[u8], axis: usize, radius: usize) -> Vec<u8> {
        let step = self.steps[axis];
        let line = step * self.shape[axis];
        let mut wide = mask.to_vec();
        for (wide, mask) in wide.chunks_mut(line.max(1)).zip(mask.chunks(line.max(1))) {
            for away in (1..=radius).map(|r| r * step).take_while(|&away| away < line) {
                wide[away..].iter_mut().zip(mask).for_each(|(wide, mask)| *wide |= mask);
                wide.iter_mut().zip(&mask[away..]).for_each(|(wide, mask)| *wide |= mask);
            }
        }
        wide
    }
}

/// The voxels of a volume with z fastest.
pub fn flat<T: Copy>(volume: ArrayView3<'_, T>) -> Vec<T> {
    volume.iter().copied().collect()
}

/// A volume from its voxels with z fastest.
pub fn volume<T>(voxels: Vec<T>, shape: [usize; 3]) -> Array3<T> {
    Array3::from_shape_vec(shape, voxels).unwrap_or_else(|_| panic!("as many values as voxels"))
}

/// The smallest spacing, the unit in which surfaces move.
pub fn unit(spacing: [f64; 3]) -> f64 {
    spacing.into_iter().fold(f64::INFINITY, f64::min)
}
