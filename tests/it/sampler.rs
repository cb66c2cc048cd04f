//! Tests of `segen::batch::sampler`.

use ndarray::{Array3, Array4};
use segen::batch::sampler::{Purpose, Sampler, Share, Sites, generator};
use segen::prepare::Placement;
use segen::prepare::{IGNORE, Sample};

use crate::support;

/// 24 x 20 x 16 voxels with a block of class 1 and two voxels of class 3; class 2 is absent.
fn sample() -> Sample {
    let mut labels = Array3::zeros((24, 20, 16));
    labels.slice_mut(ndarray::s![2..8, 3..6, 4..9]).fill(1);
    labels[[22, 18, 15]] = 3;
    labels[[1, 0, 0]] = 3;
    support::sample("blocks", Array4::zeros((1, 24, 20, 16)), labels)
}

fn place(sampler: &Sampler, sample: &Sample, index: usize, step: u64) -> Placement {
    let mut random = generator(11, step, index, Purpose::Placement);
    sampler.place(index, 0, &Sites::of_sample(sample).unwrap(), &mut random).unwrap()
}

#[test]
fn the_last_third_of_a_batch_seeks_foreground() {
    let sample = sample();
    // From nnU-Net's rule, `not index < round(batch * (1 - 0.33))`.
    for (batch, first) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 5), (9, 6), (50, 34)] {
        let sampler = Sampler::new([8, 8, 8], batch);
        for index in 0..batch {
            assert_eq!(
                place(&sampler, &sample, index, 0).sought.is_some(),
                index >= first,
                "{index} of {batch}"
            );
        }
    }
}

#[test]
fn foreground_classes_that_are_there_are_sought_alike_and_their_voxels_uniformly() {
    let sample = sample();
    let sampler = Sampler { share: Share::Probability(1.0), ..Sampler::new([3, 3, 3], 1) };
    let (mut classes, mut first_voxel) = ([0; 4], 0);
    let draws = 20_000;
    for step in 0..draws {
        let placement = place(&sampler, &sample, 0, step);
        let class = placement.sought.unwrap();
        classes[usize::from(class)] += 1;
        first_voxel += i32::from(class == 3 && placement.start[0] == 0);
        let centre = placement.start.map(|start| (start + 1) as usize);
        // Start is never below 0, so the voxel at (1, 0, 0) cannot be the centre of its patch.
        let at_the_edge = centre == [1, 1, 1];
        assert_eq!(placement.centre_class, if at_the_edge { 0 } else { class });
        assert_eq!(sample.labels.as_ref().unwrap()[centre], placement.centre_class);
    }
    assert_eq!([classes[0], classes[2]], [0, 0]);
    let deviation = f64::sqrt(draws as f64 / 4.0) as i32;
    assert!((classes[1] - draws as i32 / 2).abs() < 5 * deviation, "{classes:?}");
    assert!((first_voxel - draws as i32 / 4).abs() < 5 * deviation, "{first_voxel}");
}

#[test]
fn a_probability_applies_to_every_place_alike() {
    let sample = sample();
    let sampler = Sampler { share: Share::Probability(0.8), ..Sampler::new([8, 8, 8], 4) };
    for index in 0..4 {
        let sought = (0..5000).filter(|step| place(&sampler, &sample, index, *step).sought.is_some()).count();
        assert!((3_859..4_141).contains(&sought), "{sought} of 5000 at place {index}");
    }
}

#[test]
fn free_patches_lie_inside_and_reach_every_start() {
    let sample = sample();
    let sampler = Sampler { share: Share::Probability(0.0), ..Sampler::new([21, 20, 19], 1) };
    let mut starts = std::collections::BTreeSet::new();
    for step in 0..300 {
        let placement = place(&sampler, &sample, 0, step);
        assert_eq!(placement.sought, None);
        starts.insert(placement.start);
    }
    // 24 - 21 leaves 4 starts; 20 - 20 one; the patch is 3 longer than 16, so 2 or 1 voxels of padding before.
    let expected = (0..4).flat_map(|x| [[x, 0, -2], [x, 0, -1]]);
    assert_eq!(starts.into_iter().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn a_case_without_foreground_gives_free_patches() {
    let sample = support::sample("empty", Array4::zeros((1, 9, 9, 9)), Array3::zeros((9, 9, 9)));
    let sampler = Sampler { share: Share::Probability(1.0), ..Sampler::new([4, 4, 4], 1) };
    for step in 0..100 {
        let placement = place(&sampler, &sample, 0, step);
        assert_eq!((placement.sought, placement.centre_class), (None, 0));
        assert!(placement.start.iter().all(|start| (0..=5).contains(start)));
    }
}

#[test]
fn free_patches_of_partly_annotated_cases_are_centred_on_annotated_voxels() {
    let mut labels = Array3::from_elem((30, 30, 30), IGNORE);
    labels.slice_mut(ndarray::s![10..20, 10..20, 10..14]).fill(0);
    labels.slice_mut(ndarray::s![12..14, 12..14, 12..13]).fill(1);
    let sample = support::sample("scribbles", Array4::zeros((1, 30, 30, 30)), labels);
    let sampler = Sampler { share: Share::Probability(0.0), ..Sampler::new([5, 5, 5], 1) };
    let mut foreground = 0;
    for step in 0..20_000 {
        let placement = place(&sampler, &sample, 0, step);
        assert_ne!(placement.centre_class, IGNORE);
        foreground += u32::from(placement.centre_class == 1);
    }
    // 4 of the 400 annotated voxels.
    assert!((130..270).contains(&foreground), "{foreground} of 20000, expected 200");
}

#[test]
fn settings_that_cannot_be_drawn_from_are_refused() {
    let good = Sampler::new([8, 8, 8], 2);
    good.check().unwrap();
    for bad in [
        Sampler { batch: 0, ..good.clone() },
        Sampler { patch: [8, 0, 8], ..good.clone() },
        Sampler { share: Share::Probability(1.1), ..good.clone() },
        Sampler { share: Share::Probability(f64::NAN), ..good },
    ] {
        assert!(bad.check().unwrap_err().to_string().contains("sampler"));
    }
}
