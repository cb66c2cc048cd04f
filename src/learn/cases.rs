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

/// Takes `share` of the cases that `fraction` has kept away, seeded, at least one where the share is above 0: (those
/// left, those taken). Whoever needs cases that are not trained on pays for them with its own; all others train on
/// every case of the fraction.
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
            format!("of {} training cases, {count} would be set aside", cases.len()),
            "raise `fraction`, lower the share, or choose a policy and a method that need no set-aside cases",
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

    #[test]
    fn set_aside_cases_come_from_those_that_the_fraction_kept() {
        let cases: Vec<String> = (0..49).map(|i| format!("case_{i:02}")).collect();
        for (fraction, kept, aside) in [(0.1, 5, 1), (0.2, 10, 2), (1.0, 49, 10)] {
            let own = keep_fraction(&cases, fraction, 3);
            assert_eq!(own.len(), kept);
            let (left, taken) = set_aside(&own, 0.2, 3).unwrap();
            assert_eq!((left.len(), taken.len()), (kept - aside, aside));
            let mut both = [left, taken].concat();
            both.sort();
            assert_eq!(both, own);
            assert_eq!(set_aside(&own, 0.0, 3).unwrap(), (own, vec![]));
        }
        assert_eq!(set_aside(&cases[..2], 0.2, 3).unwrap().0.len(), 1);
        let error = set_aside(&cases[..1], 0.2, 3).unwrap_err().to_string();
        assert!(error.contains("policy.validation_share") && error.contains("`fraction`"), "{error}");
    }
}
