//! Cuts a patch, on one grid or several, out of a sample as a draw says.

use ndarray::{ArrayView3, ArrayView4};

use super::affine::Map;
use super::channel::{Channel, KeepMasks};
use super::draw::Draw;
use super::histogram::{Histogram, Histograms};
use super::intensity::Place;
use super::read::{self, Block};

use crate::Result;
use crate::network::Grid;
use crate::prepare::{Placement, PreparedCase, Sample};

/// What is cut out of a sample: where, on which grids, changed how.
///
/// Without a change, voxel `p` of the patch shows the sample at `start + p`; with one, at
/// `start + (patch - 1) / 2 + affine * (p - (patch - 1) / 2) + shift`. Images are interpolated linearly with zeros outside the sample; labels take the class with the largest sum of linear
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
    /// patch as (x, y, z). `histograms` are those of this sample.
    ///
    /// # Panics
    /// Where the sample has no labels or the outputs do not have the stated sizes.
    pub fn from_sample(
        &self,
        sample: &Sample,
        histograms: &Histograms,
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
        let known = if self.draw.needs_image() { histograms.of(sample) } else { &[] };
        self.render(&self.map(), &block, known, images, labels);
    }

    /// Cuts the images alone, with the same bits, out of a scan (channel, x, y, z) or a box of it that holds all
    /// that the grids see; `mask` belongs to the same box. `histograms` are those of the whole scan.
    ///
    /// # Panics
    /// Where an array has no standard layout or the outputs do not have the stated sizes.
    pub fn from_images(
        &self,
        images: ArrayView4<'_, f32>,
        mask: Option<ArrayView3<'_, u8>>,
        histograms: &Histograms,
        out: &mut [&mut [f32]],
    ) {
        let (_, x, y, z) = images.dim();
        let block = Block {
            images: whole(images.as_slice()),
            labels: &[],
            mask: mask.as_ref().map(|mask| whole(mask.as_slice())),
            shape: [x, y, z],
        };
        let known = if self.draw.needs_image() { histograms.known() } else { &[] };
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
        histograms: &Histograms,
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
        let known = if self.draw.needs_image() { histograms.of_loaded(|| case.load())? } else { &[] };
        self.render(&map.moved(start), &block, known, images, labels);
        Ok(())
    }

    /// First voxel and edges of the box of the sample that the patch and its grids see.
    pub fn seen(&self) -> ([i64; 3], [usize; 3]) {
        let map = self.map();
        let [mut low, mut high] = map.bounds();
        for grid in self.grids {
            let [first, last] = map.on(grid).bounds();
            low = std::array::from_fn(|axis| low[axis].min(first[axis]));
            high = std::array::from_fn(|axis| high[axis].max(last[axis]));
        }
        (low, std::array::from_fn(|axis| (high[axis] - low[axis]) as usize))
    }

    fn map(&self) -> Map {
        Map::new(&self.draw.affine, self.draw.shift, self.placement.start, self.patch)
    }

    /// Reads every grid through the map and applies the intensity changes; `labels` may be left out.
    fn render(
        &self,
        map: &Map,
        block: &Block<'_>,
        histograms: &[Histogram],
        images: &mut [&mut [f32]],
        labels: &mut [u8],
    ) {
        let draw = self.draw;
        assert_eq!(images.len(), self.grids.len(), "one image per grid");
        if !labels.is_empty() {
            assert_eq!(labels.len(), self.patch.iter().product::<usize>(), "labels of the patch");
            read::resample_labels(map, block, labels);
            swap(labels, &draw.swapped);
        }
        for (grid, image) in self.grids.iter().zip(images.iter_mut()) {
            read::resample_images(&map.on(grid), block, grid.len(), image);
        }
        // Zeros that are to be there in the end are found now, before intensities change.
        let found = self.grids.iter().zip(images.iter());
        let kept: Vec<KeepMasks> = found
            .map(|(grid, image)| KeepMasks::find(&map.on(grid), block, draw, image, grid.len()))
            .collect();
        let channels = images.first().map_or(0, |image| image.len() / self.grids[0].len().max(1));
        for channel in 0..channels {
            if !draw.changes.iter().any(|change| change.channel == channel) {
                continue;
            }
            let voxels = self.grids.iter().zip(images.iter_mut()).map(|(grid, image)| {
                let size = grid.len();
                (&mut image[channel * size..(channel + 1) * size], place(self.patch, grid))
            });
            let mut state = Channel::new(channel, self.patch, voxels, histograms.get(channel).cloned());
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
    cut.from_sample(sample, &Histograms::new(), &mut [out_images], out_labels);
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
