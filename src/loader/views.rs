//! Cuts what a network of several pathways sees, with padding beyond the sample.

use ndarray::{Array3, Array4, s};

use super::source::Opened;
use crate::Result;
use crate::augment::{self, Draw};
use crate::network::{Field, Padding, Pathway};
use crate::prepare::{Sample, Window};
use crate::sampler::Placement;

/// Cuts the labelled box of `placement` and every input of `field` around it, changed as `draw` says. `corners`
/// are the channels' means over the corners of the case. Writes each input as (channel, x, y, z) and the labels
/// as (x, y, z).
///
/// All inputs show the same changed image: it is made once, as large as the farthest-reaching input, and each
/// input takes its voxels from it.
///
/// # Errors
/// Where the case cannot be read.
pub(super) fn cut(
    case: &Opened<'_>,
    field: &Field,
    corners: &[f32],
    placement: &Placement,
    draw: &Draw,
    inputs: &mut [&mut [f32]],
    labels: &mut [u8],
) -> Result<()> {
    if field.is_same() {
        return case.cut(placement, field.output, draw, inputs[0], labels);
    }
    let channels = case.channels();
    let margin = field.margin();
    let crop: [usize; 3] = std::array::from_fn(|axis| field.output[axis] + 2 * margin[axis]);
    let voxels: usize = crop.iter().product();
    let (mut image, mut marks) = (vec![0.0; channels * voxels], vec![0; voxels]);
    let mut around = *placement;
    (0..3).for_each(|axis| around.start[axis] -= margin[axis] as i64);
    let (low, shape) = seen(draw, around.start, crop);
    let padded = match field.padding {
        Padding::Corners if corners.iter().any(|&value| value != 0.0) => case.padded(low, shape, corners)?,
        Padding::Corners | Padding::Zero => None,
    };
    match padded {
        Some(sample) => {
            (0..3).for_each(|axis| around.start[axis] -= low[axis]);
            augment::cut(&sample, &around, crop, draw, &mut image, &mut marks);
        }
        None => case.cut(&around, crop, draw, &mut image, &mut marks)?,
    }
    let marks = Array3::from_shape_fn(field.output, |(x, y, z)| {
        marks[((x + margin[0]) * crop[1] + y + margin[1]) * crop[2] + z + margin[2]]
    });
    labels.iter_mut().zip(&marks).for_each(|(label, &mark)| *label = mark);
    for (pathway, input) in field.pathways.iter().zip(inputs) {
        take(pathway, &image, crop, margin, input);
    }
    Ok(())
}

/// Copies the voxels of a pathway's grid out of the crop, channel by channel.
fn take(pathway: &Pathway, image: &[f32], crop: [usize; 3], margin: [usize; 3], input: &mut [f32]) {
    let [nx, ny, nz] = pathway.size;
    let at = |axis: usize, index: usize| (pathway.at(index) + margin[axis] as i64) as usize;
    let channels = image.chunks_exact(crop.iter().product());
    for (channel, out) in channels.zip(input.chunks_exact_mut(nx * ny * nz)) {
        for (row, out) in out.chunks_exact_mut(nz).enumerate() {
            let source = (at(0, row / ny) * crop[1] + at(1, row % ny)) * crop[2];
            for (z, value) in out.iter_mut().enumerate() {
                *value = channel[source + at(2, z)];
            }
        }
    }
}

/// First voxel and edges of the box of the sample that a crop sees under a draw.
fn seen(draw: &Draw, start: [i64; 3], crop: [usize; 3]) -> ([i64; 3], [usize; 3]) {
    let half = crop.map(|edge| (edge as f64 - 1.0) / 2.0);
    let mut low = [0; 3];
    let mut shape = [0; 3];
    for axis in 0..3 {
        let centre = start[axis] as f64 + half[axis];
        let reach: f64 = (0..3).map(|other| draw.affine.0[axis][other].abs() * half[other]).sum();
        // One voxel more on each side than is interpolated between.
        low[axis] = (centre - reach).floor() as i64 - 1;
        shape[axis] = ((centre + reach).ceil() as i64 + 2 - low[axis]) as usize;
    }
    (low, shape)
}

impl Opened<'_> {
    /// The box of the case from `low`, with `corners` as the images and background beyond the case. `None`
    /// where the box lies inside.
    ///
    /// # Errors
    /// Where the case cannot be read.
    fn padded(&self, low: [i64; 3], shape: [usize; 3], corners: &[f32]) -> Result<Option<Sample>> {
        let edges = self.shape();
        let first: [usize; 3] = std::array::from_fn(|axis| low[axis].clamp(0, edges[axis] as i64) as usize);
        let end: [usize; 3] = std::array::from_fn(|axis| {
            (low[axis] + shape[axis] as i64).clamp(first[axis] as i64, edges[axis] as i64) as usize
        });
        let inside: [usize; 3] = std::array::from_fn(|axis| end[axis] - first[axis]);
        if inside == shape {
            return Ok(None);
        }
        let window = self.window(first, inside)?;
        let [x, y, z]: [std::ops::Range<usize>; 3] = std::array::from_fn(|axis| {
            let offset = (first[axis] as i64 - low[axis]) as usize;
            offset..offset + inside[axis]
        });
        let mut images = Array4::zeros((corners.len(), shape[0], shape[1], shape[2]));
        for (mut channel, &corner) in images.outer_iter_mut().zip(corners) {
            channel.fill(corner);
        }
        images.slice_mut(s![.., x.clone(), y.clone(), z.clone()]).assign(&window.images);
        let place = |inner: &Array3<u8>| {
            let mut outer = Array3::zeros(shape);
            outer.slice_mut(s![x.clone(), y.clone(), z.clone()]).assign(inner);
            outer
        };
        Ok(Some(Sample {
            id: self.id().to_owned(),
            images,
            labels: Some(place(&window.labels)),
            mask: window.mask.as_ref().map(place),
            geometry: self.geometry().clone(),
            classes: Vec::new(),
        }))
    }

    /// Means over the eight corner voxels, channel by channel.
    ///
    /// # Errors
    /// Where the case cannot be read.
    pub(super) fn corners(&self) -> Result<Vec<f32>> {
        let last = self.shape().map(|edge| edge.saturating_sub(1));
        let mut sums = vec![0.0; self.channels()];
        for corner in 0..8 {
            let at = std::array::from_fn(|axis| if corner >> axis & 1 == 1 { last[axis] } else { 0 });
            let window = self.window(at, [1; 3])?;
            sums.iter_mut().zip(&window.images).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        Ok(sums.into_iter().map(|sum| (sum / 8.0) as f32).collect())
    }

    /// A box that lies inside the case.
    fn window(&self, first: [usize; 3], shape: [usize; 3]) -> Result<Window> {
        match self {
            Self::Disk(case) => case.read_window(first.map(|edge| edge as i64), shape),
            Self::Memory(sample) => {
                let [x, y, z]: [std::ops::Range<usize>; 3] =
                    std::array::from_fn(|axis| first[axis]..first[axis] + shape[axis]);
                let part = |voxels: &Array3<u8>| voxels.slice(s![x.clone(), y.clone(), z.clone()]).to_owned();
                Ok(Window {
                    images: sample.images.slice(s![.., x.clone(), y.clone(), z.clone()]).to_owned(),
                    labels: sample.labels.as_ref().map_or_else(|| Array3::zeros(shape), part),
                    mask: sample.mask.as_ref().map(part),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_sees_what_its_map_can_reach() {
        let (low, shape) = seen(&Draw::identity(), [5, 6, 7], [9, 8, 1]);
        assert!((0..3).all(|axis| low[axis] < [5, 6, 7][axis]));
        let end: Vec<i64> = (0..3).map(|axis| low[axis] + shape[axis] as i64).collect();
        assert!(end[0] > 5 + 9 && end[1] > 6 + 8 && end[2] > 7 + 1);
        let draw = Draw { affine: augment::Affine::scaling([2.0, 1.0, 1.0]), ..Draw::identity() };
        let (low, shape) = seen(&draw, [0; 3], [9; 3]);
        assert!(low[0] <= -4 && low[0] + shape[0] as i64 > 12, "{low:?} {shape:?}");
    }
}
