//! Snapshots copied to another repository, in plain types.

use serde::Serialize;

use super::SnapshotId;

/// What is copied.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// The snapshots, the oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Each was asked for by its name: one that is gone is an error. Else it was forgotten since they were listed, and is passed over.
    pub named: bool,
    /// Only say what would be copied.
    pub dry_run: bool,
}

/// What became of one snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct CopiedSnapshot {
    /// The snapshot.
    pub source: SnapshotId,
    /// The copy of it; none in a dry run.
    pub target: Option<SnapshotId>,
    /// Whether it was there already.
    pub was_there: bool,
    /// Blobs that the other repository did not have.
    pub blobs: u64,
    /// Bytes of these before compression.
    pub bytes: u64,
    /// Bytes of these in packs.
    pub bytes_stored: u64,
}

/// What a copy did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CopySummary {
    /// Each snapshot, the oldest first.
    pub snapshots: Vec<CopiedSnapshot>,
    /// Snapshots that somebody forgot meanwhile.
    pub gone: Vec<SnapshotId>,
    /// Snapshots copied.
    pub copied: u64,
    /// Snapshots that were there already.
    pub were_there: u64,
    /// Blobs copied.
    pub blobs: u64,
    /// Bytes of these before compression.
    pub bytes: u64,
    /// Bytes of these in packs.
    pub bytes_stored: u64,
    /// Whether both repositories cut files at the same places: else the same file, backed up into both, is stored in each in
    /// its own way.
    pub same_chunker: bool,
}
