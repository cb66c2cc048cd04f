//! `segen register`: what it writes carries voxels as it says, on scans with oblique and flipped axes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output};

use ndarray::Array3;
use segen::image::volume::{Grid, Image, Labels};
use segen::image::{read_channels, read_image, read_labels, write_image, write_labels};

/// A smooth body at a point in world millimetres.
fn body(world: [f64; 3], bend: f64) -> f64 {
    let [x, y, z] = world;
    let (x, y, z) = (x + bend * (y / 7.0).sin(), y - bend * (z / 6.0).cos(), z + bend * (x / 8.0).sin());
    let inside = 1.0 / (1.0 + (((x * x / 1.5 + y * y + z * z).sqrt() - 9.0) / 2.0).exp());
    1000.0 * inside * (1.2 + (0.5 * x).sin() * (0.45 * y).cos() + 0.5 * (0.55 * z).sin())
}

/// Turned about all axes, with the given spacing; its middle lies at the origin.
fn oblique(shape: [usize; 3], spacing: [f64; 3], flipped: [bool; 3], angle: f64) -> Grid {
    let (s, c) = angle.sin_cos();
    let rotation = [[c * c, -s, c * s], [s * c, c, s * s], [-s, 0.0, c]];
    let mut affine = [[0.0; 4]; 3];
    for row in 0..3 {
        for axis in 0..3 {
            affine[row][axis] = rotation[row][axis] * spacing[axis] * if flipped[axis] { -1.0 } else { 1.0 };
            affine[row][3] -= affine[row][axis] * (shape[axis] as f64 - 1.0) / 2.0;
        }
    }
    Grid { shape, affine }
}

fn image(grid: &Grid, bend: f64) -> Image {
    let voxels = Array3::from_shape_fn(grid.shape, |(x, y, z)| {
        body(grid.world([x as f64, y as f64, z as f64]), bend) as f32
    });
    Image::new(voxels, grid.clone())
}

struct Scans {
    folder: tempfile::TempDir,
    moving: PathBuf,
    fixed: PathBuf,
    labels: PathBuf,
}

impl Scans {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let (moving, fixed, labels) = (place("moving.nii.gz"), place("fixed.nii"), place("labels.nii.gz"));
        let of_moving = oblique([26, 22, 28], [1.3, 1.4, 1.1], [false, true, false], 0.15);
        let of_fixed = oblique([24, 30, 18], [1.4, 1.1, 1.8], [true, false, false], -0.1);
        let scan = image(&of_moving, 2.0);
        let classes = scan.voxels.mapv(|value| if value > 1200.0 { 7 } else { u8::from(value > 500.0) });
        write_image(&moving, &scan, None).unwrap();
        write_image(&fixed, &image(&of_fixed, 0.0), None).unwrap();
        write_labels(&labels, &Labels::new(classes, of_moving), None).unwrap();
        Self { folder, moving, fixed, labels }
    }

    fn run(&self, out: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_segen"));
        command.arg("register").args([&self.moving, &self.fixed]).arg("-o").arg(self.path(out)).args(more);
        command.output().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// From the world to voxel indices.
fn inverse(grid: &Grid) -> impl Fn([f64; 3]) -> [f64; 3] + use<> {
    let a = grid.affine;
    let cofactor = move |i: usize, j: usize| {
        let [r, s, c, d] = [(j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3];
        a[r][c] * a[s][d] - a[r][d] * a[s][c]
    };
    let determinant: f64 = (0..3).map(|j| a[j][0] * cofactor(0, j)).sum();
    move |p| [0, 1, 2].map(|i| (0..3).map(|j| cofactor(i, j) / determinant * (p[j] - a[j][3])).sum())
}

/// Linearly between voxels, as ITK: up to half a voxel beyond the outer centres, else 0.
fn read(scan: &Image, index: [f64; 3]) -> f64 {
    let shape = scan.grid.shape;
    if (0..3).any(|axis| index[axis] < -0.5 || index[axis] > shape[axis] as f64 - 0.5) {
        return 0.0;
    }
    let index = [0, 1, 2].map(|axis| index[axis].clamp(0.0, shape[axis] as f64 - 1.0));
    let mut sum = 0.0;
    for corner in 0..8 {
        let (mut weight, mut at) = (1.0, [0; 3]);
        for axis in 0..3 {
            let (below, upper) = (index[axis].floor(), corner >> axis & 1);
            weight *= if upper == 1 { index[axis] - below } else { 1.0 - index[axis] + below };
            at[axis] = (below as usize + upper).min(shape[axis] - 1);
        }
        sum += weight * f64::from(scan.voxels[at]);
    }
    sum
}

/// How a field moves the centre of a voxel, in world millimetres: files hold LPS.
fn moved(field: &[Image], at: [usize; 3]) -> [f64; 3] {
    let here = field[0].grid.world(at.map(|index| index as f64));
    [0, 1, 2].map(|axis| here[axis] + f64::from(field[axis].voxels[at]) * if axis < 2 { -1.0 } else { 1.0 })
}

/// The largest difference, away from the border of the moving scan, where rounding decides what lies outside.
fn worst(registered: &Image, moving: &Image, to: impl Fn([usize; 3]) -> [f64; 3]) -> f64 {
    let back = inverse(&moving.grid);
    let mut worst = 0.0_f64;
    for ((x, y, z), &value) in registered.voxels.indexed_iter() {
        let index = back(to([x, y, z]));
        let near = |axis: usize| {
            let edge = moving.grid.shape[axis] as f64 - 0.5;
            (index[axis] + 0.5).abs() < 1e-3 || (index[axis] - edge).abs() < 1e-3
        };
        if !(0..3).any(near) {
            worst = worst.max((read(moving, index) - f64::from(value)).abs());
        }
    }
    worst
}

fn numbers(text: &str, key: &str) -> Vec<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn difference(a: &Image, b: &Image) -> f64 {
    let squares = a.voxels.iter().zip(&b.voxels).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>() / a.voxels.len() as f64
}

#[test]
fn a_deformation_and_its_files_say_the_same() {
    let scans = Scans::new();
    let labels = scans.labels.to_str().unwrap().to_owned();
    let done = scans.run("out", &["--labels", &labels, "--json"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let out = scans.path("out");
    let (registered, header) = read_image(&out.join("registered.nii.gz")).unwrap();
    let (fixed, of_fixed) = read_image(&scans.fixed).unwrap();
    let (moving, of_moving) = read_image(&scans.moving).unwrap();
    assert_eq!(header.grid(), of_fixed.grid(), "bit for bit");

    let (field, header) = read_channels(&out.join("displacement.nii.gz")).unwrap();
    assert_eq!((field.len(), header.grid()), (3, of_fixed.grid()));
    let apart = worst(&registered, &moving, |at| moved(&field, at));
    assert!(apart < 1.0, "{apart} of a range of 2700");
    let (backward, header) = read_channels(&out.join("inverse_displacement.nii.gz")).unwrap();
    assert_eq!(header.grid(), of_moving.grid());

    // It fits, and better than an affine.
    let result: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let fit = &result["deformation"]["local_correlation"];
    let (before, after) = (fit[0].as_f64().unwrap(), fit[1].as_f64().unwrap());
    assert!(after > before + 0.05, "{before} -> {after}");
    assert!(scans.run("affine", &["--transform", "affine"]).status.success());
    let (affine, _) = read_image(&scans.path("affine/registered.nii.gz")).unwrap();
    let (before, after) = (difference(&fixed, &affine), difference(&fixed, &registered));
    assert!(after < 0.8 * before, "{before} -> {after}, {result}");

    // There and back, in the middle.
    let into = inverse(&of_moving.grid());
    let there = moved(&field, [12, 15, 9]);
    let nearest = into(there).map(|index| index.round() as usize);
    let returned = moved(&backward, nearest);
    let (middle, near) =
        (of_fixed.grid().world([12.0, 15.0, 9.0]), of_moving.grid().world(nearest.map(|i| i as f64)));
    for axis in 0..3 {
        // The nearest voxel lies beside the point by less than a voxel, and so does what it comes back to.
        let beside = near[axis] - there[axis];
        assert!((returned[axis] - middle[axis] - beside).abs() < 0.5, "axis {axis}");
    }
    let (jacobian, _) = read_image(&out.join("jacobian.nii.gz")).unwrap();
    let smallest = jacobian.voxels.iter().copied().fold(f32::INFINITY, f32::min);
    let mean = jacobian.voxels.mean().unwrap();
    assert!(smallest > 0.0 && (mean - 1.0).abs() < 0.3, "{smallest}, {mean}, {result}");

    let (pulled, header) = read_labels(&out.join("labels.nii.gz")).unwrap();
    assert_eq!(header.grid(), of_fixed.grid());
    let share = |class: u8, from: f32, to: f32| {
        let pairs = || pulled.voxels.iter().zip(&fixed.voxels);
        let wanted = |value: f32| value > from && value <= to;
        let both = pairs().filter(|(label, value)| **label == class && wanted(**value)).count();
        let sizes = pairs().filter(|(label, _)| **label == class).count();
        2.0 * both as f64 / (sizes + pairs().filter(|(_, value)| wanted(**value)).count()) as f64
    };
    assert!(share(7, 1200.0, 1e9) > 0.8 && share(1, 500.0, 1200.0) > 0.7);
    assert!(pulled.voxels.iter().all(|label| [0, 1, 7].contains(label)));
}

#[test]
fn the_affine_file_is_itks() {
    let scans = Scans::new();
    for how in ["rigid", "affine"] {
        let done = scans.run(how, &["--transform", how, "--threads", "1"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let out = scans.path(how);
        assert!(!out.join("displacement.nii.gz").exists());
        let text = std::fs::read_to_string(out.join("affine.tfm")).unwrap();
        assert!(text.starts_with("#Insight Transform File V1.0\n"), "{text}");
        let (p, centre) = (numbers(&text, "Parameters:"), numbers(&text, "FixedParameters:"));
        let (registered, header) = read_image(&out.join("registered.nii.gz")).unwrap();
        let (moving, _) = read_image(&scans.moving).unwrap();
        let grid = header.grid();
        // ITK: y = A (x - c) + c + t, in LPS.
        let to = |at: [usize; 3]| {
            let here = grid.world(at.map(|index| index as f64));
            let lps = [-here[0], -here[1], here[2]];
            let there = [0, 1, 2].map(|row| {
                (0..3).map(|c| p[3 * row + c] * (lps[c] - centre[c])).sum::<f64>() + centre[row] + p[9 + row]
            });
            [-there[0], -there[1], there[2]]
        };
        let apart = worst(&registered, &moving, to);
        assert!(apart < 1.0, "{how}: {apart} of a range of 2700");
    }
}

#[test]
fn what_cannot_be_registered_is_said() {
    let scans = Scans::new();
    let refused = |output: Output, parts: &[&str]| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in parts {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    };
    let (scan, _) = read_image(&scans.moving).unwrap();
    // Labels of another scan.
    let other = scans.path("other.nii.gz");
    let (fixed, _) = read_image(&scans.fixed).unwrap();
    write_labels(&other, &Labels::new(fixed.voxels.mapv(|_| 1), fixed.grid), None).unwrap();
    refused(scans.run("a", &["--labels", other.to_str().unwrap()]), &["other.nii.gz", "moving scan"]);
    // A voxel that is no number.
    let mut broken = scan.clone();
    broken.voxels[[3, 2, 1]] = f32::NAN;
    write_image(&scans.moving, &broken, None).unwrap();
    refused(scans.run("b", &[]), &["moving.nii.gz", "(3, 2, 1)", "NaN"]);
    write_image(&scans.moving, &scan, None).unwrap();
    // Where the user's own files lie.
    let folder = scans.path("mine");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("registered.nii.gz"), "mine").unwrap();
    refused(scans.run("mine", &["--transform", "rigid"]), &["registered.nii.gz", "--overwrite"]);
    assert_eq!(std::fs::read(folder.join("registered.nii.gz")).unwrap(), b"mine");
    refused(scans.run("c", &["--transform", "elastic"]), &["elastic", "rigid"]);
    let constant = Image::new(Array3::from_elem(scan.grid.shape, 4.0), scan.grid.clone());
    write_image(&scans.moving, &constant, None).unwrap();
    assert!(scans.run("d", &[]).status.success(), "a constant scan stays where the headers put it");
    read_image(&scans.path("d/registered.nii.gz")).unwrap();
}
