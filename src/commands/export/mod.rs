//! A trained run as a model that can be given away: what prediction needs, without the names and places of its data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::trained::{Model, POST, Trained, Which};
use crate::config::Config;
use crate::files::{folder_beside, is_there, publish_folder, read_text, write_atomically};
use crate::learn::exported;
use crate::predict::choice::PostChoice;
use crate::progress::Progress;
use crate::run::record::Record;
use crate::run::{Manifest, Run, Split};
use crate::score::operating::{self, Choice};
use crate::{Error, Result};

mod card;

/// One `segen export`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The run.
    pub run: &'a Run,
    /// Which of its checkpoints.
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
    /// Names of its files.
    pub files: Vec<String>,
    /// Their size together.
    pub bytes: u64,
}

/// Writes the model of a run. The folder appears when everything is in it.
///
/// # Errors
/// Where the run cannot be opened or is a model already, the licence cannot be read, or the folder is there and holds
/// anything, or cannot be written.
pub fn run(request: &Request<'_>, progress: &dyn Progress) -> Result<Exported> {
    vacant(request.folder)?;
    if exported::is_model(request.run) {
        let problem = "is an exported model already";
        return Err(Error::invalid(&request.run.folder, "run folder", problem, "copy its folder as it is"));
    }
    let trained = Trained::open(request.run, request.checkpoint)?;
    if !trained.record.manifest.state.is_complete() {
        progress.note(&format!(
            "warning: the run has not finished ({}): this is the model after {} steps",
            trained.record.manifest.state, trained.steps
        ));
    }
    let mut files = contents(&trained)?;
    let Model::Network { weights, .. } = &trained.model;
    files
        .extend(exported::weight_files(weights, trained.steps).map(|(name, bytes)| (name.to_owned(), bytes)));
    let [card, licence] = exported::FOR_PEOPLE;
    if let Some(path) = request.licence {
        files.push((licence.to_owned(), read_text(path)?.into_bytes()));
    }
    let text = card::card(&trained, request.folder, request.licence.is_some())?;
    files.push((card.to_owned(), text.into_bytes()));
    let (sums, text) = exported::sums(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    files.push((sums.to_owned(), text.into_bytes()));
    let aside = folder_beside(request.folder)?;
    for (name, bytes) in &files {
        write_atomically(&aside.path().join(name), bytes)?;
    }
    publish_folder(aside, request.folder)?;
    Ok(Exported {
        folder: request.folder.to_owned(),
        bytes: files.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        files: files.into_iter().map(|(name, _)| name).collect(),
    })
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
    if run.path(POST).is_file() {
        let post = PostChoice { cross_fitted: BTreeMap::new(), ..trained.post.clone() };
        files.push((POST.to_owned(), json(&post)?));
    }
    if run.path(operating::FILE).is_file() {
        let nameless = trained.operating.clone().map(|choice| Choice {
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
