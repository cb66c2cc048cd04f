//! What a run that begins takes over from another one: its plan, its weights.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::config::{Config, NetworkConfig, NetworkKind};
use crate::data::dataset::{Case, Dataset};
use crate::files::{are_same, bytes_of};
use crate::learn::checkpoint::{encode_weights, read_weights};
use crate::learn::exported;
use crate::network::transfer::{Known, Named};
use crate::plan::{Plan, same_names};
use crate::progress::Progress;
use crate::run::record::Record;
use crate::run::{self, INITIAL, Run, Split};
use crate::{Error, Result};

/// Weights that a run begins with.
pub(super) struct Source {
    /// The run's folder, or the file.
    place: PathBuf,
    weights: Named,
    /// The run, and the step of its checkpoint; none of a mere file.
    run: Option<(Record, u64)>,
}

/// The weights that a configuration asks for, if any.
///
/// # Errors
/// Where they cannot be read.
pub(super) fn source(config: &Config) -> Result<Option<Source>> {
    let Some(from) = &config.init.from else { return Ok(None) };
    if from.is_file() {
        return Ok(Some(Source { place: from.clone(), weights: read_weights(from)?, run: None }));
    }
    let place = run::locate(from)?;
    exported::check(&Run::at(&place))?;
    let record = Record::open(&Run::at(&place))?;
    let (weights, step) = config.init.checkpoint.weights(&record.run)?;
    let all = weights.parameters.into_iter().chain(weights.buffers);
    let weights = all.map(|one| (one.name.clone(), one)).collect();
    Ok(Some(Source { place, weights, run: Some((record, step)) }))
}

/// Measures the data set and plans for it: takes over the plan of a file, or that of the run whose weights it begins with, where
/// the configuration names one, and then the configuration's overrides.
///
/// # Errors
/// Where a case or a plan cannot be read, the plan is not for such data, or an override does not go with it.
pub fn plan(dataset: &Dataset, config: &Config, progress: &dyn Progress) -> Result<Plan> {
    plan_from(dataset, config, source(config)?.as_ref(), progress)
}

/// As [`plan`], with the weights that were read.
pub(super) fn plan_from(
    dataset: &Dataset,
    config: &Config,
    source: Option<&Source>,
    progress: &dyn Progress,
) -> Result<Plan> {
    let of_run = source.and_then(|source| source.run.as_ref());
    let other = match (&config.plan.file, of_run) {
        (Some(file), _) => Some((Plan::load(file)?, file.clone())),
        (None, Some((record, _))) => Some((record.plan.clone(), record.run.path("plan.json"))),
        (None, None) => None,
    };
    let cases: Vec<&Case> = dataset.training.iter().collect();
    let fingerprint = Plan::measure(dataset, &cases, progress)?;
    let mut plan = Plan::decide(dataset, fingerprint, &config.plan.budget())?;
    if let Some((mut other, file)) = other {
        // Runs of earlier versions say in their dataset.json what their channels are.
        if let (Some((record, _)), None) = (of_run, &config.plan.file)
            && other.channel_names.is_empty()
            && record.channels.len() == other.channels
        {
            other.channel_names.clone_from(&record.channels);
        }
        let notes = plan.take_over(&other, &file)?;
        progress.note(&format!("the plan is that of `{}`", file.display()));
        notes.iter().for_each(|note| progress.note(note));
    }
    // A network that was taken over stays, unless another one is asked for.
    let NetworkConfig { kind, variant, .. } = config.network;
    let taken = plan.network_kind() == kind && variant == NetworkConfig::default().variant;
    if !taken {
        config.network.apply(&mut plan)?;
    }
    config.plan.apply(&mut plan, &dataset.channels)?;
    Ok(plan)
}

/// What a run's folder gets of weights that it begins with: the file of all its initial weights, and what is told of them.
pub(super) struct Initial {
    pub(super) weights: Vec<u8>,
    pub(super) record: Value,
}

impl Source {
    /// The initial weights of a run, and says layer by layer where they come from.
    ///
    /// # Errors
    /// Where they are those of another network.
    pub(super) fn begin(
        &self,
        (dataset, split): (&Dataset, &Split),
        config: &Config,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<Initial> {
        let names = &dataset.labels.names;
        let known = match &self.run {
            None => Known { channels: None, classes: None },
            Some((record, _)) => Known {
                channels: Some(same_names(&dataset.channels, &record.channels)),
                classes: Some(record.labels.names == *names),
            },
        };
        let data = (plan.channels, plan.classes);
        let taken = plan.shape.begin_with(data, &config.network, config.seed, (&self.weights, &known));
        let taken = taken.map_err(|problems| self.another_network(&problems))?;
        let layers = taken.describe();
        let step = self.run.as_ref().map(|(_, step)| *step);
        let at = step.map_or_else(String::new, |step| format!(", step {step}"));
        progress.note(&format!("initial weights from `{}`{at}:", self.place.display()));
        layers.iter().for_each(|line| progress.note(&format!("  {line}")));
        self.warn_of_known_cases(dataset, split, progress);
        let record = json!({ "from": self.place, "step": step, "layers": layers });
        Ok(Initial { weights: encode_weights(&taken.weights), record })
    }

    fn another_network(&self, problems: &[String]) -> Error {
        const NAMED: usize = 4;
        let shown = problems.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        let more = match problems.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let mend = match self.run {
            Some(_) => {
                "leave out --plan and settings of the network (`network.kind`, `plan.base_features`): then its own is taken"
            }
            None => {
                "name the folder of the run that they come from, or give its plan with --plan, so that its network is taken"
            }
        };
        Error::invalid(
            &self.place,
            "weights",
            format!("they are those of another network: {shown}{more}"),
            mend,
        )
    }

    /// Cases that are held out here and were trained on there make scores that estimate nothing.
    fn warn_of_known_cases(&self, dataset: &Dataset, split: &Split, progress: &dyn Progress) {
        let Some((record, _)) = &self.run else { return };
        let same = are_same(&record.manifest.dataset, &dataset.folder) || record.plan.dataset == dataset.name;
        let seen = |case: &&String| {
            record.split.train.contains(case) || record.split.policy_validation.contains(case)
        };
        let known = split.held_out().iter().filter(seen).count();
        if same && known > 0 {
            progress.note(&format!(
                "warning: {known} of the {} held-out cases were trained on by the run in `{}`: scores of this run will be no \
                 estimate for new ones",
                split.held_out().len(),
                self.place.display()
            ));
        }
    }
}

/// Writes the initial weights of a run that is about to be set up; removes those of an attempt that was stopped before.
///
/// # Errors
/// Where a file cannot be written or removed.
pub(super) fn keep_initial(run: &Run, initial: Option<&Initial>) -> Result<()> {
    let path = run.path(INITIAL);
    match initial {
        Some(initial) => run.vacant("train")?.write(INITIAL, None, bytes_of(&initial.weights)).map(drop),
        None if path.exists() => std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e)),
        None => Ok(()),
    }
}

/// Names the network of a plan in a configuration that asked for none.
///
/// # Errors
/// Where another setting does not go with it.
pub(super) fn settle_network(config: &mut Config, plan: &Plan) -> Result<()> {
    if config.network.kind == NetworkKind::default() {
        config.network.kind = plan.network_kind();
    }
    config.check()
}
