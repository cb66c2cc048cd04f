//! One file per subcommand: `struct Args` and `fn run`, which calls the library and prints.

use std::process::ExitCode;
use std::time::Instant;

use clap::Subcommand;

use crate::output::Output;
use crate::stop::Manner;

mod check;
mod cifar;
mod completions;
mod crf;
mod demo;
mod device;
mod doctor;
mod evaluate;
mod existing;
mod export;
mod import;
mod logits;
mod man;
mod phantom;
mod plan;
mod policy;
mod predict;
mod register;
mod report;
mod sweep;
mod train;

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: finished, but a check failed.
    CheckFailed,
    /// 2: error.
    Error,
    /// 3: stopped by SIGINT or SIGTERM.
    Stopped,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole way on synthetic scans; needs no data
    Demo(demo::Args),
    /// Make a synthetic data set with rare lesions
    Phantom(phantom::Args),
    /// Make a data set of any folder of scans and label files, or of a public one (MSD, BraTS, KiTS, ATLAS, DeepMedic)
    Import(import::Args),
    /// Find every fault of a data set at once
    Check(check::Args),
    /// Measure a data set and show the plan, each choice with its reason
    Plan(plan::Args),
    /// Train a network and score it on the cases held out
    Train(Box<train::Args>),
    /// Draw every operation of augmentation on a case, or show what a run has learned
    #[command(subcommand)]
    Policy(policy::Args),
    /// Segment scans with one or several trained runs
    Predict(predict::Args),
    /// Write a trained run or cross-validation as a model that can be given away
    Export(export::Args),
    /// Fit a fully connected random field to what a run predicts
    Crf(crf::Args),
    /// Score predictions against references
    Evaluate(evaluate::Args),
    /// See how far the logits of unseen voxels have shifted, per class
    Logits(logits::Args),
    /// Bring one scan onto another, with labels and the maps in both directions
    Register(register::Args),
    /// Train (method, policy) pairs x fractions x folds x seeds and print the table
    Sweep(sweep::Args),
    /// Make one self-contained HTML page of runs and sweeps
    Report(report::Args),
    /// The proof of concept on CIFAR-10: a learned policy avoids operations that ruin pictures
    Cifar(cifar::Args),
    /// Show processor features, threads and the speed of a known convolution
    Doctor(doctor::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Write manual pages
    Man(man::Args),
}

impl Command {
    /// What it does when it is asked to stop.
    pub(crate) fn when_stopped(&self) -> Manner {
        match self {
            Self::Train(_) | Self::Sweep(_) | Self::Demo(_) => Manner::GoesOnLater,
            _ => Manner::BeginsAgain,
        }
    }

    pub(crate) fn run(self, output: &Output, started: Instant) -> anyhow::Result<Exit> {
        match self {
            Self::Demo(args) => demo::run(args, output),
            Self::Phantom(args) => phantom::run(args, output),
            Self::Import(args) => import::run(args, output),
            Self::Check(args) => check::run(args, output),
            Self::Plan(args) => plan::run(args, output),
            Self::Train(args) => train::run(*args, output, started),
            Self::Policy(args) => policy::run(args, output),
            Self::Predict(args) => predict::run(args, output),
            Self::Export(args) => export::run(args, output),
            Self::Crf(args) => crf::run(args, output),
            Self::Evaluate(args) => evaluate::run(args, output),
            Self::Logits(args) => logits::run(args, output),
            Self::Register(args) => register::run(args, output),
            Self::Sweep(args) => sweep::run(args, output),
            Self::Report(args) => report::run(args, output),
            Self::Cifar(args) => cifar::run(args, output),
            Self::Doctor(args) => doctor::run(args, output),
            Self::Completions(args) => completions::run(args, output),
            Self::Man(args) => man::run(args, output),
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=+@%,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Seconds from text such as `90s`, `20m`, `1.5h`, `2d`, or a bare number of seconds.
fn duration(text: &str) -> Result<f64, String> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let (number, factor) = units
        .iter()
        .find_map(|&(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)))
        .unwrap_or((text, 1.0));
    match number.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value * factor),
        _ => Err("write a time above zero, such as 90s, 20m or 2h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, quoted};

    #[test]
    fn words_are_quoted_for_a_shell_where_they_need_it() {
        assert_eq!(quoted("runs/a-1"), "runs/a-1");
        assert_eq!(quoted("my run"), "'my run'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("20m"), Ok(1200.0));
        assert_eq!(duration("1.5h"), Ok(5400.0));
        assert_eq!(duration("90"), Ok(90.0));
        for bad in ["", "m", "-3s", "0", "inf", "20 minutes"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
