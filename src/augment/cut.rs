//! Cuts a patch, on one grid or several, out of a sample as a draw says.

use super::draw::{Draw, Kind};
use super::elastic::Field;
use super::filter;
use super::histogram::{Sketch, Sketches};
use super::intensity::{Fused, Place, Point, Statistics, gamma_back, gamma_power};
use super::spatial::{self, Block, Map};
use super::{Keep, Over, Resampling, Side};
use ndarray::{ArrayView3, ArrayView4};

use crate::Result;
use crate::network::Grid;
use crate::prepare::{Placement, PreparedCase, Sample};

/// What is cut out of a sample: where, on which grids, changed how.
///
/// Without a change, voxel `p` of the patch shows the sample at `start + p`; with one, at
/// `start + (patch - 1) / 2 + affine * (p - (patch - 1) / 2) + shift`, plus the elastic field there. Images are
/// interpolated linearly with zeros outside the sample; labels take the class with the largest sum of linear
/// weights, the nearest voxel's where two are equal, and background outside the sample. These are
/// batchgeneratorsv2's rules, except that it sees zeros already beyond a crop around the patch. No label is
/// invented, and [`crate::prepare::IGNORE`] is a class like any other here.
///
/// Grids of other strides see the same: they share the map, the noise field and every magnitude, and take the
/// statistics of a patch from the first grid. Smoothing, sharpening and low resolution act on each grid, with
/// their scale in voxels of the grid.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// Where the patch lies.
    pub placement: &'a Placement,
    /// Its edges, voxels.
    pub patch: [usize; 3],
    /// The grids that images are cut on.
    pub grids: &'a [Grid],
    /// How they are changed.
    pub draw: &'a Draw,
}

impl Cut<'_> {
    /// Cuts out of a sample in memory. Writes the image of each grid as (channel, x, y, z), and the labels of the
    /// patch as (x, y, z). `sketches` are those of this sample.
    ///
    /// # Panics
    /// Where the sample has no labels or the outputs do not have the stated sizes.
    pub fn from_sample(
        &self,
        sample: &Sample,
        sketches: &Sketches,
        images: &mut [&mut [f32]],
        labels: &mut [u8],
    ) {
        let (_, x, y, z) = sample.images.dim();
        let reference = sample.labels.as_ref().expect("training samples have labels");
        let block = Block {
            images: whole(sample.images.as_slice()),
            labels: whole(reference.as_slice()),
            mask: sample.mask.as_ref().map(|mask| whole(mask.as_slice())),
            shape: [x, y, z],
        };
        let known = if self.draw.needs_image() { sketches.of(sample) } else { &[] };
        self.render(&self.map(), &block, known, images, labels);
    }

    /// Cuts the images alone, with the same bits, out of a scan (channel, x, y, z) or a box of it that holds all
    /// that the grids see; `mask` belongs to the same box. `sketches` are those of the whole scan.
    ///
    /// # Panics
    /// Where an array has no standard layout or the outputs do not have the stated sizes.
    pub fn from_images(
        &self,
        images: ArrayView4<'_, f32>,
        mask: Option<ArrayView3<'_, u8>>,
        sketches: &Sketches,
        out: &mut [&mut [f32]],
    ) {
        let (_, x, y, z) = images.dim();
        let block = Block {
            images: whole(images.as_slice()),
            labels: &[],
            mask: mask.as_ref().map(|mask| whole(mask.as_slice())),
            shape: [x, y, z],
        };
        let known = if self.draw.needs_image() { sketches.known() } else { &[] };
        self.render(&self.map(), &block, known, out, &mut []);
    }

    /// Cuts out of a case on disk, with the same bits. Reads no more of it than the grids see, except where a
    /// change looks at the whole image for the first time.
    ///
    /// # Errors
    /// Where the case cannot be read.
    ///
    /// # Panics
    /// Where the outputs do not have the stated sizes.
    pub fn from_case(
        &self,
        case: &PreparedCase,
        sketches: &Sketches,
        images: &mut [&mut [f32]],
        labels: &mut [u8],
    ) -> Result<()> {
        let map = self.map();
        let (low, edges) = self.seen();
        let inside = |axis: usize, voxel: i64| voxel.clamp(0, case.shape[axis] as i64) as usize;
        let start = [0, 1, 2].map(|axis: usize| inside(axis, low[axis]));
        let shape = [0, 1, 2].map(|axis: usize| inside(axis, low[axis] + edges[axis] as i64) - start[axis]);
        let window = case.read_window(start.map(|coordinate| coordinate as i64), shape)?;
        let block = Block {
            images: whole(window.images.as_slice()),
            labels: whole(window.labels.as_slice()),
            mask: window.mask.as_ref().map(|mask| whole(mask.as_slice())),
            shape,
        };
        let known = if self.draw.needs_image() { sketches.of_loaded(|| case.load())? } else { &[] };
        self.render(&map.moved(start), &block, known, images, labels);
        Ok(())
    }

    /// First voxel and edges of the box of the sample that the patch and its grids see.
    pub fn seen(&self) -> ([i64; 3], [usize; 3]) {
        let (map, reach) = (self.map(), self.reach());
        let [mut low, mut high] = map.bounds(reach);
        for grid in self.grids {
            let [first, last] = map.on(grid).bounds(reach);
            low = std::array::from_fn(|axis| low[axis].min(first[axis]));
            high = std::array::from_fn(|axis| high[axis].max(last[axis]));
        }
        (low, std::array::from_fn(|axis| (high[axis] - low[axis]) as usize))
    }

    fn reach(&self) -> f64 {
        self.draw.elastic.map_or(0.0, |elastic| elastic.reach())
    }

    fn map(&self) -> Map {
        Map::new(&self.draw.affine, self.draw.shift, self.placement.start, self.patch)
    }

    /// Reads every grid through the map and applies the intensity changes; `labels` may be left out.
    fn render(
        &self,
        map: &Map,
        block: &Block<'_>,
        sketches: &[Sketch],
        images: &mut [&mut [f32]],
        labels: &mut [u8],
    ) {
        let draw = self.draw;
        assert_eq!(images.len(), self.grids.len(), "one image per grid");
        let field =
            |grid: &Grid| draw.elastic.map(|elastic| Field { elastic, place: place(self.patch, grid) });
        if !labels.is_empty() {
            assert_eq!(labels.len(), self.patch.iter().product::<usize>(), "labels of the patch");
            spatial::resample_labels(map, field(&Grid::patch(self.patch)).as_ref(), block, labels);
            swap(labels, &draw.swapped);
        }
        for (grid, image) in self.grids.iter().zip(images.iter_mut()) {
            spatial::resample_images(&map.on(grid), field(grid).as_ref(), block, grid.len(), image);
        }
        let kept: Vec<Kept> = self
            .grids
            .iter()
            .zip(images.iter())
            .map(|(grid, image)| {
                Kept::find(&map.on(grid), field(grid).as_ref(), block, draw, image, grid.len())
            })
            .collect();
        let channels = images.first().map_or(0, |image| image.len() / self.grids[0].len().max(1));
        for channel in 0..channels {
            if !draw.changes.iter().any(|change| change.channel == channel) {
                continue;
            }
            let grids = self.grids.iter().zip(images.iter_mut()).map(|(grid, image)| {
                let size = grid.len();
                Fused::new(&mut image[channel * size..(channel + 1) * size], place(self.patch, grid))
            });
            let mut state = Channel {
                grids: grids.collect(),
                strides: self.grids.iter().map(|grid| grid.stride).collect(),
                sketch: sketches.get(channel).cloned(),
                channel,
                patch: self.patch,
            };
            for change in draw.changes.iter().filter(|change| change.channel == channel) {
                state.change(change.kind, &kept);
            }
            state.finish();
        }
    }
}

/// Cuts one patch out of a sample in memory: [`Cut::from_sample`] with the patch as its only grid. Where the draw
/// looks at the whole image, its statistics are taken anew each time.
///
/// # Panics
/// As [`Cut::from_sample`].
pub fn cut(
    sample: &Sample,
    placement: &Placement,
    patch: [usize; 3],
    draw: &Draw,
    out_images: &mut [f32],
    out_labels: &mut [u8],
) {
    let grids = [Grid::patch(patch)];
    let cut = Cut { placement, patch, grids: &grids, draw };
    cut.from_sample(sample, &Sketches::new(), &mut [out_images], out_labels);
}

fn whole<T>(voxels: Option<&[T]>) -> &[T] {
    voxels.expect("prepared arrays have standard layout")
}

/// Where a grid lies about the centre of the patch.
fn place(patch: [usize; 3], grid: &Grid) -> Place {
    let first = std::array::from_fn(|axis| grid.start[axis] - (patch[axis] / 2) as i64);
    Place { shape: grid.shape, first, stride: grid.stride }
}

fn swap(labels: &mut [u8], pairs: &[[u8; 2]]) {
    if pairs.is_empty() {
        return;
    }
    let mut other: [u8; 256] = std::array::from_fn(|label| label as u8);
    for &[left, right] in pairs {
        other.swap(usize::from(left), usize::from(right));
    }
    labels.iter_mut().for_each(|label| *label = other[usize::from(*label)]);
}

/// One channel of a patch on all its grids, and of the image around it.
struct Channel<'a> {
    grids: Vec<Fused<'a>>,
    strides: Vec<[usize; 3]>,
    sketch: Option<Sketch>,
    channel: usize,
    patch: [usize; 3],
}

impl<'a> Channel<'a> {
    fn change(&mut self, kind: Kind, kept: &'a [Kept]) {
        match kind {
            Kind::Noise { deviation, key } => {
                self.push(Point::Noise { deviation: deviation as f32, key, channel: self.channel });
            }
            Kind::Multiply { factor } => self.push(Point::Multiply(factor as f32)),
            Kind::Add { amount } => self.push(Point::Linear { factor: 1.0, shift: amount as f32 }),
            Kind::Constant { value } => self.push(Point::Constant(value as f32)),
            Kind::Contrast { factor, over } => {
                let Statistics { mean, low, high, .. } = self.statistics(over);
                self.push(Point::Stretch { mean: mean as f32, factor: factor as f32, low, high });
            }
            Kind::Gamma { exponent, side, over, keep } => self.gamma(exponent as f32, side, over, keep),
            Kind::Blur { sigma } => self.filter(|voxels, shape, stride| {
                filter::blur(voxels, shape, std::array::from_fn(|a| sigma[a] / stride[a] as f64));
            }),
            Kind::Sharpen { sigma, over } => {
                let Statistics { low, high, .. } = self.statistics(over);
                self.filter(|voxels, shape, stride| {
                    filter::sharpen(voxels, shape, sigma, stride, [low, high]);
                });
            }
            Kind::LowResolution { zoom, resampling } => self.filter(|voxels, shape, stride| {
                // A grid that is coarser than the simulated scan already shows no more of it.
                let zoom = std::array::from_fn(|a| (zoom[a] * stride[a] as f64).min(1.0));
                match resampling {
                    Resampling::NearestLinear => filter::low_resolution(voxels, shape, zoom),
                    Resampling::LinearNearest => filter::coarse_voxels(voxels, shape, zoom),
                }
            }),
            Kind::Erase { centre, size } => self.erase(centre, size),
            Kind::Mask => self.keep(kept, |kept| &kept.mask),
            Kind::Nonzero => self.keep(kept, |kept| &kept.nonzero),
        }
    }

    /// Makes what still waits.
    fn finish(&mut self) {
        for grid in &mut self.grids {
            grid.voxels();
        }
    }

    fn push(&mut self, point: Point<'static>) {
        if let Some(sketch) = &mut self.sketch {
            sketch.apply(&point);
        }
        self.grids.iter_mut().for_each(|grid| grid.push(point));
    }

    fn keep(&mut self, kept: &'a [Kept], part: impl Fn(&'a Kept) -> &'a Vec<u8>) {
        for (grid, kept) in self.grids.iter_mut().zip(kept) {
            if !part(kept).is_empty() {
                grid.push(Point::Keep(part(kept)));
            }
        }
    }

    fn filter(&mut self, mut filter: impl FnMut(&mut [f32], [usize; 3], [usize; 3])) {
        for (grid, stride) in self.grids.iter_mut().zip(&self.strides) {
            let shape = grid.place().shape;
            filter(grid.voxels(), shape, *stride);
        }
    }

    fn statistics(&mut self, over: Over) -> Statistics {
        match (over, &self.sketch) {
            (Over::Image, Some(sketch)) => sketch.statistics(),
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
                let powers = match (over, &self.sketch) {
                    (Over::Image, Some(sketch)) => {
                        let Statistics { mean, deviation, .. } = sketch.statistics();
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

/// Grid voxels that [`Kind::Mask`] and [`Kind::Nonzero`] keep (not 0); empty where all are kept.
struct Kept {
    mask: Vec<u8>,
    nonzero: Vec<u8>,
}

impl Kept {
    /// Finds what has to be 0 in the end, before intensities change. Nothing has to be done for channels that do
    /// not change otherwise.
    fn find(
        map: &Map,
        field: Option<&Field>,
        block: &Block<'_>,
        draw: &Draw,
        image: &[f32],
        size: usize,
    ) -> Self {
        let changed = |channel: usize| {
            let of_channel = draw.changes.iter().filter(|change| change.channel == channel);
            of_channel.clone().any(|change| !matches!(change.kind, Kind::Mask | Kind::Nonzero))
        };
        let wants =
            |kind: Kind| draw.changes.iter().any(|change| change.kind == kind && changed(change.channel));
        let mut kept = Self { mask: Vec::new(), nonzero: Vec::new() };
        if let Some(mask) = block.mask
            && wants(Kind::Mask)
        {
            kept.mask.resize(size, 0);
            spatial::nearest(map, field, mask, block.shape, &mut kept.mask);
        }
        if wants(Kind::Nonzero) {
            kept.nonzero.resize(size, 0);
            for change in draw.changes.iter().filter(|change| change.kind == Kind::Nonzero) {
                let channel = &image[change.channel * size..][..size];
                for (kept, voxel) in kept.nonzero.iter_mut().zip(channel) {
                    *kept |= u8::from(*voxel != 0.0);
                }
            }
        }
        kept
    }
}
