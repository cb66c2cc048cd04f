//! The files of a fitted model, in the folder `model` of its run.
//!
//! ```text
//! model.json        version, phases that are complete, size and CRC-32 of every other file
//! *.safetensors     arrays      *.json    figures
//! ```
//!
//! A file is written aside, flushed and renamed; a phase is complete once `model.json` says so, and then a fit that was
//! ended goes on after it. Nothing read is trusted before its sum is right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files::{create_folder, write_atomically};
use crate::{Error, Result, files};

/// Folder of a fitted model, below its run.
pub const FOLDER: &str = "model";
/// Lists the others.
const INDEX: &str = "model.json";
/// Form of the folder.
const FORMAT: u32 = 1;
/// What to do about a model that cannot be read.
const MEND: &str = "restore the file from a backup, or fit the run again";

/// The files of a model.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    index: Index,
}

/// `model.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    format: u32,
    segen: String,
    phases: Vec<String>,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    crc32: u32,
}

impl Store {
    /// Opens the folder of a model, in which nothing need be yet.
    ///
    /// # Errors
    /// Where its list of files cannot be read, or a later version wrote it.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(INDEX);
        let index = match path.is_file() {
            true => files::read_json(&path, MEND)?,
            false => {
                Index { format: FORMAT, segen: env!("CARGO_PKG_VERSION").to_owned(), ..Index::default() }
            }
        };
        if index.format > FORMAT {
            return Err(Error::invalid(
                path,
                "format",
                format!("{}, written by segen {}", index.format, index.segen),
                "use the version of segen that wrote it",
            ));
        }
        Ok(Self { folder: folder.to_owned(), index })
    }

    /// Where a file is, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether a phase of the fit is complete.
    pub fn has(&self, phase: &str) -> bool {
        self.index.phases.iter().any(|known| known == phase)
    }

    /// Whether there is a file of this name.
    pub fn has_file(&self, name: &str) -> bool {
        self.index.files.contains_key(name)
    }

    /// Writes a file of a phase that is not complete yet.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        path.parent().map_or(Ok(()), create_folder)?;
        write_atomically(&path, bytes)?;
        let entry = Entry { bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) };
        self.index.files.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Writes figures.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write_json(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(value)
            .map_err(|e| Error::Internal { what: format!("`{name}` as JSON: {e}") })?;
        text.push(b'\n');
        self.write(name, &text)
    }

    /// Notes that all files of a phase are there.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn complete(&mut self, phase: &str) -> Result<()> {
        self.index.phases.push(phase.to_owned());
        let path = self.folder.join(INDEX);
        let mut text = serde_json::to_vec_pretty(&self.index)
            .map_err(|e| Error::Internal { what: format!("`{INDEX}` as JSON: {e}") })?;
        text.push(b'\n');
        create_folder(&self.folder)?;
        write_atomically(&path, &text)
    }

    /// A file, once its sum is right.
    ///
    /// # Errors
    /// Where it is not listed, cannot be read, or is damaged.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        let Some(listed) = self.index.files.get(name) else {
            return Err(Error::invalid(self.folder.join(INDEX), name, "is no file of this model", MEND));
        };
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let found = Entry { bytes: bytes.len() as u64, crc32: crc32fast::hash(&bytes) };
        match found == *listed {
            true => Ok(bytes),
            false => Err(Error::invalid(
                path,
                "checksum",
                format!(
                    "{} bytes with CRC-32 {:08x}, where {} with {:08x} were written",
                    found.bytes, found.crc32, listed.bytes, listed.crc32
                ),
                MEND,
            )),
        }
    }

    /// Figures.
    ///
    /// # Errors
    /// As [`Self::read`], and where they are not of this form.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let bytes = self.read(name)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::invalid(self.folder.join(name), "JSON", e.to_string(), MEND))
    }

    /// Copies the files of another model, which make a phase of this one.
    ///
    /// # Errors
    /// Where one cannot be read or written.
    pub fn copy_from(&mut self, from: &Self) -> Result<()> {
        for name in from.index.files.keys() {
            self.write(name, &from.read(name)?)?;
        }
        Ok(())
    }

    /// What tells one model from another: the list of its files with their sums.
    pub fn sums(&self) -> String {
        let line = |(name, entry): (&String, &Entry)| format!("{name} {} {:08x}\n", entry.bytes, entry.crc32);
        self.index.files.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_complete_when_the_list_says_so_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("model");
        let mut store = Store::open(&folder).unwrap();
        store.write("a.safetensors", b"arrays").unwrap();
        assert!(!Store::open(&folder).unwrap().has("first"));
        store.complete("first").unwrap();
        let again = Store::open(&folder).unwrap();
        assert!(again.has("first") && !again.has("second"));
        assert_eq!(again.read("a.safetensors").unwrap(), b"arrays");
        let path = folder.join("a.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = again.read("a.safetensors").unwrap_err().to_string();
        assert!(error.contains("a.safetensors") && error.contains("CRC-32"), "{error}");
        assert!(again.read("b.json").unwrap_err().to_string().contains("b.json"));
    }
}
