//! The operation sets of learned policies, as data.
//!
//! Magnitudes are in units of prepared intensities (z-scores) and voxels. Axes are those of prepared samples: x
//! to the right, y to the front, z to the top; so the longitudinal axis is z, the frontal one x, the sagittal
//! one y, and the sagittal plane is mirrored along x.

use super::{Choice, Group, Policy};
use crate::augment::{Augmentation, Keep, Magnitude, Op, Over, Resampling, Side};
use crate::config::policy::{Start, Targets};
use crate::data::dataset::Sides;
use crate::plan::Plan;

/// What the operations must know of a data set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// What mirroring the sagittal plane does to the labels.
    pub sides: Sides,
    /// Rules that follow every draw: zeros outside a mask, see [`Augmentation::kept_zero`].
    pub after: Augmentation,
}

pub(super) const AXES: [(&str, usize); 3] = [("longitudinal", 2), ("frontal", 0), ("sagittal", 1)];
pub(super) const PLANES: [(&str, usize); 3] = [("sagittal", 0), ("frontal", 1), ("axial", 2)];

impl Context {
    /// From a plan and the sides of its classes.
    pub fn of(plan: &Plan, sides: Sides) -> Self {
        Self { sides, after: Augmentation::kept_zero(plan) }
    }
}

/// One group of 44 single operations: the identity and 43 pairs of operation and magnitude, one per sample.
pub fn single(context: &Context, start: Start) -> Policy {
    let mut choices = vec![identity()];
    for m in [0.05, 0.10, 0.15, 0.20, 0.25] {
        choices.push(choice(format!("scaling {m:.2}"), vec![scale(Magnitude::Ratio(m, m))]).of("scaling", m));
    }
    for (name, axis) in AXES {
        for degrees in [10.0, 20.0, 30.0, 90.0, 180.0] {
            let angle = Magnitude::EitherSign(degrees, degrees);
            let family = format!("rotation {name}");
            choices
                .push(choice(format!("{family} {degrees}"), vec![rotate(axis, angle)]).of(&family, degrees));
        }
    }
    choices.extend(PLANES.map(|(name, axis)| Choice {
        family: Some("mirror".to_owned()),
        ..choice(format!("mirror {name}"), flip(axis, context))
    }));
    for percent in 1..=5 {
        let m = f64::from(percent) / 100.0;
        let op = Op::Brightness { factor: Magnitude::OnePlus(m, m) };
        choices.push(choice(format!("contrast {m:.2}"), vec![op]).of("contrast", m));
    }
    /// A name and the operation of a magnitude.
    type Named = (&'static str, fn(f64) -> Op);
    let intensity: [Named; 3] = [
        ("brightness", |m| Op::Offset { amount: Magnitude::EitherSign(m, m) }),
        ("noise", |m| Op::Noise { deviation: Magnitude::Fixed(m) }),
        ("gamma", |m| Op::Gamma {
            exponent: Magnitude::OnePlus(m, m),
            side: Side::Direct,
            over: Over::Image,
            keep: Keep::Range,
        }),
    ];
    for (name, op) in intensity {
        for m in [0.05, 0.10, 0.15, 0.20, 0.25] {
            choices.push(choice(format!("{name} {m:.2}"), vec![op(m)]).of(name, m));
        }
    }
    let quiet = match start {
        Start::HalfIdentity => 0.5,
        _ => 1.0 / choices.len() as f64,
    };
    policy(vec![group("operation", choices, 1.0 - quiet)], context)
}

/// Fifteen groups with 62 choices, one of each per sample, applied together; magnitudes are the centres of bins
/// from which they are drawn.
pub fn composed(context: &Context, start: Start) -> Policy {
    let mut groups = Vec::new();
    let mut add = |name: &str, choices: Vec<Choice>, like: [f64; 2]| {
        let all = choices.len() as f64 + 1.0;
        let changed = match start {
            Start::Uniform => 1.0 - 1.0 / all,
            Start::HalfIdentity => 0.5,
            Start::NnUNet => like[0],
            Start::DeepMedic => like[1],
        };
        let choices = std::iter::once(identity()).chain(choices).collect();
        groups.push(group(name, choices, changed));
    };
    let near = |m: f64, width: f64| ((m - width).max(0.0), m + width);
    let ratio = |m: f64, width: f64| {
        let (low, high) = near(m, width);
        Magnitude::Ratio(low, high)
    };
    let uniform = |m: f64, width: f64| {
        let (low, high) = near(m, width);
        Magnitude::Uniform(low, high)
    };
    let list = |values: &[f64], op: &dyn Fn(f64) -> Op| -> Vec<Choice> {
        values.iter().map(|&m| choice(format!("{m}"), vec![op(m)]).of(CHANGED, m)).collect()
    };
    add("scale", list(&[0.05, 0.15, 0.25, 0.35, 0.45], &|m| scale(ratio(m, 0.05))), [0.2, 0.2]);
    for (name, axis) in AXES {
        let mut choices = list(&[5.0, 15.0, 25.0], &|m| {
            let (low, high) = near(m, 5.0);
            rotate(axis, Magnitude::EitherSign(low, high))
        });
        let right = rotate(axis, Magnitude::EitherSign(90.0, 90.0));
        choices.push(choice("90".to_owned(), vec![right]).of(CHANGED, 90.0));
        add(&format!("rotation {name}"), choices, [0.1, 0.2]);
    }
    for ((name, axis), like) in PLANES.into_iter().zip([[0.5, 0.5], [0.5, 0.05], [0.5, 0.05]]) {
        add(&format!("mirror {name}"), vec![choice("mirrored".to_owned(), flip(axis, context))], like);
    }
    let noise = |m| Op::Noise { deviation: uniform(m, 0.025) };
    add("noise", list(&[0.025, 0.075, 0.125], &noise), [0.1, 0.05]);
    let blur = |m| Op::Blur { sigma: uniform(m, 0.1), per_channel: 1.0 };
    let sharpen = |m| Op::Sharpen { sigma: uniform(m, 0.1), over: Over::Image };
    let mut both: Vec<Choice> =
        [0.5, 0.7, 0.9].map(|m| choice(format!("blur {m}"), vec![blur(m)]).of(CHANGED, -m)).into();
    both.extend([0.9, 0.7, 0.5].map(|m| choice(format!("sharpen {m}"), vec![sharpen(m)]).of(CHANGED, m)));
    add("blur or sharpen", both, [0.2, 0.05]);
    let shift = |m: f64| {
        let (low, high) = near(m, 0.05);
        Op::Offset { amount: Magnitude::EitherSign(low, high) }
    };
    add("brightness added", list(&[0.05, 0.15, 0.25], &shift), [0.05, 0.15]);
    let multiply = |m| Op::Brightness { factor: ratio(m, 0.05) };
    add("brightness multiplied", list(&[0.05, 0.15, 0.25], &multiply), [0.15, 0.05]);
    let contrast = |m| Op::Contrast { factor: ratio(m, 0.05), over: Over::Image };
    add("contrast", list(&[0.05, 0.15, 0.25], &contrast), [0.15, 0.05]);
    let coarse = |m| Op::LowResolution {
        zoom: uniform(m, 0.1),
        per_channel: 1.0,
        axes: [true; 3],
        resampling: Resampling::LinearNearest,
    };
    add("low resolution", list(&[0.9, 0.7, 0.5], &coarse), [0.1, 0.05]);
    for (name, side, like) in
        [("inverted gamma", Side::Inverted, [0.1, 0.05]), ("gamma", Side::Direct, [0.3, 0.05])]
    {
        let gamma = |m| Op::Gamma { exponent: ratio(m, 0.1), side, over: Over::Image, keep: Keep::Moments };
        add(name, list(&[0.1, 0.3, 0.5], &gamma), like);
    }
    policy(groups, context)
}

fn policy(groups: Vec<Group>, context: &Context) -> Policy {
    Policy { name: "uniform".to_owned(), targets: Targets::All, rules: context.after.rules.clone(), groups }
}

/// Choices, the identity first, of which the others share `changed` evenly.
///
/// The identity has logit 1, every other `log(changed e / ((n - 1) (1 - changed)))`.
pub(crate) fn group(name: &str, mut choices: Vec<Choice>, changed: f64) -> Group {
    let others = (choices.len() - 1) as f64;
    let logit = 1.0 + (changed / (others * (1.0 - changed))).ln();
    for (index, choice) in choices.iter_mut().enumerate() {
        choice.logits = vec![if index == 0 { 1.0 } else { logit }];
    }
    Group { name: name.to_owned(), choices }
}

pub(crate) fn identity() -> Choice {
    choice("identity".to_owned(), Vec::new())
}

pub(crate) fn choice(name: String, ops: Vec<Op>) -> Choice {
    Choice { name, logits: vec![0.0], family: None, magnitude: None, ops }
}

/// The family of a group's choices beside the identity.
const CHANGED: &str = "changed";

impl Choice {
    /// The same, as a magnitude of a family.
    pub(crate) fn of(self, family: &str, magnitude: f64) -> Self {
        Self { family: Some(family.to_owned()), magnitude: Some(magnitude), ..self }
    }
}

pub(super) fn scale(factor: Magnitude) -> Op {
    Op::Scale { factor, axes: [true; 3] }
}

pub(super) fn rotate(axis: usize, angle: Magnitude) -> Op {
    Op::Rotate { degrees: std::array::from_fn(|a| if a == axis { angle } else { Magnitude::Fixed(0.0) }) }
}

/// Mirroring along an axis; nothing along x where no exchange of labels keeps left and right apart.
pub(super) fn flip(axis: usize, context: &Context) -> Vec<Op> {
    match axis {
        0 if !context.sides.exchangeable() => Vec::new(),
        0 => vec![Op::Flip { axis, pairs: context.sides.pairs.clone() }],
        _ => vec![Op::Flip { axis, pairs: Vec::new() }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_have_their_published_sizes() {
        let single = single(&Context::default(), Start::Uniform);
        assert_eq!(single.len(), 44);
        single.check().unwrap();
        for p in single.probabilities(0, 0) {
            assert!((p - 1.0 / 44.0).abs() < 1e-15, "{p}");
        }
        let composed = composed(&Context::default(), Start::Uniform);
        composed.check().unwrap();
        let sizes: Vec<usize> = composed.groups.iter().map(|group| group.choices.len()).collect();
        assert_eq!((sizes.len(), composed.len()), (15, 62));
        assert_eq!(sizes, [6, 5, 5, 5, 2, 2, 2, 4, 7, 4, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn the_identity_starts_with_what_the_others_leave() {
        let identity = |policy: &Policy, group: &str| {
            let index = policy.groups.iter().position(|g| g.name == group).unwrap();
            policy.probabilities(0, index)[0]
        };
        let half = composed(&Context::default(), Start::HalfIdentity);
        for group in &half.groups {
            assert!((identity(&half, &group.name) - 0.5).abs() < 1e-12);
        }
        assert!(
            (identity(&single(&Context::default(), Start::HalfIdentity), "operation") - 0.5).abs() < 1e-12
        );
        let nn_unet = composed(&Context::default(), Start::NnUNet);
        for (group, changed) in [("scale", 0.2), ("mirror axial", 0.5), ("gamma", 0.3), ("noise", 0.1)] {
            assert!((identity(&nn_unet, group) - (1.0 - changed)).abs() < 1e-12, "{group}");
        }
        let deepmedic = composed(&Context::default(), Start::DeepMedic);
        for (group, changed) in [("mirror sagittal", 0.5), ("mirror axial", 0.05), ("brightness added", 0.15)]
        {
            assert!((identity(&deepmedic, group) - (1.0 - changed)).abs() < 1e-12, "{group}");
        }
    }
}
