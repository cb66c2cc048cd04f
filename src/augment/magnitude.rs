//! How a magnitude is drawn.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::normal_number;

/// How a magnitude is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Magnitude {
    /// Always this value.
    Fixed(f64),
    /// Uniform in [low, high).
    Uniform(f64, f64),
    /// Below 1 or above 1 with probability 1/2 each: uniform in [low, 1) or in [1, high).
    AboutOne(f64, f64),
    /// `u` or `-u` with probability 1/2 each, u uniform in [low, high).
    EitherSign(f64, f64),
    /// `1 + u` or `1 - u` with probability 1/2 each, u uniform in [low, high).
    OnePlus(f64, f64),
    /// `1 + u` or `1 / (1 + u)` with probability 1/2 each, u uniform in [low, high).
    Ratio(f64, f64),
    /// Normal with this mean and standard deviation.
    Normal(f64, f64),
}

impl Magnitude {
    /// Draws a value. Uses the same amount of randomness whatever comes out, [`Self::Normal`] aside.
    pub fn draw(self, random: &mut ChaCha8Rng) -> f64 {
        let half = |random: &mut ChaCha8Rng| random.random::<f64>() < 0.5;
        let between =
            |low: f64, high: f64, random: &mut ChaCha8Rng| low + (high - low) * random.random::<f64>();
        match self {
            Self::Fixed(value) => value,
            Self::Uniform(low, high) => between(low, high, random),
            Self::AboutOne(low, high) => {
                if half(random) && low < 1.0 {
                    between(low, 1.0, random)
                } else {
                    between(low.max(1.0), high, random)
                }
            }
            Self::EitherSign(low, high) => {
                let sign = if half(random) { -1.0 } else { 1.0 };
                sign * between(low, high, random)
            }
            Self::OnePlus(low, high) => {
                let sign = if half(random) { -1.0 } else { 1.0 };
                1.0 + sign * between(low, high, random)
            }
            Self::Ratio(low, high) => {
                let inverted = half(random);
                let factor = 1.0 + between(low, high, random);
                if inverted { factor.recip() } else { factor }
            }
            Self::Normal(mean, deviation) => mean + deviation * normal_number(random),
        }
    }

    /// Lowest and highest value that can come out; of a normal number, those within six deviations.
    pub(super) fn bounds(self) -> [f64; 2] {
        match self {
            Self::Fixed(value) => [value, value],
            Self::Uniform(low, high) | Self::AboutOne(low, high) => [low, high],
            Self::EitherSign(low, high) => [-high.max(-low), high.max(-low)],
            Self::OnePlus(low, high) => [1.0 - high.max(-low), 1.0 + high.max(-low)],
            Self::Ratio(low, high) => {
                let [a, b] = [1.0 + low, 1.0 + high];
                [a.min(b.recip()), b.max(a.recip())]
            }
            Self::Normal(mean, deviation) => [mean - 6.0 * deviation, mean + 6.0 * deviation],
        }
    }

    /// Whether the bounds are in order and the rule makes sense with them.
    pub(super) fn is_sound(self) -> bool {
        match self {
            Self::Fixed(value) => value.is_finite(),
            Self::AboutOne(low, high) => low <= high && high >= 1.0,
            Self::Ratio(low, high) => -1.0 < low && low <= high,
            Self::Normal(mean, deviation) => mean.is_finite() && deviation >= 0.0,
            Self::Uniform(low, high) | Self::EitherSign(low, high) | Self::OnePlus(low, high) => low <= high,
        }
    }
}
