use clap::CommandFactory;
use clap_complete::Shell;

use super::Exit;
use crate::Arguments;
use crate::output::Output;

/// Prints what a shell needs to complete subcommands, options, choices and paths. bash: write it to
/// ~/.local/share/bash-completion/completions/segen; zsh: to a file _segen in a folder of $fpath; fish: to
/// ~/.config/fish/completions/segen.fish; elvish and PowerShell: run it from the shell's own start-up file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    output.data(&script(args.shell)?);
    Ok(Exit::Done)
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "segen", &mut text);
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in Shell::value_variants() {
            let text = script(*shell).unwrap();
            for command in Arguments::command().get_subcommands() {
                assert!(text.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(text.contains("time-budget"), "{shell}");
            // Others have no completion of values.
            if [Shell::Bash, Shell::Zsh, Shell::Fish].contains(shell) {
                assert!(text.contains("asym-margin"), "{shell}");
            }
        }
    }
}
