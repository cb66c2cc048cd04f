//! Statistics against SciPy; values by `tests/reference/make_statistics.py`.

use segen::score::statistics::{bootstrap_mean, holm, spearman, wasserstein, wilcoxon_signed_rank};
use serde_json::Value;

use crate::support;

fn reference() -> Value {
    serde_json::from_slice(&std::fs::read(support::data("statistics.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn signed_rank_tests_equal_scipy() {
    let reference = reference();
    for case in list(&reference["wilcoxon"]) {
        let differences = numbers(&case["differences"]);
        let test = wilcoxon_signed_rank(&differences).unwrap();
        let (statistic, p) = (case["statistic"].as_f64().unwrap(), case["p"].as_f64().unwrap());
        assert_eq!(test.statistic, statistic, "{differences:?}");
        assert!((test.p / p - 1.0).abs() < 1e-10, "{} for {p}, {differences:?}", test.p);
    }
}

#[test]
fn corrections_correlations_and_distances_equal_scipy() {
    let reference = reference();
    let (p, adjusted) = (numbers(&reference["holm"]["p"]), numbers(&reference["holm"]["adjusted"]));
    assert!(holm(&p).iter().zip(&adjusted).all(|(a, b)| (a - b).abs() < 1e-15));
    for pair in list(&reference["pairs"]) {
        let rho = spearman(&numbers(&pair["x"]), &numbers(&pair["y"])).unwrap();
        assert!((rho - pair["spearman"].as_f64().unwrap()).abs() < 1e-12);
    }
    assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None, "one side does not vary");
    for pair in list(&reference["distances"]) {
        let distance = wasserstein(&numbers(&pair["a"]), &numbers(&pair["b"]));
        assert!((distance - pair["distance"].as_f64().unwrap()).abs() < 1e-12);
    }
    assert_eq!(wasserstein(&[], &[1.0]), 0.0);
}

#[test]
fn the_bootstrap_draws_seeds_then_cases_and_repeats_itself() {
    let reference = &reference()["bootstrap"];
    let values: Vec<Vec<Option<f64>>> =
        list(&reference["values"]).iter().map(|row| list(row).iter().map(Value::as_f64).collect()).collect();
    let found = bootstrap_mean(&values, 20_000, 3).unwrap();
    assert_eq!(bootstrap_mean(&values, 20_000, 3).unwrap(), found);
    assert_ne!(bootstrap_mean(&values, 20_000, 4).unwrap(), found);
    let of = |key: &str| reference[key].as_f64().unwrap();
    assert!((found.mean - of("mean")).abs() < 1e-12);
    // The half width is about 0.09; 20,000 draws place an end within 0.002 of it.
    assert!((found.low - of("low")).abs() < 0.003 && (found.high - of("high")).abs() < 0.003, "{found:?}");
    assert_eq!(bootstrap_mean(&[vec![None, None]], 100, 1), None);
    assert_eq!(bootstrap_mean(&[], 100, 1), None);
}
