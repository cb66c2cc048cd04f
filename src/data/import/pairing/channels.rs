//! Which channels a data set has, and the file of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::readings::{File, Key};
use super::{CaseFiles, Context, Scans, expected, some};
use crate::data::dataset::{Pairing, Template};
use crate::data::import::options::ChannelChoice;
use crate::image::{self, split_channel};
use crate::{Error, Result};

/// What the one channel is called that has no word of its own.
const UNNAMED: &str = "image";

/// The channels that are taken.
pub(super) struct Chosen {
    /// In channel order.
    templates: Vec<Template>,
    /// The name of every channel.
    pub(super) names: Vec<String>,
    /// Where every case has all channels in one file: how many.
    pub(super) volumes: Option<usize>,
    /// Whether somebody has said which channels, and in which order.
    by_user: bool,
}

/// Decides which channels are taken: those asked for, else all, which all cases must have.
///
/// # Errors
/// Where a case lacks a channel, a name fits none or several, or a channel looks like labels.
pub(super) fn choose(context: &Context<'_>, scans: &Scans<'_>, choices: &[ChannelChoice]) -> Result<Chosen> {
    let words = words(&scans.templates);
    if let Some(volumes) = volumes(scans)? {
        let templates = scans.templates.values().cloned().collect();
        let names = volume_names(context, volumes, choices)?;
        let by_user = !choices.is_empty();
        return Ok(Chosen { templates, names, volumes: Some(volumes), by_user });
    }
    let (templates, names): (Vec<Template>, Vec<String>) = match choices {
        [] => {
            all_in_all(context, scans, &words)?;
            words.into_iter().map(|(word, template)| (template.clone(), word)).unzip()
        }
        choices => by_choice(&words, choices)?.into_iter().unzip(),
    };
    let chosen = Chosen { templates, names, volumes: None, by_user: !choices.is_empty() };
    chosen.check_numbers(context)?;
    if choices.is_empty() {
        chosen.check_content(context, scans)?;
    }
    Ok(chosen)
}

/// A word for every template, in the order of words.
fn words(templates: &BTreeMap<String, Template>) -> Vec<(String, &Template)> {
    let said: Vec<(String, &Template)> =
        templates.values().map(|template| (template.word(), template)).collect();
    let alike = |word: &str| said.iter().filter(|(other, _)| other.eq_ignore_ascii_case(word)).count() > 1;
    let mut words: Vec<(String, &Template)> = said
        .iter()
        .map(|(word, template)| {
            let name = match word.as_str() {
                word if alike(word) => template.to_string(),
                "" => UNNAMED.to_owned(),
                word => word.to_owned(),
            };
            (name, *template)
        })
        .collect();
    words.sort_by_key(|(word, _)| word.to_lowercase());
    words
}

/// Number of volumes of the files, where there is one file a case and it has several.
fn volumes(scans: &Scans<'_>) -> Result<Option<usize>> {
    let first = scans.cases.values().next().and_then(|channels| channels.values().flatten().next());
    let (Some(first), 1) = (first, scans.templates.len()) else { return Ok(None) };
    let volumes = image::read_header(&first.path)?.volumes();
    Ok((volumes > 1).then_some(volumes))
}

fn volume_names(context: &Context<'_>, volumes: usize, choices: &[ChannelChoice]) -> Result<Vec<String>> {
    if choices.is_empty() {
        return Ok((0..volumes).map(|volume| format!("channel {volume}")).collect());
    }
    if choices.len() == volumes {
        return Ok(choices.iter().map(|choice| choice.name.clone()).collect());
    }
    Err(context.error(
        "channels",
        format!("every scan is one file with {volumes} channels, and {} are named", choices.len()),
        format!("name all {volumes}, in the order of the file, with --channels"),
    ))
}

/// Every case must have every channel.
fn all_in_all(context: &Context<'_>, scans: &Scans<'_>, words: &[(String, &Template)]) -> Result<()> {
    let common = scans.common();
    let lacking = words.iter().find(|(_, template)| !common.contains(&template.folded()));
    let Some((word, template)) = lacking else { return Ok(()) };
    let channel = template.folded();
    let (with, without): (Vec<_>, Vec<_>) =
        scans.cases.iter().partition(|(_, channels)| channels.contains_key(&channel));
    let lacking: Vec<String> = without.iter().map(|(key, _)| expected(template, key)).collect();
    let rare = with.iter().flat_map(|(_, channels)| &channels[&channel]).map(|file| file.shown.clone());
    let rare: Vec<String> = rare.collect();
    let in_common: Vec<&str> = words
        .iter()
        .filter(|(_, template)| common.contains(&template.folded()))
        .map(|(word, _)| word.as_str())
        .collect();
    let choose = match in_common.is_empty() {
        true => "no channel is in all cases".to_owned(),
        false => format!("take the channels that all cases have with --channels {}", in_common.join(",")),
    };
    Err(context.error(
        format!("channel `{word}`"),
        format!(
            "{} of {} cases have it ({}); not there: {}",
            with.len(),
            scans.cases.len(),
            some(&rare),
            some(&lacking)
        ),
        format!(
            "add the missing files, or {choose}; a scan of another case that is named so needs another name"
        ),
    ))
}

fn by_choice(words: &[(String, &Template)], choices: &[ChannelChoice]) -> Result<Vec<(Template, String)>> {
    let known = || words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(", ");
    let mut taken = BTreeSet::new();
    let mut chosen = Vec::new();
    for ChannelChoice { word, name } in choices {
        let found = words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        let Some((_, template)) = found else {
            return Err(Error::config(
                "--channels",
                format!("there is no channel `{word}`; there are: {}", known()),
                "name one of them; WORD=NAME takes the channel WORD and calls it NAME",
            ));
        };
        if !taken.insert(template.folded()) {
            let problem = format!("`{word}` is there twice");
            return Err(Error::config("--channels", problem, "name each channel once"));
        }
        chosen.push(((*template).clone(), name.clone()));
    }
    let twice = |name: &str| chosen.iter().filter(|(_, other)| other == name).count() > 1;
    if let Some((_, name)) = chosen.iter().find(|(_, name)| twice(name)) {
        let problem = format!("two channels would be called `{name}`");
        return Err(Error::config("--channels", problem, "give each its own name"));
    }
    Ok(chosen)
}

impl Chosen {
    /// The files of a case, one per channel.
    pub(super) fn files<'a>(
        &self,
        context: &Context<'_>,
        key: &Key,
        channels: &BTreeMap<String, Vec<&'a File>>,
    ) -> Result<CaseFiles<'a>> {
        let file = |template: &Template| match channels.get(&template.folded()).map(Vec::as_slice) {
            Some([file]) => Ok(*file),
            Some([one, two, ..]) => Err(context.error(
                format!("case `{}`", key.captured.id()),
                format!("{} and {} are the same channel", one.shown, two.shown),
                "remove or rename one of them",
            )),
            _ => {
                let there: Vec<String> = channels.values().flatten().map(|file| file.shown.clone()).collect();
                Err(context.error(
                    format!("case `{}`", key.captured.id()),
                    format!("{} is not there; the case has {}", expected(template, key), some(&there)),
                    "add the file, remove the case, or leave the channel out with --channels",
                ))
            }
        };
        self.templates.iter().map(file).collect()
    }

    /// Scans without labels, by case.
    pub(super) fn unlabelled<'a>(
        &self,
        context: &Context<'_>,
        scans: &Scans<'a>,
    ) -> Result<Vec<(Key, CaseFiles<'a>)>> {
        let known: BTreeSet<String> = self.templates.iter().map(Template::folded).collect();
        // Where all other scans lie in folders for scans, what lies elsewhere is none.
        let paired = || scans.cases.values().flat_map(BTreeMap::values).flatten();
        let in_folders = paired().all(|file| file.place.role.is_some());
        let mut cases: BTreeMap<Key, BTreeMap<String, Vec<&File>>> = BTreeMap::new();
        for file in scans.unlabelled.iter().filter(|file| !in_folders || file.place.role.is_some()) {
            let reading =
                context.readings(file).into_iter().find(|reading| known.contains(&reading.template.folded()));
            if let Some(reading) = reading {
                let channels = cases.entry(reading.key).or_default();
                channels.entry(reading.template.folded()).or_default().push(file);
            }
        }
        let files = |(key, channels): (Key, BTreeMap<String, Vec<&'a File>>)| {
            let files = self.files(context, &key, &channels)?;
            Ok((key, files))
        };
        cases.into_iter().map(files).collect()
    }

    /// Four digits at the end of a name are nnU-Net's number of a channel, by which scans to be predicted are told too:
    /// channels must not change places.
    fn check_numbers(&self, context: &Context<'_>) -> Result<()> {
        for (place, template) in self.templates.iter().enumerate() {
            let text = template.to_string();
            let name = text.rsplit('/').next().unwrap_or_default();
            if let Some((_, number)) = split_channel(name).filter(|(_, number)| *number != place) {
                return Err(context.error(
                    format!("channel `{}`", template.word()),
                    format!("its files are called ..._{number:04}, but it would be channel {place}"),
                    "numbers at the ends of names are those of channels, from 0000 without gaps: take a beginning of \
                     them in their order with --channels, or rename the files",
                ));
            }
        }
        Ok(())
    }

    /// Looks at the scans of some cases: a label file with a name that nothing tells must not become a channel.
    fn check_content(&self, context: &Context<'_>, scans: &Scans<'_>) -> Result<()> {
        /// A label file may be empty, but hardly that of each of so many cases.
        const CASES: usize = 5;
        if self.templates.len() < 2 {
            return Ok(());
        }
        for (key, channels) in scans.cases.iter().take(CASES) {
            for (file, name) in self.files(context, key, channels)?.into_iter().zip(&self.names) {
                let Some(values) = label_values(&file.path)? else { continue };
                let others: Vec<&str> =
                    self.names.iter().filter(|other| *other != name).map(String::as_str).collect();
                return Err(context.error(
                    format!("channel `{name}`"),
                    format!("{} has the values {values} alone, as label files have", file.shown),
                    format!(
                        "if these are the labels say --label-files {name}; --channels {} leaves them out; --channels {} \
                         takes them for a channel",
                        others.join(","),
                        self.names.join(",")
                    ),
                ));
            }
        }
        Ok(())
    }

    /// How the files are called.
    pub(super) fn pairing(&self, labels: Template) -> Pairing {
        Pairing { images: self.templates.clone(), labels }
    }

    /// What a person should know of the channels.
    pub(super) fn notes(&self) -> Option<String> {
        let note = match (self.volumes, self.names.as_slice()) {
            _ if self.by_user => return None,
            (Some(_), _) => {
                "channels are those of the files, in their order; --channels NAME,NAME,... names them".into()
            }
            (None, [one]) => format!(
                "the channel is called `{one}` and will be normalised scan by scan; for CT write --channels {one}=CT"
            ),
            (None, _) => {
                "channels stand in the order of their names; --channels takes some of them, or another order"
                    .into()
            }
        };
        Some(note)
    }
}

/// The values of a file that has few of them, and these whole numbers.
fn label_values(path: &Path) -> Result<Option<String>> {
    /// More values than a channel of a scan is likely to have.
    const FEW: usize = 8;
    if image::read_header(path)?.volumes() > 1 {
        return Ok(None);
    }
    let (image, _) = image::read_image(path)?;
    let mut values: BTreeSet<i64> = BTreeSet::new();
    let whole = image.voxels.iter().all(|value| {
        values.insert(*value as i64);
        value.fract() == 0.0 && values.len() <= FEW
    });
    let words: Vec<String> = values.iter().map(i64::to_string).collect();
    Ok((whole && values.len() > 1).then(|| words.join(", ")))
}
