//! How patches are augmented, as one type: nothing, a heuristic, a random or a learned distribution.
//!
//! A [`Policy`] holds rules that are always followed (the heuristics), and groups of choices from each of which
//! one is drawn per patch with the probabilities `softmax(logits)`. The talk's policy is one group of 44 single
//! operations; the composed one has 15 groups whose draws act together. Uniform logits make the random policy;
//! a learned one moves its logits while the network trains (see [`learn`]). A policy is a TOML file that
//! another run can use.
//!
//! Method: Li et al. (2020), "single form"; Li et al. (2023), "composed form" and class-specific policies.

use std::path::Path;

use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::{Augmentation, Draw, Op, Rule, Sharing, add_rules};
use crate::config::policy::Targets;
use crate::{Error, Result, files};

pub mod forms;
pub mod gumbel;
pub mod learn;
pub mod lists;
pub mod operations;
pub mod resolve;
pub mod structure;
pub mod timeline;

pub use operations::Context;
pub use timeline::Timeline;

/// A distribution over augmentations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What it is called, for people.
    pub name: String,
    /// Whether patches centred on foreground have logits of their own.
    #[serde(default)]
    pub targets: Targets,
    /// Operations that follow whatever was drawn from the groups, each with its own probability.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What is drawn: one choice of every group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// Choices that exclude each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What its choices have in common.
    pub name: String,
    /// The choices.
    pub choices: Vec<Choice>,
}

/// Operations that are applied together, and how likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Operation and magnitude, for people.
    pub name: String,
    /// Logarithm of its probability up to a constant, for each of [`Targets`]: one number for `all`; two,
    /// background first, for `by-centre`.
    pub logits: Vec<f64>,
    /// Which operation of the group it is a magnitude of; the choices of one family learn from each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Its place among the family's members; none where they have no order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<f64>,
    /// What is done, in this order; nothing for the identity. All channels change together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<Op>,
}

/// What was drawn for one patch: the index of the choice in every group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Which of the policy's targets the patch belongs to.
    pub target: usize,
    /// One index per group.
    pub choices: Vec<usize>,
}

impl Targets {
    /// How many there are.
    pub const fn len(self) -> usize {
        match self {
            Self::All => 1,
            Self::ByCentre => 2,
        }
    }

    /// There is always one.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Which one a patch belongs to whose centre voxel has this class.
    pub const fn of(self, centre_class: u8) -> usize {
        match self {
            Self::All => 0,
            Self::ByCentre => (centre_class != 0) as usize,
        }
    }

    /// What they are called.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::All => &["all"],
            Self::ByCentre => &["background", "foreground"],
        }
    }
}

impl Policy {
    /// Rules alone.
    pub fn fixed(name: &str, rules: Augmentation) -> Self {
        Self { name: name.to_owned(), rules: rules.rules, ..Self::default() }
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// Where the file cannot be read, is no policy, or holds magnitudes that cannot be applied.
    pub fn read(path: &Path) -> Result<Self> {
        let policy: Self = files::read_toml(path, "see docs/policies.md for the form of the file")?;
        policy.check().map_err(|e| Error::invalid(path, "policy", e.to_string(), "fix the file"))?;
        Ok(policy)
    }

    /// The policy as TOML; [`Self::read`] gives it back exactly.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| unreachable!("a policy is plain data: {error}"))
    }

    /// Refuses what cannot be drawn or applied.
    ///
    /// # Errors
    /// Naming the group and choice.
    pub fn check(&self) -> Result<()> {
        Augmentation { rules: self.rules.clone() }.check()?;
        for group in &self.groups {
            if group.choices.is_empty() {
                return Err(Error::config(
                    format!("groups.{}", group.name),
                    "there is no choice",
                    "give at least one, or leave the group out",
                ));
            }
            for choice in &group.choices {
                let field = format!("groups.{}.{}", group.name, choice.name);
                if choice.logits.len() != self.targets.len() || choice.logits.iter().any(|l| !l.is_finite()) {
                    let problem = format!("logits = {:?}", choice.logits);
                    let mend = format!("give {} finite numbers, one per target", self.targets.len());
                    return Err(Error::config(field, problem, mend));
                }
                if choice.magnitude.is_some_and(|magnitude| !magnitude.is_finite() || choice.family.is_none())
                {
                    let problem = format!("magnitude = {:?}", choice.magnitude.unwrap_or_default());
                    return Err(Error::config(field, problem, "give a finite number and a family beside it"));
                }
                choice.ops.iter().try_for_each(|op| op.check(&field))?;
            }
        }
        Ok(())
    }

    /// Refuses operations on channels that data of `channels` channels do not have.
    ///
    /// # Errors
    /// Naming the operation's place and the channel.
    pub fn check_channels(&self, channels: usize) -> Result<()> {
        let rules = self.rules.iter().enumerate();
        let rules = rules.map(|(index, rule)| (format!("augmentation.rules[{index}]"), &rule.op));
        let choices = self.groups.iter().flat_map(|group| {
            let of_group = |choice: &Choice| format!("groups.{}.{}", group.name, choice.name);
            group.choices.iter().flat_map(move |c| c.ops.iter().map(move |op| (of_group(c), op)))
        });
        for (field, op) in rules.chain(choices) {
            if let Op::Mask { channels: named } | Op::Nonzero { channels: named } = op
                && let Some(missing) = named.iter().find(|channel| **channel >= channels)
            {
                return Err(Error::config(
                    field,
                    format!("channel {missing} is named, and the data have {channels}, counted from 0"),
                    "name channels that the data have, or leave the operation out",
                ));
            }
        }
        Ok(())
    }

    /// The logits of a group for a target.
    pub fn logits(&self, target: usize, group: usize) -> Vec<f64> {
        self.groups[group].choices.iter().map(|choice| choice.logits[target]).collect()
    }

    /// The probabilities of a group's choices for a target.
    pub fn probabilities(&self, target: usize, group: usize) -> Vec<f64> {
        gumbel::softmax(&self.logits(target, group))
    }

    /// Number of logits: targets times choices, in the order target, group, choice.
    pub fn len(&self) -> usize {
        self.targets.len() * self.groups.iter().map(|group| group.choices.len()).sum::<usize>()
    }

    /// Whether there is nothing to choose.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All logits in the order target, group, choice.
    pub fn flat(&self) -> Vec<f64> {
        let groups = 0..self.groups.len();
        (0..self.targets.len()).flat_map(|t| groups.clone().flat_map(move |g| self.logits(t, g))).collect()
    }

    /// The same policy with other logits, in the order of [`Self::flat`].
    ///
    /// # Panics
    /// Where there are not [`Self::len`] of them.
    pub fn with_logits(&self, flat: &[f64]) -> Self {
        assert_eq!(flat.len(), self.len(), "one logit per target and choice");
        let mut policy = self.clone();
        let mut next = flat.iter();
        for target in 0..self.targets.len() {
            let choices = policy.groups.iter_mut().flat_map(|group| &mut group.choices);
            choices.zip(&mut next).for_each(|(choice, logit)| choice.logits[target] = *logit);
        }
        policy
    }

    /// The same policy with separate logits for each of `targets`, which start alike.
    pub fn for_targets(mut self, targets: Targets) -> Self {
        for choice in self.groups.iter_mut().flat_map(|group| &mut group.choices) {
            choice.logits =
                vec![choice.logits.iter().sum::<f64>() / choice.logits.len() as f64; targets.len()];
        }
        self.targets = targets;
        self
    }

    /// Draws what happens to a patch of `channels` channels whose centre voxel has this class.
    pub fn draw(&self, centre_class: u8, channels: usize, random: &mut ChaCha8Rng) -> (Chosen, Draw) {
        let target = self.targets.of(centre_class);
        let mut draw = Draw::identity();
        let mut choices = Vec::with_capacity(self.groups.len());
        for (index, group) in self.groups.iter().enumerate() {
            let chosen = gumbel::sample(&self.logits(target, index), random);
            for op in &group.choices[chosen].ops {
                draw.add(op, Sharing::Shared, channels, random);
            }
            choices.push(chosen);
        }
        add_rules(&self.rules, &mut draw, channels, random);
        (Chosen { target, choices }, draw)
    }

    /// What one choice does, for a preview: the rest of the policy is left out.
    pub fn draw_choice(&self, group: usize, choice: usize, channels: usize, random: &mut ChaCha8Rng) -> Draw {
        let mut draw = Draw::identity();
        for op in &self.groups[group].choices[choice].ops {
            draw.add(op, Sharing::Shared, channels, random);
        }
        draw
    }
}
