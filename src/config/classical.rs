//! Settings of the classical methods, which are fitted to training cases instead of trained by steps.
//!
//! A value that may be chosen on training cases is a number or a list of them, [`Tuned`]. Lengths are in millimetres
//! unless said.

use serde::{Deserialize, Serialize};

use super::Problems;
use super::named::named;

/// A value, or those that one is chosen from on training cases; the first is taken where none can be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tuned<T> {
    /// Fixed.
    One(T),
    /// To choose from.
    Several(Vec<T>),
}

impl<T: Copy> Tuned<T> {
    /// All values.
    pub fn values(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }

    /// The value in force: the first.
    ///
    /// # Panics
    /// For an empty list, which a checked configuration does not have.
    pub fn value(&self) -> T {
        self.values()[0]
    }

    /// One fixed value for each.
    fn each(&self) -> Vec<Self> {
        self.values().iter().copied().map(Self::One).collect()
    }
}

/// The section `classical` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassicalConfig {
    /// Where a method starts: an atlas of positions, a forest of intensities, or whichever training cases speak for.
    pub prior: PriorSource,
    /// How far beyond the prior's foreground a method works.
    pub margin: f64,
    /// Training cases that values are chosen on; 0 for the first value everywhere.
    pub tune_cases: usize,
    /// Registration to the mean template.
    pub registration: Registration,
    /// Deformable surface.
    pub snake: Snake,
    /// Edge-based level set.
    pub level_set: LevelSet,
    /// Region-based level set.
    pub chan_vese: ChanVese,
    /// Markov random field.
    pub mrf: Mrf,
    /// Graph cut.
    pub graph_cut: GraphCut,
    /// Several atlases, each registered to the case.
    pub multi_atlas: MultiAtlas,
    /// Random forest.
    pub forest: Forest,
    /// Sparse representation.
    pub sparse: Sparse,
}

named! {
    /// Where a classical method starts.
    pub enum PriorSource for "classical.prior" {
        /// The atlas where it finds training cases left out of it (mean Dice 0.3), else the forest.
        Auto = "auto",
        /// How often each class lies at a place of the mean template.
        Atlas = "atlas",
        /// A random forest of intensities without places.
        Forest = "forest",
    }
}

/// Registration by a stationary velocity field. Lengths are voxels of a pyramid's level, so that a smooth field means
/// the same at every resolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registration {
    /// Radius of the window of the local correlation.
    pub radius: usize,
    /// Standard deviation of the Gaussian on every update of the field.
    pub fluid: f64,
    /// Of the Gaussian on the field itself.
    pub diffusion: f64,
    /// Iterations at each level, the finest one last.
    pub iterations: Vec<usize>,
}

/// Deformable surface in a gradient vector flow (Xu & Prince 1998).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snake {
    /// Tension.
    pub alpha: f64,
    /// Stiffness.
    pub beta: f64,
    /// Smoothness of the flow.
    pub mu: f64,
    /// Step along the flow, in smallest spacings; each value goes with the one of `region` at the same place.
    pub edge: Tuned<f64>,
    /// Step along the surface's normal by the odds of the class, in smallest spacings.
    pub region: Tuned<f64>,
}

/// Distance-regularised level set (Li et al. 2010), in smallest spacings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LevelSet {
    /// Weight of the regularisation.
    pub mu: f64,
    /// Weight of the edges' length.
    pub lambda: f64,
    /// Balloon force: below 0 grows, above 0 shrinks.
    pub nu: Tuned<f64>,
    /// Steps at most.
    pub iterations: usize,
}

/// Region-based level set (Chan & Vese 2001).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChanVese {
    /// Weight of the length.
    pub mu: f64,
    /// What tells inside from outside.
    pub region: Tuned<RegionTerm>,
    /// Steps at most.
    pub iterations: usize,
}

named! {
    /// What tells inside from outside in a region-based level set.
    pub enum RegionTerm for "classical.chan_vese.region" {
        /// Intensities that the classes have in training cases, times the prior.
        Likelihood = "likelihood",
        /// The mean intensity inside and outside, and a fifth of the prior's log-odds.
        MeanPrior = "mean-prior",
        /// The mean intensity inside and outside alone: the published method.
        Mean = "mean",
    }
}

/// Hidden Markov random field with expectation-maximisation (Zhang et al. 2001).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mrf {
    /// Cost of a face between two classes, times the spacing across it.
    pub beta: Tuned<f64>,
    /// Voxels that the training cases' intensities count for against those of the case; `inf` keeps them.
    pub strength: Tuned<f64>,
    /// Whether a smooth bias field is estimated as well.
    pub bias: bool,
}

/// Graph cut by alpha-expansion (Boykov et al. 2001, 2004).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphCut {
    /// Cost of a face between two classes, times the spacing across it.
    pub lambda: Tuned<f64>,
    /// Weight of the intensities beside the prior.
    pub likelihood: Tuned<f64>,
    /// Whether a face costs less where intensities differ.
    pub contrast: Tuned<bool>,
    /// 6 or 26.
    pub neighbours: usize,
}

/// Label fusion of several atlases (Iglesias & Sabuncu 2015).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MultiAtlas {
    /// Atlases for a case.
    pub count: usize,
    /// How they are chosen.
    pub select: Selection,
    /// Atlases kept in the run.
    pub keep: usize,
    /// Radius of the patches that are compared, voxels.
    pub patch: usize,
    /// Radius in which the best patch is looked for, voxels.
    pub search: usize,
}

named! {
    /// How the atlases of a case are chosen (Aljabar et al. 2009).
    pub enum Selection for "classical.multi_atlas.select" {
        /// By normalised cross-correlation.
        Ncc = "ncc",
        /// By normalised mutual information.
        Nmi = "nmi",
        /// Drawn: the control.
        Random = "random",
    }
}

/// Random forest (Breiman 2001).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forest {
    /// Number of trees.
    pub trees: usize,
    /// Splits between a root and a leaf, at most.
    pub depth: usize,
    /// Voxels in a leaf, at least.
    pub leaf: usize,
}

/// Sparse representation over patches (Wright et al. 2009).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sparse {
    /// What patches are made of.
    pub dictionary: Dictionary,
    /// Most similar training cases whose patches are taken.
    pub cases: usize,
    /// Cost of a coefficient.
    pub lambda: f64,
}

named! {
    /// What patches are represented by.
    pub enum Dictionary for "classical.sparse.dictionary" {
        /// Patches of training cases where there is an atlas of positions, else learned ones.
        Auto = "auto",
        /// Patches of the most similar training cases at the same place.
        Cases = "cases",
        /// One dictionary a class, by K-SVD.
        Learned = "learned",
    }
}

impl Default for ClassicalConfig {
    fn default() -> Self {
        Self {
            prior: PriorSource::Auto,
            margin: 10.0,
            tune_cases: 12,
            registration: Registration::default(),
            snake: Snake::default(),
            level_set: LevelSet::default(),
            chan_vese: ChanVese::default(),
            mrf: Mrf::default(),
            graph_cut: GraphCut::default(),
            multi_atlas: MultiAtlas::default(),
            forest: Forest::default(),
            sparse: Sparse::default(),
        }
    }
}

impl Default for Registration {
    fn default() -> Self {
        Self { radius: 2, fluid: 1.5, diffusion: 0.7, iterations: vec![40, 25, 20] }
    }
}

impl Default for Snake {
    fn default() -> Self {
        Self {
            alpha: 0.2,
            beta: 0.2,
            mu: 0.2,
            edge: Tuned::Several(vec![0.25, 0.5, 0.5]),
            region: Tuned::Several(vec![0.5, 0.25, 0.0]),
        }
    }
}

impl Default for LevelSet {
    fn default() -> Self {
        Self { mu: 0.2, lambda: 0.5, nu: Tuned::Several(vec![-0.2, 0.0, -0.4]), iterations: 60 }
    }
}

impl Default for ChanVese {
    fn default() -> Self {
        let region = vec![RegionTerm::Likelihood, RegionTerm::MeanPrior, RegionTerm::Mean];
        Self { mu: 0.25, region: Tuned::Several(region), iterations: 100 }
    }
}

impl Default for Mrf {
    fn default() -> Self {
        Self {
            beta: Tuned::Several(vec![0.3, 0.1, 0.6]),
            strength: Tuned::Several(vec![f64::INFINITY, 5000.0]),
            bias: false,
        }
    }
}

impl Default for GraphCut {
    fn default() -> Self {
        Self {
            lambda: Tuned::Several(vec![0.3, 0.7]),
            likelihood: Tuned::Several(vec![0.6, 1.0]),
            contrast: Tuned::Several(vec![false, true]),
            neighbours: 6,
        }
    }
}

impl Default for MultiAtlas {
    fn default() -> Self {
        Self { count: 12, select: Selection::Ncc, keep: 100, patch: 2, search: 1 }
    }
}

impl Default for Forest {
    fn default() -> Self {
        Self { trees: 100, depth: 20, leaf: 5 }
    }
}

impl Default for Sparse {
    fn default() -> Self {
        Self { dictionary: Dictionary::Auto, cases: 8, lambda: 0.02 }
    }
}

impl Snake {
    /// The settings with each pair of steps.
    pub fn points(&self) -> Vec<Self> {
        let pairs = self.edge.each().into_iter().zip(self.region.each());
        pairs.map(|(edge, region)| Self { edge, region, ..self.clone() }).collect()
    }
}

impl LevelSet {
    /// The settings with each balloon force.
    pub fn points(&self) -> Vec<Self> {
        self.nu.each().into_iter().map(|nu| Self { nu, ..self.clone() }).collect()
    }
}

impl ChanVese {
    /// The settings with each region term.
    pub fn points(&self) -> Vec<Self> {
        self.region.each().into_iter().map(|region| Self { region, ..self.clone() }).collect()
    }
}

impl Mrf {
    /// The settings with each pair of values.
    pub fn points(&self) -> Vec<Self> {
        let mut points = Vec::new();
        for strength in self.strength.each() {
            let with = |beta| Self { beta, strength: strength.clone(), ..self.clone() };
            points.extend(self.beta.each().into_iter().map(with));
        }
        points
    }
}

impl GraphCut {
    /// The settings with each combination of values.
    pub fn points(&self) -> Vec<Self> {
        let mut points = Vec::new();
        for contrast in self.contrast.each() {
            for likelihood in self.likelihood.each() {
                for lambda in self.lambda.each() {
                    let (likelihood, contrast) = (likelihood.clone(), contrast.clone());
                    points.push(Self { lambda, likelihood, contrast, ..self.clone() });
                }
            }
        }
        points
    }
}

impl ClassicalConfig {
    /// Whether nothing was set.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let above_0 = |value: f64| value > 0.0 && value.is_finite();
        let at_least_0 = |value: f64| value >= 0.0 && value.is_finite();
        let all = |tuned: &Tuned<f64>, holds: &dyn Fn(f64) -> bool| {
            !tuned.values().is_empty() && tuned.values().iter().all(|&value| holds(value))
        };
        let Self {
            registration,
            snake,
            level_set,
            chan_vese,
            mrf,
            graph_cut,
            multi_atlas,
            forest,
            sparse,
            ..
        } = self;
        problems.demand(above_0(self.margin), "classical.margin", "above 0");
        problems.demand(
            (1..=8).contains(&registration.radius),
            "classical.registration.radius",
            "1 to 8 voxels",
        );
        problems.demand(at_least_0(registration.fluid), "classical.registration.fluid", "0 or more");
        problems.demand(at_least_0(registration.diffusion), "classical.registration.diffusion", "0 or more");
        problems.demand(
            !registration.iterations.is_empty(),
            "classical.registration.iterations",
            "one number a level",
        );
        problems.demand(at_least_0(snake.alpha), "classical.snake.alpha", "0 or more");
        problems.demand(at_least_0(snake.beta), "classical.snake.beta", "0 or more");
        problems.demand(above_0(snake.mu), "classical.snake.mu", "above 0");
        problems.demand(all(&snake.edge, &at_least_0), "classical.snake.edge", "0 or more");
        problems.demand(all(&snake.region, &at_least_0), "classical.snake.region", "0 or more");
        problems.demand(
            snake.edge.values().len() == snake.region.values().len(),
            "classical.snake.region",
            "as long a list as `classical.snake.edge`",
        );
        problems.demand(above_0(level_set.mu), "classical.level_set.mu", "above 0");
        problems.demand(at_least_0(level_set.lambda), "classical.level_set.lambda", "0 or more");
        problems.demand(
            all(&level_set.nu, &|nu| nu.is_finite()),
            "classical.level_set.nu",
            "one or more numbers",
        );
        problems.demand(at_least_0(chan_vese.mu), "classical.chan_vese.mu", "0 or more");
        problems.demand(
            !chan_vese.region.values().is_empty(),
            "classical.chan_vese.region",
            "one or more of its names",
        );
        problems.demand(all(&mrf.beta, &at_least_0), "classical.mrf.beta", "0 or more");
        problems.demand(
            all(&mrf.strength, &|strength| strength >= 0.0),
            "classical.mrf.strength",
            "0 or more, or inf",
        );
        problems.demand(all(&graph_cut.lambda, &at_least_0), "classical.graph_cut.lambda", "0 or more");
        problems.demand(
            all(&graph_cut.likelihood, &at_least_0),
            "classical.graph_cut.likelihood",
            "0 or more",
        );
        problems.demand(
            !graph_cut.contrast.values().is_empty(),
            "classical.graph_cut.contrast",
            "true, false or both",
        );
        problems.demand([6, 26].contains(&graph_cut.neighbours), "classical.graph_cut.neighbours", "6 or 26");
        problems.demand(
            (1..=30).contains(&multi_atlas.count),
            "classical.multi_atlas.count",
            "1 to 30 atlases",
        );
        problems.demand(
            multi_atlas.keep >= multi_atlas.count,
            "classical.multi_atlas.keep",
            "at least `classical.multi_atlas.count`",
        );
        problems.demand((1..=5).contains(&multi_atlas.patch), "classical.multi_atlas.patch", "1 to 5 voxels");
        problems.demand(multi_atlas.search <= 3, "classical.multi_atlas.search", "at most 3 voxels");
        problems.demand(forest.trees >= 1, "classical.forest.trees", "1 or more");
        problems.demand((1..=40).contains(&forest.depth), "classical.forest.depth", "1 to 40");
        problems.demand(forest.leaf >= 1, "classical.forest.leaf", "1 or more");
        problems.demand((1..=30).contains(&sparse.cases), "classical.sparse.cases", "1 to 30");
        problems.demand(above_0(sparse.lambda), "classical.sparse.lambda", "above 0");
    }
}
