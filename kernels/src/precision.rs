//! The precision of the products in convolutions.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

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
