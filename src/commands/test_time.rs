//! Learns which changed forms of a scan are worth predicting: a policy for tests.
//!
//! The network is frozen. Per update one patch of a held-out case, centred on a voxel of a class drawn uniformly
//! among those that the case has, is predicted as it is and in forms that the policy draws; each prediction is
//! carried back and scored by its soft Dice against the reference, averaged over all foreground classes there. The
//! policy minimises the mean of -Dice over what it draws: the derivative with respect to a form's weight is its
//! score less the mean of the patch's scores, and reaches the logits as that of a training policy does
//! ([`crate::policy::learn`]). All forms of an update look at the same patch, so that what is hard about a patch
//! drops out; and as forms hold no chance, each is predicted once.
//!
//! Method: Li et al. (2023).

use std::collections::BTreeMap;
use std::path::Path;

use segen_kernels::Device;
use serde::Serialize;

use super::trained::{Cache, Trained, Which, windows};
use crate::batch::sampler::{Sampler, Share, Sites};
use crate::config::Conventions;
use crate::learn::exported;
use crate::policy::forms::{TestStart, test_time};
use crate::policy::learn::{Drawn, Learner, decay, gradient};
use crate::policy::operations::Context;
use crate::policy::{Chosen, Policy};
use crate::predict::forms::{Average, View};
use crate::predict::windows::{Predictor, WindowOptions};
use crate::prepare::{IGNORE, Sample};
use crate::progress::Progress;
use crate::rng::generator;
use crate::run::Run;
use crate::run::record::{Record, cases_of};
use crate::{Error, Result};

/// How a test-time policy is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Updates, one patch each.
    pub updates: u64,
    /// Forms that are drawn per update, beside the patch as it is.
    pub draws: usize,
    /// First step size on the logits; it falls to 0. Scores of one patch differ little by chance, so that steps of
    /// Adam mostly agree: the rate says how far logits go, 0.5 rate updates at most. Weights that are to average
    /// should not go far.
    pub rate: f64,
    /// Where the policy begins.
    pub start: TestStart,
    /// Seed of all that is drawn.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { updates: 200, draws: 10, rate: 1e-2, start: TestStart::Mirrors, seed: 1 }
    }
}

/// What was learned.
#[derive(Clone, Debug, Serialize)]
pub struct Learned {
    /// The policy.
    #[serde(skip)]
    pub policy: Policy,
    /// Cases that it was learned from.
    pub cases: Vec<String>,
    /// Updates made; patches without foreground make none.
    pub updates: u64,
    /// Forms, likeliest first: name, probability at the start and at the end.
    pub forms: Vec<(String, f64, f64)>,
}

/// Learns a test-time policy for a checkpoint of a run from the cases that its own policy learned from, or else from its validation
/// cases; the run was trained on neither. `dataset` names the data set where it is no longer where the run found it, `cache`
/// the folder of prepared samples (see [`Cache::find`]).
///
/// # Errors
/// Where the run or the data set cannot be read, or there is no held-out case.
pub fn learn(
    (run, checkpoint): (&Run, Which),
    (dataset, cache): (Option<&Path>, Option<&Path>),
    options: &Options,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Learned> {
    exported::refuse(run, "held-out cases to learn from")?;
    let trained = Trained::open(run, checkpoint)?;
    let Record { plan, split, .. } = &trained.record;
    let dataset = trained.record.dataset(dataset)?;
    let named = match split.policy_validation.is_empty() {
        true => &split.validation,
        false => &split.policy_validation,
    };
    let mut cases = cases_of(&dataset, named)?;
    cases.retain(|case| case.labels.is_some() && !split.train.contains(&case.id));
    if cases.is_empty() {
        return Err(Error::invalid(
            run.path("split.json"),
            "validation",
            "no case was held out from training, so there is nothing to learn from",
            "train with --fold 0, or set policy.validation_share",
        ));
    }
    let cache = Cache::find(cache, &trained.record, &dataset, progress)?;
    let prepared = trained.prepare(&dataset, &cases, &cache, progress)?;
    let predictor = windows(&[&trained], WindowOptions::default(), device)?;
    let start = test_time(&Context::of(plan, dataset.labels.sides()), options.start);
    let load = |index: usize| prepared[index].load();
    let (policy, updates) = teach(&predictor, (prepared.len(), &load), &start, options, progress)?;
    let (first, last) = (start.probabilities(0, 0), policy.probabilities(0, 0));
    let mut forms: Vec<(String, f64, f64)> = policy.groups[0]
        .choices
        .iter()
        .zip(first.into_iter().zip(last))
        .map(|(choice, (first, last))| (choice.name.clone(), first, last))
        .collect();
    forms.sort_by(|a, b| b.2.total_cmp(&a.2));
    Ok(Learned { policy, cases: cases.iter().map(|case| case.id.clone()).collect(), updates, forms })
}

/// The learning itself, on `cases`: how many there are, and what reads one. Gives the policy and the updates made.
///
/// # Errors
/// Where a case cannot be read.
pub fn teach(
    predictor: &Predictor,
    (count, load): (usize, &dyn Fn(usize) -> Result<Sample>),
    start: &Policy,
    options: &Options,
    progress: &dyn Progress,
) -> Result<(Policy, u64)> {
    let patch = predictor.window();
    let sampler = Sampler { share: Share::Probability(1.0), ..Sampler::new(patch, 1) };
    let mut learner = Learner::new(start);
    let mut policy = start.clone();
    progress.begin("learning the test-time policy", options.updates);
    for update in 0..options.updates {
        let mut random = generator(options.seed, &["test-time policy", &update.to_string()]);
        let case = sampler.draw_case(count, &mut random);
        let sample = load(case)?;
        let placement = sampler.place(0, case, &Sites::of_sample(&sample)?, &mut random)?;
        let labels = window(&sample, placement.start, patch);
        let channels = sample.images.dim().0;
        let mut choices = vec![0];
        choices.extend((0..options.draws).map(|_| policy.draw(0, channels, &mut random).0.choices[0]));
        let mut known: BTreeMap<usize, Option<f64>> = BTreeMap::new();
        for &choice in &choices {
            if let std::collections::btree_map::Entry::Vacant(place) = known.entry(choice) {
                let view = View::of(&policy, choice, channels)?;
                let found = predictor.view(&sample, placement.start, &view, Average::Probabilities);
                place.insert(dice(&found, &labels));
            }
        }
        progress.advance(1);
        // What a form does not show has no score and no vote.
        let scored = choices.iter().filter_map(|choice| Some((*choice, known[choice]?)));
        let (drawn, scores): (Vec<Drawn>, Vec<f64>) = scored
            .map(|(choice, score)| {
                let chosen = Chosen { target: 0, choices: vec![choice] };
                (Drawn { chosen, centre_class: 0 }, score)
            })
            .unzip();
        if drawn.len() < 2 {
            continue;
        }
        let centred = learner.centre(&scores, &drawn);
        let slope = gradient(&policy, &drawn, &centred, &Conventions::OWN, &mut random);
        learner.step(&slope, options.rate * decay(update as f64 / options.updates as f64));
        policy = policy.with_logits(&learner.logits);
    }
    progress.end();
    Ok((policy, learner.updates))
}

/// Labels of a window; ignored beyond the sample.
fn window(sample: &Sample, start: [i64; 3], patch: [usize; 3]) -> Vec<u8> {
    let Some(labels) = &sample.labels else { return Vec::new() };
    let (nx, ny, nz) = labels.dim();
    let shape = [nx, ny, nz];
    let mut out = Vec::with_capacity(patch.iter().product());
    for x in 0..patch[0] {
        for y in 0..patch[1] {
            for z in 0..patch[2] {
                let at = [x, y, z];
                let place = std::array::from_fn::<_, 3, _>(|a| usize::try_from(start[a] + at[a] as i64).ok());
                let inside = (0..3).all(|a| place[a].is_some_and(|p| p < shape[a]));
                out.push(if inside { labels[place.map(|p| p.unwrap_or(0))] } else { IGNORE });
            }
        }
    }
    out
}

/// Mean soft Dice of the foreground classes among the labels that were shown, from probabilities (class, voxel) and
/// the part of each voxel that was shown; `None` where none was.
fn dice(found: &[f32], labels: &[u8]) -> Option<f64> {
    let size = labels.len();
    let classes = found.len() / size - 1;
    let shown = &found[classes * size..];
    let scores: Vec<f64> = (1..classes)
        .filter_map(|class| {
            let (mut overlap, mut all, mut present) = (0.0, 0.0, false);
            let p = &found[class * size..(class + 1) * size];
            for ((&label, &p), &shown) in labels.iter().zip(p).zip(shown) {
                if label == IGNORE || shown <= 0.5 {
                    continue;
                }
                let p = f64::from(p / shown);
                let is = usize::from(label) == class;
                present |= is;
                overlap += if is { 2.0 * p } else { 0.0 };
                all += p + f64::from(u8::from(is));
            }
            present.then(|| overlap / all)
        })
        .collect();
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_is_over_the_classes_that_are_shown() {
        // Three classes, four voxels, the last of which is not shown.
        let labels = [0, 1, 2, 2];
        let background = [0.5, 0.0, 0.0, 0.0];
        let first = [0.5, 1.0, 0.0, 0.0];
        let second = [0.0, 0.0, 1.0, 0.0];
        let found: Vec<f32> =
            [background, first, second, [1.0, 1.0, 1.0, 0.0]].into_iter().flatten().collect();
        let of_first = 2.0 / 2.5;
        assert!((dice(&found, &labels).unwrap() - f64::midpoint(of_first, 1.0)).abs() < 1e-7);
        assert_eq!(dice(&found, &[0, 0, 0, 1]), None);
        assert!((dice(&found, &[0, 1, IGNORE, 2]).unwrap() - of_first).abs() < 1e-7);
    }
}
