//! The bytes of a tar stream: header blocks, the data of one member at a time, the padding between them.
//!
//! What the headers mean is the parent module's.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::header::BLOCK;
use super::sparse::Map;
use super::{TarError, TarFailure};
use crate::model::text::printable;

/// So many zeros are taken behind the end marker: programs fill up their last record.
const MOST_PADDING: u64 = 4 << 20;

/// The stream and where in it we are.
pub(super) struct Stream<R> {
    reader: BufReader<R>,
    /// Bytes of the current member's data that were not read yet.
    left: u64,
    /// Bytes that fill up the member's last block.
    padding: u64,
    /// Counts the files, so that a body that was kept too long reads nothing of the next one.
    number: u64,
    /// Where in a sparse file we are.
    sparse: Option<Progress>,
    /// Set once reading failed: what comes then is no archive any more.
    failed: bool,
    /// Bytes that were read.
    at: u64,
    /// Where the last block that stood between bodies began.
    header_at: u64,
    /// The path of the last entry, and how many there were.
    last: Vec<u8>,
    entries: u64,
}

#[derive(Debug)]
struct Progress {
    map: Map,
    at: u64,
    stretch: usize,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(reader: BufReader<R>) -> Self {
        Self { reader, left: 0, padding: 0, number: 0, sparse: None, failed: false, at: 0, header_at: 0, last: Vec::new(), entries: 0 }
    }

    /// Reads a block that stands between bodies.
    pub(super) fn header_block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.header_at = self.at;
        self.read_exactly(&mut block, "where a header should be")?;
        Ok(block)
    }

    /// The header that was read last is that of an entry.
    pub(super) fn begin_entry(&mut self, path: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(path);
        self.entries += 1;
    }

    /// Says of what went wrong where that was.
    pub(super) fn failure(&self, error: TarError) -> io::Error {
        let offset = if error.is_of_header() { self.header_at } else { self.at };
        let last = (self.entries > 0).then(|| printable(&self.last));
        io::Error::new(error.kind(), TarFailure { offset, entries: self.entries, last, error })
    }

    /// Starts a body of so many bytes.
    pub(super) fn begin_body(&mut self, size: u64) {
        let in_last_block = size % BLOCK as u64;
        self.left = size;
        self.padding = if in_last_block == 0 { 0 } else { BLOCK as u64 - in_last_block };
        self.sparse = None;
    }

    /// Gives the body that was started to a file. The number is its key to the data.
    pub(super) fn begin_file(&mut self, map: Option<Map>) -> u64 {
        self.sparse = map.map(|map| Progress { map, at: 0, stretch: 0 });
        self.number += 1;
        self.number
    }

    /// Bytes of the body that were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Reads a block of the body.
    pub(super) fn body_block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.left = self.left.checked_sub(BLOCK as u64).ok_or(TarError::Sparse)?;
        self.read_exactly(&mut block, "in the map of a sparse file")?;
        Ok(block)
    }

    /// Reads the whole body and what fills its last block. The caller has looked at its size.
    pub(super) fn small_body(&mut self) -> Result<Vec<u8>, TarError> {
        let mut data = vec![0; self.left as usize];
        self.read_exactly(&mut data, "in an extended header")?;
        self.left = 0;
        self.skip_body()?;
        Ok(data)
    }

    /// Goes to the end of the body and of its last block. Nobody can read from the body after that.
    pub(super) fn skip_body(&mut self) -> Result<(), TarError> {
        self.number += 1;
        let mut scratch = [0; 16 * BLOCK];
        while self.left + self.padding > 0 {
            let wanted = scratch.len().min((self.left + self.padding) as usize);
            let got = self.read_some(&mut scratch[..wanted], "in the data of an entry")? as u64;
            let of_data = got.min(self.left);
            self.left -= of_data;
            self.padding -= got - of_data;
        }
        self.sparse = None;
        Ok(())
    }

    /// Reads zeros up to the end of the stream.
    pub(super) fn take_padding(&mut self) -> Result<(), TarError> {
        let mut scratch = [0; 16 * BLOCK];
        let mut taken = 0;
        loop {
            let got = match self.reader.read(&mut scratch) {
                Ok(0) => return Ok(()),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TarError::Read(error)),
            };
            if let Some(byte) = scratch[..got].iter().position(|byte| *byte != 0) {
                self.at += byte as u64;
                return Err(TarError::DataBehindEnd);
            }
            self.at += got as u64;
            taken += got as u64;
            if taken > MOST_PADDING {
                return Err(TarError::DataBehindEnd);
            }
        }
    }

    /// Reads the next bytes of a file; none at its end.
    fn read_file(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let Some(progress) = &mut self.sparse else {
            let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let got = self.read_some(&mut buffer[..wanted], "in the data of a file")?;
            self.left -= got as u64;
            return Ok(got);
        };
        // Past the last stretch the rest of the file is a hole.
        let (start, end) = loop {
            match progress.map.stretches.get(progress.stretch) {
                Some(stretch) if progress.at >= stretch.offset + stretch.length => progress.stretch += 1,
                Some(stretch) => break (stretch.offset, stretch.offset + stretch.length),
                None => break (progress.map.size, progress.map.size),
            }
        };
        let is_hole = progress.at < start;
        let until = if is_hole { start } else { end };
        let wanted = buffer.len().min(usize::try_from(until - progress.at).unwrap_or(usize::MAX));
        if is_hole {
            buffer[..wanted].fill(0);
            progress.at += wanted as u64;
            return Ok(wanted);
        }
        let got = self.read_some(&mut buffer[..wanted], "in the data of a sparse file")?;
        self.left -= got as u64;
        if let Some(progress) = &mut self.sparse {
            progress.at += got as u64;
        }
        Ok(got)
    }

    fn read_exactly(&mut self, mut buffer: &mut [u8], place: &'static str) -> Result<(), TarError> {
        while !buffer.is_empty() {
            let got = self.read_some(buffer, place)?;
            buffer = &mut buffer[got..];
        }
        Ok(())
    }

    /// Reads at least one byte, unless the buffer is empty.
    fn read_some(&mut self, buffer: &mut [u8], place: &'static str) -> Result<usize, TarError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.failed {
            return Err(TarError::Truncated { place: "in what was read before" });
        }
        loop {
            match self.reader.read(buffer) {
                Ok(0) => {
                    self.failed = true;
                    return Err(TarError::Truncated { place });
                }
                Ok(got) => {
                    self.at += got as u64;
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = true;
                    return Err(TarError::Read(error));
                }
            }
        }
    }
}

/// The data of one file. It ends exactly at the file's size; a stream that ends before is an error.
pub(super) struct Body<R> {
    stream: Arc<Mutex<Stream<R>>>,
    number: u64,
}

impl<R> Body<R> {
    pub(super) fn new(stream: Arc<Mutex<Stream<R>>>, number: u64) -> Self {
        Self { stream, number }
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if stream.number != self.number {
            return Err(io::Error::other("the source has gone on to another entry"));
        }
        stream.read_file(buffer).map_err(|error| stream.failure(error))
    }
}
