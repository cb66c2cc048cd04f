//! `segen check`.

use std::path::PathBuf;

use super::Exit;
use crate::output::Output;
use segen::data::check::{Severity, check};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with dataset.json, or a name or number under $nnUNet_raw
    dataset: PathBuf,
}

/// Exit 1 where there is an error; warnings alone are exit 0.
pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let report = check(&args.dataset, output)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&report)?);
    } else {
        output.data(&report.to_string());
    }
    Ok(if report.count(Severity::Error) > 0 { Exit::CheckFailed } else { Exit::Done })
}
