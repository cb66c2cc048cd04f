//! Cases with references: predicted, changed by the steps after a prediction, scored.

use std::path::Path;

use super::LabelFiles;
use super::choice::{Evidence, PostChoice};
use super::post::Steps;
use super::volumes::Volumes;
use crate::data::dataset::Case;
use crate::files::create_folder;
use crate::image;
use crate::prepare::Sample;
use crate::progress::Progress;
use crate::score::operating::{self, Bias, CaseOdds, Choice, Operating};
use crate::score::{CaseScores, ScoreOptions, Summary, score};
use crate::{Error, Result};

/// Which steps change the label map of a case.
#[derive(Clone, Copy, Debug)]
pub enum StepsOf<'a> {
    /// These, for every case.
    Given(&'a Steps),
    /// Those that are best on the other cases.
    OtherCases,
}

/// Which b a case's counts are given at. No label map is decided with it.
#[derive(Clone, Copy, Debug)]
pub enum BiasOf<'a> {
    /// This one, where there is one.
    Given(Option<&'a Bias>),
    /// The one that is best on the other cases.
    OtherCases,
}

/// Predictions of cases and what they are worth.
#[derive(Debug)]
pub struct Scored {
    /// The scores; `summary.json` of the folder.
    pub summary: Summary,
    /// The steps chosen on all cases and on the others of each, where they were to be chosen.
    pub post: PostChoice,
    /// The b chosen on all cases and on the others of each, where it was to be chosen and could be.
    pub choice: Option<Choice>,
    /// Cases that could not be predicted or scored, and why.
    pub failed: Vec<(String, Error)>,
}

/// Segments cases, writes the label maps into `folder`, which is the place of `files`, and scores them;
/// `summary.json` and `operating.json` stand beside them. `load` gives the prepared sample of a case. A case that fails leaves the others as they are.
///
/// # Errors
/// Where the user asked to stop; where every case fails, the first error; where the folder or `summary.json` cannot be written.
pub fn predict_and_score(
    files: &LabelFiles<'_>,
    folder: &Path,
    cases: &[&Case],
    load: &dyn Fn(&Case) -> Result<Sample>,
    (steps, bias): (StepsOf<'_>, BiasOf<'_>),
    progress: &dyn Progress,
) -> Result<Scored> {
    create_folder(folder)?;
    let (mut failed, mut evidence, mut predicted, mut odds) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    progress.begin("predicting", cases.len() as u64);
    for (number, &case) in cases.iter().enumerate() {
        if progress.is_stopped() {
            return Err(Error::stopped(format!("while predicting, {number} of {} done", cases.len())));
        }
        match load(case).and_then(|sample| predict(files, case, &sample, steps)) {
            Ok(found) => {
                evidence.extend(found.evidence.map(|found| (case.id.clone(), found)));
                odds.extend(found.odds);
                predicted.push(case);
            }
            Err(error) => failed.push((case.id.clone(), error)),
        }
        progress.advance(1);
    }
    progress.end();
    let post = PostChoice::of(&evidence, files.scheme);
    let mut scores = Vec::new();
    progress.begin("scoring", predicted.len() as u64);
    for case in predicted {
        if progress.is_stopped() {
            return Err(Error::stopped("while scoring predictions".to_owned()));
        }
        let own = match steps {
            StepsOf::Given(steps) => steps.clone(),
            StepsOf::OtherCases => post.steps_of(&case.id),
        };
        match finish(files, folder, case, steps, &own) {
            Ok(scored) => scores.extend(scored),
            Err(error) => failed.push((case.id.clone(), error)),
        }
        progress.advance(1);
    }
    progress.end();
    if failed.len() == cases.len()
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    let summary = Summary::of(scores, files.scheme, &ScoreOptions::default());
    summary.write(&folder.join("summary.json"))?;
    let choice = match bias {
        BiasOf::OtherCases => Choice::cross_fit(&mut odds),
        BiasOf::Given(bias) => {
            odds.iter_mut().for_each(|case| bias.into_iter().for_each(|bias| case.take(bias)));
            None
        }
    };
    Operating::of(odds).write(&folder.join(operating::FILE))?;
    Ok(Scored { summary, post, choice, failed })
}

/// What a prediction tells besides its label map.
#[derive(Default)]
struct Told {
    /// What decides about the steps, where they are still to be chosen.
    evidence: Option<Evidence>,
    /// Its log-odds, where there is a reference.
    odds: Option<CaseOdds>,
}

/// Writes the label map of a case.
fn predict(files: &LabelFiles<'_>, case: &Case, sample: &Sample, steps: StepsOf<'_>) -> Result<Told> {
    let none = Steps::new();
    let own = match steps {
        StepsOf::Given(steps) => steps,
        StepsOf::OtherCases => &none,
    };
    let Some(reference) = &case.labels else {
        files.write(case, sample, own, Volumes::default(), None, &mut |_| {})?;
        return Ok(Told::default());
    };
    let (reference, _) = image::read_labels(reference)?;
    let (file, odds) = files.write_counted(case, sample, own, &reference)?;
    let evidence = match steps {
        StepsOf::Given(_) => None,
        StepsOf::OtherCases => Some(Evidence::of(&file.labels, &reference, file.mask.as_ref(), files.scheme)),
    };
    Ok(Told { evidence, odds: Some(odds) })
}

/// Brings a case's label map into its final form and scores it; `None` without a reference.
fn finish(
    files: &LabelFiles<'_>,
    folder: &Path,
    case: &Case,
    steps: StepsOf<'_>,
    own: &Steps,
) -> Result<Option<CaseScores>> {
    let path = folder.join(LabelFiles::name(&case.id, files.ending));
    let (mut labels, header) = image::read_labels(&path)?;
    let mask = case.mask.as_deref().map(image::read_labels).transpose()?.map(|(mask, _)| mask);
    if let StepsOf::OtherCases = steps {
        files.change(&case.id, &mut labels, &header, mask.as_ref(), own)?;
    }
    let Some(reference_file) = case.labels.clone() else { return Ok(None) };
    let (reference, _) = image::read_labels(&reference_file)?;
    let scores = score(&labels, &reference, mask.as_ref(), files.scheme, &ScoreOptions::default());
    let post = own.iter().map(|(value, step)| (value.to_string(), step.to_string())).collect();
    Ok(Some(CaseScores { case: case.id.clone(), prediction_file: path, reference_file, scores, post }))
}
