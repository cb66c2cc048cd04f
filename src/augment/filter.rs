//! Changes of one channel of a patch that look at neighbours: smoothing and simulated low resolution.

use super::wide::wide;

/// Gaussian smoothing with a sigma in voxels per axis; the patch is continued by reflection about its outer
/// voxels. The kernel has the odd length nearest to 6 sigma + 1/2 and sums to 1, as in batchgeneratorsv2.
pub(super) fn blur(voxels: &mut [f32], patch: [usize; 3], sigma: [f64; 3]) {
    for axis in 0..3 {
        // Reflection needs more voxels than the kernel reaches over.
        let kernel = kernel(sigma[axis], patch[axis] - 1);
        if kernel.len() > 1 {
            blur_axis(voxels, patch, axis, &kernel);
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

/// Smooths along one axis; lines of voxels that lie next to each other in memory are summed together.
fn blur_axis(voxels: &mut [f32], patch: [usize; 3], axis: usize, kernel: &[f32]) {
    let length = patch[axis];
    // The patch as blocks of `length` runs of `run` voxels each.
    let run: usize = patch[axis + 1..].iter().product();
    let reach = kernel.len() - 1;
    let mut padded = vec![0.0; (length + 2 * reach) * run];
    wide(
        #[inline(always)]
        || {
            for block in voxels.chunks_exact_mut(length * run) {
                for n in 0..length + 2 * reach {
                    let from = reflect(n as i64 - reach as i64, length) * run;
                    padded[n * run..(n + 1) * run].copy_from_slice(&block[from..from + run]);
                }
                let shifted = |offset: usize| &padded[offset * run..(offset + length) * run];
                for (out, centre) in block.iter_mut().zip(shifted(reach)) {
                    *out = kernel[0] * centre;
                }
                for (distance, &weight) in kernel.iter().enumerate().skip(1) {
                    let pairs = shifted(reach - distance).iter().zip(shifted(reach + distance));
                    for (out, (before, after)) in block.iter_mut().zip(pairs) {
                        *out += weight * (before + after);
                    }
                }
            }
        },
    );
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
    wide(
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

#[inline(always)]
fn lerp(out: &mut [f32], below: &[f32], above: &[f32], w: f32) {
    for (out, (below, above)) in out.iter_mut().zip(below.iter().zip(above)) {
        *out = below + (above - below) * w;
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
