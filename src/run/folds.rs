//! `folds.json`: a cross-validation, that is a folder of runs each of which holds out another fold.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Run, State};
use crate::config::Config;
use crate::files::{Existing, Outputs, bytes_of, read_json, write_atomically};
use crate::{Error, Result};

/// A folder with the runs of several folds, `fold-0`, `fold-1`, ..., and what was found on all their held-out cases.
#[derive(Clone, Debug)]
pub struct CrossValidation {
    /// The folder.
    pub folder: PathBuf,
    /// `folds.json`.
    pub record: Folds,
}

/// `folds.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Folds {
    /// Form of the file.
    pub format: u32,
    /// Version of this program.
    pub version: String,
    /// Folder of the data set, absolute.
    pub dataset: PathBuf,
    /// By fold, the cases that it holds out; every case once.
    pub held_out: BTreeMap<usize, Vec<String>>,
    /// By fold, the steps of the weights whose predictions `summary.json`, `post.json` and `operating.json` come from;
    /// none while a fold is unfinished.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pooled: BTreeMap<usize, u64>,
}

/// Folds as they are asked for: `0-4`, `0,2,4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldList(Vec<usize>);

const SETTINGS: &str = "settings.toml";
const FORMAT: u32 = 1;
/// Nobody has more folds; `0-1000000000` is a slip.
const MOST: usize = 1000;
/// Files and folders of a cross-validation beside those of its folds.
const PARTS: [&str; 6] =
    [SETTINGS, CrossValidation::FILE, "summary.json", "post.json", "operating.json", "validation"];

impl FoldList {
    /// The folds, ascending, each once.
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for FoldList {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| {
            let number = text.trim().parse::<usize>().ok().filter(|number| *number < MOST);
            number.ok_or_else(|| format!("`{text}` is no fold: write numbers, as in 0-4 or 0,2,4"))
        };
        let mut folds = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                None => folds.push(number(part)?),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(format!("`{part}` runs backwards: write {last}-{first}"));
                    }
                    folds.extend(first..=last);
                }
            }
        }
        folds.sort_unstable();
        if let Some(twice) = folds.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("fold {} is named twice", twice[0]));
        }
        match folds.len() {
            1 => Err(format!("one fold is no cross-validation; train it with --fold {}", folds[0])),
            _ => Ok(Self(folds)),
        }
    }
}

impl fmt::Display for FoldList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&listed(&self.0))
    }
}

impl CrossValidation {
    /// The name of its record.
    pub const FILE: &str = "folds.json";

    /// The cross-validation in a folder, where there is one.
    ///
    /// # Errors
    /// Where its `folds.json` cannot be read.
    pub fn find(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(Self::FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let record: Folds = read_json(&path, "restore the file from a backup")?;
        if record.format > FORMAT {
            return Err(Error::invalid(
                path,
                "format",
                format!(
                    "{}, written by segen {}; this version reads formats up to {FORMAT}",
                    record.format, record.version
                ),
                format!("use segen {}, or a later one", record.version),
            ));
        }
        if record.held_out.is_empty() {
            return Err(Error::invalid(path, "held_out", "names no fold", "restore the file from a backup"));
        }
        Ok(Some(Self { folder: folder.to_owned(), record }))
    }

    /// Begins one in a folder: `config` holds for every fold.
    ///
    /// # Errors
    /// Where parts of another one, or of a run, are there, or the folder cannot be written.
    pub fn begin(
        folder: &Path,
        dataset: &Path,
        held_out: BTreeMap<usize, Vec<String>>,
        config: &Config,
    ) -> Result<Self> {
        let outputs = Outputs::look("train", folder, &PARTS.map(str::to_owned), &[], Existing::Keep)?;
        let record = Folds {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dataset: dataset.to_owned(),
            held_out,
            pooled: BTreeMap::new(),
        };
        outputs.write(SETTINGS, None, bytes_of(config.to_toml().as_bytes()))?;
        // Last, so that what has this file is complete.
        outputs.write(Self::FILE, None, bytes_of(json(&record)?.as_bytes()))?;
        Ok(Self { folder: folder.to_owned(), record })
    }

    /// Puts another record in the place of this one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep(&mut self, record: Folds) -> Result<()> {
        write_atomically(&self.folder.join(Self::FILE), json(&record)?.as_bytes())?;
        self.record = record;
        Ok(())
    }

    /// The settings that every fold has, but for the number of its fold.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn config(&self) -> Result<Config> {
        Config::read(&self.folder.join(SETTINGS))
    }

    /// Puts other settings in the place of these.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn keep_config(&self, config: &Config) -> Result<()> {
        write_atomically(&self.folder.join(SETTINGS), config.to_toml().as_bytes())
    }

    /// Numbers of the folds, ascending.
    pub fn folds(&self) -> Vec<usize> {
        self.record.held_out.keys().copied().collect()
    }

    /// The run of a fold, which may not have begun.
    pub fn run(&self, fold: usize) -> Run {
        Self::fold_in(&self.folder, fold)
    }

    /// As [`Self::run`], in a folder where a cross-validation may begin.
    pub fn fold_in(folder: &Path, fold: usize) -> Run {
        Run::at(folder.join(Self::name(fold)))
    }

    /// The name of the folder of a fold.
    pub fn name(fold: usize) -> String {
        format!("fold-{fold}")
    }

    /// The content of [`Self::FILE`] without places and names of cases.
    ///
    /// # Errors
    /// Only by a fault of this program.
    pub fn nameless(&self) -> Result<Vec<u8>> {
        let held_out = self.folds().into_iter().map(|fold| (fold, Vec::new())).collect();
        let record = Folds { dataset: PathBuf::new(), held_out, ..self.record.clone() };
        Ok(json(&record)?.into_bytes())
    }

    /// The runs of all folds.
    ///
    /// # Errors
    /// Where one of them is unfinished or has been trained further since they were pooled: names them, and the command that finishes.
    pub fn finished(&self) -> Result<Vec<Run>> {
        let mut missing = Vec::new();
        for fold in self.folds() {
            let run = self.run(fold);
            let how = match run.exists().then(|| run.manifest()) {
                None => "has not begun".to_owned(),
                Some(Err(error)) => return Err(error),
                Some(Ok(manifest)) if manifest.state.is_complete() => continue,
                Some(Ok(manifest)) => match manifest.state {
                    State::Running => "is still at work, or was ended by force".to_owned(),
                    other => other.to_string(),
                },
            };
            missing.push(format!("fold {fold} ({how})"));
        }
        let steps = |fold: usize| self.run(fold).manifest().map(|manifest| manifest.steps);
        let (problem, field) = if missing.is_empty() {
            let stale = self.folds().into_iter().map(|fold| Ok((fold, steps(fold)?)));
            let stale = stale.collect::<Result<BTreeMap<_, _>>>()? != self.record.pooled;
            if !stale {
                return Ok(self.folds().into_iter().map(|fold| self.run(fold)).collect());
            }
            ("its folds are trained, but their held-out cases are not pooled yet".to_owned(), "pooled")
        } else {
            (format!("unfinished: {}", missing.join(", ")), "folds")
        };
        Err(Error::invalid(
            &self.folder,
            field,
            problem,
            format!(
                "finish it with `segen train {} -o {} --resume`, or name single folds, such as `{}`",
                self.record.dataset.display(),
                self.folder.display(),
                self.run(self.folds()[0]).folder.display()
            ),
        ))
    }
}

/// The runs in folders; a cross-validation is those of its folds.
///
/// # Errors
/// Where a fold is unfinished.
pub fn runs_of(folders: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for folder in folders {
        match CrossValidation::find(folder)? {
            Some(all) => runs.extend(all.finished()?),
            None => runs.push(Run::at(folder)),
        }
    }
    Ok(runs)
}

/// Numbers as `0-4` where they follow each other, else with commas.
pub(super) fn listed(folds: &[usize]) -> String {
    match folds {
        [first, .., last] if last - first + 1 == folds.len() => format!("{first}-{last}"),
        _ => folds.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn json(record: &Folds) -> Result<String> {
    match serde_json::to_string_pretty(record) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(Error::Internal { what: format!("writing folds as JSON: {error}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_folds_are_ranges_and_numbers() {
        let read = |text: &str| text.parse::<FoldList>().map(|list| list.0);
        assert_eq!(read("0-4"), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(read("4, 0,2"), Ok(vec![0, 2, 4]));
        assert_eq!(read("0-1,3"), Ok(vec![0, 1, 3]));
        assert_eq!("0-1,2".parse::<FoldList>().unwrap().to_string(), "0-2");
        assert_eq!("0,2".parse::<FoldList>().unwrap().to_string(), "0,2");
        for (bad, said) in [
            ("all", "`all` is no fold"),
            ("", "`` is no fold"),
            ("0,", "`` is no fold"),
            ("4-0", "write 0-4"),
            ("0-2,1", "fold 1 is named twice"),
            ("2", "--fold 2"),
            ("0-99999999999", "no fold"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }
}
