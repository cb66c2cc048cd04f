//! Changes of one channel of a patch that look at neighbours: smoothing and simulated low resolution.

use crate::image::vectorised::{lerp, vectorised};

/// Gaussian smoothing with a sigma in voxels per axis; the patch is continued by reflection about its outer
/// voxels. The kernel has the odd length nearest to 6 sigma + 1/2 and sums to 1, as in batchgeneratorsv2.
///
/// One pass: planes of constant x are smoothed along z and y into a ring of planes, from which the finished
/// planes are summed.
pub(super) fn blur(voxels: &mut [f32], patch: [usize; 3], sigma: [f64; 3]) {
    // Reflection needs more voxels than the kernel reaches over.
    let [along_x, along_y, along_z]: [Vec<f32>; 3] =
        std::array::from_fn(|axis| kernel(sigma[axis], patch[axis] - 1));
    let [nx, ny, nz] = patch;
    let (plane, reach, margin) = (ny * nz, along_x.len() - 1, along_z.len() - 1);
    let planes = 2 * reach + 1;
    let mut ring = vec![0.0; planes * plane];
    let mut lines = vec![0.0; plane];
    let mut padded = vec![0.0; nz + 2 * margin];
    vectorised(
        #[inline(always)]
        || {
            let mut smoothed = 0;
            for x in 0..nx {
                while smoothed < nx.min(x + reach + 1) {
                    let source = &voxels[smoothed * plane..][..plane];
                    for (line, row) in lines.chunks_exact_mut(nz).zip(source.chunks_exact(nz)) {
                        padded[margin..margin + nz].copy_from_slice(row);
                        for n in 1..=margin {
                            padded[margin - n] = row[n];
                            padded[margin + nz - 1 + n] = row[nz - 1 - n];
                        }
                        weigh(line, &along_z, |offset| &padded[(margin as i64 + offset) as usize..][..nz]);
                    }
                    let out = &mut ring[smoothed % planes * plane..][..plane];
                    for (y, row) in out.chunks_exact_mut(nz).enumerate() {
                        weigh(row, &along_y, |offset| &lines[reflect(y as i64 + offset, ny) * nz..][..nz]);
                    }
                    smoothed += 1;
                }
                let out = &mut voxels[x * plane..][..plane];
                for (y, row) in out.chunks_exact_mut(nz).enumerate() {
                    weigh(row, &along_x, |offset| {
                        &ring[reflect(x as i64 + offset, nx) % planes * plane + y * nz..][..nz]
                    });
                }
            }
        },
    );
}

/// `out = sum of kernel[|d|] * line(d)`.
#[inline(always)]
fn weigh<'a>(out: &mut [f32], kernel: &[f32], line: impl Fn(i64) -> &'a [f32]) {
    for (out, centre) in out.iter_mut().zip(line(0)) {
        *out = kernel[0] * centre;
    }
    for (distance, &weight) in kernel.iter().enumerate().skip(1) {
        let (before, after) = (line(-(distance as i64)), line(distance as i64));
        for (out, (before, after)) in out.iter_mut().zip(before.iter().zip(after)) {
            *out += weight * (before + after);
        }
    }
}

/// One half of the kernel: the centre weight, then the weights at distance 1, 2, ...
fn kernel(sigma: f64, reach: usize) -> Vec<f32> {
    if sigma <= 0.0 {
        return vec![1.0];
    }
    let wanted = 6.0 * sigma + 0.5;
    let rounded = wanted.round_ties_even();
    let length = if rounded % 2.0 == 1.0 {
        rounded
    } else if wanted - rounded >= 0.0 {
        rounded + 1.0
    } else {
        rounded - 1.0
    };
    let reach = reach.min((length as usize - 1) / 2);
    let weight = |distance: usize| (-0.5 * (distance as f64 / sigma).powi(2)).exp();
    let total = weight(0) + 2.0 * (1..=reach).map(weight).sum::<f64>();
    (0..=reach).map(|distance| (weight(distance) / total) as f32).collect()
}

/// Continues 0..length by reflection about its first and last index, once.
fn reflect(index: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    let index = index.abs();
    (if index > last { 2 * last - index } else { index }) as usize
}

/// Keeps every nearest voxel of a grid of round(zoom * edge) voxels per axis and interpolates linearly back;
/// voxel centres are aligned as in PyTorch's `nearest-exact` and `trilinear` without aligned corners.
pub(super) fn low_resolution(voxels: &mut [f32], patch: [usize; 3], zoom: [f64; 3]) {
    let coarse: [usize; 3] = std::array::from_fn(|axis| {
        // Rounding happens after the zoom has become an f32, as there.
        ((patch[axis] as f64 * f64::from(zoom[axis] as f32)).round_ties_even() as usize).max(1)
    });
    if coarse == patch {
        return;
    }
    let [nodes_x, nodes_y, nodes_z]: [Vec<usize>; 3] = std::array::from_fn(|axis| {
        let scale = patch[axis] as f32 / coarse[axis] as f32;
        (0..coarse[axis]).map(|node| (((node as f32 + 0.5) * scale) as usize).min(patch[axis] - 1)).collect()
    });
    let mut small = Vec::with_capacity(coarse.iter().product());
    for x in &nodes_x {
        for y in &nodes_y {
            let row = &voxels[(x * patch[1] + y) * patch[2]..][..patch[2]];
            small.extend(nodes_z.iter().map(|z| row[*z]));
        }
    }
    let [along_x, along_y, along_z]: [Vec<(usize, usize, f32)>; 3] =
        std::array::from_fn(|axis| linear_nodes(coarse[axis], patch[axis]));
    let plane_size = coarse[1] * coarse[2];
    let mut plane = vec![0.0; plane_size];
    let mut line = vec![0.0; coarse[2]];
    vectorised(
        #[inline(always)]
        || {
            for (out, &(below, above, w)) in voxels.chunks_exact_mut(patch[1] * patch[2]).zip(&along_x) {
                lerp(
                    &mut plane,
                    &small[below * plane_size..][..plane_size],
                    &small[above * plane_size..][..plane_size],
                    w,
                );
                for (out, &(below, above, w)) in out.chunks_exact_mut(patch[2]).zip(&along_y) {
                    lerp(
                        &mut line,
                        &plane[below * coarse[2]..][..coarse[2]],
                        &plane[above * coarse[2]..][..coarse[2]],
                        w,
                    );
                    for (out, &(below, above, w)) in out.iter_mut().zip(&along_z) {
                        *out = line[below] + (line[above] - line[below]) * w;
                    }
                }
            }
        },
    );
}

/// Takes linear values on a grid of round(zoom * edge) voxels per axis and shows each as a block of equal voxels:
/// a scan with larger voxels. Voxel centres are aligned as in [`low_resolution`].
pub(super) fn coarse_voxels(voxels: &mut [f32], patch: [usize; 3], zoom: [f64; 3]) {
    let coarse: [usize; 3] = std::array::from_fn(|axis| {
        ((patch[axis] as f64 * zoom[axis]).round_ties_even() as usize).clamp(1, patch[axis])
    });
    if coarse == patch {
        return;
    }
    let nodes: [Vec<(usize, usize, f32)>; 3] =
        std::array::from_fn(|axis| linear_nodes(patch[axis], coarse[axis]));
    let fine: [Vec<usize>; 3] = std::array::from_fn(|axis| {
        let scale = coarse[axis] as f64 / patch[axis] as f64;
        (0..patch[axis]).map(|at| (((at as f64 + 0.5) * scale) as usize).min(coarse[axis] - 1)).collect()
    });
    let at = |x: usize, y: usize, z: usize| (x * patch[1] + y) * patch[2] + z;
    let mut small = Vec::with_capacity(coarse.iter().product());
    for &(x0, x1, wx) in &nodes[0] {
        for &(y0, y1, wy) in &nodes[1] {
            for &(z0, z1, wz) in &nodes[2] {
                let mix = |a: f32, b: f32, w: f32| a + (b - a) * w;
                let along_x = |y: usize, z: usize| mix(voxels[at(x0, y, z)], voxels[at(x1, y, z)], wx);
                let along_y = |z: usize| mix(along_x(y0, z), along_x(y1, z), wy);
                small.push(mix(along_y(z0), along_y(z1), wz));
            }
        }
    }
    for (row, out) in voxels.chunks_exact_mut(patch[2]).enumerate() {
        let line = (fine[0][row / patch[1]] * coarse[1] + fine[1][row % patch[1]]) * coarse[2];
        for (out, z) in out.iter_mut().zip(&fine[2]) {
            *out = small[line + z];
        }
    }
}

/// Takes the Laplacian of a Gaussian away: `x - sum over axes of d2(x)`, clipped to `range`.
///
/// `sigma` is in image voxels; on a grid of stride s it is sigma / s of the grid's voxels, and a second
/// derivative there is s^2 times that of the image. The kernel of the second derivative is SciPy's
/// (`gaussian_laplace`, cut off at 4 sigma) less what keeps it from summing to 0, since a sampled kernel with a
/// small sigma would brighten constants. The patch is continued by reflection about its outer voxels.
pub(super) fn sharpen(
    voxels: &mut [f32],
    shape: [usize; 3],
    sigma: f64,
    stride: [usize; 3],
    [low, high]: [f32; 2],
) {
    let kernels: [(Vec<f32>, Vec<f32>); 3] =
        std::array::from_fn(|axis| laplace_kernels(sigma, stride[axis], shape[axis] - 1));
    let mut sum: Vec<f32> = voxels.to_vec();
    for second in 0..3 {
        let mut part = voxels.to_vec();
        for axis in 0..3 {
            let (smooth, curve) = &kernels[axis];
            convolve(&mut part, shape, axis, if axis == second { curve } else { smooth });
        }
        sum.iter_mut().zip(&part).for_each(|(sum, part)| *sum -= part);
    }
    for (voxel, sum) in voxels.iter_mut().zip(sum) {
        *voxel = super::intensity::clamp(sum, low, high);
    }
}

/// Halves of the Gaussian and of its second derivative in image voxels, the latter summing to 0.
fn laplace_kernels(sigma: f64, stride: usize, reach: usize) -> (Vec<f32>, Vec<f32>) {
    let sigma = sigma / stride as f64;
    let reach = reach.min((4.0 * sigma + 0.5) as usize);
    let weight = |d: usize| (-0.5 * (d as f64 / sigma).powi(2)).exp();
    let total = weight(0) + 2.0 * (1..=reach).map(weight).sum::<f64>();
    let smooth: Vec<f64> = (0..=reach).map(|d| weight(d) / total).collect();
    let curve: Vec<f64> = smooth
        .iter()
        .enumerate()
        .map(|(d, w)| w * ((d as f64).powi(2) / sigma.powi(4) - sigma.powi(-2)))
        .collect();
    let excess = curve[0] + 2.0 * curve[1..].iter().sum::<f64>();
    let grid = (stride * stride) as f64;
    let curve = curve.iter().zip(&smooth).map(|(c, w)| ((c - excess * w) / grid) as f32).collect();
    (smooth.into_iter().map(|w| w as f32).collect(), curve)
}

/// Convolves along one axis with a symmetric kernel, given as its centre and one half.
fn convolve(voxels: &mut [f32], shape: [usize; 3], axis: usize, kernel: &[f32]) {
    let stride = shape[axis + 1..].iter().product::<usize>();
    let length = shape[axis];
    let mut line = vec![0.0; length * stride];
    for slab in voxels.chunks_exact_mut(length * stride) {
        line.copy_from_slice(slab);
        for (at, out) in slab.chunks_exact_mut(stride).enumerate() {
            weigh(out, kernel, |offset| &line[reflect(at as i64 + offset, length) * stride..][..stride]);
        }
    }
}

/// For each of `fine` voxels: the two of `coarse` nodes around its centre, and the weight of the upper one.
fn linear_nodes(coarse: usize, fine: usize) -> Vec<(usize, usize, f32)> {
    let scale = coarse as f32 / fine as f32;
    (0..fine)
        .map(|voxel| {
            let position = ((voxel as f32 + 0.5) * scale - 0.5).max(0.0);
            let below = (position as usize).min(coarse - 1);
            (below, (below + 1).min(coarse - 1), position - below as f32)
        })
        .collect()
}
