//! Scores a folder of segmentations against a folder of references.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::overlap::Pair;
use super::{CaseScores, Masks, MissingRule, ScoreOptions, Summary};
use crate::data::dataset::{LabelScheme, entries, file_of};
use crate::error::{Error, Result};
use crate::files;
use crate::image::volume::{Fit, Labels};
use crate::image::{case_of_probability, endings_in_words, read_labels, single_stem};
use crate::progress::Progress;

/// The files of one case.
struct CaseFiles {
    case: String,
    prediction: PathBuf,
    reference: PathBuf,
    mask: Option<PathBuf>,
}

/// Scores every segmentation of `predictions` against the file of the same name in `references` (endings may
/// differ). Both are folders, or both files. Cases are scored in parallel; the summary has them by name.
///
/// Errors: a reference without a prediction (unless `options.missing` says otherwise), a prediction without a
/// reference, all listed; shapes or positions that differ; label values that `scheme` does not know, among the
/// voxels that count; unreadable files. Every failing case is told to `progress`, the first is returned.
pub fn evaluate(
    predictions: &Path,
    references: &Path,
    scheme: &LabelScheme,
    options: &ScoreOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    options.check()?;
    let (cases, without_prediction) = match_files(predictions, references, options)?;
    let masked = cases.iter().filter(|case| case.mask.is_some()).count();
    if masked > 0 {
        progress.note(&format!("{masked} of {} cases are scored inside a mask", cases.len()));
    }
    progress.begin("scoring cases", cases.len() as u64);
    let mut results: Vec<Result<CaseScores>> = Vec::with_capacity(cases.len());
    // A thread that waits inside one case takes up another: batches keep the cases in memory as few as threads.
    for batch in cases.chunks(rayon::current_num_threads()) {
        results.par_extend(batch.par_iter().map(|files| {
            let scored = evaluate_case(files, scheme, options);
            progress.advance(1);
            scored
        }));
    }
    progress.end();
    for error in results.iter().filter_map(|result| result.as_ref().err()).skip(1) {
        progress.note(&format!("also: {error}"));
    }
    let cases = results.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Summary { without_prediction, ..Summary::of(cases, scheme, options) })
}

/// The files that [`evaluate`] reads.
///
/// # Errors
/// Those of [`evaluate`] that show before a file is read.
pub fn inputs(predictions: &Path, references: &Path, options: &ScoreOptions) -> Result<Vec<PathBuf>> {
    let (cases, _) = match_files(predictions, references, options)?;
    Ok(cases
        .into_iter()
        .flat_map(|case| [case.prediction, case.reference].into_iter().chain(case.mask))
        .collect())
}

/// The labels of the `dataset.json` that belongs to these segmentations: in the folder of the predictions or
/// beside it, else beside the folder of the references. Each may be a file instead of a folder.
pub fn find_scheme(predictions: &Path, references: &Path) -> Result<LabelScheme> {
    LabelScheme::read(&find_description(predictions, references)?)
}

/// Where the `dataset.json` of [`find_scheme`] is.
///
/// # Errors
/// Where there is none.
pub fn find_description(predictions: &Path, references: &Path) -> Result<PathBuf> {
    let folder = |path: &Path| if path.is_file() { parent(path) } else { path.to_owned() };
    let (predictions, references) = (folder(predictions), folder(references));
    let candidates = [predictions.clone(), parent(&predictions), parent(&references)];
    let candidates = candidates.map(|folder| folder.join("dataset.json"));
    match candidates.iter().find(|candidate| candidate.is_file()) {
        Some(file) => Ok(file.clone()),
        None => Err(Error::invalid(
            &predictions,
            "dataset.json",
            format!("is at none of {}", candidates.map(|path| format!("`{}`", path.display())).join(", ")),
            "name it with --dataset FILE; it says which label values are scored",
        )),
    }
}

fn parent(path: &Path) -> PathBuf {
    // A path without a parent in its text (`labels`, `.`) has one in the file system.
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && path.file_name().is_some() => parent.to_owned(),
        _ => path.join(".."),
    }
}

fn evaluate_case(files: &CaseFiles, scheme: &LabelScheme, options: &ScoreOptions) -> Result<CaseScores> {
    let (prediction, _) = read_labels(&files.prediction)?;
    let (reference, _) = read_labels(&files.reference)?;
    let mask = files.mask.as_deref().map(read_labels).transpose()?.map(|(mask, _)| mask);
    same_place((&files.prediction, &prediction), (&files.reference, &reference))?;
    if let (Some(file), Some(mask)) = (&files.mask, &mask) {
        same_place((file, mask), (&files.reference, &reference))?;
    }
    let pair = Pair::new(&prediction, &reference, mask.as_ref(), scheme.ignore);
    for (file, values) in [&files.prediction, &files.reference].into_iter().zip(pair.values()) {
        let unknown = values.iter().filter(|&&(value, _)| usize::from(value) >= scheme.classes());
        let unknown: Vec<_> = unknown.map(|(value, n)| format!("{value} ({n} voxels)")).collect();
        if !unknown.is_empty() {
            let known = scheme.classes() - 1;
            return Err(Error::invalid(
                file,
                "label values",
                format!("{} are not among the classes 0 to {known}", unknown.join(", ")),
                "score with the dataset.json that these segmentations were made with",
            ));
        }
    }
    let scores = pair.scores(scheme, options);
    Ok(CaseScores {
        case: files.case.clone(),
        prediction_file: files.prediction.clone(),
        reference_file: files.reference.clone(),
        scores,
        post: BTreeMap::new(),
    })
}

/// Whether a segmentation lies on its reference's grid.
fn same_place((file, labels): (&Path, &Labels), (reference_file, reference): (&Path, &Labels)) -> Result<()> {
    if labels.grid.fit(&reference.grid) <= Fit::Near {
        return Ok(());
    }
    let problem = match labels.grid.displacement(&reference.grid) {
        None => format!(
            "{} voxels, but its reference `{}` has {}",
            times(labels.grid.shape),
            reference_file.display(),
            times(reference.grid.shape)
        ),
        Some(apart) => format!(
            "lies up to {apart:.4} mm off its reference `{}`, {:.2} voxels: voxel (0, 0, 0) is at {} mm here and at \
             {} mm there, spacing {} mm and {} mm, orientation {} and {}",
            reference_file.display(),
            labels.grid.voxels_apart(&reference.grid).unwrap_or(f64::NAN),
            listed(labels.grid.world([0.0; 3])),
            listed(reference.grid.world([0.0; 3])),
            listed(labels.grid.spacing()),
            listed(reference.grid.spacing()),
            labels.grid.orientation().letters(),
            reference.grid.orientation().letters()
        ),
    };
    let mend = "put it back onto the reference's grid (nearest neighbour) before scoring";
    Err(Error::invalid(file, "geometry", problem, mend))
}

fn times(shape: [usize; 3]) -> String {
    shape.map(|n| n.to_string()).join(" x ")
}

fn listed(values: [f64; 3]) -> String {
    format!("({:.4}, {:.4}, {:.4})", values[0], values[1], values[2])
}

/// The files of every case, by name, and the number of references left out for want of a prediction.
fn match_files(
    predictions: &Path,
    references: &Path,
    options: &ScoreOptions,
) -> Result<(Vec<CaseFiles>, usize)> {
    if predictions.is_file() && references.is_file() {
        let case = case_name(predictions).unwrap_or_else(|| predictions.display().to_string());
        let files = CaseFiles {
            mask: mask_of(references, options)?,
            case,
            prediction: predictions.to_owned(),
            reference: references.to_owned(),
        };
        return Ok((vec![files], 0));
    }
    let mut predicted = segmentations(predictions)?;
    let mut missing = Vec::new();
    let mut cases = Vec::new();
    for (case, reference) in segmentations(references)? {
        match predicted.remove(&case) {
            Some(prediction) => {
                let mask = mask_of(&reference, options)?;
                cases.push(CaseFiles { case, prediction, reference, mask });
            }
            None => missing.push(case),
        }
    }
    if !predicted.is_empty() {
        let names: Vec<_> = predicted.into_keys().collect();
        return Err(Error::invalid(
            predictions,
            "cases",
            format!(
                "predictions without a reference in `{}` ({}): {}",
                references.display(),
                names.len(),
                names.join(", ")
            ),
            "remove them, or add their references",
        ));
    }
    if !missing.is_empty() && (options.missing == MissingRule::Refuse || cases.is_empty()) {
        return Err(Error::invalid(
            predictions,
            "cases",
            format!(
                "references of `{}` without a prediction ({}): {}",
                references.display(),
                missing.len(),
                missing.join(", ")
            ),
            "predict them too, or score only what was predicted with --partial",
        ));
    }
    if cases.is_empty() {
        let problem = format!("holds no segmentation ({})", endings_in_words());
        return Err(Error::invalid(predictions, "cases", problem, "give the folder of the predictions"));
    }
    Ok((cases, missing.len()))
}

/// The segmentations of a folder by case name. What `predict` writes beside its label maps is none: a volume of
/// probabilities of a case that is there.
fn segmentations(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    std::fs::read_dir(folder).map_err(|error| files::unreadable(folder, error))?;
    let mut found = BTreeMap::new();
    for path in entries(folder)? {
        let Some(case) = case_name(&path) else { continue };
        if let Some(other) = found.insert(case.clone(), path) {
            return Err(Error::invalid(
                folder,
                "cases",
                format!("case `{case}` is there twice, also as `{}`", other.display()),
                "keep one of the two",
            ));
        }
    }
    let cases: Vec<String> = found.keys().cloned().collect();
    found.retain(|case, _| !case_of_probability(case).is_some_and(|of| cases.iter().any(|case| case == of)));
    Ok(found)
}

/// The name of a segmentation file without its ending; `None` for any other file.
fn case_name(path: &Path) -> Option<String> {
    single_stem(path.file_name()?.to_str()?).map(str::to_owned)
}

/// The mask inside which the case with this reference is scored.
///
/// # Errors
/// Where a folder of masks was named and has none for it.
pub(crate) fn mask_of(reference: &Path, options: &ScoreOptions) -> Result<Option<PathBuf>> {
    let folder = match &options.masks {
        Masks::None => return Ok(None),
        Masks::Folder(folder) => folder.clone(),
        Masks::Beside => {
            let labels = reference.parent();
            let name = match labels.and_then(Path::file_name).and_then(|name| name.to_str()) {
                Some("labelsTr") => "masksTr",
                Some("labelsTs") => "masksTs",
                _ => return Ok(None),
            };
            match labels.and_then(Path::parent).map(|dataset| dataset.join(name)) {
                Some(folder) if folder.is_dir() => folder,
                _ => return Ok(None),
            }
        }
    };
    let case = case_name(reference).unwrap_or_default();
    match file_of(&folder, &case) {
        Ok(mask) => Ok(Some(mask)),
        Err(_) if options.masks == Masks::Beside => Ok(None),
        Err(_) => Err(Error::invalid(
            &folder,
            "masks",
            format!("case `{case}` has no mask"),
            "add it, or score without masks",
        )),
    }
}
