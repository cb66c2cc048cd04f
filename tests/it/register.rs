//! Registration against SimpleITK and NumPy (`tests/reference/make_register.py`), against differences, and against
//! itself: inverses, flips, permuted axes, threads.

use ndarray::{Array3, Array4, ArrayView3, Axis};
use segen::image::register::similarity::{Mattes, correlation, mean_square, normalised_mutual_information};
use segen::image::register::{
    Affine, AffineOptions, Floor, Frame, Images, Map, Step, TemplateOptions, Transform, Velocity,
    VelocityOptions, VelocitySimilarity, affine, deform, exponential, local_correlation, template,
};
use segen::image::volume::Grid;
use serde_json::Value;

fn reference(part: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/register.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all[part].clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn noise(x: usize, y: usize, z: usize) -> f64 {
    let n = (x as u32).wrapping_mul(73_856_093)
        ^ (y as u32).wrapping_mul(19_349_663)
        ^ (z as u32).wrapping_mul(83_492_791);
    let n = (n ^ (n >> 13)).wrapping_mul(1_274_126_177);
    f64::from((n ^ (n >> 16)) % 65536) / 65536.0
}

fn close(ours: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!((ours - wanted).abs() <= tolerance, "{what}: {ours} instead of {wanted}");
}

#[test]
fn local_correlation_and_its_exact_derivative_are_those_of_numpy() {
    let wanted = reference("local");
    let f = Array3::from_shape_fn((10, 9, 8), |(x, y, z)| noise(x, y, z) as f32);
    let m = Array3::from_shape_fn((10, 9, 8), |(x, y, z)| {
        (0.5 * noise(x, y, z) + 0.5 * noise(x + 30, y, z)) as f32
    });
    let ours = local_correlation(f.view(), m.view(), 2, Floor::Window(1e-3));
    close(ours.mean, number(&wanted["mean"]), 1e-5, "mean");
    for slope in wanted["slopes"].as_array().unwrap() {
        let at: Vec<usize> =
            slope["at"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        close(f64::from(ours.derivative[[at[0], at[1], at[2]]]), number(&slope["value"]), 1e-6, "derivative");
    }
    // The value does not depend on the scale of the moving image; constants correlate with nothing.
    let brighter = m.mapv(|value| 300.0 * value - 20.0);
    let scaled = local_correlation(f.view(), brighter.view(), 2, Floor::Window(0.0)).mean;
    close(scaled, local_correlation(f.view(), m.view(), 2, Floor::Window(0.0)).mean, 1e-3, "scaled");
    let flat = local_correlation(f.view(), Array3::zeros((10, 9, 8)).view(), 2, Floor::Window(0.0));
    assert!(flat.mean == 0.0 && flat.derivative.iter().all(|&value| value == 0.0));
}

/// Volumes of the test of similarities.
fn blobs() -> (Array3<f32>, Array3<f32>) {
    let blob = |at: [usize; 3], centre: [f64; 3]| {
        let away: f64 = (0..3)
            .map(|k| ((at[k] as f64 - centre[k]) * [1.0, 1.0, 1.5][k] / [3.0, 4.0, 5.0][k]).powi(2))
            .sum();
        100.0 * (-0.5 * away).exp()
    };
    let f = Array3::from_shape_fn((16, 14, 12), |(x, y, z)| {
        (blob([x, y, z], [7.5, 6.5, 5.5]) + 10.0 * noise(x, y, z)) as f32
    });
    let m = Array3::from_shape_fn((16, 14, 12), |(x, y, z)| {
        (200.0 - 1.5 * blob([x, y, z], [8.3, 6.1, 5.9]) + 10.0 * noise(x + 200, y, z)) as f32
    });
    (f, m)
}

#[test]
fn similarities_are_those_of_simpleitk() {
    let wanted = reference("similarities");
    let (fixed, moving) = blobs();
    let (f, m) = (fixed.as_slice().unwrap(), moving.as_slice().unwrap());
    close(mean_square(f, m), number(&wanted["mean_square"]), 0.01, "mean square");
    close(correlation(f, m), number(&wanted["correlation"]), 1e-6, "correlation");
    close(normalised_mutual_information(f, m, 16), number(&wanted["nmi"]), 1e-6, "normalised information");
    let mut slopes = vec![0.0; m.len()];
    for bins in [16, 32] {
        let ours = Mattes::new(f, m, bins).evaluate(f, m, &mut slopes);
        close(ours, number(&wanted["mattes"][bins.to_string()]), 1e-6, "Mattes");
    }
    for radius in [1, 2] {
        let ours = local_correlation(fixed.view(), moving.view(), radius, Floor::Window(0.0)).mean;
        close(ours, number(&wanted["local"][radius.to_string()]), 1e-4, "local");
    }
    // Read between the voxels, after a shift: half a voxel beyond the outer centres counts as inside.
    let frame = Frame { shape: [16, 14, 12], spacing: [1.0, 1.0, 1.5] };
    let map = Map::affine(frame, frame, Affine::translation([0.4, 0.3, -0.6]));
    let read = map.image(moving.view(), Some(f32::NAN));
    let pairs: Vec<(f32, f32)> =
        f.iter().copied().zip(read.iter().copied()).filter(|(_, m)| m.is_finite()).collect();
    let (f, shifted): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    let wanted = &wanted["shifted"];
    assert_eq!(shifted.len() as u64, wanted["voxels"].as_u64().unwrap());
    close(mean_square(&f, &shifted), number(&wanted["mean_square"]), 0.02, "mean square, shifted");
    close(correlation(&f, &shifted), number(&wanted["correlation"]), 1e-6, "correlation, shifted");
    let mut slopes = vec![0.0; f.len()];
    let ours = Mattes::new(fixed.as_slice().unwrap(), m, 32).evaluate(&f, &shifted, &mut slopes);
    close(ours, number(&wanted["mattes"]), 1e-5, "Mattes, shifted");
}

/// The velocity `B (x - 10)` on 21^3 voxels.
fn linear_velocity() -> Vec<[f32; 4]> {
    let b = [[0.05, -0.12, 0.02], [0.10, -0.04, 0.03], [-0.02, 0.06, 0.08]];
    let mut velocity = Vec::new();
    for (x, y, z) in ndarray::indices((21, 21, 21)) {
        let p = [x, y, z].map(|at| at as f64 - 10.0);
        let v = b.map(|row| (row[0] * p[0] + row[1] * p[1] + row[2] * p[2]) as f32);
        velocity.push([v[0], v[1], v[2], 0.0]);
    }
    velocity
}

#[test]
fn the_exponential_is_that_of_numpy_and_its_inverse_leads_back() {
    let wanted = reference("exponential");
    let velocity = linear_velocity();
    let shape = [21; 3];
    let u = exponential(&velocity, shape, Some(6));
    for (ours, wanted) in u[(14 * 21 + 8) * 21 + 12].iter().zip(wanted["vector"].as_array().unwrap()) {
        close(f64::from(*ours), number(wanted), 2e-5, "displacement");
    }
    // Half as long a first step, half the error: the exact one is exp(B) - I.
    let exact = [
        [0.0449748091862, -0.119812291868, 0.0194537700001],
        [0.100049554681, -0.0442149808102, 0.0316008979628],
        [-0.0182179012533, 0.0623778834277, 0.0840424141613],
    ];
    for squarings in [2, 4, 6] {
        let u = exponential(&velocity, shape, Some(squarings));
        let mut worst = 0.0_f64;
        for (x, y, z) in ndarray::indices((11, 11, 11)) {
            let p = [x, y, z].map(|at| at as f64 - 5.0);
            let ours = u[((x + 5) * 21 + y + 5) * 21 + z + 5];
            for (ours, row) in ours.iter().zip(exact) {
                worst = worst.max((f64::from(*ours) - (row[0] * p[0] + row[1] * p[1] + row[2] * p[2])).abs());
            }
        }
        close(worst, number(&wanted["errors"][squarings.to_string()]), 2e-5, "largest error");
    }
    let millimetres =
        Array4::from_shape_fn((3, 21, 21, 21), |(c, x, y, z)| velocity[(x * 21 + y) * 21 + z][c]);
    let frame = Frame { shape, spacing: [1.0; 3] };
    let step = Step::Velocity(Velocity { millimetres, spacing: [1.0; 3] });
    let map = Map { fixed: frame, moving: frame, steps: vec![step] };
    let there_and_back = map.then(&map.inverse().unwrap()).points();
    for (x, y, z) in ndarray::indices((9, 9, 9)) {
        let index = [x + 6, y + 6, z + 6];
        for axis in 0..3 {
            let ours = there_and_back[[axis, index[0], index[1], index[2]]];
            close(ours, index[axis] as f64 - 10.0, 0.02, "there and back");
        }
    }
    let jacobian = map.jacobian()[[10, 10, 10]];
    close(f64::from(jacobian), number(&wanted["determinant"]), 0.02, "determinant");
}

/// A smooth image: Gaussians of amplitude, centre, sigma on 32 x 32 x 28 voxels, at a (fractional) index.
fn hills(at: [f64; 3]) -> f32 {
    let hills = [
        (1.0, [15.0, 16.0, 14.0], 5.0),
        (0.7, [22.0, 12.0, 18.0], 3.0),
        (-0.6, [10.0, 20.0, 20.0], 4.0),
        (0.8, [20.0, 22.0, 9.0], 3.5),
        (0.5, [9.0, 10.0, 8.0], 3.0),
    ];
    let of = |(amplitude, centre, sigma): &(f64, [f64; 3], f64)| {
        let away: f64 = (0..3).map(|k| (at[k] - centre[k]).powi(2)).sum();
        amplitude * (-0.5 * away / (sigma * sigma)).exp()
    };
    hills.iter().map(of).sum::<f64>() as f32
}

const HILLS: Frame = Frame { shape: [32, 32, 28], spacing: [1.0; 3] };

/// The image F with `F(x) = hills` and M with `M(map(x)) = F(x)`, for an affine in mm.
fn moved_hills(map: &Affine) -> (Images, Images) {
    let back = map.inverse().unwrap();
    let image = |map: &Affine| {
        let channels = Array4::from_shape_fn((1, 32, 32, 28), |(_, x, y, z)| {
            let point = map.apply(HILLS.point([x as f64, y as f64, z as f64]));
            hills([point[0] + 15.5, point[1] + 15.5, point[2] + 13.5])
        });
        Images { channels, spacing: [1.0; 3] }
    };
    (image(&Affine::IDENTITY), image(&back))
}

fn corners() -> Vec<[f64; 3]> {
    (0..8)
        .map(|c| [0, 1, 2].map(|a| HILLS.point([0.0; 3])[a] * if c >> a & 1 == 1 { 1.0 } else { -1.0 }))
        .collect()
}

fn farthest(a: &Affine, b: &Affine) -> f64 {
    let apart = |p: &[f64; 3]| (0..3).map(|k| (a.apply(*p)[k] - b.apply(*p)[k]).powi(2)).sum::<f64>().sqrt();
    corners().iter().map(apart).fold(0.0, f64::max)
}

const KNOWN: Affine = Affine {
    matrix: [[1.05, 0.06, -0.03], [-0.05, 0.97, 0.04], [0.02, -0.03, 1.08]],
    shift: [1.3, -0.8, 0.6],
};

#[test]
fn a_known_affine_is_found() {
    let (fixed, moving) = moved_hills(&KNOWN);
    let found = affine(&fixed, &moving, &AffineOptions::default());
    assert!(found.similarity > 0.9999 && !found.refused, "{found:?}");
    assert!(farthest(&found.affine, &KNOWN) < 0.08, "{} mm, {found:?}", farthest(&found.affine, &KNOWN));
}

#[test]
fn a_rigid_transform_stays_rigid_and_a_far_one_is_found_from_a_turned_start() {
    let (sin, cos) = 0.3_f64.sin_cos();
    let turn =
        Affine { matrix: [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], shift: [-1.0, 2.0, 0.5] };
    let (fixed, moving) = moved_hills(&turn);
    for transform in [Transform::Rigid, Transform::Similarity] {
        let found = affine(&fixed, &moving, &AffineOptions { transform, ..AffineOptions::default() });
        assert!(farthest(&found.affine, &turn) < 0.1, "{found:?}");
        let size = found.affine.determinant();
        close(size, 1.0, if transform == Transform::Rigid { 1e-9 } else { 0.01 }, "determinant");
    }
    // A start that the caller knows is taken where it is best.
    let options = AffineOptions { starts: vec![turn], ..AffineOptions::default() };
    assert!(farthest(&affine(&fixed, &moving, &options).affine, &turn) < 0.1);
}

#[test]
fn what_is_stretched_beyond_belief_is_refused() {
    let fixed = moved_hills(&Affine::IDENTITY).0;
    let channels = Array4::from_shape_fn((1, 32, 32, 28), |(_, x, y, z)| {
        hills([x as f64, (y as f64 - 15.5) * 3.2 + 15.5, z as f64])
    });
    let found = affine(&fixed, &Images { channels, spacing: [1.0; 3] }, &AffineOptions::default());
    if found.refused {
        assert_eq!(found.affine, Affine::IDENTITY);
    } else {
        assert!(found.affine.determinant() > 0.125);
    }
    // A constant says nothing: the centres stay on each other.
    let constant = Images { channels: Array4::from_elem((1, 32, 32, 28), 7.0), spacing: [1.0; 3] };
    for (a, b) in [(&fixed, &constant), (&constant, &fixed)] {
        let found = affine(a, b, &AffineOptions::default());
        assert!(
            found.affine.matrix == Affine::IDENTITY.matrix
                && found.affine.shift.iter().all(|s| s.is_finite())
        );
        let deformed = deform(a, b, &found.affine, &VelocityOptions::default());
        close(deformed.smallest_jacobian, 1.0, 1e-6, "nothing to deform");
    }
}

/// A smooth deformation of the hills with no affine part.
fn warped_hills() -> (Images, Images) {
    let image = |bend: f64| {
        let channels = Array4::from_shape_fn((1, 32, 32, 28), |(_, x, y, z)| {
            let (x, y, z) = (x as f64, y as f64, z as f64);
            let [x, y, z] =
                [x + bend * (y * 0.35).sin(), y + bend * (z * 0.3).cos(), z - bend * (x * 0.3).sin()];
            hills([x, y, z]) + 0.2 * ((0.7 * x).sin() * (0.6 * y).cos() * (0.65 * z + 0.3).sin()) as f32
        });
        Images { channels, spacing: [1.0; 3] }
    };
    (image(0.0), image(1.5))
}

#[test]
fn a_deformation_raises_the_similarity_does_not_fold_and_can_be_inverted() {
    let (fixed, moving) = warped_hills();
    let before = mean_square(fixed.channels.as_slice().unwrap(), moving.channels.as_slice().unwrap());
    for (symmetric, similarity) in [
        (false, VelocitySimilarity::Local { radius: 2 }),
        (true, VelocitySimilarity::Local { radius: 2 }),
        (false, VelocitySimilarity::MeanSquare),
    ] {
        let options = VelocityOptions { symmetric, similarity, ..VelocityOptions::default() };
        let found = deform(&fixed, &moving, &Affine::IDENTITY, &options);
        let warped = found.map.image(moving.channel(0), None);
        let after = mean_square(fixed.channels.as_slice().unwrap(), warped.as_slice().unwrap());
        assert!(after < 0.2 * before, "{options:?}: {before} -> {after}");
        assert!(found.smallest_jacobian > 0.0 && found.folded == 0.0);
        let back = found.map.inverse().unwrap();
        assert!(found.map.round_trip(&back) < 0.1, "{} mm", found.map.round_trip(&back));
        let halved = found.map.halved();
        assert!(found.map.round_trip(&halved.inverse().unwrap()) < 0.25);
    }
}

/// A copy with its axes in another order and some of them backwards.
fn turned(images: &Images, axes: [usize; 3], flipped: [bool; 3]) -> Images {
    let mut view = images.channels.view().permuted_axes([0, axes[0] + 1, axes[1] + 1, axes[2] + 1]);
    for axis in 0..3 {
        if flipped[axis] {
            view.invert_axis(Axis(axis + 1));
        }
    }
    Images {
        channels: view.as_standard_layout().into_owned(),
        spacing: axes.map(|axis| images.spacing[axis]),
    }
}

#[test]
fn flips_and_permuted_axes_give_the_same_map() {
    let (fixed, moving) = warped_hills();
    let register = |fixed: &Images, moving: &Images| {
        let start = affine(fixed, moving, &AffineOptions::default());
        let found = deform(fixed, moving, &start.affine, &VelocityOptions::default());
        found.map.image(moving.channel(0), None)
    };
    let wanted = register(&fixed, &moving);
    for (axes, flipped) in [([0, 1, 2], [true, false, true]), ([2, 0, 1], [false, true, false])] {
        let ours = register(&turned(&fixed, axes, flipped), &turned(&moving, axes, flipped));
        let wanted = Images { channels: wanted.clone().insert_axis(Axis(0)), spacing: [1.0; 3] };
        let wanted = turned(&wanted, axes, flipped);
        let worst = ours.iter().zip(&wanted.channels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.02, "{axes:?} {flipped:?}: {worst}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (fixed, moving) = warped_hills();
    let work = || {
        let start = affine(&fixed, &moving, &AffineOptions::default());
        let options = VelocityOptions { iterations: vec![8, 4], ..VelocityOptions::default() };
        let found = deform(&fixed, &moving, &start.affine, &options);
        let cases = [fixed.clone(), moving.clone(), fixed.clone()];
        let options = TemplateOptions { deformation: options, ..TemplateOptions::default() };
        let made = template(&cases, &options, &mut |_| {});
        (found.map, made.image.channels, made.maps)
    };
    let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work);
    assert_eq!(run(1), run(3));
}

#[test]
fn labels_are_pulled_as_probabilities() {
    let frame = Frame { shape: [4, 3, 1], spacing: [2.0, 1.0, 5.0] };
    let labels = Array3::from_shape_fn((4, 3, 1), |(x, y, _)| if y == 2 { 9 } else { (x / 2) as u8 });
    let map = Map::affine(frame, frame, Affine::translation([1.0, 0.0, 0.0]));
    let pulled = map.labels(labels.view(), 2);
    assert!(pulled.sum_axis(Axis(0)).iter().all(|&sum| (sum - 1.0).abs() < 1e-6));
    // Half a voxel to the right: between the second and the third both classes have a half; on the edge of the box.
    assert_eq!(pulled[[1, 1, 0, 0]], 0.5);
    assert_eq!(pulled[[1, 2, 0, 0]], 1.0);
    assert_eq!(pulled[[1, 3, 1, 0]], 1.0);
    // Numbers beyond the classes are background, as is what lies outside.
    assert_eq!(pulled[[0, 2, 2, 0]], 1.0);
    let far = Map::affine(frame, frame, Affine::translation([30.0, 0.0, 0.0]));
    assert!(far.labels(labels.view(), 2).index_axis(Axis(0), 0).iter().all(|&share| share == 1.0));
    assert!(far.image(labels.mapv(f32::from).view(), Some(-1.0)).iter().all(|&value| value == -1.0));
}

#[test]
fn one_voxel_and_one_plane_are_images_too() {
    for shape in [(1, 1, 1), (24, 20, 1), (1, 40, 2)] {
        let image = |shift: f32| {
            let channels = Array4::from_shape_fn((2, shape.0, shape.1, shape.2), |(c, x, y, z)| {
                let r = (x as f32 - 11.0 - shift).powi(2) + (y as f32 - 10.0).powi(2) + z as f32;
                (-r / 20.0).exp() + c as f32
            });
            Images { channels, spacing: [1.0, 1.0, 3.0] }
        };
        let (fixed, moving) = (image(0.0), image(1.0));
        let start = affine(&fixed, &moving, &AffineOptions::default());
        let found = deform(&fixed, &moving, &start.affine, &VelocityOptions::default());
        assert!(found.map.points().iter().all(|value| value.is_finite()), "{shape:?}: {start:?}");
        if shape == (24, 20, 1) {
            close(start.affine.shift[0], 1.0, 0.1, "shift in the plane");
            assert!(found.map.jacobian().iter().all(|&value| value > 0.0));
        }
        let made = template(&[fixed.clone(), moving], &TemplateOptions::default(), &mut |_| {});
        assert_eq!(made.image.frame(), fixed.frame());
    }
}

#[test]
fn a_template_has_the_mean_size_and_its_maps_lead_to_the_cases() {
    let sizes = [0.85, 1.0, 1.15];
    let cases = sizes.map(|size| {
        let grow = Affine {
            matrix: [[size, 0.0, 0.0], [0.0, size, 0.0], [0.0, 0.0, size]],
            shift: [1.0, 0.0, -1.0],
        };
        moved_hills(&grow).1
    });
    let options = TemplateOptions { mean_shape: true, ..TemplateOptions::default() };
    let mut registrations = 0;
    let made = template(&cases, &options, &mut |done| registrations += done);
    assert_eq!(registrations, options.registrations(3));
    assert!(
        made.refused.is_empty() && made.similarity.iter().all(|&value| value > 0.5),
        "{:?}",
        made.similarity
    );
    let standard = |view: ArrayView3<'_, f32>| {
        let mean = view.mean().unwrap();
        let deviation = view.mapv(|value| (value - mean).powi(2)).mean().unwrap().sqrt();
        view.mapv(|value| (value - mean) / deviation)
    };
    for ((case, map), size) in cases.iter().zip(&made.maps).zip(sizes) {
        let pulled = standard(map.image(case.channel(0), None).view());
        let alike = correlation(
            pulled.as_slice().unwrap(),
            &made.image.channel(0).iter().copied().collect::<Vec<_>>(),
        );
        assert!(alike > 0.99, "{alike}");
        // The template is of mean size: the middle of a case is as much larger as the case is.
        let jacobian = f64::from(map.jacobian()[[16, 16, 14]]);
        let mean: f64 = sizes.iter().map(|size: &f64| size.ln()).sum::<f64>() / 3.0;
        close(jacobian.cbrt(), size / mean.exp(), 0.05, "size");
    }
    // One case is its own template.
    let alone = template(&cases[..1], &options, &mut |_| panic!("nothing to register"));
    assert_eq!(alone.maps[0].steps, [Step::Affine(Affine::IDENTITY)]);
}

#[test]
fn an_oblique_scan_is_read_through_an_affine_as_simpleitk_reads_it() {
    let wanted = reference("oblique");
    let grid = |name: &str| {
        let shape: Vec<u64> = serde_json::from_value(wanted[name]["shape"].clone()).unwrap();
        let affine: [[f64; 4]; 3] = serde_json::from_value(wanted[name]["affine"].clone()).unwrap();
        Grid { shape: [0, 1, 2].map(|axis| shape[axis] as usize), affine }
    };
    let (fixed, moving) = (grid("fixed"), grid("moving"));
    let matrix: [[f64; 3]; 3] = serde_json::from_value(wanted["matrix"].clone()).unwrap();
    let shift: [f64; 3] = serde_json::from_value(wanted["shift"].clone()).unwrap();
    let world = Affine { matrix, shift };
    let (to_world, from_world) = (Affine::to_world(&fixed), Affine::to_world(&moving).inverse().unwrap());
    let map = Map::affine(Frame::of(&fixed), Frame::of(&moving), to_world.then(&world).then(&from_world));
    let scan = Array3::from_shape_fn((12, 11, 9), |(x, y, z)| (100.0 * noise(x + 7, y, z)) as f32);
    let ours = map.image(scan.view(), Some(-1.0));
    for (ours, wanted) in ours.iter().zip(wanted["values"].as_array().unwrap()) {
        close(f64::from(*ours), number(wanted), 0.01, "value");
    }
}
