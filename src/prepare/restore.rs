//! Brings predictions back onto the scan's own grid, plane by plane.

use ndarray::{Array3, ArrayView3, ArrayView4, Axis, Zip, s};
use rayon::prelude::*;

use super::Geometry;
use crate::image::resample::{Taps, linear, separate_axis};
use crate::image::volume::{Labels, Volume};

/// Takes the planes of a prediction along prepared axis 0 in order and keeps the label map only.
///
/// Probabilities are interpolated linearly (nearest across slices that were prepared separately, as nnU-Net
/// does), every voxel takes the class with the largest, the first of equal ones, and voxels outside the crop box
/// are background. Besides the labels it holds at most three planes of all classes, so that memory does not grow
/// with classes times volume.
pub struct Restorer<'a> {
    geometry: Geometry,
    classes: usize,
    taps: [Taps; 3],
    /// Planes received so far.
    received: usize,
    /// Planes of the crop box that are finished.
    finished: usize,
    /// The latest two planes, (class, y, z) at the crop box's resolution.
    planes: [Array3<f32>; 2],
    /// One finished plane, for the sink.
    finished_plane: Array3<f32>,
    /// On the oriented grid.
    labels: Array3<u8>,
    sink: Option<Sink<'a>>,
    odds: Option<Vec<f64>>,
}

type Sink<'a> = Box<dyn FnMut(usize, ArrayView3<'_, f32>) + Send + 'a>;

impl std::fmt::Debug for Restorer<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Restorer")
            .field("classes", &self.classes)
            .field("received", &self.received)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl<'a> Restorer<'a> {
    /// Ready for the first plane of a prediction of `classes` classes for a sample of this geometry.
    pub fn new(geometry: &Geometry, classes: usize) -> Self {
        let separate = separate_axis(geometry.spacing, geometry.original_spacing());
        let taps = std::array::from_fn(|axis| {
            let (from, to) = (geometry.shape[axis], geometry.crop_shape[axis]);
            if Some(axis) == separate { Taps::nearest(from, to) } else { linear(from, to) }
        });
        let [_, y, z] = geometry.crop_shape;
        let plane = || Array3::zeros((classes, y, z));
        Self {
            classes,
            taps,
            received: 0,
            finished: 0,
            planes: [plane(), plane()],
            finished_plane: plane(),
            labels: Array3::zeros(geometry.original.oriented(&geometry.orientation).shape),
            geometry: geometry.clone(),
            sink: None,
            odds: None,
        }
    }

    /// Also hands every finished plane of probabilities, (class, y, z), to `sink`, with its index along axis 0 of
    /// the crop box, in order. It has the crop box's shape along the RAS+ axes; outside the box all is
    /// background.
    pub fn with_sink(mut self, sink: impl FnMut(usize, ArrayView3<'_, f32>) + Send + 'a) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Multiplies the probability of every class by its odds before the largest wins. What a sink is handed stays as it
    /// is.
    ///
    /// # Panics
    /// Where odds are for another number of classes (a bug of the caller).
    pub fn with_odds(mut self, odds: Vec<f64>) -> Self {
        assert_eq!(odds.len(), self.classes, "odds for another number of classes");
        self.odds = Some(odds);
        self
    }

    /// The next planes along prepared axis 0: (class, planes, y, z) probabilities or logits, in order.
    ///
    /// # Panics
    /// Where the shape is not that of the sample, or more planes come than it has (a bug of the caller).
    pub fn push(&mut self, planes: ArrayView4<'_, f32>) {
        let [_, y, z] = self.geometry.shape;
        for plane in planes.axis_iter(Axis(1)) {
            assert_eq!(plane.dim(), (self.classes, y, z), "a plane of another shape");
            assert!(self.received < self.geometry.shape[0], "more planes than the sample has");
            self.planes.swap(0, 1);
            resample_plane(plane, &self.taps[1], &self.taps[2], &mut self.planes[1]);
            self.received += 1;
            // Everything between the two latest planes, or on the latest one.
            while self.finished < self.taps[0].len() && self.taps[0].index(self.finished, 1) < self.received {
                self.finish_plane();
            }
        }
    }

    /// Labels on the scan's own grid and axis order.
    ///
    /// # Panics
    /// Where planes are missing (a bug of the caller).
    pub fn finish(self) -> Labels {
        assert_eq!(self.received, self.geometry.shape[0], "planes are missing");
        let mut voxels = self.labels;
        let orientation = self.geometry.orientation;
        for world in 0..3 {
            if orientation.flipped[world] {
                voxels.invert_axis(Axis(world));
            }
        }
        let mut inverse = [0; 3];
        for world in 0..3 {
            inverse[orientation.axes[world]] = world;
        }
        Volume::new(voxels.permuted_axes(inverse), self.geometry.original)
    }

    fn finish_plane(&mut self) {
        let (at, latest) = (self.finished, self.received - 1);
        let plane = |side| &self.planes[usize::from(self.taps[0].index(at, side) == latest)];
        let (lower, upper) = (plane(0), plane(1));
        let (a, b) = (self.taps[0].weight(at, 0) as f32, self.taps[0].weight(at, 1) as f32);
        let blend = if b == 0.0 {
            lower
        } else {
            Zip::from(&mut self.finished_plane)
                .and(lower)
                .and(upper)
                .par_for_each(|out, &p, &q| *out = a * p + b * q);
            &self.finished_plane
        };
        let [x0, y0, z0] = self.geometry.crop_start;
        let [_, ny, nz] = self.geometry.crop_shape;
        let mut target = self.labels.slice_mut(s![x0 + at, y0..y0 + ny, z0..z0 + nz]);
        match &self.odds {
            None => largest_class(blend.view(), &mut target),
            Some(odds) => largest_weighted(blend.view(), odds, &mut target),
        }
        if let Some(sink) = &mut self.sink {
            sink(at, blend.view());
        }
        self.finished += 1;
    }
}

/// Linear interpolation of every class's plane onto the plane of the crop box.
fn resample_plane(source: ArrayView3<'_, f32>, rows: &Taps, columns: &Taps, target: &mut Array3<f32>) {
    let (classes, height, _) = target.dim();
    let lines: Vec<(usize, usize)> = (0..classes).flat_map(|c| (0..height).map(move |y| (c, y))).collect();
    let Some(values) = target.as_slice_mut() else { return };
    let width = columns.len();
    values.par_chunks_mut(width.max(1)).zip(lines).for_each(|(out, (class, y))| {
        let line = |side| source.slice(s![class, rows.index(y, side), ..]);
        let (lower, upper) = (line(0), line(1));
        let (a, b) = (rows.weight(y, 0) as f32, rows.weight(y, 1) as f32);
        for (z, out) in out.iter_mut().enumerate() {
            let at = |side| {
                let column = columns.index(z, side);
                a * lower[column] + b * upper[column]
            };
            *out = columns.weight(z, 0) as f32 * at(0) + columns.weight(z, 1) as f32 * at(1);
        }
    });
}

fn largest_class(planes: ArrayView3<'_, f32>, target: &mut ndarray::ArrayViewMut2<'_, u8>) {
    target.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(y, mut row)| {
        let mut best = planes.slice(s![0, y, ..]).to_vec();
        for (class, plane) in planes.axis_iter(Axis(0)).enumerate().skip(1) {
            let values = plane.slice_move(s![y, ..]);
            for ((best, label), &value) in best.iter_mut().zip(&mut row).zip(values) {
                if value > *best {
                    *best = value;
                    *label = class as u8;
                }
            }
        }
    });
}

/// As [`largest_class`], of probabilities times odds.
fn largest_weighted(planes: ArrayView3<'_, f32>, odds: &[f64], target: &mut ndarray::ArrayViewMut2<'_, u8>) {
    target.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(y, mut row)| {
        for (z, label) in row.iter_mut().enumerate() {
            let weighted = |class: usize| f64::from(planes[[class, y, z]]) * odds[class];
            let best = (1..odds.len())
                .fold(0, |best, class| if weighted(class) > weighted(best) { class } else { best });
            *label = best as u8;
        }
    });
}
