//! Which step after a prediction each label value gets, chosen on cases that were held out from training.
//!
//! For every value the mean Dice over the held-out cases is compared without a step and with each candidate, and the
//! best step is taken where it gains. A case whose reference and prediction are both empty counts as 1: a false alarm
//! that is taken away is a gain. So that lesions are not given up for such gains, the mean over the cases that have
//! the value in their reference may not fall, and no step may take away a part that hits the reference in any of these
//! cases: on scans of another kind finds are smaller still. Of equal gains the first candidate wins: small parts removed (the
//! smallest volume first), the largest part kept, holes filled.
//!
//! A choice is never judged on the cases it was made from: the step that a held-out case gets is chosen on the other
//! held-out cases ([`PostChoice::cross_fitted`]); a run ships the choice from all of them.
//!
//! Only counts are kept of a case, not its voxels, so that the choice takes next to no memory and time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::post::{self, Post, Steps};
use crate::data::dataset::LabelScheme;
use crate::image::components::Components;
use crate::image::volume::Labels;

/// Volumes for [`Post::RemoveSmall`] that are tried.
const VOLUMES: usize = 8;
/// What a step must gain at least, and what counts as a loss; below is rounding.
const LEAST: f64 = 1e-9;

/// `post.json` of a run: the steps after its predictions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PostChoice {
    /// Held-out cases that the choice was made from; none is made from fewer than two.
    pub cases: usize,
    /// The step of every label value for which one gains, from all held-out cases.
    pub values: Vec<ValueChoice>,
    /// For every held-out case that got a step, the steps chosen on the other held-out cases.
    pub cross_fitted: BTreeMap<String, Steps>,
}

/// The step of one label value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueChoice {
    /// The label value in files.
    pub value: u8,
    /// Names of the classes or regions that hold it.
    pub regions: Vec<String>,
    /// The step.
    #[serde(flatten)]
    pub post: Post,
    /// Mean Dice over the held-out cases without and with it; both empty counts as 1.
    pub dice: [f64; 2],
    /// What the same cases gain when each gets the step that was chosen on the others: what to expect of a new scan.
    pub cross_fitted_gain: f64,
}

impl PostChoice {
    /// Chooses from held-out cases by name.
    pub fn of(cases: &[(String, Evidence)], scheme: &LabelScheme) -> Self {
        if cases.len() < 2 {
            return Self { cases: cases.len(), ..Self::default() };
        }
        let values: BTreeSet<u8> = cases.iter().flat_map(|(_, case)| case.values.keys().copied()).collect();
        let mut chosen = Self { cases: cases.len(), ..Self::default() };
        for value in values {
            let all: Vec<&Evidence> = cases.iter().map(|(_, case)| case).collect();
            let mut gain = 0.0;
            for (index, (id, case)) in cases.iter().enumerate() {
                let others = all.iter().enumerate().filter(|(other, _)| *other != index);
                let others: Vec<&Evidence> = others.map(|(_, case)| *case).collect();
                if let Some((step, _)) = best(value, &others) {
                    gain += case.dice(value, Some(step)).0 - case.dice(value, None).0;
                    chosen.cross_fitted.entry(id.clone()).or_default().insert(value, step);
                }
            }
            if let Some((post, dice)) = best(value, &all) {
                let holds = scheme.regions.iter().filter(|region| region.values.contains(&value));
                chosen.values.push(ValueChoice {
                    value,
                    regions: holds.map(|region| region.name.clone()).collect(),
                    post,
                    dice,
                    cross_fitted_gain: gain / cases.len() as f64,
                });
            }
        }
        chosen
    }

    /// The steps that the run ships.
    pub fn steps(&self) -> Steps {
        self.values.iter().map(|choice| (choice.value, choice.post)).collect()
    }

    /// The steps of a case that was held out.
    pub fn steps_of(&self, case: &str) -> Steps {
        self.cross_fitted.get(case).cloned().unwrap_or_default()
    }

    /// The steps for an average of several runs: for each value the step that all of them chose; of different volumes
    /// the smallest.
    pub fn common(runs: &[Self]) -> Steps {
        let mut runs = runs.iter().map(Self::steps);
        let first = runs.next().unwrap_or_default();
        runs.fold(first, |common, other| {
            let joined = common.into_iter().filter_map(|(value, step)| {
                let step = match (step, *other.get(&value)?) {
                    (Post::RemoveSmall { mm3 }, Post::RemoveSmall { mm3: other }) => {
                        Post::RemoveSmall { mm3: mm3.min(other) }
                    }
                    (one, other) if one == other => one,
                    _ => return None,
                };
                Some((value, step))
            });
            joined.collect()
        })
    }
}

/// What decides about the steps of one case: voxels that count, by label value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    voxel_volume: f64,
    values: BTreeMap<u8, ValueParts>,
    /// Of every region of the scheme.
    regions: Vec<Counts>,
}

/// Voxels of a region: predicted, in the reference, in both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    predicted: u64,
    reference: u64,
    both: u64,
}

impl Counts {
    fn of(joint: &[[u64; 256]], values: &[u8]) -> Self {
        let mut counts = Self::default();
        for (found, row) in (0..=u8::MAX).zip(joint) {
            for (truth, count) in (0..=u8::MAX).zip(row) {
                let (predicted, reference) = (values.contains(&found), values.contains(&truth));
                counts.predicted += u64::from(predicted) * count;
                counts.reference += u64::from(reference) * count;
                counts.both += u64::from(predicted && reference) * count;
            }
        }
        counts
    }
}

/// The label values that are scored, each with the regions that hold it.
fn holding(scheme: &LabelScheme) -> BTreeMap<u8, Vec<usize>> {
    let mut holding: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (number, region) in scheme.regions.iter().enumerate() {
        region.values.iter().for_each(|&value| holding.entry(value).or_default().push(number));
    }
    holding
}

/// Predicted voxels that a step would take away or add: how many, and how many of them lie in the reference of each
/// region that holds their value.
type Change = Vec<u64>;

/// The predicted parts of one label value.
#[derive(Clone, Debug, Default, PartialEq)]
struct ValueParts {
    /// The regions that hold it.
    regions: Vec<usize>,
    /// Numbers of voxels of its parts, ascending, and what is taken away with all parts up to that one.
    parts: Vec<(u64, Change)>,
    /// What is taken away with all parts but the largest.
    lesser: Change,
    /// What is added with its holes.
    holes: Change,
    /// Numbers of voxels of parts that miss the reference altogether.
    misses: BTreeSet<u64>,
}

impl Evidence {
    /// Compares a label map, in the values of files and before any step, with its reference. Voxels outside `mask` and
    /// those marked `scheme.ignore` in the reference do not count.
    pub fn of(prediction: &Labels, reference: &Labels, mask: Option<&Labels>, scheme: &LabelScheme) -> Self {
        let holding = holding(scheme);
        let mut present = [false; 256];
        prediction.voxels.iter().for_each(|&value| present[usize::from(value)] = true);
        let parts: BTreeMap<u8, Components> = holding
            .keys()
            .filter(|value| present[usize::from(**value)])
            .map(|&value| (value, post::parts(prediction, value)))
            .collect();
        let mut values: BTreeMap<u8, ValueParts> =
            holding.into_iter().map(|(value, regions)| (value, ValueParts::of(regions))).collect();
        let mut changes: BTreeMap<u8, Vec<Change>> = parts
            .iter()
            .map(|(value, parts)| (*value, vec![values[value].nothing(); parts.sizes.len()]))
            .collect();
        let holes = post::holes(prediction);
        let inside = |region: usize, value: u8| scheme.regions[region].values.contains(&value);
        // joint[p][r]: voxels that count with value p in the prediction and r in the reference.
        let mut joint = vec![[0_u64; 256]; 256];
        for (place, &truth) in reference.voxels.indexed_iter() {
            if mask.is_some_and(|mask| mask.voxels[place] == 0) || scheme.ignore == Some(truth) {
                continue;
            }
            let found = prediction.voxels[place];
            joint[usize::from(found)][usize::from(truth)] += 1;
            let (value, change) = if found == 0 {
                let Some(value) = holes.enclosing(place) else { continue };
                (value, None)
            } else {
                let Some(parts) = parts.get(&found) else { continue };
                (found, changes.get_mut(&found).and_then(|c| c.get_mut(parts.labels[place] as usize - 1)))
            };
            let Some(known) = values.get_mut(&value) else { continue };
            let change = change.unwrap_or(&mut known.holes);
            change[0] += 1;
            for (&region, both) in known.regions.iter().zip(&mut change[1..]) {
                *both += u64::from(inside(region, truth));
            }
        }
        for (value, parts) in parts {
            if let (Some(known), Some(changes)) = (values.get_mut(&value), changes.remove(&value)) {
                known.take_parts(&parts.sizes, changes);
            }
        }
        let regions = scheme.regions.iter().map(|region| Counts::of(&joint, &region.values)).collect();
        Self { voxel_volume: prediction.grid.voxel_volume(), values, regions }
    }

    /// Dice of one label value with a step, the mean over the regions that hold it: over all of them, where both
    /// segmentations empty count as 1, and over those that the reference has.
    fn dice(&self, value: u8, step: Option<Post>) -> (f64, Option<f64>) {
        let Some(known) = self.values.get(&value) else { return (1.0, None) };
        let nothing = known.nothing();
        let (change, sign) = match step {
            None => (&nothing, -1),
            Some(Post::FillHoles) => (&known.holes, 1),
            Some(step @ (Post::KeepLargest | Post::RemoveSmall { .. })) => {
                (known.removed(step, self.voxel_volume).unwrap_or(&nothing), -1)
            }
        };
        let mut present = Vec::new();
        let mut sum = 0.0;
        for (&region, &both) in known.regions.iter().zip(&change[1..]) {
            let counts = self.regions[region];
            let moved = |count: u64, by: u64| count.saturating_add_signed(sign * by as i64);
            let whole = moved(counts.predicted, change[0]) + counts.reference;
            let dice = if whole == 0 { 1.0 } else { 2.0 * moved(counts.both, both) as f64 / whole as f64 };
            sum += dice;
            present.extend((counts.reference > 0).then_some(dice));
        }
        (sum / known.regions.len() as f64, mean(&present))
    }

    /// Whether a step takes away nothing that the reference has.
    fn spares(&self, value: u8, step: Post) -> bool {
        let removed = self.values.get(&value).and_then(|known| known.removed(step, self.voxel_volume));
        removed.is_none_or(|change| change[1..].iter().all(|&both| both == 0))
    }
}

impl ValueParts {
    fn of(regions: Vec<usize>) -> Self {
        let nothing = vec![0; regions.len() + 1];
        Self { regions, lesser: nothing.clone(), holes: nothing, ..Self::default() }
    }

    fn nothing(&self) -> Change {
        vec![0; self.regions.len() + 1]
    }

    /// What a step takes away, if anything.
    fn removed(&self, step: Post, voxel_volume: f64) -> Option<&Change> {
        match step {
            Post::FillHoles => None,
            Post::KeepLargest => Some(&self.lesser),
            Post::RemoveSmall { .. } => {
                let small = self.parts.partition_point(|(size, _)| {
                    post::stays(step, std::slice::from_ref(size), voxel_volume) == [false]
                });
                small.checked_sub(1).map(|last| &self.parts[last].1)
            }
        }
    }

    fn take_parts(&mut self, sizes: &[u64], changes: Vec<Change>) {
        let largest = post::stays(Post::KeepLargest, sizes, 1.0);
        let mut parts: Vec<(u64, Change)> = sizes.iter().copied().zip(changes).collect();
        for ((size, change), stays) in parts.iter().zip(largest) {
            if !stays {
                self.lesser.iter_mut().zip(change).for_each(|(sum, count)| *sum += count);
            }
            if change[1..].iter().all(|&both| both == 0) && change[0] > 0 {
                self.misses.insert(*size);
            }
        }
        parts.sort_by_key(|(size, _)| *size);
        let mut sum = self.nothing();
        for (_, change) in &mut parts {
            sum.iter_mut().zip(change.iter()).for_each(|(sum, count)| *sum += count);
            change.clone_from(&sum);
        }
        self.parts = parts;
    }
}

/// The step that gains most on these cases, and their mean Dice without and with it; `None` where none gains.
fn best(value: u8, cases: &[&Evidence]) -> Option<(Post, [f64; 2])> {
    let score = |step: Option<Post>| {
        let dice: Vec<(f64, Option<f64>)> = cases.iter().map(|case| case.dice(value, step)).collect();
        let all: Vec<f64> = dice.iter().map(|(all, _)| *all).collect();
        let present: Vec<f64> = dice.iter().filter_map(|(_, present)| *present).collect();
        (mean(&all).unwrap_or(0.0), mean(&present).unwrap_or(0.0))
    };
    let (before, present) = score(None);
    let mut chosen: Option<(Post, [f64; 2])> = None;
    for step in candidates(value, cases) {
        let (after, still_present) = score(Some(step));
        let best = chosen.map_or(before, |(_, [_, best])| best);
        if after > best + LEAST && still_present >= present - LEAST {
            chosen = Some((step, [before, after]));
        }
    }
    chosen
}

/// The steps that are tried, the simplest first: those that take away nothing true of any case. Volumes lie just above
/// those of parts that miss the reference: only there can a further part be gained.
fn candidates(value: u8, cases: &[&Evidence]) -> Vec<Post> {
    let mut volumes: Vec<f64> = Vec::new();
    for case in cases {
        let misses = case.values.get(&value).into_iter().flat_map(|value| &value.misses);
        volumes.extend(misses.map(|&size| above(size as f64 * case.voxel_volume)));
    }
    volumes.sort_by(f64::total_cmp);
    volumes.dedup();
    let spares = |step: Post| cases.iter().all(|case| case.spares(value, step));
    volumes.retain(|&mm3| spares(Post::RemoveSmall { mm3 }));
    let tried = volumes.len().min(VOLUMES);
    let volumes = (1..=tried).map(|i| Post::RemoveSmall { mm3: volumes[i * volumes.len() / tried - 1] });
    volumes.chain([Post::KeepLargest, Post::FillHoles].into_iter().filter(|&step| spares(step))).collect()
}

/// The smallest number of two digits above a volume.
fn above(volume: f64) -> f64 {
    let unit = 10f64.powf(volume.log10().floor() - 1.0);
    // Through its text, so that 0.1 times 24 is 2.4 and no neighbour of it.
    let rounded = ((volume / unit * (1.0 + 1e-9)).floor() + 1.0) * unit;
    format!("{rounded:.1e}").parse().unwrap_or(rounded)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;
    use crate::data::dataset::{Region, Trained};
    use crate::image::volume::Grid;

    fn scheme(regions: &[(&str, &[u8])], classes: usize) -> LabelScheme {
        let region =
            |(name, values): &(&str, &[u8])| Region { name: (*name).into(), values: values.to_vec() };
        LabelScheme {
            names: (0..classes).map(|class| format!("class {class}")).collect(),
            regions: regions.iter().map(region).collect(),
            ignore: Some(9),
            regions_class_order: None,
            trained: Trained::Values,
        }
    }

    fn lesion() -> LabelScheme {
        scheme(&[("lesion", &[1])], 2)
    }

    fn blank(spacing: [f64; 3]) -> Labels {
        Labels::new(Array3::zeros((16, 8, 8)), Grid::with_spacing([16, 8, 8], spacing))
    }

    /// A lesion of 27 voxels, which is found, and false parts of so many voxels in a row.
    fn case(spacing: [f64; 3], lesion: bool, false_parts: &[usize]) -> (Labels, Labels) {
        let (mut prediction, mut reference) = (blank(spacing), blank(spacing));
        if lesion {
            prediction.voxels.slice_mut(s![0..3, 0..3, 0..3]).fill(1);
            reference.voxels.slice_mut(s![0..3, 0..3, 0..3]).fill(1);
        }
        for (row, &length) in false_parts.iter().enumerate() {
            prediction.voxels.slice_mut(s![5..5 + length, 2 * row, 6]).fill(1);
        }
        (prediction, reference)
    }

    fn evidence((prediction, reference): (Labels, Labels)) -> Evidence {
        Evidence::of(&prediction, &reference, None, &lesion())
    }

    fn named(cases: Vec<Evidence>) -> Vec<(String, Evidence)> {
        cases.into_iter().enumerate().map(|(i, case)| (format!("case {i}"), case)).collect()
    }

    #[test]
    fn counted_dice_is_that_of_the_changed_map() {
        use crate::score::{EmptyRule, ScoreOptions, score};
        let regions = scheme(&[("whole", &[1, 2]), ("core", &[2])], 3);
        let mut random = crate::rng::generator(1, &["post"]);
        for round in 0..40 {
            let mut map = |share: f64| {
                let mut labels = blank([0.5, 1.0, 2.0]);
                labels.voxels.mapv_inplace(|_| {
                    let draw = rand::RngExt::random_range(&mut random, 0.0..1.0);
                    if draw < share {
                        1
                    } else if draw < 1.5 * share {
                        2
                    } else {
                        0
                    }
                });
                labels
            };
            let (prediction, mut reference) = (map(0.05 * f64::from(round % 11)), map(0.2));
            reference.voxels.slice_mut(s![8..10, .., ..]).fill(9);
            let evidence = Evidence::of(&prediction, &reference, None, &regions);
            let options = ScoreOptions { empty: EmptyRule::One, ..ScoreOptions::default() };
            let steps = [2.0, 3.0, 6.0].map(|mm3| Post::RemoveSmall { mm3 });
            for step in steps.into_iter().chain([Post::KeepLargest, Post::FillHoles]) {
                for value in evidence.values.keys() {
                    let mut changed = prediction.clone();
                    post::apply(&Steps::from([(*value, step)]), &mut changed, None);
                    let scores = score(&changed, &reference, None, &regions, &options);
                    let holding = &evidence.values[value].regions;
                    let expected: f64 = holding.iter().filter_map(|&region| scores[region].dice).sum();
                    let found = evidence.dice(*value, Some(step)).0 * holding.len() as f64;
                    assert!((found - expected).abs() < 1e-12, "{step} of {value}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn a_volume_is_found_that_parts_false_from_true() {
        // False parts of 1 and 3 voxels of 2 mm3; the lesion has 54 mm3.
        let case = || evidence(case([0.5, 1.0, 4.0], true, &[1, 3]));
        let chosen = PostChoice::of(&named(vec![case(), case(), case()]), &lesion());
        // The smallest volume above 6 mm3 of two digits removes both; so would the largest part alone.
        assert_eq!(chosen.steps(), Steps::from([(1, Post::RemoveSmall { mm3: 6.1 })]));
        let [value] = chosen.values.as_slice() else { panic!("{chosen:?}") };
        assert!((value.dice[0] - 54.0 / 58.0).abs() < 1e-12 && value.dice[1] == 1.0);
        assert!((value.cross_fitted_gain - 4.0 / 58.0).abs() < 1e-12);
        assert_eq!(chosen.steps_of("case 1"), chosen.steps());
        assert_eq!(value.regions, ["lesion"]);
    }

    #[test]
    fn nothing_is_chosen_where_nothing_gains() {
        let perfect = || evidence(case([1.0; 3], true, &[]));
        assert_eq!(PostChoice::of(&named(vec![perfect(), perfect()]), &lesion()).steps(), Steps::new());
        let nothing = PostChoice::of(&[], &lesion());
        assert_eq!((nothing.cases, nothing.steps()), (0, Steps::new()));
        // One case cannot be judged by others.
        let one = PostChoice::of(&named(vec![evidence(case([1.0; 3], true, &[1]))]), &lesion());
        assert_eq!((one.cases, one.steps(), one.steps_of("case 0")), (1, Steps::new(), Steps::new()));
    }

    #[test]
    fn true_small_lesions_are_not_given_up_for_false_alarms() {
        // Six scans without a lesion and a false part of two voxels each; two scans whose only lesion has two voxels.
        let alarm = || evidence(case([1.0; 3], false, &[2]));
        let found = || {
            let (prediction, mut reference) = case([1.0; 3], false, &[2]);
            reference.voxels.assign(&prediction.voxels);
            evidence((prediction, reference))
        };
        let mut cases: Vec<Evidence> = (0..6).map(|_| alarm()).collect();
        assert_ne!(PostChoice::of(&named(cases.clone()), &lesion()).steps(), Steps::new());
        cases.extend([found(), found()]);
        assert_eq!(PostChoice::of(&named(cases), &lesion()).steps(), Steps::new());
    }

    #[test]
    fn no_find_is_given_up_for_a_larger_false_part() {
        // Without the four false voxels each Dice rises even though two true ones go with them.
        let found = || {
            let (prediction, mut reference) = case([1.0; 3], true, &[4, 2]);
            reference.voxels.slice_mut(s![5..7, 2, 6]).fill(1);
            evidence((prediction, reference))
        };
        let step = Post::RemoveSmall { mm3: 4.1 };
        assert!(found().dice(1, Some(step)).0 > found().dice(1, None).0 && !found().spares(1, step));
        assert_eq!(PostChoice::of(&named(vec![found(), found(), found()]), &lesion()).steps(), Steps::new());
    }

    #[test]
    fn a_case_is_changed_as_the_others_wish() {
        // The false part of the first case is larger than those of the others.
        let other = || evidence(case([1.0; 3], true, &[2]));
        let first = evidence(case([1.0; 3], true, &[3]));
        let chosen = PostChoice::of(&named(vec![first, other(), other(), other()]), &lesion());
        assert_eq!(chosen.steps_of("case 0"), Steps::from([(1, Post::RemoveSmall { mm3: 2.1 })]));
        assert_eq!(chosen.steps_of("case 1"), Steps::from([(1, Post::RemoveSmall { mm3: 3.1 })]));
        let [value] = chosen.values.as_slice() else { panic!("{chosen:?}") };
        // What was chosen on the others leaves the first case as it is.
        let others = 3.0 * (1.0 - 54.0 / 56.0);
        assert!((value.dice[1] - value.dice[0] - (others + 1.0 - 54.0 / 57.0) / 4.0).abs() < 1e-12);
        assert!((value.cross_fitted_gain - others / 4.0).abs() < 1e-12);
    }

    #[test]
    fn holes_are_filled_where_references_are_full() {
        let hollow = || {
            let (mut prediction, reference) = case([1.0; 3], true, &[]);
            let (mut prediction2, mut reference2) = (prediction.clone(), reference);
            prediction.voxels.slice_mut(s![8..13, 1..6, 1..6]).fill(1);
            reference2.voxels.assign(&prediction.voxels);
            prediction2.voxels.assign(&prediction.voxels);
            prediction2.voxels.slice_mut(s![9..12, 2..5, 2..5]).fill(0);
            evidence((prediction2, reference2))
        };
        let chosen = PostChoice::of(&named(vec![hollow(), hollow()]), &lesion());
        assert_eq!(chosen.steps(), Steps::from([(1, Post::FillHoles)]));
    }

    #[test]
    fn volumes_have_two_digits() {
        for (volume, rounded) in
            [(27.0, 28.0), (6.0, 6.1), (0.125, 0.13), (1.0, 1.1), (99.6, 100.0), (1234.0, 1300.0)]
        {
            assert_eq!(above(volume), rounded, "{volume}");
        }
    }

    #[test]
    fn several_runs_agree_on_a_step_or_take_none() {
        let run = |steps: &[(u8, Post)]| PostChoice {
            values: steps
                .iter()
                .map(|&(value, post)| ValueChoice {
                    value,
                    regions: Vec::new(),
                    post,
                    dice: [0.0, 1.0],
                    cross_fitted_gain: 1.0,
                })
                .collect(),
            ..PostChoice::default()
        };
        let small = |mm3| Post::RemoveSmall { mm3 };
        let first = run(&[(1, small(20.0)), (2, Post::KeepLargest), (3, Post::FillHoles)]);
        let second = run(&[(1, small(12.0)), (2, small(5.0)), (3, Post::FillHoles)]);
        let both = Steps::from([(1, small(12.0)), (3, Post::FillHoles)]);
        assert_eq!(PostChoice::common(&[first.clone(), second]), both);
        assert_eq!(PostChoice::common(std::slice::from_ref(&first)), first.steps());
        assert_eq!(PostChoice::common(&[]), Steps::new());
    }

    #[test]
    fn a_choice_reads_back() {
        let case = || evidence(case([1.0; 3], true, &[1]));
        let chosen = PostChoice::of(&named(vec![case(), case()]), &lesion());
        let text = serde_json::to_string(&chosen).unwrap();
        assert_eq!(serde_json::from_str::<PostChoice>(&text).unwrap(), chosen, "{text}");
    }
}
