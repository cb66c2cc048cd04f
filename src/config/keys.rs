//! Every key that a configuration can have, read off its types, and the nearest one to a key that there is not.

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

use super::Config;
use crate::Error;

/// All keys, as `section.key`, in the order of the sections. A key whose value is a table of the user's own names
/// (`plan.normalisation`) is one key.
pub fn all() -> Vec<String> {
    let mut keys = Vec::new();
    below(&mut Vec::new(), &mut keys);
    keys
}

/// Adds the keys of the section at `path`, or `path` itself where it is no section.
fn below(path: &mut Vec<&'static str>, keys: &mut Vec<String>) {
    match fields(path) {
        None => keys.push(path.join(".")),
        Some(fields) => {
            for field in fields {
                path.push(field);
                below(path, keys);
                path.pop();
            }
        }
    }
}

/// The fields of the section at `path`; `None` where there is a value.
fn fields(path: &[&'static str]) -> Option<&'static [&'static str]> {
    match Config::deserialize(Descent { path }) {
        Err(Found::Fields(fields)) => Some(fields),
        _ => None,
    }
}

/// Refuses keys of a table that a configuration does not have. `place` is where the table comes from.
///
/// # Errors
/// For the first such key, with the nearest one that there is.
pub(super) fn check(table: &Table, place: &str) -> crate::Result<()> {
    let keys = all();
    let unknown = table.iter().find_map(|(key, value)| unknown(key, value, &keys));
    unknown.map_or(Ok(()), |key| Err(refusal(&key, place, &keys)))
}

/// The first key at or below `path` that is not among `keys`.
fn unknown(path: &str, value: &Value, keys: &[String]) -> Option<String> {
    if keys.iter().any(|key| key == path) {
        return None;
    }
    let is_section = keys.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')));
    match value {
        Value::Table(section) if is_section || !section.is_empty() => {
            section.iter().find_map(|(key, value)| unknown(&format!("{path}.{key}"), value, keys))
        }
        // A value where a section belongs is named by what reads it.
        _ if is_section => None,
        _ => Some(path.to_owned()),
    }
}

fn refusal(key: &str, place: &str, keys: &[String]) -> Error {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    // The last word counts twice: the right key in a wrong section is nearer than a wrong key in the right one.
    let likeness =
        |known: &String| strsim::jaro_winkler(&last(known), &last(key)) + strsim::jaro_winkler(known, key);
    let nearest = keys.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let nearest = nearest.map(String::as_str).unwrap_or_default();
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let siblings: Vec<String> = keys
        .iter()
        .filter(|known| known.rsplit_once('.').is_some_and(|(of, _)| of == section))
        .map(|known| last(known))
        .collect();
    let siblings = match siblings.is_empty() {
        true => String::new(),
        false => format!("the keys of `{section}` are {}; ", siblings.join(", ")),
    };
    Error::config(
        place,
        format!("there is no key `{key}`"),
        format!("did you mean `{nearest}`? {siblings}docs/configuration.md has every key"),
    )
}

/// Goes down a path of sections and comes back with the fields of the last one.
struct Descent<'a> {
    path: &'a [&'static str],
}

/// How a descent ends.
#[derive(Debug)]
enum Found {
    Fields(&'static [&'static str]),
    Value,
}

impl std::fmt::Display for Found {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the end of a descent")
    }
}

impl std::error::Error for Found {}

impl de::Error for Found {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self::Value
    }
}

impl<'de> Deserializer<'de> for Descent<'_> {
    type Error = Found;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Found> {
        match self.path {
            [] => Err(Found::Fields(fields)),
            _ => visitor.visit_map(self),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Found> {
        visitor.visit_some(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
        Err(Found::Value)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Descent<'_> {
    type Error = Found;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Found> {
        let Some(key) = self.path.first() else { return Err(Found::Value) };
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Found> {
        seed.deserialize(Descent { path: self.path.get(1..).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_keys_and_those_of_inner_sections_are_among_them() {
        let keys = all();
        for key in [
            "seed",
            "task.classes",
            "plan.patch",
            "schedule.steps",
            "method.margin.value",
            "policy.learning.rate",
        ] {
            assert!(keys.iter().any(|known| known == key), "{key} is not in {keys:?}");
        }
        assert!(!keys.iter().any(|key| key == "plan" || key == "policy.learning"));
    }

    #[test]
    fn the_nearest_key_is_named() {
        for (text, nearest) in [
            ("optimiser.learning_rat = 1", "optimiser.learning_rate"),
            ("optimizer.learning_rate = 1", "optimiser.learning_rate"),
            ("steps = 1", "schedule.steps"),
            ("training.epochs = 1", "schedule.epochs"),
            ("plan.batch_size = 1", "plan.batch"),
            ("seeds = 1", "seed"),
            ("method.margin.valu = 1", "method.margin.value"),
            ("kernel.path = 1", "kernels.path"),
        ] {
            let error = check(&text.parse().unwrap(), "a.toml").unwrap_err().to_string();
            assert!(error.starts_with("a.toml: ") && error.contains(&format!("mean `{nearest}`")), "{error}");
        }
        assert!(check(&"plan.normalisation.CT = \"ct\"".parse().unwrap(), "a.toml").is_ok());
    }
}
