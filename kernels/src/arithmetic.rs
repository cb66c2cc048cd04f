//! What computes the products of convolutions, in words.

use crate::cpu::blocking::has_matrix_tiles;
use crate::cpu::operands::Operands;
use crate::settings::Settings;

impl Settings {
    /// How the precision is got on the path: by instructions of the processor or by rounding.
    pub fn arithmetic(&self) -> &'static str {
        match Operands::of(self) {
            Operands::Single => "f32 arithmetic",
            Operands::Pairs if has_matrix_tiles(self) => {
                "bf16 products with f32 sums by the processor's matrix tiles and instructions (AMX, AVX512-BF16)"
            }
            Operands::Pairs => "bf16 products with f32 sums by the processor's instructions (AVX512-BF16)",
            Operands::Rounded => {
                "operands rounded to bf16, f32 arithmetic: no faster than f32, because the path has no bf16 \
                 instructions on this processor"
            }
        }
    }
}
