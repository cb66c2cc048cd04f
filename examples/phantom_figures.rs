//! Draws a phantom of every kind, with its labels, for the documentation:
//!
//! ```text
//! cargo run --release --example phantom_figures -- docs/images
//! ```

use std::path::PathBuf;

use segen::data::phantom::{Kind, PhantomCase, PhantomOptions, Split, generate};
use segen::picture::{OverlayRow, overlay};

fn main() -> segen::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "docs/images".into()));
    std::fs::create_dir_all(&folder).map_err(|e| segen::Error::io("create", &folder, e))?;
    for (split, name) in [(Split::Training, "phantoms.png"), (Split::Test, "phantoms-shifted.png")] {
        let cases: Vec<(Kind, PhantomCase)> = [(Kind::Brats, 4), (Kind::Atlas, 3), (Kind::Kits, 5)]
            .map(|(kind, index)| (kind, generate(&PhantomOptions::new(kind), split, index)))
            .into();
        let rows: Vec<OverlayRow<'_>> = cases
            .iter()
            .map(|(kind, case)| OverlayRow {
                caption: format!("{}: {}", case.id, kind.channels()[0]),
                image: case.channels[0].voxels.view(),
                spacing: case.channels[0].grid.spacing(),
                columns: vec![("Reference".into(), case.labels.voxels.view())],
            })
            .collect();
        overlay(&folder.join(name), &rows)?;
    }
    Ok(())
}
