//! Vectors of f32 for loops that are written once for all instruction sets.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::operands;
use crate::path::Path;

/// A vector register.
///
/// # Safety
/// Every function needs the instructions of the vector, hence a caller compiled for them.
pub(super) trait Vector: Copy {
    const LANES: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// Lane by lane: `self > 0 ? positive : other`.
    unsafe fn choose(self, positive: Self, other: Self) -> Self;

    /// The lanes as an array.
    #[inline(always)]
    unsafe fn lanes(self) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: no vector has more than 16 lanes; the caller has the instructions.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }

    /// Stores the lanes as bf16, side by side.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: the caller has the instructions and a valid address.
        unsafe {
            let lanes = self.lanes();
            for lane in 0..Self::LANES {
                to.add(lane).write_unaligned(operands::bits(lanes[lane]));
            }
        }
    }

    /// Stores the lanes as bf16 in the lower halves of words, and zeros in the upper halves.
    #[inline(always)]
    unsafe fn store_lower(self, to: *mut u32) {
        // SAFETY: the caller has the instructions and a valid address.
        unsafe {
            let lanes = self.lanes();
            for lane in 0..Self::LANES {
                to.add(lane).write_unaligned(u32::from(operands::bits(lanes[lane])));
            }
        }
    }

    /// Stores the lanes as bf16 in the upper halves of words, which must be zeros, and keeps the lower halves.
    #[inline(always)]
    unsafe fn store_upper(self, to: *mut u32) {
        // SAFETY: the caller has the instructions and a valid address.
        unsafe {
            let lanes = self.lanes();
            for lane in 0..Self::LANES {
                let to = to.add(lane);
                to.write_unaligned(to.read_unaligned() | (u32::from(operands::bits(lanes[lane])) << 16));
            }
        }
    }
}

/// Implements [`Vector`] by one expression per operation.
#[cfg(target_arch = "x86_64")]
macro_rules! vector {
    ($type:ty, $lanes:literal, $zero:expr, $load:expr, $store:expr, $add:expr, $sub:expr, $mul:expr,
     $choose:expr $(, $more:item)*) => {
        impl Vector for $type {
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller has the instructions.
                unsafe { $zero }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller has the instructions and a valid address.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller has the instructions and a valid address.
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: the caller has the instructions.
                unsafe { $add(self, other) }
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                // SAFETY: the caller has the instructions.
                unsafe { $sub(self, other) }
            }
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                // SAFETY: the caller has the instructions.
                unsafe { $mul(self, other) }
            }
            #[inline(always)]
            unsafe fn choose(self, positive: Self, other: Self) -> Self {
                // SAFETY: the caller has the instructions.
                unsafe { $choose(self, positive, other) }
            }
            $($more)*
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector!(
    __m512,
    16,
    _mm512_setzero_ps(),
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    |value, positive, other| {
        let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, _mm512_setzero_ps());
        _mm512_mask_blend_ps(mask, other, positive)
    },
    // The conversions are only taken where the processor has AVX512-BF16.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: the caller has the instructions and a valid address.
        unsafe { _mm256_storeu_si256(to.cast(), halves(self)) }
    },
    #[inline(always)]
    unsafe fn store_lower(self, to: *mut u32) {
        // SAFETY: the caller has the instructions and a valid address.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_cvtepu16_epi32(halves(self))) }
    },
    #[inline(always)]
    unsafe fn store_upper(self, to: *mut u32) {
        // SAFETY: the caller has the instructions and a valid address.
        unsafe {
            let upper = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves(self)));
            let both = _mm512_or_si512(upper, _mm512_loadu_si512(to.cast_const().cast()));
            _mm512_storeu_si512(to.cast(), both);
        }
    }
);

/// The lanes as bf16.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn halves(values: __m512) -> __m256i {
    // SAFETY: the caller has the instructions; the two types are the same 32 bytes.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) }
}

#[cfg(target_arch = "x86_64")]
vector!(
    __m256,
    8,
    _mm256_setzero_ps(),
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    |value, positive, other| {
        let mask = _mm256_cmp_ps::<_CMP_GT_OQ>(value, _mm256_setzero_ps());
        _mm256_blendv_ps(other, positive, mask)
    }
);

impl Vector for [f32; 8] {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has a valid address.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has a valid address.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn choose(self, positive: Self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] > 0.0 { positive[i] } else { other[i] })
    }
}

/// The vectors of the path that has bf16 products.
#[cfg(target_arch = "x86_64")]
pub(super) type Widest = std::arch::x86_64::__m512;
#[cfg(not(target_arch = "x86_64"))]
pub(super) type Widest = [f32; 8];

/// Neighbouring positions that loops over (position, channel) treat as one, so that few or odd channels fill whole vectors too.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) positions: usize,
}

impl Row {
    /// Values of the longest row of several positions: its constants stay in the nearest memory.
    const MOST_VALUES: usize = 512;

    pub(super) fn of(path: Path, channels: usize) -> Self {
        let lanes = path.lanes();
        // The fewest positions of which the channels are whole vectors: lanes / gcd(lanes, channels), lanes being a power of
        // two.
        let positions = lanes / (1 << channels.trailing_zeros().min(lanes.trailing_zeros()));
        Self { positions: if positions * channels <= Self::MOST_VALUES { positions } else { 1 } }
    }

    /// Constants of the channels, once for each position of a row.
    pub(super) fn constants(self, channels: &[f32]) -> Vec<f32> {
        channels.repeat(self.positions)
    }
}

/// Runs a loop compiled for the instructions of `path`: the compiler vectorises one text for each. It may not fuse
/// multiplications with additions, so that the results are the same bit for bit.
#[inline(always)]
pub(super) fn vectorise<R>(path: Path, work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        match path {
            // SAFETY: a path is only selected where the processor has its instructions.
            Path::Avx512 => return unsafe { avx512(work) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(work) },
            Path::Portable => {}
        }
    }
    let _ = path;
    work()
}

/// Defines `fn $name(path, arguments)` that runs `$body::<V>` compiled for the vector `V` of the path.
macro_rules! for_each_path {
    ($visibility:vis $name:ident, $body:ident $(<$extra:ty>)?, ($($argument:ident: $type:ty),*)) => {
        /// # Safety
        /// As the function that it runs; and the processor has the instructions of the path.
        #[expect(clippy::too_many_arguments, reason = "the arguments of one loop")]
        #[allow(unfulfilled_lint_expectations, reason = "some have few arguments")]
        $visibility unsafe fn $name(path: $crate::path::Path, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                #[allow(clippy::too_many_arguments, reason = "the arguments of one loop")]
                unsafe fn avx512($($argument: $type),*) {
                    // SAFETY: as the caller's.
                    unsafe { $body::<std::arch::x86_64::__m512 $(, $extra)?>($($argument),*) }
                }
                #[target_feature(enable = "avx2")]
                #[allow(clippy::too_many_arguments, reason = "the arguments of one loop")]
                unsafe fn avx2($($argument: $type),*) {
                    // SAFETY: as the caller's.
                    unsafe { $body::<std::arch::x86_64::__m256 $(, $extra)?>($($argument),*) }
                }
                match path {
                    // SAFETY: as the caller's.
                    $crate::path::Path::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as the caller's.
                    $crate::path::Path::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::path::Path::Portable => {}
                }
            }
            let _ = path;
            // SAFETY: as the caller's.
            unsafe { $body::<[f32; 8] $(, $extra)?>($($argument),*) }
        }
    };
}
pub(super) use for_each_path;

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    #[test]
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
        if !operands::has_products() {
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
                let expected = operands::bits(value);
                assert_eq!(side_by_side[i], expected, "{value}");
                assert_eq!(halves[i], u32::from(expected) * 0x1_0001, "{value}");
            }
        }
    }
}
