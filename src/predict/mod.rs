//! From a prepared sample to a label file.
//!
//! ```text
//! Sample -> Segmenter -> probabilities, plane by plane -> Restorer -> labels on the scan's grid
//!        -> mask -> values of files -> steps after a prediction (post) -> label file
//! ```
//!
//! There is one way, whoever predicts and for whatever: [`LabelFiles`].

use std::path::{Path, PathBuf};

use ndarray::ArrayView4;
use serde_json::Value;

use crate::data::dataset::{Case, LabelScheme};
use crate::files::Outputs;
use crate::image;
use crate::image::volume::Labels;
use crate::prepare::{Restorer, Sample};
use crate::score::operating::{Bias, CaseOdds};
use crate::{Result, files};

pub mod choice;
pub mod field;
pub mod forms;
pub mod mirror;
pub mod post;
pub mod scored;
mod tally;
pub mod tiling;
pub mod volumes;
pub(crate) mod voxels;
pub mod windows;

use post::Steps;
use tally::Tally;
use volumes::{Filling, VolumeName, Volumes};

/// Gives every voxel of a prepared sample the probabilities of the classes. Whatever can do that, a network or another
/// model, can be validated, tested and used by `segen predict`.
pub trait Segmenter: std::fmt::Debug {
    /// Number of classes, background included.
    fn classes(&self) -> usize;

    /// Number of parts that the work on a sample of this shape has, for who watches: passes of networks.
    fn passes(&self, shape: [usize; 3]) -> usize;

    /// Predicts a sample. `planes` receives class probabilities as (class, planes, y, z), in order of x, every plane
    /// once; they sum to 1. `advance` receives the number of passes done since the last call.
    fn predict(
        &self,
        sample: &Sample,
        planes: &mut dyn FnMut(ArrayView4<f32>),
        advance: &mut dyn FnMut(usize),
    );

    /// What the user is to know of the samples predicted since the last call, each with the sample's name.
    fn take_notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Turns prepared samples into label files.
#[derive(Debug)]
pub struct LabelFiles<'a> {
    /// What predicts.
    pub segmenter: &'a dyn Segmenter,
    /// Of the decision between its classes.
    pub bias: &'a Bias,
    /// What the classes are called in files.
    pub scheme: &'a LabelScheme,
    /// Ending of the files, with its dot.
    pub ending: &'a str,
    /// Where they go.
    pub place: Place<'a>,
}

/// Where label files go.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Into a folder of the run's own.
    Run(&'a Path),
    /// To places that a command has claimed.
    Claimed(&'a Outputs),
}

/// One label file.
#[derive(Clone, Debug)]
pub struct LabelFile {
    /// Its place.
    pub path: PathBuf,
    /// What is in it.
    pub labels: Labels,
    /// The case's region of interest, where it has one.
    pub mask: Option<Labels>,
}

impl LabelFiles<'_> {
    /// Name of the label map of a case, below the folder.
    pub fn name(id: &str, ending: &str) -> String {
        format!("{id}{ending}")
    }

    /// Name of a volume, below the folder: in a folder of its kind, so that who reads the folder of label maps does not
    /// take it for one.
    pub fn volume_name(id: &str, volume: VolumeName, ending: &str) -> String {
        match volume {
            VolumeName::Probability(class) => {
                format!("probabilities/{}", image::probability_name(id, class, ending))
            }
            VolumeName::Entropy => format!("entropy/{}", image::entropy_name(id, ending)),
        }
    }

    /// Predicts the sample of a case and writes its label map. It lies on the grid of the case's first image, with that
    /// file's header; voxels outside the case's mask are background; `steps` have changed it, but not the volumes of
    /// probabilities and entropy. `from` is what the files are made from, for the manifest of a claimed place.
    ///
    /// # Errors
    /// Where the mask or the header cannot be read, or a file cannot be written.
    pub fn write(
        &self,
        case: &Case,
        sample: &Sample,
        steps: &Steps,
        volumes: Volumes,
        from: Option<&Value>,
        advance: &mut dyn FnMut(usize),
    ) -> Result<LabelFile> {
        let mask = mask_of(case)?;
        let header = image::read_header(&case.images[0])?;
        let mut filling = Filling::new(volumes, self.segmenter, &sample.geometry);
        let restorer = restorer(self.segmenter, sample, self.bias);
        let restorer = match volumes == Volumes::default() {
            true => restorer,
            false => restorer.with_sink(|x, plane| filling.plane(x, plane)),
        };
        let labels = stream(self.segmenter, sample, restorer, advance);
        for (volume, shares) in filling.finish() {
            let name = Self::volume_name(&case.id, volume, self.ending);
            let path = self.place.path(&name);
            let content = image::shares_content(&path, &shares, Some(&header))?;
            let from = from.map(|from| volumes.made_from(from, volume));
            self.place.write(&name, from.as_ref(), content)?;
        }
        self.finish(case, labels, mask, &header, steps, from)
    }

    /// As [`Self::write`], without probabilities, for a case with a reference: counts its log-odds, too, which say
    /// what other decisions would have found. They are those of the plain decision, whatever the bias.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_counted(
        &self,
        case: &Case,
        sample: &Sample,
        steps: &Steps,
        reference: &Labels,
    ) -> Result<(LabelFile, CaseOdds)> {
        let mask = mask_of(case)?;
        let header = image::read_header(&case.images[0])?;
        let mut tally = Tally::new(&sample.geometry, self.scheme, reference, mask.as_ref());
        let restorer = restorer(self.segmenter, sample, self.bias);
        let restorer = restorer.with_sink(|x, plane| tally.plane(x, plane));
        let labels = stream(self.segmenter, sample, restorer, &mut |_| {});
        Ok((self.finish(case, labels, mask, &header, steps, None)?, tally.finish(&case.id)))
    }

    /// Turns predicted classes into the label map that is written.
    fn finish(
        &self,
        case: &Case,
        mut labels: Labels,
        mask: Option<Labels>,
        header: &image::Header,
        steps: &Steps,
        from: Option<&Value>,
    ) -> Result<LabelFile> {
        if let Some(mask) = &mask {
            labels.voxels.zip_mut_with(&mask.voxels, |label, &inside| *label *= u8::from(inside != 0));
        }
        self.scheme.paint(&mut labels);
        post::apply(steps, &mut labels, mask.as_ref());
        let name = Self::name(&case.id, self.ending);
        let path = self.place.path(&name);
        let content = image::labels_content(&path, &labels, Some(header))?;
        self.place.write(&name, from, content)?;
        Ok(LabelFile { path, labels, mask })
    }
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Run(folder) => folder.join(name),
            Self::Claimed(outputs) => outputs.path(name),
        }
    }

    fn write(
        &self,
        name: &str,
        from: Option<&Value>,
        content: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
    ) -> Result<()> {
        match self {
            Self::Run(folder) => files::write(&folder.join(name), content),
            Self::Claimed(outputs) => outputs.write(name, from.cloned(), content).map(drop),
        }
    }
}

/// The region of interest of a case, where it has one.
fn mask_of(case: &Case) -> Result<Option<Labels>> {
    Ok(case.mask.as_deref().map(image::read_labels).transpose()?.map(|(mask, _)| mask))
}

/// Segments a prepared sample: classes on the scan's own grid and axis order, decided with a bias. `advance` receives
/// the number of passes done.
pub fn segment(
    segmenter: &dyn Segmenter,
    sample: &Sample,
    bias: &Bias,
    advance: &mut dyn FnMut(usize),
) -> Labels {
    stream(segmenter, sample, restorer(segmenter, sample, bias), advance)
}

/// Without a bias the plain decision is made, not one with odds of 1.
fn restorer<'a>(segmenter: &dyn Segmenter, sample: &Sample, bias: &Bias) -> Restorer<'a> {
    let restorer = Restorer::new(&sample.geometry, segmenter.classes());
    if bias.is_none() { restorer } else { restorer.with_odds(bias.odds()) }
}

fn stream(
    segmenter: &dyn Segmenter,
    sample: &Sample,
    mut restorer: Restorer<'_>,
    advance: &mut dyn FnMut(usize),
) -> Labels {
    segmenter.predict(sample, &mut |planes| restorer.push(planes), advance);
    restorer.finish()
}
