//! What the command tests share.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The command under test.
pub fn segen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_segen"))
}

/// A small data set of phantoms in `folder`.
pub fn phantom(folder: &Path, cases: usize, shape: &str) -> PathBuf {
    let dataset = folder.join("Dataset900_Phantom");
    let mut command = segen();
    command.args([
        "phantom",
        "atlas",
        "--cases",
        &cases.to_string(),
        "--shape",
        shape,
        "--ratio",
        "100",
        "--seed",
        "1",
        "-o",
    ]);
    let done = command.arg(&dataset).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    dataset
}
