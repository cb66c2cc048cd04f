//! From a fingerprint to a plan.

use super::cost::{activation_bytes, seconds};
use super::topology::{BASE_FEATURES, Fit, MemoryRule, SMALLEST_BATCH, Topology};
use super::{Budget, CpuBudget, Fingerprint, Normalisation, Plan, describe, label_entries, rounded};
use crate::config::{DiceReduction, Scheme};
use crate::data::dataset::Dataset;
use crate::image::resample::{ANISOTROPY, resampled_shape};
use crate::network::{NetworkShape, Shape};
use crate::{Error, Result};

/// Crops that keep less than this share of the volume are normalised inside the non-zero voxels only.
const CROPPED_SHARE: f64 = 0.75;
/// A patch below this share of the median case makes nnU-Net add a low-resolution network.
const LOW_RESOLUTION_SHARE: f64 = 0.25;
/// What a processor budget may reduce the features of the first stage to. Fewer take as long: the kernels work on
/// 16 at once.
const REDUCED_FEATURES: usize = 16;
/// Edges below which a processor budget does not shrink the patch.
const SMALLEST_EDGE: usize = 24;

impl Plan {
    /// Decides everything from the measurements. Without a processor budget the numbers are nnU-Net's.
    ///
    /// # Errors
    /// Where the fingerprint is empty, a spacing is not positive, or the memory is too small for any patch.
    pub fn decide(dataset: &Dataset, fingerprint: Fingerprint, budget: &Budget) -> Result<Self> {
        check(&fingerprint)?;
        let target = target_spacing(&fingerprint);
        let order = planner_order(target.spacing);
        let into = |triple: [f64; 3]| order.map(|axis| triple[axis]);
        let median = median_shape(&fingerprint, target.spacing);
        let rule = MemoryRule {
            spacing: into(target.spacing),
            median: into(median),
            total_voxels: volume(into(median)) * fingerprint.shapes.len() as f64,
            classes: label_entries(dataset),
            memory_bytes: budget.memory_bytes,
        };
        let full = rule.fit().ok_or_else(|| {
            Error::config(
                "memory",
                format!("{} bytes hold no patch of this data set", budget.memory_bytes),
                "allow more, for example `--memory 8G`",
            )
        })?;
        let coarse = low_resolution_wanted(&rule, &full);
        let (channels, classes) = (dataset.channels.len(), dataset.labels.classes());
        let reduced = fit_processor(&rule, &full, budget.cpu, channels, classes);

        let mut unet = reduced.fit.topology.unet(reduced.base);
        for triple in unet.strides.iter_mut().chain(&mut unet.kernels) {
            *triple = out_of(order, *triple);
        }
        let normalisation = normalisation(dataset, &fingerprint);
        let mut plan = Self {
            axis_order: "RAS+ x y z".to_owned(),
            dataset: dataset.name.clone(),
            spacing: target.spacing,
            patch: out_of(order, reduced.fit.topology.patch),
            batch: reduced.fit.batch,
            channels,
            channel_names: dataset.channels.clone(),
            classes,
            normalisation,
            dice: if coarse { DiceReduction::Batch } else { DiceReduction::Sample },
            shape: Shape::UNet(unet.clone()),
            reasons: Vec::new(),
            fingerprint,
        };
        let full = describe::Full {
            patch: out_of(order, full.topology.patch),
            batch: full.batch,
            base: BASE_FEATURES,
            median,
        };
        plan.reasons = describe::reasons(&plan, &unet, dataset, budget, &full, target.thick_axis);
        Ok(plan)
    }
}

struct Target {
    spacing: [f64; 3],
    /// The axis whose spacing is the 10th percentile instead of the median.
    thick_axis: Option<usize>,
}

fn check(fingerprint: &Fingerprint) -> Result<()> {
    if fingerprint.spacings.is_empty() || fingerprint.spacings.len() != fingerprint.shapes.len() {
        return Err(Error::config(
            "fingerprint",
            format!("{} spacings and {} shapes", fingerprint.spacings.len(), fingerprint.shapes.len()),
            "a data set needs at least one training case; look with `segen check`",
        ));
    }
    match fingerprint.spacings.iter().flatten().find(|s| !(s.is_finite() && **s > 0.0)) {
        None => Ok(()),
        Some(spacing) => Err(Error::config(
            "fingerprint.spacings",
            format!("a spacing of {spacing} millimetres"),
            "fix the header of that image; `segen check` names it",
        )),
    }
}

/// Median spacing; on one axis that is much coarser than the others and has few slices, the 10th percentile, so
/// that cases with thinner slices keep them.
fn target_spacing(fingerprint: &Fingerprint) -> Target {
    let mut spacing =
        std::array::from_fn(|axis| percentile(fingerprint.spacings.iter().map(|s| s[axis]), 50.0));
    let size: [f64; 3] =
        std::array::from_fn(|axis| percentile(fingerprint.shapes.iter().map(|s| s[axis] as f64), 50.0));
    let coarsest = planner_order(spacing)[0];
    let others = (0..3).filter(|&axis| axis != coarsest);
    let coarsest_other = others.clone().map(|axis| spacing[axis]).fold(0.0, f64::max);
    let smallest_other = others.map(|axis| size[axis]).fold(f64::INFINITY, f64::min);
    let few_slices = size[coarsest] * ANISOTROPY < smallest_other;
    if !(spacing[coarsest] > ANISOTROPY * coarsest_other && few_slices) {
        return Target { spacing: spacing.map(rounded), thick_axis: None };
    }
    let thin = percentile(fingerprint.spacings.iter().map(|s| s[coarsest]), 10.0);
    spacing[coarsest] = if thin < coarsest_other { coarsest_other + 1e-5 } else { thin };
    Target { spacing: spacing.map(rounded), thick_axis: Some(coarsest) }
}

/// Median over the cases of their shapes at the target spacing.
fn median_shape(fingerprint: &Fingerprint, spacing: [f64; 3]) -> [f64; 3] {
    let shapes: Vec<[usize; 3]> = fingerprint
        .spacings
        .iter()
        .zip(&fingerprint.shapes)
        .map(|(&from, &shape)| resampled_shape(shape, from, spacing))
        .collect();
    std::array::from_fn(|axis| percentile(shapes.iter().map(|s| s[axis] as f64), 50.0))
}

/// The order in which the planner looks at the axes, which settles what is equal: the coarsest first, then z, y,
/// x. `order[k]` is our axis.
fn planner_order(spacing: [f64; 3]) -> [usize; 3] {
    let mut order = [2, 1, 0];
    let coarsest = (1..3).fold(0, |best, k| if spacing[order[k]] > spacing[order[best]] { k } else { best });
    order[..=coarsest].rotate_right(1);
    order
}

fn out_of<T: Copy + Default>(order: [usize; 3], triple: [T; 3]) -> [T; 3] {
    let mut result = [T::default(); 3];
    for (axis, value) in order.into_iter().zip(triple) {
        result[axis] = value;
    }
    result
}

/// As the names of the channels say, by nnU-Net's rule.
fn normalisation(dataset: &Dataset, fingerprint: &Fingerprint) -> Vec<Normalisation> {
    let scheme = |name: &String| match name.to_lowercase().as_str() {
        "ct" => Scheme::Ct,
        "nonorm" => Scheme::None,
        "rescale_to_0_1" => Scheme::Rescale,
        "rgb_to_0_1" => Scheme::Rgb,
        _ => Scheme::ZScore,
    };
    let channels = dataset.channels.iter().map(scheme).enumerate();
    channels.map(|(channel, scheme)| normalisation_by(scheme, channel, fingerprint)).collect()
}

/// A scheme with the numbers that were measured for a channel.
pub(super) fn normalisation_by(scheme: Scheme, channel: usize, fingerprint: &Fingerprint) -> Normalisation {
    match scheme {
        Scheme::Ct => {
            let values = &fingerprint.intensities[channel];
            Normalisation::Ct {
                lower: values.percentile_00_5,
                upper: values.percentile_99_5,
                mean: values.mean,
                std: values.std,
            }
        }
        Scheme::None => Normalisation::None,
        Scheme::Rescale => Normalisation::Rescale,
        Scheme::Rgb => Normalisation::Rgb,
        Scheme::ZScore => {
            Normalisation::ZScore { masked: fingerprint.relative_size_after_cropping < CROPPED_SHARE }
        }
    }
}

/// Whether nnU-Net would add a low-resolution network, the case in which it pools the Dice over the batch.
fn low_resolution_wanted(rule: &MemoryRule, full: &Fit) -> bool {
    const COARSER: f64 = 1.03;
    let (mut spacing, mut voxels) = (rule.spacing, volume(rule.median));
    let mut patch_voxels = full.topology.patch.iter().product::<usize>() as f64;
    while patch_voxels / voxels < LOW_RESOLUTION_SHARE {
        let largest = spacing.iter().copied().fold(0.0, f64::max);
        let fine = spacing.map(|s| largest / s > 2.0);
        for axis in 0..3 {
            if fine[axis] || fine == [false; 3] {
                spacing[axis] *= COARSER;
            }
        }
        let median: [f64; 3] =
            std::array::from_fn(|axis| rule.spacing[axis] / spacing[axis] * rule.median[axis]);
        voxels = volume(median);
        let coarser = MemoryRule { spacing, median: median.map(f64::round_ties_even), ..*rule };
        match coarser.fit() {
            Some(fit) => patch_voxels = fit.topology.patch.iter().product::<usize>() as f64,
            None => return false,
        }
    }
    voxels < volume(rule.median) && volume(rule.median) / voxels >= 2.0
}

struct Reduced {
    fit: Fit,
    base: usize,
}

/// The largest of nnU-Net's choice and its reductions whose step stays under the limit; the smallest of all where
/// none does.
fn fit_processor(rule: &MemoryRule, full: &Fit, cpu: CpuBudget, channels: usize, classes: usize) -> Reduced {
    let CpuBudget::Step { seconds: limit, gflops } = cpu else {
        return Reduced { fit: full.clone(), base: BASE_FEATURES };
    };
    let step = |topology: &Topology, base: usize, batch: usize| {
        let (unet, patch) = (topology.unet(base), topology.patch);
        let flops = unet.step_flops(patch, channels, classes);
        let bytes = activation_bytes(&unet, patch, classes);
        seconds(flops, bytes, gflops) * batch as f64
    };
    let largest_batch = |topology: &Topology, base: usize| {
        (SMALLEST_BATCH..=full.batch).rev().find(|&batch| step(topology, base, batch) <= limit)
    };
    if let Some(batch) = largest_batch(&full.topology, BASE_FEATURES) {
        return Reduced { fit: Fit { topology: full.topology.clone(), batch }, base: BASE_FEATURES };
    }
    let mut smallest = full.topology.clone();
    let mut patch = Some(smallest.clone());
    while let Some(topology) = patch {
        if let Some(batch) = largest_batch(&topology, REDUCED_FEATURES) {
            return Reduced { fit: Fit { topology, batch }, base: REDUCED_FEATURES };
        }
        patch = topology.smaller(rule.spacing, rule.median, SMALLEST_EDGE);
        smallest = topology;
    }
    Reduced { fit: Fit { topology: smallest, batch: SMALLEST_BATCH }, base: REDUCED_FEATURES }
}

fn volume(shape: [f64; 3]) -> f64 {
    shape[0] * shape[1] * shape[2]
}

/// Percentile with linear interpolation between the two neighbours, as NumPy's default.
pub(super) fn percentile(values: impl Iterator<Item = f64>, percent: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = percent / 100.0 * (sorted.len() - 1) as f64;
    let (lower, fraction) = (at.floor() as usize, at.fract());
    let (a, b) = (sorted[lower], sorted[(lower + 1).min(sorted.len() - 1)]);
    if fraction < 0.5 { a + (b - a) * fraction } else { b - (b - a) * (1.0 - fraction) }
}
