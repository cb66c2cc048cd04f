//! The distance from points to the nearest of others, by a k-d tree.
//!
//! Surfaces are thin: a tree over their voxels costs memory and time in proportion to the surface, where a
//! distance transform pays for the whole box around both masks, and one false voxel in a far corner makes that
//! box the whole scan.

use std::ops::Range;

use rayon::prelude::*;

/// A position in millimetres.
pub(super) type Point = [f64; 3];

/// Points in the order of a balanced k-d tree: the middle one of a range splits it, up to ranges of
/// [`LEAF`] points.
pub(super) struct Tree {
    points: Vec<Point>,
    /// By the index of the middle point: the axis along which it splits its range.
    axes: Vec<u8>,
}

const LEAF: usize = 12;
/// Queries in one piece of parallel work; results do not depend on it.
const PIECE: usize = 4096;

impl Tree {
    pub(super) fn new(mut points: Vec<Point>) -> Self {
        let mut axes = vec![0; points.len()];
        split(&mut points, &mut axes);
        Self { points, axes }
    }

    /// The distance in millimetres from each query to the nearest point; infinite where there is none.
    pub(super) fn distances(&self, queries: &[Point]) -> Vec<f64> {
        let pieces = queries.par_chunks(PIECE).flat_map_iter(|piece| {
            let mut last: Option<(&Point, f64)> = None;
            piece.iter().map(move |query| {
                // The triangle inequality bounds the distance by that of the query before, which is usually its
                // neighbour on the surface. The factor outweighs rounding, so the nearest stays inside.
                let bound = last.map_or(f64::INFINITY, |(other, distance)| {
                    (distance + squared(query, other).sqrt()) * (1.0 + 1e-9)
                });
                let mut nearest = bound * bound;
                self.search(0..self.points.len(), query, [0.0; 3], &mut nearest);
                last = Some((query, nearest.sqrt()));
                nearest.sqrt()
            })
        });
        pieces.collect()
    }

    /// Lowers `nearest`, a squared distance, to that of the nearest point of a range. `away`: distance from the
    /// query to the range's cell along each axis.
    fn search(&self, range: Range<usize>, query: &Point, away: Point, nearest: &mut f64) {
        if range.len() <= LEAF {
            for point in &self.points[range] {
                *nearest = nearest.min(squared(query, point));
            }
            return;
        }
        let middle = range.start + range.len() / 2;
        let axis = usize::from(self.axes[middle]);
        *nearest = nearest.min(squared(query, &self.points[middle]));
        let beyond = query[axis] - self.points[middle][axis];
        let (below, above) = (range.start..middle, middle + 1..range.end);
        let (near, far) = if beyond < 0.0 { (below, above) } else { (above, below) };
        self.search(near, query, away, nearest);
        let mut away = away;
        away[axis] = beyond;
        if squared(&away, &[0.0; 3]) < *nearest {
            self.search(far, query, away, nearest);
        }
    }
}

/// Orders `points` so that each range's middle splits it along the axis in which it is widest.
fn split(points: &mut [Point], axes: &mut [u8]) {
    if points.len() <= LEAF {
        return;
    }
    let width = |axis: usize| {
        let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
            (low.min(point[axis]), high.max(point[axis]))
        });
        high - low
    };
    let widths = [width(0), width(1), width(2)];
    let axis = (1..3).fold(0, |widest, axis| if widths[axis] > widths[widest] { axis } else { widest });
    let middle = points.len() / 2;
    points.select_nth_unstable_by(middle, |a, b| a[axis].total_cmp(&b[axis]));
    axes[middle] = axis as u8;
    split(&mut points[..middle], &mut axes[..middle]);
    split(&mut points[middle + 1..], &mut axes[middle + 1..]);
}

fn squared(a: &Point, b: &Point) -> f64 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)
}
