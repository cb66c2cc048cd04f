//! What a configuration changes in a plan.

use super::decide::normalisation_by;
use super::{Budget, CpuBudget, Plan, Reason};
use crate::config::{NetworkConfig, NormalisationChoice, PlanOverrides, Scheme};
use crate::network::{Recommended, Shape};
use crate::{Error, Result};

impl NetworkConfig {
    /// Makes a plan one for the network that is asked for.
    ///
    /// # Errors
    /// Where options exclude each other.
    pub fn apply(&self, plan: &mut Plan) -> Result<()> {
        Shape::configured(self).map_or(Ok(()), |shape| plan.train(shape))
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
        if let Some(patch) = self.patch {
            plan.patch = patch;
            explain(plan, "patch", "plan.patch");
        }
        let patch = plan.patch;
        plan.shape.kind_mut().override_by(self, patch)?;
        if self.base_features.is_some() {
            explain(plan, "features", "plan.base_features");
        }
        Ok(())
    }
}

impl Plan {
    /// Changes a plan into one for a network that is not the one that the planner shapes, with the patch and batch
    /// that it is trained with; spacing and normalisation are the data's and stay.
    ///
    /// # Errors
    /// Where the shape cannot be built.
    pub fn train(&mut self, shape: Shape) -> Result<()> {
        self.shape = shape;
        self.reasons.retain(|reason| !OF_THE_PLANNER.contains(&reason.field.as_str()));
        let mut add = |field: &str, text: String| {
            self.reasons.push(Reason { field: field.to_owned(), text });
        };
        if let Some(Recommended { patch, batch, network: (name, text), reasons }) =
            self.shape.kind().recommended()
        {
            (self.patch, self.batch) = (patch, batch);
            let numbers = self.shape.parameters(self.channels, self.classes);
            add(name, format!("asked for (`network.kind`); {text}, {numbers} trained numbers"));
            reasons.into_iter().for_each(|(field, text)| add(field, text));
        }
        let problems = self.shape.kind().problems(self.patch);
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::config("network", problems.join("; "), "choose another `network.variant`"))
    }
}

/// Reasons that hold for the planner's own network alone.
const OF_THE_PLANNER: [&str; 5] = ["patch", "batch", "features", "strides", "step"];

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
