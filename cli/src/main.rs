//! The `segen` command: arguments in, library calls, text out.

mod commands;
mod output;
mod stop;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use segen::Error;

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
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(other) => return answer(&other),
    };
    let output = Arc::new(output::Output::new(arguments.json));
    stop::watch(&output, arguments.command.when_stopped());
    if let Some(threads) = arguments.threads {
        // The only way this fails is a second call, and there is none.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build_global();
        segen_kernels::Settings::current().with_threads(threads).set_for_process();
    }
    let exit = match arguments.command.run(&output, started) {
        Ok(exit) => exit,
        Err(error) if matches!(error.downcast_ref(), Some(Error::Stopped { .. })) => {
            output.stopped(&error);
            commands::Exit::Stopped
        }
        Err(error) => {
            output.error(&error);
            commands::Exit::Error
        }
    };
    match output.lost() {
        None => exit.into(),
        Some(error) => {
            // Who closed the pipe has seen enough and needs no words.
            if error.kind() != std::io::ErrorKind::BrokenPipe {
                output.error(&anyhow::Error::new(error).context("could not write the result to stdout"));
            }
            commands::Exit::Error.into()
        }
    }
}

/// What clap answers instead of running a command: help and version as data, errors as errors.
fn answer(other: &clap::Error) -> ExitCode {
    let written = other.print().and_then(|()| output::print(|_| Ok(())));
    match written {
        Ok(()) if !other.use_stderr() => commands::Exit::Done.into(),
        _ => commands::Exit::Error.into(),
    }
}
