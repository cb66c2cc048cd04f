//! Correlation of two images under an affine, with the normal equations of a Gauss-Newton step.
//!
//! A row of the Jacobian is (g p', g) for the gradient g of the moving image and the fixed point p, so sums over a line
//! of z need only powers of z; x and y enter once a line.

use rayon::prelude::*;

use super::sample::Lattice;
use super::{Affine, Images};
use crate::image::vectorised::vectorised;

/// The correlation and the system of one step, in the parameters (a, c): the entry c of row a of the matrix for
/// c < 3, the shift for c = 3, as number 4 a + c.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    /// Pearson's correlation over the voxels inside, the mean over channels.
    pub(super) correlation: f64,
    /// The share of fixed voxels that lie inside the moving box.
    pub(super) inside: f64,
    /// Sum over channels of J'J, with J orthogonal to constants and to the moving image.
    pub(super) square: [[f64; 12]; 12],
    /// J'r.
    pub(super) right: [f64; 12],
}

/// Fewer voxels inside than this share are no overlap.
const LEAST: f64 = 0.05;
const LANES: usize = 8;
/// Sums of a line: n, f, m, ff, mm, fm; then per component of g: g, gz, gm, gmz, gf, gfz; then per pair of components:
/// gg, ggz, ggzz.
const SUMS: usize = 6 + 18 + 18;
const PAIRS: [(usize, usize); 6] = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)];

/// Sums over planes: those of a channel with all powers of x, y and z.
#[derive(Clone)]
struct Moments {
    plain: [f64; 6],
    /// Of J, J m, J f.
    first: [[f64; 12]; 3],
    /// Of g_a g_b p_c p_d, for p = (x, y, z, 1).
    second: [[[f64; 4]; 4]; 6],
}

/// `fixed` and `moving` are levels of a pyramid; `affine` takes fixed points to moving ones.
pub(super) fn normal(fixed: &Images, moving: &Images, affine: &Affine) -> Normal {
    let mut out = Normal { correlation: 0.0, inside: 0.0, square: [[0.0; 12]; 12], right: [0.0; 12] };
    let share = 1.0 / fixed.len() as f64;
    for channel in 0..fixed.len() {
        let f = fixed.channel(channel);
        let m = moving.channel(channel);
        let (f, m) = (f.as_standard_layout(), m.as_standard_layout());
        let (Some(f), Some(m)) = (f.as_slice(), m.as_slice()) else { continue };
        let moments = moments((f, fixed), (m, moving), affine);
        out.inside = moments.plain[0] / f.len() as f64;
        if out.inside < LEAST {
            return Normal { correlation: -1.0, ..out };
        }
        out.correlation += share * moments.add_to(&mut out.square, &mut out.right);
    }
    out
}

fn moments((f, fixed): (&[f32], &Images), (m, moving): (&[f32], &Images), affine: &Affine) -> Moments {
    let frame = fixed.frame();
    let [nx, ny, nz] = frame.shape;
    let lattice = Lattice::new(moving.frame().shape);
    let to_voxels = frame.to_points().then(affine).then(&moving.frame().to_voxels());
    let along = [0, 1, 2].map(|row| to_voxels.matrix[row][2] as f32);
    let per_mm = moving.spacing.map(|spacing| 1.0 / spacing as f32);
    let padded = nz.div_ceil(LANES) * LANES;
    let mut heights = vec![0.0; padded];
    for (z, height) in heights.iter_mut().enumerate().take(nz) {
        *height = frame.point([0.0, 0.0, z as f64])[2] as f32;
    }
    let planes: Vec<Moments> = (0..nx)
        .into_par_iter()
        .map_init(
            || vec![vec![0.0; padded]; 6],
            |line, x| {
                let mut sum = Moments::zero();
                for y in 0..ny {
                    let base = to_voxels.apply([x as f64, y as f64, 0.0]).map(|value| value as f32);
                    let row = &f[(x * ny + y) * nz..][..nz];
                    let [weights, fs, ms, g0, g1, g2] = line.as_mut_slice() else { continue };
                    vectorised(
                        #[inline(always)]
                        || {
                            for z in 0..nz {
                                let mut position = base;
                                for axis in 0..3 {
                                    position[axis] += along[axis] * z as f32;
                                }
                                let inside = if lattice.holds(position) { 1.0 } else { 0.0 };
                                let (value, slope) = lattice.corner(position).slope(m);
                                weights[z] = inside;
                                fs[z] = inside * row[z];
                                ms[z] = inside * value;
                                g0[z] = inside * slope[0] * per_mm[0];
                                g1[z] = inside * slope[1] * per_mm[1];
                                g2[z] = inside * slope[2] * per_mm[2];
                            }
                        },
                    );
                    let sums = line_sums([weights, fs, ms], [g0, g1, g2], &heights);
                    let point = frame.point([x as f64, y as f64, 0.0]);
                    sum.add_line(&sums, point[0], point[1]);
                }
                sum
            },
        )
        .collect();
    // In the order of the planes: the same sum for any number of threads.
    planes.iter().fold(Moments::zero(), |mut sum, plane| {
        sum.add(plane);
        sum
    })
}

fn line_sums(values: [&[f32]; 3], gradient: [&[f32]; 3], heights: &[f32]) -> [f64; SUMS] {
    let [weights, fs, ms] = values;
    let mut lanes = [[0.0_f32; LANES]; SUMS];
    vectorised(
        #[inline(always)]
        || {
            let chunks = weights.chunks_exact(LANES).zip(heights.chunks_exact(LANES));
            for (chunk, (n, h)) in chunks.enumerate() {
                let take = |values: &[f32]| -> [f32; LANES] {
                    std::array::from_fn(
                        #[inline(always)]
                        |lane| values[chunk * LANES + lane],
                    )
                };
                let (f, m) = (take(fs), take(ms));
                let g = [take(gradient[0]), take(gradient[1]), take(gradient[2])];
                for lane in 0..LANES {
                    let (f, m, h) = (f[lane], m[lane], h[lane]);
                    let g = [g[0][lane], g[1][lane], g[2][lane]];
                    let plain = [n[lane], f, m, f * f, m * m, f * m];
                    for (sum, value) in plain.into_iter().enumerate() {
                        lanes[sum][lane] += value;
                    }
                    for component in 0..3 {
                        let (g, at) = (g[component], 6 + 6 * component);
                        lanes[at][lane] += g;
                        lanes[at + 1][lane] += g * h;
                        lanes[at + 2][lane] += g * m;
                        lanes[at + 3][lane] += g * m * h;
                        lanes[at + 4][lane] += g * f;
                        lanes[at + 5][lane] += g * f * h;
                    }
                    for (pair, (a, b)) in PAIRS.into_iter().enumerate() {
                        let (gg, at) = (g[a] * g[b], 24 + 3 * pair);
                        lanes[at][lane] += gg;
                        lanes[at + 1][lane] += gg * h;
                        lanes[at + 2][lane] += gg * h * h;
                    }
                }
            }
        },
    );
    lanes.map(|lanes| lanes.iter().map(|&value| f64::from(value)).sum())
}

impl Moments {
    fn zero() -> Self {
        Self { plain: [0.0; 6], first: [[0.0; 12]; 3], second: [[[0.0; 4]; 4]; 6] }
    }

    fn add_line(&mut self, sums: &[f64; SUMS], x: f64, y: f64) {
        for (plain, sum) in self.plain.iter_mut().zip(sums) {
            *plain += sum;
        }
        for component in 0..3 {
            for (kind, first) in self.first.iter_mut().enumerate() {
                let (g, gz) = (sums[6 + 6 * component + 2 * kind], sums[7 + 6 * component + 2 * kind]);
                let at = 4 * component;
                first[at] += g * x;
                first[at + 1] += g * y;
                first[at + 2] += gz;
                first[at + 3] += g;
            }
        }
        for (pair, second) in self.second.iter_mut().enumerate() {
            let [g, gz, gzz] = [0, 1, 2].map(|power| sums[24 + 3 * pair + power]);
            // The upper triangle for p = (x, y, z, 1).
            second[0][0] += g * x * x;
            second[0][1] += g * x * y;
            second[0][2] += gz * x;
            second[0][3] += g * x;
            second[1][1] += g * y * y;
            second[1][2] += gz * y;
            second[1][3] += g * y;
            second[2][2] += gzz;
            second[2][3] += gz;
            second[3][3] += g;
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = self.plain.iter_mut().zip(&other.plain);
        let pairs = pairs.chain(self.first.iter_mut().flatten().zip(other.first.iter().flatten()));
        let second = self.second.iter_mut().flatten().flatten();
        for (sum, value) in pairs.chain(second.zip(other.second.iter().flatten().flatten())) {
            *sum += value;
        }
    }

    /// Adds J'J and J'r of this channel and returns its correlation.
    fn add_to(&self, square: &mut [[f64; 12]; 12], right: &mut [f64; 12]) -> f64 {
        let [n, f, m, ff, mm, fm] = self.plain;
        let (mean_f, mean_m) = (f / n, m / n);
        let (spread_f, spread_m) = ((ff / n - mean_f * mean_f).sqrt(), (mm / n - mean_m * mean_m).sqrt());
        if !(spread_f > 1e-6 && spread_m > 1e-6) {
            // A constant says nothing.
            return 0.0;
        }
        let correlation = (fm / n - mean_f * mean_m) / (spread_f * spread_m);
        // Means of J, J m and J f for m and f of mean 0 and variance 1, J in units of m's deviation.
        let mean_j = self.first[0].map(|sum| sum / n / spread_m);
        let of = |kind: usize, mean: f64, spread: f64| -> [f64; 12] {
            std::array::from_fn(|at| (self.first[kind][at] / n / spread_m - mean * mean_j[at]) / spread)
        };
        let (with_m, with_f) = (of(1, mean_m, spread_m), of(2, mean_f, spread_f));
        for i in 0..12 {
            right[i] += correlation.abs() * n * (with_f[i] - correlation * with_m[i]);
            for j in 0..12 {
                let (a, b) = ((i / 4).min(j / 4), (i / 4).max(j / 4));
                let pair = PAIRS.iter().position(|&pair| pair == (a, b)).unwrap_or_default();
                let (c, d) = ((i % 4).min(j % 4), (i % 4).max(j % 4));
                let whole = self.second[pair][c][d] / (spread_m * spread_m);
                square[i][j] += whole - n * (mean_j[i] * mean_j[j] + with_m[i] * with_m[j]);
            }
        }
        correlation
    }
}
