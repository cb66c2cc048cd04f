use std::path::PathBuf;

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
    if output.json() {
        let logits: Vec<_> = (shown.arms.iter())
            .map(|arm| serde_json::json!({ "method": arm.method, "logits": arm.logits }))
            .collect();
        let all = serde_json::json!({ "rows": shown.rows, "networks": logits });
        output.data(&serde_json::to_string_pretty(&all)?);
        return Ok(Exit::Done);
    }
    for arm in &shown.arms {
        let shifts = segen::examine::logits::table(&arm.logits.shifts);
        output.data(&format!("\n{}: logits of seen, unseen and test voxels\n{shifts}", arm.method));
    }
    output.data(&format!("\n{}", segen::commands::demo::table(&shown.rows)));
    output.data(&format!("\nopen      {}\npicture   {}", shown.report.display(), shown.overlay.display()));
    Ok(Exit::Done)
}
