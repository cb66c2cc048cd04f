//! The operating point of a prediction: with which bias the classes are decided.

use std::path::Path;

use super::trained::Trained;
use crate::progress::Progress;
use crate::score::operating::{self, Bias, Choice};
use crate::{Error, Result};

/// With which bias the classes are decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OperatingPoint {
    /// None: the class with the largest probability.
    #[default]
    Argmax,
    /// The one that the run chose on its held-out cases.
    Auto,
    /// By hand: `CLASS=ODDS` settings, see [`Bias::parse`].
    Odds(Vec<String>),
}

impl OperatingPoint {
    /// Reads what was given with `--operating`: nothing, one word, or `CLASS=ODDS` settings.
    ///
    /// # Errors
    /// Where a word stands beside anything else.
    pub fn read(texts: &[String]) -> Result<Self> {
        let word = |text: &String| ["auto", "argmax"].contains(&text.as_str());
        match texts {
            [] => Ok(Self::Argmax),
            [one] if one == "argmax" => Ok(Self::Argmax),
            [one] if one == "auto" => Ok(Self::Auto),
            _ if texts.iter().any(word) => Err(Error::config(
                "--operating",
                format!("`{}` cannot be joined", texts.join("`, `")),
                "give `auto` or `argmax` alone, or CLASS=ODDS once for every class",
            )),
            _ => Ok(Self::Odds(texts.to_vec())),
        }
    }
}

/// The bias of every run's decision, in their order.
///
/// # Errors
/// Where a run has chosen none, or a setting names no class of theirs or no odds.
pub(super) fn biases(point: &OperatingPoint, runs: &[Trained], progress: &dyn Progress) -> Result<Vec<Bias>> {
    let Some(first) = runs.first() else { return Ok(Vec::new()) };
    let names = &first.record.labels.names;
    let mut biases: Vec<Bias> = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let folder = &run.chosen_in.folder;
        let bias = match (point, &run.operating) {
            (OperatingPoint::Argmax, _) => Bias::none(names.len() - 1),
            (OperatingPoint::Odds(texts), _) => Bias::parse(texts, names)?,
            (OperatingPoint::Auto, Some(choice)) if choice.chosen.bias.values().len() + 1 == names.len() => {
                // The folds of a cross-validation have one choice.
                if number == 0 || runs[number - 1].chosen_in.folder != *folder {
                    tell(choice, folder, progress);
                }
                choice.chosen.bias.clone()
            }
            (OperatingPoint::Auto, choice) => {
                return Err(Error::invalid(
                    run.chosen_in.path(operating::FILE),
                    "--operating auto",
                    match choice {
                        Some(_) => "it was chosen for another number of classes",
                        None => {
                            "this run has chosen no operating point: that takes two held-out cases or more"
                        }
                    },
                    "give the odds yourself (--operating CLASS=ODDS), or train with --fold 0",
                ));
            }
        };
        biases.push(bias);
    }
    Ok(biases)
}

fn tell(choice: &Choice, folder: &Path, progress: &dyn Progress) {
    progress.note(&format!(
        "operating point of `{}`: {}, mean Dice {:.3} instead of {:.3} on the {} held-out cases that it was chosen on",
        folder.display(),
        choice.describe(),
        choice.chosen.dice[1],
        choice.chosen.dice[0],
        choice.cases.len()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_alone_and_settings_may_be_several() {
        let read = |texts: &[&str]| {
            OperatingPoint::read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]).unwrap(), OperatingPoint::Argmax);
        assert_eq!(read(&["argmax"]).unwrap(), OperatingPoint::Argmax);
        assert_eq!(read(&["auto"]).unwrap(), OperatingPoint::Auto);
        let odds = OperatingPoint::Odds(vec!["a=1".to_owned(), "b=2".to_owned()]);
        assert_eq!(read(&["a=1", "b=2"]).unwrap(), odds);
        let error = read(&["auto", "a=1"]).unwrap_err().to_string();
        assert!(error.contains("`auto`, `a=1`"), "{error}");
    }
}
