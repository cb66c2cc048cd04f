//! Wilcoxon's signed-rank test of paired differences.

use super::rank::ranks;

/// Result of the test.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct SignedRank {
    /// The smaller of the rank sums of positive and negative differences.
    pub statistic: f64,
    /// Two-sided p value.
    pub p: f64,
    /// Differences that are not zero.
    pub n: usize,
}

/// Differences beyond which the normal approximation is used.
const EXACT_UP_TO: usize = 50;
/// With ties or zeros the exact distribution is used up to here.
const EXACT_WITH_TIES_UP_TO: usize = 13;

/// Two-sided Wilcoxon signed-rank test that paired `differences` are symmetric about zero. Zeros are dropped. The
/// null distribution is exact for up to 50 differences without ties and zeros, or 13 with; beyond that normal,
/// corrected for ties, without continuity correction. These are the defaults of `scipy.stats.wilcoxon` 1.17.
/// `None` where no difference is left.
///
/// Reference: Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1945.
pub fn wilcoxon_signed_rank(differences: &[f64]) -> Option<SignedRank> {
    let kept: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0 && !d.is_nan()).collect();
    let n = kept.len();
    if n == 0 {
        return None;
    }
    let sizes: Vec<f64> = kept.iter().map(|d| d.abs()).collect();
    let (ranks, groups) = ranks(&sizes);
    let positive: f64 = kept.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();
    let total = 0.5 * (n * (n + 1)) as f64;
    let plain = n == differences.len() && groups.iter().all(|&size| size == 1);
    let exact = if plain { n <= EXACT_UP_TO } else { differences.len() <= EXACT_WITH_TIES_UP_TO };
    let p = if exact { exact_p(&ranks, positive) } else { normal_p(n, &groups, positive) };
    Some(SignedRank { statistic: positive.min(total - positive), p, n })
}

/// Twice the smaller tail over all 2^n ways to give signs to the ranks. Ranks are multiples of one half, so
/// doubled rank sums are counted.
fn exact_p(ranks: &[f64], positive: f64) -> f64 {
    let doubled: Vec<usize> = ranks.iter().map(|rank| (2.0 * rank).round() as usize).collect();
    let most: usize = doubled.iter().sum();
    // Probability of every rank sum, adding one difference after the other.
    let mut share = vec![0.0f64; most + 1];
    share[0] = 1.0;
    let mut reached = 0;
    for &rank in &doubled {
        reached += rank;
        for sum in (0..=reached).rev() {
            let with = if sum >= rank { share[sum - rank] } else { 0.0 };
            share[sum] = 0.5 * (share[sum] + with);
        }
    }
    let observed = (2.0 * positive).round() as usize;
    let below: f64 = share[..=observed].iter().sum();
    let above: f64 = share[observed..].iter().sum();
    (2.0 * below.min(above)).min(1.0)
}

fn normal_p(n: usize, groups: &[usize], positive: f64) -> f64 {
    let n = n as f64;
    let ties: f64 = groups.iter().map(|&size| (size as f64).powi(3) - size as f64).sum();
    let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - 0.5 * ties) / 24.0;
    let z = (positive - 0.25 * n * (n + 1.0)) / variance.sqrt();
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// The complementary error function for x of 0 or more, to about 1e-14 of its value: its power series up to 2, its
/// continued fraction (Abramowitz and Stegun 7.1.5 and 7.1.14) beyond.
fn erfc(x: f64) -> f64 {
    let root_pi = std::f64::consts::PI.sqrt();
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - 2.0 / root_pi * sum;
    }
    let mut fraction = x;
    for n in (1..=80).rev() {
        fraction = x + 0.5 * f64::from(n) / fraction;
    }
    (-x * x).exp() / (root_pi * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complementary_error_function_is_accurate_on_both_branches() {
        // Values of SciPy's `erfc`.
        for (x, expected) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.5, 0.033_894_853_524_689_27),
            (1.999, 0.004_698_443_348_629_486),
            (2.5, 4.069_520_174_449_588_6e-4),
            (5.0, 1.537_459_794_428_035e-12),
        ] {
            assert!((erfc(x) / expected - 1.0).abs() < 1e-12, "{x}: {}", erfc(x));
        }
    }

    #[test]
    fn no_difference_is_no_test() {
        assert_eq!(wilcoxon_signed_rank(&[0.0, 0.0]), None);
        assert_eq!(wilcoxon_signed_rank(&[1.0]).map(|t| t.p), Some(1.0));
    }
}
