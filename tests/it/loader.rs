//! Tests of `segen::batch::loader`.

use std::sync::Arc;

use ndarray::{Array3, Array4};
use segen::augment::Augmentation;
use segen::batch::Batch;
use segen::batch::loader::Loader;
use segen::batch::sampler::{Purpose, Redraws, Sampler, Share, Sites, generator};
use segen::batch::source::SampleSource;
use segen::data::dataset::{Case, Dataset, LabelScheme, Region};
use segen::image::nifti;
use segen::image::volume::{Grid, Volume};
use segen::learn::checkpoint::History;
use segen::plan::{Budget, Fingerprint, Intensities, Plan};
use segen::prepare::{IGNORE, PreparedCase, Sample, prepare_all};
use segen::progress::Silent;

use crate::support;

/// Five cases of different shapes with three classes.
fn samples() -> Vec<Sample> {
    (0..5)
        .map(|case| {
            let shape = (14 + case, 17, 20 - 2 * case);
            let images = Array4::from_shape_fn((2, shape.0, shape.1, shape.2), |(c, x, y, z)| {
                ((x * 31 + y * 17 + z * 7 + c * 101 + case * 13) % 23) as f32 * 0.1 - 1.0
            });
            let labels =
                Array3::from_shape_fn(
                    shape,
                    |(x, y, z)| {
                        if x < 5 && y > 9 { 1 } else { u8::from(z == 6 && y == 8) * 2 }
                    },
                );
            support::sample(&format!("case_{case}"), images, labels)
        })
        .collect()
}

fn source() -> Arc<SampleSource> {
    Arc::new(SampleSource::in_memory(samples(), 3))
}

fn sampler() -> Sampler {
    Sampler::new([9, 12, 10], 3)
}

fn load(source: &Arc<SampleSource>, steps: std::ops::Range<u64>, threads: usize, queue: usize) -> Vec<Batch> {
    let augmentation = Augmentation::basic(None, [true; 3]);
    let count = steps.end - steps.start;
    let mut loader = Loader::start(Arc::clone(source), sampler(), augmentation, 4, steps, threads, queue);
    (0..count)
        .map(|_| {
            let batch = loader.next().unwrap();
            // The only field that tells of the clock.
            Batch { seconds: 0.0, ..batch }
        })
        .collect()
}

#[test]
fn batches_do_not_depend_on_threads_queue_or_where_the_run_began() {
    let source = source();
    let expected = load(&source, 0..25, 1, 1);
    for (threads, queue) in [(1, 4), (2, 2), (3, 7), (4, 40)] {
        assert_eq!(load(&source, 0..25, threads, queue), expected, "{threads} threads, queue {queue}");
    }
    for resumed_at in [1, 13, 24] {
        assert_eq!(load(&source, resumed_at..25, 2, 3), expected[resumed_at as usize..]);
    }
}

/// Batches by their numbers, three for every fourth step, changed as `augmentation` says.
fn redrawn(
    source: &Arc<SampleSource>,
    augmentation: &Augmentation,
    numbers: std::ops::Range<u64>,
    (patches, threads): (usize, usize),
) -> Vec<Batch> {
    let sampler = Sampler { redraws: Some(Redraws { every: 4, draws: 3, patches }), ..sampler() };
    let count = numbers.end - numbers.start;
    let mut loader = Loader::start(source.clone(), sampler, augmentation.clone(), 4, numbers, threads, 3);
    (0..count).map(|_| Batch { seconds: 0.0, ..loader.next().unwrap() }).collect()
}

#[test]
fn redrawn_batches_hold_the_patches_of_training_in_their_places() {
    let source = source();
    let raw = |patches| redrawn(&source, &Augmentation::none(), 0..9, (patches, 1));
    let mut training = Loader::start(source.clone(), sampler(), Augmentation::none(), 4, 0..9, 1, 2);
    let trained: Vec<Batch> = (0..9).map(|_| Batch { seconds: 0.0, ..training.next().unwrap() }).collect();
    for (number, batch) in raw(3).iter().enumerate() {
        assert_eq!(*batch, trained[number / 3 * 4], "number {number}");
    }
    // One patch of three is the middle one.
    for (number, batch) in raw(1).iter().enumerate() {
        let of = &trained[number / 3 * 4];
        assert_eq!((batch.step, &batch.cases[..]), (of.step, &of.cases[1..2]));
        let one = of.inputs[0].values.len() / 3;
        assert_eq!(batch.inputs[0].values, of.inputs[0].values[one..2 * one]);
    }
    // Every draw is another one, whatever the threads are and wherever a run goes on.
    let list = Augmentation::basic(None, [true; 3]);
    let expected = redrawn(&source, &list, 0..9, (3, 1));
    for pair in expected.windows(2) {
        assert_ne!(pair[0].inputs, pair[1].inputs);
    }
    assert_ne!(expected[0].inputs, load(&source, 0..1, 1, 1)[0].inputs, "another draw than that of training");
    assert_eq!(redrawn(&source, &list, 0..9, (3, 3)), expected);
    assert_eq!(redrawn(&source, &list, 3..9, (3, 2)), expected[3..]);
}

#[test]
fn classes_are_counted_exactly() {
    let source = source();
    let samples = samples();
    let mut seen = History::new(20, 3);
    let (mut centres, mut voxels) = ([0_u64; 256], [0_u64; 256]);
    for batch in load(&source, 0..20, 2, 4) {
        seen.count(&batch, 0.0);
        let [input] = batch.inputs.as_slice() else { panic!("one pathway") };
        assert_eq!(input.shape, [3, 2, 9, 12, 10]);
        assert_eq!(batch.label_shape, [3, 9, 12, 10]);
        assert_eq!(input.values.len(), input.shape.iter().product::<usize>());
        batch.labels.iter().for_each(|label| voxels[usize::from(*label)] += 1);
        for index in 0..3 {
            let mut random = generator(4, batch.step, index, Purpose::Placement);
            let case = sampler().draw_case(samples.len(), &mut random);
            let sites = Sites::of_sample(&samples[case]).unwrap();
            let placement = sampler().place(index, case, &sites, &mut random).unwrap();
            assert_eq!(batch.cases[index], samples[case].id);
            assert_eq!(batch.centre_classes[index], placement.centre_class);
            assert_eq!(batch.sought[index], placement.sought);
            centres[usize::from(placement.centre_class)] += 1;
        }
    }
    let (of_centres, of_voxels) = (&seen.patches_per_centre_class, &seen.voxels_per_class);
    assert_eq!((&of_centres[..], &of_voxels[..]), (&centres[..3], &voxels[..3]));
    assert_eq!((of_centres.iter().sum::<u64>(), of_voxels.iter().sum::<u64>()), (60, 60 * 9 * 12 * 10));
    // Foreground classes are sought by one patch in three, so the rare one is seen at all.
    assert!(of_centres[2] > 0 && of_voxels[2] > 0, "{seen:?}");
}

#[test]
fn ignored_voxels_are_counted_in_no_class() {
    let labels = Array3::from_elem((8, 8, 8), IGNORE);
    let sample = support::sample("ignored", Array4::zeros((1, 8, 8, 8)), labels);
    let source = Arc::new(SampleSource::in_memory(vec![sample], 2));
    let sampler = Sampler::new([8, 8, 8], 1);
    let mut loader = Loader::start(source, sampler, Augmentation::none(), 0, 0..1, 1, 1);
    let batch = loader.next().unwrap();
    assert_eq!(batch.class_voxels, [0, 0]);
    assert_eq!(batch.centre_classes, [IGNORE]);
    let mut seen = History::new(1, 2);
    seen.count(&batch, 0.0);
    assert_eq!(seen.patches_per_centre_class, [0, 0]);
}

#[test]
fn faults_come_out_of_next_and_name_the_case() {
    let fault = |samples: Vec<Sample>, sampler: Sampler| {
        let source = Arc::new(SampleSource::in_memory(samples, 3));
        let mut loader = Loader::start(source, sampler, Augmentation::none(), 0, 0..4, 2, 2);
        (0..4).find_map(|_| loader.next().err()).expect("an error").to_string()
    };
    let mut unlabelled = samples();
    unlabelled.iter_mut().for_each(|sample| sample.labels = None);
    let message = fault(unlabelled, sampler());
    assert!(message.contains("case_") && message.contains("no labels"), "{message}");

    let mut channels = samples();
    channels[2].images = Array4::zeros((1, 16, 17, 16));
    let message = fault(channels, Sampler { batch: 20, ..sampler() });
    assert!(message.contains("channels"), "{message}");

    let mut labels = samples();
    labels.iter_mut().for_each(|sample| sample.labels.as_mut().unwrap().fill(3));
    let message = fault(labels, sampler());
    assert!(message.contains("case_") && message.contains("label 3"), "{message}");

    let message = fault(Vec::new(), sampler());
    assert!(message.contains("training cases"), "{message}");

    let message = fault(samples(), Sampler { share: Share::Probability(-1.0), ..sampler() });
    assert!(message.contains("probability"), "{message}");

    // Labels of another shape than the images are a bug of the caller: a panic in a worker, an error here.
    let mut shapes = samples();
    shapes.iter_mut().for_each(|sample| sample.labels = Some(Array3::zeros((2, 2, 2))));
    let message = fault(shapes, sampler());
    assert!(message.contains("internal error while making the batch"), "{message}");
}

#[test]
fn dropping_ends_the_threads() {
    let source = source();
    let mut loader =
        Loader::start(Arc::clone(&source), sampler(), Augmentation::none(), 0, 0..1_000_000_000, 4, 3);
    assert_eq!(loader.next().unwrap().step, 0);
    drop(loader);
    // Threads hold the source; after the drop only this one does.
    assert_eq!(Arc::strong_count(&source), 1);
}

#[test]
fn asking_beyond_the_last_step_is_an_error() {
    let mut loader = Loader::start(source(), sampler(), Augmentation::none(), 0, 5..6, 2, 2);
    assert_eq!(loader.next().unwrap().step, 5);
    assert!(loader.next().unwrap_err().to_string().contains("last step, 6"));
}

/// The cases of a small data set, prepared on disk.
fn prepared(folder: &std::path::Path) -> Vec<PreparedCase> {
    let names: Vec<String> = ["background", "organ", "lesion"].map(str::to_owned).to_vec();
    let region = |class: u8| Region { name: names[usize::from(class)].clone(), values: vec![class] };
    let mut dataset = Dataset {
        folder: folder.join("Dataset001_Loader"),
        name: "Dataset001_Loader".to_owned(),
        channels: vec!["T1".to_owned(), "T2".to_owned()],
        labels: LabelScheme {
            regions: (1..3).map(region).collect(),
            names: names.clone(),
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
    for sample in samples() {
        let grid = Grid::with_spacing(sample.geometry.shape, [1.0; 3]);
        let path = |name: String| dataset.folder.join(name);
        let images = (0..2).map(|channel| {
            let file = path(format!("{}_{channel:04}.nii.gz", sample.id));
            let voxels = sample.images.index_axis(ndarray::Axis(0), channel).to_owned();
            nifti::write_image(&file, &Volume::new(voxels, grid.clone()), None).unwrap();
            file
        });
        let images = images.collect();
        let labels = path(format!("{}.nii.gz", sample.id));
        nifti::write_labels(&labels, &Volume::new(sample.labels.unwrap(), grid), None).unwrap();
        dataset.training.push(Case { id: sample.id, images, labels: Some(labels), mask: None });
    }
    let measured = Fingerprint {
        spacings: vec![[1.0; 3]],
        shapes: vec![[16; 3]],
        relative_size_after_cropping: 1.0,
        intensities: vec![
            Intensities {
                mean: 0.0,
                median: 0.0,
                std: 1.0,
                min: 0.0,
                max: 1.0,
                percentile_00_5: 0.0,
                percentile_99_5: 1.0,
            };
            2
        ],
        class_voxels: vec![1; 3],
        masked_cases: 0,
    };
    let plan = Plan::decide(&dataset, measured, &Budget::NNUNET).unwrap();
    let cases: Vec<&Case> = dataset.training.iter().collect();
    prepare_all(&dataset, &plan.recipe(), &cases, &folder.join("cache"), &Silent).unwrap()
}

#[test]
fn cases_larger_than_memory_give_the_same_batches() {
    let folder = tempfile::tempdir().unwrap();
    let cases = prepared(folder.path());
    let samples = cases.iter().map(|case| case.load().unwrap()).collect();
    let expected = load(&Arc::new(SampleSource::in_memory(samples, 3)), 0..25, 1, 1);
    let total: u64 = cases.iter().map(PreparedCase::bytes).sum();
    for memory in [0, total / 2, total] {
        let source = Arc::new(SampleSource::prepared(cases.clone(), 3, memory));
        assert_eq!(load(&source, 0..25, 2, 3), expected, "{memory} of {total} bytes");
    }
}

#[test]
fn a_case_that_cannot_be_read_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let cases = prepared(folder.path());
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    for memory in [0, u64::MAX] {
        let source = Arc::new(SampleSource::prepared(cases.clone(), 3, memory));
        let mut loader = Loader::start(source, sampler(), Augmentation::none(), 4, 0..9, 2, 2);
        let message = loader.next().unwrap_err().to_string();
        assert!(message.contains("case_"), "{message}");
    }
}
