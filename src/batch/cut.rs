//! Cuts what a network of several pathways sees, with padding beyond the sample.

use std::sync::Arc;

use ndarray::{Array3, Array4, s};

use super::source::Opened;
use crate::Result;
use crate::augment::{Cut, Draw, Sketches};
use crate::network::Grid;
use crate::network::{Field, Padding, Pathway};
use crate::prepare::Placement;
use crate::prepare::{Sample, Window};

/// What a network sees of a case around a labelled box.
pub(super) struct View<'a> {
    pub(super) case: &'a Opened<'a>,
    pub(super) sketches: &'a Sketches,
    pub(super) field: &'a Field,
    /// The channels' means over the corners of the case.
    pub(super) corners: &'a [f32],
    /// Where the labelled box lies.
    pub(super) placement: &'a Placement,
}

impl View<'_> {
    /// Cuts the labelled box and every input of the field around it, changed as `draw` says. Writes each input as
    /// (channel, x, y, z) and the labels as (x, y, z).
    ///
    /// # Errors
    /// Where the case cannot be read.
    pub(super) fn cut(&self, draw: &Draw, inputs: &mut [&mut [f32]], labels: &mut [u8]) -> Result<()> {
        let grids: Vec<Grid> = self.field.pathways.iter().map(Pathway::grid).collect();
        let cut = Cut { placement: self.placement, patch: self.field.output, grids: &grids, draw };
        let shape = self.case.shape();
        let (low, edges) = cut.seen();
        let end: [i64; 3] = std::array::from_fn(|axis| low[axis] + edges[axis] as i64);
        let leaves = (0..3).any(|axis| low[axis] < 0 || end[axis] > shape[axis] as i64);
        let padding =
            self.field.padding == Padding::Corners && self.corners.iter().any(|value| *value != 0.0);
        if !(padding && leaves) {
            return self.case.cut(&cut, self.sketches, inputs, labels);
        }
        // Elsewhere 0 stands for what lies outside: here it is put around the case.
        let padded = self.case.padded(low, edges, self.corners)?;
        let mut around = *self.placement;
        (0..3).for_each(|axis| around.start[axis] -= low[axis]);
        let known = match draw.needs_image() {
            true => self.sketches.of_case(|| self.case.whole())?,
            false => self.sketches,
        };
        Cut { placement: &around, ..cut }.from_sample(&padded, known, inputs, labels);
        Ok(())
    }
}

impl Opened<'_> {
    /// The whole case.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn whole(&self) -> Result<Arc<Sample>> {
        match self {
            Self::Memory(sample) => Ok(Arc::clone(sample)),
            Self::Disk(case) => Ok(Arc::new(case.load()?)),
        }
    }

    /// The box of the case from `low`, with `corners` as the images and background beyond the case.
    ///
    /// # Errors
    /// Where the case cannot be read.
    fn padded(&self, low: [i64; 3], shape: [usize; 3], corners: &[f32]) -> Result<Sample> {
        let edges = self.shape();
        let first: [usize; 3] = std::array::from_fn(|axis| low[axis].clamp(0, edges[axis] as i64) as usize);
        let end: [usize; 3] = std::array::from_fn(|axis| {
            (low[axis] + shape[axis] as i64).clamp(first[axis] as i64, edges[axis] as i64) as usize
        });
        let inside: [usize; 3] = std::array::from_fn(|axis| end[axis] - first[axis]);
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
        Ok(Sample {
            id: self.id().to_owned(),
            images,
            labels: Some(place(&window.labels)),
            mask: window.mask.as_ref().map(place),
            geometry: self.geometry().clone(),
            classes: Vec::new(),
        })
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
