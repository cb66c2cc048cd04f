use std::path::PathBuf;

use segen::commands::cifar::{self, Arm, Cifar, CifarConfig, Operations};
use segen::run::Run;

use super::{Exit, device};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with the binary version of CIFAR-10: data_batch_1.bin, ..., test_batch.bin
    data: PathBuf,
    /// Folder of the run
    #[arg(short, long, value_name = "RUN")]
    output: PathBuf,
    /// Settings in TOML; only what differs from the defaults
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// `learned`, or `random`: probabilities stay uniform
    #[arg(long, value_name = "P", value_parser = ["learned", "random"])]
    policy: Option<String>,
    /// Leave out the fifteen operations that ruin pictures
    #[arg(long)]
    good_only: bool,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Passes over the training pictures
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    #[command(flatten)]
    device: device::DeviceArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let config = args.settings()?;
    let (training, test) = cifar::read(&args.data)?;
    let device = args.device.open()?;
    let run = Run::at(&args.output);
    let cifar = Cifar { config: &config, training: &training, test: &test, device: &device };
    let outcome = cifar.train(&run, output)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&outcome)?);
    } else {
        let [first, last] = outcome.bad_probability;
        output.data(&format!(
            "test accuracy {:.3} over {} pictures\nbad operations together: {:.1} % at the start, {:.1} % at the \
             end; the likeliest has {:.2} times its uniform share",
            outcome.test_accuracy,
            test.len(),
            100.0 * first,
            100.0 * last,
            outcome.largest_bad
        ));
    }
    output.line(&format!(
        "{} steps in {:.0} s; the run is in {}",
        outcome.steps,
        outcome.train_seconds,
        run.folder.display()
    ));
    Ok(Exit::Done)
}

impl Args {
    fn settings(&self) -> anyhow::Result<CifarConfig> {
        let read = self.config.as_deref().map(CifarConfig::read).transpose()?;
        let mut config = read.unwrap_or_default();
        config.threads = config.threads.max(1);
        config.seed = self.seed.unwrap_or(config.seed);
        config.epochs = self.epochs.unwrap_or(config.epochs);
        if let Some(policy) = &self.policy {
            config.policy = if policy == "random" { Arm::Random } else { Arm::Learned };
        }
        if self.good_only {
            config.operations = Operations::Good;
        }
        Ok(config)
    }
}
