//! One page that says what was run and what came out.
//!
//! The page is a single HTML file: figures are inline SVG, slices are PNG in data addresses, nothing is loaded
//! from elsewhere and nothing is executed. The figures also lie beside it as SVG and PNG files.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::files::{Existing, Outputs, bytes_of, split};
use crate::learn::exported;
use crate::picture::{self, Panel};
use crate::progress::Progress;
use crate::run::Run;
use crate::run::folds::CrossValidation;

mod compare;
mod control;
mod folds;
mod operating;
mod overlays;
mod page;
mod run;
mod sweep;

use page::Page;

/// What a report left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The page.
    pub page: PathBuf,
    /// Folder of its figures as files.
    pub figures: PathBuf,
}

/// The place of a report, claimed: the page, and its figures in the folder `NAME_figures` beside it.
#[derive(Debug)]
pub struct Place {
    outputs: Outputs,
    page: String,
    figures: String,
}

impl Place {
    /// Claims the place of the report of these runs and sweeps.
    ///
    /// # Errors
    /// As [`Outputs::claim`].
    pub fn claim(folders: &[PathBuf], page: &Path, existing: Existing) -> Result<Self> {
        let (folder, name) = split(page)?;
        let stem = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let figures = format!("{stem}_figures/");
        let all = with_folds(folders)?;
        let inputs: Vec<PathBuf> = all.iter().flat_map(|folder| Run::at(folder).inputs()).collect();
        let outputs = Outputs::claim("report", folder, &[name.clone(), figures.clone()], &inputs, existing)?;
        Ok(Self { outputs, page: name, figures })
    }
}

/// Writes the report of runs, cross-validations and sweeps (folders, told apart by what is in them) to its place. What is not there yet,
/// such as logits, is left out.
///
/// # Errors
/// Where a folder is none of these, one of its files is damaged, or the page cannot be written.
pub fn write(folders: &[PathBuf], place: &Place, progress: &dyn Progress) -> Result<Written> {
    let mut page = Page::new("segen report");
    let folders = with_folds(folders)?;
    progress.begin("writing the report", folders.len() as u64);
    let runs: Vec<Run> = folders.iter().map(Run::at).filter(Run::exists).collect();
    if runs.len() > 1 {
        let mut book = Figures { place, prefix: String::new() };
        compare::write(&mut page, &runs, &mut book)?;
    }
    for (number, folder) in folders.iter().enumerate() {
        let mut book = Figures { place, prefix: prefix(folder, number, folders.len()) };
        if is_sweep(folder) {
            sweep::write(&mut page, folder, &mut book)?;
        } else if let Some(all) = CrossValidation::find(folder)? {
            folds::write(&mut page, &all)?;
        } else {
            run::write(&mut page, &Run::at(folder), &mut book, progress)?;
        }
        progress.advance(1);
    }
    progress.end();
    let written = place.outputs.write(&place.page, None, bytes_of(page.finish().as_bytes()))?;
    Ok(Written { page: written, figures: place.outputs.path(place.figures.trim_end_matches('/')) })
}

/// The folders; after each cross-validation the runs of its folds.
fn with_folds(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in folders {
        all.push(folder.clone());
        if let Some(folds) = CrossValidation::find(folder)? {
            exported::refuse(&Run::at(folder), "record of its training")?;
            all.extend(folds.finished()?.into_iter().map(|run| run.folder));
        }
    }
    Ok(all)
}

fn is_sweep(folder: &Path) -> bool {
    folder.join("results.jsonl").is_file()
}

/// Puts a folder's figures apart from those of others.
fn prefix(folder: &Path, number: usize, folders: usize) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if folders == 1 { String::new() } else { format!("{}-{name}-", number + 1) }
}

/// Draws charts onto the page and into files.
struct Figures<'a> {
    place: &'a Place,
    prefix: String,
}

impl Figures<'_> {
    /// Adds a chart of so many panels in a row to the page and writes it as NAME.svg and NAME.png.
    fn chart(
        &mut self,
        page: &mut Page,
        name: &str,
        caption: &str,
        panels: &[Panel],
        columns: usize,
    ) -> Result<()> {
        if panels.is_empty() {
            return Ok(());
        }
        let chart = picture::chart(Path::new(name), panels, columns)?;
        self.write(&format!("{name}.png"), &chart.png)?;
        self.write(&format!("{name}.svg"), chart.svg.as_bytes())?;
        page.figure(&chart.svg, caption);
        Ok(())
    }

    /// Writes a figure's file.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = format!("{}{}{name}", self.place.figures, self.prefix);
        self.place.outputs.write(&file, None, bytes_of(bytes)).map(drop)
    }
}
