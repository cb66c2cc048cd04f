use std::path::PathBuf;

use segen::commands::demo::Arm;

use super::{Exit, device, existing};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for data set, run and pictures
    #[arg(short, long, value_name = "DIR", default_value = "segen-demo")]
    output: PathBuf,
    #[command(flatten)]
    existing: existing::ExistingArgs,
    #[command(flatten)]
    device: device::DeviceArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let device = args.device.open()?;
    let existing = args.existing.existing();
    let threads = rayon::current_num_threads();
    let shown = segen::commands::demo::run(&args.output, existing, &device, threads, output)?;
    let scores = |arm: &'_ Arm| arm.finished.test.clone().unwrap_or_else(|| arm.finished.validation.clone());
    if output.json() {
        let arms: Vec<_> = (shown.arms.iter())
            .map(|arm| serde_json::json!({ "method": arm.method, "test": scores(arm), "logits": arm.logits }))
            .collect();
        output.data(&serde_json::to_string_pretty(&arms)?);
        return Ok(Exit::Done);
    }
    for arm in &shown.arms {
        output.data(&format!(
            "\n{}: scores on test cases of another scanner\n{}\n{}",
            arm.method,
            scores(arm).table(),
            segen::examine::logits::table(&arm.logits.shifts)
        ));
    }
    output.data(&format!("\nopen      {}\npicture   {}", shown.report.display(), shown.overlay.display()));
    Ok(Exit::Done)
}
