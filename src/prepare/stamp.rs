//! Content hashes of files, and how to know that a file is still the one that was hashed.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
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
pub(super) struct Stamp {
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
    pub(super) fn of(path: &Path) -> Option<Self> {
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

/// 128-bit hash (XXH3) of a file's bytes.
pub(super) fn hash_file(path: &Path) -> Result<u128> {
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
