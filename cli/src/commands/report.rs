use std::path::PathBuf;

use clap::ValueEnum;
use segen::examine::report::{self, Options, PagePart, Place, Predictions, Source, ViewerOptions};
use segen::run;

use super::{Exit, existing};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of runs, of cross-validations and of sweeps, or their names under $nnUNet_results
    #[arg(required_unless_present = "predictions", conflicts_with = "predictions")]
    folder: Vec<PathBuf>,
    /// Folder of label maps that any tool has made, instead of runs; several are shown side by side
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "references")]
    predictions: Vec<PathBuf>,
    /// Folder of reference label maps with the names of the predictions
    #[arg(long, value_name = "DIR", requires = "predictions")]
    references: Option<PathBuf>,
    /// Folder of the scans, CASE_0000.nii.gz or CASE.nii.gz [default: imagesTr beside labelsTr, imagesTs beside
    /// labelsTs; else none are shown]
    #[arg(long, value_name = "DIR", requires = "predictions")]
    images: Option<PathBuf>,
    /// The dataset.json that names the labels of --predictions; else the one in or beside the folders; else every
    /// value that occurs is a class
    #[arg(long, value_name = "FILE", requires = "predictions")]
    dataset: Option<PathBuf>,
    /// The page; its figures are also written as SVG and PNG into NAME_figures beside it
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Megabytes of the page that scans may take: beyond that, grey levels and then voxels are joined
    #[arg(long, value_name = "MB", default_value_t = 20.0, value_parser = megabytes)]
    megabytes: f64,
    /// Channel that is shown; others only where there is room [default: the first]
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Also write the scalars of every run for TensorBoard, into DIR/RUN/
    #[arg(long, value_name = "DIR", conflicts_with = "predictions")]
    tensorboard: Option<PathBuf>,
    /// Leave a part of the page out
    #[arg(long, value_enum, value_name = "PART", num_args = 1..)]
    without: Vec<Without>,
    #[command(flatten)]
    existing: existing::ExistingArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Without {
    /// The slices of every scored case
    Viewer,
    /// What the data are, and the findings of `segen check`
    Data,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let source = match args.references {
        Some(references) => Source::Predictions(Predictions {
            predictions: args.predictions,
            references,
            images: args.images,
            // The folder of the data set will do.
            description: args
                .dataset
                .map(|path| if path.is_dir() { path.join("dataset.json") } else { path }),
        }),
        None => {
            let folders = args.folder.iter().map(|folder| run::locate(folder));
            Source::Folders(folders.collect::<segen::Result<_>>()?)
        }
    };
    let part = |without: Without| match without {
        Without::Viewer => PagePart::Viewer,
        Without::Data => PagePart::Data,
    };
    let options = Options {
        without: args.without.into_iter().map(part).collect(),
        viewer: ViewerOptions { megabytes: args.megabytes, channel: args.channel },
    };
    let place = Place::claim(&source, &args.output, args.existing.existing())?;
    let scalars = match (&args.tensorboard, &source) {
        (Some(folder), Source::Folders(runs)) => {
            report::write_tensorboard(runs, folder, args.existing.existing())?
        }
        _ => Vec::new(),
    };
    let written = report::write(&source, &options, &place, output)?;
    if output.json() {
        output.data(
            &serde_json::json!({ "page": written.page, "figures": written.figures, "tensorboard": scalars })
                .to_string(),
        );
    } else {
        output.data(&written.page.display().to_string());
    }
    Ok(Exit::Done)
}

/// A size above zero.
fn megabytes(text: &str) -> Result<f64, String> {
    let size = text.trim().parse::<f64>().ok().filter(|size| *size > 0.0 && size.is_finite());
    size.ok_or_else(|| "write a number of megabytes above zero, such as 20".to_owned())
}
