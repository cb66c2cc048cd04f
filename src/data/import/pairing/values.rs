//! What the values of label files become.

use std::collections::BTreeMap;

use super::super::options::{NewValue, ValueChoice};
use super::super::survey::{ValuesByFile, totals, values_of_classes};
use super::super::{Classes, Found, Values};
use crate::{Error, Result};

/// Numbers the classes: as `choices` say; a mask of 0 and one other value as 0 and 1; else as they are.
///
/// # Errors
/// Where the values have gaps, or there are so many that the files can be no label maps.
pub(in super::super) fn classify(
    found: &mut Found,
    values: &ValuesByFile,
    choices: &[ValueChoice],
) -> Result<()> {
    let present: Vec<u8> = values_of_classes(&found.source, values)?.into_iter().collect();
    let foreground: Vec<u8> = present.iter().copied().filter(|value| *value != 0).collect();
    let Numbers { mut map, names } = match (choices, foreground.as_slice()) {
        ([], []) => {
            let problem = "no label file has a value but 0".to_owned();
            return Err(Error::invalid(
                &found.source,
                "labels",
                problem,
                "see that these are the label files",
            ));
        }
        ([], [1]) => Numbers::kept(&foreground),
        ([], [one]) => {
            found.notes.push(format!(
                "label files have the values 0 and {one}: taken for background and one class, {one} becomes 1"
            ));
            Numbers { map: BTreeMap::from([(*one, 1)]), names: BTreeMap::new() }
        }
        ([], _) => Numbers::kept(&foreground),
        (choices, _) => numbers(choices, &foreground)?,
    };
    map.entry(0).or_insert(0);
    map.retain(|old, _| present.contains(old) || *old == 0);
    let unnamed = |value: &u8| names.get(value).cloned().unwrap_or_else(|| format!("class {value}"));
    let mut classes: Vec<u8> =
        map.values().copied().chain(names.keys().copied()).filter(|new| *new != 0).collect();
    classes.sort_unstable();
    classes.dedup();
    refuse_gaps(found, &classes, values)?;
    found.classes = Classes {
        labels: classes.iter().map(|value| (unnamed(value), vec![*value])).collect(),
        regions_class_order: None,
        label_names: Vec::new(),
    };
    if map.iter().any(|(old, new)| old != new) {
        let pairs: Vec<(u8, u8)> = map.into_iter().collect();
        for labels in found.cases.iter_mut().filter_map(|case| case.labels.as_mut()) {
            labels.values = Values::Renumber(pairs.clone());
        }
    }
    if names.is_empty() {
        found.notes.push(
            "classes have no names; --label 1=NAME gives them one, as does `labels` in dataset.json".into(),
        );
    }
    Ok(())
}

/// What old values become, and names of new ones.
struct Numbers {
    map: BTreeMap<u8, u8>,
    names: BTreeMap<u8, String>,
}

impl Numbers {
    fn kept(values: &[u8]) -> Self {
        Self { map: values.iter().map(|value| (*value, *value)).collect(), names: BTreeMap::new() }
    }
}

/// By what somebody has said; a value that nothing was said of stays where numbers alone are given.
fn numbers(choices: &[ValueChoice], foreground: &[u8]) -> Result<Numbers> {
    let error = |problem: String, fix: &str| Error::config("--label", problem, fix);
    for (index, choice) in choices.iter().enumerate() {
        if choices[..index].iter().any(|other| other.old == choice.old) {
            return Err(error(
                format!("the value {} is there twice", choice.old),
                "say once what it becomes",
            ));
        }
        if choice.old == 0
            && ![NewValue::Number(0), NewValue::Name("background".into())].contains(&choice.new)
        {
            return Err(error("0 is the background and stays it".to_owned(), "leave 0 out"));
        }
    }
    let named = choices.iter().any(|choice| matches!(choice.new, NewValue::Name(_)));
    let missing: Vec<String> = foreground
        .iter()
        .filter(|value| choices.iter().all(|choice| choice.old != **value))
        .map(u8::to_string)
        .collect();
    if named && !missing.is_empty() {
        return Err(error(
            format!("classes are named, but nothing is said of the value(s) {}", missing.join(", ")),
            "name every value of the files; NAME may be `background` or `ignore`, and several values may have one name",
        ));
    }
    let mut map: BTreeMap<u8, u8> = foreground.iter().map(|value| (*value, *value)).collect();
    let mut names: Vec<&str> = Vec::new();
    let mut ignored = Vec::new();
    for ValueChoice { old, new } in choices {
        let number = match new {
            NewValue::Number(number) if named && *number != 0 => {
                return Err(error(
                    format!("{old}={number} gives a number where others give names"),
                    "give every value a name, or every value a number",
                ));
            }
            NewValue::Number(number) => *number,
            NewValue::Name(name) if name == "background" => 0,
            NewValue::Name(name) if name == "ignore" => {
                ignored.push(*old);
                continue;
            }
            NewValue::Name(name) => {
                let place = names.iter().position(|known| known == name);
                let place = place.unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                u8::try_from(place + 1)
                    .map_err(|_| error("there are too many names".to_owned(), "name fewer classes"))?
            }
        };
        map.insert(*old, number);
    }
    let mut numbered: BTreeMap<u8, String> = (1..).zip(names.iter().map(|name| (*name).to_owned())).collect();
    if !ignored.is_empty() {
        // nnU-Net asks that it is the highest.
        let highest = numbered.keys().next_back().copied().unwrap_or(0);
        let ignore = highest
            .checked_add(1)
            .ok_or_else(|| error("there are too many names".to_owned(), "name fewer classes"))?;
        map.extend(ignored.into_iter().map(|old| (old, ignore)));
        numbered.insert(ignore, "ignore".to_owned());
    }
    Ok(Numbers { map, names: numbered })
}

/// Classes are numbered from 1 without gaps.
fn refuse_gaps(found: &Found, classes: &[u8], values: &ValuesByFile) -> Result<()> {
    if classes.is_empty() {
        let problem = "every value becomes background";
        return Err(Error::config("--label", problem, "leave one value a class"));
    }
    if classes.iter().copied().eq(1..=classes.len() as u8) {
        return Ok(());
    }
    let seen: Vec<String> = totals(values)
        .iter()
        .map(|(value, (voxels, files))| format!("{value} ({voxels} voxels in {files} files)"))
        .collect();
    let gap =
        (1..).zip(classes).find(|(expected, class)| expected != *class).map_or(1, |(expected, _)| expected);
    let next = classes.iter().find(|class| **class > gap).copied().unwrap_or(gap);
    Err(Error::invalid(
        &found.source,
        "labels",
        format!("the label files have the values {}; {gap} is no class", seen.join(", ")),
        format!(
            "classes are numbered 1, 2, 3, ...: say what the values mean, for example --label {next}={gap} (a value may \
             become 0, or that of another class), or --label {next}=NAME for every value, where NAME may be `background` or \
             `ignore`"
        ),
    ))
}
