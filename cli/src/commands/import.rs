//! `segen import`.

use std::path::PathBuf;

use super::{Exit, quoted};
use crate::output::Output;
use segen::data::import::{CaseFrom, ChannelChoice, GroupBy, Options, ValueChoice, recognise, vacant, write};
use segen::progress::Progress;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Case {
    /// The beginning of the file's name: images/p0.nii.gz with masks/p0.nii.gz, p0_t1.nii.gz with p0_seg.nii.gz
    Name,
    /// The folder: p0/t1.nii.gz with p0/seg.nii.gz
    Folder,
    /// Subject and session: sub-00_ses-1_T1w.nii.gz with sub-00_ses-1_label-lesion_mask.nii.gz
    Bids,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of scans and label files, a public data set as it was downloaded, or DeepMedic's trainConfig.cfg
    source: PathBuf,
    /// New folder for the data set; nnU-Net itself asks for names such as Dataset123_Name
    #[arg(short, long, value_name = "DATASET", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Show what would be taken for what, every case, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// What a value of the label files becomes: VALUE=NUMBER, or VALUE=NAME for a class of that name, `background` or
    /// `ignore`; may be given several times
    #[arg(long = "label", value_name = "VALUE=NEW")]
    values: Vec<ValueChoice>,
    /// Channels to take, in this order, with commas between; WORD=NAME calls one otherwise, such as image=CT
    #[arg(long, value_name = "WORD[=NAME],...", value_delimiter = ',')]
    channels: Vec<ChannelChoice>,
    /// The label files where several kinds are there: the end of their names, or their folder
    #[arg(long, value_name = "WORD")]
    label_files: Option<String>,
    /// Which part of a path is the case, for any folder, also one that looks like a public data set [default: told from
    /// the label files]
    #[arg(long, value_enum, value_name = "WHAT")]
    case_from: Option<Case>,
    /// Which cases are of one patient, whom no fold has on both sides: the name of a case with {patient} in it, such as
    /// '{patient}_ses-*', or a CSV file with the columns case and patient
    #[arg(long, value_name = "PATTERN|FILE")]
    group_by: Option<GroupBy>,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    if let Some(folder) = &args.output {
        vacant(folder)?;
    }
    let options = Options {
        case_from: args.case_from.map(|from| match from {
            Case::Name => CaseFrom::Name,
            Case::Folder => CaseFrom::Folder,
            Case::Bids => CaseFrom::Bids,
        }),
        channels: args.channels,
        label_files: args.label_files,
        values: args.values,
        group_by: args.group_by,
    };
    let found = recognise(&args.source, &options, output)?;
    if !output.json() {
        output.data(&if args.dry_run { found.table() } else { found.to_string() });
    }
    let folder = args.output.filter(|_| !args.dry_run);
    if let Some(folder) = &folder {
        write(&found, folder, output)?;
    }
    if output.json() {
        output.data(&serde_json::to_string_pretty(&found)?);
    }
    match folder {
        Some(folder) => {
            let shown = folder.display().to_string();
            output.note(&format!("written to {shown}; next: segen check {}", quoted(&shown)));
        }
        None => output.note("nothing was written (--dry-run)"),
    }
    Ok(Exit::Done)
}
