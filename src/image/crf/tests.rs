//! The field of a small grid against values of brute force and of pydensecrf2, and its properties.

use ndarray::{Array3, Array4, Axis};

use super::*;

const SHAPE: [usize; 3] = [4, 3, 2];
const SPACING: [f64; 3] = [1.0, 1.0, 2.5];

/// Two channels and three classes on 4 x 3 x 2 voxels.
fn example() -> (Array4<f32>, Array4<f32>) {
    let [x, y, z] = SHAPE;
    let images = Array4::from_shape_fn((2, x, y, z), |(c, x, y, z)| {
        let [x, y, z] = [x, y, z].map(|v| v as f64);
        let value = match c {
            0 => (0.7 * x + 0.4 * y - 0.9 * z).sin(),
            _ => (1.1 * x - 0.6 * y + 0.5 * z).cos(),
        };
        value as f32
    });
    let logits = Array4::from_shape_fn((3, x, y, z), |(c, x, y, z)| {
        let [x, y, z] = [x, y, z].map(|v| v as f64);
        match c {
            0 => 0.9 * (0.5 * x + 1.3 * y + 0.8 * z).sin(),
            1 => 0.7 * (0.9 * x - 0.4 * y + 1.7 * z).cos(),
            _ => 0.6 * (1.9 * x + 0.3 * y - 0.2 * z + 1.0).sin(),
        }
    });
    let exp = logits.mapv(f64::exp);
    let probabilities = &exp / &exp.sum_axis(Axis(0));
    (probabilities.mapv(|p| p as f32), images)
}

/// The sum over voxels i and classes l of (i + 1)(l + 1) Q_i(l).
fn check(q: &[f32], classes: usize) -> f64 {
    let of = |(at, q): (usize, &f32)| ((at / classes + 1) * (at % classes + 1)) as f64 * f64::from(*q);
    q.iter().enumerate().map(of).sum()
}

fn settings() -> Settings {
    Settings {
        iterations: 5,
        smooth: Kernel { weight: 1.0, millimetres: 2.0 },
        appearance: Kernel { weight: 2.0, millimetres: 4.0 },
        intensity: 0.5,
        background: 1.0,
    }
}

/// The field of the example, its second channel divided so that one standard deviation serves for both.
fn field(settings: &Settings) -> Field {
    let (probabilities, mut images) = example();
    images.index_axis_mut(Axis(0), 1).mapv_inplace(|v| v * 0.5 / 0.8);
    Field::of(probabilities.view(), images.view(), None, SPACING, settings).unwrap().unwrap()
}

#[test]
fn the_lattice_and_the_exact_smoothness_are_those_of_the_references() {
    let field = field(&settings());
    let (lattice, _) = field.appearance.as_ref().unwrap();
    assert_eq!(lattice.vertices(), 67);
    let mut sums = vec![0f32; 24];
    lattice.sums(&[1.0; 24], 1, &mut sums);
    for (sum, known) in sums.iter().zip([4.038685, 1.525297, 4.741267]) {
        assert!((sum - known).abs() < 1e-5, "{sum} {known}");
    }
    let (separable, _) = field.smooth.as_ref().unwrap();
    field.smooth_sums(separable, &[1.0; 24], 1, &mut sums);
    for (at, known) in [(0, 10.209683956), (2, 11.341663434)] {
        assert!((f64::from(sums[at]) - known).abs() < 1e-5, "{} {known}", sums[at]);
    }
    assert!(
        (check(&field.mean_field(&Settings { iterations: 1, ..settings() }), 3) - 574.31706398).abs() < 1e-3
    );
    let q = field.mean_field(&settings());
    assert!((check(&q, 3) - 497.15014224).abs() < 1e-3, "{}", check(&q, 3));
    for (q, known) in q.iter().zip([0.3918005, 0.31844337, 0.28975613]) {
        assert!((q - known).abs() < 2e-6, "{q} {known}");
    }
}

/// Sums by brute force in double precision, and mean field over them.
#[test]
fn mean_field_over_exact_sums_is_that_of_brute_force() {
    let (probabilities, images) = example();
    let at = |i: usize| [i / 6, i / 2 % 3, i % 2];
    let near = |i: usize, j: usize, sigma: f64| {
        let squares = (0..3).map(|a| ((at(i)[a] as f64 - at(j)[a] as f64) * SPACING[a] / sigma).powi(2));
        -0.5 * squares.sum::<f64>()
    };
    let value = |c: usize, i: usize| f64::from(images[[c, at(i)[0], at(i)[1], at(i)[2]]]);
    let alike = |i: usize, j: usize| {
        let square = |c: usize, sigma: f64| ((value(c, i) - value(c, j)) / sigma).powi(2);
        -0.5 * (square(0, 0.5) + square(1, 0.8))
    };
    let smooth = |i: usize, j: usize| near(i, j, 2.0).exp();
    let appearance = |i: usize, j: usize| (near(i, j, 4.0) + alike(i, j)).exp();
    let kernels = [(1.0, &smooth as &dyn Fn(usize, usize) -> f64), (2.0, &appearance)];
    let log_p: Vec<[f64; 3]> = (0..24)
        .map(|i| [0, 1, 2].map(|c| f64::from(probabilities[[c, at(i)[0], at(i)[1], at(i)[2]]]).ln()))
        .collect();
    let normalised = |a: [f64; 3]| {
        let exp = a.map(f64::exp);
        exp.map(|e| e / exp.iter().sum::<f64>())
    };
    let mut q: Vec<[f64; 3]> = log_p.iter().map(|&a| normalised(a)).collect();
    for _ in 0..5 {
        let mut next = log_p.clone();
        for (weight, kernel) in &kernels {
            let sum = |i: usize| (0..24).map(|j| kernel(i, j)).sum::<f64>();
            let sums: Vec<f64> = (0..24).map(sum).collect();
            for i in 0..24 {
                for j in 0..24 {
                    let k = kernel(i, j) / (sums[i] * sums[j]).sqrt();
                    (0..3).for_each(|c| next[i][c] += weight * k * q[j][c]);
                }
            }
        }
        q = next.into_iter().map(normalised).collect();
    }
    let flat: Vec<f32> = q.iter().flatten().map(|&v| v as f32).collect();
    assert!((check(&flat, 3) - 492.4335887821).abs() < 1e-3, "{}", check(&flat, 3));
    // The lattice is an approximation of the same.
    let ours = field(&settings()).mean_field(&settings());
    let largest = ours.iter().zip(&flat).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 0.02, "{largest}");
    // Smoothness alone is exact.
    let mut alone = settings();
    alone.appearance.weight = 0.0;
    assert!(field(&alone).appearance.is_none());
}

#[test]
fn without_weights_or_foreground_nothing_changes_and_probabilities_sum_to_one() {
    let (probabilities, images) = example();
    let mut none = settings();
    (none.smooth.weight, none.appearance.weight) = (0.0, 0.0);
    let same = refine(probabilities.view(), images.view(), None, SPACING, &none).unwrap();
    assert_eq!(same, probabilities);
    let mut background = Array4::zeros(probabilities.raw_dim());
    background.index_axis_mut(Axis(0), 0).fill(1.0);
    let same = refine(background.view(), images.view(), None, SPACING, &settings()).unwrap();
    assert_eq!(same, background);
    let mut mask = Array3::<u8>::ones((4, 3, 2));
    mask[[1, 1, 1]] = 0;
    let refined =
        refine(probabilities.view(), images.view(), Some(mask.view()), SPACING, &settings()).unwrap();
    assert!(refined.sum_axis(Axis(0)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    for class in 0..3 {
        assert_eq!(refined[[class, 1, 1, 1]], probabilities[[class, 1, 1, 1]]);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_and_too_fine_a_kernel_is_refused() {
    let (shape, classes) = ((12, 10, 8), 3);
    let wave = |c: usize, x: usize, y: usize, z: usize| {
        (0.3 * (x * (c + 1)) as f32 + 0.5 * y as f32 - 0.2 * (z * c) as f32).sin()
    };
    let images = Array4::from_shape_fn((1, shape.0, shape.1, shape.2), |(c, x, y, z)| wave(c + 3, x, y, z));
    let logits =
        Array4::from_shape_fn((classes, shape.0, shape.1, shape.2), |(c, x, y, z)| wave(c, x, y, z).exp());
    let probabilities = &logits / &logits.sum_axis(Axis(0));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| refine(probabilities.view(), images.view(), None, [1.0; 3], &settings()).unwrap())
    };
    let one = with(1);
    assert_eq!(one, with(2));
    assert_eq!(one, with(3));
    let fine = Settings { intensity: 1e-6, ..settings() };
    assert_eq!(refine(probabilities.view(), images.view(), None, [1.0; 3], &fine), Err(OutOfRange));
}
