//! Local correlation: the squared correlation of two images within a window about each voxel, and its derivative.
//!
//! With sums over the window W(x) of n voxels: A = sum fm - sum f sum m / n, B and C likewise of ff and mm;
//! LNCC(x) = A^2 / ((B + e)(C + e)). The derivative is that of the mean over x, exact: every window that holds a voxel
//! counts, so it can be compared with differences.

use ndarray::{Array3, ArrayView3};
use rayon::prelude::*;

use super::similarity::total;
use crate::image::vectorised::vectorised;

/// What is added to the variance sums B and C.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Floor {
    /// So much for a window, whatever its size.
    Window(f64),
    /// So much for every voxel of it.
    Voxel(f64),
}

/// The mean over all voxels, and its derivative with respect to each value of the moving image.
#[derive(Clone, Debug)]
pub struct LocalCorrelation {
    /// In 0..=1.
    pub mean: f64,
    /// (x, y, z).
    pub derivative: Array3<f32>,
}

/// The local correlation of two volumes of one shape, in windows of `2 radius + 1` voxels per axis that are cut at
/// the border. Panics where the shapes differ (a bug of the caller).
pub fn local_correlation(
    fixed: ArrayView3<'_, f32>,
    moving: ArrayView3<'_, f32>,
    radius: usize,
    floor: Floor,
) -> LocalCorrelation {
    assert_eq!(fixed.dim(), moving.dim(), "two volumes of one shape");
    let (x, y, z) = fixed.dim();
    let local = Local::new(fixed.iter().copied().collect(), [x, y, z], radius, floor);
    let moving: Vec<f32> = moving.iter().copied().collect();
    let mut derivative = vec![0.0; moving.len()];
    let mean = local.evaluate(&moving, &mut Sums::default(), &mut derivative);
    let derivative = Array3::from_shape_vec((x, y, z), derivative);
    LocalCorrelation { mean, derivative: derivative.unwrap_or_else(|_| panic!("as many voxels as before")) }
}

/// A fixed image with all that does not depend on the moving one.
pub(super) struct Local {
    shape: [usize; 3],
    radius: usize,
    fixed: Vec<f32>,
    /// Means of the fixed image over the windows.
    means: Vec<f32>,
    /// B + e.
    spread: Vec<f32>,
    /// 1 / n as a product of three.
    shares: [Vec<f32>; 3],
    floor: Floor,
}

/// Memory for the sums, used again by every evaluation.
#[derive(Default)]
pub(super) struct Sums {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Local {
    /// `fixed` has z fastest.
    pub(super) fn new(fixed: Vec<f32>, shape: [usize; 3], radius: usize, floor: Floor) -> Self {
        let shares = shape.map(|edge| {
            (0..edge)
                .map(|at| {
                    let (first, last) = (at.saturating_sub(radius), (at + radius).min(edge - 1));
                    1.0 / (last - first + 1) as f32
                })
                .collect()
        });
        let mut local = Self { shape, radius, fixed, means: Vec::new(), spread: Vec::new(), shares, floor };
        let plane = local.plane();
        let mut sums = vec![0.0; 2 * local.fixed.len()];
        local.within_planes::<2>(&mut sums, |x, [f, ff]| {
            let fixed = &local.fixed[x * plane..][..plane];
            f.copy_from_slice(fixed);
            for (ff, f) in ff.iter_mut().zip(fixed) {
                *ff = f * f;
            }
        });
        let mut means = vec![0.0; local.fixed.len()];
        let mut spread = vec![0.0; local.fixed.len()];
        let planes = means.par_chunks_mut(plane).zip(spread.par_chunks_mut(plane)).enumerate();
        planes.for_each(|(x, (means, spread))| {
            local.across_planes(&sums, 2, 0, x, means);
            local.across_planes(&sums, 2, 1, x, spread);
            for (at, (mean, spread)) in means.iter_mut().zip(spread).enumerate() {
                let share = local.share(x, at / shape[2], at % shape[2]);
                let (f, ff) = (*mean, *spread);
                *mean = f * share;
                *spread = ff - f * *mean + floor.of(share);
            }
        });
        local.means = means;
        local.spread = spread;
        local
    }

    fn plane(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    #[inline(always)]
    fn share(&self, x: usize, y: usize, z: usize) -> f32 {
        self.shares[0][x] * self.shares[1][y] * self.shares[2][z]
    }

    /// The mean local correlation with `moving`, and its derivative with respect to `moving`.
    pub(super) fn evaluate(&self, moving: &[f32], sums: &mut Sums, derivative: &mut [f32]) -> f64 {
        let plane = self.plane();
        let count = moving.len();
        sums.first.resize(3 * count, 0.0);
        sums.second.resize(4 * count, 0.0);
        self.within_planes::<3>(&mut sums.first, |x, [m, mm, fm]| {
            let moving = &moving[x * plane..][..plane];
            let fixed = &self.fixed[x * plane..][..plane];
            m.copy_from_slice(moving);
            for at in 0..plane {
                mm[at] = moving[at] * moving[at];
                fm[at] = fixed[at] * moving[at];
            }
        });
        let totals = std::sync::Mutex::new(vec![0.0; self.shape[0]]);
        let first = &sums.first;
        self.within_planes::<4>(&mut sums.second, |x, parts| {
            let mean = self.factors(first, x, parts);
            totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[x] = mean;
        });
        let totals = totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let scale = 1.0 / count as f32;
        derivative.par_chunks_mut(plane).enumerate().for_each_init(
            || vec![vec![0.0; plane]; 4],
            |windows, (x, out)| {
                for (part, window) in windows.iter_mut().enumerate() {
                    self.across_planes(&sums.second, 4, part, x, window);
                }
                let [a, af, b, bm] = [0, 1, 2, 3].map(|part| &windows[part][..plane]);
                let f = &self.fixed[x * plane..][..plane];
                let m = &moving[x * plane..][..plane];
                vectorised(
                    #[inline(always)]
                    || {
                        for at in 0..plane {
                            out[at] = (f[at] * a[at] - af[at] - m[at] * b[at] + bm[at]) * scale;
                        }
                    },
                );
            },
        );
        totals.iter().sum::<f64>() / count as f64
    }

    /// For a plane of x: a = 2 A / ((B + e)(C + e)), b = a A / (C + e), and a, a f, b, b m with the windows' means f
    /// and m into `parts`; returns the sum of the local correlations.
    fn factors(&self, first: &[f32], x: usize, parts: [&mut [f32]; 4]) -> f64 {
        let plane = self.plane();
        let [a, af, b, bm] = parts;
        let mut fm = vec![0.0; plane];
        // Sums of m and mm stand where their results go.
        self.across_planes(first, 3, 0, x, bm);
        self.across_planes(first, 3, 1, x, b);
        self.across_planes(first, 3, 2, x, &mut fm);
        let means = &self.means[x * plane..][..plane];
        let spread = &self.spread[x * plane..][..plane];
        vectorised(
            #[inline(always)]
            || {
                for y in 0..self.shape[1] {
                    let line = self.shares[0][x] * self.shares[1][y];
                    for z in 0..self.shape[2] {
                        let at = y * self.shape[2] + z;
                        let share = line * self.shares[2][z];
                        let (sm, smm, f) = (bm[at], b[at], means[at]);
                        let mean = sm * share;
                        let joint = fm[at] - f * sm;
                        let other = smm - mean * sm + self.floor.of(share);
                        let both = spread[at] * other;
                        // A window without any contrast correlates with nothing.
                        let factor = if both > 0.0 { joint / both } else { 0.0 };
                        let over = if other > 0.0 { 2.0 * factor * joint / other } else { 0.0 };
                        fm[at] = joint * factor;
                        a[at] = 2.0 * factor;
                        af[at] = 2.0 * factor * f;
                        b[at] = over;
                        bm[at] = over * mean;
                    }
                }
                total(&fm)
            },
        )
    }

    /// Window sums along z and y of `K` volumes, whose planes of x `fill` gives; `out` holds the `K` planes of the
    /// first x, then of the second, and so on.
    fn within_planes<const K: usize>(&self, out: &mut [f32], fill: impl Fn(usize, [&mut [f32]; K]) + Sync) {
        let (plane, [_, ny, nz], radius) = (self.plane(), self.shape, self.radius);
        let starts: Vec<usize> = (0..=2 * radius).collect();
        out.par_chunks_mut(K * plane).enumerate().for_each_init(
            || (vec![0.0; plane * K], vec![0.0; plane], vec![0.0; nz + 2 * radius]),
            |(source, rows, padded), (x, out)| {
                let mut planes = source.chunks_exact_mut(plane);
                fill(x, std::array::from_fn(|_| planes.next().unwrap_or_default()));
                let lines: Vec<Vec<usize>> = (0..ny).map(|y| self.near(1, y, nz)).collect();
                vectorised(
                    #[inline(always)]
                    || {
                        for (out, source) in out.chunks_exact_mut(plane).zip(source.chunks_exact(plane)) {
                            for (row, source) in rows.chunks_exact_mut(nz).zip(source.chunks_exact(nz)) {
                                padded[radius..radius + nz].copy_from_slice(source);
                                add_up(row, padded, &starts);
                            }
                            for (out, lines) in out.chunks_exact_mut(nz).zip(&lines) {
                                add_up(out, rows, lines);
                            }
                        }
                    },
                );
            },
        );
    }

    /// Window sums along x of the volume `part` of the `parts` in `source`, for the plane of `x`.
    fn across_planes(&self, source: &[f32], parts: usize, part: usize, x: usize, out: &mut [f32]) {
        let plane = self.plane();
        let planes: Vec<usize> =
            self.near(0, x, parts * plane).iter().map(|start| start + part * plane).collect();
        vectorised(
            #[inline(always)]
            || add_up(out, source, &planes),
        );
    }

    /// Where the lines within the window about `at` begin, `stride` apart.
    fn near(&self, axis: usize, at: usize, stride: usize) -> Vec<usize> {
        let last = (at + self.radius).min(self.shape[axis] - 1);
        (at.saturating_sub(self.radius)..=last).map(|line| line * stride).collect()
    }
}

impl Floor {
    /// For a window with this share of a voxel: 1 / n.
    #[inline(always)]
    fn of(self, share: f32) -> f32 {
        match self {
            Self::Window(floor) => floor as f32,
            Self::Voxel(floor) => floor as f32 / share,
        }
    }
}

/// `out[i]` = sum over `starts` of `source[start + i]`.
#[inline(always)]
fn add_up(out: &mut [f32], source: &[f32], starts: &[usize]) {
    let mut at = 0;
    while at + 32 <= out.len() {
        add_block::<32>(&mut out[at..], source, starts, at);
        at += 32;
    }
    while at + 8 <= out.len() {
        add_block::<8>(&mut out[at..], source, starts, at);
        at += 8;
    }
    while at < out.len() {
        add_block::<1>(&mut out[at..], source, starts, at);
        at += 1;
    }
}

#[inline(always)]
fn add_block<const N: usize>(out: &mut [f32], source: &[f32], starts: &[usize], at: usize) {
    let mut sums = [0.0; N];
    for start in starts {
        let line = &source[start + at..][..N];
        for n in 0..N {
            sums[n] += line[n];
        }
    }
    out[..N].copy_from_slice(&sums);
}
