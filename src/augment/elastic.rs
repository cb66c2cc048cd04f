//! A smooth random displacement of every voxel.

use super::intensity::{Place, normal};

/// A displacement field: normal numbers at the nodes of a coarse grid about the patch centre, cubic B-splines
/// between. It is a function of the offset from the centre, so that grids of all sizes and strides agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elastic {
    /// Voxels between two nodes.
    pub spacing: f64,
    /// Standard deviation of a node's displacement along each axis, voxels.
    pub displacement: f64,
    /// Names the field.
    pub key: u64,
}

/// The field as the voxels of one grid see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) elastic: Elastic,
    pub(super) place: Place,
}

impl Elastic {
    /// No voxel moves farther along an axis than this: no normal number of ours lies beyond 5.9, and splines
    /// stay between their nodes.
    pub(super) fn reach(&self) -> f64 {
        5.9 * self.displacement
    }
}

impl Field {
    /// Displacements along x, y, z of every voxel of a row, in voxels.
    pub(super) fn row(&self, i: usize, j: usize, out: &mut [[f64; 3]]) {
        let offset = |axis: usize, at: usize| {
            (self.place.first[axis] + (at * self.place.stride[axis]) as i64) as f64 / self.elastic.spacing
        };
        let (nodes_x, nodes_y) = (Nodes::around(offset(0, i)), Nodes::around(offset(1, j)));
        let mut known: Option<(i32, [[f64; 3]; 4])> = None;
        for (k, out) in out.iter_mut().enumerate() {
            let nodes_z = Nodes::around(offset(2, k));
            let columns = match known {
                Some((first, columns)) if first == nodes_z.first => columns,
                _ => std::array::from_fn(|n| self.column(&nodes_x, &nodes_y, nodes_z.first + n as i32)),
            };
            known = Some((nodes_z.first, columns));
            *out = std::array::from_fn(|axis| {
                let sum: f64 = (0..4).map(|n| nodes_z.weights[n] * columns[n][axis]).sum();
                sum * self.elastic.displacement
            });
        }
    }

    /// The sum over the sixteen nodes around x and y at node z.
    fn column(&self, x: &Nodes, y: &Nodes, z: i32) -> [f64; 3] {
        std::array::from_fn(|axis| {
            let mut sum = 0.0;
            for (a, wx) in x.weights.into_iter().enumerate() {
                for (b, wy) in y.weights.into_iter().enumerate() {
                    let node = [x.first + a as i32, y.first + b as i32, z];
                    sum += wx * wy * f64::from(normal(self.elastic.key, axis, node));
                }
            }
            sum
        })
    }
}

/// The four nodes around a position, and their cubic B-spline weights.
struct Nodes {
    first: i32,
    weights: [f64; 4],
}

impl Nodes {
    fn around(position: f64) -> Self {
        let below = position.floor();
        let t = position - below;
        let weights = [
            (1.0 - t).powi(3),
            3.0 * t.powi(3) - 6.0 * t.powi(2) + 4.0,
            -3.0 * t.powi(3) + 3.0 * t.powi(2) + 3.0 * t + 1.0,
            t.powi(3),
        ];
        Self { first: below as i32 - 1, weights: weights.map(|w| w / 6.0) }
    }
}
