//! Growing one tree: at every node the cut of a few drawn features that lowers the Gini impurity most.
//!
//! A feature's candidates come from one pass over the node's rows, which fills a histogram of class weights over
//! bins, and one over the filled bins. Rows of a node stay in their order, so that a tree depends on its seed alone.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::bins::Bins;
use super::tree::{Step, Tree};

/// When a node is not split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Splits between the root and a leaf, at most.
    pub(super) depth: usize,
    /// Rows in a leaf, at least.
    pub(super) leaf: usize,
    /// Features that a node looks at; those that do not vary in it do not count.
    pub(super) features: usize,
}

/// The rows of one tree.
#[derive(Debug)]
pub(super) struct Rows {
    /// Bins, (feature, row).
    pub(super) columns: Vec<u8>,
    pub(super) samples: Vec<Sample>,
    pub(super) features: usize,
    pub(super) classes: usize,
}

/// One row with what it counts for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) row: u32,
    pub(super) class: u32,
    pub(super) weight: f32,
}

/// A tree and what is known of it only while it grows.
#[derive(Debug)]
pub(super) struct Grown {
    pub(super) tree: Tree,
    /// The last bin that goes left, a node.
    pub(super) lasts: Vec<u8>,
    /// What its splits lowered the weighted impurity by, a feature.
    pub(super) decrease: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Split {
    /// Sum of squared class weights over the weight, left and right: the larger, the purer.
    score: f64,
    feature: usize,
    last: u8,
    next: u8,
}

/// A node that has yet to be looked at: its rows among all samples, its class weights.
struct Open {
    node: usize,
    rows: std::ops::Range<usize>,
    depth: usize,
    weights: Vec<f64>,
}

/// Grows a tree on rows, of which there is at least one.
pub(super) fn grow(rows: &mut Rows, bins: &Bins, limits: Limits, generator: &mut ChaCha8Rng) -> Grown {
    let k = rows.classes;
    let tree = Tree { steps: vec![Step::leaf(0)], slots: vec![0], leaves: Vec::new(), classes: k };
    let mut grown = Grown { tree, lasts: vec![0], decrease: vec![0.0; rows.features] };
    let mut search = Search::new(rows.features, k);
    let mut aside = Vec::new();
    let all = 0..rows.samples.len();
    let mut open = vec![Open { node: 0, weights: weights(&rows.samples, k), rows: all, depth: 0 }];
    while let Some(here) = open.pop() {
        let samples = &mut rows.samples[here.rows.clone()];
        let pure = here.weights.iter().filter(|&&weight| weight > 0.0).count() <= 1;
        let small = samples.len() < 2 * limits.leaf;
        let split = match pure || small || here.depth == limits.depth {
            true => None,
            false => search.best(&rows.columns, samples, &here.weights, limits, generator),
        };
        let Some(split) = split else {
            grown.tree.end(here.node, &here.weights);
            continue;
        };
        let (last, threshold) = bins.cut(split.feature, split.last, split.next);
        let column = &rows.columns[split.feature * (rows.columns.len() / rows.features)..];
        let left = part(samples, &mut aside, |sample| column[sample.row as usize] <= last);
        let middle = here.rows.start + left;
        let left_weights = weights(&rows.samples[here.rows.start..middle], k);
        let right_weights = weights(&rows.samples[middle..here.rows.end], k);
        grown.decrease[split.feature] +=
            purity(&left_weights) + purity(&right_weights) - purity(&here.weights);
        let child = grown.tree.steps.len();
        grown.tree.steps[here.node] = Step { child: child as u32, threshold, feature: split.feature as u16 };
        grown.lasts[here.node] = last;
        let depth = here.depth + 1;
        for (node, rows, weights) in [
            (child, here.rows.start..middle, left_weights),
            (child + 1, middle..here.rows.end, right_weights),
        ] {
            grown.tree.steps.push(Step::leaf(node));
            grown.tree.slots.push(0);
            grown.lasts.push(0);
            open.push(Open { node, rows, depth, weights });
        }
    }
    grown
}

impl Tree {
    /// Makes a node a leaf with these class weights.
    fn end(&mut self, node: usize, weights: &[f64]) {
        self.slots[node] = self.leaves() as u32;
        let sum: f64 = weights.iter().sum();
        self.leaves.extend(weights.iter().map(|weight| (weight / sum) as f32));
    }
}

fn weights(samples: &[Sample], classes: usize) -> Vec<f64> {
    let mut weights = vec![0.0; classes];
    samples.iter().for_each(|sample| weights[sample.class as usize] += f64::from(sample.weight));
    weights
}

/// Sum of squared class weights over the weight: the weight less the weighted impurity.
fn purity(weights: &[f64]) -> f64 {
    let (sum, squares) = weights.iter().fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
    if sum > 0.0 { squares / sum } else { 0.0 }
}

/// Moves the samples that go left to the front, both sides in their order; returns how many.
fn part(samples: &mut [Sample], aside: &mut Vec<Sample>, left: impl Fn(&Sample) -> bool) -> usize {
    aside.clear();
    let mut kept = 0;
    for index in 0..samples.len() {
        let sample = samples[index];
        if left(&sample) {
            samples[kept] = sample;
            kept += 1;
        } else {
            aside.push(sample);
        }
    }
    samples[kept..].copy_from_slice(aside);
    kept
}

/// Memory of the search for a split.
struct Search {
    /// Weight of each class and number of rows, (bin, class + 1); zero between searches.
    histogram: Vec<f64>,
    /// Features in the order in which nodes take them.
    order: Vec<usize>,
    left: Vec<f64>,
    classes: usize,
}

impl Search {
    fn new(features: usize, classes: usize) -> Self {
        Self {
            histogram: vec![0.0; 256 * (classes + 1)],
            order: (0..features).collect(),
            left: vec![0.0; classes],
            classes,
        }
    }

    fn best(
        &mut self,
        columns: &[u8],
        samples: &[Sample],
        weights: &[f64],
        limits: Limits,
        generator: &mut ChaCha8Rng,
    ) -> Option<Split> {
        let rows = columns.len() / self.order.len();
        let (mut best, mut seen) = (None::<Split>, 0);
        for place in 0..self.order.len() {
            if seen == limits.features {
                break;
            }
            let drawn = generator.random_range(place..self.order.len());
            self.order.swap(place, drawn);
            let feature = self.order[place];
            let column = &columns[feature * rows..(feature + 1) * rows];
            let filled = self.fill(column, samples);
            let varies = filled.iter().map(|word| word.count_ones()).sum::<u32>() > 1;
            seen += usize::from(varies);
            let found = self.sweep(filled, samples.len(), weights, limits.leaf, feature);
            if let Some(found) = found.filter(|found| best.is_none_or(|best| found.score > best.score)) {
                best = Some(found);
            }
        }
        best
    }

    /// Fills the histogram; returns which bins have rows, a bit each.
    fn fill(&mut self, column: &[u8], samples: &[Sample]) -> [u64; 4] {
        let stride = self.classes + 1;
        let mut filled = [0_u64; 4];
        for sample in samples {
            let bin = usize::from(column[sample.row as usize]);
            filled[bin / 64] |= 1 << (bin % 64);
            let cell = &mut self.histogram[bin * stride..(bin + 1) * stride];
            cell[sample.class as usize] += f64::from(sample.weight);
            cell[stride - 1] += 1.0;
        }
        filled
    }

    /// The best border between filled bins, and empties the histogram.
    fn sweep(
        &mut self,
        filled: [u64; 4],
        rows: usize,
        weights: &[f64],
        leaf: usize,
        feature: usize,
    ) -> Option<Split> {
        let stride = self.classes + 1;
        self.left.fill(0.0);
        let (mut before, mut last) = (0.0, None);
        let mut best = None::<Split>;
        for (word, mut bits) in filled.into_iter().enumerate() {
            while bits != 0 {
                let bin = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if let Some(last) =
                    last.filter(|_| before >= leaf as f64 && rows as f64 - before >= leaf as f64)
                {
                    let score = score(&self.left, weights);
                    if best.is_none_or(|best| score > best.score) {
                        best = Some(Split { score, feature, last, next: bin as u8 });
                    }
                }
                let cell = &mut self.histogram[bin * stride..(bin + 1) * stride];
                self.left.iter_mut().zip(cell.iter()).for_each(|(left, weight)| *left += weight);
                before += cell[stride - 1];
                cell.fill(0.0);
                last = Some(bin as u8);
            }
        }
        best
    }
}

/// Purity of both sides, from the class weights on the left and in all.
fn score(left: &[f64], all: &[f64]) -> f64 {
    let (mut left_sum, mut left_squares, mut right_sum, mut right_squares) = (0.0, 0.0, 0.0, 0.0);
    for (left, all) in left.iter().zip(all) {
        let right = all - left;
        left_sum += left;
        left_squares += left * left;
        right_sum += right;
        right_squares += right * right;
    }
    // One division instead of two: this line runs for every filled bin of every feature of every node.
    (left_squares * right_sum + right_squares * left_sum) / (left_sum * right_sum)
}
