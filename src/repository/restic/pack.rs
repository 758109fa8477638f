//! The header at the end of a pack, which names its blobs (design document, section "Pack Format").
//!
//! What is in the blobs is `codec`'s business, where they are found `index`'s.

use std::io;
use std::num::NonZeroU32;

use super::codec::BlobKind;
use super::crypto::{MasterKey, OVERHEAD};
use super::id::Id;
use crate::repository::backend::{Backend, FileKind};
use crate::repository::contract::RepositoryError;

/// The longest encrypted header that any program of the format reads.
pub const MAX_HEADER: usize = 16 * 1024 * 1024;
/// Blobs that fit every header.
pub const MAX_BLOBS: usize = (MAX_HEADER - OVERHEAD) / COMPRESSED_ENTRY;

/// Bytes of the header's length at the very end.
const LENGTH_FIELD: usize = 4;
const ENTRY: usize = 1 + 4 + 32;
const COMPRESSED_ENTRY: usize = ENTRY + 4;
/// Read at once with the length of the header: enough for the header of a common pack, and cheaper than a second request.
const EAGER: usize = 64 * COMPRESSED_ENTRY + OVERHEAD + LENGTH_FIELD;

/// Writes a pack that holds these blobs. One of folders only is what a cache keeps.
///
/// # Errors
/// The pack is not there.
pub fn write(backend: &dyn Backend, name: &str, blobs: &[PackedBlob], parts: &[&[u8]]) -> io::Result<()> {
    if blobs.iter().all(|blob| blob.kind == BlobKind::Tree) {
        backend.write_folders(name, parts)
    } else {
        backend.write(FileKind::Pack, name, parts)
    }
}

/// A blob as a pack's header and the index name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// SHA-256 of what it holds.
    pub id: Id,
    /// What it is of.
    pub kind: BlobKind,
    /// Where it begins in the pack.
    pub offset: u32,
    /// Bytes in the pack, encryption included.
    pub length: u32,
    /// Bytes before compression; none if it is not compressed.
    pub uncompressed: Option<NonZeroU32>,
}

impl PackedBlob {
    /// Bytes of what it holds.
    pub fn plain_length(&self) -> u32 {
        self.uncompressed.map_or(self.length.saturating_sub(OVERHEAD as u32), NonZeroU32::get)
    }

    fn entry_size(&self) -> usize {
        if self.uncompressed.is_some() { COMPRESSED_ENTRY } else { ENTRY }
    }
}

/// Bytes of the whole pack file with these blobs.
pub fn pack_size<'a>(blobs: impl IntoIterator<Item = &'a PackedBlob>) -> u64 {
    let sizes = blobs.into_iter().map(|blob| u64::from(blob.length) + blob.entry_size() as u64);
    sizes.fold((OVERHEAD + LENGTH_FIELD) as u64, u64::saturating_add)
}

/// The end of a pack with these blobs, in the order in which they stand from its beginning: encrypted header and length.
///
/// # Errors
/// [`RepositoryError::Internal`] if there are more than [`MAX_BLOBS`] or no randomness, [`RepositoryError::Corrupted`] if it
/// came out wrong.
pub fn encode_header(key: &MasterKey, blobs: &[PackedBlob]) -> Result<Vec<u8>, RepositoryError> {
    let mut plain = Vec::with_capacity(blobs.len() * COMPRESSED_ENTRY);
    for blob in blobs {
        plain.push(match (blob.kind, blob.uncompressed) {
            (BlobKind::Data, None) => 0,
            (BlobKind::Tree, None) => 1,
            (BlobKind::Data, Some(_)) => 2,
            (BlobKind::Tree, Some(_)) => 3,
        });
        plain.extend_from_slice(&blob.length.to_le_bytes());
        if let Some(length) = blob.uncompressed {
            plain.extend_from_slice(&length.get().to_le_bytes());
        }
        plain.extend_from_slice(&blob.id.0);
    }
    if plain.len() + OVERHEAD > MAX_HEADER {
        return Err(RepositoryError::Internal(format!("a pack of {} blobs", blobs.len())));
    }
    let mut out = Vec::with_capacity(plain.len() + OVERHEAD + LENGTH_FIELD);
    key.seal(&plain, &mut out).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    // Always read back: it is little beside the blobs, and without it none of them is found again.
    let mut again = out.clone();
    if !key.open(&mut again).is_ok_and(|read| parse_header(read).as_deref() == Some(blobs)) {
        return Err(RepositoryError::Corrupted { what: "pack header".into() });
    }
    out.extend_from_slice(&(out.len() as u32).to_le_bytes());
    Ok(out)
}

/// Reads a decrypted header. None if it is not one, or if the blobs would not fit a pack of 4 GiB.
pub fn parse_header(plain: &[u8]) -> Option<Vec<PackedBlob>> {
    let mut blobs = Vec::with_capacity(plain.len() / ENTRY);
    let mut rest = plain;
    let mut offset = 0_u32;
    while let Some((kind, after)) = rest.split_first() {
        let (kind, compressed) = match kind {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            _ => return None,
        };
        let (length, after) = split_number(after)?;
        let (uncompressed, after) = if compressed {
            let (length, after) = split_number(after)?;
            (Some(NonZeroU32::new(length)?), after)
        } else {
            (None, after)
        };
        let (id, after) = after.split_first_chunk::<32>()?;
        if length < OVERHEAD as u32 {
            return None;
        }
        blobs.push(PackedBlob { id: Id(*id), kind, offset, length, uncompressed });
        offset = offset.checked_add(length)?;
        rest = after;
    }
    Some(blobs)
}

fn split_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// Reads the header of the pack `id`, whose file has `size` bytes.
///
/// # Errors
/// [`RepositoryError::Storage`] and [`RepositoryError::Damaged`].
pub fn read_header(backend: &dyn Backend, key: &MasterKey, id: &Id, size: u64) -> Result<Vec<PackedBlob>, RepositoryError> {
    let file = || format!("pack {id}");
    let damaged = |offset: u64, expected: &str| RepositoryError::Damaged { file: file(), offset, expected: expected.into() };
    let read =
        |length: usize| {
            let mut buffer = vec![0; length];
            backend
                .read_at(FileKind::Pack, &id.to_string(), size - length as u64, &mut buffer)
                .map_err(|source| RepositoryError::Storage { action: "read", file: file(), source })?;
            Ok::<_, RepositoryError>(buffer)
        };
    if size < (ENTRY + OVERHEAD + LENGTH_FIELD) as u64 {
        return Err(damaged(size, "a pack header"));
    }
    let mut end = read(size.min(EAGER as u64) as usize)?;
    let length = match end.split_last_chunk::<LENGTH_FIELD>() {
        Some((_, field)) => u32::from_le_bytes(*field) as usize,
        None => 0,
    };
    let whole = length + LENGTH_FIELD;
    if !(OVERHEAD + ENTRY..=MAX_HEADER).contains(&length) || whole as u64 > size {
        return Err(damaged(size - LENGTH_FIELD as u64, "the length of the pack header"));
    }
    if whole > end.len() {
        end = read(whole)?;
    }
    let start = size - whole as u64;
    let from = end.len() - whole;
    let sealed = &mut end[from..from + length];
    let plain = key.open(sealed).map_err(|_| damaged(start, "a pack header that this repository's key authenticates"))?;
    let blobs = parse_header(plain).ok_or_else(|| damaged(start, "a list of blobs"))?;
    let filled: u64 = blobs.iter().map(|blob| u64::from(blob.length)).sum();
    if filled > start {
        return Err(damaged(start, "blobs that fit the pack"));
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests;
