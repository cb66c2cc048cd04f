//! A trained run, or all folds of a cross-validation, as a model that can be given away: what prediction needs, without the
//! names and places of its data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use super::trained::{Model, POST, Trained, Which, chosen};
use crate::config::Config;
use crate::files::{
    create_folder, folder_beside, is_there, publish_folder, read_text, sha256, write_atomically,
};
use crate::learn::exported;
use crate::predict::choice::PostChoice;
use crate::progress::Progress;
use crate::run::folds::CrossValidation;
use crate::run::record::Record;
use crate::run::{Manifest, Run, Split};
use crate::score::operating::{self, Choice};
use crate::{Error, Result};

mod card;

/// One `segen export`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The run, or the folder of a cross-validation.
    pub run: &'a Run,
    /// Which of its checkpoints, or of those of each fold.
    pub checkpoint: Which,
    /// The folder of the model, which is not there yet, or empty.
    pub folder: &'a Path,
    /// The text of its licence.
    pub licence: Option<&'a Path>,
}

/// A model that was written.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// Its folder.
    pub folder: PathBuf,
    /// Places of its files in it, with `/` between their parts.
    pub files: Vec<String>,
    /// Their size together.
    pub bytes: u64,
}

/// Writes the model of a run, or of a cross-validation. The folder appears when everything is in it.
///
/// # Errors
/// Where the run cannot be opened, is a model already or has unfinished folds, the licence cannot be read, or the folder is
/// there and holds anything, or cannot be written.
pub fn run(request: &Request<'_>, progress: &dyn Progress) -> Result<Exported> {
    vacant(request.folder)?;
    if exported::is_model(request.run) {
        let problem = "is an exported model already";
        return Err(Error::invalid(&request.run.folder, "run folder", problem, "copy its folder as it is"));
    }
    let runs = Trained::open_all(std::slice::from_ref(request.run), request.checkpoint)?;
    for run in &runs {
        let manifest = &run.record.manifest;
        if !manifest.state.is_complete() {
            progress.note(&format!(
                "warning: the run has not finished ({}): this is the model after {} steps",
                manifest.state, run.steps
            ));
        }
    }
    let mut parcel = Parcel { aside: folder_beside(request.folder)?, sums: Vec::new(), bytes: 0 };
    let folds = CrossValidation::find(&request.run.folder)?;
    match (&folds, runs.as_slice()) {
        (None, [run]) => parcel.add_network("", run)?,
        (Some(folds), runs) => parcel.add_folds(folds, runs)?,
        (None, _) => return Err(Error::Internal { what: "a run that is not one".to_owned() }),
    }
    let [card, licence] = exported::FOR_PEOPLE;
    if let Some(path) = request.licence {
        parcel.add(licence, read_text(path)?.as_bytes())?;
    }
    let text = card::card(&runs, folds.as_ref(), request.folder, request.licence.is_some())?;
    parcel.add(card, text.as_bytes())?;
    parcel.add_sums("")?;
    let Parcel { aside, sums, bytes } = parcel;
    publish_folder(aside, request.folder)?;
    let files = sums.into_iter().map(|(name, _)| name).collect();
    Ok(Exported { folder: request.folder.to_owned(), files, bytes })
}

/// A model that is being written.
struct Parcel {
    /// Where it is until it is whole.
    aside: TempDir,
    /// Places of its files and their sums.
    sums: Vec<(String, String)>,
    bytes: u64,
}

impl Parcel {
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.aside.path().join(name), bytes)?;
        self.sums.push((name.to_owned(), sha256(bytes)));
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The files of one network, at places that begin with `place`.
    fn add_network(&mut self, place: &str, trained: &Trained) -> Result<()> {
        let Model::Network { weights, .. } = &trained.model else {
            return Err(Error::invalid(
                &trained.record.run.folder,
                "method",
                "is a classical one: what was fitted stands in its folder `model`, without a form of its own to export",
                "copy the run folder without `validation`, `test` and `train`; some methods keep training scans in it",
            ));
        };
        let weights = exported::weight_files(weights, trained.steps);
        let weights = weights.into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
        for (name, bytes) in contents(trained)?.into_iter().chain(weights) {
            self.add(&format!("{place}{name}"), &bytes)?;
        }
        Ok(())
    }

    /// Those of a cross-validation: each fold is a model of its own.
    fn add_folds(&mut self, all: &CrossValidation, runs: &[Trained]) -> Result<()> {
        for (fold, run) in all.folds().into_iter().zip(runs) {
            let place = format!("{}/", CrossValidation::name(fold));
            create_folder(&self.aside.path().join(&place))?;
            self.add_network(&place, run)?;
            self.add_sums(&place)?;
        }
        for (name, bytes) in choices(&Run::at(&all.folder))? {
            self.add(&name, &bytes)?;
        }
        self.add(CrossValidation::FILE, &all.nameless()?)?;
        let (mark, bytes) = exported::mark_of_folds(all.folds());
        self.add(mark, &bytes)
    }

    /// The sums of the files so far that begin with `place`.
    fn add_sums(&mut self, place: &str) -> Result<()> {
        let inside =
            self.sums.iter().filter_map(|(name, sum)| Some((name.strip_prefix(place)?, sum.as_str())));
        let (name, text) = exported::sums(inside);
        self.add(&format!("{place}{name}"), text.as_bytes())
    }
}

/// Sees that there is room for the folder.
fn vacant(folder: &Path) -> Result<()> {
    let refuse = |problem: &str, mend: &str| Err(Error::invalid(folder, "output", problem, mend));
    if folder.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip")) {
        return refuse(
            "a model is a folder, not an archive",
            "leave `.zip` out, and pack the folder with the archiver of your choice",
        );
    }
    match std::fs::read_dir(folder).map(Iterator::count) {
        Ok(0) => Ok(()),
        Ok(_) => refuse("is there already and not empty", "choose another folder with -o"),
        Err(_) if is_there(folder) => {
            refuse("is there already and no folder", "choose another place with -o")
        }
        Err(_) => Ok(()),
    }
}

/// The files of the run that prediction reads, without places and names of cases.
fn contents(trained: &Trained) -> Result<Vec<(String, Vec<u8>)>> {
    let Record { run, config, plan, policy, manifest, .. } = &trained.record;
    let mut config = config.clone();
    config.splits = None;
    config.method.auto.from = None;
    let manifest = Manifest {
        format: manifest.format,
        version: manifest.version.clone(),
        kernels_path: manifest.kernels_path.clone(),
        planned_steps: manifest.planned_steps,
        steps: manifest.steps,
        train_seconds: manifest.train_seconds,
        state: manifest.state.clone(),
        ..Manifest::default()
    };
    let split = Split { train: Vec::new(), validation: Vec::new(), policy_validation: Vec::new() };
    let mut files = vec![
        ("config.toml".to_owned(), placeless(&config)?.into_bytes()),
        ("plan.json".to_owned(), plan.to_json()?.into_bytes()),
        ("policy.toml".to_owned(), policy.to_toml().into_bytes()),
        ("dataset.json".to_owned(), json(&run.read_json::<Value>("dataset.json")?)?),
        ("run.json".to_owned(), json(&manifest)?),
        ("split.json".to_owned(), json(&split)?),
    ];
    files.extend(choices(run)?);
    Ok(files)
}

/// The steps after a prediction and the operating point in a folder, where it has them, without names of cases.
fn choices(run: &Run) -> Result<Vec<(String, Vec<u8>)>> {
    let (post, operating) = chosen(run)?;
    let mut files = Vec::new();
    if run.path(POST).is_file() {
        let post = PostChoice { cross_fitted: BTreeMap::new(), ..post };
        files.push((POST.to_owned(), json(&post)?));
    }
    if run.path(operating::FILE).is_file() {
        let nameless = operating.map(|choice| Choice {
            cases: (1..=choice.cases.len()).map(|number| format!("case {number}")).collect(),
            cross_fitted: BTreeMap::new(),
            ..choice
        });
        files.push((operating::FILE.to_owned(), json(&nameless)?));
    }
    Ok(files)
}

/// A configuration without texts that have a folder in them: files of augmentation, other runs. Nothing that prediction
/// reads is one.
fn placeless(config: &Config) -> Result<String> {
    fn clear(table: &mut toml::Table) {
        table.retain(|_, value| match value {
            toml::Value::String(text) => !text.contains(['/', '\\']),
            toml::Value::Table(inner) => {
                clear(inner);
                true
            }
            _ => true,
        });
    }
    let internal =
        |error: &dyn std::fmt::Display| Error::Internal { what: format!("writing a configuration: {error}") };
    let mut table: toml::Table =
        config.to_toml().parse().map_err(|error: toml::de::Error| internal(&error))?;
    clear(&mut table);
    toml::to_string_pretty(&table).map_err(|error| internal(&error))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Internal { what: format!("writing a model as JSON: {error}") })?;
    Ok((text + "\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_loses_its_places_and_nothing_else() {
        let sets = [
            "policy.name=/home/me/own.toml",
            "splits=../folds.json",
            "plan.batch=3",
            "method.name=asym-focal",
        ];
        let config = Config::resolve(None, &sets.map(str::to_owned)).unwrap();
        let text = placeless(&config).unwrap();
        assert!(!text.contains("home") && !text.contains("folds.json"), "{text}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut expected = config;
        expected.splits = None;
        expected.policy.name = Config::default().policy.name;
        assert_eq!(Config::read(file.path()).unwrap(), expected);
    }
}
