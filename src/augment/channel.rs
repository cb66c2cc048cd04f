//! The intensity changes of one channel of a patch, on all its grids.

use super::affine::Map;
use super::draw::{Draw, Intensity};
use super::filter;
use super::histogram::Histogram;
use super::intensity::{Fused, Place, Point, Statistics, gamma_back, gamma_power};
use super::read::{self, Block};
use super::{Keep, Over, Resampling, Side};

/// One channel of a patch on all its grids, and of the image around it.
pub(super) struct Channel<'a> {
    grids: Vec<Fused<'a>>,
    histogram: Option<Histogram>,
    channel: usize,
    patch: [usize; 3],
}

impl<'a> Channel<'a> {
    /// Channel number `channel` as it was cut: its voxels on each grid, and where that lies.
    pub(super) fn new(
        channel: usize,
        patch: [usize; 3],
        voxels: impl Iterator<Item = (&'a mut [f32], Place)>,
        histogram: Option<Histogram>,
    ) -> Self {
        Self {
            grids: voxels.map(|(voxels, place)| Fused::new(voxels, place)).collect(),
            histogram,
            channel,
            patch,
        }
    }

    /// Makes one change, or lets it wait until something must see the result.
    pub(super) fn change(&mut self, kind: Intensity, kept: &'a [KeepMasks]) {
        match kind {
            Intensity::Noise { deviation, key } => {
                self.push(Point::Noise { deviation: deviation as f32, key, channel: self.channel });
            }
            Intensity::Multiply { factor } => self.push(Point::Multiply(factor as f32)),
            Intensity::Add { amount } => self.push(Point::Linear { factor: 1.0, shift: amount as f32 }),
            Intensity::Constant { value } => self.push(Point::Constant(value as f32)),
            Intensity::Contrast { factor, over } => {
                let Statistics { mean, low, high, .. } = self.statistics(over);
                self.push(Point::Stretch { mean: mean as f32, factor: factor as f32, low, high });
            }
            Intensity::Gamma { exponent, side, over, keep } => self.gamma(exponent as f32, side, over, keep),
            Intensity::Blur { sigma } => self.filter(|voxels, shape, stride| {
                filter::blur(voxels, shape, std::array::from_fn(|a| sigma[a] / stride[a] as f64));
            }),
            Intensity::Sharpen { sigma, over } => {
                let Statistics { low, high, .. } = self.statistics(over);
                self.filter(|voxels, shape, stride| {
                    filter::sharpen(voxels, shape, sigma, stride, [low, high]);
                });
            }
            Intensity::LowResolution { zoom, resampling } => self.filter(|voxels, shape, stride| {
                // A grid that is coarser than the simulated scan already shows no more of it.
                let zoom = std::array::from_fn(|a| (zoom[a] * stride[a] as f64).min(1.0));
                match resampling {
                    Resampling::NearestLinear => filter::low_resolution(voxels, shape, zoom),
                    Resampling::LinearNearest => filter::coarse_voxels(voxels, shape, zoom),
                }
            }),
            Intensity::Erase { centre, size } => self.erase(centre, size),
            Intensity::Mask => self.keep(kept, |kept| &kept.mask),
            Intensity::Nonzero => self.keep(kept, |kept| &kept.nonzero),
        }
    }

    /// Makes what still waits.
    pub(super) fn finish(&mut self) {
        for grid in &mut self.grids {
            grid.voxels();
        }
    }

    fn push(&mut self, point: Point<'static>) {
        if let Some(histogram) = &mut self.histogram {
            histogram.apply(&point);
        }
        self.grids.iter_mut().for_each(|grid| grid.push(point));
    }

    fn keep(&mut self, kept: &'a [KeepMasks], part: impl Fn(&'a KeepMasks) -> &'a Vec<u8>) {
        for (grid, kept) in self.grids.iter_mut().zip(kept) {
            if !part(kept).is_empty() {
                grid.push(Point::Keep(part(kept)));
            }
        }
    }

    fn filter(&mut self, mut filter: impl FnMut(&mut [f32], [usize; 3], [usize; 3])) {
        for grid in &mut self.grids {
            let Place { shape, stride, .. } = grid.place();
            filter(grid.voxels(), shape, stride);
        }
    }

    fn statistics(&mut self, over: Over) -> Statistics {
        match (over, &self.histogram) {
            (Over::Image, Some(histogram)) => histogram.statistics(),
            _ => self.grids[0].measure(),
        }
    }

    fn gamma(&mut self, exponent: f32, side: Side, over: Over, keep: Keep) {
        let before = self.statistics(over);
        let mut range = [before.low, before.high];
        if over == Over::Image {
            // Padding, noise and filters may have left the image's range.
            for grid in &mut self.grids {
                let Statistics { low, high, .. } = grid.measure();
                range = [range[0].min(low), range[1].max(high)];
            }
        }
        self.push(gamma_power(range, exponent, side));
        let (kept, powers) = match keep {
            Keep::Range => (None, (0.0, 1.0)),
            Keep::Moments => {
                let powers = match (over, &self.histogram) {
                    (Over::Image, Some(histogram)) => {
                        let Statistics { mean, deviation, .. } = histogram.statistics();
                        (mean, deviation)
                    }
                    _ => self.grids[0].moments(),
                };
                (Some(&before), powers)
            }
        };
        self.push(gamma_back(range, side, kept, powers));
    }

    fn erase(&mut self, centre: [f64; 3], size: f64) {
        // A whole voxel of the patch is inside where its middle is.
        let patch = self.patch.map(|edge| edge as f64);
        for grid in &mut self.grids {
            let Place { shape, first, stride } = grid.place();
            let inside = |axis: usize, at: usize| {
                let voxel = (first[axis] + (at * stride[axis]) as i64 + (self.patch[axis] / 2) as i64) as f64;
                ((voxel + 0.5) / patch[axis] - centre[axis]).abs() < size / 2.0
            };
            for (row, voxels) in grid.voxels().chunks_exact_mut(shape[2].max(1)).enumerate() {
                if inside(0, row / shape[1]) && inside(1, row % shape[1]) {
                    let erased = voxels.iter_mut().enumerate().filter(|(z, _)| inside(2, *z));
                    erased.for_each(|(_, voxel)| *voxel = 0.0);
                }
            }
        }
    }
}

/// Grid voxels that [`Intensity::Mask`] and [`Intensity::Nonzero`] keep (not 0); empty where all are kept.
pub(super) struct KeepMasks {
    mask: Vec<u8>,
    nonzero: Vec<u8>,
}

impl KeepMasks {
    /// Finds what has to be 0 in the end, before intensities change. Nothing has to be done for channels that do
    /// not change otherwise.
    pub(super) fn find(map: &Map, block: &Block<'_>, draw: &Draw, image: &[f32], size: usize) -> Self {
        let changed = |channel: usize| {
            let of_channel = draw.changes.iter().filter(|change| change.channel == channel);
            of_channel.clone().any(|change| !matches!(change.kind, Intensity::Mask | Intensity::Nonzero))
        };
        let wants = |kind: Intensity| {
            draw.changes.iter().any(|change| change.kind == kind && changed(change.channel))
        };
        let mut kept = Self { mask: Vec::new(), nonzero: Vec::new() };
        if let Some(mask) = block.mask
            && wants(Intensity::Mask)
        {
            kept.mask.resize(size, 0);
            read::nearest(map, mask, block.shape, &mut kept.mask);
        }
        if wants(Intensity::Nonzero) {
            kept.nonzero.resize(size, 0);
            for change in draw.changes.iter().filter(|change| change.kind == Intensity::Nonzero) {
                let channel = &image[change.channel * size..][..size];
                for (kept, voxel) in kept.nonzero.iter_mut().zip(channel) {
                    *kept |= u8::from(*voxel != 0.0);
                }
            }
        }
        kept
    }
}
