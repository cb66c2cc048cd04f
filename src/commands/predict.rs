//! Segments scans that are nobody's training or validation cases: files in, label maps out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::train;
use crate::data::dataset::{self, Description};
use crate::files::{self, Existing, bytes_of};
use crate::image;
use crate::image::volume::Volume;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::predict::forms::{Average, Views};
use crate::predict::windows::{Predictor, WindowOptions, segment, segment_with_probabilities};
use crate::progress::Progress;
use crate::run::Run;
use crate::{Error, Result};

/// Whether mirror images are predicted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// One pass per window.
    Off,
    /// Along the axes that the run was trained to mirror.
    Trained,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Label maps.
    Labels,
    /// Label maps and one volume of probabilities per class.
    Probabilities,
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

/// One `segen predict`.
#[derive(Debug)]
pub struct Request<'a> {
    /// Runs whose probabilities are averaged; the first one's plan rules.
    pub runs: &'a [Run],
    /// Files and folders of scans.
    pub inputs: &'a [PathBuf],
    /// Folder with a region of interest for every scan, `CASE.nii.gz`, as the data set's `masksTr`: scans are
    /// normalised inside it, and outside all is background.
    pub masks: Option<&'a Path>,
    /// Test-time mirroring.
    pub mirror: Mirror,
    /// Test-time policy, instead of mirroring.
    pub test_time: Option<TestTime>,
    /// What to write.
    pub outputs: Outputs,
    /// Where to: label maps, `dataset.json` and, below `probabilities/`, probabilities.
    pub folder: &'a Path,
    /// What becomes of files of these names that are there already.
    pub existing: Existing,
    /// Further files that the command reads, such as that of the policy: no output may take their place.
    pub also_read: &'a [PathBuf],
    /// Where to compute.
    pub device: &'a Device,
}

/// Segments every scan; returns the label maps written, in order of case name. `dataset.json` is written beside
/// them, so that they can be scored and read by tools that need the names of the labels.
pub fn run(request: &Request<'_>, progress: &dyn Progress) -> Result<Vec<PathBuf>> {
    let Some(first) = request.runs.first() else {
        return Err(Error::config("RUN", "there is no run", "name the folder of a trained run"));
    };
    let loaded = request.runs.iter().map(train::load).collect::<Result<Vec<_>>>()?;
    let (_, _, plan, config) = &loaded[0];
    for (run, (_, _, other, settings)) in request.runs.iter().zip(&loaded).skip(1) {
        let same = other.spacing == plan.spacing
            && other.patch == plan.patch
            && other.normalisation == plan.normalisation
            && settings.task == config.task
            && other.deepmedic.as_ref().map(|d| &d.scales) == plan.deepmedic.as_ref().map(|d| &d.scales);
        if !same {
            return Err(Error::invalid(
                run.path("plan.json"),
                "plan",
                format!(
                    "spacing, patch, normalisation or classes differ from those of `{}`",
                    first.folder.display()
                ),
                "average only runs that were trained with the same plan",
            ));
        }
    }
    crate::learn::job::select_kernels(config)?;
    let description: serde_json::Value = first.read_json("dataset.json")?;
    let (meaning, _) = Description::read(&first.path("dataset.json"))?;
    let scheme = meaning.labels.select(&config.task.classes)?;
    let (classes, ending) = (scheme.names.len(), meaning.file_ending);
    let cases = dataset::cases(request.inputs, plan.channels)?.into_iter();
    let cases = cases.map(|(id, images)| Ok((id, images?))).collect::<Result<BTreeMap<_, _>>>()?;
    let outputs = claim(request, &cases, classes, &ending)?;
    let mut options = WindowOptions { step: config.validation.step, ..WindowOptions::default() };
    if request.mirror == Mirror::Trained {
        options.mirror = scheme.sides().mirror_axes();
    }
    let networks = loaded.iter().map(|(network, weights, _, _)| (network.clone(), weights)).collect();
    let mut predictor = Predictor::new(plan, networks, options, request.device)?;
    if let Some(test_time) = &request.test_time {
        let views = views(test_time, plan, &predictor)?;
        let told: Vec<String> = views
            .names
            .iter()
            .zip(views.weights())
            .map(|(name, weight)| format!("{name} {:.0} %", 100.0 * weight))
            .collect();
        progress.note(&format!("{} passes per window instead of 1: {}", views.len(), told.join(", ")));
        predictor = predictor.with_views(views)?;
    }
    let passes = 1 << options.mirror.iter().filter(|&&m| m).count();
    if passes > 1 {
        progress.note(&format!("mirroring: {passes} passes per window instead of 1"));
    }
    if request.masks.is_none() && plan.fingerprint.masked_cases > 0 {
        progress.note(
            "the network was trained on scans with regions of interest, inside which intensities were normalised; \
             without theirs (--masks FOLDER) these scans are normalised otherwise, and lesions may be missed",
        );
    }
    let text = serde_json::to_vec_pretty(&description)
        .map_err(|e| Error::io("write", request.folder.join("dataset.json"), std::io::Error::other(e)))?;
    outputs.write("dataset.json", None, bytes_of(&text))?;
    let mut written = Vec::new();
    for (id, images) in &cases {
        let mask_file = request.masks.map(|folder| dataset::file_of(folder, id)).transpose()?;
        let mask = mask_file.as_deref().map(image::read_labels).transpose()?.map(|(mask, _)| mask);
        let sample = plan.recipe().prepare_images(images, mask_file.as_deref())?;
        progress.begin(id, predictor.passes(sample.geometry.shape) as u64);
        let header = image::read_header(&images[0])?;
        let file = label_map(id, &ending);
        let advance = &mut |passes: usize| progress.advance(passes as u64);
        let mut labels = match request.outputs {
            Outputs::Labels => segment(&predictor, &sample, None, advance),
            Outputs::Probabilities => {
                let (labels, probabilities) = segment_with_probabilities(&predictor, &sample, advance);
                for (class, voxels) in probabilities.into_iter().enumerate() {
                    let file = probability_map(id, class, &ending);
                    let volume = Volume::new(voxels, labels.grid.clone());
                    let place = outputs.path(&file);
                    let content = image::image_content(&place, &volume, Some(&header))?;
                    outputs.write(&file, None, content)?;
                }
                labels
            }
        };
        if let Some(mask) = &mask {
            labels.voxels.zip_mut_with(&mask.voxels, |label, &inside| *label *= u8::from(inside != 0));
        }
        scheme.paint(&mut labels);
        let place = outputs.path(&file);
        let content = image::labels_content(&place, &labels, Some(&header))?;
        written.push(outputs.write(&file, None, content)?);
        progress.end();
    }
    Ok(written)
}

/// The name of a case's label map.
fn label_map(id: &str, ending: &str) -> String {
    format!("{id}{ending}")
}

/// The place of the probabilities of a class: below a folder of their own, so that who reads the folder of label maps
/// does not take them for such.
fn probability_map(id: &str, class: usize, ending: &str) -> String {
    format!("probabilities/{}", image::probability_name(id, class, ending))
}

/// Claims every file that will be written.
fn claim(
    request: &Request<'_>,
    cases: &BTreeMap<String, Vec<PathBuf>>,
    classes: usize,
    ending: &str,
) -> Result<files::Outputs> {
    if let Some(input) =
        request.inputs.iter().find(|input| input.is_dir() && files::are_same(input, request.folder))
    {
        return Err(Error::invalid(
            request.folder,
            "output",
            format!(
                "is the folder `{}` of the scans: label maps in it would be taken for scans",
                input.display()
            ),
            "choose another folder with -o",
        ));
    }
    let mut names = vec!["dataset.json".to_owned()];
    let mut inputs: Vec<PathBuf> = request.runs.iter().map(|run| run.folder.clone()).collect();
    inputs.extend_from_slice(request.also_read);
    for (id, images) in cases {
        names.push(label_map(id, ending));
        if request.outputs == Outputs::Probabilities {
            names.extend((0..classes).map(|class| probability_map(id, class, ending)));
        }
        inputs.extend_from_slice(images);
        inputs.extend(request.masks.and_then(|folder| dataset::file_of(folder, id).ok()));
    }
    files::Outputs::claim("predict", request.folder, &names, &inputs, request.existing)
}

fn views(test_time: &TestTime, plan: &Plan, predictor: &Predictor) -> Result<Views> {
    let usual = if plan.deepmedic.is_some() { 4 } else { 8 };
    let top = test_time.top.unwrap_or(usual);
    Views::of(&test_time.policy, top, test_time.average, plan.channels, predictor.window())
}
