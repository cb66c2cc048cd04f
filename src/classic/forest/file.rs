//! A forest as named flat arrays in a file, checked on the way back: no number of a file can lead a row astray.

use std::path::Path;

use ndarray::Array2;

use super::Forest;
use super::tree::{Step, Tree};
use crate::Result;
use crate::classic::arrays::{self, Named, Stored};

/// In the place of a leaf's feature.
const LEAF: u32 = u32::MAX;

impl Forest {
    /// The content of a safetensors file. The same forest gives the same bytes.
    ///
    /// `nodes` and `leaves` are their numbers, a tree. Trees follow each other in `feature`, `threshold` and `child`:
    /// a value above the threshold goes to `child + 1`, another one to `child`, counted from the tree's root; a leaf has
    /// the feature 4294967295 and in `child` its row of the tree's part of `frequencies`, (leaf, class). `drawn` says
    /// which training cases a tree has seen, (tree, case).
    ///
    /// # Errors
    /// None that a user could cause.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let (trees, k) = (&self.trees, self.classes);
        let nodes: usize = trees.iter().map(Tree::nodes).sum();
        let leaves: usize = trees.iter().map(Tree::leaves).sum();
        let each = || trees.iter().flat_map(|tree| (0..tree.nodes()).map(move |node| (tree, node)));
        let feature = each().map(|(tree, node)| match tree.is_leaf(node) {
            true => LEAF,
            false => u32::from(tree.steps[node].feature),
        });
        let threshold = each().map(|(tree, node)| match tree.is_leaf(node) {
            true => 0.0,
            false => tree.steps[node].threshold,
        });
        let child = each().map(|(tree, node)| match tree.is_leaf(node) {
            true => tree.slots[node],
            false => tree.steps[node].child,
        });
        let frequencies = trees.iter().flat_map(|tree| tree.leaves.iter().copied());
        let (t, cases) = self.drawn.dim();
        arrays::bytes(&[
            Named::u32("nodes", &[t], trees.iter().map(|tree| tree.nodes() as u32)),
            Named::u32("leaves", &[t], trees.iter().map(|tree| tree.leaves() as u32)),
            Named::u32("feature", &[nodes], feature),
            Named::f32("threshold", &[nodes], threshold),
            Named::u32("child", &[nodes], child),
            Named::f32("frequencies", &[leaves, k], frequencies),
            Named::u32("drawn", &[t, cases], self.drawn.iter().map(|&drawn| u32::from(drawn))),
            Named::f64("importances", &[self.features], self.importances.iter().copied()),
            Named::f32("factors", &[k], self.factors.iter().copied()),
        ])
    }

    /// Reads [`Self::bytes`]; `path` is for messages.
    ///
    /// # Errors
    /// Where the file is damaged: an array is missing or has another shape, a node leads out of its tree or back, a
    /// feature does not exist, frequencies do not sum to 1.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Self> {
        let stored = Stored::read(bytes, path)?;
        let ([t], nodes) = stored.u32("nodes")?;
        let ([t_leaves], leaves) = stored.u32("leaves")?;
        let ([n], feature) = stored.u32("feature")?;
        let ([n_threshold], threshold) = stored.f32("threshold")?;
        let ([n_child], child) = stored.u32("child")?;
        let ([l, classes], frequencies) = stored.f32("frequencies")?;
        let ([t_drawn, cases], drawn) = stored.u32("drawn")?;
        let ([features], importances) = stored.f64("importances")?;
        let ([k], factors) = stored.f32("factors")?;
        let total = |numbers: &[u32]| numbers.iter().map(|&number| number as usize).sum::<usize>();
        if t == 0 || t != t_leaves || t != t_drawn || total(&nodes) != n || total(&leaves) != l {
            return Err(
                stored.damaged("nodes", format!("{t} trees do not share out {n} nodes and {l} leaves"))
            );
        }
        if n != n_threshold || n != n_child || classes == 0 || classes != k {
            return Err(stored.damaged("threshold", "the arrays differ in length"));
        }
        if features == 0 || features >= usize::from(u16::MAX) {
            return Err(stored.damaged("importances", format!("{features} features")));
        }
        if !importances.iter().all(|value| value.is_finite()) {
            return Err(stored.damaged("importances", "a value is not finite"));
        }
        if !factors.iter().all(|value| value.is_finite() && *value > 0.0) {
            return Err(stored.damaged("factors", "a value is not above 0"));
        }
        let mut trees = Vec::new();
        let (mut node, mut leaf) = (0, 0);
        for tree in 0..t {
            let (to, leaf_to) = (node + nodes[tree] as usize, leaf + leaves[tree] as usize);
            let flat = Flat {
                feature: &feature[node..to],
                threshold: &threshold[node..to],
                child: &child[node..to],
                frequencies: &frequencies[leaf * classes..leaf_to * classes],
            };
            let problem =
                |(name, problem): (&str, String)| stored.damaged(name, format!("tree {tree}: {problem}"));
            trees.push(flat.tree(features, classes).map_err(problem)?);
            (node, leaf) = (to, leaf_to);
        }
        let drawn = drawn.into_iter().map(|drawn| drawn > 0).collect();
        let drawn = Array2::from_shape_vec((t, cases), drawn);
        let drawn = drawn.map_err(|e| stored.damaged("drawn", e.to_string()))?;
        Ok(Self { trees, features, classes, drawn, importances, factors })
    }
}

/// The part of the arrays that is one tree.
struct Flat<'a> {
    feature: &'a [u32],
    threshold: &'a [f32],
    child: &'a [u32],
    frequencies: &'a [f32],
}

impl Flat<'_> {
    /// The tree, or which array is wrong and how.
    fn tree(self, features: usize, classes: usize) -> std::result::Result<Tree, (&'static str, String)> {
        let (nodes, leaves) = (self.feature.len(), self.frequencies.len() / classes);
        if nodes == 0 {
            return Err(("nodes", "no node".to_owned()));
        }
        let mut tree = Tree {
            steps: Vec::with_capacity(nodes),
            slots: Vec::with_capacity(nodes),
            leaves: self.frequencies.to_vec(),
            classes,
        };
        for node in 0..nodes {
            let (feature, child, threshold) = (self.feature[node], self.child[node], self.threshold[node]);
            if feature == LEAF {
                if child as usize >= leaves {
                    return Err(("child", format!("leaf {child} of {leaves} at node {node}")));
                }
                tree.steps.push(Step::leaf(node));
                tree.slots.push(child);
                continue;
            }
            // Children after their node: a walk goes up in numbers and ends.
            if child as usize <= node || child as usize + 1 >= nodes {
                return Err(("child", format!("node {node} of {nodes} leads to {child}")));
            }
            if feature as usize >= features {
                return Err(("feature", format!("feature {feature} of {features} at node {node}")));
            }
            if !threshold.is_finite() {
                return Err(("threshold", format!("{threshold} at node {node}")));
            }
            tree.steps.push(Step { child, threshold, feature: feature as u16 });
            tree.slots.push(0);
        }
        for (leaf, row) in self.frequencies.chunks_exact(classes).enumerate() {
            let valid = row.iter().all(|p| (0.0..=1.0).contains(p));
            if !valid || (row.iter().sum::<f32>() - 1.0).abs() > 1e-4 {
                return Err(("frequencies", format!("{row:?} in leaf {leaf} do not sum to 1")));
            }
        }
        Ok(tree)
    }
}
