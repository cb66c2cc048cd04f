//! The precision of the products in convolutions.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::cpu::bf16::Operands;
use crate::cpu::tile::has_matrix_tiles;
use crate::{Path, selected};

/// What the operands of the products in convolutions, transposed convolutions and their gradients are rounded to. Sums,
/// weights, activations, gradients and all other operators are f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Not rounded.
    F32,
    /// bf16: the exponent of f32 with 8 significant bits.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("unknown precision `{text}`; use one of f32, bf16")),
        }
    }
}

static BF16: AtomicU8 = AtomicU8::new(0);
static MATRIX_TILES: AtomicU8 = AtomicU8::new(1);

/// Allows products of bf16 by the processor's matrix tiles (AMX) from now on, or forbids them; at first they are
/// allowed. They are used if the processor has them, the system grants them and their products have been found right.
pub fn allow_matrix_tiles(allowed: bool) {
    MATRIX_TILES.store(u8::from(allowed), Ordering::Relaxed);
}

pub(crate) fn matrix_tiles_allowed() -> bool {
    MATRIX_TILES.load(Ordering::Relaxed) != 0
}

/// Sets the precision of all convolutions from now on, forward and backward, for the whole process; at first it is
/// f32. It has no effect on devices other than the CPU.
pub fn set_precision(precision: Precision) {
    BF16.store(u8::from(precision == Precision::Bf16), Ordering::Relaxed);
}

/// The precision that convolutions have now.
pub fn precision() -> Precision {
    if BF16.load(Ordering::Relaxed) == 0 { Precision::F32 } else { Precision::Bf16 }
}

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
