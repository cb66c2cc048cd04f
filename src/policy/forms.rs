//! The operations of test-time policies, as data: what is done to a scan before it is predicted, and undone after.
//!
//! One group of 84 choices without any chance in them, so that a choice predicts the same every time. Method: Li et
//! al. (2023), joint class-specific augmentation.

use serde::{Deserialize, Serialize};

use super::operations::{AXES, Context, PLANES, choice, flip, identity, rotate, scale};
use super::{Choice, Group, Policy};
use crate::augment::{Keep, Magnitude, Op, Over, Resampling, Side};
use crate::config::policy::Targets;

/// How probable the choices are before anything was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TestStart {
    /// The eight mirror images, half turns among them, 10 % each; the others share 20 %.
    #[default]
    Mirrors,
    /// The identity and the three mirrored planes, 20 % each; the others share 20 %.
    Planes,
    /// All alike.
    Uniform,
}

/// Places of the eight mirror images: the identity, three planes, three half turns, all planes.
pub const MIRRORS: [usize; 8] = [0, 29, 30, 31, 34, 37, 40, 83];

/// One group with every test-time operation, in the published order.
pub fn test_time(context: &Context, start: TestStart) -> Policy {
    let mut choices = vec![identity()];
    let mut add = |name: String, ops: Vec<Op>| choices.push(choice(name, ops));
    let fixed = Magnitude::Fixed;
    for m in [0.05, 0.15, 0.25, 0.35, 0.45] {
        add(format!("scaling up {m}"), vec![scale(fixed(1.0 / (1.0 + m)))]);
        add(format!("scaling down {m}"), vec![scale(fixed(1.0 + m))]);
    }
    let [longitudinal, frontal, sagittal] = AXES;
    let axes = [frontal, sagittal, longitudinal];
    let signs = [("+", 1.0), ("-", -1.0)];
    for (name, axis) in axes {
        for degrees in [5.0, 15.0, 25.0] {
            for (sign, s) in signs {
                add(format!("rotation {name} {sign}{degrees}"), vec![rotate(axis, fixed(s * degrees))]);
            }
        }
    }
    for (name, axis) in PLANES {
        add(format!("mirror {name}"), flip(axis, context));
    }
    for (name, axis) in axes {
        for (degrees, told) in [(90.0, "+90"), (-90.0, "-90"), (180.0, "180")] {
            add(format!("rotation {name} {told}"), vec![rotate(axis, fixed(degrees))]);
        }
    }
    let mut pair = |name: &str, m: f64, op: &dyn Fn(f64) -> Op, values: [f64; 2]| {
        for ((sign, _), value) in signs.into_iter().zip(values) {
            add(format!("{name} {sign}{m}"), vec![op(value)]);
        }
    };
    let factors = |m: f64| [1.0 + m, 1.0 / (1.0 + m)];
    for (name, side) in [("gamma", Side::Direct), ("inverted gamma", Side::Inverted)] {
        let gamma =
            |exponent| Op::Gamma { exponent: fixed(exponent), side, over: Over::Image, keep: Keep::Moments };
        for m in [0.1, 0.3, 0.5] {
            pair(name, m, &gamma, factors(m));
        }
    }
    let brightness = [0.05, 0.15, 0.25];
    for m in brightness {
        pair("brightness added", m, &|amount| Op::Offset { amount: fixed(amount) }, [m, -m]);
    }
    for m in brightness {
        pair("brightness multiplied", m, &|factor| Op::Brightness { factor: fixed(factor) }, factors(m));
    }
    for m in brightness {
        let contrast = |factor| Op::Contrast { factor: fixed(factor), over: Over::Image };
        pair("contrast", m, &contrast, factors(m));
    }
    for m in [0.5, 0.7, 0.9] {
        add(format!("blur {m}"), vec![Op::Blur { sigma: fixed(m), per_channel: 1.0 }]);
    }
    for m in [0.9, 0.7, 0.5] {
        add(format!("sharpen {m}"), vec![Op::Sharpen { sigma: fixed(m), over: Over::Image }]);
    }
    for m in [0.025, 0.075, 0.125] {
        add(format!("noise {m}"), vec![Op::Noise { deviation: fixed(m) }]);
    }
    for m in [0.9, 0.7, 0.5] {
        let op = Op::LowResolution {
            zoom: fixed(m),
            per_channel: 1.0,
            axes: [true; 3],
            resampling: Resampling::LinearNearest,
        };
        add(format!("low resolution {m}"), vec![op]);
    }
    add("mirror all planes".to_owned(), (0..3).flat_map(|axis| flip(axis, context)).collect());
    start.apply(&mut choices);
    let groups = vec![Group { name: "operation".to_owned(), choices }];
    let rules = context.after.rules.clone();
    Policy { name: "test-time".to_owned(), targets: Targets::All, rules, groups }
}

impl TestStart {
    fn apply(self, choices: &mut [Choice]) {
        let likely: &[usize] = match self {
            Self::Mirrors => &MIRRORS,
            Self::Planes => &MIRRORS[..4],
            Self::Uniform => &[],
        };
        let rest = (choices.len() - likely.len()) as f64;
        let others = if likely.is_empty() { 1.0 } else { 0.2 };
        for (index, choice) in choices.iter_mut().enumerate() {
            let p = if likely.contains(&index) { 0.8 / likely.len() as f64 } else { others / rest };
            choice.logits = vec![p.ln()];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_stand_at_their_published_places() {
        let policy = test_time(&Context::default(), TestStart::Mirrors);
        policy.check().unwrap();
        assert_eq!(policy.len(), 84);
        let name = |index: usize| policy.groups[0].choices[index].name.as_str();
        assert_eq!(
            MIRRORS.map(name),
            [
                "identity",
                "mirror sagittal",
                "mirror frontal",
                "mirror axial",
                "rotation frontal 180",
                "rotation sagittal 180",
                "rotation longitudinal 180",
                "mirror all planes",
            ]
        );
        assert_eq!([name(41), name(77), name(82)], ["gamma +0.1", "noise 0.025", "low resolution 0.5"]);
    }

    #[test]
    fn starts_are_distributions_with_their_published_numbers() {
        for (start, likely, p) in [
            (TestStart::Mirrors, &MIRRORS[..], 0.1),
            (TestStart::Planes, &MIRRORS[..4], 0.2),
            (TestStart::Uniform, &[], 0.0),
        ] {
            let found = test_time(&Context::default(), start).probabilities(0, 0);
            let rest = (1.0 - p * likely.len() as f64) / (84 - likely.len()) as f64;
            for (index, value) in found.iter().enumerate() {
                let wanted = if likely.contains(&index) { p } else { rest };
                assert!((value - wanted).abs() < 1e-12, "{start:?}, {index}: {value}");
            }
        }
    }
}
