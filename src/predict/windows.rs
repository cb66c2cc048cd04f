//! Sliding-window prediction, streamed plane by plane.
//!
//! Windows are visited with ascending x. As soon as no later window reaches a plane, its probabilities are
//! final and handed on, so only a band as deep as one patch is held for all classes, never the whole volume.
//! Windows overlap by half and are weighted by a Gaussian of 1/8 of the patch edge, as in nnU-Net (Isensee et
//! al. 2021); probabilities, not logits, are averaged over windows, mirrored passes and networks.
//!
//! Networks that see more than they label (DeepMedic) need no overlap: their windows stand side by side, the last
//! one flush with the end of the volume, and all voxels of a window count alike.

use ndarray::{Array5, ArrayView3, ArrayView4};
use segen_kernels::{Activation, Array, Device, Settings};

use super::Segmenter;
use super::forms::Views;
use super::mirror::Mirrors;
use super::tiling::{gaussian, starts, tiles};
use crate::network::{Bound, Field, Mode, Network, Padding, Pathway, Weights};
use crate::plan::Plan;
use crate::prepare::Sample;
use crate::prepare::window::{Frame, corner_means};
use crate::score::operating::Bias;
use crate::{Error, Result};

/// How to predict.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowOptions {
    /// Share of the patch edge by which windows step, in (0, 1]; without effect on networks that see more than
    /// they label.
    pub step: f64,
    /// The mirror images that are predicted and averaged, one pass each.
    pub mirrors: Mirrors,
    /// Windows in one forward pass.
    pub batch: usize,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self { step: 0.5, mirrors: Mirrors::default(), batch: 2 }
    }
}

/// One or several networks of the same plan, ready to predict.
#[derive(Debug)]
pub struct Predictor {
    pub(super) networks: Vec<(Network, Bound)>,
    pub(super) field: Field,
    /// Edges of a window, that is of the box of voxels that get probabilities.
    pub(super) patch: [usize; 3],
    pub(super) channels: usize,
    pub(super) classes: usize,
    pub(super) options: WindowOptions,
    pub(super) device: Device,
    pub(super) weighting: [Vec<f32>; 3],
    /// Changed forms in which windows are seen, instead of mirror images.
    pub(super) views: Option<Views>,
    /// Of every network, the odds that its probabilities are multiplied by; none where all are 1.
    pub(super) odds: Vec<Vec<f32>>,
    /// How the CPU operators run, wherever it predicts: as where it was made.
    pub(super) kernels: Settings,
}

impl Predictor {
    /// Joins networks that were trained with plans of the same shape (an ensemble); one is enough.
    pub fn new(
        plan: &Plan,
        networks: Vec<(Network, &Weights)>,
        options: WindowOptions,
        device: &Device,
    ) -> Result<Self> {
        assert!(!networks.is_empty(), "a predictor has at least one network");
        for (network, _) in &networks {
            if network.channels() != plan.channels || network.classes() != plan.classes {
                return Err(Error::config(
                    "--with",
                    format!(
                        "a network has {} channels and {} classes, the plan {} and {}",
                        network.channels(),
                        network.classes(),
                        plan.channels,
                        plan.classes
                    ),
                    "join only runs that were trained on the same data set with the same plan",
                ));
            }
        }
        let segment = plan.inference_segment();
        let field = networks[0].0.field(segment)?;
        for (network, _) in &networks {
            if network.field(segment)? != field {
                return Err(Error::config(
                    "--with",
                    "a network sees other voxels around a window than the first one does",
                    "join runs of the same kind of network only",
                ));
            }
        }
        let patch = field.output;
        let weighting = if field.is_same() { patch.map(gaussian) } else { patch.map(|edge| vec![1.0; edge]) };
        Ok(Self {
            networks: networks.into_iter().map(|(n, w)| (n, w.bind(device))).collect(),
            field,
            patch,
            channels: plan.channels,
            classes: plan.classes,
            options,
            device: *device,
            weighting,
            views: None,
            odds: Vec::new(),
            kernels: Settings::current(),
        })
    }

    /// Multiplies the probabilities of every network by the odds of its own bias, and brings their sum back, before they
    /// are averaged: for a network alone the largest class is then that of the bias.
    ///
    /// # Panics
    /// Where there are not as many as networks, or one is for other classes (a bug of the caller).
    pub fn with_odds(mut self, biases: &[Bias]) -> Self {
        assert_eq!(biases.len(), self.networks.len(), "one bias for each network");
        self.odds.clear();
        if biases.iter().any(|bias| !bias.is_none()) {
            let odds = |bias: &Bias| bias.odds().into_iter().map(|odds| odds as f32).collect();
            self.odds = biases.iter().map(odds).collect();
            assert!(self.odds.iter().all(|odds: &Vec<f32>| odds.len() == self.classes), "classes of a bias");
        }
        self
    }

    /// First voxels of the windows along each axis.
    pub(super) fn starts(&self, shape: [usize; 3]) -> [Vec<i64>; 3] {
        std::array::from_fn(|axis| match self.field.is_same() {
            true => starts(shape[axis], self.patch[axis], self.options.step),
            false => tiles(shape[axis], self.patch[axis]),
        })
    }

    /// Number of forms in which a window is seen, each a pass of every network.
    fn forms(&self) -> usize {
        self.views.as_ref().map_or(self.options.mirrors.len(), Views::len)
    }

    fn touches(&self, mask: ArrayView3<u8>, place: [i64; 3]) -> bool {
        let (nx, ny, nz) = mask.dim();
        let range = |axis: usize, n: usize| {
            place[axis].max(0) as usize..((place[axis] + self.patch[axis] as i64).max(0) as usize).min(n)
        };
        mask.slice(ndarray::s![range(0, nx), range(1, ny), range(2, nz)]).iter().any(|&m| m != 0)
    }

    /// Divides the sums of every voxel by the weight that was added there. Class probabilities sum to 1 in every
    /// window, so that weight is the sum over the classes. Voxels without any become background.
    fn finish(&self, sums: &mut [f32]) {
        for voxel in sums.chunks_exact_mut(self.classes) {
            let weight: f32 = voxel.iter().sum();
            if weight > 0.0 {
                voxel.iter_mut().for_each(|p| *p /= weight);
            } else {
                voxel[0] = 1.0;
            }
        }
    }

    /// What stands for voxels beyond the volume, channel by channel.
    pub(super) fn padding(&self, images: ArrayView4<f32>) -> Vec<f32> {
        match self.field.padding {
            Padding::Zero => vec![0.0; self.channels],
            Padding::Corners => corner_means(images),
        }
    }

    /// Predicts the windows of a group in one pass per network and mirror image and adds them to the band.
    fn add_group(
        &self,
        images: ArrayView4<f32>,
        padding: &[f32],
        group: &[[i64; 3]],
        first: usize,
        band: &mut [f32],
        advance: &mut dyn FnMut(usize),
    ) {
        let (_, nx, ny, nz) = images.dim();
        let size = self.patch.iter().product::<usize>() * self.classes;
        let share = 1.0 / (self.options.mirrors.len() * self.networks.len()) as f32;
        for mirror in self.options.mirrors.iter() {
            let inputs = self.inputs(images, padding, group, mirror.axes);
            let sources = mirror.sources(self.classes);
            for (number, (network, weights)) in self.networks.iter().enumerate() {
                let forward = || network.forward(weights, inputs.clone(), Mode::Evaluation);
                let logits = self.kernels.scoped(forward).logits.swap_remove(0);
                let mut probabilities = segen_kernels::softmax(&logits).into_channels_last().into_host();
                if !mirror.pairs.is_empty() {
                    exchange(&mut probabilities, &sources);
                }
                if let Some(odds) = self.odds.get(number) {
                    probabilities.chunks_exact_mut(self.classes).for_each(|voxel| tilt(voxel, odds));
                }
                for (place, window) in group.iter().zip(probabilities.chunks_exact(size)) {
                    self.add_window(window, *place, [nx, ny, nz], mirror.axes, share, first, band);
                }
                advance(group.len());
            }
        }
    }

    /// What the networks see around windows, one (batch, x, y, z, channel) per pathway, mirrored by `flip`.
    pub(super) fn inputs(
        &self,
        images: ArrayView4<f32>,
        padding: &[f32],
        group: &[[i64; 3]],
        flip: [bool; 3],
    ) -> Vec<Activation> {
        let input = |pathway: &Pathway| {
            let [x, y, z] = pathway.size;
            let cut = self.cut(images, padding, group, pathway, flip);
            let shape = [group.len(), x, y, z, self.channels];
            Activation::from_channels_last(Array::from_host(cut, &shape, &self.device))
        };
        self.field.pathways.iter().map(input).collect()
    }

    /// The voxels of one pathway around windows (batch, x, y, z, channel), mirrored by `flip`.
    fn cut(
        &self,
        images: ArrayView4<f32>,
        padding: &[f32],
        group: &[[i64; 3]],
        pathway: &Pathway,
        flip: [bool; 3],
    ) -> Vec<f32> {
        let (before, scale) = (pathway.before as i64, pathway.scale as i64);
        // A mirrored window is read backwards from its other end.
        let start = |axis: usize| match flip[axis] {
            true => self.patch[axis] as i64 - 1 + before,
            false => -before,
        };
        let [x, y, z] = pathway.size;
        let mut out = Array5::zeros((group.len(), x, y, z, images.dim().0));
        for (place, window) in group.iter().zip(out.outer_iter_mut()) {
            let frame = Frame {
                start: std::array::from_fn(|axis| place[axis] + start(axis)),
                step: flip.map(|backwards| if backwards { -scale } else { scale }),
                size: pathway.size,
            };
            frame.read_images(images, padding, window.permuted_axes([3, 0, 1, 2]));
        }
        out.into_raw_vec_and_offset().0
    }

    #[expect(clippy::too_many_arguments, reason = "an inner loop; every argument is a coordinate")]
    pub(super) fn add_window(
        &self,
        window: &[f32],
        place: [i64; 3],
        shape: [usize; 3],
        flip: [bool; 3],
        share: f32,
        first: usize,
        band: &mut [f32],
    ) {
        let [px, py, pz] = self.patch;
        let classes = self.classes;
        let [wx, wy, wz] = &self.weighting;
        for x in 0..px {
            let target = |axis: usize, i: usize| {
                usize::try_from(place[axis] + i as i64).ok().filter(|&p| p < shape[axis])
            };
            let Some(tx) = target(0, x) else { continue };
            let sx = if flip[0] { px - 1 - x } else { x };
            for y in 0..py {
                let Some(ty) = target(1, y) else { continue };
                let sy = if flip[1] { py - 1 - y } else { y };
                let source = &window[(sx * py + sy) * pz * classes..][..pz * classes];
                let base = ((tx - first) * shape[1] + ty) * shape[2];
                let weight = share * wx[x] * wy[y];
                for (z, &weight_z) in wz.iter().enumerate() {
                    let Some(tz) = target(2, z) else { continue };
                    let sz = if flip[2] { pz - 1 - z } else { z };
                    let sums = &mut band[(base + tz) * classes..][..classes];
                    for (sum, &p) in sums.iter_mut().zip(&source[sz * classes..]) {
                        *sum += weight * weight_z * p;
                    }
                }
            }
        }
    }
}

impl Segmenter for Predictor {
    fn classes(&self) -> usize {
        self.classes
    }

    fn passes(&self, shape: [usize; 3]) -> usize {
        let windows: usize = self.starts(shape).iter().map(Vec::len).product();
        windows * self.forms() * self.networks.len()
    }

    /// Windows without any voxel of the sample's mask are not computed and come out as background.
    fn predict(
        &self,
        sample: &Sample,
        planes: &mut dyn FnMut(ArrayView4<f32>),
        advance: &mut dyn FnMut(usize),
    ) {
        let images = sample.images.view();
        let mask = sample.mask.as_ref().map(|mask| mask.view());
        let (channels, nx, ny, nz) = images.dim();
        assert_eq!(channels, self.channels, "channels of the sample and the network");
        let shape = [nx, ny, nz];
        let starts = self.starts(shape);
        let padding = self.padding(images);
        let scan = self.views.as_ref().map(|views| self.scan(images, mask, views.need_image()));
        let row = ny * nz * self.classes;
        // Planes `done..done + band.len() / row` of weighted probability sums, (x, y, z, class).
        let mut band: Vec<f32> = Vec::new();
        let mut done = 0;
        for (i, &x) in starts[0].iter().enumerate() {
            let needed = ((x + self.patch[0] as i64).min(nx as i64) as usize - done) * row;
            band.resize(needed.max(band.len()), 0.0);
            let places: Vec<[i64; 3]> =
                starts[1].iter().flat_map(|&y| starts[2].iter().map(move |&z| [x, y, z])).collect();
            let (wanted, skipped): (Vec<_>, Vec<_>) =
                places.into_iter().partition(|&place| mask.is_none_or(|mask| self.touches(mask, place)));
            for group in wanted.chunks(self.options.batch.max(1)) {
                match (&scan, &self.views) {
                    (Some(scan), Some(views)) => {
                        self.add_views(scan, views, group, done, &mut band, advance);
                    }
                    _ => self.add_group(images, &padding, group, done, &mut band, advance),
                }
            }
            if !skipped.is_empty() {
                let passes = self.passes(self.patch) * skipped.len();
                advance(passes);
            }
            let next = starts[0].get(i + 1).map_or(nx, |&next| next as usize);
            let ready = next - done;
            self.finish(&mut band[..ready * row]);
            let view = ArrayView4::from_shape((ready, ny, nz, self.classes), &band[..ready * row]);
            match view {
                Ok(view) => planes(view.permuted_axes([3, 0, 1, 2])),
                Err(error) => unreachable!("the band is contiguous: {error}"),
            }
            band.drain(..ready * row);
            done = next;
        }
    }
}

/// Gives every voxel's classes (class last) the values of their `sources`.
fn exchange(probabilities: &mut [f32], sources: &[usize]) {
    let mut voxel = vec![0.0; sources.len()];
    for values in probabilities.chunks_exact_mut(sources.len()) {
        voxel.copy_from_slice(values);
        values.iter_mut().zip(sources).for_each(|(value, &source)| *value = voxel[source]);
    }
}

/// Multiplies the probabilities of a voxel by odds and brings their sum back to what it was.
pub(super) fn tilt(voxel: &mut [f32], odds: &[f32]) {
    let before: f32 = voxel.iter().sum();
    voxel.iter_mut().zip(odds).for_each(|(p, odds)| *p *= odds);
    let after: f32 = voxel.iter().sum();
    if after > 0.0 {
        voxel.iter_mut().for_each(|p| *p *= before / after);
    }
}
