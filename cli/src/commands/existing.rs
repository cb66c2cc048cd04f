//! `--overwrite`, shared by the commands that write to a place of the user's choice.

use segen::files::Existing;

#[derive(Debug, clap::Args)]
pub(crate) struct ExistingArgs {
    /// Also replace files that this command did not write or that were changed since; never one that it reads
    #[arg(long)]
    overwrite: bool,
}

impl ExistingArgs {
    pub(crate) fn existing(&self) -> Existing {
        if self.overwrite { Existing::Replace } else { Existing::Refuse }
    }
}
