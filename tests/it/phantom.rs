//! Tests of `segen::data::phantom`.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{Array3, Zip};
use segen::data::dataset::Dataset;
use segen::data::phantom::{Kind, PhantomCase, PhantomOptions, Split, generate, write};
use segen::image::nifti::{read_image, read_labels};
use segen::progress::Silent;

/// Small enough for many cases in a test.
fn small(kind: Kind) -> PhantomOptions {
    let usual = PhantomOptions::new(kind);
    let (shape, spacing) = match kind {
        Kind::Kits => ([56, 44, 28], [6.0, 6.0, 7.0]),
        _ => ([36, 44, 36], [4.5; 3]),
    };
    PhantomOptions { cases: 10, shape, spacing, ..usual }
}

fn lesion(case: &PhantomCase, kind: Kind) -> Array3<bool> {
    case.labels.voxels.mapv(|label| kind.rare().contains(&label))
}

fn count(mask: &Array3<bool>) -> usize {
    mask.iter().filter(|inside| **inside).count()
}

fn mean(values: impl Iterator<Item = f32>) -> f64 {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), value| (sum + f64::from(value), n + 1));
    sum / n.max(1) as f64
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(place) = open.pop() {
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_set_has_the_wanted_foreground_share() {
    for kind in Kind::ALL {
        for ratio in [100.0, 600.0, 2500.0] {
            let options = PhantomOptions { ratio, ..small(kind) };
            for split in [Split::Training, Split::Test] {
                let (mut inside, mut all) = (0, 0);
                for index in 0..options.count(split) {
                    let case = generate(&options, split, index);
                    inside += count(&lesion(&case, kind));
                    all += case.labels.voxels.len();
                }
                let realised = (all - inside) as f64 / inside as f64;
                assert!((realised / ratio - 1.0).abs() < 0.1, "{kind} {split:?}: 1:{realised} for 1:{ratio}");
            }
        }
    }
}

#[test]
fn lesions_lie_in_tissue_and_differ_in_size() {
    for kind in Kind::ALL {
        let options = small(kind);
        let cases: Vec<PhantomCase> = (0..10).map(|i| generate(&options, Split::Training, i)).collect();
        let sizes: Vec<usize> = cases.iter().map(|case| count(&lesion(case, kind))).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most > &(5 * least.max(&1)), "{kind}: {sizes:?}");
        for case in &cases {
            assert_eq!(case.channels.len(), kind.channels().len());
            let highest = usize::from(case.labels.voxels.iter().copied().max().unwrap());
            assert!(highest <= kind.classes().len());
            for channel in &case.channels {
                assert_eq!(channel.grid, case.labels.grid);
                assert!(channel.voxels.iter().all(|v| v.is_finite() && v.fract() == 0.0));
            }
            if let Some(mask) = &case.mask {
                Zip::from(&mask.voxels).and(&case.labels.voxels).and(&case.channels[0].voxels).for_each(
                    |inside, label, value| {
                        assert!(*inside == 1 || *label == 0, "a label outside the brain");
                        assert!(
                            kind == Kind::Atlas || (*inside == 1) == (*value > 0.0),
                            "stripped to the mask"
                        );
                    },
                );
            }
        }
    }
}

#[test]
fn kidney_tumours_touch_a_kidney_and_ct_is_in_hounsfield_units() {
    let options = PhantomOptions { ratio: 300.0, ..small(Kind::Kits) };
    let mut touching = 0;
    for index in 0..10 {
        let case = generate(&options, Split::Training, index);
        let labels = &case.labels.voxels;
        let near = labels.indexed_iter().any(|((x, y, z), label)| {
            *label == 2
                && [[1, 0, 0], [0, 1, 0], [0, 0, 1]].iter().any(|d| {
                    let at = |sign: isize| {
                        let to = |i: usize, d: isize| i.checked_add_signed(sign * d);
                        labels.get([to(x, d[0])?, to(y, d[1])?, to(z, d[2])?]).copied()
                    };
                    at(1) == Some(1) || at(-1) == Some(1)
                })
        });
        touching += usize::from(near);
        let kidneys = labels.iter().filter(|label| **label == 1).count() as f64 * 6.0 * 6.0 * 7.0 / 1000.0;
        assert!((120.0..700.0).contains(&kidneys), "{kidneys} ml of kidney");
        let image = &case.channels[0].voxels;
        let corner = image[[0, image.dim().1 - 1, 5]];
        assert!((-1024.0..-900.0).contains(&corner), "air has {corner} HU");
        let kidney = mean(image.iter().zip(labels).filter(|(_, l)| **l == 1).map(|(v, _)| *v));
        assert!((60.0..260.0).contains(&kidney), "kidneys have {kidney} HU");
    }
    assert!(touching >= 9, "{touching} of 10 tumours touch a kidney");
}

#[test]
fn glioma_parts_are_nested_and_channels_are_correlated() {
    let options = PhantomOptions { cases: 20, ratio: 100.0, ..small(Kind::Brats) };
    let (mut enhancing, mut healthy) = (0, 0);
    for index in 0..20 {
        let case = generate(&options, Split::Training, index);
        let mask = &case.mask.as_ref().unwrap().voxels;
        let inside = |c: usize| -> Vec<f64> {
            let voxels = &case.channels[c].voxels;
            voxels.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(v, _)| f64::from(*v)).collect()
        };
        let (t1, t1ce, t2) = (inside(2), inside(1), inside(3));
        assert!(correlation(&t1, &t1ce) > 0.5, "T1 and T1ce: {}", correlation(&t1, &t1ce));
        assert!(correlation(&t1, &t2) < -0.2, "T1 and T2: {}", correlation(&t1, &t2));
        let has = |value: u8| case.labels.voxels.iter().any(|label| *label == value);
        assert!(has(1) || !(has(2) || has(3)), "every tumour has oedema");
        healthy += usize::from(!has(1));
        enhancing += usize::from(has(3));
    }
    assert_eq!(healthy, 1, "one in twenty");
    assert!((10..19).contains(&enhancing), "{enhancing} of 19 enhance: some do not, most do");
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let covariance: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    let (va, vb): (f64, f64) =
        (a.iter().map(|x| (x - ma).powi(2)).sum(), b.iter().map(|y| (y - mb).powi(2)).sum());
    covariance / (va * vb).sqrt()
}

/// Contrast of lesions to the white matter of the same case (the brightest tissue in T1), per case.
fn contrasts(options: &PhantomOptions, split: Split) -> Vec<f64> {
    (0..options.count(split))
        .filter_map(|index| {
            let case = generate(options, split, index);
            let lesion = lesion(&case, Kind::Atlas);
            // The same patient with next to no lesion.
            let healthy = generate(&PhantomOptions { ratio: 12_000.0, ..options.clone() }, split, index);
            let voxels = || {
                Zip::indexed(&lesion).fold(Vec::new(), |mut all, i, inside| {
                    if *inside {
                        all.push(i)
                    }
                    all
                })
            };
            let places = voxels();
            if places.len() < 30 {
                return None;
            }
            let [ill, well] =
                [&case, &healthy].map(|case| mean(places.iter().map(|i| case.channels[0].voxels[*i])));
            Some(ill / well - 1.0)
        })
        .collect()
}

#[test]
fn lesions_are_faint_strong_and_bright_and_the_test_set_has_more_faint_ones() {
    let options = PhantomOptions { cases: 60, ratio: 150.0, ..small(Kind::Atlas) };
    let training = contrasts(&options, Split::Training);
    let share = |all: &[f64], wanted: &dyn Fn(f64) -> bool| {
        all.iter().filter(|c| wanted(**c)).count() as f64 / all.len() as f64
    };
    let faint = |c: f64| c.abs() < 0.2;
    assert!(share(&training, &|c| c < -0.35) > 0.2, "holes: {training:?}");
    assert!(share(&training, &faint) > 0.05, "faint ones: {training:?}");
    assert!(share(&training, &|c| c > 0.1) > 0.0, "bright ones: {training:?}");
    let test = contrasts(&PhantomOptions { cases: 150, ..options }, Split::Test);
    assert!(share(&test, &faint) > share(&training, &faint), "test: {test:?}");
}

#[test]
fn the_test_scanner_is_noisier() {
    let options = PhantomOptions { cases: 20, ..small(Kind::Atlas) };
    // Noise in air, relative to the brightest tissue.
    let noise = |split: Split| {
        let n = options.count(split);
        let all = (0..n).map(|index| {
            let case = generate(&options, split, index);
            let image = &case.channels[0].voxels;
            let mut sorted: Vec<f32> = image.iter().copied().collect();
            sorted.sort_by(f32::total_cmp);
            sorted[sorted.len() / 20] / sorted[sorted.len() * 98 / 100]
        });
        mean(all)
    };
    let (training, test) = (noise(Split::Training), noise(Split::Test));
    assert!(test > 1.4 * training, "{training} and {test}");
}

#[test]
fn the_same_patient_keeps_his_anatomy_when_the_ratio_changes() {
    for kind in Kind::ALL {
        let [few, many] = [1500.0, 400.0]
            .map(|ratio| generate(&PhantomOptions { ratio, ..small(kind) }, Split::Training, 3));
        let image = |case: &PhantomCase| case.channels[0].voxels.clone();
        let (few, many) = (image(&few), image(&many));
        let equal = few.iter().zip(&many).filter(|(a, b)| a == b).count();
        assert!(equal * 10 > few.len() * 9, "{kind}: only {equal} of {} voxels are equal", few.len());
        let other = image(&generate(&small(kind), Split::Training, 4));
        let equal = few.iter().zip(&other).filter(|(a, b)| a == b && **a > 0.0).count();
        assert!(equal * 4 < few.len(), "{kind}: two patients are alike");
    }
}

#[test]
fn a_written_set_opens_and_does_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let options = PhantomOptions { cases: 5, seed: 11, ..small(kind) };
        let [one, two] = [1, 2].map(|threads| {
            let place = folder.path().join(format!("Dataset90{threads}_{kind}"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let report = pool.install(|| write(&options, &place, &Silent)).unwrap();
            (place, report)
        });
        assert_eq!(one.1, two.1);
        assert!(files(&one.0) == files(&two.0), "{kind}: files differ between 1 and 2 threads");
        let set = Dataset::open(&one.0).unwrap();
        assert_eq!((set.training.len(), set.test.len()), (5, 2));
        assert_eq!(set.channels, kind.channels());
        assert_eq!(set.labels.names[1..], *kind.classes().iter().map(|n| n.to_string()).collect::<Vec<_>>());
        for (case, split, index) in [(&set.training[3], Split::Training, 3), (&set.test[1], Split::Test, 1)] {
            let made = generate(&options, split, index);
            assert_eq!(case.id, made.id);
            assert_eq!(case.mask.is_some(), kind.has_masks());
            for (path, channel) in case.images.iter().zip(&made.channels) {
                let (read, _) = read_image(path).unwrap();
                assert!(read.voxels == channel.voxels, "{kind}: read back otherwise");
                assert!(read.grid.displacement(&channel.grid).unwrap() < 1e-4);
            }
            let (labels, _) = read_labels(case.labels.as_ref().unwrap()).unwrap();
            assert!(labels.voxels == made.labels.voxels);
        }
        assert!((one.1.training.ratio / options.ratio - 1.0).abs() < 0.1);
    }
}

#[test]
fn nothing_is_overwritten_or_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let error = write(&small(Kind::Atlas), &taken, &Silent).unwrap_err().to_string();
    assert!(error.contains("exists") && error.contains("taken"), "{error}");
    for (field, options) in [
        ("ratio", PhantomOptions { ratio: 1e9, ..small(Kind::Atlas) }),
        ("ratio", PhantomOptions { ratio: f64::NAN, ..small(Kind::Atlas) }),
        ("ratio", PhantomOptions { ratio: 3.0, ..small(Kind::Atlas) }),
        ("shape", PhantomOptions { shape: [64, 3, 64], ..small(Kind::Kits) }),
        ("spacing", PhantomOptions { spacing: [1.0, f64::NAN, 1.0], ..small(Kind::Kits) }),
        ("cases", PhantomOptions { cases: 0, ..small(Kind::Brats) }),
    ] {
        let error = write(&options, &folder.path().join("new"), &Silent).unwrap_err().to_string();
        assert!(error.starts_with(field) && error.contains("hint"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the folder that was there before");
    assert!("mars".parse::<Kind>().is_err());
}
