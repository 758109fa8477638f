//! What a prune is asked for and what it does, in plain types.
//!
//! How unused data is found and removed is the engine's business.

use serde::Serialize;

/// How much unused data may stay, so that not everything is written anew to get rid of little.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So many per cent of what the repository holds afterwards.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: only packs in which nothing is used any more are removed, and folders tidied.
    Unlimited,
}

impl Default for MaxUnused {
    fn default() -> Self {
        Self::Percent(5.0)
    }
}

/// What a prune is to do.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PruneRequest {
    /// How much unused data may stay.
    pub max_unused: MaxUnused,
    /// Read at most so many bytes of packs to write their used parts anew.
    pub max_repack_bytes: Option<u64>,
    /// Join small packs, also those in which everything is used.
    pub repack_small: bool,
    /// Write only packs anew that a cache holds: those with folders.
    pub repack_cacheable_only: bool,
    /// Only say what would be done; nothing is written, not even a lock.
    pub dry_run: bool,
}

/// What a prune has done, or in a dry run would do. Bytes are those of packs on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PruneSummary {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Packs before.
    pub packs_before: u64,
    /// Packs that stay as they are.
    pub packs_kept: u64,
    /// Packs whose used parts go into new packs.
    pub packs_repacked: u64,
    /// Packs in which nothing is used.
    pub packs_unused: u64,
    /// Packs that no index names: left by runs that were killed.
    pub packs_unindexed: u64,
    /// New packs; in a dry run not known.
    pub packs_written: u64,
    /// Distinct blobs that snapshots use.
    pub blobs_used: u64,
    /// Stored blobs that no snapshot uses.
    pub blobs_unused: u64,
    /// Further copies of used blobs.
    pub blobs_duplicate: u64,
    /// Blobs that go into new packs.
    pub blobs_repacked: u64,
    /// Bytes of all packs before.
    pub bytes_before: u64,
    /// Of these, what snapshots use.
    pub bytes_used: u64,
    /// Of these, what no snapshot uses: blobs, further copies, and packs that no index names.
    pub bytes_unused: u64,
    /// Bytes of the packs that are read to be written anew.
    pub bytes_repacked: u64,
    /// Bytes that are given back to the storage; in a dry run an estimate.
    pub bytes_freed: u64,
    /// Bytes of all packs afterwards; in a dry run an estimate.
    pub bytes_after: u64,
    /// Of these, what no snapshot uses.
    pub bytes_unused_after: u64,
    /// New index files.
    pub indexes_written: u64,
    /// Index files that were replaced.
    pub indexes_removed: u64,
}
