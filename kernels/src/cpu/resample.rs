//! Separable maps of a channels-last array, and the sum of two arrays.

use super::buffer::{Buffer, Shared};
use super::simd::vectorise;
use crate::resample::AxisMap;
use crate::settings::Settings;

/// Applies one map per axis to an array (batch, size, channels).
pub(crate) fn resample(
    settings: &Settings,
    x: &[f32],
    [batch, sx, sy, sz, channels]: [usize; 5],
    maps: &[AxisMap; 3],
) -> Buffer {
    let [mx, my, mz] = maps;
    let [ox, oy, oz] = [mx, my, mz].map(AxisMap::outputs);
    let line = oz * channels;
    let mut out = Buffer::new(batch * ox * oy * line);
    let shared = Shared::new(&mut out);
    settings.parallel(batch * ox, |task| {
        let (n, i) = (task / ox, task % ox);
        // SAFETY: every task has its own plane.
        let plane = unsafe { shared.part(task * oy * line, oy * line) };
        vectorise(settings.path(), || {
            for (j, to) in plane.chunks_exact_mut(line.max(1)).enumerate() {
                to.fill(0.0);
                for &source_x in mx.terms(i) {
                    for &source_y in my.terms(j) {
                        let from =
                            &x[((n * sx + source_x) * sy + source_y) * sz * channels..][..sz * channels];
                        add_line(mz, from, to, channels);
                    }
                }
            }
        });
    });
    out
}

/// Adds the map of the positions `from` to the positions `to`.
#[inline(always)]
fn add_line(map: &AxisMap, from: &[f32], to: &mut [f32], channels: usize) {
    for (k, to) in to.chunks_exact_mut(channels).enumerate() {
        for &source in map.terms(k) {
            for (to, from) in to.iter_mut().zip(&from[source * channels..][..channels]) {
                *to += from;
            }
        }
    }
}

/// Where the smaller array of [`add`] lies in the larger one: how many voxels in, and how many channels of it exist.
fn margins(size: [usize; 3], residual: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| (residual[axis] - size[axis]) / 2)
}

/// `x` plus the centre of `residual`, whose channels beyond its own are zeros.
pub(crate) fn add_cropped(
    settings: &Settings,
    (x, shape): (&[f32], [usize; 5]),
    (residual, residual_shape): (&[f32], [usize; 5]),
) -> Buffer {
    let [batch, sx, sy, sz, channels] = shape;
    let [_, rx, ry, rz, residual_channels] = residual_shape;
    let [mx, my, mz] = margins([sx, sy, sz], [rx, ry, rz]);
    let line = sz * channels;
    let mut out = Buffer::new(x.len());
    let shared = Shared::new(&mut out);
    settings.parallel(batch * sx, |task| {
        let (n, i) = (task / sx, task % sx);
        vectorise(settings.path(), || {
            for j in 0..sy {
                let first = (task * sy + j) * line;
                let from = (((n * rx + i + mx) * ry + j + my) * rz + mz) * residual_channels;
                // SAFETY: every task has its own plane.
                let to = unsafe { shared.part(first, line) };
                let (x, residual) = (&x[first..first + line], &residual[from..from + sz * residual_channels]);
                if channels == residual_channels {
                    for ((to, x), residual) in to.iter_mut().zip(x).zip(residual) {
                        *to = x + residual;
                    }
                    continue;
                }
                to.copy_from_slice(x);
                let positions = to.chunks_exact_mut(channels).zip(residual.chunks_exact(residual_channels));
                for (to, residual) in positions {
                    for (to, residual) in to.iter_mut().zip(residual) {
                        *to += residual;
                    }
                }
            }
        });
    });
    out
}

/// Gradient of the residual of [`add_cropped`]: that of the sum, within zeros, without the channels that are not its.
pub(crate) fn add_cropped_gradient(
    settings: &Settings,
    gradient: &[f32],
    shape: [usize; 5],
    residual_shape: [usize; 5],
) -> Buffer {
    let [_, sx, sy, sz, channels] = shape;
    let [batch, rx, ry, rz, residual_channels] = residual_shape;
    let [mx, my, mz] = margins([sx, sy, sz], [rx, ry, rz]);
    let line = rz * residual_channels;
    let mut out = Buffer::new(batch * rx * ry * line);
    let shared = Shared::new(&mut out);
    settings.parallel(batch * rx, |task| {
        let (n, i) = (task / rx, task % rx);
        // SAFETY: every task has its own plane.
        let plane = unsafe { shared.part(task * ry * line, ry * line) };
        for (j, to) in plane.chunks_exact_mut(line.max(1)).enumerate() {
            to.fill(0.0);
            if i < mx || i - mx >= sx || j < my || j - my >= sy {
                continue;
            }
            let from = &gradient[((n * sx + i - mx) * sy + j - my) * sz * channels..][..sz * channels];
            let to = &mut to[mz * residual_channels..][..sz * residual_channels];
            for (to, from) in to.chunks_exact_mut(residual_channels).zip(from.chunks_exact(channels)) {
                to.copy_from_slice(&from[..residual_channels]);
            }
        }
    });
    out
}

/// Product of an array with a mask of the same shape but for axes of length 1, along which it is repeated.
pub(crate) fn multiply(
    settings: &Settings,
    (x, shape): (&[f32], [usize; 5]),
    (mask, mask_shape): (&[f32], [usize; 5]),
) -> Buffer {
    let [batch, sx, sy, sz, channels] = shape;
    let mut strides = [0; 5];
    let mut step = 1;
    for axis in (0..5).rev() {
        strides[axis] = if mask_shape[axis] == 1 { 0 } else { step };
        step *= mask_shape[axis];
    }
    let line = sz * channels;
    let mut out = Buffer::new(x.len());
    let shared = Shared::new(&mut out);
    settings.parallel(batch * sx, |task| {
        let (n, i) = (task / sx, task % sx);
        vectorise(settings.path(), || {
            for j in 0..sy {
                let first = (task * sy + j) * line;
                // SAFETY: every task has its own plane.
                let to = unsafe { shared.part(first, line) };
                let x = &x[first..first + line];
                for (k, (to, x)) in to.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).enumerate() {
                    let mask = &mask[n * strides[0] + i * strides[1] + j * strides[2] + k * strides[3]..];
                    if strides[4] == 0 {
                        for (to, x) in to.iter_mut().zip(x) {
                            *to = x * mask[0];
                        }
                    } else {
                        for ((to, x), mask) in to.iter_mut().zip(x).zip(mask) {
                            *to = x * mask;
                        }
                    }
                }
            }
        });
    });
    out
}
