//! The `labels` of `dataset.json`: classes, overlapping regions and the ignore label.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{LabelScheme, Problem, Region, Trained};

/// What `labels` says.
pub(super) struct Labels {
    pub(super) scheme: LabelScheme,
    /// Every value that occurs, background and ignore included.
    pub(super) declared: Vec<u8>,
}

const MEND: &str = "write \"labels\": {\"background\": 0, \"NAME\": 1, ...}; a region is a list of values";

/// Reads `labels`, `regions_class_order` and `label_names`; where they are faulty the scheme is what could be
/// understood.
pub(super) fn parse(object: &Map<String, Value>, problems: &mut Vec<Problem>) -> Labels {
    let before = problems.len();
    let Entries { entries, too_large } = entries(object, problems);
    let faulty = problems.len() > before;
    let single = |name: &str| {
        entries.iter().find(|(key, _)| key == name).and_then(|(_, values)| match values.as_slice() {
            [value] => Some(*value),
            _ => None,
        })
    };
    if single("background") != Some(0) && !entries.is_empty() {
        problems.push(Problem::new("labels", "`background` is not there with the value 0", MEND));
    }
    let ignore = single("ignore");
    if ignore.is_none() && entries.iter().any(|(name, _)| name == "ignore") {
        problems.push(Problem::new("labels", "`ignore` must be one value", MEND));
    }
    let regions: Vec<Region> = entries
        .iter()
        .filter(|(name, values)| name != "ignore" && values.as_slice() != [0])
        .map(|(name, values)| Region { name: name.clone(), values: values.clone() })
        .collect();
    // A value that no class or region has may be named all the same.
    let named = object.get("label_names").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let named = named.filter_map(|value| value.parse().ok());
    let mut declared: BTreeSet<u8> =
        entries.iter().flat_map(|(_, values)| values.iter().copied()).chain(named).collect();
    if too_large {
        // Then no file is to blame for values that stand here.
        declared.clear();
    }
    // Where an entry could not be used, gaps are its doing.
    if !faulty {
        check_values(&declared, ignore, problems);
    }
    check_regions(&regions, ignore, problems);
    let overlapping = regions.iter().any(|region| region.values.len() > 1);
    let order = if overlapping { class_order(object, &regions, &declared, problems) } else { None };
    let names = names(object, &regions, &declared, ignore);
    let scheme = LabelScheme { names, regions, ignore, regions_class_order: order, trained: Trained::Values };
    Labels { scheme, declared: declared.into_iter().collect() }
}

struct Entries {
    /// Names with their sorted values.
    entries: Vec<(String, Vec<u8>)>,
    /// Whether there were others, with values above 255.
    too_large: bool,
}

/// Names with their sorted values, in the order of the file; MSD's {value: name} is turned round.
fn entries(object: &Map<String, Value>, problems: &mut Vec<Problem>) -> Entries {
    let Some(labels) = object.get("labels").and_then(Value::as_object).filter(|labels| !labels.is_empty())
    else {
        problems.push(Problem::new("labels", "is missing, empty or no object", MEND));
        return Entries { entries: Vec::new(), too_large: false };
    };
    let is_name = |text: &Value| text.as_str().is_some_and(|text| text.parse::<f64>().is_err());
    let by_value = labels.iter().all(|(key, name)| key.parse::<f64>().is_ok() && is_name(name));
    let mut entries = Vec::new();
    let mut large = Vec::new();
    for (key, value) in labels {
        let (name, value) = match value.as_str() {
            Some(name) if by_value => (name, &Value::String(key.clone())),
            _ => (key.as_str(), value),
        };
        match label_values(value) {
            Ok(values) => entries.push((name.to_owned(), values)),
            Err(_) if above_255(value).is_some() => large.extend(above_255(value).map(|value| (name, value))),
            Err(problem) => problems.push(Problem::new("labels", format!("`{name}`: {problem}"), MEND)),
        }
    }
    // One word about all of them: they have one cause.
    if let Some((name, value)) = large.first() {
        let problem = match large.len() {
            1 => format!("`{name}` has the value {value}, but label values go up to 255"),
            count => format!("{count} classes have values above 255, such as `{name}` with {value}"),
        };
        problems.push(Problem::new("labels", problem, RENUMBER));
    }
    Entries { entries, too_large: !large.is_empty() }
}

/// The hint where label values are codes of an atlas or the like.
pub(crate) const RENUMBER: &str =
    "number the classes 0, 1, 2, ... without gaps, in dataset.json and in the label files alike";

/// A whole number above 255 among the values of a class.
fn above_255(value: &Value) -> Option<u64> {
    let one = |value: &Value| {
        let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
        (number.fract() == 0.0 && number > 255.0).then_some(number as u64)
    };
    match value.as_array() {
        Some(list) => list.iter().find_map(one),
        None => one(value),
    }
}

fn label_values(value: &Value) -> Result<Vec<u8>, String> {
    let one = |value: &Value| {
        let whole = value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        match whole {
            Some(number) if number.fract() == 0.0 && (0.0..=255.0).contains(&number) => Ok(number as u8),
            _ => Err(format!("{value} is no whole number from 0 to 255")),
        }
    };
    let mut values: Vec<u8> = match value.as_array() {
        Some(list) => list.iter().map(one).collect::<Result<_, _>>()?,
        None => vec![one(value)?],
    };
    values.sort_unstable();
    values.dedup();
    if values.is_empty() { Err("the list of values is empty".into()) } else { Ok(values) }
}

fn check_values(declared: &BTreeSet<u8>, ignore: Option<u8>, problems: &mut Vec<Problem>) {
    let highest = declared.iter().next_back().copied().unwrap_or(0);
    let gaps: Vec<String> =
        (1..highest).filter(|value| !declared.contains(value)).map(|value| value.to_string()).collect();
    if !gaps.is_empty() {
        let shown = gaps.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        problems.push(Problem::new(
            "labels",
            format!("the values have gaps: {shown}{} is missing", if gaps.len() > 5 { ", ..." } else { "" }),
            "number the classes 0, 1, 2, ... without gaps and change the label files alike",
        ));
    }
    if let Some(ignore) = ignore.filter(|&ignore| ignore != highest || ignore == 0) {
        problems.push(Problem::new(
            "labels",
            format!("`ignore` is {ignore} but the highest value is {highest}"),
            "give `ignore` the highest value of all and change the label files alike",
        ));
    }
    if highest == 0 && !declared.is_empty() {
        problems.push(Problem::new("labels", "there is no class but the background", MEND));
    }
}

fn check_regions(regions: &[Region], ignore: Option<u8>, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<&[u8], &str> = BTreeMap::new();
    for region in regions {
        let Region { name, values } = region;
        if values.contains(&0) {
            problems.push(Problem::new("labels", format!("region `{name}` contains the background"), MEND));
        }
        if ignore.is_some_and(|ignore| values.contains(&ignore)) {
            problems.push(Problem::new("labels", format!("`{name}` contains the ignore label"), MEND));
        }
        if let Some(other) = seen.insert(values, name) {
            problems.push(Problem::new(
                "labels",
                format!(
                    "`{other}` and `{name}` have the same value{}",
                    if values.len() > 1 { "s" } else { "" }
                ),
                "give each class its own value",
            ));
        }
    }
}

fn class_order(
    object: &Map<String, Value>,
    regions: &[Region],
    declared: &BTreeSet<u8>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<u8>> {
    let mend = format!(
        "list {} label values, one for each region in the order of `labels`: the value that it paints, later ones \
         over earlier ones",
        regions.len()
    );
    let Some(list) = object.get("regions_class_order").and_then(Value::as_array) else {
        problems.push(Problem::new("regions_class_order", "is missing although `labels` has regions", mend));
        return None;
    };
    let order: Vec<u8> =
        list.iter().filter_map(Value::as_u64).filter_map(|value| u8::try_from(value).ok()).collect();
    if order.len() != list.len() || order.len() != regions.len() {
        problems.push(Problem::new(
            "regions_class_order",
            format!("has {} values for {} regions", list.len(), regions.len()),
            mend,
        ));
        return None;
    }
    if let Some(unknown) = order.iter().find(|value| !declared.contains(value)) {
        problems.push(Problem::new("regions_class_order", format!("{unknown} is no label value"), mend));
        return None;
    }
    Some(order)
}

/// A name for every value from 0 to the highest trained one.
fn names(
    object: &Map<String, Value>,
    regions: &[Region],
    declared: &BTreeSet<u8>,
    ignore: Option<u8>,
) -> Vec<String> {
    let given = object.get("label_names").and_then(Value::as_object);
    let highest = declared.iter().rev().find(|value| Some(**value) != ignore).copied().unwrap_or(0);
    let name = |value: u8| {
        let own = regions.iter().find(|region| region.values == [value]).map(|region| region.name.clone());
        let given = || Some(given?.get(&value.to_string())?.as_str()?.to_owned());
        own.or_else(given).unwrap_or_else(|| format!("label {value}"))
    };
    (0..=highest).map(|value| if value == 0 { "background".to_owned() } else { name(value) }).collect()
}
