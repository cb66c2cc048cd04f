//! Mixup and asymmetric mixup: convex combinations of pairs of patches.

use rand::seq::SliceRandom;
use rand_distr::{Beta, Distribution};
use segen_kernels::{IGNORED, UNLABELLED};

use super::PassGradient;
use crate::batch::{Batch, Mixture};
use crate::config::method::Mode;
use crate::config::published::Partner;
use crate::learn::method::Method;
use crate::learn::objective::Objective;
use crate::network::Weights;
use crate::prepare::IGNORE;
use crate::{Error, Result};

/// Loss and gradient on the mixed batch, and the share of the first patches.
///
/// # Errors
/// Where a number is not finite.
pub(super) fn gradient(
    objective: &Objective<'_>,
    method: &Method,
    weights: &Weights,
    batch: &Batch,
) -> Result<PassGradient> {
    let mixture = mix(method, batch, objective.seed)?;
    let gradient = objective.gradient(weights, &mixture.batch)?;
    Ok(PassGradient { gradient, numbers: vec![("share", mixture.share)] })
}

/// Refuses batches in which no patch has a partner.
pub(super) fn check(batch: usize) -> Result<()> {
    if batch >= 2 {
        return Ok(());
    }
    Err(Error::config(
        "method.mixup",
        "mixup needs two patches in a batch, and there is one",
        "set `plan.batch` to 2 or more, or turn mixup off",
    ))
}

/// A mixed batch and the share of the first patch of each pair.
#[derive(Clone, Debug)]
pub struct MixedBatch {
    /// The batch.
    pub batch: Batch,
    /// The share; one for the batch.
    pub share: f64,
}

/// Mixes a batch with itself. Share and pairs depend on (seed, the batch's step) alone.
///
/// # Errors
/// Where `alpha` is not above 0.
pub fn mix(method: &Method, batch: &Batch, seed: u64) -> Result<MixedBatch> {
    let mixup = &method.config.mixup;
    let mut random = crate::rng::generator(seed, &["mixup", &batch.step.to_string()]);
    let beta = Beta::new(mixup.alpha, mixup.alpha).map_err(|_| {
        Error::config("method.mixup.alpha", format!("{} is not above 0", mixup.alpha), "1 or 0.2 is usual")
    })?;
    let drawn: f64 = beta.sample(&mut random);
    let samples = batch.label_shape[0];
    let mut partners: Vec<usize> = (0..samples).collect();
    match method.conventions.partner {
        Partner::Permutation => partners.shuffle(&mut random),
        Partner::Flip => partners.reverse(),
    }
    let share = match mixup.mode {
        Mode::Asymmetric => drawn * (1.0 - mixup.margin),
        Mode::Off | Mode::Symmetric => drawn,
    };
    Ok(MixedBatch { batch: combine(method, batch, &partners, share), share })
}

/// `share` of every patch plus the rest of its partner's.
pub fn combine(method: &Method, batch: &Batch, partners: &[usize], share: f64) -> Batch {
    let mut mixed = batch.clone();
    let (first, second) = (share as f32, (1.0 - share) as f32);
    for (input, plain) in mixed.inputs.iter_mut().zip(&batch.inputs) {
        let length = plain.values.len() / partners.len();
        for (values, &partner) in input.values.chunks_exact_mut(length).zip(partners) {
            let other = &plain.values[partner * length..][..length];
            values.iter_mut().zip(other).for_each(|(v, o)| *v = first * *v + second * o);
        }
    }
    let voxels = batch.labels.len() / partners.len();
    let mut other = Vec::with_capacity(batch.labels.len());
    for &partner in partners {
        other.extend_from_slice(&batch.labels[partner * voxels..][..voxels]);
    }
    match method.config.mixup.mode {
        Mode::Asymmetric => {
            let margin = method.config.mixup.margin;
            for (label, other) in mixed.labels.iter_mut().zip(other) {
                *label = label_of_mixture([*label, other], share, margin, &method.rare);
            }
        }
        Mode::Off | Mode::Symmetric => mixed.mixture = Some(Mixture { labels: other, share: first }),
    }
    mixed
}

/// The asymmetric rule: the label of a voxel that is `share` of the first class and the rest of the second.
///
/// Voxels that agree keep their class. Where exactly one of the two is rare and has more than `margin` of the
/// voxel, the voxel has that class. All others have no label ([`UNLABELLED`]): they count in the mean of the
/// cross-entropy and have no other part in the loss. A voxel that either patch ignores stays ignored.
pub fn label_of_mixture([a, b]: [u8; 2], share: f64, margin: f64, rare: &[bool]) -> u8 {
    if a == IGNORE || b == IGNORE {
        return IGNORED as u8;
    }
    if a == b {
        return a;
    }
    // Written with `1 - margin` on the other side, as the share is scaled by it.
    match (rare[usize::from(a)], rare[usize::from(b)]) {
        (false, true) if share < 1.0 - margin => b,
        (true, false) if 1.0 - share < 1.0 - margin => a,
        _ => UNLABELLED as u8,
    }
}
