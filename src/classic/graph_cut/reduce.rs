//! What can be decided, and what flow sent, before the search: exact, and most of the work where most voxels are sure of
//! their class.

use super::max_flow::{Network, Tree};

impl<const N: usize> Network<N> {
    /// Decides voxels whose terminal outweighs all their edges: those are on its side of every minimum cut, and their
    /// edges become terminals of their neighbours.
    ///
    /// A draw goes to the sink alone, as in the smallest set with the source.
    pub(super) fn decide_the_obvious(&mut self) {
        let mut waiting: Vec<u32> = Vec::new();
        for p in 0..self.nodes.len() as u32 {
            if self.outweighs(p) {
                waiting.push(p);
            }
            while let Some(p) = waiting.pop() {
                if self.outweighs(p) {
                    self.decide(p, &mut waiting);
                }
            }
        }
    }

    /// Whether the terminal of an undecided voxel outweighs its edges.
    fn outweighs(&self, p: u32) -> bool {
        let node = &self.nodes[p as usize];
        if node.tree != Tree::Free || node.terminal == 0 {
            return false;
        }
        if node.terminal > 0 {
            return node.terminal > node.residual.iter().sum();
        }
        let arriving =
            |d: usize| self.nodes.get(self.neighbour(p, d) as usize).map_or(0, |q| q.residual[d ^ 1]);
        -node.terminal >= (0..N).map(arriving).sum()
    }

    fn decide(&mut self, p: u32, waiting: &mut Vec<u32>) {
        let source = self.nodes[p as usize].terminal > 0;
        self.nodes[p as usize].tree = if source { Tree::FixedSource } else { Tree::FixedSink };
        for d in 0..N {
            let q = self.neighbour(p, d);
            if q as usize >= self.nodes.len() {
                continue;
            }
            let there = std::mem::take(&mut self.nodes[p as usize].residual[d]);
            let back = std::mem::take(&mut self.nodes[q as usize].residual[d ^ 1]);
            let amount = if source { there } else { -back };
            if amount != 0 {
                self.add_terminal(q, amount);
            }
            if there != 0 || back != 0 {
                waiting.push(q);
            }
        }
    }

    /// Saturates the paths of one edge between the terminals: most of the flow, in the order of memory.
    pub(super) fn push_between_neighbours(&mut self) {
        for p in 0..self.nodes.len() as u32 {
            if self.nodes[p as usize].terminal <= 0 || self.nodes[p as usize].tree != Tree::Free {
                continue;
            }
            for d in 0..N {
                let q = self.neighbour(p, d) as usize;
                let node = &self.nodes[p as usize];
                if node.residual[d] == 0 {
                    continue;
                }
                let amount = node.terminal.min(node.residual[d]).min(-self.nodes[q].terminal);
                if amount > 0 {
                    self.flow += i64::from(amount);
                    self.nodes[p as usize].terminal -= amount;
                    self.nodes[p as usize].residual[d] -= amount;
                    self.nodes[q].terminal += amount;
                    self.nodes[q].residual[d ^ 1] += amount;
                }
            }
        }
    }
}
