//! Every setting of a run, its default and its unit: data and ranges only.
//!
//! Settings come in layers, each of which overrides those before: the defaults, a preset, a file in TOML, and
//! `section.key=value` from the command line. The result is checked as a whole and stands, with every value, in the
//! run folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{Error, Result, files};

pub mod classical;
mod earlier;
pub mod init;
pub mod keys;
pub mod loss;
pub mod method;
pub mod named;
mod names;
pub mod network;
pub mod optimiser;
pub mod plan;
pub mod policy;
pub mod preset;
pub mod published;
pub mod sampling;
pub mod schedule;

pub use classical::ClassicalConfig;
pub use init::{InitConfig, Which};
pub use loss::{ClassWeights, DiceReduction, LossConfig, WeightRule};
pub use method::{MethodConfig, MethodName};
pub use named::{NameOrFile, Named};
pub use network::{NetworkConfig, NetworkKind, Variant};
pub use optimiser::{Optimiser, OptimiserKind};
pub use plan::{NormalisationChoice, PlanOverrides, Scheme};
pub use policy::{Comparison, PolicyConfig, PolicyName};
pub use published::Conventions;
pub use sampling::{FoldChoice, FractionMode, Sampling, SamplingRule, TaskConfig};
pub use schedule::{
    CheckpointConfig, KernelPath, Kernels, Length, LoaderConfig, PostMode, Precision, Schedule, Validation,
    WINDOW_STEPS,
};

use method::{Adversarial, PatchAugmentation};
use schedule::LENGTHS;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seed of everything that is drawn: initial weights, patches, augmentation, fractions.
    pub seed: u64,
    /// Which fold to hold out; a number, or `all` to train and validate on everything.
    pub fold: FoldChoice,
    /// A file of folds, as nnU-Net's `splits_final.json`, that replaces the data set's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splits: Option<PathBuf>,
    /// Share of the fold's training cases to train on, in (0, 1].
    pub fraction: f64,
    /// How the cases of a fraction are chosen.
    pub fraction_mode: FractionMode,
    /// Whether details follow the programs that were released with the papers: see [`published`].
    pub published: bool,
    /// Whether events are also written for TensorBoard.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    /// Where weights begin.
    #[serde(skip_serializing_if = "InitConfig::is_off")]
    pub init: InitConfig,
    /// How long to train.
    pub schedule: Schedule,
    /// How weights move.
    pub optimiser: Optimiser,
    /// What is minimised.
    pub loss: LossConfig,
    /// What counters overfitting to rare classes.
    pub method: MethodConfig,
    /// The methods that are fitted, not trained.
    #[serde(skip_serializing_if = "ClassicalConfig::is_default")]
    pub classical: ClassicalConfig,
    /// Where patches are cut.
    pub sampling: Sampling,
    /// How patches are augmented.
    pub policy: PolicyConfig,
    /// What is segmented.
    pub task: TaskConfig,
    /// Network options that the plan leaves open.
    pub network: NetworkConfig,
    /// Values that replace the plan's.
    pub plan: PlanOverrides,
    /// Validation while training.
    pub validation: Validation,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// Threads that make batches and how many batches wait ready.
    pub loader: LoaderConfig,
    /// CPU operators.
    pub kernels: Kernels,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            fold: FoldChoice::Number(0),
            splits: None,
            fraction: 1.0,
            fraction_mode: FractionMode::Random,
            published: false,
            tensorboard: false,
            init: InitConfig::default(),
            schedule: Schedule::default(),
            optimiser: Optimiser::default(),
            loss: LossConfig::default(),
            method: MethodConfig::default(),
            classical: ClassicalConfig::default(),
            sampling: Sampling::default(),
            policy: PolicyConfig::default(),
            task: TaskConfig::default(),
            network: NetworkConfig::default(),
            plan: PlanOverrides::default(),
            validation: Validation::default(),
            checkpoint: CheckpointConfig::default(),
            loader: LoaderConfig::default(),
            kernels: Kernels::default(),
        }
    }
}

impl Config {
    /// Defaults, then the file where there is one, then every `section.key=value` of `sets` in order.
    pub fn resolve(file: Option<&Path>, sets: &[String]) -> Result<Self> {
        Self::resolve_preset(None, file, sets)
    }

    /// As [`Self::resolve`], with a preset ([`preset::names`]) between the defaults and the file.
    ///
    /// # Errors
    /// Where a key is unknown, a value has the wrong type or range, or one layer gives the length of the training
    /// in two ways.
    pub fn resolve_preset(preset: Option<&str>, file: Option<&Path>, sets: &[String]) -> Result<Self> {
        let table = preset.map(preset::table).transpose()?.unwrap_or_default();
        let file = file.map(|path| Ok((read(path)?, path))).transpose()?;
        Self::of_layers(table, file, sets)
    }

    /// Reads a resolved configuration back, also one that an earlier version wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let mut own = read(path)?;
        earlier::keep_one_length(&mut own);
        Self::of_layers(Table::new(), Some((own, path)), &[])
    }

    fn of_layers(mut table: Table, file: Option<(Table, &Path)>, sets: &[String]) -> Result<Self> {
        if let Some((own, path)) = file {
            let own = layer(own, &path.display().to_string())?;
            // What the file says beside a method's name overrides what the name stands for.
            if let Some(name) = own.get("method").and_then(|m| m.get("name")).and_then(Value::as_str) {
                names::apply(&mut table, name)?;
            }
            override_length(&mut table, &own);
            preset::overlay(&mut table, own);
        }
        let mut command_line = Table::new();
        for set in sets {
            let (path, value) = split(set)?;
            // A method's name stands for settings; those that are set after it override them.
            if let ("method.name", Some(name)) = (path, value.as_str()) {
                names::apply(&mut table, name)?;
            }
            let own = layer(nested(path, value), set)?;
            preset::overlay(&mut command_line, own.clone());
            preset::overlay(&mut table, own);
        }
        one_length(&command_line, "the command line")?;
        override_length(&mut table, &command_line);
        let config = parse(table, "configuration")?;
        config.check()?;
        Ok(config)
    }

    /// The configuration as TOML with every value.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| unreachable!("a Config is plain data: {error}"))
    }

    /// The classical method, where one is fitted and no network is trained.
    pub fn classical_method(&self) -> Option<MethodName> {
        self.method.name.filter(|name| name.is_classical())
    }

    /// Details of losses, methods and learned policies.
    pub fn conventions(&self) -> Conventions {
        match self.published {
            true => Conventions::published(self.network.kind),
            false => Conventions::OWN,
        }
    }

    /// Share of the fraction's cases that is set aside: as configured, else a fifth for whoever needs them, a policy
    /// that learns or a method that measures, and none for others.
    pub fn validation_share(&self) -> f64 {
        let needed = self.policy.learns() || self.method.auto.measures();
        self.policy.validation_share.unwrap_or(if needed { policy::VALIDATION_SHARE } else { 0.0 })
    }

    /// All that is wrong with the values, in one error.
    pub fn check(&self) -> Result<()> {
        let mut problems = Problems::default();
        problems.demand(self.fraction > 0.0 && self.fraction <= 1.0, "fraction", "above 0 and at most 1");
        self.schedule.check(&mut problems);
        self.optimiser.check(&mut problems);
        self.loss.check(&mut problems);
        self.classical.check(&mut problems);
        self.sampling.check(&mut problems);
        self.network.check(&mut problems);
        self.plan.check(&mut problems);
        self.validation.check(&mut problems);
        self.checkpoint.check(&mut problems);
        self.loader.check(&mut problems);
        self.policy.check(&mut problems);
        let augmentation = match self.policy.name {
            NameOrFile::Name(PolicyName::None) => PatchAugmentation::None,
            NameOrFile::Name(PolicyName::Learned) => PatchAugmentation::Learned,
            _ => PatchAugmentation::Fixed,
        };
        self.method.check(augmentation, &mut problems);
        let share = self.validation_share();
        problems.demand((0.0..1.0).contains(&share), "policy.validation_share", "at least 0 and below 1");
        problems.demand(
            share > 0.0 || !(self.policy.learns() || self.method.auto.measures()),
            "policy.validation_share",
            "above 0 for a policy that learns and a method that measures (`method.auto`)",
        );
        problems.demand(
            !self.published
                || self.method.adversarial
                    == Adversarial { mode: self.method.adversarial.mode, ..Adversarial::default() },
            "method.adversarial.eps_rms",
            "left out with `published = true`, which moves by an L2 norm of 10",
        );
        problems.demand(
            !self.published || self.policy.learning.estimator != Some(Comparison::LeaveOneOut),
            "policy.learning.estimator",
            "`batch` or left out with `published = true`",
        );
        match problems.0.is_empty() {
            true => Ok(()),
            false => Err(Error::config("configuration", problems.0.join("; "), "change these values")),
        }
    }
}

/// Values that cannot be used, in words.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    /// Notes what `field` must be where it is not.
    fn demand(&mut self, holds: bool, field: &str, wanted: &str) {
        if !holds {
            self.0.push(format!("`{field}` must be {wanted}"));
        }
    }
}

/// A file as a table.
fn read(path: &Path) -> Result<Table> {
    files::read_toml(path, "fix the line that the message points at")
}

/// One layer, checked by itself, so that an error says where the value comes from.
fn layer(mut table: Table, place: &str) -> Result<Table> {
    earlier::drop_constants(&mut table, place)?;
    names::resolve_alias(&mut table);
    keys::check(&table, place)?;
    one_length(&table, place)?;
    parse(table.clone(), place)?;
    Ok(table)
}

fn parse(table: Table, place: &str) -> Result<Config> {
    Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        // The key stands at the end, in a line of its own.
        let text = error.to_string();
        let (problem, key) = text.trim_end().rsplit_once("\nin ").unwrap_or((text.trim_end(), ""));
        let problem = if key.is_empty() { problem.to_owned() } else { format!("{key}: {problem}") };
        Error::config(place, problem, "see docs/configuration.md for every key and its type")
    })
}

/// Refuses a layer that gives the length of the training in two ways.
fn one_length(layer: &Table, place: &str) -> Result<()> {
    let given: Vec<String> = lengths(layer).iter().map(|key| format!("`schedule.{key}`")).collect();
    match given.len() {
        0 | 1 => Ok(()),
        _ => Err(Error::config(
            place,
            format!("{} are set, and each gives the length of the training", given.join(" and ")),
            "keep one of them",
        )),
    }
}

/// Where a layer gives the length of the training, what lower layers say of it goes.
fn override_length(table: &mut Table, layer: &Table) {
    let given = lengths(layer);
    if let (false, Some(Value::Table(schedule))) = (given.is_empty(), table.get_mut("schedule")) {
        schedule.retain(|key, _| !LENGTHS.contains(&key) || given.contains(&key));
    }
}

/// The keys by which a layer gives the length of the training.
fn lengths(layer: &Table) -> Vec<&'static str> {
    let schedule = layer.get("schedule").and_then(Value::as_table);
    LENGTHS.into_iter().filter(|key| schedule.is_some_and(|schedule| schedule.contains_key(*key))).collect()
}

/// Key and value of `a.b=v`. The value is TOML where it parses as such, otherwise a string.
fn split(set: &str) -> Result<(&str, Value)> {
    let Some((path, text)) = set.split_once('=') else {
        return Err(Error::config(set, "there is no `=`", "write it as section.key=value"));
    };
    let text = text.trim();
    let parsed = format!("v = {text}").parse::<Table>().ok().filter(|parsed| parsed.len() == 1);
    let value = parsed.and_then(|mut parsed| parsed.remove("v"));
    Ok((path.trim(), value.unwrap_or_else(|| Value::String(text.to_owned()))))
}

/// A table that holds one value at a dotted path.
fn nested(path: &str, value: Value) -> Table {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let inner = if rest.is_empty() { value } else { Value::Table(nested(rest, value)) };
    Table::from_iter([(first.to_owned(), inner)])
}

#[cfg(test)]
mod tests {
    use super::published::{
        AbsentClasses, AuxBatch, DiceMean, Difference, DirectionLoss, Estimator, Partner, Repeats,
    };
    use super::*;

    fn sets(list: &[&str]) -> Vec<String> {
        list.iter().map(|&s| s.to_owned()).collect()
    }

    fn refused(list: &[&str]) -> String {
        Config::resolve(None, &sets(list)).unwrap_err().to_string()
    }

    /// Resolves a file with this text, and settings of the command line over it.
    fn with_file(text: &str, list: &[&str]) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        std::fs::write(&path, text).unwrap();
        Config::resolve(Some(&path), &sets(list))
    }

    #[test]
    fn a_resolved_configuration_reads_back_equal() {
        let list = [
            "schedule.steps=7",
            "fold=all",
            "plan.patch=[8, 16, 24]",
            "policy.name=some/policy.toml",
            "plan.normalisation={CT=\"none\"}",
            "kernels.path=portable",
            "method.name=asym-mixup",
        ];
        let config = Config::resolve(None, &sets(&list)).unwrap();
        assert_eq!(config.schedule.length, Length::Steps(7));
        assert_eq!(config.fold, FoldChoice::All);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml()).unwrap();
        assert_eq!(Config::read(&path).unwrap(), config);
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        let unknown = refused(&["optimiser.learningrate=1"]);
        assert!(unknown.contains("did you mean `optimiser.learning_rate`"), "{unknown}");
        let bad = refused(&["optimiser.momentum=1.5", "fraction=0.0"]);
        assert!(bad.contains("optimiser.momentum") && bad.contains("fraction"), "{bad}");
        assert!(refused(&["seed"]).contains("section.key=value"));
        for (set, words) in [
            ("policy.name=leanred", "heuristic-nnunet, random, learned"),
            ("policy.start=unifrom", "uniform, half-identity"),
            ("method.name=asym-margins", "asym-margin, focal"),
            ("kernels.path=sse", "`portable`, `avx2`"),
            ("kernels.precision=f16", "`bf16`"),
            ("plan.normalisation=z-score", "`zscore`, `ct`, `rescale`"),
            ("seed.more=1", "seed"),
        ] {
            let message = refused(&[set]);
            assert!(message.starts_with(set) || message.starts_with("method.name"), "{message}");
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn one_layer_gives_the_length_of_the_training_once() {
        for message in [
            refused(&["schedule.steps=7", "schedule.epochs=2"]),
            refused(&["schedule={steps=7, epochs=2}"]),
            with_file("[schedule]\nsteps = 7\nepochs = 2", &[]).unwrap_err().to_string(),
            // What the command line says does not excuse a file that says two things.
            with_file("[schedule]\nsteps = 7\nepochs = 2", &["schedule.steps=3"]).unwrap_err().to_string(),
        ] {
            assert!(message.contains("`schedule.steps` and `schedule.epochs`"), "{message}");
        }
        let length = |text, list: &[&str]| with_file(text, list).unwrap().schedule.length;
        assert_eq!(length("", &[]), Length::Epochs(1000));
        assert_eq!(length("[schedule]\nepochs = 2", &["schedule.steps=3"]), Length::Steps(3));
        assert_eq!(
            length("[schedule]\nsteps = 2", &["schedule.time_budget_seconds=60"]),
            Length::Seconds(60.0)
        );
        assert_eq!(
            length("[schedule]\nsteps = 2", &["schedule.steps=3", "schedule.steps=4"]),
            Length::Steps(4)
        );
        let file = with_file("[schedule]\nsteps = 2\nsteps_per_epoch = 5", &["schedule.epochs=3"]).unwrap();
        assert_eq!(file.schedule, Schedule { length: Length::Epochs(3), steps_per_epoch: 5, patience: None });
        // A preset gives epochs.
        let small = Config::resolve_preset(Some("atlas.small"), None, &sets(&["schedule.steps=9"])).unwrap();
        assert_eq!(small.schedule.length, Length::Steps(9));
    }

    #[test]
    fn runs_of_earlier_versions_read_as_they_were_trained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "[schedule]\nsteps = 5\nepochs = 35\n[loss]\nepsilon = 0.0\ndice_absent = \"leave\"\n\
                    [policy]\nname = \"random\"\n[policy.learning]\npoly_power = 0.9";
        std::fs::write(&path, text).unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.schedule.length, Length::Steps(5));
        assert_eq!(config.conventions(), Conventions::OWN);
        std::fs::write(&path, text.replace("0.0", "1e-6")).unwrap();
        let message = Config::read(&path).unwrap_err().to_string();
        assert!(message.contains("config.toml") && message.contains("`loss.epsilon`"), "{message}");
    }

    #[test]
    fn published_programs_are_followed_by_one_switch() {
        let conventions = |list: &[&str]| Config::resolve(None, &sets(list)).unwrap().conventions();
        assert_eq!(conventions(&[]), Conventions::OWN);
        let unet = conventions(&["published=true"]);
        let deepmedic = conventions(&["published=true", "network.kind=deepmedic"]);
        for published in [unet, deepmedic] {
            // Destructured, so that a detail cannot be added without an entry here.
            let Conventions {
                epsilon,
                dice_mean,
                dice_absent,
                adversarial_norm,
                direction,
                partner,
                aux_batch,
                difference,
                estimator,
                repeats,
            } = published;
            assert_eq!((epsilon, adversarial_norm), (1e-6, Some(10.0)));
            assert_eq!(difference, Difference::Central);
            assert_eq!((estimator, repeats), (Estimator::StraightThrough, Repeats::Divided));
            let of_loss = (dice_mean, dice_absent, direction);
            let of_passes = (partner, aux_batch);
            if published == unet {
                let expected =
                    (DiceMean::Foreground, AbsentClasses::Constant, DirectionLoss::CrossEntropyDice);
                assert_eq!(of_loss, expected);
                assert_eq!(of_passes, (Partner::Flip, AuxBatch::RawIndependent));
            } else {
                assert_eq!(of_loss, (DiceMean::AllClasses, AbsentClasses::Stay, DirectionLoss::CrossEntropy));
                assert_eq!(of_passes, (Partner::Permutation, AuxBatch::Same));
            }
        }
        let message = refused(&["published=true", "method.adversarial.eps_rms=0.1"]);
        assert!(message.contains("eps_rms"), "{message}");
    }
}
