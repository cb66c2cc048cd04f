//! What the products are computed by, in words.

use crate::cpu::blocking::has_matrix_tiles;
use crate::cpu::operands::Operands;
use crate::path::{Path, selected};
use crate::precision::{Precision, precision};

/// How the precision is got on the selected path: by instructions of the processor or by rounding.
pub fn precision_note() -> &'static str {
    let path = selected();
    match (precision(), Operands::of(path)) {
        (Precision::Bf16, _) if path == Path::Stock => {
            "bf16 has no effect on the path `stock`: f32 arithmetic"
        }
        (_, Operands::Single) => "f32 arithmetic",
        (_, Operands::Pairs) if has_matrix_tiles() => {
            "bf16 products with f32 sums by the processor's matrix tiles and instructions (AMX, AVX512-BF16)"
        }
        (_, Operands::Pairs) => "bf16 products with f32 sums by the processor's instructions (AVX512-BF16)",
        (_, Operands::Rounded) => {
            "operands rounded to bf16, f32 arithmetic: no faster than f32, because the path has no bf16 instructions \
             on this processor"
        }
    }
}
