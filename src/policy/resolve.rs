//! The policy that a configuration names.

use std::path::Path;

use super::Policy;
use super::operations::{Context, composed, single};
use crate::augment::Augmentation;
use crate::config::policy::{Form, PolicyConfig, PolicyName, Start};
use crate::config::{NameOrFile, Named};
use crate::data::dataset::Sides;
use crate::plan::Plan;
use crate::{Error, Result};

/// Trainings of fewer steps do not reach what nnU-Net's list costs them: it loses 0.03 to 0.05 Dice in 800 to
/// 2400 steps (docs/results.md).
pub const LONG_TRAINING: u64 = 5000;

impl PolicyConfig {
    /// The policy that a training of `steps` steps begins with.
    ///
    /// # Errors
    /// Where a file cannot be read, or a name is not known or does not go with the form.
    pub fn resolve(&self, plan: &Plan, sides: &Sides, steps: u64) -> Result<Policy> {
        let context = Context::of(plan, sides.clone());
        let name = match &self.name {
            NameOrFile::Name(name) => name.for_steps(steps),
            NameOrFile::File(path) => return read("policy.name", path, plan.channels),
        };
        let mut policy = match name {
            PolicyName::None => Policy::fixed("none", Augmentation::none()),
            PolicyName::Heuristic => {
                let mut list = Augmentation::deepmedic(sides);
                list.rules.extend(context.after.rules);
                Policy::fixed("heuristic", list)
            }
            PolicyName::Auto | PolicyName::HeuristicNnUNet => {
                Policy::fixed("heuristic-nnunet", Augmentation::for_plan(plan, sides))
            }
            PolicyName::Random => self.uniform(&context, Start::Uniform).for_targets(self.targets),
            PolicyName::Learned => self.start(&context, plan.channels)?,
        };
        name.name().clone_into(&mut policy.name);
        Ok(policy)
    }

    fn start(&self, context: &Context, channels: usize) -> Result<Policy> {
        let path = match &self.start {
            NameOrFile::Name(Start::NnUNet | Start::DeepMedic) if self.form == Form::Single => {
                return Err(Error::config(
                    "policy.start",
                    format!(
                        "`{}` says how likely each group acts, but `policy.form` is `single`",
                        self.start
                    ),
                    "set policy.form=composed, or start from uniform or half-identity",
                ));
            }
            NameOrFile::Name(start) => return Ok(self.uniform(context, *start).for_targets(self.targets)),
            NameOrFile::File(path) => path,
        };
        let policy = read("policy.start", path, channels)?;
        if policy.is_empty() {
            return Err(Error::config(
                "policy.start",
                format!("`{}` has no group of choices, so that there is nothing to learn", path.display()),
                "name a random or learned policy",
            ));
        }
        Ok(match policy.targets == self.targets {
            true => policy,
            false => policy.for_targets(self.targets),
        })
    }

    fn uniform(&self, context: &Context, start: Start) -> Policy {
        match self.form {
            Form::Single => single(context, start),
            Form::Composed => composed(context, start),
        }
    }
}

impl PolicyName {
    /// The policy of a training of so many steps.
    pub fn for_steps(self, steps: u64) -> Self {
        match self {
            Self::Auto if steps < LONG_TRAINING => Self::Random,
            Self::Auto => Self::HeuristicNnUNet,
            named => named,
        }
    }
}

/// Reads a policy for data of `channels` channels.
fn read(field: &str, path: &Path, channels: usize) -> Result<Policy> {
    let policy = Policy::read(path)?;
    policy
        .check_channels(channels)
        .map_err(|e| Error::invalid(path, field, e.to_string(), "fix the file, or choose another policy"))?;
    Ok(policy)
}
