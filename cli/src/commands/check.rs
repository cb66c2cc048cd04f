//! `segen check`.

use std::path::PathBuf;

use super::Exit;
use crate::output::Output;
use segen::data::check::{HeaderFix, Severity, check, fix_headers};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with dataset.json, or a name or number under $nnUNet_raw
    dataset: PathBuf,
    /// Rewrite headers of labels, masks and further channels that lie elsewhere than the first channel of their case,
    /// then check. Voxels stay, and every file is kept as it was in DATASET/header-backup
    #[arg(long, value_enum, value_name = "WHICH")]
    fix_header: Option<Which>,
    /// Rewrite headers of this case only; may be given several times
    #[arg(long, value_name = "CASE", requires = "fix_header")]
    case: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Which {
    /// Those up to a tenth of a voxel from their image
    Rounding,
    /// All of their image's shape, however far: for files whose voxels match the image's
    Copy,
}

/// Exit 1 where there is an error or a header that should have been rewritten was not; warnings alone are exit 0.
pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let which = args.fix_header.map(|which| match which {
        Which::Rounding => HeaderFix::Rounding,
        Which::Copy => HeaderFix::Copy,
    });
    let headers = which.map(|which| fix_headers(&args.dataset, which, &args.case, output)).transpose()?;
    if let Some(headers) = headers.as_ref().filter(|_| !output.json()) {
        output.data(&headers.to_string());
    }
    let report = check(&args.dataset, output)?;
    if output.json() {
        let mut outcome = serde_json::to_value(&report)?;
        if let Some(headers) = &headers {
            outcome["headers"] = serde_json::to_value(headers)?;
        }
        output.data(&serde_json::to_string_pretty(&outcome)?);
    } else {
        output.data(&report.to_string());
    }
    let left = headers.is_some_and(|headers| !headers.left.is_empty());
    Ok(if left || report.count(Severity::Error) > 0 { Exit::CheckFailed } else { Exit::Done })
}
