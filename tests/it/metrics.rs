//! Tests of `segen::score`, against nnU-Net's evaluator and MONAI.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use ndarray::{Array3, ShapeBuilder, s};
use segen::data::dataset::{LabelScheme, Region};
use segen::image::nifti::{read_labels, write_labels};
use segen::image::volume::{Grid, Labels, Volume};
use segen::progress::Silent;
use segen::score::{
    CaseScores, EmptyRule, Masks, Metric, MissRule, MissingRule, ScoreOptions, Scores, Summary, evaluate,
    find_scheme, score,
};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{data, real};

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
        trained: Default::default(),
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

/// Whether everything that nnU-Net says is there and equal to 1e-9; file names are compared without folders.
fn assert_holds(ours: &Value, nnunet: &Value, at: &str) {
    match nnunet {
        Value::Object(entries) => {
            for (key, value) in entries {
                assert_holds(&ours[key], value, &format!("{at}/{key}"));
            }
        }
        Value::Array(entries) => {
            assert_eq!(ours.as_array().map(Vec::len), Some(entries.len()), "{at}");
            for (index, value) in entries.iter().enumerate() {
                assert_holds(&ours[index], value, &format!("{at}/{index}"));
            }
        }
        Value::String(path) => {
            let file = |text: &str| Path::new(text).file_name().map(ToOwned::to_owned);
            assert_eq!(file(ours.as_str().unwrap()), file(path), "{at}");
        }
        Value::Number(number) => {
            let (ours, theirs) = (ours.as_f64().unwrap_or(f64::NAN), number.as_f64().unwrap());
            assert!((ours - theirs).abs() <= 1e-9, "{at}: {ours} is not {theirs}");
        }
        other => assert_eq!(ours, other, "{at}"),
    }
}

fn summary_of(name: &str) -> Summary {
    let folder = data("metrics").join(name);
    let (predictions, references) = (folder.join("predictions"), folder.join("labelsTr"));
    let scheme = find_scheme(&predictions, &references).unwrap();
    evaluate(&predictions, &references, &scheme, &ScoreOptions::default(), &Silent).unwrap()
}

#[test]
fn summaries_equal_nnunet() {
    for (name, regions) in [("labels", "1 2"), ("regions", "(1, 2, 3) (2, 3) 3"), ("ignore", "1 2")] {
        let text = std::fs::read_to_string(data("metrics").join(name).join("nnunet.json")).unwrap();
        let nnunet: Value = serde_json::from_str(&text.replace("NaN", "null")).unwrap();
        let keys: Vec<_> = nnunet["mean"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys.join(" "), regions);
        let ours = serde_json::to_value(summary_of(name)).unwrap();
        assert_holds(&ours, &nnunet, name);
        assert_eq!(ours["mean"].as_object().unwrap().len(), keys.len());
    }
}

#[test]
fn summaries_of_real_references_equal_nnunet() {
    let Some(folder) = real("Dataset004_Hippocampus") else { return };
    let nnunet: Value =
        serde_json::from_str(&std::fs::read_to_string(data("metrics/hippocampus.json")).unwrap()).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let [references, predictions] = ["references", "predictions"].map(|name| temporary.path().join(name));
    std::fs::create_dir(&references).unwrap();
    std::fs::create_dir(&predictions).unwrap();
    for (number, case) in nnunet["metric_per_case"].as_array().unwrap().iter().enumerate() {
        let name = case["reference_file"].as_str().unwrap();
        let (reference, header) = read_labels(&folder.join("labelsTr").join(name)).unwrap();
        write_labels(&references.join(name), &reference, Some(&header)).unwrap();
        // The rule of the script: one voxel along x, and in every tenth case a class is missed.
        let mut wrong = reference.clone();
        wrong.voxels.fill(0);
        wrong.voxels.slice_mut(s![1.., .., ..]).assign(&reference.voxels.slice(s![..-1, .., ..]));
        if number % 10 == 9 {
            wrong.voxels.mapv_inplace(|value| if value == 2 { 0 } else { value });
        }
        write_labels(&predictions.join(name), &wrong, Some(&header)).unwrap();
    }
    let scheme = LabelScheme::read(&folder.join("dataset.json")).unwrap();
    let summary = evaluate(&predictions, &references, &scheme, &ScoreOptions::default(), &Silent).unwrap();
    assert_eq!(summary.cases.len(), 40);
    assert_holds(&serde_json::to_value(&summary).unwrap(), &nnunet, "hippocampus");
}

#[test]
fn an_absent_class_is_null_and_counted() {
    let summary = summary_of("labels");
    let dice = summary.average(1, Metric::Dice);
    assert_eq!((dice.n, dice.undefined), (7, 1));
    let hd95 = summary.average(1, Metric::Hd95);
    assert_eq!((hd95.n, hd95.undefined, summary.hd95_penalised(1)), (7, 1, 1));
    assert_eq!(summary.hd95_penalised(0), 1);
    let json = serde_json::to_string(&summary).unwrap();
    assert!(!json.contains("NaN") && !json.contains("inf"));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["metric_per_case"][5]["metrics"]["2"]["Dice"], Value::Null);
    assert_eq!(json["metric_per_case"][5]["metrics"]["2"]["TP"], serde_json::json!(0));
    assert_eq!(json["mean"]["2"]["n_undefined"]["Dice"], serde_json::json!(1));
    assert_eq!(json["mean"]["2"]["n_hd95_penalised"], serde_json::json!(1));
}

/// A mask of 6 x 5 x 4 voxels, 2 x 1 x 5 mm each, with these voxels inside.
fn voxels(inside: &[(usize, usize, usize)]) -> Labels {
    let mask = Array3::from_shape_fn((6, 5, 4), |at| inside.contains(&at));
    labels(&mask, [2.0, 1.0, 5.0])
}

#[test]
fn rules_for_empty_segmentations() {
    let (empty, full) = (voxels(&[]), voxels(&[(2, 2, 2), (3, 2, 2)]));
    // Number of voxels times spacing: 12 x 5 x 20 mm.
    let diagonal = Some((144.0 + 25.0 + 400.0_f64).sqrt());
    // Dice, sensitivity, precision, HD95, NSD, lesion sensitivity, lesion precision.
    let listed = |s: Scores| {
        [s.dice, s.sensitivity, s.precision, s.hd95, s.nsd, s.lesion_sensitivity, s.lesion_precision]
    };
    let (no, zero, one) = (None, Some(0.0), Some(1.0));
    let rules = [
        (EmptyRule::Skip, &empty, &empty, [no, no, no, no, no, no, no]),
        (EmptyRule::One, &empty, &empty, [one, one, one, zero, one, one, one]),
        (EmptyRule::Zero, &empty, &empty, [zero, zero, zero, no, zero, zero, zero]),
        (EmptyRule::Skip, &full, &empty, [zero, no, zero, diagonal, zero, no, zero]),
        (EmptyRule::One, &full, &empty, [zero, zero, zero, diagonal, zero, zero, zero]),
        (EmptyRule::Zero, &full, &empty, [zero, zero, zero, diagonal, zero, zero, zero]),
        (EmptyRule::Skip, &empty, &full, [zero, zero, no, diagonal, zero, zero, no]),
        (EmptyRule::One, &empty, &full, [zero, zero, zero, diagonal, zero, zero, zero]),
        (EmptyRule::Zero, &empty, &full, [zero, zero, zero, diagonal, zero, zero, zero]),
    ];
    for (empty, prediction, reference, expected) in rules {
        let scores = scored(prediction, reference, &ScoreOptions { empty, ..ScoreOptions::default() });
        assert_eq!(listed(scores), expected, "{empty:?} {} {}", scores.n_pred, scores.n_ref);
        assert_eq!(scores.hd95_penalised, scores.n_pred + scores.n_ref > 0);
        assert_eq!(scores.undefined(Metric::Dice), scores.n_pred + scores.n_ref == 0);
        assert_eq!(scores.undefined(Metric::Sensitivity), scores.n_ref == 0);
        assert_eq!(scores.undefined(Metric::Precision), scores.n_pred == 0);
    }
    let options = ScoreOptions { hd95_miss: MissRule::Null, ..ScoreOptions::default() };
    let missed = scored(&empty, &full, &options);
    assert_eq!((missed.hd95, missed.hd95_penalised, missed.undefined(Metric::Hd95)), (None, false, true));
}

#[test]
fn volumes_are_in_millilitres() {
    let scores = scored(
        &voxels(&[(0, 0, 0)]),
        &voxels(&[(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)]),
        &ScoreOptions::default(),
    );
    assert_eq!(scores.volume_error_ml, -0.03);
    assert_eq!(scores.volume_error_relative, Some(-0.75));
}

#[test]
fn lesions_are_26_connected_and_found_by_overlap() {
    // One lesion joined by a corner, one apart; the prediction touches a third of the first and invents two.
    let reference = voxels(&[(0, 0, 0), (1, 1, 1), (1, 1, 2), (5, 4, 3)]);
    let prediction = voxels(&[(1, 1, 1), (5, 0, 0), (5, 0, 3)]);
    let scores = scored(&prediction, &reference, &ScoreOptions::default());
    assert_eq!((scores.lesions_reference, scores.lesions_prediction), (2, 3));
    assert_eq!(scores.lesion_sensitivity, Some(0.5));
    assert_eq!(scores.lesion_precision, Some(1.0 / 3.0));
    for (lesion_overlap, found) in [(1.0 / 3.0, 0.5), (0.34, 0.0)] {
        let options = ScoreOptions { lesion_overlap, ..ScoreOptions::default() };
        assert_eq!(scored(&prediction, &reference, &options).lesion_sensitivity, Some(found));
    }
}

#[test]
fn voxels_that_do_not_count_are_left_out_everywhere() {
    let scheme = LabelScheme { ignore: Some(2), ..one_class() };
    let mut reference = voxels(&[(0, 0, 0), (1, 0, 0)]);
    let prediction = voxels(&[(0, 0, 0), (5, 4, 3), (4, 4, 0)]);
    reference.voxels[[5, 4, 3]] = 2;
    let mut mask = voxels(&[]);
    mask.voxels.fill(7);
    mask.voxels[[4, 4, 0]] = 0;
    let scores = score(&prediction, &reference, Some(&mask), &scheme, &ScoreOptions::default())[0];
    assert_eq!([scores.tp, scores.fp, scores.fn_, scores.tn], [1, 0, 1, 116]);
    assert_eq!((scores.lesions_prediction, scores.lesion_precision), (1, Some(1.0)));
    // The reference's second voxel is 2 mm from the prediction's only one that counts.
    assert_eq!(scores.hd95, Some(1.9));
}

#[test]
fn memory_order_makes_no_difference() {
    for case in surface_cases().iter().take(12) {
        let mut prediction = labels(&case.prediction, case.spacing);
        let mut reference = labels(&case.reference, case.spacing);
        let expected = scored(&prediction, &reference, &ScoreOptions::default());
        for labels in [&mut prediction, &mut reference] {
            labels.voxels = labels.voxels.as_standard_layout().to_owned();
        }
        assert_eq!(scored(&prediction, &reference, &ScoreOptions::default()), expected);
    }
}

#[test]
fn one_label_absent_everywhere_leaves_the_foreground_mean_and_is_counted() {
    let mut scheme = one_class();
    scheme.names.push("other".into());
    scheme.regions.push(Region { name: "other".into(), values: vec![2] });
    let image = voxels(&[(1, 1, 1)]);
    let case = |name: &str| CaseScores {
        case: name.into(),
        prediction_file: name.into(),
        reference_file: name.into(),
        scores: score(&image, &image, None, &scheme, &ScoreOptions::default()),
        post: std::collections::BTreeMap::new(),
    };
    let summary = Summary::of(vec![case("a"), case("b")], &scheme, &ScoreOptions::default());
    assert_eq!(summary.foreground_mean(Metric::Dice), (Some(1.0), 1));
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["mean"]["2"]["Dice"], Value::Null);
    assert_eq!(json["foreground_mean"]["n_undefined"]["Dice"], serde_json::json!(1));
    let table = summary.table();
    assert!(table.contains("other (2)") && table.contains("2 cases"), "{table}");
}

/// A folder with `predictions` and `labelsTr` of three cases, all equal.
fn three_cases() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["predictions", "labelsTr"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
        for case in ["a", "b", "c"] {
            let file = folder.path().join(part).join(format!("{case}.nii.gz"));
            write_labels(&file, &voxels(&[(2, 2, 2)]), None).unwrap();
        }
    }
    folder
}

fn evaluated(folder: &Path, options: &ScoreOptions) -> segen::Result<Summary> {
    evaluate(&folder.join("predictions"), &folder.join("labelsTr"), &one_class(), options, &Silent)
}

#[test]
fn missing_and_extra_predictions_are_listed() {
    let folder = three_cases();
    let options = ScoreOptions::default();
    assert_eq!(evaluated(folder.path(), &options).unwrap().cases.len(), 3);
    for case in ["a", "c"] {
        std::fs::remove_file(folder.path().join(format!("predictions/{case}.nii.gz"))).unwrap();
    }
    let error = evaluated(folder.path(), &options).unwrap_err().to_string();
    assert!(error.contains("without a prediction (2): a, c"), "{error}");
    let partial = ScoreOptions { missing: MissingRule::Skip, ..options.clone() };
    let summary = evaluated(folder.path(), &partial).unwrap();
    assert_eq!((summary.cases.len(), summary.without_prediction), (1, 2));
    assert!(summary.table().contains("2 references have no prediction"));

    write_labels(&folder.path().join("predictions/extra.nii"), &voxels(&[]), None).unwrap();
    let error = evaluated(folder.path(), &partial).unwrap_err().to_string();
    assert!(error.contains("(1): extra"), "{error}");
    std::fs::rename(folder.path().join("predictions/extra.nii"), folder.path().join("predictions/b.nii"))
        .unwrap();
    let error = evaluated(folder.path(), &partial).unwrap_err().to_string();
    assert!(error.contains("`b` is there twice"), "{error}");
}

#[test]
fn a_prediction_on_another_grid_is_refused_in_millimetres() {
    let folder = three_cases();
    let file = folder.path().join("predictions/b.nii.gz");
    let mut moved = voxels(&[(2, 2, 2)]);
    moved.grid.affine[1][3] = 0.35;
    write_labels(&file, &moved, None).unwrap();
    let error = evaluated(folder.path(), &ScoreOptions::default()).unwrap_err().to_string();
    assert!(error.contains("b.nii.gz") && error.contains("0.3500 mm off"), "{error}");
    moved.grid.affine[1][3] = 0.05;
    write_labels(&file, &moved, None).unwrap();
    assert!(evaluated(folder.path(), &ScoreOptions::default()).is_ok());

    let smaller = labels(&Array3::from_elem((6, 5, 3), true), [2.0, 1.0, 5.0]);
    write_labels(&file, &smaller, None).unwrap();
    let error = evaluated(folder.path(), &ScoreOptions::default()).unwrap_err().to_string();
    assert!(error.contains("6 x 5 x 3 voxels") && error.contains("6 x 5 x 4"), "{error}");
}

#[test]
fn unknown_label_values_are_refused() {
    let folder = three_cases();
    let file = folder.path().join("predictions/a.nii.gz");
    let mut wrong = voxels(&[(2, 2, 2)]);
    wrong.voxels[[0, 0, 0]] = 4;
    write_labels(&file, &wrong, None).unwrap();
    let error = evaluated(folder.path(), &ScoreOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a.nii.gz") && error.contains("4 (1 voxels)"), "{error}");
}

#[test]
fn masks_beside_the_labels_limit_scoring() {
    let folder = three_cases();
    std::fs::create_dir(folder.path().join("masksTr")).unwrap();
    let mask = voxels(&[(2, 2, 2), (0, 0, 0)]);
    for case in ["a", "b", "c"] {
        write_labels(&folder.path().join(format!("masksTr/{case}.nii.gz")), &mask, None).unwrap();
    }
    let tn = |options: &ScoreOptions| evaluated(folder.path(), options).unwrap().cases[0].scores[0].tn;
    assert_eq!(tn(&ScoreOptions::default()), 1);
    assert_eq!(tn(&ScoreOptions { masks: Masks::None, ..ScoreOptions::default() }), 119);
    let elsewhere = folder.path().join("masksTr");
    assert_eq!(tn(&ScoreOptions { masks: Masks::Folder(elsewhere.clone()), ..ScoreOptions::default() }), 1);
    std::fs::remove_file(elsewhere.join("b.nii.gz")).unwrap();
    let options = ScoreOptions { masks: Masks::Folder(elsewhere), ..ScoreOptions::default() };
    let error = evaluated(folder.path(), &options).unwrap_err().to_string();
    assert!(error.contains("case `b` has no mask"), "{error}");
}

#[test]
fn a_summary_is_written_whole() {
    let folder = three_cases();
    let file = folder.path().join("summary.json");
    let summary = evaluated(folder.path(), &ScoreOptions::default()).unwrap();
    summary.write(&file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read, serde_json::to_value(&summary).unwrap());
    let table = std::fs::read_to_string(folder.path().join("scores.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + summary.cases.len() * summary.regions.len());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    summary.write(&folder.path().join("made/summary.json")).unwrap();
    let error = summary.write(&file.join("summary.json")).unwrap_err().to_string();
    assert!(error.contains("could not create") && error.contains("summary.json"), "{error}");
}
