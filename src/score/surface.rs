//! Distances between the surfaces of two masks.

use ndarray::Array3;

use super::nearest::{Point, Tree};
use crate::image::components::boundary;
use crate::image::distance::distance;
use crate::image::volume::Grid;

/// For each boundary voxel of one mask the distance in millimetres to the nearest boundary voxel of the other,
/// both ways, each sorted.
pub(super) struct Surfaces {
    directed: [Vec<f64>; 2],
}

/// Masks with more than one boundary voxel in so many voxels are measured by a distance transform, whose cost
/// goes with the box, others by a tree, whose cost goes with the surface. So one false voxel in a far corner does
/// not make a small surface cost a whole scan, nor does noise all over the scan cost a search per voxel.
const DENSE: usize = 64;

impl Surfaces {
    /// Both masks are cut from `grid` at the same place and have at least one voxel each. Distances are those of
    /// the voxel centres in the world, so they hold for oblique and sheared grids too.
    pub(super) fn between(prediction: &Array3<bool>, reference: &Array3<bool>, grid: &Grid) -> Self {
        let edges = [prediction, reference].map(|mask| boundary(mask.view()));
        let voxels = edges.each_ref().map(|edge| edge.iter().filter(|&&inside| inside).count());
        let dense = (voxels[0] + voxels[1]).saturating_mul(DENSE) > prediction.len();
        let mut directed = if dense && right_angled(grid) {
            by_transform(&edges, grid.spacing())
        } else {
            by_tree(&edges, grid)
        };
        for distances in &mut directed {
            distances.sort_unstable_by(f64::total_cmp);
        }
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

fn by_transform(edges: &[Array3<bool>; 2], spacing: [f64; 3]) -> [Vec<f64>; 2] {
    [(0, 1), (1, 0)].map(|(from, to)| {
        let millimetres = distance(edges[to].view(), spacing);
        let mut distances = Vec::new();
        ndarray::Zip::from(&edges[from]).and(&millimetres).for_each(|&on_edge, &millimetres| {
            if on_edge {
                distances.push(millimetres);
            }
        });
        distances
    })
}

fn by_tree(edges: &[Array3<bool>; 2], grid: &Grid) -> [Vec<f64>; 2] {
    let points = edges.each_ref().map(|edge| centres(edge, grid));
    [(0, 1), (1, 0)].map(|(from, to)| Tree::new(points[to].clone()).distances(&points[from]))
}

/// Whether distances along the axes add up as squares: no shear beyond the rounding of a header.
fn right_angled(grid: &Grid) -> bool {
    let spacing = grid.spacing();
    [(0, 1), (0, 2), (1, 2)].into_iter().all(|(i, j)| {
        let product: f64 = grid.affine.iter().map(|row| row[i] * row[j]).sum();
        product.abs() <= 1e-6 * spacing[i] * spacing[j]
    })
}

/// The centres of the `true` voxels in millimetres from the centre of the first voxel, in file order.
fn centres(mask: &Array3<bool>, grid: &Grid) -> Vec<Point> {
    let (nx, ny, _) = mask.dim();
    let inside = mask.t().into_iter().enumerate().filter(|&(_, &inside)| inside);
    let centre = |i: usize| {
        let at = [i % nx, i / nx % ny, i / (nx * ny)].map(|n| n as f64);
        grid.affine.map(|row| row[0] * at[0] + row[1] * at[1] + row[2] * at[2])
    };
    inside.map(|(i, _)| centre(i)).collect()
}

/// The value at rank `share * (n - 1)` of sorted values, linear between ranks (NumPy's and PyTorch's default).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * (sorted.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - rank.floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two masks of sparse voxels that look random.
    fn edges(seed: usize) -> [Array3<bool>; 2] {
        [0, 1].map(|which| {
            Array3::from_shape_fn((19, 14, 11), |(x, y, z)| {
                let number = x * 73 + y * 179 + z * 283 + seed * 31 + which * 7;
                (number * 2654435761 / 128).is_multiple_of(23)
            })
        })
    }

    #[test]
    fn tree_and_transform_agree() {
        for seed in 0..20 {
            let edges = edges(seed);
            let grid = Grid::with_spacing([19, 14, 11], [0.7, 1.3, 2.9]);
            let (tree, transform) = (by_tree(&edges, &grid), by_transform(&edges, grid.spacing()));
            for (mut tree, mut transform) in tree.into_iter().zip(transform) {
                assert!(!tree.is_empty());
                tree.sort_unstable_by(f64::total_cmp);
                transform.sort_unstable_by(f64::total_cmp);
                assert_eq!(tree.len(), transform.len());
                assert!(tree.iter().zip(&transform).all(|(a, b)| (a - b).abs() <= 1e-12));
            }
        }
    }

    #[test]
    fn distances_on_a_sheared_grid_are_those_of_the_world() {
        let mut grid = Grid::with_spacing([19, 14, 11], [0.7, 1.3, 2.9]);
        assert!(right_angled(&grid));
        (grid.affine[0][2], grid.affine[1][0]) = (1.1, 0.4);
        assert!(!right_angled(&grid));
        let edges = edges(3);
        let found = by_tree(&edges, &grid);
        for (from, to) in [(0, 1), (1, 0)] {
            let points = [from, to].map(|which| centres(&edges[which], &grid));
            let away =
                |a: &Point, b: &Point| a.iter().zip(b).map(|(p, q)| (p - q).powi(2)).sum::<f64>().sqrt();
            let nearest =
                points[0].iter().map(|a| points[1].iter().map(|b| away(a, b)).fold(f64::INFINITY, f64::min));
            assert!(found[from].iter().zip(nearest).all(|(a, b)| (a - b).abs() <= 1e-12));
        }
    }
}
