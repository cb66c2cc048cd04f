//! Stores of vectors as operands of products, for loops that are written once for all layouts.

use super::operands::{Layout, round};
use super::simd::Vector;

/// Stores vectors of channels in one [`Layout`].
pub(super) trait Store {
    const LAYOUT: Layout;

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
    const LAYOUT: Layout = Layout::Single;

    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut f32, channels: usize, position: usize, channel: usize) {
        // SAFETY: the place exists by the caller's promise.
        unsafe { value.store(to.add(position * channels + channel)) }
    }
}

impl Store for Rounded {
    const LAYOUT: Layout = Layout::Rounded;

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
    const LAYOUT: Layout = Layout::AlongChannels;

    #[inline(always)]
    unsafe fn store<V: Vector>(value: V, to: *mut f32, channels: usize, position: usize, channel: usize) {
        // SAFETY: the place exists by the caller's promise.
        unsafe { value.store_bf16(to.cast::<u16>().add(position * channels + channel)) }
    }
}

impl Store for AlongPositions {
    const LAYOUT: Layout = Layout::AlongPositions;

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
        $visibility unsafe fn $name(path: $crate::path::Path, layout: $crate::cpu::operands::Layout, $($argument: $type),*) {
            $crate::cpu::simd::for_each_path!(single, $body<$crate::cpu::store::Single>, ($($argument: $type),*));
            $crate::cpu::simd::for_each_path!(rounded, $body<$crate::cpu::store::Rounded>, ($($argument: $type),*));

            #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16"))]
            #[allow(clippy::too_many_arguments, reason = "the arguments of one loop")]
            unsafe fn along_channels($($argument: $type),*) {
                // SAFETY: as the caller's.
                unsafe { $body::<$crate::cpu::simd::Widest, $crate::cpu::store::AlongChannels>($($argument),*) }
            }
            #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16"))]
            #[allow(clippy::too_many_arguments, reason = "the arguments of one loop")]
            unsafe fn along_positions($($argument: $type),*) {
                // SAFETY: as the caller's.
                unsafe { $body::<$crate::cpu::simd::Widest, $crate::cpu::store::AlongPositions>($($argument),*) }
            }
            // SAFETY: as the caller's.
            unsafe {
                match layout {
                    $crate::cpu::operands::Layout::Single => single(path, $($argument),*),
                    $crate::cpu::operands::Layout::Rounded => rounded(path, $($argument),*),
                    $crate::cpu::operands::Layout::AlongChannels => along_channels($($argument),*),
                    $crate::cpu::operands::Layout::AlongPositions => along_positions($($argument),*),
                }
            }
        }
    };
}
pub(super) use for_each_layout;
