//! Distances between the surfaces of two masks.

use ndarray::Array3;

use crate::regions::{boundary, distance};

/// For each boundary voxel of one mask the distance in millimetres to the nearest boundary voxel of the other,
/// both ways, each sorted.
pub(super) struct Surfaces {
    directed: [Vec<f64>; 2],
}

impl Surfaces {
    /// Both masks have the same shape and at least one voxel each.
    pub(super) fn between(prediction: &Array3<bool>, reference: &Array3<bool>, spacing: [f64; 3]) -> Self {
        let edges = [boundary(prediction.view()), boundary(reference.view())];
        let directed = [(0, 1), (1, 0)].map(|(from, to)| {
            let far = distance(edges[to].view(), spacing);
            let mut distances = Vec::new();
            ndarray::Zip::from(&edges[from]).and(&far).for_each(|&on_edge, &far| {
                if on_edge {
                    distances.push(far);
                }
            });
            distances.sort_unstable_by(f64::total_cmp);
            distances
        });
        Self { directed }
    }

    /// The larger of the two directed percentiles; `share` is 0.95 for the 95th.
    pub(super) fn hausdorff(&self, share: f64) -> f64 {
        self.directed.iter().map(|sorted| percentile(sorted, share)).fold(0.0, f64::max)
    }

    /// The share of all boundary voxels, of both masks, that lie within `tolerance` millimetres of the other.
    pub(super) fn dice(&self, tolerance: f64) -> f64 {
        let limit = tolerance * (1.0 + 1e-6);
        let near: usize = self.directed.iter().map(|sorted| sorted.partition_point(|&d| d <= limit)).sum();
        near as f64 / self.directed.iter().map(Vec::len).sum::<usize>() as f64
    }
}

/// The value at rank `share * (n - 1)` of sorted values, linear between ranks (NumPy's and PyTorch's default).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * (sorted.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - rank.floor())
}
