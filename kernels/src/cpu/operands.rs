//! The operands of products: f32, or rounded to bf16, and how they lie in memory.

use super::buffer::Shared;
use crate::path::Path;
use crate::precision::Precision;
use crate::settings::Settings;

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
    /// The operands of the path in the precision of the settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        match settings.precision() {
            Precision::F32 => Self::Single,
            Precision::Bf16 if settings.path() == Path::Avx512 && has_products() => Self::Pairs,
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

pub(super) fn has_products() -> bool {
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
pub(super) fn bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    // Rounding could carry the payload of a value that is not a number into its sign.
    if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    f32::from_bits(u32::from(bits(value)) << 16)
}

/// A word of two values: the first in its lower half.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(u32::from(bits(first)) | (u32::from(bits(second)) << 16))
}

/// Rounds one weight and puts it where term `term` of column `column` belongs in rows of `group` columns from `first`.
///
/// # Safety
/// The place is not otherwise in use; with pairs the place of an odd number of terms holds zeros at first.
pub(crate) unsafe fn store_weight(
    operands: Operands,
    (to, first): (Shared<'_, f32>, usize),
    (term, column, group): (usize, usize, usize),
    weight: f32,
) {
    let word = if operands == Operands::Pairs { term / 2 } else { term };
    let place = first + word * group + column;
    assert!(place < to.len());
    let to = to.at(place);
    // SAFETY: the place exists, and the caller promises that it is not otherwise in use.
    unsafe {
        match operands {
            Operands::Single => *to = weight,
            Operands::Rounded => *to = round(weight),
            Operands::Pairs => *to.cast::<u16>().add(term % 2) = bits(weight),
        }
    }
}

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
}
