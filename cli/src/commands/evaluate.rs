use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use segen::data::dataset::LabelScheme;
use segen::files::OutputFile;
use segen::progress::Progress;
use segen::score::{
    EmptyRule, Masks, MissRule, MissingRule, ScoreOptions, evaluate, find_description, inputs, scores_file,
};

use super::{Exit, existing};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of predicted segmentations, or one file
    predictions: PathBuf,
    /// Folder of reference segmentations with the same names, or one file
    references: PathBuf,
    /// The dataset.json that says which labels are scored; else the one in PREDICTIONS or beside PREDICTIONS or
    /// REFERENCES
    #[arg(long, value_name = "FILE")]
    dataset: Option<PathBuf>,
    /// What a score becomes that is undefined because a segmentation is empty
    #[arg(long, value_enum, value_name = "RULE", default_value = "skip")]
    empty: Empty,
    /// Distance in millimetres up to which surfaces agree (normalised surface Dice)
    #[arg(long, value_name = "MM", default_value_t = 1.0)]
    tolerance: f64,
    /// HD95 where a region was missed or invented altogether
    #[arg(long, value_enum, value_name = "RULE", default_value = "diagonal")]
    hd95_miss: Miss,
    /// Smallest share (0 to 1) of a lesion that must be covered for it to count as found; at 0 one voxel
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    lesion_overlap: f64,
    /// Accept references that have no prediction: without this they are left out too, but the exit status is 1
    #[arg(long, alias = "chill")]
    partial: bool,
    /// Score only inside the masks of this folder [default: masksTr beside labelsTr, masksTs beside labelsTs]
    #[arg(long, value_name = "DIR", conflicts_with = "no_masks")]
    masks: Option<PathBuf>,
    /// Score every voxel, also where the data set has masks
    #[arg(long)]
    no_masks: bool,
    /// Write summary.json in nnU-Net's shape to this file, and beside it scores.csv (for a file of another name
    /// NAME-scores.csv) with one line for every case and class
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    existing: existing::ExistingArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Empty {
    /// Left out of means and counted (nnU-Net)
    Skip,
    /// 1 where both segmentations are empty, 0 where one is
    One,
    /// 0
    Zero,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Miss {
    /// The image's diagonal in millimetres, counted beside the means
    Diagonal,
    /// Left out of means and counted
    Null,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let description = match &args.dataset {
        Some(file) => file.clone(),
        None => find_description(&args.predictions, &args.references)?,
    };
    let scheme = LabelScheme::read(&description)?;
    let options = ScoreOptions {
        empty: match args.empty {
            Empty::Skip => EmptyRule::Skip,
            Empty::One => EmptyRule::One,
            Empty::Zero => EmptyRule::Zero,
        },
        tolerance_millimetres: args.tolerance,
        hd95_miss: match args.hd95_miss {
            Miss::Diagonal => MissRule::Diagonal,
            Miss::Null => MissRule::Null,
        },
        lesion_overlap: args.lesion_overlap,
        missing: MissingRule::Skip,
        masks: match args.masks {
            Some(folder) => Masks::Folder(folder),
            None if args.no_masks => Masks::None,
            None => Masks::Beside,
        },
    };
    let files = match &args.output {
        Some(path) => {
            let mut inputs = inputs(&args.predictions, &args.references, &options)?;
            inputs.push(description);
            let claim = |path: &Path| OutputFile::claim("evaluate", path, &inputs, args.existing.existing());
            Some((claim(path)?, claim(&scores_file(path))?))
        }
        None => None,
    };
    let summary = evaluate(&args.predictions, &args.references, &scheme, &options, output)?;
    if let Some((file, scores)) = &files {
        file.write(summary.to_json()?.as_bytes())?;
        scores.write(summary.to_csv().as_bytes())?;
    }
    if output.json() {
        output.data(&serde_json::to_string_pretty(&summary).context("could not write the summary as JSON")?);
    } else {
        output.data(&summary.table());
    }
    if summary.without_prediction > 0 && !args.partial {
        output.note(&format!(
            "{} references have no prediction and are in no score; exit status 1 says so (--partial accepts it)",
            summary.without_prediction
        ));
        return Ok(Exit::CheckFailed);
    }
    Ok(Exit::Done)
}
