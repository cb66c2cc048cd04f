//! Any ordinary folder: scans and label files are paired by what their paths say.
//!
//! There is one engine for all layouts. A label file is told by a word ([`files`]). Its path, like that of every scan,
//! can be read in several ways ([`readings`]); the reading that gives most label files a scan is the one for all of them,
//! and says what the cases are. Of a scan's path the case is taken away, and what is left is its channel.
//!
//! | layout | case | channel | labels |
//! |---|---|---|---|
//! | `images/p0`, `masks/p0` | name | rest of the name, or of the folders | folder |
//! | `p0_t1`, `p0_seg` | beginning of the name | rest of the name | end of the name |
//! | `p0/t1`, `p0/seg` | folder | name | name |
//! | `sub-0_ses-1_T1w`, `sub-0_ses-1_label-lesion_mask` | `sub` and `ses` | rest of the name | suffix |
//! | `imagesTr/p0_0000`, `labelsTr/p0`, `masksTr/p0` | name | digits | folder |
//!
//! Nothing is guessed: a file that could be two things, a case that lacks what the others have, and label files without
//! a scan are errors that show what was seen and name the option that decides.

mod channels;
mod files;
mod labels;
mod readings;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::options::{CaseFrom, Options};
use super::source::Tree;
use super::{Classes, Found, FoundCase, LabelSource, Layout, Part};
use crate::data::dataset::{Fold, Section, Template};
use crate::{Error, Result};
use channels::Chosen;
use files::Files;
use readings::{File, Key, Reading, Told};

pub(super) use values::classify;

/// Scans by case and channel, while they are collected.
#[derive(Default)]
struct Scans<'a> {
    /// Files of the cases with labels, by channel (its template in lower case).
    cases: BTreeMap<Key, BTreeMap<String, Vec<&'a File>>>,
    /// Templates of channels by the same, as they are spelled first.
    templates: BTreeMap<String, Template>,
    /// Scans that belong to no label file.
    unlabelled: Vec<&'a File>,
}

/// Pairs the files of a folder.
pub(super) fn find(tree: &Tree, options: &Options) -> Result<Found> {
    let Files { files, from } = Files::find(tree, options)?;
    let images: Vec<&File> = files.iter().filter(|file| file.told == Told::Image).collect();
    let labels: Vec<&File> = files.iter().filter(|file| file.is_labels()).collect();
    let sections = labels.iter().all(|file| file.place.section.is_some());
    let context = Context { tree, from, sections, label_files: options.label_files.as_deref() };
    let paired = labels::pair(&context, &labels, &images)?;
    let mut scans = Scans::default();
    for image in &images {
        scans.take(&context, image, &paired.labels);
    }
    // A scan `p1_2` is that of `p1_2` and not of `p1`, whose label file may be there without one.
    let lost: Vec<&File> = paired
        .labels
        .iter()
        .filter(|(key, _)| !scans.cases.contains_key(key))
        .map(|(_, label)| *label)
        .collect();
    if !lost.is_empty() {
        return Err(labels::without_scans(&context, &lost, &images));
    }
    scans.leave_others_alone(&context);
    let chosen = channels::choose(&context, &scans, &options.channels)?;
    let without = chosen.unlabelled(&context, &scans)?;
    let mut masks = masks(&context, &files, scans.cases.keys().chain(without.iter().map(|(key, _)| key)))?;
    let with_masks = !masks.is_empty();
    let layout = match from {
        CaseFrom::Name => Layout::Names,
        CaseFrom::Folder => Layout::CaseFolders,
        CaseFrom::Bids => Layout::Bids,
    };
    let mut found = Found::new(layout, &tree.root, &[], Classes::plain(&[]));
    let mut held_out = BTreeSet::new();
    for (key, channels) in &scans.cases {
        let images = chosen.files(&context, key, channels)?;
        let label = paired.labels[key];
        let id = key.captured.id();
        let part =
            match label.place.section.or(channels.values().flatten().find_map(|file| file.place.section)) {
                Some(Section::Test) => Part::Test,
                Some(Section::Validation) => {
                    held_out.insert(id.clone());
                    Part::Training
                }
                _ => Part::Training,
            };
        let labels = Some(LabelSource::keep(label.path.clone()));
        let mask = masks.remove(key);
        found.cases.push(FoundCase { id, part, images: chosen.images(images), labels, mask });
    }
    found.notes.extend(note_unlabelled(without.iter().map(|(key, _)| key.captured.id())));
    for (key, images) in without {
        let (id, images, mask) = (key.captured.id(), chosen.images(images), masks.remove(&key));
        found.cases.push(FoundCase { id, part: Part::Test, images, labels: None, mask });
    }
    found.notes.extend(note_unmasked(&found).filter(|_| with_masks));
    found.splits.extend(prescribed(&found, &held_out));
    found.notes.extend(chosen.notes());
    found.notes.extend(left_out(&files, &found));
    found.pairing = Some(chosen.pairing(paired.template));
    found.channels = chosen.names;
    Ok(found)
}

/// The region of interest of each case that has one.
///
/// # Errors
/// Where there is no such case, or two regions for one.
fn masks<'a>(
    context: &Context<'_>,
    files: &[File],
    cases: impl Iterator<Item = &'a Key>,
) -> Result<BTreeMap<Key, PathBuf>> {
    let cases: BTreeSet<&Key> = cases.collect();
    let mut masks: BTreeMap<Key, PathBuf> = BTreeMap::new();
    for file in files.iter().filter(|file| file.told == Told::Mask) {
        let case = context.readings(file).into_iter().find(|reading| cases.contains(&reading.key));
        let Some(Reading { key, .. }) = case else {
            return Err(context.error(
                "masks",
                format!("{} is the region of interest of no case", file.shown),
                "it is called as the label file of its case: add the scan, rename the file, or remove it",
            ));
        };
        if let Some(other) = masks.insert(key, file.path.clone()) {
            return Err(context.error(
                "masks",
                format!("{} and {} are regions of interest of one case", other.display(), file.shown),
                "remove or rename one of them",
            ));
        }
    }
    Ok(masks)
}

/// Cases without a region of interest, where others have one.
fn note_unmasked(found: &Found) -> Option<String> {
    let without: Vec<String> =
        found.cases.iter().filter(|case| case.mask.is_none()).map(|case| case.id.clone()).collect();
    let (count, all) = (without.len(), found.cases.len());
    (count > 0).then(|| format!("{count} of {all} cases have no region of interest: {}", some(&without)))
}

/// What is alike for all files.
struct Context<'a> {
    tree: &'a Tree,
    from: CaseFrom,
    /// Whether all label files lie in folders that tell the part of the set; then a scan of one part is none of another.
    sections: bool,
    /// The word for label files that was given.
    label_files: Option<&'a str>,
}

impl Context<'_> {
    fn readings(&self, file: &File) -> Vec<Reading> {
        file.readings(self.from, self.sections)
    }

    fn error(&self, field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Error {
        Error::invalid(&self.tree.root, field, problem, fix)
    }
}

impl<'a> Scans<'a> {
    /// Gives a scan to the case with the longest name that it begins with.
    fn take(&mut self, context: &Context<'_>, image: &'a File, labels: &BTreeMap<Key, &'a File>) {
        let reading = context.readings(image).into_iter().find(|reading| labels.contains_key(&reading.key));
        let Some(Reading { key, template }) = reading else {
            self.unlabelled.push(image);
            return;
        };
        let channel = template.folded();
        self.templates.entry(channel.clone()).or_insert(template);
        self.cases.entry(key).or_default().entry(channel).or_default().push(image);
    }

    /// Channels that all cases have.
    fn common(&self) -> BTreeSet<String> {
        let mut common: BTreeSet<String> = self.templates.keys().cloned().collect();
        for channels in self.cases.values() {
            common.retain(|channel| channels.contains_key(channel));
        }
        common
    }

    /// A scan `p1_2_image` beside `p1_image` is one of another case: where all cases have `_image`, it is no channel
    /// `2_image` of `p1`.
    fn leave_others_alone(&mut self, context: &Context<'_>) {
        let common = self.common();
        let telling: BTreeSet<&String> =
            common.iter().filter(|channel| !self.templates[*channel].is_bare()).collect();
        let known: BTreeSet<Key> = self.cases.keys().cloned().collect();
        for channels in self.cases.values_mut() {
            channels.retain(|channel, files| {
                let of_another = |file: &File| {
                    let mut readings = context.readings(file).into_iter();
                    readings.any(|reading| {
                        telling.contains(&reading.template.folded()) && !known.contains(&reading.key)
                    })
                };
                let another = !common.contains(channel) && files.iter().all(|file| of_another(file));
                if another {
                    self.unlabelled.append(files);
                }
                !another
            });
        }
        let used: BTreeSet<&String> = self.cases.values().flat_map(BTreeMap::keys).collect();
        self.templates.retain(|channel, _| used.contains(channel));
    }
}

fn note_unlabelled(ids: impl Iterator<Item = String>) -> Option<String> {
    let ids: Vec<String> = ids.collect();
    match ids.as_slice() {
        [] => None,
        [one] => Some(format!("1 scan has no label file and goes to imagesTs: {one}")),
        several => {
            Some(format!("{} scans have no label file and go to imagesTs: {}", several.len(), some(several)))
        }
    }
}

/// The fold that folders for training and validation prescribe.
fn prescribed(found: &Found, held_out: &BTreeSet<String>) -> Option<Fold> {
    let training = found.cases.iter().filter(|case| case.part == Part::Training).map(|case| case.id.clone());
    let (mut validation, mut train): (Vec<_>, Vec<_>) = training.partition(|id| held_out.contains(id));
    validation.sort();
    train.sort();
    (!validation.is_empty() && !train.is_empty()).then_some(Fold { train, validation })
}

/// NIfTI files that are not taken.
fn left_out(files: &[File], found: &Found) -> Option<String> {
    let taken: BTreeSet<&PathBuf> = found
        .cases
        .iter()
        .flat_map(|case| {
            let labels = case.labels.iter().flat_map(|labels| &labels.files);
            case.images.paths().iter().chain(labels).chain(&case.mask)
        })
        .collect();
    let left: Vec<String> =
        files.iter().filter(|file| !taken.contains(&file.path)).map(|file| file.shown.clone()).collect();
    (!left.is_empty()).then(|| format!("{} NIfTI file(s) are left out: {}", left.len(), some(&left)))
}

/// The first few of a list.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// The file of a case that a template names, for people.
fn expected(template: &Template, key: &Key) -> String {
    format!("{}{}", template.fill(&key.captured), crate::image::ENDING)
}

/// What the scans of one case are, in channel order.
type CaseFiles<'a> = Vec<&'a File>;

impl Chosen {
    fn images(&self, files: CaseFiles<'_>) -> super::Images {
        match (self.volumes, files.as_slice()) {
            (Some(volumes), [file]) => super::Images::Volumes(file.path.clone(), volumes),
            _ => super::Images::Files(files.iter().map(|file| file.path.clone()).collect()),
        }
    }
}
