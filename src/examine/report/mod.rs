//! One page that says what was found and how good it is, with every scored case to look at.
//!
//! The page is a single HTML file: figures are inline SVG, voxels lie packed in it, and a script of its own draws slices
//! and sorts tables. Nothing is loaded from elsewhere. The figures also lie beside it as SVG and PNG files.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::files::{Existing, Outputs, bytes_of, split};
use crate::learn::exported;
use crate::picture::{self, Panel};
use crate::progress::Progress;
use crate::run::Run;
use crate::run::folds::CrossValidation;

mod answer;
mod compare;
mod control;
mod data;
mod fitted;
mod folds;
mod operating;
mod overlays;
mod page;
mod predictions;
mod run;
mod subject;
mod sweep;
mod tensorboard;
mod viewer;

use page::Page;
use subject::{Shown, Subject};

pub use predictions::Predictions;
pub use tensorboard::write_tensorboard;
pub use viewer::ViewerOptions;

/// What a page is about.
#[derive(Clone, Debug)]
pub enum Source {
    /// Folders of runs, cross-validations and sweeps, told apart by what is in them.
    Folders(Vec<PathBuf>),
    /// Folders of label maps, whatever tool has made them.
    Predictions(Predictions),
}

/// What a page holds beside words and charts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Parts that are left out.
    pub without: Vec<PagePart>,
    /// How much the viewer may take.
    pub viewer: ViewerOptions,
}

/// A part of a page that takes time or room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagePart {
    /// The slices of every scored case.
    Viewer,
    /// What the data are, and what a check of them finds.
    Data,
}

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

impl Source {
    /// The files and folders that a report of it reads.
    fn inputs(&self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Folders(folders) => {
                let all = with_folds(folders)?;
                Ok(all.iter().flat_map(|folder| Run::at(folder).inputs()).collect())
            }
            Self::Predictions(predictions) => Ok(predictions.inputs()),
        }
    }
}

impl Place {
    /// Claims the place of a report.
    ///
    /// # Errors
    /// As [`Outputs::claim`].
    pub fn claim(source: &Source, page: &Path, existing: Existing) -> Result<Self> {
        let (folder, name) = split(page)?;
        let stem = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let figures = format!("{stem}_figures/");
        let claimed = [name.clone(), figures.clone()];
        let outputs = Outputs::claim("report", folder, &claimed, &source.inputs()?, existing)?;
        Ok(Self { outputs, page: name, figures })
    }
}

/// Writes the report to its place. What is not there yet, such as logits, is left out.
///
/// # Errors
/// Where a folder is none of those that [`Source`] names, one of its files is damaged, or the page cannot be written.
pub fn write(source: &Source, options: &Options, place: &Place, progress: &dyn Progress) -> Result<Written> {
    let page = match source {
        Source::Folders(folders) => of_folders(folders, options, place, progress)?,
        Source::Predictions(predictions) => predictions::write(predictions, options, progress)?,
    };
    let written = place.outputs.write(&place.page, None, bytes_of(page.finish().as_bytes()))?;
    Ok(Written { page: written, figures: place.outputs.path(place.figures.trim_end_matches('/')) })
}

/// The answer, the cases, then all that is known of every run, and the data.
fn of_folders(
    folders: &[PathBuf],
    options: &Options,
    place: &Place,
    progress: &dyn Progress,
) -> Result<Page> {
    // Runs and cross-validations that were named; a cross-validation is one network, its folds stand further below.
    let (mut subjects, mut subject_folders) = (Vec::new(), Vec::new());
    for folder in folders.iter().filter(|folder| !is_sweep(folder)) {
        subjects.push(match CrossValidation::find(folder)? {
            Some(all) => {
                all.finished()?;
                Subject::of_folds(&all)?
            }
            None => {
                let run = Run::at(folder);
                run::refuse_others(&run)?;
                Subject::of_run(&run)?
            }
        });
        subject_folders.push(folder.as_path());
    }
    subject::name_apart(&mut subjects, &subject_folders);
    let shown =
        if options.without.contains(&PagePart::Viewer) { Vec::new() } else { subject::shown(&subjects) };
    let mut page = Page::new(&title(folders));
    answer::write(&mut page, &subjects, &subject_folders, &shown)?;
    if subjects.len() > 1 {
        let mut book = Figures { place, prefix: String::new() };
        compare::write(&mut page, &subjects, &subject_folders, &mut book)?;
    }
    cases(&mut page, &subjects, &shown, options, progress)?;
    let all = with_folds(folders)?;
    progress.begin("writing the report", all.len() as u64);
    for (number, folder) in all.iter().enumerate() {
        let mut book = Figures { place, prefix: prefix(folder, number, all.len()) };
        // Folds of a cross-validation are no column of their own.
        let column = subject_folders.iter().position(|known| *known == folder.as_path());
        let links = column.map(|column| (column, &shown[..]));
        if is_sweep(folder) {
            sweep::write(&mut page, folder, &mut book)?;
        } else if let Some(all) = CrossValidation::find(folder)? {
            folds::write(&mut page, &all, links)?;
        } else {
            run::write(&mut page, &Run::at(folder), links, &mut book, progress)?;
        }
        progress.advance(1);
    }
    progress.end();
    if !options.without.contains(&PagePart::Data) {
        data::of_runs(&mut page, &all, progress)?;
    }
    Ok(page)
}

/// The cases as slices, where they are wanted and there are some.
fn cases(
    page: &mut Page,
    subjects: &[Subject],
    shown: &[Shown],
    options: &Options,
    progress: &dyn Progress,
) -> Result<()> {
    if options.without.contains(&PagePart::Viewer) || subjects.iter().all(|subject| subject.main().is_none())
    {
        return Ok(());
    }
    page.section("Cases");
    viewer::write(page, subjects, shown, &options.viewer, progress)
}

/// What the page is called in a browser's list.
fn title(folders: &[PathBuf]) -> String {
    let names: Vec<String> = folders.iter().map(|folder| subject::name_of(folder)).collect();
    match &names[..] {
        [first, second, third, more @ ..] if !more.is_empty() => {
            format!("Report on {first}, {second}, {third} and {} more", more.len())
        }
        names => format!("Report on {}", names.join(", ")),
    }
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
