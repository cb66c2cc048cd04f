use std::path::PathBuf;

use anyhow::Context;
use segen::config::PlanOverrides;
use segen::dataset::Dataset;
use segen::plan::{Budget, CpuBudget, Plan};
use segen::prepare::{PreparedCase, prepare_all};
use segen::progress::Progress;

use super::Exit;
use crate::output::Output;

/// Measures the training cases and decides spacing, patch, batch, network shape and normalisation by nnU-Net's
/// published rules, made small enough for two processor cores. Each choice is printed with its reason.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with `dataset.json`, or the name of a data set under $nnUNet_raw
    dataset: PathBuf,
    /// Memory for patch and batch by nnU-Net's rule, for example 8G or 512M
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = bytes)]
    memory: u64,
    /// Longest training step in seconds on two cores of a nominal 150 GFLOP/s, or `off` for nnU-Net's own choices
    #[arg(long, value_name = "SECONDS|off", value_parser = cpu_seconds)]
    cpu_budget: Option<Limit>,
    /// Write the plan as JSON to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also prepare every training case into this cache, for `segen train --cache` to find
    #[arg(long, value_name = "DIR")]
    prepare: Option<PathBuf>,
}

/// What `--cpu-budget` can be.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Off,
    Seconds(f64),
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let dataset = Dataset::open(&args.dataset)?;
    let cases: Vec<_> = dataset.training.iter().collect();
    let mut budget = Budget { memory_bytes: args.memory, ..PlanOverrides::default().budget() };
    budget.cpu = match (args.cpu_budget, budget.cpu) {
        (Some(Limit::Off), _) => CpuBudget::Off,
        (Some(Limit::Seconds(seconds)), CpuBudget::Step { gflops, .. }) => {
            CpuBudget::Step { seconds, gflops }
        }
        (_, unchanged) => unchanged,
    };
    let fingerprint = Plan::measure(&dataset, &cases, output)?;
    let plan = Plan::decide(&dataset, fingerprint, &budget)?;
    if let Some(path) = &args.output {
        plan.save(path)?;
    }
    if let Some(cache) = &args.prepare {
        let prepared = prepare_all(&dataset, &plan, &cases, cache, output)?;
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
        let speed = {
            segen::train::select_kernels(&segen::config::Config::default())?;
            segen_kernels::convolution_speed()
        };
        output.data(&plan.describe(speed));
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

fn cpu_seconds(text: &str) -> Result<Limit, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(Limit::Seconds(seconds)),
        _ if text == "off" => Ok(Limit::Off),
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
        assert!(matches!(cpu_seconds("0.5"), Ok(Limit::Seconds(s)) if s == 0.5));
        assert!(matches!(cpu_seconds("off"), Ok(Limit::Off)));
        for bad in ["0", "-1", "on", "nan"] {
            assert!(cpu_seconds(bad).is_err(), "{bad}");
        }
    }
}
