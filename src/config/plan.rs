//! Values that replace the plan's. Which of them a plan can take is checked where they are applied, in
//! `plan/overrides.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Problems;
use super::named::{Named, named};

/// Values that replace the plan's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanOverrides {
    /// A plan of another data set, as `segen plan -o` writes it, that is taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Voxel spacing after preparation, millimetres, (x, y, z) along the nearest RAS+ axes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<[f64; 3]>,
    /// Patch edges, voxels; for the U-Net each a multiple of its total stride along its axis, for DeepMedic the
    /// full-resolution input in training, at least 17.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<[usize; 3]>,
    /// DeepMedic: edges of the full-resolution input in prediction, voxels; at least 17.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_patch: Option<[usize; 3]>,
    /// Patches in a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// U-Net: feature maps of the first stage; they double at every further stage up to 320.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_features: Option<usize>,
    /// Memory that training may take, GiB, as the planner sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<f64>,
    /// Seconds that one training step should take at most on a processor of a nominal 150 GFLOP/s (two cores with
    /// AVX-512); 0 plans without regard to speed, as nnU-Net does. The nominal speed keeps plans the same on every
    /// machine and for any number of threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_seconds: Option<f64>,
    /// How intensities are brought to a common scale, where the names of the channels should not decide it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<NormalisationChoice>,
}

/// How the channels are normalised: one scheme for all, one for each, or some by the channel's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum NormalisationChoice {
    /// Every channel alike.
    All(Scheme),
    /// One entry per channel, in their order.
    Each(Vec<Scheme>),
    /// By the names of channels; the others stay as planned.
    Named(BTreeMap<String, Scheme>),
}

named! {
    /// How the intensities of one channel are brought to a common scale.
    pub enum Scheme for "plan.normalisation" {
        /// Mean 0 and deviation 1 of each case: over the whole volume, or over its non-zero voxels where cropping to
        /// these removes much, as nnU-Net decides it.
        ZScore = "zscore",
        /// CT: clipped to the percentiles 0.5 and 99.5 of the data set's foreground, then its mean and deviation.
        Ct = "ct",
        /// Each case scaled to 0..1.
        Rescale = "rescale",
        /// Divided by 255.
        Rgb = "rgb",
        /// Left as it is.
        None = "none",
    }
}

impl<'de> Deserialize<'de> for NormalisationChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

/// Reads a name, a list or a table, so that an error names the scheme that there is not.
struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = NormalisationChoice;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a scheme, one for each channel, or a table from names of channels to schemes")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<NormalisationChoice, E> {
        let scheme = Scheme::named(name).ok_or_else(|| E::unknown_variant(name, Scheme::NAMES))?;
        Ok(NormalisationChoice::All(scheme))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NormalisationChoice, A::Error> {
        let mut schemes = Vec::new();
        while let Some(scheme) = list.next_element()? {
            schemes.push(scheme);
        }
        Ok(NormalisationChoice::Each(schemes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<NormalisationChoice, A::Error> {
        let mut schemes = BTreeMap::new();
        while let Some((channel, scheme)) = table.next_entry()? {
            schemes.insert(channel, scheme);
        }
        Ok(NormalisationChoice::Named(schemes))
    }
}

impl PlanOverrides {
    pub(super) fn check(&self, problems: &mut Problems) {
        let edges = |edges: [usize; 3]| edges.iter().all(|n| (1..=4096).contains(n));
        problems.demand(
            self.batch.is_none_or(|n| (1..=65_536).contains(&n)),
            "plan.batch",
            "from 1 to 65536",
        );
        problems.demand(
            self.base_features.is_none_or(|n| (1..=4096).contains(&n)),
            "plan.base_features",
            "from 1 to 4096",
        );
        problems.demand(self.patch.is_none_or(edges), "plan.patch", "three edges from 1 to 4096 voxels");
        problems.demand(
            self.inference_patch.is_none_or(edges),
            "plan.inference_patch",
            "three edges from 1 to 4096 voxels",
        );
        problems.demand(
            self.spacing.is_none_or(|s| s.iter().all(|&edge| edge > 0.0 && edge.is_finite())),
            "plan.spacing",
            "three lengths above 0, in millimetres",
        );
        problems.demand(self.memory_gib.is_none_or(|g| g > 0.0), "plan.memory_gib", "above 0");
        problems.demand(self.step_seconds.is_none_or(|s| s >= 0.0), "plan.step_seconds", "0 or more");
    }
}
