//! A tree as flat arrays, and rows on their way through it.

use super::grow::Grown;

/// Rows that walk a tree side by side: their reads do not wait for each other.
const LANES: usize = 16;

/// Steps between two looks at whether all have arrived.
const STRIDE: usize = 4;

/// A binary tree. Node 0 is the root; the children of a node are neighbours and come after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    pub(super) steps: Vec<Step>,
    /// For a leaf, its place in `leaves`; 0 for other nodes.
    pub(super) slots: Vec<u32>,
    /// Class frequencies, (leaf, class).
    pub(super) leaves: Vec<f32>,
    pub(super) classes: usize,
}

/// What a row does at a node: it goes to `child`, or to the next node where its value is above the threshold. A leaf
/// sends every row to itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) child: u32,
    pub(super) threshold: f32,
    pub(super) feature: u16,
}

impl Step {
    /// A leaf at this place.
    pub(super) fn leaf(at: usize) -> Self {
        Self { child: at as u32, threshold: f32::INFINITY, feature: 0 }
    }
}

/// Values of several rows, (feature, row), rows beside each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
}

impl Tree {
    /// Number of nodes, leaves included.
    pub fn nodes(&self) -> usize {
        self.steps.len()
    }

    /// Number of leaves.
    pub fn leaves(&self) -> usize {
        self.leaves.len() / self.classes
    }

    /// Whether a node is a leaf.
    pub(super) fn is_leaf(&self, node: usize) -> bool {
        self.steps[node].child as usize == node
    }

    /// Adds the class frequencies of the leaf that each row reaches to `sums`, (row, class).
    pub(super) fn add(&self, block: Block<'_>, sums: &mut [f32]) {
        let k = self.classes;
        let mut first = 0;
        while first < block.rows {
            let lanes = LANES.min(block.rows - first);
            let nodes = if lanes == LANES {
                self.walk::<LANES>(block, first)
            } else {
                let mut nodes = [0; LANES];
                for (lane, node) in nodes.iter_mut().enumerate().take(lanes) {
                    [*node] = self.walk::<1>(block, first + lane);
                }
                nodes
            };
            let sums = &mut sums[first * k..(first + lanes) * k];
            for (sums, &node) in sums.chunks_exact_mut(k).zip(&nodes) {
                let at = self.slots[node as usize] as usize * k;
                sums.iter_mut().zip(&self.leaves[at..at + k]).for_each(|(sum, p)| *sum += p);
            }
            first += lanes;
        }
    }

    /// The leaves that rows from `first` on reach.
    #[inline]
    fn walk<const N: usize>(&self, block: Block<'_>, first: usize) -> [u32; N] {
        let mut nodes = [0_u32; N];
        loop {
            let before = nodes;
            for _ in 0..STRIDE {
                for (lane, node) in nodes.iter_mut().enumerate() {
                    let step = self.steps[*node as usize];
                    let value = block.values[usize::from(step.feature) * block.rows + first + lane];
                    *node = step.child + u32::from(value > step.threshold);
                }
            }
            if nodes == before {
                return nodes;
            }
        }
    }
}

impl Grown {
    /// The place among leaves that a row of bins reaches, as [`Tree::add`] finds it for the row's values.
    pub(super) fn leaf(&self, bins: impl Fn(usize) -> u8) -> u32 {
        let mut node = 0;
        loop {
            let step = self.tree.steps[node];
            if self.tree.is_leaf(node) {
                return self.tree.slots[node];
            }
            node = step.child as usize + usize::from(bins(usize::from(step.feature)) > self.lasts[node]);
        }
    }
}
