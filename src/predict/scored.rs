//! Cases with references: predicted, changed by the steps after a prediction, scored.

use std::path::Path;

use super::choice::{Evidence, PostChoice};
use super::post::Steps;
use super::{LabelFiles, Probabilities};
use crate::data::dataset::Case;
use crate::files::create_folder;
use crate::image;
use crate::prepare::Sample;
use crate::progress::Progress;
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

/// Predictions of cases and what they are worth.
#[derive(Debug)]
pub struct Scored {
    /// The scores; `summary.json` of the folder.
    pub summary: Summary,
    /// The steps chosen on all cases and on the others of each, where they were to be chosen.
    pub post: PostChoice,
    /// Cases that could not be predicted or scored, and why.
    pub failed: Vec<(String, Error)>,
}

/// Segments cases, writes the label maps into `folder`, which is the place of `files`, and scores them; `summary.json`
/// stands beside them. `load` gives the prepared sample of a case. A case that fails leaves the others as they are.
///
/// # Errors
/// Where the user asked to stop; where every case fails, the first error; where the folder or `summary.json` cannot be written.
pub fn predict_and_score(
    files: &LabelFiles<'_>,
    folder: &Path,
    cases: &[&Case],
    load: &dyn Fn(&Case) -> Result<Sample>,
    steps: StepsOf<'_>,
    progress: &dyn Progress,
) -> Result<Scored> {
    create_folder(folder)?;
    let (mut failed, mut evidence, mut predicted) = (Vec::new(), Vec::new(), Vec::new());
    progress.begin("predicting", cases.len() as u64);
    for (number, &case) in cases.iter().enumerate() {
        if progress.is_stopped() {
            return Err(Error::stopped(format!("while predicting, {number} of {} done", cases.len())));
        }
        match load(case).and_then(|sample| predict(files, case, &sample, steps)) {
            Ok(found) => {
                evidence.extend(found.map(|found| (case.id.clone(), found)));
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
    Ok(Scored { summary, post, failed })
}

/// Writes the label map of a case; where the steps are still to be chosen, gives what decides about them.
fn predict(
    files: &LabelFiles<'_>,
    case: &Case,
    sample: &Sample,
    steps: StepsOf<'_>,
) -> Result<Option<Evidence>> {
    let advance = &mut |_| {};
    match steps {
        StepsOf::Given(steps) => {
            files.write(case, sample, steps, Probabilities::Unwritten, None, advance)?;
            Ok(None)
        }
        StepsOf::OtherCases => {
            let none = Steps::new();
            let file = files.write(case, sample, &none, Probabilities::Unwritten, None, advance)?;
            let Some(reference) = &case.labels else { return Ok(None) };
            let (reference, _) = image::read_labels(reference)?;
            Ok(Some(Evidence::of(&file.labels, &reference, file.mask.as_ref(), files.scheme)))
        }
    }
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
