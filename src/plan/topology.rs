//! Depth, strides, kernels and patch of the U-Net from spacing, shape and memory, by nnU-Net's rules.

use crate::network::{NetworkShape, UNetShape};

/// Feature maps of the first stage before a processor budget reduces them.
pub(super) const BASE_FEATURES: usize = 32;
/// No stage has more than this many times the features of the first (320 for 32).
const FEATURE_CAP: usize = 10;
/// Convolutions in each stage of encoder and decoder.
const CONVOLUTIONS: usize = 2;
/// No axis is halved below this many voxels.
const SMALLEST_EDGE: f64 = 4.0;
/// The network that fits the reference memory with a batch of two has this many values in its feature maps.
const REFERENCE_VALUES: f64 = 560e6;
/// The reference memory, bytes.
const REFERENCE_BYTES: f64 = (8u64 << 30) as f64;
/// Batches are never smaller.
pub(super) const SMALLEST_BATCH: usize = 2;
/// A batch never covers more than this share of the data set's voxels.
const LARGEST_SHARE: f64 = 0.05;

/// How a patch of a certain shape is halved again and again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Topology {
    /// The patch, padded so that every halving comes out even.
    pub(super) patch: [usize; 3],
    pub(super) strides: Vec<[usize; 3]>,
    pub(super) kernels: Vec<[usize; 3]>,
    /// The patch's edges are multiples of these.
    divisor: [usize; 3],
}

impl Topology {
    /// Halves the finest axes first, until all are within a factor of two or as small as they may be.
    pub(super) fn new(spacing: [f64; 3], shape: [f64; 3]) -> Self {
        let (mut spacing, mut size) = (spacing, shape);
        let mut strides = vec![[1; 3]];
        let mut kernels = Vec::new();
        let mut kernel = [1; 3];
        let mut divisor = [1; 3];
        loop {
            let large: Vec<usize> = (0..3).filter(|&axis| size[axis] >= 2.0 * SMALLEST_EDGE).collect();
            let finest = large.iter().map(|&axis| spacing[axis]).fold(f64::INFINITY, f64::min);
            let halved: Vec<usize> = large.into_iter().filter(|&axis| spacing[axis] / finest < 2.0).collect();
            match halved[..] {
                [] => break,
                [axis] if size[axis] < 3.0 * SMALLEST_EDGE => break,
                _ => {}
            }
            // A kernel spans an axis from the stage on where it is no longer much coarser than the finest.
            let finest = spacing.iter().copied().fold(f64::INFINITY, f64::min);
            for axis in 0..3 {
                if spacing[axis] / finest < 2.0 {
                    kernel[axis] = 3;
                }
            }
            let mut stride = [1; 3];
            for &axis in &halved {
                stride[axis] = 2;
                divisor[axis] *= 2;
                spacing[axis] *= 2.0;
                size[axis] = (size[axis] / 2.0).ceil();
            }
            strides.push(stride);
            kernels.push(kernel);
        }
        kernels.push([3; 3]);
        let patch = std::array::from_fn(|axis| padded(shape[axis], divisor[axis]));
        Self { patch, strides, kernels, divisor }
    }

    /// The network on this topology.
    pub(super) fn unet(&self, base: usize) -> UNetShape {
        UNetShape {
            features: (0..self.strides.len()).map(|stage| (base << stage).min(FEATURE_CAP * base)).collect(),
            strides: self.strides.clone(),
            kernels: self.kernels.clone(),
            convolutions: CONVOLUTIONS,
        }
    }

    /// The next smaller patch: one step off the axis that is largest relative to the median shape, of those that
    /// keep `floor` voxels (the last of several equal ones). `None` where there is no such axis.
    pub(super) fn smaller(&self, spacing: [f64; 3], median: [f64; 3], floor: usize) -> Option<Self> {
        let mut order = [0, 1, 2];
        let ratio = |axis: usize| self.patch[axis] as f64 / median[axis];
        order.sort_by(|&a, &b| ratio(a).total_cmp(&ratio(b)));
        order.into_iter().rev().find_map(|axis| {
            let float = |patch: [usize; 3]| patch.map(|edge| edge as f64);
            // A step down may allow one halving less, and then the step can be finer: find that step first.
            let mut trial = self.patch;
            trial[axis] = trial[axis].checked_sub(self.divisor[axis]).filter(|&edge| edge > 0)?;
            let step = Self::new(spacing, float(trial)).divisor[axis];
            let mut patch = self.patch;
            patch[axis] -= step;
            (patch[axis] >= floor).then(|| Self::new(spacing, float(patch)))
        })
    }

    /// Values in the feature maps of one sample, as nnU-Net counts them to estimate memory: every convolution,
    /// every upsampling and the output. `classes` is the number of output channels.
    pub(super) fn values(&self, base: usize, classes: usize) -> f64 {
        self.unet(base).feature_values(self.patch, classes)
    }
}

/// Patch and batch that fill the memory, by nnU-Net's rule.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    pub(super) topology: Topology,
    pub(super) batch: usize,
}

/// What the rule for patch and batch looks at. Triples in the planner's axis order.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryRule {
    pub(super) spacing: [f64; 3],
    /// Median shape of the cases at that spacing.
    pub(super) median: [f64; 3],
    /// Voxels of all cases together.
    pub(super) total_voxels: f64,
    pub(super) classes: usize,
    pub(super) memory_bytes: u64,
}

impl MemoryRule {
    /// `None` where not even the smallest patch fits the memory.
    pub(super) fn fit(&self) -> Option<Fit> {
        const LARGEST_VOLUME: f64 = (256 * 256 * 256) as f64;
        let inverse = self.spacing.map(|s| 1.0 / s);
        let scale = (LARGEST_VOLUME / (inverse[0] * inverse[1] * inverse[2])).powf(1.0 / 3.0);
        let shape =
            std::array::from_fn(|axis| (inverse[axis] * scale).round_ties_even().min(self.median[axis]));
        let mut topology = Topology::new(self.spacing, shape);
        let allowed = REFERENCE_VALUES * (self.memory_bytes as f64 / REFERENCE_BYTES);
        let mut values = topology.values(BASE_FEATURES, self.classes);
        while values / SMALLEST_BATCH as f64 * 2.0 > allowed {
            topology = topology.smaller(self.spacing, self.median, 1)?;
            values = topology.values(BASE_FEATURES, self.classes);
        }
        let by_memory = (allowed / values * SMALLEST_BATCH as f64).round_ties_even() as usize;
        let voxels = topology.patch.iter().product::<usize>() as f64;
        let by_share = (self.total_voxels * LARGEST_SHARE / voxels).round_ties_even() as usize;
        Some(Fit { batch: by_memory.min(by_share).max(SMALLEST_BATCH), topology })
    }
}

fn padded(edge: f64, divisor: usize) -> usize {
    let remainder = edge % divisor as f64;
    if remainder == 0.0 { edge as usize } else { (edge + divisor as f64 - remainder) as usize }
}
