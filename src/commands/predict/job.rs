//! One scan of a prediction: made ready on one thread, predicted on another.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Known, Request};
use crate::Result;
use crate::commands::ensemble::{Ensemble, Prepared};
use crate::commands::trained::Trained;
use crate::data::dataset::Case;
use crate::files::{Digest, Outputs};
use crate::plan::Plan;
use crate::predict::post::Steps;
use crate::predict::{LabelFiles, Place, Segmenter};
use crate::prepare::Sample;
use crate::progress::Progress;
use crate::score::operating::Bias;

/// What all scans are made ready with.
pub(super) struct Preparation<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) first: &'a Trained,
    pub(super) plans: &'a [&'a Plan],
    pub(super) settings: Value,
    pub(super) outputs: &'a Outputs,
}

/// What makes a label map of a scan that was made ready.
pub(super) struct Prediction<'a> {
    pub(super) ensemble: &'a Ensemble,
    /// Of a single network; several have theirs in the average.
    pub(super) bias: &'a Bias,
    /// What changes the label map afterwards.
    pub(super) steps: &'a Steps,
}

/// A scan that can be predicted, or need not be.
pub(super) enum Ready {
    /// Its label map is there as it would be.
    There(PathBuf),
    /// The scan for every plan, and what its files are made from.
    Prepared(Box<Prepared>, Value),
}

impl Preparation<'_> {
    /// Reads and prepares a scan, unless its files are there as they would be.
    pub(super) fn prepare(&self, case: &Case) -> Result<Ready> {
        let record = &self.first.record;
        let from = self.from(case)?;
        let label_file = LabelFiles::name(&case.id, &record.file_ending);
        if self.request.known == Known::Skip && self.is_there(&case.id, &label_file, &from)? {
            return Ok(Ready::There(self.outputs.path(&label_file)));
        }
        let prepared = Prepared::of(self.plans, &case.images, case.mask.as_deref())?;
        Ok(Ready::Prepared(Box::new(prepared), from))
    }

    /// Whether all files of a scan are there as they would be.
    fn is_there(&self, id: &str, label_file: &str, from: &Value) -> Result<bool> {
        let record = &self.first.record;
        let volumes = self.request.volumes;
        let mut files = vec![(label_file.to_owned(), from.clone())];
        files.extend(volumes.names(record.labels.classes()).into_iter().map(|volume| {
            (LabelFiles::volume_name(id, volume, &record.file_ending), volumes.made_from(from, volume))
        }));
        for (name, from) in files {
            if !self.outputs.is_made_from(&name, &from)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the files of a scan are made from: the settings, and the content of its own files.
    fn from(&self, case: &Case) -> Result<Value> {
        let digest = |path: &PathBuf| Digest::of_file(path).map(|digest| json!(digest));
        let images = case.images.iter().map(digest).collect::<Result<Vec<_>>>()?;
        let mask = case.mask.as_ref().map(digest).transpose()?;
        Ok(json!({ "settings": self.settings, "images": images, "mask": mask }))
    }
}

impl Prediction<'_> {
    /// Predicts a scan that was made ready; whether its label map was there already.
    pub(super) fn predict(
        &self,
        preparation: &Preparation<'_>,
        case: &Case,
        ready: Ready,
        progress: &dyn Progress,
    ) -> Result<(PathBuf, Known)> {
        let (prepared, from) = match ready {
            Ready::There(file) => return Ok((file, Known::Skip)),
            Ready::Prepared(prepared, from) => (prepared, from),
        };
        warn_constant(case, prepared.first(), progress);
        let (segmenter, sample) = (self.ensemble.on(&prepared), prepared.sample());
        let record = &preparation.first.record;
        let files = LabelFiles {
            segmenter: &segmenter,
            bias: self.bias,
            scheme: &record.labels,
            ending: &record.file_ending,
            place: Place::Claimed(preparation.outputs),
        };
        progress.begin(&case.id, segmenter.passes(sample.geometry.shape) as u64);
        let advance = &mut |passes: usize| progress.advance(passes as u64);
        let written =
            files.write(case, sample, self.steps, preparation.request.volumes, Some(&from), advance);
        progress.end();
        segmenter.take_notes().iter().for_each(|note| progress.note(note));
        Ok((written?.path, Known::Again))
    }
}

/// Warns of a channel in which nothing can be seen.
fn warn_constant(case: &Case, sample: &Sample, progress: &dyn Progress) {
    for (channel, image) in sample.images.outer_iter().enumerate() {
        let first = image.first().copied().unwrap_or(0.0);
        if image.iter().all(|value| *value == first) {
            let file = case.images.get(channel).unwrap_or(&case.images[0]);
            progress.note(&format!(
                "warning: `{}`: all voxels of channel {channel} are alike, there is nothing in it to segment",
                file.display()
            ));
        }
    }
}
