//! Tests of `segen::image::resample`.

use ndarray::Array3;
use proptest::prelude::*;
use segen::image::resample::{resample_image, resample_labels, resampled_shape, separate_axis};
use serde_json::Value;

use crate::support::data;

/// One case made by nnU-Net's functions (`tests/reference/make_resample.py`).
struct Reference {
    spacings: [[f64; 3]; 2],
    new_shape: [usize; 3],
    separate_axis: Option<usize>,
    image: Array3<f32>,
    labels: Array3<u8>,
    cubic: Array3<f32>,
    voted: Array3<u8>,
}

fn triple<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> [T; 3] {
    let list: Vec<T> = value.as_array().unwrap().iter().map(|v| read(v).unwrap()).collect();
    list.try_into().ok().unwrap()
}

fn references() -> Vec<Reference> {
    let index: Value = serde_json::from_slice(&std::fs::read(data("resample.json")).unwrap()).unwrap();
    let bytes = std::fs::read(data("resample.bin")).unwrap();
    let take_image = |at: &mut usize, shape: [usize; 3]| {
        let count = shape.iter().product::<usize>();
        let values = bytes[*at..*at + 4 * count].chunks_exact(4);
        *at += 4 * count;
        let values = values.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Array3::from_shape_vec(shape, values).unwrap()
    };
    let take_labels = |at: &mut usize, shape: [usize; 3]| {
        let count = shape.iter().product::<usize>();
        *at += count;
        Array3::from_shape_vec(shape, bytes[*at - count..*at].to_vec()).unwrap()
    };
    let read = |case: &Value| {
        let size = |v: &Value| v.as_u64().map(|n| n as usize);
        let (shape, new_shape) = (triple(&case["shape"], size), triple(&case["new_shape"], size));
        let mut at = size(&case["start"]).unwrap();
        Reference {
            spacings: [triple(&case["spacing"], Value::as_f64), triple(&case["new_spacing"], Value::as_f64)],
            new_shape,
            separate_axis: size(&case["separate_axis"]),
            image: take_image(&mut at, shape),
            labels: take_labels(&mut at, shape),
            cubic: take_image(&mut at, new_shape),
            voted: take_labels(&mut at, new_shape),
        }
    };
    let cases: Vec<_> = index.as_array().unwrap().iter().map(read).collect();
    assert!(cases.len() >= 10);
    cases
}

#[test]
fn shapes_and_separate_axes_are_those_of_nnunet() {
    for case in references() {
        let [from, to] = case.spacings;
        assert_eq!(resampled_shape(case.image.dim().into(), from, to), case.new_shape);
        assert_eq!(separate_axis(from, to), case.separate_axis, "{from:?} {to:?}");
    }
}

#[test]
fn images_equal_those_of_nnunet() {
    for (number, case) in references().into_iter().enumerate() {
        let ours = resample_image(case.image.view(), case.new_shape, case.separate_axis);
        let largest = ours.iter().zip(&case.cubic).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let range = case.image.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest <= 1e-6 * range, "case {number}: differs by {largest} of {range}");
    }
}

#[test]
fn labels_equal_those_of_nnunet() {
    for (number, case) in references().into_iter().enumerate() {
        let ours = resample_labels(case.labels.view(), case.new_shape, case.separate_axis);
        let differing = ours.iter().zip(&case.voted).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "case {number}: of {} voxels", ours.len());
    }
}

#[test]
fn memory_order_of_the_input_changes_nothing() {
    let case = references().remove(0);
    let fortran = {
        let mut array = Array3::zeros(ndarray::ShapeBuilder::f(case.image.raw_dim()));
        array.assign(&case.image);
        array
    };
    assert_eq!(
        resample_image(fortran.view(), case.new_shape, None),
        resample_image(case.image.view(), case.new_shape, None)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No label appears that was not there, whatever the shapes.
    #[test]
    fn labels_are_never_invented(
        shape in prop::array::uniform3(1usize..9),
        new_shape in prop::array::uniform3(1usize..14),
        separate in prop::option::of(0usize..3),
        seed in any::<u32>(),
    ) {
        let label = |i: usize| [0u8, 3, 7, 255][(seed as usize).wrapping_mul(2_654_435_761).wrapping_add(i * i * 31) >> 3 & 3];
        let mut i = 0;
        let labels = Array3::from_shape_simple_fn(shape, || { i += 1; label(i) });
        let result = resample_labels(labels.view(), new_shape, separate);
        prop_assert!(result.iter().all(|v| labels.iter().any(|w| v == w)));
    }

    /// A constant stays what it is, and a copy at the same shape is exact.
    #[test]
    fn constants_and_copies_are_exact(
        shape in prop::array::uniform3(1usize..9),
        new_shape in prop::array::uniform3(1usize..14),
        value in -1e3f32..1e3,
    ) {
        let constant = Array3::from_elem(shape, value);
        prop_assert!(resample_image(constant.view(), new_shape, None).iter().all(|&v| v == value));
        let mut i = 0f32;
        let ramp = Array3::from_shape_simple_fn(shape, || { i += value; i.sin() });
        prop_assert_eq!(resample_image(ramp.view(), shape, None), ramp);
    }
}
