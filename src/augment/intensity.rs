//! Pointwise changes of one channel of a patch, many of them in one pass over the voxels.
//!
//! Loops are written so that they vectorise, and contain no fused multiply-add and no sum whose order depends
//! on the vector width: every instruction set gives the same bits.

use super::Side;
use crate::image::vectorised::vectorised;

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

/// A change of one voxel by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Point<'a> {
    /// `x * factor`.
    Multiply(f32),
    /// `x * factor + shift`.
    Linear { factor: f32, shift: f32 },
    /// `(x - mean) * factor + mean` within a range.
    Stretch { mean: f32, factor: f32, low: f32, high: f32 },
    /// `((x * sign - origin) * scale)` within \[0, 1\], to a power.
    Power { sign: f32, origin: f32, scale: f32, exponent: f32 },
    /// `x + deviation * n`, n from the noise field of a row.
    Noise { deviation: f32, key: u64, channel: usize },
    /// `value`.
    Constant(f32),
    /// 0 where the voxel of the mask is.
    Keep(&'a [u8]),
}

/// Where the voxels of a grid lie about the patch centre.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Voxels along x, y, z.
    pub(super) shape: [usize; 3],
    /// Offset of voxel (0, 0, 0) from the patch centre (rounded down), image voxels.
    pub(super) first: [i64; 3],
    /// Image voxels from one voxel of the grid to the next.
    pub(super) stride: [usize; 3],
}

/// One channel of a patch on one grid, and changes that still have to be made: they wait until something
/// must see the result, and are then made together in one pass.
#[derive(Debug)]
pub(super) struct Fused<'a> {
    voxels: &'a mut [f32],
    place: Place,
    pending: Vec<Point<'a>>,
}

impl<'a> Fused<'a> {
    pub(super) fn new(voxels: &'a mut [f32], place: Place) -> Self {
        assert_eq!(voxels.len(), place.shape.iter().product::<usize>(), "voxels of the grid");
        Self { voxels, place, pending: Vec::new() }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn push(&mut self, point: Point<'a>) {
        self.pending.push(point);
    }

    /// Makes the waiting changes and hands the voxels out.
    pub(super) fn voxels(&mut self) -> &mut [f32] {
        if !self.pending.is_empty() {
            self.pass(|_| {});
        }
        self.voxels
    }

    /// Makes the waiting changes and measures the result.
    pub(super) fn measure(&mut self) -> Statistics {
        let mut sums = Sums::new();
        let (mut low, mut high) = (i32::MAX, i32::MIN);
        self.pass(
            #[inline(always)]
            |block| {
                sums.add(block);
                for &value in block {
                    low = low.min(order(value));
                    high = high.max(order(value));
                }
            },
        );
        let (mean, deviation) = sums.mean_and_deviation(self.voxels.len());
        Statistics { mean, deviation, low: unorder(low), high: unorder(high) }
    }

    /// Makes the waiting changes and gives mean and deviation of the result.
    pub(super) fn moments(&mut self) -> (f64, f64) {
        let mut sums = Sums::new();
        self.pass(
            #[inline(always)]
            |block| sums.add(block),
        );
        sums.mean_and_deviation(self.voxels.len())
    }

    /// Goes over the voxels once, by whole rows: makes the waiting changes, then shows the block.
    #[inline(always)]
    fn pass(&mut self, mut see: impl FnMut(&[f32])) {
        let (place, pending) = (self.place, std::mem::take(&mut self.pending));
        let row = place.shape[2].max(1);
        let rows = (BLOCK / row).max(1);
        let voxels = &mut *self.voxels;
        vectorised(
            #[inline(always)]
            || {
                for (number, block) in voxels.chunks_mut(rows * row).enumerate() {
                    for point in &pending {
                        point.apply(block, &place, number * rows);
                    }
                    see(block);
                }
            },
        );
    }
}

impl Point<'_> {
    /// Changes a block of whole rows, the first of which is row `row` of the grid.
    #[inline(always)]
    fn apply(&self, block: &mut [f32], place: &Place, row: usize) {
        match *self {
            Self::Noise { deviation, key, channel } => add_noise(block, place, row, deviation, key, channel),
            Self::Keep(kept) => {
                let kept = &kept[row * place.shape[2]..];
                for (voxel, kept) in block.iter_mut().zip(kept) {
                    *voxel = if *kept == 0 { 0.0 } else { *voxel };
                }
            }
            _ => self.apply_to_values(block),
        }
    }

    /// Changes values that have no place; [`Point::Noise`] and [`Point::Keep`] leave them as they are.
    #[inline(always)]
    pub(super) fn apply_to_values(&self, values: &mut [f32]) {
        match *self {
            Self::Multiply(factor) => values.iter_mut().for_each(|x| *x *= factor),
            Self::Linear { factor, shift } => values.iter_mut().for_each(|x| *x = *x * factor + shift),
            Self::Stretch { mean, factor, low, high } => {
                values.iter_mut().for_each(|x| *x = clamp((*x - mean) * factor + mean, low, high));
            }
            Self::Power { sign, origin, scale, exponent } => {
                let change = |x: f32| power(clamp((x * sign - origin) * scale, 0.0, 1.0), exponent);
                values.iter_mut().for_each(|x| *x = change(*x));
            }
            Self::Constant(value) => values.fill(value),
            Self::Noise { .. } | Self::Keep(_) => {}
        }
    }
}

/// `f32::clamp` without its panic on an empty range, so that it vectorises.
#[inline(always)]
pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// The smallest range and deviation that are divided by.
const LEAST: f32 = 1e-7;

/// The power of [`super::Op::Gamma`] for an image of this range.
pub(super) fn gamma_power(range: [f32; 2], exponent: f32, side: Side) -> Point<'static> {
    let [low, high] = range;
    // The inverted image is x' = -x: its lowest value is -high, and (x' - low') / range = (high - x) / range.
    let (sign, origin) = match side {
        Side::Direct => (1.0, low),
        Side::Inverted => (-1.0, -high),
    };
    Point::Power { sign, origin, scale: 1.0 / (high - low).max(LEAST), exponent }
}

/// Takes the powers back to the range, and to the mean and deviation from before where they are kept: `powers`
/// are the mean and deviation of what [`gamma_power`] made.
pub(super) fn gamma_back(
    range: [f32; 2],
    side: Side,
    before: Option<&Statistics>,
    powers: (f64, f64),
) -> Point<'static> {
    let [low, high] = range;
    let width = f64::from(high - low);
    let sign = if side == Side::Direct { 1.0 } else { -1.0 };
    let Some(before) = before else {
        let origin = if side == Side::Direct { low } else { high };
        return Point::Linear { factor: (sign * width) as f32, shift: origin };
    };
    let (mean, deviation) = powers;
    // In units of the image: mean and deviation of `power * range + origin`.
    let stretch = before.deviation / (deviation * width).max(f64::from(LEAST));
    let factor = width * stretch * sign;
    Point::Linear { factor: factor as f32, shift: (before.mean - mean * factor) as f32 }
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
#[expect(clippy::approx_constant, reason = "a coefficient of the fitted polynomial, which is not ln 2")]
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

/// Adds `deviation` times the noise field named by `key` and `channel` to rows of a grid from row `row` on;
/// voxels are named by their offset from the patch centre (rounded down), so that grids of all sizes and strides
/// about one centre agree.
#[inline(always)]
fn add_noise(block: &mut [f32], place: &Place, row: usize, deviation: f32, key: u64, channel: usize) {
    let offset = |axis: usize, at: usize| (place.first[axis] + (at * place.stride[axis]) as i64) as u32;
    let (first, stride) = (place.first[2] as u32, place.stride[2] as u32);
    for (index, voxels) in block.chunks_exact_mut(place.shape[2]).enumerate() {
        let row = row + index;
        let (i, j) = (offset(0, row / place.shape[1]), offset(1, row % place.shape[1]));
        let (a, b) = row_key(key, channel as u32, i, j);
        for (k, voxel) in voxels.iter_mut().enumerate() {
            *voxel += deviation * gaussian(a, b, first.wrapping_add(stride.wrapping_mul(k as u32)));
        }
    }
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
