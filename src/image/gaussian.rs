//! Gaussian smoothing and its derivatives in millimetres.
//!
//! The sampled Gaussian of scale-space theory (ter Haar Romeny, *Front-End Vision and Multi-Scale Image Analysis*,
//! 2003): separable, one kernel per axis, summed in `f32`.

use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

use super::vectorised::vectorised;

/// Below this many voxels an axis is not smoothed: a sampled kernel so narrow measures the slope of a ramp as half
/// of what it is.
const NARROWEST: f64 = 0.6;

/// `volume` (x, y, z) smoothed by a Gaussian of `sigma` mm and differentiated `order[axis]` times (0, 1 or 2) along
/// each axis; the result is in units of the volume per mm to the power of the sum of the orders.
///
/// `spacing` is the distance of neighbouring voxels along each axis in mm, above zero. The kernel of an axis is
/// sampled at whole voxels up to 4 sigma and sums to 1 before it is differentiated; the volume is continued by
/// reflection about the faces of its outer voxels. Where sigma is below 0.6 voxels the axis is not smoothed, and its
/// derivatives are central differences. Along an axis of one voxel every derivative is 0.
///
/// The result is in standard memory order and does not depend on the number of threads. Panics where an order is
/// above 2 (a bug of the caller).
pub fn gaussian(volume: ArrayView3<'_, f32>, spacing: [f64; 3], sigma: f64, order: [u8; 3]) -> Array3<f32> {
    let dim = volume.dim();
    let shape = [dim.0, dim.1, dim.2];
    let kernels = std::array::from_fn(|axis| {
        Kernel::new(sigma / spacing[axis], order[axis], spacing[axis], shape[axis])
    });
    filter(volume, &kernels)
}

/// `volume` (x, y, z) smoothed by a Gaussian with a sigma in voxels per axis, as in [`gaussian`].
pub(crate) fn smooth(volume: ArrayView3<'_, f32>, sigma: [f64; 3]) -> Array3<f32> {
    let dim = volume.dim();
    let shape = [dim.0, dim.1, dim.2];
    filter(volume, &std::array::from_fn(|axis| Kernel::new(sigma[axis], 0, 1.0, shape[axis])))
}

/// Smooths a field of vectors (x, y, z; z fastest) in place, as [`smooth`] does each of its components.
pub(crate) fn smooth_vectors(
    field: &mut [[f32; 4]],
    scratch: &mut [[f32; 4]],
    shape: [usize; 3],
    sigma: [f64; 3],
) {
    let kernels: [Kernel; 3] = std::array::from_fn(|axis| Kernel::new(sigma[axis], 0, 1.0, shape[axis]));
    if !field.is_empty() && !kernels.iter().all(Kernel::is_identity) {
        within_planes(field.as_flattened(), scratch.as_flattened_mut(), shape, 4, &kernels);
        across_planes(scratch.as_flattened(), field.as_flattened_mut(), shape, &kernels[0]);
    }
}

fn filter(volume: ArrayView3<'_, f32>, kernels: &[Kernel; 3]) -> Array3<f32> {
    let dim = volume.dim();
    let shape = [dim.0, dim.1, dim.2];
    let volume = volume.as_standard_layout();
    let Some(voxels) = volume.as_slice().filter(|voxels| !voxels.is_empty()) else {
        return Array3::zeros(dim);
    };
    let mut out = vec![0.0; voxels.len()];
    within_planes(voxels, &mut out, shape, 1, kernels);
    if !kernels[0].is_identity() {
        let source = std::mem::replace(&mut out, vec![0.0; voxels.len()]);
        across_planes(&source, &mut out, shape, &kernels[0]);
    }
    Array3::from_shape_vec(dim, out).unwrap_or_else(|_| panic!("as many voxels as the shape says"))
}

/// Along z and y. A voxel holds `lanes` numbers that follow each other.
fn within_planes(source: &[f32], out: &mut [f32], shape: [usize; 3], lanes: usize, kernels: &[Kernel; 3]) {
    let plane = shape[1] * shape[2] * lanes;
    out.par_chunks_mut(plane).zip(source.par_chunks(plane)).for_each_init(
        || vec![0.0; plane],
        |rows, (out, source)| {
            kernels[2].along_rows(source, rows, shape[2], lanes);
            kernels[1].across(rows, out, shape[1], 0..shape[1]);
        },
    );
}

/// Along x.
fn across_planes(source: &[f32], out: &mut [f32], shape: [usize; 3], kernel: &Kernel) {
    out.par_chunks_mut(source.len() / shape[0]).enumerate().for_each(|(x, out)| {
        kernel.across(source, out, shape[0], x..x + 1);
    });
}

/// The weights of one axis.
struct Kernel {
    /// Of the centre, then of the voxels at distance 1, 2, ... ahead; those behind have the same, times `behind`.
    weights: Vec<f32>,
    /// 1 for an even number of derivatives, -1 for one.
    behind: f32,
}

impl Kernel {
    /// Of a sigma in voxels, `order` times differentiated, in units of `spacing`, for `length` voxels.
    fn new(voxels: f64, order: u8, spacing: f64, length: usize) -> Self {
        assert!(order <= 2, "derivatives are of order 0, 1 or 2");
        let per_voxel = spacing.powi(-i32::from(order));
        let behind = if order == 1 { -1.0 } else { 1.0 };
        let weights: Vec<f64> = if length == 1 {
            vec![if order == 0 { 1.0 } else { 0.0 }]
        } else if voxels < NARROWEST {
            [vec![1.0], vec![0.0, 0.5], vec![-2.0, 1.0]][usize::from(order)].clone()
        } else {
            let reach = (4.0 * voxels + 0.5) as usize;
            let variance = voxels * voxels;
            let plain = |distance: usize| (-0.5 * (distance * distance) as f64 / variance).exp();
            let total = plain(0) + 2.0 * (1..=reach).map(plain).sum::<f64>();
            let derivative = |distance: usize| match order {
                0 => 1.0,
                1 => distance as f64 / variance,
                _ => ((distance * distance) as f64 / variance - 1.0) / variance,
            };
            (0..=reach).map(|distance| plain(distance) / total * derivative(distance)).collect()
        };
        Self { weights: weights.iter().map(|weight| (weight * per_voxel) as f32).collect(), behind }
    }

    fn is_identity(&self) -> bool {
        self.weights == [1.0]
    }

    fn reach(&self) -> usize {
        self.weights.len() - 1
    }

    /// Sums along rows of `length` voxels that follow each other in memory, each of `lanes` numbers.
    fn along_rows(&self, source: &[f32], out: &mut [f32], length: usize, lanes: usize) {
        if self.is_identity() {
            out.copy_from_slice(source);
            return;
        }
        let (reach, row) = (self.reach(), length * lanes);
        let mut padded = vec![0.0; row + 2 * reach * lanes];
        let starts: Vec<usize> = (0..=2 * reach).map(|tap| tap * lanes).collect();
        let beyond: Vec<(usize, usize)> = (0..reach)
            .chain(reach + length..length + 2 * reach)
            .map(|at| (at * lanes, reflect(at as i64 - reach as i64, length) * lanes))
            .collect();
        vectorised(
            #[inline(always)]
            || {
                for (out, source) in out.chunks_exact_mut(row).zip(source.chunks_exact(row)) {
                    padded[reach * lanes..][..row].copy_from_slice(source);
                    for &(at, inside) in &beyond {
                        padded[at..at + lanes].copy_from_slice(&source[inside..inside + lanes]);
                    }
                    self.sum(out, &padded, &starts);
                }
            },
        );
    }

    /// Sums across the `length` equally long lines of `source`, for the lines in `wanted`, which `out` holds.
    fn across(&self, source: &[f32], out: &mut [f32], length: usize, wanted: std::ops::Range<usize>) {
        let width = source.len() / length;
        if self.is_identity() {
            out.copy_from_slice(&source[wanted.start * width..wanted.end * width]);
            return;
        }
        let reach = self.reach();
        let mut starts = vec![0; 2 * reach + 1];
        vectorised(
            #[inline(always)]
            || {
                for (line, out) in wanted.clone().zip(out.chunks_exact_mut(width)) {
                    for (at, start) in starts.iter_mut().enumerate() {
                        *start = reflect((line + at) as i64 - reach as i64, length) * width;
                    }
                    self.sum(out, source, &starts);
                }
            },
        );
    }

    /// `out[i]` = sum over taps of weight times `source[start + i]`; one start per tap, from the farthest behind to
    /// the farthest ahead.
    #[inline(always)]
    fn sum(&self, out: &mut [f32], source: &[f32], starts: &[usize]) {
        let mut at = 0;
        while at + 32 <= out.len() {
            self.block::<32>(&mut out[at..], source, starts, at);
            at += 32;
        }
        while at + 8 <= out.len() {
            self.block::<8>(&mut out[at..], source, starts, at);
            at += 8;
        }
        while at < out.len() {
            self.block::<1>(&mut out[at..], source, starts, at);
            at += 1;
        }
    }

    /// `N` neighbouring sums, held in registers over all taps.
    #[inline(always)]
    fn block<const N: usize>(&self, out: &mut [f32], source: &[f32], starts: &[usize], at: usize) {
        let reach = self.reach();
        let mut sums = [0.0; N];
        let centre = &source[starts[reach] + at..][..N];
        for n in 0..N {
            sums[n] = self.weights[0] * centre[n];
        }
        for distance in 1..=reach {
            let weight = self.weights[distance];
            let behind = &source[starts[reach - distance] + at..][..N];
            let ahead = &source[starts[reach + distance] + at..][..N];
            for n in 0..N {
                sums[n] += weight * (ahead[n] + self.behind * behind[n]);
            }
        }
        out[..N].copy_from_slice(&sums);
    }
}

/// Continues 0..length by reflection about the faces of its outer voxels: d c b a | a b c d | d c b a.
fn reflect(index: i64, length: usize) -> usize {
    let period = 2 * length as i64;
    let index = index.rem_euclid(period);
    (if index < length as i64 { index } else { period - 1 - index }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: [f64; 3] = [1.0, 1.0, 1.5];

    /// A value in [0, 1) from three integers: the same on every machine.
    fn noise(x: usize, y: usize, z: usize) -> f32 {
        let n = (x as u32).wrapping_mul(73_856_093)
            ^ (y as u32).wrapping_mul(19_349_663)
            ^ (z as u32).wrapping_mul(83_492_791);
        let n = (n ^ (n >> 13)).wrapping_mul(1_274_126_177);
        ((n ^ (n >> 16)) % 65536) as f32 / 65536.0
    }

    fn volume(shape: (usize, usize, usize)) -> Array3<f32> {
        Array3::from_shape_fn(shape, |(x, y, z)| noise(x, y, z))
    }

    fn close(ours: f32, reference: f64, what: &str) {
        assert!((f64::from(ours) - reference).abs() < 2e-6, "{what}: {ours} instead of {reference}");
    }

    #[test]
    fn values_are_those_of_scipy() {
        // scipy.ndimage.gaussian_filter(v, [1, 1, 2 / 3], order, mode="reflect", truncate=4), over the spacing.
        let v = volume((9, 8, 7));
        let at = |order| gaussian(v.view(), SPACING, 1.0, order);
        let smooth = at([0, 0, 0]);
        close(smooth[[4, 4, 3]], 0.405639216019, "smoothed");
        close(smooth[[0, 0, 0]], 0.317064773358, "smoothed, corner");
        let gradient = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map(|order| at(order)[[4, 4, 3]]);
        for (ours, reference) in
            gradient.into_iter().zip([-0.0237332076476, 0.0465560181511, -0.0269537008708])
        {
            close(ours, reference, "gradient");
        }
        // The Hessian's eigenvalues by what they share with its entries: sum, sum of pairs, product.
        let [xx, yy, zz, xy, xz, yz] =
            [[2, 0, 0], [0, 2, 0], [0, 0, 2], [1, 1, 0], [1, 0, 1], [0, 1, 1]].map(|o| at(o)[[4, 4, 3]]);
        let [a, b, c] = [0.0178950396407_f64, 0.0724888788625, 0.159130200403];
        close(xx + yy + zz, a + b + c, "trace");
        close(xx * yy + xx * zz + yy * zz - xy * xy - xz * xz - yz * yz, a * b + a * c + b * c, "minors");
        let determinant = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz);
        close(determinant, a * b * c, "determinant");
    }

    #[test]
    fn a_kernel_wider_than_the_volume_reflects_more_than_once() {
        // scipy.ndimage.gaussian_filter(v, 3, mode="reflect", truncate=4) of the corner of 4 x 3 x 2 voxels.
        let smooth = gaussian(volume((4, 3, 2)).view(), [1.0; 3], 3.0, [0, 0, 0]);
        close(smooth[[0, 0, 0]], 0.4762046540799253, "corner");
        close(smooth[[3, 1, 1]], 0.4880491422259622, "opposite corner");
    }

    #[test]
    fn a_ramp_has_its_slope_and_a_parabola_its_curvature_at_every_width() {
        let spacing = [0.5, 1.0, 4.0];
        let ramp = Array3::from_shape_fn((80, 40, 9), |(x, y, z)| {
            3.0 * (x as f32 * 0.5) - 2.0 * y as f32 + 0.25 * (z as f32 * 4.0)
        });
        let bowl = Array3::from_shape_fn((80, 40, 9), |(x, y, z)| {
            (x as f32 * 0.5 - 20.0).powi(2)
                + 0.5 * (y as f32 - 20.0).powi(2)
                + 0.1 * (z as f32 * 4.0 - 16.0).powi(2)
        });
        for sigma in [0.0, 0.5, 1.0, 2.0, 3.9] {
            let slope = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
                .map(|order| gaussian(ramp.view(), spacing, sigma, order)[[40, 20, 4]]);
            let curvature = [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
                .map(|order| gaussian(bowl.view(), spacing, sigma, order)[[40, 20, 4]]);
            for (ours, exact) in slope.into_iter().zip([3.0, -2.0, 0.25]) {
                assert!((ours / exact - 1.0).abs() < 0.03, "sigma {sigma}: slope {ours} instead of {exact}");
            }
            for (ours, exact) in curvature.into_iter().zip([2.0, 1.0, 0.2]) {
                assert!(
                    (ours / exact - 1.0).abs() < 0.12,
                    "sigma {sigma}: curvature {ours} instead of {exact}"
                );
            }
        }
    }

    #[test]
    fn axes_of_one_voxel_are_left_out_and_constants_stay() {
        let line = volume((1, 9, 1));
        let smooth = gaussian(line.view(), [1.0; 3], 1.5, [0; 3]);
        let alone = gaussian(line.view(), [100.0, 1.0, 100.0], 1.5, [0; 3]);
        assert_eq!(smooth, alone);
        for order in [[1, 0, 0], [0, 0, 2]] {
            assert!(gaussian(line.view(), [1.0; 3], 1.5, order).iter().all(|&value| value == 0.0));
        }
        let constant = Array3::from_elem((5, 1, 7), 2.5_f32);
        for value in gaussian(constant.view(), SPACING, 2.0, [0; 3]) {
            assert!((value - 2.5).abs() < 1e-6);
        }
        assert_eq!(gaussian(Array3::zeros((0, 3, 3)).view(), SPACING, 1.0, [0; 3]).dim(), (0, 3, 3));
    }

    #[test]
    fn flips_permuted_axes_and_threads_change_nothing() {
        let v = volume((9, 33, 47));
        let order = [0, 1, 2];
        let expected = gaussian(v.view(), SPACING, 1.2, order);
        let turned = gaussian(v.view().permuted_axes([2, 0, 1]), [1.5, 1.0, 1.0], 1.2, [2, 0, 1]);
        let mut flipped = v.view();
        flipped.invert_axis(ndarray::Axis(1));
        let mut flipped = gaussian(flipped, SPACING, 1.2, order);
        flipped.invert_axis(ndarray::Axis(1));
        for ((index, &value), &mirrored) in expected.indexed_iter().zip(&flipped) {
            assert!((value - turned[[index.2, index.0, index.1]]).abs() < 1e-6);
            assert!((value + mirrored).abs() < 1e-6, "a first derivative changes its sign");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            assert_eq!(pool.install(|| gaussian(v.view(), SPACING, 1.2, order)), expected);
        }
    }
}
