//! One page that says what was run and what came out.
//!
//! The page is a single HTML file: figures are inline SVG, slices are PNG in data addresses, nothing is loaded
//! from elsewhere and nothing is executed. The figures also lie beside it as SVG and PNG files.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::files::{create_folder, write_atomically};
use crate::picture::{self, Panel};
use crate::progress::Progress;
use crate::run::Run;

mod compare;
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

/// Writes the report of runs and sweeps (folders, told apart by what is in them) to `output`, and its figures into
/// the folder `NAME_figures` beside it. What is not there yet, such as logits, is left out.
///
/// # Errors
/// Where a folder is neither a run nor a sweep, one of its files is damaged, or the page cannot be written.
pub fn write(folders: &[PathBuf], output: &Path, progress: &dyn Progress) -> Result<Written> {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let figures = output.with_file_name(format!("{stem}_figures"));
    create_folder(&figures)?;
    let mut page = Page::new("segen report");
    progress.begin("writing the report", folders.len() as u64);
    let runs: Vec<Run> = folders.iter().filter(|f| !is_sweep(f)).map(Run::at).collect();
    if runs.len() > 1 {
        compare::write(&mut page, &runs)?;
    }
    for (number, folder) in folders.iter().enumerate() {
        let mut book = Figures { folder: &figures, prefix: prefix(folder, number, folders.len()) };
        if is_sweep(folder) {
            sweep::write(&mut page, folder, &mut book)?;
        } else {
            run::write(&mut page, &Run::at(folder), &mut book, progress)?;
        }
        progress.advance(1);
    }
    progress.end();
    write_atomically(output, page.finish().as_bytes())?;
    Ok(Written { page: output.to_owned(), figures })
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
    folder: &'a Path,
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
        picture::chart(&self.path(&format!("{name}.svg")), panels, columns)?;
        page.figure(&picture::curves_svg(panels, columns), caption);
        Ok(())
    }

    /// Where a figure's file goes.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}{name}", self.prefix))
    }
}
