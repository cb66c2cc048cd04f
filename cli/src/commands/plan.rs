use std::path::PathBuf;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use segen::commands::train;
use segen::config::{Config, preset};
use segen::data::dataset::Dataset;
use segen::files::OutputFile;
use segen::plan::CaseCounts;
use segen::prepare::{PreparedCase, prepare_all, refuse_inside};
use segen::progress::Progress;

use super::{Exit, existing};
use crate::output::Output;

const GIB: f64 = (1u64 << 30) as f64;

/// Measures the training cases and decides spacing, patch, batch, network shape and normalisation by nnU-Net's
/// published rules, made small enough for two processor cores. Each choice is printed with its reason.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with `dataset.json`, or the name of a data set under $nnUNet_raw
    dataset: PathBuf,
    /// Settings by name, as for `segen train`
    #[arg(long, value_name = "P", value_parser = PossibleValuesParser::new(preset::names()))]
    preset: Option<String>,
    /// Settings in TOML, as for `segen train`
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as section.key=value, for example plan.base_features=32; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Memory for patch and batch by nnU-Net's rule, for example 8G (the default) or 512M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory: Option<u64>,
    /// Longest training step in seconds on two cores of a nominal 150 GFLOP/s, or `off` for nnU-Net's own choices
    #[arg(long, value_name = "SECONDS|off", value_parser = cpu_seconds)]
    cpu_budget: Option<f64>,
    /// Write the plan as JSON to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    existing: existing::ExistingArgs,
    /// Also prepare every training case into this cache, for `segen train --cache` to find
    #[arg(long, value_name = "DIR")]
    prepare: Option<PathBuf>,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let mut config = Config::resolve_preset(args.preset.as_deref(), args.config.as_deref(), &args.set)?;
    config.plan.step_seconds = args.cpu_budget.or(config.plan.step_seconds);
    config.plan.memory_gib = args.memory.map(|bytes| bytes as f64 / GIB).or(config.plan.memory_gib);
    let mut dataset = Dataset::open(&args.dataset)?;
    dataset.labels = dataset.labels.select(&config.task.classes)?;
    let cases: Vec<_> = dataset.training.iter().collect();
    let file = match &args.output {
        Some(path) => {
            let mut inputs = dataset.inputs();
            inputs.extend(args.config.clone());
            Some(OutputFile::claim("plan", path, &inputs, args.existing.existing())?)
        }
        None => None,
    };
    if let Some(cache) = &args.prepare {
        refuse_inside(&dataset, cache)?;
    }
    let plan = train::plan(&dataset, &config, output)?;
    if let Some(file) = &file {
        file.write(plan.to_json()?.as_bytes())?;
    }
    if let Some(cache) = &args.prepare {
        let prepared = prepare_all(&dataset, &plan.recipe(), &cases, cache, output)?;
        let bytes: u64 = prepared.iter().map(PreparedCase::bytes).sum();
        output.note(&format!(
            "{} prepared cases, {:.1} MB, in `{}`",
            prepared.len(),
            bytes as f64 / 1e6,
            cache.display()
        ));
    }
    if output.json() {
        output.data(&serde_json::to_string_pretty(&plan).context("the plan as JSON")?);
    } else {
        let kernels = segen::learn::job::kernel_settings(&config)?;
        let speed = kernels.scoped(segen_kernels::convolution_speed);
        output.data(&plan.describe(speed, config.loader.memory_gib));
        dataset.splits.clone_from(&config.splits);
        match dataset.fold(config.fold) {
            Ok(fold) => {
                let counts = CaseCounts {
                    prepared: dataset.training.len(),
                    validation: fold.validation.len(),
                    test: dataset.test.iter().filter(|case| case.labels.is_some()).count(),
                };
                let forecast = plan.forecast(&config, counts, plan.predicted_step_seconds_here(speed))?;
                output.data(&format!("\n{}", forecast.sentence()));
            }
            // The plan does not depend on it.
            Err(error) => output.note(&format!("no forecast, because folds cannot be told: {error}")),
        }
    }
    Ok(Exit::Done)
}

fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B').to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("`{unit}` is no unit of memory; use K, M, G or T")),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * f64::from(shift).exp2()) as u64),
        _ => Err("expected a size such as 8G".to_owned()),
    }
}

/// 0 stands for no limit, as in the configuration.
fn cpu_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(seconds),
        _ if text == "off" => Ok(0.0),
        _ => Err("expected seconds above 0, or `off`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(bytes("8G"), Ok(8 << 30));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("1.5k"), Ok(1536));
        assert_eq!(bytes("100"), Ok(100));
        for bad in ["", "G", "-1G", "8X", "nan", "inf", "0"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_is_seconds_or_off() {
        assert_eq!(cpu_seconds("0.5"), Ok(0.5));
        assert_eq!(cpu_seconds("off"), Ok(0.0));
        for bad in ["0", "-1", "on", "nan"] {
            assert!(cpu_seconds(bad).is_err(), "{bad}");
        }
    }
}
