//! Names that are not the names of files on every system.

use std::collections::HashMap;
use std::path::Path;

use crate::{Error, Result};

/// Devices of Windows. A file of such a name, whatever its ending, is the device.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
/// Devices of Windows that have a digit behind them.
const NUMBERED: [&str; 2] = ["com", "lpt"];
/// Letters that Windows has in no name, beside those below a space.
const FORBIDDEN: &str = r#"<>:"/\|?*"#;

/// Why Windows cannot keep a file of this name; `None` where it can.
pub(crate) fn unportable(name: &str) -> Option<String> {
    let base = name.split('.').next().unwrap_or(name).trim_end_matches(' ').to_lowercase();
    let digit =
        |rest: &str| matches!(rest.chars().collect::<Vec<_>>().as_slice(), ['0'..='9' | '¹' | '²' | '³']);
    let numbered = NUMBERED.iter().any(|device| base.strip_prefix(device).is_some_and(digit));
    if DEVICES.contains(&base.as_str()) || numbered {
        return Some(format!("`{base}` is a device there, with any ending"));
    }
    if let Some(letter) = name.chars().find(|letter| FORBIDDEN.contains(*letter) || *letter < ' ') {
        return Some(format!("{letter:?} stands in no name there"));
    }
    name.ends_with(['.', ' ']).then(|| "dots and spaces at the end of a name are lost there".to_owned())
}

/// Refuses files that would be one on systems to which `A` and `a` are one name: the second would replace the first. On
/// Windows, also names that it does not have.
pub(super) fn refuse(folder: &Path, files: &[String], windows: bool) -> Result<()> {
    let mut folded: HashMap<String, &String> = HashMap::new();
    for file in files {
        if let Some(other) = folded.insert(file.to_lowercase(), file).filter(|other| *other != file) {
            let problem =
                format!("`{other}` and `{file}` differ in capitals alone: on many systems they are one file");
            return Err(Error::invalid(
                folder,
                "output",
                problem,
                "rename one of the cases or files that they come from",
            ));
        }
        let mut parts = file.split('/').filter(|_| windows);
        if let Some((part, problem)) = parts.find_map(|part| Some((part, unportable(part)?))) {
            let problem = format!("Windows cannot keep a file `{part}`: {problem}");
            return Err(Error::invalid(folder, "output", problem, "rename what it is called after"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_has_not_are_told() {
        for name in [
            "con.nii.gz",
            "Aux.nii",
            "NUL",
            "com1.nii.gz",
            "LPT9.x.nii",
            "con .nii",
            "com¹.nii",
            "a:b.nii",
            "a\\b.nii",
            "what?.nii",
            "a\tb.nii",
            "a. ",
            "a.",
        ] {
            assert!(unportable(name).is_some(), "{name}");
        }
        for name in [
            "a.nii.gz",
            "console.nii",
            "con_0000.nii.gz",
            "com.nii",
            "com10.nii",
            "auxiliary",
            "a..nii.gz",
            "ä b.nii",
            ".segen-outputs.jsonl",
            "lpt",
            "",
            "a,b;c.nii",
            "日本.nii",
        ] {
            assert_eq!(unportable(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_some_system_takes_for_one_or_for_none_are_refused() {
        let names = |files: &[&str], windows: bool| {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            refuse(Path::new("out"), &files, windows).map_err(|error| error.to_string())
        };
        let said = names(&["A.nii.gz", "b.nii.gz", "a.nii.gz"], false).unwrap_err();
        assert!(said.contains("`A.nii.gz` and `a.nii.gz` differ in capitals alone"), "{said}");
        assert_eq!(names(&["a/x", "a/y", "a/x"], true), Ok(()), "one name twice is one file");
        assert!(names(&["probabilities/aux.nii.gz"], true).unwrap_err().contains("`aux` is a device"));
        assert!(names(&["a:b.nii.gz"], true).unwrap_err().contains("':'"));
        assert_eq!(names(&["aux.nii.gz", "a:b.nii.gz"], false), Ok(()));
        assert_eq!(names(&["validation/", "a.nii.gz"], true), Ok(()));
    }
}
