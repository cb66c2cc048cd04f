//! The worst cases as slices.

use std::path::Path;

use super::Figures;
use super::page::Page;
use super::subject::{Kind, Part, mean_dice};
use crate::Result;
use crate::image;
use crate::image::volume::{Image, Labels};
use crate::picture::{self, OverlayRow};

/// Cases that are shown.
const SHOWN: usize = 3;

struct Loaded {
    caption: String,
    image: Image,
    reference: Labels,
    prediction: Labels,
}

/// Adds the worst cases of a part, where scans and references are still there.
pub(super) fn write(page: &mut Page, part: &Part, figures: &Figures<'_>) -> Result<()> {
    let mut loaded = Vec::new();
    for number in part.ranked() {
        let case = &part.scored.cases[number];
        let (Some(dice), Some(files)) = (mean_dice(case), &part.files[number]) else { continue };
        let score = |key: &str| {
            case.values.first().and_then(|v| v.get(key)).map_or("-".to_owned(), |v| format!("{v:.2}"))
        };
        loaded.push(Loaded {
            caption: format!(
                "{}: mean Dice {dice:.2}; {}: sensitivity {}, precision {}",
                case.case,
                part.scored.regions.first().map_or("", String::as_str),
                score("Sensitivity"),
                score("Precision")
            ),
            // The first channel, where a file holds several.
            image: image::read_channels(&files.images[0])?.0.swap_remove(0),
            reference: image::read_labels(&files.reference)?.0,
            prediction: image::read_labels(&files.prediction)?.0,
        });
        if loaded.len() == SHOWN {
            break;
        }
    }
    if loaded.is_empty() {
        return Ok(());
    }
    let rows: Vec<OverlayRow<'_>> = loaded.iter().map(row).collect();
    let name = match part.kind {
        Kind::Test => "test-worst.png",
        _ => "validation-worst.png",
    };
    let png = picture::overlay_png(Path::new(name), &rows)?;
    figures.write(name, &png)?;
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
