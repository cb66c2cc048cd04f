//! One file per subcommand: `struct Args` and `fn run`, which calls the library and prints.

use std::process::ExitCode;

use clap::Subcommand;

use crate::output::Output;

mod check;
mod evaluate;
mod import;
mod phantom;
mod plan;

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: finished, but a check failed.
    CheckFailed,
    /// 2: error.
    Error,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find every fault of a data set at once
    Check(check::Args),
    /// Bring MSD, BraTS, KiTS, ATLAS or DeepMedic data into nnU-Net layout
    Import(import::Args),
    /// Make a synthetic data set with rare lesions
    Phantom(phantom::Args),
    /// Measure a data set and show the plan, each choice with its reason
    Plan(plan::Args),
    /// Score predictions against references
    Evaluate(evaluate::Args),
}

impl Command {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Exit> {
        match self {
            Self::Check(args) => check::run(args, output),
            Self::Import(args) => import::run(args, output),
            Self::Phantom(args) => phantom::run(args, output),
            Self::Plan(args) => plan::run(args, output),
            Self::Evaluate(args) => evaluate::run(args, output),
        }
    }
}
