//! Lines of an array (position, channel) as operands of products.

use super::operands::{Operands, pair, round};
use super::simd::{Vector, Widest, vectorise};
use crate::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
