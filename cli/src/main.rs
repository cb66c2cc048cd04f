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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// Words of a shell line; quotes keep words together.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for letter in line.chars() {
            match (letter, quote) {
                (_, Some(open)) if letter == open => quote = None,
                ('"' | '\'', None) => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (_, None) if letter.is_whitespace() => words.extend(word.take()),
                _ => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words
    }

    /// Whole commands of a page: lines of shell blocks, and what stands in backticks in tables and text.
    fn commands_of(page: &str) -> Vec<String> {
        let mut commands = Vec::new();
        let mut shell = false;
        let joined = page.replace("\\\n", " ");
        for line in joined.lines() {
            match line.trim_start().strip_prefix("```") {
                Some(language) => shell = language == "sh",
                None if shell => {
                    // Without remarks and without where the result goes.
                    let command =
                        [" #", " >"].iter().fold(line, |line, end| line.split(end).next().unwrap_or(line));
                    commands.push(command.trim().to_owned());
                }
                None => commands.extend(line.split('`').skip(1).step_by(2).map(str::to_owned)),
            }
        }
        // What is left out, a name of a command alone, and what a shell fills in cannot be read as it stands.
        let whole = |command: &String| {
            command.starts_with("segen ")
                && command.split(' ').count() > 2
                && !["...", "$", "COMMAND", "|", "RUN/", "MASKS"].iter().any(|part| command.contains(part))
        };
        commands.retain(whole);
        commands
    }

    /// Texts name an option without all that a command needs, or a value in capitals.
    fn is_sketch(error: &clap::Error) -> bool {
        use clap::error::ErrorKind::{InvalidValue, MissingRequiredArgument, ValueValidation};
        matches!(error.kind(), InvalidValue | MissingRequiredArgument | ValueValidation)
    }

    #[test]
    fn every_command_in_the_documentation_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages: Vec<PathBuf> = vec![root.join("README.md")];
        for folder in ["docs", "docs/methods"] {
            let files = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
            pages.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
        }
        let (mut count, mut faults) = (0, Vec::new());
        for page in pages {
            for command in commands_of(&std::fs::read_to_string(&page).unwrap()) {
                count += 1;
                if let Err(error) = Arguments::try_parse_from(words(&command))
                    && error.use_stderr()
                    && (!is_sketch(&error) || page.ends_with("coming-from-nnunet.md"))
                {
                    faults.push(format!("{}: {command}\n{error}", page.display()));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(count > 100, "{count} commands are too few: they are not found");
    }
}
