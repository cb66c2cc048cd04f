//! Transposition of the channels and positions of a line, for products that sum over positions by matrix tiles.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Rounds the channels of a line (position, channel) to bf16 and lays the positions side by side: `to` is (channel, word
/// of two positions). Its position `p` is `first + p step` of the line, or zero beyond the ends of the line. The caller
/// has [`super::operands::Operands::Pairs`].
pub(super) fn side_by_side(
    line: &[f32],
    channels: usize,
    (first, step): (isize, usize),
    words: usize,
    to: &mut [f32],
) {
    assert!(to.len() == channels * words && line.len().is_multiple_of(channels));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `Operands::of` says pairs only where the processor has the instructions; the sizes were checked.
    unsafe {
        by_vectors(line, channels, (first, step), words, to);
    }
    #[cfg(not(target_arch = "x86_64"))]
    one_by_one(line, channels, (first, step), words, to);
}

/// The position of the line that position `p` is, if it is there.
#[inline(always)]
fn inside(positions: usize, (first, step): (isize, usize), p: usize) -> Option<usize> {
    usize::try_from(first + (p * step) as isize).ok().filter(|&position| position < positions)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(line: &[f32], channels: usize, places: (isize, usize), words: usize, to: &mut [f32]) {
    let positions = line.len() / channels;
    for (channel, row) in to.chunks_exact_mut(words).enumerate() {
        for (word, to) in row.iter_mut().enumerate() {
            let half = |p| {
                inside(positions, places, p)
                    .map_or(0, |at| super::operands::bits(line[at * channels + channel]))
            };
            *to = f32::from_bits(u32::from(half(2 * word)) | (u32::from(half(2 * word + 1)) << 16));
        }
    }
}

/// 16 channels of 16 positions at a time.
///
/// # Safety
/// The processor has the instructions, and `to` has `words` words for each channel.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn by_vectors(line: &[f32], channels: usize, places: (isize, usize), words: usize, to: &mut [f32]) {
    const SIDE: usize = 16;
    let positions = line.len() / channels;
    debug_assert!(to.len() == channels * words);
    let to = to.as_mut_ptr().cast::<u16>();
    for channel in (0..channels).step_by(SIDE) {
        let count = SIDE.min(channels - channel);
        let lanes = u16::MAX >> (SIDE - count);
        for p in (0..2 * words).step_by(SIDE) {
            let mut square = [_mm512_setzero_ps(); SIDE];
            for (i, row) in square.iter_mut().enumerate() {
                if let Some(at) = inside(positions, places, p + i) {
                    debug_assert!(at * channels + channel + count <= line.len());
                    // SAFETY: the lanes of the mask are channels of a position of the line.
                    *row =
                        unsafe { _mm512_maskz_loadu_ps(lanes, line.as_ptr().add(at * channels + channel)) };
                }
            }
            let square = transposed(square);
            let wanted = u16::MAX >> (SIDE - SIDE.min(2 * words - p));
            for (i, column) in square.into_iter().enumerate().take(count) {
                // SAFETY: the lanes of the mask are positions of a channel; both types are the same 32 bytes.
                unsafe {
                    let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(column));
                    _mm256_mask_storeu_epi16(to.add((channel + i) * 2 * words + p).cast(), wanted, halves);
                }
            }
        }
    }
}

/// The transpose of a square of 16 x 16 values: pairs of rows, fours, and the quarters of the vectors, twice.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512; 16]) -> [__m512; 16] {
    let mut pairs = rows;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    // Quarter q of vector 4 i + k is column 4 q + k of rows 4 i to 4 i + 3.
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        let [a, b, c, d] = [pairs[i], pairs[i + 1], pairs[i + 2], pairs[i + 3]].map(|v| _mm512_castps_pd(v));
        fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    let mut columns = fours;
    for k in 0..4 {
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        let (upper_even, upper_odd) = (
            _mm512_shuffle_f32x4::<EVEN>(fours[k], fours[4 + k]),
            _mm512_shuffle_f32x4::<ODD>(fours[k], fours[4 + k]),
        );
        let (lower_even, lower_odd) = (
            _mm512_shuffle_f32x4::<EVEN>(fours[8 + k], fours[12 + k]),
            _mm512_shuffle_f32x4::<ODD>(fours[8 + k], fours[12 + k]),
        );
        columns[k] = _mm512_shuffle_f32x4::<EVEN>(upper_even, lower_even);
        columns[8 + k] = _mm512_shuffle_f32x4::<ODD>(upper_even, lower_even);
        columns[4 + k] = _mm512_shuffle_f32x4::<EVEN>(upper_odd, lower_odd);
        columns[12 + k] = _mm512_shuffle_f32x4::<ODD>(upper_odd, lower_odd);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_the_positions_of_a_channel() {
        // (position, channel) = 10 position + channel; from -1 in steps of 2 these are -1, 1, 3, 5.
        let line = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0, 30.0, 31.0];
        let mut to = [f32::NAN; 4];
        one_by_one(&line, 2, (-1, 2), 2, &mut to);
        let halves = |word: f32| [word.to_bits() << 16, word.to_bits() & 0xffff_0000].map(f32::from_bits);
        assert_eq!(to.map(halves), [[0.0, 10.0], [30.0, 0.0], [0.0, 11.0], [31.0, 0.0]]);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vectors_do_as_single_values() {
        if !has_instructions() {
            println!("skipped: this processor has no AVX512-BF16");
            return;
        }
        for channels in [1, 4, 15, 16, 17, 33] {
            for (positions, places, words) in
                [(1, (0, 1), 1), (9, (-1, 1), 7), (40, (2, 1), 16), (33, (-2, 3), 17)]
            {
                let line = (0..positions * channels).map(|i| 1.0 + i as f32 / 64.0).collect::<Vec<_>>();
                let mut results = [vec![f32::NAN; channels * words], vec![f32::NAN; channels * words]];
                one_by_one(&line, channels, places, words, &mut results[0]);
                side_by_side(&line, channels, places, words, &mut results[1]);
                let [expected, result] =
                    results.map(|words| words.into_iter().map(f32::to_bits).collect::<Vec<_>>());
                assert_eq!(result, expected, "{channels} channels, {positions} positions, {places:?}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn has_instructions() -> bool {
        is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16")
    }
}
