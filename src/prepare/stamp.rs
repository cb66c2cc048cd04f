//! Content hashes of files, and how to know that a file is still the one that was hashed.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::{Error, Result};

/// What the file system says about a file.
///
/// Size and modification time alone are not enough: copying tools restore the time, and two versions may have one
/// size. The time of the last change of the file's record (`ctime`) cannot be set by programs and moves with
/// every write, rename or restored time; with device and number of the file it says whether this very file
/// was touched. Where the system has no such number the stamp never matches, and content decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: [i64; 2],
    changed: [i64; 2],
}

/// A file changed less than this long ago may change again without a new time stamp.
const SETTLING: Duration = Duration::from_secs(2);

impl Stamp {
    /// The stamp of a file, where the system gives one and the file has not been changed just now.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        let settled = SystemTime::now() - SETTLING;
        (metadata.modified().ok()? < settled).then(|| Self::read(&metadata)).flatten()
    }

    #[cfg(unix)]
    fn read(metadata: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let settled = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(SETTLING)?;
        (metadata.ctime() < settled.as_secs() as i64).then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: [metadata.mtime(), metadata.mtime_nsec()],
            changed: [metadata.ctime(), metadata.ctime_nsec()],
        })
    }

    #[cfg(not(unix))]
    fn read(_: &Metadata) -> Option<Self> {
        None
    }
}

/// The content of a file, and by what to see that the file is untouched since it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDigest {
    path: PathBuf,
    /// `None` where the file was touched too shortly before to tell.
    stamp: Option<Stamp>,
    /// Of its bytes, hexadecimal.
    hash: String,
}

impl FileDigest {
    /// Of the file as it is now. It is read in full unless `known` shows that this very file was not touched since.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn of(path: &Path, known: Option<&Self>) -> Result<Self> {
        let before = Stamp::of(path);
        let known = known.filter(|known| before.is_some() && known.stamp == before);
        let hash = match known {
            Some(known) => known.hash.clone(),
            None => format!("{:032x}", hash_file(path)?),
        };
        // Remembered only where nothing touched the file meanwhile.
        let stamp = before.filter(|before| Stamp::of(path).as_ref() == Some(before));
        Ok(Self { path: path.to_owned(), stamp, hash })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Hexadecimal.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether it will be known again without being read.
    pub(super) fn has_stamp(&self) -> bool {
        self.stamp.is_some()
    }
}

/// 128-bit hash (XXH3) of a file's bytes.
fn hash_file(path: &Path) -> Result<u128> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = XxHash3_128::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finish_128()),
            count => hasher.write(&buffer[..count]),
        }
    }
}

/// 128-bit hash (XXH3) of bytes.
pub(super) fn hash(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}
