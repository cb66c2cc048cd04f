//! Range, ticks and tick texts of one axis.

use super::Scale;

/// One axis of a chart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    /// Distance between ticks of a linear axis.
    step: f64,
}

impl Axis {
    /// An axis that shows all `values`, with rounded ends where `Round` applies.
    pub(super) fn around(values: impl Iterator<Item = f64>, scale: Scale, ends: Ends) -> Self {
        // Beyond 1e150 the length of the range could overflow.
        let shown = values.filter(|v| v.abs() < 1e150 && (scale == Scale::Linear || *v > 0.0));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return Self::between(if scale == Scale::Linear { 0.0 } else { 0.1 }, 1.0, scale);
        }
        let axis = Self::between(low, high, scale);
        match (ends, scale) {
            (Ends::Exact, _) => axis,
            (Ends::Rounded, Scale::Linear) => {
                let step = axis.step;
                Self { low: (axis.low / step).floor() * step, high: (axis.high / step).ceil() * step, ..axis }
            }
            (Ends::Rounded, Scale::Logarithmic) => Self::between(axis.low / 1.15, axis.high * 1.15, scale),
        }
    }

    /// An axis from `low` to `high`; a range without extent is widened around its value.
    pub(super) fn between(low: f64, high: f64, scale: Scale) -> Self {
        let (mut low, mut high) = (low.min(high), low.max(high));
        if scale == Scale::Logarithmic {
            high = if high > 0.0 { high } else { 1.0 };
            low = if low > 0.0 { low } else { high / 1000.0 };
            if high / low < 1.0 + 1e-9 {
                (low, high) = (low / 2.0, high * 2.0);
            }
        } else if high - low <= 1e-12 * high.abs().max(1e-300) {
            let margin = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
            (low, high) = (low - margin, high + margin);
        }
        Self { low, high, scale, step: round_step(high - low) }
    }

    /// Position along the axis, 0 at its low end and 1 at its high end.
    pub(super) fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// Values that get a tick, with their texts.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => self.linear_ticks(),
            Scale::Logarithmic => self.logarithmic_ticks(),
        }
    }

    fn linear_ticks(&self) -> Vec<(f64, String)> {
        let step = self.step;
        let slack = 1e-9 * step;
        let first = ((self.low - slack) / step).ceil() as i64;
        let last = ((self.high + slack) / step).floor() as i64;
        let thousands = step >= 1000.0 && self.high.abs().max(self.low.abs()) >= 10_000.0;
        let (unit, letter) = if thousands { (1000.0, "k") } else { (1.0, "") };
        let decimals = (-(step / unit).log10().floor()).max(0.0) as usize;
        (first..=last)
            .map(|n| {
                let value = n as f64 * step;
                let text = if n == 0 { "0".to_owned() } else { number(value / unit, decimals) + letter };
                (value, text)
            })
            .collect()
    }

    fn logarithmic_ticks(&self) -> Vec<(f64, String)> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        for power in self.low.log10().floor() as i32..=self.high.log10().ceil() as i32 {
            for step in steps {
                let value = step * 10f64.powi(power);
                if value >= self.low * (1.0 - 1e-9) && value <= self.high * (1.0 + 1e-9) {
                    let text = if (-4..6).contains(&power) {
                        number(value, (-power).max(0) as usize)
                    } else {
                        format!("{step:.0}e{power}")
                    };
                    ticks.push((value, text));
                }
            }
        }
        ticks
    }
}

/// What happens at the ends of an axis whose range comes from values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// The axis ends at the smallest and largest value.
    Exact,
    /// It ends at the next tick.
    Rounded,
}

/// A step of 1, 2 or 5 times a power of ten that gives four to nine ticks.
fn round_step(length: f64) -> f64 {
    let rough = length / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|m| m * power >= rough * 0.65);
    step.unwrap_or(10.0) * power
}

/// With a typographic minus sign.
fn number(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}").replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(texts(&Axis::between(0.0, 1.0, Scale::Linear)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(
            texts(&Axis::between(0.0, 25_000.0, Scale::Linear)),
            ["0", "5k", "10k", "15k", "20k", "25k"]
        );
        assert_eq!(texts(&Axis::between(-1.0, 0.5, Scale::Linear)).first().unwrap(), "\u{2212}1.0");
        assert_eq!(
            texts(&Axis::between(0.001, 10.0, Scale::Logarithmic)),
            ["0.001", "0.01", "0.1", "1", "10"]
        );
        assert_eq!(texts(&Axis::between(1e-9, 1e-5, Scale::Logarithmic)).first().unwrap(), "1e-9");
    }

    #[test]
    fn rounded_ends_hold_every_value() {
        for values in [[0.03, 0.97], [-3.2, 17.5], [1234.0, 56_789.0], [0.2, 0.2]] {
            let axis = Axis::around(values.into_iter(), Scale::Linear, Ends::Rounded);
            for value in values {
                let position = axis.position(value);
                assert!((0.0..=1.0).contains(&position), "{values:?}: {position}");
            }
            let ticks = axis.ticks().len();
            assert!((3..=10).contains(&ticks), "{values:?}: {ticks} ticks");
        }
    }

    #[test]
    fn no_values_or_bad_values_still_give_an_axis() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let axis = Axis::around([f64::NAN, f64::INFINITY].into_iter(), scale, Ends::Rounded);
            assert!(axis.ticks().len() > 1);
            assert!(Axis::between(0.0, 0.0, scale).ticks().len() > 1);
            assert!(Axis::between(-5.0, -5.0, scale).ticks().len() > 1);
        }
    }
}
