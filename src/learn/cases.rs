//! Which cases a training takes.

use crate::{Error, Result};

/// Keeps `fraction` of the cases, at least one: nested (a smaller fraction is contained in a larger one), seeded.
pub fn keep_fraction(cases: &[String], fraction: f64, seed: u64) -> Vec<String> {
    use rand::seq::SliceRandom;
    let mut shuffled = cases.to_vec();
    shuffled.shuffle(&mut crate::rng::generator(seed, &["fraction"]));
    shuffled.truncate(((fraction * cases.len() as f64).round() as usize).max(1));
    shuffled.sort();
    shuffled
}

/// Keeps the first `fraction` of the cases by name, at least one.
pub fn keep_prefix(cases: &[String], fraction: f64) -> Vec<String> {
    let mut sorted = cases.to_vec();
    sorted.sort();
    sorted.truncate(((fraction * cases.len() as f64).round() as usize).max(1));
    sorted
}

/// Takes `share` of the cases away, seeded, at least one where the share is above 0: (those left, those taken).
///
/// # Errors
/// Where nothing would be left to train on.
pub fn set_aside(cases: &[String], share: f64, seed: u64) -> Result<(Vec<String>, Vec<String>)> {
    use rand::seq::SliceRandom;
    if share == 0.0 {
        return Ok((cases.to_vec(), Vec::new()));
    }
    let count = ((share * cases.len() as f64).round() as usize).max(1);
    if count >= cases.len() {
        return Err(Error::config(
            "policy.validation_share",
            format!("of {} training cases, {count} would be set aside for the policy", cases.len()),
            "train on more cases, or choose a policy that does not learn",
        ));
    }
    let mut shuffled = cases.to_vec();
    shuffled.shuffle(&mut crate::rng::generator(seed, &["policy validation"]));
    let mut left = shuffled.split_off(count);
    left.sort();
    shuffled.sort();
    Ok((left, shuffled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_nested_and_never_empty() {
        let cases: Vec<String> = (0..37).map(|i| format!("case_{i:02}")).collect();
        let mut larger = cases.clone();
        for fraction in [1.0, 0.5, 0.2, 0.05, 0.001] {
            let kept = keep_fraction(&cases, fraction, 7);
            assert_eq!(kept.len(), ((fraction * 37.0f64).round() as usize).max(1));
            assert!(kept.iter().all(|case| larger.contains(case)));
            larger = kept;
        }
        assert_ne!(keep_fraction(&cases, 0.2, 1), keep_fraction(&cases, 0.2, 2));
    }
}
