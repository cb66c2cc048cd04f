//! Tests of `segen::metrics`, against nnU-Net's evaluator and MONAI.

use ndarray::{Array3, ShapeBuilder};
use segen::dataset::{LabelScheme, Region};
use segen::metrics::{ScoreOptions, Scores, score};
use segen::volume::{Grid, Labels, Volume};
use serde::Deserialize;

use crate::support::data;

/// Two masks with the surface scores that MONAI gives them.
pub(crate) struct SurfaceCase {
    pub(crate) prediction: Array3<bool>,
    pub(crate) reference: Array3<bool>,
    pub(crate) spacing: [f64; 3],
    pub(crate) hd95: f64,
    /// The same in double precision; MONAI rounds to single.
    pub(crate) hd95_double: f64,
    /// Tolerance in millimetres, score.
    pub(crate) nsd: Vec<(f64, f64)>,
}

/// What `tests/reference/make_metrics.py` wrote.
pub(crate) fn surface_cases() -> Vec<SurfaceCase> {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Stored>,
    }
    #[derive(Deserialize)]
    struct Stored {
        shape: [usize; 3],
        spacing: [f64; 3],
        hd95: f64,
        hd95_double: f64,
        nsd: std::collections::BTreeMap<String, f64>,
        prediction: String,
        reference: String,
    }
    let text = std::fs::read_to_string(data("metrics/monai.json")).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    let cases = file.cases.into_iter().map(|stored| SurfaceCase {
        prediction: unpack(&stored.prediction, stored.shape),
        reference: unpack(&stored.reference, stored.shape),
        spacing: stored.spacing,
        hd95: stored.hd95,
        hd95_double: stored.hd95_double,
        nsd: stored.nsd.into_iter().map(|(tolerance, nsd)| (tolerance.parse().unwrap(), nsd)).collect(),
    });
    cases.collect()
}

/// Bits in hexadecimal, first voxel in the highest bit, x fastest.
fn unpack(hex: &str, shape: [usize; 3]) -> Array3<bool> {
    let digit = |i: usize| hex.as_bytes()[i] as char;
    let bit = |i: usize| digit(i / 4).to_digit(16).unwrap() >> (3 - i % 4) & 1 == 1;
    let bits = (0..shape.iter().product()).map(bit).collect();
    Array3::from_shape_vec((shape[0], shape[1], shape[2]).f(), bits).unwrap()
}

fn labels(mask: &Array3<bool>, spacing: [f64; 3]) -> Labels {
    let (nx, ny, nz) = mask.dim();
    Volume::new(mask.mapv(u8::from), Grid::with_spacing([nx, ny, nz], spacing))
}

fn one_class() -> LabelScheme {
    LabelScheme {
        names: vec!["background".into(), "lesion".into()],
        regions: vec![Region { name: "lesion".into(), values: vec![1] }],
        ignore: None,
        regions_class_order: None,
    }
}

fn scored(prediction: &Labels, reference: &Labels, options: &ScoreOptions) -> Scores {
    score(prediction, reference, None, &one_class(), options)[0]
}

#[test]
fn surface_scores_equal_monai() {
    for (index, case) in surface_cases().iter().enumerate() {
        let (prediction, reference) =
            (labels(&case.prediction, case.spacing), labels(&case.reference, case.spacing));
        for &(tolerance_millimetres, nsd) in &case.nsd {
            let options = ScoreOptions { tolerance_millimetres, ..ScoreOptions::default() };
            let scores = scored(&prediction, &reference, &options);
            let found = scores.hd95.unwrap();
            assert!(
                (found - case.hd95).abs() <= 1e-6 * case.hd95.max(1.0),
                "{index}: {found}, {}",
                case.hd95
            );
            assert!((found - case.hd95_double).abs() <= 1e-9, "{index}: {found}, {}", case.hd95_double);
            let found = scores.nsd.unwrap();
            assert!((found - nsd).abs() <= 1e-6, "{index} at {tolerance_millimetres} mm: {found}, {nsd}");
        }
    }
}
