//! Copies a data set, plants twenty-two different faults in the copy and compares them with what `segen check`
//! finds: exit 0 where it finds each of them and nothing else.
//!
//! `cargo run --release --example plant_faults -- DATASET COPY`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to a person")]

#[path = "../tests/it/plant.rs"]
mod plant;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use segen::data::check::check;
use segen::progress::Silent;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let outcome = match arguments.as_slice() {
        [original, copy] => run(original, copy),
        _ => Err("usage: plant_faults DATASET COPY".into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn run(original: &Path, copy: &Path) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if copy.exists() {
        return Err(format!("`{}` exists already", copy.display()).into());
    }
    let before = check(original, &Silent)?.faults.len();
    copy_folder(original, copy)?;
    let planted = plant::plant(copy)?;
    let mut report = check(copy, &Silent)?;
    let mut missed = 0;
    for fault in &planted {
        let found = report.faults.iter().position(|f| f.kind == fault.kind && f.file == fault.file);
        println!(
            "{:6} {} ({})",
            if found.is_some() { "found" } else { "MISSED" },
            fault.what,
            fault.file.display()
        );
        match found {
            Some(index) => drop(report.faults.remove(index)),
            None => missed += 1,
        }
    }
    for fault in &report.faults {
        println!("FALSE  {fault}");
    }
    let false_ones = report.faults.len();
    println!("{} planted, {missed} missed, {false_ones} false; {before} in the original", planted.len());
    Ok(if missed + false_ones == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            // Not `fs::copy`, which would keep files read-only.
            std::fs::write(target, std::fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
