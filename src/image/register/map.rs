//! What a registration gives: a map of points, through which images and labels are pulled.

use ndarray::{Array3, Array4, ArrayView3, Axis};
use rayon::prelude::*;

use super::exponential::{Vectors, determinants, exponential};
use super::sample::Lattice;
use super::{Affine, Frame};

/// From points of a fixed image to points of a moving one, in mm from the centres of their boxes.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The box of the image on whose grid results lie.
    pub fixed: Frame,
    /// The box of the image that is read.
    pub moving: Frame,
    /// What is done to a fixed point, in this order.
    pub steps: Vec<Step>,
}

/// A part of a [`Map`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// An affine.
    Affine(Affine),
    /// The exponential of a stationary velocity field.
    Velocity(Velocity),
}

/// A stationary velocity field; beyond its box the values at the edge go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Velocity {
    /// (component, x, y, z), in mm.
    pub millimetres: Array4<f32>,
    /// Distance of neighbouring voxels of the field in mm.
    pub spacing: [f64; 3],
}

impl Velocity {
    /// From vectors in voxels of `frame`.
    pub(super) fn of_voxels(vectors: &[[f32; 4]], frame: Frame) -> Self {
        let [nx, ny, nz] = frame.shape;
        let scale = frame.spacing.map(|spacing| spacing as f32);
        let millimetres = Array4::from_shape_fn((3, nx, ny, nz), |(component, x, y, z)| {
            vectors[(x * ny + y) * nz + z][component] * scale[component]
        });
        Self { millimetres, spacing: frame.spacing }
    }

    /// The box in which the field lies.
    pub fn frame(&self) -> Frame {
        let (_, x, y, z) = self.millimetres.dim();
        Frame { shape: [x, y, z], spacing: self.spacing }
    }

    pub(super) fn voxels(&self) -> Vectors {
        let scale = self.spacing.map(|spacing| 1.0 / spacing as f32);
        let component = |at: usize| self.millimetres.index_axis(Axis(0), at);
        let (x, y, z) = (component(0), component(1), component(2));
        let vectors = x.iter().zip(&y).zip(&z);
        vectors.map(|((x, y), z)| [x * scale[0], y * scale[1], z * scale[2], 0.0]).collect()
    }

    /// The field that leads back.
    pub fn negated(&self) -> Self {
        Self { millimetres: self.millimetres.mapv(|value| -value), spacing: self.spacing }
    }

    /// The field on a grid of half as many voxels along every axis of at least 4, for keeping: a velocity is smooth.
    pub fn halved(&self) -> Self {
        let frame = self.frame();
        let half = |edge: usize| if edge >= 4 { edge.div_ceil(2) } else { edge };
        let shape = frame.shape.map(half);
        // The outermost centres stay where they are, so that nothing is read beyond the field.
        let spacing = std::array::from_fn(|axis| match shape[axis] {
            1 => frame.spacing[axis],
            edge => frame.spacing[axis] * (frame.shape[axis] - 1) as f64 / (edge - 1) as f64,
        });
        let to = Frame { shape, spacing };
        let (lattice, into, vectors) = (Lattice::new(frame.shape), frame.to_voxels(), self.voxels());
        let [nx, ny, nz] = shape;
        let millimetres = Array4::from_shape_fn((3, nx, ny, nz), |(component, x, y, z)| {
            let index = into.apply(to.point([x as f64, y as f64, z as f64]));
            let vector = lattice.corner(index.map(|value| value as f32)).vector(&vectors);
            vector[component] * self.spacing[component] as f32
        });
        Self { millimetres, spacing }
    }
}

/// A step as points need it: the velocity has become a displacement.
enum Ready {
    Affine(Affine),
    Displacement { lattice: Lattice, into: Affine, spacing: [f64; 3], field: Vectors },
}

impl Ready {
    fn of(step: &Step) -> Self {
        match step {
            Step::Affine(affine) => Self::Affine(*affine),
            Step::Velocity(velocity) => {
                let frame = velocity.frame();
                Self::Displacement {
                    lattice: Lattice::new(frame.shape),
                    into: frame.to_voxels(),
                    spacing: frame.spacing,
                    field: exponential(&velocity.voxels(), frame.shape, None),
                }
            }
        }
    }

    #[inline]
    fn apply(&self, point: [f64; 3]) -> [f64; 3] {
        match self {
            Self::Affine(affine) => affine.apply(point),
            Self::Displacement { lattice, into, spacing, field } => {
                let vector = lattice.corner(into.apply(point).map(|value| value as f32)).vector(field);
                std::array::from_fn(|axis| point[axis] + f64::from(vector[axis]) * spacing[axis])
            }
        }
    }
}

impl Map {
    /// An affine alone.
    pub fn affine(fixed: Frame, moving: Frame, affine: Affine) -> Self {
        Self { fixed, moving, steps: vec![Step::Affine(affine)] }
    }

    /// First this, then `next`, whose fixed image is the moving one of this.
    pub fn then(&self, next: &Self) -> Self {
        let steps = self.steps.iter().chain(&next.steps).cloned().collect();
        Self { fixed: self.fixed, moving: next.moving, steps }
    }

    /// From moving points back to fixed ones; `None` where an affine of it cannot be inverted.
    pub fn inverse(&self) -> Option<Self> {
        let back = |step: &Step| {
            Some(match step {
                Step::Affine(affine) => Step::Affine(affine.inverse()?),
                Step::Velocity(velocity) => Step::Velocity(velocity.negated()),
            })
        };
        let steps = self.steps.iter().rev().map(back).collect::<Option<_>>()?;
        Some(Self { fixed: self.moving, moving: self.fixed, steps })
    }

    /// The map with its velocity fields at half their resolution, for keeping.
    pub fn halved(&self) -> Self {
        let half = |step: &Step| match step {
            Step::Affine(affine) => Step::Affine(*affine),
            Step::Velocity(velocity) => Step::Velocity(velocity.halved()),
        };
        Self { steps: self.steps.iter().map(half).collect(), ..self.clone() }
    }

    fn ready(&self) -> Vec<Ready> {
        self.steps.iter().map(Ready::of).collect()
    }

    /// Where the centres of the fixed voxels go: (component, x, y, z), in mm from the centre of the moving box.
    pub fn points(&self) -> Array4<f64> {
        let [nx, ny, nz] = self.fixed.shape;
        let ready = self.ready();
        let mut out = Array4::zeros((3, nx, ny, nz));
        out.axis_iter_mut(Axis(1)).into_par_iter().enumerate().for_each(|(x, mut out)| {
            for y in 0..ny {
                for z in 0..nz {
                    let start = self.fixed.point([x as f64, y as f64, z as f64]);
                    let point = ready.iter().fold(start, |point, step| step.apply(point));
                    for component in 0..3 {
                        out[[component, y, z]] = point[component];
                    }
                }
            }
        });
        out
    }

    /// Calls `take` with every fixed voxel's place among the moving voxels, plane by plane of x.
    fn each(&self, x: usize, ready: &[Ready], mut take: impl FnMut(usize, [f32; 3])) {
        let [_, ny, nz] = self.fixed.shape;
        let into = self.moving.to_voxels();
        for y in 0..ny {
            for z in 0..nz {
                let start = self.fixed.point([x as f64, y as f64, z as f64]);
                let point = ready.iter().fold(start, |point, step| step.apply(point));
                take(y * nz + z, into.apply(point).map(|value| value as f32));
            }
        }
    }

    /// The moving image on the fixed grid, linearly interpolated; `outside` where the map leads out of the moving
    /// box, or with `None` the value at its edge. Panics where `moving` has another shape than the map says.
    pub fn image(&self, moving: ArrayView3<'_, f32>, outside: Option<f32>) -> Array3<f32> {
        let [nx, ny, nz] = self.fixed.shape;
        assert_eq!(
            [moving.dim().0, moving.dim().1, moving.dim().2],
            self.moving.shape,
            "the map's moving grid"
        );
        let voxels: Vec<f32> = moving.iter().copied().collect();
        let (ready, lattice) = (self.ready(), Lattice::new(self.moving.shape));
        let mut out = vec![0.0; nx * ny * nz];
        out.par_chunks_mut(ny * nz).enumerate().for_each(|(x, out)| {
            self.each(x, &ready, |at, position| {
                out[at] = match outside {
                    Some(value) if !lattice.holds(position) => value,
                    _ => lattice.corner(position).value(&voxels),
                };
            });
        });
        Array3::from_shape_vec((nx, ny, nz), out)
            .unwrap_or_else(|_| panic!("as many voxels as the frame has"))
    }

    /// The moving labels on the fixed grid, as probabilities of `classes` (class, x, y, z): each class' indicator
    /// linearly interpolated, so that they sum to 1; class 0 where the map leads out of the moving box.
    ///
    /// Labels of `classes` and above count as 0. Panics where `moving` has another shape than the map says.
    pub fn labels(&self, moving: ArrayView3<'_, u8>, classes: usize) -> Array4<f32> {
        let [nx, ny, nz] = self.fixed.shape;
        assert_eq!(
            [moving.dim().0, moving.dim().1, moving.dim().2],
            self.moving.shape,
            "the map's moving grid"
        );
        let labels: Vec<u8> = moving.iter().copied().collect();
        let (ready, lattice) = (self.ready(), Lattice::new(self.moving.shape));
        let mut out = Array4::zeros((classes, nx, ny, nz));
        out.axis_iter_mut(Axis(1)).into_par_iter().enumerate().for_each(|(x, mut out)| {
            self.each(x, &ready, |at, position| {
                let (y, z) = (at / nz, at % nz);
                if !lattice.holds(position) {
                    out[[0, y, z]] = 1.0;
                    return;
                }
                lattice.corner(position).each(|voxel, weight| {
                    let class = usize::from(labels[voxel]);
                    out[[if class < classes { class } else { 0 }, y, z]] += weight;
                });
            });
        });
        out
    }

    /// The moving labels on the fixed grid: at every voxel the class that has most of [`Self::labels`], the smaller number
    /// where several have as much; 0 where the map leads out of the moving box. For any labels, without a volume per
    /// class. Panics where `moving` has another shape than the map says.
    pub fn classes(&self, moving: ArrayView3<'_, u8>) -> Array3<u8> {
        let [nx, ny, nz] = self.fixed.shape;
        assert_eq!(
            [moving.dim().0, moving.dim().1, moving.dim().2],
            self.moving.shape,
            "the map's moving grid"
        );
        let labels: Vec<u8> = moving.iter().copied().collect();
        let (ready, lattice) = (self.ready(), Lattice::new(self.moving.shape));
        let mut out = vec![0; nx * ny * nz];
        out.par_chunks_mut(ny * nz).enumerate().for_each(|(x, out)| {
            // At most eight labels meet at a point.
            let mut shares: Vec<(u8, f32)> = Vec::with_capacity(8);
            self.each(x, &ready, |at, position| {
                if !lattice.holds(position) {
                    return;
                }
                shares.clear();
                lattice.corner(position).each(|voxel, weight| {
                    match shares.iter_mut().find(|(label, _)| *label == labels[voxel]) {
                        Some((_, share)) => *share += weight,
                        None => shares.push((labels[voxel], weight)),
                    }
                });
                let first = |a: &(u8, f32), b: &(u8, f32)| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0));
                out[at] = shares.iter().copied().max_by(first).map_or(0, |(label, _)| label);
            });
        });
        Array3::from_shape_vec((nx, ny, nz), out)
            .unwrap_or_else(|_| panic!("as many voxels as the frame has"))
    }

    /// The determinant of the map's derivative at every fixed voxel, by differences of neighbours: how many times
    /// larger the moving image is there. Axes of one voxel count as not stretched.
    pub fn jacobian(&self) -> Array3<f32> {
        let [nx, ny, nz] = self.fixed.shape;
        let points = self.points();
        let mut displacement = vec![[0.0_f32; 4]; nx * ny * nz];
        for ((component, x, y, z), &value) in points.indexed_iter() {
            let here = self.fixed.point([x as f64, y as f64, z as f64])[component];
            displacement[(x * ny + y) * nz + z][component] = (value - here) as f32;
        }
        let out = determinants(&displacement, self.fixed.shape, self.fixed.spacing);
        Array3::from_shape_vec((nx, ny, nz), out)
            .unwrap_or_else(|_| panic!("as many voxels as the frame has"))
    }

    /// The mean distance in mm between the centres of the fixed voxels and where this map and then `back` take them:
    /// how well `back` inverts it.
    pub fn round_trip(&self, back: &Self) -> f64 {
        let points = self.then(back).points();
        let mut sum = 0.0;
        for ((x, y, z), _) in points.index_axis(Axis(0), 0).indexed_iter() {
            let here = self.fixed.point([x as f64, y as f64, z as f64]);
            sum += (0..3).map(|axis| (points[[axis, x, y, z]] - here[axis]).powi(2)).sum::<f64>().sqrt();
        }
        sum / self.fixed.voxels().max(1) as f64
    }
}
