//! Pointwise changes of one channel of a patch, each in as few passes over the voxels as it allows.
//!
//! Loops are written so that they vectorise, and contain no fused multiply-add and no sum whose order depends
//! on the vector width: every instruction set gives the same bits.

use super::Side;
use super::wide::wide;

/// Mean, standard deviation (of the sample, n - 1) and range of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Statistics {
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) low: f32,
    pub(super) high: f32,
}

/// Sums are kept in this many lanes, whatever the width of vectors is.
const LANES: usize = 16;

/// Sums that a pass over voxels collects.
struct Sums {
    sum: [f64; LANES],
    squares: [f64; LANES],
}

impl Sums {
    fn new() -> Self {
        Self { sum: [0.0; LANES], squares: [0.0; LANES] }
    }

    #[inline(always)]
    fn add(&mut self, voxels: &[f32]) {
        let (mut sum, mut squares) = (self.sum, self.squares);
        let (chunks, rest) = voxels.as_chunks::<LANES>();
        for chunk in chunks {
            for ((sum, square), &value) in sum.iter_mut().zip(&mut squares).zip(chunk) {
                let value = f64::from(value);
                *sum += value;
                *square += value * value;
            }
        }
        for ((sum, square), &value) in sum.iter_mut().zip(&mut squares).zip(rest) {
            let value = f64::from(value);
            *sum += value;
            *square += value * value;
        }
        (self.sum, self.squares) = (sum, squares);
    }

    fn mean_and_deviation(&self, count: usize) -> (f64, f64) {
        let (sum, squares) = (self.sum.iter().sum::<f64>(), self.squares.iter().sum::<f64>());
        let mean = sum / count as f64;
        let variance = (squares - sum * mean) / (count as f64 - 1.0).max(1.0);
        (mean, variance.max(0.0).sqrt())
    }
}

/// Voxels that passes work on together: they stay in the nearest cache.
const BLOCK: usize = 2048;

impl Statistics {
    pub(super) fn of(voxels: &[f32]) -> Self {
        wide(
            #[inline(always)]
            move || {
                let mut sums = Sums::new();
                let (mut low, mut high) = (i32::MAX, i32::MIN);
                for block in voxels.chunks(BLOCK) {
                    sums.add(block);
                    for &value in block {
                        low = low.min(order(value));
                        high = high.max(order(value));
                    }
                }
                let (mean, deviation) = sums.mean_and_deviation(voxels.len());
                Self { mean, deviation, low: unorder(low), high: unorder(high) }
            },
        )
    }
}

/// A whole number that orders as the floats do: the smallest and largest of those vectorise, whereas those of
/// floats have rules for NaN.
#[inline(always)]
fn order(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    bits ^ (bits >> 31 & i32::MAX)
}

fn unorder(bits: i32) -> f32 {
    f32::from_bits((bits ^ (bits >> 31 & i32::MAX)) as u32)
}

/// Applies a function to every voxel, vectorised.
#[inline(always)]
fn each(voxels: &mut [f32], function: impl Fn(f32) -> f32) {
    wide(
        #[inline(always)]
        move || {
            for voxel in voxels.iter_mut() {
                *voxel = function(*voxel);
            }
        },
    );
}

pub(super) fn multiply(voxels: &mut [f32], factor: f32) {
    each(voxels, move |x| x * factor);
}

pub(super) fn contrast(voxels: &mut [f32], factor: f32) {
    let Statistics { mean, low, high, .. } = Statistics::of(voxels);
    let mean = mean as f32;
    each(voxels, move |x| clamp((x - mean) * factor + mean, low, high));
}

/// `f32::clamp` without its panic on an empty range, so that it vectorises.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// Power of the channel scaled to \[0, 1\], scaled back, mean and deviation restored.
pub(super) fn gamma(voxels: &mut [f32], exponent: f32, side: Side) {
    const LEAST: f32 = 1e-7;
    let before = Statistics::of(voxels);
    let range = before.high - before.low;
    let scale = 1.0 / range.max(LEAST);
    // The inverted image is x' = -x: its lowest value is -high, and (x' - low') / range = (high - x) / range.
    let (sign, origin) = match side {
        Side::Direct => (1.0, before.low),
        Side::Inverted => (-1.0, -before.high),
    };
    let image = &mut *voxels;
    let (mean, deviation) = wide(
        #[inline(always)]
        move || {
            let mut sums = Sums::new();
            for block in image.chunks_mut(BLOCK) {
                for value in block.iter_mut() {
                    *value = power(clamp((*value * sign - origin) * scale, 0.0, 1.0), exponent);
                }
                sums.add(block);
            }
            sums.mean_and_deviation(image.len())
        },
    );
    // In units of the image: mean and deviation of `power * range + origin`.
    let stretch = before.deviation / (deviation * f64::from(range)).max(f64::from(LEAST));
    let factor = (f64::from(range) * stretch * f64::from(sign)) as f32;
    let shift = (before.mean - mean * f64::from(range) * stretch * f64::from(sign)) as f32;
    each(voxels, move |x| x * factor + shift);
}

/// `x` to the power `exponent` for x in \[0, 1\] and an exponent above 0; the relative error is below 4e-6 where
/// the result is above 1e-37, and 0 stays 0.
#[inline(always)]
pub(super) fn power(x: f32, exponent: f32) -> f32 {
    let y = exp2(log2(x) * exponent);
    if x < f32::MIN_POSITIVE { 0.0 } else { y }
}

/// Base-2 logarithm of a positive normal number: the exponent's bits, plus a series in s = (m - 1) / (m + 1) for
/// a mantissa m between sqrt(1/2) and sqrt(2). The relative error of the series is below 1.3e-7. The constants
/// here and below are least-maximum fits.
#[inline(always)]
fn log2(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits();
    let exponent = (bits.wrapping_sub(SQRT_HALF) as i32) >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let t = s * s;
    exponent as f32 + s * (2.885_390_5 + t * (0.961_588_3 + t * 0.595_780_8))
}

/// 2 to the power x for x up to 126, with a relative error below 2e-7; a tiny number for x below -126.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    let f = x - (shifted - ROUND);
    // 2^f for |f| <= 1/2, summed in pairs: a shorter chain of operations than Horner's.
    let square = f * f;
    let high = 0.055_507_336 + f * 0.009_671_513 + square * 0.001_326_472_7;
    let series = 1.0 + f * (0.693_147 + f * 0.240_222_42 + square * high);
    f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Adds `deviation` times the noise field named by `key` and `channel`; voxels are named by their offset from
/// the patch centre (rounded down), so that patches of several sizes about one centre agree.
pub(super) fn noise(voxels: &mut [f32], patch: [usize; 3], deviation: f32, key: u64, channel: usize) {
    let [_, y, z] = patch;
    let centre = patch.map(|edge| (edge / 2) as u32);
    wide(
        #[inline(always)]
        move || {
            for (index, row) in voxels.chunks_exact_mut(z).enumerate() {
                let i = ((index / y) as u32).wrapping_sub(centre[0]);
                let j = ((index % y) as u32).wrapping_sub(centre[1]);
                let (a, b) = row_key(key, channel as u32, i, j);
                let first = 0_u32.wrapping_sub(centre[2]);
                for (k, voxel) in row.iter_mut().enumerate() {
                    *voxel += deviation * gaussian(a, b, first.wrapping_add(k as u32));
                }
            }
        },
    );
}

/// The standard normal number at an offset from the patch centre in the noise field (key, channel).
pub fn normal(key: u64, channel: usize, offset: [i32; 3]) -> f32 {
    let (a, b) = row_key(key, channel as u32, offset[0] as u32, offset[1] as u32);
    gaussian(a, b, offset[2] as u32)
}

/// Two words from the name of a row, by SplitMix64 (Steele et al. 2014).
fn row_key(key: u64, channel: u32, i: u32, j: u32) -> (u32, u32) {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let row = mix(mix(mix(key) ^ u64::from(channel)) ^ (u64::from(i) << 32 | u64::from(j)));
    ((row >> 32) as u32, row as u32)
}

/// A standard normal number from a row's two words and a position in it: Box and Muller (1958) on two hashed
/// words, each of which has 24 bits, so that no value lies beyond 5.9.
#[inline(always)]
fn gaussian(a: u32, b: u32, k: u32) -> f32 {
    // The 32-bit finaliser of Wellons' hash prospector ("lowbias32").
    #[inline(always)]
    fn mix(mut x: u32) -> u32 {
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    }
    let first = mix(k.wrapping_mul(0x9e37_79b9) ^ a);
    let second = mix(first ^ b);
    const UNIT: f32 = 1.0 / (1 << 24) as f32;
    // In (0, 1): the logarithm is finite.
    let u = ((first >> 8) as i32 as f32 + 0.5) * UNIT;
    let radius = (log2(u) * (-2.0 * std::f32::consts::LN_2)).sqrt();
    // cos(pi v) for v in [-1, 1) is sin(pi w), odd in w = 1/2 - |v|; relative error below 1e-6.
    let v = ((second >> 8) as i32 as f32) * (2.0 * UNIT) - 1.0;
    let w = 0.5 - v.abs();
    let t = w * w;
    let sine = w * ((3.141_589_6 - t * 5.167_368) + t * t * (2.543_604_9 - t * 0.558_396));
    radius * sine
}
