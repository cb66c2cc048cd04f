//! What several test modules share.

use std::path::PathBuf;

/// The folder of committed reference data.
pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A real data set by its public name under `$SEGEN_DATA`, or `None` with a printed line where it is absent.
pub fn real(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("SEGEN_DATA").map(|root| PathBuf::from(root).join(name));
    match folder {
        Some(folder) if folder.exists() => Some(folder),
        _ => {
            eprintln!("skipped: `{name}` is not under $SEGEN_DATA");
            None
        }
    }
}
