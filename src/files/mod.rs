//! Writing files so that a reader, or a process stopped at any moment, never sees half of one, and so that nothing
//! of the user's is ever replaced.
//!
//! Every file is written by [`write`] (aside, brought to the disk, then renamed), every log by [`append_line`]. What
//! goes to a place that the user chose goes through [`Outputs`] or [`OutputFile`].

mod csv;
mod identity;
mod names;
mod outputs;
mod sha256;
mod text;

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempDir};
use twox_hash::XxHash3_128;

use crate::{Error, Result};

pub(crate) use csv::csv_line;
pub(crate) use identity::are_same;
pub(crate) use names::unportable;
pub(crate) use outputs::split;
pub use outputs::{Existing, MANIFEST, OutputFile, Outputs};
pub(crate) use sha256::sha256;
pub use text::{broken_link, decode, is_there, read_json, read_text, read_toml, unreadable};

/// Writes what `content` writes to `path`: into a temporary file beside it, brought to the disk, then renamed over
/// it. Where any of that fails nothing is left behind, and what was at `path` before is still there.
///
/// # Errors
/// Where the file cannot be written, naming `path`.
pub fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    Draft::new(path, content)?.publish()
}

/// [`write`] for bytes that lie in memory.
///
/// # Errors
/// As [`write`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes_of(bytes))
}

/// Bytes as a content for [`write`] and [`Outputs::write`].
pub fn bytes_of(bytes: &[u8]) -> impl FnOnce(&mut dyn Write) -> io::Result<()> {
    |output| output.write_all(bytes)
}

/// How the names of temporary files and folders begin and end: readers of folders skip names with a dot in front.
const TEMPORARY: [&str; 2] = [".segen-", ".tmp"];

/// A whole file beside its place, under a temporary name; removed unless it is published.
pub(crate) struct Draft {
    place: PathBuf,
    temporary: NamedTempFile,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

impl Draft {
    pub(crate) fn new(place: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Self> {
        let failed = |error| Error::io("write", place, error);
        let temporary = temporary(0o666).tempfile_in(folder_of(place)).map_err(|e| failed(plain(e)))?;
        let mut output = Hashed {
            output: BufWriter::with_capacity(1 << 18, temporary.as_file()),
            hasher: XxHash3_128::new(),
            bytes: 0,
        };
        content(&mut output).and_then(|()| output.flush()).map_err(failed)?;
        let (digest, bytes) = (Digest(output.hasher.finish_128()), output.bytes);
        drop(output);
        temporary.as_file().sync_all().map_err(failed)?;
        Ok(Self { place: place.to_owned(), temporary, digest, bytes })
    }

    /// Gives the file its name and makes the name durable.
    pub(crate) fn publish(self) -> Result<()> {
        let Self { place, temporary, .. } = self;
        temporary.persist(&place).map_err(|e| Error::io("write", &place, e.error))?;
        sync_folder(folder_of(&place))
    }
}

/// Passes bytes on, hashing and counting them.
struct Hashed<W> {
    output: W,
    hasher: XxHash3_128,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.write(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// 128-bit XXH3 of a file's bytes, 32 hexadecimal digits as text. It tells accidents, not attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(u128);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    /// The digest of a file.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let failed = |error| Error::io("read", path, error);
        let mut file = File::open(path).map_err(failed)?;
        let mut hasher = XxHash3_128::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Self(hasher.finish_128())),
                Ok(count) => hasher.write(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        match u128::from_str_radix(&text, 16) {
            Ok(value) if text.len() == 32 => Ok(Self(value)),
            _ => Err(format!("`{text}` is not 32 hexadecimal digits")),
        }
    }
}

/// Appends a line to a log and waits until it is on the disk. A last line that was cut off is removed first, and a
/// line that could not be written whole (a full disk) is taken back. Several processes may append to one log: each waits
/// for the others, where the file system has locks.
///
/// # Errors
/// Where the file cannot be read or written.
pub(crate) fn append_line(path: &Path, line: &str) -> Result<()> {
    let failed = |error| Error::io("write", path, error);
    let mut file = File::options().create(true).read(true).append(true).open(path).map_err(failed)?;
    // Without it, a line that another process is just writing would be taken for one that was cut off.
    let _ = file.lock();
    let end = whole_lines(&mut file).map_err(failed)?;
    let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // The first error is the one to report.
        let _ = file.set_len(end);
        failed(error)
    })
}

/// Cuts off a last line without its end; the length that is left.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    let mut last = [0];
    while end > 0 {
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut last)?;
        if last == *b"\n" {
            break;
        }
        end -= 1;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

/// Creates a folder and its parents.
pub fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))
}

/// A new folder beside `place`, to be filled and then published; removed, with all that is in it, unless it is.
pub(crate) fn folder_beside(place: &Path) -> Result<TempDir> {
    let folder = folder_of(place);
    create_folder(folder)?;
    temporary(0o777).tempdir_in(folder).map_err(|e| Error::io("create", place, plain(e)))
}

/// Gives a filled folder its name, which nothing but an empty folder may have, and makes the name durable.
pub(crate) fn publish_folder(folder: TempDir, place: &Path) -> Result<()> {
    sync_folder(folder.path())?;
    // Removes nothing but an empty folder; not every system renames onto one.
    let _ = std::fs::remove_dir(place);
    std::fs::rename(folder.path(), place).map_err(|e| Error::io("create", place, e))?;
    let _ = folder.keep();
    sync_folder(folder_of(place))
}

/// Makes the names in a folder durable, where the system can.
fn sync_folder(folder: &Path) -> Result<()> {
    use io::ErrorKind::{InvalidInput, Unsupported};
    if cfg!(unix)
        && let Err(error) = File::open(folder).and_then(|f| f.sync_all())
        && ![InvalidInput, Unsupported].contains(&error.kind())
    {
        return Err(Error::io("write", folder, error));
    }
    Ok(())
}

/// The folder in which a path's last part lies.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether a name is that of a temporary file or folder of this module.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY[0]) && name.ends_with(TEMPORARY[1])
}

/// Names of temporary files or folders, made as the system makes any (`mode`, less the user's mask).
fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY[0]).suffix(TEMPORARY[1]);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// The system's own error, without the temporary name that `tempfile` adds to its text.
fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((system, _)) => io::Error::new(error.kind(), system.to_owned()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_what_was_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomically(&path, b"before").unwrap();
        let error = write(&path, |output| {
            output.write_all(b"half of it")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(error.unwrap_err().to_string().contains("a.json"));
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        assert_eq!(names(folder.path()), ["a.json"]);
        let error = write_atomically(&folder.path().join("no/b.json"), b"").unwrap_err().to_string();
        assert!(error.contains("no/b.json") && !error.contains(".segen-"), "{error}");
        // As long as a name can be: the temporary name has nothing to do with it.
        write_atomically(&folder.path().join("n".repeat(255)), b"").unwrap();
        drop(folder_beside(&path).unwrap());
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn files_and_folders_are_readable_as_others_of_the_user() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        let (usual, ours) = (folder.path().join("usual"), folder.path().join("ours"));
        std::fs::write(&usual, "").unwrap();
        write_atomically(&ours, b"").unwrap();
        assert_eq!(mode(&ours), mode(&usual));
        let (usual, ours) = (folder.path().join("folder"), folder.path().join("our-folder"));
        std::fs::create_dir(&usual).unwrap();
        publish_folder(folder_beside(&ours).unwrap(), &ours).unwrap();
        assert_eq!(mode(&ours), mode(&usual));
    }

    #[test]
    fn a_line_that_was_cut_off_is_removed_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        append_line(&path, "one").unwrap();
        std::fs::write(&path, "one\ntw").unwrap();
        append_line(&path, "three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nthree\n");
        std::fs::write(&path, "on").unwrap();
        append_line(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_digest_is_the_same_from_bytes_from_a_file_and_from_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // The reference implementation's value for no bytes.
        assert_eq!(Digest::of(b"").to_string(), "99aa06d3014798d86001c324468d497f");
        let bytes = vec![7; 300_000];
        let draft = Draft::new(&path, bytes_of(&bytes)).unwrap();
        let (digest, count) = (draft.digest, draft.bytes);
        draft.publish().unwrap();
        assert_eq!((digest, count), (Digest::of(&bytes), 300_000));
        assert_eq!(Digest::of_file(&path).unwrap(), digest);
        assert_eq!(Digest::try_from(digest.to_string()), Ok(digest));
        assert!(Digest::try_from("12".to_owned()).is_err());
    }
}
