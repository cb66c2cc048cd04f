//! Cuts what a network of several pathways sees, with padding beyond the sample.

use std::sync::Arc;

use ndarray::{Array3, Array4, s};

use super::source::CaseReader;
use crate::Result;
use crate::augment::{Cut, Draw, Histograms};
use crate::network::{Field, Grid, Padding, Pathway};
use crate::prepare::window::{Frame, corner_means};
use crate::prepare::{Placement, Sample, Window};

/// What a network sees of a case around a labelled box.
pub(super) struct PatchCut<'a> {
    pub(super) reader: &'a CaseReader<'a>,
    pub(super) histograms: &'a Histograms,
    pub(super) field: &'a Field,
    /// The channels' means over the corners of the case.
    pub(super) corners: &'a [f32],
    /// Where the labelled box lies.
    pub(super) placement: &'a Placement,
}

impl PatchCut<'_> {
    /// Cuts the labelled box and every input of the field around it, changed as `draw` says. Writes each input as
    /// (channel, x, y, z) and the labels as (x, y, z).
    ///
    /// # Errors
    /// Where the case cannot be read.
    pub(super) fn cut(&self, draw: &Draw, inputs: &mut [&mut [f32]], labels: &mut [u8]) -> Result<()> {
        let grids: Vec<Grid> = self.field.pathways.iter().map(Pathway::grid).collect();
        let cut = Cut { placement: self.placement, patch: self.field.output, grids: &grids, draw };
        let shape = self.reader.shape();
        let (low, edges) = cut.seen();
        let end: [i64; 3] = std::array::from_fn(|axis| low[axis] + edges[axis] as i64);
        let leaves = (0..3).any(|axis| low[axis] < 0 || end[axis] > shape[axis] as i64);
        let padding =
            self.field.padding == Padding::Corners && self.corners.iter().any(|value| *value != 0.0);
        if !(padding && leaves) {
            return self.reader.cut(&cut, self.histograms, inputs, labels);
        }
        // Elsewhere 0 stands for what lies outside: here it is put around the case.
        let padded = self.reader.padded(Frame::of_box(low, edges), self.corners)?;
        let mut around = *self.placement;
        (0..3).for_each(|axis| around.start[axis] -= low[axis]);
        let known = match draw.needs_image() {
            true => self.histograms.of_case(|| self.reader.whole())?,
            false => self.histograms,
        };
        Cut { placement: &around, ..cut }.from_sample(&padded, known, inputs, labels);
        Ok(())
    }
}

impl CaseReader<'_> {
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

    /// A box of the case that may reach beyond it, with `corners` as the images and background there.
    ///
    /// # Errors
    /// Where the case cannot be read.
    fn padded(&self, frame: Frame, corners: &[f32]) -> Result<Sample> {
        let (first, edges) = frame.covered(self.shape());
        let part = self.window(first, edges)?;
        let frame = frame.over_part(first);
        Ok(Sample {
            id: self.id().to_owned(),
            images: frame.images(part.images.view(), corners),
            labels: Some(frame.voxels(part.labels.view())),
            mask: part.mask.map(|mask| frame.voxels(mask.view())),
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
        let mut corners = Array4::zeros((self.channels(), 2, 2, 2));
        for corner in 0..8 {
            let bits = [0, 1, 2].map(|axis| corner >> axis & 1);
            // Of a case on disk no more is read than these eight voxels.
            let voxel = self.window([0, 1, 2].map(|axis| bits[axis] * last[axis]), [1; 3])?;
            corners.slice_mut(s![.., bits[0], bits[1], bits[2]]).assign(&voxel.images.slice(s![.., 0, 0, 0]));
        }
        Ok(corner_means(corners.view()))
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
