//! The worst cases as slices.

use std::path::Path;

use super::Figures;
use super::page::Page;
use crate::Result;
use crate::image;
use crate::image::volume::{Image, Labels};
use crate::picture::{self, OverlayRow};
use crate::run::record::Record;
use crate::score::{ScoredCase, ScoredFolder};

/// Cases that are shown.
const SHOWN: usize = 3;

struct Loaded {
    caption: String,
    image: Image,
    reference: Labels,
    prediction: Labels,
}

/// Mean Dice over the regions where it is defined.
pub(super) fn mean_dice(case: &ScoredCase) -> Option<f64> {
    let values: Vec<f64> = case.values.iter().filter_map(|region| region.get("Dice").copied()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Adds the worst cases of a folder of predictions (`part` of the run), where scans and references are still there.
pub(super) fn write(
    page: &mut Page,
    record: &Record,
    part: &str,
    folder: &ScoredFolder,
    figures: &Figures<'_>,
) -> Result<()> {
    let Ok(dataset) = record.dataset(None) else {
        let place = record.manifest.dataset.display();
        page.quiet(&format!("No slices are shown: the data set is not at `{place}` any more."));
        return Ok(());
    };
    let mut ranked: Vec<(&ScoredCase, f64)> =
        folder.cases.iter().filter_map(|case| Some((case, mean_dice(case)?))).collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut loaded = Vec::new();
    for (case, dice) in ranked.into_iter().take(SHOWN) {
        let Some(known) = dataset.case(&case.case) else { continue };
        let Some(reference) = &known.labels else { continue };
        let prediction = record.run.path(part).join(&case.prediction);
        if !prediction.is_file() {
            continue;
        }
        let score = |key: &str| {
            case.values.first().and_then(|v| v.get(key)).map_or("-".to_owned(), |v| format!("{v:.2}"))
        };
        loaded.push(Loaded {
            caption: format!(
                "{}: mean Dice {dice:.2}; {}: sensitivity {}, precision {}",
                case.case,
                folder.regions.first().map_or("", String::as_str),
                score("Sensitivity"),
                score("Precision")
            ),
            // The first channel, where a file holds several.
            image: image::read_channels(&known.images[0])?.0.swap_remove(0),
            reference: image::read_labels(reference)?.0,
            prediction: image::read_labels(&prediction)?.0,
        });
    }
    if loaded.is_empty() {
        return Ok(());
    }
    let rows: Vec<OverlayRow<'_>> = loaded.iter().map(row).collect();
    let name = format!("{part}-worst.png");
    let png = picture::overlay_png(Path::new(&name), &rows)?;
    figures.write(&name, &png)?;
    page.heading("Worst cases");
    page.image(
        &png,
        "The slice with most of the rarest class of the reference; dashed over the prediction: the reference's \
         outline.",
    );
    Ok(())
}

fn row(loaded: &Loaded) -> OverlayRow<'_> {
    let orientation = loaded.image.grid.orientation();
    OverlayRow {
        caption: loaded.caption.clone(),
        image: orientation.apply(loaded.image.voxels.view()),
        spacing: loaded.image.grid.oriented(&orientation).spacing(),
        columns: vec![
            ("Reference".to_owned(), orientation.apply(loaded.reference.voxels.view())),
            ("Prediction".to_owned(), orientation.apply(loaded.prediction.voxels.view())),
        ],
    }
}
