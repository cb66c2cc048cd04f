//! The values that a method can be run with: those that are chosen from on training cases.

use super::intensity::Intensity;
use super::resolve::Parts;
use super::{Region, Segmented, chan_vese, graph_cut, level_set, mrf, snake};
use crate::config::classical::{ChanVese, GraphCut, LevelSet, Mrf, Snake};
use crate::config::{ClassicalConfig, MethodName};

/// A method with one value of everything.
#[derive(Clone, Debug)]
pub(super) enum Point {
    /// The prior of the atlas.
    Atlas,
    /// The forest.
    Forest,
    /// Atlases, each registered.
    Fusion,
    /// Sparse representation.
    Sparse,
    /// Deformable surface.
    Snake(Snake),
    /// Markov random field.
    Mrf(Mrf),
    /// Graph cut.
    GraphCut(GraphCut),
    /// Edge-based level set.
    LevelSet(LevelSet),
    /// Region-based level set.
    ChanVese(ChanVese),
}

impl Point {
    /// Those of a method, at least one.
    pub(super) fn all(method: MethodName, settings: &ClassicalConfig) -> Vec<Self> {
        match method {
            MethodName::RandomForest => vec![Self::Forest],
            MethodName::MultiAtlas
            | MethodName::MultiAtlasMajority
            | MethodName::MultiAtlasLocal
            | MethodName::MultiAtlasStaple => vec![Self::Fusion],
            MethodName::Sparse => vec![Self::Sparse],
            MethodName::Snake => settings.snake.points().into_iter().map(Self::Snake).collect(),
            MethodName::Mrf => settings.mrf.points().into_iter().map(Self::Mrf).collect(),
            MethodName::GraphCut => settings.graph_cut.points().into_iter().map(Self::GraphCut).collect(),
            MethodName::LevelSet => settings.level_set.points().into_iter().map(Self::LevelSet).collect(),
            MethodName::ChanVese => settings.chan_vese.points().into_iter().map(Self::ChanVese).collect(),
            _ => vec![Self::Atlas],
        }
    }

    /// The values that differ between points, for people.
    pub(super) fn values(&self) -> String {
        match self {
            Self::Atlas | Self::Forest | Self::Fusion | Self::Sparse => String::new(),
            Self::Snake(own) => format!("edge = {}, region = {}", own.edge.value(), own.region.value()),
            Self::Mrf(own) => format!("beta = {}, strength = {}", own.beta.value(), own.strength.value()),
            Self::GraphCut(own) => format!(
                "lambda = {}, likelihood = {}, contrast = {}",
                own.lambda.value(),
                own.likelihood.value(),
                own.contrast.value()
            ),
            Self::LevelSet(own) => format!("nu = {}", own.nu.value()),
            Self::ChanVese(own) => format!("region = {}", own.region.value()),
        }
    }

    /// Segments a region by what needs nothing but the region.
    pub(super) fn segment(&self, region: &Region<'_>, intensity: &Intensity, parts: &[Parts]) -> Segmented {
        match self {
            Self::Mrf(settings) => mrf::segment(region, settings, intensity),
            Self::GraphCut(settings) => graph_cut::segment(region, settings),
            Self::LevelSet(settings) => level_set::segment(region, settings, parts),
            Self::ChanVese(settings) => chan_vese::segment(region, settings, parts),
            Self::Snake(settings) => snake::segment(region, settings, parts),
            Self::Atlas | Self::Forest | Self::Fusion | Self::Sparse => {
                Segmented { probabilities: region.prior.to_owned(), notes: Vec::new() }
            }
        }
    }
}
