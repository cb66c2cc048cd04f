//! The energy of a labelling: what the voxels say, and what every face between two classes costs.
//!
//! ```text
//! E(x) = sum_i D_i(x_i) + sum_{i, j neighbours} V_ij [x_i != x_j]
//! ```
//!
//! An expansion of one class lowers it as far as any set of voxels that change to that class can, by one minimum cut
//! (Boykov, Veksler and Zabih, TPAMI 23(11), 2001). All costs are integers.

use super::max_flow::Network;

/// Offsets to one neighbour of each pair that share a face.
pub const FACES: [[i32; 3]; 3] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

/// Offsets to one neighbour of each pair that share a face, an edge or a corner.
pub const ALL: [[i32; 3]; 13] = [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
    [1, 1, 0],
    [1, -1, 0],
    [1, 0, 1],
    [1, 0, -1],
    [0, 1, 1],
    [0, 1, -1],
    [1, 1, 1],
    [1, 1, -1],
    [1, -1, 1],
    [1, -1, -1],
];

/// What a pair of neighbours costs when its voxels differ.
#[derive(Debug)]
pub enum Penalty {
    /// The same for all pairs along a line.
    Even(Vec<i32>),
    /// Its own for every pair, under the number of the voxel that the line starts from, line by line.
    Each(Vec<Vec<i32>>),
}

/// Costs of all labellings of a box, voxels with z fastest.
#[derive(Debug)]
pub struct Energy {
    /// Voxels along x, y, z.
    pub shape: [usize; 3],
    /// [`FACES`] or [`ALL`].
    pub lines: &'static [[i32; 3]],
    /// Cost of each class at each voxel, class by class.
    pub data: Vec<Vec<i32>>,
    /// Cost of a difference, for each of `lines`; between 0 and [`LARGEST_CAPACITY`](super::max_flow::LARGEST_CAPACITY).
    pub penalty: Penalty,
}

impl Energy {
    /// The class that costs least at each voxel, the smallest on ties.
    pub fn cheapest(&self) -> Vec<u8> {
        let voxels = self.shape.iter().product();
        let mut labels = vec![0; voxels];
        for i in 0..voxels {
            for class in 1..self.data.len() {
                if self.data[class][i] < self.data[usize::from(labels[i])][i] {
                    labels[i] = class as u8;
                }
            }
        }
        labels
    }

    /// E of a labelling.
    pub fn value(&self, labels: &[u8]) -> i64 {
        let data = labels.iter().enumerate().map(|(i, &class)| i64::from(self.data[usize::from(class)][i]));
        let mut sum: i64 = data.sum();
        self.pairs(|i, j, k| {
            if labels[i] != labels[j] {
                sum += i64::from(self.cost(i, k));
            }
        });
        sum
    }

    /// Moves voxels to `class` so that E falls as far as such moves can let it, the fewest that do. Returns whether any
    /// moved.
    pub fn expand(&self, labels: &mut [u8], class: u8) -> bool {
        if self.lines.len() == FACES.len() {
            self.expand_by::<6>(labels, class)
        } else {
            self.expand_by::<26>(labels, class)
        }
    }

    /// E of every voxel's classes while all others keep theirs, class by class.
    pub fn conditional(&self, labels: &[u8]) -> Vec<Vec<i32>> {
        let mut costs = self.data.clone();
        let mut faces = |i: usize, other: u8, cost: i32| {
            for (class, costs) in costs.iter_mut().enumerate() {
                if class != usize::from(other) {
                    costs[i] += cost;
                }
            }
        };
        self.pairs(|i, j, k| {
            faces(i, labels[j], self.cost(i, k));
            faces(j, labels[i], self.cost(i, k));
        });
        costs
    }

    #[inline(always)]
    fn cost(&self, voxel: usize, line: usize) -> i32 {
        match &self.penalty {
            Penalty::Even(costs) => costs[line],
            Penalty::Each(costs) => costs[line][voxel],
        }
    }

    /// Every pair of neighbours: the voxel that the line starts from, the one that it leads to, the line.
    fn pairs(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let [nx, ny, nz] = self.shape.map(|n| n as i32);
        for (x, y) in (0..nx).flat_map(|x| (0..ny).map(move |y| (x, y))) {
            for (k, &[dx, dy, dz]) in self.lines.iter().enumerate() {
                if !(0..nx).contains(&(x + dx)) || !(0..ny).contains(&(y + dy)) {
                    continue;
                }
                let row = (x as usize * self.shape[1] + y as usize) * self.shape[2];
                let other = ((x + dx) as usize * self.shape[1] + (y + dy) as usize) * self.shape[2];
                for z in 0.max(-dz) as usize..nz.min(nz - dz).max(0) as usize {
                    visit(row + z, other + z.wrapping_add_signed(dz as isize), k);
                }
            }
        }
    }

    /// The cut: a voxel with the source takes the class, one with the sink keeps what it has. Voxels that have the class
    /// already are not part of it.
    fn expand_by<const N: usize>(&self, labels: &mut [u8], class: u8) -> bool {
        let mut network = Network::<N>::new(self.shape, self.lines);
        for (i, &label) in labels.iter().enumerate() {
            if label != class {
                let (keep, take) = (&self.data[usize::from(label)], &self.data[usize::from(class)]);
                network.add_terminal(i as u32, keep[i] - take[i]);
            }
        }
        self.pairs(|i, j, k| {
            let cost = self.cost(i, k);
            let (p, q) = (i as u32, j as u32);
            match (labels[i] == class, labels[j] == class) {
                (true, true) => {}
                (true, false) => network.add_terminal(q, cost),
                (false, true) => network.add_terminal(p, cost),
                (false, false) if labels[i] == labels[j] => network.set_edge(p, k, cost, cost),
                (false, false) => {
                    // The pair costs the same unless both take the class, when it costs nothing.
                    let half = cost / 2;
                    network.set_edge(p, k, half, cost - half);
                    network.add_terminal(p, half);
                    network.add_terminal(q, cost - half);
                }
            }
        });
        network.solve();
        let mut moved = false;
        for (i, label) in labels.iter_mut().enumerate() {
            if *label != class && network.with_source(i as u32) {
                *label = class;
                moved = true;
            }
        }
        moved
    }
}
