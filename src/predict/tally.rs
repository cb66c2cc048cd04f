//! Counts the log-odds of a case while its planes of probabilities stream by; see [`crate::score::operating`].
//!
//! Probabilities are not kept. What is: the reference, and for the lesions one byte a voxel and class, the bin of its
//! log-odds.

use ndarray::{Array3, ArrayView3, s};

use crate::data::dataset::LabelScheme;
use crate::image::components::{Connectivity, components, overlaps};
use crate::image::volume::Labels;
use crate::prepare::{Geometry, IGNORE};
use crate::score::operating::{
    CaseOdds, ClassOdds, Counter, Lesions, MOST_CLASSES, THRESHOLDS, ZERO, bin, edge_of_bias,
};

/// Counts of one case that is being predicted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Class of the reference on the oriented grid; [`IGNORE`] where a voxel does not count.
    truth: Array3<u8>,
    crop_start: [usize; 3],
    /// Of every foreground class.
    classes: Vec<ClassOdds>,
    joint: Option<Counter>,
    /// Of every foreground class, the bin of each voxel; empty where lesions are not counted.
    bins: Vec<Array3<u8>>,
    /// Voxels of each reference class that have not come by.
    left: Vec<u64>,
}

impl Tally {
    /// Ready for the first plane of a case. Voxels outside `mask` and those that the reference marks to be ignored do
    /// not count.
    pub(super) fn new(
        geometry: &Geometry,
        scheme: &LabelScheme,
        reference: &Labels,
        mask: Option<&Labels>,
    ) -> Self {
        let class_of = scheme.class_of_value();
        let known = scheme.classes();
        let oriented = |labels: &Labels| geometry.orientation.apply(labels.voxels.view()).to_owned();
        let mut truth = oriented(reference).mapv(|value| match class_of {
            _ if scheme.ignore == Some(value) => IGNORE,
            Some(classes) => classes[usize::from(value)],
            // A value without a class counts as background, as it does for scores.
            None if usize::from(value) < known => value,
            None => 0,
        });
        if let Some(mask) = mask {
            truth.zip_mut_with(&oriented(mask), |class, &inside| {
                if inside == 0 {
                    *class = IGNORE;
                }
            });
        }
        let mut left = vec![0; known];
        for class in truth.iter().filter(|class| **class != IGNORE) {
            left[usize::from(*class)] += 1;
        }
        let foreground = known - 1;
        let few = foreground <= MOST_CLASSES;
        Self {
            crop_start: geometry.crop_start,
            classes: scheme.names[1..].iter().map(|name| ClassOdds::new(name)).collect(),
            joint: (foreground > 1 && few).then(|| Counter::new(foreground)),
            bins: (0..foreground).filter(|_| few).map(|_| Array3::zeros(truth.dim())).collect(),
            truth,
            left,
        }
    }

    /// Counts plane x of the crop box, (class, y, z).
    pub(super) fn plane(&mut self, x: usize, plane: ArrayView3<'_, f32>) {
        let (classes, ny, nz) = plane.dim();
        let [x0, y0, z0] = self.crop_start;
        let mut logs = vec![0.0; classes];
        for y in 0..ny {
            for z in 0..nz {
                let at = [x0 + x, y0 + y, z0 + z];
                let truth = self.truth[at];
                if truth == IGNORE {
                    continue;
                }
                self.left[usize::from(truth)] -= 1;
                let values = plane.slice(s![.., y, z]);
                logs.iter_mut().zip(values).for_each(|(log, p)| *log = f64::from(*p).ln());
                self.voxel(at, truth, &logs);
            }
        }
    }

    fn voxel(&mut self, at: [usize; 3], truth: u8, logs: &[f64]) {
        // The largest, the first of equal ones, and the next one.
        let (mut largest, mut second) = (0, f64::NEG_INFINITY);
        for class in 1..logs.len() {
            if logs[class] > logs[largest] {
                second = logs[largest];
                largest = class;
            } else {
                second = second.max(logs[class]);
            }
        }
        for class in 1..logs.len() {
            let others = if class == largest { second } else { logs[largest] };
            let bin = match bin(logs[class] - others) {
                // Equal to a later class, and the first of equal ones wins.
                bin if class == largest => bin.max(ZERO),
                bin => bin,
            };
            let counts = &mut self.classes[class - 1];
            let histogram =
                if usize::from(truth) == class { &mut counts.reference } else { &mut counts.others };
            histogram.count_in(bin, 1);
            if let Some(bins) = self.bins.get_mut(class - 1) {
                bins[at] = bin as u8;
            }
        }
        if let Some(joint) = &mut self.joint {
            joint.count(truth, largest as u8, logs, 1);
        }
    }

    /// The counts, once all planes have come by. What lies outside the crop box is background for certain.
    pub(super) fn finish(mut self, case: &str) -> CaseOdds {
        let mut certain = vec![f64::NEG_INFINITY; self.classes.len() + 1];
        certain[0] = 0.0;
        for (truth, &voxels) in self.left.iter().enumerate().filter(|(_, voxels)| **voxels > 0) {
            for (class, counts) in (1..).zip(&mut self.classes) {
                let histogram = if truth == class { &mut counts.reference } else { &mut counts.others };
                histogram.count_in(0, voxels);
            }
            if let Some(joint) = &mut self.joint {
                joint.count(truth as u8, 0, &certain, voxels);
            }
        }
        for ((class, counts), bins) in (1..).zip(&mut self.classes).zip(&self.bins) {
            counts.lesions = Some(lesions(&self.truth, class, bins));
        }
        CaseOdds {
            case: case.to_owned(),
            classes: self.classes,
            joint: self.joint.map(Counter::finish),
            bias: None,
            at_bias: Vec::new(),
        }
    }
}

/// Lesions of a class found, and components invented, at every threshold.
fn lesions(truth: &Array3<u8>, class: u8, bins: &Array3<u8>) -> Lesions {
    let reference = truth.mapv(|value| value == class);
    let parts = components(reference.view(), Connectivity::TwentySix);
    let mut highest = vec![0_u8; parts.sizes.len()];
    for (part, bin) in parts.labels.iter().zip(bins).filter(|(part, _)| **part > 0) {
        let highest = &mut highest[*part as usize - 1];
        *highest = (*highest).max(*bin);
    }
    let above = |bin: u8, threshold: f64| usize::from(bin) >= edge_of_bias(-threshold);
    let count = |threshold: f64| highest.iter().filter(|bin| above(**bin, threshold)).count() as u64;
    let invented = |threshold: f64| {
        let found = bins.mapv(|bin| above(bin, threshold));
        let parts = overlaps(found.view(), reference.view(), Connectivity::TwentySix);
        parts.iter().filter(|(_, shared)| *shared == 0).count() as u64
    };
    Lesions {
        reference: parts.sizes.len() as u64,
        found: THRESHOLDS.map(count),
        invented: THRESHOLDS.map(invented),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array4, ArrayView4};
    use rand::RngExt;

    use super::*;
    use crate::data::dataset::{Region, Trained};
    use crate::image::volume::{Grid, Orientation};
    use crate::predict::{Segmenter, segment};
    use crate::prepare::Sample;
    use crate::rng::generator;
    use crate::score::operating::{BINS, Bias, Counts, edge};
    use crate::score::{ScoreOptions, score};

    /// Random probabilities, the same at every call.
    #[derive(Debug)]
    struct Random(Array4<f32>);

    impl Segmenter for Random {
        fn classes(&self) -> usize {
            self.0.dim().0
        }

        fn passes(&self, _: [usize; 3]) -> usize {
            1
        }

        fn predict(&self, _: &Sample, planes: &mut dyn FnMut(ArrayView4<f32>), _: &mut dyn FnMut(usize)) {
            for x in 0..self.0.dim().1 {
                planes(self.0.slice(s![.., x..=x, .., ..]));
            }
        }
    }

    const SHAPE: [usize; 3] = [9, 11, 8];
    const CROP: [usize; 3] = [6, 7, 5];

    struct World {
        segmenter: Random,
        sample: Sample,
        reference: Labels,
        mask: Labels,
        scheme: LabelScheme,
    }

    /// A scan whose axes are turned and whose crop box leaves a part of it out, with a mask and voxels to be ignored.
    fn world(classes: usize, seed: u64) -> World {
        let mut random = generator(seed, &["tally"]);
        let mut probabilities = Array4::zeros((classes, CROP[0], CROP[1], CROP[2]));
        for mut voxel in probabilities.lanes_mut(ndarray::Axis(0)) {
            voxel.mapv_inplace(|_: f32| random.random_range(-4.0_f32..4.0).exp());
            // Ties and certainties occur, too.
            match random.random_range(0..8) {
                0 => voxel.fill(1.0),
                1 => voxel[classes - 1] = 0.0,
                _ => {}
            }
            let sum = voxel.sum();
            voxel.mapv_inplace(|p| p / sum);
        }
        let mut original = Grid::with_spacing(SHAPE, [1.0; 3]);
        original.affine = [[0.0, -1.0, 0.0, 3.0], [1.0, 0.0, 0.0, -2.0], [0.0, 0.0, 1.0, 0.0]];
        let orientation = original.orientation();
        assert_ne!(orientation, Orientation::RAS);
        let mut labels = |highest: u8| {
            let voxels = Array3::from_shape_simple_fn(SHAPE, || random.random_range(0..=highest));
            Labels::new(voxels, original.clone())
        };
        let mut reference = labels(classes as u8);
        let mask = labels(3);
        // The highest value is the one to be ignored.
        reference.voxels.mapv_inplace(|value| if usize::from(value) == classes { 9 } else { value });
        let region = |value: u8| Region { name: format!("class {value}"), values: vec![value] };
        let scheme = LabelScheme {
            names: (0..classes).map(|class| format!("class {class}")).collect(),
            regions: (1..classes as u8).map(region).collect(),
            ignore: Some(9),
            regions_class_order: None,
            trained: Trained::Values,
        };
        let geometry = Geometry {
            crop_start: [2, 1, 3],
            crop_shape: CROP,
            shape: CROP,
            spacing: [1.0; 3],
            orientation,
            original,
        };
        let sample = Sample {
            id: "case".into(),
            images: Array4::zeros((1, CROP[0], CROP[1], CROP[2])),
            labels: None,
            mask: None,
            geometry,
            classes: Vec::new(),
        };
        World { segmenter: Random(probabilities), sample, reference, mask, scheme }
    }

    fn counted(world: &World) -> CaseOdds {
        let World { segmenter, sample, reference, mask, scheme } = world;
        let mut tally = Tally::new(&sample.geometry, scheme, reference, Some(mask));
        for (x, plane) in segmenter.0.axis_iter(ndarray::Axis(1)).enumerate() {
            tally.plane(x, plane);
        }
        tally.finish("case")
    }

    /// What the label map that a bias gives finds, invents and misses, by the scores of label maps.
    fn labelled(world: &World, bias: &Bias) -> Vec<Counts> {
        let labels = segment(&world.segmenter, &world.sample, bias, &mut |_| {});
        let options = ScoreOptions::default();
        let scores = score(&labels, &world.reference, Some(&world.mask), &world.scheme, &options);
        scores.iter().map(|s| Counts { found: s.tp, invented: s.fp, missed: s.fn_ }).collect()
    }

    #[test]
    fn histograms_say_what_label_maps_of_the_same_bias_hold() {
        for seed in 0..3 {
            let world = world(2, seed);
            let case = counted(&world);
            for number in 1..BINS {
                let bias = Bias::new(vec![-edge(number)]);
                assert_eq!(Some(labelled(&world, &bias)), case.at(&bias), "edge {number}");
                assert_eq!(labelled(&world, &bias), [case.classes[0].at(number)]);
            }
        }
    }

    #[test]
    fn several_classes_are_exact_at_zero_and_one_at_a_time() {
        for seed in 0..3 {
            let world = world(4, seed);
            let case = counted(&world);
            assert_eq!(Some(labelled(&world, &Bias::none(3))), case.at(&Bias::none(3)));
            let joint = case.joint.as_ref().unwrap();
            assert_eq!(joint.at(&[0.0; 3]), labelled(&world, &Bias::none(3)));
            for class in 0..3 {
                for number in [80, 119, 127, 129, 133, 160] {
                    let mut values = vec![0.0; 3];
                    values[class] = -edge(number);
                    let exact = labelled(&world, &Bias::new(values));
                    assert_eq!(exact[class], case.classes[class].at(number), "class {class}, edge {number}");
                }
            }
        }
    }

    #[test]
    fn lesions_and_false_components_are_counted_at_every_threshold() {
        let line = |values: [u8; 9]| Array3::from_shape_fn((9, 1, 1), |(x, ..)| values[x]);
        let at = |threshold: f64| edge_of_bias(-threshold) as u8;
        // Two lesions, found from -2 and from -6 down. At -6 an invented part grows onto the first one.
        let truth = line([1, 1, 0, 0, 0, 1, 0, 0, 0]);
        let bins = line([0, at(-2.0), at(-6.0), at(0.0), 0, at(-6.0), 0, at(2.0), 0]);
        let found = lesions(&truth, 1, &bins);
        assert_eq!(found.reference, 2);
        assert_eq!(found.found, [2, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(found.invented, [1, 2, 2, 2, 2, 1, 1, 0]);
    }
}
