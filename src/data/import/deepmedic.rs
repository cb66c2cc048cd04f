//! DeepMedic (Kamnitsas et al., *Medical Image Analysis* 36, 2017): lists of paths, one line per case, one list per
//! channel, and the `.cfg` files that name the lists.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::literal::Assignments;
use super::source::Tree;
use super::survey::{ValuesByFile, values_of_classes};
use super::{Classes, Found, FoundCase, Images, LabelSource, Layout, Part, Values};
use crate::data::dataset::{Fold, file_name};
use crate::image::stem;
use crate::{Error, Result, files};

/// The lists of one group of cases.
struct Lists {
    part: Part,
    /// Held out from training by the source.
    validation: bool,
    channels: Vec<PathBuf>,
    labels: Option<PathBuf>,
    masks: Option<PathBuf>,
    names: Option<PathBuf>,
}

/// Keys of channels, labels, masks and names in `trainConfig.cfg` and `testConfig.cfg`.
const GROUPS: [(Part, bool, [&str; 4]); 3] = [
    (Part::Training, false, ["channelsTraining", "gtLabelsTraining", "roiMasksTraining", ""]),
    (
        Part::Training,
        true,
        ["channelsValidation", "gtLabelsValidation", "roiMasksValidation", "namesForPredictionsPerCaseVal"],
    ),
    (Part::Test, false, ["channels", "gtLabels", "roiMasks", "namesForPredictionsPerCase"]),
];

/// A `.cfg` file that was given by itself.
pub(super) fn config(file: &Path) -> Result<Found> {
    let groups = config_lists(file)?;
    if groups.is_empty() {
        return Err(Error::invalid(
            file,
            "channelsTraining",
            "is not in this file",
            "give a folder, or DeepMedic's trainConfig.cfg",
        ));
    }
    found(file, groups)
}

/// A folder with `.cfg` files that name lists, else with the lists themselves.
pub(super) fn find(tree: &Tree) -> Result<Option<Found>> {
    let words: Vec<&PathBuf> = tree
        .files
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "cfg" || ending == "txt"))
        .collect();
    let mut groups: Vec<(PathBuf, Lists)> = Vec::new();
    for file in &words {
        groups.extend(config_lists(file)?.into_iter().map(|lists| ((*file).clone(), lists)));
    }
    for (part, validation, _) in GROUPS {
        let mut same =
            groups.iter().filter(|(_, lists)| lists.part == part && lists.validation == validation);
        if let (Some((one, _)), Some((two, _))) = (same.next(), same.next()) {
            let problem = format!("`{}` and `{}` both name lists of cases", one.display(), two.display());
            return Err(Error::invalid(
                &tree.root,
                "configuration",
                problem,
                "give one of the files instead",
            ));
        }
    }
    let lists: Vec<Lists> = match groups.is_empty() {
        false => groups.into_iter().map(|(_, lists)| lists).collect(),
        true => bare_lists(&words),
    };
    if lists.is_empty() { Ok(None) } else { found(&tree.root, lists).map(Some) }
}

/// No configuration is longer, in bytes.
const LONGEST: u64 = 1 << 20;

fn config_lists(file: &Path) -> Result<Vec<Lists>> {
    if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > LONGEST) {
        return Ok(Vec::new());
    }
    let text = std::fs::read(file).map_err(|error| files::unreadable(file, error))?;
    // Comments of other people's scripts may be in any encoding.
    let text = String::from_utf8_lossy(&text);
    let assignments = Assignments::parse(text.trim_start_matches('\u{feff}'));
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut groups = Vec::new();
    for (part, validation, [channels, labels, masks, names]) in GROUPS {
        if !assignments.has(channels) {
            continue;
        }
        let paths = |key| -> Result<Vec<PathBuf>> {
            Ok(assignments.texts(file, key)?.iter().map(|path| folder.join(path)).collect())
        };
        let one = |key| -> Result<Option<PathBuf>> { Ok(paths(key)?.pop()) };
        let channels = paths(channels)?;
        if !channels.is_empty() {
            let (labels, masks, names) = (one(labels)?, one(masks)?, one(names)?);
            groups.push(Lists { part, validation, channels, labels, masks, names });
        }
    }
    Ok(groups)
}

/// Lists that are recognised by their names: `trainChannels_t1c.cfg`, `validationGtLabels.cfg`, `testRoiMasks.txt`.
fn bare_lists(files: &[&PathBuf]) -> Vec<Lists> {
    let mut groups = Vec::new();
    for (part, validation, word) in
        [(Part::Training, false, ""), (Part::Training, true, "val"), (Part::Test, false, "test")]
    {
        let named = |words: &[&str]| -> Vec<PathBuf> {
            let belongs = |name: &str| match word {
                "" => !name.starts_with("val") && !name.starts_with("test"),
                word => name.starts_with(word),
            };
            files
                .iter()
                .filter(|file| {
                    let name = file_name(file).to_lowercase();
                    belongs(&name) && words.iter().any(|word| name.contains(word))
                })
                .map(|file| (*file).clone())
                .collect()
        };
        let channels = named(&["channel"]);
        if !channels.is_empty() {
            let one = |words: &[&str]| named(words).into_iter().next();
            let (labels, masks) = (one(&["gtlabel"]), one(&["roimask"]));
            groups.push(Lists { part, validation, channels, labels, masks, names: one(&["namesofpred"]) });
        }
    }
    groups
}

fn found(source: &Path, groups: Vec<Lists>) -> Result<Found> {
    let names: Vec<String> = groups[0].channels.iter().map(|list| channel_name(list)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = Found::new(Layout::DeepMedic, source, &names, Classes::plain(&[]));
    let mut fold = Fold { train: Vec::new(), validation: Vec::new() };
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut repeated = 0;
    for lists in &groups {
        let expected: Vec<String> = lists.channels.iter().map(|list| channel_name(list)).collect();
        if expected != found.channels {
            let problem =
                format!("has the channels {} instead of {}", expected.join(", "), found.channels.join(", "));
            let mend = "list the same channels in the same order for all cases";
            return Err(Error::invalid(&lists.channels[0], "channels", problem, mend));
        }
        for case in cases(lists)? {
            // DeepMedic's own example validates on cases that it trains on.
            if !seen.insert(case.images.first().to_owned()) {
                found.notes.push(format!("{} is listed twice; it is kept in the first place", case.id));
                repeated += 1;
                continue;
            }
            if case.part == Part::Training {
                let side = if lists.validation { &mut fold.validation } else { &mut fold.train };
                side.push(case.id.clone());
            }
            found.cases.push(case);
        }
    }
    if repeated > 0 {
        found.notes.push("the folds of the source are not kept, since they overlap".to_owned());
    } else if !fold.train.is_empty() && !fold.validation.is_empty() {
        fold.train.sort();
        fold.validation.sort();
        found.splits.push(fold);
    }
    Ok(found)
}

/// `trainChannels_t1c.cfg` lists the channel `t1c`.
fn channel_name(list: &Path) -> String {
    let name = file_name(list);
    let name = name.split('.').next().unwrap_or_default();
    name.rsplit_once('_').map_or(name, |(_, channel)| channel).to_owned()
}

fn cases(lists: &Lists) -> Result<Vec<FoundCase>> {
    let channels = lists.channels.iter().map(|list| paths(list)).collect::<Result<Vec<_>>>()?;
    let count = channels[0].len();
    let mut optional = Vec::new();
    for list in [&lists.labels, &lists.masks] {
        optional.push(list.as_deref().map(paths).transpose()?);
    }
    let lengths = channels.iter().zip(&lists.channels).map(|(lines, list)| (lines.len(), list));
    let others = optional.iter().zip([&lists.labels, &lists.masks]);
    let others = others.filter_map(|(lines, list)| Some((lines.as_ref()?.len(), list.as_ref()?)));
    for (length, list) in lengths.chain(others) {
        if length != count {
            return Err(Error::invalid(
                list,
                "lines",
                format!("lists {length} files, but `{}` lists {count}", lists.channels[0].display()),
                "give one line per case in every list, in the same order",
            ));
        }
    }
    let ids = ids(lists, &channels[0])?;
    let mut cases = Vec::new();
    for (index, id) in ids.into_iter().enumerate() {
        let images = channels
            .iter()
            .zip(&lists.channels)
            .map(|(lines, list)| {
                lines[index].clone().ok_or_else(|| {
                    let mend = "every case needs every channel here; remove the case from all lists";
                    Error::invalid(list, format!("case `{id}`"), "has no file (`-`) for this channel", mend)
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let file =
            |lines: &Option<Vec<Option<PathBuf>>>| lines.as_ref().and_then(|lines| lines[index].clone());
        let labels = file(&optional[0]).map(LabelSource::keep);
        let part = if labels.is_some() { lists.part } else { Part::Test };
        cases.push(FoundCase { id, part, images: Images::Files(images), labels, mask: file(&optional[1]) });
    }
    Ok(cases)
}

/// The lines of a list: paths relative to its folder; `-` says that there is no file.
fn paths(list: &Path) -> Result<Vec<Option<PathBuf>>> {
    let folder = list.parent().unwrap_or(Path::new("."));
    let mut paths = Vec::new();
    for (number, line) in lines(list)? {
        if line == "-" {
            paths.push(None);
            continue;
        }
        let path = folder.join(&line);
        if !path.is_file() {
            let mend = "fix the path, or remove the case from all lists";
            return Err(Error::invalid(
                list,
                format!("line {number}"),
                format!("there is no file `{line}`"),
                mend,
            ));
        }
        paths.push(Some(std::fs::canonicalize(&path).map_err(|error| Error::io("open", &path, error))?));
    }
    if paths.is_empty() {
        return Err(Error::invalid(list, "lines", "the list is empty", "write one path per line"));
    }
    Ok(paths)
}

/// Lines with their numbers from 1; empty ones and comments are left out.
fn lines(list: &Path) -> Result<Vec<(usize, String)>> {
    let text = files::read_text(list)?;
    let lines = text
        .lines()
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|(index, line)| (index + 1, line.to_owned())).collect())
}

/// Names of cases: those of their folders where they differ, else of the files, else those that predictions get.
fn ids(lists: &Lists, first: &[Option<PathBuf>]) -> Result<Vec<String>> {
    let different = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
    let folders: Vec<String> =
        first.iter().map(|file| path(file).parent().map_or_else(String::new, file_name)).collect();
    if different(&folders) {
        return Ok(folders);
    }
    let files: Vec<String> = first.iter().map(|file| stem(&file_name(&path(file))).to_owned()).collect();
    if different(&files) {
        return Ok(files);
    }
    if let Some(list) = &lists.names {
        let names: Vec<String> = lines(list)?.into_iter().map(|(_, line)| stem(&line).to_owned()).collect();
        if names.len() == first.len()
            && different(&names)
            && names.iter().all(|name| !name.contains(['/', '\\']))
        {
            return Ok(names);
        }
    }
    Err(Error::invalid(
        &lists.channels[0],
        "names of cases",
        "neither the folders nor the names of the files tell the cases apart",
        "put each case into a folder of its own",
    ))
}

/// The lists do not name classes: each value that the files have becomes one, numbered without gaps.
///
/// # Errors
/// Where there are so many values that the files can be no label maps.
pub(super) fn classify(found: &mut Found, values: &ValuesByFile) -> Result<()> {
    let mut present = values_of_classes(&found.source, values)?;
    present.remove(&0);
    let classes = present.len().max(1);
    let names: Vec<String> = (1..=classes).map(|class| format!("class {class}")).collect();
    found.classes = Classes::plain(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let pairs: Vec<(u8, u8)> = std::iter::once(0).chain(present).zip(0..).collect();
    let moved: Vec<String> = pairs
        .iter()
        .filter(|(old, new)| old != new)
        .map(|(old, new)| format!("{old} becomes {new}"))
        .collect();
    if !moved.is_empty() {
        found.notes.push(format!(
            "label values are numbered without gaps: {}; check that each is a class and not a mark",
            moved.join(", ")
        ));
        for labels in found.cases.iter_mut().filter_map(|case| case.labels.as_mut()) {
            labels.values = Values::Renumber(pairs.clone());
        }
    }
    found.notes.push("the lists do not name classes; write their names into dataset.json".to_owned());
    Ok(())
}
