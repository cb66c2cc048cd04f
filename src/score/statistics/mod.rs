//! Statistics of comparisons: how sure a mean is, whether two methods differ, how far two samples lie apart.
//!
//! Pure functions in `f64`. What is random is seeded. Tests compare with SciPy.

mod bootstrap;
mod rank;
mod wilcoxon;

pub use bootstrap::{Interval, bootstrap_mean};
pub use rank::spearman;
pub use wilcoxon::{SignedRank, wilcoxon_signed_rank};

/// Holm's step-down correction: p values adjusted so that comparing each with a level bounds the chance of any
/// false finding among all of them. In the order given; values in [0, 1].
///
/// Reference: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 1979.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut highest = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        highest = highest.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = highest;
    }
    adjusted
}

/// First Wasserstein distance of two samples: the area between their distribution functions, in the unit of the
/// values. 0 where one is empty. Equals `scipy.stats.wasserstein_distance`.
pub fn wasserstein(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut i, mut j) = (0, 0);
    let (mut area, mut at) = (0.0, a[0].min(b[0]));
    while i < a.len() || j < b.len() {
        let next = match (a.get(i), b.get(j)) {
            (Some(&x), Some(&y)) => x.min(y),
            (Some(&x), None) => x,
            (None, Some(&y)) => y,
            (None, None) => break,
        };
        let gap = (i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs();
        area += gap * (next - at);
        at = next;
        i += a[i..].iter().take_while(|&&x| x <= next).count();
        j += b[j..].iter().take_while(|&&y| y <= next).count();
    }
    area
}

/// The `q` quantile (0 to 1) of sorted values, linear between neighbours, as NumPy's default.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}
