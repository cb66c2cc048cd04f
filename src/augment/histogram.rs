//! What intensity changes know of the whole image: the distribution of each channel in a few numbers.
//!
//! A patch that changes by statistics of its own looks different from its neighbours and from the same place on
//! another grid; statistics of the whole image do not. Since a later change must see the image as the earlier
//! ones left it, the image is carried along as a histogram: its range and the means of equally filled bins, which
//! change point by point as the voxels do.

use std::sync::{Arc, OnceLock};

use ndarray::{ArrayView3, ArrayView4};

use super::intensity::{Point, Statistics};
use crate::Result;
use crate::prepare::Sample;

/// Histograms of a sample's channels, made when first asked for and then kept.
#[derive(Debug, Default)]
pub struct Histograms {
    channels: OnceLock<Vec<Histogram>>,
}

/// The distribution of one channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    /// Lowest and highest value.
    range: [f32; 2],
    /// Means of bins that hold equally many voxels.
    bins: Vec<f32>,
}

/// Bins of a histogram.
const BINS: usize = 512;
/// Voxels that a histogram looks at: all, or a regular part of them.
const LOOKED_AT: usize = 1 << 16;

impl Histograms {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of a scan (channel, x, y, z).
    pub fn of_images(images: ArrayView4<'_, f32>) -> Self {
        let histograms: Vec<Histogram> = images.outer_iter().map(Histogram::of).collect();
        Self { channels: OnceLock::from(histograms) }
    }

    /// Makes the histograms where they are not known yet, from the case that `load` gives.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn of_case(&self, load: impl FnOnce() -> Result<Arc<Sample>>) -> Result<&Self> {
        if self.channels.get().is_none() {
            self.of(&*load()?);
        }
        Ok(self)
    }

    /// The histograms of a sample that is in memory.
    pub(super) fn of(&self, sample: &Sample) -> &[Histogram] {
        self.channels
            .get_or_init(|| sample.images.outer_iter().map(|channel| Histogram::of(channel.view())).collect())
    }

    /// The histograms, where they were made before; else none.
    pub(super) fn known(&self) -> &[Histogram] {
        self.channels.get().map_or(&[], Vec::as_slice)
    }

    /// The histograms of a sample that has to be read first.
    pub(super) fn of_loaded(&self, load: impl FnOnce() -> Result<Sample>) -> Result<&[Histogram]> {
        match self.channels.get() {
            Some(known) => Ok(known),
            None => Ok(self.of(&load()?)),
        }
    }
}

impl Histogram {
    fn of(channel: ArrayView3<'_, f32>) -> Self {
        let range = channel
            .iter()
            .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], &v| [low.min(v), high.max(v)]);
        let step = channel.len().div_ceil(LOOKED_AT).max(1);
        let mut values: Vec<f32> = channel.iter().step_by(step).copied().collect();
        values.sort_by(f32::total_cmp);
        let bins = BINS.min(values.len());
        let bin = |index: usize| {
            let part = &values[index * values.len() / bins..(index + 1) * values.len() / bins];
            (part.iter().map(|v| f64::from(*v)).sum::<f64>() / part.len() as f64) as f32
        };
        Self { range, bins: (0..bins).map(bin).collect() }
    }

    /// Mean, deviation and range of the image as it is now; `None` of an image without voxels.
    pub(super) fn statistics(&self) -> Statistics {
        let count = self.bins.len().max(1) as f64;
        let mean = self.bins.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let variance = self.bins.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
        Statistics { mean, deviation: variance.sqrt(), low: self.range[0], high: self.range[1] }
    }

    /// Changes the histogram as [`Point`] changes voxels. Noise leaves it as it is.
    pub(super) fn apply(&mut self, point: &Point<'_>) {
        point.apply_to_values(&mut self.bins);
        point.apply_to_values(&mut self.range);
        self.range = [self.range[0].min(self.range[1]), self.range[0].max(self.range[1])];
    }
}
