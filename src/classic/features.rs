//! What a forest sees of a voxel: intensities, edges and ridges at several scales, and how its surroundings differ.
//!
//! Scales and distances are multiples of h, the geometric mean of the spacing, so that they mean the same at every
//! resolution. With one channel there are 24 features: the intensity; Gaussian smoothings; magnitudes of the smoothed
//! gradient; eigenvalues of the smoothed Hessian, times the squared scale, ascending; and differences of the intensity,
//! smoothed at the finest scale, to places along each axis. Several channels have these each, and the differences
//! between their smoothed intensities.

use std::ops::Range;

use ndarray::{Array2, Array3, Array4, ArrayView3, ArrayView4, Axis, Zip, s};

use crate::image::gaussian::gaussian;

/// Voxels that are worked on at once, about: memory is a few of the features of so many.
const SLAB: usize = 1 << 18;

/// The features of every voxel of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    /// Standard deviations of the Gaussians, h, ascending. Edges and ridges are taken at the first two.
    pub scales: Vec<f64>,
    /// Distances of the places that a voxel is compared with, h.
    pub reach: Vec<f64>,
}

impl Default for Bank {
    fn default() -> Self {
        Self { scales: vec![1.0, 2.0, 4.0], reach: vec![3.0, 6.0] }
    }
}

/// What a feature is about, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The intensity itself or smoothed.
    Intensity,
    /// The magnitude of the gradient.
    Edge,
    /// An eigenvalue of the Hessian.
    Ridge,
    /// A difference to another place.
    Context,
    /// A difference between two channels.
    Channels,
    /// A plane that the caller gives: where the voxel lies.
    Position,
}

/// A feature's name and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// For a person: "MRI smoothed 2", with the scale in h.
    pub name: String,
    /// What it is about.
    pub kind: Kind,
}

impl Bank {
    /// All features, in their order, of cases with these channels and these planes of position.
    pub fn list(&self, channels: &[String], positions: &[String]) -> Vec<Feature> {
        let feature = |name: String, kind| Feature { name, kind };
        let mut list = Vec::new();
        for channel in channels {
            list.push(feature(channel.clone(), Kind::Intensity));
            list.extend(
                self.scales.iter().map(|s| feature(format!("{channel} smoothed {s}"), Kind::Intensity)),
            );
            list.extend(self.fine().iter().map(|s| feature(format!("{channel} gradient {s}"), Kind::Edge)));
            for scale in self.fine() {
                list.extend(
                    (1..=3)
                        .map(|i| feature(format!("{channel} Hessian {scale} eigenvalue {i}"), Kind::Ridge)),
                );
            }
            for reach in &self.reach {
                for axis in ["x", "y", "z"] {
                    list.extend(
                        ["-", "+"]
                            .map(|sign| feature(format!("{channel} {axis} {sign}{reach}"), Kind::Context)),
                    );
                }
            }
        }
        for (i, first) in channels.iter().enumerate() {
            let pair = |second| feature(format!("{first} less {second}"), Kind::Channels);
            list.extend(channels[i + 1..].iter().map(pair));
        }
        list.extend(positions.iter().map(|name| feature(name.clone(), Kind::Position)));
        list
    }

    /// Number of features of cases with so many channels, without planes of position.
    pub fn len(&self, channels: usize) -> usize {
        let fine = self.fine().len();
        let each = 1 + self.scales.len() + 4 * fine + 6 * self.reach.len();
        channels * each + channels * channels.saturating_sub(1) / 2
    }

    /// The scales at which derivatives are taken.
    fn fine(&self) -> &[f64] {
        &self.scales[..self.scales.len().min(2)]
    }

    /// Ranges of planes of x that a case of this shape is best worked through by.
    pub fn slabs(shape: [usize; 3]) -> impl Iterator<Item = Range<usize>> {
        let planes = (SLAB / (shape[1] * shape[2]).max(1)).max(1);
        (0..shape[0]).step_by(planes).map(move |from| from..(from + planes).min(shape[0]))
    }

    /// Features of some planes of x, (feature, x, y, z), of images (channel, x, y, z); `positions`, (plane, x, y, z) on
    /// the same grid, are the last ones. The same values as in any other range.
    pub fn slab(
        &self,
        images: ArrayView4<'_, f32>,
        positions: Option<ArrayView4<'_, f32>>,
        spacing: [f64; 3],
        planes: Range<usize>,
    ) -> Array4<f32> {
        let (channels, nx, ny, nz) = images.dim();
        let given = positions.map_or(0, |positions| positions.dim().0);
        let mut features = Array4::zeros((self.len(channels) + given, planes.len(), ny, nz));
        let h = mean_spacing(spacing);
        // As far as any kernel and any step reaches along x.
        let widest = self.scales.iter().copied().fold(0.0, f64::max) * h * 4.0 / spacing[0] + 1.0;
        let finest = self.scales.first().copied().unwrap_or(0.0) * h * 4.0 / spacing[0] + 1.0;
        let farthest = self.reach.iter().copied().fold(0.0, f64::max) * h / spacing[0] + 1.0;
        let halo = (widest.max(finest + farthest)).ceil() as usize + 1;
        let window = planes.start.saturating_sub(halo)..(planes.end + halo).min(nx);
        let mut own = Slab {
            spacing,
            h,
            inner: planes.start - window.start..planes.end - window.start,
            features: &mut features,
            next: 0,
        };
        let mut smooth = Vec::new();
        for channel in images.slice(s![.., window, .., ..]).outer_iter() {
            smooth.push(own.channel(self, channel));
        }
        for (i, first) in smooth.iter().enumerate() {
            for second in &smooth[i + 1..] {
                own.put((first - second).view());
            }
        }
        if let Some(positions) = positions {
            for position in positions.slice(s![.., planes, .., ..]).outer_iter() {
                own.put(position);
            }
        }
        features
    }

    /// Features of some voxels, (feature, voxel). `voxels` are (x, y, z).
    pub fn rows(
        &self,
        images: ArrayView4<'_, f32>,
        positions: Option<ArrayView4<'_, f32>>,
        spacing: [f64; 3],
        voxels: &[[u32; 3]],
    ) -> Array2<f32> {
        let (channels, nx, ny, nz) = images.dim();
        let given = positions.map_or(0, |positions| positions.dim().0);
        let mut rows = Array2::zeros((self.len(channels) + given, voxels.len()));
        for planes in Self::slabs([nx, ny, nz]) {
            let here = |voxel: &[u32; 3]| planes.contains(&(voxel[0] as usize));
            if !voxels.iter().any(here) {
                continue;
            }
            let slab = self.slab(images, positions, spacing, planes.clone());
            for (row, voxel) in voxels.iter().enumerate().filter(|(_, voxel)| here(voxel)) {
                let [x, y, z] = voxel.map(|at| at as usize);
                rows.column_mut(row).assign(&slab.slice(s![.., x - planes.start, y, z]));
            }
        }
        rows
    }
}

/// The geometric mean of a spacing.
fn mean_spacing(spacing: [f64; 3]) -> f64 {
    spacing.iter().product::<f64>().cbrt()
}

/// A slab on the way.
struct Slab<'a> {
    spacing: [f64; 3],
    h: f64,
    /// The planes of the window that are wanted.
    inner: Range<usize>,
    features: &'a mut Array4<f32>,
    /// The feature that comes next.
    next: usize,
}

impl Slab<'_> {
    fn put(&mut self, values: ArrayView3<'_, f32>) {
        self.features.index_axis_mut(Axis(0), self.next).assign(&values);
        self.next += 1;
    }

    /// Features of one channel, given with its halo; returns its intensities at the finest scale.
    fn channel(&mut self, bank: &Bank, window: ArrayView3<'_, f32>) -> Array3<f32> {
        let inner = self.inner.clone();
        let cut = |values: &Array3<f32>| values.slice(s![inner.clone(), .., ..]).to_owned();
        let filtered = |scale: f64, order| gaussian(window, self.spacing, scale * self.h, order);
        let mut done = vec![cut(&window.to_owned())];
        let smooth: Vec<Array3<f32>> = bank.scales.iter().map(|&scale| filtered(scale, [0; 3])).collect();
        done.extend(smooth.iter().map(&cut));
        for &scale in bank.fine() {
            let mut squares = Array3::<f32>::zeros(window.dim());
            for order in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
                Zip::from(&mut squares)
                    .and(&filtered(scale, order))
                    .for_each(|sum, &slope| *sum += slope * slope);
            }
            done.push(cut(&squares.mapv(f32::sqrt)));
        }
        for &scale in bank.fine() {
            let orders = [[2, 0, 0], [0, 2, 0], [0, 0, 2], [1, 1, 0], [1, 0, 1], [0, 1, 1]];
            let hessian = orders.map(|order| cut(&filtered(scale, order)));
            done.extend(eigenvalues(&hessian, (scale * self.h).powi(2)));
        }
        let finest = smooth.into_iter().next().unwrap_or_else(|| window.to_owned());
        for reach in &bank.reach {
            for axis in 0..3 {
                let steps = (reach * self.h / self.spacing[axis]).round() as isize;
                done.extend([-steps, steps].map(|steps| difference(&finest, &inner, axis, steps)));
            }
        }
        let finest = cut(&finest);
        done.iter().for_each(|values| self.put(values.view()));
        finest
    }
}

/// Of the planes `inner`, the value some steps along an axis less the value itself; the border repeats.
fn difference(values: &Array3<f32>, inner: &Range<usize>, axis: usize, steps: isize) -> Array3<f32> {
    let (_, ny, nz) = values.dim();
    let last = values.shape()[axis] as isize - 1;
    Array3::from_shape_fn((inner.len(), ny, nz), |(x, y, z)| {
        let here = [x + inner.start, y, z];
        let mut there = here;
        there[axis] = (here[axis] as isize + steps).clamp(0, last) as usize;
        values[there] - values[here]
    })
}

/// The eigenvalues of symmetric matrices times `scale`, ascending, by the closed form for cubic equations with three
/// real roots. `hessian` is xx, yy, zz, xy, xz, yz.
fn eigenvalues(hessian: &[Array3<f32>; 6], scale: f64) -> [Array3<f32>; 3] {
    let mut values = [(); 3].map(|()| Array3::zeros(hessian[0].dim()));
    for (voxel, _) in hessian[0].indexed_iter() {
        let [xx, yy, zz, xy, xz, yz] = [0, 1, 2, 3, 4, 5].map(|i| f64::from(hessian[i][voxel]) * scale);
        let mean = (xx + yy + zz) / 3.0;
        let (a, b, c) = (xx - mean, yy - mean, zz - mean);
        let spread = ((a * a + b * b + c * c + 2.0 * (xy * xy + xz * xz + yz * yz)) / 6.0).sqrt();
        if spread <= 0.0 {
            values.iter_mut().for_each(|values| values[voxel] = mean as f32);
            continue;
        }
        let determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz);
        let angle = (determinant / (2.0 * spread.powi(3))).clamp(-1.0, 1.0).acos() / 3.0;
        let largest = mean + 2.0 * spread * angle.cos();
        let least = mean + 2.0 * spread * (angle + 2.0 * std::f64::consts::FRAC_PI_3).cos();
        let middle = 3.0 * mean - largest - least;
        for (values, value) in values.iter_mut().zip([least, middle, largest]) {
            values[voxel] = value as f32;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_are_those_of_the_matrix_in_order() {
        let all = |values: [f32; 6]| values.map(|value| Array3::from_elem((1, 1, 1), value));
        let of = |values| eigenvalues(&all(values), 2.0).map(|array| array[(0, 0, 0)]);
        assert_eq!(of([3.0, 1.0, 2.0, 0.0, 0.0, 0.0]).map(|v| (v * 1e4).round() / 1e4), [2.0, 4.0, 6.0]);
        // [[2, 1, 0], [1, 2, 0], [0, 0, 5]]: 1, 3, 5.
        assert_eq!(of([2.0, 2.0, 5.0, 1.0, 0.0, 0.0]).map(|v| (v * 1e4).round() / 1e4), [2.0, 6.0, 10.0]);
        assert_eq!(of([1.5, 1.5, 1.5, 0.0, 0.0, 0.0]), [3.0; 3]);
        assert_eq!(of([0.0; 6]), [0.0; 3]);
    }
}
