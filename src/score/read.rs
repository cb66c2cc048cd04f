//! Scores read back from `summary.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::image::stem;
use crate::{Error, Result, files};

/// The scores of a folder of predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredFolder {
    /// Names of the regions.
    pub regions: Vec<String>,
    /// Every case that was scored.
    pub cases: Vec<ScoredCase>,
    /// Whether these are cases that were trained on.
    pub trained_on: bool,
}

/// The scores of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredCase {
    /// Name of the case.
    pub case: String,
    /// Name of the file of its prediction, in the folder.
    pub prediction: String,
    /// Per region: value by key, `Dice`, `Sensitivity`, ...; what is undefined is absent.
    pub values: Vec<BTreeMap<String, f64>>,
}

/// What to do about a file that cannot be read.
const FIX: &str = "score the predictions again with `segen evaluate`";

impl ScoredFolder {
    /// Reads a `summary.json`.
    ///
    /// # Errors
    /// Where the file cannot be read or has another form.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(&files::read_json(path, FIX)?, path)
    }

    /// The scores that the words of a `summary.json` hold; `path` is what errors name.
    pub(crate) fn of(summary: &Value, path: &Path) -> Result<Self> {
        let bad = |field: &str, problem: &str| Error::invalid(path, field, problem, FIX);
        let names = summary["region_names"].as_object().ok_or_else(|| bad("region_names", "missing"))?;
        let keys: Vec<&String> = names.keys().collect();
        let regions = names.values().map(|name| name.as_str().unwrap_or_default().to_owned()).collect();
        let list = summary["metric_per_case"].as_array().ok_or_else(|| bad("metric_per_case", "missing"))?;
        let mut cases = Vec::new();
        for entry in list {
            let file = entry["prediction_file"].as_str().ok_or_else(|| bad("prediction_file", "missing"))?;
            let prediction = file.rsplit(['/', '\\']).next().unwrap_or(file).to_owned();
            let mut values = Vec::new();
            for key in &keys {
                let metrics = entry["metrics"][key.as_str()].as_object();
                let metrics = metrics.ok_or_else(|| bad("metrics", "a region is missing"))?;
                let number = |(key, value): (&String, &Value)| Some((key.clone(), value.as_f64()?));
                values.push(metrics.iter().filter_map(number).collect());
            }
            cases.push(ScoredCase { case: stem(&prediction).to_owned(), prediction, values });
        }
        let trained_on = summary["trained_on"].as_bool().unwrap_or(false);
        Ok(Self { regions, cases, trained_on })
    }

    /// Mean of one value of one region over the cases where it is defined.
    pub fn mean(&self, region: usize, key: &str) -> Option<f64> {
        let values: Vec<f64> =
            self.cases.iter().filter_map(|case| case.values[region].get(key).copied()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}
