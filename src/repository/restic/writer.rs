//! Packs and index files written one after the other, for the verbs that move blobs which are sealed already.
//!
//! A backup has a faster way of its own (`archive`). What goes into a pack is the business of who calls.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::codec::BlobKind;
use super::file::{self, IndexBlob, IndexFile, IndexPack};
use super::id::Id;
use super::lock::Lock;
use super::pack::{self, PackedBlob};
use super::state::Open;
use crate::repository::backend::FileKind;
use crate::repository::contract::RepositoryError;

/// What is stored is named in an index at least this often, so that work that is killed was not in vain.
pub const INDEX_INTERVAL: Duration = Duration::from_mins(5);
/// Blobs in one index file, as in restic.
pub const INDEX_BLOBS: usize = 50_000;
/// Blobs in one pack, so that reading its header stays cheap.
const PACK_BLOBS: usize = 50_000;

/// A pack that is being filled with sealed blobs.
#[derive(Default)]
pub struct PackBuilder {
    buffer: Vec<u8>,
    blobs: Vec<PackedBlob>,
    hasher: Sha256,
}

impl std::fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackBuilder").field("blobs", &self.blobs.len()).finish_non_exhaustive()
    }
}

impl PackBuilder {
    /// Appends a blob as it stands in another pack; where it stood does not matter.
    pub fn push(&mut self, blob: &PackedBlob, sealed: &[u8]) {
        let offset = self.buffer.len() as u32;
        self.buffer.extend_from_slice(sealed);
        self.hasher.update(sealed);
        self.blobs.push(PackedBlob { offset, length: sealed.len() as u32, ..*blob });
    }

    /// Appends everything that another one holds.
    pub fn absorb(&mut self, other: &Self) {
        for blob in &other.blobs {
            let start = blob.offset as usize;
            if let Some(sealed) = other.buffer.get(start..start + blob.length as usize) {
                self.push(blob, sealed);
            }
        }
    }

    /// Whether it is time to write it.
    pub fn is_full(&self, pack_size: usize) -> bool {
        self.buffer.len() >= pack_size || self.blobs.len() >= PACK_BLOBS
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Writes the pack, durably, and is empty again. Gives what an index is to say of it, and its size.
    ///
    /// # Errors
    /// [`RepositoryError::Storage`]; [`RepositoryError::Corrupted`] if the header came out wrong.
    pub fn write(&mut self, open: &Open) -> Result<(IndexPack, u64), RepositoryError> {
        let header = pack::encode_header(open.key(), &self.blobs)?;
        let mut hasher = std::mem::take(&mut self.hasher);
        hasher.update(&header);
        let id = Id(hasher.finalize().into());
        let written = pack::write(&**open.backend(), &id.to_string(), &self.blobs, &[&self.buffer, &header]);
        written.map_err(|source| RepositoryError::Storage { action: "write", file: format!("pack {id}"), source })?;
        let entry = index_pack(id, &self.blobs);
        let size = (self.buffer.len() + header.len()) as u64;
        self.buffer.clear();
        self.blobs.clear();
        Ok((entry, size))
    }
}

/// One pack of each kind that is being filled: data and folders never share one.
#[derive(Debug, Default)]
pub struct PackPair {
    data: PackBuilder,
    trees: PackBuilder,
}

impl PackPair {
    /// The pack for blobs of a kind.
    pub fn of(&mut self, kind: BlobKind) -> &mut PackBuilder {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        }
    }
}

/// What an index says of a pack.
pub fn index_pack(id: Id, blobs: &[PackedBlob]) -> IndexPack {
    let blob = |blob: &PackedBlob| IndexBlob {
        id: blob.id,
        kind: blob.kind,
        offset: blob.offset,
        length: blob.length,
        uncompressed_length: blob.uncompressed,
    };
    IndexPack { id, blobs: blobs.iter().map(blob).collect() }
}

/// What an index says of a pack, as the pack itself does.
pub fn packed_blobs(pack: &IndexPack) -> Vec<PackedBlob> {
    let blob = |blob: &IndexBlob| PackedBlob {
        id: blob.id,
        kind: blob.kind,
        offset: blob.offset,
        length: blob.length,
        uncompressed: blob.uncompressed_length,
    };
    pack.blobs.iter().map(blob).collect()
}

/// Collects what new index files are to say and writes them in files of a bounded size.
#[derive(Debug, Default)]
pub struct IndexCollector {
    packs: Vec<IndexPack>,
    blobs: usize,
    /// Ids of the files that were written.
    pub written: Vec<Id>,
    /// Number of files that were written, or would have been.
    pub count: u64,
    dry_run: bool,
}

impl IndexCollector {
    /// With `dry_run`, one that only counts.
    pub fn new(dry_run: bool) -> Self {
        Self { dry_run, ..Self::default() }
    }

    /// Adds a pack; writes a file once there is enough for one.
    ///
    /// # Errors
    /// The file could not be written; what it was to say is still here.
    pub fn add(&mut self, open: &Open, lock: Option<&Lock>, pack: IndexPack) -> Result<(), RepositoryError> {
        self.blobs += pack.blobs.len();
        self.packs.push(pack);
        if self.blobs >= INDEX_BLOBS { self.flush(open, lock) } else { Ok(()) }
    }

    /// Writes what was added since the last file, while the lock is there: who took it away may have removed packs that the file
    /// names. There is no lock only in tests.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn flush(&mut self, open: &Open, lock: Option<&Lock>) -> Result<(), RepositoryError> {
        if self.packs.is_empty() {
            return Ok(());
        }
        if self.dry_run {
            self.packs.clear();
            self.blobs = 0;
            self.count += 1;
            return Ok(());
        }
        let index = IndexFile { supersedes: Vec::new(), packs: std::mem::take(&mut self.packs) };
        let written = file::to_json(&index)
            .map_err(|error| RepositoryError::Internal(format!("an index cannot be encoded: {error}")))
            .and_then(|json| match lock {
                Some(lock) => lock.write(FileKind::Index, &json),
                None => open.write_unpacked(FileKind::Index, &json),
            });
        match written {
            Ok(id) => {
                self.written.push(id);
                self.count += 1;
                self.blobs = 0;
                Ok(())
            }
            Err(error) => {
                self.packs = index.packs;
                Err(error)
            }
        }
    }

    /// Takes over what another one has written and what it still holds.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn absorb(&mut self, open: &Open, lock: Option<&Lock>, other: Self) -> Result<(), RepositoryError> {
        self.written.extend(other.written);
        self.count += other.count;
        other.packs.into_iter().try_for_each(|pack| self.add(open, lock, pack))
    }
}
