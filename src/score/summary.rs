//! Means over cases and regions, and `summary.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Metric, ScoreOptions, Scores};
use crate::data::dataset::{LabelScheme, Region};
use crate::error::{Error, Result};
use crate::files::{create_folder, csv_line, write_atomically};

/// The scores of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseScores {
    /// Name of the case.
    pub case: String,
    /// The segmentation that was scored.
    pub prediction_file: PathBuf,
    /// The segmentation that it was scored against.
    pub reference_file: PathBuf,
    /// One for each region, in the order of `LabelScheme::regions`.
    pub scores: Vec<Scores>,
    /// The step that changed the prediction before it was scored, in words, by label value.
    pub post: BTreeMap<String, String>,
}

/// One metric of one region over the cases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Average {
    /// Mean over the cases that have a value; `None` where none has.
    pub mean: Option<f64>,
    /// Median over the same cases (the mean of the middle two where their number is even).
    pub median: Option<f64>,
    /// Number of cases that have a value.
    pub n: usize,
    /// Number of cases whose value is undefined by its formula, whatever the rule for empty segmentations
    /// made of it.
    pub undefined: usize,
}

/// Scores of many cases and their means. Serialises as nnU-Net's `summary.json` with added keys; what is
/// undefined is `null`, never NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The scored regions.
    pub regions: Vec<Region>,
    /// The cases, in the order in which they were given.
    pub cases: Vec<CaseScores>,
    /// How they were scored.
    pub options: ScoreOptions,
    /// Number of references without a prediction, left out.
    pub without_prediction: usize,
    /// Whether these are cases that were trained on: then their scores estimate nothing for new ones.
    pub trained_on: bool,
}

impl Summary {
    /// Joins the scores of cases; each must have as many scores as `scheme` has regions (else a panic).
    pub fn of(cases: Vec<CaseScores>, scheme: &LabelScheme, options: &ScoreOptions) -> Self {
        for case in &cases {
            assert_eq!(case.scores.len(), scheme.regions.len(), "scores of case `{}`", case.case);
        }
        Self {
            regions: scheme.regions.clone(),
            cases,
            options: options.clone(),
            without_prediction: 0,
            trained_on: false,
        }
    }

    /// One metric of one region over the cases.
    pub fn average(&self, region: usize, metric: Metric) -> Average {
        let mut values = Vec::new();
        let mut undefined = 0;
        for case in &self.cases {
            let scores = &case.scores[region];
            values.extend(scores.get(metric));
            undefined += usize::from(scores.undefined(metric));
        }
        let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = mean.map(|_| 0.5 * (values[(values.len() - 1) / 2] + values[middle]));
        Average { mean, median, n: values.len(), undefined }
    }

    /// The mean of the regions' means, over the regions that have one, and how many have none.
    pub fn foreground_mean(&self, metric: Metric) -> (Option<f64>, usize) {
        let means = (0..self.regions.len()).filter_map(|region| self.average(region, metric).mean);
        let (sum, n) = means.fold((0.0, 0), |(sum, n), mean| (sum + mean, n + 1));
        ((n > 0).then(|| sum / f64::from(n)), self.regions.len() - n as usize)
    }

    /// Number of cases in which HD95 is the penalty for a region missed or invented altogether.
    pub fn hd95_penalised(&self, region: usize) -> usize {
        self.cases.iter().filter(|case| case.scores[region].hd95_penalised).count()
    }

    /// The text of `summary.json`.
    ///
    /// # Errors
    /// None that a file or a user can cause.
    pub fn to_json(&self) -> Result<String> {
        match serde_json::to_string_pretty(self) {
            Ok(text) => Ok(text + "\n"),
            Err(error) => Err(Error::Internal { what: format!("writing scores as JSON: {error}") }),
        }
    }

    /// The text of `scores.csv`: one line for every case and region with all measures, under the names that they have in
    /// `summary.json`; what is undefined is empty.
    pub fn to_csv(&self) -> String {
        let names = ["case", "region", "label"].map(str::to_owned).into_iter();
        let measures = Metric::ALL.into_iter().map(|metric| metric.key(&self.options));
        let mut text = csv_line(names.chain(measures).chain(["HD95_penalised".to_owned()]));
        for case in &self.cases {
            for (region, scores) in self.regions.iter().zip(&case.scores) {
                let names = [case.case.clone(), region.name.clone(), region_key(region)].into_iter();
                let value = |metric| scores.get(metric).map_or(String::new(), |value: f64| value.to_string());
                let penalised = scores.hd95_penalised.to_string();
                text.push_str(&csv_line(names.chain(Metric::ALL.into_iter().map(value)).chain([penalised])));
            }
        }
        text
    }

    /// Writes `summary.json` to `path`, making its folder where there is none, and `scores.csv` beside it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.to_json()?;
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        write_atomically(path, text.as_bytes())?;
        write_atomically(&scores_file(path), self.to_csv().as_bytes())
    }

    fn region_json(&self, region: usize) -> Value {
        let mut values = Map::new();
        let mut undefined = Map::new();
        for metric in Metric::ALL {
            let average = self.average(region, metric);
            values.insert(metric.key(&self.options), json!(average.mean));
            if !metric.is_count() {
                undefined.insert(metric.key(&self.options), json!(average.undefined));
            }
        }
        values.insert("n_hd95_penalised".to_owned(), json!(self.hd95_penalised(region)));
        values.insert("n_undefined".to_owned(), sorted(undefined));
        sorted(values)
    }

    fn foreground_json(&self) -> Value {
        let mut values = Map::new();
        let mut undefined = Map::new();
        for metric in Metric::ALL {
            let (mean, without) = self.foreground_mean(metric);
            values.insert(metric.key(&self.options), json!(mean));
            if !metric.is_count() {
                undefined.insert(metric.key(&self.options), json!(without));
            }
        }
        values.insert("n_undefined".to_owned(), sorted(undefined));
        sorted(values)
    }

    fn case_json(&self, case: &CaseScores) -> Value {
        let metrics = self.regions.iter().zip(&case.scores).map(|(region, scores)| {
            let values = Metric::ALL.into_iter().map(|metric| {
                let value = scores.get(metric);
                let whole = value.filter(|_| metric.is_count()).map(|count| json!(count as u64));
                (metric.key(&self.options), whole.unwrap_or_else(|| json!(value)))
            });
            (region_key(region), sorted(values.collect()))
        });
        let mut entry = json!({
            "metrics": metrics.collect::<Map<_, _>>(),
            "prediction_file": case.prediction_file.to_string_lossy(),
            "reference_file": case.reference_file.to_string_lossy(),
        });
        if !case.post.is_empty() {
            entry["post"] = json!(case.post);
        }
        entry
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let keys = self.regions.iter().map(region_key);
        let means = (0..self.regions.len()).map(|region| self.region_json(region));
        let names = self.regions.iter().map(|region| (region_key(region), json!(region.name)));
        let mut summary = json!({
            "foreground_mean": self.foreground_json(),
            "mean": keys.zip(means).collect::<Map<_, _>>(),
            "metric_per_case": self.cases.iter().map(|case| self.case_json(case)).collect::<Vec<_>>(),
            "n_without_prediction": self.without_prediction,
            "region_names": names.collect::<Map<_, _>>(),
            "rules": self.options,
        });
        if self.trained_on {
            summary["trained_on"] = json!(true);
        }
        summary.serialize(serializer)
    }
}

/// Where the scores of single cases stand for a `summary.json` at `path`: in `scores.csv` beside it, or for another name
/// `NAME.json` in `NAME-scores.csv`, so that several can lie in one folder.
pub fn scores_file(path: &Path) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(match stem.as_str() {
        "summary" => "scores.csv".to_owned(),
        other => format!("{other}-scores.csv"),
    })
}

/// The key of a region as nnU-Net writes it: the value, or the text of a Python tuple of values.
fn region_key(region: &Region) -> String {
    match region.values.as_slice() {
        [value] => value.to_string(),
        values => format!("({})", values.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn sorted(mut map: Map<String, Value>) -> Value {
    map.sort_keys();
    Value::Object(map)
}
