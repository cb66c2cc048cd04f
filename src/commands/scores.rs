//! Predicts and scores the cases of a trained run, and chooses on the held-out ones what its predictions are made with.

use std::path::Path;

use segen_kernels::Device;

use super::trained::{POST, Trained};
use crate::config::PostMode;
use crate::data::dataset::{Case, Dataset};
use crate::predict::choice::PostChoice;
use crate::predict::post::Steps;
use crate::predict::scored::{BiasOf, Scored, StepsOf, predict_and_score};
use crate::predict::{LabelFiles, Place};
use crate::prepare::PreparedCase;
use crate::progress::Progress;
use crate::run::record::{Record, cases_of};
use crate::score::Summary;
use crate::score::operating::{self, Bias, Choice};
use crate::{Error, Result};

/// Where the steps and the b of a part's cases come from.
type Chosen<'a> = (StepsOf<'a>, BiasOf<'a>);

/// Scores of a run's cases.
#[derive(Debug)]
pub struct Scores {
    /// Of the held-out cases.
    pub validation: Summary,
    /// Of the data set's test cases, where it has labels for them.
    pub test: Option<Summary>,
    /// Cases that could not be scored, and why.
    pub failed: Vec<(String, Error)>,
}

impl Trained {
    /// Predicts and scores the held-out cases, chooses the steps after a prediction and the bias of the decision on
    /// them, and writes these to `post.json` and `operating.json`; then predicts and scores the labelled test cases with
    /// the steps, and as many training cases as the configuration asks for. Label maps are those of the plain
    /// decision. `prepared` are the samples of training and validation cases that there are already.
    ///
    /// # Errors
    /// Where nothing of a part can be predicted, or the run folder cannot be written.
    pub fn score(
        &mut self,
        dataset: &Dataset,
        prepared: &[PreparedCase],
        device: &Device,
        progress: &dyn Progress,
    ) -> Result<Scores> {
        let segmenter = self.segmenter(self.window_options(), device)?;
        let Record { run, config, plan, split, .. } = self.record.clone();
        let plain = Bias::none(segmenter.classes() - 1);
        let part =
            |name: &str, cases: &[&Case], chosen: Chosen<'_>, prepared: &[PreparedCase]| -> Result<Scored> {
                let folder = run.path(name);
                let load = |case: &Case| match prepared.iter().find(|prepared| prepared.id == case.id) {
                    Some(prepared) => prepared.load(),
                    None => plan.recipe().prepare(dataset, case),
                };
                let files = LabelFiles {
                    segmenter: segmenter.as_ref(),
                    bias: &plain,
                    scheme: &dataset.labels,
                    ending: &dataset.file_ending,
                    place: Place::Run(&folder),
                };
                predict_and_score(&files, &folder, cases, &load, chosen, progress)
            };
        let validation = cases_of(dataset, &split.validation)?;
        // With `fold = all` these were trained on: what gains there says nothing.
        let held_out = split.held_out().len() == validation.len();
        let none = Steps::new();
        let steps = match config.validation.post {
            PostMode::Auto if held_out => StepsOf::OtherCases,
            _ => StepsOf::Given(&none),
        };
        let bias = if held_out { BiasOf::OtherCases } else { BiasOf::Given(None) };
        let Scored { summary: mut validation, post, choice, mut failed } =
            part("validation", &validation, (steps, bias), prepared)?;
        if split.held_out().is_empty() {
            tell_trained_on(&mut validation, &run.path("validation"))?;
        }
        run.write_json(POST, &post)?;
        run.write_json(operating::FILE, &choice)?;
        tell(&post, progress);
        tell_choice(choice.as_ref(), progress);
        let steps = post.steps();
        (self.post, self.operating) = (post, choice);
        let bias = self.operating.as_ref().map(|choice| &choice.chosen.bias);
        let shipped = (StepsOf::Given(&steps), BiasOf::Given(bias));
        let labelled: Vec<&Case> = dataset.test.iter().filter(|case| case.labels.is_some()).collect();
        let test = match labelled.is_empty() {
            true => None,
            // A test case may have the name of another one.
            false => Some(part("test", &labelled, shipped, &[])?),
        };
        let test = test.map(|test| {
            failed.extend(test.failed);
            test.summary
        });
        let train = cases_of(dataset, &split.train)?;
        let few = config.validation.train_cases.min(train.len());
        if few > 0 {
            let spread: Vec<&Case> = (0..few).map(|i| train[i * train.len() / few]).collect();
            let mut scored = part("train", &spread, shipped, prepared)?;
            tell_trained_on(&mut scored.summary, &run.path("train"))?;
            failed.extend(scored.failed);
        }
        Ok(Scores { validation, test, failed })
    }
}

/// Writes into `summary.json` that its cases were trained on, so that nobody takes the scores for an estimate.
fn tell_trained_on(summary: &mut Summary, folder: &Path) -> Result<()> {
    summary.trained_on = true;
    summary.write(&folder.join("summary.json"))
}

/// Says which steps were chosen.
pub(super) fn tell(post: &PostChoice, progress: &dyn Progress) {
    for choice in &post.values {
        progress.note(&format!(
            "after predictions, {}: {}, mean Dice {:.3} instead of {:.3} on the {} held-out cases ({:+.3} on those that \
             it was not chosen on)",
            choice.regions.join(", "),
            choice.post,
            choice.dice[1],
            choice.dice[0],
            post.cases,
            choice.cross_fitted_gain
        ));
    }
}

/// Says which bias was chosen, where it is one.
pub(super) fn tell_choice(choice: Option<&Choice>, progress: &dyn Progress) {
    let Some(choice) = choice.filter(|choice| !choice.chosen.bias.is_none()) else { return };
    progress.note(&format!(
        "operating point {}: mean Dice {:.3} instead of {:.3} on the {} held-out cases ({:.3} where each gets what the \
         others choose); `segen predict --operating auto` decides so, label maps here are those of argmax",
        choice.describe(),
        choice.chosen.dice[1],
        choice.chosen.dice[0],
        choice.cases.len(),
        choice.cross_fitted_dice
    ));
}
