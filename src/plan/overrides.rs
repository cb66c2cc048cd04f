//! What a configuration changes in a plan.

use super::decide::normalisation_by;
use super::{Budget, CpuBudget, Plan, Reason};
use crate::config::{NetworkConfig, NetworkKind, NormalisationChoice, PlanOverrides, Scheme};
use crate::{Error, Result};

impl NetworkConfig {
    /// Makes a plan one for the network that is asked for.
    ///
    /// # Errors
    /// Where options exclude each other.
    pub fn apply(&self, plan: &mut Plan) -> Result<()> {
        match self.kind {
            NetworkKind::UNet => Ok(()),
            NetworkKind::DeepMedic => plan.for_deepmedic(self.variant.shape()),
        }
    }
}

impl PlanOverrides {
    /// Cores of the nominal processor.
    const NOMINAL_CORES: usize = 2;

    /// What the planner may spend.
    pub fn budget(&self) -> Budget {
        let mut budget = Budget::processor(Self::NOMINAL_CORES);
        match (self.step_seconds, &mut budget.cpu) {
            (Some(0.0), cpu) => *cpu = CpuBudget::Off,
            (Some(limit), CpuBudget::Step { seconds, .. }) => *seconds = limit,
            _ => {}
        }
        if let Some(gib) = self.memory_gib {
            budget.memory_bytes = (gib * (1u64 << 30) as f64) as u64;
        }
        budget
    }

    /// Replaces what the planner decided by what is set here. `channels` are the names of the data set's channels.
    ///
    /// # Errors
    /// Where the network cannot take the patch, a value is set that it does not have, or a normalisation is for
    /// channels that there are not.
    pub fn apply(&self, plan: &mut Plan, channels: &[String]) -> Result<()> {
        self.check_kind(plan)?;
        if let Some(batch) = self.batch {
            plan.batch = batch;
            explain(plan, "batch", "plan.batch");
        }
        if let Some(spacing) = self.spacing {
            plan.spacing = spacing;
            explain(plan, "spacing", "plan.spacing");
        }
        if let Some(choice) = &self.normalisation {
            normalise(plan, choice, channels)?;
        }
        if let Some(base) = self.base_features {
            const MOST: usize = 320;
            plan.unet.features =
                (0..plan.unet.features.len()).map(|stage| (base << stage).min(MOST)).collect();
            explain(plan, "features", "plan.base_features");
        }
        if let Some(patch) = self.patch {
            plan.patch = patch;
            explain(plan, "patch", "plan.patch");
        }
        if let Some(shape) = &mut plan.deepmedic {
            shape.inference_segment = self.inference_patch.unwrap_or(shape.inference_segment);
            shape.field(plan.patch)?;
            return shape.check();
        }
        let stride: [usize; 3] =
            std::array::from_fn(|axis| plan.unet.strides.iter().map(|s| s[axis]).product());
        if (0..3).any(|axis| !plan.patch[axis].is_multiple_of(stride[axis])) {
            return Err(Error::config(
                "plan.patch",
                format!("{:?} is not divisible by the network's strides {stride:?}", plan.patch),
                "round every edge to a multiple of the stride along its axis",
            ));
        }
        Ok(())
    }

    /// Refuses values that the plan's network does not have.
    fn check_kind(&self, plan: &Plan) -> Result<()> {
        let (field, network) = match &plan.deepmedic {
            Some(_) if self.base_features.is_some() => ("plan.base_features", "DeepMedic"),
            None if self.inference_patch.is_some() => ("plan.inference_patch", "the U-Net"),
            _ => return Ok(()),
        };
        let fix = "leave it out, or change `network.kind`; DeepMedic's maps are set by `network.variant`";
        Err(Error::config(field, format!("{network} has no such value"), fix))
    }
}

/// Puts the key that set a field of the plan in the place of the planner's reasons for it.
fn explain(plan: &mut Plan, field: &str, key: &str) {
    plan.reasons.retain(|reason| reason.field != field);
    plan.reasons
        .push(Reason { field: field.to_owned(), text: format!("set in the configuration (`{key}`)") });
}

/// Normalises channels as chosen.
fn normalise(plan: &mut Plan, choice: &NormalisationChoice, channels: &[String]) -> Result<()> {
    const KEY: &str = "plan.normalisation";
    let names = || format!("the channels are `{}`", channels.join("`, `"));
    let chosen: Vec<Option<Scheme>> = match choice {
        NormalisationChoice::All(scheme) => vec![Some(*scheme); channels.len()],
        NormalisationChoice::Each(schemes) if schemes.len() == channels.len() => {
            schemes.iter().copied().map(Some).collect()
        }
        NormalisationChoice::Each(schemes) => {
            let problem = format!("{} entries for {} channels", schemes.len(), channels.len());
            return Err(Error::config(KEY, problem, format!("give one for each; {}", names())));
        }
        NormalisationChoice::Named(schemes) => {
            if let Some(name) = schemes.keys().find(|name| !channels.contains(name)) {
                return Err(Error::config(KEY, format!("the data set has no channel `{name}`"), names()));
            }
            channels.iter().map(|name| schemes.get(name).copied()).collect()
        }
    };
    for (channel, (name, scheme)) in channels.iter().zip(chosen).enumerate() {
        let Some(scheme) = scheme else { continue };
        plan.normalisation[channel] = normalisation_by(scheme, channel, &plan.fingerprint);
        let about = format!("channel `{name}`: ");
        plan.reasons.retain(|reason| reason.field != "normalisation" || !reason.text.starts_with(&about));
        let text = format!("{about}{scheme}, set in the configuration (`{KEY}`)");
        plan.reasons.push(Reason { field: "normalisation".to_owned(), text });
    }
    Ok(())
}
