//! Scores at every operating point: how many voxels of a class are found, missed and invented for every bias of the
//! decision, from counts that take kilobytes instead of volumes of probabilities.
//!
//! The log-odds of class c at a voxel are l_c = log p_c - log max of p_k over k != c. Per case and class two
//! [`Histogram`]s count them: for voxels that the reference gives to the class, and for the others. Cutting both at
//! an edge gives what a decision with that threshold finds and invents, exactly. Where there are more than two
//! classes, a threshold for one takes voxels from the others; [`Joint`] counts what that needs.
//!
//! A decision is the class with the largest p_c e^(b_c), the first of equal ones, where b of the background is 0
//! ([`Bias`]). For two classes that is the threshold -b. [`Chosen`] is the b that is best on a set of cases; no case
//! is scored with a b that it helped to choose ([`Choice`]).
//!
//! ```text
//! probabilities, reference -> CaseOdds (histograms, joint count, lesions) -> Choice of b, curves, tables
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;

mod bias;
mod choose;
mod histogram;
mod joint;

pub use bias::Bias;
pub use choose::{Choice, Chosen};
pub use histogram::{BINS, ClassOdds, Counts, Histogram, LIMIT, Lesions, THRESHOLDS, ZERO, edge};
pub(crate) use histogram::{bin, edge_of_bias};
pub(crate) use joint::Counter;
pub use joint::{Joint, MOST_CLASSES};

/// What one case says about operating points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseOdds {
    /// Name of the case.
    pub case: String,
    /// The foreground classes of the network, in its order.
    pub classes: Vec<ClassOdds>,
    /// Where there are more than two classes: what a choice of b needs; see [`Joint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joint: Option<Joint>,
    /// The b of every foreground class that was chosen without this case; none where nothing could be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<Bias>,
    /// Per foreground class, what is found, invented and missed at that b.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_bias: Vec<Counts>,
}

/// How the classes of cases were decided that have been scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The largest probability.
    Argmax,
    /// With the bias that held-out cases chose; each of these gets the one that the others chose.
    Chosen,
}

/// `operating.json` beside a `summary.json`: the counts of its cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operating {
    /// Thresholds on the log-odds at which lesions are counted.
    pub thresholds: Vec<f64>,
    /// Per foreground class: shares of voxels beyond the limits of the histograms.
    pub open_ends: BTreeMap<String, OpenEnds>,
    /// The cases.
    pub cases: Vec<CaseOdds>,
}

/// Shares of voxels in the two bins that have no outer edge, over all cases: where they are large, an edge of a
/// histogram says little about what lies beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenEnds {
    /// Of the voxels of the class: in the lowest and in the highest bin.
    pub reference: [f64; 2],
    /// Of the others.
    pub others: [f64; 2],
}

/// Name of the file of an [`Operating`], beside `summary.json`, and of the run's [`Choice`], in the run folder.
pub const FILE: &str = "operating.json";

impl CaseOdds {
    /// Per foreground class, what is found, invented and missed at a bias. Exact for two classes at the edges of
    /// the histograms and for any number at b = 0; else to the width of a bin of the [`Joint`]. `None` where the
    /// joint count that this needs is not there.
    ///
    /// # Panics
    /// Where `bias` is for another number of classes (a bug of the caller).
    pub fn at(&self, bias: &Bias) -> Option<Vec<Counts>> {
        assert_eq!(bias.values().len(), self.classes.len(), "classes of the bias");
        match (self.classes.as_slice(), &self.joint) {
            (classes, _) if bias.is_none() => Some(classes.iter().map(|class| class.at(ZERO)).collect()),
            ([class], _) => Some(vec![class.at(histogram::edge_of_bias(bias.values()[0]))]),
            (_, Some(joint)) => Some(joint.at(bias.values())),
            (_, None) => None,
        }
    }

    /// What is found, invented and missed of a foreground class, counted from 0; `None` where no bias was chosen.
    pub fn counts(&self, class: usize, decision: Decision) -> Option<Counts> {
        match decision {
            Decision::Argmax => self.classes.get(class).map(|class| class.at(ZERO)),
            Decision::Chosen => self.at_bias.get(class).copied(),
        }
    }

    /// Keeps what tables need and leaves out the rest, which takes most of the place.
    pub fn without_joint(&self) -> Self {
        Self { joint: None, ..self.clone() }
    }
}

impl Operating {
    /// Joins cases.
    pub fn of(cases: Vec<CaseOdds>) -> Self {
        let mut sums: BTreeMap<String, ClassOdds> = BTreeMap::new();
        for class in cases.iter().flat_map(|case| &case.classes) {
            sums.entry(class.class.clone()).or_insert_with(|| ClassOdds::new(&class.class)).add(class, 1);
        }
        let open_ends = sums.into_iter().map(|(name, class)| {
            let ends = |histogram: &Histogram| {
                let all = histogram.total().max(1) as f64;
                [0, BINS - 1].map(|bin| histogram.count(bin) as f64 / all)
            };
            (name, OpenEnds { reference: ends(&class.reference), others: ends(&class.others) })
        });
        Self { thresholds: THRESHOLDS.to_vec(), open_ends: open_ends.collect(), cases }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read or has another form.
    pub fn read(path: &Path) -> Result<Self> {
        files::read_json(path, "restore the file, or let `segen train --resume` score the cases again")
    }

    /// Writes the file, a line for each case.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = |value: serde_json::Result<String>| {
            value.map_err(|e| Error::Internal { what: format!("writing log-odds as JSON: {e}") })
        };
        let cases = self.cases.iter().map(|case| json(serde_json::to_string(case)));
        let text = format!(
            "{{\"thresholds\": {}, \"open_ends\": {},\n\"cases\": [\n{}\n]}}\n",
            json(serde_json::to_string(&self.thresholds))?,
            json(serde_json::to_string(&self.open_ends))?,
            cases.collect::<Result<Vec<_>>>()?.join(",\n")
        );
        files::write_atomically(path, text.as_bytes())
    }

    /// Mean of a score of a class over the cases in which it is defined.
    pub fn mean(&self, class: &str, decision: Decision, score: fn(Counts) -> Option<f64>) -> Option<f64> {
        let of_case = |case: &CaseOdds| {
            let place = case.classes.iter().position(|own| own.class == class)?;
            score(case.counts(place, decision)?)
        };
        let values: Vec<f64> = self.cases.iter().filter_map(of_case).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The counts of every class, summed over the cases: what the curves of a network are drawn from.
    pub fn classes(&self) -> Vec<ClassOdds> {
        let mut sums: Vec<ClassOdds> = Vec::new();
        for class in self.cases.iter().flat_map(|case| &case.classes) {
            match sums.iter_mut().find(|sum| sum.class == class.class) {
                Some(sum) => sum.add(class, 1),
                None => sums.push(class.clone()),
            }
        }
        sums
    }
}
