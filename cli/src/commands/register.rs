use std::fmt::Write;
use std::path::PathBuf;

use segen::commands::register::{self, Registered, Registration, Request};

use super::{Exit, existing};
use crate::output::Output;

/// Writes the moving scan on the fixed scan's grid (registered.nii.gz) and, with --labels, its labels (labels.nii.gz); the
/// affine part (affine.tfm); and of a deformation the whole map as a field for ITK (displacement.nii.gz), its
/// inverse on the moving scan's grid (inverse_displacement.nii.gz) and its Jacobian determinant (jacobian.nii.gz).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scan that is changed, a NIfTI file
    moving: PathBuf,
    /// The scan that it is brought onto: results lie on its grid
    fixed: PathBuf,
    /// Folder for the results
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Labels of the moving scan, which are carried along
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How far the moving scan may be changed: rigid, affine or deformable
    #[arg(long, value_name = "HOW", default_value = "deformable")]
    transform: Registration,
    #[command(flatten)]
    existing: existing::ExistingArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let request = Request {
        moving: &args.moving,
        fixed: &args.fixed,
        labels: args.labels.as_deref(),
        registration: args.transform,
        folder: &args.output,
        existing: args.existing.existing(),
    };
    let registered = register::run(&request, output)?;
    if output.json() {
        output.data(&serde_json::to_string_pretty(&registered)?);
    } else {
        output.data(&table(&registered)?);
    }
    Ok(Exit::Done)
}

fn table(registered: &Registered) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{:<48} {:.3}", "correlation after the affine", registered.correlation)?;
    if let Some(deformation) = &registered.deformation {
        let [before, after] = deformation.local_correlation;
        writeln!(text, "{:<48} {before:.3} -> {after:.3}", "local correlation, affine -> deformed")?;
        writeln!(text, "{:<48} {:.3}", "smallest Jacobian determinant", deformation.smallest_jacobian)?;
        writeln!(text, "{:<48} {:.3} mm", "mean error of the inverse", deformation.inverse_error)?;
    }
    for file in &registered.files {
        writeln!(text, "{}", file.display())?;
    }
    Ok(text)
}
