//! Maximum flow on a grid of voxels, and the minimum cut that it proves.
//!
//! Two search trees grow from the terminals until they touch; the path through the touching point is saturated, and
//! what it cut off is adopted by other branches of its tree or set free (Boykov and Kolmogorov, *An Experimental
//! Comparison of Min-Cut/Max-Flow Algorithms for Energy Minimization in Vision*, TPAMI 26(9), 2004). Neighbours
//! follow from a voxel's place, so nothing is kept about edges but what they can still carry. Capacities are
//! integers: with floating point, rounding decides whether and where the search ends.

use std::collections::VecDeque;

/// An edge carries at most this much in a direction, so that no sum over 26 edges overflows.
pub const LARGEST_CAPACITY: i32 = 10_000_000;

/// `parent` of a voxel that hangs on its terminal.
const TERMINAL: u8 = 255;
/// `parent` of a voxel whose branch was cut off.
const ORPHAN: u8 = 254;

/// `next` of a voxel that is not waiting to grow.
const IDLE: u32 = u32::MAX;
/// `next` of the last voxel that is waiting to grow.
const LAST: u32 = u32::MAX - 1;

/// Farther than any origin.
const FAR: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tree {
    Free,
    Source,
    Sink,
    /// Decided before the search.
    FixedSource,
    FixedSink,
}

/// A voxel. The direction `d ^ 1` is opposite to `d`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<const N: usize> {
    /// What the edges that leave the voxel can still carry.
    pub(super) residual: [i32; N],
    /// What the source can still give (above 0) or the sink still take (below 0).
    pub(super) terminal: i32,
    /// The voxel that waits behind this one.
    next: u32,
    /// When `distance` was last known to be right.
    stamp: u32,
    /// Edges to the terminal.
    distance: u32,
    /// The direction in which the parent lies.
    parent: u8,
    pub(super) tree: Tree,
}

/// A flow network whose nodes are the voxels of a box, z fastest, each with `N` neighbours: 44 bytes a voxel where `N` is
/// 6, 124 where it is 26. A direction that leads out of the box leads to some voxel of another row, or nowhere, over an
/// edge that carries nothing either way.
///
/// The cut separates the fewest voxels possible with the source, which is one set whatever the order of the search.
#[derive(Debug)]
pub struct Network<const N: usize> {
    pub(super) nodes: Vec<Node<N>>,
    /// To the neighbour in a direction, wrapping.
    steps: [u32; N],
    pub(super) flow: i64,
    first: u32,
    last: u32,
    orphans: VecDeque<u32>,
    time: u32,
}

impl<const N: usize> Network<N> {
    /// A network without capacities. `lines` are the offsets of one neighbour of each pair of directions: direction
    /// `2 k` leads to `lines[k]`, `2 k + 1` away from it.
    ///
    /// # Panics
    /// For a box of 2^32 voxels or more.
    pub fn new(shape: [usize; 3], lines: &[[i32; 3]]) -> Self {
        assert_eq!(2 * lines.len(), N, "two directions a line");
        let count = shape.iter().product::<usize>();
        assert!(count < LAST as usize, "a box of 2^32 voxels or more");
        let strides = [(shape[1] * shape[2]) as u32, shape[2] as u32, 1];
        let mut steps = [0; N];
        for (k, line) in lines.iter().enumerate() {
            let step =
                (0..3).fold(0_u32, |sum, a| sum.wrapping_add((line[a] as u32).wrapping_mul(strides[a])));
            (steps[2 * k], steps[2 * k + 1]) = (step, step.wrapping_neg());
        }
        let node = Node {
            residual: [0; N],
            terminal: 0,
            next: IDLE,
            stamp: 0,
            distance: 0,
            parent: ORPHAN,
            tree: Tree::Free,
        };
        let nodes = vec![node; count];
        Self { nodes, steps, flow: 0, first: LAST, last: LAST, orphans: VecDeque::new(), time: 0 }
    }

    /// Adds `source` to what the source can give a voxel; below 0, to what the sink can take from it.
    pub fn add_terminal(&mut self, node: u32, source: i32) {
        let terminal = &mut self.nodes[node as usize].terminal;
        if (*terminal > 0) != (source > 0) {
            self.flow += i64::from(terminal.unsigned_abs().min(source.unsigned_abs()));
        }
        *terminal += source;
    }

    /// Gives the edge from a voxel to its neighbour in direction `2 k` a capacity, and the edge back another.
    pub fn set_edge(&mut self, node: u32, k: usize, there: i32, back: i32) {
        debug_assert!((0..=LARGEST_CAPACITY).contains(&there) && (0..=LARGEST_CAPACITY).contains(&back));
        self.nodes[node as usize].residual[2 * k] = there;
        self.nodes[node.wrapping_add(self.steps[2 * k]) as usize].residual[2 * k + 1] = back;
    }

    /// Finds a maximum flow and returns it.
    pub fn solve(&mut self) -> i64 {
        self.decide_the_obvious();
        self.push_between_neighbours();
        self.plant();
        while let Some(p) = self.pop() {
            self.grow(p);
        }
        self.flow
    }

    /// How many voxels were decided without a search.
    pub fn decided(&self) -> usize {
        let fixed = |node: &&Node<N>| matches!(node.tree, Tree::FixedSource | Tree::FixedSink);
        self.nodes.iter().filter(fixed).count()
    }

    /// After [`Self::solve`]: whether a voxel is on the source's side of the cut.
    pub fn with_source(&self, node: u32) -> bool {
        matches!(self.nodes[node as usize].tree, Tree::Source | Tree::FixedSource)
    }

    #[inline(always)]
    pub(super) fn neighbour(&self, p: u32, d: usize) -> u32 {
        p.wrapping_add(self.steps[d])
    }

    /// Hangs every undecided voxel with a terminal on it.
    fn plant(&mut self) {
        for p in 0..self.nodes.len() as u32 {
            let node = &mut self.nodes[p as usize];
            if node.tree == Tree::Free && node.terminal != 0 {
                node.tree = if node.terminal > 0 { Tree::Source } else { Tree::Sink };
                node.parent = TERMINAL;
                node.distance = 1;
                self.push(p);
            }
        }
    }

    /// Lets a voxel wait to grow, behind all that already do.
    fn push(&mut self, p: u32) {
        if self.nodes[p as usize].next != IDLE {
            return;
        }
        self.nodes[p as usize].next = LAST;
        if self.first == LAST {
            self.first = p;
        } else {
            self.nodes[self.last as usize].next = p;
        }
        self.last = p;
    }

    /// The voxel that has waited longest.
    fn pop(&mut self) -> Option<u32> {
        if self.first == LAST {
            return None;
        }
        let p = self.first;
        self.first = std::mem::replace(&mut self.nodes[p as usize].next, IDLE);
        Some(p)
    }

    /// Takes free neighbours of a voxel into its tree, and saturates the paths to neighbours in the other one.
    fn grow(&mut self, p: u32) {
        for d in 0..N {
            let node = &self.nodes[p as usize];
            let (tree, stamp, distance) = (node.tree, node.stamp, node.distance);
            if !matches!(tree, Tree::Source | Tree::Sink) {
                return;
            }
            let from_source = tree == Tree::Source;
            if from_source && node.residual[d] == 0 {
                continue;
            }
            let q = self.neighbour(p, d);
            let Some(other) = self.nodes.get_mut(q as usize) else { continue };
            if !from_source && other.residual[d ^ 1] == 0 {
                continue;
            }
            if other.tree == Tree::Free {
                other.tree = tree;
                other.parent = (d ^ 1) as u8;
                other.stamp = stamp;
                other.distance = distance + 1;
                self.push(q);
            } else if other.tree != tree {
                while self.touches(p, d) {
                    let (from, to, via) = if from_source { (p, q, d) } else { (q, p, d ^ 1) };
                    self.augment(from, to, via);
                    self.adopt_orphans();
                }
                // Neighbours that were set free meanwhile are to be looked at again.
                if self.nodes[p as usize].tree == tree {
                    self.push(p);
                }
            } else if other.stamp <= stamp && other.distance > distance + 1 && other.parent < ORPHAN {
                // The same tree, but this way is shorter.
                other.parent = (d ^ 1) as u8;
                other.stamp = stamp;
                other.distance = distance + 1;
            }
        }
    }

    /// Whether a path from source to sink leads over the edge between a voxel and its neighbour.
    fn touches(&self, p: u32, d: usize) -> bool {
        let (node, other) = (&self.nodes[p as usize], &self.nodes[self.neighbour(p, d) as usize]);
        match (node.tree, other.tree) {
            (Tree::Source, Tree::Sink) => node.residual[d] > 0,
            (Tree::Sink, Tree::Source) => other.residual[d ^ 1] > 0,
            _ => false,
        }
    }

    /// Sends as much as goes from the source to `from`, over the edge `via` to `to`, and on to the sink.
    fn augment(&mut self, from: u32, to: u32, via: usize) {
        let mut amount = self.nodes[from as usize].residual[via];
        for (end, source) in [(from, true), (to, false)] {
            let mut p = end;
            loop {
                let node = &self.nodes[p as usize];
                if node.parent == TERMINAL {
                    amount = amount.min(node.terminal.abs());
                    break;
                }
                let d = usize::from(node.parent);
                let up = self.neighbour(p, d);
                let room = if source { self.nodes[up as usize].residual[d ^ 1] } else { node.residual[d] };
                amount = amount.min(room);
                p = up;
            }
        }
        self.flow += i64::from(amount);
        self.nodes[from as usize].residual[via] -= amount;
        self.nodes[to as usize].residual[via ^ 1] += amount;
        for (end, sign) in [(from, 1), (to, -1)] {
            let mut p = end;
            loop {
                let node = &mut self.nodes[p as usize];
                if node.parent == TERMINAL {
                    node.terminal -= sign * amount;
                    if node.terminal == 0 {
                        self.cut_off(p);
                    }
                    break;
                }
                let d = usize::from(node.parent);
                node.residual[d] += sign * amount;
                let own = node.residual[d];
                let up = self.neighbour(p, d);
                let other = &mut self.nodes[up as usize].residual[d ^ 1];
                *other -= sign * amount;
                let spent = if sign > 0 { *other } else { own };
                if spent == 0 {
                    self.cut_off(p);
                }
                p = up;
            }
        }
    }

    fn cut_off(&mut self, p: u32) {
        self.nodes[p as usize].parent = ORPHAN;
        self.orphans.push_back(p);
    }

    fn adopt_orphans(&mut self) {
        self.time += 1;
        while let Some(p) = self.orphans.pop_front() {
            self.adopt(p);
        }
    }

    /// Finds a new parent for an orphan, the one nearest to the terminal, or sets it free.
    fn adopt(&mut self, p: u32) {
        let tree = self.nodes[p as usize].tree;
        let (mut best, mut nearest) = (ORPHAN, FAR);
        for d in 0..N {
            if self.carries(p, d, tree) {
                let distance = self.distance(self.neighbour(p, d));
                if distance < nearest {
                    (best, nearest) = (d as u8, distance);
                }
            }
        }
        if best != ORPHAN {
            let node = &mut self.nodes[p as usize];
            node.parent = best;
            node.stamp = self.time;
            node.distance = nearest + 1;
            return;
        }
        self.nodes[p as usize].tree = Tree::Free;
        for d in 0..N {
            let q = self.neighbour(p, d);
            let Some(other) = self.nodes.get(q as usize) else { continue };
            if other.tree != tree {
                continue;
            }
            if usize::from(other.parent) == d ^ 1 {
                self.cut_off(q);
            }
            let room = if tree == Tree::Source {
                self.nodes[q as usize].residual[d ^ 1]
            } else {
                self.nodes[p as usize].residual[d]
            };
            if room > 0 {
                self.push(q);
            }
        }
    }

    /// Whether the neighbour is in the tree and the edge between leads on from (to) it.
    #[inline(always)]
    fn carries(&self, p: u32, d: usize, tree: Tree) -> bool {
        if tree == Tree::Sink && self.nodes[p as usize].residual[d] == 0 {
            return false;
        }
        let Some(other) = self.nodes.get(self.neighbour(p, d) as usize) else { return false };
        other.tree == tree && (tree == Tree::Sink || other.residual[d ^ 1] > 0)
    }

    /// Edges from a voxel of a tree to its terminal, [`FAR`] where the way ends at an orphan. What was walked is
    /// marked, so that it is walked once between two augmentations.
    fn distance(&mut self, start: u32) -> u32 {
        let (mut p, mut steps) = (start, 0);
        let total = loop {
            let node = &mut self.nodes[p as usize];
            if node.stamp == self.time && node.parent != ORPHAN {
                break steps + node.distance;
            }
            match node.parent {
                TERMINAL => {
                    node.stamp = self.time;
                    node.distance = 1;
                    break steps + 1;
                }
                ORPHAN => return FAR,
                d => p = self.neighbour(p, usize::from(d)),
            }
            steps += 1;
        };
        let (mut p, mut left) = (start, total);
        while self.nodes[p as usize].stamp != self.time {
            let node = &mut self.nodes[p as usize];
            node.stamp = self.time;
            node.distance = left;
            left -= 1;
            p = p.wrapping_add(self.steps[usize::from(node.parent)]);
        }
        total
    }
}
