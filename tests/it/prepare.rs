//! Tests of `segen::prepare`.

use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4, ArrayView3, Axis, ShapeBuilder, s};
use proptest::prelude::*;
use segen::data::dataset::{Case, Dataset, LabelScheme, Region};
use segen::image::nifti;
use segen::image::volume::{Grid, Orientation, Volume};
use segen::plan::{Budget, Fingerprint, Intensities, Plan};
use segen::prepare::Normalisation;
use segen::prepare::{
    Geometry, IGNORE, MAX_POSITIONS, PreparedCase, Restorer, Sample, cache_folder, prepare_all,
};
use segen::progress::Silent;
use serde_json::Value;

use crate::support::{data, real};

/// A data set in a temporary folder.
struct Made {
    folder: tempfile::TempDir,
    dataset: Dataset,
}

impl Made {
    fn new(channels: usize, classes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..classes).map(|class| format!("class{class}")).collect();
        let region = |class: usize| Region { name: format!("class{class}"), values: vec![class as u8] };
        let regions = (1..classes).map(region).collect();
        let dataset = Dataset {
            folder: folder.path().join("Dataset001_Made"),
            name: "Dataset001_Made".to_owned(),
            channels: (0..channels).map(|channel| format!("MRI{channel}")).collect(),
            labels: LabelScheme {
                names,
                regions,
                ignore: None,
                regions_class_order: None,
                trained: Default::default(),
            },
            file_ending: ".nii.gz".to_owned(),
            training: Vec::new(),
            test: Vec::new(),
            splits: None,
        };
        std::fs::create_dir_all(&dataset.folder).unwrap();
        Self { folder, dataset }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Writes a case and returns it.
    fn add(&mut self, id: &str, images: &[Array3<f32>], labels: Option<&Array3<u8>>, grid: &Grid) -> Case {
        let folder = &self.dataset.folder;
        let write = |(channel, voxels): (usize, &Array3<f32>)| {
            let path = folder.join(format!("{id}_{channel:04}.nii.gz"));
            nifti::write_image(&path, &Volume::new(voxels.clone(), grid.clone()), None).unwrap();
            path
        };
        let images = images.iter().enumerate().map(write).collect();
        let labels = labels.map(|voxels| {
            let path = folder.join(format!("{id}.nii.gz"));
            nifti::write_labels(&path, &Volume::new(voxels.clone(), grid.clone()), None).unwrap();
            path
        });
        let case = Case { id: id.to_owned(), images, labels, mask: None };
        self.dataset.training.push(case.clone());
        case
    }

    fn mask(&self, case: &mut Case, mask: &Array3<u8>, grid: &Grid) {
        let path = self.dataset.folder.join(format!("{}-mask.nii.gz", case.id));
        nifti::write_labels(&path, &Volume::new(mask.clone(), grid.clone()), None).unwrap();
        case.mask = Some(path);
    }

    fn plan(&self, spacing: [f64; 3], normalisation: Normalisation) -> Plan {
        let intensities = Intensities {
            mean: 0.0,
            median: 0.0,
            std: 1.0,
            min: 0.0,
            max: 1.0,
            percentile_00_5: 0.0,
            percentile_99_5: 1.0,
        };
        let fingerprint = Fingerprint {
            spacings: vec![spacing],
            shapes: vec![[32; 3]],
            relative_size_after_cropping: 1.0,
            intensities: vec![intensities; self.dataset.channels.len()],
            class_voxels: vec![1; self.dataset.labels.classes()],
            masked_cases: 0,
        };
        let plan = Plan::decide(&self.dataset, fingerprint, &Budget::NNUNET).unwrap();
        Plan { normalisation: vec![normalisation; self.dataset.channels.len()], ..plan }
    }

    fn prepare_all(&self, plan: &Plan) -> Vec<PreparedCase> {
        let cases: Vec<&Case> = self.dataset.training.iter().collect();
        prepare_all(&self.dataset, &plan.recipe(), &cases, &self.cache(), &Silent).unwrap()
    }
}

const Z_SCORE: Normalisation = Normalisation::ZScore { masked: false };

/// Repeatable numbers that look random.
fn scatter(seed: u64, index: usize) -> f32 {
    let mixed = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1u64 << 24) as f32
}

fn noise(seed: u64, shape: [usize; 3]) -> Array3<f32> {
    let mut index = 0;
    Array3::from_shape_simple_fn(shape, || {
        index += 1;
        1.0 + 100.0 * scatter(seed, index)
    })
}

fn random_labels(seed: u64, shape: [usize; 3], classes: usize) -> Array3<u8> {
    noise(seed, shape).mapv(|v| (v as usize % classes) as u8)
}

/// A frame of zeros, so that there is something to crop.
fn framed(mut voxels: Array3<f32>) -> Array3<f32> {
    let [x, y, z]: [usize; 3] = voxels.dim().into();
    for ((i, j, k), value) in voxels.indexed_iter_mut() {
        if i < 2 || j < 1 || k < 3 || i + 1 >= x || j + 2 >= y || k + 1 >= z {
            *value = 0.0;
        }
    }
    voxels
}

fn orientations() -> Vec<Orientation> {
    let permutations = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let all = permutations.into_iter().flat_map(|axes| {
        (0..8).map(move |bits| Orientation { axes, flipped: std::array::from_fn(|w| bits >> w & 1 == 1) })
    });
    all.collect()
}

/// The grid of the file that stores RAS+ voxels of `world` in another orientation.
fn stored_grid(world: &Grid, orientation: &Orientation) -> Grid {
    let mut grid = Grid { shape: [0; 3], affine: [[0.0; 4]; 3] };
    for w in 0..3 {
        grid.shape[orientation.axes[w]] = world.shape[w];
    }
    for row in 0..3 {
        grid.affine[row][3] = world.affine[row][3];
        for w in 0..3 {
            let column = world.affine[row][w];
            let sign = if orientation.flipped[w] { -1.0 } else { 1.0 };
            grid.affine[row][orientation.axes[w]] = sign * column;
            if orientation.flipped[w] {
                grid.affine[row][3] += column * (world.shape[w] as f64 - 1.0);
            }
        }
    }
    grid
}

fn one_hot(labels: ArrayView3<'_, u8>, classes: usize) -> Array4<f32> {
    let (x, y, z) = labels.dim();
    Array4::from_shape_fn((classes, x, y, z), |(class, x, y, z)| {
        f32::from(u8::from(usize::from(labels[[x, y, z]]) == class))
    })
}

/// Pushes planes in uneven portions.
fn restore(geometry: &Geometry, scores: &Array4<f32>) -> segen::image::volume::Labels {
    let mut restorer = Restorer::new(geometry, scores.dim().0);
    let (mut at, mut portion) = (0, 1);
    while at < scores.dim().1 {
        let end = (at + portion).min(scores.dim().1);
        restorer.push(scores.slice(s![.., at..end, .., ..]));
        (at, portion) = (end, portion % 3 + 1);
    }
    restorer.finish()
}

#[test]
fn every_orientation_gives_the_same_sample_and_its_own_grid_back() {
    let world = Grid {
        shape: [11, 12, 13],
        affine: [[0.9, 0.1, 0.0, -7.0], [-0.1, 1.1, 0.2, 3.0], [0.0, -0.2, 1.3, 1.0]],
    };
    let images = [framed(noise(1, world.shape)), framed(noise(2, world.shape))];
    let labels = {
        let mut labels = random_labels(3, world.shape, 3);
        labels.zip_mut_with(&images[0], |label, value| *label *= u8::from(*value != 0.0));
        labels
    };
    for spacing in [world.spacing(), [1.0, 0.8, 1.5]] {
        let mut first: Option<Sample> = None;
        for (number, orientation) in orientations().into_iter().enumerate() {
            let mut made = Made::new(2, 3);
            let grid = stored_grid(&world, &orientation);
            let store = |voxels: &Array3<f32>| orientation.undo(voxels.view()).to_owned();
            let stored_labels = orientation.undo(labels.view()).to_owned();
            let id = format!("case{number}");
            let case = made.add(&id, &[store(&images[0]), store(&images[1])], Some(&stored_labels), &grid);
            let plan = made.plan(spacing, Z_SCORE);
            let plan = Plan { spacing, ..plan };
            let sample = plan.recipe().prepare(&made.dataset, &case).unwrap();
            let file_grid = nifti::read_header(&case.images[0]).unwrap().grid();
            assert_eq!(sample.geometry.original, file_grid);
            let sample_labels = sample.labels.as_ref().unwrap();
            let restored = restore(&sample.geometry, &one_hot(sample_labels.view(), 3));
            assert_eq!(restored.grid, file_grid, "the affine must come back bit for bit");
            if spacing == world.spacing() {
                assert_eq!(sample.geometry.crop_start, [2, 1, 3]);
                assert_eq!(sample.geometry.shape, [8, 9, 9]);
                assert_eq!(restored.voxels, stored_labels, "{}", orientation.letters());
            }
            match &first {
                None => first = Some(sample),
                Some(first) => {
                    assert!(sample.images == first.images, "images differ in {}", orientation.letters());
                    assert!(sample.labels == first.labels, "labels differ in {}", orientation.letters());
                    assert_eq!(sample.classes, first.classes);
                }
            }
        }
    }
}

#[test]
fn samples_and_restored_scores_equal_those_of_nnunet() {
    let file: Value = serde_json::from_slice(&std::fs::read(data("prepare.json")).unwrap()).unwrap();
    let bytes = std::fs::read(data("prepare.bin")).unwrap();
    let size = |v: &Value| v.as_u64().unwrap() as usize;
    let shape = |v: &Value| -> Vec<usize> { v["shape"].as_array().unwrap().iter().map(size).collect() };
    // From (.., z, y, x) to (.., x, y, z).
    let floats = |v: &Value| {
        let (shape, start) = (shape(v), size(&v["start"]));
        let count: usize = shape.iter().product();
        let values = bytes[start..start + 4 * count].chunks_exact(4);
        let values = values.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let array = Array4::from_shape_vec((shape[0], shape[1], shape[2], shape[3]), values).unwrap();
        array.permuted_axes([0, 3, 2, 1])
    };
    let labels = |v: &Value| {
        let (shape, start) = (shape(v), size(&v["start"]));
        let count: usize = shape.iter().product();
        let values = bytes[start..start + count].to_vec();
        Array3::from_shape_vec((shape[0], shape[1], shape[2]), values).unwrap().permuted_axes([2, 1, 0])
    };
    let triple = |v: &Value| -> [f64; 3] { [2, 1, 0].map(|axis: usize| v[axis].as_f64().unwrap()) };
    let ct = &file["ct"];
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 4);
    for (number, case) in cases.iter().enumerate() {
        let images = floats(&case["images"]);
        let channels = images.dim().0;
        let mut made = Made::new(channels, 3);
        let grid = {
            let (_, x, y, z) = images.dim();
            Grid::with_spacing([x, y, z], triple(&case["spacing"]))
        };
        let images: Vec<_> = images.outer_iter().map(|image| image.to_owned()).collect();
        let one = made.add("one", &images, Some(&labels(&case["labels"])), &grid);
        let masked = case["masked"].as_bool().unwrap();
        let scheme = |v: &Value| match v.as_str().unwrap() {
            "ZScoreNormalization" => Normalisation::ZScore { masked },
            "CTNormalization" => Normalisation::Ct {
                lower: ct["percentile_00_5"].as_f64().unwrap(),
                upper: ct["percentile_99_5"].as_f64().unwrap(),
                mean: ct["mean"].as_f64().unwrap(),
                std: ct["std"].as_f64().unwrap(),
            },
            "RescaleTo01Normalization" => Normalisation::Rescale,
            other => panic!("{other}"),
        };
        let plan = Plan {
            spacing: triple(&case["target"]),
            normalisation: case["schemes"].as_array().unwrap().iter().map(scheme).collect(),
            ..made.plan([1.0; 3], Z_SCORE)
        };
        let sample = plan.recipe().prepare(&made.dataset, &one).unwrap();
        let crop: Vec<usize> = case["crop"].as_array().unwrap().iter().map(|v| size(&v[0])).collect();
        assert_eq!(sample.geometry.crop_start.to_vec(), crop.into_iter().rev().collect::<Vec<_>>());

        let theirs = floats(&case["data"]);
        assert_eq!(sample.images.dim(), theirs.dim(), "case {number}");
        let largest = sample.images.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-5, "case {number}: images differ by {largest}");
        assert_eq!(sample.labels.as_ref().unwrap(), &labels(&case["seg"]), "case {number}: labels");

        // Scores come back as nnU-Net's export brings them back, and the labels are their largest class.
        let (scores, back) = (floats(&case["scores"]), floats(&case["back"]));
        let mut largest = 0f32;
        let mut planes = 0;
        let mut restorer = Restorer::new(&sample.geometry, 3).with_sink(|x, plane| {
            assert_eq!(x, planes);
            planes += 1;
            let theirs = back.index_axis(Axis(1), x);
            largest = plane.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(largest, f32::max);
        });
        restorer.push(scores.view());
        let restored = restorer.finish();
        assert_eq!(planes, sample.geometry.crop_shape[0]);
        assert!(largest < 1e-5, "case {number}: scores differ by {largest}");
        let [x0, y0, z0] = sample.geometry.crop_start;
        let mut inside = 0;
        for ((x, y, z), &label) in restored.voxels.indexed_iter() {
            let at = [(x, x0), (y, y0), (z, z0)].map(|(at, start)| at.wrapping_sub(start));
            let score = |class: usize| back.get((class, at[0], at[1], at[2])).copied();
            match [score(0), score(1), score(2)] {
                [Some(a), Some(b), Some(c)] => {
                    inside += 1;
                    let chosen = [a, b, c][usize::from(label)];
                    assert!(chosen >= a.max(b).max(c) - 1e-5, "case {number}");
                }
                _ => assert_eq!(label, 0, "outside of the crop box"),
            }
        }
        assert_eq!(inside, sample.geometry.crop_shape.iter().product::<usize>());
    }
}

#[test]
fn a_region_of_interest_limits_crop_statistics_and_sampling() {
    let mut made = Made::new(1, 2);
    let shape = [10, 11, 12];
    let grid = Grid::with_spacing(shape, [1.0; 3]);
    let image = noise(5, shape);
    let mut case = made.add("one", std::slice::from_ref(&image), Some(&Array3::ones(shape)), &grid);
    let inside =
        |x: usize, y: usize, z: usize| (2..7).contains(&x) && (3..9).contains(&y) && z > 3 && x + y > 6;
    let mask = Array3::from_shape_fn(shape, |(x, y, z)| u8::from(inside(x, y, z)));
    made.mask(&mut case, &mask, &grid);
    let sample = made.plan([1.0; 3], Z_SCORE).recipe().prepare(&made.dataset, &case).unwrap();
    assert_eq!((sample.geometry.crop_start, sample.geometry.crop_shape), ([2, 3, 4], [5, 6, 8]));
    let cropped = mask.slice(s![2..7, 3..9, 4..]).to_owned();
    assert_eq!(sample.mask.as_ref(), Some(&cropped));
    let values: Vec<f64> = sample
        .images
        .iter()
        .zip(&cropped)
        .filter(|(_, inside)| **inside == 1)
        .map(|(v, _)| f64::from(*v))
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
    assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5, "{mean} {square}");
    assert!(sample.images.iter().zip(&cropped).all(|(v, inside)| *inside == 1 || *v == 0.0));
    assert_eq!(sample.classes[1].count, values.len() as u64);
    assert!(sample.classes[1].positions.iter().all(|p| cropped[p.map(|i| i as usize)] == 1));
}

#[test]
fn positions_are_voxels_of_their_class_and_never_ignored_ones() {
    let mut made = Made::new(1, 2);
    made.dataset.labels.ignore = Some(2);
    let shape = [40, 30, 20];
    let labels = Array3::from_shape_fn(shape, |(x, y, _)| match x * y % 7 {
        0 => 2,
        1 => 1,
        _ => 0,
    });
    let case = made.add("one", &[noise(1, shape)], Some(&labels), &Grid::with_spacing(shape, [1.0; 3]));
    let sample = made.plan([1.0; 3], Z_SCORE).recipe().prepare(&made.dataset, &case).unwrap();
    let ours = sample.labels.unwrap();
    assert!(ours.iter().zip(&labels).all(|(a, b)| *a == if *b == 2 { IGNORE } else { *b }));
    for (class, voxels) in sample.classes.iter().enumerate() {
        assert_eq!(voxels.count, labels.iter().filter(|l| usize::from(**l) == class).count() as u64);
        assert_eq!(voxels.positions.len() as u64, voxels.count.min(MAX_POSITIONS as u64));
        assert!(voxels.positions.iter().all(|p| usize::from(ours[p.map(|i| i as usize)]) == class));
    }
    assert!(sample.classes[0].count > MAX_POSITIONS as u64);
}

#[test]
fn prediction_needs_no_labels() {
    let mut made = Made::new(2, 2);
    let shape = [6, 7, 8];
    let images = [noise(1, shape), noise(2, shape)];
    let case = made.add("scan_007", &images, None, &Grid::with_spacing(shape, [1.0; 3]));
    let sample = made.plan([1.0; 3], Z_SCORE).recipe().prepare_images(&case.images, None).unwrap();
    assert_eq!((sample.id.as_str(), sample.labels.is_none(), sample.classes.len()), ("scan_007", true, 0));
}

fn error(result: segen::Result<Sample>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn bad_cases_are_errors_that_name_the_file() {
    let shape = [5, 6, 7];
    let grid = Grid::with_spacing(shape, [1.0; 3]);
    let mut made = Made::new(1, 2);
    let plan = made.plan([1.0; 3], Z_SCORE);

    let mut image = noise(1, shape);
    image[[1, 2, 3]] = f32::NAN;
    image[[4, 2, 3]] = f32::INFINITY;
    let case = made.add("nan", &[image], Some(&Array3::zeros(shape)), &grid);
    let text = error(plan.recipe().prepare(&made.dataset, &case));
    assert!(
        text.contains("nan_0000.nii.gz") && text.contains("2 of 210") && text.contains("[1, 2, 3]"),
        "{text}"
    );

    let case = made.add("label", &[noise(1, shape)], Some(&Array3::from_elem(shape, 2)), &grid);
    let text = error(plan.recipe().prepare(&made.dataset, &case));
    assert!(text.contains("label.nii.gz") && text.contains("210 voxels have the value 2"), "{text}");

    let case = made.add("black", &[Array3::zeros(shape)], Some(&Array3::zeros(shape)), &grid);
    assert!(error(plan.recipe().prepare(&made.dataset, &case)).contains("black_0000.nii.gz"));

    let mut case = made.add("shape", &[noise(1, shape)], None, &grid);
    let other = made.add("other", &[noise(1, [5, 6, 8])], None, &Grid::with_spacing([5, 6, 8], [1.0; 3]));
    case.labels = Some(other.images[0].clone());
    assert!(error(plan.recipe().prepare(&made.dataset, &case)).contains("other_0000.nii.gz"));

    let mut shifted = grid.clone();
    shifted.affine[1][3] += 3.0;
    let mut case = made.add("here", &[noise(1, shape)], None, &grid);
    case.labels = made.add("there", &[noise(1, shape)], Some(&Array3::zeros(shape)), &shifted).labels;
    let text = error(plan.recipe().prepare(&made.dataset, &case));
    assert!(text.contains("there.nii.gz") && text.contains("3.000 mm"), "{text}");

    let mut case = made.add("few", &[noise(1, shape)], None, &grid);
    made.dataset.channels.push("second".to_owned());
    let plan = made.plan([1.0; 3], Z_SCORE);
    let text = error(plan.recipe().prepare(&made.dataset, &case));
    assert!(text.contains("few_0000.nii.gz"), "{text}");
    case.images.clear();
    assert!(plan.recipe().prepare(&made.dataset, &case).is_err());
    assert!(plan.recipe().prepare_images(&[], None).is_err());
}

/// Two cases of different shape, one class each beside background.
fn two_cases() -> Made {
    let mut made = Made::new(2, 3);
    for (number, shape) in [[35, 20, 17], [16, 33, 40]].into_iter().enumerate() {
        let seed = number as u64;
        let images = [framed(noise(seed, shape)), noise(seed + 10, shape)];
        let grid = Grid {
            shape,
            affine: [[0.0, -1.1, 0.1, 0.3], [1.0 / 3.0, 0.0, 0.0, -7.7], [0.0, 0.1, 2.0 / 3.0, 1e-3]],
        };
        let mut case =
            made.add(&format!("case{number}"), &images, Some(&random_labels(seed, shape, 3)), &grid);
        let mask = Array3::from_shape_fn(shape, |(x, ..)| u8::from(x > 0));
        made.mask(&mut case, &mask, &grid);
        made.dataset.training[number] = case;
    }
    made
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "segen"))
        .collect();
    found.sort();
    found
}

fn modified(path: &Path) -> std::time::SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

#[test]
fn prepared_cases_are_the_samples_and_are_made_once() {
    let made = two_cases();
    let plan = made.plan([1.0, 0.5, 1.0], Z_SCORE);
    let prepared = made.prepare_all(&plan);
    for (prepared, case) in prepared.iter().zip(&made.dataset.training) {
        let sample = plan.recipe().prepare(&made.dataset, case).unwrap();
        assert!(prepared.load().unwrap() == sample);
        assert_eq!((prepared.id.as_str(), prepared.shape), (case.id.as_str(), sample.geometry.shape));
        assert_eq!(prepared.geometry, sample.geometry, "bit for bit, affine included");
        assert_eq!((prepared.channels, prepared.has_labels, prepared.has_mask), (2, true, true));
    }
    let files = entries(&made.cache());
    let times: Vec<_> = files.iter().map(|path| modified(path)).collect();
    let sizes: Vec<u64> = files.iter().map(|path| path.metadata().unwrap().len()).collect();
    assert_eq!(prepared.iter().map(PreparedCase::bytes).collect::<Vec<_>>(), sizes);

    assert!(made.prepare_all(&plan) == prepared);
    assert_eq!(entries(&made.cache()), files);
    assert_eq!(files.iter().map(|path| modified(path)).collect::<Vec<_>>(), times, "nothing was made again");
    let leftovers = std::fs::read_dir(made.cache())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "tmp"));
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn changed_inputs_and_plans_are_prepared_anew_and_only_those() {
    let mut made = two_cases();
    let plan = made.plan([1.0; 3], Z_SCORE);
    made.prepare_all(&plan);
    let before = entries(&made.cache());

    // Another plan, and back.
    made.prepare_all(&made.plan([1.0; 3], Normalisation::None));
    assert_eq!(entries(&made.cache()).len(), 4);
    made.prepare_all(&plan);
    assert_eq!(entries(&made.cache()).len(), 4);

    // The bytes of one image change, its size and time of modification do not.
    let case = made.dataset.training[0].clone();
    let time = modified(&case.images[1]);
    let (mut image, header) = nifti::read_image(&case.images[1]).unwrap();
    let plain = case.images[1].with_file_name("plain_0001.nii");
    nifti::write_image(&plain, &image, Some(&header)).unwrap();
    std::fs::rename(&plain, &case.images[1]).unwrap();
    set_modified(&case.images[1], time);
    let same_voxels = made.prepare_all(&plan);
    image.voxels[[3, 4, 5]] += 100.0;
    nifti::write_image(&plain, &image, Some(&header)).unwrap();
    assert_eq!(plain.metadata().unwrap().len(), case.images[1].metadata().unwrap().len());
    std::fs::rename(&plain, &case.images[1]).unwrap();
    set_modified(&case.images[1], time);
    let prepared = made.prepare_all(&plan);
    assert!(prepared[0].load().unwrap() == plan.recipe().prepare(&made.dataset, &case).unwrap());
    assert!(prepared[0].load().unwrap().images != same_voxels[0].load().unwrap().images);
    assert!(prepared[1] == same_voxels[1]);
    assert!(before.iter().all(|path| path.exists()), "entries of other runs stay");

    // Labels count too, and the meaning of their values.
    let labels = case.labels.clone().unwrap();
    let (mut voxels, header) = nifti::read_labels(&labels).unwrap();
    voxels.voxels.mapv_inplace(|label| (label + 1) % 3);
    nifti::write_labels(&labels, &voxels, Some(&header)).unwrap();
    let relabelled = made.prepare_all(&plan);
    assert!(relabelled[0].load().unwrap().labels != prepared[0].load().unwrap().labels);
    made.dataset.labels.names.truncate(2);
    made.dataset.labels.ignore = Some(2);
    let ignoring = made.prepare_all(&Plan { classes: 2, ..plan });
    assert!(ignoring[1].load().unwrap().labels.unwrap().iter().any(|label| *label == IGNORE));
}

fn set_modified(path: &Path, time: std::time::SystemTime) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn damaged_entries_are_made_again_and_never_used() {
    let made = two_cases();
    let plan = made.plan([1.0; 3], Z_SCORE);
    let prepared = made.prepare_all(&plan);
    let samples: Vec<Sample> = prepared.iter().map(|case| case.load().unwrap()).collect();
    let path = entries(&made.cache()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let positions = (0..40).map(|k| k * (whole.len() - 1) / 39);
    let mut damages: Vec<Vec<u8>> = positions
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        })
        .collect();
    damages.extend([0, 7, 31, 32, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec()));
    damages.push([&whole[..], &[0]].concat());
    for (number, bytes) in damages.into_iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let again = made.prepare_all(&plan);
        assert!(again == prepared, "damage {number}");
        assert!(again[0].load().unwrap() == samples[0], "damage {number}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "damage {number}");
    }
    // Damage after opening: an error, the entry goes, and the next start makes it again.
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let text = prepared[0].load().unwrap_err().to_string();
    assert!(text.contains("checksum") && !path.exists(), "{text}");
    assert!(made.prepare_all(&plan)[0].load().unwrap() == samples[0]);
    // What a killed run left half written is removed once it is old enough.
    let [young, old] = ["young", "old"].map(|name| made.cache().join(format!(".segen-{name}.tmp")));
    std::fs::write(&young, "half").unwrap();
    std::fs::write(&old, "half").unwrap();
    set_modified(&old, std::time::SystemTime::now() - std::time::Duration::from_secs(4000));
    made.prepare_all(&plan);
    assert!(young.exists() && !old.exists());
    // A note that lies or is damaged only costs time.
    for note in ["", "{", "{\"inputs\":[],\"verified\":null}"] {
        std::fs::write(made.cache().join("case0.note.json"), note).unwrap();
        assert!(made.prepare_all(&plan) == prepared);
    }
}

#[test]
fn concurrent_runs_share_a_cache() {
    let made = two_cases();
    let plan = made.plan([1.0; 3], Z_SCORE);
    let all: Vec<Vec<PreparedCase>> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| made.prepare_all(&plan))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for prepared in &all {
        assert!(prepared == &all[0]);
        for (prepared, case) in prepared.iter().zip(&made.dataset.training) {
            assert!(prepared.load().unwrap() == plan.recipe().prepare(&made.dataset, case).unwrap());
        }
    }
    assert_eq!(entries(&made.cache()).len(), 2);
}

#[test]
fn the_cache_never_lies_in_the_data_set() {
    let made = two_cases();
    let plan = made.plan([1.0; 3], Z_SCORE);
    let inside = made.dataset.folder.join("sub").join("cache");
    let cases: Vec<&Case> = made.dataset.training.iter().collect();
    let error = prepare_all(&made.dataset, &plan.recipe(), &cases, &inside, &Silent).unwrap_err().to_string();
    assert!(error.contains("cache") && !inside.exists(), "{error}");
    let run = made.folder.path().join("runs").join("a");
    assert_eq!(cache_folder(Some(&inside), &made.dataset, &run), inside);
    if std::env::var_os("nnUNet_preprocessed").is_none() {
        let folder = cache_folder(None, &made.dataset, &run);
        assert_eq!(folder, made.folder.path().join("runs/segen-cache/Dataset001_Made"));
        let hidden = cache_folder(None, &made.dataset, &made.dataset.folder.join("run"));
        assert!(!hidden.starts_with(&made.dataset.folder), "{hidden:?}");
    }
}

#[test]
fn threads_change_nothing() {
    let made = two_cases();
    let plan = made.plan([0.7, 0.5, 1.3], Z_SCORE);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| plan.recipe().prepare(&made.dataset, &made.dataset.training[0]).unwrap())
    };
    assert!(with(1) == with(3));
}

#[test]
fn the_real_hippocampus_set_goes_through() {
    let Some(folder) = real("Dataset004_Hippocampus") else { return };
    let dataset = Dataset::open(&folder).unwrap();
    let cases: Vec<&Case> = dataset.training.iter().take(20).collect();
    let fingerprint = Plan::measure(&dataset, &cases, &Silent).unwrap();
    let plan = Plan::decide(&dataset, fingerprint, &Budget::processor(2)).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let prepared = prepare_all(&dataset, &plan.recipe(), &cases, cache.path(), &Silent).unwrap();
    for (prepared, case) in prepared.iter().zip(&cases) {
        let sample = prepared.load().unwrap();
        let reference = nifti::read_labels(case.labels.as_ref().unwrap()).unwrap().0;
        let restored = restore(&sample.geometry, &one_hot(sample.labels.as_ref().unwrap().view(), 3));
        assert_eq!(restored, reference, "{}", case.id);
        let values = sample.images.iter().map(|v| f64::from(*v));
        assert!(values.clone().sum::<f64>().abs() / (sample.images.len() as f64) < 1e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A window is the same part of the loaded sample, padded.
    #[test]
    fn windows_are_parts_of_the_sample(
        shape in prop::array::uniform3(1usize..40),
        windows in prop::collection::vec(
            (prop::array::uniform3(-50i64..60), prop::array::uniform3(0usize..45)), 12),
        seed in any::<u64>(),
    ) {
        let mut made = Made::new(2, 3);
        let images = [noise(seed, shape), noise(seed ^ 1, shape)];
        let labels = random_labels(seed, shape, 3);
        let grid = Grid::with_spacing(shape, [1.0; 3]);
        let mut case = made.add("one", &images, Some(&labels), &grid);
        if seed % 2 == 0 {
            made.mask(&mut case, &Array3::ones(shape), &grid);
            made.dataset.training[0] = case;
        }
        let prepared = made.prepare_all(&made.plan([1.0; 3], Normalisation::None)).remove(0);
        let sample = prepared.load().unwrap();
        prop_assert_eq!(&sample.labels.clone().unwrap(), &labels);
        for (start, shape) in windows {
            let window = prepared.read_window(start, shape).unwrap();
            prop_assert_eq!(window.images.dim(), (2, shape[0], shape[1], shape[2]));
            prop_assert_eq!(window.mask.is_some(), sample.mask.is_some());
            for ((x, y, z), &label) in window.labels.indexed_iter() {
                let at = [x, y, z].iter().zip(start).map(|(i, s)| *i as i64 + s).collect::<Vec<_>>();
                let at = [at[0] as usize, at[1] as usize, at[2] as usize];
                prop_assert_eq!(label, labels.get(at).copied().unwrap_or(IGNORE));
                for channel in 0..2 {
                    let expected = sample.images.get([channel, at[0], at[1], at[2]]).copied().unwrap_or(0.0);
                    prop_assert_eq!(window.images[[channel, x, y, z]], expected);
                }
                if let Some(mask) = &window.mask {
                    prop_assert_eq!(mask[[x, y, z]], u8::from(labels.get(at).is_some()));
                }
            }
        }
    }

    /// At unchanged spacing, prepared labels come back as they were, whatever was cropped.
    #[test]
    fn restoring_undoes_preparing(
        shape in prop::array::uniform3(6usize..14),
        number in 0usize..48,
        seed in any::<u64>(),
    ) {
        let orientation = orientations()[number];
        let world = Grid {
            shape,
            affine: [[1.5, 0.0, 0.2, 9.0], [0.1, 0.7, 0.0, -3.0], [0.0, 0.3, 1.1, 1.0 / 3.0]],
        };
        let image = framed(noise(seed, shape));
        let mut labels = random_labels(seed, shape, 4);
        labels.zip_mut_with(&image, |label, value| *label *= u8::from(*value != 0.0));
        let mut made = Made::new(1, 4);
        let stored = orientation.undo(labels.view()).to_owned();
        let image = orientation.undo(image.view()).to_owned();
        let mut fortran = Array3::zeros(image.raw_dim().f());
        fortran.assign(&image);
        let case = made.add("one", &[fortran], Some(&stored), &stored_grid(&world, &orientation));
        let plan = Plan { spacing: world.spacing(), ..made.plan([1.0; 3], Z_SCORE) };
        let sample = plan.recipe().prepare(&made.dataset, &case).unwrap();
        let restored = restore(&sample.geometry, &one_hot(sample.labels.unwrap().view(), 4));
        prop_assert_eq!(restored.voxels, stored);
        prop_assert_eq!(restored.grid, sample.geometry.original);
    }
}
