//! The precision of the products in convolutions.

use std::fmt;
use std::str::FromStr;

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
