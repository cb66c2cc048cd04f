//! The proof of concept on CIFAR-10: among good operations stand fifteen that ruin a picture, and a learned policy
//! must find out which.
//!
//! A wide residual network (Zagoruyko & Komodakis, BMVC 2016) is trained on part of the training pictures; the
//! policy learns from the rest. The bad operations replace the picture by a constant: -1, 0 or 1, five of each.

mod read;
mod train;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::augment::{Magnitude, Op};
use crate::config::policy::{Comparison, Learning, Targets};
use crate::policy::Policy;
use crate::policy::operations::{choice, group, identity};

pub use read::{Pictures, read};
pub use train::{Cifar, Outcome};

/// Edge of a picture, pixels.
pub const EDGE: usize = 32;
/// Classes.
pub const CLASSES: usize = 10;

/// One training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CifarConfig {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Network WRN-depth-width: depth 6 n + 4.
    pub depth: usize,
    /// See `depth`.
    pub width: usize,
    /// Passes over the training pictures.
    pub epochs: u64,
    /// Pictures in a batch.
    pub batch: usize,
    /// Learning rate at the start; it falls as a half cosine.
    pub learning_rate: f64,
    /// Share of the training pictures that the policy learns from; no arm trains on them.
    pub validation_share: f64,
    /// Which operations there are.
    pub operations: Operations,
    /// Whether their probabilities are learned or stay uniform.
    pub policy: Arm,
    /// How the policy learns.
    pub learning: Learning,
    /// Threads that make batches.
    pub threads: usize,
}

/// Which operations a policy draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operations {
    /// The good ones alone.
    Good,
    /// Good and bad ones.
    All,
}

/// What happens to probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// They stay uniform.
    Random,
    /// They are learned.
    Learned,
}

impl Default for CifarConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            depth: 10,
            width: 1,
            epochs: 50,
            batch: 64,
            learning_rate: 0.1,
            validation_share: 0.2,
            operations: Operations::All,
            policy: Arm::Learned,
            // What a draw does to a picture depends on the picture's class, so that draws for the same one say little of it:
            // docs/policies.md.
            learning: Learning {
                estimator: Some(Comparison::Batch),
                structure: false,
                ..Learning::default()
            },
            threads: 1,
        }
    }
}

impl CifarConfig {
    /// Reads a file over the defaults.
    ///
    /// # Errors
    /// Where it cannot be read or holds something unknown.
    pub fn read(path: &Path) -> Result<Self> {
        crate::files::read_toml(path, "see docs/policies.md for every key")
    }
}

/// Begins the names of the operations that ruin pictures.
pub const BAD: &str = "constant";

/// One group with the good operations, uniform, and the bad ones where they are asked for.
pub fn policy(operations: Operations) -> Policy {
    let still = Magnitude::Fixed(0.0);
    let in_plane = [true, true, false];
    let rotate =
        |degrees: f64| Op::Rotate { degrees: [still, still, Magnitude::EitherSign(degrees, degrees)] };
    let shift = Magnitude::Uniform(-4.5, 4.5);
    let one = |name: String, op: Op| choice(name, vec![op]);
    let mut choices = vec![
        identity(),
        one("mirror".to_owned(), Op::Flip { axis: 0, pairs: Vec::new() }),
        one("translation".to_owned(), Op::Translate { voxels: [shift, shift, still] }),
    ];
    choices.extend([10.0, 20.0, 30.0].map(|d| one(format!("rotation {d}"), rotate(d)).of("rotation", d)));
    choices.extend([0.1, 0.2].map(|m| {
        let op = Op::Scale { factor: Magnitude::Ratio(m, m), axes: in_plane };
        one(format!("scaling {m}"), op).of("scaling", m)
    }));
    choices.extend([0.1, 0.3].map(|m| {
        one(format!("contrast {m}"), Op::Brightness { factor: Magnitude::OnePlus(m, m) }).of("contrast", m)
    }));
    choices.extend([0.1, 0.3].map(|m| {
        one(format!("brightness {m}"), Op::Offset { amount: Magnitude::EitherSign(m, m) }).of("brightness", m)
    }));
    choices.extend(
        [0.25, 0.5]
            .map(|m| one(format!("cutout {m}"), Op::Erase { size: Magnitude::Fixed(m) }).of("cutout", m)),
    );
    if operations == Operations::All {
        for value in [1.0, -1.0, 0.0] {
            choices.extend((1..=5).map(|number| {
                let family = format!("{BAD} {value}");
                let op = Op::Constant { value: Magnitude::Fixed(value) };
                one(format!("{family} no {number}"), op).of(&family, f64::from(number))
            }));
        }
    }
    let changed = 1.0 - 1.0 / choices.len() as f64;
    let groups = vec![group("operation", choices, changed)];
    Policy { name: "cifar".to_owned(), targets: Targets::All, rules: Vec::new(), groups }
}

/// Summed probability of the bad operations of a policy, and the largest of one of them.
pub fn bad(policy: &Policy) -> (f64, f64) {
    let Some(group) = policy.groups.first() else { return (0.0, 0.0) };
    let probabilities = policy.probabilities(0, 0);
    let bad = group.choices.iter().zip(probabilities).filter(|(choice, _)| choice.name.starts_with(BAD));
    bad.fold((0.0, 0.0), |(sum, most), (_, p)| (sum + p, f64::max(most, p)))
}
