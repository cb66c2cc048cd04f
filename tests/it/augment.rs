//! Tests of `segen::augment`: each operation against batchgeneratorsv2 (values made by
//! `tests/reference/make_augment.py`), and the properties that hold for every draw.

use ndarray::{Array3, Array4};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use segen::augment::{
    Affine, Augmentation, Change, Cut, Draw, Histograms, Intensity, Keep, Magnitude, Op, Over, Resampling,
    Rule, Sharing, Side, cut, normal,
};
use segen::batch::sampler::{Purpose, generator};
use segen::data::dataset::{Sides, left_right_pairs};
use segen::network::Grid;
use segen::policy::lists::thick_axis;
use segen::prepare::Placement;
use segen::prepare::{IGNORE, Sample};

use crate::support;

/// The committed arrays by name.
struct Reference {
    index: Vec<serde_json::Value>,
    bytes: Vec<u8>,
}

impl Reference {
    fn open() -> Self {
        let index = std::fs::read_to_string(support::data("augment.json")).unwrap();
        Self {
            index: serde_json::from_str(&index).unwrap(),
            bytes: std::fs::read(support::data("augment.bin")).unwrap(),
        }
    }

    fn entry(&self, name: &str) -> &serde_json::Value {
        self.index.iter().find(|entry| entry["name"] == name).unwrap()
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.index.iter().map(|entry| entry["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    fn floats(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (shape, bytes) = self.raw(name, "float32", 4);
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (shape, values.collect())
    }

    fn labels(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let (shape, bytes) = self.raw(name, "uint8", 1);
        (shape, bytes.to_vec())
    }

    fn raw(&self, name: &str, dtype: &str, size: usize) -> (Vec<usize>, &[u8]) {
        let entry = self.entry(name);
        assert_eq!(entry["dtype"], dtype);
        let shape = numbers(&entry["shape"]).iter().map(|edge| *edge as usize).collect::<Vec<_>>();
        let offset = entry["offset"].as_u64().unwrap() as usize;
        let length = shape.iter().product::<usize>() * size;
        (shape, &self.bytes[offset..offset + length])
    }

    fn sample(&self) -> Sample {
        let (shape, images) = self.floats("image");
        let (_, labels) = self.labels("labels");
        let images = Array4::from_shape_vec((shape[0], shape[1], shape[2], shape[3]), images).unwrap();
        let labels = Array3::from_shape_vec((shape[1], shape[2], shape[3]), labels).unwrap();
        support::sample("reference", images, labels)
    }
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn three(value: &serde_json::Value) -> [f64; 3] {
    numbers(value).try_into().unwrap()
}

fn centred(shape: [usize; 3], patch: [usize; 3]) -> Placement {
    let start = std::array::from_fn(|axis| (shape[axis] as i64 - patch[axis] as i64) / 2);
    Placement { case: 0, start, centre_class: 0, sought: None }
}

fn shape_of(sample: &Sample) -> [usize; 3] {
    let (_, x, y, z) = sample.images.dim();
    [x, y, z]
}

fn cut_at(sample: &Sample, placement: &Placement, patch: [usize; 3], draw: &Draw) -> (Vec<f32>, Vec<u8>) {
    let voxels = patch.iter().product::<usize>();
    // Filled with nonsense, so that a voxel that is not written shows.
    let mut images = vec![f32::NAN; sample.images.dim().0 * voxels];
    let mut labels = vec![77; voxels];
    cut(sample, placement, patch, draw, &mut images, &mut labels);
    (images, labels)
}

fn assert_close(name: &str, ours: &[f32], reference: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), reference.len(), "{name}");
    for (at, (a, b)) in ours.iter().zip(reference).enumerate() {
        assert!((a - b).abs() <= tolerance, "{name}[{at}]: {a} instead of {b}");
    }
}

/// Rotation and scaling of a draw.
fn spatial(degrees: [f64; 3], scales: [f64; 3]) -> Draw {
    let affine = Affine::rotation(degrees).then(&Affine::scaling(scales));
    Draw { affine, ..Draw::identity() }
}

/// Intensity changes alone.
fn changed(changes: Vec<Change>) -> Draw {
    Draw { changes, ..Draw::identity() }
}

fn rule(probability: f64, op: Op) -> Rule {
    Rule { probability, sharing: Sharing::Independent, op }
}

#[test]
fn spatial_draws_equal_batchgenerators() {
    let reference = Reference::open();
    let sample = reference.sample();
    let names = reference.names("spatial");
    assert_eq!(names.len(), 12);
    let (mut labels_seen, mut labels_differ) = (0, 0);
    for name in names {
        let entry = reference.entry(&name);
        let patch = three(&entry["patch"]).map(|edge| edge as usize);
        let draw = spatial(three(&entry["degrees"]), three(&entry["scales"]));
        let (images, labels) = cut_at(&sample, &centred(shape_of(&sample), patch), patch, &draw);
        if name.ends_with("image") {
            // Both round coordinates and products in f32; gradients are up to 5 per voxel here.
            assert_close(&name, &images, &reference.floats(&name).1, 3e-5);
        } else {
            let (_, expected) = reference.labels(&name);
            labels_seen += labels.len();
            labels_differ += labels.iter().zip(&expected).filter(|(a, b)| a != b).count();
        }
    }
    // Differences are exact ties between labels, decided by the rounding of half-way coordinates, and places
    // where batchgeneratorsv2 counts outside and background as two classes.
    assert!(labels_differ * 1000 < labels_seen, "{labels_differ} of {labels_seen} labels differ");
}

#[test]
fn intensity_changes_equal_batchgenerators() {
    let reference = Reference::open();
    let sample = reference.sample();
    let shape = shape_of(&sample);
    let mut tested = 0;
    let mut test = |name: &str, kind: Intensity, tolerance: f32| {
        let draw = changed(vec![Change { channel: 0, kind }]);
        let (images, _) = cut_at(&sample, &centred(shape, shape), shape, &draw);
        let voxels = shape.iter().product::<usize>();
        assert_close(name, &images[..voxels], &reference.floats(name).1, tolerance);
        let untouched = sample.images.as_slice().unwrap();
        assert_eq!(images[voxels..], untouched[voxels..], "{name}: the other channel changed");
        tested += 1;
    };
    for name in reference.names("blur") {
        test(&name, Intensity::Blur { sigma: three(&reference.entry(&name)["sigma"]) }, 3e-6);
    }
    test("brightness", Intensity::Multiply { factor: 1.2 }, 0.0);
    for name in reference.names("contrast") {
        test(
            &name,
            Intensity::Contrast {
                factor: reference.entry(&name)["factor"].as_f64().unwrap(),
                over: Over::Patch,
            },
            2e-6,
        );
    }
    for name in reference.names("low_resolution") {
        test(
            &name,
            Intensity::LowResolution {
                zoom: three(&reference.entry(&name)["zoom"]),
                resampling: Resampling::NearestLinear,
            },
            3e-6,
        );
    }
    for name in reference.names("gamma") {
        let entry = reference.entry(&name);
        let side = if entry["inverted"] == true { Side::Inverted } else { Side::Direct };
        let exponent = entry["exponent"].as_f64().unwrap();
        test(&name, Intensity::Gamma { exponent, side, over: Over::Patch, keep: Keep::Moments }, 2e-5);
    }
    assert_eq!(tested, 12);
}

#[test]
fn noise_is_standard_normal_and_a_function_of_key_channel_and_voxel() {
    let mut values = Vec::new();
    for x in -20..20 {
        for y in -20..20 {
            values.extend((-50..50).map(|z| f64::from(normal(9, 1, [x, y, z]))));
        }
    }
    let count = values.len() as f64;
    let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / count;
    // Five standard errors of each moment's estimate.
    for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let error = (moment(power) - expected).abs();
        assert!(error < 5.0 * f64::sqrt(variance / count), "moment {power} is off by {error}");
    }
    // Kolmogorov and Smirnov: the distribution function, at the 0.1 % level.
    values.sort_by(f64::total_cmp);
    for (number, bound) in
        [(-2.0, 0.022_750), (-1.0, 0.158_655), (0.0, 0.5), (0.5, 0.691_462), (3.0, 0.998_650)]
    {
        let below = values.partition_point(|v| *v < number) as f64 / count;
        assert!((below - bound).abs() < 1.95 / count.sqrt(), "P(n < {number}) = {below}");
    }
    // Neighbours along each axis, channels and keys are uncorrelated.
    let pairs: [(&str, [i32; 3], usize, u64); 5] = [
        ("x", [1, 0, 0], 0, 0),
        ("y", [0, 1, 0], 0, 0),
        ("z", [0, 0, 1], 0, 0),
        ("channel", [0; 3], 1, 0),
        ("key", [0; 3], 0, 1),
    ];
    for (name, shift, channel, key) in pairs {
        let mut sum = 0.0;
        for (x, y, z) in (0..30).flat_map(|x| (0..30).flat_map(move |y| (0..30).map(move |z| (x, y, z)))) {
            let shifted = [x + shift[0], y + shift[1], z + shift[2]];
            sum += f64::from(normal(5, 0, [x, y, z])) * f64::from(normal(5 + key, channel, shifted));
        }
        assert!((sum / 27_000.0).abs() < 5.0 / 27_000_f64.sqrt(), "{name}: correlation {}", sum / 27_000.0);
    }
    // A patch adds exactly this field, whatever its size.
    let sample = Reference::open().sample();
    let kind = Intensity::Noise { deviation: 0.5, key: 9 };
    for patch in [[6, 7, 11], [16, 13, 19]] {
        let placement = centred(shape_of(&sample), patch);
        let draw = changed(vec![Change { channel: 1, kind }]);
        let (plain, _) = cut_at(&sample, &placement, patch, &Draw::identity());
        let (noisy, _) = cut_at(&sample, &placement, patch, &draw);
        let at = |[x, y, z]: [usize; 3]| ((patch[0] + x) * patch[1] + y) * patch[2] + z;
        for voxel in [[0, 0, 0], [3, 5, 10], [5, 6, 2]] {
            let offset = std::array::from_fn(|axis| voxel[axis] as i32 - (patch[axis] / 2) as i32);
            assert_eq!(noisy[at(voxel)], plain[at(voxel)] + 0.5 * normal(9, 1, offset));
        }
    }
}

/// What a patch without augmentation must be, voxel by voxel.
fn plain(sample: &Sample, start: [i64; 3], patch: [usize; 3]) -> (Vec<f32>, Vec<u8>) {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for channel in 0..sample.images.dim().0 {
        for (x, y, z) in ndarray::indices((patch[0], patch[1], patch[2])) {
            let at = [x, y, z].iter().zip(start).map(|(p, s)| *p as i64 + s).collect::<Vec<_>>();
            let index = [at[0] as usize, at[1] as usize, at[2] as usize];
            let inside = at.iter().all(|c| *c >= 0);
            let image = sample.images.get([channel, index[0], index[1], index[2]]).filter(|_| inside);
            images.push(image.copied().unwrap_or(0.0));
            if channel == 0 {
                let label = sample.labels.as_ref().unwrap().get(index).filter(|_| inside);
                labels.push(label.copied().unwrap_or(0));
            }
        }
    }
    (images, labels)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn patches() -> impl Strategy<Value = ([usize; 3], [i64; 3])> {
    (prop::array::uniform3(1_usize..24), prop::array::uniform3(-25_i64..25))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn the_identity_draw_is_the_plain_cut((patch, start) in patches()) {
        let sample = Reference::open().sample();
        let placement = Placement { case: 0, start, centre_class: 0, sought: None };
        let (images, labels) = cut_at(&sample, &placement, patch, &Draw::identity());
        let (expected_images, expected_labels) = plain(&sample, start, patch);
        prop_assert_eq!(bits(&images), bits(&expected_images));
        prop_assert_eq!(labels, expected_labels);
    }

    #[test]
    fn mirroring_and_quarter_turns_move_voxels_unchanged((patch, start) in patches(), axes: [bool; 3]) {
        let sample = Reference::open().sample();
        let placement = Placement { case: 0, start, centre_class: 0, sought: None };
        let (images, labels) = plain(&sample, start, patch);
        let mirror = Affine::mirror(axes);
        let draw = Draw { affine: mirror, ..Draw::identity() };
        let (mirrored, mirrored_labels) = cut_at(&sample, &placement, patch, &draw);
        let half_turn = Draw { affine: Affine::rotation([180.0, 0.0, 0.0]), ..Draw::identity() };
        let (turned, _) = cut_at(&sample, &placement, patch, &half_turn);
        let at = |x: usize, y: usize, z: usize| (x * patch[1] + y) * patch[2] + z;
        for (x, y, z) in ndarray::indices((patch[0], patch[1], patch[2])) {
            let [mx, my, mz] = [(x, 0), (y, 1), (z, 2)].map(|(p, axis): (usize, usize)| {
                if axes[axis] { patch[axis] - 1 - p } else { p }
            });
            prop_assert_eq!(mirrored[at(x, y, z)].to_bits(), images[at(mx, my, mz)].to_bits());
            prop_assert_eq!(mirrored_labels[at(x, y, z)], labels[at(mx, my, mz)]);
            let expected = images[at(x, patch[1] - 1 - y, patch[2] - 1 - z)];
            prop_assert_eq!(turned[at(x, y, z)].to_bits(), expected.to_bits());
        }
        // Mirroring twice is the identity.
        prop_assert_eq!(mirror.then(&mirror), Affine::IDENTITY);
    }

    #[test]
    fn draws_keep_to_the_labels_that_are_there_and_to_finite_values(
        (patch, start) in patches(), seed: u64, thick in prop::option::of(0_usize..3),
    ) {
        let sample = Reference::open().sample();
        let placement = Placement { case: 0, start, centre_class: 0, sought: None };
        let mut random = generator(seed, 0, 0, Purpose::Augmentation);
        let mut augmentation = Augmentation::basic(thick, [true; 3]);
        augmentation.rules.iter_mut().for_each(|rule| rule.probability = rule.probability.max(0.5));
        let draw = augmentation.draw(2, &mut random);
        let (images, labels) = cut_at(&sample, &placement, patch, &draw);
        prop_assert!(images.iter().all(|value| value.is_finite()));
        let known = [0, 1, 2, 3, IGNORE];
        prop_assert!(labels.iter().all(|label| known.contains(label)));
    }

    #[test]
    fn composed_maps_are_applied_in_order(
        degrees in prop::array::uniform3(-180.0..180.0_f64), factors in prop::array::uniform3(0.5..2.0_f64),
        axes: [bool; 3],
    ) {
        let (rotation, scaling, mirror) =
            (Affine::rotation(degrees), Affine::scaling(factors), Affine::mirror(axes));
        let composed = rotation.then(&scaling).then(&mirror);
        let apply = |map: &Affine, v: [f64; 3]| -> [f64; 3] {
            std::array::from_fn(|row| (0..3).map(|k| map.0[row][k] * v[k]).sum())
        };
        let point = [3.0, -1.0, 0.5];
        let stepwise = apply(&rotation, apply(&scaling, apply(&mirror, point)));
        for (a, b) in apply(&composed, point).iter().zip(stepwise) {
            prop_assert!((a - b).abs() < 1e-12);
        }
    }
}

#[test]
fn a_quarter_turn_of_a_cube_is_a_permutation() {
    let sample = Reference::open().sample();
    let patch = [9, 9, 9];
    let placement = centred(shape_of(&sample), [8, 9, 9]);
    let draw = Draw { affine: Affine::rotation([0.0, 0.0, 90.0]), ..Draw::identity() };
    let (turned, _) = cut_at(&sample, &placement, patch, &draw);
    let (images, _) = plain(&sample, placement.start, patch);
    let at = |x: usize, y: usize, z: usize| (x * 9 + y) * 9 + z;
    for (x, y, z) in ndarray::indices((9, 9, 9)) {
        // x' = -y, y' = x about the centre.
        assert_eq!(turned[at(x, y, z)].to_bits(), images[at(8 - y, x, z)].to_bits());
    }
}

#[test]
fn a_window_of_the_sample_gives_the_same_bits() {
    // The same voxels with a frame of zeros around: coordinates shift by whole voxels, values must not.
    let sample = Reference::open().sample();
    let shape = shape_of(&sample);
    let frame = [3, 5, 40];
    let mut images = Array4::zeros((2, shape[0] + 6, shape[1] + 10, shape[2] + 80));
    let mut labels = Array3::zeros((shape[0] + 6, shape[1] + 10, shape[2] + 80));
    let slice = ndarray::s![3..3 + shape[0], 5..5 + shape[1], 40..40 + shape[2]];
    labels.slice_mut(slice).assign(sample.labels.as_ref().unwrap());
    for channel in 0..2 {
        let mut target = images.index_axis_mut(ndarray::Axis(0), channel);
        target.slice_mut(slice).assign(&sample.images.index_axis(ndarray::Axis(0), channel));
    }
    let framed = support::sample("framed", images, labels);
    let patch = [12, 11, 14];
    let placement = Placement { case: 0, start: [-1, 2, 7], centre_class: 0, sought: None };
    let shifted = Placement { start: std::array::from_fn(|a| placement.start[a] + frame[a]), ..placement };
    for draw in [spatial([17.0, 5.0, -40.0], [1.3; 3]), spatial([0.0; 3], [0.77; 3])] {
        let (a, a_labels) = cut_at(&sample, &placement, patch, &draw);
        let (b, b_labels) = cut_at(&framed, &shifted, patch, &draw);
        assert_eq!(bits(&a), bits(&b));
        assert_eq!(a_labels, b_labels);
    }
}

#[test]
fn voxels_outside_the_mask_are_zero_again() {
    let mut sample = Reference::open().sample();
    let shape = shape_of(&sample);
    let mask = Array3::from_shape_fn((shape[0], shape[1], shape[2]), |(x, y, _)| u8::from(x > 4 && y < 8));
    sample.mask = Some(mask.clone());
    let noise = rule(1.0, Op::Noise { deviation: Magnitude::Fixed(1.0) });
    let mask_rule = rule(1.0, Op::Mask { channels: vec![1] });
    let augmentation = Augmentation { rules: vec![noise, mask_rule] };
    let draw = augmentation.draw(2, &mut generator(1, 2, 3, Purpose::Augmentation));
    let (images, _) = cut_at(&sample, &centred(shape, shape), shape, &draw);
    let (first, second) = images.split_at(images.len() / 2);
    for (at, inside) in mask.iter().enumerate() {
        assert_ne!(first[at], sample.images.as_slice().unwrap()[at]);
        assert_eq!(second[at] == 0.0, *inside == 0);
    }
}

#[test]
fn voxels_that_were_zero_in_all_channels_stay_zero() {
    let mut sample = Reference::open().sample();
    let shape = shape_of(&sample);
    sample.images.slice_mut(ndarray::s![.., ..5, .., ..]).fill(0.0);
    sample.images.slice_mut(ndarray::s![1, 5..7, .., ..]).fill(0.0);
    let changes = [0, 1].map(|channel| Change { channel, kind: Intensity::Noise { deviation: 1.0, key: 1 } });
    let nonzero = [0, 1].map(|channel| Change { channel, kind: Intensity::Nonzero });
    let draw = changed([changes, nonzero].concat());
    let (images, _) = cut_at(&sample, &centred(shape, shape), shape, &draw);
    for (at, voxel) in images.iter().enumerate() {
        let x = at / (shape[1] * shape[2]) % shape[0];
        assert_eq!(*voxel == 0.0, x < 5, "{at}");
    }
}

#[test]
fn a_plan_decides_what_is_mirrored_tilted_and_kept_zero() {
    let plan = support::plan();
    let list =
        Augmentation::for_plan(&plan, &Sides::of_names(&["background", "left kidney", "right kidney"]));
    list.check().unwrap();
    let ops: Vec<&Op> = list.rules.iter().map(|rule| &rule.op).collect();
    assert!(ops.contains(&&Op::Mirror { axes: [false, true, true] }));
    let still = Magnitude::Fixed(0.0);
    assert!(ops.contains(&&Op::Rotate { degrees: [still, still, Magnitude::Uniform(-180.0, 180.0)] }));
    assert!(ops.contains(&&Op::Mask { channels: vec![0, 1] }));
    assert!(ops.contains(&&Op::Nonzero { channels: vec![1] }));
}

#[test]
fn the_basic_list_has_the_published_probabilities_and_ranges() {
    let draws = 40_000;
    let augmentation = Augmentation::basic(None, [false, true, true]);
    augmentation.check().unwrap();
    let mut counts = [0_u32; 8];
    for step in 0..draws {
        let draw = augmentation.draw(1, &mut generator(3, step, 0, Purpose::Augmentation));
        let determinant = determinant(&draw.affine);
        assert!((0.7_f64.powi(3)..1.4_f64.powi(3)).contains(&determinant.abs()));
        counts[0] += u32::from((determinant.abs() - 1.0).abs() > 1e-9);
        for change in &draw.changes {
            match change.kind {
                Intensity::Noise { deviation, .. } => {
                    assert!((0.0..0.1).contains(&deviation));
                    counts[1] += 1;
                }
                Intensity::Blur { sigma } => {
                    assert!(sigma.iter().all(|s| (0.5..1.0).contains(s)));
                    counts[2] += 1;
                }
                Intensity::Multiply { factor } => {
                    assert!((0.75..1.25).contains(&factor));
                    counts[3] += 1;
                }
                Intensity::Contrast { factor, over: Over::Patch } => {
                    assert!((0.75..1.25).contains(&factor));
                    counts[4] += 1;
                }
                Intensity::LowResolution { zoom, resampling: Resampling::NearestLinear } => {
                    assert!(zoom.iter().all(|z| (0.5..1.0).contains(z)));
                    counts[5] += 1;
                }
                Intensity::Gamma { exponent, side, over: Over::Patch, keep: Keep::Moments } => {
                    assert!((0.7..1.5).contains(&exponent));
                    counts[if side == Side::Inverted { 6 } else { 7 }] += 1;
                }
                other => panic!("{other:?} is not in the list"),
            }
        }
    }
    for (count, expected) in counts.into_iter().zip([0.2, 0.1, 0.1, 0.15, 0.15, 0.125, 0.1, 0.3]) {
        let share = f64::from(count) / draws as f64;
        let error = f64::sqrt(expected * (1.0 - expected) / draws as f64);
        assert!((share - expected).abs() < 5.0 * error, "{share} instead of {expected}");
    }
}

fn determinant(affine: &Affine) -> f64 {
    let [a, b, c] = affine.0;
    let cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    a.iter().zip(cross).map(|(x, y)| x * y).sum()
}

#[test]
fn a_forbidden_axis_is_never_mirrored_and_a_thick_one_never_tilted() {
    let augmentation = Augmentation::basic(Some(2), [false, true, true]);
    let mut mirrored = [0; 3];
    for step in 0..2000 {
        let draw = augmentation.draw(1, &mut generator(0, step, 0, Purpose::Augmentation));
        let m = draw.affine.0;
        assert_eq!([m[0][2], m[1][2], m[2][0], m[2][1]], [0.0; 4]);
        assert_eq!(m[2][2].abs(), 1.0);
        mirrored[2] += i32::from(m[2][2] < 0.0);
        // In the plane: the determinant's sign is the sign of the y mirror, as x is never mirrored.
        mirrored[1] += i32::from(m[0][0] * m[1][1] - m[0][1] * m[1][0] < 0.0);
    }
    assert!(mirrored[1..].iter().all(|count| (850..1150).contains(count)), "{mirrored:?}");
    let only_x = Augmentation { rules: vec![rule(1.0, Op::Mirror { axes: [false; 3] })] };
    assert_eq!(only_x.draw(1, &mut generator(0, 0, 0, Purpose::Augmentation)), Draw::identity());
}

#[test]
fn thick_axes_are_those_of_the_published_rule() {
    assert_eq!(thick_axis([40, 56, 40], [1.0, 1.0, 1.0]), None);
    assert_eq!(thick_axis([256, 320, 16], [0.6, 0.6, 3.0]), Some(2));
    assert_eq!(thick_axis([20, 320, 256], [3.0, 0.6, 0.6]), Some(0));
    // The patch is not thin along the coarsest axis.
    assert_eq!(thick_axis([128, 128, 48], [0.8, 0.8, 2.0]), None);
}

#[test]
fn augmentation_is_read_and_written_as_toml() {
    for augmentation in [
        Augmentation::none(),
        Augmentation::basic(None, [true; 3]),
        Augmentation::basic(Some(1), [false, true, true]),
    ] {
        let text = toml::to_string(&augmentation).unwrap();
        assert_eq!(toml::from_str::<Augmentation>(&text).unwrap(), augmentation, "{text}");
    }
    let text = "[[rules]]\nprobability = 0.5\nop = \"gamma\"\nexponent = { about-one = [0.7, 1.5] }\nside = \"inverted\"";
    let op = Op::Gamma {
        exponent: Magnitude::AboutOne(0.7, 1.5),
        side: Side::Inverted,
        over: Over::Patch,
        keep: Keep::Moments,
    };
    assert_eq!(toml::from_str::<Augmentation>(text).unwrap().rules, [rule(0.5, op)]);
}

#[test]
fn values_that_cannot_be_drawn_are_refused_with_their_rule() {
    let rule = |probability, op| Augmentation { rules: vec![rule(probability, op)] };
    let uniform = Magnitude::Uniform;
    let bad = [
        rule(1.5, Op::Mirror { axes: [true; 3] }),
        rule(f64::NAN, Op::Mirror { axes: [true; 3] }),
        rule(0.5, Op::Scale { factor: uniform(0.0, 1.0), axes: [true; 3] }),
        rule(0.5, Op::Scale { factor: uniform(1.4, 0.7), axes: [true; 3] }),
        rule(0.5, Op::Noise { deviation: uniform(-1.0, 1.0) }),
        rule(0.5, Op::Blur { sigma: uniform(0.5, f64::NAN), per_channel: 0.5 }),
        rule(0.5, Op::Blur { sigma: uniform(0.5, 1.0), per_channel: 2.0 }),
        rule(
            0.5,
            Op::LowResolution {
                zoom: uniform(0.5, 2.0),
                per_channel: 0.5,
                axes: [true; 3],
                resampling: Resampling::NearestLinear,
            },
        ),
        rule(
            0.5,
            Op::Gamma {
                exponent: Magnitude::AboutOne(0.5, 0.9),
                side: Side::Direct,
                over: Over::Patch,
                keep: Keep::Moments,
            },
        ),
        rule(0.5, Op::Flip { axis: 3, pairs: vec![] }),
        rule(0.5, Op::Brightness { factor: Magnitude::Ratio(-1.5, 0.5) }),
        rule(0.5, Op::Offset { amount: Magnitude::Normal(0.0, -1.0) }),
    ];
    for augmentation in bad {
        let message = augmentation.check().unwrap_err().to_string();
        assert!(message.contains("augmentation.rules[0]") && message.contains("hint"), "{message}");
    }
}

#[test]
fn x_is_not_mirrored_where_labels_name_two_sides() {
    let paired: [&[&str]; 14] = [
        &["background", "left_kidney", "right_kidney"],
        &["background", "kidney_left", "spleen", "kidney_right"],
        &["background", "Left Kidney", "Right Kidney"],
        &["background", "LeftKidney", "RightKidney"],
        &["background", "leftkidney", "rightkidney"],
        &["background", "kidneyLeft", "kidneyRight"],
        &["background", "thalamus-l", "thalamus-r"],
        &["background", "L_Hippocampus", "R_Hippocampus"],
        &["background", "lh.cortex", "rh.cortex"],
        &["background", "Left-Cerebral-White-Matter", "Right-Cerebral-White-Matter"],
        &["background", "femur_lt", "femur_rt"],
        &["background", "LEFT VENTRICLE", "RIGHT VENTRICLE"],
        &["background", "rib_left_4", "rib_right_4"],
        &["background", "Niere links", "Niere rechts"],
    ];
    for names in paired {
        assert_eq!(Sides::of_names(names).mirror_axes(), [false, true, true], "{names:?}");
    }
    let free: [&[&str]; 10] = [
        &["background", "Anterior", "Posterior"],
        &["background", "edema", "non-enhancing tumor", "enhancing tumour"],
        &["background", "kidney", "tumor", "cyst"],
        &["background", "left atrium"],
        &["background", "left_kidney", "right_lung"],
        &["background", "upright", "leftover"],
        &["background", "vertebra_L1", "vertebra_L2"],
        &["background", "bright", "liver", "lesion"],
        &["background", "rib_left_4", "rib_right_5"],
        &[],
    ];
    for names in free {
        assert_eq!(Sides::of_names(names).mirror_axes(), [true; 3], "{names:?}");
    }
    let names = ["background", "rib_right_1", "rib_left_1", "rib_left_2", "rib_right_2", "lung"];
    assert_eq!(left_right_pairs(&names), [(2, 1), (3, 4)]);
}

/// A patch on several grids.
fn cut_on(
    sample: &Sample,
    placement: &Placement,
    patch: [usize; 3],
    grids: &[Grid],
    draw: &Draw,
) -> Vec<Vec<f32>> {
    let channels = sample.images.dim().0;
    let mut images: Vec<Vec<f32>> = grids.iter().map(|grid| vec![f32::NAN; channels * grid.len()]).collect();
    let mut labels = vec![77; patch.iter().product()];
    let mut outputs: Vec<&mut [f32]> = images.iter_mut().map(Vec::as_mut_slice).collect();
    let cut = Cut { placement, patch, grids, draw };
    cut.from_sample(sample, &Histograms::new(), &mut outputs, &mut labels);
    images
}

/// DeepMedic's three pathways, on edges small enough for the reference sample.
fn pathways(patch: [usize; 3]) -> Vec<Grid> {
    let around = |shape, stride| Grid::around(patch, [shape; 3], [stride; 3]);
    vec![Grid::patch(patch), around(9, 3), Grid { start: [-9, -6, -7], ..around(7, 5) }]
}

#[test]
fn the_identity_draw_is_the_plain_cut_on_every_grid() {
    let sample = Reference::open().sample();
    let patch = [11, 9, 13];
    for start in [[2, 1, 3], [-4, 6, 9]] {
        let placement = Placement { case: 0, start, centre_class: 0, sought: None };
        let grids = pathways(patch);
        let images = cut_on(&sample, &placement, patch, &grids, &Draw::identity());
        for (grid, image) in grids.iter().zip(&images) {
            let [nx, ny, nz] = grid.shape;
            for (at, (c, x, y, z)) in ndarray::indices((2, nx, ny, nz)).into_iter().enumerate() {
                let voxel: [i64; 3] = std::array::from_fn(|axis| {
                    start[axis] + grid.start[axis] + ([x, y, z][axis] * grid.stride[axis]) as i64
                });
                let inside = voxel.iter().all(|v| *v >= 0);
                let index = voxel.map(|v| v as usize);
                let expected = sample.images.get([c, index[0], index[1], index[2]]).filter(|_| inside);
                assert_eq!(
                    image[at].to_bits(),
                    expected.copied().unwrap_or(0.0).to_bits(),
                    "{grid:?} {voxel:?}"
                );
            }
        }
    }
}

#[test]
fn grids_agree_on_shared_voxels_under_every_pointwise_and_spatial_draw() {
    let sample = Reference::open().sample();
    let patch = [11, 9, 13];
    let placement = centred(shape_of(&sample), patch);
    let grids =
        [Grid::patch(patch), Grid::around(patch, [3, 3, 3], [3; 3]), Grid::around(patch, [1, 1, 3], [5; 3])];
    let both = |kind| [0, 1].map(|channel| Change { channel, kind }).to_vec();
    let gamma = |over, keep| Intensity::Gamma { exponent: 1.3, side: Side::Inverted, over, keep };
    let mut draws: Vec<Draw> = [
        Intensity::Noise { deviation: 0.3, key: 5 },
        Intensity::Multiply { factor: 1.3 },
        Intensity::Add { amount: -0.2 },
        Intensity::Contrast { factor: 1.4, over: Over::Patch },
        Intensity::Contrast { factor: 0.7, over: Over::Image },
        gamma(Over::Patch, Keep::Moments),
        gamma(Over::Image, Keep::Moments),
        gamma(Over::Image, Keep::Range),
        Intensity::Constant { value: 0.25 },
        Intensity::Erase { centre: [0.4, 0.6, 0.5], size: 0.5 },
    ]
    .map(|kind| changed(both(kind)))
    .into();
    let all: Vec<Change> = draws.iter().take(8).flat_map(|draw| draw.changes.clone()).collect();
    draws.push(changed(all));
    draws.push(spatial([20.0, -35.0, 90.0], [1.2, 0.9, 1.0]));
    draws.push(Draw { shift: [1.25, -2.0, 0.5], ..spatial([0.0, 0.0, 12.0], [1.0; 3]) });
    for draw in draws {
        let images = cut_on(&sample, &placement, patch, &grids, &draw);
        for (grid, image) in grids.iter().zip(&images).skip(1) {
            let [nx, ny, nz] = grid.shape;
            for (at, (c, x, y, z)) in ndarray::indices((2, nx, ny, nz)).into_iter().enumerate() {
                let voxel: [usize; 3] = std::array::from_fn(|axis| {
                    (grid.start[axis] + ([x, y, z][axis] * grid.stride[axis]) as i64) as usize
                });
                let normal =
                    images[0][((c * patch[0] + voxel[0]) * patch[1] + voxel[1]) * patch[2] + voxel[2]];
                assert_eq!(image[at].to_bits(), normal.to_bits(), "{draw:?} {voxel:?}");
            }
        }
    }
}

#[test]
fn filters_act_on_coarser_grids_with_their_scale_divided() {
    // A strided grid of a sample is a plain cut of the strided sample; so are filters with a smaller sigma.
    let sample = Reference::open().sample();
    let stride = 2;
    let coarse_images = sample.images.slice(ndarray::s![.., ..;2, ..;2, ..;2]).to_owned();
    let coarse_labels = sample.labels.as_ref().unwrap().slice(ndarray::s![..;2, ..;2, ..;2]).to_owned();
    let coarse = support::sample(
        "coarse",
        coarse_images.as_standard_layout().to_owned(),
        coarse_labels.as_standard_layout().to_owned(),
    );
    let shape = shape_of(&coarse);
    let patch = [1, 1, 1];
    let whole = Placement { case: 0, start: [0; 3], centre_class: 0, sought: None };
    let on = |kind| changed(vec![Change { channel: 0, kind }]);
    for (fine, divided) in [
        (Intensity::Blur { sigma: [1.0, 1.5, 2.0] }, Intensity::Blur { sigma: [0.5, 0.75, 1.0] }),
        (
            Intensity::LowResolution { zoom: [0.4; 3], resampling: Resampling::NearestLinear },
            Intensity::LowResolution { zoom: [0.8; 3], resampling: Resampling::NearestLinear },
        ),
        (
            Intensity::LowResolution { zoom: [0.4; 3], resampling: Resampling::LinearNearest },
            Intensity::LowResolution { zoom: [0.8; 3], resampling: Resampling::LinearNearest },
        ),
    ] {
        let grid = Grid { shape, stride: [stride; 3], start: [0; 3] };
        let strided = cut_on(&sample, &whole, patch, &[grid], &on(fine));
        let (direct, _) = cut_at(&coarse, &whole, shape, &on(divided));
        assert_eq!(bits(&strided[0]), bits(&direct), "{fine:?}");
    }
    // A scan that is finer than the grid shows on it as it is.
    let grid = Grid { shape, stride: [stride; 3], start: [0; 3] };
    let fine = Intensity::LowResolution { zoom: [0.7; 3], resampling: Resampling::LinearNearest };
    let plain = cut_on(&sample, &whole, patch, &[grid], &Draw::identity());
    assert_eq!(bits(&cut_on(&sample, &whole, patch, &[grid], &on(fine))[0]), bits(&plain[0]));
}

#[test]
fn sharpening_low_resolution_and_powers_equal_their_references() {
    let reference = Reference::open();
    let sample = reference.sample();
    let shape = shape_of(&sample);
    let names = reference.names("composed.");
    assert_eq!(names.len(), 7);
    for name in names {
        let entry = reference.entry(&name);
        let number = |key: &str| entry[key].as_f64().unwrap();
        let (kind, tolerance) = match name.split('.').nth(1).unwrap() {
            "sharpen" => (Intensity::Sharpen { sigma: number("sigma"), over: Over::Patch }, 3e-5),
            "coarse" => {
                let zoom = three(&entry["zoom"]);
                (Intensity::LowResolution { zoom, resampling: Resampling::LinearNearest }, 5e-6)
            }
            "gamma" => {
                let side = if entry["inverted"] == true { Side::Inverted } else { Side::Direct };
                (
                    Intensity::Gamma {
                        exponent: number("exponent"),
                        side,
                        over: Over::Image,
                        keep: Keep::Range,
                    },
                    2e-5,
                )
            }
            other => panic!("{other}"),
        };
        let draw = changed(vec![Change { channel: 0, kind }]);
        let (images, _) = cut_at(&sample, &centred(shape, shape), shape, &draw);
        assert_close(&name, &images[..images.len() / 2], &reference.floats(&name).1, tolerance);
    }
}

#[test]
fn sharpening_keeps_constants() {
    let images = Array4::from_elem((1, 9, 8, 7), 1.5);
    let sample = support::sample("flat", images, Array3::zeros((9, 8, 7)));
    for sigma in [0.5, 0.7, 0.9] {
        let kind = Intensity::Sharpen { sigma, over: Over::Patch };
        let patch = [9, 8, 7];
        let draw = changed(vec![Change { channel: 0, kind }]);
        let (images, _) = cut_at(&sample, &centred(patch, patch), patch, &draw);
        assert_close("flat", &images, &vec![1.5; images.len()], 1e-6);
    }
}

#[test]
fn statistics_of_the_image_make_a_patch_change_as_the_whole_does() {
    // A patch cut after the change of the whole sample is the patch changed by the sample's statistics.
    let sample = Reference::open().sample();
    let shape = shape_of(&sample);
    let patch = [7, 6, 9];
    let placement = Placement { case: 0, start: [3, 2, 4], centre_class: 0, sought: None };
    for kinds in [
        vec![Intensity::Contrast { factor: 1.3, over: Over::Image }],
        vec![
            Intensity::Multiply { factor: 1.2 },
            Intensity::Add { amount: 0.3 },
            Intensity::Contrast { factor: 0.8, over: Over::Image },
        ],
        vec![Intensity::Gamma { exponent: 1.4, side: Side::Direct, over: Over::Image, keep: Keep::Moments }],
        vec![Intensity::Gamma { exponent: 0.7, side: Side::Inverted, over: Over::Image, keep: Keep::Range }],
    ] {
        let changes = kinds.iter().map(|kind| Change { channel: 0, kind: *kind }).collect();
        let (part, _) = cut_at(&sample, &placement, patch, &changed(changes));
        // The whole by statistics of its own voxels, which the histogram only approximates.
        let own = |kind: &Intensity| match *kind {
            Intensity::Contrast { factor, .. } => Intensity::Contrast { factor, over: Over::Patch },
            Intensity::Gamma { exponent, side, keep, .. } => {
                Intensity::Gamma { exponent, side, over: Over::Patch, keep }
            }
            other => other,
        };
        let changes = kinds.iter().map(|kind| Change { channel: 0, kind: own(kind) }).collect();
        let (whole, _) = cut_at(&sample, &centred(shape, shape), shape, &changed(changes));
        for (x, y, z) in ndarray::indices((patch[0], patch[1], patch[2])) {
            let of_part = part[(x * patch[1] + y) * patch[2] + z];
            let of_whole = whole[((x + 3) * shape[1] + y + 2) * shape[2] + z + 4];
            assert!((of_part - of_whole).abs() < 0.02, "{kinds:?}: {of_part} {of_whole}");
        }
    }
}

#[test]
fn mirrored_labels_change_sides() {
    let sample = Reference::open().sample();
    let shape = shape_of(&sample);
    let placement = centred(shape, shape);
    let names = ["background", "kidney left", "lesion", "kidney right"];
    let pairs = Sides::of_names(&names).pairs;
    assert_eq!(pairs, [[1, 3]]);
    let flip = |axis| Op::Flip { axis, pairs: if axis == 0 { pairs.clone() } else { vec![] } };
    let draw = |ops: &[Op]| {
        let rules = ops.iter().map(|op| rule(1.0, op.clone())).collect();
        Augmentation { rules }.draw(2, &mut generator(0, 0, 0, Purpose::Augmentation))
    };
    let (_, plain) = cut_at(&sample, &placement, shape, &Draw::identity());
    let (_, mirrored) = cut_at(&sample, &placement, shape, &draw(&[flip(0), flip(1)]));
    let (_, twice) = cut_at(&sample, &placement, shape, &draw(&[flip(0), flip(0)]));
    assert_eq!(plain, twice);
    let at = |x: usize, y: usize, z: usize| (x * shape[1] + y) * shape[2] + z;
    for (x, y, z) in ndarray::indices((shape[0], shape[1], shape[2])) {
        let expected = match plain[at(shape[0] - 1 - x, shape[1] - 1 - y, z)] {
            1 => 3,
            3 => 1,
            other => other,
        };
        assert_eq!(mirrored[at(x, y, z)], expected);
    }
}

#[test]
fn deepmedics_list_has_its_probabilities_and_ranges() {
    let list = Augmentation::deepmedic(&Sides::default());
    list.check().unwrap();
    let draws = 20_000;
    let (mut mirrored, mut shifts, mut factors) = (0.0, Vec::new(), Vec::new());
    for step in 0..draws {
        let draw = list.draw(2, &mut generator(3, step, 0, Purpose::Augmentation));
        mirrored += f64::from(u8::from(draw.affine.0[0][0] < 0.0));
        for change in &draw.changes {
            match change.kind {
                Intensity::Add { amount } => shifts.push(amount),
                Intensity::Multiply { factor } => factors.push(factor - 1.0),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!((mirrored / draws as f64 - 0.5).abs() < 0.02);
    let deviation = |v: &[f64]| (v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64).sqrt();
    assert!((deviation(&shifts) - 0.05).abs() < 0.001 && (deviation(&factors) - 0.01).abs() < 0.0002);
    assert_eq!(shifts.len(), 2 * draws as usize);
}
