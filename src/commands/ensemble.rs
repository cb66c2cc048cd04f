//! Runs that predict together: those of one plan in the same windows, those of different plans each on the scan as its
//! own plan prepares it, averaged on the scan's own grid.

use std::path::{Path, PathBuf};

use ndarray::{Array4, ArrayView4, Axis, s};
use segen_kernels::Device;

use super::trained::{Model, Trained, same_plan, windows};
use crate::image::crf::Settings;
use crate::plan::Plan;
use crate::predict::Segmenter;
use crate::predict::field::Refined;
use crate::predict::forms::TestTime;
use crate::predict::windows::WindowOptions;
use crate::prepare::{Geometry, Restorer, Sample};
use crate::progress::Progress;
use crate::run::record::Record;
use crate::score::operating::Bias;
use crate::{Error, Result};

/// Runs whose probabilities are averaged.
#[derive(Debug)]
pub struct Ensemble {
    /// One for every plan, in the order of their first runs.
    groups: Vec<Group>,
    classes: usize,
}

/// The runs of one plan.
#[derive(Debug)]
struct Group {
    plan: Plan,
    segmenter: Box<dyn Segmenter>,
    /// Of the average.
    share: f32,
}

/// A scan as every plan of an ensemble prepares it.
#[derive(Debug)]
pub struct Prepared {
    /// One for each plan.
    samples: Vec<Sample>,
    /// Of several plans: where their average lies.
    own_grid: Option<Sample>,
}

/// What predicts one scan.
#[derive(Debug)]
pub struct OnScan<'a> {
    ensemble: &'a Ensemble,
    prepared: &'a Prepared,
}

impl Ensemble {
    /// Joins runs of the same classes and channels. Of several each has the bias in its place of `biases`; of a single one the
    /// probabilities stay as they are, its bias is for who decides.
    ///
    /// # Errors
    /// Where a run has other classes or channels than the first, or the forms of `test_time` do not fit its plan.
    pub fn of(
        runs: &[Trained],
        biases: &[Bias],
        (options, test_time): (&WindowOptions, Option<&TestTime>),
        device: &Device,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let of_network = |run: &Trained| matches!(run.model, Model::Network { .. });
            let same = |group: &&mut Vec<usize>| {
                let first = &runs[group[0]];
                of_network(first) && of_network(run) && same_plan(&first.record, &run.record)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(number),
                None => {
                    comparable(&runs[0].record, &run.record)?;
                    groups.push(vec![number]);
                }
            }
        }
        if groups.len() > 1 {
            progress.note(&format!(
                "{} runs of {} plans: each predicts the scan as its own plan prepares it, and probabilities are averaged on the \
                 scan's own grid",
                runs.len(),
                groups.len()
            ));
        }
        let group = |members: &Vec<usize>| {
            let own: Vec<&Trained> = members.iter().map(|&number| &runs[number]).collect();
            let plan = &own[0].record.plan;
            let share = members.len() as f32 / runs.len() as f32;
            if let (Model::Classical(_), [one]) = (&own[0].model, own.as_slice()) {
                classical_alone(one, options, test_time)?;
                let alone = one.segmenter(options.clone(), device)?;
                let bias = &biases[members[0]];
                let segmenter: Box<dyn Segmenter> = match runs.len() > 1 && !bias.is_none() {
                    true => Box::new(Weighted { inner: alone, odds: bias.odds() }),
                    false => alone,
                };
                return Ok(Group { plan: plan.clone(), segmenter, share });
            }
            let mut predictor = windows(&own, options.clone(), device)?;
            if runs.len() > 1 {
                let biases: Vec<Bias> = members.iter().map(|&number| biases[number].clone()).collect();
                predictor = predictor.with_odds(&biases);
            }
            if let Some(test_time) = test_time {
                let forms = test_time.forms(plan, predictor.window())?;
                progress.note(&format!(
                    "{} passes per window instead of 1: {}",
                    forms.len(),
                    forms.describe()
                ));
                predictor = predictor.with_views(forms)?;
            }
            Ok(Group { plan: plan.clone(), segmenter: Box::new(predictor), share })
        };
        let groups = groups.iter().map(group).collect::<Result<Vec<_>>>()?;
        let Some(first) = groups.first() else {
            return Err(Error::config("RUN", "there is no run", "name the folder of a trained run"));
        };
        Ok(Self { classes: first.segmenter.classes(), groups })
    }

    /// With a random field after the average.
    ///
    /// # Errors
    /// Of several plans, whose average lies on the scan's own grid, without prepared images.
    pub fn refined(mut self, settings: Settings) -> Result<Self> {
        let Some(Group { plan, segmenter, share }) = self.groups.pop().filter(|_| self.groups.is_empty())
        else {
            return Err(Error::config(
                "--crf",
                "the runs have different plans, and a random field needs the images of one",
                "leave --crf out, or average runs of one plan",
            ));
        };
        self.groups.push(Group { plan, segmenter: Box::new(Refined::new(segmenter, settings)), share });
        Ok(self)
    }

    /// Number of classes, background included.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The plans, in the order of their first runs.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.groups.iter().map(|group| &group.plan)
    }

    /// What predicts a scan that was prepared.
    pub fn on<'a>(&'a self, prepared: &'a Prepared) -> OnScan<'a> {
        OnScan { ensemble: self, prepared }
    }
}

impl Prepared {
    /// Prepares a scan, its channels in order, for every plan of an ensemble (see [`Ensemble::plans`]).
    ///
    /// # Errors
    /// As [`Recipe::prepare_images`](crate::prepare::Recipe::prepare_images).
    pub fn of(plans: &[&Plan], images: &[PathBuf], mask: Option<&Path>) -> Result<Self> {
        let prepare = |plan: &&Plan| plan.recipe().prepare_images(images, mask);
        let samples = plans.iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let own_grid = (samples.len() > 1).then(|| own_grid(&samples[0]));
        Ok(Self { samples, own_grid })
    }

    /// The scan as the first plan prepares it.
    pub fn first(&self) -> &Sample {
        &self.samples[0]
    }

    /// The sample on whose grid probabilities come.
    pub fn sample(&self) -> &Sample {
        self.own_grid.as_ref().unwrap_or(&self.samples[0])
    }
}

/// Probabilities times the odds of a bias, normalised.
#[derive(Debug)]
struct Weighted {
    inner: Box<dyn Segmenter>,
    odds: Vec<f64>,
}

impl Segmenter for Weighted {
    fn classes(&self) -> usize {
        self.inner.classes()
    }

    fn passes(&self, shape: [usize; 3]) -> usize {
        self.inner.passes(shape)
    }

    fn predict(
        &self,
        sample: &Sample,
        planes: &mut dyn FnMut(ArrayView4<f32>),
        advance: &mut dyn FnMut(usize),
    ) {
        let mut weighted = |own: ArrayView4<f32>| {
            let mut own = own.to_owned();
            for (mut class, &odds) in own.outer_iter_mut().zip(&self.odds) {
                class *= odds as f32;
            }
            let sum = own.sum_axis(Axis(0));
            own.outer_iter_mut().for_each(|mut class| class /= &sum);
            planes(own.view());
        };
        self.inner.predict(sample, &mut weighted, advance);
    }

    fn take_notes(&self) -> Vec<String> {
        self.inner.take_notes()
    }
}

impl Segmenter for OnScan<'_> {
    fn classes(&self) -> usize {
        self.ensemble.classes
    }

    fn passes(&self, _: [usize; 3]) -> usize {
        let each = self.ensemble.groups.iter().zip(&self.prepared.samples);
        each.map(|(group, sample)| group.segmenter.passes(sample.geometry.shape)).sum()
    }

    fn take_notes(&self) -> Vec<String> {
        self.ensemble.groups.iter().flat_map(|group| group.segmenter.take_notes()).collect()
    }

    /// Of several plans the average takes memory for classes x the scan's box, 4 bytes each.
    fn predict(
        &self,
        sample: &Sample,
        planes: &mut dyn FnMut(ArrayView4<f32>),
        advance: &mut dyn FnMut(usize),
    ) {
        if let [group] = self.ensemble.groups.as_slice() {
            return group.segmenter.predict(sample, planes, advance);
        }
        let [x, y, z] = sample.geometry.crop_shape;
        let mut sum = Array4::<f32>::zeros((self.ensemble.classes, x, y, z));
        for (group, own) in self.ensemble.groups.iter().zip(&self.prepared.samples) {
            let (restorer, share) = (Restorer::new(&own.geometry, self.ensemble.classes), group.share);
            let mut restorer = restorer.with_sink(|x, plane| {
                let mut target = sum.slice_mut(s![.., x, .., ..]);
                target.zip_mut_with(&plane, |sum, &p| *sum += share * p);
            });
            group.segmenter.predict(own, &mut |planes| restorer.push(planes), advance);
            // Its own label map is nobody's.
            restorer.finish();
        }
        planes(sum.view());
    }
}

/// Refuses what changes the windows of a network, which a classical method does not have.
fn classical_alone(run: &Trained, options: &WindowOptions, test_time: Option<&TestTime>) -> Result<()> {
    let option = match (test_time, options.mirrors.len()) {
        (Some(_), _) => "--test-policy",
        (None, 2..) => "--mirror",
        _ => return Ok(()),
    };
    let problem = format!(
        "the method of `{}` is a classical one, which has no such forms",
        run.record.run.folder.display()
    );
    Err(Error::config(option, problem, "leave it out"))
}

/// A sample without voxels on the grid of the scan that another sample was prepared from.
fn own_grid(sample: &Sample) -> Sample {
    let geometry = Geometry {
        shape: sample.geometry.crop_shape,
        spacing: sample.geometry.original_spacing(),
        ..sample.geometry.clone()
    };
    let images = Array4::zeros((0, 0, 0, 0));
    Sample { id: sample.id.clone(), images, labels: None, mask: None, geometry, classes: Vec::new() }
}

/// Refuses to average runs whose classes or channels differ.
fn comparable(first: &Record, other: &Record) -> Result<()> {
    let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>();
    let (field, these, those) = if lower(&other.channels) != lower(&first.channels) {
        ("channel_names", other.channels.join(", "), first.channels.join(", "))
    } else if other.labels != first.labels {
        ("labels", other.labels.names.join(", "), first.labels.names.join(", "))
    } else {
        return Ok(());
    };
    Err(Error::invalid(
        other.run.path("dataset.json"),
        field,
        format!("{these}, other than those of `{}`: {those}", first.run.folder.display()),
        "average only runs that were trained for the same classes on the same channels",
    ))
}
