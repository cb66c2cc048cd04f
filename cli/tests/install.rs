//! What is installed beside the program: completions and manual pages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

use std::fs;
use std::process::{Command, Stdio};

fn segen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_segen"))
}

#[test]
fn a_shell_can_read_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let printed = segen().args(["completions", shell]).output().unwrap();
        assert!(printed.status.success() && printed.stderr.is_empty());
        let script = folder.path().join(shell);
        fs::write(&script, printed.stdout).unwrap();
        match Command::new(shell).arg("-n").arg(&script).output() {
            Ok(read) => assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr)),
            Err(_) => eprintln!("not read by {shell}: it is not here"),
        }
    }
    let unknown = segen().args(["completions", "tcsh"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("powershell"));
}

#[test]
fn manual_pages_replace_their_own_and_nobody_else_s() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let write = |more: &[&str]| {
        let mut command = segen();
        command.arg("man").arg(&pages).args(more).stdout(Stdio::null());
        let ended = command.output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    assert_eq!(write(&[]), (Some(0), String::new()));
    assert!(fs::read_to_string(pages.join("segen-predict.1")).unwrap().contains("SYNOPSIS"));
    assert_eq!(write(&[]), (Some(0), String::new()));
    fs::write(pages.join("segen-train.1"), "mine").unwrap();
    let (code, said) = write(&[]);
    assert!(code == Some(2) && said.contains("segen-train.1") && said.contains("--overwrite"), "{said}");
    assert_eq!(fs::read_to_string(pages.join("segen-train.1")).unwrap(), "mine");
    assert_eq!(write(&["--overwrite"]).0, Some(0));
    assert!(fs::read_to_string(pages.join("segen-train.1")).unwrap().contains("SYNOPSIS"));
}
