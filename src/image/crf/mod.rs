//! A fully connected conditional random field over voxels (Kraehenbuehl & Koltun, NIPS 2011).
//!
//! Probabilities P of a network give the unary energy -log P. Every pair of voxels that get different classes costs: much
//! where they lie close to each other (smoothness), and where they lie close and look alike (appearance). Mean field, all voxels at once:
//!
//! ```text
//! Q <- softmax(log P + sum over kernels of w v_l k~ * Q_l),   k~ = k / sqrt(s_i s_j),  s_i = sum_j k(i, j), j = i included
//! ```
//!
//! with v_l = 1 for foreground classes and `background` for the background: below 1, less is taken from rare classes.
//! Positions are millimetres. The smoothness kernel is separable and exact up to 5 standard deviations; the appearance
//! kernel runs on a permutohedral lattice.

use ndarray::{Array4, ArrayView3, ArrayView4, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

mod lattice;

pub use lattice::{Lattice, OutOfRange};

/// Probabilities below this count as this.
const LEAST: f32 = 1e-5;
/// Intensities beyond this count as this.
const CLIP: f32 = 4.0;
/// Below this probability of any foreground nothing is looked at.
const FOREGROUND: f32 = 1e-3;
/// Standard deviations after which the smoothness kernel ends.
const TRUNCATION: f64 = 5.0;

/// What the field is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Rounds of mean field.
    pub iterations: usize,
    /// Smoothness.
    pub smooth: Kernel,
    /// Appearance.
    pub appearance: Kernel,
    /// Standard deviation of intensities in the appearance kernel, of every channel, in its units.
    pub intensity: f64,
    /// How much the background attracts its neighbours, relative to foreground classes, above 0 and at most 1.
    pub background: f64,
}

/// A Gaussian kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Weight in the energy; 0 leaves it out.
    pub weight: f64,
    /// Standard deviation in space, millimetres.
    pub millimetres: f64,
}

impl Settings {
    /// Values between the published ones, for images of so many normalised channels: the squared difference of two voxels of one
    /// tissue grows with the number of channels.
    pub fn of_channels(channels: usize) -> Self {
        Self {
            iterations: 5,
            smooth: Kernel { weight: 1.0, millimetres: 2.0 },
            appearance: Kernel { weight: 2.0, millimetres: 6.0 },
            intensity: 0.35 * (channels as f64).sqrt(),
            background: 1.0,
        }
    }
}

/// Probabilities after the field, (class, x, y, z). `images` are normalised channels, (channel, x, y, z), of the same grid;
/// voxels outside the mask stay as they are, and so does everything farther than 2 standard deviations from any
/// foreground of some probability.
///
/// # Errors
/// Where the extent of the voxels is too many standard deviations for the lattice.
pub fn refine(
    probabilities: ArrayView4<'_, f32>,
    images: ArrayView4<'_, f32>,
    mask: Option<ArrayView3<'_, u8>>,
    spacing: [f64; 3],
    settings: &Settings,
) -> Result<Array4<f32>, OutOfRange> {
    if settings.smooth.weight == 0.0 && settings.appearance.weight == 0.0 {
        return Ok(probabilities.to_owned());
    }
    Ok(match Field::of(probabilities, images, mask, spacing, settings)? {
        Some(field) => field.refine(probabilities, settings),
        None => probabilities.to_owned(),
    })
}

/// The box of voxels that may change: foreground of some probability and what is near it.
fn region(
    probabilities: ArrayView4<'_, f32>,
    spacing: [f64; 3],
    reach: f64,
) -> Option<([usize; 3], [usize; 3])> {
    let (_, nx, ny, nz) = probabilities.dim();
    let (mut first, mut last) = ([usize::MAX; 3], [0usize; 3]);
    for ((x, y, z), &p) in probabilities.slice(s![0, .., .., ..]).indexed_iter() {
        if 1.0 - p > FOREGROUND {
            for (axis, at) in [x, y, z].into_iter().enumerate() {
                first[axis] = first[axis].min(at);
                last[axis] = last[axis].max(at);
            }
        }
    }
    if first[0] == usize::MAX {
        return None;
    }
    let shape = [nx, ny, nz];
    let grown = |axis: usize| (reach / spacing[axis]).ceil() as usize;
    let start: [usize; 3] = std::array::from_fn(|axis| first[axis].saturating_sub(grown(axis)));
    let end: [usize; 3] = std::array::from_fn(|axis| (last[axis] + 1 + grown(axis)).min(shape[axis]));
    Some((start, std::array::from_fn(|axis| end[axis] - start[axis])))
}

/// A field over the voxels that may change, with its kernels' standard deviations: what takes longest, for any weights.
#[derive(Debug)]
pub struct Field {
    /// First voxel of the box.
    start: [usize; 3],
    shape: [usize; 3],
    /// Voxels of the box inside the mask, in the order of memory.
    nodes: Vec<[usize; 3]>,
    classes: usize,
    /// log P, (node, class).
    log_p: Vec<f32>,
    /// Each kernel with 1 / sqrt of its sum, of each node; none where its weight was 0.
    smooth: Option<(Separable, Vec<f32>)>,
    appearance: Option<(Lattice, Vec<f32>)>,
}

impl Field {
    /// Builds the field of probabilities, as [`refine`]; none where there is no foreground of any probability.
    ///
    /// # Errors
    /// As [`refine`].
    pub fn of(
        probabilities: ArrayView4<'_, f32>,
        images: ArrayView4<'_, f32>,
        mask: Option<ArrayView3<'_, u8>>,
        spacing: [f64; 3],
        settings: &Settings,
    ) -> Result<Option<Self>, OutOfRange> {
        let reach = 2.0 * settings.appearance.millimetres.max(settings.smooth.millimetres);
        let Some((start, shape)) = region(probabilities, spacing, reach) else { return Ok(None) };
        let [x, y, z] = [0, 1, 2].map(|axis| start[axis]..start[axis] + shape[axis]);
        let probabilities = probabilities.slice(s![.., x.clone(), y.clone(), z.clone()]);
        let images = images.slice(s![.., x.clone(), y.clone(), z.clone()]);
        let mask = mask.as_ref().map(|mask| mask.slice(s![x.clone(), y.clone(), z.clone()]));
        let (classes, nx, ny, nz) = probabilities.dim();
        let inside = |at: &[usize; 3]| mask.as_ref().is_none_or(|mask| mask[*at] != 0);
        let all = (0..nx).flat_map(|x| (0..ny).flat_map(move |y| (0..nz).map(move |z| [x, y, z])));
        let nodes: Vec<[usize; 3]> = all.filter(inside).collect();
        let log_p = nodes
            .iter()
            .flat_map(|&[x, y, z]| (0..classes).map(move |c| probabilities[[c, x, y, z]].max(LEAST).ln()))
            .collect();
        let mut field = Self { start, shape, nodes, classes, log_p, smooth: None, appearance: None };
        let ones = vec![1f32; field.nodes.len()];
        let mut sums = ones.clone();
        let norm = |sums: &[f32]| sums.iter().map(|s| 1.0 / (s + 1e-20).sqrt()).collect();
        if settings.smooth.weight > 0.0 {
            let separable = Separable::of(settings.smooth.millimetres, spacing);
            field.smooth_sums(&separable, &ones, 1, &mut sums);
            field.smooth = Some((separable, norm(&sums)));
        }
        if settings.appearance.weight > 0.0 {
            let channels = images.dim().0;
            let nodes = &field.nodes;
            let feature = |node: usize, features: &mut [f64]| {
                let at = nodes[node];
                for axis in 0..3 {
                    features[axis] = at[axis] as f64 * spacing[axis] / settings.appearance.millimetres;
                }
                for channel in 0..channels {
                    let value = images[[channel, at[0], at[1], at[2]]].clamp(-CLIP, CLIP);
                    features[3 + channel] = f64::from(value) / settings.intensity;
                }
            };
            let lattice = Lattice::build(nodes.len(), 3 + channels, &feature)?;
            lattice.sums(&ones, 1, &mut sums);
            field.appearance = Some((lattice, norm(&sums)));
        }
        Ok(Some(field))
    }

    /// The probabilities that it was made of, after mean field with the weights of `settings`, (class, x, y, z).
    pub fn refine(&self, probabilities: ArrayView4<'_, f32>, settings: &Settings) -> Array4<f32> {
        let mut refined = probabilities.to_owned();
        let q = self.mean_field(settings);
        for (&[i, j, k], q) in self.nodes.iter().zip(q.chunks(self.classes)) {
            for (class, &q) in q.iter().enumerate() {
                refined[[class, self.start[0] + i, self.start[1] + j, self.start[2] + k]] = q;
            }
        }
        refined
    }

    /// Marginals, (node, class).
    fn mean_field(&self, settings: &Settings) -> Vec<f32> {
        let classes = self.classes;
        let attraction = |weight: f64| -> Vec<f32> {
            let of = |class| (weight * if class == 0 { settings.background } else { 1.0 }) as f32;
            (0..classes).map(of).collect()
        };
        let mut q = self.log_p.clone();
        softmax(&mut q, classes);
        let (mut scaled, mut sums) = (vec![0f32; q.len()], vec![0f32; q.len()]);
        for _ in 0..settings.iterations {
            let mut next = self.log_p.clone();
            let mut add = |weight: f64, norms: &[f32], apply: &dyn Fn(&[f32], &mut [f32])| {
                let attraction = attraction(weight);
                scaled
                    .par_chunks_mut(classes)
                    .zip(q.par_chunks(classes))
                    .zip(norms)
                    .with_min_len(1024)
                    .for_each(|((scaled, q), norm)| {
                        scaled.iter_mut().zip(q).for_each(|(scaled, q)| *scaled = norm * q);
                    });
                apply(&scaled, &mut sums);
                next.par_chunks_mut(classes)
                    .zip(sums.par_chunks(classes))
                    .zip(norms)
                    .with_min_len(1024)
                    .for_each(|((next, sums), norm)| {
                        for ((next, sum), attraction) in next.iter_mut().zip(sums).zip(&attraction) {
                            *next += attraction * norm * sum;
                        }
                    });
            };
            if let Some((separable, norms)) = &self.smooth {
                let apply = |values: &[f32], sums: &mut [f32]| {
                    self.smooth_sums(separable, values, classes, sums);
                };
                add(settings.smooth.weight, norms, &apply);
            }
            if let Some((lattice, norms)) = &self.appearance {
                let apply = |values: &[f32], sums: &mut [f32]| lattice.sums(values, classes, sums);
                add(settings.appearance.weight, norms, &apply);
            }
            softmax(&mut next, classes);
            q = next;
        }
        q
    }

    /// Sums of the smoothness kernel over the nodes, of values as (node, channel).
    fn smooth_sums(&self, separable: &Separable, values: &[f32], channels: usize, out: &mut [f32]) {
        let [nx, ny, nz] = self.shape;
        let mut volume = vec![0f32; nx * ny * nz * channels];
        let place = |&[x, y, z]: &[usize; 3]| ((x * ny + y) * nz + z) * channels;
        for (node, values) in self.nodes.iter().zip(values.chunks(channels)) {
            volume[place(node)..][..channels].copy_from_slice(values);
        }
        separable.apply(&mut volume, self.shape, channels);
        for (node, out) in self.nodes.iter().zip(out.chunks_mut(channels)) {
            out.copy_from_slice(&volume[place(node)..][..channels]);
        }
    }
}

fn softmax(values: &mut [f32], classes: usize) {
    values.par_chunks_mut(classes).with_min_len(1024).for_each(|values| {
        let largest = values.iter().copied().fold(f32::MIN, f32::max);
        values.iter_mut().for_each(|value| *value = (*value - largest).exp());
        let sum: f32 = values.iter().sum();
        values.iter_mut().for_each(|value| *value /= sum);
    });
}

/// A Gaussian of height 1 along each axis, cut off and not normalised.
#[derive(Debug)]
struct Separable {
    /// Values at 0, 1, 2, ... voxels.
    taps: [Vec<f32>; 3],
}

impl Separable {
    fn of(millimetres: f64, spacing: [f64; 3]) -> Self {
        let taps = spacing.map(|spacing| {
            let radius = (TRUNCATION * millimetres / spacing).floor() as usize;
            let tap = |n: usize| (-0.5 * (n as f64 * spacing / millimetres).powi(2)).exp() as f32;
            (0..=radius).map(tap).collect()
        });
        Self { taps }
    }

    /// Sums over a volume (x, y, z, channel); nothing lies outside.
    fn apply(&self, volume: &mut Vec<f32>, shape: [usize; 3], channels: usize) {
        for axis in 0..3 {
            let length = shape[axis];
            let inner = shape[axis + 1..].iter().product::<usize>() * channels;
            let taps = &self.taps[axis];
            let mut out = vec![0f32; volume.len()];
            out.par_chunks_mut(inner).enumerate().for_each(|(line, out)| {
                let (block, at) = (line / length, line % length);
                let (first, last) =
                    (at.saturating_sub(taps.len() - 1), (at + taps.len() - 1).min(length - 1));
                for other in first..=last {
                    let tap = taps[other.abs_diff(at)];
                    let values = &volume[(block * length + other) * inner..][..inner];
                    out.iter_mut().zip(values).for_each(|(out, value)| *out += tap * value);
                }
            });
            *volume = out;
        }
    }
}

#[cfg(test)]
mod tests;
