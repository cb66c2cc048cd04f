//! `segen import`.

use std::path::PathBuf;

use super::Exit;
use crate::output::Output;
use segen::data::import::{recognise, vacant, write};
use segen::progress::Progress;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder as it was downloaded, or DeepMedic's trainConfig.cfg
    source: PathBuf,
    /// New folder for the data set; nnU-Net itself asks for names such as Dataset123_Name
    #[arg(short, long, value_name = "DATASET")]
    output: PathBuf,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    vacant(&args.output)?;
    let found = recognise(&args.source, output)?;
    if !output.json() {
        output.data(&found.to_string());
    }
    write(&found, &args.output, output)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&found)?);
    }
    output.note(&format!("written to {0}; next: segen check {0}", args.output.display()));
    Ok(Exit::Done)
}
