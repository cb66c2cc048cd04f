//! Tests of `segen::config`: its page in the documentation, and normalisation by hand.

use std::collections::BTreeMap;
use std::path::Path;

use segen::commands::train;
use segen::config::{Config, keys};
use segen::data::dataset::Dataset;
use segen::data::phantom::{self, Kind, PhantomOptions};
use segen::prepare::{self, Normalisation};
use segen::progress::Silent;
use toml::Value;

fn resolve(sets: &[&str]) -> Config {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Config::resolve(None, &sets).unwrap()
}

/// Rows of the table of keys: key and default.
fn documented() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(page).unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with("| key |")).skip(2);
    let mut rows = BTreeMap::new();
    for line in table.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let before =
            rows.insert(cells[1].trim_matches('`').to_owned(), cells[2].trim_matches('`').to_owned());
        assert_eq!(before, None, "{line} stands twice");
    }
    rows
}

/// The values of a table by dotted key.
fn flat(table: &toml::Table, above: &str, values: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match value {
            Value::Table(section) => flat(section, &key, values),
            value => drop(values.insert(key, value.clone())),
        }
    }
}

#[test]
fn every_key_stands_on_its_page_with_its_default() {
    let documented = documented();
    let there: Vec<&String> = documented.keys().collect();
    let mut keys = keys::all();
    keys.sort();
    assert_eq!(there, keys.iter().collect::<Vec<_>>(), "docs/configuration.md and the configuration's keys");
    let mut defaults = BTreeMap::new();
    flat(&Config::default().to_toml().parse().unwrap(), "", &mut defaults);
    for (key, value) in defaults {
        let text = &documented[&key];
        let said: toml::Table =
            format!("v = {text}").parse().unwrap_or_else(|e| panic!("{key}: {text}: {e}"));
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|i| i as f64));
        let plain = |value: &Value| value.to_string().trim_matches('"').to_owned();
        let equal = plain(&said["v"]) == plain(&value)
            || number(&said["v"]).is_some_and(|n| Some(n) == number(&value));
        assert!(equal, "{key}: the page says {text}, the default is {value}");
    }
}

#[test]
fn channels_are_normalised_as_configured() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("Dataset901_Phantom");
    let options = PhantomOptions { cases: 2, shape: [24; 3], ..PhantomOptions::new(Kind::Brats) };
    phantom::write(&options, &data, &Silent).unwrap();
    let dataset = Dataset::open(&data).unwrap();
    let plan = |sets: &[&str]| train::plan(&dataset, &resolve(sets), &Silent);
    let planned = plan(&[]).unwrap();
    assert!(planned.normalisation.iter().all(|n| matches!(n, Normalisation::ZScore { .. })));
    let channels = dataset.channels.len();
    let all = plan(&["plan.normalisation=rescale"]).unwrap();
    assert_eq!(all.normalisation, vec![Normalisation::Rescale; channels]);
    assert!(all.describe(1e9, 2.0).contains("plan.normalisation"), "{}", all.describe(1e9, 2.0));
    let one = plan(&[&format!("plan.normalisation.{}=ct", dataset.channels[1])]).unwrap();
    let measured = one.fingerprint.intensities[1];
    let ct = Normalisation::Ct {
        lower: measured.percentile_00_5,
        upper: measured.percentile_99_5,
        mean: measured.mean,
        std: measured.std,
    };
    assert_eq!((&one.normalisation[0], &one.normalisation[1]), (&planned.normalisation[0], &ct));
    let list = format!("plan.normalisation=[{}]", vec!["\"none\""; channels].join(", "));
    let none = plan(&[&list]).unwrap();
    assert_eq!(none.normalisation, vec![Normalisation::None; channels]);
    // What was chosen is what happens to voxels.
    let case = &dataset.training[0];
    let range = |plan: &segen::plan::Plan| {
        let sample =
            prepare::prepare_all(&dataset, &plan.recipe(), &[case], &folder.path().join("cache"), &Silent)
                .unwrap();
        let images = sample[0].load().unwrap().images;
        images.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
    };
    assert_eq!(range(&all), (0.0, 1.0));
    assert!(range(&planned).0 < 0.0);
    for (set, words) in [
        ("plan.normalisation=[\"ct\"]".to_owned(), "1 entries for 4 channels"),
        ("plan.normalisation.PET=ct".to_owned(), "no channel `PET`"),
    ] {
        let message = plan(&[&set]).unwrap_err().to_string();
        assert!(message.contains("plan.normalisation") && message.contains(words), "{message}");
    }
}
