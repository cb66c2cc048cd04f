//! Softmax and the sums of which segmentation losses are made.

use super::buffer::{Buffer, Shared};
use super::simd::vectorise;
use crate::settings::Settings;
use crate::voxel_loss::{IGNORED, UNLABELLED, VoxelLoss};

/// Sizes: logits (batch, voxels, classes), labels (batch, voxels), sums (batch, [`Self::columns`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(crate) batch: usize,
    pub(crate) voxels: usize,
    pub(crate) classes: usize,
}

/// What the voxels show: one class each, or, where `second` is there, `share` of the first and the rest of the
/// second.
#[derive(Clone, Debug)]
pub(crate) struct Labels {
    pub(crate) first: Vec<u8>,
    pub(crate) second: Option<Vec<u8>>,
    pub(crate) share: f32,
}

/// The label of one voxel.
enum Label {
    Ignored,
    Unlabelled,
    One(usize),
    /// Shares `Labels::share` and the rest.
    Two(usize, usize),
}

impl Labels {
    #[inline(always)]
    fn at(&self, voxel: usize) -> Label {
        let first = usize::from(self.first[voxel]);
        let second = self.second.as_ref().map_or(first, |second| usize::from(second[voxel]));
        if first == IGNORED || second == IGNORED {
            Label::Ignored
        } else if first == UNLABELLED || second == UNLABELLED {
            Label::Unlabelled
        } else if first == second {
            Label::One(first)
        } else {
            Label::Two(first, second)
        }
    }
}

/// A [`VoxelLoss`] with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    margin: Option<Vec<f32>>,
    focal: Option<Vec<f32>>,
    weight: Vec<f32>,
    epsilon: f32,
}

impl Rule {
    pub(crate) fn new(loss: &VoxelLoss, classes: usize) -> Self {
        let used = |values: &Vec<f32>| values.iter().any(|v| *v != 0.0).then(|| values.clone());
        Self {
            margin: used(&loss.margin),
            focal: used(&loss.focal),
            weight: if loss.weight.is_empty() { vec![1.0; classes] } else { loss.weight.clone() },
            epsilon: loss.epsilon,
        }
    }

    /// Takes the margins off the logits of the classes that a voxel shows.
    #[inline(always)]
    fn take_margins(&self, label: &Label, share: f32, logits: &mut [f32]) {
        let Some(margin) = &self.margin else { return };
        match *label {
            Label::One(class) => logits[class] -= margin[class],
            Label::Two(a, b) => {
                logits[a] -= margin[a] * share;
                logits[b] -= margin[b] * (1.0 - share);
            }
            Label::Ignored | Label::Unlabelled => {}
        }
    }

    /// Attenuation of a class whose probability is `1 - rest`, and its derivative with respect to the probability.
    #[inline(always)]
    fn attenuation(&self, class: usize, rest: f32) -> (f32, f32) {
        let exponent = self.focal.as_ref().map_or(0.0, |focal| focal[class]);
        if exponent == 0.0 {
            return (1.0, 0.0);
        }
        let base = rest + self.epsilon;
        // Below 1 the slope of the power has a pole at 0, which `q log q` and `1 - q` outweigh: there is no part left.
        if exponent < 1.0 && base < f32::MIN_POSITIVE {
            return (0.0, 0.0);
        }
        let slope = if exponent == 1.0 { 1.0 } else { base.powf(exponent - 1.0) };
        (slope * base, -exponent * slope)
    }
}

/// Voxels per chunk of a sum: fixed, so that results do not depend on the number of threads.
const CHUNK: usize = 8192;

impl Sums {
    pub(crate) fn columns(&self) -> usize {
        2 + 4 * self.classes
    }

    fn chunks(&self) -> usize {
        self.voxels.div_ceil(CHUNK)
    }

    /// Returns the sums and the probabilities after the margin, of which the gradient is made.
    pub(crate) fn forward(
        &self,
        settings: &Settings,
        logits: &[f32],
        labels: &Labels,
        rule: &Rule,
    ) -> (Vec<f32>, Buffer) {
        let (classes, columns, chunks) = (self.classes, self.columns(), self.chunks());
        let mut probabilities = Buffer::new(logits.len());
        let shared = Shared::new(&mut probabilities);
        let mut partial = vec![0.0_f64; self.batch * chunks * columns];
        let shared_partial = Shared::new(&mut partial);
        settings.parallel(self.batch * chunks, |index| {
            let (n, chunk) = (index / chunks, index % chunks);
            let first = n * self.voxels + chunk * CHUNK;
            let count = CHUNK.min(self.voxels - chunk * CHUNK);
            let mut sums = vec![0.0_f64; columns];
            // SAFETY: the chunks do not overlap.
            let p = unsafe { shared.part(first * classes, count * classes) };
            vectorise(settings.path(), || {
                for (voxel, p) in p.chunks_exact_mut(classes).enumerate() {
                    p.copy_from_slice(&logits[(first + voxel) * classes..][..classes]);
                    self.add_voxel(rule, (labels.at(first + voxel), labels.share), p, &mut sums);
                }
            });
            // Without attenuation the last columns are the plain FN.
            if rule.focal.is_none() {
                sums.copy_within(1 + 2 * classes..1 + 3 * classes, 2 + 3 * classes);
            }
            // SAFETY: every chunk has its own part.
            unsafe { shared_partial.part(index * columns, columns) }.copy_from_slice(&sums);
        });
        let mut sums = vec![0.0_f64; self.batch * columns];
        for (index, chunk) in partial.chunks_exact(columns).enumerate() {
            for (sum, value) in sums[index / chunks * columns..].iter_mut().zip(chunk) {
                *sum += value;
            }
        }
        (sums.into_iter().map(|sum| sum as f32).collect(), probabilities)
    }

    /// Adds one voxel to the sums and makes `p`, its logits, the probabilities after the margin.
    #[inline(always)]
    fn add_voxel(&self, rule: &Rule, (label, share): (Label, f32), p: &mut [f32], sums: &mut [f64]) {
        let classes = self.classes;
        rule.take_margins(&label, share, p);
        // The logits of the classes shown, before they become probabilities. A class that is shown alone is both.
        let (shown, share) = match label {
            Label::Ignored => {
                softmax_in_place(p);
                return;
            }
            Label::Unlabelled => {
                softmax_in_place(p);
                sums[1 + 3 * classes] += 1.0;
                return;
            }
            Label::One(class) => ([(class, p[class]), (class, p[class])], 1.0),
            Label::Two(a, b) => ([(a, p[a]), (b, p[b])], share),
        };
        let log_sum = softmax_in_place(p);
        sums[1 + 3 * classes] += 1.0;
        let [(a, _), (b, _)] = shown;
        // Classes that are not shown are FP and nothing else.
        for (c, p) in p.iter().enumerate() {
            if c != a && c != b {
                sums[1 + classes + c] += f64::from(*p);
            }
        }
        let entries = if a == b { &shown[..1] } else { &shown[..] };
        for (entry, &(class, logit)) in entries.iter().enumerate() {
            let y = f64::from(if entry == 0 { share } else { 1.0 - share });
            let q = f64::from(p[class]);
            // The logarithm of a probability that is 0 in f32 is still known from the logit.
            let log = match rule.epsilon {
                0.0 => f64::from(logit) - f64::from(log_sum),
                epsilon => (q + f64::from(epsilon)).ln(),
            };
            let mut attenuation = 1.0;
            if rule.focal.is_some() {
                attenuation = f64::from(rule.attenuation(class, others(p, class)).0);
                sums[2 + 3 * classes + class] += (1.0 - q) * y * attenuation;
            }
            sums[0] -= f64::from(rule.weight[class]) * y * attenuation * log;
            sums[1 + class] += q * y;
            sums[1 + classes + class] += q * (1.0 - y);
            sums[1 + 2 * classes + class] += (1.0 - q) * y;
        }
    }

    /// Gradient of the logits, from the probabilities and the gradient of the sums.
    pub(crate) fn backward(
        &self,
        settings: &Settings,
        probabilities: &[f32],
        labels: &Labels,
        rule: &Rule,
        gradient: &[f32],
    ) -> Buffer {
        let (classes, columns, chunks) = (self.classes, self.columns(), self.chunks());
        let mut out = Buffer::new(probabilities.len());
        let shared = Shared::new(&mut out);
        settings.parallel(self.batch * chunks, |index| {
            let (n, chunk) = (index / chunks, index % chunks);
            let first = n * self.voxels + chunk * CHUNK;
            let count = CHUNK.min(self.voxels - chunk * CHUNK);
            let gradient = &gradient[n * columns..][..columns];
            let slopes = Slopes::of(gradient, classes);
            // SAFETY: the chunks do not overlap.
            let out = unsafe { shared.part(first * classes, count * classes) };
            vectorise(settings.path(), || {
                for (voxel, out) in out.chunks_exact_mut(classes).enumerate() {
                    let p = &probabilities[(first + voxel) * classes..][..classes];
                    let label = labels.at(first + voxel);
                    if matches!(label, Label::Ignored | Label::Unlabelled) {
                        out.fill(0.0);
                        continue;
                    }
                    // q times the derivative with respect to every probability q, then through the softmax.
                    for ((out, p), slope) in out.iter_mut().zip(p).zip(slopes.false_positive) {
                        *out = p * slope;
                    }
                    match label {
                        Label::One(class) => out[class] = slopes.shown(rule, p, class, 1.0),
                        Label::Two(a, b) => {
                            out[a] = slopes.shown(rule, p, a, labels.share);
                            out[b] = slopes.shown(rule, p, b, 1.0 - labels.share);
                        }
                        Label::Ignored | Label::Unlabelled => {}
                    }
                    let sum: f32 = out.iter().sum();
                    for (out, p) in out.iter_mut().zip(p) {
                        *out -= p * sum;
                    }
                }
            });
        });
        out
    }
}

/// The gradient of one sample's sums.
struct Slopes<'a> {
    cross_entropy: f32,
    true_positive: &'a [f32],
    false_positive: &'a [f32],
    false_negative: &'a [f32],
    attenuated_false_negative: &'a [f32],
}

impl<'a> Slopes<'a> {
    fn of(gradient: &'a [f32], classes: usize) -> Self {
        let (true_positive, rest) = gradient[1..].split_at(classes);
        let (false_positive, rest) = rest.split_at(classes);
        let (false_negative, rest) = rest.split_at(classes);
        Self {
            cross_entropy: gradient[0],
            true_positive,
            false_positive,
            false_negative,
            attenuated_false_negative: &rest[1..],
        }
    }

    /// q times the derivative with respect to q, for a class that is the share `y` of the label.
    #[inline(always)]
    fn shown(&self, rule: &Rule, p: &[f32], class: usize, y: f32) -> f32 {
        let q = p[class];
        let mut counts = y * (self.true_positive[class] - self.false_negative[class])
            + (1.0 - y) * self.false_positive[class];
        let mut entropy = if rule.epsilon == 0.0 { 1.0 } else { q / (q + rule.epsilon) };
        if rule.focal.is_some() {
            let rest = others(p, class);
            let (attenuation, slope) = rule.attenuation(class, rest);
            counts += y * self.attenuated_false_negative[class] * (rest * slope - attenuation);
            // The limit of q log q is 0; near q = 1 the logarithm is taken of what is left of 1.
            let log = match q + rule.epsilon {
                0.0 => 0.0,
                sum if sum < 0.5 => sum.ln(),
                _ => (rule.epsilon - rest).ln_1p(),
            };
            entropy = attenuation * entropy + slope * q * log;
        } else {
            counts -= y * self.attenuated_false_negative[class];
        }
        q * counts - self.cross_entropy * rule.weight[class] * y * entropy
    }
}

/// 1 - p of a class without the loss of digits near p = 1.
#[inline(always)]
fn others(p: &[f32], class: usize) -> f32 {
    p.iter().enumerate().filter(|(c, _)| *c != class).map(|(_, p)| p).sum()
}

/// Softmax of every run of `classes` values.
pub(crate) fn softmax(settings: &Settings, logits: &[f32], classes: usize) -> Buffer {
    let mut out = Buffer::new(logits.len());
    let shared = Shared::new(&mut out);
    let voxels = logits.len() / classes.max(1);
    settings.parallel(voxels.div_ceil(CHUNK), |chunk| {
        let first = chunk * CHUNK * classes;
        let length = CHUNK.min(voxels - chunk * CHUNK) * classes;
        // SAFETY: the chunks do not overlap.
        let out = unsafe { shared.part(first, length) };
        vectorise(settings.path(), || {
            out.copy_from_slice(&logits[first..first + length]);
            for p in out.chunks_exact_mut(classes) {
                softmax_in_place(p);
            }
        });
    });
    out
}

/// Makes the logits of one voxel their softmax; returns log(sum(exp(logits))).
#[inline(always)]
fn softmax_in_place(p: &mut [f32]) -> f32 {
    let largest = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for p in p.iter_mut() {
        *p = (*p - largest).exp();
        sum += *p;
    }
    for p in p.iter_mut() {
        *p /= sum;
    }
    largest + sum.ln()
}
