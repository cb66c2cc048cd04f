//! What configurations written by earlier versions hold that those of today do not.

use toml::{Table, Value};

use super::schedule::LENGTHS;
use crate::{Error, Result};

/// Keys that are no settings any more, with the value that is always taken now; where there is none, the key was
/// left out.
const CONSTANTS: [(&str, Option<&str>); 12] = [
    ("loss.dice_mean", Some("foreground")),
    ("loss.dice_absent", Some("leave")),
    ("loss.epsilon", Some("0")),
    ("method.aux_batch", Some("raw-twin")),
    ("method.steps", Some("sequential")),
    ("method.adversarial.eps_l2", None),
    ("method.adversarial.direction", Some("cross-entropy")),
    ("method.mixup.partner", Some("permutation")),
    ("policy.learning.poly_power", Some("0.9")),
    ("policy.learning.optimiser", Some("adam")),
    ("policy.learning.difference", Some("one-sided")),
    ("policy.learning.repeats", Some("counted")),
];

/// Key, value of earlier versions, and what it is called now.
const RENAMED: [(&str, &str, &str); 1] = [("policy.learning.estimator", "score", "batch")];
/// Values of keys that are taken with `published = true` alone now.
const PUBLISHED: [(&str, &str); 1] = [("policy.learning.estimator", "straight-through")];

/// Takes keys that are constants now out of a table, and renames values.
///
/// # Errors
/// Where one has another value, so that the run would not be what the file says.
pub(super) fn drop_constants(table: &mut Table, place: &str) -> Result<()> {
    for (key, old, new) in RENAMED {
        if let Some(value) = find(table, key).filter(|value| value.as_str() == Some(old)) {
            *value = new.into();
        }
    }
    for (key, published) in PUBLISHED {
        if find(table, key).is_some_and(|value| value.as_str() == Some(published)) {
            return Err(Error::config(
                place,
                format!("`{key}` cannot be {published} by itself any more"),
                "leave it out and set `published = true` for all that the papers' programs do (docs/configuration.md)",
            ));
        }
    }
    for (key, constant) in CONSTANTS {
        let Some(value) = take(table, key) else { continue };
        let given = match &value {
            Value::String(text) => text.clone(),
            Value::Float(number) => number.to_string(),
            other => other.to_string(),
        };
        if constant != Some(&given) {
            let now = constant.map_or(String::new(), |constant| format!("; it is always {constant} now"));
            return Err(Error::config(
                place,
                format!("`{key}` is no setting any more, and here it is {given}{now}"),
                "leave it out, or set `published = true` for all that the papers' programs do (docs/configuration.md)",
            ));
        }
    }
    Ok(())
}

/// Leaves one length of training of those that earlier versions wrote side by side: the one that they went by.
pub(super) fn keep_one_length(table: &mut Table) {
    let [steps, epochs, seconds] = LENGTHS;
    let Some(Value::Table(schedule)) = table.get_mut("schedule") else { return };
    let order = [steps, seconds, epochs];
    if let Some(ruling) = order.into_iter().find(|key| schedule.contains_key(*key)) {
        order.into_iter().filter(|key| *key != ruling).for_each(|key| drop(schedule.remove(key)));
    }
}

/// The value at a dotted key.
fn find<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, rest)) => find(table.get_mut(section)?.as_table_mut()?, rest),
    }
}

/// Removes a dotted key, and sections that are empty without it.
fn take(table: &mut Table, key: &str) -> Option<Value> {
    match key.split_once('.') {
        None => table.remove(key),
        Some((section, rest)) => {
            let Some(Value::Table(inner)) = table.get_mut(section) else { return None };
            take(inner, rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    #[test]
    fn constants_pass_and_other_values_are_named() {
        let mut old = table(
            "[loss]\nepsilon = 0.0\ndice = 0.5\ndice_mean = \"foreground\"\n[policy.learning]\npoly_power = 0.9",
        );
        drop_constants(&mut old, "config.toml").unwrap();
        assert_eq!(old, table("[loss]\ndice = 0.5\n[policy.learning]"));
        let mut old = table("[policy.learning]\nestimator = \"score\"");
        drop_constants(&mut old, "config.toml").unwrap();
        assert_eq!(old, table("[policy.learning]\nestimator = \"batch\""));
        for (text, said) in [
            ("loss.epsilon = 1e-6", "`loss.epsilon`"),
            ("method.adversarial.eps_l2 = 10", "`method.adversarial.eps_l2`"),
            ("policy.learning.estimator = \"straight-through\"", "straight-through"),
        ] {
            let error = drop_constants(&mut table(text), "config.toml").unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("published = true"), "{error}");
        }
    }

    #[test]
    fn the_length_that_ruled_stays() {
        for (text, expected) in [
            ("steps = 5\nepochs = 3", "steps = 5"),
            (
                "epochs = 3\ntime_budget_seconds = 60.0\npatience = 2",
                "time_budget_seconds = 60.0\npatience = 2",
            ),
            ("epochs = 3", "epochs = 3"),
        ] {
            let mut old = table(&format!("[schedule]\n{text}"));
            keep_one_length(&mut old);
            assert_eq!(old, table(&format!("[schedule]\n{expected}")));
        }
    }
}
