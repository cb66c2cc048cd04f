//! The `segen` command: arguments in, library calls, text out.

mod commands;
mod output;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

/// Trains 3-D segmentation networks that keep finding the rare class.
#[derive(Debug, Parser)]
#[command(name = "segen", version, max_term_width = 100)]
struct Arguments {
    /// Worker threads; all cores when left out
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Print a machine-readable result to stdout where the command has one
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let started = Instant::now();
    let arguments = Arguments::parse();
    let output = output::Output::new(arguments.json);
    if let Some(threads) = arguments.threads {
        // The only way this fails is a second call, and there is none.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build_global();
        segen_kernels::set_threads(threads.max(1));
    }
    match arguments.command.run(&output, started) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&error);
            commands::Exit::Error.into()
        }
    }
}
