//! The methods' names and what they set.

use crate::learn::method::Mode;
use crate::{Error, Result};

/// Every method that can be asked for by name, as in the tables of Li's talk (2020).
pub const NAMES: [&str; 16] = [
    "ce",
    "ce-80",
    "dice",
    "f2",
    "f4",
    "f8",
    "margin",
    "asym-margin",
    "focal",
    "asym-focal",
    "adversarial",
    "asym-adversarial",
    "mixup",
    "asym-mixup",
    "asym-augmentation",
    "asym-combination",
];

/// Exponent of the combination's focal loss: smaller than that of focal loss alone.
const COMBINATION_GAMMA: f64 = 2.0;

/// Puts the settings of a named method into the table of a configuration: which methods are on and, for the
/// losses without cross-entropy, the loss. Strengths (margin, gamma, ...) stay as they are, so that a preset can
/// set them for its data.
///
/// # Errors
/// Where the name is not one of [`NAMES`].
pub(crate) fn apply_named(table: &mut toml::Table, name: &str) -> Result<()> {
    if !NAMES.contains(&name) {
        return Err(Error::config(
            "method.name",
            format!("there is no method `{name}`"),
            format!("the methods are {}", NAMES.join(", ")),
        ));
    }
    let mut set = |path: &[&str], value: toml::Value| put(table, path, value);
    let (mode, family) = match name.strip_prefix("asym-") {
        Some(family) => (Mode::Asymmetric, family),
        None => (Mode::Symmetric, name),
    };
    for method in ["margin", "focal", "adversarial", "mixup", "augmentation"] {
        let part = method == family
            || (family == "combination" && ["focal", "adversarial", "mixup"].contains(&method));
        let text = match (part, mode) {
            (false, _) | (true, Mode::Off) => "off",
            (true, Mode::Symmetric) => "symmetric",
            (true, Mode::Asymmetric) => "asymmetric",
        };
        set(&["method", method, "mode"], text.into());
    }
    if family == "combination" {
        set(&["method", "focal", "gamma"], COMBINATION_GAMMA.into());
    }
    let beta = match family {
        "dice" => Some(1.0),
        "f2" => Some(2.0),
        "f4" => Some(4.0),
        "f8" => Some(8.0),
        _ => None,
    };
    if let Some(beta) = beta {
        set(&["loss", "cross_entropy"], 0.0.into());
        set(&["loss", "dice"], 1.0.into());
        set(&["loss", "dice_reduction"], "batch".into());
        set(&["loss", "beta"], beta.into());
    }
    if name == "ce-80" {
        set(&["sampling", "foreground_share"], 0.8.into());
        // A rule by chance stays; one by place in the batch has no share.
        let rule =
            table.get("sampling").and_then(|sampling| sampling.get("rule")).and_then(toml::Value::as_str);
        if matches!(rule, None | Some("last-third")) {
            put(table, &["sampling", "rule"], "probability".into());
        }
    }
    put(table, &["method", "name"], name.into());
    Ok(())
}

/// Sets a value in nested tables. Where a section is not a table, reading the configuration says so.
fn put(table: &mut toml::Table, path: &[&str], value: toml::Value) {
    let [sections @ .., key] = path else { return };
    let mut place = table;
    for section in sections {
        let entry = place.entry(*section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let toml::Value::Table(inner) = entry else { return };
        place = inner;
    }
    place.insert((*key).to_owned(), value);
}
