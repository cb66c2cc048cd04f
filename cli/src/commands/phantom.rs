use std::fmt::Write;
use std::path::PathBuf;

use segen::data::phantom::{Kind, PhantomOptions, Report, write};

use super::Exit;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to resemble: brats (gliomas, 4 MR channels), atlas (strokes, T1) or kits (kidney tumours, CT)
    kind: Kind,
    /// The new data set's folder, for example Dataset900_Phantom
    #[arg(short, long, value_name = "DATASET")]
    output: PathBuf,
    /// Training cases; 0.4 times as many test cases from a shifted distribution are added
    #[arg(long, value_name = "N", default_value_t = 20)]
    cases: usize,
    /// Voxels outside lesions per voxel inside them [default: 100 for brats, else 600]
    #[arg(long, value_name = "R")]
    ratio: Option<f64>,
    /// Equal seeds give equal files
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Voxels to the right, front and top [default: 64,80,64; 96,72,40 for kits]
    #[arg(long, value_name = "X,Y,Z", value_parser = triple::<usize>)]
    shape: Option<[usize; 3]>,
    /// Voxel spacing in millimetres [default: 2.5,2.5,2.5; 3.5,3.5,5 for kits]
    #[arg(long, value_name = "X,Y,Z", value_parser = triple::<f64>)]
    spacing: Option<[f64; 3]>,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let usual = PhantomOptions::new(args.kind);
    let options = PhantomOptions {
        cases: args.cases,
        ratio: args.ratio.unwrap_or(usual.ratio),
        seed: args.seed,
        shape: args.shape.unwrap_or(usual.shape),
        spacing: args.spacing.unwrap_or(usual.spacing),
        ..usual
    };
    let report = write(&options, &args.output, output)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&report)?);
    } else {
        output.data(&table(&report)?);
    }
    Ok(Exit::Done)
}

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{:<24} {:>14} {:>14}", "", "training", "test")?;
    let splits = [&report.training, &report.test];
    let mut line =
        |name: &str, values: [String; 2]| writeln!(text, "{name:<24} {:>14} {:>14}", values[0], values[1]);
    line("cases", splits.map(|split| split.cases.to_string()))?;
    line("without lesion", splits.map(|split| split.without_lesion.to_string()))?;
    line("foreground:background", splits.map(|split| format!("1:{:.1}", split.ratio)))?;
    line("smallest lesion, voxels", splits.map(|split| split.smallest.to_string()))?;
    line("largest lesion, voxels", splits.map(|split| split.largest.to_string()))?;
    for (value, class) in report.classes.iter().enumerate() {
        line(&format!("{class}, voxels"), splits.map(|split| split.class_voxels[value].to_string()))?;
    }
    Ok(text)
}

/// `X,Y,Z`.
fn triple<T: std::str::FromStr>(text: &str) -> Result<[T; 3], String> {
    let values: Result<Vec<T>, T::Err> = text.split(',').map(|part| part.trim().parse()).collect();
    let wrong = || format!("`{text}` is not three numbers like 64,80,64");
    values.map_err(|_| wrong())?.try_into().map_err(|_| wrong())
}
