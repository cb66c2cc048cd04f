//! Reading text that a person may have edited, and saying why a file cannot be read.

use std::io::ErrorKind;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Reads a text file: UTF-8, with or without the byte order mark that Windows editors write.
///
/// # Errors
/// Where the file cannot be read ([`unreadable`]) or holds text in another encoding.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, error))?;
    decode(path, bytes)
}

/// Reads JSON as [`read_text`] reads text; `fix` is the hint where it is not of the form that is asked for.
///
/// # Errors
/// Those of [`read_text`], and where the text is not such JSON: with line and column.
pub fn read_json<T: DeserializeOwned>(path: &Path, fix: &str) -> Result<T> {
    serde_json::from_str(&read_text(path)?).map_err(|error| {
        let field = match error.line() {
            0 => "JSON".to_owned(),
            line => format!("line {line}, column {}", error.column()),
        };
        let problem = match error.classify() {
            serde_json::error::Category::Data => error.to_string(),
            _ => format!("is not JSON: {error}"),
        };
        Error::invalid(path, field, problem, fix)
    })
}

/// Reads TOML as [`read_text`] reads text; `fix` is the hint where it is not of the form that is asked for.
///
/// # Errors
/// Those of [`read_text`], and where the text is not such TOML: with the line.
pub fn read_toml<T: DeserializeOwned>(path: &Path, fix: &str) -> Result<T> {
    toml::from_str(&read_text(path)?).map_err(|error| Error::invalid(path, "TOML", error.to_string(), fix))
}

/// The text of a file's bytes.
///
/// # Errors
/// Where they are not UTF-8.
pub fn decode(path: &Path, bytes: Vec<u8>) -> Result<String> {
    const FIX: &str = "save the file as UTF-8 (in the editor's dialogue: encoding UTF-8)";
    // The two byte order marks of UTF-16, and how `{`, `[` or a letter begins without one.
    let utf_16 = bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
        || matches!(bytes.as_slice(), [0, second, ..] if *second != 0)
        || matches!(bytes.as_slice(), [first, 0, ..] if *first != 0);
    if utf_16 {
        return Err(Error::invalid(path, "text", "is UTF-16, not UTF-8", FIX));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let byte = error.as_bytes()[at];
        Error::invalid(
            path,
            format!("line {line}"),
            format!("is not UTF-8: it has the byte {byte:#04x}"),
            FIX,
        )
    })?;
    if text.starts_with(MARK) {
        text.drain(..MARK.len_utf8());
    }
    Ok(text)
}

/// The byte order mark.
const MARK: char = '\u{feff}';

/// The error of a file that could not be read. A link that leads nowhere is named with its target, since the
/// system's "no such file" says nothing about a name that a listing shows.
pub fn unreadable(path: &Path, error: std::io::Error) -> Error {
    match broken_link(path) {
        Some((problem, fix)) => Error::invalid(path, "link", problem, fix),
        None => Error::io("read", path, error),
    }
}

/// What is wrong with a link that cannot be followed, and what to do; `None` for anything else.
pub fn broken_link(path: &Path) -> Option<(String, &'static str)> {
    let target = std::fs::read_link(path).ok()?;
    let error = std::fs::metadata(path).err()?;
    let shown = target.display();
    let annex = target.components().any(|part| part.as_os_str() == "annex");
    Some(match error.kind() {
        ErrorKind::NotFound if annex => (
            format!("is a link to `{shown}`, which is not there: its content was not fetched"),
            "fetch it with `git annex get` or `datalad get`",
        ),
        ErrorKind::NotFound => {
            (format!("is a link to `{shown}`, which is not there"), "bring the file back, or mend the link")
        }
        _ => (
            format!("is a link to `{shown}` that cannot be followed: {error}"),
            "replace the link by the file",
        ),
    })
}

/// Whether a name is there: also that of a link that leads nowhere, which [`Path::exists`] denies.
pub fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> std::result::Result<String, String> {
        decode(Path::new("a.json"), bytes.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text_and_other_encodings_are_named() {
        assert_eq!(decoded("\u{feff}{}".as_bytes()).unwrap(), "{}");
        assert_eq!(decoded("ä".as_bytes()).unwrap(), "ä");
        assert_eq!(decoded(b"").unwrap(), "");
        let utf_16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [[&[0xff, 0xfe], utf_16.as_slice()].concat(), utf_16, vec![0xfe, 0xff, 0, b'{']] {
            assert!(decoded(&bytes).unwrap_err().contains("UTF-16"), "{bytes:?}");
        }
        assert!(decoded(b"a\n\xe4").unwrap_err().contains("line 2: is not UTF-8: it has the byte 0xe4"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_nowhere_is_named_with_its_target() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("../.git/annex/objects/aa/x", path("annexed")).unwrap();
        symlink("gone", path("dangling")).unwrap();
        symlink("b", path("a")).unwrap();
        symlink("a", path("b")).unwrap();
        std::fs::write(path("file"), "").unwrap();
        symlink("file", path("sound")).unwrap();
        assert!(broken_link(&path("annexed")).unwrap().1.contains("git annex get"));
        assert!(broken_link(&path("dangling")).unwrap().0.contains("link to `gone`, which is not there"));
        assert!(broken_link(&path("a")).unwrap().0.contains("cannot be followed"));
        assert_eq!(broken_link(&path("sound")), None);
        assert_eq!(broken_link(&path("nothing")), None);
        assert!(is_there(&path("dangling")) && !is_there(&path("nothing")));
        let message = read_text(&path("dangling")).unwrap_err().to_string();
        assert!(message.contains("link to `gone`"), "{message}");
    }
}
