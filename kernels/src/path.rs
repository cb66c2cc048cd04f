//! The implementations of the operators.

use std::fmt;
use std::str::FromStr;

/// An implementation of the operators on the CPU. All paths compute the same function; they differ in the order of
/// rounding, so that results are equal bit for bit within one path only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Plain Rust without instructions of a particular processor.
    Portable,
    /// AVX2 and FMA: x86-64 processors since about 2013.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL): x86-64 servers since about 2017, AMD since Zen 4.
    Avx512,
}

impl Path {
    /// All paths, from the slowest to the fastest.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// f32 values of its vectors.
    pub(crate) fn lanes(self) -> usize {
        if self == Self::Avx512 { 16 } else { 8 }
    }

    /// The fastest that this processor can run.
    pub(crate) fn fastest() -> Self {
        Self::ALL.into_iter().rev().find(|path| path.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this processor can run the path.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Self::Avx2.is_available()
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|path| path.to_string() == text)
            .ok_or_else(|| format!("unknown path `{text}`; use one of portable, avx2, avx512"))
    }
}
