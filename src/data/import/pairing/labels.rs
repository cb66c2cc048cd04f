//! Which label file belongs to which case.

use std::collections::{BTreeMap, HashSet};

use super::readings::{File, Key, Reading, Told};
use super::{CaseFrom, Context, some};
use crate::data::dataset::Template;
use crate::{Error, Result};

/// Cases with their label files.
pub(super) struct Paired<'a> {
    pub(super) labels: BTreeMap<Key, &'a File>,
    /// How the label files are called.
    pub(super) template: Template,
}

/// Gives every label file the case that a scan has too.
///
/// Of all ways to read a label file those count whose case a scan's path names as well. The template that most label
/// files share rules.
///
/// # Errors
/// Where there is no label file, one has no scan, and where a case has several.
pub(super) fn pair<'a>(context: &Context<'_>, labels: &[&'a File], images: &[&File]) -> Result<Paired<'a>> {
    if labels.is_empty() {
        return Err(no_labels(context, images));
    }
    let of_images: HashSet<Key> =
        images.iter().flat_map(|image| context.readings(image)).map(|reading| reading.key).collect();
    let readings: Vec<Vec<Reading>> = labels
        .iter()
        .map(|label| {
            let readings = context.readings(label).into_iter();
            readings.filter(|reading| of_images.contains(&reading.key)).collect()
        })
        .collect();
    let Some(template) = most_common(&readings, context.label_files) else {
        let all: Vec<&File> = labels.to_vec();
        return Err(without_scans(context, &all, images));
    };
    let mut paired: BTreeMap<Key, &File> = BTreeMap::new();
    let mut others = Vec::new();
    for (label, readings) in labels.iter().copied().zip(&readings) {
        match readings.iter().find(|reading| reading.template.folded() == template.folded()) {
            Some(reading) => {
                if let Some(first) = paired.insert(reading.key.clone(), label) {
                    return Err(several(context, &reading.key, (first, &template), (label, &template)));
                }
            }
            None => others.push((label, readings)),
        }
    }
    let mut alone = Vec::new();
    for (label, readings) in others {
        match readings.iter().find(|reading| paired.contains_key(&reading.key)) {
            None => alone.push(label),
            // Another kind, which was not asked for.
            Some(_) if context.label_files.is_some() => {}
            Some(Reading { key, template: other }) => {
                return Err(several(context, key, (paired[key], &template), (label, other)));
            }
        }
    }
    match alone.is_empty() {
        true => Ok(Paired { labels: paired, template }),
        false => Err(without_scans(context, &alone, images)),
    }
}

/// The template that most label files can be read by; of several the one that was seen first, with the longest case.
/// Where one says `word` and nothing else, those that say more are of another kind.
fn most_common(readings: &[Vec<Reading>], word: Option<&str>) -> Option<Template> {
    let all = || readings.iter().flatten().map(|reading| &reading.template);
    let says = |template: &&Template| word.is_some_and(|word| template.word().eq_ignore_ascii_case(word));
    let exact = all().any(|template| says(&template));
    let mut counts: BTreeMap<String, (usize, usize, &Template)> = BTreeMap::new();
    for (order, template) in all().filter(|template| !exact || says(template)).enumerate() {
        counts.entry(template.folded()).or_insert((0, order, template)).0 += 1;
    }
    let best = counts.values().max_by_key(|(count, order, _)| (*count, std::cmp::Reverse(*order)));
    best.map(|(_, _, template)| (*template).clone())
}

fn no_labels(context: &Context<'_>, images: &[&File]) -> Error {
    let shown: Vec<String> = images.iter().map(|image| image.shown.clone()).collect();
    context.error(
        "label files",
        format!("none of the {} NIfTI files looks like one: {}", shown.len(), some(&shown)),
        "label files are told by their folder (masks, labels, segmentations, annotations, ...) or by the end of their \
         names (_seg, _mask, _label, ...); say with --label-files WORD which folder or end it is",
    )
}

fn several(context: &Context<'_>, key: &Key, one: (&File, &Template), two: (&File, &Template)) -> Error {
    let words = [one, two].map(|(file, template)| word(file, template));
    let fix = match words[0].eq_ignore_ascii_case(&words[1]) {
        true => {
            "remove one of them, or rename it if it belongs to another case, whose scan is missing".to_owned()
        }
        false => format!("say which it is with --label-files {} or --label-files {}", words[0], words[1]),
    };
    let from = match context.from {
        CaseFrom::Folder => "; if the folder holds several cases, add --case-from name",
        CaseFrom::Name | CaseFrom::Bids => "",
    };
    context.error(
        format!("case `{}`", key.captured.id()),
        format!("has several label files: {} and {}", one.0.shown, two.0.shown),
        format!("{fix}{from}"),
    )
}

/// What tells label files of one kind from others, as `--label-files` takes it.
fn word(file: &File, template: &Template) -> String {
    let folders = file.place.all.iter().rev();
    match folders.filter(|(_, role)| role.is_some()).map(|(folder, _)| folder).next() {
        Some(folder) if file.told == Told::LabelFolder => folder.clone(),
        _ => template.word(),
    }
}

/// Of label files whose case no scan names.
pub(super) fn without_scans(context: &Context<'_>, labels: &[&File], images: &[&File]) -> Error {
    let shown: Vec<String> = labels.iter().map(|label| label.shown.clone()).collect();
    let scans: Vec<String> = images.iter().map(|image| image.shown.clone()).collect();
    let problem = match labels {
        [_] => format!("{} has no scan", shown[0]),
        _ => format!("{} have no scan: {}", labels.len(), some(&shown)),
    };
    let fix = match scans.is_empty() {
        true => "add the scans: no other file is there".to_owned(),
        false => format!(
            "the name of a scan begins as that of its label file does, capitals included: add the scans, rename files, or \
             remove these; there are {}",
            some(&scans)
        ),
    };
    context.error("label files", problem, fix)
}
