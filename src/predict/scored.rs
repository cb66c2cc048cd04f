//! Cases with references: predicted, changed by the steps after a prediction, scored.

use std::path::{Path, PathBuf};

use super::LabelFiles;
use super::choice::{Evidence, PostChoice};
use super::post::{self, Steps};
use super::volumes::Volumes;
use crate::config::PostMode;
use crate::data::dataset::{Case, LabelScheme};
use crate::files::{create_folder, write_atomically};
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

/// Where the label maps of scored cases lie, and what they hold.
#[derive(Clone, Copy, Debug)]
pub struct Maps<'a> {
    /// Their folder; `operating.json` stands beside them.
    pub folder: &'a Path,
    /// What the classes are called in files.
    pub scheme: &'a LabelScheme,
    /// Ending of the files, with its dot.
    pub ending: &'a str,
}

/// A case whose label map is there already, in the folder of the run that held it out.
#[derive(Clone, Debug)]
pub struct HeldOut<'a> {
    /// The case.
    pub case: &'a Case,
    /// Its label map before any step.
    pub map: PathBuf,
    /// Its log-odds.
    pub odds: CaseOdds,
}

impl Maps<'_> {
    fn file(&self, id: &str) -> PathBuf {
        self.folder.join(LabelFiles::name(id, self.ending))
    }

    /// The copy of a label map as it was before a step changed it.
    fn plain(&self, id: &str) -> PathBuf {
        self.folder.join(PLAIN).join(LabelFiles::name(id, self.ending))
    }

    /// The label map of a case as it was before any step; `changed` says whether it got steps that were chosen on other cases.
    ///
    /// # Errors
    /// Where the steps changed it and no copy was kept.
    pub fn before_steps(&self, id: &str, changed: bool) -> Result<PathBuf> {
        match (changed, self.plain(id)) {
            (false, _) => Ok(self.file(id)),
            (true, plain) if plain.is_file() => Ok(plain),
            (true, plain) => Err(Error::invalid(
                plain,
                "label map",
                format!("steps have changed the label map of `{id}`, and what it was before is not there"),
                "let `segen train --resume` predict the cases of this run again",
            )),
        }
    }
}

/// Folder, beside the label maps, of those that steps have changed since, as they were before.
const PLAIN: &str = "plain";

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
    let maps = Maps { folder, scheme: files.scheme, ending: files.ending };
    let told = |case: &Case| {
        let told = load(case).and_then(|sample| predict(files, &maps, case, &sample, steps));
        files.segmenter.take_notes().iter().for_each(|note| progress.note(note));
        told
    };
    let summary = folder.join("summary.json");
    score_maps((&maps, &summary), (cases, "predicting"), &told, (steps, bias), progress)
}

/// Copies the label maps of cases that several runs held out, each once, into one folder, chooses the steps (where `post` says so)
/// and the bias on all of them together, and scores the maps with the steps that the other cases choose; the scores go to `summary`.
///
/// # Errors
/// As [`predict_and_score`].
pub fn pool(
    (maps, summary): (&Maps<'_>, &Path),
    held_out: &[HeldOut<'_>],
    post: PostMode,
    progress: &dyn Progress,
) -> Result<Scored> {
    let none = Steps::new();
    let steps = match post {
        PostMode::Auto => StepsOf::OtherCases,
        PostMode::Off => StepsOf::Given(&none),
    };
    let told = |case: &Case| {
        let Some(held) = held_out.iter().find(|held| held.case.id == case.id) else {
            return Err(Error::Internal { what: format!("pooling `{}`, which was not held out", case.id) });
        };
        let bytes = std::fs::read(&held.map).map_err(|e| Error::io("read", &held.map, e))?;
        let (labels, _) = image::read_labels(&held.map)?;
        write_atomically(&maps.file(&case.id), &bytes)?;
        forget_plain(maps, &case.id)?;
        let evidence = match (steps, &case.labels) {
            (StepsOf::OtherCases, Some(reference)) => {
                let (reference, _) = image::read_labels(reference)?;
                let mask = case.mask.as_deref().map(image::read_labels).transpose()?.map(|(mask, _)| mask);
                Some(Evidence::of(&labels, &reference, mask.as_ref(), maps.scheme))
            }
            _ => None,
        };
        Ok(Told { evidence, odds: Some(CaseOdds { bias: None, at_bias: Vec::new(), ..held.odds.clone() }) })
    };
    let cases: Vec<&Case> = held_out.iter().map(|held| held.case).collect();
    let cases = (&cases[..], "pooling held-out cases");
    score_maps((maps, summary), cases, &told, (steps, BiasOf::OtherCases), progress)
}

/// Scores cases once `tell` has written the plain label map of each.
fn score_maps(
    (maps, place): (&Maps<'_>, &Path),
    (cases, what): (&[&Case], &str),
    tell: &dyn Fn(&Case) -> Result<Told>,
    (steps, bias): (StepsOf<'_>, BiasOf<'_>),
    progress: &dyn Progress,
) -> Result<Scored> {
    create_folder(maps.folder)?;
    let (mut failed, mut evidence, mut predicted, mut odds) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    progress.begin(what, cases.len() as u64);
    for (number, &case) in cases.iter().enumerate() {
        if progress.is_stopped() {
            return Err(Error::stopped(format!("while {what}, {number} of {} done", cases.len())));
        }
        match tell(case) {
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
    let post = PostChoice::of(&evidence, maps.scheme);
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
        match finish(maps, case, steps, &own) {
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
    let summary = Summary::of(scores, maps.scheme, &ScoreOptions::default());
    summary.write(place)?;
    let choice = match bias {
        BiasOf::OtherCases => Choice::cross_fit(&mut odds),
        BiasOf::Given(bias) => {
            odds.iter_mut().for_each(|case| bias.into_iter().for_each(|bias| case.take(bias)));
            None
        }
    };
    Operating::of(odds).write(&maps.folder.join(operating::FILE))?;
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
fn predict(
    files: &LabelFiles<'_>,
    maps: &Maps<'_>,
    case: &Case,
    sample: &Sample,
    steps: StepsOf<'_>,
) -> Result<Told> {
    let none = Steps::new();
    let own = match steps {
        StepsOf::Given(steps) => steps,
        StepsOf::OtherCases => &none,
    };
    forget_plain(maps, &case.id)?;
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

/// Removes the copy that an earlier scoring kept of a label map.
fn forget_plain(maps: &Maps<'_>, id: &str) -> Result<()> {
    let plain = maps.plain(id);
    match std::fs::remove_file(&plain) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &plain, error)),
        _ => Ok(()),
    }
}

/// Brings a case's label map into its final form and scores it; `None` without a reference.
fn finish(maps: &Maps<'_>, case: &Case, steps: StepsOf<'_>, own: &Steps) -> Result<Option<CaseScores>> {
    let path = maps.file(&case.id);
    let (mut labels, header) = image::read_labels(&path)?;
    let mask = case.mask.as_deref().map(image::read_labels).transpose()?.map(|(mask, _)| mask);
    if let (StepsOf::OtherCases, false) = (steps, own.is_empty()) {
        let plain = maps.plain(&case.id);
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        create_folder(&maps.folder.join(PLAIN))?;
        write_atomically(&plain, &bytes)?;
        post::apply(own, &mut labels, mask.as_ref());
        image::write_labels(&path, &labels, Some(&header))?;
    }
    let Some(reference_file) = case.labels.clone() else { return Ok(None) };
    let (reference, _) = image::read_labels(&reference_file)?;
    let scores = score(&labels, &reference, mask.as_ref(), maps.scheme, &ScoreOptions::default());
    let post = own.iter().map(|(value, step)| (value.to_string(), step.to_string())).collect();
    Ok(Some(CaseScores { case: case.id.clone(), prediction_file: path, reference_file, scores, post }))
}
