//! The picture of the demo: unseen cases, their reference, and what each row of the table finds.

use std::path::{Path, PathBuf};

use super::rows::Subject;
use crate::commands::operating::OperatingPoint;
use crate::commands::predict::{self, Known, Mirror, Part};
use crate::commands::trained::Which;
use crate::config::PostMode;
use crate::data::dataset::{Case, Dataset};
use crate::files::Existing;
use crate::image;
use crate::image::volume::{Image, Labels};
use crate::picture::{self, OverlayRow};
use crate::predict::volumes::Volumes;
use crate::progress::Silent;
use crate::run::Run;
use crate::score::Masks;
use crate::score::operating::{self, CaseOdds, Decision, Operating};
use crate::{Error, Result};
use segen_kernels::Device;

/// Cases that are drawn.
const DRAWN: usize = 3;

/// Where label maps of other decisions go, and what to compute them with.
pub(super) struct Workshop<'a> {
    /// The data set.
    pub(super) dataset: &'a Dataset,
    /// Folder for label maps at operating points.
    pub(super) folder: &'a Path,
    /// What becomes of those that are there.
    pub(super) existing: Existing,
    pub(super) device: &'a Device,
}

/// Caption, scan, and label maps with their headings, the reference first.
type Loaded = (String, Image, Vec<(String, Labels)>);

impl Workshop<'_> {
    /// Draws three held-out cases, from the one that gains most in Dice by the last row to the one that gains least.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub(super) fn draw(&self, subjects: &[Subject<'_>], name: &Path) -> Result<Vec<u8>> {
        let counts = |run: &Run| Operating::read(&run.path("validation").join(operating::FILE));
        let all: Vec<Operating> =
            subjects.iter().map(|(_, run, _)| counts(run)).collect::<Result<Vec<_>>>()?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for id in chosen(subjects, &all) {
            let Some(case) = self.dataset.case(&id) else { continue };
            let Some(reference) = &case.labels else { continue };
            let (image, _) = image::read_image(&case.images[0])?;
            let mut columns = vec![("reference".to_owned(), image::read_labels(reference)?.0)];
            let mut dices = Vec::new();
            for ((method, run, decision), counts) in subjects.iter().zip(&all) {
                let Some(odds) = counts.cases.iter().find(|case| case.case == id) else { continue };
                let file = self.label_map((method, run, *decision), case, odds)?;
                let heading = match decision {
                    Decision::Argmax => (*method).to_owned(),
                    Decision::Chosen => format!("{method}, chosen"),
                };
                dices.push(format!("{:.2} ({heading})", dice(odds, *decision).unwrap_or(0.0)));
                columns.push((heading, image::read_labels(&file)?.0));
            }
            loaded.push((format!("{id}: Dice {}", dices.join(", ")), image, columns));
        }
        let rows: Vec<OverlayRow<'_>> = loaded
            .iter()
            .map(|(caption, image, columns)| {
                let orientation = image.grid.orientation();
                OverlayRow {
                    caption: caption.clone(),
                    image: orientation.apply(image.voxels.view()),
                    spacing: image.grid.oriented(&orientation).spacing(),
                    columns: columns
                        .iter()
                        .map(|(heading, labels)| (heading.clone(), orientation.apply(labels.voxels.view())))
                        .collect(),
                }
            })
            .collect();
        picture::overlay_png(name, &rows)
    }

    /// The label map of a held-out case: the run's own, or one with the bias that the other cases chose.
    fn label_map(
        &self,
        (method, run, decision): (&str, &Run, Decision),
        case: &Case,
        odds: &CaseOdds,
    ) -> Result<PathBuf> {
        let name = format!("{}{}", case.id, self.dataset.file_ending);
        let bias = match (decision, &odds.bias) {
            (Decision::Chosen, Some(bias)) if !bias.is_none() => bias,
            _ => return Ok(run.path("validation").join(name)),
        };
        let names: Vec<String> = odds.classes.iter().map(|class| class.class.clone()).collect();
        let folder = self.folder.join(method).join(&case.id);
        let request = predict::Request {
            runs: std::slice::from_ref(run),
            checkpoint: Which::Latest,
            inputs: &case.images,
            part: Part::WHOLE,
            masks: &Masks::Beside,
            step: None,
            mirror: Mirror::Off,
            test_time: None,
            field: None,
            operating: OperatingPoint::Odds(vec![bias.describe(&names)]),
            post: PostMode::Off,
            volumes: Volumes::default(),
            folder: &folder,
            existing: self.existing,
            known: Known::Skip,
            also_read: &[],
            device: self.device,
        };
        let done = predict::run(&request, &Silent)?;
        let mut files = done.written.into_iter().chain(done.skipped);
        files.next().ok_or_else(|| Error::Internal { what: format!("no label map of `{}`", case.id) })
    }
}

/// The cases to draw.
fn chosen(subjects: &[Subject<'_>], counts: &[Operating]) -> Vec<String> {
    let ends = subjects.first().zip(counts.first()).zip(subjects.last().zip(counts.last()));
    let Some(((first, before), (last, after))) = ends else { return Vec::new() };
    let mut gains: Vec<(f64, &str)> = before
        .cases
        .iter()
        .filter_map(|case| {
            let same = after.cases.iter().find(|other| other.case == case.case)?;
            Some((dice(same, last.2)? - dice(case, first.2)?, case.case.as_str()))
        })
        .collect();
    gains.sort_by(|a, b| b.0.total_cmp(&a.0));
    let count = gains.len();
    let mut places: Vec<usize> =
        (0..DRAWN.min(count)).map(|i| i * (count - 1) / (DRAWN.min(count) - 1).max(1)).collect();
    places.dedup();
    places.into_iter().map(|place| gains[place].1.to_owned()).collect()
}

fn dice(odds: &CaseOdds, decision: Decision) -> Option<f64> {
    odds.counts(0, decision)?.dice()
}
