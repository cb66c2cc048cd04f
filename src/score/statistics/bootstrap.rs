//! The two-level bootstrap.

use rand::RngExt;

use super::quantile;
use crate::rng::generator;

/// A mean and the range that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Mean of the values.
    pub mean: f64,
    /// 2.5 % quantile of the bootstrap means.
    pub low: f64,
    /// 97.5 % quantile of the bootstrap means.
    pub high: f64,
}

/// Mean over seeds and cases with its 95 % bootstrap interval. `values[seed][case]`, where `None` is undefined
/// and left out; every seed lists the same cases in the same order. `None` where no value is defined.
///
/// Each of `draws` replicates draws seeds with replacement, then cases with replacement, and takes the mean of
/// what is defined. The seeds were scored on the same cases, so one draw of cases serves all seeds of a
/// replicate: a scan counts as one observation however many networks saw it. Draws depend on `seed` alone.
///
/// Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
pub fn bootstrap_mean(values: &[Vec<Option<f64>>], draws: usize, seed: u64) -> Option<Interval> {
    let cases = values.first().map_or(0, Vec::len);
    assert!(values.iter().all(|row| row.len() == cases), "every seed lists the same cases");
    let mean_of = |seeds: &[usize], cases: &[usize]| {
        let (mut sum, mut count) = (0.0, 0u64);
        for &s in seeds {
            for value in cases.iter().filter_map(|&c| values[s][c]) {
                sum += value;
                count += 1;
            }
        }
        (count > 0).then(|| sum / count as f64)
    };
    let all = |n: usize| (0..n).collect::<Vec<_>>();
    let mean = mean_of(&all(values.len()), &all(cases))?;
    let mut random = generator(seed, &["bootstrap"]);
    let mut means = Vec::with_capacity(draws);
    let (mut drawn_seeds, mut drawn_cases) = (all(values.len()), all(cases));
    for _ in 0..draws {
        drawn_seeds.iter_mut().for_each(|s| *s = random.random_range(0..values.len()));
        drawn_cases.iter_mut().for_each(|c| *c = random.random_range(0..cases));
        means.extend(mean_of(&drawn_seeds, &drawn_cases));
    }
    if means.is_empty() {
        return Some(Interval { mean, low: mean, high: mean });
    }
    means.sort_unstable_by(f64::total_cmp);
    Some(Interval { mean, low: quantile(&means, 0.025), high: quantile(&means, 0.975) })
}
