use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use segen::files::{Outputs, bytes_of};

use super::{Exit, existing};
use crate::Arguments;
use crate::output::Output;

/// Writes a manual page for segen and one for every subcommand: `man segen`, `man segen-train`. `man` looks into
/// ~/.local/share/man/man1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the pages
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    existing: existing::ExistingArgs,
}

pub(crate) fn run(args: Args, output: &Output) -> anyhow::Result<Exit> {
    let pages = pages()?;
    let names: Vec<String> = pages.iter().map(|(name, _)| name.clone()).collect();
    let outputs = Outputs::claim("man", &args.folder, &names, &[], args.existing.existing())?;
    for (name, page) in &pages {
        outputs.write(name, None, bytes_of(page))?;
    }
    if output.json() {
        output.data(&serde_json::to_string_pretty(&names)?);
    } else {
        output.data(&format!("{} pages in {}", names.len(), args.folder.display()));
    }
    Ok(Exit::Done)
}

/// File names and contents, that of `segen` itself last.
fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            collect(inner, pages)?;
        }
        let page = Man::new(command.clone()).manual("segen");
        let mut text = Vec::new();
        page.render(&mut text)?;
        pages.push((page.get_filename(), text));
        Ok(())
    }
    // Without the command `help`, which would have a page for every other command once more.
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages)?;
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages().unwrap();
        let text = |name: &str| {
            let page = pages.iter().find(|(page, _)| page == name);
            String::from_utf8(page.unwrap_or_else(|| panic!("no page {name}")).1.clone()).unwrap()
        };
        for command in Arguments::command().get_subcommands() {
            text(&format!("segen-{}.1", command.get_name()));
        }
        assert!(text("segen.1").contains("segen\\-train(1)"));
        assert!(text("segen-train.1").contains("\\-\\-time\\-budget"));
        assert!(text("segen-policy-preview.1").contains("SYNOPSIS"));
        assert!(!pages.iter().any(|(name, _)| name.contains("help")));
    }
}
