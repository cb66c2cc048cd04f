//! Drawing from `softmax(logits)` by perturbed logits, and the derivative of what was drawn.
//!
//! With independent g_j = -log(-log u_j), `argmax_j (logit_j + g_j)` has the distribution `softmax(logits)`
//! (Gumbel 1954; Maddison et al. 2014). The derivative goes through `y = softmax(logits + g)` ("straight-through",
//! Jang et al. 2017): the weight of a sample that drew i is numerically 1 and has the derivative
//! `y_i (delta_ij - y_j)` with respect to logit j.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// `exp(logits)` normalised to sum 1.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// `log(sum of exp(logits))`.
pub fn log_sum_exp(logits: &[f64]) -> f64 {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest + logits.iter().map(|logit| (logit - highest).exp()).sum::<f64>().ln()
}

/// A standard Gumbel number.
pub fn gumbel(random: &mut ChaCha8Rng) -> f64 {
    -(-open_unit(random).ln()).ln()
}

/// Index of the highest score; the first of equal ones.
pub fn highest(scores: &[f64]) -> usize {
    (0..scores.len()).fold(0, |best, index| if scores[index] > scores[best] { index } else { best })
}

/// Draws an index with the probabilities `softmax(logits)`.
pub fn sample(logits: &[f64], random: &mut ChaCha8Rng) -> usize {
    let scores: Vec<f64> = logits.iter().map(|logit| logit + gumbel(random)).collect();
    highest(&scores)
}

/// Perturbed logits given that `chosen` was drawn from them: the exact conditional distribution, without
/// rejection. Also where the logits have moved since the draw (the policy is then taken as it is now).
///
/// The highest score is Z = log_sum_exp(logits) + Gumbel; every other is a Gumbel number about its logit, cut
/// off at Z: `-log(exp(-Z) - exp(-logit_j) log u_j)`.
pub fn conditional(logits: &[f64], chosen: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let top = log_sum_exp(logits) + gumbel(random);
    let score = |(index, logit): (usize, &f64)| {
        // A number is drawn for each, so that the stream does not depend on the choice.
        let below = -open_unit(random).ln();
        if index == chosen {
            return top;
        }
        // -log(exp(-Z) + exp(-logit) * below), without overflow of either power.
        -log_sum_exp(&[-top, below.ln() - logit])
    };
    logits.iter().enumerate().map(score).collect()
}

/// Derivative of the straight-through weight of a sample that drew `chosen`, with respect to each logit, at the
/// given perturbed logits (temperature 1). It sums to 0.
pub fn straight_through(scores: &[f64], chosen: usize) -> Vec<f64> {
    let y = softmax(scores);
    let own = y[chosen];
    (0..y.len()).map(|j| own * (f64::from(u8::from(j == chosen)) - y[j])).collect()
}

/// Derivative of `log softmax(logits)[chosen]` with respect to each logit. It sums to 0.
pub fn score_function(logits: &[f64], chosen: usize) -> Vec<f64> {
    let p = softmax(logits);
    (0..p.len()).map(|j| f64::from(u8::from(j == chosen)) - p[j]).collect()
}

/// A uniform number above 0 and below 1.
fn open_unit(random: &mut ChaCha8Rng) -> f64 {
    loop {
        let u: f64 = random.random();
        if u > 0.0 {
            return u;
        }
    }
}
