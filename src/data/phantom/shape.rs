//! Simple bodies as signed distances, and mixtures of tissues painted over one another.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// A point in millimetres.
pub(super) type Point = [f32; 3];

/// Length of a vector.
pub(super) fn length(v: Point) -> f32 {
    (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()
}

pub(super) fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// A point on the sphere of radius 1, all equally likely.
pub(super) fn direction(rng: &mut ChaCha8Rng) -> Point {
    let height: f32 = rng.random_range(-1.0..1.0);
    let angle: f32 = rng.random_range(0.0..std::f32::consts::TAU);
    let flat = (1.0 - height * height).sqrt();
    [flat * angle.cos(), flat * angle.sin(), height]
}

/// Distance to an ellipsoid's surface, negative inside. First-order: exact on the surface and for a sphere.
pub(super) fn ellipsoid(p: Point, centre: Point, radii: Point) -> f32 {
    let q: Point = std::array::from_fn(|i| (p[i] - centre[i]) / radii[i]);
    let gradient: Point = std::array::from_fn(|i| q[i] / radii[i]);
    let (k0, k1) = (length(q), length(gradient));
    if k1 == 0.0 { -radii[0].min(radii[1]).min(radii[2]) } else { k0 * (k0 - 1.0) / k1 }
}

/// A bent tube of varying radius.
#[derive(Clone, Debug)]
pub(super) struct Tube {
    /// Points and the radius at each.
    nodes: Vec<(Point, f32)>,
    /// A ball that holds the tube.
    centre: Point,
    reach: f32,
}

impl Tube {
    pub(super) fn new(nodes: Vec<(Point, f32)>) -> Self {
        let count = nodes.len().max(1) as f32;
        let centre = std::array::from_fn(|i| nodes.iter().map(|node| node.0[i]).sum::<f32>() / count);
        let reach = nodes.iter().map(|node| length(minus(node.0, centre)) + node.1).fold(0.0, f32::max);
        Self { nodes, centre, reach }
    }

    /// Distance to the surface, negative inside; beyond 10 mm it may be too short.
    pub(super) fn distance(&self, p: Point) -> f32 {
        let far = length(minus(p, self.centre)) - self.reach;
        if far > 10.0 {
            return far;
        }
        let to_segment = |ends: &[(Point, f32)]| {
            let ((a, ra), (b, rb)) = (ends[0], ends[1]);
            let (ab, ap) = (minus(b, a), minus(p, a));
            let square = ab.iter().map(|v| v * v).sum::<f32>().max(1e-6);
            let t = ((ap[0] * ab[0] + ap[1] * ab[1] + ap[2] * ab[2]) / square).clamp(0.0, 1.0);
            let nearest: Point = std::array::from_fn(|i| a[i] + t * ab[i]);
            length(minus(p, nearest)) - (ra + t * (rb - ra))
        };
        self.nodes.windows(2).map(to_segment).fold(f32::INFINITY, f32::min)
    }
}

/// The union of two bodies with the groove between them filled over about `k` millimetres.
pub(super) fn join(a: f32, b: f32, k: f32) -> f32 {
    let h = (0.5 + 0.5 * (b - a) / k).clamp(0.0, 1.0);
    b + h * (a - b) - k * h * (1.0 - h)
}

/// How much of a voxel of edge `voxel` lies inside a body whose surface is `distance` away: 0 to 1.
pub(super) fn coverage(distance: f32, voxel: f32) -> f32 {
    (0.5 - distance / voxel).clamp(0.0, 1.0)
}

/// Shares of `N` tissues in a voxel; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mixture<const N: usize>(pub(super) [f32; N]);

impl<const N: usize> Mixture<N> {
    /// All of one tissue.
    pub(super) fn pure(tissue: usize) -> Self {
        let mut shares = [0.0; N];
        shares[tissue] = 1.0;
        Self(shares)
    }

    /// Covers a share of the voxel with `tissue`, whatever was there.
    pub(super) fn paint(&mut self, tissue: usize, share: f32) {
        if share > 0.0 {
            for other in &mut self.0 {
                *other *= 1.0 - share;
            }
            self.0[tissue] += share;
        }
    }

    /// The mean of `values` weighted by the shares.
    pub(super) fn mean(&self, values: &[f32; N]) -> f32 {
        self.0.iter().zip(values).map(|(share, value)| share * value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_the_right_sign_and_size() {
        let sphere = |p| ellipsoid(p, [1.0, 0.0, 0.0], [2.0; 3]);
        assert!((sphere([1.0, 5.0, 0.0]) - 3.0).abs() < 1e-5);
        assert!((sphere([1.0, 0.0, 0.0]) + 2.0).abs() < 1e-5);
        let long = |p| ellipsoid(p, [0.0; 3], [10.0, 20.0, 30.0]);
        for on in [[10.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, -30.0]] {
            assert!(long(on).abs() < 1e-4);
        }
        let pipe = Tube::new(vec![([0.0, 0.0, 0.0], 1.0), ([0.0, 0.0, 10.0], 3.0)]);
        assert!((pipe.distance([4.0, 0.0, 5.0]) - 2.0).abs() < 1e-5);
        assert!((pipe.distance([0.0, 0.0, 14.0]) - 1.0).abs() < 1e-5);
        assert!((10.0..40.0).contains(&pipe.distance([0.0, 40.0, 5.0])));
        assert!(join(1.0, 1.0, 4.0) < 1.0 && (join(-5.0, 20.0, 4.0) + 5.0).abs() < 1e-5);
    }

    #[test]
    fn shares_always_add_up_to_one() {
        let mut mixture = Mixture::<4>::pure(0);
        for (tissue, share) in [(1, 0.7), (2, 0.5), (3, 1.0), (1, 0.25)] {
            mixture.paint(tissue, share);
            assert!((mixture.0.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(mixture.0, [0.0, 0.25, 0.0, 0.75]);
        assert_eq!(mixture.mean(&[1.0, 2.0, 3.0, 4.0]), 3.5);
        assert_eq!((coverage(-9.0, 2.0), coverage(0.0, 2.0), coverage(9.0, 2.0)), (1.0, 0.5, 0.0));
    }
}
