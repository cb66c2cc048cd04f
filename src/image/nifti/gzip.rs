//! Gzip as it occurs in medical archives: one or more members (RFC 1952), zero padding at the end.
//!
//! The members' frames are read here and only the deflate data goes to the inflater, because then voxels can be
//! inflated straight into their final place, garbage after the last member is told apart from zero padding, and
//! every checksum is compared.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

/// The first bytes of every gzip member with deflate data.
pub(super) const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Deflate cannot shrink data further than this, which bounds what a file can hold before it is inflated.
pub(super) const GREATEST_RATIO: u64 = 1032;

/// The inflated bytes of all members, one after the other. Damage is an error of kind `InvalidData`, an early end
/// one of kind `UnexpectedEof`.
pub(super) struct Members<R> {
    input: R,
    inflater: Decompress,
    state: State,
    checksum: Hasher,
    /// Inflated bytes of this member, modulo 2^32 as in its trailer.
    size: u32,
}

#[derive(PartialEq)]
enum State {
    Before,
    Inside,
    After,
    Ended,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            inflater: Decompress::new(false),
            state: State::Before,
            checksum: Hasher::new(),
            size: 0,
        }
    }

    /// Reads the next member's header; the state becomes `Ended` at the end of the file.
    fn begin(&mut self) -> Result<()> {
        if self.state == State::After && self.skip_padding()? {
            self.state = State::Ended;
            return Ok(());
        }
        self.checksum.reset();
        let [first, second, method, flags, ..] = self.bytes::<10>()?;
        if [first, second] != MAGIC[..2] {
            return Err(damaged("bytes that are not gzip follow the compressed data"));
        }
        if method != MAGIC[2] || flags & 0xe0 != 0 {
            return Err(damaged("the header of a gzip member is not valid"));
        }
        if flags & 0x04 != 0 {
            for _ in 0..u16::from_le_bytes(self.bytes()?) {
                self.bytes::<1>()?;
            }
        }
        // File name, then comment, each ended by a zero byte.
        for flag in [0x08, 0x10] {
            while flags & flag != 0 && self.bytes::<1>()? != [0] {}
        }
        let checksum = self.checksum.clone().finalize() as u16;
        if flags & 0x02 != 0 && checksum != u16::from_le_bytes(self.bytes()?) {
            return Err(damaged("the checksum of a gzip header does not match"));
        }
        self.inflater.reset(false);
        self.checksum.reset();
        self.size = 0;
        self.state = State::Inside;
        Ok(())
    }

    /// Compares checksum and length of the member that has just ended.
    fn end(&mut self) -> Result<()> {
        let inflated = self.checksum.clone().finalize();
        let (checksum, size) = (u32::from_le_bytes(self.bytes()?), u32::from_le_bytes(self.bytes()?));
        if checksum != inflated {
            return Err(damaged("the checksum does not match the inflated data"));
        }
        if size != self.size {
            return Err(damaged("the stored length does not match the inflated data"));
        }
        self.state = State::After;
        Ok(())
    }

    /// Skips the zeros that archives on block devices leave behind; true at the end of the file.
    fn skip_padding(&mut self) -> Result<bool> {
        loop {
            let buffer = self.input.fill_buf()?;
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            let (ended, stopped) = (buffer.is_empty(), zeros < buffer.len());
            self.input.consume(zeros);
            if ended || stopped {
                return Ok(ended);
            }
        }
    }

    /// Bytes of a frame; the checksum runs along.
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => truncated(),
            _ => error,
        })?;
        self.checksum.update(&bytes);
        Ok(bytes)
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, output: &mut [u8]) -> Result<usize> {
        if output.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Ended => return Ok(0),
                State::Before | State::After => self.begin()?,
                State::Inside => {
                    let input = self.input.fill_buf()?;
                    let at_end = input.is_empty();
                    let (before_in, before_out) = (self.inflater.total_in(), self.inflater.total_out());
                    let status = self
                        .inflater
                        .decompress(input, output, FlushDecompress::None)
                        .map_err(|_| damaged("the compressed data is not valid"))?;
                    let consumed = (self.inflater.total_in() - before_in) as usize;
                    let produced = (self.inflater.total_out() - before_out) as usize;
                    self.input.consume(consumed);
                    self.checksum.update(&output[..produced]);
                    self.size = self.size.wrapping_add(produced as u32);
                    if status == Status::StreamEnd {
                        self.end()?;
                    } else if at_end && produced == 0 {
                        return Err(truncated());
                    }
                    if produced > 0 {
                        return Ok(produced);
                    }
                }
            }
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn truncated() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "the compressed data ends too early")
}
