//! Random forest: features of a voxel, and trees that turn them into class probabilities.
//!
//! ```text
//! voxels of cases (pool) -> features -> bytes (bins, table) -> trees (grow) -> probabilities (tree) -> factors (decide)
//! ```
//!
//! Breiman, *Random Forests*, Machine Learning 45(1), 2001, with three changes for voxels: a tree draws whole cases,
//! whose voxels are one another's copies; a voxel carries the number of voxels that it stands for, so that leaves hold
//! calibrated frequencies; and what is out of bag decides how much each class counts where probabilities are compared.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

mod bins;
mod decide;
mod file;
mod grow;
pub mod pool;
mod table;
mod tree;

pub use table::{CaseRows, Stratum, Table};
pub use tree::Tree;

use crate::config::classical;
use crate::rng::generator;
use grow::{Grown, Limits, grow};
use tree::Block;

/// Trees that grow before what they say of rows out of bag is taken in: bounds memory, and is no function of the
/// number of threads.
const AT_ONCE: usize = 8;

/// Rows that go through all trees together.
const ROWS: usize = 1024;

/// How a forest is grown.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Number of trees.
    pub trees: usize,
    /// Splits between a root and a leaf, at most.
    pub depth: usize,
    /// Rows in a leaf, at least.
    pub leaf: usize,
    /// Features that a node looks at.
    pub features: NodeFeatures,
    /// What a tree draws.
    pub draw: Draw,
    /// Rows of a foreground class of a case that a tree draws; as many of each of two kinds of background.
    pub voxels: usize,
    /// Rows of a tree, at most.
    pub most: usize,
    /// Of all draws.
    pub seed: u64,
}

/// Number of features that a node looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFeatures {
    /// The square root of their number, rounded up.
    Root,
    /// All of them.
    All,
}

/// What a tree draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// As many cases as there are, with replacement, and rows of each without.
    Cases,
    /// As many rows as there are, with replacement: no case is out of bag.
    Rows,
    /// Every row once.
    All,
}

impl Options {
    /// The settings, for so many training cases. Of few cases a tree would often see one alone: below 4, rows are drawn.
    pub fn of(settings: &classical::Forest, cases: usize, seed: u64) -> Self {
        Self {
            trees: settings.trees,
            depth: settings.depth,
            leaf: settings.leaf,
            features: NodeFeatures::Root,
            draw: if cases < 4 { Draw::Rows } else { Draw::Cases },
            voxels: 2000,
            most: 400_000,
            seed,
        }
    }

    fn limits(&self, features: usize) -> Limits {
        let of_a_node = match self.features {
            NodeFeatures::Root => (features as f64).sqrt().ceil() as usize,
            NodeFeatures::All => features,
        };
        Limits { depth: self.depth, leaf: self.leaf.max(1), features: of_a_node }
    }
}

/// A fitted forest.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    trees: Vec<Tree>,
    features: usize,
    classes: usize,
    /// Which cases each tree drew, (tree, case).
    drawn: Array2<bool>,
    /// Mean decrease of weighted impurity by the splits on each feature; they sum to 1.
    importances: Vec<f64>,
    /// Factors of the classes' probabilities.
    factors: Vec<f32>,
}

/// A forest, and what its trees say of the cases that they did not draw.
#[derive(Debug)]
pub struct Fitted {
    /// The forest.
    pub forest: Forest,
    /// Mean over rows out of bag of -log P(their class), each counting for its voxels, by number of trees. Empty
    /// where nothing is out of bag.
    pub curve: Vec<(usize, f64)>,
    /// Mean foreground Dice over cases of rows out of bag, before and after the factors were chosen.
    pub dice: Option<[f64; 2]>,
}

/// Grows a forest. The result does not depend on the number of threads.
pub fn fit(table: &Table, options: &Options) -> Fitted {
    let limits = options.limits(table.features);
    let one = |tree: usize| {
        let mut generator = generator(options.seed, &["forest", "tree", &tree.to_string()]);
        let (mut rows, drawn) = table.draw(options, &mut generator);
        let grown = grow(&mut rows, &table.bins, limits, &mut generator);
        let left_out = decide::leaves(table, &grown, &drawn);
        (grown, drawn, left_out)
    };
    let mut forest = Forest {
        trees: Vec::new(),
        features: table.features,
        classes: table.classes,
        drawn: Array2::default((options.trees, table.cases)),
        importances: vec![0.0; table.features],
        factors: vec![1.0; table.classes],
    };
    let mut votes = decide::Votes::new(table);
    let mut curve = Vec::new();
    for first in (0..options.trees).step_by(AT_ONCE) {
        let numbers = first..(first + AT_ONCE).min(options.trees);
        let grown: Vec<_> = numbers.into_par_iter().map(one).collect();
        for (grown, drawn, left_out) in grown {
            let tree = forest.trees.len();
            forest.drawn.row_mut(tree).iter_mut().zip(&drawn).for_each(|(to, &times)| *to = times > 0);
            votes.add(table, &grown.tree, &left_out);
            forest.take(grown);
        }
        curve.extend(votes.loss(table).map(|loss| (forest.trees.len(), loss)));
    }
    let sum: f64 = forest.importances.iter().sum();
    if sum > 0.0 {
        forest.importances.iter_mut().for_each(|importance| *importance /= sum);
    }
    let chosen = votes.factors(table);
    if let Some((factors, _)) = &chosen {
        forest.factors.clone_from(factors);
    }
    Fitted { forest, curve, dice: chosen.map(|(_, dice)| dice) }
}

impl Forest {
    /// Takes in a tree; its importances count as much as any other tree's.
    fn take(&mut self, grown: Grown) {
        let sum: f64 = grown.decrease.iter().sum();
        if sum > 0.0 {
            self.importances.iter_mut().zip(&grown.decrease).for_each(|(all, own)| *all += own / sum);
        }
        self.trees.push(grown.tree);
    }

    /// Number of features that a row must have.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The trees.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// How much each feature lowered the impurity; they sum to 1, or are all 0 where no tree has a split.
    pub fn importances(&self) -> &[f64] {
        &self.importances
    }

    /// Factors of the probabilities where classes are compared.
    pub fn factors(&self) -> &[f32] {
        &self.factors
    }

    /// Calibrated class probabilities of rows, (class, row) from (feature, row): the mean over trees of the
    /// frequencies in the leaf that a row reaches. They sum to 1.
    pub fn probabilities(&self, features: ArrayView2<'_, f32>) -> Array2<f32> {
        self.mean_of(&self.trees.iter().collect::<Vec<_>>(), features)
    }

    /// [`Self::probabilities`] by the trees that did not draw a training case, given by its place among them;
    /// `None` where every tree drew it.
    pub fn probabilities_without(&self, case: usize, features: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        let left_out = self.trees.iter().enumerate().filter(|(tree, _)| !self.drawn[(*tree, case)]);
        let trees: Vec<&Tree> = left_out.map(|(_, tree)| tree).collect();
        (!trees.is_empty()).then(|| self.mean_of(&trees, features))
    }

    /// Multiplies probabilities, (class, row), by the factors and makes them sum to 1 again: the largest is the
    /// forest's answer.
    pub fn decide(&self, probabilities: &mut Array2<f32>) {
        for mut row in probabilities.columns_mut() {
            row.iter_mut().zip(&self.factors).for_each(|(p, factor)| *p *= factor);
            let sum: f32 = row.iter().sum();
            if sum > 0.0 {
                row.mapv_inplace(|p| p / sum);
            }
        }
    }

    fn mean_of(&self, trees: &[&Tree], features: ArrayView2<'_, f32>) -> Array2<f32> {
        assert_eq!(features.nrows(), self.features, "rows have the features that the forest was grown on");
        let (k, rows) = (self.classes, features.ncols());
        let mut sums = vec![0.0_f32; rows * k];
        sums.par_chunks_mut(ROWS * k).enumerate().for_each_init(Vec::new, |values, (block, sums)| {
            let rows = sums.len() / k;
            values.clear();
            for feature in features.rows() {
                let from = block * ROWS;
                values.extend(feature.slice(ndarray::s![from..from + rows]).iter());
            }
            trees.iter().for_each(|tree| tree.add(Block { values, rows }, sums));
            let scale = 1.0 / trees.len() as f32;
            sums.iter_mut().for_each(|sum| *sum *= scale);
        });
        let by_row = Array2::from_shape_vec((rows, k), sums);
        by_row.unwrap_or_else(|_| panic!("as many sums as the shape says")).reversed_axes()
    }
}
