//! Windows seen in several changed forms, whose results are carried back and averaged (test-time augmentation).

use ndarray::{ArrayView3, ArrayView4};
use segen_kernels::{Activation, Array};
use serde::{Deserialize, Serialize};

use super::windows::{Predictor, tilt};
use crate::augment::{Cut, Draw, Histograms, add_rules};
use crate::network::{Grid, Mode, Pathway};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::prepare::window::Frame;
use crate::prepare::{Placement, Sample};
use crate::rng::generator;
use crate::{Error, Result};

/// What is averaged over the forms of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// Probabilities.
    #[default]
    Probabilities,
    /// Logits, before the softmax.
    Logits,
}

/// Changed forms of the scans that are predicted instead of the scans alone.
#[derive(Clone, Debug)]
pub struct TestTime {
    /// A policy of `segen policy test-time`.
    pub policy: Policy,
    /// How many of its likeliest forms; 8 where left out, 4 for DeepMedic.
    pub top: Option<usize>,
    /// What is averaged over them.
    pub average: Average,
}

impl TestTime {
    /// The forms for windows of these edges.
    ///
    /// # Errors
    /// As [`Views::of`].
    pub fn forms(&self, plan: &Plan, window: [usize; 3]) -> Result<Views> {
        let usual = plan.shape.kind().test_time_forms();
        Views::of(&self.policy, self.top.unwrap_or(usual), self.average, plan.channels, window)
    }
}

/// One changed form and the way back.
#[derive(Clone, Debug)]
pub struct View {
    /// What is done to the scan.
    pub draw: Draw,
    /// What undoes its map.
    back: Draw,
}

/// Several forms with their weights.
#[derive(Clone, Debug)]
pub struct Views {
    /// Forms, and weights that sum to 1.
    pub(super) weighted: Vec<(View, f32)>,
    /// Names of the forms.
    pub names: Vec<String>,
    pub(super) average: Average,
}

/// A prepared scan, or what a test makes up.
pub(super) struct Scan<'a> {
    /// (channel, x, y, z).
    pub(super) images: ArrayView4<'a, f32>,
    pub(super) mask: Option<ArrayView3<'a, u8>>,
    pub(super) histograms: Histograms,
    /// What stands for voxels beyond it, channel by channel.
    pub(super) padding: Vec<f32>,
}

impl View {
    /// A choice of a test-time policy, for scans of so many channels. Whatever it draws is the same every time.
    ///
    /// # Errors
    /// Where it cannot be undone: it moves the image.
    pub fn of(policy: &Policy, choice: usize, channels: usize) -> Result<Self> {
        let name = &policy.groups[0].choices[choice].name;
        let mut random = generator(0, &["test time", name]);
        let mut draw = policy.draw_choice(0, choice, channels, &mut random);
        add_rules(&policy.rules, &mut draw, channels, &mut random);
        let inverse = draw.affine.inverse().filter(|_| draw.shift == [0.0; 3]);
        let Some(affine) = inverse else {
            return Err(Error::config(
                format!("groups.{}.{name}", policy.groups[0].name),
                "it moves the image, which is not undone after a prediction",
                "use turns, mirror images, scaling and intensities only",
            ));
        };
        let back = Draw { affine, swapped: draw.swapped.clone(), ..Draw::identity() };
        Ok(Self { draw, back })
    }

    /// Carries values of a window's voxels (x, y, z, class), found in this form, back to where they belong:
    /// (class, x, y, z), 0 where the form did not show the voxel, and behind the classes what part of each voxel it
    /// showed. Turns by right angles and mirror images are undone exactly where they map voxels to voxels.
    pub fn carry_back(&self, values: &[f32], classes: usize, patch: [usize; 3]) -> Vec<f32> {
        let size = patch.iter().product::<usize>();
        assert_eq!(values.len(), size * classes, "values of the window");
        let mut source: Vec<usize> = (0..classes).collect();
        for pair in &self.back.swapped {
            source.swap(usize::from(pair[0]), usize::from(pair[1]));
        }
        let mut volumes = vec![1.0; size * (classes + 1)];
        for (class, volume) in source.into_iter().zip(volumes.chunks_exact_mut(size)) {
            volume.iter_mut().zip(values.chunks_exact(classes)).for_each(|(out, voxel)| *out = voxel[class]);
        }
        let placement = Placement { case: 0, start: [0; 3], centre_class: 0, sought: None };
        let cut = Cut { placement: &placement, patch, grids: &[Grid::patch(patch)], draw: &self.back };
        let [x, y, z] = patch;
        let mut out = vec![0.0; volumes.len()];
        match ArrayView4::from_shape((classes + 1, x, y, z), &volumes) {
            Ok(images) => cut.from_images(images, None, &Histograms::new(), &mut [&mut out]),
            Err(error) => unreachable!("one volume per class and one more: {error}"),
        }
        out
    }
}

impl Views {
    /// The `top` likeliest choices of a test-time policy, weighted by their probabilities. Where none of them shows
    /// the whole window, the identity joins them.
    ///
    /// # Errors
    /// Where the policy is none for tests: it has other than one group, logits by centre class, or a choice that
    /// cannot be undone.
    pub fn of(
        policy: &Policy,
        top: usize,
        average: Average,
        channels: usize,
        patch: [usize; 3],
    ) -> Result<Self> {
        policy.check()?;
        if policy.groups.len() != 1 || policy.targets.len() != 1 {
            return Err(Error::config(
                "test policy",
                format!("{} groups for {} targets", policy.groups.len(), policy.targets.len()),
                "name a policy that `segen policy test-time` wrote: one group, targets = \"all\"",
            ));
        }
        let p = policy.probabilities(0, 0);
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
        order.truncate(top.max(1));
        let mut chosen = Vec::new();
        for &choice in &order {
            chosen.push((View::of(policy, choice, channels)?, p[choice]));
        }
        let mut names: Vec<String> =
            order.iter().map(|choice| policy.groups[0].choices[*choice].name.clone()).collect();
        let size = patch.iter().product::<usize>();
        let whole = |(view, _): &(View, f64)| {
            // One volume of ones has no labels that change places.
            let back = Draw { swapped: Vec::new(), ..view.back.clone() };
            let view = View { draw: view.draw.clone(), back };
            view.carry_back(&vec![1.0; size], 1, patch)[size..].iter().all(|part| *part > 0.5)
        };
        if !chosen.iter().any(whole) {
            let plain = Draw::identity();
            let least = chosen.iter().map(|(_, p)| *p).fold(f64::INFINITY, f64::min);
            chosen.push((View { draw: plain.clone(), back: plain }, least));
            names.push("identity".to_owned());
        }
        let sum: f64 = chosen.iter().map(|(_, p)| p).sum();
        let weighted = chosen.into_iter().map(|(view, p)| (view, (p / sum) as f32)).collect();
        Ok(Self { weighted, names, average })
    }

    /// Number of forms.
    pub fn len(&self) -> usize {
        self.weighted.len()
    }

    /// There is at least one.
    pub fn is_empty(&self) -> bool {
        self.weighted.is_empty()
    }

    /// Weights of the forms, in the order of `names`.
    pub fn weights(&self) -> Vec<f32> {
        self.weighted.iter().map(|(_, weight)| *weight).collect()
    }

    /// Names and weights for a person.
    pub fn describe(&self) -> String {
        let forms = self.names.iter().zip(self.weights());
        forms.map(|(name, weight)| format!("{name} {:.0} %", 100.0 * weight)).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn need_image(&self) -> bool {
        self.weighted.iter().any(|(view, _)| view.draw.needs_image())
    }
}

impl Scan<'_> {
    /// What pathways see around a window in a changed form, each (channel, x, y, z).
    fn seen(&self, pathways: &[Pathway], patch: [usize; 3], start: [i64; 3], draw: &Draw) -> Vec<Vec<f32>> {
        let channels = self.images.dim().0;
        let grids: Vec<Grid> = pathways.iter().map(Pathway::grid).collect();
        let mut out: Vec<Vec<f32>> = grids.iter().map(|grid| vec![0.0; channels * grid.len()]).collect();
        let mut inputs: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let placement = Placement { case: 0, start, centre_class: 0, sought: None };
        let cut = Cut { placement: &placement, patch, grids: &grids, draw };
        if self.padding.iter().all(|value| *value == 0.0) {
            cut.from_images(self.images, self.mask, &self.histograms, &mut inputs);
            return out;
        }
        // The cut continues a scan by zeros; here what stands beyond it is put around it first.
        let (low, edges) = cut.seen();
        let frame = Frame::of_box(low, edges);
        let images = frame.images(self.images, &self.padding);
        let mask = self.mask.map(|mask| frame.voxels(mask));
        let placement = Placement { start: std::array::from_fn(|axis| start[axis] - low[axis]), ..placement };
        let cut = Cut { placement: &placement, ..cut };
        cut.from_images(images.view(), mask.as_ref().map(|mask| mask.view()), &self.histograms, &mut inputs);
        out
    }
}

impl Predictor {
    /// Sees every window in these forms instead of as it is.
    ///
    /// # Errors
    /// Where a form is for scans with more channels or labels.
    pub fn with_views(mut self, views: Views) -> Result<Self> {
        for ((View { draw, .. }, _), name) in views.weighted.iter().zip(&views.names) {
            let channels = draw.changes.iter().map(|change| change.channel + 1).max().unwrap_or(0);
            let labels = draw.swapped.iter().flatten().map(|label| usize::from(*label) + 1).max();
            if channels > self.channels || labels.is_some_and(|labels| labels > self.classes) {
                return Err(Error::config(
                    "test policy",
                    format!(
                        "`{name}` changes channels or labels that a network with {} channels and {} classes has not",
                        self.channels, self.classes
                    ),
                    "learn a policy for this run with `segen policy test-time`",
                ));
            }
        }
        self.views = Some(views);
        Ok(self)
    }

    /// Probabilities, or logits, of the window whose first voxel is `start`, seen in one form and carried back, as
    /// [`View::carry_back`] gives them; of several networks their mean.
    pub fn view(&self, sample: &Sample, start: [i64; 3], view: &View, average: Average) -> Vec<f32> {
        let mask = sample.mask.as_ref().map(|mask| mask.view());
        let scan = self.scan(sample.images.view(), mask, view.draw.needs_image());
        self.found(&scan, &[start], view, average, &mut |_| {}).swap_remove(0)
    }

    pub(super) fn scan<'a>(
        &self,
        images: ArrayView4<'a, f32>,
        mask: Option<ArrayView3<'a, u8>>,
        need_image: bool,
    ) -> Scan<'a> {
        let histograms = if need_image { Histograms::of_images(images) } else { Histograms::new() };
        Scan { images, mask, histograms, padding: self.padding(images) }
    }

    /// What the networks find in one form of windows, carried back: for each window (class, x, y, z) and the part of
    /// each voxel that was shown, weighted and summed over the networks. `advance` as in [`Self::predict`].
    pub(super) fn found(
        &self,
        scan: &Scan<'_>,
        group: &[[i64; 3]],
        view: &View,
        average: Average,
        advance: &mut dyn FnMut(usize),
    ) -> Vec<Vec<f32>> {
        let mut joined: Vec<Vec<f32>> = vec![Vec::new(); self.field.pathways.len()];
        for place in group {
            let seen = scan.seen(&self.field.pathways, self.patch, *place, &view.draw);
            joined.iter_mut().zip(seen).for_each(|(all, one)| all.extend(one));
        }
        let inputs: Vec<Activation> = joined
            .into_iter()
            .zip(&self.field.pathways)
            .map(|(values, pathway)| {
                let [x, y, z] = pathway.size;
                let shape = [group.len(), self.channels, x, y, z];
                Activation::from_channels_first(Array::from_host(values, &shape, &self.device))
            })
            .collect();
        let size = self.patch.iter().product::<usize>() * self.classes;
        let share = 1.0 / self.networks.len() as f32;
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for (turn, (network, weights)) in self.networks.iter().enumerate() {
            let forward = || network.forward(weights, inputs.clone(), Mode::Evaluation);
            let logits = self.kernels.scoped(forward).logits.swap_remove(0);
            let output = match average {
                Average::Probabilities => segen_kernels::softmax(&logits),
                Average::Logits => logits,
            };
            let output = output.into_channels_last().into_host();
            for (number, window) in output.chunks_exact(size).enumerate() {
                let mut back = view.carry_back(window, self.classes, self.patch);
                if let Some(odds) = self.odds.get(turn) {
                    lean(&mut back, odds, average);
                }
                if sums.len() <= number {
                    sums.push(vec![0.0; back.len()]);
                }
                sums[number].iter_mut().zip(back).for_each(|(sum, value)| *sum += share * value);
            }
            advance(group.len());
        }
        sums
    }

    /// Predicts the windows of a group in every form and adds them to the band.
    pub(super) fn add_views(
        &self,
        scan: &Scan<'_>,
        views: &Views,
        group: &[[i64; 3]],
        first: usize,
        band: &mut [f32],
        advance: &mut dyn FnMut(usize),
    ) {
        let (_, nx, ny, nz) = scan.images.dim();
        let size = self.patch.iter().product::<usize>();
        let mut sums = vec![vec![0.0; size * (self.classes + 1)]; group.len()];
        for (view, weight) in &views.weighted {
            for (sum, found) in sums.iter_mut().zip(self.found(scan, group, view, views.average, advance)) {
                sum.iter_mut().zip(found).for_each(|(sum, value)| *sum += weight * value);
            }
        }
        let mut window = vec![0.0; size * self.classes];
        for (place, sum) in group.iter().zip(&sums) {
            for (at, voxel) in window.chunks_exact_mut(self.classes).enumerate() {
                voxel.iter_mut().enumerate().for_each(|(class, value)| *value = sum[class * size + at]);
                let shown = sum[self.classes * size + at];
                if views.average == Average::Logits {
                    softmax(voxel, shown);
                }
            }
            self.add_window(&window, *place, [nx, ny, nz], [false; 3], 1.0, first, band);
        }
    }
}

/// Changes what a network finds in a window, (class, voxel) and the part of each voxel that was shown, by the odds of
/// its classes.
fn lean(found: &mut [f32], odds: &[f32], average: Average) {
    let size = found.len() / (odds.len() + 1);
    let mut voxel = vec![0.0; odds.len()];
    for at in 0..size {
        voxel.iter_mut().enumerate().for_each(|(class, value)| *value = found[class * size + at]);
        match average {
            Average::Probabilities => tilt(&mut voxel, odds),
            Average::Logits => {
                let shown = found[odds.len() * size + at];
                voxel.iter_mut().zip(odds).for_each(|(z, odds)| *z += shown * odds.ln());
            }
        }
        voxel.iter().enumerate().for_each(|(class, value)| found[class * size + at] = *value);
    }
}

/// Sums of logits, of which a part `shown` was seen, become probabilities that sum to that part.
fn softmax(sums: &mut [f32], shown: f32) {
    if shown <= 0.0 {
        return sums.fill(0.0);
    }
    let highest = sums.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    sums.iter_mut().for_each(|z| *z = ((*z - highest) / shown).exp());
    let total: f32 = sums.iter().sum();
    sums.iter_mut().for_each(|z| *z *= shown / total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_change_probabilities_as_a_bias_changes_logits() {
        // Two voxels, the second shown by three quarters; three classes, class first.
        let (logits, shown) = ([[1.0_f32, -0.5], [0.25, 0.5], [-2.0, 2.0]], [1.0, 0.75]);
        let odds = [1.0_f32, 4.0, 0.5];
        let softmax_of = |voxel: usize, odds: [f32; 3]| {
            let mut sums: Vec<f32> =
                logits.iter().zip(odds).map(|(z, o)| shown[voxel] * (z[voxel] + o.ln())).collect();
            softmax(&mut sums, shown[voxel]);
            sums
        };
        let mut probabilities = vec![0.0; 8];
        let mut weighted = vec![0.0; 8];
        for voxel in 0..2 {
            for (class, p) in softmax_of(voxel, [1.0; 3]).into_iter().enumerate() {
                probabilities[2 * class + voxel] = p;
                weighted[2 * class + voxel] = shown[voxel] * logits[class][voxel];
            }
            (probabilities[6 + voxel], weighted[6 + voxel]) = (shown[voxel], shown[voxel]);
        }
        lean(&mut probabilities, &odds, Average::Probabilities);
        lean(&mut weighted, &odds, Average::Logits);
        for voxel in 0..2 {
            let expected = softmax_of(voxel, odds);
            let mut sums: Vec<f32> = (0..3).map(|class| weighted[2 * class + voxel]).collect();
            softmax(&mut sums, shown[voxel]);
            for class in 0..3 {
                assert!((probabilities[2 * class + voxel] - expected[class]).abs() < 1e-6);
                assert!((sums[class] - expected[class]).abs() < 1e-6);
            }
            assert_eq!(probabilities[6 + voxel], shown[voxel]);
        }
    }
}
