//! Configurations by name: what the talk's experiments set, as far as it differs from the defaults.
//!
//! They say nothing of channels: a network takes those that the data has. `NAME.small` is `NAME` with what
//! differs for two processor cores.

use toml::{Table, Value};

use crate::{Error, Result};

/// Names with their files; `.small` ones stand after the preset that they change.
const PRESETS: [(&str, &str); 8] = [
    ("brats-core", include_str!("../../configs/brats-core.toml")),
    ("brats-core.small", include_str!("../../configs/brats-core.small.toml")),
    ("brats", include_str!("../../configs/brats.toml")),
    ("brats.small", include_str!("../../configs/brats.small.toml")),
    ("atlas", include_str!("../../configs/atlas.toml")),
    ("atlas.small", include_str!("../../configs/atlas.small.toml")),
    ("kits", include_str!("../../configs/kits.toml")),
    ("kits.small", include_str!("../../configs/kits.small.toml")),
];

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The settings of a preset.
///
/// # Errors
/// Where there is none of that name; lists those there are.
pub fn table(name: &str) -> Result<Table> {
    let mut table = match name.strip_suffix(".small") {
        Some(full) => own(full, name)?,
        None => Table::new(),
    };
    overlay(&mut table, own(name, name)?);
    Ok(table)
}

/// Puts `changes` over `table`, section by section.
pub fn overlay(table: &mut Table, changes: Table) {
    for (key, value) in changes {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(changes)) => overlay(section, changes),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// What one file says; `asked` is what the user asked for.
fn own(name: &str, asked: &str) -> Result<Table> {
    let Some((_, text)) = PRESETS.iter().find(|(known, _)| *known == name) else {
        return Err(Error::config(
            "--preset",
            format!("there is no preset `{asked}`"),
            format!("known are {}", names().collect::<Vec<_>>().join(", ")),
        ));
    };
    text.parse().map_err(|error| Error::Internal { what: format!("reading the preset `{name}`: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Variant;
    use crate::config::{Config, NetworkKind, OptimiserKind};

    fn resolved(name: &str) -> Config {
        Config::resolve_preset(Some(name), None, &[]).unwrap()
    }

    #[test]
    fn every_preset_is_a_valid_configuration_that_differs_from_the_others() {
        let all: Vec<Config> = names().map(resolved).collect();
        for (i, config) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other != config));
            assert_ne!(*config, Config::default());
        }
    }

    #[test]
    fn presets_hold_what_the_talk_used() {
        let core = resolved("brats-core");
        assert_eq!((core.network.kind, core.network.variant), (NetworkKind::DeepMedic, Variant::Basic));
        assert_eq!(core.optimiser.kind, OptimiserKind::RmsProp);
        assert_eq!((core.optimiser.momentum, core.optimiser.l1, core.optimiser.l2), (0.6, 0.0, 0.0));
        assert_eq!(core.schedule.expected_steps(|| 1.0), 70_000);
        assert_eq!((core.loss.cross_entropy, core.loss.dice), (1.0, 0.0));
        let atlas = resolved("atlas");
        assert_eq!(atlas.network.variant, Variant::Default);
        assert_eq!((atlas.optimiser.l1, atlas.optimiser.l2), (1e-6, 1e-4));
        let kits = resolved("kits");
        assert_eq!(kits.network.kind, NetworkKind::UNet);
        assert_eq!(kits.plan.spacing, Some([1.6, 1.6, 3.2]));
    }

    #[test]
    fn a_small_preset_keeps_what_it_does_not_change() {
        let (full, small) = (resolved("brats-core"), resolved("brats-core.small"));
        assert_eq!(small.optimiser, full.optimiser);
        assert_eq!(small.task, full.task);
        assert_eq!((small.network.variant, small.plan.batch), (Variant::BasicSmall, Some(5)));
        let sets = ["plan.batch=3".to_owned()];
        assert_eq!(Config::resolve_preset(Some("atlas.small"), None, &sets).unwrap().plan.batch, Some(3));
    }

    #[test]
    fn an_unknown_name_lists_those_there_are() {
        for name in ["brats2", "liver.small", ".small"] {
            let error = table(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("kits.small"), "{error}");
        }
    }
}
