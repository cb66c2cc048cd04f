//! The bytes of a file from front to back, inflated where they are gzip, with a bound on how many there can be.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::gzip::{GREATEST_RATIO, MAGIC, Members};
use crate::{Error, Result, files};

/// Large enough that a small scan is read in one or two calls.
const BUFFER: usize = 64 * 1024;

/// An open file. The position only moves forward.
pub(super) struct Stream {
    path: PathBuf,
    source: Source,
    /// Bytes of the file as it lies on disk.
    file_size: u64,
    /// Inflated bytes already handed out.
    position: u64,
}

enum Source {
    Plain(BufReader<File>),
    Gzip(Box<Members<BufReader<File>>>),
}

impl Stream {
    /// Opens a regular file; gzip is recognised by its first bytes, never by the name.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let unreadable = |error| files::unreadable(path, error);
        // Opening a pipe could wait for ever, and a device has no end.
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "a folder" } else { "a pipe or device" };
            return Err(Error::invalid(path, "file", format!("is {kind}"), "give the name of an image file"));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let mut start = [0; MAGIC.len()];
        let compressed =
            read_fully(&mut file, &mut start).map_err(unreadable)? == start.len() && start == MAGIC;
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let reader = BufReader::with_capacity(BUFFER, file);
        let source =
            if compressed { Source::Gzip(Box::new(Members::new(reader))) } else { Source::Plain(reader) };
        Ok(Self { path: path.to_owned(), source, file_size: metadata.len(), position: 0 })
    }

    /// Opens the voxels of a pair, which are `plain_size` bytes long where they are not compressed.
    ///
    /// Such a file has no header, so that any bytes would do as voxels: name and content must agree.
    pub(super) fn open_bare(path: &Path, plain_size: u64) -> Result<Self> {
        let mut stream = Self::open(path)?;
        let named_gzip = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
        match (&stream.source, named_gzip) {
            (Source::Plain(_), true) => {
                let mend = "copy the file again, or take `.gz` off its name if it is not compressed";
                return Err(Error::invalid(path, "gzip stream", "does not begin like gzip", mend));
            }
            // Voxels that happen to begin like gzip.
            (Source::Gzip(_), false) if stream.file_size == plain_size => {
                let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
                stream.source = Source::Plain(BufReader::with_capacity(BUFFER, file));
            }
            _ => {}
        }
        Ok(stream)
    }

    /// Whether the file is gzip.
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self.source, Source::Gzip(_))
    }

    /// Bytes handed out so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// No more bytes than this can follow, whatever a header says.
    pub(super) fn at_most(&self) -> u64 {
        let whole = match self.source {
            Source::Plain(_) => self.file_size,
            Source::Gzip(_) => self.file_size.saturating_mul(GREATEST_RATIO),
        };
        whole.saturating_sub(self.position)
    }

    /// How many bytes may be allocated before any of them is seen: what a plain file holds, and what a gzip file
    /// of this size usually inflates to.
    pub(super) fn worth_allocating(&self) -> u64 {
        match self.source {
            Source::Plain(_) => self.at_most(),
            Source::Gzip(_) => self.file_size.saturating_mul(4).max(BUFFER as u64),
        }
    }

    /// Fills the buffer as far as the file goes and says how far that was.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = match &mut self.source {
            Source::Plain(reader) => read_fully(reader, buffer),
            Source::Gzip(reader) => read_fully(reader, buffer),
        }
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Error::invalid(
                &self.path,
                "gzip stream",
                error.to_string(),
                "the file is damaged or was not copied completely; copy it again from its source",
            ),
            _ => Error::io("read", &self.path, error),
        })?;
        self.position += read as u64;
        Ok(read)
    }

    /// Appends `count` bytes to `bytes`, growing it only as they arrive; false where the file ends before.
    pub(super) fn append(&mut self, bytes: &mut Vec<u8>, count: u64) -> Result<bool> {
        let mut left = count;
        while left > 0 {
            let start = bytes.len();
            let step = left.min(BUFFER as u64) as usize;
            bytes.resize(start + step, 0);
            let read = self.read(&mut bytes[start..])?;
            bytes.truncate(start + read);
            if read < step {
                return Ok(false);
            }
            left -= step as u64;
        }
        Ok(true)
    }

    /// Moves forward by `count` bytes; false where the file ends before.
    pub(super) fn skip(&mut self, count: u64) -> Result<bool> {
        if count > self.at_most() {
            return Ok(false);
        }
        let mut scratch = vec![0; count.min(BUFFER as u64) as usize];
        let mut left = count;
        while left > 0 {
            let step = left.min(scratch.len() as u64) as usize;
            if self.read(&mut scratch[..step])? < step {
                return Ok(false);
            }
            left -= step as u64;
        }
        Ok(true)
    }

    /// Reads on to the end, so that the checksums of gzip members are compared, and returns how many bytes there
    /// were. It gives up after `limit` of them and then returns a number above `limit`.
    pub(super) fn drain(&mut self, limit: u64) -> Result<u64> {
        if let Source::Plain(_) = self.source {
            return Ok(self.at_most());
        }
        let mut scratch = vec![0; 4096];
        let mut total = 0;
        loop {
            let read = self.read(&mut scratch)?;
            total += read as u64;
            if read < scratch.len() || total > limit {
                return Ok(total);
            }
            scratch.resize(BUFFER, 0);
        }
    }
}

fn read_fully(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
