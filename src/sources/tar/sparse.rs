//! Sparse files in a tar stream: which stretches of a file are in the stream, the rest being zeros.
//!
//! Written after GNU tar's manual, "Storing Sparse Files": its old form in the header and the forms 0.0, 0.1 and 1.0 in
//! extended headers. The Docker Engine never writes them; other programs' streams do. Reading the stretches is the body's.

use super::TarError;
use super::header::{BLOCK, number};
use super::pax::digits;

/// A file of more stretches than this is refused: the list of them comes from outside.
const MOST_STRETCHES: usize = 1 << 20;

/// A stretch of a file that is in the stream: where it is in the file, and its length, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What the records `GNU.sparse.…` say.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    major: u64,
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    stretches: Vec<Stretch>,
    offset: Option<u64>,
    present: bool,
}

impl Records {
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), TarError> {
        let number = || digits::<u64>(value).filter(|_| !value.is_empty()).ok_or(TarError::Sparse);
        self.present = true;
        match name {
            b"major" => self.major = number()?,
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(TarError::Sparse)?;
                push(&mut self.stretches, offset, number()?)?;
            }
            b"map" => {
                self.stretches.clear();
                let mut numbers = value.split(|byte| *byte == b',').map(|digit| digits::<u64>(digit).ok_or(TarError::Sparse));
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or(TarError::Sparse)??;
                    push(&mut self.stretches, offset?, length)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The map of the file; none if it is not sparse. With form 1.0 the map is at the beginning of the body and read from there
    /// by `block`.
    pub(super) fn map(self, mut block: impl FnMut() -> Result<[u8; BLOCK], TarError>) -> Result<Option<Map>, TarError> {
        if !self.present {
            return Ok(None);
        }
        let size = self.size.ok_or(TarError::Sparse)?;
        let mut stretches = self.stretches;
        if self.major == 1 {
            stretches = read_decimal_map(&mut block)?;
        } else if self.major != 0 {
            return Err(TarError::Sparse);
        }
        Map::new(stretches, size).map(Some)
    }
}

/// A sparse file's size and stretches, in order and not overlapping.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) size: u64,
    pub(super) stretches: Vec<Stretch>,
}

impl Map {
    fn new(stretches: Vec<Stretch>, size: u64) -> Result<Self, TarError> {
        let mut end = 0;
        for stretch in &stretches {
            if stretch.offset < end {
                return Err(TarError::Sparse);
            }
            end = stretch.offset.checked_add(stretch.length).ok_or(TarError::Sparse)?;
        }
        if end > size { Err(TarError::Sparse) } else { Ok(Self { size, stretches }) }
    }

    /// Bytes of the file that are in the stream.
    pub(super) fn stored(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.length).sum()
    }

    /// The map of GNU tar's old form, which begins in the header and goes on in the blocks behind it.
    pub(super) fn of_old_header(header: &[u8; BLOCK], mut block: impl FnMut() -> Result<[u8; BLOCK], TarError>) -> Result<Self, TarError> {
        let size = number(&header[483..495]).and_then(|size| u64::try_from(size).ok()).ok_or(TarError::Sparse)?;
        let mut stretches = Vec::new();
        read_old_pairs(&header[386..482], &mut stretches)?;
        let mut more = header[482] != 0;
        while more {
            let extension = block()?;
            read_old_pairs(&extension[..504], &mut stretches)?;
            more = extension[504] != 0;
        }
        Self::new(stretches, size)
    }
}

fn read_old_pairs(fields: &[u8], stretches: &mut Vec<Stretch>) -> Result<(), TarError> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            return Ok(());
        }
        let field = |field: &[u8]| number(field).and_then(|value| u64::try_from(value).ok()).ok_or(TarError::Sparse);
        push(stretches, field(&pair[..12])?, field(&pair[12..])?)?;
    }
    Ok(())
}

/// Reads lines of decimal numbers: how many stretches, then offset and length of each. The last block is padded with zeros.
fn read_decimal_map(block: &mut impl FnMut() -> Result<[u8; BLOCK], TarError>) -> Result<Vec<Stretch>, TarError> {
    let mut stretches = Vec::new();
    let (mut wanted, mut offset) = (None, None);
    let mut line = Vec::new();
    loop {
        for byte in block()? {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(TarError::Sparse);
                }
                continue;
            }
            let value: u64 = digits(&line).filter(|_| !line.is_empty()).ok_or(TarError::Sparse)?;
            line.clear();
            match (wanted, offset.take()) {
                (None, _) => wanted = Some(value),
                (Some(_), None) => offset = Some(value),
                (Some(_), Some(offset)) => push(&mut stretches, offset, value)?,
            }
            if offset.is_none() && wanted == Some(stretches.len() as u64) {
                return Ok(stretches);
            }
        }
    }
}

fn push(stretches: &mut Vec<Stretch>, offset: u64, length: u64) -> Result<(), TarError> {
    if stretches.len() >= MOST_STRETCHES {
        return Err(TarError::Sparse);
    }
    stretches.push(Stretch { offset, length });
    Ok(())
}
