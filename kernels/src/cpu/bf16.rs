//! bf16 operands of products: rounding, and how they lie in memory.

use super::simd::Vector;
use super::vectorise;
use crate::Path;
use crate::precision::{Precision, precision};

/// What the operands of a product are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operands {
    /// f32.
    Single,
    /// f32 rounded to bf16, where the processor has no bf16 products.
    Rounded,
    /// Words of two bf16: the values of two successive terms of a sum.
    Pairs,
}

impl Operands {
    /// The operands of the path in the precision that is set.
    pub(crate) fn of(path: Path) -> Self {
        match precision() {
            Precision::F32 => Self::Single,
            Precision::Bf16 if path == Path::Avx512 && has_products() => Self::Pairs,
            Precision::Bf16 => Self::Rounded,
        }
    }

    /// Words per `terms` terms of a sum.
    pub(crate) fn words(self, terms: usize) -> usize {
        if self == Self::Pairs { terms.div_ceil(2) } else { terms }
    }

    /// The layout of an array (position, channel) of which products are summed over the channels.
    pub(crate) fn along_channels(self) -> Layout {
        match self {
            Self::Single => Layout::Single,
            Self::Rounded => Layout::Rounded,
            Self::Pairs => Layout::AlongChannels,
        }
    }

    /// The layout of an array (position, channel) of which products are summed over the positions.
    pub(crate) fn along_positions(self) -> Layout {
        match self {
            Self::Single => Layout::Single,
            Self::Rounded => Layout::Rounded,
            Self::Pairs => Layout::AlongPositions,
        }
    }
}

fn has_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// How an array (position, channel) of operands lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// f32.
    Single,
    /// f32 rounded to bf16.
    Rounded,
    /// Words of two neighbouring channels.
    AlongChannels,
    /// Words of one channel of two neighbouring positions.
    AlongPositions,
}

impl Layout {
    /// Words of `positions` positions of `channels` channels, an even number of them.
    pub(crate) fn words(self, positions: usize, channels: usize) -> usize {
        match self {
            Self::Single | Self::Rounded => positions * channels,
            Self::AlongChannels => positions * channels / 2,
            Self::AlongPositions => positions.div_ceil(2) * channels,
        }
    }
}

/// The nearest bf16, of two that are equally near the even one.
#[inline(always)]
pub(crate) fn bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    // Rounding could carry the payload of a value that is not a number into its sign.
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

#[inline(always)]
fn round(value: f32) -> f32 {
    f32::from_bits(u32::from(bits(value)) << 16)
}

/// A word of two values: the first in its lower half.
#[inline(always)]
fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(u32::from(bits(first)) | (u32::from(bits(second)) << 16))
}

/// Converts a line of positions, of which products are summed over the channels: words of neighbouring channels, each
/// position filled up with a zero.
pub(crate) fn line_along_channels(blocking: (Path, Operands), line: &[f32], channels: usize, to: &mut [f32]) {
    let (path, operands) = blocking;
    vectorise(path, || match operands {
        Operands::Single => to.copy_from_slice(line),
        Operands::Rounded => to.iter_mut().zip(line).for_each(|(to, value)| *to = round(*value)),
        Operands::Pairs if channels.is_multiple_of(2) => neighbours(line, to),
        Operands::Pairs => {
            let positions = to.chunks_exact_mut(channels.div_ceil(2)).zip(line.chunks_exact(channels));
            for (to, values) in positions {
                for (to, values) in to.iter_mut().zip(values.chunks(2)) {
                    *to = pair(values[0], values.get(1).copied().unwrap_or(0.0));
                }
            }
        }
    });
}

/// Converts a line of positions, of which products are summed over every `step`-th position: each position's words hold
/// its channels and those of the position a step on, zeros beyond the end.
pub(crate) fn line_with_next(
    blocking: (Path, Operands),
    line: &[f32],
    (channels, step): (usize, usize),
    to: &mut [f32],
) {
    let (path, operands) = blocking;
    vectorise(path, || match operands {
        Operands::Single => to.copy_from_slice(line),
        Operands::Rounded => to.iter_mut().zip(line).for_each(|(to, value)| *to = round(*value)),
        Operands::Pairs => {
            let shift = (channels * step).min(line.len());
            let (first, last) = to.split_at_mut(line.len() - shift);
            pairs(line, &line[shift..], first);
            for (to, value) in last.iter_mut().zip(&line[line.len() - shift..]) {
                *to = pair(*value, 0.0);
            }
        }
    });
}

/// Converts a line of positions of `columns` columns, of which products are summed over the positions: to rows of
/// `padded` columns, one per position or per two positions.
pub(crate) fn line_of_columns(
    blocking: (Path, Operands),
    line: &[f32],
    (columns, padded): (usize, usize),
    to: &mut [f32],
) {
    let (path, operands) = blocking;
    let positions = if operands == Operands::Pairs { 2 } else { 1 };
    vectorise(path, || {
        for (to, values) in to.chunks_exact_mut(padded).zip(line.chunks(positions * columns)) {
            let (first, second) = values.split_at(columns);
            let (to, rest) = to.split_at_mut(columns);
            rest.fill(0.0);
            match operands {
                Operands::Single => to.copy_from_slice(first),
                Operands::Rounded => to.iter_mut().zip(first).for_each(|(to, value)| *to = round(*value)),
                Operands::Pairs if second.is_empty() => {
                    to.iter_mut().zip(first).for_each(|(to, value)| *to = pair(*value, 0.0));
                }
                Operands::Pairs => pairs(first, second, to),
            }
        }
    });
}

/// Defines a function that runs `$body::<Widest>` with the processor's own conversion. Its callers have
/// [`Operands::Pairs`].
macro_rules! converting {
    ($name:ident, $body:ident, ($($argument:ident: $type:ty),*)) => {
        fn $name($($argument: $type),*) {
            #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16"))]
            unsafe fn converting($($argument: $type),*) {
                // SAFETY: compiled for the instructions of the vector.
                unsafe { $body::<Widest>($($argument),*) }
            }
            // SAFETY: `Operands::of` says pairs only where the processor has the instructions.
            unsafe { converting($($argument),*) }
        }
    };
}

converting!(pairs, pairs_body, (first: &[f32], second: &[f32], to: &mut [f32]));
converting!(neighbours, neighbours_body, (line: &[f32], to: &mut [f32]));

/// Makes words of every value of `first` and that of the same place in `second`.
///
/// # Safety
/// The caller has the instructions of the vector.
#[inline(always)]
unsafe fn pairs_body<V: Vector>(first: &[f32], second: &[f32], to: &mut [f32]) {
    let length = to.len().min(first.len()).min(second.len());
    let whole = length - length % V::LANES;
    for i in (0..whole).step_by(V::LANES) {
        // SAFETY: a whole vector from `i` on is inside all three; the first store leaves zeros for the second.
        unsafe {
            let to = to.as_mut_ptr().add(i).cast();
            V::load(first.as_ptr().add(i)).store_lower(to);
            V::load(second.as_ptr().add(i)).store_upper(to);
        }
    }
    for i in whole..length {
        to[i] = pair(first[i], second[i]);
    }
}

/// Makes words of every two neighbouring values.
///
/// # Safety
/// The caller has the instructions of the vector.
#[inline(always)]
unsafe fn neighbours_body<V: Vector>(line: &[f32], to: &mut [f32]) {
    let values = 2 * to.len().min(line.len() / 2);
    let whole = values - values % V::LANES;
    for i in (0..whole).step_by(V::LANES) {
        // SAFETY: a whole vector from `i` on is inside the line, and half a vector of words inside `to`.
        unsafe { V::load(line.as_ptr().add(i)).store_bf16(to.as_mut_ptr().cast::<u16>().add(i)) };
    }
    for i in (whole..values).step_by(2) {
        to[i / 2] = pair(line[i], line[i + 1]);
    }
}

/// Rounds one weight and puts it where term `term` of column `column` belongs in rows of `group` columns from `to`.
///
/// # Safety
/// The place exists and is not otherwise in use; with pairs the place of an odd number of terms holds zeros at first.
pub(crate) unsafe fn store_weight(
    operands: Operands,
    to: *mut f32,
    (term, column, group): (usize, usize, usize),
    weight: f32,
) {
    // SAFETY: the place exists by the caller's promise.
    unsafe {
        match operands {
            Operands::Single => *to.add(term * group + column) = weight,
            Operands::Rounded => *to.add(term * group + column) = round(weight),
            Operands::Pairs => {
                let word = to.add(term / 2 * group + column);
                *word.cast::<u16>().add(term % 2) = bits(weight);
            }
        }
    }
}

/// Stores vectors of channels in one [`Layout`].
pub(super) trait Store {
    /// Stores the channels from `channel` of position `position` in an array of `channels` channels.
    ///
    /// # Safety
    /// The place exists; positions are stored in ascending order; the caller has the instructions of the vector.
    unsafe fn store<V: Vector>(value: V, to: *mut f32, channels: usize, position: usize, channel: usize);
}

pub(super) enum Single {}
pub(super) enum Rounded {}
pub(super) enum AlongChannels {}
pub(super) enum AlongPositions {}

impl Store for Single {
    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut f32, channels: usize, position: usize, channel: usize) {
        // SAFETY: the place exists by the caller's promise.
        unsafe { value.store(to.add(position * channels + channel)) }
    }
}

impl Store for Rounded {
    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut f32, channels: usize, position: usize, channel: usize) {
        // SAFETY: the place exists by the caller's promise.
        unsafe {
            let lanes = value.lanes().map(round);
            V::load(lanes.as_ptr()).store(to.add(position * channels + channel));
        }
    }
}

impl Store for AlongChannels {
    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut f32, channels: usize, position: usize, channel: usize) {
        // SAFETY: the place exists by the caller's promise.
        unsafe { value.store_bf16(to.cast::<u16>().add(position * channels + channel)) }
    }
}

impl Store for AlongPositions {
    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut f32, channels: usize, position: usize, channel: usize) {
        // SAFETY: the place exists by the caller's promise.
        unsafe {
            let to = to.cast::<u32>().add(position / 2 * channels + channel);
            if position.is_multiple_of(2) { value.store_lower(to) } else { value.store_upper(to) }
        }
    }
}

/// Defines `fn $name(path, layout, arguments)` that runs `$body::<V, S>` compiled for the vector of the path and the
/// layout.
macro_rules! for_each_layout {
    ($visibility:vis $name:ident, $body:ident, ($($argument:ident: $type:ty),*)) => {
        /// # Safety
        /// As the function that it runs; and the processor has the instructions of the path and, for words of two
        /// values, bf16 products.
        #[expect(clippy::too_many_arguments, reason = "the arguments of one loop")]
        #[allow(unfulfilled_lint_expectations, reason = "some have few arguments")]
        $visibility unsafe fn $name(path: Path, layout: Layout, $($argument: $type),*) {
            for_each_path!(single, $body<bf16::Single>, ($($argument: $type),*));
            for_each_path!(rounded, $body<bf16::Rounded>, ($($argument: $type),*));

            #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16"))]
            #[allow(clippy::too_many_arguments, reason = "the arguments of one loop")]
            unsafe fn along_channels($($argument: $type),*) {
                // SAFETY: as the caller's.
                unsafe { $body::<bf16::Widest, bf16::AlongChannels>($($argument),*) }
            }
            #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16"))]
            #[allow(clippy::too_many_arguments, reason = "the arguments of one loop")]
            unsafe fn along_positions($($argument: $type),*) {
                // SAFETY: as the caller's.
                unsafe { $body::<bf16::Widest, bf16::AlongPositions>($($argument),*) }
            }
            // SAFETY: as the caller's.
            unsafe {
                match layout {
                    Layout::Single => single(path, $($argument),*),
                    Layout::Rounded => rounded(path, $($argument),*),
                    Layout::AlongChannels => along_channels($($argument),*),
                    Layout::AlongPositions => along_positions($($argument),*),
                }
            }
        }
    };
}
pub(super) use for_each_layout;

/// The vectors of the path that has bf16 products.
#[cfg(target_arch = "x86_64")]
pub(super) type Widest = std::arch::x86_64::__m512;
#[cfg(not(target_arch = "x86_64"))]
pub(super) type Widest = [f32; 8];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_even() {
        for (value, expected) in [
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80),
            (1.0 + 3.0 / 256.0, 0x3f82),
            (1.0 + 1.01 / 256.0, 0x3f81),
            (-1.0 - 1.01 / 256.0, 0xbf81),
            (f32::MAX, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
            (0.0, 0),
        ] {
            assert_eq!(bits(value), expected, "{value}");
        }
        assert!(round(f32::from_bits(0x7fff_ffff)).is_nan() && round(f32::from_bits(0xff80_0001)).is_nan());
    }

    #[test]
    fn words_are_those_of_single_values() {
        for length in 0..40 {
            let values = (0..2 * length).map(|i| 1.0 + i as f32 / 300.0).collect::<Vec<_>>();
            let (first, second) = values.split_at(length);
            let mut words = [vec![0.0; length], vec![0.0; length]];
            // SAFETY: this vector needs no instructions.
            unsafe {
                pairs_body::<[f32; 8]>(first, second, &mut words[0]);
                neighbours_body::<[f32; 8]>(&values, &mut words[1]);
            }
            for i in 0..length {
                assert_eq!(words[0][i].to_bits(), pair(first[i], second[i]).to_bits());
                assert_eq!(words[1][i].to_bits(), pair(values[2 * i], values[2 * i + 1]).to_bits());
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_processor_rounds_as_we_do() {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        unsafe fn stores(values: &[f32; 16]) -> ([u16; 16], [u32; 16]) {
            let (mut side_by_side, mut halves) = ([0; 16], [0; 16]);
            // SAFETY: 16 values everywhere.
            unsafe {
                let vector = Widest::load(values.as_ptr());
                vector.store_bf16(side_by_side.as_mut_ptr());
                vector.store_lower(halves.as_mut_ptr());
                vector.store_upper(halves.as_mut_ptr());
            }
            (side_by_side, halves)
        }
        if !has_products() {
            println!("skipped: this processor has no AVX512-BF16");
            return;
        }
        for salt in 0..64_u32 {
            // Numbers of every size that is not denormal.
            let values = std::array::from_fn(|i| {
                let bits = (i as u32 * 977 + salt).wrapping_mul(2_654_435_761);
                f32::from_bits((bits & 0xbfff_ffff) | 0x0100_0000)
            });
            // SAFETY: the instructions were asked for above.
            let (side_by_side, halves) = unsafe { stores(&values) };
            for (i, value) in values.into_iter().enumerate() {
                let expected = bits(value);
                assert_eq!(side_by_side[i], expected, "{value}");
                assert_eq!(halves[i], u32::from(expected) * 0x1_0001, "{value}");
            }
        }
    }
}
